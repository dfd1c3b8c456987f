# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruction slab by slab: cuts that fit the memory, and the dask array that runs each slab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, lcm
from numbers import Integral
from uuid import uuid4

import numpy as np

from hyperspy_multitomo.machine.cluster import client_in_use, worker_memory, workers
from hyperspy_multitomo.machine.memory import OF_SLABS, available_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.checkpoint_store import CheckpointStore
from hyperspy_multitomo.reconstruction.job import Job, StoppedError
from hyperspy_multitomo.reconstruction.memory_model import Footprint
from hyperspy_multitomo.reconstruction.slots import stopped, turn

# Slices of a slab where slices do not know of each other: a whole number of the kernels' blocks,
# and fewer where memory is short.
_BLOCKS = (64, 32, 16)
# Slabs with neighbours come in steps of so many slices.
_STEP = 16


@dataclass(frozen=True)
class Slab:
    """Slices [start, stop), reconstructed with their neighbours as [first, last)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Slabs:
    """How the slices of a volume are cut.

    Attributes
    ----------
    slices : int
        Of the volume.
    thickness : int
        Slices of a slab; the last may have fewer.
    overlap : int
        Slices that a slab is reconstructed with on either side and that are then left out.
    needed : int
        Bytes that a slab holds at its peak, what is read and written included.
    serial : bool
        Whether they come one after the other, as they share a device.
    workers : int
        Of the cluster that share them; 0 where this machine does the work.
    """

    slices: int
    thickness: int
    overlap: int
    needed: int
    serial: bool = False
    workers: int = 0

    def __iter__(self):
        for start in range(0, self.slices, self.thickness):
            stop = min(start + self.thickness, self.slices)
            yield Slab(
                start, stop, max(start - self.overlap, 0), min(stop + self.overlap, self.slices)
            )

    def __len__(self) -> int:
        return ceil(self.slices / self.thickness)

    @property
    def share(self) -> int:
        """Slabs that each process is to do."""
        return ceil(len(self) / max(1, self.workers))

    def describe(self) -> dict:
        """Return what the history says of them."""
        return {"count": len(self), "thickness": self.thickness, "overlap": self.overlap}


def cut(
    slices: int,
    footprint: Footprint,
    *,
    binning: int = 1,
    chunks: int | None = None,
    overlap: int | None = None,
    here: bool = False,
) -> Slabs:
    """Cut slices into the slabs that fit the memory and are done soonest.

    The memory is that of this machine or of the smallest worker of a cluster.
    With their overlap they fill the groups of slices that the kernels work at, and on a cluster no
    worker waits for others.

    Parameters
    ----------
    slices : int
        Of the volume.
    footprint : Footprint
        Of the reconstruction.
    binning : int, default 1
        Slices that belong together: slabs are cut between them.
    chunks : int, optional
        Slices of a slab, instead of those that fit and are done soonest.
    overlap : int, optional
        Slices on either side that a slab is reconstructed with; None where slices do not know of
        each other.
    here : bool, default False
        Whether this machine does the work, also where there is a cluster.

    Raises
    ------
    ValueError
        For `chunks` or `overlap` that are no such numbers.
    MemoryError
        Where not even the thinnest slab fits.

    Warns
    -----
    UserWarning
        Where the cluster has no workers yet, whose memory and number would count.
    """
    for name, value, least in (("chunks", chunks, 1), ("overlap", overlap, 0)):
        if value is not None and (
            not isinstance(value, Integral) or isinstance(value, bool) or value < least
        ):
            raise ValueError(f"{name}={value!r} must be a whole number of slices, {least} or more")
    known = {} if here else workers()
    margin = 0 if overlap is None else -(-int(overlap) // binning) * binning

    def needed(thickness: int) -> int:
        read = min(thickness + 2 * margin, slices)
        return footprint.bytes_of(read) + footprint.in_transit(read)

    def slabs_of(thickness: int) -> Slabs:
        return Slabs(
            slices,
            thickness,
            margin,
            needed(thickness),
            footprint.of_device is not None,
            len(known),
        )

    def whole(thickness: int) -> int:
        return min(max(binning, thickness // binning * binning), slices)

    if chunks is not None:
        return slabs_of(whole(int(chunks)))
    if client_in_use() is not None and not known and not here:
        warn(
            "the cluster has no workers yet, so that slabs are cut for one that is like this "
            "machine: wait for those that will "
            "come, client.wait_for_workers(8), or pass chunks="
        )
    memory = available_memory() if here else worker_memory()
    room = np.inf if memory is None else OF_SLABS * memory
    step = lcm(_STEP, binning)
    thicknesses = (
        [whole(block) for block in _BLOCKS] if overlap is None else range(step, slices + step, step)
    )
    candidates = [slabs_of(min(thickness, slices)) for thickness in thicknesses]
    fitting = [
        one
        for one in candidates
        if one.needed <= room and footprint.fits_device(min(one.thickness + 2 * margin, slices))
    ]
    if fitting:
        return min(fitting, key=lambda one: (_time(one, footprint), len(one)))
    thinnest = min(candidates, key=lambda one: one.thickness)
    if thinnest.needed <= room:
        raise MemoryError(
            f"{thinnest.thickness} slices need about "
            f"{footprint.device_bytes(thinnest.thickness) / 1e9:.3g} GB of the device, more than "
            "is free: bin or crop the series, take fewer elements, or pass backend='numba'"
        )
    raise MemoryError(
        f"a slab of {thinnest.thickness} slices needs about {thinnest.needed / 1e9:.3g} GB and "
        f"{(memory or 0) / 1e9:.3g} GB are "
        "available: bin or crop the series, take fewer elements, or pass chunks= with fewer slices"
    )


def _time(slabs: Slabs, footprint: Footprint) -> float:
    """Return how long slabs take the busiest process, in any unit."""
    each = [footprint.time_of(slab.last - slab.first) for slab in slabs]
    return round(max(slabs.share * sum(each) / len(each), *each), 6)


@dataclass(frozen=True)
class SlabTask:
    """One slab's part of a reconstruction: a callable that travels to the worker that does it.

    It holds what it reads as dask arrays of its own, out of sight of dask: in one graph with those
    of the other slabs, pieces of what several of them read would be cut for all, and wait in memory
    for those that come last.
    """

    job: Job
    slab: Slab
    arrays: Mapping
    slabs: Slabs
    share: int
    token: str
    store: CheckpointStore | None

    def __call__(self) -> np.ndarray:
        """Return the volume (channel, z, x, y) of the slab."""
        import dask

        store = None if self.store is None else self.store.of_slab(self.slab)
        done = store is not None and store.has_volume
        with turn(self.token, self.slabs.needed, self.share, self.slabs.serial, done) as threads:
            if stopped(self.token):
                raise StoppedError
            (arrays,) = dask.compute(self.arrays, scheduler="synchronous")
            volume = self.job.volume(arrays, threads, store, lambda: stopped(self.token))
        return volume[..., self.slab.start - self.slab.first : self.slab.stop - self.slab.first]


def in_slabs(
    job: Job,
    arrays: Mapping,
    coarse: Mapping[str, int],
    shape: tuple[int, ...],
    slabs: Slabs,
    store: CheckpointStore | None,
):
    """Return a dask array (channel, z, x, y) whose slabs are reconstructed when they are computed.

    `arrays` have the slices last; `coarse` says how many slices of the volume make one of those of
    an array. The tasks of the slabs are called after the job's step, as a dashboard shows them.
    """
    import dask
    import dask.array as da

    name, tasks = f"{job.step}-{uuid4().hex}", {}
    missing = sum(store is None or not store.of_slab(slab).has_volume for slab in slabs)
    share = max(1, ceil(missing / max(1, slabs.workers)))
    for number, slab in enumerate(slabs):
        part = {
            which: None
            if array is None
            else array[..., slab.first // coarse[which] : slab.last // coarse[which]]
            for which, array in arrays.items()
        }
        (part,) = dask.optimize(part)  # which leaves the tasks of the other slabs behind
        tasks[name, 0, 0, 0, number] = (SlabTask(job, slab, part, slabs, share, name, store),)
    thicknesses = tuple(slab.stop - slab.start for slab in slabs)
    return da.Array(tasks, name, (*((size,) for size in shape[:3]), thicknesses), dtype=np.float32)


def runs_again(array) -> bool:
    """Return whether a dask array has slabs without a checkpoint, reconstructed at each reading."""
    # Slabs are tasks that are called after the method.
    slabs = [
        next(iter(layer.values()))
        for name, layer in array.dask.layers.items()
        if name.startswith("reconstruct_")
    ]
    return any(isinstance(slab[0], SlabTask) and slab[0].store is None for slab in slabs)
