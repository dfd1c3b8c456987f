# SPDX-License-Identifier: GPL-3.0-or-later
"""Self-absorption: speed and accuracy of the sweep, and the correction of the composition.

    python benchmarks/absorption.py

Three tables. Speed: the time of `ray_transmission` for a cube of voxels, two lines and the four
detectors of a Super-X. Accuracy: the sweep against exactly traced rays, in a ball, a slab and a
block. Closed loop: two particles whose maps are simulated with exact absorption and Poisson counts;
their composition before and after rounds of correction, each with the transmission through the
reconstruction of the round before. Maps without absorption but with the same noise show the error
that noise and tilts leave.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.ndimage import binary_erosion

from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
from hyperspy_multitomo.composition.xrays.detectors import XRayDetector
from hyperspy_multitomo.composition.xrays.self_absorption import (
    attenuation_coefficients,
    linear_attenuation,
    ray_transmission,
    voxel_transmission,
)
from hyperspy_multitomo.simulation import count, simulate
from hyperspy_multitomo.simulation.absorbed import absorbed_maps
from hyperspy_multitomo.simulation.absorbing_phantoms import gold_shell, heavy_oxide
from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt

ROUNDS = 3


def speed(size: int, tilts: int) -> None:
    """Print the time of `ray_transmission`."""
    volumes = np.random.default_rng(0).random((2, size, size, size), np.float32)
    geometry = TiltGeometry(np.linspace(-70, 70, tilts), size, pixel_size=1.0)
    print(f"speed: {size}^3 voxels, 2 lines, 4 detectors, {tilts} tilts")
    for threads in (1, 2):
        ray_transmission(
            volumes, volumes / size, TiltGeometry([0, 1], size), "super-x", threads=threads
        )
        start = time.perf_counter()
        ray_transmission(volumes, volumes / size, geometry, "super-x", threads=threads)
        taken = time.perf_counter() - start
        per_voxel = 1e9 * taken / (volumes.size * 4 * tilts)
        print(
            f"  {threads} threads: {taken:.1f} s, {per_voxel:.1f} ns per voxel, line, detector and "
            "tilt",
            flush=True,
        )


def accuracy(size: int) -> None:
    """Print the difference between the sweep and exact tracing."""
    points = (np.arange(size) - (size - 1) / 2) / (size / 2)
    z, x, y = np.meshgrid(points, points, points, indexing="ij")
    bodies = {
        "ball": x * x + y * y + z * z < 0.8**2,
        "slab": np.broadcast_to(np.abs(z) < 0.25, x.shape),
        "block": (np.abs(z - 0.1) < 0.3) & (np.abs(x) < 0.6) & (np.abs(y) < 0.5),
    }
    print(f"\naccuracy: {size}^3 voxels; depth of 1 over 0.8 of the width")
    print("| body | azimuth | tilt | mean T | rms | bias | largest |\n" + "|---" * 7 + "|")
    for name, body in bodies.items():
        attenuation = (body / (0.8 * size)).astype(np.float32)[None]
        for azimuth, tilt in ((0, 0), (0, 60), (45, 0), (45, 30), (225, 70), (90, 0)):
            direction = XRayDetector(azimuth, 18).direction(tilt)
            exact = voxel_transmission(attenuation, 1.0, direction, method="trace", where=body)[0][
                body
            ]
            error = voxel_transmission(attenuation, 1.0, direction)[0][body] - exact
            figures = f"{error.std():.5f} | {error.mean():+.5f} | {np.abs(error).max():.4f}"
            print(f"| {name} | {azimuth} | {tilt} | {exact.mean():.4f} | {figures} |")


def corrected(maps: np.ndarray, phantom, iterations: int, rounds: int):
    """Yield the elements' g/cm^3 without correction and after each round of it."""
    geometry = TiltGeometry(phantom.tilts, phantom.size, pixel_size=phantom.pixel_size)
    A = projector(geometry)
    per_unit = phantom.counts_per_unit.astype(np.float32)[:, None, None, None]
    coefficients = attenuation_coefficients(
        phantom.elements, [line_energy(line) for line in phantom.elements]
    )
    volumes = run(sirt(A, maps), iterations).volume
    yield volumes / per_unit
    for _ in range(rounds):
        rays = ray_transmission(
            volumes, linear_attenuation(volumes / per_unit, coefficients), geometry, "super-x"
        )
        # The mean transmission of a tilt is a gain in the forward model, so that the corrected maps
        # keep nearly Poisson statistics.
        gains = rays.mean(axis=(2, 3))
        volumes = run(
            sirt(A, maps / (rays / gains[..., None, None]), gains=gains), iterations
        ).volume
        yield volumes / per_unit


def errors(masses: np.ndarray, phantom, parts: dict[str, np.ndarray]) -> str:
    """Return the errors of the first element's wt% as table cells: mean of each part, voxel rms."""
    cells = []
    for inside in parts.values():
        result, truth = masses[:, inside].astype(float), phantom.truth[:, inside].astype(float)
        whole = result[0].sum() / result.sum() - truth[0].sum() / truth.sum()
        error = result[0] / np.maximum(result.sum(axis=0), 1e-6) - truth[0] / truth.sum(axis=0)
        cells.append(f"{100 * whole:+.2f} | {100 * np.sqrt(np.square(error).mean()):.2f}")
    return " | ".join(cells)


def closed_loop(make, size: int, iterations: int) -> None:
    """Print the composition of one particle before and after each round."""
    phantom = make(size)
    start = time.perf_counter()
    emitted = simulate(phantom, oversampling=2, seed=0).expected_maps
    absorbed = absorbed_maps(phantom, "super-x")
    taken = time.perf_counter() - start
    density = phantom.truth.sum(axis=0)
    fraction = phantom.truth[0] / np.maximum(density, 1e-6)
    middle = (fraction[density > 0].min() + fraction[density > 0].max()) / 2
    rich, poor = (
        binary_erosion((density > 1) & where, iterations=3)
        for where in (fraction > middle, fraction <= middle)
    )
    parts = {"rich": rich, "poor": poor}
    line = phantom.elements[0]
    lost = 1 - absorbed.sum(axis=(1, 2, 3)) / emitted.sum(axis=(1, 2, 3))
    print(
        f"\n{phantom.name}, {size}^3, {len(phantom.tilts)} tilts, SIRT {iterations}; absorbed: "
        + ", ".join(
            f"{100 * part:.1f} % of {name}"
            for name, part in zip(phantom.elements, lost, strict=True)
        )
        + f"; simulated in {taken:.0f} s"
    )
    print(
        "error, wt% of the first element, 3 voxels inside of each part: of the part as a whole, "
        "and rms of its voxels"
    )
    print(f"| maps | {line} rich ({100 * fraction[rich].mean():.1f} wt%): all | rms | ", end="")
    print(f"{line} poor ({100 * fraction[poor].mean():.1f} wt%): all | rms |\n" + "|---" * 5 + "|")
    for noise in (False, True):
        data = {"absorbed": absorbed, "emitted": emitted}
        if noise:
            data = {name: count(maps, seed=1) for name, maps in data.items()}
        label = "counts" if noise else "means"
        for number, masses in enumerate(corrected(data["absorbed"], phantom, iterations, ROUNDS)):
            print(
                f"| {label}, {number or 'no'} rounds | {errors(masses, phantom, parts)} |",
                flush=True,
            )
        (masses,) = corrected(data["emitted"], phantom, iterations, 0)
        print(f"| {label}, nothing absorbed | {errors(masses, phantom, parts)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description="speed, accuracy and closed loop of the correction for self-absorption"
    )
    parser.add_argument(
        "--size", type=int, default=64, help="voxels across the particles (default 64)"
    )
    parser.add_argument("--iterations", type=int, default=60, help="of SIRT (default 60)")
    parser.add_argument(
        "--cube", type=int, default=128, help="voxels across the cube that is timed (default 128)"
    )
    options = parser.parse_args()
    speed(options.cube, 30)
    accuracy(64)
    for make in (gold_shell, heavy_oxide):
        closed_loop(make, options.size, options.iterations)


if __name__ == "__main__":
    main()
