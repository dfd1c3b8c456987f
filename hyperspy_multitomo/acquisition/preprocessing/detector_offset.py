# SPDX-License-Identifier: GPL-3.0-or-later
"""The HAADF signal beside the object: the detector's offset, and a film that goes as 1/cos t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.preprocessing.image_checks import STEEPEST, tilts_of_projections

__all__ = ["BackgroundLevel", "background_level", "fit_background"]

# Standard deviation (px) of the Gaussian that smooths the images, and the number of bins of the
# histogram whose lowest peak is searched.
_SMOOTHING, _BINS = 2.0, 128
# Least prominence of that peak, as a fraction of the highest: lower ones are noise. All three are
# tested on particles in tests/test_preprocessing.py.
_LEAST_PEAK = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class BackgroundLevel:
    """
    The level beside the object at every tilt, and its fit by ``offset + film / cos t``.

    Attributes
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    levels : numpy.ndarray (tilt,)
        Measured level, HAADF signal.
    offset, film : float
        The detector's constant, and the film's signal at tilt 0.
    offset_error, film_error : float
        Standard errors from the scatter about the fit. At small tilts offset and film are hard to
        separate: see `correlation`.
    correlation : float
        Correlation of the errors of `offset` and `film`, -1 to 1; near -1 only their sum is known.
    gains : numpy.ndarray (tilt,)
        Gains of the images, which multiply the film; 1 by default.
    """

    tilts: np.ndarray
    levels: np.ndarray
    offset: float
    film: float
    offset_error: float
    film_error: float
    correlation: float
    gains: np.ndarray

    @property
    def film_levels(self) -> np.ndarray:
        """Signal of the film at every tilt, (tilt,)."""
        return self.gains * self.film / np.cos(np.deg2rad(self.tilts))

    @property
    def residuals(self) -> np.ndarray:
        """Measured level less the fitted one, (tilt,)."""
        return self.levels - self.offset - self.film_levels

    def __repr__(self) -> str:
        return (
            f"offset {self.offset:.4g} ± {self.offset_error:.2g}, film {self.film:.4g} ± "
            f"{self.film_error:.2g} at tilt 0, scatter {np.sqrt(np.mean(self.residuals**2)):.2g}, "
            f"correlation of the two {self.correlation:.3f}"
        )


def background_level(image: ArrayLike, mask: ArrayLike | None = None) -> float:
    """
    Return the signal of an image beside the object.

    Parameters
    ----------
    image : array_like (x, y)
        HAADF.
    mask : array_like of bool (x, y), optional
        Pixels without object, whose mean is the level. By default the level is the lowest peak in
        the histogram of the smoothed image; some ten per cent of the pixels have to belong to it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the mask is empty, or the image is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(100, 5, (64, 64)); image[20:40, 10:50] += 300
    >>> 99 < background_level(image) < 101
    True
    """
    from scipy.ndimage import gaussian_filter
    from scipy.signal import find_peaks

    image = np.asarray(image, dtype=np.float32)
    if not np.isfinite(image).all():
        raise ValueError("the image holds NaN or infinite values; repair it or leave out that tilt")
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != image.shape or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"the mask is {mask.dtype} of shape {mask.shape} with {np.count_nonzero(mask)} "
                f"pixels; expected bool of the image's shape {image.shape} with at least one pixel"
            )
        return float(image[mask].mean(dtype=np.float64))
    smooth = gaussian_filter(image, _SMOOTHING)
    low, high = np.percentile(smooth, (0.1, 99.9))
    if high <= low:
        return float(np.median(smooth))
    heights, edges = np.histogram(smooth, _BINS, (low, high))
    # Zeros on both sides, so that a maximum in the first bin counts as a peak.
    heights = np.concatenate([[0], gaussian_filter(heights.astype(np.float64), 1.0), [0]])
    peaks, _ = find_peaks(heights, prominence=_LEAST_PEAK * heights.max())
    peak = peaks[0]
    below = np.flatnonzero(heights[:peak] < heights[peak] / 2)[-1]
    step = edges[1] - edges[0]
    level, width = edges[0] + (peak - 0.5) * step, (peak - below) * step
    # The object lies above the peak only: a window that is moved to its mean stays with the peak.
    for _ in range(10):
        level = float(smooth[np.abs(smooth - level) <= width].mean(dtype=np.float64))
    return level


def fit_background(
    levels: ArrayLike, tilts: ArrayLike, *, gains: ArrayLike | None = None, film: bool = True
) -> BackgroundLevel:
    """
    Fit levels beside the object by level = offset + gain * film / cos t.

    Parameters
    ----------
    levels : array_like (tilt,)
        From `background_level`, HAADF signal.
    tilts : array_like (tilt,)
        Degrees.
    gains : array_like (tilt,), optional
        Gains of the images, such as the beam current: they multiply the film but not the offset.
    film : bool, default True
        Whether there is a film; without one the offset is the robust mean of the levels.

    Returns
    -------
    BackgroundLevel

    Raises
    ------
    ValueError
        For fewer than three tilts, levels that are not finite, a film on edge (beyond 85 degrees),
        or tilts so similar that offset and film cannot be separated.

    Notes
    -----
    Least squares with Huber's weights (1.345 times the robust scatter), so that a tilt at which the
    object fills the view has little influence. P. J. Huber, Robust Statistics (1981). The film is
    assumed to be flat, and normal to the beam at tilt 0.

    Examples
    --------
    >>> import numpy as np
    >>> tilts = np.arange(-60, 61, 10)
    >>> fit = fit_background(20 + 7 / np.cos(np.deg2rad(tilts)), tilts)
    >>> round(fit.offset, 6), round(fit.film, 6)
    (20.0, 7.0)
    """
    levels = np.asarray(levels, dtype=np.float64)
    tilts = tilts_of_projections(tilts, levels.size)
    if levels.ndim != 1 or levels.size < 3 or not np.isfinite(levels).all():
        raise ValueError(
            f"the levels have the shape {levels.shape}; expected one finite level for each of "
            "three tilts or more"
        )
    if film and np.abs(tilts).max() > STEEPEST:
        raise ValueError(
            f"a film beyond {STEEPEST:g} degrees stands on edge; leave those tilts out, or pass "
            "film=False"
        )
    gains = np.ones(levels.size) if gains is None else np.asarray(gains, dtype=np.float64)
    columns = [np.ones(levels.size)] + ([gains / np.cos(np.deg2rad(tilts))] if film else [])
    design = np.stack(columns, axis=1)
    if np.linalg.matrix_rank(design, tol=1e-6) < design.shape[1] or np.linalg.cond(design) > 1e5:
        raise ValueError(
            f"the tilts {tilts} hardly differ in 1/cos t: offset and film cannot be told apart; "
            "pass film=False"
        )
    weights = np.ones(levels.size)
    for _ in range(30):
        fitted = np.linalg.lstsq(
            design * np.sqrt(weights)[:, None], levels * np.sqrt(weights), rcond=None
        )[0]
        misfit = levels - design @ fitted
        scatter = 1.4826 * np.median(np.abs(misfit))
        weights = (
            np.ones(levels.size)
            if scatter == 0
            else np.minimum(1, 1.345 * scatter / np.maximum(np.abs(misfit), 1e-300))
        )
    spread = np.sum(weights * misfit**2) / max(1, levels.size - design.shape[1])
    covariance = spread * np.linalg.inv((design.T * weights) @ design)
    errors = np.sqrt(np.diag(covariance))
    return BackgroundLevel(
        tilts=tilts,
        levels=levels,
        offset=float(fitted[0]),
        film=float(fitted[1]) if film else 0.0,
        offset_error=float(errors[0]),
        film_error=float(errors[1]) if film else 0.0,
        correlation=float(covariance[0, 1] / errors.prod()) if film and errors.prod() > 0 else 0.0,
        gains=gains,
    )
