# SPDX-License-Identifier: GPL-3.0-or-later
"""Shifts along the axis by the common line: the mass in each slice is the same at every tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.checks import check_features, checked_series
from hyperspy_multitomo.alignment.extent import without_film

__all__ = ["common_line_shifts"]

# The part of a profile that has to overlap with the others, and the likeness that it has to reach there.
_OVERLAP, _ALIKE = 0.5, 0.5
_PASSES, _SAMPLES = 5, 10


def common_line_shifts(images: ArrayLike, tilts: ArrayLike) -> np.ndarray:
    """
    Measure shifts along the tilt axis from the profiles of mass along it.

    Tilting moves mass across the axis alone, so that the sum of an image over x is the same function of y at every tilt, as
    long as the object is in view across the axis; in Fourier space that is the line which all projections have in common. Each
    profile is registered to the mean of the others, on the part of it that they share, until nothing moves.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Images of an object that is in view across the axis; the level of the rim there is taken off.
    tilts : array_like (tilt,)
        Degrees.

    Returns
    -------
    numpy.ndarray (tilt,)
        What has to be added to positions along the axis, px, their mean being 0.

    Raises
    ------
    ValueError
        For shapes that do not fit, images without features, and a profile (named by its tilt) unlike the others.

    References
    ----------
    R. A. Crowther, D. J. DeRosier, A. Klug, Proc. R. Soc. A 317 (1970) 319, doi:10.1098/rspa.1970.0119 (common lines).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.mgrid[:32, :32]
    >>> images = [np.exp(-((x - 15 - m) ** 2 + (y - 15 + m) ** 2) / 18) for m in (-1.0, 0.0, 1.0)]
    >>> common_line_shifts(images, [-10, 0, 10]).round(1) + 0.0
    array([-1.,  0.,  1.])
    """
    images, tilts = checked_series(images, tilts)
    check_features(images, tilts)
    profiles = without_film(images).sum(axis=1, dtype=np.float64)
    shifts, nearest = np.zeros(len(tilts)), int(np.argmin(np.abs(tilts)))
    length = profiles.shape[1]
    for number in range(_PASSES):
        reference = profiles[nearest] if number == 0 else None
        limit = (1 - _OVERLAP) * length if number == 0 else max(2.0, length / 16)
        moved = 0.0
        for t, profile in enumerate(profiles):
            if number == 0 and t == nearest:
                continue
            template, seen = (reference, np.ones(length)) if number == 0 else _mean_of_others(profiles, shifts, t)
            change, likeness = _registered(template, seen, profile, shifts[t], limit)
            if likeness < _ALIKE:
                raise ValueError(
                    f"the mass along the axis at {tilts[t]:g} degrees is unlike that at the other tilts (correlation "
                    f"{likeness:.2f}); is the object in view across the axis? Leave this tilt out (drop_tilts), or use "
                    "method='cross_correlation'"
                )
            shifts[t], moved = shifts[t] + change, max(moved, abs(change))
        if moved < 0.01:
            break
    return shifts - shifts.mean() + 0.0


def _mean_of_others(profiles: np.ndarray, shifts: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of all profiles but one, in place, and how many of them show each point."""
    y = np.arange(profiles.shape[1])
    total, seen = np.zeros(len(y)), np.zeros(len(y))
    for n, profile in enumerate(profiles):
        if n != t:
            total += np.interp(y - shifts[n], y, profile, left=0, right=0)
            seen += (y - shifts[n] >= 0) & (y - shifts[n] <= y[-1])
    return total / np.maximum(seen, 1), seen


def _registered(template: np.ndarray, seen: np.ndarray, profile: np.ndarray, shift: float, limit: float) -> tuple[float, float]:
    """Return the change of a shift that makes a profile most like the template where both are known, and the likeness."""
    y = np.arange(len(profile))
    changes = np.arange(-int(limit), int(limit) + 1.0)
    step = 1.0
    for _ in range(3):
        scores = [_likeness(template, seen, profile, y, shift + change) for change in changes]
        best = int(np.argmax(scores))
        centre = changes[best]
        if 0 < best < len(changes) - 1:
            low, middle, high = scores[best - 1 : best + 2]
            bend = low - 2 * middle + high
            centre += step * np.clip(0.5 * (low - high) / bend, -0.5, 0.5) if bend < 0 else 0.0
        step /= _SAMPLES / 2
        changes = centre + step * np.arange(-_SAMPLES / 2, _SAMPLES / 2 + 1)
    return float(centre), float(scores[best])


def _likeness(template: np.ndarray, seen: np.ndarray, profile: np.ndarray, y: np.ndarray, shift: float) -> float:
    """Return the correlation coefficient of a template and a moved profile where both are known; -1 where that is little."""
    known = (seen > 0) & (y - shift >= 0) & (y - shift <= y[-1])
    if known.sum() < _OVERLAP * len(y):
        return -1.0
    moved = np.interp(y[known] - shift, y, profile)
    a, b = template[known] - template[known].mean(), moved - moved.mean()
    return float(a @ b / np.sqrt(max((a @ a) * (b @ b), np.finfo(float).tiny)))
