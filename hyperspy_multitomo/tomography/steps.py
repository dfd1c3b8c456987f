# SPDX-License-Identifier: GPL-3.0-or-later
"""One iteration of a stacked system, in two forms: the textbook one in NumPy, and the fused one that runs on lanes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Lock

import numpy as np

from hyperspy_multitomo.denormals import denormals_flushed
from hyperspy_multitomo.tomography.checkpoint import differences
from hyperspy_multitomo.tomography.lanes import empty_lanes, lane_count, pack, unpack
from hyperspy_multitomo.tomography.numba_projector import NumbaProjector
from hyperspy_multitomo.tomography.parallel import Workers
from hyperspy_multitomo.tomography.projectors import Projector, spread
from hyperspy_multitomo.tomography.rays import Rays
from hyperspy_multitomo.tomography.residuals import average_pixels, mix_residuals, sum_channels
from hyperspy_multitomo.tomography.system import System


class Steps(ABC):
    """The state of a solver: the current volume, its iteration number, the residuals of the volume before it.

    `advance` may run in another thread than the one that reads `volume`; the lock lets a reader see whole iterates only.
    `measured` says whether the last iteration found new residuals.
    """

    def __init__(self, system: System):
        self.system = system
        self.iteration = 0
        self.residuals: dict[str, np.ndarray | float] = {}
        self.latest = self.residuals
        self.measured = True
        self.held = np.zeros(system.channels, bool)
        self.channel_iterations = np.zeros(self.held.size, int)
        self._workers = Workers(system.threads)
        self._lock = Lock()
        self._cancelled = Event()

    @abstractmethod
    def advance(self) -> None:
        """Do one iteration; after `cancel`, return early with the volume as it was, or whole."""

    @abstractmethod
    def _read(self) -> np.ndarray:
        """Return the current volume, in the units of the system."""

    def _arrays(self) -> Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]:
        """Return all arrays that going on needs, in the numerics' order: a dict, or pairs, one copy after the other."""
        raise NotImplementedError

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `_arrays` gave."""
        raise NotImplementedError

    @property
    def signature(self) -> dict:
        """What a state has to be of to be restored here: the form of the solver and the shapes of its arrays."""
        if type(self)._arrays is Steps._arrays:
            raise NotImplementedError(f"the state of {type(self).__name__} cannot be kept: run it without a checkpoint")
        return {"form": type(self).__name__, "volume": list(self.system.initial.shape)}

    @contextmanager
    def frozen(self) -> Iterator[Iterator[tuple[str, np.ndarray]]]:
        """Hold the steps between two iterations, and give their state as pairs of names and arrays, one after the other."""
        with self._lock:
            yield self._state()

    def _state(self):
        yield "signature", np.array(json.dumps(self.signature))
        yield "iteration", np.array(self.iteration)
        yield "channel iterations", self.channel_iterations.copy()
        yield "held", self.held.copy()
        yield "measured", np.array(self.measured)
        for kind, residuals in (("residuals", self.residuals), ("latest", self.latest)):
            for name, value in residuals.items():
                yield f"{kind} {name}", np.asarray(value)
        arrays = self._arrays()
        yield from arrays.items() if isinstance(arrays, Mapping) else arrays

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return all that going on needs, bit for bit on one machine, by names; the arrays are not to be changed."""
        with self.frozen() as state:
            return dict(state)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Be as the steps were that gave this snapshot, of the same system; arrays are asked for one after the other.

        Raises
        ------
        ValueError
            If they were of another form, or their arrays of other shapes.
        """
        kept = json.loads(str(state["signature"])) if "signature" in state else {}
        if found := differences(self.signature, kept):
            raise ValueError(f"this is the state of another solver: {found}. Make the solver as it was made then")
        with self._lock:
            self._put(state)
            self.iteration, self.measured = int(state["iteration"]), bool(state["measured"])
            self.channel_iterations = np.array(state["channel iterations"])
            self.residuals, self.latest = (_values(state, f"{kind} ") for kind in ("residuals", "latest"))
            self.held = np.zeros_like(self.held)
            self.hold(np.asarray(state["held"]))

    @property
    def volume(self) -> np.ndarray:
        """A copy of the current volume, (channel, z, x, y) float32."""
        with self._lock, denormals_flushed():
            return self.system.in_signal(self._read())

    @property
    def separate(self) -> bool:
        """Whether no channel has anything to do with another."""
        return self.system.separate

    def hold(self, channels: np.ndarray) -> None:
        """Let the channels, bool (channel,), stand still from the next iteration on."""
        self.held |= channels

    def _count(self, residuals: dict, latest: dict | None = None) -> None:
        """Take note of an iteration that is done, of the residuals it started from, and those it led to if they are known."""
        self.residuals = residuals
        self.latest = residuals if latest is None else latest
        self.iteration += 1
        self.channel_iterations += ~self.held

    def cancel(self) -> None:
        """Ask an iteration under way to end soon."""
        self._cancelled.set()

    def close(self) -> None:
        """Let go of the threads; the volume stays."""
        self._workers.close()


def _values(state: Mapping, start: str) -> dict[str, np.ndarray | float]:
    """Return the entries whose names begin like this, by the rest of their names."""
    found = {name.removeprefix(start): state[name] for name in state if name.startswith(start)}
    return {name: value if value.ndim else float(value) for name, value in found.items()}


def sums_of_squares(residuals: np.ndarray) -> np.ndarray:
    """Return the sum of squares of each channel (channel,) in double precision."""
    return np.array([np.sum(np.square(channel, dtype=np.float64)) for channel in residuals])


class TextbookSteps(Steps):
    """x <- max(0, x + C [own W^T R e + mix W_h^T R_h f]) in NumPy, for any projector: the reference for the fused form."""

    def __init__(self, system: System):
        super().__init__(system)
        self._volume = system.start()

    def _read(self):
        return self._volume.copy()

    def _arrays(self):
        return {"volume": self._volume}

    def _put(self, arrays):
        self._volume = arrays["volume"]

    def advance(self):
        """Do one iteration."""
        s, x = self.system, self._volume
        own, mix, ratios = (v.astype(np.float32) for v in (s.coefficients.own, s.coefficients.mix, s.coefficients.ratios))
        with_data = len(s.projections)
        e = s.projections - s.gains[:, :, None, None] * s.A(x[:with_data])
        rows = np.float32(s.A.geometry.binning**2)
        update = np.zeros_like(x)
        update[:with_data] = rows * s.A.T(own[:with_data, None, None, None] * s.ray_weights[..., None] * e)
        f = np.zeros(1)
        if s.haadf is not None:
            f = s.haadf - s.haadf_gains[:, None, None] * s.haadf_projector(np.einsum("c,czxy->zxy", ratios, x))
            rows = np.float32(s.haadf_projector.geometry.binning**2)
            update += (rows * mix)[:, None, None, None] * s.haadf_projector.T(s.haadf_ray_weights[..., None] * f)
        x = x + s.steps[..., None] * np.where(self.held, 0, np.float32(1))[:, None, None, None] * update
        if s.nonnegative:
            x = np.maximum(x, 0)
        if s.mask is not None and s.mask.ndim == 3:
            x *= s.mask
        if self._cancelled.is_set():
            return
        with self._lock:
            self._volume = x
            self._count(s.relative_residuals(np.append(sums_of_squares(e), np.sum(np.square(f, dtype=np.float64)))))


class _DataRays(Rays):
    """Rays with the data that they are compared to, and the weights and coefficients of the comparison.

    `haadf_weights` are those of the HAADF that is mixed in, None where none is.
    """

    def __init__(self, A: NumbaProjector, data, gains, weights, haadf_weights, coefficients, channels: int, count: int):
        binning = self._binning = A.geometry.binning
        super().__init__(A, channels, data.shape[-1] * binning, count)
        weights = np.repeat(weights, binning, axis=1)
        self.gains, self.weights = gains, (weights, weights if haadf_weights is None else haadf_weights)
        self.coefficients = tuple(np.float32(v) for v in coefficients)
        self.data = pack(spread(data, binning), count)
        self._seen = self.rays if binning == 1 else self.empty()
        self._squares = np.zeros((len(self.tasks), len(gains) + 1))

    @property
    def squares(self) -> np.ndarray:
        """Sums of squares of the residuals, (channel with data and, last, the HAADF sum): of each pixel once."""
        squares = self._squares.sum(axis=0)
        squares[:-1] /= self._binning**2
        return squares

    def forward(self, volume, haadf, haadf_gains, number, group, start, stop):
        """Project the volume at some tilts and turn the projections into weighted residuals."""
        self.project(volume, group, start, stop)
        if self._binning > 1:
            lanes = (array["lanes"] for array in (self.rays, self._seen))
            average_pixels(*lanes, self._binning, self.shape, group, start, stop)
        scratch = empty_lanes(len(self.gains) + 1, self.count)
        mix_residuals(
            self.rays, self._seen, self.data, haadf, self.weights, self.gains, haadf_gains, self.coefficients, self.shape,
            group, start, stop, scratch, self._squares[number],
        )  # fmt: skip


class FusedSteps(Steps):
    """The same iteration by the compiled kernels: data and volume stay in lanes from the first iteration to the last.

    Where HAADF and elements share their rays, the projections of the elements make the HAADF's too. Otherwise the sum of the
    elements is projected and its residual projected back on its own, and added to each element's update.
    """

    def __init__(self, system: System):
        super().__init__(system)
        s, c = system, system.coefficients
        channels, self._slices = len(c.own), s.initial.shape[-1]
        count = lane_count(self._slices)
        self._x = pack(s.start(), count)
        self._mask = None
        if s.mask is not None and s.mask.ndim == 3:
            self._mask = pack(s.mask[None], count)
        self._haadf, self._sum, self._extra = None, None, None
        mix = c.mix if s.shared else np.zeros(channels)
        weights = s.ray_weights, s.haadf_ray_weights if s.shared else None
        self._eds = _DataRays(s.A, s.projections, s.gains, *weights, (c.own, mix, c.ratios), channels, count)
        self._haadf_data = pack(s.haadf[None], count) if s.shared else None
        if s.haadf is not None and not s.shared:
            one = (np.ones(1), np.zeros(1), np.zeros(1))
            haadf = s.haadf_projector, s.haadf[None], s.haadf_gains[None], s.haadf_ray_weights
            self._haadf = _DataRays(*haadf, None, one, 1, count)
            self._sum = empty_lanes(self._x.size // channels, count)
            self._extra = empty_lanes(self._x.size // channels, count)
        self._ratios, self._shares, self._step = np.float32(c.ratios), np.float32(c.mix), np.array(s.steps)

    def _read(self):
        return unpack(self._x, (len(self._ratios), *self.system.A.domain_shape, self._slices))

    def _arrays(self):
        return {"volume": self._read()}

    def _put(self, arrays):
        self._x, self._step = pack(arrays["volume"], lane_count(self._slices)), np.array(self.system.steps)

    def hold(self, channels):
        """Let the channels stand still: a step of 0 leaves a volume that obeys the constraints as it is."""
        super().hold(channels)
        self._step[self.held] = 0

    def _run(self, call, tasks):
        self._workers.run(lambda *task: None if self._cancelled.is_set() else call(*task), tasks)

    def _haadf_apart(self, rows):
        """Project the sum of the elements with the HAADF's geometry, and its residual back into `_extra`."""
        rays = self._haadf
        self._run(lambda *task: sum_channels(self._x, self._sum, self._ratios, self._eds.shape, *task), rows)
        self._run(lambda *task: rays.forward(self._sum, None, None, *task), rays.tasks)
        self._run(lambda *task: rays.back(self._extra, *task), rows)

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
        update = dict(step=self._step, extra=self._extra, shares=self._shares, mask=self._mask, nonnegative=s.nonnegative)
        with self._lock:  # and no cancelling: what is begun here makes a whole iterate
            self._workers.run(lambda *task: eds.back(self._x, *task, **update), rows)
            squares = eds.squares
            if self._haadf is not None:
                squares[-1] = self._haadf.squares[0]
            self._count(s.relative_residuals(squares))


def fits_lanes(A: Projector) -> bool:
    """Whether the compiled kernels can run this projector's iterations: pixels of several voxels have to divide the lanes."""
    return isinstance(A, NumbaProjector) and A.geometry.binning in (1, 2, 4, 8, 16)


def on_device(*projectors: Projector) -> bool:
    """Whether projectors work on device arrays, all on one device."""
    devices = {getattr(A, "device_id", None) for A in projectors}
    return len(devices) == 1 and None not in devices


def steps_of(system: System) -> Steps:
    """Return the fused form where every projector is numba's or on one device, else the textbook form."""
    projectors = [system.A] if system.haadf is None else [system.A, system.haadf_projector]
    if on_device(*projectors):
        from hyperspy_multitomo.tomography.cuda.stacked import CudaSteps

        return CudaSteps(system)
    return FusedSteps(system) if all(map(fits_lanes, projectors)) else TextbookSteps(system)
