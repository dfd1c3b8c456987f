# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays of the primal-dual method on lanes: steps of the data's duals, and their values.

Arrays are flat lanes (group, row, tilt, u) of one data term, `shape` is that of `kernels` with rows
for channels. A row expects a = g scale W v + b of the volume v that it sees, with its gain g (row,
tilt) and the background b, None for 0. `seen` is what the detector sees of W v: the projections
themselves, or their means over its pixels. Tilts of gain 0 say nothing. A kernel does the tilts
from `start` to before `stop` of one group.
"""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import ONE, kernel
from hyperspy_multitomo.tomography.cpu.simd import (
    lane_sum,
    load,
    logarithm,
    quotient,
    root,
    store,
    zero,
)

_HALF, _FOUR = np.float32(0.5), np.float32(4)


@kernel
def _expectation(seen, background, ray, factor):
    """Return a of one ray."""
    a = factor * load(seen, ray)
    if background is not None:
        a = a + load(background, ray)
    return a


@kernel
def step_rays(
    projections,
    seen,
    duals,
    data,
    background,
    steps,
    gains,
    weights,
    scales,
    share,
    poisson,
    rho,
    shape,
    group,
    start,
    stop,
):
    """Do s <- s + rho (prox(s + sigma a) - s), and write g scale share s to `projections`.

    The latter is back projected next.

    The proximal map is that of the conjugate of the discrepancy: Kullback-Leibler where `poisson`,
    else least squares, times the `weights` (row,). `steps` sigma are (row, tilt, u); `share` is 1
    over the number of projections that make a pixel.
    """
    rows, _, _, _, nt, nu, tilt_stride = shape
    nought = zero(projections)
    for row in range(rows):
        d = weights[row]
        for tilt in range(start, stop):
            gain = gains[row, tilt]
            factor = gain * scales[row]
            first = ((group * rows + row) * nt + tilt) * tilt_stride
            for u in range(nu):
                ray = first + u
                if gain > 0:
                    sigma, s = steps[row, tilt, u], load(duals, ray)
                    f, v = load(data, ray), sigma * _expectation(seen, background, ray, factor) + s
                    if poisson:
                        far = v - d
                        nearest = _HALF * (v + d - root(far * far + _FOUR * sigma * d * f))
                    else:
                        nearest = (v - sigma * f) / (ONE + sigma / d)
                    s = rho * (nearest - s) + s
                    store(duals, ray, s)
                    store(projections, ray, (factor * share) * s)
                else:
                    store(projections, ray, nought)


@kernel
def weigh_duals(projections, duals, gains, scales, share, shape, group, start, stop):
    """Write g scale share s to `projections`."""
    rows, _, _, _, nt, nu, tilt_stride = shape
    for row in range(rows):
        for tilt in range(start, stop):
            factor = gains[row, tilt] * scales[row] * share
            first = ((group * rows + row) * nt + tilt) * tilt_stride
            for ray in range(first, first + nu):
                store(projections, ray, factor * load(duals, ray))


@kernel
def measure_rays(
    seen, data, background, gains, weights, scales, least, poisson, shape, group, start, stop, sums
):
    """Write the sums of (f - a)^2 and of the discrepancy of every row to `sums` (row, 2).

    No a is taken to be below `least`.
    """
    rows, _, _, _, nt, nu, tilt_stride = shape
    sums[:] = 0
    for row in range(rows):
        for tilt in range(start, stop):
            if gains[row, tilt] > 0:
                squares, divergence = zero(seen), zero(seen)
                first = ((group * rows + row) * nt + tilt) * tilt_stride
                for ray in range(first, first + nu):
                    f, a = (
                        load(data, ray),
                        _expectation(seen, background, ray, gains[row, tilt] * scales[row]),
                    )
                    e = f - a
                    squares = e * e + squares
                    if poisson:
                        divergence = divergence + (f * logarithm(quotient(f, a, least)) - e)
                sums[row, 0] += lane_sum(squares)
                sums[row, 1] += lane_sum(divergence) if poisson else 0.5 * lane_sum(squares)
        sums[row, 1] *= weights[row]


@kernel
def sum_mixed(volume, total, shares, mix, shape, group, start, stop):
    """Write sum_c shares_c mix_c v_c to the lanes `total` (group, z, x), for the rows z of a task.

    `mix` is lanes like the volume, or None for 1.

    `shape` is that of the volume.
    """
    channels, nz, nx, stride, _, _, _ = shape
    for z in range(start, stop):
        for x in range(nx):
            a = zero(volume)
            for c in range(channels):
                v = ((group * channels + c) * nz + z) * stride + x
                more = shares[c] * load(volume, v)
                if mix is not None:
                    more = load(mix, v) * more
                a = a + more
            store(total, (group * nz + z) * stride + x, a)
