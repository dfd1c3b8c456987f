# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios with a prior: how far one that is wrong pulls, and what one that is right gains.

    python benchmarks/ratio_prior.py

Each row is a simulated series of benchmarks/ratios.py, over its seeds: the largest relative
standard error of least squares alone, the largest shift of a ratio, in those standard errors, by a
prior that is wrong by 4 (either element, up or down), and with a right one the root mean square of
the error over the standard error (1 if that is right) and of the relative error, with and without
it. The second table has more elements, one of which the prior has wrong by 4, and the fits alone
whose errors are under 10 % (0 where there are none). Eight minutes on one core.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import product

import numpy as np
from ratios import CASES, METHODS, RATIOS, expected_maps
from scipy.ndimage import gaussian_filter

from hyperspy_multitomo.composition import ResponseRatios, fit_response_ratios

WRONG = ((4.0, 1.0), (0.25, 1.0), (1.0, 4.0), (1.0, 0.25))
NAMES = ("Au", "Ag")


def fits(
    maps: np.ndarray, level: float, background: float, method: str, seed: int
) -> list[ResponseRatios]:
    """Return the fits of one series: without a prior, with a right one, with those of `WRONG`."""
    rng = np.random.default_rng(seed)
    haadf = np.tensordot(RATIOS, level * maps, 1)
    haadf += rng.normal(size=haadf.shape) * 0.03 * np.sqrt(haadf * haadf.max())
    gross = rng.poisson(level * maps + background).astype(np.float32)
    keywords = {"method": method, "gross": gross, "n_bootstrap": 50}
    arrays = gross - np.float32(background), haadf.astype(np.float32), NAMES
    priors = [dict(zip(NAMES, RATIOS * factors, strict=True)) for factors in ((1.0, 1.0), *WRONG)]
    return [fit_response_ratios(*arrays, prior=prior, **keywords) for prior in (None, *priors)]


def print_row(title: str, runs: list[list[ResponseRatios]]) -> None:
    """Print one row of the table."""
    plain, right = ([run[at] for run in runs] for at in (0, 1))
    errors = np.array([fit.standard_errors / fit.values for fit in plain])
    shifts = [
        np.abs(wrong.values - run[0].values) / run[0].standard_errors
        for run in runs
        for wrong in run[2:]
    ]
    score = np.array([(fit.values - RATIOS) / fit.standard_errors for fit in right])
    off = [np.array([fit.values / RATIOS - 1 for fit in some]) for some in (plain, right)]
    rms = [np.sqrt((values**2).mean()) for values in (score, *off)]
    print(
        f"| {title} | {100 * errors.max():.1f} | {np.max(shifts):.2f} | {rms[0]:.2f} "
        f"| {100 * rms[1]:.1f} | {100 * rms[2]:.1f} |",
        flush=True,
    )


def many(elements: int, blur: float, level: float, seeds: int = 2) -> None:
    """Print the largest error and shift of maps of many elements, which are blurred noise."""
    rng = np.random.default_rng(3)
    shape = (elements, 12, 64, 40)
    fields = gaussian_filter(rng.normal(size=shape), (0, 0, blur, blur))
    fields /= fields.std(axis=(1, 2, 3), keepdims=True)
    expected = level * np.exp(0.5 * fields)
    names, true = [f"E{at}" for at in range(elements)], np.geomspace(1, 10, elements)
    largest, shift = 0.0, 0.0
    for seed, method in product(range(seeds), METHODS):
        rng = np.random.default_rng(seed)
        haadf = np.tensordot(true, expected, 1)
        haadf += rng.normal(size=haadf.shape) * 0.03 * haadf
        series, how = (rng.poisson(expected), haadf, names), {"method": method, "n_bootstrap": 50}
        plain = fit_response_ratios(*series, **how)
        error = (plain.standard_errors / plain.values).max()
        if error >= 0.1:
            continue
        largest = max(largest, error)
        for at, wrong in product(range(elements), (4.0, 0.25)):
            prior = dict(
                zip(names, np.where(np.arange(elements) == at, wrong, 1) * true, strict=True)
            )
            fit = fit_response_ratios(*series, **how, prior=prior, block_size=plain.block_size)
            moved = np.abs(fit.values - plain.values) / plain.standard_errors
            shift = max(shift, moved.max())
    print(f"| {elements} | {blur:g} | {level:g} | {100 * largest:.1f} | {shift:.3f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="response ratios with a right and a wrong prior")
    parser.add_argument("--counts", nargs="*", type=float, default=[0.3, 1.0, 3.0, 30.0])
    parser.add_argument("--backgrounds", nargs="*", type=float, default=[0.0, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    print(
        "| object | background | counts | method | error (%) | shift | score | off | with prior |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in list(CASES)[1:]:
        maps = expected_maps(*CASES[name])
        for background in arguments.backgrounds:
            for level in arguments.counts:
                for method in METHODS:
                    runs = [
                        fits(maps, level, background, method, seed)
                        for seed in range(arguments.seeds)
                    ]
                    print_row(f"{name} | {background:g} | {level:g} | {method}", runs)
    print("\n| elements | blur (px) | counts | largest error under 10 % | shift |")
    print("|---|---|---|---|---|")
    for elements, blur, level in product((3, 5, 8), (2.0, 6.0), (0.7, 3.0, 20.0)):
        many(elements, blur, level)


if __name__ == "__main__":
    main()
