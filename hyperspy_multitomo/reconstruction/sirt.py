# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of SIRT: a series alone, by non-negative least squares."""

from __future__ import annotations

from dataclasses import dataclass

from hyperspy_multitomo.reconstruction.keywords import StoppedRun
from hyperspy_multitomo.reconstruction.recipe import Iterated
from hyperspy_multitomo.tomography import sirt


@dataclass(frozen=True, kw_only=True)
class SIRT(Iterated):
    """Non-negative SIRT; see `reconstruct_sirt` for the parameters."""

    relaxation: float = 1.0
    nonnegative: bool = True

    name = "sirt"
    title = "SIRT"
    restarts = True
    run = StoppedRun
    usual_iterations = (100, 20)

    def solve(self, A, arrays, gains):
        """Return the iterates."""
        return sirt(
            A,
            arrays["maps"],
            gains=gains,
            mask=arrays["mask"],
            initial=arrays["initial"],
            nonnegative=self.nonnegative,
            relaxation=self.relaxation,
        )
