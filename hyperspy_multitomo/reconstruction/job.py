# SPDX-License-Identifier: GPL-3.0-or-later
"""What a solver is to do with arrays: small and without any signal, so that it travels to workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.reconstruction.checkpoint_store import Kept
from hyperspy_multitomo.tomography import Reconstruction, projector, run
from hyperspy_multitomo.tomography.slopes import came_out_as_tv


@dataclass(frozen=True)
class Job:
    """A solver with the options of a run.

    Attributes
    ----------
    step : str
        Name of the method, as in the history.
    solver : callable
        ``solver(project, arrays)`` returns iterates, or the volume; `project` makes a projector of
        a geometry, `arrays` are those of a `Problem`.
    noise : callable or None
        ``noise(arrays)`` returns what `tomography.run` takes as such.
    titles : dict of str to str
        What to call the arrays that have to be finite.
    iterations, tolerance
        As in `tomography.run`.
    backend : str or None
        As in `tomography.projector`.
    """

    step: str
    solver: Callable
    noise: Callable | None
    titles: Mapping[str, str]
    iterations: int
    tolerance: float | None
    backend: str | None

    def run(
        self,
        arrays: Mapping,
        *,
        progress=None,
        threads: int | None = None,
        kept: Kept | None = None,
    ) -> Reconstruction:
        """Run the solver on arrays in the numerics' order."""
        for name, title in self.titles.items():
            if arrays.get(name) is not None:
                check_finite(arrays[name], title)
        found = self.solver(
            lambda geometry: projector(geometry, backend=self.backend, threads=threads), arrays
        )
        if isinstance(found, np.ndarray):
            if progress is not None:
                progress(None)
            return Reconstruction(
                found, {}, iterations=0, interrupted=False, converged=False, stopped_by="direct"
            )
        noise = None if self.noise is None else self.noise(arrays)
        given = (
            {} if kept is None else {"checkpoint": kept.checkpoint(arrays), "resume": kept.resume}
        )
        result = run(
            found,
            self.iterations,
            tolerance=self.tolerance,
            noise=noise,
            progress=progress,
            **given,
        )
        if came_out_as_tv(slopes := result.residuals.get("slopes", ())):
            warn(
                f"TGV came out as TV: its field of slopes holds {100 * slopes[-1]:.2g} % of the "
                "gradient of the volume, so that "
                "the result is that of TV at two to three times the time. For slopes instead of "
                "steps pass a smaller alpha0=, "
                "such as a half of it; if there are none, use TV"
            )
        return result

    def volume(
        self, arrays: Mapping, threads: int, kept: Kept | None, stopped: Callable[[], bool]
    ) -> np.ndarray:
        """Return the volume of one slab; where it was finished before, what was kept of it.

        `stopped` is asked after each iteration.

        Raises
        ------
        StoppedError
            Where it says so; the state is kept.
        """
        finished = None if kept is None else kept.finished(arrays, self.iterations)
        if finished is not None:
            return finished

        def look(_):
            if stopped():
                # `run` takes the one for an interrupt by the user, after which it keeps the state.
                raise StoppedError if kept is None else KeyboardInterrupt

        result = self.run(arrays, progress=look, threads=threads, kept=kept)
        if result.interrupted:
            raise StoppedError
        if kept is not None:
            kept.finish(arrays, self.iterations, result.volume)
        return result.volume


class StoppedError(RuntimeError):
    """A slab was stopped, because the run that it belongs to has ended."""
