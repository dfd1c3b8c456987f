# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of all solvers' steps, and the textbook iteration of a stacked system."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Lock
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np

from hyperspy_multitomo.machine.denormals import denormals_flushed
from hyperspy_multitomo.machine.parallel import Workers
from hyperspy_multitomo.tomography.checkpoint import differences
from hyperspy_multitomo.tomography.system import System


class SolverSystem(Protocol):
    """What all solvers' systems have."""

    @property
    def channels(self) -> int:
        """Number of channels of the volume."""
        ...

    @property
    def threads(self) -> int:
        """Threads to use."""
        ...

    def start(self) -> np.ndarray:
        """Return the start (channel, z, x, y) of the volume."""
        ...

    @property
    def separate(self) -> bool:
        """Whether the channels are independent of each other."""
        ...

    @property
    def initial(self) -> np.ndarray:
        """The start as it was given, (channel, z, x, y)."""
        ...

    def in_signal(self, volume: np.ndarray, /) -> np.ndarray:
        """Return a volume in signal per unit length."""
        ...


SystemT = TypeVar("SystemT", bound=SolverSystem)


class Steps(ABC, Generic[SystemT]):
    """The state of a solver: volume, iteration number, residuals of the volume before.

    `advance` may run in another thread than the one that reads `volume`; the lock lets a reader see
    complete iterates only.

    Attributes
    ----------
    system : SolverSystem
        Data, projectors and start, such as a `System`.
    iteration : int
        Iterations done.
    channel_iterations : numpy.ndarray of int (channel,)
        Iterations that each channel took part in.
    stopped : numpy.ndarray of bool (channel,)
        Channels that `hold` has stopped.
    residuals, latest : dict
        Relative residuals before the last iteration, and the latest that are known.
    measured : bool
        Whether the last iteration measured residuals.
    refits : bool
        Whether there is a second solve, see `Iterate.refit`.
    refitted_at : int or None
        Iteration at which it began.
    """

    refits: ClassVar[bool] = False

    def __init__(self, system: SystemT):
        self.system = system
        self.iteration = 0
        self.residuals: dict[str, np.ndarray | float] = {}
        self.latest = self.residuals
        self.measured = True
        self.refitted_at: int | None = None
        self.stopped = np.zeros(system.channels, bool)
        self.channel_iterations = np.zeros(self.stopped.size, int)
        self._workers = Workers(system.threads)
        self._lock = Lock()
        self._cancelled = Event()

    @abstractmethod
    def advance(self) -> None:
        """Do one iteration; after `cancel`, return early with the volume before or after it."""

    @abstractmethod
    def _read(self) -> np.ndarray:
        """Return the current volume, in the units of the system."""

    def _arrays(self) -> Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]:
        """Return all arrays that a resumed run needs, as a dict or as pairs, one copy at a time.

        They have the axes of `Iterate.snapshot`.
        """
        raise NotImplementedError

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore the arrays that `_arrays` returned."""
        raise NotImplementedError

    @property
    def signature(self) -> dict:
        """What a state must have in common to be restored: form and shapes of arrays."""
        if type(self)._arrays is Steps._arrays:
            raise NotImplementedError(
                f"the state of {type(self).__name__} cannot be kept: run it without a checkpoint"
            )
        return {"form": type(self).__name__, "volume": list(self.system.initial.shape)}

    @contextmanager
    def frozen(self) -> Iterator[Iterator[tuple[str, np.ndarray]]]:
        """Wait between two iterations, and yield the state as pairs of names and arrays."""
        with self._lock:
            yield self._state()

    def _state(self):
        yield "signature", np.array(json.dumps(self.signature))
        yield "iteration", np.array(self.iteration)
        yield "channel iterations", self.channel_iterations.copy()
        yield "held", self.stopped.copy()
        yield "measured", np.array(self.measured)
        for kind, residuals in (("residuals", self.residuals), ("latest", self.latest)):
            for name, value in residuals.items():
                yield f"{kind} {name}", np.asarray(value)
        arrays = self._arrays()
        yield from arrays.items() if isinstance(arrays, Mapping) else arrays

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return all that a resumed run needs, bit for bit on one machine, by names.

        The arrays are not to be changed.
        """
        with self.frozen() as state:
            return dict(state)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the state of the steps that gave this snapshot, of the same system.

        Arrays are read one after the other.

        Raises
        ------
        ValueError
            If they were of another form, or their arrays of other shapes.
        """
        stored = json.loads(str(state["signature"])) if "signature" in state else {}
        if found := differences(self.signature, stored):
            raise ValueError(
                f"this is the state of another solver: {found}. Make the solver as it was made then"
            )
        with self._lock:
            self._put(state)
            self.iteration, self.measured = int(state["iteration"]), bool(state["measured"])
            self.channel_iterations = np.array(state["channel iterations"])
            self.residuals, self.latest = (
                _values(state, f"{kind} ") for kind in ("residuals", "latest")
            )
            self.stopped = np.zeros_like(self.stopped)
            self.hold(np.asarray(state["held"]))

    @property
    def volume(self) -> np.ndarray:
        """A copy of the current volume, (channel, z, x, y) float32."""
        with self._lock, denormals_flushed():
            return self.system.in_signal(self._read())

    @property
    def separate(self) -> bool:
        """Whether the channels are independent of each other."""
        return self.system.separate

    def hold(self, channels: np.ndarray) -> None:
        """Stop the channels, bool (channel,), from the next iteration on."""
        self.stopped |= channels

    def refit(self) -> None:
        """Turn to the second solve from the next iteration on, where there is one."""
        raise NotImplementedError(f"{type(self).__name__} has no second solve")

    def _count(self, residuals: dict, latest: dict | None = None) -> None:
        """Record an iteration: the residuals before it and, if they are known, those after it."""
        self.residuals = residuals
        self.latest = residuals if latest is None else latest
        self.iteration += 1
        self.channel_iterations += ~self.stopped

    def cancel(self) -> None:
        """Ask an iteration under way to end soon."""
        self._cancelled.set()

    def close(self) -> None:
        """End the threads; the volume stays."""
        self._workers.close()


def _values(state: Mapping, prefix: str) -> dict[str, np.ndarray | float]:
    """Return the entries whose names have this prefix, by their names without it."""
    values = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    return {name: value if value.ndim else float(value) for name, value in values.items()}


def sums_of_squares(residuals: np.ndarray) -> np.ndarray:
    """Return the sum of squares of each channel (channel,) in double precision."""
    return np.array([np.sum(np.square(channel, dtype=np.float64)) for channel in residuals])


class VolumeSteps(Steps[SystemT]):
    """Steps in NumPy whose state is the volume alone."""

    def __init__(self, system: SystemT):
        super().__init__(system)
        self._volume = system.start()

    def _read(self):
        return self._volume.copy()

    def _arrays(self):
        return {"volume": self._volume}

    def _put(self, arrays):
        self._volume = arrays["volume"]


class TextbookSteps(VolumeSteps[System]):
    """SIRT and HEBT in NumPy, for any projector: the reference for the fused form.

    An iteration is x <- max(0, x + C [direct W^T R e + mix W_h^T R_h f]).
    """

    def advance(self):
        """Do one iteration."""
        s, x = self.system, self._volume
        direct, mix, ratios = (
            v.astype(np.float32)
            for v in (s.coefficients.direct, s.coefficients.mix, s.coefficients.ratios)
        )
        with_data = len(s.projections)
        e = s.projections - s.gains[:, :, None, None] * s.A(x[:with_data])
        rows = np.float32(s.A.geometry.binning**2)
        update = np.zeros_like(x)
        update[:with_data] = rows * s.A.T(
            direct[:with_data, None, None, None] * s.ray_weights[..., None] * e
        )
        f = np.zeros(1)
        if (haadf := s.haadf_rows) is not None:
            f = haadf.data - haadf.gains[:, None, None] * haadf.projector(
                np.einsum("c,czxy->zxy", ratios, x)
            )
            rows = np.float32(haadf.projector.geometry.binning**2)
            update += (rows * mix)[:, None, None, None] * haadf.projector.T(
                s.haadf_ray_weights[..., None] * f
            )
        x = (
            x
            + s.steps[..., None]
            * np.where(self.stopped, 0, np.float32(1))[:, None, None, None]
            * update
        )
        if s.nonnegative:
            x = np.maximum(x, 0)
        if s.mask is not None and s.mask.ndim == 3:
            x *= s.mask
        if self._cancelled.is_set():
            return
        with self._lock:
            self._volume = x
            self._count(
                s.relative_residuals(
                    np.append(sums_of_squares(e), np.sum(np.square(f, dtype=np.float64)))
                )
            )
