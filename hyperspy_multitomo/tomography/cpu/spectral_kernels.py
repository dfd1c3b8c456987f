# SPDX-License-Identifier: GPL-3.0-or-later
"""Singular values of the matrices channels x components at every voxel, on lanes, for TNV.

The Gram matrix G = J^T J of J, 2 x 2 or 3 x 3 whatever the number of channels, gives the right
singular vectors V by Jacobi's rotations: one is exact for 2 x 2, `SWEEPS` times three are for 3 x 3
in single precision (G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., sec. 8.5). The
singular values are the norms of the columns of J V, not roots of eigenvalues of G: those would
carry the rounding of the largest into the smallest. `matrices` are flat lanes (channel, component).
"""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import ONE, kernel
from hyperspy_multitomo.tomography.cpu.simd import (
    any_above,
    larger,
    load,
    root,
    splat,
    store,
    with_sign,
    zero,
)

SWEEPS = 3
_LEAST = np.float32(1e-30)


@kernel
def _rotation(a, b, ab):
    """Return (tangent, cosine, sine) of the smallest rotation that zeroes the element `ab`.

    a and b are the diagonal.
    """
    difference, twice = b - a, ab + ab
    length = root(difference * difference + twice * twice) + _LEAST
    tangent = twice / (difference + with_sign(length, difference))
    cosine = ONE / root(tangent * tangent + ONE)
    return tangent, cosine, tangent * cosine


@kernel
def _turned(a, b, cosine, sine):
    return cosine * a - sine * b, sine * a + cosine * b


@kernel
def _dot(matrices, channels, components, i, j, unit):
    """Return the element (i, j) of the Gram matrix of the matrices times `unit`."""
    total = zero(matrices)
    for c in range(channels):
        k = c * components
        total = (unit * load(matrices, k + i)) * (unit * load(matrices, k + j)) + total
    return total


@kernel
def _vectors2(zz, xx, zx, matrices):
    """Return the eigenvectors of a 2 x 2 matrix, column by column."""
    _, c, s = _rotation(zz, xx, zx)
    return c, zero(matrices) - s, s, c


@kernel
def _vectors3(zz, xx, yy, zx, zy, xy, matrices):
    """Return the eigenvectors of a 3 x 3 matrix, column by column."""
    nought, one = zero(matrices), splat(ONE, matrices)
    az, ax, ay = one, nought, nought
    bz, bx, by = nought, one, nought
    cz, cx, cy = nought, nought, one
    for _ in range(SWEEPS):
        t, c, s = _rotation(zz, xx, zx)
        zz, xx, zx = zz - t * zx, xx + t * zx, nought
        zy, xy = _turned(zy, xy, c, s)
        az, bz = _turned(az, bz, c, s)
        ax, bx = _turned(ax, bx, c, s)
        ay, by = _turned(ay, by, c, s)
        t, c, s = _rotation(zz, yy, zy)
        zz, yy, zy = zz - t * zy, yy + t * zy, nought
        zx, xy = _turned(zx, xy, c, s)
        az, cz = _turned(az, cz, c, s)
        ax, cx = _turned(ax, cx, c, s)
        ay, cy = _turned(ay, cy, c, s)
        t, c, s = _rotation(xx, yy, xy)
        xx, yy, xy = xx - t * xy, yy + t * xy, nought
        zx, zy = _turned(zx, zy, c, s)
        bz, cz = _turned(bz, cz, c, s)
        bx, cx = _turned(bx, cx, c, s)
        by, cy = _turned(by, cy, c, s)
    return az, ax, ay, bz, bx, by, cz, cx, cy


@kernel
def _singular2(matrices, channels, vz, vx, unit):
    """Return the norm of J v times `unit`."""
    total = zero(matrices)
    for k in range(0, 2 * channels, 2):
        value = unit * (vz * load(matrices, k) + vx * load(matrices, k + 1))
        total = value * value + total
    return root(total)


@kernel
def _singular3(matrices, channels, vz, vx, vy, unit):
    """Return the norm of J v times `unit`."""
    total = zero(matrices)
    for k in range(0, 3 * channels, 3):
        value = unit * (
            vz * load(matrices, k) + vx * load(matrices, k + 1) + vy * load(matrices, k + 2)
        )
        total = value * value + total
    return root(total)


@kernel
def _clip2(matrices, channels, radius):
    unit = ONE / radius
    zz, xx = _dot(matrices, channels, 2, 0, 0, unit), _dot(matrices, channels, 2, 1, 1, unit)
    if not any_above(zz + xx, ONE):  # the sum of all squared singular values
        return
    az, ax, bz, bx = _vectors2(zz, xx, _dot(matrices, channels, 2, 0, 1, unit), matrices)
    a = ONE / larger(_singular2(matrices, channels, az, ax, unit), ONE)
    b = ONE / larger(_singular2(matrices, channels, bz, bx, unit), ONE)
    zz, xx, zx = a * az * az + b * bz * bz, a * ax * ax + b * bx * bx, a * az * ax + b * bz * bx
    for k in range(0, 2 * channels, 2):
        z, x = load(matrices, k), load(matrices, k + 1)
        store(matrices, k, zz * z + zx * x)
        store(matrices, k + 1, zx * z + xx * x)


@kernel
def _clip3(matrices, channels, radius):
    unit = ONE / radius
    zz, xx, yy = (
        _dot(matrices, channels, 3, 0, 0, unit), _dot(matrices, channels, 3, 1, 1, unit),
        _dot(matrices, channels, 3, 2, 2, unit),
    )  # fmt: skip
    if not any_above(zz + xx + yy, ONE):  # the sum of all squared singular values
        return
    zx, zy, xy = (
        _dot(matrices, channels, 3, 0, 1, unit), _dot(matrices, channels, 3, 0, 2, unit),
        _dot(matrices, channels, 3, 1, 2, unit),
    )  # fmt: skip
    az, ax, ay, bz, bx, by, cz, cx, cy = _vectors3(zz, xx, yy, zx, zy, xy, matrices)
    a = ONE / larger(_singular3(matrices, channels, az, ax, ay, unit), ONE)
    b = ONE / larger(_singular3(matrices, channels, bz, bx, by, unit), ONE)
    c = ONE / larger(_singular3(matrices, channels, cz, cx, cy, unit), ONE)
    zz, xx, yy = (
        a * az * az + b * bz * bz + c * cz * cz,
        a * ax * ax + b * bx * bx + c * cx * cx,
        a * ay * ay + b * by * by + c * cy * cy,
    )
    zx, zy, xy = (
        a * az * ax + b * bz * bx + c * cz * cx,
        a * az * ay + b * bz * by + c * cz * cy,
        a * ax * ay + b * bx * by + c * cx * cy,
    )
    for k in range(0, 3 * channels, 3):
        z, x, y = load(matrices, k), load(matrices, k + 1), load(matrices, k + 2)
        store(matrices, k, zz * z + zx * x + zy * y)
        store(matrices, k + 1, zx * z + xx * x + xy * y)
        store(matrices, k + 2, zy * z + xy * x + yy * y)


@kernel
def clip_singular_values(matrices, channels, components, radius):
    """Clip singular values s of matrices at `radius`: J <- J V min(1, radius/s) V^T.

    Results are right to 1e-5 of the largest singular value, while that is below 100 times the
    radius.
    """
    if components == 2:
        _clip2(matrices, channels, radius)
    else:
        _clip3(matrices, channels, radius)


@kernel
def nuclear_norm(matrices, channels, components):
    """Return the sum of the singular values of matrices of 2 or 3 components."""
    zz, xx, zx = (
        _dot(matrices, channels, components, 0, 0, ONE), _dot(matrices, channels, components, 1, 1,
        ONE), _dot(matrices, channels, components, 0, 1, ONE),
    )  # fmt: skip
    if components == 2:
        az, ax, bz, bx = _vectors2(zz, xx, zx, matrices)
        return _singular2(matrices, channels, az, ax, ONE) + _singular2(
            matrices, channels, bz, bx, ONE
        )
    zy, xy, yy = (
        _dot(matrices, channels, 3, 0, 2, ONE), _dot(matrices, channels, 3, 1, 2, ONE),
        _dot(matrices, channels, 3, 2, 2, ONE),
    )  # fmt: skip
    az, ax, ay, bz, bx, by, cz, cx, cy = _vectors3(zz, xx, yy, zx, zy, xy, matrices)
    a, b = (
        _singular3(matrices, channels, az, ax, ay, ONE),
        _singular3(matrices, channels, bz, bx, by, ONE),
    )
    return a + b + _singular3(matrices, channels, cz, cx, cy, ONE)
