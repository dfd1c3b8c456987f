# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra of small matrices on one thread: waking the others takes longer than the product, more so on busy cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock

__all__ = ["one_blas_thread"]

_lock = Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS and LAPACK work on one thread inside, also as a decorator; behind it they have as many as before.

    The number is one for the whole process: the first to come sets it, and brings it back on leaving; those who come meanwhile
    do nothing. Where it cannot be set, nothing happens.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     product = np.ones((2, 3)) @ np.ones((3, 2))
    """
    if not _lock.acquire(blocking=False):
        yield
        return
    try:
        with _limit():
            yield
    finally:
        _lock.release()


def _limit() -> AbstractContextManager:
    """Set the number of threads to one until it is left; nothing where that does not work."""
    try:
        return _controller().limit(limits=1, user_api="blas")
    except Exception:
        return nullcontext()


@cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
