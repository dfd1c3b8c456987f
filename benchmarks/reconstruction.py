# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT and HEBT side by side with other programs.

    python benchmarks/reconstruction.py

Each program runs in a fresh process. Slow ones get few slices, as the table says; all figures are
per slice and iteration (for HEBT per slice of both elements), without setting up. Core seconds are
those of all threads; "per core" is the ratio of core seconds, which does not depend on the number
of threads that a program uses.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import time

import numpy as np
import peers
from peers import Problem

PROBLEMS = {
    "256^2 x 64 slices, 61 tilts": Problem(256, 61, 64),
    "300^3, 31 tilts": Problem(300, 31, 300),
}

# Per method: the function in `peers`, its name, the slices it is given (None: all) and the
# iterations that are timed. Ours first.
METHODS = {
    "SIRT": [
        ("ours_sirt", "hyperspy_multitomo", None, 20),
        ("scipy_sirt", "scipy CSR, slices as columns", 64, 3),
        ("astra_sirt", "ASTRA CPU SIRT 'linear'", 2, 5),
        ("etspy_sirt", "ETSpy, cuda=False", 2, 5),
    ],
    "HEBT, 2 elements": [
        ("ours_hebt", "hyperspy_multitomo", None, 20),
        ("scipy_hebt", "scipy CSR, stacked matrix", 64, 3),
    ],
}
REPEATS = 3


def _megabytes() -> float:
    """Return the most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(peer: str, problem: Problem, slices: int, iterations: int, queue) -> None:
    """Put wall and core ms per slice and iteration, and the peak MB beyond the imports."""
    small = Problem(16, 3, 2)
    getattr(peers, peer)(small, 2)(
        1
    )  # imports; the first iteration below compiles the kernels for these slices
    before = _megabytes()
    iterate = getattr(peers, peer)(problem, slices)
    iterate(1)
    times = []
    for _ in range(REPEATS):
        once = (0.0, 0.0)
        for repeat in (1, 1 + iterations) if peer.startswith("etspy") else (iterations,):
            wall, core = time.perf_counter(), time.process_time()
            iterate(repeat)
            spent = time.perf_counter() - wall, time.process_time() - core
            # ETSpy sets up in every call: the difference of two calls is the iterations alone.
            last, once = once, spent
        if peer.startswith("etspy"):
            once = (once[0] - last[0], once[1] - last[1])
        times.append(once)
    wall, core = 1e3 * np.min(times, axis=0) / slices / iterations
    queue.put((wall, core, _megabytes() - before))


def in_fresh_process(*task) -> tuple[float, float, float]:
    """Return what `measure` puts, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=measure, args=(*task, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{task[0]} ended with the exit code {process.exitcode}")
    return queue.get()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="SIRT and HEBT side by side with other programs")
    parser.add_argument(
        "--methods", nargs="*", default=list(METHODS), choices=METHODS, help="which tables to print"
    )
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; ms per slice and "
        f"iteration, best of {REPEATS}\n"
    )
    print(
        "| problem | method | program | slices | wall | core | ours faster, wall | per core | "
        "memory (MB) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for title, problem in PROBLEMS.items():
        for method in arguments.methods:
            ours = None
            for peer, name, slices, iterations in METHODS[method]:
                slices = min(slices or problem.slices, problem.slices)
                wall, core, memory = in_fresh_process(peer, problem, slices, iterations)
                ours = ours or (wall, core)
                print(
                    f"| {title} | {method} | {name} | {slices} | {wall:.3f} | {core:.3f} | "
                    f"{wall / ours[0]:.1f} "
                    f"| {core / ours[1]:.1f} | {memory:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
