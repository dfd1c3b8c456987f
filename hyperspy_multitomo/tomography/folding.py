# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays on both sides of the tilt axis, split into even and odd parts.

The support of the object is symmetric under a rotation by 180 degrees, so that rays at u and -u
have the same covariances at all tilts. The even and the odd part of a slice are therefore
independent, and two matrices of half the size replace one.
"""

from __future__ import annotations

import numpy as np

_HALF = np.float32(np.sqrt(0.5))


def fold(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the even and the odd part of rays (tilt, u, ...), by an orthonormal transform.

    Each part is (tilt * u, ...), u from the axis outwards.
    """
    tilts, count = rays.shape[:2]
    outwards, mirrored = rays[:, count // 2 :], rays[:, ::-1][:, count // 2 :]
    even, odd = _HALF * (outwards + mirrored), _HALF * (outwards - mirrored)
    if count % 2:
        # A ray through the axis has no partner.
        even[:, 0], odd = outwards[:, 0], odd[:, 1:]
    size = rays.shape[2:]
    return (
        even.reshape(tilts * even.shape[1], *size),
        odd.reshape(tilts * odd.shape[1], *size),
    )


def unfold(even: np.ndarray, odd: np.ndarray, tilts: int) -> np.ndarray:
    """Return the rays (tilt, u, ...) from their even and odd parts."""
    even, odd = (part.reshape(tilts, -1, *part.shape[1:]) for part in (even, odd))
    paired = even.shape[1] - odd.shape[1]
    sides = [_HALF * (even[:, paired:] + sign * odd) for sign in (-1, 1)]
    return np.concatenate([sides[0][:, ::-1], even[:, :paired], sides[1]], axis=1)
