# SPDX-License-Identifier: GPL-3.0-or-later
"""Time and memory of every step from files to composition.

    python benchmarks/pipeline.py [JOB ...]

The jobs are the simulated particle of the README, the dust particle and the quantum dots in the
folder of `--data` (those that are there), a large simulated series, and a HAADF alone, beside ETSpy
(`uv run --group benchmark ...`). Each runs in a fresh process, by plain calls; imports are a step
of their own, and what the kernels take to compile counts the first time. Memory is that of the
process at its peak, up to the end of the step.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

ELEMENTS = ["O", "Mg", "Al", "Si", "S", "Fe"]


class Clock:
    """Measures the time of steps; work outside of them is not counted."""

    def __init__(self, queue):
        self._queue = queue

    def step(self, name: str, function, *arguments, **keywords):
        """Call, put (name, wall s, core s, MB) and return what the call returns."""
        wall, core = time.perf_counter(), time.process_time()
        value = function(*arguments, **keywords)
        spent = time.perf_counter() - wall, time.process_time() - core
        self._queue.put((name, *spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return value


def imported():
    """Import what all jobs use."""
    import hyperspy.api as hs

    import hyperspy_multitomo as mt

    hs.preferences.General.show_progressbar = False
    for name in ("load_tilt_series", "TiltSeriesEDS"):
        getattr(mt, name)
    return mt


def _written(folder: Path, series, maps: dict, pixel_size: float) -> tuple[Path, Path]:
    """Save a simulated series, maps (tilt, x, y) by element, as the files that the jobs read."""
    mt = imported()
    known = {"tilts": series.tilts, "pixel_size": pixel_size}
    files = folder / "haadf.zspy", folder / "eds.zspy"
    mt.TiltSeriesHAADF.from_images(series.haadf.transpose(0, 2, 1), **known).save(files[0])
    mt.TiltSeriesEDS.from_maps(
        {name: one.transpose(0, 2, 1) for name, one in maps.items()}, **known
    ).save(files[1])
    return files


def _bimodal(clock: Clock, haadf, eds) -> None:
    """Align, fit, reconstruct by HEBT and quantify."""
    alignment = clock.step("align", haadf.align)
    eds.align(alignment)
    clock.step("gains", lambda: (haadf.estimate_gains(), eds.estimate_gains(haadf)))
    clock.step("response ratios", eds.fit_response_ratios, haadf)
    volume = clock.step("HEBT, 100 iterations", eds.reconstruct_hebt, haadf, show_progressbar=False)
    clock.step("quantify", volume.quantify, "CL", dict.fromkeys(eds.elements, 1.0))


def simulated(clock: Clock, folder: Path, _data: Path) -> None:
    """Do the simulated particle of `multitomo-demo`."""
    from hyperspy_multitomo.simulation import simulate, yuan

    rng = np.random.default_rng(7)
    tilts = np.arange(-75.0, 76.0, 5.0)
    moved = {name: rng.uniform(-3, 3, tilts.size).round(1) for name in ("across", "along")}
    series = simulate(yuan(size=97, slices=64), tilts=tilts, dose=0.2, blur=0, seed=7, **moved)
    maps = dict(zip(series.elements, series.maps, strict=True))
    _from_zspy(clock, _written(folder, series, maps, series.pixel_size))


def large(clock: Clock, folder: Path, _data: Path) -> None:
    """Do 512 x 512 pixels, 61 tilts, three elements, the third distributed as the first."""
    from hyperspy_multitomo.simulation import misaligned

    series = misaligned("particle", size=512, tilts=np.linspace(-75, 75, 61), counts=2.0)
    maps = dict(zip(series.elements, series.maps, strict=True))
    maps["Ni"] = np.random.default_rng(1).poisson(0.5 * series.expected_maps[0]).astype(np.float32)
    _from_zspy(clock, _written(folder, series, maps, 1.0))


def _from_zspy(clock: Clock, files: tuple[Path, Path]) -> None:
    import hyperspy.api as hs

    haadf, eds = clock.step("load", lambda: [hs.load(file) for file in files])
    _bimodal(clock, haadf, eds)


def dust(clock: Clock, _folder: Path, data: Path) -> None:
    """Do the dust particle: Bruker files, 16 tilts, six elements."""
    mt = imported()
    haadf, spectra = clock.step("load", mt.load_tilt_series, data / "idp_l2083")
    eds = clock.step(
        "map the elements",
        mt.elemental_maps,
        spectra,
        elements=ELEMENTS,
        also="auto",
        show_progressbar=False,
    )
    _bimodal(clock, haadf, eds)


def dots(clock: Clock, folder: Path, data: Path) -> None:
    """Do the quantum dots: 13 tilts, three elements, 0.03 counts per pixel, no HAADF."""
    import hyperspy.api as hs

    mt = imported()
    with np.load(data / "quantum_dots" / "core_shell_13_tilts.npz") as archive:
        maps, tilts = (
            dict(zip(archive["elements"].tolist(), archive["counts"], strict=True)),
            archive["tilts"],
        )
    mt.TiltSeriesEDS.from_maps(maps, tilts=tilts, pixel_size=1.0).save(folder / "eds.zspy")
    eds = clock.step("load", hs.load, folder / "eds.zspy")
    clock.step("align", eds.align)
    volume = clock.step("nuclear TV", eds.reconstruct_tnv, show_progressbar=False)
    clock.step("quantify", volume.quantify, "CL", dict.fromkeys(eds.elements, 1.0))


def _needle():
    from hyperspy_multitomo.simulation import misaligned

    return misaligned("needle", size=256, tilts=np.linspace(-75, 75, 77))


def haadf_alone(clock: Clock, folder: Path, _data: Path) -> None:
    """Do a HAADF of 77 tilts, 256 x 256 pixels, alone: aligned, reconstructed by SIRT, saved."""
    mt, series = imported(), _needle()
    haadf = mt.TiltSeriesHAADF.from_images(
        series.haadf.transpose(0, 2, 1), tilts=series.tilts, pixel_size=1.0
    )
    clock.step("align: shifts, axis and rotation", haadf.align)
    volume = clock.step("SIRT, 100 iterations", haadf.reconstruct_sirt, 100, show_progressbar=False)
    clock.step("save", volume.save, folder / "volume.hspy")


def haadf_alone_etspy(clock: Clock, folder: Path, _data: Path) -> None:
    """Do the same with ETSpy's methods."""
    from etspy.api import TomoStack

    logging.getLogger("etspy").setLevel(logging.ERROR)
    series = _needle()
    stack = TomoStack(series.haadf, tilts=series.tilts[:, None])
    aligned = clock.step(
        "align: shifts (PC), axis and rotation (CoM)",
        lambda: stack.stack_register("PC", show_progressbar=False).tilt_align(
            "CoM", show_progressbar=False
        ),
    )
    how = {"cuda": False, "constrain": True, "show_progressbar": False}
    # Two slices; each of the others takes as long.
    some = aligned.isig[:2, :] if hasattr(aligned, "isig") else aligned
    clock.step("SIRT, 100 iterations, 2 of 256 slices", some.reconstruct, "SIRT", 100, **how)


JOBS = {
    "simulated": simulated,
    "dust": dust,
    "dots": dots,
    "large": large,
    "haadf": haadf_alone,
    "haadf-etspy": haadf_alone_etspy,
}
NEEDS = {"dust": "idp_l2083", "dots": "quantum_dots"}


def measure(job: str, data: Path, queue) -> None:
    """Do a job, and put its steps; None at the end."""
    warnings.simplefilter("ignore")
    clock = Clock(queue)
    clock.step("imports", imported)
    with tempfile.TemporaryDirectory() as folder:
        JOBS[job](clock, Path(folder), data)
    queue.put(None)


def report(job: str, data: Path) -> None:
    """Do a job in a fresh process and print a row for each step, and their sum."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=measure, args=(job, data, queue))
    process.start()
    steps = []
    while process.is_alive() or not queue.empty():
        if queue.empty():
            time.sleep(0.05)
            continue
        step = queue.get()
        if step is None:
            break
        steps.append(step)
        print("| {} | {} | {:.2f} | {:.2f} | {:.0f} |".format(job, *step), flush=True)
    process.join()
    if process.exitcode:
        print(f"| {job} | ended with the exit code {process.exitcode} | | | |")
        return
    wall, core, memory = (np.array([step[k] for step in steps]) for k in (1, 2, 3))
    print(
        f"| {job} | **in all** | **{wall.sum():.1f}** | **{core.sum():.1f}** | "
        f"**{memory.max():.0f}** |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="from files to composition, step by step")
    parser.add_argument("jobs", nargs="*", default=list(JOBS), help=", ".join(JOBS))
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder of idp_l2083 and quantum_dots",
    )
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    print("| job | step | wall (s) | core (s) | memory (MB) |")
    print("|---|---|---|---|---|")
    for job in options.jobs:
        if job in NEEDS and not (options.data / NEEDS[job]).exists():
            print(f"| {job} | not there: {options.data / NEEDS[job]} | | | |")
            continue
        report(job, options.data.resolve())


if __name__ == "__main__":
    main()
