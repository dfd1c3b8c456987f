# SPDX-License-Identifier: GPL-3.0-or-later
"""Spectrum images of which most channels are empty: their counts alone, and the blocks of rows in which cubes come and go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

__all__ = ["SparseSpectra", "TiltSpectra", "dense_blocks", "sparse_spectra"]

# Bytes of a block of rows: large enough for few tasks, and small enough that memory just freed is
# used again for the next one.
_BLOCK = 2**24
# A spectrum image is sparse where no more than this part of its channels has counts; a count takes
# 3 to 6 bytes.
_FILLED = 1 / 8


@dataclass(frozen=True, eq=False)
class SparseSpectra:
    """
    The counts of a spectrum image.

    Attributes
    ----------
    counts : ndarray of uint8 or uint16 (count,)
        None of them 0.
    channels : ndarray of uint16 (count,)
    starts : ndarray of int64 (y * x + 1,)
        Where the counts of each pixel begin and end.
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
        """Return the summed spectra (region, energy) between `rows` and between `columns`, edges from 0 to the whole size."""
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
            # Whole numbers below 2^53 are exact in any order.
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
    Return the counts of a spectrum image, read once.

    Parameters
    ----------
    cube : ndarray or dask array (y, x, energy)
    block_bytes : int, optional
        Size of the blocks of rows that are read at a time, of arrays in memory.

    Returns
    -------
    SparseSpectra or None
        None where more than an eighth of the channels has counts, and for data that are no counts
        of 8 or 16 bits without a sign.

    Examples
    --------
    >>> cube = np.zeros((2, 2, 16), np.uint8); cube[0, 1, 3] = 5; cube[1, 1, 2] = 1
    >>> found = sparse_spectra(cube)
    >>> found.counts, found.channels, found.starts
    (array([5, 1], dtype=uint8), array([3, 2], dtype=uint16), array([0, 0, 1, 1, 2]))
    """
    if (
        cube.dtype.kind != "u"
        or cube.dtype.itemsize > 2
        or not 0 < cube.shape[-1] <= 2**16
        or 0 in cube.shape
    ):
        return None
    if hasattr(cube, "dask"):
        import dask

        blocks = cube.rechunk({1: -1, 2: -1}).to_delayed().ravel()
        found = dask.compute(*map(dask.delayed(_counts_of), blocks))
    else:
        rows = max(1, block_bytes // max(1, cube[0].nbytes))
        edges = range(0, cube.shape[0] + rows, rows)
        found = [_counts_of(cube[top:bottom]) for top, bottom in pairwise(edges)]
    if any(part is None for part in found):
        return None
    counts, channels, numbers = map(np.concatenate, zip(*found, strict=True))
    return SparseSpectra(
        counts, channels, np.concatenate([[0], np.cumsum(numbers)]), tuple(cube.shape)
    )


class TiltSpectra:
    """
    The spectrum images of a tilt series, one after the other, as often as they are gone through.

    Those that are sparse are kept, so that they are read once; of others one at a time is in
    memory.

    Parameters
    ----------
    data : ndarray or dask array (tilt, y, x, energy)
    memory : int, optional
        Bytes that those which are kept may take; by default there is no limit.

    Examples
    --------
    >>> spectra = TiltSpectra(np.zeros((3, 2, 2, 16), np.uint8))
    >>> [type(cube).__name__ for cube in spectra], spectra.all_kept
    (['SparseSpectra', 'SparseSpectra', 'SparseSpectra'], True)
    """

    def __init__(self, data, memory: int | None = None):
        self._data, self._memory = data, memory
        self._kept: dict[int, SparseSpectra] = {}
        self._are_sparse = True

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[SparseSpectra | np.ndarray]:
        for tilt in range(len(self)):
            yield self._kept[tilt] if tilt in self._kept else self._read(tilt)

    @property
    def all_kept(self) -> bool:
        """Whether none has to be read again."""
        return len(self._kept) == len(self)

    def _read(self, tilt: int) -> SparseSpectra | np.ndarray:
        cube = self._data[tilt]
        found = sparse_spectra(cube) if self._are_sparse else None
        if found is None:
            # The others will not be sparse either: each would be read once more for nothing.
            self._are_sparse = False
            return np.asarray(cube)
        if (
            self._memory is None
            or sum(kept.nbytes for kept in self._kept.values()) + found.nbytes <= self._memory
        ):
            self._kept[tilt] = found
        return found


def dense_blocks(counts, shape: tuple[int, int, int], dtype: np.dtype, block_bytes: int = _BLOCK):
    """
    Return a dask array (y, x, energy) in blocks of rows; the counts are decoded once for all blocks of a computation.

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
    """Return the counts of a block of rows, their channels, and how many each pixel has; None where most channels are filled."""
    spectra = np.ascontiguousarray(block)
    depth = block.shape[-1]
    if np.count_nonzero(spectra) > _FILLED * spectra.size:
        return None
    counts, places = _filled(spectra.reshape(-1))
    pixels, channels = np.divmod(places, depth)
    return counts, channels.astype(np.uint16), np.bincount(pixels, minlength=spectra.size // depth)


def _filled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is not 0 and its places: words of eight bytes are looked at first, most of which are empty."""
    lanes = 8 // values.itemsize
    if values.size % lanes:
        places = np.flatnonzero(values)
        return values[places], places
    words = values.view(np.uint64)
    filled = np.flatnonzero(words != 0)
    candidates = words[filled].view(values.dtype)
    lane = np.flatnonzero(candidates != 0)
    return candidates[lane], filled[lane // lanes] * lanes + lane % lanes
