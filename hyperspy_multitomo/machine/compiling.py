# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiled kernels, cached on the disk where there is a folder to write to, and compiled anew in each process where not."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

__all__ = ["compiled"]


def compiled(**options) -> Callable:
    """Return numba's `njit` with these options, without the GIL, with a cache where one can be written."""

    def compile_one(function: Callable):
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError as error:
            # Raised where neither NUMBA_CACHE_DIR nor the package's folder nor the user's own can
            # be written.
            if "cannot cache" not in str(error):
                raise
            return njit(nogil=True, **options)(function)

    return compile_one
