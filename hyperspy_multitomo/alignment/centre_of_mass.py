# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of the centre of mass, on which an object that is wholly in view has to move."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.series_checks import checked_series
from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["centre_of_mass_shifts"]

# Sigma (px) of the smoothing that outlines an object, and the part of the maximum that does.
SMOOTHING = 2.0
OUTLINE = 0.05
# Expected distance of the tilt axis from the centre of the view, and of the object from the axis's
# height, in views.
SPREAD = 0.05
# For the radius of an object: its outline stands out of noise and film, and so much of it counts.
_CLEAR_OUTLINE, _NEARLY_ALL = 0.1, 0.995


def centre_of_mass_shifts(images: ArrayLike, tilts: ArrayLike) -> Alignment:
    """Put the centre of mass of an object that is wholly in view on the path of a point.

    Along the axis the centre of mass has to stay where it is; across the axis, that of a body at
    (x0, z0) is at a + x0 cos t + z0 sin t. This is fitted to the measured path, and the images are
    moved onto it: every such path is consistent, the fitted one moves the images least. The tilt
    axis then lies at a.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Images of the whole object. The median of the rim of each image is taken off as background,
        and pixels that stay below 5 % of the maximum after smoothing do not count.
    tilts : array_like (tilt,)
        Degrees, in any order.

    Returns
    -------
    Alignment
        `axis_offset` is a, px. Both a and z0 are drawn towards 0 as far as the scatter of the
        shifts hides them, as it does where high tilts are missing.

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
    spread = SPREAD * images.shape[1]
    offset, path = point_path(centres[:, 0], tilts, axis=spread, height=spread)
    return Alignment(
        path - centres[:, 0], centres[:, 1].mean() - centres[:, 1], offset, tilts=tilts
    )


def outlined(image: np.ndarray, tilt: float, level: float = OUTLINE) -> np.ndarray:
    """Return an image less the median of its rim, 0 where it stays below a part of its maximum after smoothing."""
    from scipy.ndimage import gaussian_filter

    image = image - np.median(
        np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    )
    smooth = gaussian_filter(image, SMOOTHING)
    # Far from the axes the noise of empty pixels has the longest lever.
    image = np.where(smooth > level * smooth.max(), image, 0)
    if image.sum(dtype=np.float64) <= 0:
        raise ValueError(
            f"the image at {tilt:g} degrees has no mass above its rim; leave this tilt out"
        )
    return image


def point_path(
    positions: np.ndarray, tilts: np.ndarray, *, axis: float = 0.0, height: float = np.inf
) -> tuple[float, np.ndarray]:
    """Fit a + x0 cos t + z0 sin t to positions (tilt,); return a and the fitted positions.

    `axis` and `height` are how far from 0 a and z0 are expected: 0 fixes them there, infinity
    leaves them free.
    """
    angles = np.deg2rad(tilts)
    modes = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    free = np.linalg.lstsq(modes, positions, rcond=None)[0]
    surplus = len(tilts) - modes.shape[1]
    scatter = np.sqrt(((positions - modes @ free) ** 2).sum() / surplus) if surplus > 0 else 1.0
    # Maximum a posteriori with a, z0 ~ N(0, expected^2): rows of their own, scaled like the
    # measurements by their scatter.
    expected = np.array([axis, np.inf, height])
    modes = modes * (expected > 0)
    held = np.diag(np.divide(scatter, expected, out=np.zeros(3), where=expected > 0))
    fitted = np.linalg.lstsq(
        np.vstack([modes, held]), np.append(positions, np.zeros(3)), rcond=None
    )[0]
    return float(fitted[0] * (axis > 0)), modes @ fitted


def outline_path(
    images: np.ndarray, tilts: np.ndarray, shifts: np.ndarray, rotation: float
) -> tuple[np.ndarray, float]:
    """Return the path of the middle of an object across the axis in images once placed, (tilt,), and its radius about that.

    The centre of mass says where the axis is; the middle of the object is that of its outline.
    """
    x, y = (np.arange(size) - (size - 1) / 2 for size in images.shape[1:])
    u = np.cos(rotation) * x[:, None] - np.sin(rotation) * y
    centres, edges = np.empty(len(images)), np.empty((len(images), 2))
    for t, image in enumerate(images):
        mass = outlined(image, tilts[t], _CLEAR_OUTLINE)
        centres[t] = (
            float((mass * u).sum(dtype=np.float64) / mass.sum(dtype=np.float64)) + shifts[t]
        )
        edges[t] = np.quantile(u[mass > 0], (1 - _NEARLY_ALL, _NEARLY_ALL)) + shifts[t]
    _, path = point_path(centres, tilts, axis=np.inf)
    path = path + point_path(edges.mean(axis=1) - path, tilts)[1]
    return path, float(np.abs(edges - path[:, None]).max())
