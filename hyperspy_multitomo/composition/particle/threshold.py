# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of the specimen: pixels of projections, and voxels of a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo import parameters
from hyperspy_multitomo.composition.dask_blocks import as_array
from hyperspy_multitomo.composition.particle.edge_spread import (
    checked_total,
    search_threshold,
    table_of,
)
from hyperspy_multitomo.composition.particle.value_table import ValueTable, threshold_between_values
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn

__all__ = ["particle_mask", "specimen_mask"]

# Bins in which the values below Otsu's threshold are counted, and how much more a later bin holds
# than an earlier one where matter is told from vacuum there: 1.4 times in the dust particle of
# docs/datasets.md, beside a strap of platinum.
_BINS, _RISE = 16, 1.2


def particle_mask(total: ArrayLike, method: str | float | ArrayLike = "auto") -> np.ndarray:
    """Return the mask of the particle in a volume.

    Parameters
    ----------
    total : array_like (z, x, y), or of any shape
        Sum over the elements of the reconstructed signal, best of X_e/f_e, counts over response: 0
        in vacuum, in any unit. NumPy or dask.
    method : "auto", "esf", "otsu", float or array_like of bool, default "auto"
        ``"esf"`` is the threshold of the edge-spread function, on which the particle's volume
        depends least; a noisy volume is first filtered by a median (see
        `hyperspy_multitomo.composition.particle.edge_spread.edge_spread`). ``"otsu"`` divides the
        histogram of `total` into two classes of least variance. ``"auto"`` is ``"esf"`` where that
        is unambiguous, else ``"otsu"`` with a warning, below the heaviest part where what is not in
        that has a second peak in the histogram. A number is a threshold in the unit of
        `total`: voxels above it are inside. A boolean array of the shape of `total` is returned
        unchanged.

    Returns
    -------
    array of bool
        True inside the particle; of the shape of `total`, and a dask array if that is one.

    Raises
    ------
    ValueError
        If `total` has no positive voxel or is not finite, if ``"esf"`` is ambiguous, if the
        threshold is not a number from 0 up or leaves no voxel, or if the mask has another shape.
        With a number, the values of a dask array are not checked.

    Warns
    -----
    UserWarning
        If ``"auto"`` uses Otsu's threshold, if that is below 0 (negative voxels are then taken as
        0), and if all voxels are equal.

    Notes
    -----
    A dask array is read block by block, two or three times for ``"esf"`` and ``"auto"``, once for
    ``"otsu"``. The threshold is the same as for NumPy arrays, because both use a table of the
    values, rounded to 14 bits (relative error 6e-5).

    References
    ----------
    Y. Yuan et al., Ultramicroscopy 220 (2021) 113166 (edge-spread function).
    N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076.

    Examples
    --------
    >>> import numpy as np
    >>> particle_mask(np.array([0.0, 0.1, 5.0, 6.0]))
    array([False, False,  True,  True])
    >>> particle_mask(np.array([0.0, 0.1, 5.0, 6.0]), 5.0)
    array([False, False, False,  True])
    """
    return mask_and_voxels(total, method)[0]


def mask_and_voxels(
    total: ArrayLike, method: str | float | ArrayLike = "auto"
) -> tuple[np.ndarray, int | None]:
    """Return the mask and its number of voxels.

    That is None where it would need another pass over a dask array.
    """
    volume = checked_total(total)
    if isinstance(method, str):
        if method not in ("auto", "esf", "otsu"):
            raise ValueError(
                f"unknown threshold method {method!r}; use 'auto', 'esf', 'otsu', a number or a "
                "boolean mask"
            )
        return (
            _above_otsu(volume, table_of(volume))
            if method == "otsu"
            else _above_edge_spread(volume, method == "auto")
        )
    if np.ndim(method) == 0 and not isinstance(method, bool | np.bool_):
        expected = "a number from 0 up, 'auto', 'esf', 'otsu', or a boolean mask"
        level = parameters.number("threshold", method, expected)
        if level < 0:
            raise ValueError(f"threshold={method!r} must be {expected}: the vacuum is 0")
        inside = volume > level
    else:
        inside = as_array(method)
        if inside.dtype != bool or inside.shape != volume.shape:
            raise ValueError(
                f"the mask is {inside.dtype} of shape {inside.shape}; it has to be bool of the "
                f"volume's shape {volume.shape}"
            )
    if is_lazy(inside):
        return inside, None
    voxels = int(np.count_nonzero(inside))
    if voxels == 0:
        raise ValueError(
            "the mask leaves no voxel inside the particle; lower the threshold or give another mask"
        )
    return inside, voxels


def specimen_mask(haadf: ArrayLike, fraction: float = 0.05) -> np.ndarray:
    """Return a generous mask of the specimen in projections: all pixels but the background.

    A pixel is inside if its HAADF signal, smoothed by one pixel, exceeds `fraction` of the 99th
    percentile of the whole series. The level is the same for all tilts and far below Otsu's: of a
    lamella that fills the view every pixel is inside, also thin or light regions. The HAADF has to
    be near zero in vacuum: subtract an offset of the detector first.

    Parameters
    ----------
    haadf : array_like (tilt, x, y)
        HAADF projections, zero in vacuum.
    fraction : float, default 0.05
        Level as a fraction of the 99th percentile, between 0 and 1.

    Returns
    -------
    numpy.ndarray of bool (tilt, x, y)

    Raises
    ------
    ValueError
        If no pixel is positive, a value is not finite, or `fraction` is outside (0, 1).

    References
    ----------
    R. Huber et al., Nanoscale 11 (2019) 5617, doi:10.1039/C8NR09058K, set the background to zero
    below the same level.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((1, 7, 7)); image[0, :3] = 10.0
    >>> specimen_mask(image)[0, :, 0]
    array([ True,  True,  True,  True,  True, False, False])
    """
    from scipy.ndimage import gaussian_filter

    haadf = np.asarray(haadf)
    fraction = parameters.fraction("fraction", fraction)
    bad = haadf.size - np.count_nonzero(np.isfinite(haadf))
    if bad:
        raise ValueError(
            f"the HAADF holds {bad} NaN or infinite values of {haadf.size}; replace them, or leave "
            "out those tilts"
        )
    level = fraction * np.percentile(haadf, 99)
    if level <= 0:
        # A small particle in a wide field: fewer than 1 % of the pixels are specimen.
        level = fraction * haadf.max()
    if level <= 0:
        raise ValueError(
            "no pixel of the HAADF series is positive, so there is no specimen to find"
        )
    smooth = gaussian_filter(haadf.astype(np.float32, copy=False), (0, *([1.0] * (haadf.ndim - 1))))
    return smooth > level


def _above_edge_spread(total, otherwise_otsu: bool) -> tuple[np.ndarray, int]:
    found = search_threshold(total)
    curve = found.curve
    if not curve.ambiguous:
        return found.volume > curve.value, found.table.above(curve.value).size
    if not otherwise_otsu:
        raise ValueError(
            f"the edge-spread threshold is ambiguous: {curve.ambiguous}; pass a number, 'otsu' or "
            "a mask"
        )
    level, remark = _lowest_otsu_level(found.plain)
    warn(
        f"the particle's threshold is Otsu's, {level:.4g}{remark and f' ({remark})'}, since the "
        "edge-spread function's is "
        f"ambiguous: {curve.ambiguous}; look at the mask, and pass a number, 'otsu' or a mask"
    )
    return _above(total, found.plain, level)


def _lowest_otsu_level(table: ValueTable) -> tuple[float, str]:
    """Return Otsu's threshold and a remark or "", below all matter where a part is much heavier.

    Beside a strap or grains of a heavy element Otsu's threshold is that of these alone. If there
    is a second peak of the histogram below it, and as much in it as above, the lower threshold is
    that of the specimen.
    """
    level, remark = otsu_level(table)
    below = table.without_negatives().up_to(level)
    if below.size == 0 or below.low == below.high:
        return level, remark
    lower = below.otsu()
    counts, edges = np.histogram(below.values, _BINS, (0, level), weights=below.counts)
    first, later = counts[edges[1:] <= lower], counts[edges[:-1] >= lower]
    rises = first.size > 0 and later.size > 0 and later.max() > _RISE * first.min()
    if not rises or below.above(lower).size < table.above(level).size:
        return level, remark
    return lower, f"what is above {level:.4g} is much heavier, and belongs to it"


def _above_otsu(total, table: ValueTable) -> tuple[np.ndarray, int]:
    level, remark = otsu_level(table)
    if remark:
        warn(
            f"the particle's threshold is Otsu's, {level:.4g}: {remark}; look at the mask, and "
            "pass a number, 'esf' or a mask"
        )
    return _above(total, table, level)


def _above(total, table: ValueTable, level: float) -> tuple[np.ndarray, int]:
    level = threshold_between_values(level)
    return total > level, table.above(level).size


def otsu_level(table: ValueTable) -> tuple[float, str]:
    """Return Otsu's threshold of values of which some are positive, and a remark or "".

    A threshold below 0, the level of the vacuum, would only separate negative voxels: then these
    are taken as 0.
    """
    if table.low == table.high:
        return 0.0, f"all voxels are {table.high:.4g}, so that all of them count as particle"
    level = table.otsu()
    if level > 0:
        return level, ""
    above = table.without_negatives()
    if above.low == above.high:
        return 0.0, f"all voxels are {table.high:.4g}, so that all of them count as particle"
    return (
        above.otsu(),
        f"of the volume itself it is {level:.4g}, not above the vacuum's 0, so that negative "
        "voxels count as 0",
    )
