# SPDX-License-Identifier: GPL-3.0-or-later
"""The primal-dual iteration by compiled kernels: all arrays stay in lanes throughout."""

from __future__ import annotations

from functools import partial

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import TILE, back_project, project
from hyperspy_multitomo.tomography.cpu.lane_rays import LaneRays
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes, lane_count, odd, pack, unpack
from hyperspy_multitomo.tomography.cpu.numba_projector import numba_projector
from hyperspy_multitomo.tomography.cpu.ray_duals import (
    measure_rays,
    step_rays,
    sum_mixed,
    weigh_duals,
)
from hyperspy_multitomo.tomography.cpu.residuals import average_pixels
from hyperspy_multitomo.tomography.cpu.variation_kernels import (
    NUCLEAR,
    PER_CHANNEL,
    TOGETHER,
    step_duals,
    step_primal,
    variation,
)
from hyperspy_multitomo.tomography.differences import stored_elements
from hyperspy_multitomo.tomography.functionals import LEAST
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY, PrimalDual
from hyperspy_multitomo.tomography.projectors import spread
from hyperspy_multitomo.tomography.variational_system import Term, VariationalSystem

_COUPLINGS = {"uncoupled": PER_CHANNEL, "frobenius": TOGETHER, "nuclear": NUCLEAR}


def _zeros(elements: int, count: int) -> np.ndarray:
    lanes = empty_lanes(elements, count)
    lanes["lanes"][:] = 0
    return lanes


class _TermRays(LaneRays):
    """Rays of one data term, with its data and their dual variables.

    It projects volumes (group, channel, z, x) of `channels` channels, of which it sees those from
    `first` on, one for each row of data, multiplied by `scales` (row,).
    """

    def __init__(self, term: Term, scales: np.ndarray, first: int, channels: int, count: int):
        binning = self._binning = term.A.geometry.binning
        super().__init__(term.A, term.rows, term.data.shape[-1] * binning, count)
        self._first, self._channels = first, channels
        self._gains, self._weights, self._scales = term.gains, term.weights, np.float32(scales)
        self._share = np.float32(1 / binning**2)
        self._poisson = term.discrepancy == "kl"
        self._data = pack(spread(term.data, binning), count)
        self._seen = self.rays if binning == 1 else self.empty()
        self._slices = term.data.shape[-1] * binning
        self._sums = np.zeros((len(self.tasks), term.rows, 2))
        self.rays["lanes"][:] = 0
        self._duals = _zeros(self.rays.size, count)
        self._steps: np.ndarray | None = None  # until `renew`
        self._background: np.ndarray | None = None

    def renew(self, term: Term, steps: np.ndarray) -> None:
        """Take the background of a term and the step sizes."""
        self._steps = np.repeat(steps, self._binning, axis=2)
        self._background = (
            None
            if term.background is None
            else pack(spread(term.background, self._binning), self.count)
        )

    def _group(self, volume, group):
        """Return the lanes of a volume and of the rays that belong to a group.

        Kernels that are given these take them for group 0.
        """
        rows, nz, _, stride, nt, _, tilt_stride = self.shape
        start, length = (group * self._channels + self._first) * nz * stride, rows * nz * stride
        rays = rows * nt * tilt_stride
        return volume[start : start + length], self.rays[group * rays : (group + 1) * rays]

    def project(self, volume, group, start, stop):
        """Project the volume at the tilts of a task into what the detector sees."""
        part, rays = self._group(volume, group)
        project(part, rays, self.A.table, self.A.geometry.pixel_size, self.shape, 0, start, stop)
        if self._binning > 1:
            lanes = (array["lanes"] for array in (self.rays, self._seen))
            average_pixels(*lanes, self._binning, self.shape, group, start, stop)

    def back(self, volume, group, start, stop):
        """Project the weighted duals back into the rows z of a task."""
        part, rays = self._group(volume, group)
        sums = empty_lanes(TILE * TILE, self.count)
        back_project(
            rays, part, self.A.table, self.A.geometry.pixel_size, self.shape, 0, start, stop, sums,
            None, False, None, None, None, False,
        )  # fmt: skip

    def step(self, volume, rho, _number, *task):
        """Do the step of the duals at the tilts of a task, and weigh them for the way back."""
        self.project(volume, *task)
        step_rays(
            self.rays, self._seen, self._duals, self._data, self._background, self._steps,
            self._gains, self._weights, self._scales, self._share, self._poisson, rho, self.shape,
            *task,
        )  # fmt: skip

    def measure(self, volume, number, *task):
        """Sum squares and discrepancies at the tilts of a task, and weigh the duals."""
        self.project(volume, *task)
        measure_rays(
            self._seen, self._data, self._background, self._gains, self._weights, self._scales,
            LEAST, self._poisson, self.shape, *task, self._sums[number],
        )  # fmt: skip
        self.weigh(number, *task)

    @property
    def sums(self) -> np.ndarray:
        """Sums of squares and of discrepancies, (row, 2), of each pixel once."""
        return self._sums.sum(axis=0) * float(self._share)

    @property
    def duals(self) -> np.ndarray:
        """s, (row, tilt, x, y), one for each pixel."""
        rows, _, _, _, nt, nu, _ = self.shape
        duals = unpack(self._duals, (rows, nt, nu, self._slices))
        return duals[:, :, :: self._binning, :: self._binning]

    def put(self, duals: np.ndarray) -> None:
        """Take s as `duals` gives it."""
        self._duals = pack(spread(duals, self._binning), self.count)

    def weigh(self, _number, *task):
        """Weigh the duals for the way back."""
        weigh_duals(
            self.rays, self._duals, self._gains, self._scales, self._share, self.shape, *task
        )


class FusedPrimalDual(PrimalDual):
    """The iteration of `TextbookPrimalDual` in four passes.

    They are the back projection of the data, the volume and the field, their duals, and the rays.

    The over-relaxed volume is not stored: it follows from u~ and the extrapolated one. There are 6
    (TV) or 18 (TGV) numbers per voxel and channel in three dimensions, 5 or 12 in two.
    """

    def __init__(self, system: VariationalSystem):
        super().__init__(system)
        s, (nz, nx) = system, system.A.domain_shape
        projector = numba_projector(system.A)
        slices = s.initial.shape[-1]
        count = self._lanes = lane_count(slices)
        stride, groups = odd(nx), -(-slices // count)
        self._size = s.channels, s.dimensions, nz, nx, stride, groups
        self._shape = projector.shape(s.channels)
        self._rows = projector.row_tasks(groups)
        self._best, self._ahead = pack(s.start(), count), pack(s.start(), count)
        self._back = _zeros(self._best.size, count)
        voxels = groups * nz * nx * s.channels
        self._p = _zeros(voxels * s.dimensions, count)
        self._field = self._field_ahead = self._q = self._linear = None
        if s.kind == "tgv":
            self._field, self._field_ahead = (
                _zeros(voxels * s.dimensions, count) for _ in range(2)
            )
            self._q = _zeros(voxels * stored_elements(s.dimensions), count)
        self._ends = _ends(slices, groups, count)
        self._mask = pack(s.mask[None], count) if s.mask is not None and s.mask.ndim == 3 else None
        self._values = np.zeros((len(self._rows), 4))
        self._sum = self._extra = self._shares = self._mix = None
        self._rays = []
        for term in s.terms:
            if term.mix is None:
                scales = s.scales[term.first : term.first + term.rows]
                self._rays.append(_TermRays(term, scales, term.first, s.channels, count))
            else:
                self._rays.append(_TermRays(term, np.ones(1), 0, 1, count))
                self._sum, self._extra = (_zeros(groups * nz * stride, count) for _ in range(2))
        self._renew()

    def _renew(self):
        """Take steps and factors from the system."""
        s = self.system
        self._volume_steps = s.volume_steps
        if s.mask is not None and s.mask.ndim == 2:
            # A volume that starts at 0 outside the mask stays there.
            self._volume_steps = s.volume_steps * s.mask
        for term, steps, rays in zip(s.terms, s.data_steps, self._rays, strict=True):
            rays.renew(term, steps)
            if term.mix is not None:
                self._shares = np.float32(s.scales if term.mix.ndim == 4 else s.scales * term.mix)
                self._mix = pack(term.mix, self._lanes) if term.mix.ndim == 4 else None

    def continue_with(self, system, u=None, w=None):
        """See `PrimalDual`."""
        with self._lock:
            self.system = system
            self._renew()
            if u is not None:
                self._best, self._ahead = pack(u, self._lanes), pack(u, self._lanes)
            if w is not None:
                self._field, self._field_ahead = self._packed(w), self._packed(w)

    def _scratch(self):
        elements = stored_elements(self.system.dimensions)
        return empty_lanes(self.system.channels * elements, self._lanes)

    def feasible(self):
        """Return (u, w)."""
        volume = unpack(self._best, self.system.initial.shape)
        return volume, self._unpacked(self._field, self.system.dimensions)

    def _unpacked(self, field, components):
        """Return a field's lanes as (channel, component, z, x, y)."""
        if field is None:
            return None
        channels, _, nz, nx, _, groups = self._size
        lanes = field["lanes"].reshape(groups, nz, nx, channels, components, -1)
        array = np.ascontiguousarray(lanes.transpose(3, 4, 1, 2, 0, 5)).reshape(
            channels, components, nz, nx, -1
        )
        return array[..., : self.system.initial.shape[-1]]

    def _packed(self, array):
        """Return the lanes of a field (channel, component, z, x, y)."""
        channels, _, nz, nx, _, groups = self._size
        lanes = _zeros(groups * nz * nx * channels * array.shape[1], self._lanes)
        view = lanes["lanes"].reshape(groups, nz, nx, channels, array.shape[1], self._lanes)
        for group in range(groups):
            part = array[..., group * self._lanes : (group + 1) * self._lanes]
            view[group, ..., : part.shape[-1]] = part.transpose(2, 3, 0, 1, 4)
        return lanes

    def state(self):
        """Return (u, w, p, q, s)."""
        dimensions = self.system.dimensions
        p = self._unpacked(self._p, dimensions)
        q = self._unpacked(self._q, stored_elements(dimensions))
        return *self.feasible(), p, q, [rays.duals for rays in self._rays]

    @property
    def linear(self):
        """See `PrimalDual`."""
        if self._linear is None:
            return None
        return unpack(self._linear, self.system.initial.shape)

    def _linearise(self):
        # A step of no length, not over-relaxed, is the projection; and one of length -1 from 0,
        # with nothing else that pulls, is grad^T p. Of two volumes that are 0 `_back` is one.
        self._workers.run(partial(self._duals, still=True), self._rows)
        self._back["lanes"][:] = 0
        linear = _zeros(self._back.size, self._lanes)
        size = self._volume_steps.shape

        def divergence(*task):
            step_primal(
                linear, self._back, None, None, self._p, None, linear, None, None, None, None,
                np.full(size, np.float32(-1)), np.float32(0), np.float32(1), False, None,
                self._ends, self._size, *task,
            )  # fmt: skip

        self._workers.run(divergence, self._rows)
        self._back["lanes"][:] = 0
        self._linear = linear

    def _arrays(self):
        s, elements = self.system, stored_elements(self.system.dimensions)
        yield "best", unpack(self._best, s.initial.shape)
        yield "ahead", unpack(self._ahead, s.initial.shape)
        yield "p", self._unpacked(self._p, s.dimensions)
        if s.kind == "tgv":
            yield "field", self._unpacked(self._field, s.dimensions)
            yield "field ahead", self._unpacked(self._field_ahead, s.dimensions)
            yield "q", self._unpacked(self._q, elements)
        for number, rays in enumerate(self._rays):
            yield f"s {number}", rays.duals

    def _put(self, arrays):
        self._best, self._ahead = (
            pack(arrays["best"], self._lanes),
            pack(arrays["ahead"], self._lanes),
        )
        self._p = self._packed(arrays["p"])
        if self.system.kind == "tgv":
            self._field, self._field_ahead = (
                self._packed(arrays["field"]),
                self._packed(arrays["field ahead"]),
            )
            self._q = self._packed(arrays["q"])
        for number, rays in enumerate(self._rays):
            rays.put(arrays[f"s {number}"])
            self._workers.run(rays.weigh, rays.tasks)
        linear = arrays.get("linear")
        self._linear = None if linear is None else pack(linear, self._lanes)

    def _see(self, volume, call):
        """Do `call(rays, what they see of the volume, *task)` for all tasks of all terms."""
        for term, rays in zip(self.system.terms, self._rays, strict=True):
            seen = volume if term.mix is None else self._sum
            if term.mix is not None:
                self._workers.run(
                    lambda *task: sum_mixed(
                        volume, self._sum, self._shares, self._mix, self._shape, *task
                    ),
                    self._rows,
                )
            self._workers.run(
                lambda *task, rays=rays, seen=seen: call(rays, seen, *task), rays.tasks
            )

    def _project_back(self, *task):
        if self._cancelled.is_set():
            return
        for term, rays in zip(self.system.terms, self._rays, strict=True):
            rays.back(self._back if term.mix is None else self._extra, *task)

    def _primal(self, *task):
        s = self.system
        step_primal(
            self._best, self._ahead, self._field, self._field_ahead, self._p, self._q, self._back,
            self._linear, self._extra, self._shares, self._mix, self._volume_steps,
            np.float32(s.field_step), np.float32(s.relaxation), s.nonnegative, self._mask,
            self._ends, self._size, *task,
        )  # fmt: skip

    def _duals(self, *task, still=False):
        s = self.system
        steps = np.float32(s.gradient_step), np.float32(s.matrix_step)
        steps, rho = ((np.float32(0),) * 2, 1.0) if still else (steps, s.relaxation)
        radii = np.float32(s.strength), np.float32(s.alpha0 * s.strength)
        step_duals(
            self._ahead, self._field_ahead, self._p, self._q, steps, radii, _COUPLINGS[s.coupling],
            np.float32(rho), self._ends, self._size, *task, self._scratch(),
        )  # fmt: skip

    def _variation(self, number, *task):
        s = self.system
        variation(
            self._best, self._field, self._linear, _COUPLINGS[s.coupling], self._ends, self._size,
            *task, self._scratch(), self._values[number],
        )  # fmt: skip

    def _measure(self):
        """Return the objective and the relative residuals of the volume."""
        s = self.system
        self._workers.run(
            self._variation, [(number, *task) for number, task in enumerate(self._rows)]
        )
        self._see(self._best, _TermRays.measure)
        found = s.of_variation(*self._values.sum(axis=0))
        for term, rays in zip(s.terms, self._rays, strict=True):
            squares, discrepancies = rays.sums.T
            found["objective"] += float(discrepancies.sum())
            found[term.name] = term.relative(squares)
        found["objective"] *= s.energy
        return found

    def objective(self):
        """Return the objective of the volume, now."""
        with self._lock:
            return self._measure()["objective"]

    def advance(self):
        """Do one iteration."""
        with self._lock:
            self._begin()
            self._workers.run(self._project_back, self._rows)
            if self._cancelled.is_set():
                return
            # No cancelling from here on: the iterate is completed.
            self._workers.run(self._primal, self._rows)
            self._workers.run(self._duals, self._rows)
            rho = np.float32(self.system.relaxation)
            self._see(self._ahead, lambda rays, seen, *task: rays.step(seen, rho, *task))
            self.measured = (self.iteration + 1) % MEASURED_EVERY == 0
            self._count(self._measure() if self.measured else self.residuals)


def _ends(slices: int, groups: int, count: int) -> np.ndarray:
    """Return lanes that are 1 where a slice has a next one, then where there is a slice.

    One element of zeros comes first, for the group before the first.
    """
    numbers = np.arange(groups * count).reshape(groups, count)
    ends = empty_lanes(2 * groups + 1, count)
    ends["lanes"][:] = np.concatenate(
        [np.zeros((1, count)), numbers + 1 < slices, numbers < slices]
    )
    return ends
