# SPDX-License-Identifier: GPL-3.0-or-later
"""A box of voxels within a volume: the same problem on the box, with the rays that meet it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.geometry import TiltGeometry, volume_grid

# Detector pixels on either side of the shadow of a box: a voxel is seen by the rays next to its
# centre.
_MARGIN = 2


@dataclass(frozen=True)
class Box:
    """Voxels from the first to before the second index along each axis of a volume (z, x, y)."""

    z: tuple[int, int]
    x: tuple[int, int]
    y: tuple[int, int]

    @classmethod
    def of(cls, bounds: ArrayLike, shape: tuple[int, ...], together: int = 1) -> Box:
        """Return the box of six bounds, for z, x and y in turn, within a volume of that shape.

        Raises
        ------
        ValueError
            If they are no such bounds, leave fewer than two voxels along z or x, or cut through
            `together` slices that share a detector pixel.
        """
        values = np.asarray(bounds)
        if values.shape != (6,) or values.dtype.kind not in "iu":
            raise ValueError(
                f"`support` is {bounds!r}; expected six whole numbers, first and last + 1 along z, "
                "x and y"
            )
        first, last = values[::2], values[1::2]
        if (first < 0).any() or (last > shape).any() or (last - first < (2, 2, 1)).any():
            raise ValueError(
                f"`support` is {values.tolist()}; expected bounds within the volume {shape} (z, x, "
                "y), with 2 voxels or more "
                "along z and x"
            )
        if first[2] % together or (last[2] % together and last[2] != shape[2]):
            raise ValueError(
                f"`support` cuts slices at {first[2]} and {last[2]}; expected multiples of "
                f"{together}, as pixels are"
            )
        z, x, y = values.reshape(3, 2).tolist()
        return cls((z[0], z[1]), (x[0], x[1]), (y[0], y[1]))

    @property
    def bounds(self) -> list[int]:
        """The six numbers that `of` takes."""
        return [*self.z, *self.x, *self.y]

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod([last - first for first, last in (self.z, self.x, self.y)]))

    @property
    def places(self) -> tuple:
        """Index of the box in arrays (..., z, x, y)."""
        return (..., *(slice(*bounds) for bounds in (self.z, self.x, self.y)))

    def grown(self, shape: tuple[int, ...], by: tuple[int, int, int]) -> Box:
        """Return the box with `by` more voxels on either side of each axis, within the volume."""
        pairs = zip((self.z, self.x, self.y), shape, by, strict=True)
        return Box(
            *(
                (max(first - more, 0), min(last + more, length))
                for (first, last), length, more in pairs
            )
        )

    def padded(self, volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return a volume (..., z, x, y) of the box within zeros of that shape."""
        whole = np.zeros((*volume.shape[:-3], *shape), volume.dtype)
        whole[self.places] = volume
        return whole

    def geometry(self, whole: TiltGeometry) -> tuple[TiltGeometry, np.ndarray]:
        """Return the geometry of the box, and the first detector pixel (tilt,) of its window."""
        nz, nx = volume_grid(whole)
        centre = np.array([sum(self.x) - nx, sum(self.z) - nz]) / 2
        size = np.array([self.x[1] - self.x[0], self.z[1] - self.z[0]])
        middle = whole.origins + whole.directions @ centre / whole.binning
        shadow = (np.abs(whole.directions) @ size).max() / whole.binning
        width = min(int(np.ceil(shadow)) + 2 * _MARGIN, whole.detector_width)
        starts = np.clip(
            np.round(middle - (width - 1) / 2).astype(int), 0, whole.detector_width - width
        )
        shifts = middle - starts - (width - 1) / 2
        shape = int(size[1]), int(size[0])
        return replace(
            whole, detector_width=width, volume_shape=shape, axis_offset=0.0, shifts=shifts
        ), starts
