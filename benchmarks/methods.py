# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors and times of the reconstructions: `python benchmarks/methods.py`.

EM against SIRT and CGLS at few counts, and where the noise stops them; HEBT with maps of larger
pixels than the HAADF's; the time of each method.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice

import numpy as np

from hyperspy_multitomo.inspection.metrics import scaled_mse, ssim_structure
from hyperspy_multitomo.simulation import simulate
from hyperspy_multitomo.simulation.phantoms import zhong
from hyperspy_multitomo.tomography import (
    TiltGeometry,
    cgls,
    counting_noise,
    em,
    fbp,
    hebt,
    projector,
    run,
    sirt,
)

ELEMENTS = ("Au", "Ag")
FIXED = {"EM": 10, "SIRT": 50, "CGLS": 2}
MOST = {"EM": 100, "SIRT": 150, "CGLS": 15}


def scores(volume, truth) -> np.ndarray:
    """Return correlation, scaled relative MSE and relative error, means over the seeds (slices)."""
    rows = [
        (
            ssim_structure(x, truth),
            scaled_mse(x, truth) / np.mean(truth**2),
            np.linalg.norm(x - truth) / np.linalg.norm(truth),
        )
        for x in np.moveaxis(volume, -1, 0)
    ]
    return np.mean(rows, axis=0)


def few_counts(size: int, seeds: int) -> None:
    """Print the table of EM, SIRT and CGLS; slices are noise seeds of one Zhong section."""
    phantom = zhong(size)
    clean = simulate(phantom, blur=0).expected_maps
    A = projector(TiltGeometry(phantom.tilts, size, pixel_size=phantom.pixel_size))
    print(
        f"Zhong phantom, {size} px, {len(phantom.tilts)} tilts, {seeds} seeds, no smoothing; SIRT "
        "and CGLS have the background "
        "subtracted; last, where stopping='discrepancy' ends and the error there"
    )
    names = ("counts", "background", "element", "method", "best at", "correlation", "MSE", "error")
    print("| {} |".format(" | ".join((*names, "fixed", *names[-3:], "noise at", "error"))))
    print("|" + 14 * "---|")
    for level in (1, 5, 30):
        for background in (0.0, 1.0):
            for e, element in enumerate(ELEMENTS):
                # Counts per pixel: the mean of the element's own over the pixels that see it.
                factor = level / clean[e][clean[e] > 0].mean()
                truth = factor * phantom.counts_per_nm[e, ..., 0]
                expected = np.repeat(factor * clean[e], seeds, axis=-1) + background
                counts = np.random.default_rng(level).poisson(expected).astype(np.float32)
                net = counts - background
                solvers = {
                    "EM": lambda counts=counts, background=background: em(
                        A, counts, background=background
                    ),
                    "SIRT": lambda net=net: sirt(A, net),
                    "CGLS": lambda net=net: cgls(A, net),
                }
                for name, solve in solvers.items():
                    results = [
                        scores(iterate.volume, truth)
                        for iterate in islice(solve(), 1, MOST[name] + 1)
                    ]
                    best = int(np.argmin([row[1] for row in results]))
                    noise = counting_noise(counts if name == "EM" else net, counts)
                    stop = run(solve(), MOST[name], noise=noise).iterations
                    line, fixed = (
                        " | ".join(f"{value:.3f}" for value in results[at])
                        for at in (best, FIXED[name] - 1)
                    )
                    print(
                        f"| {level} | {background:g} | {element} | {name} | {best + 1} | {line} | "
                        f"{FIXED[name]} | {fixed} "
                        f"| {stop} | {results[stop - 1][2]:.3f} |",
                        flush=True,
                    )


def pixel_sizes(size: int, slices: int, iterations: int = 100) -> None:
    """Print errors and time of HEBT with maps of 1, 2 and 4 times the HAADF's pixel size."""
    phantom = zhong(size, slices)
    series = simulate(phantom, blur=0, dose=4 * size / 512, seed=0)
    geometry = TiltGeometry(series.tilts, size, pixel_size=series.pixel_size)
    fine = projector(geometry)
    print(
        f"HEBT, Zhong phantom, {size} px, {slices} slices, {iterations} iterations, alpha 0.7, no "
        "smoothing"
    )
    print(
        "| pixels of the maps | correlation Au | Ag | error Au | Ag | ms per slice and iteration |"
    )
    print("|---|---|---|---|---|---|")
    for binning in (1, 2, 4):
        A = projector(
            TiltGeometry(
                series.tilts, size // binning, (size, size), series.pixel_size, binning=binning
            )
        )
        shape = (2, len(series.tilts), size // binning, binning, slices // binning, binning)
        maps = series.maps.reshape(shape).sum(axis=(3, 5))
        iterates = hebt(
            A, maps, series.haadf, series.true_ratios / binning**2, haadf_projector=fine
        )
        run(iterates, 1)
        begin = time.perf_counter()
        volume = run(iterates, iterations - 1).volume / binning**2
        spent = 1e3 * (time.perf_counter() - begin) / slices / (iterations - 1)
        correlations = [
            np.corrcoef(volume[e].ravel(), series.truth[e].ravel())[0, 1] for e in range(2)
        ]
        errors = [
            np.linalg.norm(volume[e] - series.truth[e]) / np.linalg.norm(series.truth[e])
            for e in range(2)
        ]
        figures = " | ".join(f"{value:.3f}" for value in (*correlations, *errors, spent))
        print(f"| {binning} x {binning} | {figures} |", flush=True)


def times(width: int = 256, tilts: int = 61, slices: int = 64, iterations: int = 10) -> None:
    """Print the time of each method."""
    A = projector(TiltGeometry(np.linspace(-75, 75, tilts), width))
    data = np.random.default_rng(0).random((*A.range_shape, slices), np.float32)
    solvers = {
        "SIRT": lambda: sirt(A, data),
        "EM": lambda: em(A, data),
        "EM with background": lambda: em(A, data, background=data),
        "CGLS": lambda: cgls(A, data),
    }
    print(
        f"{width}^2 x {slices} slices, {tilts} tilts; ms per slice and iteration (FBP: per slice), "
        "best of 3"
    )
    print("| method | wall | core |")
    print("|---|---|---|")
    for name, make in solvers.items():
        run(make(), 1)
        best = []
        for _ in range(3):
            iterates = make()
            run(iterates, 1)
            best.append(_timed(lambda iterates=iterates: run(iterates, iterations)))
        print(
            "| {} | {:.3f} | {:.3f} |".format(
                name, *np.min(best, axis=0) * 1e3 / slices / iterations
            ),
            flush=True,
        )
    fbp(A, data)
    print(
        "| FBP | {:.3f} | {:.3f} |".format(
            *np.min([_timed(lambda: fbp(A, data)) for _ in range(3)], axis=0) * 1e3 / slices
        )
    )


def _timed(call) -> tuple[float, float]:
    """Return the (wall, core) seconds of a call."""
    wall, core = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - core


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description="quality and time of the reconstructions")
    parser.add_argument(
        "tables", nargs="*", default=["em", "pixels", "time"], help="em, pixels, time"
    )
    parser.add_argument("--size", type=int, default=128, help="px of the phantoms")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    if "em" in options.tables:
        few_counts(options.size, options.seeds)
    if "pixels" in options.tables:
        pixel_sizes(options.size, 64)
    if "time" in options.tables:
        times()


if __name__ == "__main__":
    main()
