# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain call `reconstruct(haadf)` beside all methods with their automatic settings.

    python benchmarks/plain.py methods [--records plain.jsonl] [--counts 0.1 1 10 30]
    python benchmarks/plain.py closure [--records closure.jsonl] [--counts 0.3 1 3 10]

"methods": specimens of `specimens.py` that no setting was looked for on, 64 px x 8 slices: the
error of the element volumes within the true outline, over the least of all methods. "closure": with
all maps, and without those of the first or the second element, R2 of the response ratios, the error
with the HAADF as the sum over that as a channel (16 slices), and how the blocks of HAADF and maps
correlate, as they are and with the HAADF moved by a quarter of the field.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
from specimens import channels, held_out, recorded, series, signals, tuned

import hyperspy_multitomo as mt
from hyperspy_multitomo.signals.methods.reconstruct_automatically import _agreement

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


def closure(name: str, counts: float) -> dict:
    """Return, without the map of one element or none, R2, the error ratio and the correlations."""
    simulated = series(name, counts, 0, 64, 16)
    found = {}
    for left_out in (None, 0, 1):
        kept = [i for i in range(len(simulated.elements)) if i != left_out]
        if len(kept) < 2:
            continue
        eds, haadf = signals(simulated)
        maps = eds.array("element", "tilt", "y", "x")
        part = {simulated.elements[i]: maps[i] for i in kept}
        some = mt.TiltSeriesEDS.from_maps(part, tilts=eds.tilts, pixel_size=eds.pixel_size)
        ratios = some.fit_response_ratios(haadf)

        def error(volume, kept=kept):
            array = volume.array("element", "z", "x", "y")
            pairs = [
                (array[volume.channels.index(simulated.elements[i])], simulated.truth[i])
                for i in kept
            ]
            return np.mean([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs])

        cube = {**SMOOTH, "depth": None}
        as_sum = error(some.reconstruct_hebt(haadf, regulariser="tnv", **cube))
        moved = haadf.deepcopy()
        moved.data = np.roll(moved.data, 16, axis=-1)
        found[str(left_out)] = {
            "r2": float(ratios.r2),
            "zero": list(ratios.unexplained),
            "sum over channel": float(as_sum / error(some.reconstruct_tnv(haadf, **cube))),
            "agreement": _agreement(some, haadf),
            "moved": _agreement(some, moved),
        }
    return found


def table_of_closure(records: list[dict]) -> None:
    """Print a line for each case."""
    print("| specimen | counts | left out | R2 | ratio 0 | sum / channel | correlation, moved |")
    print("|---|---|---|---|---|---|---|")
    for one in records:
        for left_out in ("None", "0", "1"):
            if (f := one.get(left_out)) is not None:
                print(
                    f"| {one['name']} | {one['counts']:g} | {left_out} | {f['r2']:.3f} | "
                    f"{', '.join(f['zero'])} | {f['sum over channel']:.2f} | "
                    f"{f['agreement']:.2f}, {f['moved']:.2f} |"
                )


def table_of_methods(records: list[dict]) -> None:
    """Print a line for each case, and the mean."""
    print("| specimen | counts | best | plain over best | it says |\n|---|---|---|---|---|")
    ratios = []
    for one in records:
        best = min(one["errors"], key=one["errors"].get)
        ratios.append(one["plain"] / one["errors"][best])
        print(
            f"| {one['name']} | {one['counts']:g} | {best}, {one['errors'][best]:.3f} | "
            f"{ratios[-1]:.2f} | {one['said'].removeprefix('reconstruct: ')} |"
        )
    print(f"\nmean {np.mean(ratios):.3f}, largest {np.max(ratios):.2f}")


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="the plain call beside all methods")
    parser.add_argument("table", choices=("methods", "closure"))
    parser.add_argument("--records", type=Path)
    parser.add_argument("--counts", type=float, nargs="+")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # Schwartz's maps and HAADF have other tilts, so that no ratios are fitted as they are.
    if options.table == "methods":
        measure, names, counts = case, [*held_out], [0.1, 1, 10, 30]
    else:
        names = [name for name in (*tuned, *held_out) if name != "schwartz"]
        measure, counts = closure, [0.3, 1, 3, 10]
    cases = [(n, float(c), 0) for n, c in product(names, options.counts or counts)]
    path = options.records or Path(f"{options.table}.jsonl")
    records = recorded(path, lambda name, counts, _: measure(name, counts), cases)
    (table_of_methods if options.table == "methods" else table_of_closure)(records)


if __name__ == "__main__":
    main()
