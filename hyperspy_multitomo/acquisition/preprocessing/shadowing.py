# SPDX-License-Identifier: GPL-3.0-or-later
"""The shadowing gain of EDS: its counts relative to the HAADF signal at the same tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.preprocessing.gains import fit_gains
from hyperspy_multitomo.acquisition.preprocessing.image_checks import checked_images

__all__ = ["eds_gains"]


def eds_gains(
    maps: ArrayLike,
    haadf: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    haadf_gains: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    per_element: bool = False,
) -> np.ndarray:
    """
    Estimate the shadowing gain of EDS at every tilt: counts over HAADF signal of the same pixels.

    g_t is proportional to sum_e w_e p_e,t / h_t, sums over the pixels. It holds for a truncated
    view, too, because both signals come from the same mass. With the response ratios as weights it
    is exact for any composition. Equal weights, the maximum-likelihood ones for a common gain of
    Poisson counts, assume the same composition in view at all tilts.

    Parameters
    ----------
    maps : array_like (channel, tilt, x, y)
        Net counts.
    haadf : array_like (tilt, x, y)
        HAADF at the same tilts and pixels, zero in vacuum.
    weights : array_like (channel,), optional
        Not negative; best the response ratios. 0 leaves out an element of the holder or the grid.
        By default 1.
    haadf_gains : array_like (tilt,), optional
        Gains of the HAADF, divided out; 1 by default.
    mask : array_like of bool (tilt, x, y), optional
        Pixels to sum over; all by default.
    per_element : bool, default False
        One gain for each element and tilt. This assumes the same composition in view at all tilts;
        a change of it is taken for shadowing. `weights` are not used.

    Returns
    -------
    numpy.ndarray (tilt,) or (channel, tilt)
        Gains of mean 1 over the tilts. A common gain of all elements is never exact: soft X-rays
        are shadowed and absorbed more.

    Raises
    ------
    ValueError
        For shapes that do not fit, bad weights, or a tilt without signal.

    Examples
    --------
    >>> import numpy as np
    >>> haadf = np.full((3, 4, 4), 10.0)
    >>> maps = np.full((2, 3, 4, 4), 3.0) * np.array([0.5, 1.0, 1.5])[:, None, None]
    >>> eds_gains(maps, haadf)
    array([0.5, 1. , 1.5])
    """
    maps, haadf = np.asarray(maps), checked_images(haadf)
    if maps.ndim != 4 or maps.shape[1:] != haadf.shape:
        raise ValueError(
            f"the maps have shape {maps.shape} and the HAADF {haadf.shape}; expected (channel, "
            "tilt, x, y) and (tilt, x, y) alike"
        )
    where = np.ones(haadf.shape, bool) if mask is None else np.asarray(mask)
    if where.dtype != bool or where.shape != haadf.shape:
        raise ValueError(
            f"the mask is {where.dtype} of shape {where.shape}; expected bool of shape "
            f"{haadf.shape}"
        )
    counts = maps.sum(axis=(-2, -1), dtype=np.float64, where=where)
    counts = counts if per_element else weighted_sum(counts, weights)
    signal = haadf.sum(axis=(1, 2), dtype=np.float64, where=where)
    if haadf_gains is not None:
        signal = signal / np.asarray(haadf_gains, dtype=np.float64)
    if not (
        np.isfinite(counts).all()
        and counts.min() > 0
        and np.isfinite(signal).all()
        and signal.min() > 0
    ):
        raise ValueError(
            "a tilt has no positive sum of counts or of HAADF signal, so that it has no gain; "
            "leave it out"
        )
    return fit_gains(counts, signal, np.arange(len(signal)))[0]


def weighted_sum(counts: np.ndarray, weights: ArrayLike | None, power: int = 1) -> np.ndarray:
    """
    Return the weighted sum over the elements of counts or of their variances.

    Parameters
    ----------
    counts : numpy.ndarray (channel, tilt)
        Counts, or variances.
    weights : array_like (channel,) or None
        None for 1 each.
    power : int, default 1
        Power of the weights: 2 for variances.

    Returns
    -------
    numpy.ndarray (tilt,)

    Raises
    ------
    ValueError
        If the weights are of another number, negative or all 0.

    Examples
    --------
    >>> import numpy as np
    >>> weighted_sum(np.array([[1.0, 2.0], [3.0, 4.0]]), [1, 10])
    array([31., 42.])
    """
    weights = np.ones(len(counts)) if weights is None else np.asarray(weights, dtype=np.float64)
    if (
        weights.shape != (len(counts),)
        or not np.isfinite(weights).all()
        or weights.min() < 0
        or weights.max() == 0
    ):
        raise ValueError(
            f"the weights are {weights}; expected {len(counts)} that are >= 0 and not all 0"
        )
    return weights**power @ counts
