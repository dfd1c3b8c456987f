# SPDX-License-Identifier: GPL-3.0-or-later
"""Model of the peak memory of a reconstruction, and of how its time grows with the slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hyperspy_multitomo.machine.memory import OF_DEVICE
from hyperspy_multitomo.tomography import Projector, TiltGeometry
from hyperspy_multitomo.tomography.cpu.lanes import cost_of, lane_count
from hyperspy_multitomo.tomography.forms import fits_lanes
from hyperspy_multitomo.tomography.geometry import volume_grid

# Factor on a footprint without the compiled kernels: with astra, or pixels of 3, 5, 6 ... voxels.
TEXTBOOK = 3
# What stays in the memory of the machine where all else is on a device: the result, twice, and the
# data.
ON_DEVICE = (2.1, 1.1)


@dataclass(frozen=True)
class RayArrays:
    """Projections held in memory.

    Attributes
    ----------
    geometry : TiltGeometry
    rows : int
        Maps or images at each tilt.
    numbers : float
        Held for each ray of a row.
    """

    geometry: TiltGeometry
    rows: int
    numbers: float


@dataclass(frozen=True)
class Footprint:
    """Peak memory of a reconstruction.

    Attributes
    ----------
    channels : int
    plane : (z, x)
        Voxels of a slice.
    numbers : float
        Of 4 bytes, held for each voxel of each channel.
    rays : tuple of RayArrays
        Held besides.
    textbook : bool
        Whether the compiled kernels do not apply; see `TEXTBOOK`.
    of_device : callable, optional
        ``of_device(slices)`` returns the bytes that so many slices take of the device in use.
    """

    channels: int
    plane: tuple[int, int]
    numbers: float
    rays: tuple[RayArrays, ...]
    textbook: bool = False
    of_device: Callable[[int], int] | None = None

    def fits_device(self, slices: int) -> bool:
        """Whether the device holds so many slices at once, if one is used."""
        if self.of_device is None:
            return True
        from hyperspy_multitomo.tomography.cuda.device import free_memory

        return self.of_device(slices) <= OF_DEVICE * free_memory()

    def device_bytes(self, slices: int) -> int:
        """Return the bytes that so many slices take of a device, if one is used."""
        return 0 if self.of_device is None else self.of_device(slices)

    def bytes_of(self, slices: int) -> int:
        """Return the bytes of so many slices of the volume."""
        lanes = lane_count(slices)
        in_groups = -(-slices // lanes) * lanes
        numbers = self.numbers * self.channels * np.prod(self.plane, dtype=float)
        for rays in self.rays:
            width = rays.geometry.detector_width * rays.geometry.binning
            numbers += rays.numbers * rays.rows * len(rays.geometry.tilts) * width
        return int(4 * numbers * in_groups * (TEXTBOOK if self.textbook else 1))

    def time_of(self, slices: int) -> float:
        """Return how long so many slices take, in any unit.

        The kernels work on groups of slices, full or not.
        """
        return slices if self.textbook or self.of_device is not None else cost_of(slices)

    def in_transit(self, slices: int) -> int:
        """Return the bytes of so many slices of input as read, and of the volume as written."""
        numbers = self.channels * np.prod(self.plane, dtype=float)
        for rays in self.rays:
            numbers += (
                2
                * rays.rows
                * len(rays.geometry.tilts)
                * rays.geometry.detector_width
                / rays.geometry.binning
            )
        return int(4 * numbers * slices)

    def with_masks(self, masks: int) -> Footprint:
        """Return the same with so many numbers more for each voxel, whatever the channels."""
        return replace(self, numbers=self.numbers + masks / self.channels)


def footprint(
    numbers: tuple[float, float],
    channels: int,
    series: Sequence[tuple[TiltGeometry, int]],
    *,
    projectors: Sequence[Projector] = (),
    more: float = 0.0,
    of_device: Callable[[int], int] | None = None,
) -> Footprint:
    """Return the footprint of a run.

    Parameters
    ----------
    numbers : (float, float)
        Held for each voxel of each channel, and for each ray of each row of data.
    channels : int
        Of the volume.
    series : sequence of (TiltGeometry, int)
        Geometries and rows of the data.
    projectors : sequence of Projector
        That are used; see `fits_lanes`.
    more : float, default 0.0
        Numbers for each ray besides.
    of_device : callable, optional
        As in `Footprint`.
    """
    of_voxels, of_rays = numbers if of_device is None else ON_DEVICE
    rays = tuple(RayArrays(geometry, rows, of_rays + more) for geometry, rows in series)
    textbook = of_device is None and not all(map(fits_lanes, projectors))
    return Footprint(channels, volume_grid(series[0][0]), of_voxels, rays, textbook, of_device)


def variational_footprint(
    kind: str,
    dimensions: int,
    channels: int,
    series: Sequence[tuple[TiltGeometry, int, bool]],
    *,
    power_law: bool,
    refit: bool = False,
    projectors: Sequence[Projector] = (),
    of_device: Callable[[int], int] | None = None,
) -> Footprint:
    """Return the footprint of TV, TGV or nuclear TV.

    Parameters
    ----------
    kind : {"tv", "tgv"}
    dimensions : {2, 3}
    channels : int
        Of the volume.
    series : sequence of (TiltGeometry, int, bool)
        Geometries, rows, and whether a background is expected in them.
    power_law : bool
        Whether the HAADF sees a power of the elements.
    refit : bool, default False
        Whether there is a second solve, with its linear term.
    projectors, of_device
        As in `footprint`.
    """
    # u twice, the back projection and three copies of the result; p, and for TGV w twice, its copy
    # and q.
    fields = dimensions if kind == "tv" else 4 * dimensions + dimensions * (dimensions + 1) // 2
    numbers = 6 + fields + refit if of_device is None else ON_DEVICE[0]
    if power_law:  # factors of each voxel, and the objective in NumPy, with copies of all fields
        numbers += 10 + fields
    # Background and gross counts are there as recorded, resampled, and in lanes.
    rays = tuple(
        RayArrays(geometry, rows, 3 + (geometry.binning > 1) + 4 * background)
        for geometry, rows, background in series
    )
    textbook = of_device is None and not all(map(fits_lanes, projectors))
    return Footprint(channels, volume_grid(series[0][0]), numbers, rays, textbook, of_device)


def uses_device(A: Projector) -> bool:
    """Return whether a projector works on a GPU."""
    return hasattr(A, "device")
