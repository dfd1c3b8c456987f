# SPDX-License-Identifier: GPL-3.0-or-later
"""Lazy data whose read errors name their file, however long after it was opened they occur."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperspy_multitomo.machine.lazy import is_lazy

__all__ = ["naming_file"]


def naming_file(data, path: str | Path):
    """Return the array; a dask array is changed so that its read errors name the file.

    The stored arrays (HDF5, zarr) and reader functions in its graph are wrapped.
    """
    if not is_lazy(data):
        return data
    from dask.highlevelgraph import HighLevelGraph

    layers = {name: _naming(layer, Path(path).name) for name, layer in data.dask.layers.items()}
    graph = HighLevelGraph(layers, data.dask.dependencies)
    return type(data)(graph, data.name, data.chunks, meta=data._meta)


def _naming(layer, name: str):
    """Return a layer of a graph whose read errors name the file."""
    from dask.blockwise import Blockwise
    from dask.highlevelgraph import MaterializedLayer

    if isinstance(layer, MaterializedLayer):
        return MaterializedLayer(
            {key: _named(task, name) for key, task in layer.mapping.items()},
            annotations=layer.annotations,
        )
    if isinstance(layer, Blockwise):
        layer = copy.copy(layer)
        layer.task = _named(layer.task, name)
    return layer


def _named(task, name: str):
    """Wrap a stored array, or a task that calls a reader function; return other tasks unchanged."""
    if hasattr(task, "nchunks_initialized") or hasattr(getattr(task, "id", None), "get_num_chunks"):
        return StoredArray(task, name)
    function = getattr(task, "func", None)
    # dask's functions only slice what readers return, and dask recognises some by identity.
    if (
        function is None
        or isinstance(function, ReaderFunction)
        or str(getattr(function, "__module__", "")).startswith("dask.")
    ):
        return task
    task = copy.copy(task)
    task.func = ReaderFunction(function, name)
    return task


def _error(name: str, error: Exception) -> ValueError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ValueError(
        f"{name} cannot be read, it is damaged or was changed since it was loaded ({reason}): copy "
        "it again, or leave it out"
    )


@dataclass(frozen=True)
class ReaderFunction:
    """A function whose errors name the file that it reads."""

    function: Callable
    name: str

    def __call__(self, *args, **kwargs):
        try:
            return self.function(*args, **kwargs)
        except MemoryError:
            raise
        except Exception as error:
            raise _error(self.name, error) from error


class StoredArray:
    """A proxy of an array in an HDF5 or zarr file whose read errors name the file."""

    def __init__(self, stored: Any, name: str):
        self._stored, self._name = stored, name

    def __getitem__(self, place):
        try:
            return self._stored[place]
        except MemoryError:
            raise
        except Exception as error:
            raise _error(self._name, error) from error

    def __array__(self, dtype=None, copy=None):
        return self[()] if dtype is None else self[()].astype(dtype)

    def __getattr__(self, name: str):
        if name.startswith("__") or name in ("_stored", "_name"):
            raise AttributeError(name)
        return getattr(self._stored, name)

    def __reduce__(self):
        stored = self._stored
        if hasattr(stored, "file"):  # h5py objects cannot be pickled: workers reopen the file
            return _reopened, (stored.file.filename, stored.name, self._name)
        return StoredArray, (stored, self._name)


def _reopened(filename: str, place: str, name: str) -> StoredArray:
    import h5py

    return StoredArray(h5py.File(filename, "r")[place], name)
