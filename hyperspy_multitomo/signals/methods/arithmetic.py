# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators on signals: what is kept beside the data follows them, or is forgotten with a message.

HyperSpy copies metadata whatever happens to the data. Three rules keep them true: a positive factor
scales what is per count; the sum of two series of one object adds up their counts and doses;
everything else forgets what it makes untrue.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import numpy as np

from hyperspy_multitomo.signals.metadata.attached_values import changed, is_series, masked, scaled
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.sums import summed
from hyperspy_multitomo.signals.registry import is_ours

# Operators whose result is a mask.
_MASKS = ("lt", "le", "eq", "ne", "ge", "gt", "and", "or", "xor", "lshift", "rshift")
# Operators whose result has the unit of what they are applied to.
_SAME_UNIT = ("add", "sub", "neg", "abs", "mod")
# What operators are called in messages.
_WORDS = {
    "add": "a sum",
    "sub": "a difference",
    "mul": "a product",
    "truediv": "a quotient",
    "floordiv": "a quotient",
    "mod": "a rest",
}
_WORDS |= {"pow": "a power", "neg": "a change of sign", "abs": "an absolute value"}


def followed(result, method: str):
    """Forget what a method of HyperSpy that changed a signal's values makes untrue of it."""
    if is_ours(result):
        changed(result, method)


def follow_unary(result, op_name: str) -> None:
    """Forget what an operator of one operand makes untrue of its result."""
    operation = op_name.strip("_")
    if operation != "pos":
        changed(result, _WORDS.get(operation, operation), same_unit=operation in _SAME_UNIT)


def follow_numpy(result, context) -> None:
    """Forget what a NumPy function makes untrue of its result."""
    if is_ours(result):
        changed(result, "a NumPy function" if context is None else f"numpy.{context[0].__name__}")


def follow_map(result, function) -> None:
    """Forget what a function that was mapped over the images makes untrue of them."""
    if is_ours(result):
        changed(result, f"map({getattr(function, '__name__', 'function')})", moved=True)


def rule(first, other, op_name: str) -> Callable:
    """Return the function that keeps the result of an operator of two operands true.

    What it needs of the operands is read now, before an operator in place changes them.
    """
    operation = op_name.strip("_")
    operation = operation[1:] if operation[0] == "i" else operation  # "__iadd__" adds in place
    factor = _factor(other, operation)
    if factor is not None:
        return lambda result: scaled(result, factor)
    if operation == "add" and is_ours(other):
        return summed(first, other)
    if operation in _MASKS:
        return masked
    if operation == "mul" and not is_series(first) and _is_mask(other):
        # The voxels that are left are what they were.
        return lambda result: add_step(result, "mask")
    return lambda result: changed(
        result, _WORDS.get(operation, operation), same_unit=operation in _SAME_UNIT
    )


def _is_mask(other) -> bool:
    """Say whether an array or a signal is a mask."""
    dtype = getattr(
        getattr(other, "data", other) if hasattr(other, "axes_manager") else other, "dtype", None
    )
    return dtype is not None and np.dtype(dtype).kind == "b"


def _factor(other, operation: str) -> float | None:
    """Return the positive number that data are multiplied by, or None for other operations."""
    number = isinstance(other, Real | np.number) or (
        isinstance(other, np.ndarray) and other.ndim == 0
    )
    if operation not in ("mul", "truediv") or not number or isinstance(other, bool | np.bool_):
        return None
    if np.iscomplexobj(other) or not (np.isfinite(other) and other > 0):
        return None
    return float(other) if operation == "mul" else 1 / float(other)
