# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels of a projection, and which voxels of a volume, are specimen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["particle_mask", "specimen_mask"]


def particle_mask(total: ArrayLike, method: str | float | ArrayLike = "otsu") -> np.ndarray:
    """
    Tell the voxels of the particle from the empty ones around it.

    Parameters
    ----------
    total : array_like (z, x, y), or of any shape
        Sum over the elements of the reconstructed signal (weighted or not), in any unit.
    method : "otsu", float or array_like of bool, default "otsu"
        ``"otsu"`` parts the histogram of `total` in two classes of least variance; a number is a threshold in the unit of
        `total`, itself outside the particle; a boolean array of the shape of `total` is returned as it is.

    Returns
    -------
    numpy.ndarray of bool
        True inside the particle; the shape of `total`.

    Raises
    ------
    ValueError
        If nothing in `total` is positive, if it is not finite, if the threshold leaves no voxel or the mask is of another shape.

    References
    ----------
    N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076.

    Examples
    --------
    >>> import numpy as np
    >>> particle_mask(np.array([0.0, 0.1, 5.0, 6.0]))
    array([False, False,  True,  True])
    """
    total = np.asarray(total)
    if not np.isfinite(total).all():
        raise ValueError("the volume holds NaN or infinite values; mask or repair them before thresholding")
    if total.size == 0 or total.max() <= 0:
        raise ValueError("nothing in the volume is positive, so there is no particle to find; was the reconstruction run?")
    if isinstance(method, str):
        if method != "otsu":
            raise ValueError(f"unknown threshold method {method!r}; use 'otsu', a number or a boolean mask")
        inside = total > _otsu(total)
    elif np.ndim(method) == 0 and not isinstance(method, bool | np.bool_):
        inside = total > float(method)
    else:
        inside = np.asarray(method)
        if inside.dtype != bool or inside.shape != total.shape:
            raise ValueError(
                f"the mask is {inside.dtype} of shape {inside.shape}; it has to be bool of the volume's shape {total.shape}"
            )
    if not inside.any():
        raise ValueError("the mask leaves no voxel inside the particle; lower the threshold or give another mask")
    return inside


def specimen_mask(haadf: ArrayLike, fraction: float = 0.05) -> np.ndarray:
    """
    Choose generously the pixels that hold specimen: all but the background.

    A pixel counts if its HAADF signal, smoothed by one pixel, exceeds `fraction` of the 99th percentile of the whole series. One
    level for all tilts, far below what Otsu's method would choose: a lamella that fills the view keeps every pixel, its thin
    or light regions too. The HAADF has to be near zero in vacuum: take off an offset of the detector before.

    Parameters
    ----------
    haadf : array_like (tilt, x, y)
        HAADF projections, zero in vacuum.
    fraction : float, default 0.05
        Level as a part of the 99th percentile, between 0 and 1.

    Returns
    -------
    numpy.ndarray of bool (tilt, x, y)

    Raises
    ------
    ValueError
        If no pixel is positive, or if `fraction` is outside (0, 1).

    References
    ----------
    The level is the one at which R. Huber et al., Nanoscale 11 (2019) 5617, doi:10.1039/C8NR09058K, set the background to zero.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((1, 7, 7)); image[0, :3] = 10.0
    >>> specimen_mask(image)[0, :, 0]
    array([ True,  True,  True,  True,  True, False, False])
    """
    from scipy.ndimage import gaussian_filter

    haadf = np.asarray(haadf)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it has to lie between 0 and 1")
    level = fraction * np.percentile(haadf, 99)
    if level <= 0:
        # A small particle in a wide field: fewer than 1 % of the pixels are specimen.
        level = fraction * haadf.max()
    if level <= 0:
        raise ValueError("no pixel of the HAADF series is positive, so there is no specimen to find")
    smooth = gaussian_filter(haadf.astype(np.float32, copy=False), (0, *([1.0] * (haadf.ndim - 1))))
    return smooth > level


def _otsu(values: np.ndarray) -> float:
    from skimage.filters import threshold_otsu

    # Flat: an axis of three or four would be taken for colours.
    return float(threshold_otsu(values.ravel())) if values.min() < values.max() else float(values.min()) - 1.0
