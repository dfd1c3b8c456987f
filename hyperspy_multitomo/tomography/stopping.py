# SPDX-License-Identifier: GPL-3.0-or-later
"""When to stop: at residuals that hardly change, or that are no larger than the noise of the data (discrepancy principle)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


class StoppingRule:
    """What `run` asks after every iteration; see there for the parameters."""

    def __init__(self, tolerance: float | None = None, noise: ArrayLike | None = None):
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"`tolerance` is {tolerance!r}; expected a positive number, or None to do all iterations")
        if noise is not None:
            noise = np.asarray(noise, dtype=np.float64)
            if noise.ndim > 1 or not np.isfinite(noise).all() or (noise < 0).any():
                raise ValueError(
                    f"`noise` is {noise!r}; expected the norm of the noise over that of the data, one number or one per channel"
                )
        self._tolerance, self._noise = tolerance, noise

    def reached(self, iterate, history: list[dict]) -> str | None:
        """Return "tolerance" or "discrepancy" where the run should end, given the residuals of all iterations so far."""
        if self._noise is not None and self._at_noise(iterate, history[-1]["eds"]):
            return "discrepancy"
        if self._tolerance is not None and _change(history) < self._tolerance:
            return "tolerance"
        return None

    def _at_noise(self, iterate, residuals: np.ndarray) -> bool:
        """Hold the channels whose residual is down to the noise, and say whether that is all of them."""
        if self._noise.ndim and self._noise.shape != residuals.shape:
            raise ValueError(
                f"`noise` has the shape {self._noise.shape}; expected one number or {residuals.shape}, one per channel"
            )
        there = residuals <= self._noise
        if iterate.separate:
            iterate.hold(there)
        return bool(there.all())


def _change(history: list[dict]) -> float:
    """Return the largest change of a relative residual in the last iteration."""
    if len(history) < 2:
        return np.inf
    return max(
        np.max(np.abs(np.subtract(history[-1][name], history[-2][name]))) for name in ("eds", "haadf") if name in history[-1]
    )


def counting_noise(projections: ArrayLike, variances: ArrayLike | None = None, *, gains: ArrayLike | None = None) -> np.ndarray:
    """Return the norm of the counting noise over that of the data, per channel, for the `noise` of `run`.

    Parameters
    ----------
    projections : array_like (channel, tilt, x, y) or (tilt, x, y)
        Counts as they were recorded, neither smoothed nor scaled; or net counts, with `variances`.
    variances : array_like, optional
        Variance of each value, of the same shape or broadcast to it. By default the counts themselves: those of a Poisson process
        have the variance of their mean. For net counts, the gross counts in the window over the square of the window's share.
    gains : array_like (tilt,) or (channel, tilt), optional
        Of the projections: tilts of gain 0 are left out.

    Returns
    -------
    numpy.ndarray (channel,)
        sqrt(sum of variances)/|b|; 0 where the data are 0. Above 1 where the data are nothing but noise.

    Raises
    ------
    ValueError
        For negative variances, or net counts without `variances`.

    Notes
    -----
    V. A. Morozov's principle: a solution that explains the data better than their noise allows explains the noise. With sums over
    many pixels the sum of the counts stands for that of their means even where single pixels have few.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(100, (1, 5, 32, 32))
    >>> counting_noise(counts).round(2)
    array([0.1])
    """
    data = np.asarray(projections, dtype=np.float32)
    data = data[None] if data.ndim == 3 else data
    if data.ndim != 4:
        raise ValueError(f"`projections` has the shape {data.shape}; expected (channel, tilt, x, y) or (tilt, x, y)")
    variances = data if variances is None else np.broadcast_to(np.asarray(variances, dtype=np.float32), data.shape)
    if variances.min() < 0:
        raise ValueError("counts, or their variances, must not be negative; for net counts pass `variances`, the gross counts")
    live = np.ones(data.shape[:2]) if gains is None else np.broadcast_to(np.asarray(gains) > 0, data.shape[:2])
    squares = (live * np.einsum("ctxy,ctxy->ct", data, data, dtype=np.float64)).sum(axis=1)
    noise = (live * variances.sum(axis=(2, 3), dtype=np.float64)).sum(axis=1)
    return np.sqrt(noise / np.where(squares > 0, squares, np.inf))


def image_noise(projections: ArrayLike, sigma: float | None = None) -> float:
    """Return the norm of the noise of images over that of the images, for the `noise` of `run`.

    Parameters
    ----------
    projections : array_like (tilt, x, y)
        HAADF images.
    sigma : float, optional
        Standard deviation of the noise in each pixel. By default it is estimated in each image, from the median of its finest
        diagonal (Haar) wavelet coefficients, for noise that is independent from pixel to pixel.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If sigma is not positive, no noise is found, or there is nothing in the images.

    References
    ----------
    D. L. Donoho, I. M. Johnstone, Biometrika 81 (1994) 425, doi:10.1093/biomet/81.3.425.

    Examples
    --------
    >>> images = 10 + np.random.default_rng(0).normal(0, 0.5, (3, 64, 64))
    >>> round(image_noise(images), 2), round(image_noise(images, sigma=0.5), 2)
    (0.05, 0.05)
    """
    images = np.asarray(projections, dtype=np.float32)
    if images.ndim != 3 or not images.any():
        raise ValueError(f"the images have the shape {images.shape}; expected (tilt, x, y), not all zero")
    if sigma is None:
        width, height = (size // 2 * 2 for size in images.shape[1:])
        blocks = images[:, :width, :height].reshape(len(images), width // 2, 2, height // 2, 2)
        detail = (blocks[:, :, 0, :, 0] - blocks[:, :, 1, :, 0] - blocks[:, :, 0, :, 1] + blocks[:, :, 1, :, 1]) / 2
        # The median of the absolute value of a normal variable is 0.6745 of its standard deviation.
        variance = np.mean((np.median(np.abs(detail), axis=(1, 2)) / 0.6745) ** 2)
        if not variance > 0:
            raise ValueError("no noise can be estimated from these images (most of their finest detail is 0); pass its sigma")
    elif not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"`sigma` is {sigma!r}; expected the standard deviation of the noise per pixel, above 0")
    else:
        variance = float(sigma) ** 2
    return float(np.sqrt(variance / np.mean(np.square(images, dtype=np.float64))))
