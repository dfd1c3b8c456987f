# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays in .hspy and .zspy files whose chunks are missing or damaged: they would be read as zeros, or not as they were."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

__all__ = ["STORED", "check_array", "check_arrays"]

#: Extensions of the files that hold arrays in chunks, as HyperSpy writes them.
STORED = (".hspy", ".zspy")
_REMEDY = "copy or write the file again"
_REMEDY_ZARR = f"{_REMEDY}; where empty chunks were left out on purpose, write it with write_empty_chunks=True"
# Blosc begins each chunk with its version, flags and sizes; bytes 12 to 15 are the length of the whole.
_BLOSC_HEADER = 16


def check_arrays(path: str | Path) -> None:
    """
    Raise an error where arrays in a .hspy or .zspy file lack chunks, or the folder of a .zspy lacks what describes them.

    Parameters
    ----------
    path : path-like
        Nothing is said of a file of another kind, or one that cannot be opened: its reader will.

    Raises
    ------
    OSError
        With the file, the array and the chunks.
    """
    path = Path(path)
    if path.suffix.lower() == ".hspy":
        _check_hdf5(path)
    elif path.suffix.lower() == ".zspy":
        _check_zarr(path)


def check_array(stored, others: Sequence[int] = ()) -> None:
    """
    Raise an error where a zarr array or an HDF5 data set lacks chunks in its file.

    Parameters
    ----------
    stored : zarr.Array or h5py.Dataset
    others : sequence of int
        Of an HDF5 file, where in it something else stands, which no chunk can hold.

    Raises
    ------
    OSError
        With the file, the array and the chunks.
    """
    is_zarr = hasattr(stored, "chunk_store")
    missing, total = _zarr_chunks(stored) if is_zarr else _hdf5_chunks(stored, others)
    if missing:
        named = ", ".join("(" + ", ".join(map(str, place)) + ")" for place in missing[:6])
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        file, name = _names(stored) if is_zarr else (stored.file.filename, stored.name)
        raise OSError(
            f"{file}, {name} lacks {len(missing)} of its {total} chunks, missing or damaged at {named}{more}, which would be "
            f"read as zeros: {_REMEDY_ZARR if is_zarr else _REMEDY}"
        )


def _check_hdf5(path: Path) -> None:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError:
        return
    with file:
        items: list[h5py.HLObject] = []
        file.visititems(lambda _, item: items.append(item))
        headers = [h5py.h5o.get_info(item.id).addr for item in items]
        for item in items:
            if isinstance(item, h5py.Dataset):
                check_array(item, headers)


def _check_zarr(path: Path) -> None:
    try:
        import zarr

        group = zarr.open_group(str(path) if path.is_dir() else zarr.storage.ZipStore(str(path), mode="r"), mode="r")
    except Exception:  # whatever zarr raises of what is no group, or that it is missing, the reader will too
        return
    _check_described(path)
    for array in _arrays_in(group):
        check_array(array)


def _check_described(path: Path) -> None:
    """Compare the folder with the list that is written of what describes its groups and arrays."""
    try:
        listed = json.loads((path / ".zmetadata").read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    lost = [name for name in listed if not os.path.exists(path / name)]
    if lost:
        more = f" and {len(lost) - 6} more" if len(lost) > 6 else ""
        raise OSError(
            f"{path} lacks {len(lost)} of the {len(listed)} files that describe its groups and arrays, without which it would "
            f"come back as another signal or without what is recorded: {', '.join(lost[:6])}{more}; copy the whole folder again"
        )


def _arrays_in(group) -> Iterator:
    for _, array in group.arrays():
        yield array
    for _, child in group.groups():
        yield from _arrays_in(child)


def _zarr_chunks(stored) -> tuple[list[tuple[int, ...]], int]:
    """Return which chunks of a zarr array are not there, or not whole, and how many there should be."""
    # Looked for one by one: zarr's own count does not know of the folders that .zspy nests its chunks in.
    missing = [place for place in np.ndindex(*stored.cdata_shape) if not _is_whole(stored, place)]
    return missing, stored.nchunks


def _is_whole(stored, place: tuple[int, ...]) -> bool:
    """Whether a chunk of a zarr array is there, under either way to name it, with all of its bytes."""
    keys = [f"{stored.path}/{separator.join(map(str, place))}" for separator in "/."]
    folder = getattr(stored.chunk_store, "path", None)
    if folder is None or not os.path.isdir(folder):
        return any(key in stored.chunk_store for key in keys)
    for key in keys:
        try:
            with open(os.path.join(folder, key), "rb") as file:
                head, size = file.read(_BLOSC_HEADER), os.fstat(file.fileno()).st_size
        except OSError:
            continue
        if getattr(stored.compressor, "codec_id", None) == "blosc":
            return len(head) == _BLOSC_HEADER and _BLOSC_HEADER <= int.from_bytes(head[12:], "little") <= size
        return size > 0
    return False


def _hdf5_chunks(stored, others: Sequence[int]) -> tuple[list[tuple[int, ...]], int]:
    """Return which chunks of an HDF5 data set have no place in the file, or one that cannot be theirs, and how many there are."""
    from h5py import h5d

    if not stored.size:
        return [], 0
    layout = stored.id.get_create_plist().get_layout()
    if layout == h5d.CONTIGUOUS and stored.external is None:
        # Address 0 is that of the file's own header.
        return ([] if stored.id.get_offset() else [(0,) * stored.ndim]), 1
    if layout != h5d.CHUNKED:
        return [], 1
    length = stored.file.id.get_filesize()
    found: list[tuple[int, int, tuple[int, ...]]] = []
    stored.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset or 0, chunk.size, chunk.chunk_offset)))
    places = set(np.ndindex(*(-(-size // chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True))))
    whole, end, others = set(), 0, np.sort(np.asarray(others, dtype=np.int64))
    for start, size, offset in sorted(found):
        # No two chunks share bytes, and none has others in it.
        alone = np.searchsorted(others, start) == np.searchsorted(others, start + size)
        if start and size and start >= end and start + size <= length and alone:
            whole.add(tuple(int(at) // chunk for at, chunk in zip(offset, stored.chunks, strict=True)))
            end = start + size
    return sorted(places - whole), len(places)


def _names(stored) -> tuple[str, str]:
    """Return where a zarr array is stored, and what it is called there."""
    folder = getattr(stored.store, "path", None) or getattr(stored.store, "dir_path", lambda: "the store")()
    return str(folder), stored.path
