# SPDX-License-Identifier: GPL-3.0-or-later
"""Finite differences: the gradient, the symmetrised gradient, and their adjoints.

Lengths are in voxels. `dimensions` 2 leaves out the derivative along y, which makes slices
independent of each other; 3 has it. Fields have a second axis for their components: (channel,
component, z, x, y) with the components (z, x) or (z, x, y). Symmetric matrices are stored as (zz,
xx, zx) or (zz, xx, yy, zx, zy, xy) with the off-diagonal ones multiplied by sqrt(2), so that sums
of squares over components are squares of Frobenius norms.

The gradient is that of forward differences, 0 at the last voxel of each axis; the symmetrised
gradient has backward differences d- = -(d+)^T, K. Bredies, K. Kunisch, T. Pock, SIAM J. Imaging
Sci. 3 (2010) 492, doi:10.1137/090769521.
"""

from __future__ import annotations

import numpy as np

_ROOT = np.float32(np.sqrt(2))
# Pairs of components of the off-diagonal elements, in their order.
_PAIRS = {2: ((0, 1),), 3: ((0, 1), (0, 2), (1, 2))}


def stored_elements(dimensions: int) -> int:
    """Return how many elements of a symmetric matrix are stored."""
    return dimensions * (dimensions + 1) // 2


def _forward(u: np.ndarray, axis: int) -> np.ndarray:
    """Return d+ u along an axis, 0 at the end."""
    return np.diff(u, axis=axis, append=np.take(u, [-1], axis=axis))


def _forward_adjoint(p: np.ndarray, axis: int) -> np.ndarray:
    """Return (d+)^T p along an axis."""
    p = np.moveaxis(p, axis, 0)
    out = np.zeros_like(p)
    out[:-1] -= p[:-1]
    out[1:] += p[:-1]
    return np.moveaxis(out, 0, axis)


def gradient(u: np.ndarray, dimensions: int) -> np.ndarray:
    """Return grad u, (channel, component, z, x, y), of volumes u (channel, z, x, y)."""
    return np.stack([_forward(u, axis - 3) for axis in range(dimensions)], axis=1)


def gradient_adjoint(p: np.ndarray) -> np.ndarray:
    """Return grad^T p, which is minus the divergence of the field p, (channel, z, x, y)."""
    return np.asarray(sum(_forward_adjoint(p[:, axis], axis - 3) for axis in range(p.shape[1])))


def symmetrised_gradient(w: np.ndarray) -> np.ndarray:
    """Return E w, the symmetric Jacobian of the fields w, (channel, matrix element, z, x, y)."""
    dimensions = w.shape[1]
    diagonal = [-_forward_adjoint(w[:, i], i - 3) for i in range(dimensions)]
    mixed = [
        (_forward_adjoint(w[:, j], i - 3) + _forward_adjoint(w[:, i], j - 3)) * (-1 / _ROOT)
        for i, j in _PAIRS[dimensions]
    ]
    return np.stack(diagonal + mixed, axis=1)


def symmetrised_gradient_adjoint(q: np.ndarray) -> np.ndarray:
    """Return E^T q, (channel, component, z, x, y), of symmetric matrices q."""
    dimensions = {3: 2, 6: 3}[q.shape[1]]
    fields = [-_forward(q[:, i], i - 3) for i in range(dimensions)]
    for k, (i, j) in enumerate(_PAIRS[dimensions]):
        mixed = q[:, dimensions + k] / _ROOT
        fields[j] = fields[j] - _forward(mixed, i - 3)
        fields[i] = fields[i] - _forward(mixed, j - 3)
    return np.stack(fields, axis=1)
