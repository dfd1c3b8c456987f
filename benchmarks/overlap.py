# SPDX-License-Identifier: GPL-3.0-or-later
"""Difference of overlapping slabs from the undivided solution.

    python benchmarks/overlap.py [--data "*.bcf"]

TV, TGV and nuclear TV of the Huber phantom with its HAADF as one more channel, in three dimensions:
all slices together, and a lazy series in slabs with more and more slices of overlap. Differences
are root mean squares over those of the volume, everywhere and in the two slices at each cut. "step"
is the mean absolute difference of the slices at the cuts over that of the same slices of the
undivided volume: 1 where no seam shows.
"""

from __future__ import annotations

import argparse

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import simulate
from hyperspy_multitomo.simulation.phantoms import huber

OVERLAPS = (0, 2, 4, 8, 16)


def phantom(size: int, slices: int):
    """Return the maps and the HAADF images of the phantom as tilt series."""
    series = simulate(huber(size, slices), blur=0, seed=0)
    known = {"tilts": series.tilts, "pixel_size": series.pixel_size}
    maps = {
        name: images.swapaxes(1, 2)
        for name, images in zip(series.elements, series.maps, strict=True)
    }
    return mt.TiltSeriesEDS.from_maps(maps, **known), mt.TiltSeriesHAADF.from_images(
        series.haadf.swapaxes(1, 2), **known
    )


def particle(pattern: str):
    """Return maps (Mg, Si, Fe, S) and HAADF of a series of Bruker files, aligned, binned by 2."""
    haadf, spectra = mt.load_tilt_series(pattern, tilts="filename", lazy=True)
    eds = mt.elemental_maps(spectra, elements=["Mg", "Si", "Fe", "S"], also=["Cu", "Pt", "O"])
    eds.align(haadf.align())
    haadf.estimate_gains(), eds.estimate_gains(haadf)
    return eds.bin(2), haadf.bin(2)


def differences(
    volume: np.ndarray, whole: np.ndarray, cuts: np.ndarray
) -> tuple[float, float, float, float]:
    """Return the rms differences everywhere and at the cuts, the largest, and the step there."""
    scales = whole.max(axis=(1, 2, 3), keepdims=True)
    volume, whole = volume / scales, whole / scales
    at = np.concatenate([cuts - 1, cuts])
    steps = [np.abs(v[..., cuts] - v[..., cuts - 1]).mean() for v in (volume, whole)]
    rms = [
        np.linalg.norm(f - w) / np.linalg.norm(w)
        for f, w in ((volume, whole), (volume[..., at], whole[..., at]))
    ]
    return (*rms, float(np.abs(volume - whole).max()), steps[0] / steps[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="slabs that overlap against the undivided solution"
    )
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--thickness", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--tolerance", type=float, default=None)
    parser.add_argument(
        "--data", help="pattern of Bruker files of a real series, instead of the phantom"
    )
    arguments = parser.parse_args()
    eager = (
        phantom(arguments.size, arguments.slices)
        if arguments.data is None
        else particle(arguments.data)
    )
    lazy = [one.as_lazy() for one in eager]
    slices, size = eager[0].data.shape[-2:]
    cuts = np.arange(arguments.thickness, slices, arguments.thickness)
    options = {
        "iterations": arguments.iterations,
        "tolerance": arguments.tolerance,
        "show_progressbar": False,
    }
    print(f"{size} px, {slices} slices in slabs of {arguments.thickness}, {options}\n")
    print(
        "| method | overlap | difference | at the cuts | largest | step at the cuts "
        "|\n|---|---|---|---|---|---|"
    )
    order = ("element", "z", "x", "y")
    for method in ("tv", "tnv", "tgv"):
        whole = getattr(eager[0], f"reconstruct_{method}")(eager[1], **options).array(*order)
        for overlap in OVERLAPS:
            volume = getattr(lazy[0], f"reconstruct_{method}")(
                lazy[1], chunks=arguments.thickness, overlap=overlap, **options
            )
            rms, at, largest, step = differences(np.asarray(volume.array(*order)), whole, cuts)
            print(
                f"| {method.upper()} | {overlap} | {rms:.1e} | {at:.1e} | {largest:.1e} | "
                f"{step:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
