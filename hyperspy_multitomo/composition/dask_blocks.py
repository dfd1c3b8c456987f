# SPDX-License-Identifier: GPL-3.0-or-later
"""Voxelwise functions, neighbourhoods and reductions on NumPy arrays and blocks of dask arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy

__all__ = ["as_array", "reduced", "voxelwise", "with_neighbours"]

# Results of this many blocks are merged at a time, so that few are in memory.
_TOGETHER = 8


def as_array(values: Any) -> np.ndarray:
    """Return values as a NumPy array, but arrays of another library, such as dask's, unchanged."""
    return values if hasattr(values, "__array_function__") else np.asarray(values)


def voxelwise(function: Callable, volumes, inside, *others, dtype):
    """Return ``function(volumes, inside, *others)``, with one call per block of a dask array.

    A block has all channels.

    Parameters
    ----------
    function : callable
        Returns an array like `volumes`.
    volumes : array (channel, z, x, y), or channel first and any other axes
    inside : array of the shape of a channel
    *others : array of the shape of `volumes`, cut to blocks, or anything else, passed on unchanged
    dtype
        Of the result.
    """
    if not is_lazy(volumes):
        return function(volumes, inside, *others)
    import dask.array as da

    volumes = volumes.rechunk({0: -1})
    arrays = [volumes, da.asarray(inside).rechunk(volumes.chunks[1:])[None]]
    places = [
        place
        for place, other in enumerate(others)
        if getattr(other, "shape", None) == volumes.shape
    ]
    arrays += [da.asarray(others[place]).rechunk(volumes.chunks) for place in places]

    def block(volumes, inside, *blocks_of_others):
        arguments = list(unchanged)
        for place, array in zip(places, blocks_of_others, strict=True):
            arguments[place] = array
        return function(volumes, inside[0], *arguments)

    unchanged = [None if place in places else other for place, other in enumerate(others)]
    return da.map_blocks(block, *arrays, dtype=dtype, meta=np.empty((0,) * volumes.ndim, dtype))


def with_neighbours(function: Callable, volume, dtype):
    """Return ``function(volume)``, whose voxels depend only on their next neighbours."""
    if not is_lazy(volume):
        return function(volume)
    # At the border of the volume, blocks have no neighbours either, and `function` treats it as the
    # border of a volume.
    return volume.map_overlap(
        function, depth=1, boundary="none", dtype=dtype, meta=np.empty((0,) * volume.ndim, dtype)
    )


def reduced(function: Callable, merge: Callable, *arrays):
    """Return ``function(*arrays)`` of every block, merged to one result: one pass over the data.

    Parameters
    ----------
    function : callable
        Of NumPy arrays of the same shape.
    merge : callable
        Returns one result for a list of results; associative.
    *arrays
        Of the same shape; all dask arrays, of the same chunks, or none.
    """
    if not is_lazy(arrays[0]):
        return merge([function(*arrays)])
    import dask
    import dask.array as da

    def block(*blocks):
        result = np.empty((1,) * blocks[0].ndim, object)
        result.flat[0] = function(*blocks)
        return result

    chunks = tuple((1,) * number for number in arrays[0].numblocks)
    meta = np.empty((0,) * arrays[0].ndim, object)
    results = da.map_blocks(block, *arrays, dtype=object, chunks=chunks, meta=meta)
    parts = [dask.delayed(np.ndarray.item)(part) for part in results.to_delayed().ravel()]
    delayed_merge = dask.delayed(merge)
    while len(parts) > 1:
        parts = [
            delayed_merge(parts[first : first + _TOGETHER])
            for first in range(0, len(parts), _TOGETHER)
        ]
    return delayed_merge(parts).compute()
