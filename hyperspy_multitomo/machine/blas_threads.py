# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra limited to one thread.

Tasks that run side by side would otherwise each take all cores for every matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

__all__ = ["one_blas_thread"]

_LOCK = Lock()
_users = 0
_release: Callable[[], None] | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Limit linear algebra to one thread, in a ``with`` block or as a decorator of a function.

    The limit holds for the whole process: the first thread to enter sets it, and the last to leave
    restores the previous one. Where it cannot be set (no threadpoolctl, an unknown library, a limit
    set elsewhere), everything runs without.
    """
    global _users, _release
    with _LOCK:
        if _users == 0:
            _release = _set_limit()
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _users == 0 and _release is not None:
                _release()


def _set_limit() -> Callable[[], None]:
    """Set the limit; return a function that removes it and waits until it is removed."""
    limited, done = Event(), Event()
    # threadpoolctl lets only the thread that set a limit remove it, and the first user's thread may
    # have ended by then.
    holder = Thread(target=_hold_limit, args=(limited, done), daemon=True)
    try:
        holder.start()
        limited.wait()
    except BaseException:
        done.set()
        raise

    def release() -> None:
        done.set()
        holder.join()

    return release


def _hold_limit(limited: Event, done: Event) -> None:
    """Set the limit, say so by the first event, and remove it at the second."""
    try:
        # Limits hold for the libraries that are loaded, and SciPy has its own.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            limited.set()
            done.wait()
    except Exception:
        # The number of threads changes the speed alone, not the results.
        limited.set()
