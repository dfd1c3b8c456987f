# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of plain HEBT: SIRT on the stacked system of maps and HAADF, weighted by alpha."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from hyperspy_multitomo.reconstruction.automatic_iterations import chosen_iterations
from hyperspy_multitomo.reconstruction.keywords import Run, SmoothMapsRun
from hyperspy_multitomo.reconstruction.memory_model import footprint, uses_device
from hyperspy_multitomo.reconstruction.noise import stopping_noise
from hyperspy_multitomo.reconstruction.recipe import (
    Problem,
    Recipe,
    device_bytes_of,
    project_with,
    required,
)
from hyperspy_multitomo.reconstruction.regularised_hebt import RegularisedHEBT
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.reconstruction.values_by_element import values_by_element
from hyperspy_multitomo.tomography import TiltGeometry, hebt

# Keywords of the form with a regulariser that one of them has no use for.
_MEANINGLESS = {"tv": ("alpha0",), "tnv": ("alpha0", "coupled"), "tgv": ()}


@dataclass(frozen=True, kw_only=True)
class HEBT(Recipe):
    """HAADF-EDS bimodal tomography; see `reconstruct_hebt` for the parameters."""

    alpha: float | Literal["auto"] = 0.7
    iterations: int | Literal["auto"] = 100
    ratios: Any = None
    rest: bool = False
    weighting: str = "sirt"
    relaxation: float = 1.0
    stopping: str | None = None
    noise: float | None = None
    nonnegative: bool = True

    name = "hebt"
    title = "HEBT"
    haadf = "required"
    of_images = False
    restarts = True
    chooses = ("alpha", "iterations")
    run = SmoothMapsRun

    def __post_init__(self):
        if self.iterations == "auto" and self.stopping is not None:
            raise ValueError(
                "iterations='auto' and stopping= both say when to end; pass one of them"
            )

    @classmethod
    def form(cls, keywords: Mapping[str, Any]) -> type[Recipe]:
        """Return the plain form, or that with a regulariser where one is asked for.

        Raises
        ------
        ValueError
            For an unknown regulariser, and keywords of the form that is not asked for.
        """
        regulariser = keywords.get("regulariser")
        if regulariser not in (None, *_MEANINGLESS):
            raise ValueError(
                f"regulariser={regulariser!r} must be 'tv', 'tgv' or 'tnv', or None for plain HEBT"
            )
        plain, regularised = cls.fields(), RegularisedHEBT.fields()
        if regulariser is None:
            foreign = set(regularised) - set(plain) - {"mu"}
        else:
            foreign = set(plain) - set(regularised) | set(_MEANINGLESS[regulariser])
        order = [*plain, *sorted(foreign)]
        named = [
            f"{name}="
            for name in sorted(foreign, key=order.index)
            if keywords.get(name) is not None
        ]
        if named and regulariser is None:
            raise ValueError(
                f"{', '.join(named)} belongs to HEBT with a regulariser: pass regulariser='tv', "
                "'tgv' or 'tnv' with it"
            )
        if named:
            raise ValueError(
                f"{', '.join(named)} has no meaning with regulariser={regulariser!r}, where "
                "maps and HAADF weigh by their noise: leave it out; weight= says how much to "
                "smooth, and haadf_gain= how far to trust the HAADF"
            )
        return cls if regulariser is None else RegularisedHEBT

    def channels(self, data: TiltData, haadf: TiltData | None = None) -> tuple[str, ...]:
        """Return the elements, and ``"rest"`` where it is asked for."""
        return (*data.channels, "rest") if self.rest else data.channels

    def problem(self, data: TiltData, haadf: TiltData | None, binning: int, run: Run) -> Problem:
        """See `Recipe.problem`."""
        haadf = required(haadf, self)
        for series in (data, haadf):
            series.check_tilts()
        ratios = values_by_element(self.ratios, data.channels)
        extent = run.get("depth"), run.get("width")
        geometry, haadf_geometry = data.geometry(*extent, binning=binning), haadf.geometry(*extent)
        gains, haadf_gains = data.model_gains, haadf.model_gains
        arrays = {"maps": data.projections, "haadf": haadf.projections[0]}
        arrays, noise = stopping_noise(data, arrays, gains, self.stopping, self.noise)
        channels, project = self.channels(data), project_with(run)
        projectors = [project(geometry), project(haadf_geometry)]
        rows, on_device = len(arrays["maps"]), None
        if uses_device(projectors[0]):
            sizes: dict[str, Any] = {
                "mask": run.get("mask") is not None,
                "backend": projectors[0].backend,
            }
            sizes |= {"haadf_geometry": haadf_geometry, "rest": self.rest, "rows": rows}
            on_device = partial(device_bytes_of, self.name, geometry, **sizes)
        solver = StackedSolver(self, geometry, haadf_geometry, gains, haadf_gains, ratios)
        recipe, choice = self, {}
        if "auto" in (self.alpha, self.iterations):
            found = chosen_iterations(self, solver, data, haadf, binning, run)
            recipe = replace(self, alpha=found.alpha, iterations=found.iterations)
            solver = replace(solver, recipe=recipe)
            choice = {"iteration_choice": found.describe()}
        return Problem(
            recipe=recipe,
            data=data,
            haadf=haadf,
            geometry=geometry,
            channels=channels,
            arrays=arrays,
            solver=solver,
            footprint=footprint(
                (2.1, 2.1),
                len(channels),
                [(geometry, rows), (haadf_geometry, 1)],
                projectors=projectors,
                of_device=on_device,
            ),
            settings=recipe.settings
            | choice
            | {
                "ratios": ratios,
                "gains": gains,
                "haadf_gains": haadf_gains,
                "haadf_history": list(haadf.history),
            },
            iterations=int(recipe.iterations),
            tolerance=run.get("tolerance"),
            noise=noise,
            ratios=ratios,
        )


@dataclass(frozen=True, eq=False)
class StackedSolver:
    """The solver of a `HEBT` problem; it travels to workers, without the series."""

    recipe: HEBT
    geometry: TiltGeometry
    haadf_geometry: TiltGeometry
    gains: np.ndarray | None
    haadf_gains: np.ndarray | None
    ratios: np.ndarray

    def __call__(self, project: Callable, arrays: Mapping):
        """Return the iterates."""
        other = None if self.haadf_geometry == self.geometry else project(self.haadf_geometry)
        names = ("alpha", "weighting", "rest", "nonnegative", "relaxation")
        return hebt(
            project(self.geometry),
            arrays["maps"],
            arrays["haadf"],
            haadf_projector=other,
            gains=self.gains,
            haadf_gains=self.haadf_gains,
            ratios=self.ratios,
            mask=arrays["mask"],
            initial=arrays["initial"],
            **{name: getattr(self.recipe, name) for name in names},
        )
