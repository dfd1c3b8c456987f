# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of single arguments: each returns its argument or raises an error.

The error says what was given and what is expected.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import numpy as np

__all__ = [
    "array",
    "flag",
    "fraction",
    "function",
    "is_positive",
    "mapping",
    "names",
    "number",
    "numbers",
    "odd_number",
    "path",
    "positive_number",
    "shown",
    "signal_of_type",
    "text",
    "whole_number",
]


def number(name: str, value, expected: str = "a finite number") -> float:
    """Return a finite number as a float; neither a boolean nor a string is one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not np.isfinite(value):
        raise ValueError(f"{name}={value!r} must be {expected}")
    return float(value)


def is_positive(value) -> bool:
    """Return whether a value is a finite number above 0."""
    return (
        isinstance(value, Real)
        and not isinstance(value, bool | np.bool_)
        and bool(np.isfinite(value))
        and value > 0
    )


def positive_number(name: str, value, unit: str = "") -> float:
    """Return a finite number above 0 as a float; `unit` is for the error, as in "of pixels"."""
    expected = f"a positive number{unit and ' '}{unit}"
    if not is_positive(value):
        raise ValueError(f"{name}={value!r} must be {expected}")
    return float(value)


def fraction(name: str, value) -> float:
    """Return a number between 0 and 1 as a float."""
    expected = "a number that lies between 0 and 1"
    result = number(name, value, expected)
    if not 0 < result < 1:
        raise ValueError(f"{name}={value!r} must be {expected}")
    return result


def whole_number(name: str, value, least: int, what: str = "") -> int:
    """Return a whole number from `least` up as an int; `what` is for the error, "of pixels"."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name}={value!r} must be a whole number{what and ' '}{what}, {least} or more"
        )
    return int(value)


def odd_number(name: str, value, least: int) -> int:
    """Return an odd whole number of pixels from `least` up as an int."""
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, Integral)
        or value < least
        or not value % 2
    ):
        raise ValueError(f"{name}={value!r} must be an odd number of pixels, {least} or more")
    return int(value)


def shown(value) -> str:
    """Return a shortened repr of a value for an error; of an array its shape and type."""
    if isinstance(value, np.ndarray):
        return f"an array of the shape {value.shape} and type {value.dtype}"
    return repr(value) if hasattr(value, "axes_manager") else reprlib.repr(value)


def flag(name: str, value) -> bool:
    """Return True or False, also given as 1 or 0."""
    if not isinstance(value, bool | np.bool_) and not (
        isinstance(value, Integral) and value in (0, 1)
    ):
        raise TypeError(f"{name}={shown(value)} must be True or False")
    return bool(value)


def text(name: str, value) -> str:
    """Return a string; the function itself checks which one."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={shown(value)} must be a string")
    return value


def path(name: str, value):
    """Return a path, a string or a `pathlib.Path`."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise TypeError(f"{name}={shown(value)} must be a path, as a string or a pathlib.Path")
    return value


def names(name: str, value):
    """Return a string, or a list of strings; of a dict the keys are checked."""
    if (
        isinstance(value, bytes)
        or hasattr(value, "axes_manager")
        or not isinstance(value, str | Iterable)
        or _scalar(value)
    ):
        raise TypeError(f"{name}={shown(value)} must be a string or a list of strings")
    if not isinstance(value, str) and not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name}={shown(value)} must hold strings alone")
    return value


def mapping(name: str, value) -> Mapping:
    """Return a dict."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}={shown(value)} must be a dict")
    return value


def function(name: str, value):
    """Return a callable."""
    if not callable(value):
        raise TypeError(f"{name}={shown(value)} must be a function")
    return value


def array(name: str, value):
    """Return an array, a signal or nested lists of real numbers or booleans, unconverted."""
    values = getattr(value, "data", value) if hasattr(value, "axes_manager") else value
    if not hasattr(values, "dtype"):
        try:
            values = np.asarray(values)
        except ValueError as error:  # lists of unequal lengths
            raise ValueError(
                f"{name}={shown(value)} must be an array of real numbers ({error})"
            ) from None
    if getattr(values, "dtype", np.dtype(object)).kind not in "buif":
        raise TypeError(f"{name}={shown(value)} must be an array of real numbers")
    return value


def numbers(name: str, value, *shape: int):
    """Return finite real numbers, unconverted; `shape` is the expected one, if it is known."""
    array(name, value)
    values = np.asarray(getattr(value, "data", value) if hasattr(value, "axes_manager") else value)
    if not np.isfinite(values).all() or (shape and values.shape != shape):
        expected = f"{' x '.join(map(str, shape))} finite numbers" if shape else "finite numbers"
        raise ValueError(f"{name}={shown(value)} must be {expected}")
    return value


def signal_of_type(name: str, value, *types: str):
    """Return a signal of one of these classes of the package, lazy or not."""
    if getattr(value, "_signal_type", None) not in types or not hasattr(value, "axes_manager"):
        raise TypeError(
            f"{name} must be a {' or '.join(types)}; got {type(value).__name__} {shown(value)}"
        )
    return value


def _scalar(value) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0


def check_finite(data, what: str) -> None:
    """Raise a ValueError if the data have NaN or infinite values; `what` names the data."""
    bad = int(data.size - np.count_nonzero(np.isfinite(data)))
    if bad:
        raise ValueError(
            f"{what} has {bad} NaN or infinite values of {data.size}; replace them, or drop the "
            "tilts that hold them"
        )
