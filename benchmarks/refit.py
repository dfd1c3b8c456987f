# SPDX-License-Identifier: GPL-3.0-or-later
"""What `refit=True` gains, and its unit of weight.

    python benchmarks/refit.py results.jsonl [--methods tnv hebt-tnv ...] [--levels 0.3 10]
    python benchmarks/refit.py results.jsonl --table
    python benchmarks/refit.py --grains

Simulated series of seven phantoms at 64 px x 8 slices, one seed: each method at each weight of a
grid, solved once and refitted from there. A case that the file holds already is not computed again,
so that a run can be stopped and started. `--table` prints, from the file, the best plain and the
best refitted volume of each case, and at which strength, relative to that of weight 1, each was
found: the median of their quotients is the unit of the refit. `--grains` measures the contrast of
the smallest grains of Huber's phantom, at 128 px.

The error is |x - truth|/|truth| of each element in counts per nm, mean of the elements; composition
is the rms error of the fractions of the elements within the true outline.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from regularisers import ITERATIONS, SLOW_TOLERANCE, TOLERANCE, Data, graded

from hyperspy_multitomo.simulation import Phantom, huber, schwartz, simulate, yuan, zhong
from hyperspy_multitomo.simulation.phantoms import TILTS
from hyperspy_multitomo.simulation.shapes import cap
from hyperspy_multitomo.tomography import (
    DataTerm,
    TiltGeometry,
    calibrate,
    projector,
    run,
    variational,
)
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain

SIZE, SLICES, SEED = 64, 8, 0
LEVELS = (0.3, 1.0, 3.0, 10.0)
# Strengths relative to that of weight 1: plain ones are compared up to 4, refitted ones by their
# own unit.
GRID = tuple(float(2 ** (k / 2)) for k in range(-2, 8))
# Name: kind, coupling, how the HAADF enters.
METHODS = {
    "tnv": ("tv", "nuclear", "channel"),
    "tnv-alone": ("tv", "nuclear", None),
    "tv": ("tv", "frobenius", "channel"),
    "tgv": ("tgv", "frobenius", "channel"),
    "hebt-tnv": ("tv", "nuclear", "mix"),
    "hebt-tv": ("tv", "frobenius", "mix"),
    "hebt-tgv": ("tgv", "frobenius", "mix"),
}


def film(size: int = SIZE, slices: int = SLICES) -> Phantom:
    """Return small platinum particles on a film of ceria, 60 nm wide; 5 Z^1.7-weighted HAADF."""

    def body(x, z, y):
        ceria = (np.abs(z + 0.05 * np.sin(5 * x)) < 0.16) & (np.abs(x) < 0.72)
        platinum = np.zeros(np.broadcast_shapes(x.shape, z.shape), bool)
        for number, radius in enumerate((0.13, 0.07, 0.10, 0.055, 0.09)):
            centre = -0.56 + 0.27 * number
            scale = cap(y, 6 * radius, 0.3 * (-1) ** number)
            above = z - 0.16 - 0.6 * radius + 0.05 * np.sin(5 * centre)
            platinum = platinum | (np.hypot(x - centre, above) < radius * scale)
        return np.stack([platinum, ceria & ~platinum]).astype(np.float32)

    return _two_elements("film", ("Pt", "Ce"), (78, 58), body, size, slices)


def dots(size: int = SIZE, slices: int = SLICES) -> Phantom:
    """Return four dots of selenium with shells of zinc, thick, thin, open and graded."""

    def body(x, z, y):
        selenium, zinc = (
            np.zeros(np.broadcast_shapes(x.shape, z.shape), np.float32) for _ in range(2)
        )
        places = ((-0.36, 0.33, 0.30, 0.18), (0.38, 0.30, 0.27, 0.21), (0.02, -0.40, 0.32, 0.22))
        for number, (at_x, at_z, outer, inner) in enumerate((*places, (-0.55, -0.25, 0.16, 0.10))):
            scale = cap(y, 0.95, 0.05 * number)
            offset = np.hypot(x - at_x, z - at_z)
            core = np.clip((inner * scale - offset) / (0.08 if number == 2 else 0.004), 0, 1)
            shell = (offset < outer * scale) & ~((number == 1) & (z - at_z > 0.12))
            selenium += core
            zinc += shell * (1 - core)
        return np.stack([selenium, zinc])

    return _two_elements("dots", ("Se", "Zn"), (34, 30), body, size, slices)


def _two_elements(name, elements, numbers, body, size: int, slices: int) -> Phantom:
    """Return a phantom with Z^1.7 contrast of the HAADF, 1e4 electrons per pixel at the most."""
    brightness = np.array(numbers, float) ** 1.7
    return Phantom(
        name=name,
        elements=elements,
        unit="1 (fraction of the volume)",
        size=size,
        slices=slices,
        pixel_size=60 / size,
        tilts=TILTS,
        haadf_tilts=TILTS,
        counts_per_unit=np.array([0.3, 0.3]),
        haadf_per_unit=1e4 / 30 * brightness / brightness.max(),
        blur=0.0,
        haadf_noise="poisson",
        body=body,
    )


# Those of METHODS that other benchmarks have, and two of this one alone.
PHANTOMS = {
    "zhong": zhong,
    "yuan": yuan,
    "huber": huber,
    "schwartz": schwartz,
    "graded": graded,
    "film": film,
    "dots": dots,
}


def simulated(phantom: Phantom, level: float, seed: int = SEED) -> Data:
    """Return a series with `level` counts at the peak of the element that has fewest there."""
    peaks = simulate(phantom, blur=0, seed=0).expected_maps.max(axis=(1, 2, 3))
    return Data.simulated(phantom, seed, dose=level / peaks.min())


def terms_of(data: Data, haadf: str | None) -> tuple[list[DataTerm], int]:
    """Return the data terms with the true ratios, and the number of channels."""
    terms, channels = [DataTerm(data.A, data.maps)], len(data.maps)
    if haadf is None:
        return terms, channels
    mix = data.series.true_ratios if haadf == "mix" else None
    A = projector(
        TiltGeometry(data.series.haadf_tilts, data.A.geometry.detector_width,
                     pixel_size=data.A.geometry.pixel_size)
    )  # fmt: skip
    weight = 1 / noise_equivalent_gain(data.haadf)
    first = channels if mix is None else 0
    terms.append(DataTerm(A, data.haadf[None], first, mix, weight=weight))
    return terms, channels + (mix is None)


def solutions(data: Data, method: str, grid=GRID) -> Iterator[tuple[float, list]]:
    """Yield each strength with the results of the plain and the refitted solve."""
    kind, coupling, haadf = METHODS[method]
    terms, channels = terms_of(data, haadf)
    calibration = calibrate(terms, channels, kind=kind, coupling=coupling)
    tolerance = SLOW_TOLERANCE if haadf == "mix" or kind == "tgv" else TOLERANCE
    for strength in grid:
        regulariser = replace(
            calibration.regulariser, weight=strength * calibration.regulariser.weight
        )
        iterates = variational(calibration.terms, regulariser, calibration.scales)
        plain = run(iterates, ITERATIONS, tolerance=tolerance)
        next(iterates).refit()
        yield strength, [plain, run(iterates, ITERATIONS, tolerance=tolerance)]


def errors_of(volume: np.ndarray, data: Data) -> tuple[float, float]:
    """Return the error of the volumes and that of the composition."""
    truth, per_unit = data.series.truth, data.series.phantom.counts_per_unit
    volume = volume[: len(truth)]
    squares = np.square(volume - truth).sum(axis=(1, 2, 3)) / np.square(truth).sum(axis=(1, 2, 3))
    amounts = [x / per_unit[:, None, None, None] for x in (volume, truth)]
    inside = amounts[1].sum(axis=0) > 0.5 * np.percentile(amounts[1].sum(axis=0), 99)
    fractions = [_fractions(x[:, inside]) for x in amounts]
    composition = np.sqrt(np.mean(np.square(fractions[0] - fractions[1])))
    return float(np.mean(np.sqrt(squares))), float(composition)


def _fractions(amounts: np.ndarray) -> np.ndarray:
    """Return the part of each element; equal parts where there is nothing."""
    total = amounts.sum(axis=0)
    equal = np.full_like(amounts, 1 / len(amounts))
    return np.divide(amounts, total, out=equal, where=total > 0)


def measure(path: Path, phantoms, methods, levels) -> None:
    """Add the cases that the file does not hold."""
    known = {tuple(one["case"]) for one in _cases(path)}
    for method in methods:
        for name in phantoms:
            for level in levels:
                if (name, method, level) in known:
                    continue
                start = time.process_time()
                data, rows = simulated(PHANTOMS[name](SIZE, SLICES), level), []
                for strength, results in solutions(data, method):
                    errors = [errors_of(one.volume, data) for one in results]
                    plain, refitted = results
                    counts = plain.iterations, refitted.iterations - plain.iterations - 1
                    rows.append([strength, *errors, counts])
                seconds = time.process_time() - start
                case = {"case": [name, method, level], "rows": rows, "seconds": round(seconds, 1)}
                with open(path, "a") as file:
                    file.write(json.dumps(case) + "\n")
                print(*case["case"], f"{seconds:.0f} s", flush=True)


def _cases(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(path: Path) -> None:
    """Print both sides at their best weight, and the units."""
    print("| case | volume, plain | refit | ratio | composition, plain | refit | ratio |")
    print("|---|---|---|---|---|---|---|")
    found: dict[str, list] = {}
    for one in sorted(_cases(path), key=lambda one: one["case"]):
        name, method, level = one["case"]
        strengths = np.array([row[0] for row in one["rows"]])
        plain, refitted = (np.array([row[side] for row in one["rows"]]) for side in (1, 2))
        best = [(plain[:, k].argmin(), refitted[:, k].argmin()) for k in range(2)]
        cells, ratios = [], []
        for k, (a, b) in enumerate(best):
            ratios.append(refitted[b, k] / plain[a, k])
            cells += [f"{plain[a, k]:.3f} ({strengths[a]:.2g})"]
            cells += [f"{refitted[b, k]:.3f} ({strengths[b]:.2g})", f"{ratios[-1]:.3f}"]
        print(f"| {name}, {method}, {level:g} | " + " | ".join(cells) + " |")
        iterations = np.array([row[3] for row in one["rows"]])
        # Of composition where the volume is best, too.
        a, b = best[0]
        units = [strengths[b] / strengths[a] for a, b in best]
        cost = iterations[b].sum() / iterations[b, 0]
        found.setdefault(method, []).append([*ratios, *units, cost, refitted[b, 1] / plain[a, 1]])
    print("\n| method | cases | volume: mean, worst | composition: mean, worst | at the volume's "
          "best weights | unit by volumes | by composition | iterations |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for method, rows in found.items():
        v, c, unit, unit_c, cost, there = np.array(rows).T
        units = [f"{np.median(u):.2f} ({u.min():.2f}-{u.max():.2f})" for u in (unit, unit_c)]
        means = [f"{x.mean():.3f}, {x.max():.3f}" for x in (v, c, there)]
        cells = [str(len(rows)), *means, *units, f"{cost.mean():.2f}"]
        print(f"| {method} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description="what a refit gains")
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--phantoms", nargs="+", default=list(PHANTOMS))
    parser.add_argument("--methods", nargs="+", default=["tnv"])
    parser.add_argument("--levels", nargs="+", type=float, default=LEVELS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        table(options.file)
    else:
        measure(options.file, options.phantoms, options.methods, options.levels)


if __name__ == "__main__":
    main()
