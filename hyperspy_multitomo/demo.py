# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job as one command, ``multitomo-demo``: from files, or a simulated particle, to volumes, composition and a page."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from pathlib import Path

import numpy as np

PAGE = "report.html"
# Small blocks keep the grains apart, and the fit allows for the noise of their counts.
BLOCK = 8
# The simulated maps are smoothed after the fit of the ratios, px: as Yuan et al. (2021) do.
SMOOTHING = 0.8
# Strong enough to settle ratios that the maps leave open, at a cost of less than 0.02 in R2 on the
# real example.
PRIOR_STRENGTH = 0.5


@dataclasses.dataclass
class Job:
    """A tilt series on its way through the main job, and what came of it."""

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
        """Run one step: say what it is, note its warnings for the page and its time."""
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
        job = _from_files(options) if options.data else _simulated(options)
        _reconstruct(job, options)
        _write(job, out)
    except (ValueError, OSError) as error:
        print(f"\nmultitomo-demo: {error}", file=sys.stderr)
        return 1
    print(f"\nDone in {sum(job.seconds.values()):.0f} s. Open {out / PAGE}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multitomo-demo",
        description="From HAADF and EDS tilt series to 3-D elemental volumes and their composition. "
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


def _from_files(options) -> Job:
    from hyperspy_multitomo import elemental_maps, load_tilt_series

    if not options.elements:
        raise ValueError("name the elements to map, e.g. --elements Au Ag")
    place = Path(options.data).resolve()
    job = Job(title=(place if place.exists() else place.parent).name, haadf=None, eds=None)
    job.factors = _k_factors(options.k_factors, options.elements)
    loaded = job.timed(
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
    job.haadf, spectra = loaded
    wanted = {"elements": options.elements, "also": options.also, "show_progressbar": False}
    job.eds = job.timed("mapping the elements", elemental_maps, spectra, **wanted)
    if job.factors is None and job.eds.metadata.has_item("Acquisition_instrument.TEM.beam_energy"):
        _calculate_factors(job)
    return job


def _calculate_factors(job: Job) -> None:
    """Take calculated factors for k-factors that were not given."""
    from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
    from hyperspy_multitomo.composition.cross_sections import xray_factor

    energy = job.eds.metadata.Acquisition_instrument.TEM.beam_energy
    job.factors = {line.partition("_")[0]: 1 / xray_factor(line, energy) for line in job.eds.lines}
    soft = [line.replace("_", " ") for line in job.eds.lines if line_energy(line) < 1]
    job.notes.append(
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


def _simulated(options) -> Job:
    from hyperspy_multitomo import TiltSeriesEDS, TiltSeriesHAADF
    from hyperspy_multitomo.simulation import simulate, yuan

    job = Job(title="A simulated gold-silver particle", haadf=None, eds=None)
    rng = np.random.default_rng(7)
    tilts = np.arange(-75.0, 76.0, 5.0)
    moved = {name: rng.uniform(-3, 3, tilts.size).round(1) for name in ("across", "along")}
    phantom = yuan(size=97, slices=64)
    series = job.timed(
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
    job.eds = TiltSeriesEDS.from_maps(maps, **known)
    job.haadf = TiltSeriesHAADF.from_images(series.haadf.transpose(0, 2, 1), **known)
    job.truth = series
    # Mass per count, up to a common factor: what a standard would give.
    job.factors = {
        name: 1 / s for name, s in zip(series.elements, phantom.counts_per_unit, strict=True)
    }
    return job


def _k_factors(given: list[str] | None, elements: list[str]) -> dict[str, float] | None:
    factors = {}
    for item in given or ():
        element, _, value = item.partition("=")
        try:
            factors[element] = float(value)
        except ValueError:
            raise ValueError(f"--k-factors {item}: expected EL=K, e.g. Au=1.9") from None
    if given and set(factors) != set(elements):
        raise ValueError(
            f"--k-factors names {', '.join(factors)}; name each of {', '.join(elements)} and no "
            "other"
        )
    return factors or None


def _reconstruct(job: Job, options) -> None:
    haadf, eds, results = job.haadf, job.eds, job.results
    results["alignment"] = job.timed("aligning", haadf.align)
    eds.align(haadf.alignment)
    job.lamella = haadf.estimate_gains().model == "lamella"
    eds.estimate_gains(haadf)
    results["ratios"] = _fit_ratios(job)
    if job.truth is not None:
        eds = job.eds = eds.smooth(SMOOTHING)
        job.notes.append(
            f"After the fit of the ratios the maps were smoothed by a Gaussian of {SMOOTHING} px."
        )
    _choose_extent(job, options)
    extent = {"depth": job.depth, "width": job.width, "show_progressbar": False}
    results["sirt"] = job.timed(
        "reconstructing from EDS alone (SIRT)", eds.reconstruct_sirt, options.iterations, **extent
    )
    results["hebt"] = job.timed(
        "reconstructing with the HAADF (HEBT)",
        eds.reconstruct_hebt,
        haadf,
        options.alpha,
        options.iterations,
        **extent,
    )
    factors = job.factors or dict.fromkeys(eds.elements, 1.0)
    results["composition"] = job.timed("quantifying", results["hebt"].quantify, "CL", factors)


def _fit_ratios(job: Job):
    """Fit the response ratios; elements whose maps are too alike for that are tied to the others by a rough prior."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        plain = job.eds.fit_response_ratios(job.haadf, block_size=BLOCK)
    if not plain.unexplained or len(plain.elements) < 2:
        return job.timed(
            "fitting the response ratios", job.eds.fit_response_ratios, job.haadf, block_size=BLOCK
        )
    tied = {
        "block_size": BLOCK,
        "prior": _prior(job.eds.elements, job.factors),
        "prior_strength": PRIOR_STRENGTH,
    }
    ratios = job.timed(
        "fitting the response ratios", job.eds.fit_response_ratios, job.haadf, **tied
    )
    job.notes.append(
        f"The maps alone do not tell the response ratio of {', '.join(plain.unexplained)} from "
        "those of elements that occur "
        "together with them. A prior ties all ratios: HAADF signal per mass as Z^1.7/A, "
        + (
            "mass per count from the k-factors. "
            if job.factors
            else "the same mass per count for each element. "
        )
        + f"R² is {plain.r2:.3f} without and {ratios.r2:.3f} with it."
    )
    return ratios


def _prior(elements, factors: dict | None) -> dict[str, float]:
    """Return relative response ratios: HAADF per mass, about Z^1.7/A, times mass per count, the k-factors or 1."""
    from exspy.material import elements as table

    table = table.as_dictionary()
    general = {name: table[name]["General_properties"] for name in elements}
    return {
        name: g["Z"] ** 1.7 / g["atomic_weight"] * (factors or {}).get(name, 1.0)
        for name, g in general.items()
    }


def _choose_extent(job: Job, options) -> None:
    """Limit a lamella's volume in depth, and widen it to what the detector sees at the highest tilt."""
    job.depth = options.depth
    if not job.lamella:
        return
    from hyperspy_multitomo.tomography import visible_width

    if job.depth is None:
        job.depth = job.timed("finding the depth of the lamella", job.haadf.estimate_depth)
    job.width = visible_width(job.haadf.geometry(), job.depth)


def _write(job: Job, out: Path) -> None:
    from hyperspy_multitomo.demo_page import write_page

    out.mkdir(parents=True, exist_ok=True)
    signals = {"haadf": job.haadf, "eds": job.eds, "volume_hebt": job.results["hebt"]}
    signals |= {"volume_eds_sirt": job.results["sirt"], "composition": job.results["composition"]}

    def save():
        for name, signal in signals.items():
            signal.save(out / f"{name}.zspy", overwrite=True)

    job.timed("saving", save)
    job.timed("writing the page", write_page, job, out / PAGE)


if __name__ == "__main__":
    raise SystemExit(main())
