# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels without a valid signal of the specimen: saturated ones, and hot ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.parameters import odd_number, positive_number

__all__ = ["Saturation", "find_saturation", "hot_pixels", "hot_positions"]

# Full-scale values of analogue-to-digital converters, at which _FEW pixels are proof of saturation;
# at another largest value it takes _MANY. These and the constants below are tested on images with
# and without defects in tests/test_preprocessing.py.
_ENDS = frozenset(2**bits - 1 for bits in (8, 10, 12, 14, 15, 16, 20, 24, 32))
_FEW, _MANY = 3, 20
# The largest value is a plateau if it has this many times as many pixels as the values just below.
_PLATEAU = 4.0
# Steps that the range of the values must have: counts of a few electrons pile up at every integer.
_LEAST_RANGE = 200.0
# Relative rounding error of single precision, for images not in the converter's unit.
_ROUNDING = 1.2e-7
# Groups of more pixels than this are features of the specimen.
_LARGEST_GROUP = 3


@dataclass(frozen=True, eq=False, repr=False)
class Saturation:
    """
    The saturated fraction of a series.

    Attributes
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    level : float or None
        The value at which the signal saturates; None without saturation.
    fraction : numpy.ndarray (tilt,)
        Fraction of the pixels at `level`, for each tilt.
    """

    tilts: np.ndarray
    level: float | None
    fraction: np.ndarray

    def __repr__(self) -> str:
        if self.level is None:
            return "no saturation"
        worst = int(np.argmax(self.fraction))
        return (
            f"{100 * self.fraction.mean():.2g} % of the pixels are saturated at {self.level:g}, "
            f"{100 * self.fraction[worst]:.2g} % at {self.tilts[worst]:g}°"
        )


def find_saturation(images, tilts: ArrayLike, level: float | None = None) -> Saturation:
    """
    Find the level at which the signal of a series saturates, and the fraction of such pixels.

    Parameters
    ----------
    images : sequence of array_like (tilt, x, y)
        As recorded; dask arrays are read tilt by tilt.
    tilts : array_like (tilt,)
        Degrees.
    level : float, optional
        Saturation level of the detector; by default the largest value of the series, if pixels pile
        up there.

    Returns
    -------
    Saturation

    Raises
    ------
    ValueError
        If a value is not finite, or `level` is not positive.

    Notes
    -----
    Pixels pile up if at least 3 have the largest value where that is a full-scale value of a
    converter (2^n - 1), or 20 at any other, and if these are more than four times as many as at the
    next value and as in the thousandth of the range just below. The range must have 200 steps of
    the values, which are integers, or these times a unit: images in amperes saturate like those of
    the converter. Resampled or smoothed images no longer have such a level.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).normal(60000, 3000, (2, 50, 50)).clip(0, 65535).round()
    >>> saturation = find_saturation(images, [0, 10])
    >>> saturation.level, bool(0.02 < saturation.fraction.mean() < 0.05)
    (65535.0, True)
    """
    level = None if level is None else positive_number("level", level, "of the signal")
    tilts = np.asarray(tilts, dtype=np.float64)
    ends = np.array(
        [(float(np.min(image)), float(np.max(image))) for image in map(np.asarray, images)]
    )
    if not np.isfinite(ends).all():
        named = ", ".join(f"{tilt:g}" for tilt in tilts[~np.isfinite(ends).all(axis=1)])
        raise ValueError(
            f"the images at {named} degrees hold NaN or infinite values; replace them, or leave "
            "out those tilts"
        )
    bottom, top = float(ends[:, 0].min()), float(ends[:, 1].max())
    if level is None and not _piled_up(images, bottom, top):
        return Saturation(tilts, None, np.zeros(len(tilts)))
    level = top if level is None else level
    fraction = [np.count_nonzero(image >= level) / image.size for image in map(np.asarray, images)]
    return Saturation(tilts, level, np.array(fraction))


def _piled_up(images, bottom: float, top: float) -> bool:
    """Return whether the largest value has many more pixels than those just below it."""
    extent = top - bottom
    if extent == 0:
        return False
    near = np.concatenate(
        [image[image >= top - 0.01 * extent] for image in map(np.asarray, images)]
    )
    values, numbers = np.unique(near, return_counts=True)
    just_below = numbers[values >= top - 0.001 * extent].sum() - numbers[-1]
    expected = max(int(just_below), int(numbers[-2]) if len(numbers) > 1 else 0)
    if numbers[-1] < _FEW or numbers[-1] <= _PLATEAU * expected:
        return False
    values = np.unique(
        next(image for image in map(np.asarray, images) if float(image.max()) == top)
    ).astype(np.float64)
    return bool(
        numbers[-1] >= (_FEW if _is_end(top, values) else _MANY)
        and extent >= _LEAST_RANGE * _step(values)
    )


def _step(values: np.ndarray) -> float:
    """Return the step of sorted values: 1 for integers, else the least difference."""
    return (
        1.0
        if (values == np.rint(values)).all() or len(values) < 2
        else float(np.diff(values).min())
    )


def _is_end(top: float, values: np.ndarray) -> bool:
    """Return whether the largest value is a full-scale value of a converter.

    The values may be in another unit than the converter's.
    """
    if top in _ENDS:
        return True
    for end in _ENDS:
        steps, rounding = values * (end / top), _ROUNDING * end
        if rounding < 0.1 and np.abs(steps - np.rint(steps)).max() <= rounding:
            return True
    return False


def hot_pixels(
    image: ArrayLike, threshold: float = 8.0, size: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find single pixels far above their surroundings, and the values to replace them by.

    Parameters
    ----------
    image : array_like (x, y)
        HAADF signal.
    threshold : float, default 8.0
        Least height above the local median, and above the fourth brightest pixel around, in
        standard deviations of the noise. These are from median absolute deviations, the larger of
        the local one and that of the image.
    size : int, default 5
        Side of the surroundings in px, odd.

    Returns
    -------
    hot : numpy.ndarray of bool (x, y)
        Groups of more than three pixels are features of the specimen and are left alone.
    median : numpy.ndarray (x, y)
        The local median.

    Raises
    ------
    ValueError
        For a threshold that is not positive, a size that is not odd and at least 3, and values that
        are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(100, 3, (32, 32)); image[9, 7] = 500
    >>> np.argwhere(hot_pixels(image)[0])
    array([[9, 7]])
    """
    from scipy.ndimage import label, median_filter, rank_filter

    threshold, size = positive_number("threshold", threshold), odd_number("size", size, 3)
    image = np.asarray(image)
    _check_finite(image)
    # Unsigned counts have no differences below 0.
    image = image if image.dtype.kind == "f" else image.astype(np.float32)
    median = median_filter(image, size)
    excess = image - median
    deviation = np.abs(excess)
    noise = 1.4826 * np.maximum(median_filter(deviation, size), np.median(deviation))
    # Where most pixels are equal the median deviation is 0, and the others are taken as the noise.
    least = 1e-6 * np.abs(image).max() if np.median(deviation) else deviation.std(dtype=np.float64)
    noise = np.maximum(noise, float(least))
    # At the outline of an object the median may be that of the vacuum, but some neighbours are as
    # bright.
    next_brightest = rank_filter(image, -(_LARGEST_GROUP + 1), size)
    groups, _ = label(
        np.minimum(excess, image - next_brightest) > threshold * noise, np.ones((3, 3))
    )
    return (groups > 0) & (np.bincount(groups.ravel())[groups] <= _LARGEST_GROUP), median


def hot_positions(
    total: ArrayLike, variance: ArrayLike | None = None, threshold: float = 8.0, size: int = 5
) -> np.ndarray:
    """
    Find positions of the scan that have too many counts in the sum over the tilts.

    The object moves from tilt to tilt and blurs in the sum; a position where the beam rests, or a
    line of the scan that is read out wrongly, does not.

    Parameters
    ----------
    total : array_like (x, y)
        Counts of one element, or of all, summed over the tilts.
    variance : array_like (x, y), optional
        Variance of `total`: the gross counts; by default `total`, as for counts without background.
    threshold : float, default 8.0
        Least height above the mean of the surroundings, in standard deviations of Poisson counts.
    size : int, default 5
        Side of the surroundings in px, odd.

    Returns
    -------
    numpy.ndarray of bool (x, y)

    Raises
    ------
    ValueError
        For a threshold that is not positive, a size that is not odd and at least 3, and values that
        are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> total = np.random.default_rng(0).poisson(4.0, (32, 32)); total[9, 7] = 60
    >>> np.argwhere(hot_positions(total))
    array([[9, 7]])
    """
    from scipy.ndimage import median_filter, percentile_filter, uniform_filter

    threshold, size = positive_number("threshold", threshold), odd_number("size", size, 3)
    total = np.asarray(total, dtype=np.float64)
    _check_finite(total)
    variance = np.maximum(total if variance is None else np.asarray(variance, dtype=np.float64), 0)
    # Expected: the mean of the surroundings without outliers, and at an edge at least their upper
    # quartile.
    capped = np.minimum(total, percentile_filter(total, 90, size))
    expected = np.maximum(uniform_filter(capped, size), median_filter(capped, size))
    expected = np.maximum(expected, percentile_filter(uniform_filter(capped, 3), 75, size))
    noise = np.sqrt(np.maximum(median_filter(variance, size), 1))
    return total - expected > threshold * noise


def _check_finite(image: np.ndarray) -> None:
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise ValueError(
            f"the image holds {bad} NaN or infinite values of {image.size}; replace them, or leave "
            "out this tilt"
        )
