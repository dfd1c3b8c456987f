# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra on one thread: jobs that each take all cores for every product get into each other's way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

__all__ = ["one_blas_thread"]

_LOCK = Lock()
_inside, _leave = 0, None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Limit the linear algebra of the process to one thread, in a ``with`` block or, as a decorator, in a function.

    The limit is one of the whole process: the first that comes in sets it, and the last that
    leaves, of all threads, restores what there was. Where it cannot be set (no threadpoolctl, a
    library that it does not know, a limit that somebody else holds), everything works without.
    """
    global _inside, _leave
    with _LOCK:
        if _inside == 0:
            _leave = _limited()
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _leave()


def _limited() -> Callable[[], None]:
    """Set the limit; return what takes it off and returns when that is done."""
    set_, done = Event(), Event()
    # threadpoolctl lets no thread but the one that set a limit change it, and the first to come may
    # be gone by then.
    holder = Thread(target=_hold, args=(set_, done), daemon=True)
    try:
        holder.start()
        set_.wait()
    except BaseException:
        done.set()
        raise

    def leave() -> None:
        done.set()
        holder.join()

    return leave


def _hold(set_: Event, done: Event) -> None:
    """Hold the limit from one event to the other."""
    try:
        # Limits hold for the libraries that are loaded, and SciPy has its own.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            set_.set()
            done.wait()
    except Exception:
        # Faster or slower, and nothing else: the results do not depend on the number of threads.
        set_.set()
