# SPDX-License-Identifier: GPL-3.0-or-later
"""The linear (Joseph) projector pair on lanes: one set of weights serves every slice and channel, both ways.

Voxel (x, z) has its centre on the detector at p. With c = max(|cos t|, |sin t|) and the voxel size s, the weight of that voxel
in ray u is s/c max(0, 1 - |u - p|/c): linear interpolation on the rows that the ray crosses most steeply (P. M. Joseph,
IEEE Trans. Med. Imaging 1 (1982) 192, doi:10.1109/TMI.1982.4307572). Both directions evaluate this one formula in double
precision, so that the pair is adjoint to the rounding of the sums.

Lanes arrays are flat: volumes hold (group, channel, z, x), projections (group, channel, tilt, u), and each element is the lanes
of one group of slices. `shape` is (channels, nz, nx, volume row stride, nt, nu, projection row stride). `table` holds per tilt
cos t, sin t and the detector coordinate of voxel (0, 0). A kernel does one task, a range of tilts or rows of one group, without
the GIL; the work is cut so that what an inner loop touches stays in the first-level cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hyperspy_multitomo.tomography.simd import fma, load, positive, store, zero

# A tile of voxels with the rays of TILTS tilts, or a band of rows with the voxels that RUN rays meet, are about 30 KiB at
# 64 lanes. On Zen 5 (48 KiB of first-level cache) half or twice of any of them is slower.
TILE = 8  # voxels, along z and x
TILTS = 8
BAND = 8  # rows that a ray crosses while its sum stays in registers
RUN = 16  # rays

ONE = np.float32(1)

kernel = njit(nogil=True, cache=True, error_model="numpy")


@kernel
def _voxel_weights(first, near, far, base, c, s, inverse, length, last, row):
    """Weights of the two rays that can meet each voxel of a tile at one tilt, and where the first of the two is stored."""
    for k in range(TILE * TILE):
        p = base + (k // TILE) * s + (k % TILE) * c
        i = np.int32(min(max(p, 0.0), last))
        d = p - i
        near[k] = max(0.0, 1.0 - abs(d) * inverse) * length
        far[k] = max(0.0, 1.0 - abs(d - 1.0) * inverse) * length
        first[k] = row + i


@kernel
def _ray_weights(first, near, far, base, c, length, last, row, stride):
    """Weights of the two voxels of one row that each ray of a run can meet, and where the first of the two is stored."""
    inverse = 1 / c
    for k in range(RUN):
        q = (k - base) * inverse
        i = np.int32(min(max(q, 0.0), last))
        d = q - i
        near[k] = max(0.0, 1.0 - abs(d)) * length
        far[k] = max(0.0, 1.0 - abs(d - 1.0)) * length
        first[k] = row + i * stride


@kernel
def _rays_of_tile(base, c, half, start, along, nu):
    """Range of rays that cross the middle row of a band within RUN voxels from `start`; the rim tiles take what lies beyond.

    `half` is how far (in detector pixels) the outer rows of the band are displaced against its middle.
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
def _sum_rays(volume, projections, plane, ray, rays, rows, stride, first, near, far):
    """Add what `rays` rays collect on `rows` rows to the projections, from the element `ray` on."""
    for k in range(rays):
        a = load(projections, ray + k)
        b = zero(projections)
        for r in range(rows):
            v = plane + first[r, k]
            a = fma(near[r, k], load(volume, v), a)
            b = fma(far[r, k], load(volume, v + stride), b)
        store(projections, ray + k, fma(ONE, a, b))


@kernel
def project(volume, projections, table, length, shape, group, start, stop):
    """Project all channels of a group of slices at the tilts from `start` to before `stop`: y = W x.

    `length` is the voxel size, the unit of the line integrals.
    """
    channels, nz, nx, row_stride, nt, nu, tilt_stride = shape
    first = np.empty((BAND, RUN), np.int32)
    near = np.empty((BAND, RUN), np.float32)
    far = np.empty((BAND, RUN), np.float32)
    for channel in range(channels):
        for tilt in range(start, stop):
            ray = ((group * channels + channel) * nt + tilt) * tilt_stride
            for k in range(tilt_stride):
                store(projections, ray + k, zero(projections))
    for steep in range(2):  # rows along x for the tilts below 45 degrees, then rows along z for the others
        if steep:
            rows, along, next_row, next_voxel = nx, nz, 1, row_stride
        else:
            rows, along, next_row, next_voxel = nz, nx, row_stride, 1
        for band in range(0, rows, BAND):
            height = min(BAND, rows - band)
            for tile in range(0, along, RUN):
                for tilt in range(start, stop):
                    c, s, origin = table[tilt, steep], table[tilt, 1 - steep], table[tilt, 2]
                    if abs(c) < abs(s) or (steep and abs(c) == abs(s)):
                        continue
                    middle = (height - 1) / 2
                    low, high = _rays_of_tile(origin + (band + middle) * s, c, middle * abs(s), tile, along, nu)
                    for run in range(low, high, RUN):
                        for r in range(height):
                            base = origin + (band + r) * s - run
                            row = np.int32((band + r) * next_row)
                            _ray_weights(
                                first[r], near[r], far[r], base, c, length / abs(c), along - 2.0, row, np.int32(next_voxel)
                            )
                        for channel in range(channels):
                            plane = (group * channels + channel) * nz * row_stride
                            ray = ((group * channels + channel) * nt + tilt) * tilt_stride + run
                            count = min(RUN, high - run)
                            _sum_rays(volume, projections, plane, ray, count, height, next_voxel, first, near, far)


@kernel
def _sum_tile(sums, projections, plane, tilts, height, width, first, near, far, begin):
    """Add what the rays of `tilts` tilts give to each voxel of a tile to its sum, which starts from zero with `begin`."""
    for r in range(height):
        for k in range(width):
            voxel = r * TILE + k
            a = zero(projections) if begin else load(sums, voxel)
            b = zero(projections)
            for t in range(tilts):
                y = plane + first[t, voxel]
                a = fma(near[t, voxel], load(projections, y), a)
                b = fma(far[t, voxel], load(projections, y + 1), b)
            store(sums, voxel, fma(ONE, a, b))


@kernel
def _finish_tile(volume, sums, voxel, step, extra, extra_voxel, share, mask, mask_voxel, nonnegative, height, width, stride):
    """Put the sums of a tile into the volume: as they are where `step` is None, else as the update of an iteration."""
    for r in range(height):
        for k in range(width):
            v = voxel + r * stride + k
            total = load(sums, r * TILE + k)
            if step is not None:
                if extra is not None:
                    total = fma(share, load(extra, extra_voxel + r * stride + k), total)
                total = fma(step[r, k], total, load(volume, v))
                if nonnegative:
                    total = positive(total)
                if mask is not None:
                    total = fma(load(mask, mask_voxel + r * stride + k), total, zero(volume))
            store(volume, v, total)


@kernel
def back_project(projections, volume, table, length, shape, group, start, stop, sums, step, extra, shares, mask, nonnegative):
    """Project back into the rows z from `start` to before `stop` of all channels of a group of slices: b = W^T y.

    With `step` None the volume becomes b. With `step` an array C (channel, z, x) it becomes the next iterate of a solver,
    x + C (b + shares_channel extra), then made non-negative if asked for, then multiplied by the mask; `extra` and `mask` are
    lanes (group, z, x) or None. `sums` is scratch, lanes (channel, TILE, TILE).
    """
    channels, nz, nx, row_stride, nt, nu, tilt_stride = shape
    first = np.empty((TILTS, TILE * TILE), np.int32)
    near = np.empty((TILTS, TILE * TILE), np.float32)
    far = np.empty((TILTS, TILE * TILE), np.float32)
    for z in range(start, stop, TILE):
        height = min(TILE, stop - z)
        for x in range(0, nx, TILE):
            width = min(TILE, nx - x)
            for tilt in range(0, nt, TILTS):
                tilts = min(TILTS, nt - tilt)
                for t in range(tilts):
                    c, s, origin = table[tilt + t, 0], table[tilt + t, 1], table[tilt + t, 2]
                    base = origin + z * s + x * c
                    inverse = 1 / max(abs(c), abs(s))
                    row = np.int32((tilt + t) * tilt_stride)
                    _voxel_weights(first[t], near[t], far[t], base, c, s, inverse, length * inverse, nu - 2.0, row)
                for channel in range(channels):
                    tile_sums = sums[channel * TILE * TILE : (channel + 1) * TILE * TILE]
                    plane = (group * channels + channel) * nt * tilt_stride
                    _sum_tile(tile_sums, projections, plane, tilts, height, width, first, near, far, tilt == 0)
            for channel in range(channels):
                tile_sums = sums[channel * TILE * TILE : (channel + 1) * TILE * TILE]
                voxel = ((group * channels + channel) * nz + z) * row_stride + x
                shared_voxel = (group * nz + z) * row_stride + x
                tile_step = None if step is None else step[channel, z : z + height, x : x + width]
                share = np.float32(0) if extra is None else shares[channel]
                _finish_tile(
                    volume, tile_sums, voxel, tile_step, extra, shared_voxel, share, mask, shared_voxel, nonnegative,
                    height, width, row_stride,
                )  # fmt: skip
