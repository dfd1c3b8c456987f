# SPDX-License-Identifier: GPL-3.0-or-later
"""Peaks of a curve, as `scipy.signal.find_peaks` finds them, which takes half a second to import."""

from __future__ import annotations

import numpy as np

__all__ = ["find_peaks"]


def find_peaks(values: np.ndarray, *, height: float = -np.inf, prominence: float = 0.0) -> np.ndarray:
    """
    Return the places of the local maxima.

    Parameters
    ----------
    values : ndarray (place,)
    height : float
        The least height of a peak.
    prominence : float, default 0
        By how much it has to stand above the higher of the two saddles between it and a higher peak, or the end, on each side.

    Returns
    -------
    ndarray of int
        Of a flat top the middle. The ends are no peaks.

    Examples
    --------
    >>> find_peaks(np.array([0.0, 2.0, 1.5, 3.0, 3.0, 3.0, 0.0])), find_peaks(np.array([0.0, 2.0, 1.5, 3.0, 0.0]), prominence=1.0)
    (array([1, 4]), array([3]))
    """
    values = np.asarray(values)
    steps = np.flatnonzero(np.diff(values))
    first, last = np.append(0, steps + 1), np.append(steps, values.size - 1)
    levels = values[first]
    higher = (levels[1:-1] > levels[:-2]) & (levels[1:-1] > levels[2:]) & (levels[1:-1] >= height)
    peaks = ((first + last) // 2)[1:-1][higher]
    return peaks[[_prominence(values, peak) >= prominence for peak in peaks]] if prominence > 0 else peaks


def _prominence(values: np.ndarray, peak: int) -> float:
    """Return the height of a peak above the higher of the lowest points on its two sides, up to where it is higher again."""
    saddles = []
    for side in (values[peak::-1], values[peak:]):
        higher = np.flatnonzero(side > values[peak])
        saddles.append(side[: higher[0] if higher.size else None].min())
    return values[peak] - max(saddles)
