# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page of a run of ``multitomo``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
from hyperspy_multitomo.evidence.realisations import NOT_COVERED
from hyperspy_multitomo.inspection import metrics
from hyperspy_multitomo.inspection.figures import own_figures
from hyperspy_multitomo.inspection.report import Page
from hyperspy_multitomo.inspection.spectrum_plot import plot_spectrum
from hyperspy_multitomo.machine.writing import save_atomically


@own_figures()
def write_page(run, path: Path) -> None:
    """Write the page of a finished run to `path`, replacing an existing file atomically."""
    tilts = _series(run).tilts
    what = "HAADF images" if run.eds is None else ", ".join(run.eds.channels)
    page = Page(
        run.title,
        f"Tomography of {what} from {tilts.size} tilts, {tilts.min():g} to {tilts.max():g} "
        f"degrees. hyperspy_multitomo {__version__}.",
    )
    _overview(page, run)
    for message in run.notes:
        page.warning(message)
    _projections(page, run)
    if run.eds is not None:
        _elements(page, run)
    _volume(page, run)
    if "noise" in run.results:
        _noise(page, run)
    _provenance(page, run)
    save_atomically(
        lambda temporary: temporary.write_text(page.html(), encoding="utf-8"), path, overwrite=True
    )


def _series(run):
    """Return the series that was reconstructed."""
    return run.haadf if run.eds is None else run.eds


def _overview(page: Page, run) -> None:
    series, volume = _series(run), run.results["volume"]
    tilts, pixel = series.tilts, series.pixel_size
    unit, pixel = ("nm", pixel) if pixel else ("px", 1.0)
    x, y = (series.axes_manager[name].size for name in "xy")
    shape = [volume.axes_manager[name].size for name in "zyx"]
    side = volume.axes_manager["x"].scale
    page.heading("At a glance")
    rows = [
        (
            "tilts",
            f"{tilts.size}, from {tilts.min():g}° to {tilts.max():g}°, largest gap "
            f"{metrics.largest_gap(tilts):g}°",
        ),
        ("images", f"{x} x {y} px of {pixel:.3g} {unit}, {x * pixel:.4g} x {y * pixel:.4g} {unit}"),
        (
            "volume (z, y, x)",
            f"{shape[0]} x {shape[1]} x {shape[2]} voxels, {shape[0] * side:.4g} {unit} deep",
        ),
        (
            "elongation along z (missing wedge)",
            f"{metrics.elongation_factor(np.abs(tilts).max()):.2f} times",
        ),
        (
            "shifts measured (across, along)",
            f"{_span(series.alignment.across)}, {_span(series.alignment.along)} px",
        ),
    ]
    if run.haadf is not None:
        view = "leaves the field of view: a lamella" if run.lamella else "wholly in view"
        rows.append(("specimen, by its HAADF at the rim", view))
    named = {"HAADF": run.haadf, "maps": run.eds}
    gains = {
        name: one.gains for name, one in named.items() if one is not None and one.gains is not None
    }
    if gains:
        rows.append((f"gains of {', '.join(gains)}", ", ".join(map(_span, gains.values()))))
    page.table(rows)
    page.text(
        "The elongation is the factor by which the missing wedge stretches a point along the beam."
    )


def _projections(page: Page, run) -> None:
    page.heading("What was measured")
    if run.haadf is not None:
        page.figure(run.haadf.plot_projections(), "The HAADF image at the tilt nearest zero.")
    if run.eds is not None:
        page.figure(
            run.eds.plot_projections(),
            "Counts of each element in single pixels at the same tilt. Negative values are noise "
            "around zero, not an error.",
        )
        if run.eds.spectrum_fit is not None:
            centres = {line.replace("_", " "): line_energy(line) for line in run.eds.lines}
            page.figure(
                plot_spectrum(**run.eds.spectrum_fit, lines=centres),
                "The summed spectrum, and the fit of line families and background from which the "
                "maps are made.",
            )
    page.figure(
        (run.eds if run.haadf is None else run.haadf).plot_alignment_sinograms(),
        "One slice at every tilt, as recorded and aligned. Aligned features move on smooth curves; "
        "a jump is a tilt out of place.",
    )


def _elements(page: Page, run) -> None:
    """Add the counts of each element and its response ratio."""
    ratios = run.results.get("ratios")
    page.heading("Counts and response ratios")
    lines = run.eds.lines or ("",) * len(run.eds.channels)
    rows = []
    for place, counts in enumerate(run.eds.array("element", "tilt", "y", "x")):
        row = (
            run.eds.channels[place],
            lines[place],
            f"{counts.sum(dtype=float):,.0f}",
            f"{counts.mean(dtype=float):.3f}",
            f"{counts.sum(axis=(1, 2), dtype=float).min():,.0f}",
        )
        rows.append(row if ratios is None else (*row, _ratio(ratios, place)))
    header = ["element", "line", "counts", "per pixel and tilt", "at the weakest tilt"]
    page.table(rows, header=header if ratios is None else [*header, "response ratio"])
    if ratios is None:
        return
    page.text(
        "The HAADF image should be the sum of the element maps, each times its response ratio "
        f"(HAADF per count). R² is {ratios.r2:.3f} on blocks of {ratios.block_size} px. Points far "
        "above the line have HAADF signal that none of the elements explains. A ratio is "
        "calculated from cross sections where the HAADF does not determine it better."
    )
    page.figure(
        run.eds.plot_response(run.haadf),
        "Measured against modelled HAADF signal in blocks of pixels (left), the misfit at each "
        "tilt, and the ratios with their standard errors: measured (filled) or calculated (open).",
    )


def _volume(page: Page, run) -> None:
    volume, composition = run.results["volume"], run.results.get("composition")
    page.heading("Volume")
    step = next(step for step in reversed(volume.history) if "geometry" in step)
    if said := step.get("chosen", {}).get("said"):
        page.text(f"Chosen from the data: {said}.")
    page.figure(
        volume.plot_orthoslices(),
        f"Sections through the centre of mass, in {volume.quantity}. The electrons come along z.",
    )
    if composition is not None:
        page.figure(
            composition.plot_composition(),
            f"Composition, {composition.quantity} of the listed elements: middle sections, and the "
            "histogram of each element in the particle. Outside the particle it is 0.",
        )
    if "weight_choice" in step:
        page.figure(
            volume.plot_weight_choice(),
            "How well volumes at each weight predict counts that they have not seen: the chosen "
            "one is the smoothest within a standard error of the best.",
        )
    if any(name in volume.residuals for name in ("eds", "haadf")):
        page.text(
            "Maps of few counts keep a large residual: it is their noise, which a reconstruction "
            "should not fit."
        )
        page.figure(volume.plot_convergence(), "Relative residuals during the reconstruction.")


def _noise(page: Page, run) -> None:
    """Add the scatter of noise realisations, of voxels and of the composition of the particle."""
    noise, composition = run.results["noise"], run.results.get("composition")
    page.heading("Noise")
    page.text(
        f"The counts were drawn anew {noise.count} times around what the volume makes one expect, "
        f"and reconstructed by the same recipe. This is {NOT_COVERED}."
    )
    if composition is not None:
        inside = composition.array("element", "z", "y", "x").sum(axis=0) > 0
        means = noise.region(inside, composition)
        rows = [
            (name, f"{value:.2f}", f"{sd:.2f}", f"{bias:+.2f}")
            for name, value, sd, bias in zip(
                means.names, means.values, means.sd, means.bias, strict=True
            )
        ]
        header = [f"whole particle, {means.unit}", "value", "sd (noise only)", "bias"]
        page.table(rows, header=header)
    page.figure(
        noise.plot(),
        "Volume, standard deviation of single voxels by noise, and bias: what a second pass of the "
        "method takes from the volume, which is less than it took from the specimen.",
    )


def _provenance(page: Page, run) -> None:
    page.heading("How it was made")
    page.table(
        [(what, f"{seconds:.1f} s") for what, seconds in run.seconds.items()],
        header=["step", "time"],
    )
    page.details("Settings, for --settings", run.settings)
    page.details("The reconstruction as a script", run.results["volume"].to_script())
    last = run.results.get("composition", run.results["volume"])
    page.details("History", json.dumps(last.history, indent=1, ensure_ascii=False)[:20000])


def _ratio(ratios, place: int) -> str:
    """Return one response ratio with its standard error."""
    value, error = ratios.values[place], ratios.standard_errors[place]
    source = list(ratios.sources.values())[place]
    return f"{value:.3g} ± {error:.2g}, {source}" if value else "0: the others explain the HAADF"


def _span(values) -> str:
    return f"{np.min(values):.2f} to {np.max(values):.2f}"
