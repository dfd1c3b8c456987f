# SPDX-License-Identifier: GPL-3.0-or-later
"""The linear (Joseph) projector pair on lanes: one set of weights serves a group of slices.

Voxel (x, z) has its centre on the detector at p. With c = max(|cos t|, |sin t|) and the voxel size
s, the weight of that voxel in ray u is s/c max(0, 1 - |u - p|/c): linear interpolation on the rows
that the ray crosses most steeply (P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192,
doi:10.1109/TMI.1982.4307572). Both directions evaluate this one formula, so that the pair is
adjoint up to rounding.

Lanes arrays are flat: volumes hold (group, channel, z, x), projections (group, channel, tilt, u),
and each element is the lanes of one group of slices. `shape` is (channels, nz, nx, volume row
stride, nt, nu, projection row stride). `table` holds per tilt cos t, sin t and the detector
coordinate of voxel (0, 0). A kernel does one task, a range of tilts or rows of one group, without
the GIL; the work is cut so that what an inner loop touches stays in the first-level cache.
"""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled
from hyperspy_multitomo.tomography.cpu.simd import factor_at, fma, load, positive, store, zero

# A tile of voxels with the rays of TILTS tilts, or a band of rows with the voxels that RUN rays
# meet, are about 30 KiB at 64 lanes. On Zen 4 and 5 (32 and 48 KiB of first-level cache) neither
# half nor twice of any of them was faster. One call weighs a whole tile: with few lanes a call for
# each row takes longer than the sums. See benchmarks/roofline.py.
TILE = 8  # voxels, along z and x
TILTS = 8
BAND = 8  # rows that a ray crosses while its sum stays in registers
RUN = 16  # rays

ONE = np.float32(1)
NOUGHT = np.float32(0)

# numba's cache looks at the file of the kernel alone: after a change of simd.py, delete
# __pycache__.
kernel = compiled(error_model="numpy")


@kernel
def _voxel_weights(first, near, far, table, start, tilts, z, x, length, nu, tilt_stride):
    """Write the weights of the two rays per tilt that can meet each voxel of a tile.

    `first` receives where the first of the two is stored.

    Positions within the tile are counted from the whole part of its corner's, in single precision,
    which places them to 2e-6 px; in double precision the weights would take more than twice the
    time.
    """
    for t in range(tilts):
        c, s, origin = table[start + t, 0], table[start + t, 1], table[start + t, 2]
        base = origin + z * s + x * c
        whole = np.floor(base)
        corner, across, along = np.float32(base - whole), np.float32(c), np.float32(s)
        lowest, highest = np.float32(-whole), np.float32(nu - 2 - whole)
        inverse = np.float32(1 / max(abs(c), abs(s)))
        scale = np.float32(length) * inverse
        row = np.int32((start + t) * tilt_stride + whole)
        for k in range(TILE * TILE):
            p = corner + np.float32(k // TILE) * along + np.float32(k % TILE) * across
            i = min(max(np.floor(p), lowest), highest)
            d = (p - i) * inverse
            near[t * TILE * TILE + k] = max(NOUGHT, ONE - abs(d)) * scale
            far[t * TILE * TILE + k] = max(NOUGHT, ONE - abs(d - inverse)) * scale
            first[t * TILE * TILE + k] = row + np.int32(i)


@kernel
def _ray_weights(first, near, far, rows, base, s, inverse, length, along, row, next_row, stride):
    """Write the weights of the two voxels per row of a band that each ray of a run can meet.

    `first` receives where the first of the two is stored.

    Voxel 0 of the band's first row falls on `base`, counted from the first ray of the run, that of
    the next ones on `s` more; `inverse` is 1 over the step from voxel to voxel.
    """
    step, length = np.float32(inverse), np.float32(length * abs(inverse))
    for r in range(rows):
        start = -(base + r * s) * inverse
        whole = np.floor(start)
        corner = np.float32(start - whole)
        lowest, highest = np.float32(-whole), np.float32(along - 2 - whole)
        origin = np.int32(row + r * next_row + whole * stride)
        for k in range(RUN):
            q = corner + np.float32(k) * step
            i = min(max(np.floor(q), lowest), highest)
            d = q - i
            near[r * RUN + k] = max(NOUGHT, ONE - abs(d)) * length
            far[r * RUN + k] = max(NOUGHT, ONE - abs(d - ONE)) * length
            first[r * RUN + k] = origin + np.int32(i) * np.int32(stride)


@kernel
def _rays_of_tile(base, c, half, start, along, nu):
    """Return the range of rays that cross the middle row of a band within RUN voxels from `start`.

    The tiles at the rim take the rays beyond it.

    `half` is how far (in detector pixels) the outer rows of the band are displaced against its
    middle.
    """
    low, high = base + (start - 0.5) * c, base + (start + RUN - 0.5) * c
    rim_low, rim_high = start == 0, start + RUN >= along
    if c < 0:
        low, high, rim_low, rim_high = high, low, rim_high, rim_low
    if rim_low:
        low = min(base, base + (along - 1) * c) - half - 1
    if rim_high:
        high = max(base, base + (along - 1) * c) + half + 1
    return int(min(max(np.ceil(low), 0.0), nu)), int(min(max(np.ceil(high), 0.0), nu))


@kernel
def _sum_rays(volume, projections, ray, rays, rows, stride, first, near, far):
    """Add the sums of `rays` rays over the rows of a band to the projections, from `ray` on."""
    for k in range(rays):
        a = load(projections, ray + k)
        b = zero(projections)
        if rows == BAND:
            for r in range(BAND):
                v = np.int64(first[r * RUN + k])
                a = fma(near[r * RUN + k], load(volume, v), a)
                b = fma(far[r * RUN + k], load(volume, v + stride), b)
        else:
            for r in range(rows):
                v = np.int64(first[r * RUN + k])
                a = fma(near[r * RUN + k], load(volume, v), a)
                b = fma(far[r * RUN + k], load(volume, v + stride), b)
        store(projections, ray + k, fma(ONE, a, b))


@kernel
def _project_channel(volume, projections, table, length, shape, channel, start, stop):
    """Project one channel of a group of slices at the tilts from `start` to before `stop`."""
    _, nz, nx, row_stride, nt, nu, tilt_stride = shape
    first = np.empty(BAND * RUN, np.int32)
    near = np.empty(BAND * RUN, np.float32)
    far = np.empty(BAND * RUN, np.float32)
    plane = volume[channel * nz * row_stride :]
    for ray in range((channel * nt + start) * tilt_stride, (channel * nt + stop) * tilt_stride):
        store(projections, ray, zero(projections))
    # Rows along x for the tilts up to 45 degrees, then rows along z for the others.
    for steep in range(2):
        if steep:
            rows, along, next_row, next_voxel = nx, nz, 1, row_stride
        else:
            rows, along, next_row, next_voxel = nz, nx, row_stride, 1
        for band in range(0, rows, BAND):
            height = min(BAND, rows - band)
            middle = (height - 1) / 2
            for tile in range(0, along, RUN):
                for tilt in range(start, stop):
                    c, s, origin = table[tilt, steep], table[tilt, 1 - steep], table[tilt, 2]
                    if abs(c) < abs(s) or (steep and abs(c) == abs(s)):
                        continue
                    base = origin + band * s
                    low, high = _rays_of_tile(
                        base + middle * s, c, middle * abs(s), tile, along, nu
                    )
                    for ray in range(low, high, RUN):
                        _ray_weights(
                            first,
                            near,
                            far,
                            height,
                            base - ray,
                            s,
                            1 / c,
                            length,
                            along,
                            band * next_row,
                            next_row,
                            next_voxel,
                        )
                        target = (channel * nt + tilt) * tilt_stride + ray
                        _sum_rays(
                            plane,
                            projections,
                            target,
                            min(RUN, high - ray),
                            height,
                            next_voxel,
                            first,
                            near,
                            far,
                        )


@kernel
def project(volume, projections, table, length, shape, group, start, stop):
    """Project all channels of a group at the tilts from `start` to before `stop`: y = W x.

    `length` is the voxel size, the unit of the line integrals.
    """
    for channel in range(group * shape[0], (group + 1) * shape[0]):
        _project_channel(volume, projections, table, length, shape, channel, start, stop)


@kernel
def _sum_tile(sums, projections, tilts, height, width, first, near, far, begin):
    """Add the rays of `tilts` tilts to the sum of each voxel of a tile, from zero with `begin`."""
    for r in range(height):
        for k in range(width):
            voxel = r * TILE + k
            a = zero(projections) if begin else load(sums, voxel)
            b = zero(projections)
            if tilts == TILTS:
                for t in range(TILTS):
                    y = np.int64(first[t * TILE * TILE + voxel])
                    a = fma(near[t * TILE * TILE + voxel], load(projections, y), a)
                    b = fma(far[t * TILE * TILE + voxel], load(projections, y + 1), b)
            else:
                for t in range(tilts):
                    y = np.int64(first[t * TILE * TILE + voxel])
                    a = fma(near[t * TILE * TILE + voxel], load(projections, y), a)
                    b = fma(far[t * TILE * TILE + voxel], load(projections, y + 1), b)
            store(sums, voxel, fma(ONE, a, b))


@kernel
def _finish_tile(
    volume, sums, voxel, step, channel, z, x, multiply, extra, shares, share, mask, shared_voxel,
    nonnegative, height, width, stride,
):  # fmt: skip
    """Write the sums of a tile into the volume, as the update of an iteration with a `step`."""
    for r in range(height):
        for k in range(width):
            v = voxel + r * stride + k
            total = load(sums, r * TILE + k)
            if step is not None:
                if extra is not None:
                    total = fma(
                        load(shares, share), load(extra, shared_voxel + r * stride + k), total
                    )
                old, by = load(volume, v), factor_at(step, channel, z + r, x + k, v)
                if multiply:
                    total = fma(fma(by, total, zero(volume)), old, old)
                else:
                    total = fma(by, total, old)
                if nonnegative:
                    total = positive(total)
                if mask is not None:
                    total = fma(load(mask, shared_voxel + r * stride + k), total, zero(volume))
            store(volume, v, total)


@kernel
def back_project(
    projections,
    volume,
    table,
    length,
    shape,
    group,
    start,
    stop,
    sums,
    step,
    multiply,
    extra,
    shares,
    mask,
    nonnegative,
):
    """Back project into the rows z from `start` to before `stop` of all channels: b = W^T y.

    With `step` None the volume becomes b. With `step` C, an array (channel, z, x) or lanes like the
    volume, it becomes the next iterate of a solver, x + C (b + shares_channel extra), or x + x C b
    with `multiply`, then made non-negative if asked for, then multiplied by the mask; `extra` and
    `mask` are lanes (group, z, x) or None, `shares` lanes (group, channel). `sums` is scratch, the
    lanes of a tile.
    """
    channels, nz, nx, row_stride, nt, nu, tilt_stride = shape
    first = np.empty(TILTS * TILE * TILE, np.int32)
    near = np.empty(TILTS * TILE * TILE, np.float32)
    far = np.empty(TILTS * TILE * TILE, np.float32)
    for channel in range(channels):
        plane = projections[(group * channels + channel) * nt * tilt_stride :]
        for z in range(start, stop, TILE):
            height = min(TILE, stop - z)
            for x in range(0, nx, TILE):
                width = min(TILE, nx - x)
                for tilt in range(0, nt, TILTS):
                    tilts = min(TILTS, nt - tilt)
                    _voxel_weights(
                        first, near, far, table, tilt, tilts, z, x, length, nu, tilt_stride
                    )
                    _sum_tile(sums, plane, tilts, height, width, first, near, far, tilt == 0)
                voxel = ((group * channels + channel) * nz + z) * row_stride + x
                shared_voxel = (group * nz + z) * row_stride + x
                _finish_tile(
                    volume, sums, voxel, step, channel, z, x, multiply, extra, shares,
                    group * channels + channel, mask, shared_voxel, nonnegative, height, width,
                    row_stride,
                )  # fmt: skip
