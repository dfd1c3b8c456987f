# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured depth of simulated specimens over the depth that is needed, and what a real one needs.

    python benchmarks/depth.py simulated     # lamellae, needle, particles: about 4 core-minutes
    python benchmarks/depth.py lamella --data ../shared/data/idp_l2083   # error of tilts left out

Lines that are in the file of results (``--results``) are not made again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.signals.arrays import projections
from hyperspy_multitomo.signals.methods.volume_extent import with_extent
from hyperspy_multitomo.simulation.misaligned import BRIGHTNESS, _Ellipsoid, _Film, _projections
from hyperspy_multitomo.tomography import projector, run, sirt, visible_width

SIZE, SLICES = 96, 48
NOISES = (0.003, 0.03, 0.1)  # of the largest HAADF signal
TILTS = {
    "±40": np.arange(-40, 41, 5.0),
    "±60": np.arange(-60, 61, 5.0),
    "±70": np.arange(-70, 71, 5.0),
}


def lamella(thickness: float, inclination: float):
    """Return a film with grains inside, inclined by some degrees, and its depth for a width."""
    rng, angle = np.random.default_rng(1), np.deg2rad(inclination)
    bodies: list = [_Film(thickness, angle, (0.5, 0.0))]
    for number in range(330):
        half = np.minimum(rng.uniform(2, 7, 3), (9, 0.4 * thickness, 9))
        x, y = rng.uniform(-2.2, 2.2) * SIZE, rng.uniform(-0.7, 0.7) * SIZE
        height = rng.uniform(-1, 1) * (thickness / 2 - half[1])
        centre = (
            x * np.cos(angle) - height * np.sin(angle),
            x * np.sin(angle) + height * np.cos(angle),
            y,
        )
        bodies.append(
            _Ellipsoid(centre, tuple(half), angle, (-0.3, 1.2) if number % 2 else (0.8, 0.0))
        )
    return bodies, lambda width: thickness / np.cos(angle) + width * np.tan(angle)


def particle(film: bool = False):
    """Return a particle of three parts, on a film that is wider than the view if asked for."""
    parts = [
        ((0, 0, 2), (22.5, 16.5, 19.5), 0.2, (1.0, 0.0)),
        ((6, 3, 6), (9, 7, 7.5), 1.0, (-0.4, 1.6)),
        ((-10, -2, -4), (5, 5, 6), 0.1, (0.0, 1.0)),
    ]
    bodies = [_Ellipsoid(*part) for part in parts]
    low, high = _range(bodies)
    if film:
        bodies.append(_Ellipsoid((0, low - 1.5, 0), (4000.0, 1.5, 4000.0), 0.0, (0.6, 0.0)))
        low -= 3
    return _centred(bodies, low, high)


def needle():
    """Return a needle along the tilt axis with grains."""
    rng = np.random.default_rng(0)
    bodies = [_Ellipsoid((2, 0, 4), (16.5, 15.0, 105.0), 0.2, (1.0, 0.0))]
    for _ in range(14):
        centre = (rng.uniform(-5, 9), rng.uniform(-8, 8), rng.uniform(-55, 55))
        bodies.append(_Ellipsoid(centre, tuple(rng.uniform(2, 5, 3)), 0.0, (-0.3, 1.5)))
    return _centred(bodies, *_range(bodies))


def _range(bodies) -> tuple[float, float]:
    reach = [
        np.hypot(b.half_axes[0] * np.sin(b.turn), b.half_axes[1] * np.cos(b.turn)) for b in bodies
    ]
    return (
        min(b.centre[1] - r for b, r in zip(bodies, reach, strict=True)),
        max(b.centre[1] + r for b, r in zip(bodies, reach, strict=True)),
    )


def _centred(bodies, low: float, high: float):
    moved = [
        replace(b, centre=(b.centre[0], b.centre[1] - (low + high) / 2, b.centre[2]))
        for b in bodies
    ]
    return moved, lambda width: high - low


SPECIMENS = {
    "lamella 18 px": lambda: lamella(18, 0),
    "lamella 9 px": lambda: lamella(9, 0),
    "lamella 18 px, 5°": lambda: lamella(18, 5),
    "lamella 30 px, 10°": lambda: lamella(30, 10),
    "needle": needle,
    "particle": particle,
    "particle on a film": lambda: particle(film=True),
}


def simulated(results: Path) -> None:
    """Print the depth of the volume over that which is needed, aligned and by the images alone."""
    known = json.loads(results.read_text()) if results.exists() else {}
    print(
        "| specimen | tilts | noise | aligned | not aligned | seconds |\n|---|---|---|---|---|---|"
    )
    for name, make in SPECIMENS.items():
        bodies, needed = make()
        for range_, tilts in TILTS.items():
            for noise in NOISES:
                key = f"{name} | {range_} | {noise}"
                if key not in known:
                    known[key] = _ratios(bodies, needed, tilts, noise)
                    results.write_text(json.dumps(known, indent=1))
                print(f"| {key} | " + " | ".join(map(str, known[key])) + " |", flush=True)


def _ratios(bodies, needed, tilts, noise: float) -> list[float | None]:
    zeros = np.zeros(len(tilts))
    paths = _projections(bodies, Alignment(zeros, zeros, tilts=tilts), (SIZE, SLICES))
    images = np.tensordot(BRIGHTNESS, paths, 1)
    rng = np.random.default_rng(0)
    images = images + rng.normal(0, noise * images.max(), images.shape)
    series = mt.TiltSeriesHAADF.from_images(
        images.swapaxes(1, 2).astype(np.float32), tilts=tilts, pixel_size=1.0
    )
    ratios: list[float | None] = []
    begun = time.perf_counter()
    for aligned in (False, True):
        if aligned:
            series.align(show_progressbar=False)
        found = with_extent(series, None, {})
        depth, width = found["depth"], found["width"] or SIZE
        ratios.insert(0, None if depth is None else round(float(depth / needed(width)), 2))
        if not aligned:
            spent = time.perf_counter() - begun
    return [*ratios, round(spent, 1)]


def real(data: Path) -> None:
    """Print the squared error of tilts that were left out, over the least, against the depth."""
    haadf, _ = mt.load_tilt_series(data)
    haadf.align(show_progressbar=False)
    print("specimen:", haadf.alignment.specimen, f"of {haadf.pixel_size:.2f} nm")
    for name, one in {
        "whole": haadf,
        "binned by 2": haadf.bin(2),
        "binned by 4": haadf.bin(4),
        "the middle": haadf.isig[64:192, 64:192],
    }.items():
        again = one.deepcopy()
        again.align(show_progressbar=False)
        found = [with_extent(series, None, {})["depth"] for series in (one, again)]
        print(f"{name}: depth {found[0]:.0f} nm, aligned anew {found[1]:.0f} nm")
    haadf.estimate_gains()
    series = haadf.bin(4)
    images = (projections(series)[0] / series.gains[:, None, None]).astype(np.float32)
    geometry, errors = series.geometry(), {}
    for depth in (150, 200, 250, 300, 350, 400, 450, 500, 550, 600, 800, 1200):
        voxels = round(depth / series.pixel_size)
        width = round(visible_width(geometry, depth) / series.pixel_size)
        errors[depth] = sum(
            _left_out(images, geometry, (voxels, width), np.arange(len(images)) % 3 == part)
            for part in range(3)
        )
    least = min(errors.values())
    print({depth: round(error / least, 3) for depth, error in errors.items()})


def _left_out(images, geometry, shape, out) -> float:
    out[[0, -1]] = False
    tilts, shifts = np.array(geometry.tilts), np.array(geometry.shifts)

    def of(part):
        return projector(
            replace(geometry, tilts=tilts[part], shifts=shifts[part], volume_shape=shape)
        )

    volume = run(sirt(of(~out), np.ascontiguousarray(images[~out])), 30).volume
    return float(((of(out)(volume) - images[out]) ** 2).sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("simulated", "lamella"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/idp_l2083"))
    parser.add_argument("--results", type=Path, default=Path("depth.json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.part == "simulated":
        simulated(options.results)
    else:
        real(options.data)
