# SPDX-License-Identifier: GPL-3.0-or-later
"""Powers of two that scale data, without rounding, to where float32 holds their squares."""

from __future__ import annotations

from typing import overload

import numpy as np

# Data within 2^20 times more or less than 1 are not scaled, which saves a copy of them.
_ROOM = 20
# Exponent of the largest value of images in range.
_TOP = 10


def power_of_two(values) -> np.ndarray:
    """Return the power of two nearest to each value, float64; 1 where a value is not above 0.

    Examples
    --------
    >>> power_of_two([3e-12, 0.0, 5.0])
    array([3.63797881e-12, 1.00000000e+00, 4.00000000e+00])
    """
    values = np.asarray(values, np.float64)
    return np.exp2(np.round(np.log2(np.where(values > 0, values, 1.0))))


def roomy(values) -> np.ndarray:
    """Return the unit for data of about these values.

    It is 1 where that leaves enough range, else the nearest power of two.

    Examples
    --------
    >>> roomy([300.0, 1e-9, 1e12])
    array([1.00000000e+00, 9.31322575e-10, 1.09951163e+12])
    """
    units = power_of_two(values)
    return np.where(np.abs(np.log2(units)) <= _ROOM, 1.0, units)


def largest(arrays: np.ndarray) -> np.ndarray:
    """Return the largest magnitude of each row, (row,)."""
    axes = tuple(range(1, arrays.ndim))
    return np.maximum(arrays.max(axis=axes), -arrays.min(axis=axes)).astype(np.float64)


def in_range(images: np.ndarray) -> np.ndarray:
    """Return images in a unit in which the largest value is about 1000.

    Neither squares nor noise then leave single precision.
    """
    unit = power_of_two(np.maximum(images.max(), -images.min())) / 2.0**_TOP
    return images if unit == 1 else images / images.dtype.type(unit)


@overload
def divided(array: np.ndarray, units: np.ndarray) -> np.ndarray: ...
@overload
def divided(array: None, units: np.ndarray) -> None: ...
def divided(array: np.ndarray | None, units: np.ndarray) -> np.ndarray | None:
    """Return rows of an array over their units (row,); None for None.

    It is the array itself where all units are 1.
    """
    if array is None or (units == 1).all():
        return array
    return array / units.astype(array.dtype).reshape(-1, *(1,) * (array.ndim - 1))
