# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruction of a volume larger than the memory, slab by slab.

    python benchmarks/streaming.py [--size 1024 --slices 512 --tilts 61]

HEBT of two elements from one .zspy to another: peak memory of the whole job and, for two slabs,
seconds per slice and iteration against the same slices in memory. The series is made slab by slab.
`--iterations` is the number for the whole job, whose memory does not depend on it; `--timed` is
that of the comparison.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
import warnings
from pathlib import Path

import dask
import numpy as np

import hyperspy_multitomo as mt

SLAB = 64
BRIGHTNESS = {"Au": 750.0, "Ag": 250.0}


def slab_of(first: int, size: int, geometry) -> np.ndarray:
    """Return the maps and, last, the HAADF of a slab of a winding wire, (signal, tilt, y, x)."""
    at = np.linspace(-1, 1, size, dtype=np.float32)
    wire = np.zeros((2, size, size, SLAB), np.float32)
    for y in range(SLAB):
        along = (first + y) / 60
        silver = np.hypot(at, at[:, None]) < 0.55
        gold = np.hypot(at - 0.2 * np.sin(along), at[:, None] - 0.2 * np.cos(along)) < 0.25
        wire[0, ..., y], wire[1, ..., y] = gold, silver & ~gold
    expected = 0.02 * mt.tomography.projector(geometry)(wire)
    images = np.tensordot(np.float32(list(BRIGHTNESS.values())), expected, 1)[None]
    counts = np.random.default_rng(first).poisson(expected)
    return np.concatenate([counts, images]).astype(np.float32).swapaxes(2, 3)


def write_series(folder: Path, size: int, slices: int, tilts: np.ndarray) -> None:
    """Save maps and HAADF images as .zspy with a chunk for each slab."""
    import dask.array as da

    geometry = mt.tomography.TiltGeometry(tilts, size)
    shape = (3, tilts.size, SLAB, size)
    make = dask.delayed(slab_of, pure=False)
    parts = [
        da.from_delayed(make(first, size, geometry), shape, np.float32)
        for first in range(0, slices, SLAB)
    ]
    gold, silver, images = da.concatenate(parts, axis=2)
    with dask.config.set(scheduler="synchronous"):
        mt.TiltSeriesEDS.from_maps({"Au": gold, "Ag": silver}, tilts=tilts).save(
            folder / "eds.zspy", show_progressbar=False
        )
        mt.TiltSeriesHAADF.from_images(images, tilts=tilts).save(
            folder / "haadf.zspy", show_progressbar=False
        )


def load(folder: Path):
    """Return the lazy series."""
    import hyperspy.api as hs

    return tuple(hs.load(folder / f"{name}.zspy", lazy=True) for name in ("eds", "haadf"))


def stream(folder: Path, iterations: int, queue) -> None:
    """Put the seconds from disk to disk, the peak GB beyond the imports, and the slabs."""
    warnings.simplefilter("ignore")
    eds, haadf = load(folder)
    first = tuple(one.isig[:, :16].deepcopy() for one in (eds, haadf))
    first[0].reconstruct_hebt(first[1], iterations=1, ratios=BRIGHTNESS).compute(
        show_progressbar=False
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    volume = eds.reconstruct_hebt(haadf, iterations=iterations, ratios=BRIGHTNESS)
    volume.save(folder / "volume.zspy", overwrite=True, show_progressbar=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(
        (
            time.perf_counter() - start,
            after / 1e6,
            (after - before) / 1e6,
            volume.history[-1]["slabs"],
        )
    )


def compare(folder: Path, iterations: int, queue) -> None:
    """Put the seconds of two lazy slabs, disk to disk, and of the same slices in memory."""
    warnings.simplefilter("ignore")
    eds, haadf = (one.isig[:, : 2 * SLAB].deepcopy() for one in load(folder))
    options = {"iterations": iterations, "ratios": BRIGHTNESS, "show_progressbar": False}
    loaded = tuple(one.deepcopy() for one in (eds, haadf))
    for one in loaded:
        one.compute(show_progressbar=False)
    times = {"lazy": [], "in memory": []}
    for _ in range(2):
        start = time.perf_counter()
        eds.reconstruct_hebt(haadf, **options).save(
            folder / "part.zspy", overwrite=True, show_progressbar=False
        )
        times["lazy"].append(time.perf_counter() - start)
        start = time.perf_counter()
        loaded[0].reconstruct_hebt(loaded[1], **options)
        times["in memory"].append(time.perf_counter() - start)
    queue.put({name: min(values) for name, values in times.items()})


def in_fresh_process(function, *arguments):
    """Return what a function puts into its queue, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=function, args=(*arguments, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} ended with the exit code {process.exitcode}")
    return queue.get()


def main() -> None:
    """Print both tables."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    parser = argparse.ArgumentParser(description="HEBT from disk to disk")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=512)
    parser.add_argument("--tilts", type=int, default=61)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--timed", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_series(
            folder, arguments.size, arguments.slices, np.linspace(-75, 75, arguments.tilts)
        )
        print(
            f"{arguments.size} x {arguments.size} x {arguments.slices} voxels, 2 elements, "
            f"{arguments.tilts} tilts: volume "
            f"{8 * arguments.size**2 * arguments.slices / 1e9:.2f} GB"
        )
        seconds, peak, beyond, cutting = in_fresh_process(stream, folder, arguments.iterations)
        print(
            f"whole job, {arguments.iterations} iterations: {seconds:.0f} s, peak {peak:.2f} GB, "
            f"{beyond:.2f} GB beyond the imports"
        )
        print(f"slabs: {cutting}")
        times = in_fresh_process(compare, folder, arguments.timed)
        for name, spent in times.items():
            each = 1e3 * spent / arguments.timed / (2 * SLAB)
            print(f"{name}: {each:.2f} ms per slice and iteration ({arguments.timed} iterations)")
        print(f"overhead {times['lazy'] / times['in memory'] - 1:+.1%}")


if __name__ == "__main__":
    main()
