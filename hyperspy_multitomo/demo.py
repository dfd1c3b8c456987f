# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``multitomo-demo``: from files or a simulated particle to composition and a page."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from pathlib import Path

import numpy as np

PAGE = "report.html"
# Side of the blocks of the response-ratio fit, px. Small blocks resolve grains: on the dust
# particle idp_l2083 the automatic 52 px lose Al and a third of Fe (docs/response_ratios.md). The
# fit corrects for the counting noise of the sums (benchmarks/ratios.py).
BLOCK = 8
# Gaussian, px, that smooths the simulated maps after the fit of the ratios: 1.2 nm, as in Y. Yuan
# et al., Ultramicroscopy 220 (2021) 113166.
SMOOTHING = 0.8


@dataclasses.dataclass
class DemoRun:
    """One run of the demo: its tilt series, settings, results, warnings and times."""

    title: str
    haadf: object
    eds: object
    lamella: bool = False
    depth: float | None = None
    width: float | None = None
    factors: dict | None = None
    truth: object = None
    results: dict = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def timed(self, what: str, function, *args, **kwds):
        """Run one step, print its name and time, and keep its warnings for the page."""
        print(f"{what} ... ", end="", flush=True)
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            value = function(*args, **kwds)
        self.seconds[what] = time.perf_counter() - start
        print(f"{self.seconds[what]:.1f} s")
        for message in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
            print(f"  note: {message}")
            self.notes.append(message)
        return value


def main(argv: list[str] | None = None) -> int:
    """Run ``multitomo-demo``; return the exit status."""
    options = _parser().parse_args(argv)
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
        if not 0 < options.alpha < 1:
            raise ValueError(f"--alpha {options.alpha:g} must be between 0 and 1")
        run = _from_files(options) if options.data else _simulated(options)
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
        description="From HAADF and EDS tilt series to 3-D elemental volumes and composition. "
        "Without --data it simulates a gold-silver core-shell particle and shows the errors too.",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--data", metavar="FOLDER", help="microscope files, one per tilt: a folder or a pattern"
    )
    files.add_argument(
        "--elements", nargs="+", metavar="EL", help="elements to map, e.g. --elements Au Ag"
    )
    files.add_argument(
        "--also",
        nargs="+",
        metavar="EL",
        default="auto",
        help="elements in the spectra that need no volume (grid, holder)",
    )
    files.add_argument(
        "--tilts",
        metavar="WHERE",
        help="'metadata', 'filename', a regular expression or a .rawtlt file",
    )
    files.add_argument(
        "--tilt-axis",
        choices=("y", "x"),
        default="y",
        help="direction of the tilt axis in the images (default y)",
    )
    files.add_argument("--reverse-tilts", action="store_true", help="change the sign of the tilts")
    files.add_argument(
        "--out",
        metavar="FOLDER",
        default="multitomo_results",
        help="where to write (default multitomo_results)",
    )
    files.add_argument("--overwrite", action="store_true", help="replace earlier results")
    how = parser.add_argument_group("reconstruction")
    how.add_argument(
        "--alpha",
        type=float,
        default=0.7,
        help="weight of the HAADF in HEBT, between 0 and 1 (default 0.7)",
    )
    how.add_argument("--iterations", type=int, default=100, help="iterations (default 100)")
    how.add_argument(
        "--depth",
        type=float,
        metavar="NM",
        help="depth of the volume; by default found for a lamella",
    )
    how.add_argument(
        "--k-factors", nargs="+", metavar="EL=K", help="Cliff-Lorimer factors, e.g. Au=1.9 Ag=1.3"
    )
    return parser


def _from_files(options) -> DemoRun:
    from hyperspy_multitomo import elemental_maps, load_tilt_series

    if not options.elements:
        raise ValueError("name the elements to map, e.g. --elements Au Ag")
    place = Path(options.data).resolve()
    run = DemoRun(title=(place if place.exists() else place.parent).name, haadf=None, eds=None)
    run.factors = _k_factors(options.k_factors, options.elements)
    loaded = run.timed(
        "loading the files",
        load_tilt_series,
        options.data,
        tilts=options.tilts,
        tilt_axis=options.tilt_axis,
        reverse_tilts=options.reverse_tilts,
    )
    if not isinstance(loaded, tuple):
        raise ValueError(
            f"{options.data} holds {loaded.metadata.General.title} alone; HAADF images and EDS "
            "spectra are both needed"
        )
    run.haadf, spectra = loaded
    wanted = {"elements": options.elements, "also": options.also, "show_progressbar": False}
    run.eds = run.timed("mapping the elements", elemental_maps, spectra, **wanted)
    if run.factors is None and run.eds.metadata.has_item("Acquisition_instrument.TEM.beam_energy"):
        _calculate_factors(run)
    return run


def _calculate_factors(run: DemoRun) -> None:
    """Set calculated factors in place of k-factors, and note it on the page."""
    from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
    from hyperspy_multitomo.composition.cross_sections import xray_factor

    energy = run.eds.metadata.Acquisition_instrument.TEM.beam_energy
    run.factors = {line.partition("_")[0]: 1 / xray_factor(line, energy) for line in run.eds.lines}
    soft = [line.replace("_", " ") for line in run.eds.lines if line_energy(line) < 1]
    run.notes.append(
        f"No k-factors were given: the composition is by factors calculated for {energy:g} keV and "
        "a detector that counts every "
        "photon. "
        + (
            f"None does below 1 keV ({', '.join(soft)}), so there is more of these than it says. "
            if soft
            else ""
        )
        + "Pass --k-factors EL=K ... for your microscope."
    )


def _simulated(options) -> DemoRun:
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


def _k_factors(arguments: list[str] | None, elements: list[str]) -> dict[str, float] | None:
    """Return the factors of ``--k-factors``, None without them."""
    factors = {}
    for item in arguments or ():
        element, _, value = item.partition("=")
        try:
            factors[element] = float(value)
        except ValueError:
            raise ValueError(f"--k-factors {item}: expected EL=K, e.g. Au=1.9") from None
    if arguments and set(factors) != set(elements):
        raise ValueError(
            f"--k-factors names {', '.join(factors)}; name each of {', '.join(elements)} and no "
            "other"
        )
    return factors or None


def _reconstruct(run: DemoRun, options) -> None:
    haadf, eds, results = run.haadf, run.eds, run.results
    results["alignment"] = run.timed("aligning", haadf.align)
    eds.align(haadf.alignment)
    run.lamella = haadf.estimate_gains().model == "lamella"
    eds.estimate_gains(haadf)
    results["ratios"] = run.timed(
        "fitting the response ratios", eds.fit_response_ratios, haadf, block_size=BLOCK
    )
    if run.truth is not None:
        eds = run.eds = eds.smooth(SMOOTHING)
        run.notes.append(
            f"After the fit of the ratios the maps were smoothed by a Gaussian of {SMOOTHING} px."
        )
    _choose_extent(run, options)
    extent = {"depth": run.depth, "width": run.width, "show_progressbar": False}
    results["sirt"] = run.timed(
        "reconstructing from EDS alone (SIRT)", eds.reconstruct_sirt, options.iterations, **extent
    )
    results["hebt"] = run.timed(
        "reconstructing with the HAADF (HEBT)",
        eds.reconstruct_hebt,
        haadf,
        options.alpha,
        options.iterations,
        **extent,
    )
    factors = run.factors or dict.fromkeys(eds.elements, 1.0)
    results["composition"] = run.timed("quantifying", results["hebt"].quantify, "CL", factors)


def _choose_extent(run: DemoRun, options) -> None:
    """Limit a lamella's volume in depth, and widen it to the field of view at the highest tilt."""
    run.depth = options.depth
    if not run.lamella:
        return
    from hyperspy_multitomo.tomography import visible_width

    if run.depth is None:
        run.depth = run.timed("finding the depth of the lamella", run.haadf.estimate_depth)
    run.width = visible_width(run.haadf.geometry(), run.depth)


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
