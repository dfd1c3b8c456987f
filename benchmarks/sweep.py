# SPDX-License-Identifier: GPL-3.0-or-later
"""Forty settings of one slice against one setting of a block of 64 slices.

    python benchmarks/sweep.py [--size 128] [--repeats 3]

Core seconds of `eds.sweep` with and without held-out counts, and of `eds.reconstruct_<method>` with
as many iterations. Simulated Zhong particle, 31 tilts. The least of the repeats is printed.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from specimens import series, signals

ITERATIONS = 100
QUIET = {"show_progressbar": False, "depth": None}


def seconds(call, repeats: int) -> float:
    """Return the least core time of some calls, after one that compiles."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="settings side by side")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    simulated = series("zhong", 3.0, 0, options.size, 64)
    eds, haadf = signals(simulated)
    eds.fit_response_ratios(haadf)
    alphas = np.linspace(0.3, 0.95, 40).tolist()
    relaxations = np.linspace(0.2, 1.5, 40).tolist()
    grid = {"alpha": alphas[::5], "iterations": [10, 20, 40, 70, 100]}
    cases = {
        "HEBT, 40 alphas": ("hebt", haadf, {"alpha": alphas, "iterations": ITERATIONS}),
        "HEBT, 8 alphas at 5 iterations": ("hebt", haadf, grid),
        "SIRT, 40 relaxations": ("sirt", None, {"relaxation": relaxations,
                                                "iterations": ITERATIONS}),
        "SIRT, 40 iterations": ("sirt", None, {"iterations": list(range(5, 205, 5))}),
        "EM, 40 iterations": ("em", None, {"iterations": list(range(5, 205, 5))}),
        "CGLS, 20 iterations": ("cgls", None, {"iterations": list(range(1, 21))}),
        "FBP, 40 cutoffs": ("fbp", None, {"cutoff": np.linspace(0.1, 1, 40).tolist()}),
    }  # fmt: skip
    print("| settings | volumes | with held-out counts | block of 64 slices |\n|---|---|---|---|")
    for title, (method, images, swept) in cases.items():
        last = swept.get("iterations", 0)
        last = max(last) if isinstance(last, list) else last
        more = {"iterations": last} if last else {}
        first = () if images is None else (images,)
        block = getattr(eds, f"reconstruct_{method}")
        times = [
            seconds(
                lambda held=held, method=method, images=images, swept=swept: eds.sweep(
                    images, method, held_out=held, **swept, **QUIET
                ),
                options.repeats,
            )
            for held in (False, True)
        ]
        whole = seconds(
            lambda block=block, first=first, more=more: block(*first, **more, **QUIET),
            options.repeats,
        )
        print(f"| {title} | {times[0]:.2f} s | {times[1]:.2f} s | {whole:.2f} s |")


if __name__ == "__main__":
    main()
