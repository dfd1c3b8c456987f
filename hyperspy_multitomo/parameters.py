# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of numeric keywords, one for each kind of number: each returns it, or says what was given and what was expected."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

__all__ = ["fraction", "number", "odd_number", "positive_number", "whole_number"]


def number(name: str, value, expected: str = "a finite number") -> float:
    """Return a finite number as a float; neither a boolean nor a string is one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not np.isfinite(value):
        raise ValueError(f"{name}={value!r} must be {expected}")
    return float(value)


def positive_number(name: str, value, unit: str = "") -> float:
    """Return a finite number above 0 as a float; `unit` says of what, as in "of pixels"."""
    expected = f"a positive number{unit and ' '}{unit}"
    found = number(name, value, expected)
    if not found > 0:
        raise ValueError(f"{name}={value!r} must be {expected}")
    return found


def fraction(name: str, value) -> float:
    """Return a number between 0 and 1 as a float."""
    expected = "a number that lies between 0 and 1"
    found = number(name, value, expected)
    if not 0 < found < 1:
        raise ValueError(f"{name}={value!r} must be {expected}")
    return found


def whole_number(name: str, value, least: int, what: str = "") -> int:
    """Return a whole number from `least` up as an int; `what` says of what, as in "of pixels"."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number{what and ' '}{what}, {least} or more")
    return int(value)


def odd_number(name: str, value, least: int) -> int:
    """Return an odd whole number of pixels from `least` up as an int."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < least or not value % 2:
        raise ValueError(f"{name}={value!r} must be an odd number of pixels, {least} or more")
    return int(value)
