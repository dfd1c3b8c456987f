# SPDX-License-Identifier: GPL-3.0-or-later
"""Some slices of a series, reconstructed with many settings of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.reconstruction.hebt import StackedSolver
from hyperspy_multitomo.reconstruction.recipe import Problem, SingleSolver, project_with
from hyperspy_multitomo.reconstruction.run import Prepared
from hyperspy_multitomo.reconstruction.sirt import SIRT
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.tomography import hebt, sirt, sweep


@dataclass(frozen=True, eq=False)
class PlacedOnce(TiltData):
    """A series whose images are placed once, for however many problems."""

    known: dict = field(default_factory=dict)

    @classmethod
    def of(cls, data: TiltData) -> PlacedOnce:
        """Return that of a series."""
        return cls(**{name: getattr(data, name) for name in TiltData.__dataclass_fields__})

    def placed(self, images, smoothing=None):
        """See `TiltData.placed`."""
        if id(images) not in self.known:
            # The images are kept as well, so that their number stays theirs.
            self.known[id(images)] = images, super().placed(images, smoothing)
        return self.known[id(images)][1]


@dataclass(frozen=True, eq=False)
class Setting:
    """A problem with one setting.

    Attributes
    ----------
    options : dict
        What the setting has of its own, without the iterations.
    prepared : Prepared
    """

    options: Mapping[str, Any]
    prepared: Prepared

    @property
    def problem(self) -> Problem:
        """What is solved."""
        return self.prepared.problem


def brightest_slices(prepared: Prepared, count: int) -> tuple[int, int]:
    """Return the first and last + 1 of slices side by side that hold the most of all channels.

    Those in the middle of a lazy series, which is not read for it. They are whole pixels of the
    maps.
    """
    together = max(prepared.coarse.values())
    slices = prepared.problem.shape[-1] // together
    length = min(slices, -(-count // together))
    maps = prepared.problem.arrays["maps"]
    first = (slices - length) // 2
    if not is_lazy(maps):
        signals = np.maximum(np.asarray(maps).sum(axis=(1, 2), dtype=np.float64), 0)
        sums = signals.sum(axis=1, keepdims=True)
        total = (signals / np.where(sums > 0, sums, 1)).sum(axis=0)
        windows = np.convolve(total, np.ones(length), "valid")
        best = np.flatnonzero(windows >= windows.max() * (1 - 1e-3))
        first = int(best[np.abs(best - first).argmin()])
    return first * together, (first + length) * together


def slices_of(prepared: Prepared, slices: tuple[int, int]) -> dict[str, np.ndarray | None]:
    """Return the arrays of some slices of a problem, in memory."""
    first, last = slices
    return {
        name: None
        if array is None
        else np.asarray(array[..., first // coarse : last // coarse], np.float32)
        if name != "mask"
        else np.asarray(array if np.ndim(array) == 2 else array[..., first:last])
        for name, array in prepared.arrays.items()
        for coarse in (prepared.coarse[name],)
    }


def volumes_of(
    settings: Sequence[Setting], slices: tuple[int, int], progress: Callable | None = None
) -> list[np.ndarray]:
    """Return the volumes (channel, z, x, y) of some slices with each of the settings.

    Parameters
    ----------
    settings : sequence of Setting
        Of one method and one series.
    slices : (int, int)
        First and last + 1, of the volume.
    progress : callable, optional
        Called after each setting that is run by itself.

    Notes
    -----
    Those of SIRT and HEBT are solved side by side, and settings that differ in their iterations
    alone are snapshots of one run; see `tomography.sweep`. What a tolerance or a second solve ends
    is run by itself. Methods that couple slices have these alone.
    """
    volumes: list[Any] = [None] * len(settings)
    arrays = slices_of(settings[0].prepared, slices)
    together = [number for number, one in enumerate(settings) if _by_iterates(one)]
    if together:
        found = _swept([settings[number] for number in together], arrays)
        for number, volume in zip(together, found, strict=True):
            volumes[number] = np.asarray(volume)
    for number, one in enumerate(settings):
        if volumes[number] is None:
            own = slices_of(one.prepared, slices)
            volumes[number] = one.prepared.job.run(own).volume
            if progress is not None:
                progress(None)
    return volumes


def _by_iterates(setting: Setting) -> bool:
    """Say whether nothing but a number of iterations ends a run."""
    problem = setting.problem
    stops = problem.tolerance is not None or problem.noise is not None or problem.refit
    return not (problem.recipe.direct or stops)


def _swept(settings: Sequence[Setting], arrays: Mapping) -> np.ndarray:
    """Return the volumes of settings that a number of iterations ends."""
    first = settings[0].problem
    project = project_with({"backend": settings[0].prepared.job.backend})
    solver, A = first.solver, project(first.geometry)
    counts = [{"iterations": one.problem.iterations} for one in settings]
    if isinstance(solver, StackedSolver):
        other = None
        if solver.haadf_geometry != solver.geometry:
            other = project(solver.haadf_geometry)
        names = ("alpha", "weighting", "rest", "nonnegative", "relaxation")
        options = [
            {name: getattr(one.problem.recipe, name) for name in names}
            | {"ratios": one.problem.ratios}
            for one in settings
        ]
        return sweep(
            hebt,
            A,
            arrays["maps"],
            arrays["haadf"],
            settings=[own | count for own, count in zip(options, counts, strict=True)],
            haadf_projector=other,
            gains=solver.gains,
            haadf_gains=solver.haadf_gains,
            mask=arrays["mask"],
            initial=arrays["initial"],
        )
    if isinstance(solver, SingleSolver) and type(solver.recipe) is SIRT:
        options = [
            {name: getattr(one.problem.recipe, name) for name in ("relaxation", "nonnegative")}
            for one in settings
        ]
        return sweep(
            sirt,
            A,
            arrays["maps"],
            settings=[own | count for own, count in zip(options, counts, strict=True)],
            gains=solver.gains,
            mask=arrays["mask"],
            initial=arrays["initial"],
        )
    return _one_by_one(settings, project, arrays, counts)


def _one_by_one(settings, project, arrays, counts) -> np.ndarray:
    """Return the volumes of other methods, one run for all that differ in their iterations."""
    runs: list[Setting] = []
    chosen = []
    for setting in settings:
        known = [number for number, one in enumerate(runs) if one.options == setting.options]
        chosen.append(known[0] if known else len(runs))
        if not known:
            runs.append(setting)

    def iterates(project, *, run: int):
        return runs[run].problem.solver(project, arrays)

    options = [{"run": run} | count for run, count in zip(chosen, counts, strict=True)]
    return sweep(iterates, project, settings=options)
