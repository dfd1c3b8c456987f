# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays on both sides of the tilt axis, folded into their even and their odd part.

The support of the object looks the same turned by half a turn, so that rays at u and -u have the
same covariances at all tilts: the even and the odd part of a slice are independent, and two
matrices of half the size take the place of one.
"""

from __future__ import annotations

import numpy as np

_HALF = np.float32(np.sqrt(0.5))


def fold(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the even and the odd part, orthonormal, (tilt * u from the axis outwards, ...), of rays (tilt, u, ...)."""
    tilts, count = rays.shape[:2]
    outwards, mirrored = rays[:, count // 2 :], rays[:, ::-1][:, count // 2 :]
    even, odd = _HALF * (outwards + mirrored), _HALF * (outwards - mirrored)
    if count % 2:
        # A ray through the axis has no partner.
        even[:, 0], odd = outwards[:, 0], odd[:, 1:]
    return tuple(part.reshape(tilts * part.shape[1], *rays.shape[2:]) for part in (even, odd))


def unfold(even: np.ndarray, odd: np.ndarray, tilts: int) -> np.ndarray:
    """Return the rays (tilt, u, ...) of which these are the parts."""
    even, odd = (part.reshape(tilts, -1, *part.shape[1:]) for part in (even, odd))
    paired = even.shape[1] - odd.shape[1]
    sides = [_HALF * (even[:, paired:] + sign * odd) for sign in (-1, 1)]
    return np.concatenate([sides[0][:, ::-1], even[:, :paired], sides[1]], axis=1)
