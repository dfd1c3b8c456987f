# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise-equivalent electrons: the signal of one electron, from the noise of the images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.finest_detail import (
    BLIND,
    MEDIAN,
    SEEING,
    even_places,
    finest_detail,
    local_mean,
    of_few,
    warn_of_structure,
)


def typical_signal(images: ArrayLike) -> float:
    """Return the mean signal of the specimen: the mean over pixels, weighted by their signal.

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
            f"the images have a sum of {total:g}; expected signal above 0: has too much been "
            "subtracted as background?"
        )
    return float(np.square(images).sum() / total)


def noise_equivalent_gain(
    images: ArrayLike, background: ArrayLike = 0.0, *, floor: float = 0.01
) -> float:
    """Estimate the signal per noise-equivalent electron: variance over mean, in the specimen.

    An image divided by it has the noise of that many electrons, counted.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As they were recorded, neither smoothed nor resampled.
    background : float or array_like, default 0.0
        Their signal without a specimen, such as the detector's offset; of their shape or broadcast
        to it. It counts as electrons too.
    floor : float, default 0.01
        Noise per pixel, relative to the typical signal, below which no image is trusted: alignment,
        diffraction and the straight rays of the model are in error by about as much.

    Returns
    -------
    float
        Above 0. That of the floor, floor^2 times the typical signal without background, where the
        images are less noisy or hold no noise at all.

    Raises
    ------
    ValueError
        If there is nothing in the images besides the background, or `floor` is not above 0.

    Warns
    -----
    UserWarning
        If there are fewer than 32 slices, or pixels across, and their finest detail is that of the
        specimen.

    Notes
    -----
    The variance is that of the finest diagonal detail, the median over blocks of 2 x 2 pixels that
    are at least half as bright as the specimen is on average: edges and vacuum have no say. Of
    fewer than 32 slices, or pixels across, it is that of third differences along both directions,
    as far as there are pixels for it, at the places of each brightness that change least. Noise of
    other kinds counts as electrons too.

    Examples
    --------
    >>> electrons = np.random.default_rng(0).poisson(400.0, (3, 64, 64))
    >>> round(noise_equivalent_gain(25.0 * electrons))
    25
    >>> round(noise_equivalent_gain(np.full((3, 64, 64), 2e4)), 3)  # no noise: 1 % of 1e4 electrons
    2.0
    """
    if not (np.isfinite(floor) and floor > 0):
        raise ValueError(
            f"`floor` is {floor!r}; expected a relative noise above 0, by default 0.01"
        )
    images = np.asarray(images, dtype=np.float32)
    signal = images - np.asarray(background, dtype=np.float32)
    typical, besides = typical_signal(signal), max(float(np.mean(np.asarray(background))), 0.0)
    lowest = (floor * typical) ** 2 / (typical + besides)
    relative, bright = _relative_squares(images, signal, typical)
    if not bright.any():
        return float(lowest)
    everywhere = np.median(relative[bright]) / MEDIAN
    if not of_few(images):
        return float(max(everywhere, lowest))
    measured = max(np.median(relative[even_places(images, bright)]) / MEDIAN, lowest)
    relative, bright = _relative_squares(images, signal, typical, SEEING)
    everywhere = max(everywhere, np.median(relative[bright]) / MEDIAN if bright.any() else 0.0)
    remedy = "pass the signal of one electron (haadf_gain= of the whole series), or more slices"
    warn_of_structure(everywhere, measured, images.shape[1:], remedy)
    return float(measured)


def _relative_squares(
    images: np.ndarray, signal: np.ndarray, typical: float, order: int = BLIND
) -> tuple:
    """Return the squared finest detail over the mean, and where the specimen is.

    That is where there is half the typical signal or more.
    """
    mean = local_mean(images, order)
    bright = (local_mean(signal, order) > typical / 2) & (mean > 0)
    return np.square(finest_detail(images, order), dtype=np.float64) / np.where(
        bright, mean, 1
    ), bright
