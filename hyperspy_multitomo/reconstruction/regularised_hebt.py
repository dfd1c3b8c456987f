# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of HEBT with a regulariser: maps and HAADF, joined by ratios, weigh by their noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.recipe import Problem, project_with
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.reconstruction.values_by_element import values_by_element
from hyperspy_multitomo.reconstruction.variational import SLOW_TOLERANCE, NamedRegulariser


@dataclass(frozen=True, kw_only=True)
class RegularisedHEBT(NamedRegulariser):
    """See `reconstruct_hebt` for the parameters; its recipe for both forms is `HEBT`."""

    ratios: Any = None
    rest: bool = False

    name = "hebt"
    title = "HEBT"
    haadf = "required"
    of_images = False
    tolerance = SLOW_TOLERANCE

    def channels(self, data: TiltData, haadf: TiltData | None = None) -> tuple[str, ...]:
        """Return the elements, and ``"rest"`` where it is asked for."""
        return (*data.channels, "rest") if self.rest else data.channels

    def problem(self, data: TiltData, haadf: TiltData | None, binning: int, run: Run) -> Problem:
        """See `Recipe.problem`."""
        channels, ratios = self.channels(data), values_by_element(self.ratios, data.channels)
        if not ratios.any():
            raise ValueError(
                "all response ratios are 0, so that the HAADF says nothing of the elements; pass "
                "others, or use reconstruct_tv(haadf), which shares only its edges with them"
            )
        if run.get("tolerance") is None:
            run = {**run, "tolerance": self.tolerance}
        terms = self.terms(data, haadf, binning, run, summed=True)
        self.check_run(terms, channels, run)
        sample = self.calibration_slices(terms)
        terms = terms.with_mix(ratios)
        calibration = self.calibrated(terms.terms(project_with(run), sample), data.channels, run)
        if self.rest:  # which has no data of its own to tell its range
            scales = calibration.scales
            calibration = replace(calibration, scales=np.append(scales, (scales * ratios).max()))
            terms = terms.with_mix(np.append(ratios, 1.0))
        return self.problem_of(
            terms,
            channels,
            calibration,
            run,
            ratios=ratios,
            extra={"regulariser": self.regulariser_name, "ratios": ratios},
        )
