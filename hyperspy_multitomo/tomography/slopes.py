# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether TGV found slopes or came out as TV, from the part of the gradient in its field."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# Fraction of the gradient: below it volumes of TGV and TV differ by less than 0.5 %, above 5 % by
# more than 0.9 %. Simulated discs with slopes of 10 to 50 px, 0.3 to 10 counts per voxel, alpha_0
# of 0.5 to 16, two and three dimensions.
NEGLIGIBLE = 0.02
# The field starts from 0 and grows for hundreds of iterations, or oscillates about its limit: no
# verdict while it is this many times larger than ever in the first half of the run.
GROWING = 1.1
# Measurements before a verdict, fifty iterations.
FEWEST = 5


def came_out_as_tv(slopes: ArrayLike) -> bool:
    """Tell whether a run of TGV has come out as TV.

    Parameters
    ----------
    slopes : array_like (measurement,)
        Part of the gradient that TGV's field w holds, |w|/(|grad u - w| + |w|) in the norm of the
        regulariser, from 0 to 1, at each measurement of the run: the "slopes" of the residuals of
        `run`.

    Returns
    -------
    bool
        True where w holds less than a fiftieth of the gradient and no longer grows. False for fewer
        than five measurements.

    Examples
    --------
    >>> came_out_as_tv([0.011, 0.016, 0.017, 0.016, 0.015])
    True
    >>> came_out_as_tv([0.007, 0.010, 0.012, 0.014, 0.017])  # still growing
    False
    """
    slopes = np.asarray(slopes, float)
    if slopes.size < FEWEST:
        return False
    return bool(
        slopes[-1] < NEGLIGIBLE and slopes[-1] <= GROWING * slopes[: (slopes.size + 1) // 2].max()
    )
