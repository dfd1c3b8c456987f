# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT and HEBT on the device: data and volume stay there from the first iteration to the last."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import (
    BLOCK,
    BlockSums,
    Kernels,
    grid_of,
    to_device,
    to_host,
)
from hyperspy_multitomo.tomography.cuda.memory import device_bytes
from hyperspy_multitomo.tomography.cuda.projector import DeviceProjector, device_projector
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.system import System

_kernels = Kernels("common.cu", "residuals.cu")

StackedT = TypeVar("StackedT", bound=System)


class DeviceSteps(Steps[StackedT]):
    """Steps with the volume `_x` and the step lengths `_step` on the device.

    A channel that has stopped has a step of 0.
    """

    def __init__(self, system: StackedT):
        super().__init__(system)
        s = system
        self._A = device_projector(s.A)
        self._x, self._step = to_device(s.start()), to_device(s.steps)
        self._mask = to_device(s.mask) if s.mask is not None and s.mask.ndim == 3 else None

    def _read(self):
        with self._A.device:
            return to_host(self._x)

    def _arrays(self):
        return {"volume": self._read()}

    def _put(self, arrays):
        with self._A.device:
            self._x, self._step = to_device(arrays["volume"]), to_device(self.system.steps)

    def hold(self, channels):
        """Stop channels: a step of 0 leaves a volume that obeys the constraints as it is."""
        super().hold(channels)
        with self._A.device:
            for channel in np.flatnonzero(self.stopped):
                self._step[int(channel)] = 0


class DataRays:
    """The rays of one projector on the device, with the data that they are compared to.

    Parameters
    ----------
    A : DeviceProjector
    data : numpy.ndarray
        (channel with data, tilt, x, y).
    gains : numpy.ndarray
        (channel with data, tilt).
    weights, haadf_weights : numpy.ndarray
        R (tilt, x) of these rays, and of the HAADF that is mixed in, None where none is.
    coefficients : sequence of numpy.ndarray
        direct, mix and ratios, (channel,) each.
    """

    def __init__(self, A: DeviceProjector, data, gains, weights, haadf_weights, coefficients):
        self.A, self._with_data, channels = A, len(gains), len(coefficients[0])
        slices = data.shape[-1] * A.geometry.binning
        self.rays = device.cupy().empty(A.rays_shape(channels, slices), np.float32)
        self._data, self._gains = to_device(data), to_device(gains)
        self._weights = (
            to_device(weights),
            None if haadf_weights is None else to_device(haadf_weights),
        )
        self._coefficients = tuple(map(to_device, coefficients))
        self._seen = (
            None if A.geometry.binning == 1 else device.cupy().empty(data.shape, np.float32)
        )
        self._grid = grid_of(self.rays[0].size)
        self._sums = BlockSums(len(gains) + 1, self._grid[0])

    def forward(self, volume, haadf=None, haadf_gains=None) -> None:
        """Project the volume and turn the rays into weighted residuals."""
        self.A.project_device(volume, self.rays)
        if self._seen is not None:
            self.A.mean_device(self.rays[: self._with_data], self._seen)
        sizes = (len(self.rays), self._with_data, *self.rays.shape[1:], self.A.geometry.binning)
        _kernels.call(
            "mix_residuals", self._grid, (BLOCK,), self.rays, self._seen, self._data, haadf,
            *self._weights, self._gains, haadf_gains, *self._coefficients, *sizes,
            self._sums.partial,
        )  # fmt: skip

    def squares(self) -> np.ndarray:
        """Return the sums of squares of the residuals over pixels, (channel with data, HAADF)."""
        squares = self._sums.total()
        squares[:-1] /= self.A.geometry.binning**2
        return squares


class CudaSteps(DeviceSteps[System]):
    """The iteration of `steps.TextbookSteps` on the device.

    Where HAADF and elements share their rays, the projections of the elements serve the HAADF too.
    Otherwise the sum of the elements is projected, its residual is back projected, and the result
    is added to the update of each element.
    """

    def __init__(self, system: System):
        s, c, A = system, system.coefficients, device_projector(system.A)
        with (
            A.device,
            device.reserved(self.device_bytes(s), f"a reconstruction of {self._what(s)}"),
        ):
            super().__init__(system)
            weights = s.ray_weights, s.haadf_ray_weights if s.shared else None
            self._eds = DataRays(
                A,
                s.projections,
                s.gains,
                *weights,
                (c.direct, c.mix if s.shared else 0 * c.mix, c.ratios),
            )
            self._haadf_data = self._haadf_gains = self._sum = self._extra = None
            self._haadf: DataRays | None = None
            if (rows := s.haadf_rows) is not None and s.shared:
                self._haadf_data, self._haadf_gains = to_device(rows.data), to_device(rows.gains)
            elif rows is not None:
                alone = (np.ones(1), np.zeros(1), np.zeros(1))
                rays = rows.data[None], rows.gains[None], s.haadf_ray_weights
                self._haadf = DataRays(device_projector(rows.projector), *rays, None, alone)
                self._sum = device.cupy().empty((1, *self._x.shape[1:]), np.float32)
                self._extra = device.cupy().empty((1, *self._x.shape[1:]), np.float32)
            self._ratios, self._shares = to_device(c.ratios), to_device(c.mix)

    @staticmethod
    def _what(system: System) -> str:
        channels, _, _, slices = system.initial.shape
        size = " x ".join(map(str, system.A.domain_shape))
        return f"{channels} channels of {slices} slices of {size} voxels"

    @staticmethod
    def device_bytes(system: System) -> int:
        """Return the bytes of the device that the iterations take."""
        haadf = system.haadf_projector
        with_data = len(system.projections)
        return device_bytes(
            "sirt" if haadf is None else "hebt",
            system.A.geometry,
            with_data,
            system.initial.shape[-1],
            haadf_geometry=None if haadf is None else haadf.geometry,
            rest=system.channels > with_data,
            mask=system.mask is not None and system.mask.ndim == 3,
            backend=system.A.backend,
        )

    def _project_haadf(self, haadf: DataRays) -> None:
        """Project the sum of the elements at the HAADF's tilts, and back project its residual."""
        voxels = int(np.prod(self._x.shape[1:]))
        sizes = (len(self._x), np.int64(voxels))
        _kernels.call(
            "sum_channels", grid_of(voxels), (BLOCK,), self._x, self._sum, self._ratios, *sizes
        )
        haadf.forward(self._sum)
        haadf.A.back_device(haadf.rays, self._extra)

    def advance(self):
        """Do one iteration."""
        s, eds = self.system, self._eds
        with self._A.device:
            if self._haadf is not None:
                self._project_haadf(self._haadf)
            eds.forward(self._x, self._haadf_data, self._haadf_gains)
            if self._cancelled.is_set():
                return
            extra = {} if self._haadf is None else {"extra": self._extra[0], "shares": self._shares}
            with self._lock:  # no cancelling from here on: the iterate is completed
                self._A.back_device(
                    eds.rays,
                    self._x,
                    self._step,
                    mask=self._mask,
                    nonnegative=s.nonnegative,
                    **extra,
                )
                squares = eds.squares()
                if self._haadf is not None:
                    squares[-1] = self._haadf.squares()[0]
                self._count(s.relative_residuals(squares))
