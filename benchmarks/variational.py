# SPDX-License-Identifier: GPL-3.0-or-later
"""TV, TGV and nuclear TV: time, memory, bandwidth and convergence, beside Graptor.

    python benchmarks/variational.py [--graptor DIR [--graptor-python PYTHON]]

Times are per slice, channel and iteration, the best of several, every point in a fresh process and
without setting up; core milliseconds are those of all threads. Memory is the peak of the process
beyond the imports. "Moved" is the least number of bytes that an iteration reads and writes; "of the
copy" is its bandwidth over that of the same cores when they copy a large array.
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
# The paper's weights mu of HAADF, Yb, Al and Si for its phantom, and the percentile by which the
# maps are scaled.
PUBLISHED, PERCENTILE = (0.2, 5e-4, 4e-3, 5e-4), 98


@dataclass(frozen=True)
class Size:
    """Size of a reconstruction; `width` in pixels."""

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

    def bytes_moved(self, kind: str) -> float:
        """Return the bytes per voxel and channel that four passes read and write in one iteration.

        The back projection writes a volume. The primal step reads it, the extrapolated volume and
        p, and writes both volumes; the dual step of p reads the extrapolated volume and p and
        writes p; the projection reads the extrapolated volume. TGV also has a field with its
        extrapolation (read, read again by the dual step, written) and q (read twice, written once).
        A ray is written and read both ways, its data are read, its dual variable is read and
        written.
        """
        slopes, strains = self.dimensions, self.dimensions * (self.dimensions + 1) // 2
        numbers = 8 + 3 * slopes + (5 * slopes + 3 * strains if kind == "tgv" else 0)
        return 4 * (numbers + 7 * self.tilts / self.width)


def iterates(method: str, size: Size):
    """Return the iterates of a problem of random counts."""
    from hyperspy_multitomo.tomography import (
        DataTerm,
        Regulariser,
        TiltGeometry,
        projector,
        variational,
    )

    A = projector(
        TiltGeometry(np.arange(size.tilts) * 180 / size.tilts, size.width), threads=size.threads
    )
    counts = np.random.default_rng(0).integers(
        0, 12, (size.channels, *A.range_shape, size.slices), np.uint8
    )
    kind, coupling = METHODS[method]
    regulariser = Regulariser(10.0, kind, coupling, size.dimensions)
    return variational(
        [DataTerm(A, counts.astype(np.float32))], regulariser, np.full(size.channels, 0.05)
    )


def measure(method: str, size: Size, queue) -> None:
    """Put wall and core ms per slice, channel and iteration, and bytes per voxel and channel."""
    from hyperspy_multitomo.tomography import run

    run(
        iterates(method, Size(16, 3, min(size.slices, 64), 2, size.dimensions)), 2
    )  # imports and compiles
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


def in_fresh_process(function, *task):
    """Return what a function puts, from a fresh process.

    The peak memory of the child starts at that of this process, which therefore has to stay small.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=function, args=(*task, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(
            f"{function.__name__} of {task} ended with the exit code {process.exitcode}"
        )
    return queue.get()


def copy_bandwidth(threads: int, queue, megabytes: int = 256) -> None:
    """Put the GB/s, read and written, of `threads` threads that copy arrays of that size."""
    pairs = [np.ones((2, megabytes * 2**18), np.float32) for _ in range(threads)]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(8):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            best = min(best, time.perf_counter() - start)
    queue.put(threads * pairs[0].nbytes / best / 1e9)


def iterations_table(base: Size, cores: int) -> float:
    """Print time, memory and bandwidth of an iteration; return the core ms of 3-D TGV, 1 thread."""
    copies = {threads: in_fresh_process(copy_bandwidth, threads) for threads in sorted({1, cores})}
    print(
        "copying large arrays: "
        + ", ".join(f"{rate:.1f} GB/s on {threads} threads" for threads, rate in copies.items())
    )
    print(
        f"\n{base.width}^2 x {base.slices} slices, {base.tilts} tilts, {base.channels} channels\n"
    )
    print(
        "| method | threads | wall ms | core ms | of TV | memory (B/voxel) | moved (B/voxel) | "
        "GB/s | of the copy |"
    )
    print("|" + 9 * "---|")
    alone = 0.0
    for threads, rate in copies.items():
        for dimensions in (2, 3):
            tv = None
            for method, (kind, _) in METHODS.items():
                size = replace(base, dimensions=dimensions, threads=threads)
                wall, core, memory = in_fresh_process(measure, method, size)
                tv = tv or wall
                speed = size.bytes_moved(kind) * size.width**2 / wall / 1e6
                print(
                    f"| {method} {dimensions}-D | {threads} | {wall:.3f} | {core:.3f} | "
                    f"{wall / tv:.2f} | {memory:.0f} "
                    f"| {size.bytes_moved(kind):.0f} | {speed:.1f} | {speed / rate:.0%} |",
                    flush=True,
                )
                if (method, dimensions, threads) == ("TGV", 3, 1):
                    alone = core
    return alone


def growth_table(base: Size) -> None:
    """Print the growth of time and memory of 3-D TGV with slices and channels."""
    print(
        "\n| TGV 3-D, varied | value | ms per iteration | memory (MB) | time ~ n^p, p | memory ~ "
        "n^p, p |"
    )
    print("|" + 6 * "---|")
    for name, values in {"slices": (16, 32, 64, 128), "channels": (1, 2, 4, 8)}.items():
        points = []
        for value in values:
            size = replace(base, **{name: value})
            wall, _, memory = in_fresh_process(measure, "TGV", size)
            points.append((value, wall * size.slices * size.channels, memory * size.voxels / 1e6))
            powers = " | | |"
            if value == values[-1]:
                n, *grown = np.log(points[-2:]).T
                powers = (
                    f" | {np.ptp(grown[0]) / np.ptp(n):.2f} | {np.ptp(grown[1]) / np.ptp(n):.2f} |"
                )
            print(
                f"| {name} | {value} | {points[-1][1]:.1f} | {points[-1][2]:.0f}{powers}",
                flush=True,
            )


def published_problem(size: int, slices: int, threads: int):
    """Return terms, scales and strength of Huber's phantom with the paper's weights, and |T|.

    Its program minimises sum mu_c |T| KL(T u_c, f_c) + TGV(u) for maps f_c = F_c/m_c, m_c a high
    percentile, and lengths in pixels, |T| being the norm of the projection. In counts F_c that is
    sum d_c KL(W x_c, F_c) + lambda TGV(x/S), with d_c = mu_c |T|/m_c and lambda/S_c = pixel/m_c:
    lambda is free, and 1 over the mean ray makes x/S about 1.
    """
    from hyperspy_multitomo.simulation import simulate
    from hyperspy_multitomo.simulation.phantoms import huber
    from hyperspy_multitomo.tomography import DataTerm, TiltGeometry, projector

    series = simulate(huber(size, slices), seed=0)
    maps = np.concatenate([series.haadf[None], series.maps]).astype(np.float32)
    largest = np.array([np.percentile(channel, PERCENTILE) for channel in maps])
    A = projector(TiltGeometry(series.tilts, size, pixel_size=series.pixel_size), threads=threads)
    norm, ray = A.norm() / series.pixel_size, float(A.row_sums().mean())
    term = DataTerm(A, maps, weight=np.array(PUBLISHED) * norm / largest, count=1.0)
    return term, largest / ray, series.pixel_size / ray, norm


def systems(kind: str, term, scales, strength: float, norm: float) -> dict:
    """Return the problem with our step sizes and the paper's, as printed and as programmed."""
    from hyperspy_multitomo.tomography.variational_system import VariationalSystem

    @dataclass(frozen=True)
    class PaperRule(VariationalSystem):
        """sigma = tau = 1/sqrt(17), no over-relaxation, with the projection T/|T|.

        The printed form scales the volume by |T|, the program the objective by 1/|T|^2: `balance`
        times lambda is what either makes of the dual step sizes here.
        """

        balance: float = 1.0

        @property
        def data_steps(self):
            sigma = self.gradient_step / (self.scales * self.A.norm()) ** 2
            return [
                np.broadcast_to(sigma[:, None, None], (self.channels, *self.A.range_shape)).astype(
                    np.float32
                )
            ]

        @property
        def volume_steps(self):
            return np.full((self.channels, *self.A.domain_shape), self.field_step, np.float32)

        @property
        def gradient_step(self):
            return self.strength * self.balance / np.sqrt(17)

        @property
        def field_step(self):
            return 1 / (self.strength * self.balance * np.sqrt(17))

        @property
        def matrix_step(self):
            return self.gradient_step

    checked = term.checked(len(scales), "eds").in_units(np.ones(len(scales)))
    start = np.zeros((len(scales), *checked.A.domain_shape, checked.data.shape[-1]), np.float32)
    problem = dict(
        terms=(checked,),
        scales=np.float32(scales),
        initial=start,
        kind=kind,
        coupling="frobenius",
        dimensions=3,
        strength=strength,
    )
    return {
        "ours": VariationalSystem(**problem),
        "paper, as printed": PaperRule(**problem, relaxation=1.0, balance=norm * strength),
        "paper, as its program": PaperRule(**problem, relaxation=1.0, balance=norm**2 * strength),
    }


def first_below(objectives: list, times: list, level: float) -> str:
    """Return the iterations and seconds after which the objective stays below a level."""
    from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY

    above = np.flatnonzero(np.array(objectives) > level)
    at = above[-1] + 1 if above.size else 0
    if at == len(objectives):
        return f"> {MEASURED_EVERY * at} | > {times[-1]:.1f}"
    return f"{MEASURED_EVERY * (at + 1)} | {times[at]:.1f}"


def gaps_table(size: int, slices: int, most: int, threads: int) -> None:
    """Print iterations and seconds to relative gaps above the lowest objective of all runs."""
    from hyperspy_multitomo.tomography.cpu.primal_dual_fused import primal_dual_of

    problem = published_problem(size, slices, threads)
    print(
        f"\nHuber phantom with the published weights, {size}^2 x {slices} slices, 4 channels, 3-D; "
        f"at most {most} iterations\n"
    )
    print(
        "| regulariser | steps | "
        + " | ".join(f"iterations to {gap:g} | s" for gap in GAPS)
        + " | gap at the end |"
    )
    print("|" + (3 + 2 * len(GAPS)) * "---|")
    for name in ("TV", "TGV"):
        curves = {}
        for rule, system in systems(METHODS[name][0], *problem).items():
            steps, objectives, times, spent = primal_dual_of(system), [], [], 0.0
            steps.advance()  # compiles
            for _ in range(most - 1):
                start = time.perf_counter()
                steps.advance()
                spent += time.perf_counter() - start
                if steps.measured:
                    objectives.append(steps.residuals["objective"])
                    times.append(spent)
            steps.close()
            curves[rule] = objectives, times
        lowest = min(min(objectives) for objectives, _ in curves.values())
        for rule, (objectives, times) in curves.items():
            reached = " | ".join(first_below(objectives, times, (1 + gap) * lowest) for gap in GAPS)
            print(
                f"| {name} | {rule} | {reached} | {objectives[-1] / lowest - 1:.1e} |", flush=True
            )


def graptor_table(directory: str, python: str, base: Size, alone: float) -> None:
    """Print the times of Graptor, of fewer slices, against the core milliseconds of ours."""
    print(
        "\n| Graptor, coupled TGV 3-D, on | threads | wall ms | core ms | ours faster, per core "
        "|\n|---|---|---|---|---|"
    )
    for threads in sorted({1, base.threads}):
        command = [
            python,
            "-W",
            "ignore",
            str(Path(__file__).with_name("graptor.py")),
            directory,
            f"--threads={threads}",
        ]
        command += [f"--{name}={getattr(base, name)}" for name in ("width", "tilts", "channels")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"\nGraptor did not run: {done.stderr.strip().splitlines()[-1]}")
            return
        for line in filter(lambda line: line.startswith("{"), done.stdout.splitlines()):
            answer = json.loads(line)
            if "error" in answer:
                print(f"| {answer['platform']} | {threads} | {answer['error']} | | |", flush=True)
            else:
                ratio = answer["core"] / alone
                print(
                    f"| {answer['platform']} | {threads} | {answer['wall']:.2f} | "
                    f"{answer['core']:.2f} | {ratio:.1f} |",
                    flush=True,
                )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="time and memory of TV, TGV and nuclear TV")
    parser.add_argument(
        "--graptor",
        metavar="DIR",
        help="a clone of https://github.com/kbredies/graptor to compare with",
    )
    parser.add_argument(
        "--graptor-python",
        default=sys.executable,
        help="a Python with pyopencl, see benchmarks/graptor.py",
    )
    parser.add_argument(
        "--width", type=int, default=256, help="pixels across, of the table of times"
    )
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument(
        "--iterations", type=int, default=3000, help="at most, of the table of gaps"
    )
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    base = Size(arguments.width, slices=arguments.slices, threads=cores)
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores; ms per slice, channel and "
        f"iteration, best of {REPEATS}\n"
    )
    alone = iterations_table(base, cores)
    if arguments.graptor:
        graptor_table(arguments.graptor, arguments.graptor_python, base, alone)
    else:
        print(
            "\nGraptor is left out: give a clone of https://github.com/kbredies/graptor as "
            "--graptor DIR"
        )
    growth_table(replace(base, width=arguments.width // 2))
    gaps_table(64, 16, arguments.iterations, cores)


if __name__ == "__main__":
    main()
