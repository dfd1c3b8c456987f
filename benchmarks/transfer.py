# SPDX-License-Identifier: GPL-3.0-or-later
"""What each coupling loses of a grain that one element alone has, and what it makes up.

    python benchmarks/transfer.py [--records FILE] [--counts 0.2 0.8] [--seeds 3]
        [--only COUPLING ...] [--size 64] [--slices 24]

A cylinder along the tilt axis of a host with two heavy grains and a hole, all of which the HAADF
sees. Carbon is uniform in it, in grains and hole too, but for one grain with three times as much,
which the HAADF does not see (contrast +2). The table has the contrast of carbon against its
surroundings in that grain, in the heavy grains and in the hole, where it is 0 in truth: mean over
the seeds, and their standard deviation. Counts are those of carbon per pixel at its peak. Cubes of
the whole field are reconstructed, at the default settings of each method.

Each case is a line of the file of records, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from specimens import channels, particles, recorded, signals

from hyperspy_multitomo.simulation import Phantom, simulate
from hyperspy_multitomo.simulation.shapes import inside_ellipse

CUBE = {"show_progressbar": False, "depth": None}
# Method, with the HAADF or without, and its keywords.
COUPLINGS: dict[str, tuple[str, bool, dict]] = {
    "SIRT": ("sirt", False, {"iterations": 30}),
    "TV, uncoupled": ("tv", False, {"coupled": False}),
    "TV of the maps": ("tv", False, {}),
    "TV, HAADF": ("tv", True, {}),
    "TGV, HAADF": ("tgv", True, {}),
    "TNV of the maps": ("tnv", False, {}),
    "TNV, HAADF": ("tnv", True, {}),
    "TNV, HAADF, refit": ("tnv", True, {"refit": True}),
    "HEBT": ("hebt", True, {}),
    "HEBT, TV": ("hebt", True, {"regulariser": "tv"}),
    "HEBT, TGV": ("hebt", True, {"regulariser": "tgv"}),
    "HEBT, TNV": ("hebt", True, {"regulariser": "tnv"}),
    "fused": ("fused", True, {}),
}
# Centres (x, z), radius and relative length along y.
GRAIN = (0.25, -0.3, 0.17)
HEAVY = ((-0.35, 0.2, 0.16), (0.4, 0.25, 0.12))
HOLE = (-0.2, -0.4, 0.14)


def grains(size: int, slices: int) -> Phantom:
    """Return the specimen."""

    def body(x, z, y):
        inside = inside_ellipse(x, z, (0.78, 0.7))
        heavy = np.zeros_like(inside)
        for one in HEAVY:
            heavy |= _round(x, z, y, one)
        hole = _round(x, z, y, HOLE)
        carbon = 0.3 * inside * np.where(_round(x, z, y, GRAIN), 3.0, 1.0)
        host = inside & ~heavy & ~hole
        return np.stack([carbon, host, heavy]).astype(np.float32)

    made = particles(size, slices)
    # Carbon is as good as invisible beside iron and gold.
    contrast = np.array([0.0, 26.0, 79.0]) ** 1.8
    return replace(
        made, name="grains", elements=("C", "Fe", "Au"), body=body,
        haadf_per_unit=2e4 / 64 * contrast / contrast.max(),
    )  # fmt: skip


def _round(x, z, y, place) -> np.ndarray:
    """Return where a rounded column of the specimen is."""
    cx, cz, radius = place
    return (x - cx) ** 2 + (z - cz) ** 2 + 0.03 * y**2 < radius**2


def measured(coupling: str, counts: float, seed: int, size: int, slices: int) -> dict:
    """Return the contrast of carbon in the grain, in the heavy grains and in the hole."""
    phantom = grains(size, slices)
    peak = simulate(phantom, blur=0, seed=0, oversampling=1).expected_maps[0].max()
    simulated = simulate(phantom, dose=counts / peak, blur=0, haadf_noise="poisson", seed=seed)
    eds, haadf = signals(simulated)
    method, with_haadf, keywords = COUPLINGS[coupling]
    if method in ("hebt",):
        # Carbon that the HAADF does not see leaves no ratio to be fitted.
        ratios = dict(zip(simulated.elements, simulated.true_ratios, strict=True))
        keywords = keywords | {"ratios": ratios}
    arguments = (haadf,) if with_haadf else ()
    volume = getattr(eds, f"reconstruct_{method}")(*arguments, **keywords, **CUBE)
    carbon = channels(volume, simulated)[0]
    truth = simulated.truth
    regions = _regions(size, slices)
    level = carbon[regions["host"]].mean(dtype=np.float64)
    there = truth[0][regions["host"]].mean(dtype=np.float64)
    names = ("grain", "heavy", "hole")
    found = {name: float(carbon[regions[name]].mean() / level - 1) for name in names}
    return found | {"level": float(level / there)}


def _regions(size: int, slices: int) -> dict[str, np.ndarray]:
    """Return masks (z, x, y), those of grains a voxel and a half within their edges."""
    axis = (np.arange(size) - (size - 1) / 2) / (size / 2)
    z, x, y = axis[:, None, None], axis[None, :, None], np.linspace(-0.8, 0.8, slices)
    margin = 3 / size

    def at(place, more=0.0):
        cx, cz, radius = place
        return _round(x, z, y, (cx, cz, radius + more))

    host = inside_ellipse(x, z, (0.7, 0.62)) & (y < 2)
    for place in (GRAIN, *HEAVY, HOLE):
        host &= ~at(place, 2 * margin)
    heavy = at(HEAVY[0], -margin) | at(HEAVY[1], -margin)
    return {"grain": at(GRAIN, -margin), "heavy": heavy, "hole": at(HOLE, -margin), "host": host}


def table(records: list[dict]) -> None:
    """Print contrasts for each coupling and number of counts."""
    doses = sorted({one["counts"] for one in records})
    heads = [f"{name}, {counts:g}" for counts in doses for name in ("grain (+2)", "heavy (0)",
             "hole (0)")]  # fmt: skip
    print(f"| coupling | {' | '.join(heads)} |\n" + "|---" * (len(heads) + 1) + "|")
    for coupling in COUPLINGS:
        cells = []
        for counts, name in product(doses, ("grain", "heavy", "hole")):
            some = [one[name] for one in records if (one["name"], one["counts"]) == (coupling,
                    counts)]  # fmt: skip
            cells.append(f"{np.mean(some):+.2f} ± {np.std(some, ddof=1):.2f}" if some else "")
        if any(cells):
            print(f"| {coupling} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="what couplings lose and make up")
    parser.add_argument("--records", type=Path, default=Path("transfer.jsonl"))
    parser.add_argument("--counts", type=float, nargs="+", default=(0.2, 0.8))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--only", nargs="*", default=list(COUPLINGS), choices=list(COUPLINGS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = list(product(options.only, options.counts, range(options.seeds)))

    def measure(coupling: str, counts: float, seed: int) -> dict:
        return measured(coupling, counts, seed, options.size, options.slices)

    table(recorded(options.records, measure, cases))


if __name__ == "__main__":
    main()
