# SPDX-License-Identifier: GPL-3.0-or-later
"""EM on the device: the iteration of `em.TextbookEM`, as x + x C A^T (y/(A x + b) - 1)."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import BLOCK, BlockSums, Kernels, grid_of, to_device
from hyperspy_multitomo.tomography.cuda.memory import device_bytes
from hyperspy_multitomo.tomography.cuda.projector import device_projector
from hyperspy_multitomo.tomography.cuda.stacked import DeviceSteps
from hyperspy_multitomo.tomography.functionals import LEAST
from hyperspy_multitomo.tomography.system import Counted

_kernels = Kernels("common.cu", "residuals.cu")


class CudaEM(DeviceSteps[Counted]):
    """EM with counts, background and volume on the device, with pixels of any size."""

    def __init__(self, system: Counted):
        s, A = system, device_projector(system.A)
        channels, _, _, slices = s.initial.shape
        needed = device_bytes(
            "em",
            A.geometry,
            channels,
            slices,
            mask=s.mask is not None and s.mask.ndim == 3,
            background=s.background is not None,
            backend=A.backend,
        )
        size = " x ".join(map(str, A.domain_shape))
        with (
            A.device,
            device.reserved(
                needed, f"EM of {channels} channels of {slices} slices of {size} voxels"
            ),
        ):
            super().__init__(system)
            self._rays = device.cupy().empty(A.rays_shape(channels, slices), np.float32)
            self._counts, self._gains = to_device(s.projections), to_device(s.gains)
            self._background = None if s.background is None else to_device(s.background)
            self._seen = (
                None
                if A.geometry.binning == 1
                else device.cupy().empty(self._counts.shape, np.float32)
            )
            self._grid = (*grid_of(self._rays[0].size), channels)
            self._sums = BlockSums(2 * channels, self._grid[0])

    def advance(self):
        """Do one iteration."""
        s, A = self.system, self._A
        with A.device:
            A.project_device(self._x, self._rays)
            if self._seen is not None:
                A.mean_device(self._rays, self._seen)
            sizes = (*self._rays.shape[1:], A.geometry.binning)
            _kernels.call(
                "count_residuals", self._grid, (BLOCK,), self._rays, self._seen, self._counts,
                self._background, self._gains, float(LEAST), *sizes, self._sums.partial,
            )  # fmt: skip
            if self._cancelled.is_set():
                return
            with self._lock:  # no cancelling from here on: the iterate is completed
                A.back_device(
                    self._rays,
                    self._x,
                    self._step,
                    multiply=True,
                    mask=self._mask,
                    nonnegative=True,
                )
                squares, divergence = (self._sums.total().reshape(-1, 2) / A.geometry.binning**2).T
                self._count(s.measures(squares, divergence))
