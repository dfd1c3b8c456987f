# SPDX-License-Identifier: GPL-3.0-or-later
"""Fused tomography: the gain of coupling, of the HAADF and of its power.

    python benchmarks/fused.py

A phantom of CoO, CuO and gold (`simulation.schwartz`): maps at 9 tilts with 5 counts at the peak,
HAADF at 47 tilts with 1e4 electrons. Several exposures of the section are reconstructed side by
side as slices in two dimensions, which share only the calibration and the weights of the HAADF. The
figures are sqrt(mean (x - truth)^2)/std(truth), without rescaling: the mean of the elements with
its scatter over the exposures, and each element.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from hyperspy_multitomo.inspection.metrics import nrmse
from hyperspy_multitomo.simulation import schwartz, simulate
from hyperspy_multitomo.simulation.shapes import rotated
from hyperspy_multitomo.tomography import (
    DataTerm,
    TiltGeometry,
    calibrate,
    fused,
    projector,
    regressed_weights,
    run,
    scaled_weights,
    sirt,
    variational,
)

ITERATIONS = 300
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
SIRT_STOPS = (5, 10, 20, 40)
# Name: kind, coupling.
REGULARISERS = {
    "TV, each element alone": ("tv", "uncoupled"),
    "TV": ("tv", "frobenius"),
    "TGV": ("tgv", "frobenius"),
    "nuclear TV": ("tv", "nuclear"),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A phantom and its series."""

    phantom: object
    exposures: int
    tilts: np.ndarray | None = None
    electrons: float = 1.0
    haadf_power: float = 1.0
    dead: int | None = None

    @cached_property
    def series(self):
        """Maps and HAADF of all exposures, and their projectors."""
        p = self.phantom
        seen = replace(p, haadf_per_unit=p.haadf_per_unit * self.electrons)
        exposures = [
            simulate(seen, self.tilts, p.haadf_tilts, seed=seed) for seed in range(self.exposures)
        ]
        images = exposures
        if self.haadf_power != 1:
            raised = replace(seen, body=lambda x, z, y: p.body(x, z, y) ** self.haadf_power)
            images = [
                simulate(raised, self.tilts, p.haadf_tilts, seed=seed)
                for seed in range(self.exposures)
            ]
        maps = np.concatenate([one.maps for one in exposures], axis=-1)
        if self.dead is not None:
            maps[self.dead] = 0
        grids = (
            TiltGeometry(tilts, p.size, pixel_size=p.pixel_size)
            for tilts in (exposures[0].tilts, p.haadf_tilts)
        )
        return maps, np.concatenate([one.haadf for one in images], axis=-1), *map(projector, grids)


def graded():
    """Return the phantom with a gradient from Co to Cu in all oxides, across the field."""
    body = schwartz().body

    def mixed(x, z, y):
        _, _, oxygen, gold = body(x, z, y)
        part = np.clip(0.5 + 0.7 * rotated(x, z, 20, (0, 0))[0], 0, 1).astype(np.float32)
        return np.stack([part * oxygen, (1 - part) * oxygen, oxygen, gold])

    return replace(schwartz(), body=mixed)


def invisible_oxygen():
    """Return the phantom with a HAADF that does not see the oxygen."""
    phantom = schwartz()
    return replace(phantom, haadf_per_unit=phantom.haadf_per_unit * [1, 1, 0, 1])


@cache
def alone(case: Case, **shape):
    """Return the calibration and the volume of the maps alone."""
    counts, _, A, _ = case.series
    calibration = calibrate([DataTerm(A, counts)], len(counts), **shape)
    return calibration, run(
        variational(calibration.terms, calibration.regulariser, calibration.scales), ITERATIONS
    ).volume


def reconstructed(
    case: Case, *, kind="tv", coupling="frobenius", weight=1.0, haadf=None, power=1.0, dimensions=2
):
    """Return the volume of the elements.

    `haadf` is None, "channel" for one more channel, or the source of the weights: "true",
    "regressed" or "scaled".
    """
    counts, images, A, B = case.series
    channels, maps = len(counts), DataTerm(A, counts)
    shape = {"kind": kind, "coupling": coupling, "weight": weight, "dimensions": dimensions}
    calibration, volume = alone(case, **shape)
    if haadf is None:
        return volume
    if haadf == "channel":
        both = calibrate([maps, DataTerm(B, images, first=channels)], channels + 1, **shape)
        return run(variational(both.terms, both.regulariser, both.scales), ITERATIONS).volume[
            :channels
        ]
    electrons, ranges = DataTerm(B, images), calibration.scales.astype(float)
    # Response ratios are known for full voxels, whose brightness does not depend on the power; they
    # have the truth's largest value.
    full = case.phantom.counts_per_nm.max(axis=(1, 2, 3))
    ratios = case.phantom.ratios * case.electrons * full ** (1 - power)
    if haadf == "regressed":
        ratios = regressed_weights(volume, maps, electrons, power=power)
    elif haadf == "scaled":
        ratios = scaled_weights(ratios, volume, maps, electrons, power=power)
    both = calibrate(
        [maps, replace(electrons, mix=ratios * ranges ** (power - 1))], channels, **shape
    )
    terms = both.terms[0], replace(both.terms[1], mix=ratios)
    return run(
        fused(terms, both.regulariser, both.scales, power=power, initial=volume), ITERATIONS
    ).volume


def errors(volume: np.ndarray, case: Case) -> np.ndarray:
    """Return the error of each element and exposure, (exposure, channel); NaN without counts."""
    truth = case.phantom.counts_per_nm
    exposures = np.split(volume, volume.shape[-1] // truth.shape[-1], axis=-1)
    errors = np.array([[nrmse(x, t) for x, t in zip(one, truth, strict=True)] for one in exposures])
    if case.dead is not None:
        errors[:, case.dead] = np.nan
    return errors


def row(name: str, case: Case, **settings) -> None:
    """Print a row of the mean error, its scatter over the exposures, and those of the elements."""
    print_row(name, errors(reconstructed(case, **settings), case))


def print_row(name: str, errors: np.ndarray) -> None:
    """Print a row of errors (exposure, channel)."""
    means = np.nanmean(errors, axis=1)
    cells = " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in errors.mean(axis=0))
    print(f"| {name} | {means.mean():.3f} ± {means.std():.3f} | {cells} |", flush=True)


def head(title: str, case: Case) -> None:
    """Print the head of a table."""
    elements = case.phantom.elements
    print(f"\n| {title} | mean | {' | '.join(elements)} |\n|{'---|' * (2 + len(elements))}")


def smoothness(case: Case) -> None:
    """Print the errors along the weights of the regulariser."""
    print(
        "| weight | TV alone | fused, true weights | fused, regressed | over TV alone "
        "|\n|---|---|---|---|---|"
    )
    for weight in WEIGHTS:
        maps, true, regressed = (
            errors(reconstructed(case, weight=weight, haadf=haadf), case).mean()
            for haadf in (None, "true", "regressed")
        )
        print(
            f"| {weight:g} | {maps:.3f} | {true:.3f} | {regressed:.3f} | {regressed / maps:.2f} |",
            flush=True,
        )


def parts(case: Case) -> None:
    """Print what coupling, fusion and power give."""
    head("weight 1", case)
    counts, _, A, _ = case.series
    stops = [errors(run(sirt(A, counts), stop).volume, case) for stop in SIRT_STOPS]
    print_row("SIRT, best number of iterations", min(stops, key=np.mean))
    for name, (kind, coupling) in REGULARISERS.items():
        shape = {"kind": kind, "coupling": coupling}
        row(f"{name}, maps alone", case, **shape)
        if coupling != "uncoupled":
            row(f"{name}, HAADF as a channel", case, haadf="channel", **shape)
        row(f"{name}, fused, true weights", case, haadf="true", **shape)
        row(f"{name}, fused, regressed weights", case, haadf="regressed", **shape)
    row("TV, fused, relative weights known", case, haadf="scaled")
    for power in (1.3, 1.6, 2.0):
        for haadf in ("true", "regressed"):
            row(f"TV, fused, {haadf} weights, power {power}", case, haadf=haadf, power=power)


def extremes(exposures: int) -> None:
    """Print TV alone and fused (regressed weights) for worse data and a violated model."""
    plain = schwartz()
    cases = {
        "5 tilts of maps": Case(plain, exposures, np.linspace(-70, 70, 5)),
        "3 tilts of maps": Case(plain, exposures, np.linspace(-70, 70, 3)),
        "HAADF of 100 electrons": Case(plain, exposures, electrons=0.01),
        "oxygen invisible in the HAADF": Case(invisible_oxygen(), exposures),
        "no counts of O": Case(plain, exposures, dead=2),
        "no counts of Au": Case(plain, exposures, dead=3),
        "Co and Cu mixed": Case(graded(), exposures),
        "Co and Cu mixed, HAADF of power 1.6": Case(graded(), exposures, haadf_power=1.6),
    }
    head("TV, weight 1", cases["Co and Cu mixed"])
    for name, case in cases.items():
        row(f"{name}: maps alone", case)
        row(f"{name}: fused", case, haadf="regressed")
        if "mixed" in name:
            row(f"{name}: fused, power 1.6", case, haadf="regressed", power=1.6)
    thick = Case(schwartz(slices=8), 1)
    row("8 slices: maps alone, 3-D", thick, dimensions=3)
    row("8 slices: fused, 3-D", thick, dimensions=3, haadf="regressed")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="what coupling, the HAADF and its power give")
    parser.add_argument("--exposures", type=int, default=8, help="draws of noise (default 8)")
    exposures = parser.parse_args().exposures
    warnings.simplefilter("ignore", UserWarning)
    case = Case(schwartz(), exposures)
    smoothness(case)
    parts(case)
    extremes(exposures)


if __name__ == "__main__":
    main()
