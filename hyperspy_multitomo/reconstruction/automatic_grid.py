# SPDX-License-Identifier: GPL-3.0-or-later
"""``bin="auto"``: the coarsest grid that predicts counts at the recorded pixels as well as any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.reconstruction.automatic_weight import WeightChoice, paired
from hyperspy_multitomo.reconstruction.held_out import HeldOut

#: Factors that may be tried, and the fewest pixels across that are left.
FACTORS, FEWEST = (1, 2, 4, 8), 64


@dataclass
class Grid:
    """A series binned by a factor, with the counts that all grids are judged by.

    Attributes
    ----------
    factor : int
        Recorded pixels along the edge of a new one.
    held : HeldOut
        Of the recorded pixels.
    choice : WeightChoice, optional
        The weight of this grid, once it is known.
    """

    factor: int
    held: HeldOut
    choice: WeightChoice | None = None

    @property
    def judged(self) -> WeightChoice:
        """Its weight, with deviances at the recorded pixels."""
        if self.choice is None:
            raise ValueError("this grid has not been judged")
        return self.choice


def factors_of(width: int, slices: int) -> list[int]:
    """Return the factors for images of so many pixels, coarse ones first."""
    return [f for f in FACTORS if f == 1 or (width // f >= FEWEST and slices // f >= 1)][::-1]


def coarsest(grids: list[Grid]) -> tuple[Grid, np.ndarray, np.ndarray]:
    """Return the coarsest grid within one standard error of the least, deviances and errors.

    Parameters
    ----------
    grids : list of Grid
        From coarse to fine.
    """
    # Pixels that all grids have; rays of the coarsest, so that all are judged by the same.
    width = grids[0].held.rest.shape[2] // FACTORS[-1] * FACTORS[-1]
    rays = [grid.judged.rays[:, :, :width] for grid in grids]
    sums, errors = paired(rays, grids[0].judged.crossing[:, :width])
    return grids[int(np.flatnonzero(sums <= errors)[0])], sums, errors
