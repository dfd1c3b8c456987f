# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of ``multitomo-demo`` says and shows of a job."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
from hyperspy_multitomo.inspection import metrics, plotting
from hyperspy_multitomo.inspection.report import Page
from hyperspy_multitomo.inspection.spectrum_plot import plot_spectrum
from hyperspy_multitomo.machine.writing import save_atomically


def write_page(job, path: Path) -> None:
    """Write the page of a finished job to `path`, replacing what is there once it is whole."""
    tilts = job.eds.tilts
    page = Page(
        job.title,
        f"HAADF-EDS bimodal tomography of {', '.join(job.eds.elements)} from {tilts.size} tilts, "
        f"{tilts.min():g} to {tilts.max():g} degrees. hyperspy_multitomo {__version__}.",
    )
    _overview(page, job)
    _warnings(page, job)
    _projections(page, job)
    _ratios(page, job)
    _volumes(page, job)
    if job.truth is not None:
        _errors(page, job)
    _composition(page, job)
    _convergence(page, job)
    _provenance(page, job)
    save_atomically(
        lambda temporary: temporary.write_text(page.html(), encoding="utf-8"), path, overwrite=True
    )


def _overview(page: Page, job) -> None:
    eds, haadf, ratios = job.eds, job.haadf, job.results["ratios"]
    tilts, pixel = eds.tilts, eds.pixel_size
    unit, pixel = ("nm", pixel) if pixel else ("px", 1.0)
    x, y = eds.axes_manager["x"].size, eds.axes_manager["y"].size
    extent = job.depth if job.lamella else _diameter(job)
    volume = job.results["hebt"]
    shape = [volume.axes_manager[name].size for name in "zyx"]
    page.heading("At a glance")
    rows = [
        (
            "tilts",
            f"{tilts.size}, from {tilts.min():g}° to {tilts.max():g}°, largest gap "
            f"{metrics.largest_gap(tilts):g}°",
        ),
        ("images", f"{x} x {y} px of {pixel:.3g} {unit}, {x * pixel:.4g} x {y * pixel:.4g} {unit}"),
        (
            "specimen",
            "leaves the field of view: taken as a lamella" if job.lamella else "wholly in view",
        ),
        (
            "volume (z, y, x)",
            f"{shape[0]} x {shape[1]} x {shape[2]} voxels, {shape[0] * pixel:.4g} {unit} deep",
        ),
        (
            "elongation along z (missing wedge)",
            f"{metrics.elongation_factor(np.abs(tilts).max()):.2f} times",
        ),
        (
            "Crowther resolution",
            f"{metrics.crowther_resolution(extent, tilts):.3g} {unit} for {extent:.3g} {unit} of "
            "thickness",
        ),
        ("R² of the response ratios", f"{ratios.r2:.3f} on blocks of {ratios.block_size} px"),
        ("HAADF gain, EDS gain over the tilts", f"{_span(haadf.gains)}, {_span(eds.gains)}"),
        (
            "shifts found (across, along)",
            f"{_span(haadf.alignment.across)}, {_span(haadf.alignment.along)} px",
        ),
    ]
    page.table(rows)
    page.text(
        "The elongation is by how much a point is drawn out along the beam because high tilts are "
        "missing; the Crowther "
        "resolution is the finest detail that so few tilts can resolve in an object of that "
        "thickness, whatever the noise."
    )
    page.table(
        [
            (
                name,
                line,
                f"{counts.sum():,.0f}",
                f"{counts.sum() / counts.size:.3f}",
                f"{counts.sum(axis=(1, 2)).min():,.0f}",
                f"{_rounded(r)} ± {_rounded(error)}" if r else "0: from its EDS alone",
            )
            for name, line, counts, r, error in zip(
                eds.elements,
                eds.lines or ("",) * len(eds.elements),
                eds.data.transpose(1, 0, 2, 3),
                ratios.values,
                ratios.standard_errors,
                strict=True,
            )
        ],
        header=[
            "element",
            "line",
            "net counts",
            "per pixel and tilt",
            "at the weakest tilt",
            "response ratio (HAADF per count)",
        ],
    )


def _warnings(page: Page, job) -> None:
    for message in job.notes:
        page.warning(message)
    if job.factors is None:
        page.warning(
            "No k-factors were given: the composition below is in percent of counts, not of mass. "
            "Pass --k-factors EL=K ... for your microscope."
        )


def _projections(page: Page, job) -> None:
    eds, haadf = job.eds, job.haadf
    maps = eds.array("element", "tilt", "x", "y")
    page.heading("What was measured")
    nearest = int(np.abs(haadf.tilts - eds.tilts[np.abs(eds.tilts).argmin()]).argmin())
    image = plotting.plot_projections(
        haadf.array("tilt", "x", "y")[None, nearest : nearest + 1], haadf.tilts[nearest : nearest + 1], ["HAADF"],
        pixel_size=haadf.pixel_size, unit="signal",
    )  # fmt: skip
    page.figure(image, "The HAADF image at the tilt nearest zero.")
    page.figure(
        plotting.plot_projections(maps, eds.tilts, eds.elements, pixel_size=eds.pixel_size),
        "Net counts of each element in single pixels at the same tilt. Negative values are noise "
        "around zero, not an error.",
    )
    spectrum = eds.spectrum_fit
    if spectrum is not None:
        centres = {line.replace("_", " "): line_energy(line) for line in eds.lines}
        page.figure(
            plot_spectrum(**spectrum, lines=centres),
            "The summed spectrum and the fit of line families and background behind the maps.",
        )
    aligned = haadf.aligned()
    page.figure(
        plotting.plot_sinogram(
            aligned.array("tilt", "x", "y")[None],
            haadf.tilts,
            ["HAADF, aligned"],
            pixel_size=haadf.pixel_size,
            unit="signal",
        ),
        "One slice of the aligned HAADF at every tilt. Features should move on smooth curves; a "
        "jump is a tilt out of place.",
    )


def _ratios(page: Page, job) -> None:
    page.heading("Response ratios")
    ratios, side = job.results["ratios"], job.results["ratios"].block_size
    page.text(
        "The HAADF image should be the sum of the element maps, each times its response ratio. "
        "What lies far above the line is "
        "bright in the HAADF and missing among the elements."
    )
    measured = _blocks(job.haadf.array("tilt", "x", "y"), side) / job.haadf.gains[:, None, None]
    maps = [
        _blocks(images, side) / job.eds.gains[:, None, None]
        for images in job.eds.array("element", "tilt", "x", "y")
    ]
    page.figure(
        plotting.plot_response(
            measured,
            np.tensordot(ratios.values, maps, axes=1),
            job.eds.tilts,
            r2=ratios.r2,
            residual_per_tilt=ratios.residual_per_tilt,
        ),
        "Measured against modelled HAADF signal in blocks of pixels (left) and the misfit at each "
        "tilt (right).",
    )


def _volumes(page: Page, job) -> None:
    page.heading("Volumes")
    page.text(
        "Each element reconstructed from its maps alone (SIRT) and together with the HAADF (HEBT), "
        "as many iterations each, in "
        "counts per unit of path. HEBT has the outline of the HAADF and less noise; where the two "
        "differ in more than that, look "
        "at the response ratios. An element without a ratio looks alike in both."
    )
    eds, pixel = job.eds, job.eds.pixel_size
    unit = "counts per nm" if pixel else "counts per px"
    volumes = {
        name: job.results[key].array("element", "z", "x", "y")
        for name, key in (("EDS alone", "sirt"), ("HEBT", "hebt"))
    }
    if job.truth is not None:
        volumes["truth"] = job.truth.truth
    for plane, words in (
        ("xy", "at mid-depth, seen along the beam"),
        ("xz", "across the tilt axis; the electrons come from the top"),
    ):
        page.figure(
            plotting.plot_comparison(
                volumes, eds.elements, plane=plane, pixel_size=pixel, unit=unit
            ),
            f"Sections {plane}, {words}.",
        )


def _errors(page: Page, job) -> None:
    page.heading("Against the truth")
    few = job.results["hebt"].history[-1]["iterations"] // 4
    page.text(
        "The particle is simulated, so the errors are known: correlation 1 and squared error 0 "
        "would be perfect. EDS alone is "
        "best after fewer iterations, when it is blurred and not yet noisy; it is listed after "
        f"{few} too."
    )
    truth = job.truth.truth
    early = job.eds.reconstruct_sirt(few, show_progressbar=False)
    candidates = {
        f"EDS alone, {few} iterations": early,
        f"EDS alone, {4 * few} iterations": job.results["sirt"],
        f"HEBT, {4 * few} iterations": job.results["hebt"],
    }
    rows = []
    for i, name in enumerate(job.eds.elements):
        for title, signal in candidates.items():
            volume = signal.array("element", "z", "x", "y")[i]
            relative = metrics.scaled_mse(volume, truth[i]) / float(
                np.square(truth[i], dtype=float).mean()
            )
            rows.append(
                (
                    f"{name}, {title}",
                    f"{metrics.ssim_structure(volume, truth[i]):.3f}",
                    f"{relative:.4f}",
                )
            )
    page.table(rows, header=["volume", "correlation", "relative squared error"])
    weights = (
        np.array([job.factors[name] for name in job.eds.elements])[:, None, None, None] * truth
    )
    inside = weights.sum(axis=0) > 0.5 * weights.sum(axis=0).max()
    true_percent = 100 * weights[:, inside] / weights[:, inside].sum(axis=0)
    found = job.results["composition"].array("element", "z", "x", "y")[:, inside]
    found_inside = found.sum(axis=0) > 0
    error = np.sqrt(np.mean((found - true_percent)[:, found_inside] ** 2))
    region = inside.copy()
    region[inside] = found_inside
    means = job.results["hebt"].mean_composition(
        job.results["composition"], region.transpose(0, 2, 1)
    )
    true_sums = weights[:, region].sum(axis=1, dtype=np.float64)
    true_means = dict(zip(job.eds.elements, 100 * true_sums / true_sums.sum(), strict=True))
    page.text(
        f"Composition: root mean square error {error:.1f} wt% per voxel inside the particle; "
        + "; ".join(
            f"mean {name} {means[name]:.1f} wt% (truth {true_means[name]:.1f})"
            for name in job.eds.elements
        )
        + "."
    )
    moved = job.haadf.alignment.across + job.truth.across
    radians = np.deg2rad(job.eds.tilts)
    unknowable = np.stack([np.ones_like(radians), np.cos(radians), np.sin(radians)], axis=1)
    left = moved - unknowable @ np.linalg.lstsq(unknowable, moved, rcond=None)[0]
    along = job.haadf.alignment.along + job.truth.along
    page.text(
        f"Alignment: shifts of up to 3 px were found to {np.sqrt(np.mean(left**2)):.2f} px across "
        "the tilt axis and "
        f"{along.std():.2f} px along it (root mean square)."
    )


def _composition(page: Page, job) -> None:
    composition = job.results["composition"]
    page.heading("Composition")
    page.text(
        "Percent of the listed elements in each voxel of the particle, from the HEBT volumes by "
        "the Cliff-Lorimer method"
        + (
            ", with the k-factors " + ", ".join(f"{k} {v:.3g}" for k, v in job.factors.items())
            if job.factors
            else ""
        )
        + ". Outside the particle it is 0."
    )
    percent = composition.array("element", "z", "x", "y")
    page.figure(
        plotting.plot_composition(
            percent, composition.elements, mask=percent.sum(axis=0) > 0, pixel_size=composition.pixel_size,
            unit="wt%" if job.factors else "% of counts",
        ),
        "Middle sections, and how often each percentage occurs in the particle.",
    )  # fmt: skip


def _convergence(page: Page, job) -> None:
    page.heading("Residuals")
    residuals = job.results["hebt"].residuals
    curves = {name: residuals["eds"][:, i] for i, name in enumerate(job.eds.elements)} | {
        "HAADF": residuals["haadf"]
    }
    page.text(
        "Maps of few counts keep a large residual: it is their noise, and no reconstruction should "
        "follow it. "
        f"The HAADF's fell to {residuals['haadf'][-1]:.3f}."
    )
    page.figure(
        plotting.plot_residuals(curves), "Relative residuals of HEBT from iteration to iteration."
    )


def _provenance(page: Page, job) -> None:
    page.heading("How it was made")
    page.table(
        [(what, f"{seconds:.1f} s") for what, seconds in job.seconds.items()],
        header=["step", "time"],
    )
    for title, key in (("HEBT volume", "hebt"), ("composition", "composition")):
        page.details(
            f"History of the {title}",
            json.dumps(job.results[key].history, indent=1, ensure_ascii=False)[:20000],
        )


def _diameter(job) -> float:
    """Width across the tilt axis that holds the object: where the mean over tilts and y exceeds a tenth of its maximum."""
    profile = job.haadf.aligned().array("tilt", "x", "y").mean(axis=(0, 2))
    return float(np.count_nonzero(profile > 0.1 * profile.max()) * (job.haadf.pixel_size or 1.0))


def _blocks(images: np.ndarray, side: int) -> np.ndarray:
    tilts, x, y = images.shape
    cut = images[:, : x // side * side, : y // side * side]
    return cut.reshape(tilts, x // side, side, y // side, side).sum(axis=(2, 4))


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _span(values) -> str:
    return f"{np.min(values):.2f} to {np.max(values):.2f}"
