# SPDX-License-Identifier: GPL-3.0-or-later
"""Lanes arrays: groups of slices side by side, so that one weight serves a vector of them.

An array (channel, a, b, y) becomes (group, channel, a, b), each element holding the values of L
slices. Rows b are padded to an odd number of elements, because rows whose distance is a power of
two compete for the same lines of the cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from hyperspy_multitomo.tomography.cpu.simd import ALIGNMENT, lanes_dtype

# Relative time of a group of 64, 32, 16 or 8 lanes, measured: weights and loops cost each group the
# same.
_COST_OF_GROUP = {64: 1.0, 32: 0.58, 16: 0.38, 8: 0.27}
# Fraction of the time that groups of a second width have to save, as their kernels have to be
# compiled too.
_SAVING = 0.12


@cache
def _lane_counts() -> tuple[int, ...]:
    """Return the numbers of lanes worth using.

    Two sums of 64 lanes fill the registers of AVX-512, and overflow those of any other machine.
    """
    import llvmlite.binding as llvm

    wide = llvm.get_host_cpu_features().get("avx512f", False)
    return (64, 32, 16, 8) if wide else (32, 16, 8)


def _cost(slices: int, count: int) -> float:
    return -(-slices // count) * _COST_OF_GROUP[count]


def lane_count(slices: int) -> int:
    """Return the number of lanes (8, 16, 32 or 64) that makes `slices` slices cheapest."""
    return min(_lane_counts(), key=lambda count: _cost(slices, count))


def blocks(slices: int, channels: int = 1) -> list[tuple[int, int, int]]:
    """Cut independent slices into blocks (start, stop, lanes) of whole groups of one width each.

    The slices that overfill groups of one width go into narrower ones where that saves time: 80
    into 64 + 16 lanes. A block whose `channels` times slices fit into one group has as many lanes.
    """
    if channels * slices <= max(_lane_counts()) and channels > 1:
        return [(0, slices, min(count for count in _lane_counts() if count >= channels * slices))]
    best = [(0, slices, lane_count(slices))]
    for count in _lane_counts():
        full = slices // count * count
        if 0 < full < slices:
            rest = slices - full
            mixed = _cost(full, count) + _cost(rest, lane_count(rest))
            if mixed < (1 - _SAVING) * _cost(slices, lane_count(slices)):
                best = min(
                    best, [(0, full, count), (full, slices, lane_count(rest))], key=_cost_of_blocks
                )
    return best


def _cost_of_blocks(cut: list[tuple[int, int, int]]) -> float:
    return sum(_cost(stop - start, count) for start, stop, count in cut)


def cost_of(slices: int, channels: int = 1) -> float:
    """Return the cost of `slices` independent slices; 1 is one channel of a full group of 64."""
    cut = blocks(slices, channels)
    return _cost_of_blocks(cut) * (1 if _abreast(cut, channels) else channels)


def _abreast(cut: list[tuple[int, int, int]], channels: int) -> bool:
    """Return whether all channels of all slices fit into one group."""
    return len(cut) == 1 and channels * cut[0][1] <= cut[0][2]


def odd(length: int) -> int:
    """Return the row stride for rows of `length` elements."""
    return length | 1


def empty_lanes(elements: int, count: int) -> np.ndarray:
    """Return a flat, aligned lanes array of `elements` elements of `count` lanes, not set."""
    raw = np.empty(elements * count * 4 + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + elements * count * 4].view(lanes_dtype(count))


def pack(array: np.ndarray, count: int) -> np.ndarray:
    """Return the lanes array (group, channel, a, stride of b) of an array (channel, a, b, y), flat.

    Unused lanes are 0.
    """
    channels, a, b, slices = array.shape
    groups = -(-slices // count)
    packed = empty_lanes(groups * channels * a * odd(b), count)
    view = packed["lanes"].reshape(groups, channels, a, odd(b), count)
    view[:, :, :, b:] = 0
    for group in range(groups):
        part = array[..., group * count : (group + 1) * count]
        view[group, :, :, :b, : part.shape[-1]] = part
        view[group, :, :, :b, part.shape[-1] :] = 0
    return packed


def unpack(packed: np.ndarray, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Return the array (channel, a, b, y) of the given shape, float32, from its lanes array."""
    channels, a, b, _ = shape
    count = packed.dtype.itemsize // 4
    view = packed["lanes"].reshape(-1, channels, a, odd(b), count)
    array = np.empty(shape, np.float32)
    for group in range(view.shape[0]):
        part = array[..., group * count : (group + 1) * count]
        part[...] = view[group, :, :, :b, : part.shape[-1]]
    return array
