# SPDX-License-Identifier: GPL-3.0-or-later
"""TV, TGV and nuclear TV: time, memory and bandwidth of an iteration, iterations to the minimum, growth, Graptor beside them.

`python benchmarks/variational.py [--graptor DIR [--graptor-python PYTHON]]`. Times are per slice, channel and iteration, the best of
several, every point in a fresh process and without setting up; core milliseconds are those of all threads. Memory is what the
process held at its peak beyond the imports. "Moved" are the bytes that an iteration cannot but read or write, once each, and "of
the copy" how near this comes to the bandwidth that the same cores reach when they copy a large array.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

# Name: kind, coupling.
METHODS = {"TV": ("tv", "frobenius"), "TGV": ("tgv", "frobenius"), "TNV": ("tv", "nuclear")}
REPEATS, ITERATIONS = 5, 3
GAPS = (1e-2, 1e-3)
# The weights mu of the paper for its phantom, HAADF, Yb, Al and Si, for maps scaled by these percentiles.
PUBLISHED, PERCENTILE = (0.2, 5e-4, 4e-3, 5e-4), 98


@dataclass(frozen=True)
class Size:
    """A reconstruction of `channels` maps, `width` pixels wide, at `tilts` tilts, of `slices` slices, on so many threads."""

    width: int = 256
    tilts: int = 36
    slices: int = 64
    channels: int = 4
    dimensions: int = 3
    threads: int | None = None

    @property
    def voxels(self) -> int:
        """Voxels times channels."""
        return self.width**2 * self.slices * self.channels

    def moved(self, kind: str) -> float:
        """Return the bytes per voxel and channel that four passes read and write in one iteration.

        Projecting back writes a volume. The step of the volume reads it, its extrapolated twin and p, and writes the two; that
        of p reads the twin and p and writes p; projecting reads the twin. TGV has field and twin (read, read again by the dual
        step, written) and q (read twice, written once) too. A ray is written and read on both ways, its data are read, its dual
        variable is read and written.
        """
        slopes, strains = self.dimensions, self.dimensions * (self.dimensions + 1) // 2
        numbers = 8 + 3 * slopes + (5 * slopes + 3 * strains if kind == "tgv" else 0)
        return 4 * (numbers + 7 * self.tilts / self.width)


def iterates(method: str, size: Size):
    """Return the iterates of a problem of random counts."""
    from hyperspy_multitomo.tomography import DataTerm, Regulariser, TiltGeometry, projector, variational

    A = projector(TiltGeometry(np.arange(size.tilts) * 180 / size.tilts, size.width), threads=size.threads)
    counts = np.random.default_rng(0).integers(0, 12, (size.channels, *A.range_shape, size.slices), np.uint8)
    kind, coupling = METHODS[method]
    regulariser = Regulariser(10.0, kind, coupling, size.dimensions)
    return variational([DataTerm(A, counts.astype(np.float32))], regulariser, np.full(size.channels, 0.05))


def measure(method: str, size: Size, queue) -> None:
    """Put wall and core ms per slice, channel and iteration, and the memory in bytes per voxel and channel."""
    from hyperspy_multitomo.tomography import run

    run(iterates(method, Size(16, 3, min(size.slices, 64), 2, size.dimensions)), 2)  # imports and compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    at_work = iterates(method, size)
    run(at_work, 1)
    times = []
    for _ in range(REPEATS):
        wall, core = time.perf_counter(), time.process_time()
        run(at_work, ITERATIONS)
        times.append((time.perf_counter() - wall, time.process_time() - core))
    each = 1e3 * np.min(times, axis=0) / ITERATIONS / size.slices / size.channels
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put((*each, 1024 * (peak - before) / size.voxels))


def in_own_process(method: str, size: Size) -> tuple[float, float, float]:
    """Return what `measure` puts, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=measure, args=(method, size, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{method} of {size} ended with the exit code {process.exitcode}")
    return queue.get()


def copy_bandwidth(threads: int, megabytes: int = 256) -> float:
    """Return how many GB/s are read and written when so many threads copy arrays of that size."""
    pairs = [np.ones((2, megabytes * 2**18), np.float32) for _ in range(threads)]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(8):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            best = min(best, time.perf_counter() - start)
    return threads * pairs[0].nbytes / best / 1e9


def iterations_table(base: Size, cores: int) -> float:
    """Print time, memory and bandwidth of an iteration; return the core milliseconds of TGV in 3-D on one thread."""
    copies = {threads: copy_bandwidth(threads) for threads in sorted({1, cores})}
    print("copying large arrays: " + ", ".join(f"{rate:.1f} GB/s on {threads} threads" for threads, rate in copies.items()))
    print(f"\n{base.width}^2 x {base.slices} slices, {base.tilts} tilts, {base.channels} channels\n")
    print("| method | threads | wall ms | core ms | of TV | memory (B/voxel) | moved (B/voxel) | GB/s | of the copy |")
    print("|" + 9 * "---|")
    alone = 0.0
    for threads, rate in copies.items():
        for dimensions in (2, 3):
            tv = None
            for method, (kind, _) in METHODS.items():
                size = replace(base, dimensions=dimensions, threads=threads)
                wall, core, memory = in_own_process(method, size)
                tv = tv or wall
                speed = size.moved(kind) * size.width**2 / wall / 1e6
                print(
                    f"| {method} {dimensions}-D | {threads} | {wall:.3f} | {core:.3f} | {wall / tv:.2f} | {memory:.0f} "
                    f"| {size.moved(kind):.0f} | {speed:.1f} | {speed / rate:.0%} |",
                    flush=True,
                )
                if (method, dimensions, threads) == ("TGV", 3, 1):
                    alone = core
    return alone


def growth_table(base: Size) -> None:
    """Print how the whole time of an iteration and the memory of 3-D TGV grow with slices and channels."""
    print("\n| TGV 3-D, varied | value | ms per iteration | memory (MB) | time ~ n^p, p | memory ~ n^p, p |\n|---|---|---|---|---|---|")
    for name, values in {"slices": (16, 32, 64, 128), "channels": (1, 2, 4, 8)}.items():
        points = []
        for value in values:
            size = replace(base, **{name: value})
            wall, _, memory = in_own_process("TGV", size)
            points.append((value, wall * size.slices * size.channels, memory * size.voxels / 1e6))
            powers = " | | |"
            if value == values[-1]:
                n, *grown = np.log(points[-2:]).T
                powers = f" | {np.ptp(grown[0]) / np.ptp(n):.2f} | {np.ptp(grown[1]) / np.ptp(n):.2f} |"
            print(f"| {name} | {value} | {points[-1][1]:.1f} | {points[-1][2]:.0f}{powers}", flush=True)


def published_problem(size: int, slices: int):
    """Return terms and scales of the Huber phantom with the weights of the paper.

    Its program minimises sum mu_c |T| KL(T u_c, f_c) + TGV(u) for maps f_c = F_c/m_c, m_c a high percentile, and lengths in
    pixels, |T| being the norm of the projection. In counts F_c that is sum d_c KL(W x_c, F_c) + TGV(x/S), with d_c =
    mu_c |T|/m_c and S_c = m_c/pixel.
    """
    from hyperspy_multitomo.simulation import simulate
    from hyperspy_multitomo.simulation.phantoms import huber
    from hyperspy_multitomo.tomography import DataTerm, TiltGeometry, projector

    series = simulate(huber(size, slices), seed=0)
    maps = np.concatenate([series.haadf[None], series.maps]).astype(np.float32)
    largest = np.array([np.percentile(channel, PERCENTILE) for channel in maps])
    A = projector(TiltGeometry(series.tilts, size, pixel_size=series.pixel_size))
    norm = A.norm() / series.pixel_size
    return [DataTerm(A, maps, weight=np.array(PUBLISHED) * norm / largest)], largest / series.pixel_size


def systems(terms, scales, kind: str) -> dict:
    """Return the problem with the engine's step sizes and with those of the paper, as printed and as in its program."""
    from hyperspy_multitomo.tomography.variational_system import VariationalSystem

    @dataclass(frozen=True)
    class PaperRule(VariationalSystem):
        """sigma = tau = 1/sqrt(17) for the projection T/|T|: the text has the volume times |T|, the program the objective by |T|^2."""

        ratio: float = 1.0  # |T| or |T|^2

        @property
        def data_steps(self):
            sigma = self.strength * self.ratio / np.sqrt(17) / (self.scales * self.A.norm()) ** 2
            return [np.broadcast_to(sigma[:, None, None], (self.channels, *self.A.range_shape)).astype(np.float32)]

        @property
        def volume_steps(self):
            return np.full((self.channels, *self.A.domain_shape), self.field_step, np.float32)

        @property
        def gradient_step(self):
            return self.strength * self.ratio / np.sqrt(17)

        @property
        def field_step(self):
            return 1 / (self.strength * self.ratio * np.sqrt(17))

        @property
        def matrix_step(self):
            return self.gradient_step

    checked = tuple(term.checked(len(scales), "eds") for term in terms)
    A, slices = checked[0].A, checked[0].data.shape[-1]
    start = np.zeros((len(scales), *A.domain_shape, slices), np.float32)
    problem = dict(terms=checked, scales=np.float32(scales), initial=start, kind=kind, coupling="frobenius", dimensions=3)
    norm = A.norm() / A.geometry.pixel_size
    return {
        "ours": VariationalSystem(**problem, strength=1.0),
        "paper": PaperRule(**problem, strength=1.0, relaxation=1.0, ratio=norm),
        "its program": PaperRule(**problem, strength=1.0, relaxation=1.0, ratio=norm**2),
    }
