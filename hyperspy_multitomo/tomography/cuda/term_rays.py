# SPDX-License-Identifier: GPL-3.0-or-later
"""The rays of one variational data term on the device, with its data and their duals."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import BLOCK, BlockSums, Kernels, grid_of, to_device
from hyperspy_multitomo.tomography.cuda.projector import device_projector
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.variational_system import Term

_kernels = Kernels("common.cu", "ray_duals.cu")


def rays_bytes(geometry: TiltGeometry, rows: int, slices: int, background: bool) -> int:
    """Return the bytes of the rays of a data term with `rows` maps and `slices` slices."""
    nt, nu, ny = len(geometry.tilts), geometry.detector_width, slices // geometry.binning
    arrays = 2 + (geometry.binning > 1) + bool(background)  # data, duals, what the detector sees
    numbers = rows * (nt * nu * (ny * (geometry.binning**2 + arrays) + 1) + nt + 2)
    return 4 * numbers + BlockSums.device_bytes(2 * rows, nt * grid_of(nu * ny)[0])


class TermRays:
    """What the detector has of one term, on the device.

    Parameters
    ----------
    term : Term
        Its projector is a `DeviceProjector`.
    scales : array_like (row,)
        Factors of the volume that a row sees.
    slices : int
        Slices of the volume.

    Attributes
    ----------
    rays : device array (row, tilt, fine u, fine y)
        After `step`, `measure` and `weigh` the weighted duals, to be projected back.
    duals : device array (row, tilt, u, y)
        s.
    """

    def __init__(self, term: Term, scales, slices: int):
        cupy, shape = device.cupy(), term.data.shape
        self._A, self._binning = device_projector(term.A), term.A.geometry.binning
        self._poisson = term.discrepancy == "kl"
        self.rays = cupy.zeros(self._A.rays_shape(term.rows, slices), np.float32)
        self._seen = self.rays if self._binning == 1 else cupy.zeros(shape, np.float32)
        self.duals, self._data = cupy.zeros(shape, np.float32), to_device(term.data)
        self._gains, self._weights, self._scales = (
            to_device(term.gains),
            to_device(term.weights),
            to_device(scales),
        )
        self._sizes = shape[1:]
        self._grid = (*grid_of(shape[2] * shape[3]), shape[1], shape[0])
        self._sums = BlockSums(2 * term.rows, self._grid[0] * self._grid[1])
        self._steps = self._background = None  # until `renew`

    def renew(self, term: Term, steps: np.ndarray) -> None:
        """Take the background of a term and the step sizes (row, tilt, x)."""
        self._background = None  # first, to give its memory back
        self._steps = to_device(steps)
        self._background = None if term.background is None else to_device(term.background)

    def _project(self, volume):
        self._A.project_device(volume, self.rays)
        if self._binning > 1:
            self._A.mean_device(self.rays, self._seen)

    def step(self, volume, rho: float) -> None:
        """Do the step of the duals for the volume (row, z, x, y), and weigh them."""
        self._project(volume)
        _kernels.call(
            "step_rays", self._grid, (BLOCK,), self.rays, self._seen, self.duals, self._data,
            self._background, self._steps, self._gains, self._weights, self._scales, self._poisson,
            rho, *self._sizes, self._binning,
        )  # fmt: skip

    def weigh(self) -> None:
        """Weigh the duals for the way back."""
        _kernels.call(
            "weigh_duals",
            self._grid,
            (BLOCK,),
            self.rays,
            self.duals,
            self._gains,
            self._scales,
            *self._sizes,
            self._binning,
        )

    def measure(self, volume) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of squares and the discrepancies (row,), and weigh the duals."""
        self._project(volume)
        _kernels.call(
            "measure_rays", self._grid, (BLOCK,), self._seen, self._data, self._background,
            self._gains, self._weights, self._scales, self._poisson, self._sums.partial,
            *self._sizes,
        )  # fmt: skip
        self.weigh()
        squares, discrepancies = self._sums.total().reshape(2, -1)
        return squares, discrepancies
