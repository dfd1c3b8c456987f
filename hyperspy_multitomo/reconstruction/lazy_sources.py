# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that lazy arrays are read from; chunks that are missing are an error, not zeros."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hyperspy_multitomo.acquisition.files.stored_arrays import check_array
from hyperspy_multitomo.machine.lazy import is_lazy


def check_complete(arrays: Mapping) -> None:
    """Raise an error where the array behind lazy data lacks chunks, which read as zeros.

    Raises
    ------
    OSError
        With the file, the array, and the chunks that it lacks.
    """
    checked = set()
    for array in arrays.values():
        for stored in _stored(array) if is_lazy(array) else ():
            if id(stored) not in checked:
                checked.add(id(stored))
                check_array(stored)


def _stored(array) -> Iterator:
    """Yield the zarr arrays and HDF5 data sets that a dask array is read from."""
    for layer in array.dask.layers.values():
        # Only materialised layers hold arrays; the others would be built for nothing.
        tasks = getattr(layer, "mapping", None)
        for task in tasks.values() if tasks is not None else ():
            task = getattr(task, "value", task)
            if hasattr(task, "nchunks_initialized") or hasattr(
                getattr(task, "id", None), "get_num_chunks"
            ):
                yield task
