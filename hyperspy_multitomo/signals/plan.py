# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruction will take, before it runs: memory, slabs, device, and time from a trial of a few iterations."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.cluster import client_in_use, workers
from hyperspy_multitomo.machine.memory import available_memory
from hyperspy_multitomo.machine.parallel import available_cores
from hyperspy_multitomo.reconstruction.job import Job
from hyperspy_multitomo.reconstruction.memory_model import Footprint
from hyperspy_multitomo.reconstruction.slabs import Slabs
from hyperspy_multitomo.reconstruction.slots import places
from hyperspy_multitomo.tomography import projector

# The trial: slices, iterations at most, and seconds after which no further iteration begins.
_SLICES, _ITERATIONS, _SECONDS = 64, 8, 10.0
_WANTED: ContextVar[bool] = ContextVar("wanted", default=False)


@dataclass(frozen=True)
class ReconstructionPlan:
    """What a reconstruction will take.

    Attributes
    ----------
    method : str
        The method that runs, such as ``"reconstruct_tgv"``.
    shape : tuple of int
        Of the volume, (channel, z, y, x).
    backend : str
        The projector.
    device : str
        What it runs on.
    workers : int
        Of the cluster in use; 0 where this machine does the work.
    iterations : int
        At most; 0 for a method without iterations.
    slabs : int
        1 where all slices are reconstructed together. A dashboard shows as many tasks named as the
        method.
    thickness, overlap : int
        Slices of a slab, and those on either side that it is reconstructed with.
    at_once : int
        Slabs side by side.
    threads : int
        Of each of them.
    memory : int
        Bytes held at the peak by the slabs that are worked at, beside a series that is in memory.
    available : int or None
        Bytes that are free for it now, on this machine or the smallest worker.
    seconds_per_iteration : float
        Of all slices.
    seconds : float
        Of the whole run; less where a stopping rule ends it.
    """

    method: str
    shape: tuple[int, int, int, int]
    backend: str
    device: str
    workers: int
    iterations: int
    slabs: int
    thickness: int
    overlap: int
    at_once: int
    threads: int
    memory: int
    available: int | None
    seconds_per_iteration: float
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether there is as much memory as it needs."""
        return self.available is None or self.memory <= self.available

    def __str__(self) -> str:
        channels, nz, ny, nx = self.shape
        free = "" if self.available is None else f" of {_bytes(self.available)} that are free"
        cutting = "all slices together"
        if self.slabs > 1:
            cutting = f"{self.slabs} slabs of {self.thickness} slices, {self.at_once} at once"
            cutting += f", each with {self.overlap} more on either side" if self.overlap else ""
        device = f"{self.device}, {self.backend}"
        device += f", on {self.workers} worker{'s' * (self.workers > 1)}" if self.workers else ""
        each = (
            f"{self.iterations} iterations of {_time(self.seconds_per_iteration)}: "
            if self.iterations
            else ""
        )
        lines = {
            self.method: f"{channels} x {nz} x {ny} x {nx} voxels (channel, z, y, x), {_bytes(4 * int(np.prod(self.shape)))}",
            "device": device,
            "slabs": cutting,
            "memory": f"{_bytes(self.memory)}{free}",
            "time": f"{each}about {_time(self.seconds)}",
        }
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())

    def __repr__(self) -> str:
        return f"<ReconstructionPlan\n{self}>"


class _Planned(Exception):
    """Carries a plan out of the method whose run it takes the place of."""

    def __init__(self, plan: ReconstructionPlan):
        self.plan = plan


def wanted() -> bool:
    """Whether a plan is wanted instead of the reconstruction."""
    return _WANTED.get()


def offer(make: Callable[[], ReconstructionPlan]) -> None:
    """Leave the reconstruction with a plan where one is wanted."""
    if wanted():
        raise _Planned(make())


def plan_of(method: Callable, *arguments, **options) -> ReconstructionPlan:
    """Return the plan of a method of a series, called with these arguments."""
    token = _WANTED.set(True)
    try:
        method(*arguments, **options)
    except _Planned as planned:
        return planned.plan
    finally:
        _WANTED.reset(token)
    raise TypeError(f"{method.__name__} makes no plan")


def in_memory(
    job: Job, arrays: Mapping, coarse: Mapping[str, int], shape: tuple[int, ...], held: Footprint
) -> ReconstructionPlan:
    """Return the plan of a run on arrays in memory."""
    slices, threads = shape[-1], available_cores()
    whole = Slabs(slices, slices, 0, held.bytes_of(slices))
    trial = _Trial.of(job, arrays, coarse, slices, slices)
    times = trial.seconds_here(threads) * _longer(trial, whole, held)
    return _plan(job, shape, whole, _device(job), 1, threads, available_memory(), times)


def lazily(
    job: Job,
    arrays: Mapping,
    coarse: Mapping[str, int],
    shape: tuple[int, ...],
    slabs: Slabs,
    held: Footprint,
) -> ReconstructionPlan:
    """Return the plan of a run slab by slab, on this machine or a cluster."""
    trial = _Trial.of(job, arrays, coarse, max(slab.last - slab.first for slab in slabs), shape[-1])
    if slabs.workers:
        # As many side by side as slabs will be, on the workers that will do them.
        found = _on_workers(trial, slabs)
        side_by_side, threads, where, _ = found[0]
        at_once, available = len(found), None  # each has memory of its own
        times = (
            np.mean([seconds for *_, seconds in found], axis=0)
            * slabs.share
            / side_by_side
            / len(slabs)
        )
    else:
        at_once, threads = places(slabs.needed, slabs.share, slabs.one)
        where, available = _device(job), available_memory()
        times = trial.seconds_here(available_cores())  # all of them, which slabs side by side share
    times *= _longer(trial, slabs, held)
    return _plan(job, shape, slabs, where, at_once, threads, available, times)


def _longer(trial: _Trial, slabs: Slabs, held: Footprint) -> float:
    """Return how much longer slabs take than the trial's slices, one after the other."""
    return sum(held.time_of(slab.last - slab.first) for slab in slabs) / held.time_of(trial.slices)


def _on_workers(trial: _Trial, slabs: Slabs) -> list:
    """Return what `trial` finds in each place where one of the slabs will be worked at, side by side, on the cluster in use."""
    client = client_in_use()

    def everywhere(call: Callable, addresses, *arguments) -> list:
        # What a worker that dies should have done is done by another.
        how = {"pure": False, "allow_other_workers": True}
        return client.gather(
            [client.submit(call, *arguments, workers=[address], **how) for address in addresses]
        )

    known = list(workers())
    taken = everywhere(places, known, slabs.needed, slabs.share, slabs.one)
    each = [
        address for address, (at_once, _) in zip(known, taken, strict=True) for _ in range(at_once)
    ][: len(slabs)]
    everywhere(
        trial.of_one_iteration().on_worker, each, slabs
    )  # which loads what a process loads once: all begin together then
    return everywhere(trial.on_worker, each, slabs)


def _plan(
    job: Job, shape, slabs: Slabs, where, at_once: int, threads: int, available, times
) -> ReconstructionPlan:
    """Return a plan from the shape (channel, z, x, y), the back-end and its device, and what is done once and by iteration."""
    channels, nz, nx, ny = shape
    backend, device = where
    once, each = map(float, times)
    return ReconstructionPlan(
        method=job.step,
        shape=(channels, nz, ny, nx),
        backend=backend,
        device=device,
        workers=slabs.workers,
        iterations=job.iterations,
        slabs=len(slabs),
        thickness=slabs.thickness,
        overlap=slabs.overlap,
        at_once=at_once,
        threads=threads,
        memory=at_once * slabs.needed,
        available=available,
        seconds_per_iteration=each,
        seconds=once + job.iterations * each,
    )


def _device(job: Job) -> tuple[str, str]:
    """Return the name of the back-end and of what it runs on."""
    from hyperspy_multitomo.tomography import TiltGeometry

    A = projector(TiltGeometry([0.0, 90.0], 2), backend=job.backend)
    if hasattr(A, "device"):
        from hyperspy_multitomo.tomography.cuda.device import name

        return A.backend, name()
    cores = available_cores()
    return A.backend, f"CPU, {cores} core{'s' * (cores > 1)}"


class _EnoughError(Exception):
    """Ends a trial that takes long."""


@dataclass(frozen=True)
class _Trial:
    """A run of few iterations on few slices; it travels to a worker."""

    job: Job
    arrays: Mapping
    slices: int

    @classmethod
    def of(
        cls, job: Job, arrays: Mapping, coarse: Mapping[str, int], most: int, slices: int
    ) -> _Trial:
        """Return that on slices in the middle, as many as a slab has at most."""
        import dask

        together = max(coarse.values())
        few = min(max(min(_SLICES, most) // together, 1) * together, slices)
        first = (slices - few) // 2 // together * together
        part = {
            name: None
            if array is None
            else array[..., first // coarse[name] : (first + few) // coarse[name]]
            for name, array in arrays.items()
        }
        (part,) = dask.optimize(part)  # which leaves the tasks of other slices behind
        job = replace(job, iterations=min(job.iterations, _ITERATIONS), tolerance=None, noise=None)
        return cls(job, part, few)

    def of_one_iteration(self) -> _Trial:
        """Return a shorter one."""
        return replace(self, job=replace(self.job, iterations=min(self.job.iterations, 1)))

    def on_worker(self, slabs: Slabs):
        """Return how many of these slabs this worker does at once, on how many threads, on what (`_device`), and `seconds`."""
        at_once, threads = places(slabs.needed, slabs.share, slabs.one)
        return at_once, threads, _device(self.job), self.seconds(threads)

    def seconds_here(self, threads: int) -> np.ndarray:
        """Return `seconds`, without the warnings that the run will give."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.array(self.seconds(threads))

    def seconds(self, threads: int) -> tuple[float, float]:
        """Return the seconds that its slices take for what is done once, and for an iteration."""
        import dask

        (arrays,) = dask.compute(self.arrays, scheduler="synchronous")
        moments = []

        def progress(_):
            moments.append(time.perf_counter())
            if moments[-1] - start > _SECONDS and len(moments) > 1:
                raise _EnoughError

        self.of_one_iteration().job.run(
            arrays, threads=threads
        )  # which loads what a process loads once
        start = time.perf_counter()
        with suppress(_EnoughError):
            self.job.run(arrays, progress=progress, threads=threads)
        end = time.perf_counter()
        if not self.job.iterations:
            return end - start, 0.0
        each = float(np.median(np.diff(moments))) if len(moments) > 1 else moments[0] - start
        return max(0.0, end - start - len(moments) * each), each


def _bytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else f"{1e3 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


class Planning:
    """Mixin of the tilt series: `plan_reconstruction`."""

    @checked
    def plan_reconstruction(self, method: str, haadf=None, **options) -> ReconstructionPlan:
        """Say what a reconstruction will take: memory, slabs, device, and the time, from a trial of some iterations.

        Parameters
        ----------
        method : str
            ``"tgv"`` for `reconstruct_tgv`, and so on for every other method.
        haadf : TiltSeriesHAADF, optional
            For methods that take one.
        **options
            Keywords of the method, as they will be given to it.

        Returns
        -------
        ReconstructionPlan
            Prints as a table. `ReconstructionPlan.fits` says whether there is the memory.

        Raises
        ------
        TypeError
            For keywords that the method does not have, such as a HAADF series that it does not
            take, or that are missing.
        ValueError
            For an unknown method, and whatever the method itself refuses.
        MemoryError
            Where it would not fit, as the method itself would say.

        Notes
        -----
        The trial runs up to 8 iterations, or 10 s, on up to 64 slices in the middle. Regularised
        methods look at their data first, as they will again. Times hold for a machine that does
        nothing else. On a cluster its workers run the trial, side by side.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
        >>> plan = haadf.plan_reconstruction("sirt", iterations=200)
        >>> plan.iterations, plan.slabs, plan.fits
        (200, 1, True)
        """
        known = [
            name.removeprefix("reconstruct_")
            for name in dir(self)
            if name.startswith("reconstruct_")
        ]
        known = [name for name in known if name != "with_absorption"]
        if method not in known:
            raise ValueError(f"method={method!r} must be one of {', '.join(known)}")
        planned = getattr(self, f"reconstruct_{method}")
        given = options if haadf is None else {"haadf": haadf, **options}
        _check_call(planned, given)
        return plan_of(planned, **given)


def _check_call(method: Callable, given: Mapping) -> None:
    """Raise a TypeError that names the keywords which a method does not know, and those that it needs."""
    parameters = inspect.signature(method).parameters
    unknown = [name for name in given if name not in parameters]
    if unknown == ["haadf"]:
        raise TypeError(
            f"{method.__name__} reconstructs this series alone and takes no haadf=; leave it out "
            "of the plan"
        )
    if unknown:
        raise TypeError(
            f"{method.__name__} has no keyword {', '.join(unknown)}; expected some of "
            f"{', '.join(parameters)}"
        )
    missing = [
        name for name, one in parameters.items() if one.default is one.empty and name not in given
    ]
    if missing:
        raise TypeError(
            f"{method.__name__} needs {', '.join(missing)}: pass "
            f"{', '.join(f'{name}=' for name in missing)} to the plan as well"
        )
