# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiled kernels, cached on disk where a folder is writable, else compiled in each process."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

__all__ = ["compiled"]


def compiled(**options) -> Callable:
    """Return numba's `njit` with these options, without the GIL and, if possible, with a cache."""

    def compile_one(function: Callable):
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError as error:
            # Raised where NUMBA_CACHE_DIR, the package's folder and the user's are all read-only.
            if "cannot cache" not in str(error):
                raise
            return njit(nogil=True, **options)(function)

    return compile_one
