# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in noise-equivalent electrons: the signal of one electron, as far as the noise of the images tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# Median of the square of a normal variable of variance 1.
_MEDIAN = 0.4549


def typical_signal(images: ArrayLike) -> float:
    """Return the mean signal of the specimen: the mean over all pixels, each weighted by its own signal.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Images whose vacuum is near 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is nothing in the images.

    Examples
    --------
    >>> images = np.zeros((1, 8, 8)); images[:, 2:4] = 50.0
    >>> typical_signal(images)
    50.0
    """
    images = np.asarray(images, dtype=np.float64)
    total = images.sum()
    if not total > 0:
        raise ValueError(f"the images have a sum of {total:g}; expected signal above 0")
    return float(np.square(images).sum() / total)


def noise_equivalent_gain(images: ArrayLike, *, floor: float = 0.01) -> float:
    """Estimate the signal per noise-equivalent electron: variance over mean of the noise, where the specimen is.

    An image divided by it has the noise of that many electrons, counted.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As they were recorded, less the detector's offset, neither smoothed nor resampled.
    floor : float, default 0.01
        Noise per pixel, relative to the typical signal, below which no image is trusted: alignment, diffraction and the straight
        rays of the model are in error by about as much.

    Returns
    -------
    float
        Above 0. That of the floor, floor^2 times the typical signal, where the images are less noisy or hold no noise at all.

    Raises
    ------
    ValueError
        If there is nothing in the images, or `floor` is not above 0.

    Notes
    -----
    The variance is that of the finest diagonal detail, the median over blocks of 2 x 2 pixels that are at least half as bright as
    the specimen is on average: edges and vacuum have no say. Noise of other kinds counts as electrons too.

    Examples
    --------
    >>> electrons = np.random.default_rng(0).poisson(400.0, (3, 64, 64))
    >>> round(noise_equivalent_gain(25.0 * electrons))
    25
    >>> round(noise_equivalent_gain(np.full((3, 64, 64), 2e4)), 3)  # no noise: 1 % of 2e4 is that of 1e4 electrons
    2.0
    """
    if not (np.isfinite(floor) and floor > 0):
        raise ValueError(f"`floor` is {floor!r}; expected a relative noise above 0, by default 0.01")
    images = np.asarray(images, dtype=np.float32)
    typical = typical_signal(images)
    mean, detail = _blocks(images)
    bright = mean > typical / 2
    measured = np.median(np.square(detail[bright]) / mean[bright]) / _MEDIAN if bright.any() else 0.0
    return float(max(measured, floor**2 * typical))


def _blocks(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each block of 2 x 2 pixels, and its diagonal detail, whose variance is that of a pixel."""
    x, y = (size // 2 * 2 for size in images.shape[1:])
    a, b = images[:, 0:x:2, 0:y:2], images[:, 0:x:2, 1:y:2]
    c, d = images[:, 1:x:2, 0:y:2], images[:, 1:x:2, 1:y:2]
    return (a + b + c + d) / 4, (a - b - c + d) / 2
