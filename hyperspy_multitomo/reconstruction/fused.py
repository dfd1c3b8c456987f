# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of fused tomography: few maps, and many HAADF images of a power of the elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hyperspy_multitomo.reconstruction.data_terms import TermModel
from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.recipe import Problem, project_with
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.reconstruction.values_by_element import values_by_element
from hyperspy_multitomo.reconstruction.variational import (
    SLOW_TOLERANCE,
    NamedRegulariser,
    VariationalSolver,
)
from hyperspy_multitomo.tomography import Calibration, variational
from hyperspy_multitomo.tomography import run as run_iterates
from hyperspy_multitomo.tomography.fused import fused
from hyperspy_multitomo.tomography.haadf_weights import regressed_weights, scaled_weights
from hyperspy_multitomo.tomography.input_checks import checked_power

# Iterations of the reconstruction of some slices of the maps that tells how bright the elements are
# in the HAADF.
_CHEMISTRY = 150


@dataclass(frozen=True, kw_only=True)
class Fused(NamedRegulariser):
    """Fused multi-modal tomography; see `reconstruct_fused` for the parameters."""

    power: float = 1.0
    haadf_weights: Mapping[str, float] | None = None

    name = "fused"
    title = "fused"
    haadf = "required"
    of_images = False
    tolerance = SLOW_TOLERANCE

    def __post_init__(self):
        super().__post_init__()
        if self.refit and self.power != 1:
            raise ValueError(
                f"refit=True is for power=1, and power is {self.power!r}: with another the problem "
                "has several minima; leave one of them out"
            )

    def channels(self, data: TiltData, haadf: TiltData | None = None) -> tuple[str, ...]:
        """Return the elements."""
        return data.channels

    def problem(self, data: TiltData, haadf: TiltData | None, binning: int, run: Run) -> Problem:
        """See `Recipe.problem`."""
        channels, power, relative = data.channels, checked_power(self.power), None
        if self.haadf_weights is not None:
            relative = values_by_element(self.haadf_weights, channels, "haadf_weights")
            if not relative.any():
                raise ValueError(
                    "all haadf_weights are 0; expected some above 0, how bright the elements are "
                    "relative to each other"
                )
        terms = self.terms(data, haadf, binning, run, summed=True)
        self.check_run(terms, channels, run, power)
        project, some = project_with(run), terms.some_slices
        sample = self.calibration_slices(terms)
        maps, images = terms.with_mix(np.ones(len(channels))).terms(project, some)
        flat = replace(self, dimensions=2).calibrated([maps], channels, run, kind="tv")
        chemistry = run_iterates(
            variational(flat.terms, flat.regulariser, flat.scales), _CHEMISTRY
        ).volume
        if relative is None:
            weights = regressed_weights(chemistry, maps, images, power=power)
        else:
            weights = scaled_weights(relative, chemistry, maps, images, power=power)
        # For its calibration the power law is the straight line that meets it at the range of each
        # channel.
        line = terms.with_mix(weights * flat.scales.astype(float) ** (power - 1))
        calibration = self.calibrated(line.terms(project, sample), channels, run)
        return self.problem_of(
            terms.with_mix(weights),
            channels,
            calibration,
            run,
            power=power,
            ratios=weights if power == 1 else None,
            extra={
                "regulariser": self.regulariser_name,
                "power": power,
                "relative_weights": self.haadf_weights,
                "haadf_weights": dict(zip(channels, weights.tolist(), strict=True)),
            },
        )

    @classmethod
    def settings_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that a step of a history tells."""
        return super().settings_of(step) | {"haadf_weights": step["relative_weights"]}

    @property
    def settings(self) -> dict:
        """What the history says of the parameters: all volumes are non-negative."""
        return {name: value for name, value in super().settings.items() if name != "nonnegative"}

    def solver(self, models: tuple[TermModel, ...], calibration: Calibration) -> Callable:
        """Return the solver of calibrated terms; it travels to workers."""
        solve = partial(fused, power=checked_power(self.power), support=self.support)
        return VariationalSolver(models, solve, calibration.regulariser, calibration.scales)
