# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping rules: residuals that hardly change, or that are down to the noise of the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.finest_detail import (
    CLASSES,
    MEDIAN,
    SEEING,
    block_detail,
    even_places,
    finest_detail,
    level_classes,
    of_few,
    of_pairs,
    warn_of_structure,
)

# Counts per pixel from which the noise of blocks of 2 x 2 pixels is nearly normal
# (tests/test_stopping.py).
_MANY = 10.0
# Measurements of the objective that have to agree. The primal-dual method oscillates as it
# converges, so that two in a row agree at every turning point: with two, runs of TGV end up to 2 %
# above the minimum at a tolerance of 1e-4, with three 0.2 %.
_ALIKE = 3


class StoppingRule:
    """The rule that `run` applies after every iteration; see there for the parameters."""

    def __init__(self, tolerance: float | None = None, noise: ArrayLike | None = None):
        if tolerance is not None and not tolerance > 0:
            raise ValueError(
                f"`tolerance` is {tolerance!r}; expected a positive number, or None to do all "
                "iterations"
            )
        if noise is not None:
            noise = np.asarray(noise, dtype=np.float64)
            if noise.ndim > 1 or not np.isfinite(noise).all() or (noise < 0).any():
                raise ValueError(
                    f"`noise` is {noise!r}; expected the norm of the noise over that of the data, "
                    "one number or one per channel"
                )
        self._tolerance, self._noise = tolerance, noise

    def reached(self, iterate, history: list[dict]) -> str | None:
        """Return "tolerance" or "discrepancy" if the run should end, given all residuals so far."""
        noise = self._noise
        if noise is not None and _hold_at_noise(iterate, iterate.latest_residuals["eds"], noise):
            return "discrepancy"
        return "tolerance" if self.steady(history) else None

    def steady(self, history: list[dict]) -> bool:
        """Return whether all residuals so far are within the tolerance."""
        return self._tolerance is not None and _change(history) < self._tolerance


def _hold_at_noise(iterate, residuals: np.ndarray, noise: np.ndarray) -> bool:
    """Hold the channels whose residual is down to the noise; return whether all of them are."""
    if noise.ndim and noise.shape != residuals.shape:
        raise ValueError(
            f"`noise` has the shape {noise.shape}; expected one number or "
            f"{residuals.shape}, one per channel"
        )
    there = residuals <= noise
    if iterate.separate:
        iterate.hold(there)
    return bool(there.all())


def _change(history: list[dict]) -> float:
    """Return the largest change of a relative residual, or the relative range of the objective."""
    if len(history) < 2:
        return np.inf
    if "objective" in history[-1]:
        values = [entry["objective"] for entry in history[-_ALIKE:]]
        return (
            np.ptp(values) / max(abs(values[-1]), np.finfo(float).tiny)
            if len(values) == _ALIKE
            else np.inf
        )
    return max(
        np.max(np.abs(np.subtract(history[-1][name], history[-2][name])))
        for name in ("eds", "haadf")
        if name in history[-1]
    )


def counting_noise(
    projections: ArrayLike, variances: ArrayLike | None = None, *, gains: ArrayLike | None = None
) -> np.ndarray:
    """Return the norm of the counting noise over that of the data, for the `noise` of `run`.

    Parameters
    ----------
    projections : array_like (channel, tilt, x, y) or (tilt, x, y)
        Counts as they were recorded, neither smoothed nor scaled; or net counts, with `variances`.
    variances : array_like, optional
        Variance of each value, of the same shape or broadcast to it. By default the counts
        themselves: those of a Poisson process have the variance of their mean. For net counts see
        `net_variance`.
    gains : array_like (tilt,) or (channel, tilt), optional
        Of the projections: tilts of gain 0 are left out.

    Returns
    -------
    numpy.ndarray (channel,)
        sqrt(sum of variances)/|b|; 0 where the data are 0. Above 1 where the data are nothing but
        noise.

    Raises
    ------
    ValueError
        For negative variances, or net counts without `variances`.

    Notes
    -----
    V. A. Morozov's principle: a solution that explains the data better than their noise allows
    explains the noise. With sums over many pixels the sum of the counts stands for that of their
    means even where single pixels have few.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(100, (1, 5, 32, 32))
    >>> counting_noise(counts).round(2)
    array([0.1])
    """
    data = np.asarray(projections, dtype=np.float32)
    data = data[None] if data.ndim == 3 else data
    if data.ndim != 4:
        raise ValueError(
            f"`projections` has the shape {data.shape}; expected (channel, tilt, x, y) or (tilt, "
            "x, y)"
        )
    variances = data if variances is None else np.broadcast_to(np.asarray(variances), data.shape)
    if variances.min() < 0:
        raise ValueError(
            "counts, or their variances, must not be negative; for net counts pass `variances`, "
            "see `net_variance`"
        )
    live = (
        np.ones(data.shape[:2])
        if gains is None
        else np.broadcast_to(np.asarray(gains) > 0, data.shape[:2])
    )
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
        Standard deviation of the noise in each pixel. By default it is estimated in each image,
        from the median of its finest diagonal (Haar) wavelet coefficients, for noise that is
        independent from pixel to pixel.

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
        raise ValueError(
            f"the images have the shape {images.shape}; expected (tilt, x, y), not all zero"
        )
    if sigma is None:
        variance = image_variance(images).mean()
    elif not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(
            f"`sigma` is {sigma!r}; expected the standard deviation of the noise per pixel, above 0"
        )
    else:
        variance = float(sigma) ** 2
    return float(np.sqrt(variance / np.mean(np.square(images, dtype=np.float64))))


def image_variance(images: ArrayLike) -> np.ndarray:
    """Return the variance of the noise in a pixel of each image (tilt,), from the finest detail.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As they were recorded.

    Returns
    -------
    numpy.ndarray (tilt,)
        0 for images that are all zero.

    Raises
    ------
    ValueError
        If the images are not zero but most of their finest detail is.

    Warns
    -----
    UserWarning
        If there are fewer than 32 slices, or pixels across, and their finest detail is that of the
        specimen.

    Notes
    -----
    The finest detail is that of blocks of 2 x 2 pixels, and its median over an image that of the
    noise in half of the pixels. Of fewer than 32 slices it is that of third differences in even
    places, since single blocks across the tilt axis would take slopes for noise, and the variance
    is the mean over four classes of the brightness: that of electrons that are counted, too.

    Examples
    --------
    >>> image_variance(np.random.default_rng(0).normal(0, 3, (1, 64, 64))).round()
    array([9.])
    """
    images = np.asarray(images, dtype=np.float32)
    if of_few(images):
        variances = _variance_of_few(images)
    else:
        variances = (
            np.median(np.square(finest_detail(images), dtype=np.float64), axis=(1, 2)) / MEDIAN
        )
    if images.any() and not variances.any():
        raise ValueError(
            "no noise can be estimated from these images, because most of their finest detail is "
            "0; pass its standard deviation"
        )
    return variances


def _variance_of_few(images: np.ndarray) -> np.ndarray:
    """Return the variance of the noise in a pixel of images of few slices, (tilt,).

    How it goes with the level is found from the even places of all images together, and how noisy
    each is from its own.
    """
    squares, classes, even = (
        np.square(finest_detail(images), dtype=np.float64),
        level_classes(images),
        even_places(images),
    )
    of_level = _by_level(squares, classes, even)
    seen = (
        np.square(finest_detail(images, SEEING), dtype=np.float64),
        level_classes(images, order=SEEING),
    )
    everywhere = [_by_level(*found).mean() for found in ((squares, classes), seen)]
    remedy = "pass its standard deviation per pixel, or more slices"
    warn_of_structure(max(everywhere), of_level.mean(), images.shape[1:], remedy)
    # No darker class is noisier than a brighter one: the edges of the specimen are at levels
    # between.
    local = np.minimum.accumulate(of_level[::-1])[::-1][classes]
    relative = np.where(even & (local > 0), squares / np.where(local > 0, local, 1), np.nan)
    noisy = np.isfinite(relative).any(axis=(1, 2))
    factors = np.ones(len(images))
    factors[noisy] = np.nanmedian(relative[noisy], axis=(1, 2)) / MEDIAN
    # Medians of so few values lie too high.
    return local.mean(axis=(1, 2)) * factors / np.median(factors)


def _by_level(
    squares: np.ndarray, classes: np.ndarray, among: np.ndarray | None = None
) -> np.ndarray:
    """Return the variance of the noise in each class of the level, from its squared detail."""
    among = np.ones(classes.shape, bool) if among is None else among
    chosen = (among & (classes == c) for c in range(CLASSES))
    return np.array(
        [np.median(squares[places]) / MEDIAN if places.any() else 0.0 for places in chosen]
    )


def net_variance(net: ArrayLike, gross: ArrayLike) -> np.ndarray:
    """Measure the variance of the noise in a pixel of maps of net counts, from their finest detail.

    It depends on how the maps were made: subtracting a background that is itself counted adds to
    the variance of the gross counts, a fit to a whole family of lines takes from it. Where there
    are counts enough for a normal law, in blocks of 2 x 2 pixels, the median says how large the
    variance is for each gross count, and keeps edges out; below, the mean does.

    Parameters
    ----------
    net : array_like (channel, tilt, x, y)
        Net counts as they were made, neither smoothed nor resampled.
    gross : array_like (channel, tilt, x, y)
        Counts as recorded, with the background.

    Returns
    -------
    numpy.ndarray (channel, tilt)
        Mean over the pixels.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson([[5.0], [3.0]], (1, 4, 64, 2, 64))
    >>> gross, background = counts.transpose(3, 0, 1, 2, 4)
    >>> net_variance(gross - background, gross).mean().round()
    np.float64(8.0)
    """
    net, gross = np.asarray(net, dtype=np.float32), np.asarray(gross, dtype=np.float32)
    squares = np.square(block_detail(net), dtype=np.float64)
    counts = of_pairs(gross, 1.0, 0.5)
    variances = np.empty(net.shape[:2])
    for place in np.ndindex(variances.shape):
        expected, found = counts[place], squares[place]
        many = expected >= _MANY
        if many.any():
            found = np.where(
                many, expected * np.median(found[many] / expected[many]) / MEDIAN, found
            )
        variances[place] = found.mean()
    return variances
