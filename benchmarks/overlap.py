# SPDX-License-Identifier: GPL-3.0-or-later
"""How far slabs that overlap are from the undivided solution: `python benchmarks/overlap.py [--iterations 2000]`.

TV, TGV and nuclear TV of the Huber phantom with its HAADF as one more channel, in three dimensions: all slices together, and a
lazy series in slabs with more and more slices of overlap. Differences are root mean squares over those of the volume, everywhere
and in the two slices at each cut. "step" is the mean absolute difference of the slices at the cuts over that of the same slices
of the undivided volume: 1 where no seam shows.
"""

from __future__ import annotations

import argparse

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import simulate
from hyperspy_multitomo.simulation.phantoms import huber

OVERLAPS = (0, 2, 4, 8, 16)


def series(size: int, slices: int, lazy: bool):
    """Return the maps and the HAADF images of the phantom as tilt series."""
    import dask.array as da

    found = simulate(huber(size, slices), blur=0, seed=0)
    wrap = (lambda array: da.from_array(array, chunks=array.shape)) if lazy else (lambda array: array)
    known = {"tilts": found.tilts, "pixel_size": found.pixel_size}
    maps = {name: wrap(images.swapaxes(1, 2)) for name, images in zip(found.elements, found.maps, strict=True)}
    eds = mt.TiltSeriesEDS.from_maps(maps, **known)
    return eds, mt.TiltSeriesHAADF.from_images(wrap(found.haadf.swapaxes(1, 2)), **known)


def compared(found: np.ndarray, whole: np.ndarray, cuts: np.ndarray) -> tuple[float, float, float, float]:
    """Return the differences everywhere, at the cuts and at most, and the step at the cuts, of volumes (channel, z, x, y)."""
    scales = whole.max(axis=(1, 2, 3), keepdims=True)
    found, whole = found / scales, whole / scales
    at = np.concatenate([cuts - 1, cuts])
    steps = [np.abs(v[..., cuts] - v[..., cuts - 1]).mean() for v in (found, whole)]
    rms = [np.linalg.norm(f - w) / np.linalg.norm(w) for f, w in ((found, whole), (found[..., at], whole[..., at]))]
    return (*rms, float(np.abs(found - whole).max()), steps[0] / steps[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="slabs that overlap against the undivided solution")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--thickness", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--tolerance", type=float, default=None)
    given = parser.parse_args()
    eager, lazy = (series(given.size, given.slices, lazily) for lazily in (False, True))
    cuts = np.arange(given.thickness, given.slices, given.thickness)
    options = {"iterations": given.iterations, "tolerance": given.tolerance, "show_progressbar": False}
    print(f"{given.size} px, {given.slices} slices in slabs of {given.thickness}, {options}\n")
    print("| method | overlap | difference | at the cuts | largest | step at the cuts |\n|---|---|---|---|---|---|")
    order = ("element", "z", "x", "y")
    for method in ("tv", "tnv", "tgv"):
        whole = getattr(eager[0], f"reconstruct_{method}")(eager[1], **options).array(*order)
        for overlap in OVERLAPS:
            volume = getattr(lazy[0], f"reconstruct_{method}")(lazy[1], chunks=given.thickness, overlap=overlap, **options)
            rms, at, largest, step = compared(np.asarray(volume.array(*order)), whole, cuts)
            print(f"| {method.upper()} | {overlap} | {rms:.1e} | {at:.1e} | {largest:.1e} | {step:.3f} |", flush=True)


if __name__ == "__main__":
    main()
