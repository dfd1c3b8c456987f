# SPDX-License-Identifier: GPL-3.0-or-later
"""The projector of the "numba" back-end: packs slices into lanes and shares the compiled kernels out to threads."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.kernels import TILE, TILTS, back_project, project
from hyperspy_multitomo.tomography.lanes import empty_lanes, lane_count, odd, pack, unpack
from hyperspy_multitomo.tomography.parallel import Workers, ranges
from hyperspy_multitomo.tomography.projectors import Projector


class NumbaProjector(Projector):
    """Joseph's projector on the CPU, compiled by numba, exactly adjoint; see `kernels` for the formula."""

    backend = "numba"

    def __init__(self, geometry, threads=None):
        super().__init__(geometry, threads)
        nz, nx = geometry.volume_shape
        directions = geometry.directions
        corner = self.rays.origins - directions @ [(nx - 1) / 2, (nz - 1) / 2]
        self.table = np.column_stack([directions, corner])

    def shape(self, channels: int) -> tuple[int, ...]:
        """Return the sizes that the kernels ask for."""
        (nz, nx), nu = self.domain_shape, self.rays.detector_width
        return channels, nz, nx, odd(nx), self.range_shape[0], nu, odd(nu)

    def tilt_tasks(self, groups: int) -> list[tuple[int, int, int]]:
        """Return the (group, start, stop) of the forward tasks; several tilts share what they read of the volume."""
        chunks = ranges(self.range_shape[0], -(-2 * self.threads // groups), 4, 2 * TILTS)
        return [(group, *chunk) for group in range(groups) for chunk in chunks]

    def row_tasks(self, groups: int) -> list[tuple[int, int, int]]:
        """Return the (group, start, stop) of the back projection's tasks."""
        chunks = ranges(self.domain_shape[0], -(-4 * self.threads // groups), TILE, 8 * TILE)
        return [(group, *chunk) for group in range(groups) for chunk in chunks]

    def _project(self, volumes):
        channels, _, _, slices = volumes.shape
        count = lane_count(slices)
        packed, shape, length = pack(volumes, count), self.shape(channels), self.geometry.pixel_size
        groups = -(-slices // count)
        nt, nu = self.range_shape[0], self.rays.detector_width
        projections = empty_lanes(groups * channels * nt * odd(nu), count)
        with Workers(self.threads) as workers:
            workers.run(lambda *task: project(packed, projections, self.table, length, shape, *task), self.tilt_tasks(groups))
        return unpack(projections, (channels, nt, nu, slices))

    def _back_project(self, projections):
        channels, _, _, slices = projections.shape
        count = lane_count(slices)
        packed, shape, length = pack(projections, count), self.shape(channels), self.geometry.pixel_size
        groups = -(-slices // count)
        nz, nx = self.domain_shape
        volume = empty_lanes(groups * channels * nz * odd(nx), count)

        def rows(*task):
            sums = empty_lanes(TILE * TILE, count)
            back_project(packed, volume, self.table, length, shape, *task, sums, None, False, None, None, None, False)

        with Workers(self.threads) as workers:
            workers.run(rows, self.row_tasks(groups))
        return unpack(volume, (channels, nz, nx, slices))
