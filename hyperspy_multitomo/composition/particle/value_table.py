# SPDX-License-Identifier: GPL-3.0-or-later
"""Histogram of the rounded values of a volume, for thresholds, in one pass over its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled

__all__ = ["ValueTable", "threshold_between_values"]

# Values are rounded to 14 significant bits: the other ten of a float32 are dropped. Keys are the
# remaining bits with a sign.
_BITS = 10
_STEP, _HALF = 1 << _BITS, 1 << (_BITS - 1)
_ZERO = 1 << (31 - _BITS)
_INFINITE = 0x7F800000 >> _BITS
# Number of voxels that can be counted in 32 bits.
_MOST = 1 << 31


@compiled()
def _count(words, table):
    """Add the number of each key to the table; `words` are the bits of float32 values."""
    for word in words:
        key = ((word & np.uint32(0x7FFFFFFF)) + np.uint32(_HALF)) >> np.uint32(_BITS)
        table[_ZERO - key if word >> np.uint32(31) else _ZERO + key] += 1


@dataclass(frozen=True, eq=False)
class ValueTable:
    """Histogram of a volume over its values, rounded to 14 significant bits (relative error 6e-5).

    Tables of blocks add up to that of the volume, so that results do not depend on the blocks.

    Attributes
    ----------
    keys : numpy.ndarray of int (value,)
        Ascending.
    counts : numpy.ndarray of int (value,)
    """

    keys: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, volume: np.ndarray) -> ValueTable:
        """Count the values of an array, taken as float32.

        Raises
        ------
        ValueError
            If one is not finite.
        """
        flat = np.ascontiguousarray(volume, dtype=np.float32).reshape(-1)
        if flat.size > _MOST:
            return cls.sum(
                [cls.of(flat[first : first + _MOST]) for first in range(0, flat.size, _MOST)]
            )
        table = np.zeros(2 * _ZERO + 1, np.uint32)
        _count(flat.view(np.uint32), table)
        keys = np.flatnonzero(table)
        found = cls(keys - _ZERO, table[keys].astype(np.int64))
        if found.size and max(-found.keys[0], found.keys[-1]) >= _INFINITE:
            raise ValueError(
                "the volume holds NaN or infinite values; mask or repair them before thresholding"
            )
        return found

    @classmethod
    def sum(cls, tables: Sequence[ValueTable]) -> ValueTable:
        """Return the table of several blocks."""
        if len(tables) == 1:
            return tables[0]
        keys, where = np.unique(
            np.concatenate([table.keys for table in tables]), return_inverse=True
        )
        counts = np.zeros(keys.size, np.int64)
        np.add.at(counts, where, np.concatenate([table.counts for table in tables]))
        return cls(keys, counts)

    @property
    def values(self) -> np.ndarray:
        """The rounded values, ascending."""
        return _value(self.keys * _STEP)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    @property
    def low(self) -> float:
        """The least value."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """The greatest value."""
        return float(self.values[-1])

    def above(self, level: float) -> ValueTable:
        """Return the table of the values above a level."""
        keep = self.values > level
        return ValueTable(self.keys[keep], self.counts[keep])

    def up_to(self, level: float) -> ValueTable:
        """Return the table of the values up to and including a level."""
        keep = self.values <= level
        return ValueTable(self.keys[keep], self.counts[keep])

    def from_levels_on(self, levels: np.ndarray) -> np.ndarray:
        """Return the number of voxels at or above each level."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        return self.size - below[np.searchsorted(self.values, levels)]

    def quantile(self, part: float) -> float:
        """Return a quantile of the voxels, `part` from 0 to 1, interpolated as NumPy does."""
        rank = part * (self.size - 1)
        ends = np.cumsum(self.counts)
        values = self.values
        lower, upper = (
            values[np.searchsorted(ends, at, side="right")]
            for at in (np.floor(rank), np.ceil(rank))
        )
        return float(lower + (rank - np.floor(rank)) * (upper - lower))

    def clipped(self, top: float) -> ValueTable:
        """Return the table with values above `top` set to `top`, which is rounded as well."""
        key = ValueTable.of(np.array([top])).keys
        low = self.keys < key
        return ValueTable(
            np.append(self.keys[low], key), np.append(self.counts[low], self.counts[~low].sum())
        )

    def without_negatives(self) -> ValueTable:
        """Return the table with values below 0 set to 0."""
        keys, where = np.unique(np.maximum(self.keys, 0), return_inverse=True)
        return ValueTable(keys, np.bincount(where, weights=self.counts).astype(np.int64))

    def otsu(self) -> float:
        """Return Otsu's threshold from 256 bins; there have to be two different values."""
        from skimage.filters import threshold_otsu

        counts, edges = np.histogram(self.values, 256, weights=self.counts.astype(np.float64))
        return float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))


def threshold_between_values(level: float) -> float:
    """Return a threshold next to a level above which a volume and its table have equal voxels.

    It lies between two rounded values, so that rounding takes no voxel across it.
    """
    key = ValueTable.of(np.array([level])).keys[0]
    key = key if _value(key * _STEP) > level else key + 1
    return float(_value(key * _STEP - _HALF - (key > 0)))


def _value(words: np.ndarray) -> np.ndarray:
    """Return the float32 values, as float64, whose bits are given as signed integers.

    The absolute value has the bits of the float's absolute value.
    """
    sizes = np.abs(words).astype(np.uint32).view(np.float32).astype(np.float64)
    return np.where(np.asarray(words) < 0, -sizes, sizes)
