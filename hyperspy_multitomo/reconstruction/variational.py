# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes with a regulariser, TV, TGV and nuclear TV: data terms, calibration and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np

from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.parameters import is_positive
from hyperspy_multitomo.reconstruction.automatic_grid import Grid
from hyperspy_multitomo.reconstruction.automatic_weight import (
    SHARE,
    WEIGHTS,
    WeightChoice,
    chosen_weight,
)
from hyperspy_multitomo.reconstruction.checkpoint_store import key_of
from hyperspy_multitomo.reconstruction.data_terms import (
    DISCREPANCIES,
    DataTerms,
    TermModel,
    data_terms,
    terms_of,
)
from hyperspy_multitomo.reconstruction.held_out import HeldOut
from hyperspy_multitomo.reconstruction.keywords import Run, SmoothMapsRun
from hyperspy_multitomo.reconstruction.memory_model import (
    Footprint,
    uses_device,
    variational_footprint,
)
from hyperspy_multitomo.reconstruction.recipe import (
    Problem,
    Recipe,
    project_with,
    volume_shape,
)
from hyperspy_multitomo.reconstruction.start import REMEDY, channels_in_words, start_arrays
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.tomography import Calibration, DataTerm, calibrate, variational

# Relative change of the objective in twenty iterations at which a run ends. The second is for TGV,
# whose slopes settle last, and where the HAADF is the sum of the elements: its many counts make up
# most of the objective. docs/regularisers.md has what they cost and gain.
TOLERANCE, SLOW_TOLERANCE = 1e-3, 1e-4
_COUPLINGS = {True: "frobenius", False: "uncoupled", "nuclear": "nuclear"}
_THIRD = ", or use reconstruct_tv or reconstruct_tnv, which hold a third"


@dataclass(frozen=True, kw_only=True)
class Variational(Recipe):
    """What they share; see `TiltSeriesEDS.reconstruct_tv` for the parameters."""

    weight: float | Literal["auto"] = 1.0
    refit: bool = False
    mu: Mapping[str, float] | Sequence[float] | None = None
    coupled: bool | str = True
    dimensions: int = 3
    alpha0: float = 4.0
    iterations: int = 500
    data_term: str | None = None
    haadf_term: str | None = None
    haadf_gain: float | None = None
    background: Any = None
    nonnegative: bool = True
    support: bool = True
    overlap: int = 16

    haadf = "optional"
    chooses = ("weight",)
    run = SmoothMapsRun
    tolerance = TOLERANCE

    def __post_init__(self):
        for name in ("data_term", "haadf_term"):
            if getattr(self, name) not in (None, *DISCREPANCIES):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be 'poisson' or 'least_squares'"
                )
        self._check_numbers()
        if self.refit not in (True, False):
            raise ValueError(f"refit={self.refit!r} must be True or False")
        if self.dimensions not in (2, 3):
            raise ValueError(
                f"dimensions={self.dimensions!r} must be 3, or 2 for slices apart from each other"
            )
        if self.coupled not in tuple(_COUPLINGS):
            raise ValueError(f"coupled={self.coupled!r} must be True, False or 'nuclear'")
        if self.mu is not None and self.weight != 1:
            raise ValueError("mu= and weight= both say how much to smooth; pass one of them")

    def _check_numbers(self) -> None:
        """Raise an error for numbers that are none, and for what cannot be automatic."""
        for name, besides in (("weight", "auto"), ("alpha0", 4.0), ("haadf_gain", None)):
            value = getattr(self, name)
            if not (is_positive(value) or value == besides):
                or_auto = ", or 'auto'" if besides == "auto" else ""
                raise ValueError(f"{name}={value!r} must be a positive number{or_auto}")
        if self.weight == "auto" and self.data_term == "least_squares":
            raise ValueError(
                "weight='auto' holds out counts, which data_term='least_squares' does not take: "
                "pass data_term='poisson', or a number"
            )
        if isinstance(self.iterations, str):
            raise ValueError(
                f"iterations={self.iterations!r} has no meaning with a regulariser, whose solution "
                "does not depend on them: leave it out, and pass weight='auto'"
            )

    @property
    def kind(self) -> str:
        """Of the regulariser, "tv" or "tgv"; nuclear TV is TV with another coupling."""
        return "tv"

    @classmethod
    def settings_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that a step of a history tells."""
        settings = super().settings_of(step)
        if step.get("refit") and step.get("interrupted"):
            which = "first" if step["refitted_at"] is None else "second"
            raise ValueError(
                f"the run was interrupted after {step['iterations']} iterations, in the {which} of "
                "its two solves (refit=True), and no call of the method ends there: resume its "
                "checkpoint, or run it anew with the parameters in the history"
            )
        if "slabs" in step and step["dimensions"] == 3:
            settings["overlap"] = step["slabs"]["overlap"]
        return settings

    @property
    def regulariser_name(self) -> str:
        """``"tv"``, ``"tgv"`` or ``"tnv"``."""
        return "tnv" if (self.kind, self.coupled) == ("tv", "nuclear") else self.kind

    def channels(self, data: TiltData, haadf: TiltData | None = None) -> tuple[str, ...]:
        """Return the elements, and ``"HAADF"`` where its images are given."""
        return data.channels if haadf is None else (*data.channels, "HAADF")

    def problem(self, data: TiltData, haadf: TiltData | None, binning: int, run: Run) -> Problem:
        """See `Recipe.problem`."""
        channels = self.channels(data, haadf)
        terms = self.terms(data, haadf, binning, run)
        self.check_run(terms, channels, run)
        sample = self.calibration_slices(terms)
        named = channels or ("HAADF",)
        calibration = self.calibrated(terms.terms(project_with(run), sample), named, run)
        return self.problem_of(terms, channels, calibration, run)

    def terms(
        self,
        data: TiltData,
        haadf: TiltData | None,
        binning: int,
        run: Run,
        *,
        summed: bool = False,
    ) -> DataTerms:
        """Return the series as terms, after checking them.

        With `summed` the HAADF is to be seen as a sum of the elements.
        """
        names = ("data_term", "haadf_term", "haadf_gain", "background")
        terms = data_terms(
            data,
            haadf,
            binning,
            depth=run.get("depth"),
            width=run.get("width"),
            **{name: getattr(self, name) for name in names},
        )
        terms.check(self.data_term != "least_squares", summed)
        return terms

    def calibration_slices(self, terms: DataTerms) -> dict:
        """Return the arrays for a calibration: some slices, the same of lazy and other data."""
        if self.mu is not None:
            return terms.brightest_slices
        return terms.some_slices if self.dimensions == 2 else terms.telling_slices

    def calibrated(
        self, terms: Sequence[DataTerm], names: Sequence[str], run: Run, kind: str | None = None
    ) -> Calibration:
        """Return scales of the channels, weights of the terms and that of the regulariser.

        They are as they were when a run was begun that is resumed.
        """
        calibration = calibrate(
            terms,
            len(names),
            kind=kind or self.kind,
            coupling=_COUPLINGS[self.coupled],
            mu=None if self.mu is None else _mu_values(self.mu, names),
            sampled=self.dimensions == 3,
            dimensions=self.dimensions,
            alpha0=self.alpha0,
            weight=1.0 if isinstance(self.weight, str) else self.weight,
        )
        key = None if run.get("resume") is None else key_of(run["resume"])
        if key is None or "noisiness" in key:
            return calibration
        return replace(calibration.times(1 / calibration.noisiness), noisiness=1.0)

    def check_run(
        self, terms: DataTerms, channels: Sequence[str], run: Run, power: float = 1.0
    ) -> None:
        """Raise an error before a calibration if the mask, the start or the memory do not fit."""
        geometry = terms.models[0].geometry
        shape = volume_shape(channels, geometry, terms.arrays["maps"].shape[-1])
        start_arrays(run, shape)
        if not terms.data.lazy:
            needed = self.footprint(terms, channels, run, power).bytes_of(shape[-1])
            remedy = REMEDY + _THIRD * (self.kind == "tgv")
            what = f"this reconstruction of {channels_in_words(shape[0])}"
            check_memory(needed, what, remedy)

    def problem_of(
        self,
        terms: DataTerms,
        channels: Sequence[str],
        calibration: Calibration,
        run: Run,
        *,
        power: float = 1.0,
        ratios: np.ndarray | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Problem:
        """Return the problem of terms that are calibrated.

        Parameters
        ----------
        terms, channels, calibration, run
        power : float, default 1.0
            Of the elements in the HAADF.
        ratios : array (channel,), optional
            For the volume to keep.
        extra : mapping, optional
            What the history says besides.
        """
        data, haadf, models = terms.data, terms.haadf, terms.models
        settings = self.settings | dict(extra or {})
        tolerance = run.get("tolerance", self.tolerance)
        if isinstance(self.weight, str) or "grid" in run:
            choice = self._chosen(terms, channels, calibration, run)
            calibration = calibration.times(choice.weight)
            if isinstance(self.weight, str):
                settings |= {"weight": choice.weight, "weight_choice": choice.describe()}
        if self.refit:  # whose unit is that of a plain run, as those are that choose a weight
            calibration = replace(calibration, regulariser=calibration.regulariser.for_refit())
        settings |= {"tolerance": tolerance, "gains": data.model_gains}
        settings["calibration"] = calibration.describe()
        settings["noisiness"] = calibration.noisiness
        settings["data_terms"] = {
            model.data: {"discrepancy": model.discrepancy, "weight": model.weight}
            for model in models
        }
        gain = next((model.gain for model in models if model.gain is not None), None)
        settings["haadf_gain"] = gain
        if haadf is not None:
            settings |= {"haadf_gains": haadf.model_gains, "haadf_history": list(haadf.history)}
            settings["haadf_geometry"] = vars(models[1].geometry)
        return Problem(
            recipe=self,
            data=data,
            haadf=haadf,
            geometry=models[0].geometry,
            channels=tuple(channels),
            arrays=terms.arrays,
            solver=self.solver(terms.weighted(calibration.terms).profiled().models, calibration),
            footprint=self.footprint(terms, channels, run, power),
            settings=settings,
            iterations=self.iterations,
            # 0 stands for no tolerance where None stands for the default.
            tolerance=tolerance or None,
            # Slices know of each other in three dimensions alone.
            overlap=self.overlap if self.dimensions == 3 else None,
            matched=True,
            refit=self.refit,
            ratios=ratios,
        )

    def _chosen(
        self, terms: DataTerms, channels: Sequence[str], calibration: Calibration, run: Run
    ) -> WeightChoice:
        """Return the weight that held-out counts choose; a grid of the run keeps it."""
        grid: Grid | None = cast("Mapping", run).get("grid")
        if grid is None:
            geometry = terms.models[0].geometry
            shape = volume_shape(channels, geometry, terms.arrays["maps"].shape[-1])
            held = HeldOut.of(terms, SHARE, start_arrays(run, shape)["mask"])
        else:
            held = grid.held.binned(terms, grid.factor)
        # Each solver begins with the state of the last, on the same voxels.
        solver = replace(self, support=False).solver
        with progress_bar(run.get("show_progressbar"), "choosing the weight", None) as bar:
            choice = chosen_weight(
                held,
                calibration,
                solver,
                project_with(run),
                weights=WEIGHTS if isinstance(self.weight, str) else (1.0,),
                # Not those of the run, so that one that is resumed with more chooses the same.
                iterations=self.defaults()["iterations"],
                tolerance=run.get("tolerance", self.tolerance) or None,
                progress=bar,
            )
        if grid is not None:
            grid.choice = choice
        return choice

    def solver(self, models: tuple[TermModel, ...], calibration: Calibration) -> Callable:
        """Return the solver of calibrated terms; it travels to workers."""
        solve = partial(variational, nonnegative=self.nonnegative, support=self.support)
        return VariationalSolver(models, solve, calibration.regulariser, calibration.scales)

    def footprint(
        self, terms: DataTerms, channels: Sequence[str], run: Run, power: float = 1.0
    ) -> Footprint:
        """Return what a run holds."""
        projectors = [project_with(run)(model.geometry) for model in terms.models]
        arrays, models = terms.arrays, terms.models
        backgrounds = arrays["background"] is not None
        series = [(models[0].geometry, len(arrays["maps"]), backgrounds)]
        series += [(model.geometry, 1, False) for model in models[1:]]
        count, on_device = max(1, len(channels)), None
        if uses_device(projectors[0]):
            on_device = partial(
                _device_bytes,
                self.kind,
                self.dimensions,
                count,
                series=series,
                mixed=models[-1].mix is not None,
                mask=run.get("mask") is not None,
                refit=self.refit,
            )
        return variational_footprint(
            self.kind,
            self.dimensions,
            count,
            series,
            power_law=power != 1,
            refit=self.refit,
            projectors=projectors,
            of_device=on_device,
        )


@dataclass(frozen=True, kw_only=True)
class TV(Variational):
    """Total variation."""

    name = "tv"
    title = "TV"


@dataclass(frozen=True, kw_only=True)
class TGV(Variational):
    """Total generalised variation."""

    name = "tgv"
    title = "TGV"
    tolerance = SLOW_TOLERANCE

    @property
    def kind(self) -> str:
        """Of the regulariser."""
        return "tgv"


@dataclass(frozen=True, kw_only=True)
class TNV(Variational):
    """Total nuclear variation."""

    coupled: bool | str = "nuclear"

    name = "tnv"
    title = "TNV"
    of_images = False


@dataclass(frozen=True, eq=False)
class VariationalSolver:
    """The solver of data terms, a regulariser and scales; it travels to workers."""

    models: tuple[TermModel, ...]
    solve: Callable
    regulariser: Any
    scales: np.ndarray

    def __call__(self, project: Callable, arrays: Mapping):
        """Return the iterates."""
        terms = terms_of(self.models, project, arrays)
        start = {name: arrays[name] for name in ("mask", "initial")}
        return self.solve(terms, self.regulariser, self.scales, **start)


@dataclass(frozen=True, kw_only=True)
class NamedRegulariser(Variational):
    """What the methods share whose regulariser is a keyword."""

    regulariser: str = "tv"

    def __post_init__(self):
        super().__post_init__()
        if self.regulariser not in ("tv", "tgv", "tnv"):
            raise ValueError(f"regulariser={self.regulariser!r} must be 'tv', 'tgv' or 'tnv'")
        if self.regulariser == "tnv":
            if not self.coupled:
                raise ValueError(
                    "coupled=False contradicts regulariser='tnv', which couples the channels; pass "
                    "regulariser='tv' with it"
                )
            object.__setattr__(self, "coupled", "nuclear")

    @property
    def kind(self) -> str:
        """The kind of regulariser, "tv" or "tgv"."""
        return "tgv" if self.regulariser == "tgv" else "tv"


def _device_bytes(
    kind: str, dimensions: int, channels: int, slices: int, *, series, **sizes
) -> int:
    from hyperspy_multitomo.tomography.cuda.primal_dual import regularised_bytes

    return regularised_bytes(kind, dimensions, channels, slices, series, **sizes)


def _mu_values(mu, names: Sequence[str]) -> np.ndarray:
    """Return Huber's mu in the order of the channels; a sequence has the HAADF's first."""
    order = tuple(names)
    if "HAADF" in names:
        order = ("HAADF", *(name for name in names if name != "HAADF"))
    if not isinstance(mu, Mapping):
        if np.shape(mu) != (len(order),):
            raise ValueError(
                f"mu={mu!r} must hold one number for each of {', '.join(order)}, in this order, or "
                "be a dict"
            )
        mu = dict(zip(order, mu, strict=True))
    if set(mu) != set(names):
        raise ValueError(
            f"mu holds {', '.join(map(str, mu))}; expected one number for each of "
            f"{', '.join(order)}"
        )
    if not all(is_positive(value) for value in mu.values()):
        raise ValueError(f"mu={mu} must hold positive numbers")
    return np.array([mu[name] for name in names], dtype=float)
