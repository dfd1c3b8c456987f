# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra of small matrices on one thread: waking the others takes longer than the product, more so on busy cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

__all__ = ["one_blas_thread"]

_lock = Lock()
_inside = 0
_limit = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS and LAPACK work on one thread inside, also as a decorator; the number before comes back with the last to leave.

    The number is one for the whole process, so that others who compute meanwhile have one thread too. Where it cannot be set,
    nothing happens.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     product = np.ones((2, 3)) @ np.ones((3, 2))
    """
    global _inside, _limit
    with _lock:
        _inside += 1
        if _inside == 1:
            _limit = _limited()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limit is not None:
                _limit.restore_original_limits()
                _limit = None


def _limited():
    """Set the number of threads to one, and return what brings back the number before; None where that does not work."""
    try:
        return _controller().limit(limits=1, user_api="blas")
    except Exception:
        return None


@cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
