# SPDX-License-Identifier: GPL-3.0-or-later
"""Median over 3 voxels along every axis, by a selection network on many voxels at a time."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled

__all__ = ["median_of_neighbours"]

# Voxels that are compared at once, in the lanes of vector instructions.
_LANES = 64


def _network(number: int) -> np.ndarray:
    """Return the comparisons (smaller, greater) of a network that selects the median of values.

    Among any group of more than half of the values, the least and the greatest cannot be the
    median: they are replaced by the next value, until three values are left; the middle one is the
    median.
    """
    active, waiting = list(range(number // 2 + 2)), list(range(number // 2 + 2, number))
    pairs = []
    while True:
        half = len(active) // 2
        pairs += [(active[i], active[-1 - i]) for i in range(half)]
        lower, upper = active[: len(active) - half], active[half:]
        pairs += [(lower[0], other) for other in lower[1:]]
        pairs += [(other, upper[-1]) for other in upper[:-1]]
        if len(active) == 3:
            return np.array(pairs)
        active = [*active[1:-1], waiting.pop(0)]


_PAIRS = _network(27)
_MIDDLE = int(_PAIRS[-1, 0])


@compiled()
def _gather(window, line, volume, z, x, first, width):
    """Fill `window` (27, lane) with the neighbours of `width` voxels of a row from `first` on."""
    nz, nx, ny = volume.shape
    row = 0
    for dz in range(-1, 2):
        for dx in range(-1, 2):
            whole = volume[min(max(z + dz, 0), nz - 1), min(max(x + dx, 0), nx - 1)]
            line[0] = whole[max(first - 1, 0)]
            for lane in range(width):
                line[lane + 1] = whole[first + lane]
            line[width + 1] = whole[min(first + width, ny - 1)]
            for dy in range(3):
                for lane in range(_LANES):
                    window[row, lane] = line[lane + dy]
                row += 1


@compiled()
def _order(window, pairs):
    """Apply the comparisons of a network to all lanes of `window`."""
    for pair in range(pairs.shape[0]):
        smaller, greater = window[pairs[pair, 0]], window[pairs[pair, 1]]
        for lane in range(_LANES):
            a, b = smaller[lane], greater[lane]
            smaller[lane] = a if a < b else b
            greater[lane] = b if a < b else a


@compiled()
def _filter(volume, medians, pairs, middle):
    """Fill `medians` with those of `volume`, both (z, x, y); the border is repeated beyond it."""
    nz, nx, ny = volume.shape
    window, line = np.zeros((27, _LANES), np.float32), np.zeros(_LANES + 2, np.float32)
    for z in range(nz):
        for x in range(nx):
            for first in range(0, ny, _LANES):
                width = min(_LANES, ny - first)
                _gather(window, line, volume, z, x, first, width)
                _order(window, pairs)
                for lane in range(width):
                    medians[z, x, first + lane] = window[middle, lane]


def median_of_neighbours(volume: np.ndarray) -> np.ndarray:
    """Return the median over 3 voxels along every axis: of 27 in a volume.

    Parameters
    ----------
    volume : numpy.ndarray
        With up to three axes; for more axes SciPy's filter is used, which is many times slower.

    Returns
    -------
    numpy.ndarray, float32
        The border is repeated beyond it, as in SciPy's ``median_filter(volume, 3)``.

    Examples
    --------
    >>> import numpy as np
    >>> median_of_neighbours(np.array([1.0, 9.0, 2.0, 3.0]))
    array([1., 2., 3., 3.], dtype=float32)
    """
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    if volume.ndim > 3:
        from scipy.ndimage import median_filter

        return median_filter(volume, 3)
    whole = volume.reshape((1,) * (3 - volume.ndim) + volume.shape)
    medians = np.empty_like(whole)
    if volume.size:
        _filter(whole, medians, _PAIRS, _MIDDLE)
    return medians.reshape(volume.shape)
