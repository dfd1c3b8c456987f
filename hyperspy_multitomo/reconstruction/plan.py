# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruction will take, before it runs: memory, slabs, device and time.

The time is measured in a trial of a few iterations.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from hyperspy_multitomo.machine.cluster import client_in_use, workers
from hyperspy_multitomo.machine.memory import available_memory
from hyperspy_multitomo.machine.parallel import available_cores
from hyperspy_multitomo.reconstruction.job import Job
from hyperspy_multitomo.reconstruction.memory_model import Footprint, uses_device
from hyperspy_multitomo.reconstruction.run import Prepared
from hyperspy_multitomo.reconstruction.slabs import Slabs
from hyperspy_multitomo.reconstruction.slots import places
from hyperspy_multitomo.tomography import projector

# The trial: slices, iterations at most, and seconds after which no further iteration begins.
_SLICES, _ITERATIONS, _SECONDS = 64, 8, 10.0


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
        At most, of both solves of a refit; 0 for a method without iterations.
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
        size = _bytes(4 * int(np.prod(self.shape)))
        lines = {
            self.method: f"{channels} x {nz} x {ny} x {nx} voxels (channel, z, y, x), {size}",
            "device": device,
            "slabs": cutting,
            "memory": f"{_bytes(self.memory)}{free}",
            "time": f"{each}about {_time(self.seconds)}",
        }
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())

    def __repr__(self) -> str:
        return f"<ReconstructionPlan\n{self}>"


def plan(prepared: Prepared) -> ReconstructionPlan:
    """Return what a run will take, from a trial of a few iterations on a few slices."""
    job, slabs, footprint = prepared.job, prepared.slabs, prepared.footprint
    slices = prepared.problem.shape[-1]
    if slabs is None:
        whole, threads = Slabs(slices, slices, 0, footprint.bytes_of(slices)), available_cores()
        trial = _Trial.of(prepared, slices)
        times = trial.seconds_here(threads) * _longer(trial, whole, footprint)
        return _plan(prepared, whole, _device(job), 1, threads, available_memory(), times)
    trial = _Trial.of(prepared, max(slab.last - slab.first for slab in slabs))
    if slabs.workers:
        # As many side by side as slabs will be, on the workers that will do them.
        trials = _on_workers(trial, slabs)
        side_by_side, threads, where, _ = trials[0]
        at_once, available = len(trials), None  # each has memory of its own
        seconds = np.mean([each for *_, each in trials], axis=0)
        times = seconds * slabs.share / side_by_side / len(slabs)
    else:
        at_once, threads = places(slabs.needed, slabs.share, slabs.serial)
        where, available = _device(job), available_memory()
        times = trial.seconds_here(available_cores())  # all of them, which slabs share
    times *= _longer(trial, slabs, footprint)
    return _plan(prepared, slabs, where, at_once, threads, available, times)


def _longer(trial: _Trial, slabs: Slabs, footprint: Footprint) -> float:
    """Return how much longer slabs take than the trial's slices, one after the other."""
    return sum(footprint.time_of(slab.last - slab.first) for slab in slabs) / footprint.time_of(
        trial.slices
    )


def _on_workers(trial: _Trial, slabs: Slabs) -> list:
    """Return what `trial` measures in each place of the cluster where a slab will run."""
    client = client_in_use()

    def everywhere(call: Callable, addresses, *arguments) -> list:
        # What a worker that dies should have done is done by another.
        how = {"pure": False, "allow_other_workers": True}
        return client.gather(
            [client.submit(call, *arguments, workers=[address], **how) for address in addresses]
        )

    known = list(workers())
    taken = everywhere(places, known, slabs.needed, slabs.share, slabs.serial)
    each = [
        address for address, (at_once, _) in zip(known, taken, strict=True) for _ in range(at_once)
    ][: len(slabs)]
    everywhere(
        trial.of_one_iteration().on_worker, each, slabs
    )  # which loads what a process loads once: all begin together then
    return everywhere(trial.on_worker, each, slabs)


def _plan(
    prepared: Prepared, slabs: Slabs, where, at_once: int, threads: int, available, times
) -> ReconstructionPlan:
    """Return a plan from the back-end and its device, and the seconds once and per iteration."""
    job, (channels, nz, nx, ny) = prepared.job, prepared.problem.shape
    backend, device = where
    once, each = map(float, times)
    return ReconstructionPlan(
        method=job.step,
        shape=(channels, nz, ny, nx),
        backend=backend,
        device=device,
        workers=slabs.workers,
        iterations=job.most,
        slabs=len(slabs),
        thickness=slabs.thickness,
        overlap=slabs.overlap,
        at_once=at_once,
        threads=threads,
        memory=at_once * slabs.needed,
        available=available,
        seconds_per_iteration=each,
        seconds=once + job.most * each,
    )


def _device(job: Job) -> tuple[str, str]:
    """Return the name of the back-end and of what it runs on."""
    from hyperspy_multitomo.tomography import TiltGeometry

    A = projector(TiltGeometry([0.0, 90.0], 2), backend=job.backend)
    if uses_device(A):
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
    def of(cls, prepared: Prepared, most: int) -> _Trial:
        """Return that on slices in the middle, `most` at most, as a slab has."""
        import dask

        coarse, slices = prepared.coarse, prepared.problem.shape[-1]
        together = max(coarse.values())
        few = min(max(min(_SLICES, most) // together, 1) * together, slices)
        first = (slices - few) // 2 // together * together
        part = {
            name: None
            if array is None
            else array[..., first // coarse[name] : (first + few) // coarse[name]]
            for name, array in prepared.arrays.items()
        }
        (part,) = dask.optimize(part)  # which leaves the tasks of other slices behind
        job = prepared.job
        iterations = min(job.iterations, _ITERATIONS)
        # An iteration of a refit takes as long as another.
        job = replace(job, iterations=iterations, tolerance=None, noise=None, refit=False)
        return cls(job, part, few)

    def of_one_iteration(self) -> _Trial:
        """Return a shorter one."""
        return replace(self, job=replace(self.job, iterations=min(self.job.iterations, 1)))

    def on_worker(self, slabs: Slabs):
        """Return this worker's slabs at once, threads of each, device and `seconds`."""
        at_once, threads = places(slabs.needed, slabs.share, slabs.serial)
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
