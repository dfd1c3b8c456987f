# SPDX-License-Identifier: GPL-3.0-or-later
r"""Fused multi-modal tomography: the HAADF sees a power of what the maps see, and its model is linearised again and again.

    min_{x >= 0}  sum_e D(g_e W_c x_e + b, p_e) + D(g_h W_h sum_e r_e x_e^gamma + b_h, h) + lambda R(x/S)

With gamma = 1 the problem is convex, and `variational` solves it. Else sum_e r_e x_e^gamma is replaced by its tangent at the
volume of the moment, which is a term with factors per voxel and a background, and the primal-dual method goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hyperspy_multitomo.tomography.checks import checked_power
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY, VariationalIterate
from hyperspy_multitomo.tomography.primal_dual_fused import primal_dual_of
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.variational import DataTerm, Regulariser, checked_problem
from hyperspy_multitomo.tomography.variational_system import VariationalSystem

# What part of its scale a voxel has to hold for the power law to be that: its slope at 0 would be 0, and a voxel without
# an element could not gain any from the HAADF.
FOOT = 0.03
# Relative rise of the objective that is rounding.
ROUNDING = 1e-6
# Parts of the way to the primal-dual method's volume that are tried in turn.
PARTS = (1.0, 0.5, 0.25, 0.125)


def fused(
    terms: Sequence[DataTerm],
    regulariser: Regulariser,
    scales,
    *,
    power: float = 1.0,
    mask=None,
    initial=None,
    relaxation: float = 1.8,
) -> Iterator[Iterate]:
    """doc."""
    power = checked_power(power)
    system = checked_problem(terms, regulariser, scales, mask=mask, initial=initial, relaxation=relaxation)
    if len(system.terms) != 2 or system.terms[1].mix is None or system.terms[1].mix.ndim != 1:
        raise ValueError(
            "`terms` has to hold two: the maps, and the HAADF with its weights (channel,) as `mix`; see `regressed_weights`"
        )
    if power == 1:
        return iterates_of(primal_dual_of(system), True, VariationalIterate)
    return iterates_of(Relinearised(PowerLaw(system, power)), True, FusedIterate)


class PowerLaw:
    """The problem with the power law in it: its value, and its tangents, for u = x/S.

    The law is phi(u) = u (u^2 + FOOT^2)^((gamma - 1)/2), which is u^gamma but near 0; it is convex and smooth, phi(0) = 0.
    """

    def __init__(self, system: VariationalSystem, power: float):
        self.system, self.power = system, power
        self._haadf = system.terms[1]
        self._factors = (self._haadf.mix * system.scales ** np.float32(power))[:, None, None, None]

    def haadf(self, u: np.ndarray) -> np.ndarray:
        """Return the expected HAADF of u, (1, tilt, x, y)."""
        bright = u * np.power(np.square(u) + np.float32(FOOT**2), np.float32((self.power - 1) / 2))
        return self._haadf.expectations(self._haadf.A((self._factors * bright).sum(axis=0, keepdims=True)))

    def residuals(self, u: np.ndarray, w: np.ndarray | None) -> dict:
        """Return the objective, and |f - a|/|f| of the maps and of the HAADF."""
        found: dict = {"objective": self.system.strength * self.system.regulariser_value(u, w)}
        expected = self.system.project(self.system.terms[0], u), self.haadf(u)
        for term, expectations in zip(self.system.terms, expected, strict=True):
            found["objective"] += float(self.system.data_values(term, expectations).sum())
            squares = np.sum(np.square(term.difference(expectations), dtype=np.float64), axis=(1, 2, 3))
            found[term.name] = term.relative(squares)
        return found

    def tangent(self, u: np.ndarray) -> VariationalSystem:
        """Return the convex problem with the tangent at u in place of the power law; where u is 0 everywhere, its chord to u = 1."""
        term, squares = self._haadf, np.square(u) + np.float32(FOOT**2)
        scales = self.system.scales[:, None, None, None]
        if not u.any():
            return self.system.with_mix(self._factors[:, 0, 0, 0] / self.system.scales, term.background)
        curvature = np.float32(self.power - 1) * np.square(u) * np.power(squares, np.float32((self.power - 3) / 2))
        slopes = np.power(squares, np.float32((self.power - 1) / 2)) + curvature
        offset = -(self._factors * curvature * u).sum(axis=0, keepdims=True)
        return self.system.with_mix(self._factors * slopes / scales, term.expectations(term.A(offset)))


class Relinearised(Steps):
    """Primal-dual steps on tangents of the power law; its volume is the best so far, and never gets worse.

    After every tenth step the true objective is found at the volume of the primal-dual method, then at points on the way to it,
    until one is no higher than before, where the next tangent is taken. If none is, the method goes on as it is: it
    converges to the minimum with this tangent, on the way to which the true objective falls, unless it is stationary.
    """

    def __init__(self, law: PowerLaw):
        super().__init__(law.system)
        self._law = law
        u = law.system.start()
        self._solver = primal_dual_of(law.tangent(u))
        self._best = self._solver.state()[:2]
        self.measured = False
        self._objective = law.residuals(*self._best)["objective"]

    def _read(self):
        return self._best[0] * self.system.scales[:, None, None, None]

    def objective(self) -> float:
        """Return the objective of the volume."""
        return self._objective

    def cancel(self):
        """Give up the iteration that runs."""
        super().cancel()
        self._solver.cancel()

    def close(self):
        """End the threads."""
        self._solver.close()
        super().close()

    def advance(self):
        """Do one iteration."""
        self._solver.advance()
        if self._cancelled.is_set():
            return
        found = self._descend() if (self.iteration + 1) % MEASURED_EVERY == 0 else None
        with self._lock:
            self.measured = found is not None
            self._count(self.residuals if found is None else found)

    def _descend(self) -> dict | None:
        """Take the best of the way to the solver's volume that is no worse than what there is, and its tangent; or nothing."""
        ends = self._solver.state()[:2]
        for part in PARTS:
            point = tuple(None if a is None else a + np.float32(part) * (b - a) for a, b in zip(self._best, ends, strict=True))
            found = self._law.residuals(*point)
            if found["objective"] <= self._objective + ROUNDING * abs(self._objective):
                break
        else:
            return None
        with self._lock:
            self._best, self._objective = point, found["objective"]
        self._solver.go_on(self._law.tangent(point[0]), *(point if part < 1 else ()))
        return found


class FusedIterate(Iterate):
    """An iterate that knows what is minimised: with the power law in it, found at every tenth iteration."""

    @property
    def objective(self) -> float:
        """The objective of the volume."""
        return self._steps.objective()
