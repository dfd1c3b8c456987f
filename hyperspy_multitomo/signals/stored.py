# SPDX-License-Identifier: GPL-3.0-or-later
"""Lazy data and the files behind them: what is missing there is an error before the run, not zeros in the volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np


def check_complete(arrays: Mapping) -> None:
    """Raise an error where a stored array that lazy data are read from lacks chunks, which would be read as zeros.

    Raises
    ------
    OSError
        With the file and how many chunks it lacks.
    """
    looked_at = set()
    for array in arrays.values():
        if not hasattr(array, "dask"):
            continue
        for stored in _stored(array):
            if id(stored) in looked_at:
                continue
            looked_at.add(id(stored))
            present, expected = _chunks(stored)
            if present < expected:
                raise OSError(
                    f"{_name(stored)} lacks {expected - present} of its {expected} chunks, which would be read as zeros: copy or "
                    "write the file again; where empty chunks were left out on purpose, write it with write_empty_chunks=True"
                )


def _stored(array) -> Iterator:
    """Yield the zarr arrays and HDF5 data sets that a dask array is read from."""
    for layer in array.dask.layers.values():
        # Only layers that hold their tasks as they are have arrays in them; the others would be made for nothing.
        held = getattr(layer, "mapping", None)
        for task in held.values() if held is not None else ():
            task = getattr(task, "value", task)
            if hasattr(task, "nchunks_initialized") or hasattr(getattr(task, "id", None), "get_num_chunks"):
                yield task


def _chunks(stored) -> tuple[int, int]:
    """Return how many chunks are in the file, and how many there should be."""
    if hasattr(stored, "nchunks_initialized"):
        # Looked for one by one: zarr's own count does not know of the folders that .zspy nests its chunks in.
        return sum(_holds(stored, place) for place in np.ndindex(*stored.cdata_shape)), stored.nchunks
    if not stored.chunks:
        return 0, 0
    expected = int(np.prod([-(-size // chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True)]))
    return stored.id.get_num_chunks(), expected


def _holds(stored, place: tuple[int, ...]) -> bool:
    """Whether a chunk of a zarr array is there, under either way to name it."""
    return any(f"{stored.path}/{separator.join(map(str, place))}" in stored.chunk_store for separator in "/.")


def _name(stored) -> str:
    """Return where an array is stored."""
    if hasattr(stored, "store"):
        folder = getattr(stored.store, "path", None) or getattr(stored.store, "dir_path", lambda: "the store")()
        return f"{folder}, {stored.path}"
    return f"{stored.file.filename}, {stored.name}"
