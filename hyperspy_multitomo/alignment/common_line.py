# SPDX-License-Identifier: GPL-3.0-or-later
"""Shifts along the axis by the common line: the mass in each slice is the same at every tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.series_checks import check_features, checked_series
from hyperspy_multitomo.tomography.specimen_extent import without_film

__all__ = ["common_line_shifts"]

# Fraction of a profile that has to overlap with the others, and the correlation coefficient that it
# has to reach there.
_OVERLAP, _ALIKE = 0.5, 0.5
# Passes over all profiles at most, and trial shifts across a step of the coarser search.
_PASSES, _SAMPLES = 5, 10
# Shifts that are scored at once: more only take memory.
_TOGETHER = 64


def common_line_shifts(images: ArrayLike, tilts: ArrayLike) -> np.ndarray:
    """Measure shifts along the tilt axis from the profiles of mass along it.

    Tilting moves mass only across the axis. As long as the object is in view across the axis, the
    sum of an image over x is therefore the same function of y at every tilt; in Fourier space this
    is the line that all projections have in common. Each profile is registered to the mean of the
    others, on the part that they share, until the shifts have converged.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Images of an object that is in view across the axis; the level of the rim there is
        subtracted.
    tilts : array_like (tilt,)
        Degrees.

    Returns
    -------
    numpy.ndarray (tilt,)
        Shifts that have to be added to positions along the axis, px, of mean 0.

    Raises
    ------
    ValueError
        For shapes that do not fit, images without features, and a profile (named by its tilt)
        unlike the others.

    References
    ----------
    R. A. Crowther, D. J. DeRosier, A. Klug, Proc. R. Soc. A 317 (1970) 319,
    doi:10.1098/rspa.1970.0119 (common lines).

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
        # The first pass registers to the image of the lowest tilt, the others to the mean.
        limit = (1 - _OVERLAP) * length if number == 0 else max(2.0, length / 16)
        moved = 0.0
        template, seen = (
            (profiles[nearest], np.ones(length)) if number == 0 else _sums(profiles, shifts)
        )
        for t, profile in enumerate(profiles):
            if number == 0 and t == nearest:
                continue
            if number:
                total, count = (
                    sums - own
                    for sums, own in zip((template, seen), _moved(profile, shifts[t]), strict=True)
                )
                found = _registered(total / np.maximum(count, 1), count, profile, shifts[t], limit)
            else:
                found = _registered(template, seen, profile, shifts[t], limit)
            change, likeness = found
            if likeness < _ALIKE:
                raise ValueError(
                    f"the mass along the axis at {tilts[t]:g} degrees is unlike that at the other "
                    "tilts (correlation "
                    f"{likeness:.2f}); is the object in view across the axis? Leave this tilt out "
                    "(drop_tilts), or use "
                    "method='cross_correlation'"
                )
            shifts[t], moved = shifts[t] + change, max(moved, abs(change))
            if number:
                template, seen = (
                    others + own
                    for others, own in zip((total, count), _moved(profile, shifts[t]), strict=True)
                )
        if moved < 0.01:
            break
    return shifts - shifts.mean() + 0.0


def _sums(profiles: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of all profiles, in place, and how many of them show each point."""
    placed = [_moved(profile, shift) for profile, shift in zip(profiles, shifts, strict=True)]
    values, seen = zip(*placed, strict=True)
    return np.sum(values, axis=0), np.sum(seen, axis=0)


def _moved(profile: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a shifted profile, 0 outside of the image, and 1 where it is inside, 0 elsewhere."""
    y = np.arange(len(profile))
    places = y - shift
    return np.interp(places, y, profile, left=0, right=0), 1.0 * ((places >= 0) & (places <= y[-1]))


def _registered(
    template: np.ndarray, seen: np.ndarray, profile: np.ndarray, shift: float, limit: float
) -> tuple[float, float]:
    """Return the best change of a shift, and the correlation with the template that it reaches."""
    changes = np.arange(-int(limit), int(limit) + 1.0)
    step = 1.0
    for _ in range(3):
        blocks = [changes[first : first + _TOGETHER] for first in range(0, len(changes), _TOGETHER)]
        scores = np.concatenate(
            [_likeness(template, seen, profile, shift + some) for some in blocks]
        )
        best = int(np.argmax(scores))
        centre = changes[best]
        if 0 < best < len(changes) - 1:
            low, middle, high = scores[best - 1 : best + 2]
            bend = low - 2 * middle + high
            centre += step * np.clip(0.5 * (low - high) / bend, -0.5, 0.5) if bend < 0 else 0.0
        step /= _SAMPLES / 2
        changes = centre + step * np.arange(-_SAMPLES / 2, _SAMPLES / 2 + 1)
    return float(centre), float(scores[best])


def _likeness(
    template: np.ndarray, seen: np.ndarray, profile: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """Return for each shift the correlation coefficient of a template and the shifted profile.

    It is taken where both are known, and is -1 where they overlap too little.
    """
    y = np.arange(len(profile))
    places = y - shifts[:, None]
    known = (seen > 0) & (places >= 0) & (places <= y[-1])
    count = known.sum(axis=1, keepdims=True)
    a, b = (
        np.where(
            known, values - (values * known).sum(axis=1, keepdims=True) / np.maximum(count, 1), 0
        )
        for values in (template, np.interp(places, y, profile))
    )
    scale = np.sqrt(np.maximum((a * a).sum(axis=1) * (b * b).sum(axis=1), np.finfo(float).tiny))
    return np.where(count[:, 0] < _OVERLAP * len(y), -1.0, (a * b).sum(axis=1) / scale)
