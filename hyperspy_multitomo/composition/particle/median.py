# SPDX-License-Identifier: GPL-3.0-or-later
"""The median of each voxel and its neighbours, 3 along every axis, by a network of comparisons on many voxels at a time."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled

__all__ = ["median_of_neighbours"]

_LANES = 64


def _network(number: int) -> np.ndarray:
    """Return pairs (smaller, greater) to put in order, after which the middle one of the last three is the median.

    Of more than half of the values the least and the greatest are not the median: they are left out
    for the next one, and so on.
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
def _filter(volume, found, pairs, middle):
    """Fill `found` with the medians of `volume`, both (z, x, y); at the borders the border itself is the neighbour."""
    nz, nx, ny = volume.shape
    window, line = np.zeros((27, _LANES), np.float32), np.zeros(_LANES + 2, np.float32)
    for z in range(nz):
        for x in range(nx):
            for first in range(0, ny, _LANES):
                width = min(_LANES, ny - first)
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
                for pair in range(pairs.shape[0]):
                    smaller, greater = window[pairs[pair, 0]], window[pairs[pair, 1]]
                    for lane in range(_LANES):
                        a, b = smaller[lane], greater[lane]
                        smaller[lane] = a if a < b else b
                        greater[lane] = b if a < b else a
                for lane in range(width):
                    found[z, x, first + lane] = window[middle, lane]


def median_of_neighbours(volume: np.ndarray) -> np.ndarray:
    """Return the median of the 3 neighbours along every axis, the voxel included: of 27 in a volume.

    Parameters
    ----------
    volume : numpy.ndarray
        With up to three axes; of more SciPy makes it, many times slower.

    Returns
    -------
    numpy.ndarray, float32
        At the borders the border itself is the neighbour, as in SciPy's ``median_filter(volume,
        3)``.

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
    found = np.empty_like(whole)
    if volume.size:
        _filter(whole, found, _PAIRS, _MIDDLE)
    return found.reshape(volume.shape)
