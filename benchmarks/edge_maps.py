# SPDX-License-Identifier: GPL-3.0-or-later
"""Bias and noise of edge maps on simulated spectra, and of HyperSpy's power laws per pixel.

    python benchmarks/edge_maps.py

A disc of O K with one L3 edge in its left half and another in its right, with white lines, on a
power-law background; `thickness` is that of plural scattering in mean free paths. The error is that
of the mean net counts over the object, mean and standard deviation over the series; the noise is
the standard deviation of the object's pixels; both relative to the true net counts, in the order of
the edges. HyperSpy has no result where the fit of one pixel fails, at few counts; windows have none
where another edge is in them. Takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from math import factorial

import numpy as np

from hyperspy_multitomo.acquisition import (
    prepare_edge_fit,
    prepare_edge_windows,
    region_spectra,
    resolve_edges,
)
from hyperspy_multitomo.acquisition.eels.edge_shapes import cross_sections
from hyperspy_multitomo.acquisition.eels.edges import Edge, background_ranges

#: Energies (eV) from far below the recorded ones, since plural scattering comes from there.
WHOLE = np.arange(140.0, 1000.0)
LOSS = WHOLE[WHOLE >= 440]
#: Net counts in the window of each edge per count of background in that of O K, all edges without
#: plural scattering.
AMOUNTS = {"O_K": 0.3, "Mn_L3": 0.3, "Co_L3": 0.2, "V_L3": 0.3, "Cr_L3": 0.3}
TILTS, WIDTH = 2, 50.0
METHODS = {"fit": prepare_edge_fit, "windows": prepare_edge_windows}
THREE = ("O_K", "Mn_L3", "Co_L3")
#: Edges, background counts per pixel in the window of O K, size (px), thickness.
CASES = (
    *(
        (THREE, counts, size, 0.0)
        for counts, size in ((0.3, 128), (3.0, 128), (30.0, 48), (300.0, 48), (3000.0, 32))
    ),
    (("O_K", "Cr_L3"), 100.0, 32, 0.0),
    (("O_K", "V_L3"), 100.0, 32, 0.0),
    *((THREE, 300.0, 32, thickness) for thickness in (0.3, 0.6, 1.0)),
)


def edge_shapes(edges: tuple[Edge, ...]) -> np.ndarray:
    """Return the shapes (edge, energy) per count in the windows, L edges with white lines."""
    made = []
    for edge, section in zip(edges, cross_sections(edges, WHOLE), strict=True):
        if edge.shell == "L3":
            level = section[np.searchsorted(WHOLE, edge.onset + 20)]
            for distance, height in ((2, 3.0), (13, 1.5)):
                section = section + height * level * np.exp(
                    -(((WHOLE - edge.onset - distance) / 2) ** 2) / 2
                )
        made.append(section / section[_window(edge, WHOLE)].sum())
    return np.array(made)


def scattered(spectra: np.ndarray, thickness: float) -> np.ndarray:
    """Return spectra (..., energy) after plural scattering by a plasmon at 22 eV, cut to `LOSS`."""
    loss = np.arange(300.0)
    plasmon = np.exp(-(((loss - 22) / 5) ** 2) / 2)
    plasmon /= plasmon.sum()
    orders, total = np.eye(1, len(loss))[0], np.zeros(len(loss))
    for order in range(8):
        total += np.exp(-thickness) * thickness**order / factorial(order) * orders
        orders = np.convolve(orders, plasmon)[: len(loss)]
    made = np.apply_along_axis(
        lambda spectrum: np.convolve(spectrum, total)[: len(WHOLE)], -1, spectra
    )
    return made[..., -len(LOSS) :]


def expected_spectra(
    edges: tuple[Edge, ...], counts: float, size: int, thickness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return expected spectra (y, x, energy) and true net counts in the windows (edge, y, x)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    disc = np.hypot(x, y) < 0.4 * size
    where = (
        [disc, disc & (x < 0), disc & (x > 0)]
        if len(edges) == 3
        else [disc & (x < 0), disc & (x > 0)]
    )
    amounts = counts * np.array(
        [AMOUNTS[edge.name] * place for edge, place in zip(edges, where, strict=True)]
    )
    falling = WHOLE**-3.0 / np.sum(WHOLE[_window(edges[0], WHOLE)] ** -3.0)
    below, shapes = scattered(falling, thickness), scattered(edge_shapes(edges), thickness)
    left = np.array(
        [shape[_window(edge, LOSS)].sum() for edge, shape in zip(edges, shapes, strict=True)]
    )
    mean = counts * np.where(disc, 1.3, 0.6)[..., None] * below + np.einsum(
        "kyx,ke->yxe", amounts, shapes
    )
    return mean, amounts * left[:, None, None]


def per_pixel(spectra: np.ndarray, edges: tuple[Edge, ...]) -> np.ndarray:
    """Return net counts (edge, y, x) of HyperSpy's power law per pixel, in the same windows."""
    from hyperspy.signals import Signal1D

    signal = Signal1D(spectra.astype(float))
    signal.axes_manager[-1].offset = LOSS[0]
    signal.set_signal_type("EELS")
    net = []
    for edge in edges:
        try:
            low, high = background_ranges(edges, (LOSS[0], LOSS[-1]))[edge.name]
            left = signal.remove_background(
                (low, high + 1), background_type="PowerLaw", show_progressbar=False
            )
        except ValueError:
            return np.full((len(edges), *spectra.shape[:2]), np.nan)
        net.append(left.data[..., _window(edge, LOSS)].sum(axis=-1))
    return np.array(net)


def _window(edge: Edge, loss: np.ndarray) -> np.ndarray:
    return (edge.onset <= loss) & (edge.onset + WIDTH >= loss)


def net_counts(name: str, spectra: np.ndarray, edges: tuple[Edge, ...]) -> np.ndarray:
    """Return the maps (tilt, edge, y, x) of one method, NaN where it has no result."""
    if name not in METHODS:
        return np.array([per_pixel(cube, edges) for cube in spectra])
    try:
        model = METHODS[name](
            np.stack([region_spectra(cube, 8) for cube in spectra]), LOSS, edges, width=WIDTH
        )
    except ValueError:
        return np.full((len(spectra), len(edges), *spectra.shape[1:3]), np.nan)
    return np.array([model.maps(cube, tilt).net for tilt, cube in enumerate(spectra)])


def print_case(
    names: tuple[str, ...], counts: float, size: int, thickness: float, seeds: int
) -> None:
    """Print a row for each method."""
    edges = resolve_edges(names, (LOSS[0], LOSS[-1]))
    mean, true = expected_spectra(edges, counts, size, thickness)
    series = [
        np.random.default_rng(seed).poisson(mean, (TILTS, *mean.shape)).astype(np.uint16)
        for seed in range(seeds)
    ]
    for name in (*METHODS, "per pixel"):
        maps = np.array([net_counts(name, spectra, edges) for spectra in series])
        inside = [maps[:, :, k, amount > 0] / amount.max() for k, amount in enumerate(true)]
        errors = [100 * (values.mean(axis=(1, 2)) - 1) for values in inside]
        biases = ", ".join(f"{error.mean():.0f} ± {error.std(ddof=1):.0f}" for error in errors)
        noise = ", ".join(f"{values.std(axis=(1, 2)).mean():.2g}" for values in inside)
        cells = f"{biases} | {noise}" if np.isfinite(maps).all() else "none | "
        print(
            f"| {', '.join(names)} | {thickness:g} | {counts:g} | {size} | {name} | {cells} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="bias and noise of edge maps")
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(
        "| edges | thickness | counts | size | method | error (%) | noise "
        "|\n|---|---|---|---|---|---|---|"
    )
    for case in CASES:
        print_case(*case, seeds=arguments.seeds)


if __name__ == "__main__":
    main()
