# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of EM: counts as recorded, with their background in the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hyperspy_multitomo.reconstruction.keywords import StoppedRun
from hyperspy_multitomo.reconstruction.recipe import Iterated
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.tomography import em


@dataclass(frozen=True, kw_only=True)
class EM(Iterated):
    """The maximum likelihood of Poisson counts; see `reconstruct_em` for the parameters."""

    background: Any = None

    name = "em"
    title = "EM"
    restarts = True
    any_start = False  # what is 0 in it stays 0
    run = StoppedRun
    usual_iterations = (50, 10)

    def solve(self, A, arrays, gains):
        """Return the iterates."""
        inputs = {name: arrays[name] for name in ("background", "mask", "initial")}
        return em(A, arrays["maps"], gains=gains, **inputs)

    def measured(self, data: TiltData) -> tuple[dict, Any]:
        """Return counts and background, and gains times the share of the window."""
        counts, background, gains = data.counts(self.background)
        return {"maps": counts, "background": background}, gains

    def described(self, data: TiltData) -> dict:
        """Return which counts were taken."""
        return {"counts": "data" if data.gross is None else "gross"}

    def more_numbers(self, arrays: Mapping, iterations: int) -> float:
        """Return the numbers of the background, as recorded and in lanes."""
        return 0 if arrays["background"] is None else 2
