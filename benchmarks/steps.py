# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterations of the primal-dual method with our step sizes and with the published rule.

    python benchmarks/steps.py

Our constants were tuned on the phantoms of Zhong and Huber; by default the table is of the others.
Counted are the iterations until the objective F stays within 1e-2 and 1e-3 of its minimum F*, the
lowest value of a long run, and those until the default tolerance, with the F reached. "Paper" is R.
Huber et al., Nanoscale 11 (2019) 5617: sigma = tau = 1/sqrt(17) for data scaled to 1 and a
projector scaled to norm 1, no over-relaxation.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from hyperspy_multitomo.simulation import phantoms, simulate
from hyperspy_multitomo.tomography import DataTerm, TiltGeometry, calibrate, projector
from hyperspy_multitomo.tomography.cpu.primal_dual_fused import primal_dual_of
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY
from hyperspy_multitomo.tomography.stopping import StoppingRule
from hyperspy_multitomo.tomography.variational import checked_problem
from hyperspy_multitomo.tomography.variational_system import VariationalSystem

# Kind, coupling, dimensions, statistics, and the use of the HAADF.
CASES = {
    "TV of the maps": ("tv", "frobenius", 3, "kl", None),
    "TV, least squares": ("tv", "frobenius", 3, "ls", "channel"),
    "TV with the HAADF": ("tv", "frobenius", 3, "kl", "channel"),
    "TV with the HAADF as a sum": ("tv", "frobenius", 3, "kl", "sum"),
    "TGV of the maps, 2-D, uncoupled": ("tgv", "uncoupled", 2, "kl", None),
    "TGV with the HAADF": ("tgv", "frobenius", 3, "kl", "channel"),
    "nuclear TV with the HAADF": ("tv", "nuclear", 3, "kl", "channel"),
}
WEIGHTS = (0.25, 1.0, 4.0)
GAPS = (1e-2, 1e-3)
ELECTRONS = 1e4  # noise-equivalent, of the brightest HAADF pixels: 1 % of noise
TOLERANCE = 1e-4  # that of the methods of the signals


@dataclass(frozen=True)
class PaperSystem(VariationalSystem):
    """The same problem with the step sizes of the paper.

    Its volume is v = k u, with the one k that gives no row S_c W/(k max f) a norm above 1. Divided
    by lambda/k the objective is that of the paper in v, and its steps 1/sqrt(17) are the ones below
    in u, p and s.
    """

    @cached_property
    def _unit(self) -> float:
        """The factor k."""
        rows = []
        for term in self.terms:
            for row, largest in enumerate(term.data.max(axis=(1, 2, 3))):
                mixed = term.mix is not None
                factor = (
                    np.linalg.norm(self.scales * term.mix)
                    if mixed
                    else self.scales[term.first + row]
                )
                rows.append(factor * term.gains[row].max() * term.A.norm() / largest)
        return float(max(rows))

    @property
    def data_steps(self):
        """Step sizes of the rays, lambda sigma/(k max f^2)."""

        def steps(term):
            sigma = self.strength / (np.sqrt(17) * self._unit * term.data.max(axis=(1, 2, 3)) ** 2)
            return np.broadcast_to(sigma[:, None, None], (term.rows, *term.A.range_shape)).astype(
                np.float32
            )

        return [steps(term) for term in self.terms]

    @property
    def volume_steps(self):
        """Step size of u: that of the field."""
        return np.full((self.channels, *self.A.domain_shape), self.field_step, np.float32)

    @property
    def gradient_step(self):
        """Step size of p, k lambda sigma."""
        return self._unit * self.strength / np.sqrt(17)

    @property
    def field_step(self):
        """Step size of w, tau/(k lambda)."""
        return 1 / (self._unit * self.strength * np.sqrt(17))

    @property
    def matrix_step(self):
        """Step size of q: that of p."""
        return self.gradient_step


def problem(name: str, case: str, size: int, slices: int) -> VariationalSystem:
    """Return a case of a phantom at weight 1."""
    kind, coupling, dimensions, discrepancy, haadf = CASES[case]
    series = simulate(
        getattr(phantoms, name)(size, slices), seed=0, blur=0, haadf_noise="poisson", oversampling=2
    )
    A, haadf_A = (
        projector(TiltGeometry(tilts, size, pixel_size=series.pixel_size))
        for tilts in (series.tilts, series.haadf_tilts)
    )
    channels = len(series.elements)
    weight = 1.0 if discrepancy == "kl" else 1 / series.maps.mean(axis=(1, 2, 3))
    terms = [DataTerm(A, series.maps, discrepancy=discrepancy, weight=weight)]
    if haadf is not None:
        weight = min(1.0, ELECTRONS / np.percentile(series.haadf, 99.5))
        if discrepancy == "ls":
            weight /= series.haadf.mean()
        where = dict(mix=series.true_ratios) if haadf == "sum" else dict(first=channels)
        terms.append(
            DataTerm(haadf_A, series.haadf, discrepancy=discrepancy, weight=weight, **where)
        )
        channels += haadf == "channel"
    calibration = calibrate(terms, channels, kind=kind, coupling=coupling, dimensions=dimensions)
    return checked_problem(
        calibration.terms,
        calibration.regulariser,
        calibration.scales,
        mask=None,
        initial=None,
        relaxation=1.8,
    )


def objectives(system: VariationalSystem, most: int, enough: float = -np.inf) -> np.ndarray:
    """Return the objective after every tenth iteration, up to `most` or the first at `enough`."""
    steps, values = primal_dual_of(system), []
    while steps.iteration < most and not (values and values[-1] <= enough):
        steps.advance()
        if steps.measured:
            values.append(steps.residuals["objective"])
    steps.close()
    return np.array(values)


def reached(curve: np.ndarray, level: float) -> int | None:
    """Return the iterations after which the objective stays at or below a level, or None."""
    above = np.flatnonzero(curve > level)
    first = above[-1] + 1 if above.size else 0
    return MEASURED_EVERY * (first + 1) if first < curve.size else None


def stopped(curve: np.ndarray) -> int:
    """Return the measurement at which the tolerance ends a run."""
    rule, history = StoppingRule(TOLERANCE), []
    for number, objective in enumerate(curve):
        history.append({"objective": objective})
        if rule.reached(None, history):
            return number
    return curve.size - 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="iterations of the primal-dual method by its step sizes"
    )
    parser.add_argument(
        "--phantoms",
        nargs="*",
        default=["yuan", "schwartz"],
        choices=["zhong", "yuan", "huber", "schwartz"],
    )
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument(
        "--most",
        type=int,
        default=1000,
        help="iterations with the paper's rule; ours takes twice as many",
    )
    arguments = parser.parse_args()
    print(
        f"{arguments.size}^2 x {arguments.slices}; iterations until F stays within 1e-2 / 1e-3 of "
        "F*; > where more than done\n"
    )
    print("| phantom | method | weight | ours | paper | fewer | stops at | (F - F*)/F* there |")
    print("|" + 8 * "---|")
    ratios, ends = [], []
    for name in arguments.phantoms:
        for case in arguments.cases:
            unit = problem(name, case, arguments.size, arguments.slices)
            for weight in WEIGHTS:
                system = replace(unit, strength=weight * unit.strength)
                values = {field.name: getattr(system, field.name) for field in fields(system)}
                ours = objectives(system, 2 * arguments.most)
                paper = objectives(
                    PaperSystem(**values | {"relaxation": 1.0}),
                    arguments.most,
                    (1 + GAPS[1]) * ours.min(),
                )
                lowest = min(ours.min(), paper.min())
                counts = [
                    [reached(curve, (1 + gap) * lowest) for gap in GAPS] for curve in (ours, paper)
                ]
                ratio = (counts[1][0] or arguments.most) / counts[0][0]
                fewer = f"{ratio:.1f}" if counts[1][0] else f"> {ratio:.1f}"
                end = stopped(ours)
                ratios.append(ratio)
                ends.append(ours[end] / lowest - 1)
                texts = [
                    " / ".join(f"> {arguments.most}" if n is None else str(n) for n in pair)
                    for pair in counts
                ]
                row = (
                    name,
                    case,
                    f"{weight:g}",
                    *texts,
                    fewer,
                    MEASURED_EVERY * (end + 1),
                    f"{ends[-1]:.1e}",
                )
                print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(
        f"\nfewer iterations to 1e-2: {min(ratios):.1f} times at least, {np.median(ratios):.1f} in "
        "the median"
    )
    print(
        f"F above F* at the end by a tolerance of {TOLERANCE:g}: {np.median(ends):.1e} in the "
        f"median, {max(ends):.1e} at most"
    )


if __name__ == "__main__":
    main()
