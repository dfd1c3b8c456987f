# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators on signals: what is kept beside the data follows them, or is forgotten with a message.

HyperSpy copies metadata whatever happens to the data. Three rules keep them true: a positive factor
scales what is per count; the sum of two series of one object adds up their counts and doses;
everything else forgets what it makes untrue.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Real

import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.metadata.attached_values import changed, is_series, masked, scaled
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.sums import summed

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
# Methods of HyperSpy that change values in a way that is none of the rules.
_CHANGING = (
    "add_gaussian_noise",
    "add_poissonian_noise",
    "add_ramp",
    "apply_apodization",
    "get_bss_model",
    "get_decomposition_model",
    "remove_spikes",
)


class Arithmetic:
    """Mixin of all signals: operators, NumPy's functions and `map` leave nothing untrue beside the data."""

    def _binary_operator_ruler(self, other, op_name):
        operation = op_name.strip("_")
        # "__iadd__" adds in place.
        operation = operation[1:] if operation[0] == "i" else operation
        follow = _rule(self, other, operation)
        result = super()._binary_operator_ruler(other, op_name)
        if isinstance(result, Arithmetic):
            follow(result)
        return result

    def _unary_operator_ruler(self, op_name):
        result = super()._unary_operator_ruler(op_name)
        operation = op_name.strip("_")
        if operation != "pos":
            changed(result, _WORDS.get(operation, operation), same_unit=operation in _SAME_UNIT)
        return result

    def __array_wrap__(self, array, context=None, return_scalar=False):
        """Return the result of a NumPy function as a signal, as HyperSpy does, without what it makes untrue."""
        result = super().__array_wrap__(array, context, return_scalar)
        if isinstance(result, Arithmetic):
            changed(
                result, "a NumPy function" if context is None else f"numpy.{context[0].__name__}"
            )
        return result

    @checked
    def map(self, function, *args, **kwargs):
        """Apply a function to each image, see HyperSpy's `map`; counts, gains, dose and alignment are forgotten."""
        result = super().map(function, *args, **kwargs)
        mapped = self if result is None else result
        if isinstance(mapped, Arithmetic):
            changed(mapped, f"map({getattr(function, '__name__', 'function')})", moved=True)
        return result


def _rule(first, other, operation: str) -> Callable:
    """Return the function that keeps the result of an operator true; what it needs of the operands is read before they change."""
    factor = _factor(other, operation)
    if factor is not None:
        return lambda result: scaled(result, factor)
    if operation == "add" and isinstance(other, Arithmetic):
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
    """Return the positive number that data are multiplied by, or None where this is no such operation."""
    number = isinstance(other, Real | np.number) or (
        isinstance(other, np.ndarray) and other.ndim == 0
    )
    if operation not in ("mul", "truediv") or not number or isinstance(other, bool | np.bool_):
        return None
    if np.iscomplexobj(other) or not (np.isfinite(other) and other > 0):
        return None
    return float(other) if operation == "mul" else 1 / float(other)


def _forgetting(name: str) -> Callable:
    """Return the method of HyperSpy of this name, followed by what every change of the values has to be followed by."""

    @functools.wraps(getattr(Signal2D, name))
    def method(self, *args, **kwargs):
        result = getattr(super(Arithmetic, self), name)(*args, **kwargs)
        made = self if result is None else result
        if isinstance(made, Arithmetic):
            changed(made, name)
        return result

    return method


for _name in _CHANGING:
    setattr(Arithmetic, _name, _forgetting(_name))
