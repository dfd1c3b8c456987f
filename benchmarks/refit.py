# SPDX-License-Identifier: GPL-3.0-or-later
"""What `refit=True` gains, and its unit of weight.

    python benchmarks/refit.py results.jsonl [--methods tnv hebt-tnv ...] [--levels 0.3 10]
    python benchmarks/refit.py results.jsonl --table
    python benchmarks/refit.py --grains

Simulated series of seven phantoms at 64 px x 8 slices, one seed: each method at each weight of a
grid, plain and refitted, with the methods' iterations and tolerances. A case that the file holds
already is not computed again, so that a run can be stopped and started. `--table` prints, from the
file, both sides at their best weights, in brackets; the quotient of these weights says how well the
unit of the refit is that of the plain methods. `--grains` measures the contrast of the small grains
of Huber's phantom, at 128 px x 24 slices, at weights from 0.7 to 1.4.

The error is |x - truth|/|truth| of each element in counts per nm, mean of the elements; composition
is the rms error of the fractions of the elements within the true outline. Counts per pixel are
those at the peak of the element that has fewest there. The HAADF has electrons as its phantom says,
and true response ratios.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from regularisers import ITERATIONS, SLOW_TOLERANCE, TOLERANCE, Data, graded

from hyperspy_multitomo.simulation import Phantom, huber, schwartz, simulate, yuan, zhong
from hyperspy_multitomo.simulation.phantoms import TILTS
from hyperspy_multitomo.simulation.shapes import cap, rotated
from hyperspy_multitomo.tomography import (
    DataTerm,
    TiltGeometry,
    calibrate,
    projector,
    run,
    variational,
)
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain

SIZE, SLICES = 64, 8
# The unit was set on seed 0.
SEED = 1
LEVELS = (0.3, 1.0, 3.0, 10.0)
GRID = tuple(float(2 ** (k / 2)) for k in range(-2, 5))
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
    """Return small platinum particles on a film of ceria, 60 nm wide."""

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


# Those of other benchmarks, and two of this one alone.
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
    """Yield each weight with the results of the plain and the refitted solve, and their seconds."""
    kind, coupling, haadf = METHODS[method]
    terms, channels = terms_of(data, haadf)
    calibration = calibrate(terms, channels, kind=kind, coupling=coupling)
    tolerance = SLOW_TOLERANCE if haadf == "mix" or kind == "tgv" else TOLERANCE
    for weight in grid:
        plain = replace(calibration.regulariser, weight=weight * calibration.regulariser.weight)
        sides = []
        for regulariser, refit in ((plain, False), (plain.for_refit(), True)):
            start = time.process_time()
            iterates = variational(calibration.terms, regulariser, calibration.scales)
            result = run(iterates, ITERATIONS, tolerance=tolerance, refit=refit)
            sides.append((result, time.process_time() - start))
        yield weight, sides


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
                for weight, sides in solutions(data, method):
                    errors = [errors_of(result.volume, data) for result, _ in sides]
                    iterations = [result.iterations for result, _ in sides]
                    seconds = [round(one, 2) for _, one in sides]
                    rows.append([weight, *errors, iterations, seconds])
                with open(path, "a") as file:
                    file.write(json.dumps({"case": [name, method, level], "rows": rows}) + "\n")
                passed = time.process_time() - start
                print(name, method, level, f"{passed:.0f} s", flush=True)


def _cases(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(path: Path) -> None:
    """Print both sides at their best weights, and a summary of each method."""
    print("| case | volume, plain | refit | ratio | composition, plain | refit | ratio |")
    print("|---|---|---|---|---|---|---|")
    found: dict[str, list] = {}
    for one in sorted(_cases(path), key=lambda one: one["case"]):
        name, method, level = one["case"]
        weights, plain, refitted, iterations, seconds = (
            np.array(column) for column in zip(*one["rows"], strict=True)
        )
        best = plain.argmin(axis=0), refitted.argmin(axis=0)
        ratios = [refitted[b, k] / plain[a, k] for k, (a, b) in enumerate(zip(*best, strict=True))]
        cells = []
        for k, (a, b) in enumerate(zip(*best, strict=True)):
            cells += [f"{plain[a, k]:.3f} ({weights[a]:.2g})"]
            cells += [f"{refitted[b, k]:.3f} ({weights[b]:.2g})", f"{ratios[k]:.3f}"]
        print(f"| {name}, {method}, {level:g} | " + " | ".join(cells) + " |")
        a, b = best[0][0], best[1][0]
        units = weights[best[1]] / weights[best[0]]
        at_one = list(weights).index(1.0)
        here = [*ratios, refitted[b, 1] / plain[a, 1], *units]
        here += [refitted[at_one, 0] / plain[at_one, 0], refitted[at_one, 1] / plain[at_one, 1]]
        here += [cost[:, 1].sum() / cost[:, 0].sum() for cost in (iterations, seconds)]
        found.setdefault(method, []).append(here)
    titles = ("volume", "composition", "composition at the volume's best weights")
    titles += ("quotient of weights, volume", "composition", "volume at weight 1", "composition")
    titles += ("iterations", "time")
    print("\nMean (least to most) of refit over plain\n")
    print("| method | cases | " + " | ".join(titles) + " |\n" + (2 + len(titles)) * "|---" + "|")
    for method, rows in found.items():
        cells = [f"{x.mean():.3f} ({x.min():.2f}-{x.max():.2f})" for x in np.array(rows).T]
        print(f"| {method} | {len(rows)} | " + " | ".join(cells) + " |")


# Radii of the small grains of Huber's phantom, in half widths.
RADII = (0.060, 0.050, 0.042, 0.035, 0.028)


def contrasts(volume: np.ndarray, truth: np.ndarray, twist: float) -> list[float]:
    """Return the contrast of each small grain of Yb with what is around it, over the true one."""
    size, slices = truth.shape[1], truth.shape[-1]
    across = (np.arange(size) + 0.5) / size * 2 - 1
    found = []
    for number, radius in enumerate(RADII):
        angle = np.deg2rad(72 * number)
        centre = -0.38 + 0.17 * np.cos(angle), -0.32 + 0.17 * np.sin(angle)
        sums = np.zeros((2, 2))
        for y in range(slices):
            turned = rotated(across[None], across[:, None], twist * ((y + 0.5) / slices * 2 - 1))
            offset = np.hypot(turned[0] - centre[0], turned[1] - centre[1])
            around = (offset > radius + 2.5 / size) & (offset < radius + 6 / size)
            for side, values in enumerate((volume[..., y], truth[..., y])):
                sums[side] += values[offset < radius].mean(), values[around].mean()
        heights = sums[:, 0] - sums[:, 1]
        found.append(float(heights[0] / heights[1]))
    return found


def grains(levels, slices: int, size: int = 128) -> None:
    """Print the contrast of the small grains by both sides, at the best weights for the volume."""
    print(f"Huber, {size}^2 x {slices}, TNV with the HAADF, of Yb the contrast over the true one\n")
    radii = (f"{radius * size / 2:.1f} px" for radius in RADII)
    print("| counts | side | weight | volume | " + " | ".join(radii) + " |\n|" + 9 * "---|")
    for level in levels:
        data = simulated(huber(size, slices), level)
        sides: list[list] = [[], []]
        for weight, results in solutions(data, "tnv", GRID[1:4]):
            for side, (result, _) in zip(sides, results, strict=True):
                heights = contrasts(result.volume[0], data.series.truth[0], 1.5 * slices / 2)
                side.append((errors_of(result.volume, data)[0], weight, heights))
        for name, side in zip(("plain", "refit"), sides, strict=True):
            for error, weight, heights in (min(side), next(one for one in side if one[1] == 1)):
                cells = [f"{weight:.2g}", f"{error:.3f}", *(f"{one:.2f}" for one in heights)]
                print(f"| {level:g} | {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure, or print the tables."""
    parser = argparse.ArgumentParser(description="what a refit gains")
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--phantoms", nargs="+", default=list(PHANTOMS))
    parser.add_argument("--methods", nargs="+", default=["tnv"])
    parser.add_argument("--levels", nargs="+", type=float, default=LEVELS)
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    parser.add_argument("--grains", action="store_true", help="the contrast of small grains")
    parser.add_argument("--slices", type=int, default=24, help="of the phantom with the grains")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the noise of so few slices is measured too high
    if options.grains:
        grains(options.levels, options.slices)
    elif options.file is None:
        parser.error("expected the file of the results")
    elif options.table:
        table(options.file)
    else:
        measure(options.file, options.phantoms, options.methods, options.levels)


if __name__ == "__main__":
    main()
