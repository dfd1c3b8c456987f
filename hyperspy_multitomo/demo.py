# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``multitomo-demo``: from a simulated particle to composition and a page."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import numpy as np

from hyperspy_multitomo import command
from hyperspy_multitomo.command import Run

PAGE = "report.html"
# Side of the blocks of the response-ratio fit, px. Small blocks resolve grains; the fit corrects
# for the counting noise of the sums (benchmarks/ratios.py).
BLOCK = 8
# Gaussian, px, that smooths the simulated maps after the fit of the ratios: 1.2 nm, as in Y. Yuan
# et al., Ultramicroscopy 220 (2021) 113166.
SMOOTHING = 0.8
ALPHA, ITERATIONS = 0.7, 100


@dataclasses.dataclass
class DemoRun(Run):
    """One run of the demo: besides, the factors and the truth of what was simulated."""

    factors: dict = dataclasses.field(default_factory=dict)
    truth: object = None


def main(argv: list[str] | None = None) -> int:
    """Run ``multitomo-demo``; return the exit status."""
    options = _parser().parse_args(argv)
    if options.data:
        arguments = _arguments_of_command(options)
        print(f"--data is the command multitomo now; this runs: multitomo {shlex.join(arguments)}")
        return command.main(arguments)
    out = Path(options.out)
    names = [
        f"{name}.zspy" for name in ("haadf", "eds", "volume_hebt", "volume_eds_sirt", "composition")
    ] + [PAGE]
    existing = [name for name in names if (out / name).exists()]
    if existing and not options.overwrite:
        print(
            f"{out} holds {', '.join(existing)} already; choose another --out, or pass --overwrite",
            file=sys.stderr,
        )
        return 2
    try:
        options.alpha = ALPHA if options.alpha is None else options.alpha
        if not 0 < options.alpha < 1:
            raise ValueError(f"--alpha {options.alpha:g} must be between 0 and 1")
        run = _simulated()
        _reconstruct(run, options)
        _write(run, out)
    except (ValueError, OSError) as error:
        print(f"\nmultitomo-demo: {error}", file=sys.stderr)
        return 1
    print(f"\nDone in {sum(run.seconds.values()):.0f} s. Open {out / PAGE}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multitomo-demo",
        description="Simulates a gold-silver core-shell particle in the microscope, reconstructs "
        "and quantifies it, and shows the errors. For your own files: multitomo FOLDER.",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        default="multitomo_results",
        help="where to write (default multitomo_results)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    how = parser.add_argument_group("reconstruction")
    how.add_argument(
        "--alpha",
        type=float,
        help=f"weight of the HAADF in HEBT, between 0 and 1 (default {ALPHA})",
    )
    how.add_argument("--iterations", type=int, help=f"iterations (default {ITERATIONS})")
    how.add_argument("--depth", type=float, metavar="NM", help="depth of the volume")
    files = parser.add_argument_group("files, which lead to the command multitomo")
    files.add_argument("--data", metavar="FOLDER", help="files instead of the simulated particle")
    for name, values in (("--elements", "EL"), ("--also", "EL"), ("--k-factors", "EL=K")):
        files.add_argument(name, nargs="+", metavar=values, help=f"as multitomo {name}")
    files.add_argument("--tilts", metavar="WHERE", help="as multitomo --tilts")
    files.add_argument("--tilt-axis", choices=("y", "x"), help="as multitomo --tilt-axis")
    files.add_argument("--reverse-tilts", action="store_true", help="as multitomo --reverse-tilts")
    return parser


def _arguments_of_command(options: argparse.Namespace) -> list[str]:
    """Return the arguments of ``multitomo`` for the files of ``--data``.

    Alpha, iterations and depth are those of HEBT, as they always were.
    """
    arguments = [options.data, "--out", options.out]
    for name in ("elements", "also", "k_factors", "tilts", "tilt_axis"):
        value = getattr(options, name)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name.replace('_', '-')}", *values]
    arguments += ["--reverse-tilts"] * options.reverse_tilts + ["--overwrite"] * options.overwrite
    keywords = {name: getattr(options, name) for name in ("alpha", "iterations", "depth")}
    chosen = [f"{name}={value}" for name, value in keywords.items() if value is not None]
    return [*arguments, "--method", "hebt", "--set", *chosen] if chosen else arguments


def _simulated() -> DemoRun:
    from hyperspy_multitomo import TiltSeriesEDS, TiltSeriesHAADF
    from hyperspy_multitomo.simulation import simulate, yuan

    run = DemoRun(title="A simulated gold-silver particle", haadf=None, eds=None)
    rng = np.random.default_rng(7)
    tilts = np.arange(-75.0, 76.0, 5.0)
    moved = {name: rng.uniform(-3, 3, tilts.size).round(1) for name in ("across", "along")}
    phantom = yuan(size=97, slices=64)
    series = run.timed(
        "simulating the microscope",
        simulate,
        phantom,
        tilts=tilts,
        dose=0.2,
        blur=0,
        seed=7,
        **moved,
    )
    known = {"tilts": tilts, "pixel_size": phantom.pixel_size}
    maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
    run.eds = TiltSeriesEDS.from_maps(maps, **known)
    run.haadf = TiltSeriesHAADF.from_images(series.haadf.transpose(0, 2, 1), **known)
    run.truth = series
    # Mass per count, up to a common factor: the k-factors that a standard would give.
    run.factors = {
        name: 1 / s for name, s in zip(series.elements, phantom.counts_per_unit, strict=True)
    }
    return run


def _reconstruct(run: DemoRun, options: argparse.Namespace) -> None:
    haadf, eds, results = run.haadf, run.eds, run.results
    results["alignment"] = run.timed("aligning", haadf.align)
    eds.align(haadf.alignment)
    haadf.estimate_gains()
    eds.estimate_gains(haadf)
    results["ratios"] = run.timed(
        "fitting the response ratios", eds.fit_response_ratios, haadf, block_size=BLOCK, prior=None
    )
    eds = run.eds = eds.smooth(SMOOTHING)
    run.notes.append(
        f"After the fit of the ratios the maps were smoothed by a Gaussian of {SMOOTHING} px."
    )
    iterations = ITERATIONS if options.iterations is None else options.iterations
    quiet = {"depth": options.depth, "width": None, "show_progressbar": False}
    results["sirt"] = run.timed(
        "reconstructing from EDS alone (SIRT)", eds.reconstruct_sirt, iterations, **quiet
    )
    results["hebt"] = run.timed(
        "reconstructing with the HAADF (HEBT)",
        eds.reconstruct_hebt,
        haadf,
        options.alpha,
        iterations,
        **quiet,
    )
    results["composition"] = run.timed("quantifying", results["hebt"].quantify, "CL", run.factors)


def _write(run: DemoRun, out: Path) -> None:
    from hyperspy_multitomo.demo_page import write_page

    out.mkdir(parents=True, exist_ok=True)
    signals = {"haadf": run.haadf, "eds": run.eds, "volume_hebt": run.results["hebt"]}
    signals |= {"volume_eds_sirt": run.results["sirt"], "composition": run.results["composition"]}

    def save():
        for name, signal in signals.items():
            signal.save(out / f"{name}.zspy", overwrite=True)

    run.timed("saving", save)
    run.timed("writing the page", write_page, run, out / PAGE)


if __name__ == "__main__":
    raise SystemExit(main())
