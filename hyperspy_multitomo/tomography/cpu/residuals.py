# SPDX-License-Identifier: GPL-3.0-or-later
"""Residuals on lanes: from projections to what SIRT and HEBT, or EM, project back."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import ONE, RUN, kernel
from hyperspy_multitomo.tomography.cpu.simd import (
    fma,
    lane_sum,
    load,
    logarithm,
    quotient,
    splat,
    store,
    zero,
)


@kernel
def _add_channels(lanes, element, slices, channels):
    """Replace channels that lie side by side in the lanes (element, lane) by their sums."""
    for y in range(slices):
        total = np.float32(0)
        for c in range(channels):
            total += lanes[element, c * slices + y]
        for c in range(channels):
            lanes[element, c * slices + y] = total


@kernel
def _sum_elements(
    projections, ratios, factors, channels, first, stride, rays, abreast, scratch, plain
):
    """Write sum_c r_c W x_c of the `rays` rays from `first` on to `scratch`.

    Channels are `stride` elements apart; the rest is that of `mix_residuals`.
    """
    for k in range(rays):
        f = zero(projections)
        for c in range(channels):
            f = fma(load(ratios, factors + c), load(projections, first + k + c * stride), f)
        store(scratch, k, f)
    if abreast[1] > 1:
        for k in range(rays):
            _add_channels(plain, k, abreast[0], abreast[1])


@kernel
def mix_residuals(
    projections, seen, data, haadf, weights, gains, haadf_gains, coefficients, with_data, abreast,
    shape, group, start, stop, squares, number, scratch, plain,
):  # fmt: skip
    """Turn the projections W x of a group into the weighted residuals that are back projected.

    With the residuals e_c = p_c - g_c W x_c of the `with_data` channels that have data, and f = h -
    g_h sum_c r_c W x_c of the HAADF, the projections of channel c become own_c R e_c + mix_c R_h f.
    The pair `weights` holds R = 1/(W 1) and R_h, (tilt, u), which differ where the pixels of the
    elements are larger. `coefficients` are direct, mix and r, lanes (group, channel), `gains` lanes
    (group, channel with data, tilt); `haadf` is None where there is no sum. `seen` is what the
    detector of the elements sees of W x: the projections themselves, or their means over its
    pixels. `abreast` is (slices, channels) where channels lie side by side in the lanes, and one
    channel of the arrays holds them all, else (0, 1). The sums of e_c^2 and, last, f^2 go to row
    `number` of the lanes `squares` (task, channel with data and one); `scratch` has RUN elements,
    as float32 `plain`.
    """
    channels, _, _, _, nt, nu, tilt_stride = shape
    direct, mix, ratios = coefficients
    nought = zero(projections)
    sums, factors = number * (with_data + 1), group * channels
    for k in range(sums, sums + with_data + 1):
        store(squares, k, nought)
    for tilt in range(start, stop):
        for begin in range(0, nu, RUN):
            rays = min(RUN, nu - begin)
            first = (group * channels * nt + tilt) * tilt_stride + begin
            datum = (group * with_data * nt + tilt) * tilt_stride + begin
            if haadf is not None:
                _sum_elements(
                    projections, ratios, factors, channels, first, nt * tilt_stride, rays, abreast,
                    scratch, plain,
                )  # fmt: skip
            for k in range(rays):
                weight, mixed = weights[0][tilt, begin + k], weights[1][tilt, begin + k]
                f = nought
                if haadf is not None:
                    f = fma(
                        -haadf_gains[tilt],
                        load(scratch, k),
                        load(haadf, (group * nt + tilt) * tilt_stride + begin + k),
                    )
                    store(squares, sums + with_data, fma(f, f, load(squares, sums + with_data)))
                for c in range(channels):
                    y = first + k + c * nt * tilt_stride
                    total = fma(mixed * load(mix, factors + c), f, nought)
                    if c < with_data:
                        gain = load(gains, (group * with_data + c) * nt + tilt)
                        e = load(data, datum + k + c * nt * tilt_stride) - gain * load(seen, y)
                        store(squares, sums + c, fma(e, e, load(squares, sums + c)))
                        total = fma(weight * load(direct, factors + c), e, total)
                    store(projections, y, total)


@kernel
def average_pixels(projections, seen, binning, shape, group, start, stop):
    """Write the means over detector pixels of `binning` x `binning` voxels to all of their voxels.

    Both are the lanes as plain float32 (element, lane); `binning` divides the number of lanes.
    """
    channels, _, _, _, nt, nu, tilt_stride = shape
    lanes = projections.shape[1]
    share = np.float32(1 / binning**2)
    for channel in range(group * channels, (group + 1) * channels):
        for tilt in range(start, stop):
            for u in range(0, nu, binning):
                first = (channel * nt + tilt) * tilt_stride + u
                for lane in range(0, lanes, binning):
                    total = np.float32(0)
                    for k in range(binning):
                        for y in range(binning):
                            total += projections[first + k, lane + y]
                    for k in range(binning):
                        for y in range(binning):
                            seen[first + k, lane + y] = share * total


@kernel
def count_residuals(
    projections, counts, background, gains, least, shape, group, start, stop, scratch, sums
):
    """Turn the projections W x of a group into g (y/m - 1), with m = g W x + b.

    It does the tilts from `start` to before `stop`.

    `counts` y and `background` b are lanes as the projections are, the background None where there
    is none; no m is taken to be below `least`. Row c of `sums` receives the sums of (y - m)^2 and
    of y log(y/m) - y + m over the channel's rays; `scratch` is two lanes.
    """
    channels, _, _, _, nt, nu, tilt_stride = shape
    nought = zero(projections)
    for c in range(channels):
        store(scratch, 0, nought)
        store(scratch, 1, nought)
        for tilt in range(start, stop):
            gain = gains[c, tilt]
            for u in range(nu):
                ray = ((group * channels + c) * nt + tilt) * tilt_stride + u
                y, m = load(counts, ray), fma(gain, load(projections, ray), nought)
                if background is not None:
                    m = fma(ONE, load(background, ray), m)
                ratio, e = quotient(y, m, least), fma(-ONE, m, y)
                store(projections, ray, fma(gain, ratio, splat(-gain, projections)))
                if gain > 0:
                    store(scratch, 0, fma(e, e, load(scratch, 0)))
                    store(scratch, 1, fma(y, logarithm(ratio), fma(-ONE, e, load(scratch, 1))))
        sums[c, 0], sums[c, 1] = lane_sum(load(scratch, 0)), lane_sum(load(scratch, 1))


@kernel
def sum_channels(volume, total, ratios, abreast, plain, shape, group, start, stop):
    """Write sum_c r_c x_c into the lanes `total` (group, z, x), for the rows of a task.

    `ratios` and `abreast` are those of `mix_residuals`, `plain` the total as float32 (element,
    lane).
    """
    channels, nz, _, row_stride, _, _, _ = shape
    for z in range(start, stop):
        for x in range(row_stride):
            voxel = (group * nz + z) * row_stride + x
            a = zero(volume)
            for c in range(channels):
                a = fma(
                    load(ratios, group * channels + c),
                    load(volume, ((group * channels + c) * nz + z) * row_stride + x),
                    a,
                )
            store(total, voxel, a)
            if abreast[1] > 1:
                _add_channels(plain, voxel, abreast[0], abreast[1])
