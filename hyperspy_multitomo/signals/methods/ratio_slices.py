# SPDX-License-Identifier: GPL-3.0-or-later
"""Some slices of a series for a fit of response ratios: spread groups of neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from hyperspy_multitomo.composition.response.blocks import sum_blocks
from hyperspy_multitomo.machine.memory import OF_RATIO_FIT, available_memory

# Slices of a lazy series that are used, and neighbours in a group: means over neighbours and blocks
# of pixels need some.
_MOST, _GROUP = 128, 32
# Bytes at the peak of a fit for each byte of its maps.
_PEAK = 16


@dataclass(frozen=True)
class SomeSlices:
    """Groups of slices, (start, stop) each, in ascending order.

    Arrays of the groups lie side by side along y with a masked row between them, across which
    nothing is a neighbour.
    """

    groups: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> np.ndarray:
        """The slices, in the whole series."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.groups])

    def with_gaps(self, array: np.ndarray) -> np.ndarray:
        """Return an array (..., slice) of these slices with a row of zeros between the groups."""
        ends = np.cumsum([stop - start for start, stop in self.groups])[:-1]
        return np.insert(array, ends, 0, axis=-1)

    def residual_map(
        self, maps, haadf, mask, values: np.ndarray, side: int, slices: int
    ) -> np.ndarray:
        """Return h - sum_e r_e p_e in blocks of the whole images, NaN outside these slices.

        Shape (tilt, block x, block y).

        `maps` (channel, tilt, x, slice), `haadf` and `mask` (tilt, x, slice) are of these slices,
        without gaps.
        """
        residuals = np.full(
            (len(haadf), -(-haadf.shape[1] // side), -(-slices // side)), np.nan, np.float32
        )
        at = 0
        for start, stop in self.groups:
            part = slice(at, at + stop - start)
            at = part.stop
            blocks = sum_blocks(
                maps[..., part], haadf[..., part], mask[..., part], side, (0, start % side)
            )
            misfit = blocks.as_map(blocks.haadf - blocks.counts @ values)
            place = residuals[..., start // side : start // side + misfit.shape[2]]
            # Two groups may lie in the same block.
            place[...] = np.where(np.isnan(place), misfit, place + np.nan_to_num(misfit))
        return residuals


def some_slices(series, most: int | None) -> SomeSlices | None:
    """Return which slices to fit to, `most` of them; None for all.

    By default those are all of a series in memory, and of a lazy one 128, or fewer where these
    would not fit in the memory.

    Raises
    ------
    ValueError
        For `most` that is no whole number from 1 up.
    MemoryError
        Where not even one group fits.
    """
    channels, tilts, width, count = series.array("element", "tilt", "x", "y").shape
    if most is None:
        if not series._lazy:
            return None
        most, memory = _MOST, available_memory()
        if memory is not None:
            # The HAADF counts as one map.
            fitting = int(OF_RATIO_FIT * memory / (4 * _PEAK * (channels + 1) * tilts * width))
            if fitting < min(_GROUP, count):
                raise MemoryError(
                    f"{min(_GROUP, count)} slices of {channels} maps at {tilts} tilts do not fit "
                    "in the memory, "
                    f"{memory / 1e9:.3g} GB; bin the series, or fit fewer elements or tilts"
                )
            most = min(most, fitting)
    elif not isinstance(most, Integral) or isinstance(most, bool) or most < 1:
        raise ValueError(f"slices={most!r} must be a whole number of slices, 1 or more")
    if most >= count:
        return None
    return SomeSlices(_spread_groups(count, int(most)))


def _spread_groups(count: int, most: int) -> tuple[tuple[int, int], ...]:
    """Return `most` of `count` slices in groups, each in the middle of an equal part."""
    number = max(1, most // _GROUP)
    sizes = np.full(number, most // number) + (np.arange(number) < most % number)
    edges = np.linspace(0, count, number + 1)
    starts = ((edges[:-1] + edges[1:] - sizes) / 2).astype(int)
    return tuple((int(start), int(start + size)) for start, size in zip(starts, sizes, strict=True))
