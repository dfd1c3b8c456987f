# SPDX-License-Identifier: GPL-3.0-or-later
"""The primal-dual iteration of TV and TGV on lanes: passes over the duals and the volume.

A pass touches every number once, because memory bandwidth limits it. Volumes are flat lanes (group,
channel, z, x), as the projectors have them. Fields are flat lanes (group, z, x, channel,
component): all numbers of one norm lie together, and a pass reads a few long streams instead of
one for every component. Components are those of `differences`. Forward differences across the
border are those of a voxel with itself; along y lanes are shifted, and `ends` marks those that have
a next slice.

`size` is (channels, dimensions, nz, nx, row stride, groups). A kernel does the rows z from `start`
to before `stop` of one group.
"""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import NOUGHT, ONE, kernel
from hyperspy_multitomo.tomography.cpu.simd import (
    any_above,
    following,
    lane_sum,
    larger,
    load,
    positive,
    preceding,
    root,
    store,
    zero,
)
from hyperspy_multitomo.tomography.cpu.spectral_kernels import clip_singular_values, nuclear_norm

PER_CHANNEL, TOGETHER, NUCLEAR = 0, 1, 2  # couplings

_HALF = np.float32(np.sqrt(0.5))
_TWO = np.float32(2)


@kernel
def _ahead(a, k, step):
    """Return the forward difference, 0 for a step of 0."""
    return load(a, k + step) - load(a, k)


@kernel
def _ahead_y(a, k, step, inner):
    """Return the forward difference along y; `inner` is 1 where there is a next slice."""
    here = load(a, k)
    return inner * (following(here, load(a, k + step)) - here)


@kernel
def _behind(a, k, step, last):
    """Return the backward difference d- = -(d+)^T.

    `step` is 0 where nothing is before, `last` where nothing follows.
    """
    before = ONE if step != 0 else NOUGHT
    return last * load(a, k) - before * load(a, k + step)


@kernel
def _behind_y(a, k, step, inner, inner_before):
    """Return the backward difference along y.

    `inner_before` is `inner` of the group before, 0 where there is none.
    """
    here = inner * load(a, k)
    return here - preceding(inner_before * load(a, k + step), here)


@kernel
def _length(field, first, count):
    """Return the Frobenius norm of `count` components from `first` on."""
    square = zero(field)
    for k in range(first, first + count):
        value = load(field, k)
        square = value * value + square
    return root(square)


@kernel
def _shrink(field, first, count, radius):
    """Project components onto the ball of their Frobenius norm."""
    length = _length(field, first, count)
    if any_above(length, radius):
        factor = radius / larger(length, radius)
        for k in range(first, first + count):
            store(field, k, factor * load(field, k))


@kernel
def _project(field, channels, components, radius, coupling):
    """Project one voxel's field (channel, component) onto the ball of the dual norm."""
    if coupling == NUCLEAR:
        clip_singular_values(field, channels, components, radius)
    elif coupling == TOGETHER:
        _shrink(field, 0, channels * components, radius)
    else:
        for first in range(0, channels * components, components):
            _shrink(field, first, components, radius)


@kernel
def _norm(field, channels, components, coupling):
    """Return the norm of one voxel's field (channel, component)."""
    if coupling == NUCLEAR:
        return nuclear_norm(field, channels, components)
    if coupling == TOGETHER:
        return _length(field, 0, channels * components)
    total = zero(field)
    for first in range(0, channels * components, components):
        total = total + _length(field, first, components)
    return total


@kernel
def _over_relax(dual, first, count, nearest, rho):
    """Move a dual variable by rho times the way to the nearest one allowed."""
    for k in range(count):
        old = load(dual, first + k)
        store(dual, first + k, rho * (load(nearest, k) - old) + old)


@kernel
def _put(out, k, value, dual, first, step):
    """Write a value, or dual + step value, to element k."""
    if dual is not None:
        value = step * value + load(dual, first + k)
    store(out, k, value)


@kernel
def _load_slopes(volume, field, p, step, voxel, group, z, x, ends, size, out):
    """Write grad u - w of a voxel to `out` (channel, component), or p + step (grad u - w).

    `field` w and p may be None.
    """
    channels, dimensions, nz, nx, stride, groups = size
    down = stride if z + 1 < nz else 0
    right = 1 if x + 1 < nx else 0
    after = channels * nz * stride if group + 1 < groups else 0
    inner = load(ends, group + 1)
    first = voxel * channels * dimensions
    for c in range(channels):
        v = ((group * channels + c) * nz + z) * stride + x
        k = c * dimensions
        along_z, along_x = _ahead(volume, v, down), _ahead(volume, v, right)
        if field is not None:
            along_z, along_x = (
                along_z - load(field, first + k),
                along_x - load(field, first + k + 1),
            )
        _put(out, k, along_z, p, first, step)
        _put(out, k + 1, along_x, p, first, step)
        if dimensions == 3:
            along_y = _ahead_y(volume, v, after, inner)
            if field is not None:
                along_y = along_y - load(field, first + k + 2)
            _put(out, k + 2, along_y, p, first, step)


@kernel
def _load_strains(field, q, step, voxel, group, z, x, ends, size, out):
    """Write E w of one voxel to `out` (channel, matrix element), or q + step E w; q may be None."""
    channels, dimensions, nz, nx, _, _ = size
    elements = dimensions * (dimensions + 1) // 2
    span = channels * dimensions
    up = -nx * span if z > 0 else 0
    left = -span if x > 0 else 0
    before = -nz * nx * span if group > 0 else 0
    last_z, last_x = ONE if z + 1 < nz else NOUGHT, ONE if x + 1 < nx else NOUGHT
    inner, inner_before = load(ends, group + 1), load(ends, group)
    first = voxel * channels * elements
    for c in range(channels):
        k, e = voxel * span + c * dimensions, c * elements
        _put(out, e, _behind(field, k, up, last_z), q, first, step)
        _put(out, e + 1, _behind(field, k + 1, left, last_x), q, first, step)
        mixed = _HALF * (_behind(field, k + 1, up, last_z) + _behind(field, k, left, last_x))
        _put(out, e + dimensions, mixed, q, first, step)
        if dimensions == 3:
            _put(out, e + 2, _behind_y(field, k + 2, before, inner, inner_before), q, first, step)
            mixed = _HALF * (
                _behind(field, k + 2, up, last_z) + _behind_y(field, k, before, inner, inner_before)
            )
            _put(out, e + 4, mixed, q, first, step)
            mixed = _HALF * (
                _behind(field, k + 2, left, last_x)
                + _behind_y(field, k + 1, before, inner, inner_before)
            )
            _put(out, e + 5, mixed, q, first, step)


@kernel
def step_duals(
    volume, field, p, q, steps, radii, coupling, rho, ends, size, group, start, stop, scratch
):
    """Do the step of the dual variables p and, for TGV, q.

    That is p <- p + rho (P(p + sigma (grad u - w)) - p) and q <- q + rho (P(q + sigma_q E w) - q).

    u and w are the extrapolated `volume` and `field`, which is None for TV, as q is. `steps` and
    `radii` are those of p and q; q is projected per channel where p is, else by the norm over all.
    `scratch` are the lanes of one voxel's q.
    """
    channels, dimensions, nz, nx, _, _ = size
    elements = dimensions * (dimensions + 1) // 2
    for z in range(start, stop):
        for x in range(nx):
            voxel = (group * nz + z) * nx + x
            _load_slopes(volume, field, p, steps[0], voxel, group, z, x, ends, size, scratch)
            _project(scratch, channels, dimensions, radii[0], coupling)
            _over_relax(p, voxel * channels * dimensions, channels * dimensions, scratch, rho)
            if field is not None:
                _load_strains(field, q, steps[1], voxel, group, z, x, ends, size, scratch)
                _project(scratch, channels, elements, radii[1], min(coupling, TOGETHER))
                _over_relax(q, voxel * channels * elements, channels * elements, scratch, rho)


@kernel
def _element(dimensions, i, j):
    """Return which of the stored elements of a symmetric matrix is (i, j)."""
    return i if i == j else dimensions + i + j - 1


@kernel
def _step_field(field, ahead, p, q, voxel, group, z, x, step, rho, ends, size):
    """Do one voxel's step of TGV's field w."""
    channels, dimensions, nz, nx, _, groups = size
    elements = dimensions * (dimensions + 1) // 2
    span = channels * elements
    down = nx * span if z + 1 < nz else 0
    right = span if x + 1 < nx else 0
    after = nz * nx * span if group + 1 < groups else 0
    inner = load(ends, group + 1)
    for c in range(channels):
        e = voxel * span + c * elements
        for i in range(dimensions):
            k = (voxel * channels + c) * dimensions + i
            pull, mixed = zero(field), zero(field)
            if i == 0:
                pull = _ahead(q, e, down)
            else:
                mixed = _ahead(q, e + _element(dimensions, i, 0), down)
            if i == 1:
                pull = _ahead(q, e + 1, right)
            else:
                mixed = mixed + _ahead(q, e + _element(dimensions, i, 1), right)
            if dimensions == 3:
                if i == 2:
                    pull = _ahead_y(q, e + 2, after, inner)
                else:
                    mixed = mixed + _ahead_y(q, e + _element(3, i, 2), after, inner)
            best, far = load(field, k), load(ahead, k)
            old = (_TWO - rho) * best + (rho - ONE) * far
            best = step * (load(p, k) + pull + _HALF * mixed) + old
            store(field, k, best)
            store(ahead, k, _TWO * best - old)


@kernel
def _pull_of_sum(extra, shares, mix, c, v, shared):
    """Return what the data of a sum of channels add to the pull at a voxel of one of them."""
    pull = shares[c] * load(extra, shared)
    if mix is not None:
        pull = load(mix, v) * pull
    return pull


@kernel
def step_primal(
    volume, ahead, field, ahead_field, p, q, back, linear, extra, shares, mix, volume_steps,
    field_step, rho, nonnegative, mask, ends, size, group, start, stop,
):  # fmt: skip
    """Do the step of the volume u and, for TGV, of the field w.

    That is u~ = Pi(u - tau (grad^T p - linear + back + shares mix extra)) and w~ = w - tau_w (E^T q
    - p). `linear` is that of a refit, else None.

    Before and after, `volume` and `field` hold u~ and w~, `ahead` and `ahead_field` the
    extrapolated 2 u~ - u and 2 w~ - w that the duals see: the over-relaxed u that a step starts
    from, u + rho (u~ - u), follows from the two. The fields and q are None for TV. `back` is the
    back projection of the data, `extra` (group, z, x) that of data of a sum of channels, which is
    multiplied by `shares` (channel,) and the lanes `mix` of every voxel; both or `mix` may be None.
    `volume_steps` tau is (channel, z, x). Pi sets negative values to 0 where asked for, and
    multiplies by `mask`, lanes (group, z, x) or None.
    """
    channels, dimensions, nz, nx, stride, _ = size
    for z in range(start, stop):
        for x in range(nx):
            voxel = (group * nz + z) * nx + x
            span = channels * dimensions
            up = -nx * span if z > 0 else 0
            left = -span if x > 0 else 0
            before = -nz * nx * span if group > 0 else 0
            last_z, last_x = ONE if z + 1 < nz else NOUGHT, ONE if x + 1 < nx else NOUGHT
            inner, inner_before = load(ends, group + 1), load(ends, group)
            shared = (group * nz + z) * stride + x
            for c in range(channels):
                v = ((group * channels + c) * nz + z) * stride + x
                k = (voxel * channels + c) * dimensions
                pull = load(back, v) - _behind(p, k, up, last_z) - _behind(p, k + 1, left, last_x)
                if linear is not None:
                    pull = pull - load(linear, v)
                if dimensions == 3:
                    pull = pull - _behind_y(p, k + 2, before, inner, inner_before)
                if extra is not None:
                    pull = pull + _pull_of_sum(extra, shares, mix, c, v, shared)
                best = load(volume, v)
                old = (_TWO - rho) * best + (rho - ONE) * load(ahead, v)
                best = old - volume_steps[c, z, x] * pull
                if nonnegative:
                    best = positive(best)
                if mask is not None:
                    best = load(mask, shared) * best
                store(volume, v, best)
                store(ahead, v, _TWO * best - old)
            if field is not None:
                _step_field(
                    field, ahead_field, p, q, voxel, group, z, x, field_step, rho, ends, size
                )


@kernel
def variation(volume, field, linear, coupling, ends, size, group, start, stop, scratch, values):
    """Write the sums over voxels of |grad u - w|, |E w|, |w| and `linear` u to `values`.

    Without a `field` w the second and third are 0, and without `linear` the last.
    """
    channels, dimensions, nz, nx, stride, groups = size
    elements = dimensions * (dimensions + 1) // 2
    values[:] = 0
    for z in range(start, stop):
        valid = load(ends, groups + 1 + group)
        slopes, strains, fields = zero(volume), zero(volume), zero(volume)
        products = zero(volume)
        for x in range(nx):
            voxel = (group * nz + z) * nx + x
            _load_slopes(volume, field, None, ONE, voxel, group, z, x, ends, size, scratch)
            slopes = slopes + _norm(scratch, channels, dimensions, coupling)
            if field is not None:
                _load_strains(field, None, ONE, voxel, group, z, x, ends, size, scratch)
                strains = strains + _norm(scratch, channels, elements, min(coupling, TOGETHER))
                for k in range(channels * dimensions):
                    store(scratch, k, load(field, voxel * channels * dimensions + k))
                fields = fields + _norm(scratch, channels, dimensions, coupling)
            if linear is not None:
                for c in range(channels):
                    v = ((group * channels + c) * nz + z) * stride + x
                    products = load(linear, v) * load(volume, v) + products
        values[0] += lane_sum(valid * slopes)
        values[1] += lane_sum(valid * strains)
        values[2] += lane_sum(valid * fields)
        values[3] += lane_sum(valid * products)
