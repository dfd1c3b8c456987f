# SPDX-License-Identifier: GPL-3.0-or-later
"""The primal-dual method for TV, TGV and nuclear TV, with its textbook iteration in NumPy."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.differences import (
    gradient,
    gradient_adjoint,
    stored_elements,
    symmetrised_gradient,
    symmetrised_gradient_adjoint,
)
from hyperspy_multitomo.tomography.functionals import DISCREPANCIES
from hyperspy_multitomo.tomography.iterates import Iterate
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.variational_system import VariationalSystem

# Iterations from one measurement of the objective to the next.
MEASURED_EVERY = 10


class PrimalDual(Steps[VariationalSystem]):
    """The common part of all forms: measuring, and reading the volume u.

    A form has `state()`, the arrays u, w (None for TV), p, q (None for TV) and a list s; u and w
    obey the constraints, and are not the over-relaxed ones.
    """

    refits = True

    def __init__(self, system: VariationalSystem):
        super().__init__(system)
        self.measured = False

    def state(self):
        """Return (u, w, p, q, s)."""
        raise NotImplementedError

    @property
    def linear(self) -> np.ndarray | None:
        """The linear term l of a refit, (channel, z, x, y); None in the first solve."""
        raise NotImplementedError

    def _linearise(self) -> None:
        """Make p a point of its ball, and grad^T p the linear term."""
        raise NotImplementedError

    def refit(self) -> None:
        """Turn to the second problem of Bregman's iteration, from here: see `variational_system`.

        The state stays as it is. The term is found when the next iteration begins, in its thread.
        """
        self.refitted_at = self.iteration

    def _begin(self) -> None:
        """Find the linear term, where this is the first iteration of a refit."""
        if self.refitted_at is not None and self.linear is None:
            self._linearise()

    def _state(self):
        yield from super()._state()
        if self.refitted_at is not None:
            yield "refitted at", np.array(self.refitted_at)
            if (linear := self.linear) is not None:
                yield "linear", linear

    def restore(self, state):
        """See `Steps`."""
        super().restore(state)
        self.refitted_at = int(state["refitted at"]) if "refitted at" in state else None

    def feasible(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return u and w, None for TV, that obey the constraints."""
        raise NotImplementedError

    def continue_with(
        self, system: VariationalSystem, u: np.ndarray | None = None, w: np.ndarray | None = None
    ) -> None:
        """Continue with other factors and background of the mixed term, from u and w if given."""
        raise NotImplementedError

    @property
    def signature(self):
        """See `Steps`."""
        s = self.system
        data = [list(term.data.shape) for term in s.terms]
        box = None if s.box is None else s.box.bounds
        return super().signature | {
            "kind": s.kind,
            "coupling": s.coupling,
            "dimensions": s.dimensions,
            "data": data,
            "box": box,
        }

    def _read(self):
        return self.feasible()[0]

    def objective(self) -> float:
        """Return the objective of the volume, now."""
        with self._lock:
            return self.system.objective(*self.feasible(), self.linear)

    def gap(self) -> float:
        """Return the gap of the objective to its lower bound, now: `VariationalSystem.gap`."""
        with self._lock:
            u, w, p, q, s = self.state()
            return self.system.gap(u, w, p, q, s, self.linear)


class TextbookPrimalDual(PrimalDual):
    """The over-relaxed primal-dual method in NumPy, the reference for the fused form.

    L. Condat, J. Optim. Theory Appl. 158 (2013) 460, doi:10.1007/s10957-012-0245-9, algorithm 3.2;
    A. Chambolle, T. Pock, J. Math. Imaging Vis. 40 (2011) 120. Dual variables see 2 u~ - u, and
    each variable moves by `relaxation` times its step.
    """

    def __init__(self, system: VariationalSystem):
        super().__init__(system)
        u = system.start()
        fields, channels = system.dimensions, system.channels
        matrices = stored_elements(fields)
        self._u, self._best = u, u
        self._p = np.zeros((channels, fields, *u.shape[1:]), np.float32)
        self._s = [np.zeros_like(term.data) for term in system.terms]
        self._w = self._field = self._q = self._linear = None
        if system.kind == "tgv":
            self._w = self._field = np.zeros_like(self._p)
            self._q = np.zeros((channels, matrices, *u.shape[1:]), np.float32)

    def feasible(self):
        """Return (u, w)."""
        return self._best, self._field

    def state(self):
        """Return (u, w, p, q, s)."""
        return self._best, self._field, self._p, self._q, self._s

    @property
    def linear(self):
        """See `PrimalDual`."""
        return self._linear

    def _linearise(self):
        system = self.system
        with self._lock:
            self._p = system.norm.project(self._p, np.float32(system.strength))
            if system.kind == "tgv":
                radius = np.float32(system.alpha0 * system.strength)
                self._q = system.field_norm.project(self._q, radius)
            self._linear = gradient_adjoint(self._p)

    def _arrays(self):
        fields = (
            {"w": self._w, "field": self._field, "q": self._q} if self.system.kind == "tgv" else {}
        )
        duals = {f"s {number}": s for number, s in enumerate(self._s)}
        return {"u": self._u, "best": self._best, "p": self._p} | fields | duals

    def _put(self, arrays):
        self._u, self._best, self._p = arrays["u"], arrays["best"], arrays["p"]
        if self.system.kind == "tgv":
            self._w, self._field, self._q = arrays["w"], arrays["field"], arrays["q"]
        self._s = [arrays[f"s {number}"] for number in range(len(self._s))]
        self._linear = arrays.get("linear")

    def continue_with(self, system, u=None, w=None):
        """See `PrimalDual`."""
        with self._lock:
            self.system = system
            if u is not None:
                self._u = self._best = u
                self._w = self._field = w

    def advance(self):
        """Do one iteration."""
        system, rho, tgv = (
            self.system,
            np.float32(self.system.relaxation),
            self.system.kind == "tgv",
        )
        self._begin()
        pull = gradient_adjoint(self._p)
        if self._linear is not None:
            pull -= self._linear
        for term, s in zip(system.terms, self._s, strict=True):
            system.back_project(term, s, pull)
        best = system.restricted(self._u - system.volume_steps[..., None] * pull)
        ahead = 2 * best - self._u
        slope = gradient(ahead, system.dimensions)
        w, q, field = self._w, self._q, None
        if tgv:
            field = w - np.float32(system.field_step) * (symmetrised_gradient_adjoint(q) - self._p)
            ahead_field = 2 * field - w
            slope -= ahead_field
            matrices = q + np.float32(system.matrix_step) * symmetrised_gradient(ahead_field)
            q = q + rho * (
                system.field_norm.project(matrices, np.float32(system.alpha0 * system.strength)) - q
            )
            w = w + rho * (field - w)
        nearest = system.norm.project(
            self._p + np.float32(system.gradient_step) * slope, np.float32(system.strength)
        )
        p = self._p + rho * (nearest - self._p)
        duals = []
        for term, s, sigma in zip(system.terms, self._s, system.data_steps, strict=True):
            sigma, d = sigma[..., None], term.weights[:, None, None, None]
            v = s + sigma * system.project(term, ahead)
            duals.append(
                s
                + rho
                * (DISCREPANCIES[term.discrepancy].prox_conjugate(v, term.data, d, sigma) - s)
                * term.live
            )
        if self._cancelled.is_set():
            return
        with self._lock:
            self._u, self._best = self._u + rho * (best - self._u), best
            self._w, self._field, self._p, self._q, self._s = w, field, p, q, duals
            self.measured = (self.iteration + 1) % MEASURED_EVERY == 0
            found = self.residuals
            if self.measured:
                found = system.residuals(best, field, self._linear)
            self._count(found)


class VariationalIterate(Iterate):
    """An iterate with the objective and its gap."""

    _steps: PrimalDual

    @property
    def objective(self) -> float:
        """The objective of the volume, computed now: about half the time of an iteration."""
        return self._steps.objective()

    @property
    def gap(self) -> float:
        """The gap of the objective to a lower bound, computed now in NumPy; 0 at the solution."""
        return self._steps.gap()
