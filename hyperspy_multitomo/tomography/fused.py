# SPDX-License-Identifier: GPL-3.0-or-later
r"""Fused multi-modal tomography of few maps and many HAADF images, with a power law.

    min_{x >= 0}  sum_e D(g_e W_c x_e + b, p_e) + D(g_h W_h sum_e r_e x_e^gamma + b_h, h)
                  + lambda R(x/S)

With gamma = 1 this is convex, and a problem of `variational` as it stands. Otherwise the power law
is replaced by its tangent at the current volume, a sum with factors per voxel and a background, and
after some iterations by the next tangent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from hyperspy_multitomo.tomography.em import LEAST
from hyperspy_multitomo.tomography.forms import primal_dual_of
from hyperspy_multitomo.tomography.input_checks import checked_power
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY, VariationalIterate
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.support import supported
from hyperspy_multitomo.tomography.variational import DataTerm, Regulariser, checked_problem
from hyperspy_multitomo.tomography.variational_system import VariationalSystem

# u = x/S below which the power law becomes a straight line: its slope would be 0 at 0, and the
# HAADF could not fill an empty voxel. tests/test_fused.py and benchmarks/fused.py hold the results.
FOOT = 0.03
# Relative rise of the objective that rounding in single precision explains.
ROUNDING = 1e-6
# Fractions of the way to the solver's volume that are tried in turn.
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
    support: bool = False,
) -> Iterator[Iterate]:
    """Reconstruct the elements from few maps and many HAADF images, with a regulariser.

    Minimise over x >= 0::

        sum_e D(g_e W_c x_e + b, p_e) + D(g_h W_h sum_e r_e x_e^gamma + b_h, h) + lambda R(x/S)

    Every element keeps the scale of its own counts: none is normalised.

    Parameters
    ----------
    terms : sequence of DataTerm
        Two: the maps p, and the HAADF h with the weights r (channel,) as its `mix`, in HAADF signal
        per unit length and (counts per unit length)^gamma, from `regressed_weights` or
        `scaled_weights`; for gamma = 1 the response ratios. Their tilts may differ.
    regulariser : Regulariser
        Kind and weight of R, from `calibrate`, as the weights of the terms and the scales. In the
        calibration the HAADF's `mix` is r S^(gamma - 1), the factors of the straight line that
        meets the power law at x = S.
    scales : array_like (channel,)
        S: range of each channel, counts per unit length.
    power : float, default 1.0
        gamma, from 1 to 2.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start x, shape of the volume. With a power the reconstruction of the maps alone saves half
        of the iterations; the default is 0.
    relaxation : float, default 1.8
        Over-relaxation, between 0 and 2.
    support : bool, default False
        As in `variational`.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end, with
        `objective` on request, and for power 1 `gap`. Every tenth one measures `residuals`, as
        those of `variational` do.

    Raises
    ------
    ValueError, TypeError
        If the terms are not those of maps and of a HAADF with weights, shapes do not fit, counts
        are negative or values are not finite, at the call.

    Notes
    -----
    The cost is that of J. Schwartz et al., Nat. Commun. 15 (2024) 3555,
    doi:10.1038/s41467-024-47558-0, with coupled channels; with `discrepancy="ls"` for the HAADF it
    has their square. Their weights Z^gamma/sum Z^gamma take all elements for scaled to a range of
    1, which loses the composition; x is in counts here, so that r has to be measured.

    For gamma = 1 any start leads to a minimum. For gamma > 1 the problem is not convex: the volume
    is that of the lowest objective found so far, at every tenth iteration, on the way to a
    stationary point that depends on the start. The brightness of x far below S/30 is proportional
    to x.

    A power is for elements that get brighter faster than their counts grow. On simulated particles,
    of one composition each and of gradual ones, it matters little: with weights regressed for it a
    power of 1.6 costs or gains some percent of the error, whether the images were made with it or
    not. What matters is that no bright element lacks its maps, as the others take over its
    brightness.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import (
    ...     DataTerm, Regulariser, TiltGeometry, fused, projector, run, variational
    ... )
    >>> few = projector(TiltGeometry(range(-70, 71, 35), detector_width=24))
    >>> many = projector(TiltGeometry(range(-70, 71, 10), detector_width=24))
    >>> truth = np.zeros((2, 24, 24, 2))
    >>> truth[0, 8:16, 8:12], truth[1, 8:16, 12:16] = 2.0, 1.0
    >>> haadf = 9 * many(truth[0]) + 5 * many(truth[1])
    >>> maps = DataTerm(few, np.random.default_rng(0).poisson(few(truth)))
    >>> images = DataTerm(many, haadf, mix=[9.0, 5.0])
    >>> regulariser, scales = Regulariser(1.0, dimensions=2), [2.0, 1.0]
    >>> alone = run(variational([maps], regulariser, scales), 200).volume
    >>> both = run(fused([maps, images], regulariser, scales, initial=alone), 200).volume
    >>> bool(np.abs(both - truth).sum() < np.abs(alone - truth).sum() / 2)
    True
    """
    power = checked_power(power)
    system = checked_problem(
        terms, regulariser, scales, mask=mask, initial=initial, relaxation=relaxation
    )
    if len(system.terms) != 2 or system.terms[1].mix is None or system.terms[1].mix.ndim != 1:
        raise ValueError(
            "`terms` has to hold two, the maps, and the HAADF with its weights (channel,) as "
            "`mix`; see `regressed_weights`"
        )
    if support:
        shown = system if power == 1 else PowerLaw(system, power).tangent(np.zeros(1, np.float32))
        system = supported(system, shown)
    if power == 1:
        return iterates_of(primal_dual_of(system), True, VariationalIterate)
    return iterates_of(Relinearised(PowerLaw(system, power)), True, FusedIterate)


class PowerLaw:
    """The problem with the power law in it, for u = x/S: its value, and its tangents.

    The law is phi(u) = u (u^2 + FOOT^2)^((gamma - 1)/2), convex and smooth.
    """

    def __init__(self, system: VariationalSystem, power: float):
        self.system, self.power = system, power
        self._haadf = system.terms[1]
        weights = cast(np.ndarray, self._haadf.mix)  # `fused` has checked that it is there
        self._factors = (weights * system.scales ** np.float32(power))[:, None, None, None]

    def _raised(self, u: np.ndarray, power: float) -> np.ndarray:
        return np.power(np.square(u) + np.float32(FOOT**2), np.float32(power / 2))

    def haadf(self, u: np.ndarray) -> np.ndarray:
        """Return the expected HAADF of u, (1, tilt, x, y)."""
        brightness = self._factors * u * self._raised(u, self.power - 1)
        return self._haadf.expectations(self._haadf.A(brightness.sum(axis=0, keepdims=True)))

    def residuals(self, u: np.ndarray, w: np.ndarray | None) -> dict:
        """Return the objective, and |f - a|/|f| of the maps and of the HAADF.

        No expectation a of a count is taken to be below `LEAST`.
        """
        maps, haadf = self.system.terms
        found: dict = self.system.of_variation(*self.system.variation(u, w))
        for term, expected in ((maps, self.system.project(maps, u)), (haadf, self.haadf(u))):
            seen = np.maximum(expected, LEAST) if term.discrepancy == "kl" else expected
            found["objective"] += float(self.system.data_values(term, seen).sum())
            found[term.name] = term.relative(
                np.sum(np.square(term.difference(expected), dtype=np.float64), axis=(1, 2, 3))
            )
        found["objective"] *= self.system.energy
        return found

    def tangent(self, u: np.ndarray) -> VariationalSystem:
        """Return the problem with the tangent of the law at u.

        For an empty u it is the straight line that meets the law at 1.
        """
        haadf, scales = self._haadf, self.system.scales[:, None, None, None]
        if not u.any():
            return self.system.with_mix((self._factors / scales)[:, 0, 0, 0], haadf.background)
        bend = np.float32(self.power - 1) * np.square(u) * self._raised(u, self.power - 3)
        slopes = self._factors * (self._raised(u, self.power - 1) + bend)
        at_zero = -(self._factors * bend * u).sum(axis=0, keepdims=True)
        return self.system.with_mix(slopes / scales, haadf.expectations(haadf.A(at_zero)))


class Relinearised(Steps[VariationalSystem]):
    """Primal-dual steps on tangents of the power law. The volume is the best so far.

    At every tenth step the true objective is computed at the solver's point, then at points on the
    way to it, until it is no higher than before: the next tangent is taken there, and the dual
    variables stay. If it is higher all along the way, the solver continues with the same tangent.
    It converges to the minimum of the problem with that tangent, and on the way there, short of a
    stationary point, the true objective falls.
    """

    def __init__(self, law: PowerLaw):
        super().__init__(law.system)
        self._law = law
        self._solver = primal_dual_of(law.tangent(law.system.start()))
        self._best = self._solver.feasible()
        self._objective = law.residuals(*self._best)["objective"]
        self.measured = False

    def _read(self):
        return self._best[0]

    def objective(self) -> float:
        """Return the objective of the volume."""
        return self._objective

    def cancel(self):
        """Ask an iteration under way to end soon."""
        super().cancel()
        self._solver.cancel()

    def close(self):
        """Let go of the threads; the volume stays."""
        self._solver.close()
        super().close()

    @property
    def signature(self):
        """See `Steps`."""
        return self._solver.signature | {"power": self._law.power}

    def _arrays(self):
        """Yield the best point, its objective, and the solver's state.

        The tangent is that at the best point.
        """
        yield "objective", np.array(self._objective)
        for name, array in zip(("best u", "best w"), self._best, strict=True):
            if array is not None:
                yield name, array
        with self._solver.frozen() as state:
            for name, array in state:
                yield f"solver {name}", array
                del array

    def _put(self, arrays):
        u = arrays["best u"]
        self._objective, self._best = float(arrays["objective"]), (u, arrays.get("best w"))
        self._solver.continue_with(self._law.tangent(u))
        self._solver.restore(_WithoutPrefix("solver ", arrays))

    def advance(self):
        """Do one iteration."""
        if (
            self._solver.iteration == self.iteration
        ):  # else the solver did it before this was cancelled
            self._solver.advance()
        if self._cancelled.is_set():
            return
        measured = (self.iteration + 1) % MEASURED_EVERY == 0
        point, found, next_problem = self._lower() if measured else (None, None, None)
        with self._lock:
            self.measured = found is not None
            if found is not None:
                self._best, self._objective = point, found["objective"]
                self._solver.continue_with(*next_problem)
            self._count(self.residuals if found is None else found)

    def _lower(self):
        """Return a point (u, w) no higher than the best, its residuals, and the next problem.

        They are None if there is no such point.
        """
        highest = self._objective + ROUNDING * abs(self._objective)
        ends = self._solver.feasible()
        for part in PARTS:
            point = tuple(_between(*pair, part) for pair in zip(self._best, ends, strict=True))
            found = self._law.residuals(*point)
            if found["objective"] <= highest:
                return point, found, (self._law.tangent(point[0]), *(point if part < 1 else ()))
        return None, None, None


class _WithoutPrefix(Mapping):
    """The entries of a mapping whose names have a prefix, by their names without it."""

    def __init__(self, prefix: str, entries: Mapping):
        self._prefix, self._entries = prefix, entries

    def __getitem__(self, name):
        return self._entries[self._prefix + name]

    def __iter__(self):
        names = (name for name in self._entries if name.startswith(self._prefix))
        return (name.removeprefix(self._prefix) for name in names)

    def __len__(self):
        return sum(1 for _ in self)


def _between(start: np.ndarray | None, end: np.ndarray | None, part: float) -> np.ndarray | None:
    """Return the array at a fraction of the way from one to another; None for None."""
    return end if end is None or part == 1 else start + np.float32(part) * (end - start)


class FusedIterate(Iterate):
    """An iterate with the objective."""

    _steps: Relinearised

    @property
    def objective(self) -> float:
        """The objective of the volume, with the power law in it."""
        return self._steps.objective()
