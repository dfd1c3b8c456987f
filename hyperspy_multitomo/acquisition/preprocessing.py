# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tilt series tells about itself before the reconstruction: gains per tilt, and whether the object is wholly in view."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["eds_gains", "gain_from_means", "wholly_in_view"]

# Width of the rim that has to be empty, as a part of the image's side.
RIM = 0.03


def wholly_in_view(images: ArrayLike, *, sides: Literal["both", "across", "along"] = "both", tolerance: float = 0.05) -> bool:
    """
    Tell whether the object lies inside the view at every tilt.

    It does if the mean signal in the rim of every image, above the background of the series (the 1st percentile), is
    small against the bright parts (the 99th).

    Parameters
    ----------
    images : array_like (tilt, x, y)
        HAADF images, or maps summed over the elements.
    sides : "both", "across" or "along", default "both"
        Which sides of the view to look at: those that end x (across the tilt axis), those that end y, or all four. A needle
        along the tilt axis is in view across it.
    tolerance : float, default 0.05
        Largest mean signal in the rim, as a part of the 99th percentile of the series.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        For images that are not (tilt, x, y) or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((3, 20, 20)); images[:, 5:15] = 1.0
    >>> wholly_in_view(images), wholly_in_view(images, sides="across")
    (False, True)
    """
    from scipy.ndimage import gaussian_filter

    images = _checked_images(images)
    if sides not in ("both", "across", "along"):
        raise ValueError(f"unknown sides {sides!r}; use 'both', 'across' or 'along'")
    # Smoothed, so that the background is not taken for what its noise reaches down to.
    smooth = gaussian_filter(images.astype(np.float32), (0, 2, 2))
    floor, ceiling = np.percentile(smooth, (1, 99))
    if ceiling <= floor:
        floor, ceiling = smooth.min(), smooth.max()
    if ceiling == floor:
        return False
    width, height = (max(1, round(RIM * size)) for size in images.shape[1:])
    rims = {
        "across": (images[:, :width], images[:, -width:]),
        "along": (images[:, :, :height], images[:, :, -height:]),
    }
    looked_at = [rim for side, pair in rims.items() if sides in (side, "both") for rim in pair]
    brightest = max(rim.mean(axis=(1, 2), dtype=np.float64).max() for rim in looked_at)
    return bool(brightest - floor <= tolerance * (ceiling - floor))


def gain_from_means(projections: ArrayLike, tilts: ArrayLike, model: Literal["constant", "lamella"] = "constant") -> np.ndarray:
    """
    Estimate the gain of every tilt from the mean of its image against the expected one.

    The data are not touched: the gains belong into the forward model, projection = gain x (W x).

    Parameters
    ----------
    projections : array_like (tilt, x, y) or (channel, tilt, x, y)
        Counts or HAADF signal, background taken off.
    tilts : array_like (tilt,)
        Degrees.
    model : "constant" or "lamella", default "constant"
        What the mean should be: the same at every tilt, for an object that is wholly in view; or proportional to 1/cos t, the
        path through a lamella that fills the view.

    Returns
    -------
    numpy.ndarray (tilt,) or (channel, tilt)
        Gains of mean 1.

    Raises
    ------
    ValueError
        If numbers of tilts differ, a mean is not positive, or a lamella stands on edge (beyond 85 degrees).

    References
    ----------
    The constant mean is the scaling of R. Huber et al., Nanoscale 11 (2019) 5617, doi:10.1039/C8NR09058K.

    Examples
    --------
    >>> import numpy as np
    >>> projections = np.ones((3, 4, 4)) * np.array([2.0, 4.0, 6.0])[:, None, None]
    >>> gain_from_means(projections, [-10, 0, 10])
    array([0.5, 1. , 1.5])
    """
    projections = np.asarray(projections)
    if projections.ndim not in (3, 4):
        raise ValueError(f"the projections have shape {projections.shape}; expected (tilt, x, y) or (channel, tilt, x, y)")
    expected = _expected_means(_checked_tilts(tilts, projections.shape[-3]), model)
    means = projections.mean(axis=(-2, -1), dtype=np.float64)
    if not (np.isfinite(means).all() and (means > 0).all()):
        raise ValueError("some images have a mean that is not positive and finite; leave these tilts out or repair them")
    gains = means / expected
    return gains / gains.mean(axis=-1, keepdims=True)


def eds_gains(
    maps: ArrayLike,
    haadf: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    haadf_gains: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> np.ndarray:
    """
    Estimate the shadowing gain of the EDS of every tilt: its counts against the HAADF signal of the same pixels.

    g_t is proportional to sum_e w_e p_e,t / h_t, sums over the pixels. It holds for a truncated view too, because both see the
    same mass. With the response ratios as weights it is exact for any composition; with equal weights, those of the most
    likely common gain of Poisson counts, it takes the composition in view to be the same at all tilts.

    Parameters
    ----------
    maps : array_like (channel, tilt, x, y)
        Net counts.
    haadf : array_like (tilt, x, y)
        HAADF at the same tilts and pixels, zero in vacuum.
    weights : array_like (channel,), optional
        Non-negative; best the response ratios. 0 leaves out an element that comes from the holder or the grid. By default 1.
    haadf_gains : array_like (tilt,), optional
        Gains of the HAADF, divided out; 1 if not given.
    mask : array_like of bool (tilt, x, y), optional
        Pixels to sum over; all by default.

    Returns
    -------
    numpy.ndarray (tilt,)
        Gains of mean 1, the same for all elements: at low energies shadowing is never exactly so.

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
    maps, haadf = np.asarray(maps), _checked_images(haadf)
    if maps.ndim != 4 or maps.shape[1:] != haadf.shape:
        raise ValueError(
            f"the maps have shape {maps.shape} and the HAADF {haadf.shape}; expected (channel, tilt, x, y) and (tilt, x, y) alike"
        )
    weights = np.ones(len(maps)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(maps),) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise ValueError(f"the weights are {weights}; expected {len(maps)} that are >= 0 and not all 0")
    where = np.ones(haadf.shape, bool) if mask is None else np.asarray(mask)
    if where.dtype != bool or where.shape != haadf.shape:
        raise ValueError(f"the mask is {where.dtype} of shape {where.shape}; expected bool of shape {haadf.shape}")
    counts = weights @ np.sum(maps, axis=(-2, -1), dtype=np.float64, where=where)
    signal = haadf.sum(axis=(1, 2), dtype=np.float64, where=where)
    if haadf_gains is not None:
        signal = signal / np.asarray(haadf_gains, dtype=np.float64)
    if not (np.isfinite(counts).all() and counts.min() > 0 and np.isfinite(signal).all() and signal.min() > 0):
        raise ValueError("a tilt has no positive sum of counts or of HAADF signal, so that it has no gain; leave it out")
    gains = counts / signal
    return gains / gains.mean()


def _checked_images(images: ArrayLike) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 3 or images.size == 0:
        raise ValueError(f"the images have shape {images.shape}; expected (tilt, x, y)")
    if not np.isfinite(images).all():
        raise ValueError("the images hold NaN or infinite values; repair or leave out those tilts")
    return images


def _checked_tilts(tilts: ArrayLike, number: int) -> np.ndarray:
    tilts = np.asarray(tilts, dtype=np.float64)
    if tilts.shape != (number,) or not np.isfinite(tilts).all():
        raise ValueError(f"`tilts` has the shape {tilts.shape} for {number} projections; pass one finite angle per projection")
    return tilts


def _expected_means(tilts: np.ndarray, model: str) -> np.ndarray:
    """Return the expected mean of each tilt, up to a common factor."""
    if model == "constant":
        return np.ones(len(tilts))
    if model != "lamella":
        raise ValueError(f"unknown model {model!r}; use 'constant' (wholly in view) or 'lamella' (fills the view)")
    cosines = np.cos(np.deg2rad(tilts))
    if cosines.min() < np.cos(np.deg2rad(85)):
        raise ValueError("a lamella beyond 85 degrees has no defined thickness; leave those tilts out or use model='constant'")
    return 1 / cosines
