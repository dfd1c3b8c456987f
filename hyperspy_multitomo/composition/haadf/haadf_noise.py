# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise of HAADF images: variance as a linear function of the signal, and binning against it."""

from __future__ import annotations

import numpy as np

__all__ = ["averaged", "averaging_side", "noise_law"]

# Relative noise of the brightest pixels above which pixels are averaged, because the inversion is
# expanded to second order in it, and the largest side (px) of the averaged squares.
LARGEST_NOISE, MOST_AVERAGED = 0.02, 8
# Number of bins of the signal in which the noise is measured, and the least number of pixels in
# one.
_BINS, _LEAST_PIXELS = 16, 100


def averaging_side(images: np.ndarray, left: int) -> tuple[int, float]:
    """Return the side (px) of squares whose means can be inverted, and their relative noise.

    The noise is that of the brightest signal. At least `left` squares remain along each side.
    """
    top = float(np.percentile(images, 99.9))
    relative_noise = np.sqrt(np.polyval(noise_law(images), top)) / top
    # Larger squares would average over the thickness of the object.
    largest = max(1, min(MOST_AVERAGED, min(images.shape[1:]) // left))
    side = int(np.clip(np.ceil(relative_noise / LARGEST_NOISE), 1, largest))
    return side, float(relative_noise) / side


def averaged(images: np.ndarray, side: int) -> np.ndarray:
    """Return the means over side x side pixels, (tilt, x, y), padded with zeros at the far ends."""
    if side == 1:
        return images
    width, height = (-(-length // side) for length in images.shape[1:])
    filled = np.zeros((len(images), width * side, height * side), np.float32)
    filled[:, : images.shape[1], : images.shape[2]] = images
    return filled.reshape(len(images), width, side, height, side).mean(axis=(2, 4))


def noise_law(images: np.ndarray) -> np.ndarray:
    """Return (slope, constant) of the variance of a pixel as a linear function of its signal.

    It is measured from differences of neighbouring pixels.
    """
    from scipy.optimize import nnls

    if min(images.shape[1:]) > 1:
        corners = (images[:, :-1, :-1], images[:, 1:, 1:], images[:, 1:, :-1], images[:, :-1, 1:])
        difference, level, variances = (
            corners[0] + corners[1] - corners[2] - corners[3],
            (corners[0] + corners[1] + corners[2] + corners[3]) / 4,
            4.0,
        )
    else:
        flat = images.reshape(len(images), -1)
        difference, level, variances = (
            flat[:, :-2] - 2 * flat[:, 1:-1] + flat[:, 2:],
            flat[:, 1:-1],
            6.0,
        )
    edges = np.linspace(0, np.percentile(images, 99.9), _BINS + 1)
    place = np.digitize(level.ravel(), edges) - 1
    levels, measured = [], []
    for b in range(_BINS):
        inside = np.abs(difference.ravel()[place == b])
        if inside.size >= _LEAST_PIXELS:
            levels.append(edges[b : b + 2].mean())
            # 1.4826 median |d| is the standard deviation of normal noise, robust against edges.
            measured.append((1.4826 * float(np.median(inside))) ** 2 / variances)
    if not levels or max(measured) == 0:
        return np.zeros(2)
    # The error of a variance is proportional to it, so relative deviations are fitted.
    scale = np.maximum(measured, 1e-3 * max(measured))
    return nnls(np.stack([levels / scale, 1 / scale], axis=1), measured / scale)[0]
