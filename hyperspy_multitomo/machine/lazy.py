# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an array is computed only when it is asked for."""

from __future__ import annotations


def is_lazy(array) -> bool:
    """Return whether an array is one of dask's; dask itself is not imported."""
    return hasattr(array, "dask")
