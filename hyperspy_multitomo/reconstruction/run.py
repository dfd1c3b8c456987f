# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way from a problem to a volume: in memory, or slab by slab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.reconstruction.checkpoint_store import CheckpointStore, run_key
from hyperspy_multitomo.reconstruction.job import Job
from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.lazy_sources import check_complete
from hyperspy_multitomo.reconstruction.memory_model import Footprint
from hyperspy_multitomo.reconstruction.recipe import Problem
from hyperspy_multitomo.reconstruction.slab_progress import counting_slabs
from hyperspy_multitomo.reconstruction.slabs import Slabs, cut, in_slabs
from hyperspy_multitomo.reconstruction.start import REMEDY, channels_in_words, start_arrays
from hyperspy_multitomo.tomography import Reconstruction, fingerprint, projector
from hyperspy_multitomo.tomography.slopes import came_out_as_tv

# Arguments that are too large for the history.
_ARRAYS = ("mask", "initial", "background")
# Options that may change on resume, and what is calculated anew from the data.
_NOT_IN_KEY = (
    *("tolerance", "backend", "mask", "initial", "background"),
    *(
        "calibration",
        "haadf_history",
        "relative_weights",
        "weight_choice",
        "iteration_choice",
        "chosen",
    ),
)
# Arrays at the pixels of the maps, which may be of several voxels.
_COARSE = ("maps", "background", "recorded", "gross")
# What the history says of a run in memory.
_OUTCOME = (
    *("iterations", "interrupted", "converged", "stopped_by", "channel_iterations"),
    *("resumed_at", "refitted_at", "measured_at", "box"),
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A problem with all that a run of it needs.

    Attributes
    ----------
    problem : Problem
    job : Job
    arrays : dict
        Of the problem, with mask and start volume.
    coarse : dict of str to int
        How many slices of the volume make one of each array.
    footprint : Footprint
        Of the run, with mask and start volume.
    slabs : Slabs, optional
        How the slices are cut; None where all are reconstructed together.
    store : CheckpointStore, optional
    """

    problem: Problem
    job: Job
    arrays: Mapping[str, Any]
    coarse: Mapping[str, int]
    footprint: Footprint
    slabs: Slabs | None
    store: CheckpointStore | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run made.

    Attributes
    ----------
    volume : array (channel, z, x, y)
        NumPy, or dask of a lazy series.
    settings : dict
        What the history says of the method.
    course : dict
        What the history says of the run.
    residuals : dict of arrays
        As in `tomography.Reconstruction`.
    """

    volume: Any
    settings: Mapping[str, Any]
    course: Mapping[str, Any]
    residuals: Mapping[str, np.ndarray]


def made_of(prepared: Prepared) -> dict:
    """Return digests of all that a run is made of: its series, and the arrays that were given.

    By these `rerun` knows them again. Lazy arrays have None instead.
    """
    digests: dict = prepared.problem.fingerprints()
    arrays = {name: prepared.arrays.get(name) for name in ("mask", "initial")}
    arrays["background"] = getattr(prepared.problem.recipe, "background", None)
    for name, array in arrays.items():
        if array is not None:
            digests[name] = None if is_lazy(array) else fingerprint(np.asarray(array))
    return digests


def prepare(problem: Problem, run: Run) -> Prepared:
    """Return a problem with all that a run needs, after checking that it fits the memory.

    Raises
    ------
    ValueError
        For a mask, a start, chunks or a checkpoint that do not fit.
    MemoryError
        Where not even the thinnest slab fits.
    OSError
        For a lazy series whose file lacks chunks, and a checkpoint that exists or is missing.
    """
    shape, slices, lazy = problem.shape, problem.shape[-1], problem.data.lazy
    arrays = {**problem.arrays, **start_arrays(run, shape)}
    masks = sum(run.get(name) is not None for name in ("mask", "initial"))
    footprint = problem.footprint.with_masks(masks)
    in_parts = lazy or (problem.overlap is None and not footprint.fits_device(slices))
    store = CheckpointStore.open(
        run.get("checkpoint"),
        run.get("resume"),
        _key(problem),
        folder=in_parts,
        # Until noisy data were given more of it, weight 1 was the same for all.
        defaults=problem.recipe.defaults() | {"noisiness": 1.0},
    )
    chunks = run.get("chunks")
    if lazy:
        check_complete(arrays)
    else:
        if chunks is not None:
            raise ValueError(
                "chunks= says how thick the slabs of a lazy series are; this one is in memory: "
                "leave it out"
            )
        what = f"this reconstruction of {channels_in_words(shape[0])}"
        check_memory(footprint.bytes_of(slices), what, REMEDY)
        arrays = {name: None if one is None else np.asarray(one) for name, one in arrays.items()}
    binning = problem.geometry.binning
    slabs = _cut(problem, footprint, chunks, store) if in_parts else None
    coarse = {name: binning if name in _COARSE else 1 for name in arrays}
    titles = {"maps": f"the {problem.data.title} series", "haadf": "the HAADF series"}
    job = Job(
        problem.step,
        problem.solver,
        problem.noise,
        titles,
        problem.iterations,
        problem.tolerance,
        run.get("backend"),
        problem.refit,
    )
    return Prepared(problem, job, arrays, coarse, footprint, slabs, store)


def solve(prepared: Prepared, run: Run) -> Outcome:
    """Run a problem and return its outcome; the volume of a lazy series is computed when read."""
    problem, job, show = prepared.problem, prepared.job, run.get("show_progressbar")
    settings = _settings(problem, run)
    if prepared.slabs is None:
        with progress_bar(show, "reconstructing", job.most or 1) as bar:
            result = job.run(prepared.arrays, progress=bar, store=prepared.store)
        course = _course(result, prepared.store, job)
        _warn_of_the_noise(settings, course)
        return Outcome(result.volume, settings, course, result.residuals)
    volume = in_slabs(
        job, prepared.arrays, prepared.coarse, problem.shape, prepared.slabs, prepared.store
    )
    if not problem.data.lazy:
        with counting_slabs(volume, show):
            volume = volume.compute(scheduler="synchronous")
    course = {"iterations": job.iterations} if job.iterations else {}
    return Outcome(volume, settings, course | {"slabs": prepared.slabs.describe()}, {})


def _warn_of_the_noise(settings: Mapping[str, Any], course: Mapping[str, Any]) -> None:
    """Warn where the noise was to end a run and did not."""
    rule = settings.get("iteration_choice", {}).get("rule")
    if rule == "noise" and course.get("stopped_by") == "iterations":
        warn(
            f"the residual did not come down to the noise within {course['iterations']} iterations,"
            " so that iterations='auto' did not find where to stop: the volume cannot explain the "
            "data so well, as where the alignment is poor, the specimen leaves the field of view, "
            "or depth= is too small. Pass a number of iterations"
        )


def _key(problem: Problem) -> dict:
    """Return what tells the run from others, but for its data."""
    settings = {name: value for name, value in problem.settings.items() if name not in _NOT_IN_KEY}
    return run_key(problem.step, problem.geometry, settings)


def _settings(problem: Problem, run: Run) -> dict:
    """Return what the history says of the method, large arrays as ``"given"``."""
    settings = {
        "tolerance": problem.tolerance,
        "backend": _backend_of(problem, run),
        "mask": run.get("mask"),
        "initial": run.get("initial"),
        **cast("Mapping", run).get("asked", {}),
    } | dict(problem.settings)
    return {
        name: "given" if name in _ARRAYS and value is not None else value
        for name, value in settings.items()
    }


def _backend_of(problem: Problem, run: Run) -> str | None:
    """Return the name of the back-end that runs.

    Of a lazy series, which may run elsewhere, it is the one asked for.
    """
    backend = run.get("backend")
    if problem.data.lazy:
        return backend
    A = projector(problem.geometry, backend=backend)
    return (A.matched() if problem.matched else A).backend


def _cut(problem: Problem, footprint: Footprint, chunks, store: CheckpointStore | None) -> Slabs:
    """Return the slabs of a run; a resumed run keeps its slabs, whatever memory there is now."""
    slices = problem.shape[-1]
    before = None if store is None else store.thickness(slices)
    slabs = cut(
        slices,
        footprint,
        chunks=before if chunks is None else chunks,
        binning=problem.geometry.binning,
        overlap=problem.overlap,
        here=not problem.data.lazy,
    )
    if store is not None and chunks is not None and before not in (None, slabs.thickness):
        raise ValueError(
            f"chunks={chunks} makes other slabs than the {before} slices of those in {store.path}: "
            "leave it out to go on, or pass checkpoint= with another name to begin anew"
        )
    return slabs


def _course(result: Reconstruction, store: CheckpointStore | None, job: Job) -> dict:
    """Return what the history says of a run in memory."""
    if result.stopped_by == "direct":
        return {}
    course = {name: getattr(result, name) for name in _OUTCOME}
    course["max_iterations"] = job.iterations
    if store is None:
        del course["resumed_at"]
    if result.box is None:
        del course["box"]
    if not job.refit:
        del course["refitted_at"]
    slopes = result.residuals.get("slopes")
    if slopes is not None and len(slopes):
        effect = "tv" if came_out_as_tv(slopes) else "tgv"
        course |= {"slopes": float(slopes[-1]), "in_effect": effect}
    return course
