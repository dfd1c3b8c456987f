# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of lazy series, smoothed, evened and resampled for a slab from the rows that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from hyperspy_multitomo.acquisition.counts import (
    BACKGROUND_REACH,
    background_width,
    smoothed_background,
)
from hyperspy_multitomo.alignment.resampling import Rows
from hyperspy_multitomo.alignment.transform import Alignment

# Rows made together, as many as a slab of a reconstruction usually has.
HEIGHT = 64


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


@dataclass(frozen=True, eq=False)
class Smoothing:
    """The smoothing of backgrounds to their expectations.

    Attributes
    ----------
    means : array (channel, tilt)
        Of each image.
    factors : array (channel, tilt)
        With which smoothing keeps these means.
    """

    means: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(cls, background) -> Smoothing:
        """Return that of dask images (channel, tilt, x, y).

        They are read twice, chunk by chunk: for the widths, and for the sums.
        """
        means = image_means(background)
        plain = cls(means, np.ones_like(means))
        smooth = image_means(
            changed(background.astype(np.float32), smoothing=plain, cuts=_chunk_starts(background))
        )
        return cls(
            means,
            np.divide(means, smooth, out=np.zeros_like(means), where=(means > 0) & (smooth > 0)),
        )

    def __call__(self, block: np.ndarray, channels: np.ndarray, tilts: np.ndarray) -> np.ndarray:
        """Return a block of images with those of these channels and tilts."""
        smooth = np.zeros(block.shape, np.float32)
        for place in np.ndindex(block.shape[:2]):
            image = channels[place[0]], tilts[place[1]]
            if self.means[image] > 0:
                width = background_width(self.means[image])
                smooth[place] = smoothed_background(block[place], width) * np.float32(
                    self.factors[image]
                )
        return smooth


@dataclass(frozen=True, eq=False)
class _Changes:
    """Changes of images in this order: smoothing, division by the transmission, resampling."""

    shape: tuple[int, int]
    smoothing: Smoothing | None
    means: np.ndarray | None
    alignment: Alignment | None
    for_geometry: bool

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """Return the rows that some rows are made of."""
        first, last = self._moved_from(start, stop)
        reach = 0 if self.smoothing is None else BACKGROUND_REACH
        return max(first - reach, 0), min(last + reach, self.shape[1])

    def make(self, blocks, channels: np.ndarray, tilts: np.ndarray, rows: Rows) -> np.ndarray:
        """Return rows for `by_rows`, of blocks of the images and of the transmission, if any."""
        block = np.asarray(blocks[0], dtype=np.float32)
        if self.smoothing is not None:
            block = self.smoothing(block, channels, tilts)
        first, last = self._moved_from(rows.start, rows.stop)
        rows_moved = slice(first - rows.first, last - rows.first)
        block = block[..., rows_moved]
        if self.means is not None:
            means = self.means[np.ix_(channels, tilts)][..., None, None].astype(np.float32)
            block = block / (blocks[1][..., rows_moved] / means)
        if self.alignment is None:
            return block
        rows = replace(rows, first=first)
        return self.alignment.subset(tilts).apply(
            block, for_geometry=self.for_geometry, fill="edge", rows=rows
        )

    def _moved_from(self, start: int, stop: int) -> tuple[int, int]:
        if self.alignment is None:
            return start, stop
        return self.alignment.rows_needed(start, stop, self.shape, for_geometry=self.for_geometry)


def changed(
    images,
    *,
    smoothing=None,
    transmission=None,
    means=None,
    alignment=None,
    for_geometry=False,
    cuts=None,
):
    """Return dask images (channel, tilt, x, y) changed in the order of the keywords.

    Parameters
    ----------
    images : dask array (channel, tilt, x, y)
    smoothing : Smoothing, optional
        For backgrounds.
    transmission : dask array (channel, tilt, x, y), optional
        Whose contrast within an image is divided out; `means` (channel, tilt) are its
        `image_means`.
    alignment : Alignment, optional
        Edges are continued. `for_geometry` as in `Alignment.apply`.
    cuts : sequence of int, optional
        As in `by_rows`.
    """
    if alignment is not None:
        alignment = (
            replace(alignment, quality=None) if alignment.moves(for_geometry=for_geometry) else None
        )
    if smoothing is None and transmission is None and alignment is None:
        return images.astype(np.float32)
    arrays = [images] if transmission is None else [images, transmission]
    changes = _Changes(images.shape[2:], smoothing, means, alignment, for_geometry)
    return by_rows(arrays, changes.needed, changes.make, cuts)


def image_means(images) -> np.ndarray:
    """Return the mean of each of some dask images, (channel, tilt), read once, chunk by chunk."""
    return np.asarray(images.mean(axis=(2, 3), dtype=np.float64))


def _chunk_starts(images) -> list[int]:
    """Return where the chunks of images begin along y; thin chunks are taken together."""
    cuts = [0]
    for end in np.cumsum(images.chunks[3]).tolist():
        if end - cuts[-1] >= HEIGHT or end == images.shape[3]:
            cuts.append(end)
    return cuts
