# SPDX-License-Identifier: GPL-3.0-or-later
"""The same functions on arrays in memory and, block by block, on dask arrays: voxel by voxel, with neighbours, and summed up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["is_lazy", "reduced", "voxelwise", "with_neighbours"]

# Results of so many blocks are summed up at a time, so that few are held.
_TOGETHER = 8


def is_lazy(array) -> bool:
    """Say whether an array is one of dask's."""
    return hasattr(array, "dask")


def voxelwise(function: Callable, volumes, inside, *others, dtype):
    """Return ``function(volumes, inside, *others)``, for a dask array one call per block, with all channels in it.

    Parameters
    ----------
    function : callable
        Returns an array like `volumes`.
    volumes : array (channel, z, x, y), or channel first and any other axes
    inside : array of the shape of a channel
    *others : array of the shape of `volumes`, or what is passed on as it is
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

    def block(volumes, inside, *given):
        passed = list(others_alone)
        for place, array in zip(places, given, strict=True):
            passed[place] = array
        return function(volumes, inside[0], *passed)

    others_alone = [None if place in places else other for place, other in enumerate(others)]
    return da.map_blocks(block, *arrays, dtype=dtype, meta=np.empty((0,) * volumes.ndim, dtype))


def with_neighbours(function: Callable, volume, dtype):
    """Return ``function(volume)`` of the shape of `volume`, whose voxels depend on their next neighbours and those alone."""
    if not is_lazy(volume):
        return function(volume)
    # Blocks have no neighbours beyond the border of the volume, where `function` treats it as it
    # does that of a volume.
    return volume.map_overlap(
        function, depth=1, boundary="none", dtype=dtype, meta=np.empty((0,) * volume.ndim, dtype)
    )


def reduced(function: Callable, together: Callable, *arrays):
    """Return what `together` makes of the list of the results of ``function(*arrays)`` for every block: one pass over the data.

    Parameters
    ----------
    function : callable
        Of arrays in memory, of the same shape.
    together : callable
        Makes one result of a list of results, in any grouping.
    *arrays
        Of the same shape; all dask arrays, of the same chunks, or none.
    """
    if not is_lazy(arrays[0]):
        return together([function(*arrays)])
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
    merge = dask.delayed(together)
    while len(parts) > 1:
        parts = [
            merge(parts[first : first + _TOGETHER]) for first in range(0, len(parts), _TOGETHER)
        ]
    return merge(parts).compute()
