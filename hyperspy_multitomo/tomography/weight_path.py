# SPDX-License-Identifier: GPL-3.0-or-later
"""The same problem at one weight of its regulariser after another, each begun from the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from hyperspy_multitomo.tomography.iterates import Iterate, Reconstruction, run
from hyperspy_multitomo.tomography.scaling import roomy


class WeightPath:
    """Solutions at one weight after another; each begins with the state of the nearest one.

    Parameters
    ----------
    solver : callable
        ``solver(weight)`` returns new iterates of `variational`, with this weight of the
        regulariser and all else alike.
    iterations, tolerance, progress
        As in `run`, for each of them.

    Notes
    -----
    The dual field of the gradient is scaled with the weight, to whose ball it belongs; the volume
    and the duals of the rays are taken over as they are. The problem is convex: the solution does
    not depend on the start, but for what the tolerance leaves open. The states of the smoothest and
    of the latest weight are kept.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import (
    ...     DataTerm, Regulariser, TiltGeometry, projector, variational
    ... )
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((1, 24, 24, 2))
    >>> truth[:, 8:16, 8:16] = 2.0
    >>> term = DataTerm(A, np.random.default_rng(0).poisson(A(truth)))
    >>> solver = lambda weight: variational([term], Regulariser(weight), [2.0])
    >>> solutions = WeightPath(solver, 200, tolerance=1e-3)
    >>> [solutions(weight).iterations for weight in (4.0, 3.0)]
    [70, 50]
    """

    def __init__(
        self,
        solver: Callable[[float], Iterator[Iterate]],
        iterations: int,
        *,
        tolerance: float | None = None,
        progress: Callable[[Iterate], object] | None = None,
    ):
        self._solver = solver
        self._run = partial(run, iterations=iterations, tolerance=tolerance, progress=progress)
        self._states: dict[float, Mapping[str, np.ndarray]] = {}

    def __call__(self, weight: float) -> Reconstruction:
        """Return the solution at a weight."""
        iterates = self._solver(weight)
        kept: list[Iterate] = []
        near = min(self._states, key=lambda other: abs(np.log(other / weight)), default=weight)
        state = self._states.get(near, {})
        # The state of a power law has an objective in it, which holds for its own weight alone.
        start = _rescaled(state, near, weight) if "p" in state else None
        found = self._run(_started(iterates, start, kept))
        self._states = {w: s for w, s in self._states.items() if w == max(self._states)}
        self._states[weight] = kept[0].snapshot()
        iterates.close()  # type: ignore[attr-defined]
        return found


def _started(
    iterates: Iterator[Iterate], start: Mapping[str, np.ndarray] | None, kept: list[Iterate]
) -> Iterator[Iterate]:
    """Yield iterates from a state on, and keep the view of them."""
    for iterate in iterates:
        if not kept:
            kept.append(iterate)
            if start is not None:
                iterate.restore(start)
        yield iterate


def _rescaled(state: Mapping[str, np.ndarray], before: float, weight: float) -> dict:
    """Return the state of one weight as the start at another; duals are in units of energies."""
    energies = float(roomy(before)) / float(roomy(weight))
    start = dict(state) | {"iteration": np.array(0), "measured": np.array(False)}
    start["channel iterations"] = np.zeros_like(state["channel iterations"])
    for name, array in state.items():
        if name in ("p", "q"):
            start[name] = array * np.float32(energies * weight / before)
        elif name.startswith("s "):
            start[name] = array * np.float32(energies)
    return start
