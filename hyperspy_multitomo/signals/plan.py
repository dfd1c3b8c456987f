# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruction will take, before it runs: memory, slabs, device, and time from a trial of a few iterations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np

from ..tomography import projector
from ..tomography.parallel import available_cores
from .footprint import Footprint
from .job import Job
from .memory import available_memory
from .slabs import Slabs, client_in_use, worker_memory, worker_threads
from .turns import places

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
    iterations : int
        At most; 0 for a method without iterations.
    slabs : int
        1 where all slices are reconstructed together. A dashboard shows as many tasks named as the method.
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
        each = f"{self.iterations} iterations of {_time(self.seconds_per_iteration)}: " if self.iterations else ""
        lines = {
            self.method: f"{channels} x {nz} x {ny} x {nx} voxels (channel, z, y, x), {_bytes(4 * int(np.prod(self.shape)))}",
            "device": f"{self.device}, {self.backend}",
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
    times = _trial(job, arrays, coarse, slices, threads)
    return _plan(job, shape, Slabs(slices, slices, 0, held.bytes_of(slices)), 1, threads, available_memory(), times)


def lazily(job: Job, arrays: Mapping, coarse: Mapping[str, int], shape: tuple[int, ...], slabs: Slabs) -> ReconstructionPlan:
    """Return the plan of a run slab by slab, on this machine or a cluster."""
    client = client_in_use()
    if client is None:
        at_once, threads = places(slabs.needed, slabs.one)
        at_once, cores = min(at_once, len(slabs)), available_cores()
    else:
        at_once, threads, cores = min(worker_threads(), len(slabs)), 1, 1
    once, each = _trial(job, arrays, coarse, shape[-1], cores)
    # Slabs overlap, and side by side they share the cores of this machine; workers of a cluster are taken to be like it.
    again = sum(slab.last - slab.first for slab in slabs) / shape[-1] / (1 if client is None else at_once)
    available = worker_memory() if client is None else None
    return _plan(job, shape, slabs, at_once, threads, available, (once * again, each * again))


def _plan(job: Job, shape, slabs: Slabs, at_once: int, threads: int, available: int | None, times) -> ReconstructionPlan:
    """Return a plan from the shape (channel, z, x, y) and the seconds of what is done once and of an iteration."""
    channels, nz, nx, ny = shape
    once, each = times
    backend, device = _device(job)
    return ReconstructionPlan(
        method=job.step,
        shape=(channels, nz, ny, nx),
        backend=backend,
        device=device,
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
    from ..tomography import TiltGeometry

    A = projector(TiltGeometry([0.0, 90.0], 2), backend=job.backend)
    if hasattr(A, "device"):
        from ..tomography.cuda.device import name

        return A.backend, name()
    cores = available_cores()
    return A.backend, f"CPU, {cores} core{'s' * (cores > 1)}"


def _trial(job: Job, arrays: Mapping, coarse: Mapping[str, int], slices: int, threads: int) -> tuple[float, float]:
    """Return the seconds that all slices would take for what is done once, and for an iteration, from some in the middle."""
    together = max(coarse.values())
    few = min(max(_SLICES // together, 1) * together, slices)
    first = (slices - few) // 2 // together * together
    part = {
        name: None if array is None else np.asarray(array[..., first // coarse[name] : (first + few) // coarse[name]])
        for name, array in arrays.items()
    }
    trial, moments = replace(job, iterations=min(job.iterations, _ITERATIONS), tolerance=None, noise=None), []

    def progress(_):
        moments.append(time.perf_counter())
        if moments[-1] - start > _SECONDS and len(moments) > 1:
            raise KeyboardInterrupt  # ends the trial, as one by the user would

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        replace(trial, iterations=min(job.iterations, 1)).run(part, threads=threads)  # which loads what a process loads once
        start = time.perf_counter()
        trial.run(part, progress=progress, threads=threads)
        end = time.perf_counter()
    share = slices / few
    if not job.iterations:
        return (end - start) * share, 0.0
    each = float(np.median(np.diff(moments))) if len(moments) > 1 else moments[0] - start
    return max(0.0, end - start - len(moments) * each) * share, each * share


def _bytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.2g} ms"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


class Planning:
    """Mixin of the tilt series: `plan_reconstruction`."""

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
        ValueError
            For an unknown method, and whatever the method itself refuses.
        MemoryError
            Where it would not fit, as the method itself would say.

        Notes
        -----
        The trial runs up to 8 iterations, or 10 s, on 64 slices in the middle. Regularised methods look at their data first, as
        they will again. Times hold for a machine that does nothing else; workers of a cluster are taken for as fast as this one.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
        >>> plan = haadf.plan_reconstruction("sirt", iterations=200)
        >>> plan.iterations, plan.slabs, plan.fits
        (200, 1, True)
        """
        known = [name.removeprefix("reconstruct_") for name in dir(self) if name.startswith("reconstruct_")]
        known = [name for name in known if name != "with_absorption"]
        if method not in known:
            raise ValueError(f"method={method!r} must be one of {', '.join(known)}")
        return plan_of(getattr(self, f"reconstruct_{method}"), *([] if haadf is None else [haadf]), **options)
