# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing chunks of the files behind lazy signals: an error, not zeros in the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from hyperspy_multitomo.acquisition.files.stored_arrays import STORED, check_array, check_arrays

# Set once the file of a signal has been looked at.
_LOOKED_AT = "chunks_of_file_checked"


def check_complete(arrays: Mapping) -> None:
    """Raise an error where the array behind lazy data lacks chunks, which read as zeros.

    Raises
    ------
    OSError
        With the file, the array, and the chunks that it lacks.
    """
    looked_at = set()
    for array in arrays.values():
        for stored in _stored(array) if hasattr(array, "dask") else ():
            if id(stored) not in looked_at:
                looked_at.add(id(stored))
                check_array(stored)


def check_file_of(signal) -> None:
    """Raise an error where the .hspy or .zspy file that HyperSpy loaded a signal from lacks chunks.

    HyperSpy reads them as zeros and runs no code of ours on an eager signal's file; so the file is
    looked at when the signal is used here for the first time, if it is still there.

    Raises
    ------
    OSError
        With the file, the array, and the chunks that it lacks.
    """
    parameters = signal.tmp_parameters
    if parameters.has_item(_LOOKED_AT) or not parameters.has_item("original_filename"):
        return
    folder, name, suffix = (
        parameters.get_item(f"original_{part}", default="")
        for part in ("folder", "filename", "extension")
    )
    path = (
        Path(folder) / f"{name}{suffix if suffix.startswith('.') or not suffix else '.' + suffix}"
    )
    if path.suffix.lower() in STORED and path.exists():
        check_arrays(path)
    parameters.set_item(_LOOKED_AT, True)


def _stored(array) -> Iterator:
    """Yield the zarr arrays and HDF5 data sets that a dask array is read from."""
    for layer in array.dask.layers.values():
        # Only layers that hold their tasks as they are have arrays in them; the others would be
        # made for nothing.
        held = getattr(layer, "mapping", None)
        for task in held.values() if held is not None else ():
            task = getattr(task, "value", task)
            if hasattr(task, "nchunks_initialized") or hasattr(
                getattr(task, "id", None), "get_num_chunks"
            ):
                yield task
