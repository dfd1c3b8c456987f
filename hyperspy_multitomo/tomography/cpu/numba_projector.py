# SPDX-License-Identifier: GPL-3.0-or-later
"""The "numba" back-end: slices packed into lanes, compiled kernels shared out to threads."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.parallel import Workers, ranges
from hyperspy_multitomo.tomography.cpu.kernels import TILE, TILTS, back_project, project
from hyperspy_multitomo.tomography.cpu.lanes import blocks, empty_lanes, odd, pack, unpack
from hyperspy_multitomo.tomography.projectors import Projector

# Weights (of a voxel at a tilt) in a task at least, 0.1 to 0.5 ms of work: handing a task to a
# thread takes some 0.03 ms.
_FEWEST_WEIGHTS = 2**17


class NumbaProjector(Projector):
    """Joseph's projector on the CPU, compiled by numba, exactly adjoint; see `kernels`."""

    backend = "numba"

    def __init__(self, geometry, threads=None):
        super().__init__(geometry, threads)
        nz, nx = self.domain_shape
        directions = geometry.directions
        corner = self.rays.origins - directions @ [(nx - 1) / 2, (nz - 1) / 2]
        self.table = np.column_stack([directions, corner])

    def shape(self, channels: int) -> tuple[int, ...]:
        """Return the sizes that the kernels ask for."""
        (nz, nx), nu = self.domain_shape, self.rays.detector_width
        return channels, nz, nx, odd(nx), self.range_shape[0], nu, odd(nu)

    def tilt_tasks(self, groups: int) -> list[tuple[int, int, int]]:
        """Return the (group, start, stop) of the forward tasks.

        A task has several tilts, which share what they read of the volume.
        """
        chunks = ranges(self.range_shape[0], self._parts(groups, 2), 4, 2 * TILTS)
        return [(group, *chunk) for group in range(groups) for chunk in chunks]

    def row_tasks(self, groups: int) -> list[tuple[int, int, int]]:
        """Return the (group, start, stop) of the back projection's tasks."""
        chunks = ranges(self.domain_shape[0], self._parts(groups, 4), TILE, 8 * TILE)
        return [(group, *chunk) for group in range(groups) for chunk in chunks]

    def _parts(self, groups: int, most: int) -> int:
        """Return the tasks of a group: up to `most` per thread, each longer than its overhead."""
        weights = self.range_shape[0] * self.domain_shape[0] * self.domain_shape[1]
        each = min(max(groups * weights // (self.threads * _FEWEST_WEIGHTS), 1), most)
        return -(-each * self.threads // groups)

    def _project(self, volumes):
        shape, length = self.shape(len(volumes)), self.geometry.pixel_size
        nt, nu = self.range_shape[0], self.rays.detector_width

        def part_of(volumes, count):
            groups, packed = -(-volumes.shape[-1] // count), pack(volumes, count)
            projections = empty_lanes(groups * len(volumes) * nt * odd(nu), count)
            workers.run(
                lambda *task: project(packed, projections, self.table, length, shape, *task),
                self.tilt_tasks(groups),
            )
            return unpack(projections, (len(volumes), nt, nu, volumes.shape[-1]))

        with Workers(self.threads) as workers:
            return _by_blocks(part_of, volumes)

    def _back_project(self, projections):
        shape, length, (nz, nx) = (
            self.shape(len(projections)),
            self.geometry.pixel_size,
            self.domain_shape,
        )

        def part_of(projections, count):
            groups, packed = -(-projections.shape[-1] // count), pack(projections, count)
            volume = empty_lanes(groups * len(projections) * nz * odd(nx), count)

            def rows(*task):
                sums = empty_lanes(TILE * TILE, count)
                back_project(
                    packed,
                    volume,
                    self.table,
                    length,
                    shape,
                    *task,
                    sums,
                    None,
                    False,
                    None,
                    None,
                    None,
                    False,
                )

            workers.run(rows, self.row_tasks(groups))
            return unpack(volume, (len(projections), nz, nx, projections.shape[-1]))

        with Workers(self.threads) as workers:
            return _by_blocks(part_of, projections)


def numba_projector(A: Projector) -> NumbaProjector:
    """Return the projector, which has to be of the "numba" back-end."""
    if not isinstance(A, NumbaProjector):
        raise TypeError(f"the projector is a {type(A).__name__}; expected a NumbaProjector")
    return A


def _by_blocks(call, array: np.ndarray) -> np.ndarray:
    """Return what `call(part, lanes)` makes of all slices y, the last axis, block by block."""
    parts = [call(array[..., start:stop], count) for start, stop, count in blocks(array.shape[-1])]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
