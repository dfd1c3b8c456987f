# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in noise-equivalent electrons: the signal of one electron, as far as the noise of the images tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.stopping import MEDIAN, finest_detail, of_pairs


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
        raise ValueError(
            f"the images have a sum of {total:g}; expected signal above 0: has too much been subtracted as background?"
        )
    return float(np.square(images).sum() / total)


def noise_equivalent_gain(images: ArrayLike, background: ArrayLike = 0.0, *, floor: float = 0.01) -> float:
    """Estimate the signal per noise-equivalent electron: variance over mean of the noise, where the specimen is.

    An image divided by it has the noise of that many electrons, counted.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As they were recorded, neither smoothed nor resampled.
    background : float or array_like, default 0.0
        What they hold besides the signal of the specimen, such as the detector's offset; of their shape or broadcast to it. It
        counts as electrons too.
    floor : float, default 0.01
        Noise per pixel, relative to the typical signal, below which no image is trusted: alignment, diffraction and the straight
        rays of the model are in error by about as much.

    Returns
    -------
    float
        Above 0. That of the floor, floor^2 times the typical signal without background, where the images are less noisy or hold
        no noise at all.

    Raises
    ------
    ValueError
        If there is nothing in the images besides the background, or `floor` is not above 0.

    Notes
    -----
    The variance is that of the finest diagonal detail, the median over blocks of 2 x 2 pixels that are at least half as bright as
    the specimen is on average: edges and vacuum have no say. In a single row or column blocks are of 2 pixels. Noise of other
    kinds counts as electrons too.

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
    signal = images - np.asarray(background, dtype=np.float32)
    typical, besides = typical_signal(signal), max(float(np.mean(background)), 0.0)
    mean = of_pairs(images, 1.0, 0.5)
    bright = (of_pairs(signal, 1.0, 0.5) > typical / 2) & (mean > 0)
    measured = (
        np.median(np.square(finest_detail(images)[bright], dtype=np.float64) / mean[bright]) / MEDIAN if bright.any() else 0.0
    )
    return float(max(measured, (floor * typical) ** 2 / (typical + besides)))
