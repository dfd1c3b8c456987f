# SPDX-License-Identifier: GPL-3.0-or-later
"""``alpha="auto"`` and ``iterations="auto"`` of HEBT, from counts that were held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.reconstruction.data_terms import data_terms
from hyperspy_multitomo.reconstruction.held_out import HeldOut, check_counts
from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.recipe import project_with, volume_shape
from hyperspy_multitomo.reconstruction.start import start_arrays
from hyperspy_multitomo.reconstruction.tilt_data import TiltData

if TYPE_CHECKING:
    from hyperspy_multitomo.reconstruction.hebt import HEBT, StackedSolver

#: Weights of the HAADF that ``alpha="auto"`` tries.
ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9)
# Part of the counts that is reconstructed. With a fifth the error of the volumes is 1.02 times the
# least in the mean (1.21 at most; seven specimens, 0.3 to 10 counts, alpha 0.7), with half 1.10,
# with 0.8 1.16, at too many iterations (benchmarks/weights.py shares).
_SHARE = 0.2
# At most so many iterations, and so many, or this part of those so far, after the best one.
_MOST, _MORE, _FURTHER = 300, 10, 0.5


@dataclass(frozen=True)
class IterationChoice:
    """Iterations and alpha that were chosen, and why.

    Attributes
    ----------
    alpha : float
    iterations : int
    tried : dict of float to tuple
        For each alpha the best number of iterations, and the deviance of the counts that were held
        out there, above the least of all.
    about : dict
        What was held out.
    """

    alpha: float
    iterations: int
    tried: dict[float, tuple[int, float]]
    about: dict

    def describe(self) -> dict:
        """Return the choice for the history of a volume."""
        best, deviances = zip(*self.tried.values(), strict=True)
        found = {"alphas": list(self.tried), "iterations": list(best), "deviances": list(deviances)}
        return found | self.about


def chosen_iterations(
    recipe: HEBT, solver: StackedSolver, data: TiltData, haadf: TiltData, binning: int, run: Run
) -> IterationChoice:
    """Return alpha and iterations at which the counts that were held out are predicted best.

    Parameters
    ----------
    recipe : HEBT
        What it has as a number stays.
    solver : StackedSolver
        Of the recipe.
    data, haadf, binning, run
        As in `Recipe.problem`.
    """
    check_counts(data)
    terms = data_terms(
        data,
        haadf,
        binning,
        data_term="poisson",
        haadf_term=None,
        haadf_gain=None,
        background=None,
        depth=run.get("depth"),
        width=run.get("width"),
    )
    shape = volume_shape(recipe.channels(data), solver.geometry, terms.arrays["maps"].shape[-1])
    held = HeldOut.of(terms, _SHARE, start_arrays(run, shape)["mask"])
    arrays = dict(held.arrays) | {"maps": _net(held, data)}
    project = project_with(run)
    alphas = ALPHAS if isinstance(recipe.alpha, str) else (recipe.alpha,)
    most = _MOST if isinstance(recipe.iterations, str) else recipe.iterations
    show, found = run.get("show_progressbar"), {}
    with progress_bar(show, "choosing the iterations", None) as bar:
        for alpha in alphas:
            one = replace(solver, recipe=replace(recipe, alpha=alpha))
            curve = _curve(held, project, one(project, arrays), most, bar)
            best = int(np.argmin(curve)) if isinstance(recipe.iterations, str) else len(curve) - 1
            found[alpha] = best + 1, curve[best]
    least = min(deviance for _, deviance in found.values())
    tried = {alpha: (best, deviance - least) for alpha, (best, deviance) in found.items()}
    alpha = next(alpha for alpha, (_, above) in tried.items() if above == 0)
    return IterationChoice(alpha, tried[alpha][0], tried, held.describe())


def _net(held: HeldOut, data: TiltData) -> np.ndarray:
    """Return the net counts of the part that was kept, in the size of all."""
    maps = held.arrays["maps"]
    if held.arrays["background"] is None or data.window_share is None:
        return maps / np.float32(held.share)
    net = (maps - held.arrays["background"]) / np.float32(held.share)
    return net / data.window_share[:, :, None, None].astype(np.float32)


def _curve(held: HeldOut, project: Callable, iterates, most: int, progress) -> list[float]:
    """Return the deviance after each iteration, until it has not fallen for a while."""
    curve: list[float] = []
    best = 0
    for iterate in iterates:
        if iterate.iteration == 0:
            continue
        if progress is not None:
            progress(iterate)
        curve.append(float(held.deviances(project, iterate.volume).sum(dtype=np.float64)))
        best = len(curve) if curve[-1] <= min(curve) else best
        if len(curve) >= min(most, best + max(_MORE, _FURTHER * best)):
            break
    iterates.close()
    return curve
