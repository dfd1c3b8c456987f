# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums of projections over blocks of pixels, and the covariance of their noise."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# Least number of blocks, in all and per tilt, to distinguish elements and to show where the model
# fails.
FEWEST_BLOCKS = 48
FEWEST_BLOCKS_PER_TILT = 4
# With fewer tilts, the bootstrap draws from parts of the views instead, about this many in all.
FEWEST_TILTS = 8
PARTS = 32


@dataclass(frozen=True)
class BlockSums:
    """Sums over the masked pixels of every block with any; blocks are in the order of the tilts.

    Attributes
    ----------
    counts : numpy.ndarray (block, channel)
    haadf : numpy.ndarray (block,)
    place : numpy.ndarray of int (block,)
        Flat index of each block in `grid`.
    grid : tuple of int
        (tilt, x, y) size in blocks.
    side : int
        Pixels along an edge of a block.
    """

    counts: np.ndarray
    haadf: np.ndarray
    place: np.ndarray
    grid: tuple[int, int, int]
    side: int

    @property
    def tilt(self) -> np.ndarray:
        """Index of each block's tilt."""
        return self.place // (self.grid[1] * self.grid[2])

    def as_map(self, values: np.ndarray) -> np.ndarray:
        """Return values (block,) as a map (tilt, x, y), NaN where no pixel is in the mask."""
        laid = np.full(self.grid, np.nan, np.float32)
        laid.flat[self.place] = values
        return laid


def sum_blocks(
    maps: np.ndarray,
    haadf: np.ndarray,
    mask: np.ndarray,
    side: int,
    offset: tuple[int, int] = (0, 0),
) -> BlockSums:
    """Sum maps (channel, tilt, x, y) and haadf (tilt, x, y) over the masked pixels of blocks.

    Blocks have a side of `side` pixels; their grid begins `offset` pixels before the first pixel,
    along x and y.
    """
    pixels = _block_sum(mask, side, offset=offset)
    used = pixels > 0
    counts = np.stack([_block_sum(channel, side, mask, offset)[used] for channel in maps], axis=1)
    return BlockSums(
        counts,
        _block_sum(haadf, side, mask, offset)[used],
        np.flatnonzero(used),
        pixels.shape,
        side,
    )


def block_side(counts: float, mask: np.ndarray, min_counts: float) -> tuple[int, bool]:
    """Find the smallest side whose mean masked block holds `min_counts` of the weakest element.

    Parameters
    ----------
    counts : float
        Counts of the weakest element in all masked pixels.
    mask : numpy.ndarray of bool (tilt, x, y)
    min_counts : float

    Returns
    -------
    side : int
        Pixels.
    capped : bool
        True if a larger side is needed but would leave too few blocks.
    """
    fewest = max(FEWEST_BLOCKS, FEWEST_BLOCKS_PER_TILT * len(mask))
    # Counts of scaled maps may be so small that no block has enough: the largest side is that for
    # which a view full of specimen has enough blocks.
    largest = max(mask.shape[1:])
    while (
        largest > 1
        and len(mask) * np.prod([-(-length // largest) for length in mask.shape[1:]]) < fewest
    ):
        largest -= 1
    side = int(np.clip(np.sqrt(min_counts * np.count_nonzero(mask) / counts), 1, largest))
    number = _masked_blocks(mask, side)
    while counts < min_counts * number:
        if number <= fewest or side >= max(mask.shape[1:]):
            break
        side += 1
        number = _masked_blocks(mask, side)
    capped = False
    while number < fewest and side > 1:
        side, capped = side - 1, True
        number = _masked_blocks(mask, side)
    return side, capped or counts < min_counts * number


def noise_covariance(
    maps: np.ndarray,
    mask: np.ndarray,
    side: int = 1,
    block_weights: np.ndarray | None = None,
    haadf: np.ndarray | None = None,
) -> np.ndarray:
    """Measure the covariance of the pixel noise between channels, summed over masked pixels.

    The mixed difference d = p(x, y) - p(x+1, y) - p(x, y+1) + p(x+1, y+1) is 0 for any image f(x) +
    g(y), e.g. gradients of the specimen, and has the noise of four pixels: <d d'>/4 is the noise
    covariance of one pixel. Nothing is assumed about its distribution, so the maps may be net
    counts, scaled, or correlated with one another (overlapping lines); only noise that is
    correlated between pixels (smoothed maps) is not measured.

    At many counts the edges of the specimen exceed the noise in d. They also do in the HAADF h =
    r'p: with c the same products of d with the differences of the HAADF, (P'P - N) r = P'h - c is
    valid for noise and edges.

    Parameters
    ----------
    maps : numpy.ndarray (channel, tilt, x, y)
    mask : numpy.ndarray of bool (tilt, x, y)
    side : int, default 1
        Side of the blocks of `block_weights`, px.
    block_weights : numpy.ndarray (tilt, block x, block y), optional
        Weights of the blocks in the sum; 1 by default.
    haadf : numpy.ndarray (tilt, x, y), optional
        For c, which is then an additional column.

    Returns
    -------
    numpy.ndarray (tilt, channel, channel) or (tilt, channel, channel + 1)
    """
    channels, tilts = maps.shape[:2]
    covariance = np.zeros((tilts, channels, channels + (haadf is not None)))
    for t in range(tilts):
        weights = mask[t].astype(np.float64)
        if block_weights is not None:
            spread = np.repeat(np.repeat(block_weights[t], side, axis=0), side, axis=1)
            weights *= spread[: weights.shape[0], : weights.shape[1]]
        images = maps[:, t] if haadf is None else np.concatenate([maps[:, t], haadf[None, t]])
        differences, cells, variance = _mixed_differences(images.astype(np.float64), weights)
        if cells.sum() > 0:
            covariance[t] = (
                (differences[:channels] * cells)
                @ differences.T
                / variance
                * (weights.sum() / cells.sum())
            )
    return covariance


def noise_correlation(maps: np.ndarray, mask: np.ndarray) -> float:
    """Return the correlation of the noise of neighbouring pixels, 0 for independent noise.

    Neighbouring mixed differences (see `noise_covariance`) share half of their pixels, so that
    independent noise correlates them by -1/2. The excess over that is returned: the largest of the
    directions, and the smallest of the maps, because smoothing affects all maps and sharp features
    of the specimen only the strongest. A Gaussian of 0.6, 0.8 and 3.4 px gives 0.35, 0.7 and 1.4,
    linear interpolation by half a pixel 0.5, recorded counts less than 0.1 (up to 30 per pixel;
    beyond that the specimen exceeds its noise, and reaches 0.7 in images of 24 px).

    Parameters
    ----------
    maps : numpy.ndarray (channel, tilt, x, y)
    mask : numpy.ndarray of bool (tilt, x, y)

    Returns
    -------
    float
        Between about 0 and 3/2; 0 if there are too few pixels.
    """
    excess = [_correlation_excess(channel.astype(np.float64), mask) for channel in maps]
    return max(0.0, min(excess))


def _correlation_excess(images: np.ndarray, mask: np.ndarray) -> float:
    """Return the largest correlation of differences along x or y, less that of white noise."""
    neighbours: tuple[tuple[tuple, tuple], ...]
    if min(mask.shape[1:]) > 1:
        inside = mask[:, :-1, :-1] & mask[:, 1:, :-1] & mask[:, :-1, 1:] & mask[:, 1:, 1:]
        difference = (
            images[:, :-1, :-1] - images[:, 1:, :-1] - images[:, :-1, 1:] + images[:, 1:, 1:]
        )
        neighbours, expected = (
            ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])),
            -1 / 2,
        )
    else:
        images, mask = images.reshape(len(images), -1), mask.reshape(len(mask), -1)
        inside = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
        difference = images[:, :-2] - 2 * images[:, 1:-1] + images[:, 2:]
        neighbours, expected = ((np.s_[:, 1:], np.s_[:, :-1]),), -2 / 3
    difference = np.where(inside, difference, 0.0)
    power, pairs = (difference**2).sum(), [(inside[a] & inside[b]).sum() for a, b in neighbours]
    if power == 0 or min(pairs) < FEWEST_BLOCKS:
        return 0.0
    correlated = [
        (difference[a] * difference[b]).sum() / number
        for (a, b), number in zip(neighbours, pairs, strict=True)
    ]
    return float(max(correlated) / (power / inside.sum()) - expected)


def bootstrap_tile(mask: np.ndarray, side: int) -> tuple[int, int] | None:
    """Return the size of the parts of a view that a bootstrap draws from if tilts are too few.

    Parameters
    ----------
    mask : numpy.ndarray of bool (tilt, x, y)
    side : int
        Side of the blocks, px; a part has whole blocks.

    Returns
    -------
    tuple of int (x, y) or None
        px; None if there are enough tilts.
    """
    tilts, *size = mask.shape
    if tilts >= FEWEST_TILTS:
        return None
    directions = sum(length > side for length in size)
    per_direction = (PARTS / tilts) ** (1 / max(directions, 1))
    across, along = (max(1, round(length / side / per_direction)) * side for length in size)
    return across, along


def in_tiles(images: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Return (..., tilt, x, y) as tiles (..., tilt * tile, x, y), padded with zeros at the end."""
    *leading, width, height = images.shape
    across, along = (-(-length // part) for length, part in zip((width, height), tile, strict=True))
    filled = np.zeros((*leading, across * tile[0], along * tile[1]), images.dtype)
    filled[..., :width, :height] = images
    cut = np.moveaxis(filled.reshape(*leading, across, tile[0], along, tile[1]), -3, -2)
    return cut.reshape(*leading[:-1], leading[-1] * across * along, *tile)


def _mixed_differences(
    images: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the differences (channel, cell), their weights (cell,), and their variance.

    The variance is in units of that of a pixel.
    """
    corners: tuple[tuple, ...]
    signs: tuple[int, ...]
    if min(weights.shape) > 1:
        corners = (
            np.s_[..., :-1, :-1],
            np.s_[..., 1:, :-1],
            np.s_[..., :-1, 1:],
            np.s_[..., 1:, 1:],
        )
        signs, variance = (1, -1, -1, 1), 4.0
    else:
        # A single line of pixels: second differences, 0 for gradients, have 1 + 4 + 1 variances.
        images, weights = images.reshape(len(images), -1), weights.ravel()
        corners, signs, variance = (
            (np.s_[..., :-2], np.s_[..., 1:-1], np.s_[..., 2:]),
            (1, -2, 1),
            6.0,
        )
    terms = (sign * images[corner] for sign, corner in zip(signs, corners, strict=True))
    difference = functools.reduce(np.add, terms)
    cells = np.minimum.reduce([weights[corner] for corner in corners])
    return difference.reshape(len(images), -1), cells.ravel(), variance


def _block_sum(
    images: np.ndarray, side: int, mask: np.ndarray | None = None, offset: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Sum (tilt, x, y) over blocks in float64; the first and last block of a row may be narrow."""
    tilts, width, height = images.shape
    left, top = offset
    grid = (tilts, -(-(width + left) // side), -(-(height + top) // side))
    sums = np.empty(grid)
    for t in range(tilts):
        image = (
            images[t].astype(np.float64)
            if mask is None
            else np.where(mask[t], images[t], 0.0).astype(np.float64)
        )
        padded = np.pad(
            image, ((left, grid[1] * side - width - left), (top, grid[2] * side - height - top))
        )
        sums[t] = padded.reshape(grid[1], side, grid[2], side).sum(axis=(1, 3))
    return sums


def _masked_blocks(mask: np.ndarray, side: int) -> int:
    return int(np.count_nonzero(_block_sum(mask, side)))
