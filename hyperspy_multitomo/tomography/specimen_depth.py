# SPDX-License-Identifier: GPL-3.0-or-later
"""The extent of a lamella that leaves the field of view: its depth and its visible width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.backends import projector
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.iterates import run
from hyperspy_multitomo.tomography.solvers import sirt

# The depth is the smallest one whose residual is within this factor of the best; beyond the
# specimen's own depth the residual hardly falls.
_ENOUGH = 1.15
# Iterations of SIRT, and slices at least, after averaging.
_ITERATIONS = 30
_SLICES = 64


def visible_width(geometry: TiltGeometry, depth: float) -> float:
    """Return the width of a lamella that the detector sees at some tilt, in the pixel's unit.

    At the tilt t a detector of width W, whose image is displaced by d, sees as far as (W/2 + |d| +
    depth/2 |sin t|)/cos t from the tilt axis. Matter there that is not in the volume would pile up
    at the rim of the volume.

    Parameters
    ----------
    geometry : TiltGeometry
    depth : float
        Thickness of the lamella, in the unit of the pixel size.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For tilts beyond 85 degrees, at which a lamella has no end in view.

    Examples
    --------
    >>> round(visible_width(TiltGeometry([-60, 0, 60], 100), depth=0.0))
    200
    """
    geometry = geometry.fine  # detector pixels as wide as voxels, which the pixel size is of
    tilts = np.deg2rad(geometry.tilts)
    if np.cos(tilts).min() < np.cos(np.deg2rad(85)):
        raise ValueError(
            "tilts beyond 85 degrees are too high for a lamella; give the width of the volume"
        )
    displaced = np.abs(geometry.axis_offset + np.array(geometry.shifts))
    seen = (geometry.detector_width / 2 + displaced) * geometry.pixel_size + depth / 2 * np.abs(
        np.sin(tilts)
    )
    return float(2 * np.max(seen / np.cos(tilts)))


def estimate_depth(
    projections: ArrayLike, geometry: TiltGeometry, *, gains: ArrayLike | None = None
) -> float:
    """Estimate the depth that the volume of a lamella needs, inclination included.

    The same few SIRT iterations run in volumes of growing depth. Too thin a volume cannot explain
    the parallax of what lies on the surfaces; from the specimen's own depth on the residual hardly
    falls. The smallest depth within 15 % of the lowest residual is returned.

    Parameters
    ----------
    projections : array_like (tilt, x, y)
        HAADF images.
    geometry : TiltGeometry
        Tilts, shifts and axis; its volume is not used.
    gains : array_like (tilt,), optional
        Of the images.

    Returns
    -------
    float
        In the unit of the pixel size; a few pixels at least, the width of the detector at most.

    Raises
    ------
    ValueError
        For shapes that do not fit, and images that are all zero.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tilts = np.arange(-50, 51, 10)
    >>> film = np.zeros((48, 80, 4)); film[18:30] = rng.random((12, 80, 4)) > 0.7
    >>> images = projector(TiltGeometry(tilts, 40, (48, 80)))(film)
    >>> 8 < estimate_depth(images, TiltGeometry(tilts, 40)) < 20
    True
    """
    images = np.asarray(projections, dtype=np.float32)
    if images.ndim != 3 or not images.any():
        raise ValueError(
            f"the projections have the shape {images.shape}; expected (tilt, x, y), not all zero"
        )
    step = max(1, images.shape[-1] // _SLICES)
    slices = images[..., : images.shape[-1] // step * step]
    slices = slices.reshape(*images.shape[:2], -1, step).mean(axis=-1)
    depths = np.unique(np.geomspace(4, geometry.detector_width, 13).round().astype(int))
    residuals = []
    for depth in depths:
        width = round(visible_width(geometry, depth * geometry.pixel_size) / geometry.pixel_size)
        A = projector(replace(geometry, volume_shape=(int(depth), width)))
        residuals.append(
            float(run(sirt(A, slices, gains=gains), _ITERATIONS).residuals["eds"][-1].max())
        )
        if residuals[-1] > 1.05 * min(residuals):
            break
    enough = np.flatnonzero(np.array(residuals) <= _ENOUGH * min(residuals))
    return float(depths[enough[0]] * geometry.pixel_size)
