# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels that do not say what the specimen did: saturated ones, and hot ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.parameters import odd_number, positive_number

__all__ = ["Saturation", "find_saturation", "hot_pixels", "hot_positions"]

# Values that analogue-to-digital converters end at; there a few pixels are proof enough.
_ENDS = frozenset(2**bits - 1 for bits in (8, 10, 12, 14, 15, 16, 20, 24, 32))
_FEW, _MANY = 3, 20
# The top of a histogram that is no plateau holds no more pixels than this many times the values
# just below it.
_PLATEAU = 4.0
# Counts of a few electrons crowd at every whole number: a range of fewer steps has no top of its
# own.
_LEAST_RANGE = 200.0
# Rounding of single precision, in which images in another unit than the converter's may be.
_ROUNDING = 1.2e-7
# A group of more pixels than this is a feature of the specimen.
_LARGEST_GROUP = 3


@dataclass(frozen=True, eq=False, repr=False)
class Saturation:
    """
    How much of a series is saturated.

    Attributes
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    level : float or None
        The value at which the signal ends; None where it does not.
    fraction : numpy.ndarray (tilt,)
        Part of the pixels at `level`, for each tilt.
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
    Find the level at which the signal of a series ends, and how many pixels are there.

    Parameters
    ----------
    images : sequence of array_like (tilt, x, y)
        As recorded; dask arrays are read tilt by tilt.
    tilts : array_like (tilt,)
        Degrees.
    level : float, optional
        Where the detector saturates; by default the largest value of the series, if pixels pile up
        there.

    Returns
    -------
    Saturation

    Raises
    ------
    ValueError
        If a value is not finite, or `level` is no positive number.

    Notes
    -----
    Pixels pile up if at least 3 have a largest value at which a converter ends (2^n - 1), or 20 any
    other; and if that is more than four times as many as at the next value, and as in the
    thousandth part of the range just below. The range has to hold 200 steps of the values, which
    are whole numbers, or these times a unit: images in amperes saturate as those of the converter
    do. Images that were resampled or smoothed have no such level any more.

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
    """Tell whether more pixels have the largest value than the values just below it lead one to expect."""
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
    """Return the step of sorted values: 1 for whole numbers, else the least distance of two."""
    return (
        1.0
        if (values == np.rint(values)).all() or len(values) < 2
        else float(np.diff(values).min())
    )


def _is_end(top: float, values: np.ndarray) -> bool:
    """Tell whether a converter ends at the largest of the values, which may be in another unit than the converter's."""
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
    Find single pixels far above their surroundings, and what these would put in their place.

    Parameters
    ----------
    image : array_like (x, y)
        HAADF signal.
    threshold : float, default 8.0
        How far above the local median, and above the fourth brightest pixel around, in standard
        deviations of the noise: the larger of the local and the whole image's, both from median
        absolute deviations from that median.
    size : int, default 5
        Side of the surroundings, px, odd.

    Returns
    -------
    hot : numpy.ndarray of bool (x, y)
        Groups of more than three pixels are features of the specimen and are left alone.
    median : numpy.ndarray (x, y)
        The local median.

    Raises
    ------
    ValueError
        For a threshold that is no positive number, a size that is no odd number from 3 up, and
        values that are not finite.

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
    # An image of mostly equal pixels has no median deviation: its few others are its noise.
    least = 1e-6 * np.abs(image).max() if np.median(deviation) else deviation.std(dtype=np.float64)
    noise = np.maximum(noise, float(least))
    # At the outline of an object the median is that of the vacuum, but many pixels around are as
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
    Find positions of the scan that hold too many counts at all tilts together.

    The object moves from tilt to tilt and blurs in the sum of the series; a place where the beam
    rests, or a line of the scan that is read out wrongly, does not.

    Parameters
    ----------
    total : array_like (x, y)
        Counts of one element, or of all, summed over the tilts.
    variance : array_like (x, y), optional
        Of `total`: the gross counts; by default `total` itself, as for counts without background.
    threshold : float, default 8.0
        How far above the mean of the surroundings, in standard deviations of Poisson counts.
    size : int, default 5
        Side of the surroundings, px, odd.

    Returns
    -------
    numpy.ndarray of bool (x, y)

    Raises
    ------
    ValueError
        For a threshold that is no positive number, a size that is no odd number from 3 up, and
        values that are not finite.

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
    # Expected there: the surroundings' mean without what stands out of them; and at an edge no less
    # than their upper quarter.
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
