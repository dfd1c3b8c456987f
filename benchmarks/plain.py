# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain call `reconstruct(haadf)` beside all methods with their automatic settings.

    python benchmarks/plain.py [--records plain.jsonl] [--counts 0.1 1 10 30]

Specimens of `specimens.py` that no setting was looked for on, 64 px x 8 slices: the error of the
element volumes within the true outline, over the least of all methods.

"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
from specimens import channels, held_out, series, signals

QUIET = {"show_progressbar": False}
SMOOTH = {"weight": "auto", **QUIET}
METHODS: dict[str, Callable] = {
    "SIRT": lambda eds, haadf: eds.reconstruct_sirt(iterations="auto", **QUIET),
    "EM": lambda eds, haadf: eds.reconstruct_em(iterations="auto", **QUIET),
    "CGLS": lambda eds, haadf: eds.reconstruct_cgls(iterations="auto", **QUIET),
    "HEBT": lambda eds, haadf: eds.reconstruct_hebt(
        haadf, alpha="auto", iterations="auto", **QUIET
    ),
    "TV alone": lambda eds, haadf: eds.reconstruct_tv(**SMOOTH),
    "TNV alone": lambda eds, haadf: eds.reconstruct_tnv(**SMOOTH),
    "TV": lambda eds, haadf: eds.reconstruct_tv(haadf, **SMOOTH),
    "TGV": lambda eds, haadf: eds.reconstruct_tgv(haadf, **SMOOTH),
    "TNV": lambda eds, haadf: eds.reconstruct_tnv(haadf, **SMOOTH),
    "TNV, refit": lambda eds, haadf: eds.reconstruct_tnv(haadf, refit=True, **SMOOTH),
    "HEBT, TV": lambda eds, haadf: eds.reconstruct_hebt(haadf, regulariser="tv", **SMOOTH),
    "HEBT, TNV": lambda eds, haadf: eds.reconstruct_hebt(haadf, regulariser="tnv", **SMOOTH),
    "HEBT, TNV, refit": lambda eds, haadf: eds.reconstruct_hebt(
        haadf, regulariser="tnv", refit=True, **SMOOTH
    ),
    "fused": lambda eds, haadf: eds.reconstruct_fused(haadf, **SMOOTH),
}


def error_inside(volume, simulated) -> float:
    """Return the mean over the elements of |x - truth| / |truth| within the true outline."""
    truth = simulated.phantom.truth.sum(axis=0)
    inside = truth > 0.05 * truth.max()
    pairs = zip(channels(volume, simulated), simulated.truth, strict=True)
    return float(
        np.mean([np.linalg.norm((a - b)[inside]) / np.linalg.norm(b[inside]) for a, b in pairs])
    )


def case(name: str, counts: float) -> dict:
    """Return the errors of all methods and of the plain call, and what that chose."""
    simulated = series(name, counts, 0, 64, 8)
    eds, haadf = signals(simulated)
    errors = {}
    for method, call in METHODS.items():
        with contextlib.suppress(ValueError):  # such as ratios that are all 0
            errors[method] = error_inside(call(eds, haadf), simulated)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        plain = error_inside(eds.reconstruct(haadf, **QUIET), simulated)
    return {"errors": errors, "plain": plain, "said": said.getvalue().strip()}


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="the plain call beside all methods")
    parser.add_argument("--records", type=Path, default=Path("plain.jsonl"))
    parser.add_argument("--counts", type=float, nargs="+", default=[0.1, 1, 10, 30])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = options.records.read_text().splitlines() if options.records.exists() else []
    records = {(one["name"], one["counts"]): one for one in map(json.loads, lines)}
    print("| specimen | counts | best | plain over best | it says |\n|---|---|---|---|---|")
    ratios = []
    for name, counts in product(held_out, options.counts):
        if (name, counts) not in records:
            records[name, counts] = {"name": name, "counts": counts} | case(name, counts)
            with options.records.open("a") as file:
                print(json.dumps(records[name, counts]), file=file)
        one = records[name, counts]
        best = min(one["errors"], key=one["errors"].get)
        ratios.append(one["plain"] / one["errors"][best])
        print(
            f"| {name} | {counts:g} | {best}, {one['errors'][best]:.3f} | {ratios[-1]:.2f} | "
            f"{one['said'].removeprefix('reconstruct: ')} |",
            flush=True,
        )
    print(f"\nmean {np.mean(ratios):.3f}, largest {np.max(ratios):.2f}")


if __name__ == "__main__":
    main()
