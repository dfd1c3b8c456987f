# SPDX-License-Identifier: GPL-3.0-or-later
"""The channel mix on lanes: from projections to the residuals of every element and of their HAADF sum, in one pass."""

from __future__ import annotations

from hyperspy_multitomo.tomography.kernels import kernel
from hyperspy_multitomo.tomography.simd import fma, lane_sum, load, store, zero


@kernel
def mix_residuals(
    projections, data, haadf, weights, gains, haadf_gains, coefficients, shape, group, start, stop, scratch, squares
):
    """Turn the projections W x of one group into what is projected back, for the tilts from `start` to before `stop`.

    With the residuals e_c = p_c - g_c W x_c of the channels that have data (those of `gains`), and f = h - g_h sum_c r_c W x_c
    of the HAADF, the projections of channel c become R (own_c e_c + mix_c f), R = 1/(W 1) in `weights` (tilt, u). `coefficients`
    are the three rows own, mix and r, per channel; `haadf` is None where there is no sum. The sums of e_c^2 and, last, f^2 go
    to `squares`; `scratch` is as many lanes.
    """
    channels, _, _, _, nt, nu, tilt_stride = shape
    with_data = gains.shape[0]
    own, mix, ratios = coefficients
    nought = zero(projections)
    for k in range(with_data + 1):
        store(scratch, k, nought)
    for tilt in range(start, stop):
        for u in range(nu):
            first = (group * channels * nt + tilt) * tilt_stride + u
            datum = (group * with_data * nt + tilt) * tilt_stride + u
            weight = weights[tilt, u]
            f = nought
            if haadf is not None:
                for c in range(channels):
                    f = fma(ratios[c], load(projections, first + c * nt * tilt_stride), f)
                f = fma(-haadf_gains[tilt], f, load(haadf, (group * nt + tilt) * tilt_stride + u))
                store(scratch, with_data, fma(f, f, load(scratch, with_data)))
            for c in range(channels):
                y = first + c * nt * tilt_stride
                total = fma(weight * mix[c], f, nought)
                if c < with_data:
                    e = fma(-gains[c, tilt], load(projections, y), load(data, datum + c * nt * tilt_stride))
                    store(scratch, c, fma(e, e, load(scratch, c)))
                    total = fma(weight * own[c], e, total)
                store(projections, y, total)
    for k in range(with_data + 1):
        squares[k] = lane_sum(load(scratch, k))


@kernel
def sum_channels(volume, total, ratios, shape, group, start, stop):
    """Write sum_c r_c x_c into the lanes `total` (group, z, x), for the rows from `start` to before `stop`."""
    channels, nz, _, row_stride, _, _, _ = shape
    for z in range(start, stop):
        for x in range(row_stride):
            a = zero(volume)
            for c in range(channels):
                a = fma(ratios[c], load(volume, ((group * channels + c) * nz + z) * row_stride + x), a)
            store(total, (group * nz + z) * row_stride + x, a)
