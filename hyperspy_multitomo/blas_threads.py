# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra on one thread: jobs that each take all cores for every product get into each other's way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["one_blas_thread"]

_LOCK = Lock()
_inside, _limit = 0, None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Limit the linear algebra of the process to one thread, in a ``with`` block or, as a decorator, in a function.

    The limit is one of the whole process: the first that comes in sets it, and the last that leaves, of all threads, restores
    what there was. Where it cannot be set (no threadpoolctl, or a library that it does not know), everything works without.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _limit
    with _LOCK:
        if _inside == 0:
            _limit = _limited()
        _inside += 1


def _leave() -> None:
    global _inside, _limit
    with _LOCK:
        _inside -= 1
        if _inside == 0 and _limit is not None:
            limit, _limit = _limit, None
            try:
                limit.restore_original_limits()
            except Exception:
                # Slower or faster, and nothing else: results do not depend on the number of threads.
                return


def _limited():
    """Return the limit that was set, or None."""
    try:
        # Limits hold for the libraries that are loaded, and SciPy has its own.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        return threadpool_limits(1, user_api="blas")
    except Exception:
        return None
