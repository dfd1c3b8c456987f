# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of filtered back projection: done at once, without iterations."""

from __future__ import annotations

from dataclasses import dataclass

from hyperspy_multitomo.reconstruction.keywords import DirectRun
from hyperspy_multitomo.reconstruction.recipe import SingleSeries
from hyperspy_multitomo.tomography import fbp


@dataclass(frozen=True, kw_only=True)
class FBP(SingleSeries):
    """Filtered back projection; see `reconstruct_fbp` for the parameters."""

    filter: str = "ramp"
    cutoff: float = 1.0

    name = "fbp"
    title = "FBP"
    direct = True
    run = DirectRun
    numbers = (1.1, 2.1)

    def solve(self, A, arrays, gains):
        """Return the volume."""
        return fbp(A, arrays["maps"], filter=self.filter, cutoff=self.cutoff, gains=gains)
