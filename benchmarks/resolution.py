# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge widths of known blurs, shell correlations of halves against simulations, and elongation.

    python benchmarks/resolution.py edges|halves|elongation [--records FILE] [--seeds 2]

"edges": the width that is measured over that of the blur, of balls, cubes and lobed balls of 64
voxels with white noise. "halves": where the correlation of halves of one series falls, over where
that of independent series does (two pairs of them), of half of the dose each and, at F = 1/4, of
all of it.
"elongation": edges of discs by SIRT, and a point by filtered back projection, z over x. Each case
is a line of the file of records, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from specimens import held_out, recorded, signals, tuned

from hyperspy_multitomo.evidence import edge_widths, shell_correlation
from hyperspy_multitomo.evidence.edge_width import TEN_TO_NINETY
from hyperspy_multitomo.inspection.metrics import elongation_factor
from hyperspy_multitomo.simulation import simulate
from hyperspy_multitomo.tomography import TiltGeometry, fbp, projector, run, sirt

SIZE, BLURS = 64, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
# Noise over contrast, in the place of counts.
NOISE = (0.0, 0.1, 0.2, 0.35)
SPECIMENS, COUNTS = ("zhong", "huber", "particles", "layered", "needle", "alloy"), (1.0, 3.0)
METHODS = {"fbp": {}, "sirt": {"iterations": 20}, "em": {"iterations": 10},
           "cgls": {"iterations": 3}, "hebt": {"iterations": 50}}  # fmt: skip
# Standard deviation of the noise of the HAADF over its largest value, of a whole series.
HAADF_NOISE = 0.05
QUIET = {"show_progressbar": False, "depth": None}


def edges(name: str, noise: float, seed: int) -> dict:
    """Return the measured widths over those of the blurs, along x, y and z."""
    body, found = _body(name), {}
    for blur in BLURS:
        drawn = np.random.default_rng(seed).normal(0, noise, body.shape) if noise else 0
        fits = edge_widths(gaussian_filter(body, blur) + drawn)
        found[f"{blur:g}"] = [fits[axis].width / TEN_TO_NINETY / blur for axis in "xyz"]
    return found


def halves(name: str, counts: float, seed: int) -> dict:
    """Return, for each method, the resolution of halves over that of independent series."""
    phantom = (tuned | held_out)[name](SIZE, 24)
    clean = simulate(phantom, blur=0, seed=0, oversampling=1)
    brightest = float(clean.expected_haadf.max())
    ratios = dict(zip(clean.elements, phantom.ratios, strict=True))
    peak = float(clean.expected_maps.max())

    def series(part: float, number: int):
        noise = HAADF_NOISE * brightest / np.sqrt(part)
        drawn = simulate(phantom, dose=part * counts / peak, blur=0, haadf_noise=noise,
                         seed=100 * seed + number)  # fmt: skip
        return signals(drawn)

    factor = counts / peak
    whole, halved = [series(1.0, n) for n in range(4)], [series(0.5, n) for n in range(4, 8)]
    found = {}
    for method, keywords in METHODS.items():

        def volume(pair, part=1.0, method=method, keywords=keywords):
            eds, haadf = pair
            eds = eds / part
            more = {"ratios": {name: one / factor for name, one in ratios.items()}}
            arguments = ((haadf,), more) if method == "hebt" else ((), {})
            call = getattr(eds, f"reconstruct_{method}")
            return call(*arguments[0], **arguments[1], **keywords, **QUIET)

        volumes = [volume(pair) for pair in whole]
        first = volumes[0]
        haadf = whole[0][1] if method == "hebt" else None
        one = whole[0][0].resolution(first, haadf, show_progressbar=False)
        here = np.array([list(_all(one.periods[kind])) for kind in ("counts", "tilts")])
        spacing = 3 * (first.pixel_size,)
        half = _crossings([volume(pair, 0.5) for pair in halved], 1 / 7, spacing)
        full = _crossings(volumes, 0.25, spacing)
        found[method] = {"counts": (here[0] / half).tolist(), "whole": (here[0] / full).tolist(),
                         "tilts": (here[1] / half).tolist(), "period": here[0].tolist(),
                         "finest": 2 * spacing[0]}  # fmt: skip
    return found


def elongation(name: str, tilt: float, seed: int) -> dict:
    """Return edges of a disc by SIRT, or full widths of a point by FBP, along z over along x."""
    size = 129
    z, x = np.mgrid[:size, :size] - (size - 1) / 2
    A = projector(TiltGeometry(np.arange(-tilt, tilt + 0.1, 2.0), size))
    if name == "point":
        # Off the axis, whose voxel all rays through the middle of the detector meet.
        blob = np.exp(-((z - 5) ** 2 + (x - 10) ** 2) / (2 * (2.0 + seed) ** 2))
        volume = fbp(A, A(blob[None, ..., None].astype(np.float32)))[0, ..., 0]
        middle = (size - 1) // 2
        widths = [_full_width(line) for line in (volume[:, middle + 10], volume[middle + 5])]
        return {"ratio": widths[0] / widths[1], "factor": elongation_factor(tilt)}
    blur = 3.0 if name == "blurred" else 0.0
    disc = gaussian_filter(np.clip(36 - np.hypot(z, x) + 0.5, 0, 1), blur)
    rays = A(disc[None, ..., None].astype(np.float32))
    iterations = (50, 300)[seed]
    fits = edge_widths(run(sirt(A, rays), iterations).volume[0])
    widths = [fits[axis].width for axis in "zx"]
    return {
        "iterations": iterations,
        "z": widths[0],
        "x": widths[1],
        "ratio": widths[0] / widths[1],
    }


def _body(name: str) -> np.ndarray:
    z, x, y = np.mgrid[:SIZE, :SIZE, :SIZE] - (SIZE - 1) / 2
    radius = np.sqrt(z * z + x * x + y * y)
    if name == "cube":
        return (np.max(np.abs([z, x, y]), axis=0) < 18).astype(float)
    lobes = 1.5 * np.sin(5 * np.arctan2(z, x)) * (1 - np.square(y / radius))
    lobes = lobes if name == "lobed" else 0.0
    return np.clip(22 + lobes - radius + 0.5, 0, 1)


def _all(periods: dict) -> list[float]:
    return [one["all"] for one in periods.values()]


def _crossings(volumes, threshold: float, spacing) -> np.ndarray:
    """Return the crossing of each element, the geometric mean of pairs of volumes."""
    arrays = [volume.array("element", "z", "x", "y") for volume in volumes]
    found = [
        [shell_correlation(*two, spacing).resolution(threshold) for two in zip(*pair, strict=True)]
        for pair in (arrays[:2], arrays[2:])
    ]
    return np.exp(np.log(found).mean(axis=0))


def _full_width(line: np.ndarray) -> float:
    line = line / line.max()
    first, *_, last = np.flatnonzero(line >= 0.5)
    before = (line[first] - 0.5) / (line[first] - line[first - 1])
    return last - first + before + (line[last] - 0.5) / (line[last] - line[last + 1])


def table_of_edges(records: list[dict]) -> None:
    """Print the least and the largest ratio of widths, for each noise."""
    print("| noise over contrast | " + " | ".join(f"{blur:g} px" for blur in BLURS) + " |")
    print("|---|" + "---|" * len(BLURS))
    for noise in NOISE:
        cells = []
        for blur in BLURS:
            ratios = np.ravel([one[f"{blur:g}"] for one in records if one["counts"] == noise])
            cells.append(f"{np.nanmin(ratios):.2f} to {np.nanmax(ratios):.2f}")
        print(f"| {noise:g} | " + " | ".join(cells) + " |")


def table_of_halves(records: list[dict]) -> None:
    """Print ratios of resolutions, their median and how many are within 15 %."""
    print("| method | elements | halves of counts over independent halves, median (within 15 %) "
          "| over two whole series | even and odd tilts |\n|---|---|---|---|---|")  # fmt: skip
    for method in METHODS:
        cells, number = [], 0
        for key in ("counts", "whole", "tilts"):
            ratios = np.concatenate([one[method][key] for one in records])
            ratios = ratios[np.isfinite(ratios)]
            near = np.mean(np.abs(ratios - 1) <= 0.15)
            number = len(ratios)
            cells.append(f"{np.median(ratios):.3f} ({100 * near:.0f} %)")
        print(f"| {method} | {number} | " + " | ".join(cells) + " |")


def table_of_elongation(records: list[dict]) -> None:
    """Print the ratios."""
    for one in records:
        print(json.dumps(one))


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="resolution")
    parser.add_argument("table", choices=("edges", "halves", "elongation"))
    parser.add_argument("--records", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names, numbers, measure, table = {
        "edges": (("ball", "cube", "lobed"), NOISE, edges, table_of_edges),
        "halves": (SPECIMENS, COUNTS, halves, table_of_halves),
        "elongation": (
            ("point", "sharp", "blurred"),
            (60.0, 70.0),
            elongation,
            table_of_elongation,
        ),
    }[options.table]
    cases = [(n, c, s) for s, c, n in product(range(options.seeds), numbers, names)]
    path = options.records or Path(f"resolution_{options.table}.jsonl")
    table(recorded(path, measure, cases))


if __name__ == "__main__":
    main()
