# SPDX-License-Identifier: GPL-3.0-or-later
"""Bias, scatter and standard errors of the response ratios on simulated series.

    python benchmarks/ratios.py

Bias (mean error over the seeds) and scatter (standard deviation over the seeds) are in per cent of
the true ratio, one number per element; the mean reported standard error over the scatter should
be 1. "plain" is non-negative least squares on the pixels. The defaults take about ten minutes on
two cores, `--seeds 5 --counts 1 10` less than one.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from hyperspy_multitomo.composition import fit_response_ratios, specimen_mask
from hyperspy_multitomo.simulation import Phantom, simulate, yuan, zhong

SIZE, SLICES = 96, 32
TILTS = np.arange(-75.0, 76.0, 5.0)
RATIOS = np.array([8.0, 3.0])
COUNTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
METHODS = ("blocks", "poisson")


def _particle(x, z, y, size=0.72):
    return (x / size) ** 2 + (z / (0.87 * size)) ** 2 + (y / (1.9 * size)) ** 2 < 1


def _core_shell(mixed: float) -> Callable:
    """Return a core in a shell, each with a part `mixed` of the other's element."""

    def body(x, z, y):
        whole, core = _particle(x, z, y), _particle(x - 0.1, z + 0.08, y - 0.1, 0.38)
        shell = whole & ~core
        return np.stack([(1 - mixed) * core + mixed * shell, mixed * core + (1 - mixed) * shell])

    return body


def _grains(diameter: float) -> Callable:
    """Return grains of either of two phases, of a mean diameter in px, filling the particle."""
    rng = np.random.default_rng(0)
    box = np.array([SIZE, SIZE, SLICES])
    centres = rng.random((int(box.prod() / diameter**3), 3)) * box
    first, tree = rng.random(len(centres)) < 0.5, cKDTree(centres)

    def body(x, z, y):
        points = np.stack(
            np.broadcast_arrays((x + 1) / 2 * SIZE, (z + 1) / 2 * SIZE, (y + 1) / 2 * SLICES),
            axis=-1,
        )
        kind = first[tree.query(points)[1]]
        return np.stack([kind, ~kind]) * _particle(x, z, y)

    return body


CASES = {
    "one element": (1, lambda x, z, y: _particle(x, z, y)[None].astype(float)),
    "core and shell": (2, _core_shell(0.0)),
    "core and shell, mixed 20 %": (2, _core_shell(0.2)),
    "grains of 3 px": (2, _grains(3.0)),
}


def expected_maps(channels: int, body: Callable) -> np.ndarray:
    """Return the noise-free maps (channel, tilt, x, y) of a body, with mean 1 on the particle."""
    phantom = Phantom(
        name="particle",
        elements=("Au", "Ag")[:channels],
        unit="1",
        size=SIZE,
        slices=SLICES,
        pixel_size=1.0,
        tilts=TILTS,
        haadf_tilts=TILTS,
        counts_per_unit=np.ones(channels),
        haadf_per_unit=RATIOS[:channels],
        blur=0.0,
        haadf_noise="none",
        body=body,
    )
    maps = simulate(phantom, oversampling=1, seed=0).expected_maps.astype(np.float64)
    inside = maps.sum(axis=0) > 0
    return maps / np.array([channel[inside].mean() for channel in maps])[:, None, None, None]


def plain(maps: np.ndarray, haadf: np.ndarray) -> np.ndarray:
    """Return the ratios by non-negative least squares on the pixels, as published."""
    mask = specimen_mask(haadf)
    return nnls(maps[:, mask].T.astype(np.float64), haadf[mask].astype(np.float64))[0]


def errors(
    gross: np.ndarray, background: float, haadf: np.ndarray, true: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return relative errors and relative standard errors of every method on one series."""
    net, names = gross - np.float32(background), ("Au", "Ag")[: len(gross)]
    results = {"plain": (plain(net, haadf) / true - 1, np.full(len(true), np.nan))}
    for method in METHODS:
        fit = fit_response_ratios(net, haadf, names, method=method, gross=gross, n_bootstrap=50)
        results[method] = (fit.values / true - 1, fit.standard_errors / true)
    return results


def print_row(title: str, runs: list[dict[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    """Print bias, scatter and error/scatter of every method over the seeds."""
    cells = []
    for method in runs[0]:
        off, claimed = (np.array([run[method][part] for run in runs]) for part in (0, 1))
        scatter = off.std(axis=0, ddof=1)
        cells.append(_joined(100 * off.mean(axis=0), "+.1f"))
        if method != "plain":
            cells += [
                _joined(100 * scatter, ".1f"),
                _joined(claimed.mean(axis=0) / np.maximum(scatter, 1e-12), ".1f"),
            ]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _joined(values: np.ndarray, style: str) -> str:
    return " / ".join(format(value, style) for value in values)


def particles(names: list[str], counts: list[float], backgrounds: list[float], seeds: int) -> None:
    """Print the rows of the particles."""
    for name in names:
        maps = expected_maps(*CASES[name])
        true = RATIOS[: len(maps)]
        for background in backgrounds:
            for level in counts:
                runs = []
                for seed in range(seeds):
                    rng = np.random.default_rng(seed)
                    haadf = np.tensordot(true, level * maps, 1)
                    haadf += rng.normal(size=haadf.shape) * 0.03 * np.sqrt(haadf * haadf.max())
                    gross = rng.poisson(level * maps + background).astype(np.float32)
                    runs.append(errors(gross, background, haadf.astype(np.float32), true))
                print_row(f"{name} | {background:g} | {level:g}", runs)


def published(seeds: int) -> None:
    """Print the rows of the papers' phantoms, without their smoothing after the counting."""
    for title, phantom in {"Zhong": zhong(), "Yuan": yuan(slices=8)}.items():
        runs = []
        for seed in range(seeds):
            series = simulate(phantom, blur=0.0, oversampling=1, seed=seed)
            runs.append(errors(series.maps, 0.0, series.haadf, series.true_ratios))
        print_row(
            f"{title} | 0 | {series.expected_maps[:, specimen_mask(series.haadf)].mean():.2g}", runs
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="bias, scatter and standard errors of the response ratios"
    )
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument(
        "--counts",
        nargs="*",
        type=float,
        default=list(COUNTS),
        help="mean counts per pixel of the particle",
    )
    parser.add_argument(
        "--backgrounds", nargs="*", type=float, default=[0.0, 1.0], help="counts per pixel"
    )
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    columns = "bias | scatter | SE/scatter"
    print(f"| object | background | counts | plain bias | blocks {columns} | poisson {columns} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    particles(arguments.cases, arguments.counts, arguments.backgrounds, arguments.seeds)
    published(arguments.seeds)


if __name__ == "__main__":
    main()
