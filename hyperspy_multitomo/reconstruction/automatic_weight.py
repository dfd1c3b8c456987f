# SPDX-License-Identifier: GPL-3.0-or-later
"""``weight="auto"``: the weight of a regulariser from counts that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from hyperspy_multitomo.reconstruction.held_out import HeldOut
from hyperspy_multitomo.tomography import Calibration
from hyperspy_multitomo.tomography.weight_path import WeightPath

#: Weights that may be tried, from smooth to rough, and the first one.
WEIGHTS = tuple(2 ** (half / 2) for half in range(4, -3, -1))
_FIRST = 2.0
# Part of the counts that is reconstructed: so many that their best weight is that of all, and some
# are left to judge by.
SHARE = 0.8
# Rougher weights are not tried below one whose deviance is so many errors above the least.
_CLEARLY = 2.0


@dataclass(frozen=True)
class WeightChoice:
    """The weight that was chosen, and why.

    Attributes
    ----------
    weight : float
    weights : tuple of float
        That were tried, from smooth to rough.
    deviances : tuple of float
        Of the counts that were held out, above the least.
    errors : tuple of float
        Standard errors of these differences.
    rays : array (channel, tilt, x, y)
        Deviances of the counts that were held out, at the weight of the least.
    crossing : array (tilt, x, y)
        Which rays cross the specimen: those that are compared.
    about : dict
        What was held out.
    """

    weight: float
    weights: tuple[float, ...]
    deviances: tuple[float, ...]
    errors: tuple[float, ...]
    rays: np.ndarray
    crossing: np.ndarray
    about: dict

    def describe(self) -> dict:
        """Return the choice for the history of a volume."""
        names = ("weights", "deviances", "errors")
        return {name: list(getattr(self, name)) for name in names} | self.about


def chosen_weight(
    held: HeldOut,
    calibration: Calibration,
    solver: Callable,
    project: Callable,
    *,
    weights: Sequence[float] = WEIGHTS,
    iterations: int,
    tolerance: float | None,
    progress=None,
) -> WeightChoice:
    """Return the largest weight that predicts counts as well as the best one, to its error.

    Parameters
    ----------
    held : HeldOut
        Of `SHARE`.
    calibration : Calibration
        At weight 1, of all counts.
    solver : callable
        ``solver(models, calibration)`` returns the solver of a recipe.
    project : callable
        Makes a projector of a geometry.
    weights : sequence of float
        From smooth to rough; the search begins at 2 where it is among them.
    iterations, tolerance, progress
        As in `tomography.run`.

    Notes
    -----
    Each count is kept with the probability 0.8 (thinned Poisson counts are independent Poisson
    counts), the rest is held out. Solutions of those kept, at weights from smooth to rough, are
    scored by the deviance of the rest, on rays that cross the specimen in the first of them: the
    rest is vacuum, which smooth volumes predict best, and of which there may be any amount. Rays
    are paired: the error of the difference of two deviances is the root of the sum of the squares
    of the rays' differences. The least deviance itself is often too rough, as the curve is flat
    there; hence one standard error.
    """
    models = held.models(held.terms.weighted(calibration.terms).models)

    def iterates(strength: float):
        regulariser = replace(calibration.regulariser, weight=strength)
        solve = solver(models, replace(calibration, regulariser=regulariser))
        return solve(project, held.arrays)

    unit = calibration.regulariser.weight
    solutions = WeightPath(iterates, iterations, tolerance=tolerance, progress=progress)
    deviances: dict[float, np.ndarray] = {}
    crossing = None

    def judge(weight: float) -> tuple[np.ndarray, np.ndarray]:
        nonlocal crossing
        found = solutions(weight * unit)
        if found.interrupted:
            raise KeyboardInterrupt
        if crossing is None:
            crossing = held.crossing(project, found.volume)
        deviances[weight] = held.deviances(project, found.volume)
        return paired([deviances[weight] for weight in sorted(deviances, reverse=True)], crossing)

    start = weights.index(_FIRST) if _FIRST in weights else 0
    for weight in weights[start:]:
        sums, errors = judge(weight)
        if sums[-1] > _CLEARLY * errors[-1]:
            break
    for weight in weights[:start][::-1]:
        if sums[0] > errors[0]:
            break
        sums, errors = judge(weight)
    tried = sorted(deviances, reverse=True)
    chosen = tried[int(np.flatnonzero(sums <= errors)[0])]
    return WeightChoice(
        chosen,
        tuple(tried),
        tuple(sums.tolist()),
        tuple(errors.tolist()),
        deviances[tried[int(np.argmin(sums))]],
        cast(np.ndarray, crossing),
        held.describe(),
    )


def paired(deviances: list[np.ndarray], rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each total over rays is above the least, and the standard error of that.

    Parameters
    ----------
    deviances : list of array (channel, tilt, x, y)
    rays : bool array (tilt, x, y)
        Those that are compared.
    """
    compared = [np.where(rays, one, 0) for one in deviances]
    totals = [float(one.sum(dtype=np.float64)) for one in compared]
    best = compared[int(np.argmin(totals))]
    sums = np.array(totals) - min(totals)
    errors = [np.sqrt(np.square(one - best, dtype=np.float64).sum()) for one in compared]
    return sums, np.array(errors)
