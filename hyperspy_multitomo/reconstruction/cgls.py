# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of CGLS: least squares without constraints, in few iterations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hyperspy_multitomo.reconstruction.keywords import StoppedRun
from hyperspy_multitomo.reconstruction.recipe import Iterated
from hyperspy_multitomo.tomography import cgls


@dataclass(frozen=True, kw_only=True)
class CGLS(Iterated):
    """Conjugate gradients; see `reconstruct_cgls` for the parameters."""

    name = "cgls"
    title = "CGLS"
    run = StoppedRun
    usual_iterations = (7, 2)
    numbers = (4.1, 2.1)
    matched = True
    on_device = False  # it takes a device for its projections alone

    def solve(self, A, arrays, gains):
        """Return the iterates."""
        inputs = {name: arrays[name] for name in ("mask", "initial")}
        return cgls(A, arrays["maps"], gains=gains, **inputs)

    def more_numbers(self, arrays: Mapping, iterations: int) -> float:
        """Return the numbers of its basis of rays, one more with each iteration."""
        return iterations
