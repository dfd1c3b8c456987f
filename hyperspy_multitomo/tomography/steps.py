# SPDX-License-Identifier: GPL-3.0-or-later
"""One iteration of a stacked system, in two forms: the textbook one in NumPy, and the fused one that runs on lanes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Event, Lock

import numpy as np

from hyperspy_multitomo.tomography.kernels import TILE, back_project, project
from hyperspy_multitomo.tomography.lanes import empty_lanes, lane_count, pack, unpack
from hyperspy_multitomo.tomography.numba_projector import NumbaProjector
from hyperspy_multitomo.tomography.parallel import Workers
from hyperspy_multitomo.tomography.residuals import mix_residuals, sum_channels
from hyperspy_multitomo.tomography.system import System


class Steps(ABC):
    """The state of a solver: the current volume, its iteration number, the residuals of the volume before it.

    `advance` may run in another thread than the one that reads `volume`; the lock lets a reader see whole iterates only.
    """

    def __init__(self, system: System):
        self.system = system
        self.iteration = 0
        self.residuals: dict[str, np.ndarray | float] = {}
        self._workers = Workers(system.A.threads)
        self._lock = Lock()
        self._cancelled = Event()

    @abstractmethod
    def advance(self) -> None:
        """Do one iteration; after `cancel`, return early with the volume as it was, or whole."""

    @abstractmethod
    def _read(self) -> np.ndarray:
        """Return the current volume."""

    @property
    def volume(self) -> np.ndarray:
        """A copy of the current volume, (channel, z, x, y) float32."""
        with self._lock:
            return self._read()

    def cancel(self) -> None:
        """Ask an iteration under way to end soon."""
        self._cancelled.set()

    def close(self) -> None:
        """Let go of the threads; the volume stays."""
        self._workers.close()


class TextbookSteps(Steps):
    """x <- max(0, x + C [own W^T R e + mix W_h^T R_h f]) in NumPy, for any projector: the reference for the fused form."""

    def __init__(self, system: System):
        super().__init__(system)
        self._volume = system.start()

    def _read(self):
        return self._volume.copy()

    def advance(self):
        """Do one iteration."""
        s, x = self.system, self._volume
        own, mix, ratios = (v.astype(np.float32) for v in (s.coefficients.own, s.coefficients.mix, s.coefficients.ratios))
        with_data = len(s.projections)
        e = s.projections - s.gains[:, :, None, None] * s.A(x[:with_data])
        update = np.zeros_like(x)
        update[:with_data] = s.A.T(own[:with_data, None, None, None] * s.ray_weights[..., None] * e)
        squares = [np.sum(np.square(channel, dtype=np.float64)) for channel in e]
        f = np.zeros(1)
        if s.haadf is not None:
            f = s.haadf - s.haadf_gains[:, None, None] * s.haadf_projector(np.tensordot(ratios, x, 1))
            update += mix[:, None, None, None] * s.haadf_projector.T(s.haadf_ray_weights[..., None] * f)
        x = x + s.steps[..., None] * update
        if s.nonnegative:
            x = np.maximum(x, 0)
        if s.mask is not None and s.mask.ndim == 3:
            x *= s.mask
        if self._cancelled.is_set():
            return
        with self._lock:
            self._volume = x
            self.residuals = s.relative_residuals(np.array([*squares, np.sum(np.square(f, dtype=np.float64))]))
            self.iteration += 1


class _Rays:
    """The projections of one projector in lanes: data, weights, and the array that holds W x, then what is projected back."""

    def __init__(self, A: NumbaProjector, data: np.ndarray, gains, weights, coefficients, channels: int, count: int):
        nt = A.range_shape[0]
        self.A, self.shape, self.gains, self.weights = A, A.shape(channels), gains, weights
        self.coefficients = tuple(np.float32(v) for v in coefficients)
        self.groups = -(-data.shape[-1] // count)
        self.count = count
        self.data = pack(data, count)
        self.rays = empty_lanes(self.groups * channels * nt * self.shape[-1], count)
        self.tasks = [(number, *task) for number, task in enumerate(A.tilt_tasks(self.groups))]
        self.squares = np.zeros((len(self.tasks), len(gains) + 1))

    def forward(self, volume, haadf, haadf_gains, number, group, start, stop):
        """Project the volume at some tilts and turn the projections into weighted residuals."""
        length = self.A.geometry.pixel_size
        scratch = empty_lanes(len(self.gains) + 1, self.count)
        project(volume, self.rays, self.A.table, length, self.shape, group, start, stop)
        mix_residuals(
            self.rays, self.data, haadf, self.weights, self.gains, haadf_gains, self.coefficients, self.shape,
            group, start, stop, scratch, self.squares[number],
        )  # fmt: skip

    def back(self, volume, step, extra, shares, mask, nonnegative, group, start, stop):
        """Project back into some rows of the volume, which become the next iterate where `step` is given."""
        sums = empty_lanes(TILE * TILE, self.count)
        back_project(
            self.rays, volume, self.A.table, self.A.geometry.pixel_size, self.shape, group, start, stop, sums,
            step, extra, shares, mask, nonnegative,
        )  # fmt: skip


class FusedSteps(Steps):
    """The same iteration by the compiled kernels: data and volume stay in lanes from the first iteration to the last.

    Where HAADF and elements share their geometry, the projections of the elements make the HAADF's too. Otherwise the sum of the
    elements is projected and its residual projected back on its own, and added to each element's update.
    """

    def __init__(self, system: System):
        super().__init__(system)
        s, c = system, system.coefficients
        channels, self._slices = len(c.own), s.projections.shape[-1]
        count = lane_count(self._slices)
        self._x = pack(s.start(), count)
        self._mask = None
        if s.mask is not None and s.mask.ndim == 3:
            self._mask = pack(s.mask[None], count)
        self._haadf, self._sum, self._extra = None, None, None
        mix = c.mix if s.shared else np.zeros(channels)
        self._eds = _Rays(s.A, s.projections, s.gains, s.ray_weights, (c.own, mix, c.ratios), channels, count)
        self._haadf_data = pack(s.haadf[None], count) if s.shared else None
        if s.haadf is not None and not s.shared:
            one = (np.ones(1), np.zeros(1), np.zeros(1))
            self._haadf = _Rays(s.haadf_projector, s.haadf[None], s.haadf_gains[None], s.haadf_ray_weights, one, 1, count)
            self._sum = empty_lanes(self._x.size // channels, count)
            self._extra = empty_lanes(self._x.size // channels, count)
        self._ratios, self._shares, self._step = np.float32(c.ratios), np.float32(c.mix), np.ascontiguousarray(s.steps)

    def _read(self):
        return unpack(self._x, (len(self._ratios), *self.system.A.domain_shape, self._slices))

    def _run(self, call, tasks):
        self._workers.run(lambda *task: None if self._cancelled.is_set() else call(*task), tasks)

    def _haadf_apart(self, rows):
        """Project the sum of the elements with the HAADF's geometry, and its residual back into `_extra`."""
        rays = self._haadf
        self._run(lambda *task: sum_channels(self._x, self._sum, self._ratios, self._eds.shape, *task), rows)
        self._run(lambda *task: rays.forward(self._sum, None, None, *task), rays.tasks)
        self._run(lambda *task: rays.back(self._extra, None, None, None, None, False, *task), rows)

    def advance(self):
        """Do one iteration."""
        s, eds = self.system, self._eds
        rows = s.A.row_tasks(eds.groups)
        if self._haadf is not None:
            self._haadf_apart(rows)
        haadf_gains = s.haadf_gains if s.shared else None
        self._run(lambda *task: eds.forward(self._x, self._haadf_data, haadf_gains, *task), eds.tasks)
        if self._cancelled.is_set():
            return
        with self._lock:  # and no cancelling: what is begun here makes a whole iterate
            self._workers.run(
                lambda *task: eds.back(self._x, self._step, self._extra, self._shares, self._mask, s.nonnegative, *task), rows
            )
            squares = eds.squares.sum(axis=0)
            if self._haadf is not None:
                squares[-1] = self._haadf.squares[:, 0].sum()
            self.residuals = s.relative_residuals(squares)
            self.iteration += 1


def steps_of(system: System) -> Steps:
    """Return the fused form where every projector is numba's, else the textbook form."""
    projectors = [system.A] if system.haadf is None else [system.A, system.haadf_projector]
    fused = all(isinstance(A, NumbaProjector) for A in projectors)
    return FusedSteps(system) if fused else TextbookSteps(system)
