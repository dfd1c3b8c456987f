# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparse spectrum images: only the channels that have counts, and dask arrays made from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy

__all__ = ["SparseSpectra", "TiltSpectra", "dense_blocks", "sparse_spectra"]

# Bytes of a block of rows: large enough for few dask tasks, small enough that the allocator reuses
# the memory of one block for the next.
_BLOCK = 2**24
# Largest fraction of channels with counts of an image that is stored as sparse: a count takes 3 to
# 6 bytes there.
_FILLED = 1 / 8


@dataclass(frozen=True, eq=False)
class SparseSpectra:
    """
    The counts of a spectrum image, without its empty channels.

    Attributes
    ----------
    counts : ndarray of uint8 or uint16 (count,)
        Not 0.
    channels : ndarray of uint16 (count,)
        Channel of each count.
    starts : ndarray of int64 (y * x + 1,)
        First count of each pixel, and the end of the last.
    shape : (int, int, int)
        Of the spectrum image (y, x, energy).
    """

    counts: np.ndarray
    channels: np.ndarray
    starts: np.ndarray
    shape: tuple[int, int, int]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.counts.nbytes + self.channels.nbytes + self.starts.nbytes

    def region_sums(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return spectra (region, energy) summed between the edges in `rows` and in `columns`."""
        width, depth = self.shape[1:]
        down, across = (
            np.searchsorted(edges, np.arange(edges[-1]), "right") - 1 for edges in (rows, columns)
        )
        regions = (down[:, None] * (len(columns) - 1) + across).ravel()
        sums = np.zeros((len(rows) - 1) * (len(columns) - 1) * depth)
        for top, bottom in pairwise(rows):
            first, last = top * width, bottom * width
            part = slice(self.starts[first], self.starts[last])
            of_counts = np.repeat(regions[first:last], np.diff(self.starts[first : last + 1]))
            # Integers below 2^53 are summed exactly in any order.
            sums += np.bincount(
                of_counts * depth + self.channels[part], self.counts[part], minlength=sums.size
            )
        return sums.reshape(-1, depth)

    def product(self, rows: np.ndarray) -> np.ndarray:
        """Return the product (row, y, x) of rows (row, energy) with the spectra, float32."""
        from scipy.sparse import csr_matrix

        height, width, depth = self.shape
        entries = self.counts.astype(np.float32), self.channels.astype(np.int32), self.starts
        product = csr_matrix(entries, (height * width, depth)) @ np.ascontiguousarray(
            rows.T, dtype=np.float32
        )
        return np.ascontiguousarray(product.T).reshape(-1, height, width)


def sparse_spectra(cube, block_bytes: int = _BLOCK) -> SparseSpectra | None:
    """
    Return a spectrum image as sparse counts; it is read once.

    Parameters
    ----------
    cube : ndarray or dask array (y, x, energy)
    block_bytes : int, optional
        Size of the blocks of rows that are read at a time, of arrays in memory.

    Returns
    -------
    SparseSpectra or None
        None where more than an eighth of the channels has counts, and for data other than unsigned
        integers of 8 or 16 bits.

    Examples
    --------
    >>> cube = np.zeros((2, 2, 16), np.uint8); cube[0, 1, 3] = 5; cube[1, 1, 2] = 1
    >>> sparse = sparse_spectra(cube)
    >>> sparse.counts, sparse.channels, sparse.starts
    (array([5, 1], dtype=uint8), array([3, 2], dtype=uint16), array([0, 0, 1, 1, 2]))
    """
    if (
        cube.dtype.kind != "u"
        or cube.dtype.itemsize > 2
        or not 0 < cube.shape[-1] <= 2**16
        or 0 in cube.shape
    ):
        return None
    if is_lazy(cube):
        import dask

        blocks = cube.rechunk({1: -1, 2: -1}).to_delayed().ravel()
        parts = dask.compute(*map(dask.delayed(_counts_of), blocks))
    else:
        rows = max(1, block_bytes // max(1, cube[0].nbytes))
        edges = range(0, cube.shape[0] + rows, rows)
        parts = [_counts_of(cube[top:bottom]) for top, bottom in pairwise(edges)]
    if any(part is None for part in parts):
        return None
    counts, channels, numbers = map(np.concatenate, zip(*parts, strict=True))
    return SparseSpectra(
        counts, channels, np.concatenate([[0], np.cumsum(numbers)]), tuple(cube.shape)
    )


class TiltSpectra:
    """
    The spectrum images of a tilt series, one by one, in as many passes as needed.

    Sparse ones are cached, so that they are read once; of others one at a time is in memory.

    Parameters
    ----------
    data : ndarray or dask array (tilt, y, x, energy)
    memory : int, optional
        Bytes that the cache may take; by default there is no limit.

    Examples
    --------
    >>> spectra = TiltSpectra(np.zeros((3, 2, 2, 16), np.uint8))
    >>> [type(cube).__name__ for cube in spectra], spectra.all_cached
    (['SparseSpectra', 'SparseSpectra', 'SparseSpectra'], True)
    """

    def __init__(self, data, memory: int | None = None):
        self._data, self._memory = data, memory
        self._cache: dict[int, SparseSpectra] = {}
        self._are_sparse = True

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[SparseSpectra | np.ndarray]:
        for tilt in range(len(self)):
            yield self._cache[tilt] if tilt in self._cache else self._read(tilt)

    @property
    def all_cached(self) -> bool:
        """Whether no tilt has to be read again."""
        return len(self._cache) == len(self)

    def _read(self, tilt: int) -> SparseSpectra | np.ndarray:
        cube = self._data[tilt]
        sparse = sparse_spectra(cube) if self._are_sparse else None
        if sparse is None:
            # The others will not be sparse either, and each attempt reads the data once more.
            self._are_sparse = False
            return np.asarray(cube)
        size = sum(cached.nbytes for cached in self._cache.values()) + sparse.nbytes
        if self._memory is None or size <= self._memory:
            self._cache[tilt] = sparse
        return sparse


def dense_blocks(counts, shape: tuple[int, int, int], dtype: np.dtype, block_bytes: int = _BLOCK):
    """
    Return a dask array (y, x, energy) in blocks of rows from sparse counts.

    The counts are decoded once for all blocks of a computation.

    Parameters
    ----------
    counts : Delayed
        Of a csr_matrix (y * x, energy).
    shape : (int, int, int)
    dtype : dtype
    block_bytes : int, optional
        Size of a block of rows, at most, where one row is no larger.

    Returns
    -------
    dask array
    """
    import dask
    import dask.array as da

    height, width, channels = shape
    rows = max(1, block_bytes // (width * channels * np.dtype(dtype).itemsize))
    blocks = []
    for start in range(0, height, rows):
        size = min(rows, height - start), width, channels
        dense = dask.delayed(partial(_dense, dtype=dtype))(counts, start * width, size)
        blocks.append(da.from_delayed(dense, size, dtype))
    return blocks[0] if len(blocks) == 1 else da.concatenate(blocks)


def _dense(counts, start: int, shape: tuple[int, int, int], dtype) -> np.ndarray:
    part = counts[start : start + shape[0] * shape[1]]
    most = np.iinfo(dtype).max
    if part.nnz and part.data.max() > most:
        raise ValueError(
            f"a channel of a pixel has more than {most} counts, which {np.dtype(dtype)} does not "
            "hold"
        )
    return part.astype(dtype, copy=False).toarray().reshape(shape)


def _counts_of(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the counts of a block of rows, their channels, and their number in each pixel.

    None where too many channels have counts, see `_FILLED`.
    """
    spectra = np.ascontiguousarray(block)
    depth = block.shape[-1]
    if np.count_nonzero(spectra) > _FILLED * spectra.size:
        return None
    counts, places = _filled(spectra.reshape(-1))
    pixels, channels = np.divmod(places, depth)
    return counts, channels.astype(np.uint16), np.bincount(pixels, minlength=spectra.size // depth)


def _filled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that are not 0 and their indices.

    Words of eight bytes are tested first: most are empty.
    """
    lanes = 8 // values.itemsize
    if values.size % lanes:
        places = np.flatnonzero(values)
        return values[places], places
    words = values.view(np.uint64)
    filled = np.flatnonzero(words != 0)
    candidates = words[filled].view(values.dtype)
    lane = np.flatnonzero(candidates != 0)
    return candidates[lane], filled[lane // lanes] * lanes + lane % lanes
