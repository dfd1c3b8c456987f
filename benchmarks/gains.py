# SPDX-License-Identifier: GPL-3.0-or-later
"""Gains in the forward model against data divided by the gains, on simulated counts.

    python benchmarks/gains.py

A core-shell particle (Zhong-like, two elements, 31 tilts) is counted with a gain at every tilt, of
one of three kinds. The errors are |x - truth|^2 / |truth|^2, without any scaling, means of both
elements and of the seeds: at the best number of iterations of each, so that stopping early or late
favours neither, and at 100, where the noise is fitted. In the last columns, below 1 favours
dividing the data, above 1 the gains in the model.
"""

from __future__ import annotations

import argparse

import numpy as np

from hyperspy_multitomo.acquisition import eds_gains
from hyperspy_multitomo.simulation import simulate, zhong
from hyperspy_multitomo.tomography import TiltGeometry, em, hebt, projector, sirt

TILTS = np.arange(-75.0, 76.0, 5.0)
STOPS = (2, 3, 5, 10, 20, 35, 50, 75, 100, 150)
METHODS = ("SIRT", "EM", "HEBT")
COUNTS = (None, 30.0, 5.0, 1.0)


def shadowing(rng: np.random.Generator) -> np.ndarray:
    """Return gains (tilt,) that fall from 1 to 0.3, as when the holder shadows the detector."""
    return np.exp(np.log(0.3) * (TILTS - TILTS[0]) / np.ptp(TILTS))


def scattered(rng: np.random.Generator) -> np.ndarray:
    """Return gains (tilt,) that scatter between 0.3 and 1, as live times do."""
    return rng.uniform(0.3, 1.0, TILTS.size)


def cut_short(rng: np.random.Generator) -> np.ndarray:
    """Return gains (tilt,) of 1, and of 0.05 for a quarter of the tilts, as if ended early."""
    return np.where(rng.permutation(TILTS.size) < TILTS.size // 4, 0.05, 1.0)


KINDS = {
    "shadowing, 1 to 0.3": shadowing,
    "scattered, 0.3 to 1": scattered,
    "a quarter of the tilts 0.05": cut_short,
}


def errors_along(iterates, truth: np.ndarray) -> np.ndarray:
    """Return the error at each of the iterations `STOPS`, mean of the elements."""
    errors = []
    for iterate in iterates:
        if iterate.iteration in STOPS:
            difference = np.square(iterate.volume - truth).sum(axis=(1, 2, 3))
            errors.append(np.mean(difference / np.square(truth).sum(axis=(1, 2, 3))))
        if iterate.iteration == STOPS[-1]:
            return np.array(errors)
    raise AssertionError("a solver yields iterates without end")


def errors_of(
    kind: str, counts: float | None, seed: int, size: int, slices: int
) -> dict[tuple[str, str], np.ndarray]:
    """Return the errors at `STOPS` by method and treatment of the gains, for one noise draw."""
    gains = KINDS[kind](np.random.default_rng(seed))
    gains = gains / gains.mean()
    phantom = zhong(size=size, slices=slices)
    peak = float(simulate(phantom, TILTS, blur=0.0, haadf_noise="none", seed=0).expected_maps.max())
    series = simulate(
        phantom,
        TILTS,
        dose=(counts or 30.0) / peak,
        gains=gains,
        blur=0.0,
        haadf_noise="none",
        seed=seed,
    )
    maps = series.expected_maps if counts is None else series.maps
    A = projector(TiltGeometry(TILTS, size, pixel_size=phantom.pixel_size))
    measured = eds_gains(maps, series.haadf, weights=series.true_ratios)
    treatments = {
        "divided": (maps / gains[:, None, None], None),
        "modelled": (maps, gains),
        "measured": (maps, measured),
        "ignored": (maps, None),
    }
    errors = {}
    for name, (data, used) in treatments.items():
        errors["SIRT", name] = errors_along(sirt(A, data, gains=used), series.truth)
        errors["EM", name] = errors_along(em(A, data, gains=used), series.truth)
        errors["HEBT", name] = errors_along(
            hebt(A, data, series.haadf, series.true_ratios, gains=used), series.truth
        )
    return errors


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="gains in the forward model against data divided by the gains"
    )
    parser.add_argument(
        "--size", type=int, default=96, help="pixels across the tilt axis (default 96)"
    )
    parser.add_argument(
        "--slices", type=int, default=16, help="slices of independent noise (default 16)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="draws of noise and gains (default 3)")
    options = parser.parse_args()
    print(
        "| gains | counts at the peak | method | gains ignored | data divided | gains in the model "
        "| in the model, measured |",
        end="",
    )
    print(" divided over modelled, best | at 100 iterations |\n" + "|---" * 9 + "|")
    hundred = STOPS.index(100)
    for kind in KINDS:
        for counts in COUNTS:
            runs = [
                errors_of(kind, counts, seed, options.size, options.slices)
                for seed in range(options.seeds)
            ]
            for method in METHODS:
                along = {
                    name: np.array([run[method, name] for run in runs])
                    for name in ("ignored", "divided", "modelled", "measured")
                }
                best = {name: values.min(axis=1) for name, values in along.items()}
                cells = " | ".join(f"{values.mean():.4f}" for values in best.values())
                ratios = (
                    best["divided"] / best["modelled"],
                    along["divided"][:, hundred] / along["modelled"][:, hundred],
                )
                cells += "".join(f" | {ratio.mean():.2f} ± {ratio.std():.2f}" for ratio in ratios)
                print(
                    f"| {kind} | {'noise-free' if counts is None else f'{counts:g}'} | {method} | "
                    f"{cells} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
