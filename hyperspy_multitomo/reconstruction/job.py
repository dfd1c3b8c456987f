# SPDX-License-Identifier: GPL-3.0-or-later
"""A solver with the options of its run, small enough to be sent to workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.reconstruction.checkpoint_store import CheckpointStore
from hyperspy_multitomo.tomography import Projector, Reconstruction, TiltGeometry, projector, run
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
    refit : bool, default False
        As in `tomography.run`.
    """

    step: str
    solver: Callable
    noise: Callable | None
    titles: Mapping[str, str]
    iterations: int
    tolerance: float | None
    backend: str | None
    refit: bool = False

    @property
    def most(self) -> int:
        """Iterations at most, of both solves where there are two."""
        return self.iterations * (1 + self.refit)

    def run(
        self,
        arrays: Mapping,
        *,
        progress=None,
        threads: int | None = None,
        store: CheckpointStore | None = None,
    ) -> Reconstruction:
        """Run the solver on arrays in the numerics' order."""
        for name, title in self.titles.items():
            if arrays.get(name) is not None:
                check_finite(arrays[name], title)

        def project(geometry: TiltGeometry) -> Projector:
            return projector(geometry, backend=self.backend, threads=threads)

        solution = self.solver(project, arrays)
        if isinstance(solution, np.ndarray):
            if progress is not None:
                progress(None)
            return Reconstruction(
                solution, {}, iterations=0, interrupted=False, converged=False, stopped_by="direct"
            )
        result = run(
            solution,
            self.iterations,
            tolerance=self.tolerance,
            noise=None if self.noise is None else self.noise(arrays),
            refit=self.refit,
            progress=progress,
            checkpoint=None if store is None else store.checkpoint(arrays),
            resume=store is not None and store.resume,
        )
        slopes = result.residuals.get("slopes")
        if slopes is not None and came_out_as_tv(slopes):
            warn(
                f"TGV came out as TV: its field of slopes holds {100 * slopes[-1]:.2g} % of the "
                "gradient of the volume, so that the result is that of TV at two to three "
                "times the time. For slopes instead of steps pass a smaller alpha0=, such as a "
                "half of it; if there are none, use TV"
            )
        return result

    def volume(
        self,
        arrays: Mapping,
        threads: int,
        store: CheckpointStore | None,
        stopped: Callable[[], bool],
    ) -> np.ndarray:
        """Return the volume of one slab, from the store where it was finished before.

        `stopped` is asked after each iteration.

        Raises
        ------
        StoppedError
            Where it says so; the state stays in the store.
        """
        finished = None if store is None else store.finished(arrays, self.iterations)
        if finished is not None:
            return finished

        def stop_where_asked(_):
            if stopped():
                # `run` takes the one for an interrupt by the user, after which it keeps the state.
                raise StoppedError if store is None else KeyboardInterrupt

        result = self.run(arrays, progress=stop_where_asked, threads=threads, store=store)
        if result.interrupted:
            raise StoppedError
        if store is not None:
            store.finish(arrays, self.iterations, result.volume)
        return result.volume


class StoppedError(RuntimeError):
    """A slab was stopped, because the run that it belongs to has ended."""
