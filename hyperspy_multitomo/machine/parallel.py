# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixed number of threads that run a list of tasks: compiled calls that release the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

from hyperspy_multitomo.machine.denormals import denormals_flushed, flush_denormals


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """Return a valid number of threads; None stands for all available cores."""
    if threads is None:
        return available_cores()
    if not isinstance(threads, Integral) or threads < 1:
        raise ValueError(
            f"`threads` is {threads!r}; expected a whole number, 1 or more, or None for all cores"
        )
    return int(threads)


class Workers:
    """A fixed number of threads that run tasks, with denormals flushed to zero.

    Parameters
    ----------
    threads : int
        Number of threads; with 1 the tasks run in the caller's own.
    """

    def __init__(self, threads: int):
        self._pool = (
            ThreadPoolExecutor(threads, initializer=flush_denormals) if threads > 1 else None
        )

    def run(self, call: Callable, tasks: Iterable[tuple]) -> None:
        """Run `call(*task)` for every task and wait for all; raise their first exception."""
        if self._pool is None:
            with denormals_flushed():
                for task in tasks:
                    call(*task)
            return
        for _ in self._pool.map(lambda task: call(*task), tasks):
            pass

    def close(self) -> None:
        """End the threads; later tasks run in the caller's own."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def ranges(length: int, parts: int, unit: int, longest: int) -> list[tuple[int, int]]:
    """Split range(length) into about `parts` ranges (start, stop).

    Their lengths are multiples of `unit`, but for the last, and `longest` at most.
    """
    step = min(max(-(-length // (parts * unit)), 1) * unit, longest)
    return [(start, min(start + step, length)) for start in range(0, length, step)]
