# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors and time of the alignment, beside ETSpy's methods on the same data.

    uv run --group benchmark python benchmarks/alignment.py accuracy

or ``joint``, ``speed``, ``real --data FOLDER`` (real data against a manual alignment).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from hyperspy_multitomo.alignment import Alignment, Modality, align, refine
from hyperspy_multitomo.alignment.auto import rough_shifts
from hyperspy_multitomo.inspection import alignment_errors
from hyperspy_multitomo.simulation import misaligned, simulate, yuan
from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt

SEEDS = (0, 1, 2)
RANGES = {
    40: np.arange(-70.0, 71.0, 5.0),
    60: np.arange(-60.0, 61.0, 4.0),
}  # by the missing wedge, degrees


def since(began: tuple[float, float], count: int = 1) -> str:
    """Return the core and wall seconds since two clock readings, divided by `count`."""
    core, wall = time.process_time() - began[0], time.perf_counter() - began[1]
    return f"{core / count:5.2f} core s, {wall / count:5.2f} s"


def etspy(images, tilts, method: str, truth: Alignment) -> Alignment:
    """Align by ETSpy: shifts, then tilt axis by centres of mass, of the sign nearer the truth."""
    from etspy.api import TomoStack

    stack = TomoStack(images, tilts=tilts[:, None])
    registered = stack.stack_register(method, show_progressbar=False)
    shifts = np.asarray(registered.shifts.data)
    alignment = Alignment(shifts[:, 0], shifts[:, 1], tilts=tilts)
    try:
        node = registered.tilt_align("CoM").metadata.Tomography
        offset, rotation = float(node.yshift), float(node.tiltaxis)
    except Exception:
        return alignment
    signed = [
        replace(alignment, axis_offset=a * offset, rotation=b * rotation)
        for a in (1, -1)
        for b in (1, -1)
    ]
    return min(
        signed,
        key=lambda one: (
            abs(alignment_errors(one, truth).rotation)
            + abs(alignment_errors(one, truth).axis_offset)
        ),
    )


def accuracy() -> None:
    """Print the rms of the errors over the seeds, the largest in brackets."""
    ours = (
        "auto",
        "projection_matching",
        "common_line",
        "cross_correlation",
        "phase_correlation",
        "centre_of_mass",
    )
    rows = [(method, lambda s, m=method: align(s.haadf, s.tilts, m)) for method in ours]
    try:
        import etspy.api as _  # noqa: F401

        for method in ("PC", "COM", "COM-CL", "StackReg"):
            rows.append(
                (f"ETSpy {method}", lambda s, m=method: etspy(s.haadf, s.tilts, m, s.alignment))
            )
    except ImportError:
        print("ETSpy is not here: uv run --group benchmark ...")
    print(
        "128 x 128 px, shifts +-10 px, axis 4 px and 2 degrees, HAADF noise 3 % of the maximum; "
        "rms over 3 seeds (largest)"
    )
    for specimen in ("needle", "particle", "lamella"):
        for wedge, tilts in RANGES.items():
            series = [misaligned(specimen, tilts=tilts, seed=seed) for seed in SEEDS]
            for name, method in rows:
                errors, covered, began = [], [], (time.process_time(), time.perf_counter())
                for one in series:
                    try:
                        alignment = method(one)
                    except Exception as error:
                        errors.append((np.nan,) * 4)
                        print(f"    {name}: {type(error).__name__} {str(error)[:90]}")
                        continue
                    e = alignment_errors(alignment, one.alignment)
                    errors.append((e.across_rms, e.along_rms, abs(e.axis_offset), abs(e.rotation)))
                    if alignment.quality is not None:
                        q = alignment.quality
                        covered.append(
                            (
                                abs(e.axis_offset) / q.axis_offset_error,
                                abs(e.rotation) / q.rotation_error,
                            )
                        )
                errors = np.array(errors)
                words = " ".join(f"{np.sqrt(np.mean(c**2)):7.3f} ({c.max():.3f})" for c in errors.T)
                sure = (
                    f"  error/standard error at most {np.max(covered, axis=0).round(1)}"
                    if covered
                    else ""
                )
                print(
                    f"{specimen:9}{wedge:3} {name:20} {words}{sure} {since(began, len(series))}",
                    flush=True,
                )


def joint() -> None:
    """Compare HAADF alone, maps alone, and both, as the HAADF gets poorer."""
    print(
        "particle, 96 px, tilts every 5 degrees to 65, shifts +-1 px known to be small; rms across "
        "/ along px, over 3 seeds"
    )
    tilts = np.arange(-65.0, 66.0, 5.0)
    for noise in (0.03, 0.1, 0.3):
        for counts in (5.0, 20.0):
            alignments: dict = {"HAADF": [], "maps": [], "HAADF and maps": []}
            for seed in SEEDS:
                s = misaligned(
                    "particle",
                    size=96,
                    tilts=tilts,
                    shift=1.0,
                    axis_offset=1,
                    noise=noise,
                    counts=counts,
                    seed=seed,
                )
                start = Alignment.identity(len(tilts))
                maps = [
                    Modality(m, tilts, 1.0, name)
                    for name, m in zip(s.elements, s.maps, strict=True)
                ]
                alignments["HAADF"].append((refine(s.haadf, tilts, start), s))
                alignments["maps"].append((refine(s.maps.sum(axis=0), tilts, start), s))
                alignments["HAADF and maps"].append((refine(s.haadf, tilts, start, others=maps), s))
            for name, results in alignments.items():
                errors = [alignment_errors(a, s.alignment) for a, s in results]
                across, along = (
                    np.sqrt(np.mean([getattr(e, n) ** 2 for e in errors]))
                    for n in ("across_rms", "along_rms")
                )
                print(
                    f"HAADF noise {noise:4.0%}, {counts:4.0f} counts: {name:15} {across:.3f} / "
                    f"{along:.3f}",
                    flush=True,
                )


def speed() -> None:
    """Print the time of `refine` with and without maps, and of the default chain by size."""
    rng, tilts = np.random.default_rng(7), np.arange(-75.0, 76.0, 5.0)
    moved = {name: rng.uniform(-3, 3, tilts.size).round(1) for name in ("across", "along")}
    particle = simulate(yuan(size=97, slices=32), tilts=tilts, dose=0.2, blur=0, seed=7, **moved)
    start = rough_shifts(particle.haadf, tilts)[0]
    maps = [
        Modality(m, tilts, 1.0, name)
        for name, m in zip(particle.elements, particle.maps, strict=True)
    ]
    for name, others in (("HAADF", ()), ("HAADF and maps", maps)):
        began = time.process_time(), time.perf_counter()
        refine(particle.haadf, tilts, start, others=others)
        print(f"refine, 31 x 97 x 32, {name:15} {since(began)}", flush=True)
    for size, count in ((128, 31), (256, 31), (256, 77), (512, 31), (512, 77)):
        tilts = np.linspace(-75, 75, count)
        for specimen in ("needle", "lamella"):
            series = misaligned(specimen, size=size, tilts=tilts)
            began = time.process_time(), time.perf_counter()
            alignment = align(series.haadf, tilts)
            seconds = since(began)
            errors = alignment_errors(alignment, series.alignment)
            print(
                f"{count} x {size} x {size} {specimen:8} {seconds}   across "
                f"{errors.across_rms:.3f} along "
                f"{errors.along_rms:.3f} axis {errors.axis_offset:+.3f} rotation "
                f"{errors.rotation:+.3f}",
                flush=True,
            )


def real(folder: Path) -> None:
    """Print the SIRT residual of the HAADF of idp_l2083 with the manual shifts and with ours."""
    from rsciio.bruker import file_reader

    tilts = np.arange(-40.0, 36.0, 5.0)
    images = []
    for tilt in tilts.astype(int):
        image = next(
            item
            for item in file_reader(folder / f"{tilt}.bcf", lazy=True)
            if item["data"].ndim == 2
        )
        images.append(np.asarray(image["data"], dtype=np.float32).T)
    images = np.array(images)
    manual = np.array(json.loads((folder / "TomVizAlignments.json").read_text()), dtype=float)[2:-3]
    hand = Alignment(manual[:, 0], -manual[:, 1], tilts=tilts)
    began = time.process_time(), time.perf_counter()
    alignment = align(images, tilts)
    print(f"aligned in {since(began)}")
    print(f"axis {alignment.axis_offset:.2f} +- {alignment.quality.axis_offset_error:.2f} px")
    print(
        f"rotation {alignment.rotation:.2f} +- {alignment.quality.rotation_error:.2f} degrees",
        *alignment.quality.report,
        sep="\n  ",
    )
    plain = replace(alignment, rotation=0.0)
    upright = refine(images, tilts, plain, free=("shifts", "axis"))
    for name, one in (("manual", hand), ("ours", alignment), ("ours without rotation", upright)):
        print(f"{name:24} SIRT residual {residual(images, tilts, one):.4f}", flush=True)


def residual(images, tilts, alignment: Alignment, iterations: int = 60) -> float:
    """Return |b - A x|/|b| of SIRT in a fixed volume, where every alignment has pixels."""
    placed = alignment.apply(images, for_geometry=True, fill="edge")[..., 14:-14]
    geometry = TiltGeometry(
        tilts,
        images.shape[1],
        (64, 420),
        1.0,
        alignment.axis_offset,
        shifts=alignment.geometry_shifts,
    )
    return float(run(sirt(projector(geometry), placed), iterations).residuals["eds"][-1].max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "joint", "speed", "real"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/idp_l2083"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    {"accuracy": accuracy, "joint": joint, "speed": speed, "real": lambda: real(chosen.data)}[
        chosen.what
    ]()
