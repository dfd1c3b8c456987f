# SPDX-License-Identifier: GPL-3.0-or-later
"""Check .hspy and .zspy files for missing or damaged chunks, which would be read as zeros."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

__all__ = ["STORED", "check_array", "check_arrays", "stored_signals"]

#: Extensions of HyperSpy's files with chunked arrays.
STORED = (".hspy", ".zspy")
_REMEDY = "copy or write the file again"
_REMEDY_ZARR = (
    f"{_REMEDY}; where empty chunks were left out on purpose, write it with write_empty_chunks=True"
)
# A Blosc chunk begins with version, flags and sizes; bytes 12 to 15 are the length of the chunk.
_BLOSC_HEADER = 16


def check_arrays(path: str | Path) -> None:
    """
    Raise an error where arrays in a .hspy or .zspy file lack chunks, or a .zspy folder metadata.

    Parameters
    ----------
    path : path-like
        Files of other kinds, or that cannot be opened, pass: their reader raises the error.

    Raises
    ------
    OSError
        Names the file, the array and the chunks.
    """
    path, kind = Path(path), Path(path).suffix.lower()
    checks = {".hspy": _check_hdf5, ".zspy": _check_folder if path.is_dir() else _check_zip}
    try:
        checks.get(kind, lambda path: None)(path)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        # Raised by HDF5 and zarr for broken trees.
        raise OSError(f"{path} cannot be read, it is damaged ({error}): {_REMEDY}") from error


def check_array(stored) -> None:
    """
    Raise an error where a zarr array or an HDF5 data set lacks chunks in its file.

    Parameters
    ----------
    stored : zarr.Array or h5py.Dataset

    Raises
    ------
    OSError
        Names the file, the array and the chunks.
    """
    if not hasattr(stored, "chunk_store"):
        _refuse(
            stored.file.filename,
            stored.name,
            *_hdf5_chunks(stored.id, stored.file.id.get_filesize()),
            _REMEDY,
        )
        return
    folder = (
        getattr(stored.chunk_store, "path", None)
        or getattr(stored.store, "dir_path", lambda: "the store")()
    )
    # Checked one by one: zarr's count does not include the nested folders of .zspy.
    places = list(np.ndindex(*stored.cdata_shape))
    if os.path.isdir(folder):
        codec = getattr(stored.compressor, "codec_id", None)
        missing = [
            place
            for place in places
            if not _is_whole(os.path.join(folder, stored.path), place, codec)
        ]
    else:
        keys = ([f"{stored.path}/{name}" for name in _names(place)] for place in places)
        missing = [
            place
            for place, names in zip(places, keys, strict=True)
            if not any(key in stored.chunk_store for key in names)
        ]
    _refuse(folder, stored.path, missing, len(places), _REMEDY_ZARR)


def stored_signals(path: str | Path, node: str) -> list[tuple[str, bool]]:
    """
    List the signals in a .hspy or .zspy file.

    Parameters
    ----------
    path : path-like
    node : str
        A node of the metadata.

    Returns
    -------
    list of (str, bool)
        Type of each signal, and whether its metadata have the node; empty for a file that cannot be
        opened.
    """
    import h5py

    try:
        if Path(path).suffix.lower() == ".hspy":
            with h5py.File(path, "r") as file:
                return _signals_in(file["Experiments"], node)
        import zarr

        return _signals_in(zarr.open_group(str(path), mode="r")["Experiments"], node)
    except Exception:  # of a file of another kind the reader raises the error
        return []


def _signals_in(experiments, node: str) -> list[tuple[str, bool]]:
    signals = []
    for name in (name for name in experiments if "data" in experiments[name]):
        metadata = experiments[name].get("metadata", {})
        signal = metadata.get("Signal")
        signals.append(
            ("" if signal is None else str(signal.attrs.get("signal_type", "")), node in metadata)
        )
    return signals


def _refuse(file, name: str, missing: Sequence[tuple[int, ...]], total: int, remedy: str) -> None:
    """Raise an error where chunks are missing."""
    if missing:
        named = ", ".join("(" + ", ".join(map(str, place)) + ")" for place in missing[:6])
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        raise OSError(
            f"{file}, {name} lacks {len(missing)} of its {total} chunks, missing or damaged at "
            f"{named}{more}, which would be read as zeros: {remedy}"
        )


def _check_folder(path: Path) -> None:
    """Check a .zspy folder: its metadata files against their list, then its arrays' chunks."""
    try:
        listed = list(json.loads((path / ".zmetadata").read_text(encoding="utf-8"))["metadata"])
    except (OSError, ValueError, KeyError, TypeError):
        listed = [
            os.path.relpath(os.path.join(top, ".zarray"), path)
            for top, _, files in os.walk(path)
            if ".zarray" in files
        ]
    lost = [name for name in listed if not os.path.exists(os.path.join(path, name))]
    if lost:
        more = f" and {len(lost) - 6} more" if len(lost) > 6 else ""
        raise OSError(
            f"{path} lacks {len(lost)} of the {len(listed)} files that describe its groups and "
            "arrays, without which it would come back as another signal or without what is "
            f"recorded: {', '.join(lost[:6])}{more}; copy the whole folder again"
        )
    for name in listed:
        array, _, kind = name.replace(os.sep, "/").rpartition("/")
        if kind != ".zarray":
            continue
        try:
            with open(os.path.join(path, name), encoding="utf-8") as file:
                description = json.load(file)
            places = list(_chunk_indices(description["shape"], description["chunks"]))
            codec = (description["compressor"] or {}).get("id")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # of an invalid description the reader raises the error
        folder = os.path.join(path, array)
        _refuse(
            path,
            array,
            [place for place in places if not _is_whole(folder, place, codec)],
            len(places),
            _REMEDY_ZARR,
        )


def _check_zip(path: Path) -> None:
    try:
        import zarr

        store = zarr.storage.ZipStore(str(path), mode="r")
    except Exception:  # no archive, or zarr is missing: the reader raises the error
        return
    with store:
        for array in _arrays_in(zarr.open_group(store, mode="r")):
            check_array(array)


def _arrays_in(group) -> Iterator:
    for _, array in group.arrays():
        yield array
    for _, child in group.groups():
        yield from _arrays_in(child)


def _chunk_indices(shape: Iterable[int], chunks: Iterable[int]) -> Iterator[tuple[int, ...]]:
    return np.ndindex(*(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)))


def _names(place: tuple[int, ...]) -> set[str]:
    """Return the names that a chunk may have; that of a scalar is 0."""
    return {separator.join(map(str, place)) or "0" for separator in "/."}


def _is_whole(folder: str, place: tuple[int, ...], codec: str | None) -> bool:
    """Return whether a chunk of a zarr array is in its folder, under either name, and complete."""
    for name in _names(place):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                head, size = file.read(_BLOSC_HEADER), os.fstat(file.fileno()).st_size
        except OSError:
            continue
        return (
            _BLOSC_HEADER <= int.from_bytes(head[12:], "little") <= size
            if codec == "blosc"
            else size > 0
        )
    return False


def _check_hdf5(path: Path) -> None:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError:
        return
    with file:
        items: list[tuple[bytes, int, int]] = []
        h5py.h5o.visit(
            file.id, lambda name, item: items.append((name, item.addr, item.type)), info=True
        )
        headers, length = np.sort([addr for _, addr, _ in items]), file.id.get_filesize()
        for name, _, kind in items:
            if kind == h5py.h5o.TYPE_DATASET:
                _refuse(
                    path,
                    f"/{name.decode()}",
                    *_hdf5_chunks(h5py.h5d.open(file.id, name), length, headers),
                    _REMEDY,
                )


def _hdf5_chunks(
    dataset, length: int, others: Sequence[int] | np.ndarray = ()
) -> tuple[list[tuple[int, ...]], int]:
    """
    Return the chunks of an HDF5 data set without a valid address, and the number of all chunks.

    `length` is the size of the file in bytes, and `others` are the addresses of its other objects,
    ascending, which no chunk may overlap.
    """
    from h5py import h5d

    shape, settings = dataset.shape, dataset.get_create_plist()
    layout = settings.get_layout()
    if 0 in shape or layout not in (h5d.CONTIGUOUS, h5d.CHUNKED):
        return [], 1
    if layout == h5d.CONTIGUOUS:
        # Address 0 is the header of the file.
        return (
            [] if settings.get_external_count() or dataset.get_offset() else [(0,) * len(shape)]
        ), 1
    chunks = settings.get_chunk()
    stored: list[tuple[int, int, tuple[int, ...]]] = []
    dataset.chunk_iter(
        lambda chunk: stored.append((chunk.byte_offset or 0, chunk.size, chunk.chunk_offset))
    )
    places, whole, end = list(_chunk_indices(shape, chunks)), set(), 0
    last = max((chunk for chunk in stored if chunk[0]), key=lambda chunk: chunk[2], default=None)
    if last is not None and not _is_indexed(dataset, last[2]):
        stored.remove(last)
    for start, size, offset in sorted(stored):
        # Chunks overlap neither each other nor other objects.
        alone = not len(others) or np.searchsorted(others, start) == np.searchsorted(
            others, start + size
        )
        if start and size and start >= end and start + size <= length and alone:
            whole.add(tuple(int(at) // chunk for at, chunk in zip(offset, chunks, strict=True)))
            end = start + size
    return [place for place in places if place not in whole], len(places)


def _is_indexed(dataset, offset: tuple[int, ...]) -> bool:
    """Return whether the index of an HDF5 data set leads to a chunk.

    A damaged end of the index hides the last chunk, which is then read as zeros.
    """
    try:
        dataset.read_direct_chunk(offset)
    except (OSError, RuntimeError, ValueError):
        return False
    return True
