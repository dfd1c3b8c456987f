# SPDX-License-Identifier: GPL-3.0-or-later
"""How many slabs a process runs at once, and on how many threads each, by memory and cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Semaphore, current_thread, main_thread

from hyperspy_multitomo.machine.cache import Recent
from hyperspy_multitomo.machine.cluster import worker_in_use
from hyperspy_multitomo.machine.memory import OF_SLABS_TOGETHER, available_memory
from hyperspy_multitomo.machine.parallel import available_cores

_LOCK = Lock()
# Gates of the last few reconstructions.
_GATES = Recent(16)
_STOPPED: set[str] = set()


@dataclass
class _Gate:
    """The semaphore of the slabs of a reconstruction, and how many slabs have passed it."""

    at_once: int
    cores: int
    share: int
    places: Semaphore
    passed: int = 0

    def threads(self) -> int:
        """Return the threads of the next slab.

        Slabs take about equally long and come in rounds, of which the last may have fewer.
        """
        before = self.passed % self.share
        self.passed += 1
        return max(
            1, self.cores // min(self.at_once, self.share - before // self.at_once * self.at_once)
        )


@contextmanager
def turn(
    token: str, needed: int, share: int, serial: bool = False, done: bool = False
) -> Iterator[int]:
    """Wait until one more slab of a reconstruction fits, and yield its number of threads.

    Parameters
    ----------
    token : str
        What the slabs of one reconstruction have in common.
    needed : int
        Bytes that a slab holds.
    share : int
        Slabs that this process is to do.
    serial : bool, default False
        Whether slabs come one after the other, as they share a device.
    done : bool, default False
        Whether this one was done before and is only read.
    """

    def gate_here() -> _Gate:
        at_once, _ = places(needed, share, serial)
        return _Gate(at_once, _process()[1], share, Semaphore(at_once))

    # Another scheduler has another gate.
    gate = _GATES.get((token, *_process()[:2]), gate_here)
    with gate.places:
        with _LOCK:
            threads = 1 if done else gate.threads()
        yield threads


@contextmanager
def stopping(tokens: set[str]) -> Iterator[None]:
    """Stop the slabs of some reconstructions in this process if the block raises."""
    _STOPPED.difference_update(tokens)
    try:
        yield
    except BaseException:
        _STOPPED.update(tokens)
        raise


def stopped(token: str) -> bool:
    """Whether the slabs of a reconstruction are to stop."""
    return token in _STOPPED


def places(needed: int, share: int, serial: bool = False) -> tuple[int, int]:
    """Return how many of `share` slabs of so many bytes run at once here, and the threads of each.

    dask asks for as many as it has threads. Where they do not fit, or there are not so many, fewer
    run, each on more threads.
    """
    callers, cores, memory = _process()
    at_once = 1 if serial else min(callers, share)
    if memory is not None:
        at_once = max(1, min(at_once, int(OF_SLABS_TOGETHER * memory // max(needed, 1))))
    return at_once, max(1, cores // at_once)


def _process() -> tuple[int, int, int | None]:
    """Return the threads of dask in this process, its cores, and the bytes that are free for it."""
    worker = worker_in_use()
    if worker is not None:
        callers = worker.state.nthreads
        # dask's nannies set it to 1; a worker that has a whole machine for one thread of dask's is
        # started with another value.
        cores = callers * int(os.environ.get("OMP_NUM_THREADS", "").strip() or 1)
        limit = worker.memory_manager.memory_limit
        return callers, cores, limit or available_memory()
    import dask

    cores = available_cores()
    if str(dask.config.get("scheduler", None)) in ("synchronous", "sync", "single-threaded"):
        return 1, cores, available_memory()
    if multiprocessing.parent_process() is not None and current_thread() is main_thread():
        return 1, 1, available_memory()  # one of dask's processes; its threads are no main threads
    return dask.config.get("num_workers", None) or cores, cores, available_memory()
