# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth of time and memory of SIRT, HEBT and TGV with slices, size, tilts, elements, threads.

`python benchmarks/growth.py [--figure growth.png]`. One size is varied at a time around a base
problem; every point is measured in a fresh process, without setting up. Memory is the peak of the
process beyond the imports, input data included. The exponent p of the growth ~ n^p is fitted to the
larger half of the points, where fixed costs are negligible. Prints a table and draws a figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import platform
import resource
import time

import numpy as np

REPEATS, ITERATIONS = 10, 4


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a reconstruction; `width` in pixels."""

    slices: int = 64
    width: int = 192
    tilts: int = 31
    elements: int = 2
    threads: int | None = None


SWEEPS = {
    "slices": (16, 32, 64, 128, 256),
    "width": (64, 96, 128, 192, 256, 384),
    "tilts": (15, 31, 61, 121),
    "elements": (1, 2, 4, 8),
}
METHODS = ("SIRT", "HEBT", "TGV")
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def measure(method: str, size: Size, queue) -> None:
    """Put the wall milliseconds of one iteration, the best of several, and the memory in MB."""
    from hyperspy_multitomo.tomography import (
        DataTerm,
        Regulariser,
        TiltGeometry,
        hebt,
        projector,
        run,
        sirt,
        variational,
    )

    def iterates(size: Size):
        A = projector(
            TiltGeometry(np.linspace(-75, 75, size.tilts), size.width), threads=size.threads
        )
        maps = np.random.default_rng(0).random(
            (size.elements, *A.range_shape, size.slices), np.float32
        )
        if method == "TGV":
            return variational([DataTerm(A, maps)], Regulariser(1.0, "tgv"), np.ones(size.elements))
        return (
            sirt(A, maps)
            if method == "SIRT"
            else hebt(A, maps, maps.sum(axis=0), np.ones(size.elements))
        )

    run(iterates(Size(2, 16, 3, 1)), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    at_work = iterates(size)
    run(at_work, 1)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run(at_work, ITERATIONS)
        times.append((time.perf_counter() - start) / ITERATIONS)
    queue.put(
        (1e3 * min(times), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    )


def in_fresh_process(method: str, size: Size) -> tuple[float, float]:
    """Return what `measure` puts, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=measure, args=(method, size, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{method} of {size} ended with the exit code {process.exitcode}")
    return queue.get()


def exponent(sizes, values) -> float:
    """Return p of values ~ sizes^p, fitted to the larger half."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0])


def sweep(name: str, sizes, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return times (ms per iteration) and memory (MB) at these sizes, printing a row for each."""
    points = []
    for value in sizes:
        points.append(in_fresh_process(method, dataclasses.replace(Size(), **{name: value})))
        print(
            f"| {method} | {name} | {value} | {points[-1][0]:.2f} | {points[-1][1]:.0f} |",
            flush=True,
        )
    times, memory = np.array(points).T
    return times, memory


def draw(results: dict, path: str) -> None:
    """Draw time and memory against each size, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, panels = plt.subplots(
        2, len(SWEEPS) + 1, figsize=(15, 6), layout="constrained", sharey="row"
    )
    colours = dict(zip(METHODS, COLOURS, strict=True))
    for column, name in enumerate([*SWEEPS, "threads"]):
        for method in METHODS:
            sizes, times, memory = results[method, name]
            for row, values in enumerate((times, memory)):
                panel = panels[row, column]
                label = (
                    method if name == "threads" else f"{method}, ~n^{exponent(sizes, values):.2f}"
                )
                panel.loglog(sizes, values, "o-", color=colours[method], label=label)
                panel.set_xticks(sizes, [str(size) for size in sizes])
                panel.minorticks_off()
                panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                panel.yaxis.set_major_formatter("{x:g}")
                panel.legend(frameon=False, fontsize=8)
        unit = " (px)" if name == "width" else ""
        panels[1, column].set_xlabel(name + unit)
    panels[0, 0].set_ylabel("time of an iteration (ms)")
    panels[1, 0].set_ylabel("memory (MB)")
    base = Size()
    figure.suptitle(
        f"around {base.width} px x {base.slices} slices, {base.tilts} tilts, {base.elements} "
        "elements"
    )
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print the table, the exponents and the gain of threads; draw the figure."""
    parser = argparse.ArgumentParser(description="growth of time and memory of SIRT, HEBT and TGV")
    parser.add_argument("--figure", help="file to draw the figure to, e.g. growth.png")
    path = parser.parse_args().figure
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = sorted({1, *(2**k for k in range(1, 8) if 2**k < cores), cores})
    print(f"{platform.processor() or platform.machine()}, {cores} cores; base: {Size()}\n")
    print("| method | varied | value | ms per iteration | memory (MB) |\n|---|---|---|---|---|")
    results = {}
    for name, sizes in {**SWEEPS, "threads": threads}.items():
        for method in METHODS:
            results[method, name] = (sizes, *sweep(name, sizes, method))
    print("\n| method | grows with | time ~ n^p, p | memory ~ n^p, p |\n|---|---|---|---|")
    for (method, name), (sizes, times, memory) in results.items():
        if name != "threads":
            print(
                f"| {method} | {name} | {exponent(sizes, times):.2f} | "
                f"{exponent(sizes, memory):.2f} |"
            )
    print("\n| method | threads | speed-up | efficiency |\n|---|---|---|---|")
    for method in METHODS:
        sizes, times, _ = results[method, "threads"]
        for count, spent in zip(sizes, times, strict=True):
            print(
                f"| {method} | {count} | {times[0] / spent:.2f} | {times[0] / spent / count:.0%} |"
            )
    if path:
        draw(results, path)


if __name__ == "__main__":
    main()
