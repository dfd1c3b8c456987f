# SPDX-License-Identifier: GPL-3.0-or-later
"""What the projections of an unknown object have in common: the covariance of all rays of a slice.

The object is taken as a Gaussian random field: a sum of round blobs with random amplitudes, at scales from the pixel to eight
times that, inside a disc about the tilt axis or a slab. A blob projects to the same Gaussian at every tilt, so that all
consistency conditions of projections (equal mass, the path of the centre of mass, and so on) hold exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCALES = (1.0, 2.0, 4.0, 8.0)
# Standard deviation of a blob over its scale, the spacing of the grid it stands on.
_WIDTH = 0.6
# The power spectrum of the object falls with about this power of the frequency.
_POWER = 2.5
# A slab is cut where rays that are steeper than this leave it, |cos t|.
_STEEPEST = 0.1


@dataclass(frozen=True)
class Support:
    """
    Where the object can be, in any unit of length.

    Attributes
    ----------
    shape : {"rod", "ball", "slab"}
        About the tilt axis, for an object that is wholly in view across it: as wide in all slices, or in the fewer the farther
        from the axis. Else a slab that goes on without end.
    size : float
        Radius, or depth of the slab.
    inclination : float, default 0.0
        Of the slab, degrees, from +x towards +z: it is edge on at this plus 90.
    """

    shape: str
    size: float
    inclination: float = 0.0

    def blobs(self, tilts: np.ndarray, reach: float, step: float, scale: float) -> tuple[np.ndarray, ...]:
        """Return the centres x, z of the blobs of a scale, in steps, and their amplitudes.

        `reach` is how far from the axis rays are looked at.
        """
        size, reach = self.size / step, reach / step
        if self.shape == "slab":
            depth = size / 2
            steepest = max(_STEEPEST, np.cos(np.deg2rad(tilts - self.inclination)).min())
            across = (reach + depth * np.sqrt(1 - steepest**2)) / steepest + scale
        else:
            across = depth = size
        x, z = (np.arange(-np.ceil(half / scale), np.ceil(half / scale) + 1) * scale for half in (across, depth))
        x, z = (grid.ravel() for grid in np.meshgrid(x, z, indexing="ij"))
        # A blob reaches about half its scale beyond its centre, and the object no further than its edge.
        radius, edge = np.hypot(x, z), max(size - scale / 2, scale / 2)
        inside = np.abs(z) <= max(depth - scale / 2, 0) if self.shape == "slab" else radius <= edge
        x, z, radius = x[inside], z[inside], radius[inside]
        amplitudes = np.ones(len(x))
        if self.shape == "ball":
            # The part of a ball's slices that reach so far is the square root of this.
            amplitudes = np.sqrt(np.sqrt(1 - (radius / (edge + scale / 2)) ** 2))
        angle = np.deg2rad(self.inclination)
        return np.cos(angle) * x - np.sin(angle) * z, np.sin(angle) * x + np.cos(angle) * z, amplitudes


def ray_covariance(tilts: np.ndarray, u: np.ndarray, support: Support) -> np.ndarray:
    """Return the covariance of the rays of all tilts at positions u from the axis, (tilt * u, tilt * u), its mean variance 1."""
    angles, step = np.deg2rad(tilts), u[1] - u[0]
    covariance = np.zeros((len(tilts) * len(u),) * 2, np.float32)
    for scale in SCALES:
        x, z, amplitudes = support.blobs(tilts, float(np.abs(u).max()), step, scale)
        centres = np.cos(angles)[:, None] * x + np.sin(angles)[:, None] * z
        # A ray is as wide as a pixel, whose variance is 1/12.
        sigma = np.sqrt((_WIDTH * scale) ** 2 + 1 / 12)
        distance = ((u / step / sigma)[None, :, None].astype(np.float32)) - (centres / sigma)[:, None, :].astype(np.float32)
        seen = np.exp(-0.5 * distance**2).reshape(-1, len(x)) * (scale**2 / sigma * amplitudes).astype(np.float32)
        covariance += np.float32(scale ** (_POWER - 2)) * (seen @ seen.T)
    return covariance / np.diag(covariance).mean(dtype=np.float64).astype(np.float32)
