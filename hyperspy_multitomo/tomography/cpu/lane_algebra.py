# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums and products on lanes with separate factors for every slice of every channel.

Arrays are flat lanes (group, channel, row, element), `size` is (channels, rows, elements of a row,
row stride); factors and results are lanes (group, channel) and (channel,). A kernel does the rows
from `start` to before `stop` of one group.
"""

from __future__ import annotations

from hyperspy_multitomo.tomography.cpu.kernels import kernel
from hyperspy_multitomo.tomography.cpu.simd import fma, load, store, zero


@kernel
def inner(a, b, size, group, start, stop, sums):
    """Write the sums of a b of every slice and row into the lanes `sums` (group, channel, row)."""
    channels, rows, length, stride = size
    for c in range(channels):
        for row in range(start, stop):
            at = (group * channels + c) * rows + row
            total = zero(a)
            for k in range(at * stride, at * stride + length):
                total = fma(load(a, k), load(b, k), total)
            store(sums, at, total)


@kernel
def combine(y, factor, x, share, size, group, start, stop):
    """Do y <- factor y + share x."""
    channels, rows, length, stride = size
    for c in range(channels):
        f, s = load(factor, group * channels + c), load(share, group * channels + c)
        for row in range(start, stop):
            first = ((group * channels + c) * rows + row) * stride
            for k in range(first, first + length):
                store(y, k, fma(f, load(y, k), fma(s, load(x, k), zero(y))))


@kernel
def multiply_tilts(y, gains, size, group, start, stop):
    """Multiply projections by the gains (channel, tilt)."""
    channels, tilts, length, stride = size
    for c in range(channels):
        for tilt in range(start, stop):
            first = ((group * channels + c) * tilts + tilt) * stride
            for k in range(first, first + length):
                store(y, k, fma(gains[c, tilt], load(y, k), zero(y)))
