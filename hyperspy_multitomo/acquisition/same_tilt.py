# SPDX-License-Identifier: GPL-3.0-or-later
"""Tolerances within which two tilts are the same, by the source of the angles."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

#: One number that was stored twice, degrees: rounding to float32 or to three decimals changes it
#: by less, and tilts of a series that are closer are duplicates.
SAME_TILT = 1e-3
#: A number of which one copy was typed, or written with two decimals (``.tlt`` files), degrees.
ROUNDED_TILT = 0.01
#: Two readings of the stage at one view, e.g. of the HAADF image and of the spectra, degrees: half
#: of a step of 1 degree. As the nearest view counts, any value between the scatter of the readings
#: and half a step pairs the same views.
SAME_VIEW = 0.5


def match_tilts(tilts: ArrayLike, among: ArrayLike, within: float = SAME_TILT) -> np.ndarray:
    """Return the place of each tilt in another list of tilts.

    Parameters
    ----------
    tilts : array_like (tilt,)
        Degrees.
    among : array_like (other,)
        Degrees, in any order.
    within : float, default SAME_TILT
        Largest difference, degrees.

    Returns
    -------
    numpy.ndarray (tilt,)
        Index of the nearest of `among`, -1 where all are farther away.

    Examples
    --------
    >>> match_tilts([10.0004, -10, 5], [-10, 0, 10])
    array([ 2,  0, -1])
    """
    wanted, present = np.asarray(tilts, np.float64), np.asarray(among, np.float64)
    if not present.size:
        return np.full(wanted.size, -1)
    distance = np.abs(present[None] - wanted[:, None])
    return np.where(distance.min(axis=1) <= within, distance.argmin(axis=1), -1)
