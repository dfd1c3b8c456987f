# SPDX-License-Identifier: GPL-3.0-or-later
"""Lazy images made some rows at a time, each part from the rows that it needs and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from hyperspy_multitomo.alignment.resampling import Rows

# Rows made together, as many as a slab of a reconstruction usually has.
HEIGHT = 64


def is_lazy(values) -> bool:
    """Whether values are a dask array."""
    return hasattr(values, "dask")


def by_rows(arrays: Sequence, needed: Callable, make: Callable, cuts: Sequence[int] | None = None):
    """Return dask images (channel, tilt, x, y) that are made of others, part by part along y.

    Parameters
    ----------
    arrays : sequence of dask arrays (channel, tilt, x, y)
        All of one shape, in any chunks; those of the first along channels and tilts stay.
    needed : callable
        ``needed(start, stop)`` returns (first, last): the rows from `start` to before `stop` are
        made of those of the arrays from `first` to before `last`.
    make : callable
        ``make(blocks, channels, tilts, rows)`` returns these rows, (channel, tilt, x, y) float32,
        of a block of each array; the numbers of its channels (channel,) and tilts (tilt,) say which
        they are, and `rows` (`Rows`) which rows it holds.
    cuts : sequence of int, optional
        Where the parts begin, and the end of the last; by default parts have `HEIGHT` rows.

    Returns
    -------
    dask array (channel, tilt, x, y), float32
        In a chunk for each part.
    """
    import dask.array as da

    size, (*blocked, _, _) = arrays[0].shape[3], arrays[0].chunks
    channels, tilts = (da.arange(sum(parts), chunks=(parts,)) for parts in blocked)
    made = []
    for start, stop in pairwise(cuts or (*range(0, size, HEIGHT), size)):
        first, last = needed(start, stop)
        made.append(
            da.map_blocks(
                _made,
                channels[:, None, None, None],
                tilts[None, :, None, None],
                *(array[..., first:last].rechunk((*blocked, -1, -1)) for array in arrays),
                make=make,
                rows=Rows(start, stop, first, size),
                chunks=(*blocked, arrays[0].shape[2:3], (stop - start,)),
                meta=np.empty((0,) * 4, np.float32),
            )
        )
    return da.concatenate(made, axis=3)


def _made(channels, tilts, *blocks, make, rows: Rows) -> np.ndarray:
    return make(blocks, channels.ravel(), tilts.ravel(), rows)
