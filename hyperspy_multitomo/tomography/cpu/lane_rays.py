# SPDX-License-Identifier: GPL-3.0-or-later
"""The rays of one projector in lanes: their array, and the tasks that project and back project."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import TILE, back_project, project
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes
from hyperspy_multitomo.tomography.cpu.numba_projector import numba_projector
from hyperspy_multitomo.tomography.projectors import Projector


class LaneRays:
    """W x of all channels in the lanes `rays`, in detector pixels of one voxel.

    Parameters
    ----------
    A : Projector
        Of the "numba" back-end.
    channels : int
    slices : int
        Of the volume.
    count : int
        Lanes of a group.
    """

    def __init__(self, A: Projector, channels: int, slices: int, count: int):
        self.A = numba_projector(A)
        self.count, self.shape, self.groups = count, self.A.shape(channels), -(-slices // count)
        self.rays = self.empty()
        self.tasks = [(number, *task) for number, task in enumerate(self.A.tilt_tasks(self.groups))]

    def empty(self) -> np.ndarray:
        """Return more lanes of the same layout, not initialised."""
        channels, _, _, _, nt, _, tilt_stride = self.shape
        return empty_lanes(self.groups * channels * nt * tilt_stride, self.count)

    def project(self, volume: np.ndarray, group: int, start: int, stop: int) -> None:
        """Project the volume at the tilts of a task into `rays`."""
        project(
            volume,
            self.rays,
            self.A.table,
            self.A.geometry.pixel_size,
            self.shape,
            group,
            start,
            stop,
        )

    def back(
        self,
        volume: np.ndarray,
        group: int,
        start: int,
        stop: int,
        *,
        step=None,
        multiply: bool = False,
        extra=None,
        shares=None,
        mask=None,
        nonnegative: bool = False,
    ) -> None:
        """Back project `rays` into the rows of a task; with a `step`, make the next iterate.

        See `kernels.back_project`.
        """
        sums = empty_lanes(TILE * TILE, self.count)
        back_project(
            self.rays, volume, self.A.table, self.A.geometry.pixel_size, self.shape, group, start,
            stop, sums, step, multiply, extra, shares, mask, nonnegative,
        )  # fmt: skip
