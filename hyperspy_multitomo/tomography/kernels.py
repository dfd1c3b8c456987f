# SPDX-License-Identifier: GPL-3.0-or-later
"""The linear (Joseph) projector pair on lanes: one set of weights serves every slice and channel, both ways.

Voxel (x, z) has its centre on the detector at p. With c = max(|cos t|, |sin t|) and the voxel size s, the weight of that voxel
in ray u is s/c max(0, 1 - |u - p|/c): linear interpolation on the rows that the ray crosses most steeply (P. M. Joseph,
IEEE Trans. Med. Imaging 1 (1982) 192, doi:10.1109/TMI.1982.4307572). Both directions evaluate this one formula in double
precision, so that the pair is adjoint to the rounding of the sums.

Lanes arrays are flat: volumes hold (group, channel, z, x), projections (group, channel, tilt, u), each element the lanes of one
group of slices. `shape` is (nz, nx, volume row stride, nt, nu, projection row stride). `table` holds per tilt cos t, sin t and
the detector coordinate of voxel (0, 0). Work is cut so that what an inner loop touches stays in the first-level cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hyperspy_multitomo.tomography.simd import fma, load, positive, store, zero

# Sizes of the tiles, measured on Zen 5 (48 KiB of first-level cache) with 64 lanes: a tile of voxels with the rays of TILTS
# tilts, or a band of rows with the voxels that RUN rays of a tilt meet, are about 30 KiB.
TILE = 8  # voxels, along z and x
TILTS = 8
BAND = 8  # rows that a ray crosses while its sum stays in registers
RUN = 16  # rays

ONE = np.float32(1)

jit = njit(nogil=True, cache=True, error_model="numpy")


@jit
def _voxel_weights(first, near, far, base, c, s, nu, row):
    """Weights of the two rays that can meet each voxel of a tile at one tilt, and where the first of them is stored."""
    inverse = 1 / max(abs(c), abs(s))
    return _fill_voxel_weights(first, near, far, base, c, s, inverse, nu - 2.0, np.int32(row))


@jit
def _fill_voxel_weights(first, near, far, base, c, s, inverse, last, row):
    for k in range(TILE * TILE):
        p = base + (k // TILE) * s + (k % TILE) * c
        i = np.int32(min(max(p, 0.0), last))
        d = p - i
        near[k] = max(0.0, 1.0 - abs(d) * inverse) * inverse
        far[k] = max(0.0, 1.0 - abs(d - 1.0) * inverse) * inverse
        first[k] = row + i
