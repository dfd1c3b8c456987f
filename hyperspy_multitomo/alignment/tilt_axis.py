# SPDX-License-Identifier: GPL-3.0-or-later
"""Position and direction of the tilt axis from aligned images, by the centres of mass of slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.centre_of_mass import point_path
from hyperspy_multitomo.alignment.series_checks import check_features, checked_series
from hyperspy_multitomo.tomography.specimen_extent import in_view, without_film

__all__ = ["TiltAxis", "axis_by_centre_of_mass"]

# Slices with less than this fraction of the largest mass are left out; this many have to remain.
_HEAVY, FEWEST = 0.1, 8
# Pixels below this fraction of the largest value, after smoothing, are empty.
_EMPTY = 0.08


@dataclass(frozen=True)
class TiltAxis:
    """Position and direction of the tilt axis, with standard errors.

    Attributes
    ----------
    offset, offset_error : float
        px across the axis from the middle of the images.
    rotation, rotation_error : float
        In-plane rotation that brings the axis onto y, degrees.
    """

    offset: float
    rotation: float
    offset_error: float
    rotation_error: float


def axis_by_centre_of_mass(images: ArrayLike, tilts: ArrayLike) -> TiltAxis:
    """Find the tilt axis of aligned images: the centre of mass of each slice moves about it.

    In the slice y the centre of mass is at a(y) + x0(y) cos t + z0(y) sin t. The axis is the line
    through the a(y), weighted by the scatter of each slice. This needs an object that is in view
    across the axis, and a wide range of tilts.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Aligned but for the axis: shifts from tilt to tilt would be taken for motion about the axis.
    tilts : array_like (tilt,)
        Degrees.

    Returns
    -------
    TiltAxis

    Raises
    ------
    ValueError
        For fewer than five tilts, an object that is not in view across the axis, and fewer than
        eight slices with mass.

    References
    ----------
    S. G. Azevedo, D. J. Schneberk, J. P. Fitch, H. E. Martz, IEEE Trans. Nucl. Sci. 37 (1990) 1525,
    doi:10.1109/23.55866.

    Examples
    --------
    >>> from hyperspy_multitomo.simulation import misaligned
    >>> series = misaligned("needle", shift=0, axis_offset=2.0, rotation=-1.0, noise=0.0, size=64)
    >>> axis = axis_by_centre_of_mass(series.haadf, series.tilts)
    >>> round(axis.offset), round(axis.rotation)
    (2, -1)
    """
    from scipy.ndimage import gaussian_filter

    images, tilts = checked_series(images, tilts, fewest=5)
    check_features(images, tilts)
    if not in_view(images, "across"):
        raise ValueError(
            "the object is not wholly in view across the axis, so that its centres of mass say "
            "nothing of it; use method='refine'"
        )
    images = without_film(images)
    smooth = gaussian_filter(images, (0, 1, 1))
    images = np.where(smooth > _EMPTY * smooth.max(), images, 0)
    x, y = (np.arange(size) - (size - 1) / 2 for size in images.shape[1:])
    mass = images.sum(axis=1, dtype=np.float64)
    heavy = mass.min(axis=0) > _HEAVY * mass.max()
    if heavy.sum() < FEWEST:
        raise ValueError(
            f"{heavy.sum()} slices have mass at every tilt; at least {FEWEST} are needed to find "
            "the axis: give more slices"
        )
    centres = np.einsum("txy,x->ty", images, x, dtype=np.float64)[:, heavy] / mass[:, heavy]
    offsets, scatter = [], []
    for column in centres.T:
        offset, path = point_path(column, tilts, axis=np.inf)
        offsets.append(offset)
        scatter.append(np.sqrt(np.mean((column - path) ** 2)) + 1e-3)
    weights = 1 / np.array(scatter)
    line, spread = np.polyfit(y[heavy], offsets, 1, w=weights, cov=True)
    slope_error, offset_error = np.sqrt(np.diag(spread))
    # The axis is x = offset + slope y as recorded; this rotation makes it parallel to y.
    return TiltAxis(
        float(line[1]),
        float(np.rad2deg(np.arctan(line[0]))),
        float(offset_error),
        float(np.rad2deg(slope_error)),
    )
