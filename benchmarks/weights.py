# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors at the weight, alpha and iterations that counts choose, against the best of a grid.

    python benchmarks/weights.py weights|iterations|shares [--records FILE] [--seeds 3]
        [--only NAME ...] [--counts 0.3 1 3 10]

Specimens of `specimens.py`, by default of 0.3 to 10 counts at the peak. "shares" is the error of
HEBT (alpha 0.7) at the iterations that are chosen when other parts of the counts are reconstructed.
Each case is a line of the file of records, from which an interrupted run goes on; the table is that
of all lines. The cubes of the whole field are reconstructed, so that nothing but the setting
differs.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from specimens import (
    composition_error,
    held_out,
    recorded,
    series,
    signals,
    tuned,
    volume_error,
)

from hyperspy_multitomo.reconstruction import automatic_iterations

COUNTS = (0.3, 1.0, 3.0, 10.0)
WEIGHTS = tuple(2 ** (half / 2) for half in range(-2, 5))
# Iterations of the grid, and alphas of HEBT.
ITERATIONS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 104, 125)
# Parts of the counts that are reconstructed to choose the iterations of HEBT.
SHARES = (0.2, 0.5, 0.8)
QUIET = {"show_progressbar": False, "depth": None}


def weights(name: str, counts: float, seed: int) -> dict:
    """Return errors of TNV with the HAADF as a channel, at each weight and at the chosen one."""
    simulated = series(name, counts, seed)
    eds, haadf = signals(simulated)
    grid = [eds.reconstruct_tnv(haadf, weight=weight, **QUIET) for weight in WEIGHTS]
    chosen = eds.reconstruct_tnv(haadf, weight="auto", **QUIET)
    errors = np.array([_errors(volume, simulated) for volume in grid])
    one = errors[WEIGHTS.index(1.0)]
    return {
        "weight": chosen.history[-1]["weight"],
        "auto": (np.array(_errors(chosen, simulated)) / errors.min(axis=0)).tolist(),
        "one": (one / errors.min(axis=0)).tolist(),
        "least": errors.min(axis=0).tolist(),
    }


def iterations(name: str, counts: float, seed: int) -> dict:
    """Return errors of the volumes at the chosen iterations over the least of the grid."""
    simulated = series(name, counts, seed, 64, 8)
    eds, haadf = signals(simulated)
    found = {}
    for method in ("sirt", "em", "cgls", "hebt"):
        one = getattr(eds, f"reconstruct_{method}")
        arguments = (haadf,) if method == "hebt" else ()

        def error(one=one, arguments=arguments, **options):
            return volume_error(one(*arguments, **options, **QUIET), simulated)

        least = min(error(iterations=n) for n in ITERATIONS)
        found[method] = error(iterations="auto") / least
        if method == "hebt":
            found["hebt, alpha too"] = error(iterations="auto", alpha="auto") / least
    return found


def shares(name: str, counts: float, seed: int) -> dict:
    """Return errors of HEBT at the iterations of each share over the least of the grid."""
    simulated = series(name, counts, seed, 64, 8)
    eds, haadf = signals(simulated)

    def error(iterations):
        return volume_error(eds.reconstruct_hebt(haadf, iterations=iterations, **QUIET), simulated)

    least, found = min(error(n) for n in ITERATIONS), {}
    for share in SHARES:
        automatic_iterations._SHARE = share
        found[f"HEBT, {share:g} of the counts"] = error("auto") / least
    return found


def _errors(volume, simulated) -> tuple[float, float]:
    return volume_error(volume, simulated), composition_error(volume, simulated)


def table_of_weights(records: list[dict]) -> None:
    """Print means and largest ratios, of the specimens tuned on and of the others."""
    print("| specimens | weight | volumes, mean (max) | composition, mean (95 %, max) |")
    print("|---|---|---|---|")
    groups = {"tuned on": list(tuned), "others": list(held_out), "all": [*tuned, *held_out]}
    for (title, names), key in product(groups.items(), ("auto", "one")):
        ratios = np.array([one[key] for one in records if one["name"] in names])
        if ratios.size:
            volume, part = ratios.T
            print(
                f"| {title} ({len(ratios)}) | {key} | {volume.mean():.3f} ({volume.max():.2f}) | "
                f"{part.mean():.3f} ({np.percentile(part, 95):.2f}, {part.max():.2f}) |"
            )
    low = [one for one in records if one["name"] == "yuan" and one["counts"] == COUNTS[0]]
    errors = [one["auto"][1] * one["least"][1] for one in low]
    print(f"Yuan at {COUNTS[0]} counts, RMSE of the composition: {np.round(errors, 3)}")


def table_of_iterations(records: list[dict]) -> None:
    """Print means and largest ratios of each method."""
    print("| method | error over the least, mean (max) |\n|---|---|")
    for method in sorted(records[0].keys() - {"name", "counts", "seed"}):
        ratios = [one[method] for one in records]
        print(f"| {method} | {np.mean(ratios):.3f} ({np.max(ratios):.2f}) |")


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="errors at automatic settings")
    parser.add_argument("table", choices=("weights", "iterations", "shares"))
    parser.add_argument("--records", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--counts", type=float, nargs="+", default=COUNTS)
    parser.add_argument("--only", nargs="*", default=[*tuned, *held_out])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # Schwartz's maps and HAADF have other tilts, so that no ratios are fitted as they are.
    names = [n for n in options.only if options.table == "weights" or n != "schwartz"]
    cases = [(n, c, s) for s, c, n in product(range(options.seeds), options.counts, names)]
    path = options.records or Path(f"{options.table}.jsonl")
    measure = {"weights": weights, "iterations": iterations, "shares": shares}[options.table]
    table = table_of_weights if options.table == "weights" else table_of_iterations
    table(recorded(path, measure, cases))


if __name__ == "__main__":
    main()
