# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlap of the thresholded particle with the truth, by the edge-spread function and by Otsu.

    python benchmarks/threshold.py

The core-shell particle of `hyperspy_multitomo.simulation.yuan` (80/20 and 20/80 wt% Au and Ag,
about 30 counts, 31 tilts to 75 degrees), reconstructed from EDS alone by SIRT and with the HAADF by
HEBT (100 iterations, true ratios); the quantity is the mass density, the sum of counts over counts
per unit. Dice overlap with the truth (density above half of the shell's), mean and least over the
seeds: of the mask of `particle_mask(..., "esf")`; of the edge-spread threshold without the vote of
neighbours; of the best single threshold there is without it; and of Otsu's. The threshold is that
of "esf" over the interior level. It takes about a minute on two cores.
"""

from __future__ import annotations

import argparse

import numpy as np

from hyperspy_multitomo.composition import particle_mask
from hyperspy_multitomo.composition.particle.edge_spread import edge_spread
from hyperspy_multitomo.inspection import dice
from hyperspy_multitomo.simulation import simulate, yuan
from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, run, sirt

ITERATIONS = (20, 50, 100, 200, 500)
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)


def densities(slices: int, seed: int):
    """Yield the name of each setting with its mass density (z, x, y), g/cm^3, and the true one."""
    phantom = yuan(slices=slices)
    series = simulate(phantom, seed=seed)
    A = projector(TiltGeometry(series.tilts, phantom.size, pixel_size=series.pixel_size))
    truth = phantom.truth.sum(axis=0)

    def density(volume: np.ndarray) -> np.ndarray:
        return np.tensordot((1 / phantom.counts_per_unit).astype(np.float32), volume, 1)

    for iterate in sirt(A, series.maps):
        if iterate.iteration in ITERATIONS:
            yield f"EDS, n = {iterate.iteration}", density(iterate.volume), truth
        if iterate.iteration == max(ITERATIONS):
            break
    for alpha in ALPHAS:
        solver = hebt(A, series.maps, series.haadf, series.true_ratios, alpha=alpha)
        yield f"HEBT, alpha = {alpha:g}", density(run(solver, 100).volume), truth


def scores(total: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return the Dice overlaps of the four masks, threshold over interior level, and ambiguity."""
    # The shell is the lighter phase; half of its density is the outline.
    particle = truth > np.median(truth[(truth > 9) & (truth < 14)]) / 2
    curve, plain = edge_spread(total), edge_spread(total, smooth=False)
    best = max(
        dice(total > level, particle) for level in np.linspace(0.2, 0.8, 25) * curve.interior
    )
    return [
        np.nan if curve.ambiguous else dice(particle_mask(total, "esf"), particle),
        np.nan if plain.ambiguous else dice(total > plain.value, particle),
        best,
        dice(particle_mask(total, "otsu"), particle),
        curve.value / curve.interior,
        float(bool(curve.ambiguous)),
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description="Dice overlap of the particle's mask with the true particle"
    )
    parser.add_argument(
        "--slices", type=int, nargs="*", default=[1, 64], help="voxels along the tilt axis"
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for slices in arguments.slices:
        results: dict[str, list] = {}
        for seed in range(arguments.seeds):
            for name, total, truth in densities(slices, seed):
                results.setdefault(name, []).append(scores(total, truth))
        print(f"\n97 x 97 x {slices} voxels, {arguments.seeds} seeds: Dice overlap, mean (least)\n")
        print(
            "| reconstruction | esf | esf, no vote | best single threshold | otsu | threshold / "
            "interior | ambiguous |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, values in results.items():
            mean, least = np.mean(values, axis=0), np.min(values, axis=0)
            cells = [
                f"{m:.3f} ({w:.3f})" if np.isfinite(m) else "ambiguous"
                for m, w in zip(mean[:4], least[:4], strict=True)
            ]
            print(f"| {name} | {' | '.join(cells)} | {mean[4]:.2f} | {mean[5] * len(values):.0f} |")


if __name__ == "__main__":
    main()
