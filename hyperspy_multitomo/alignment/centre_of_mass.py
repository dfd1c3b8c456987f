# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment by the centre of mass, which moves on a known path if the object is wholly in view."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.series_checks import checked_series
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.tomography.specimen_extent import CLEAR_OUTLINE, NEARLY_ALL, outlined

__all__ = ["centre_of_mass_shifts"]

# Standard deviation, as a fraction of the width of the view, of the prior on the distance of the
# tilt axis from the centre of the view, and of the object from the height of the axis.
AXIS_SPREAD = 0.05


def centre_of_mass_shifts(images: ArrayLike, tilts: ArrayLike) -> Alignment:
    """Put the centre of mass of an object that is wholly in view on the path of a point.

    Along the axis the centre of mass has to stay in place. Across the axis, that of a body at
    (x0, z0) is at a + x0 cos t + z0 sin t. This path is fitted to the measured positions, and the
    images are shifted onto it: every such path is consistent, and the fitted one needs the smallest
    shifts. The tilt axis then lies at a.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Images of the whole object. The median of the rim of each image is subtracted as background,
        and pixels below 5 % of the maximum after smoothing are ignored.
    tilts : array_like (tilt,)
        Degrees, in any order.

    Returns
    -------
    Alignment
        `axis_offset` is a, px. A Gaussian prior draws a and z0 towards 0 where the scatter of the
        shifts leaves them uncertain, e.g. where high tilts are missing.

    Raises
    ------
    ValueError
        For shapes that do not fit, or an image (named by its tilt) without mass.

    References
    ----------
    T. Sanders, M. Prange, C. Akatay, P. Binev, Adv. Struct. Chem. Imaging 1 (2015) 4,
    doi:10.1186/s40679-015-0005-7.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((4, 16, 16)); images[[0, 1, 2, 3], [6, 7, 8, 7], [8, 9, 8, 8]] = 1.0
    >>> centre_of_mass_shifts(images, [-60, -20, 20, 60]).along
    array([ 0.25, -0.75,  0.25,  0.25])
    """
    images, tilts = checked_series(images, tilts)
    x, y = (np.arange(size) - (size - 1) / 2 for size in images.shape[1:])
    centres = np.empty((len(tilts), 2))
    for t, image in enumerate(images):
        image = outlined(image, tilts[t])
        mass = image.sum(dtype=np.float64)
        centres[t] = (
            image.sum(axis=1, dtype=np.float64) @ x / mass,
            image.sum(axis=0, dtype=np.float64) @ y / mass,
        )
    spread = AXIS_SPREAD * images.shape[1]
    offset, path = point_path(centres[:, 0], tilts, axis=spread, height=spread)
    return Alignment(
        path - centres[:, 0], centres[:, 1].mean() - centres[:, 1], offset, tilts=tilts
    )


def point_path(
    positions: np.ndarray, tilts: np.ndarray, *, axis: float = 0.0, height: float = np.inf
) -> tuple[float, np.ndarray]:
    """Fit a + x0 cos t + z0 sin t to positions (tilt,); return a and the fitted positions.

    `axis` and `height` are the standard deviations of Gaussian priors on a and z0 about 0: 0 fixes
    them at 0, infinity leaves them free.
    """
    angles = np.deg2rad(tilts)
    modes = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    free = np.linalg.lstsq(modes, positions, rcond=None)[0]
    surplus = len(tilts) - modes.shape[1]
    scatter = np.sqrt(((positions - modes @ free) ** 2).sum() / surplus) if surplus > 0 else 1.0
    # Maximum a posteriori with a, z0 ~ N(0, expected^2): additional rows, scaled by the scatter as
    # the measurements are.
    expected = np.array([axis, np.inf, height])
    modes = modes * (expected > 0)
    prior = np.diag(np.divide(scatter, expected, out=np.zeros(3), where=expected > 0))
    fitted = np.linalg.lstsq(
        np.vstack([modes, prior]), np.append(positions, np.zeros(3)), rcond=None
    )[0]
    return float(fitted[0] * (axis > 0)), modes @ fitted


def outline_path(
    images: np.ndarray, tilts: np.ndarray, shifts: np.ndarray, rotation: float
) -> tuple[np.ndarray, float]:
    """Return the path of an object's middle across the axis (tilt,), and its radius about that.

    Both are in aligned images, px. The centre of mass gives the axis; the middle of the object is
    that of its outline.
    """
    x, y = (np.arange(size) - (size - 1) / 2 for size in images.shape[1:])
    u = np.cos(rotation) * x[:, None] - np.sin(rotation) * y
    centres, edges = np.empty(len(images)), np.empty((len(images), 2))
    for t, image in enumerate(images):
        mass = outlined(image, tilts[t], CLEAR_OUTLINE)
        centres[t] = (
            float((mass * u).sum(dtype=np.float64) / mass.sum(dtype=np.float64)) + shifts[t]
        )
        edges[t] = np.quantile(u[mass > 0], (1 - NEARLY_ALL, NEARLY_ALL)) + shifts[t]
    _, path = point_path(centres, tilts, axis=np.inf)
    path = path + point_path(edges.mean(axis=1) - path, tilts)[1]
    return path, float(np.abs(edges - path[:, None]).max())
