# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume that a specimen needs: its depth along z, and the width that the detector sees."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.specimen import Specimen, measure_specimen

# Factor on the measured depth of a specimen: slabs come out at about 0.87 of their thickness, since
# what lies on the surfaces is sparse, and outlines at 1.0 to 1.25 of the extent (simulated,
# benchmarks/depth.py, table in docs/voxels.md). Too thin a volume ruins the result, too thick a one
# takes time alone.
BIASES = {"slab": 1.2, "rod": 1.0, "ball": 1.0}
# Then what is added, as a fraction of the depth; that of a slab in quadrature to its inclination.
MARGIN = 0.1


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


def needed_volume(specimen: Specimen, geometry: TiltGeometry) -> tuple[float, float]:
    """Return the depth and width of the volume that a specimen needs, in the pixel's unit.

    Parameters
    ----------
    specimen : Specimen
        In pixels of the detector.
    geometry : TiltGeometry
        Its volume is not used.

    Returns
    -------
    depth, width : float
        The depth is an upper bound, the inclination of a slab included. The width is that of the
        detector, of a slab what the detector sees at any tilt.

    Raises
    ------
    ValueError
        For a slab and tilts beyond 85 degrees.

    Examples
    --------
    >>> needed_volume(Specimen("ball", 20.0), TiltGeometry([-60, 0, 60], 100, pixel_size=2.0))
    (44.0, 200.0)
    """
    pixel = geometry.pixel_size * geometry.binning
    depth = BIASES[specimen.shape] * specimen.depth * pixel
    width = geometry.detector_width * pixel
    if specimen.shape == "slab":
        width = max(width, visible_width(geometry, (1 + MARGIN) * depth))
    upright = Specimen(specimen.shape, depth).extent(width)
    leaning = replace(specimen, depth=depth).extent(width) - upright
    return upright + math.hypot(MARGIN * depth, leaning), width


def estimate_depth(
    projections: ArrayLike, geometry: TiltGeometry, *, gains: ArrayLike | None = None
) -> float:
    """Estimate the depth that the volume of a specimen needs, inclination included.

    It is an upper bound: too thin a volume cannot explain the parallax of what lies on the
    surfaces, too thick a one takes time alone.

    Parameters
    ----------
    projections : array_like (tilt, x, y)
        HAADF images, or sums of maps, in the frame of the geometry.
    geometry : TiltGeometry
        Tilts, shifts and axis; its volume is not used.
    gains : array_like (tilt,), optional
        Of the images.

    Returns
    -------
    float
        In the unit of the pixel size; the width of the detector where the images do not tell.

    Raises
    ------
    ValueError
        For shapes that do not fit, and images that are all zero.

    Notes
    -----
    See `measure_specimen` for how the specimen is measured, and `needed_volume` for the margin.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import projector
    >>> rng = np.random.default_rng(0)
    >>> tilts = np.arange(-50, 51, 10)
    >>> film = np.zeros((48, 120, 16)); film[18:30] = rng.random((12, 120, 16)) > 0.7
    >>> images = projector(TiltGeometry(tilts, 60, (48, 120)))(film)
    >>> 12 <= estimate_depth(images, TiltGeometry(tilts, 60)) < 24
    True
    """
    images = np.asarray(projections, dtype=np.float32)
    if images.ndim != 3 or not images.any():
        raise ValueError(
            f"the projections have the shape {images.shape}; expected (tilt, x, y), not all zero"
        )
    specimen = measure_specimen(without_gains(images, gains), geometry)
    if specimen is None:
        return float(geometry.detector_width * geometry.pixel_size * geometry.binning)
    return needed_volume(specimen, geometry)[0]


def without_gains(images: np.ndarray, gains: ArrayLike | None) -> np.ndarray:
    """Return images (tilt, x, y) over their gains."""
    if gains is None:
        return images
    values = np.asarray(gains, dtype=np.float32)
    if values.shape != (len(images),):
        raise ValueError(
            f"the gains have the shape {values.shape}; expected one for each of {len(images)} tilts"
        )
    return images / values[:, None, None]
