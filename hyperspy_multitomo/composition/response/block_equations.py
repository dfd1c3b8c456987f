# SPDX-License-Identifier: GPL-3.0-or-later
"""Normal equations of h = P r over blocks of pixels, with the noise covariance of the counts."""

from __future__ import annotations

from itertools import product

import numpy as np

from hyperspy_multitomo.composition.response.blocks import (
    BlockSums,
    in_tiles,
    noise_covariance,
    sum_blocks,
)
from hyperspy_multitomo.composition.response.regression import NormalEquations, one_sided_weights

__all__ = ["block_equations", "explained_blocks"]

# Number of shifted grids of blocks along each direction.
GRIDS = 2


def block_equations(
    maps: np.ndarray,
    haadf: np.ndarray,
    mask: np.ndarray,
    blocks: BlockSums,
    weights: np.ndarray | None = None,
    tile: tuple[int, int] | None = None,
) -> NormalEquations:
    """Return the weighted normal equations of every tilt, or of every tile of every tilt.

    Without weights they are the mean over shifted grids of blocks, so that the result depends less
    on where blocks cut core and shell.

    Parameters
    ----------
    maps : numpy.ndarray (channel, tilt, x, y)
    haadf : numpy.ndarray (tilt, x, y)
    mask : numpy.ndarray of bool (tilt, x, y)
    blocks : BlockSums
        Of these arrays.
    weights : numpy.ndarray (block,), optional
        1 by default.
    tile : tuple of int, optional
        Size (x, y) of the tiles in px, whole blocks; see `bootstrap_tile`.

    Returns
    -------
    NormalEquations
    """
    side, rows = blocks.side, len(blocks.haadf)
    spread = None if weights is None else np.nan_to_num(blocks.as_map(weights))
    if tile is not None:
        maps, haadf, mask = in_tiles(maps, tile), in_tiles(haadf, tile), in_tiles(mask, tile)
        spread = None if spread is None else in_tiles(spread, (tile[0] // side, tile[1] // side))
        used = (mask if spread is None else spread).any(axis=(1, 2))
        maps, haadf, mask = maps[:, used], haadf[used], mask[used]
        spread = None if spread is None else spread[used]
    steps = [0] if weights is not None else sorted({round(side * k / GRIDS) for k in range(GRIDS)})
    groups, channels = len(mask), len(maps)
    gram, cross = np.zeros((groups, channels, channels)), np.zeros((groups, channels))
    for offset in product(steps, steps):
        grid = sum_blocks(maps, haadf, mask, side, offset)
        weight = np.ones(len(grid.haadf)) if spread is None else spread.flat[grid.place]
        for group in range(groups):
            here = grid.tilt == group
            weighted = grid.counts[here].T * weight[here]
            gram[group] += weighted @ grid.counts[here] / len(steps) ** 2
            cross[group] += weighted @ grid.haadf[here] / len(steps) ** 2
    noise = noise_covariance(maps, mask, side, spread, haadf)
    return NormalEquations(gram, cross, noise[..., :channels], noise[..., channels], rows)


def explained_blocks(
    maps: np.ndarray,
    haadf: np.ndarray,
    mask: np.ndarray,
    blocks: BlockSums,
    prior_matrix: np.ndarray | None,
) -> np.ndarray:
    """Return 1 for blocks that the maps explain, 0 for those that are far brighter, (block,)."""

    def fit(weights: np.ndarray) -> np.ndarray:
        return blocks.counts @ block_equations(maps, haadf, mask, blocks, weights).solve(
            prior_matrix
        )

    return one_sided_weights(blocks.haadf, fit)
