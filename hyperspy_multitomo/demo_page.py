# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page of a run of ``multitomo-demo``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.inspection import metrics, plotting
from hyperspy_multitomo.inspection.figures import own_figures
from hyperspy_multitomo.inspection.report import Page
from hyperspy_multitomo.machine.writing import save_atomically


@own_figures()
def write_page(run, path: Path) -> None:
    """Write the page of a finished run to `path`, replacing an existing file atomically."""
    tilts = run.eds.tilts
    page = Page(
        run.title,
        f"HAADF-EDS bimodal tomography of {', '.join(run.eds.elements)} from {tilts.size} tilts, "
        f"{tilts.min():g} to {tilts.max():g} degrees. hyperspy_multitomo {__version__}.",
    )
    _overview(page, run)
    for message in run.notes:
        page.warning(message)
    _projections(page, run)
    _ratios(page, run)
    _volumes(page, run)
    _errors(page, run)
    _composition(page, run)
    _convergence(page, run)
    _provenance(page, run)
    save_atomically(
        lambda temporary: temporary.write_text(page.html(), encoding="utf-8"), path, overwrite=True
    )


def _overview(page: Page, run) -> None:
    eds, haadf, ratios = run.eds, run.haadf, run.results["ratios"]
    tilts, pixel = eds.tilts, eds.pixel_size
    unit, pixel = ("nm", pixel) if pixel else ("px", 1.0)
    x, y = eds.axes_manager["x"].size, eds.axes_manager["y"].size
    extent = _diameter(run)
    volume = run.results["hebt"]
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
            "shifts measured (across, along)",
            f"{_span(haadf.alignment.across)}, {_span(haadf.alignment.along)} px",
        ),
    ]
    page.table(rows)
    page.text(
        "The elongation is the factor by which the missing wedge stretches a point along the beam. "
        "The Crowther resolution is the finest detail that this number of tilts can resolve in an "
        "object of that thickness, without noise."
    )
    page.table(
        [
            (
                name,
                f"{counts.sum():,.0f}",
                f"{counts.sum() / counts.size:.3f}",
                f"{counts.sum(axis=(1, 2)).min():,.0f}",
                f"{_rounded(r)} ± {_rounded(error)}" if r else "0: from its EDS alone",
                source if r else "",
            )
            for name, counts, r, error, source in zip(
                eds.elements,
                eds.data.transpose(1, 0, 2, 3),
                ratios.values,
                ratios.standard_errors,
                ratios.sources.values(),
                strict=True,
            )
        ],
        header=[
            "element",
            "net counts",
            "per pixel and tilt",
            "at the weakest tilt",
            "response ratio (HAADF per count)",
            "measured or calculated",
        ],
    )


def _projections(page: Page, run) -> None:
    eds, haadf = run.eds, run.haadf
    maps = eds.array("element", "tilt", "x", "y")
    page.heading("What was measured")
    nearest = int(np.abs(haadf.tilts - eds.tilts[np.abs(eds.tilts).argmin()]).argmin())
    only = slice(nearest, nearest + 1)
    image = plotting.plot_projections(
        haadf.array("tilt", "x", "y")[None, only],
        haadf.tilts[only],
        ["HAADF"],
        pixel_size=haadf.pixel_size,
        unit="signal",
    )
    page.figure(image, "The HAADF image at the tilt nearest zero.")
    page.figure(
        plotting.plot_projections(maps, eds.tilts, eds.elements, pixel_size=eds.pixel_size),
        "Net counts of each element in single pixels at the same tilt. Negative values are noise "
        "around zero, not an error.",
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


def _ratios(page: Page, run) -> None:
    page.heading("Response ratios")
    ratios, side = run.results["ratios"], run.results["ratios"].block_size
    page.text(
        "The HAADF image should be the sum of the element maps, each times its response ratio. "
        "Points far above the line have HAADF signal that none of the elements explains. A ratio "
        "is calculated from cross sections where the HAADF does not determine it better."
    )
    measured = _blocks(run.haadf.array("tilt", "x", "y"), side) / run.haadf.gains[:, None, None]
    maps = [
        _blocks(images, side) / run.eds.gains[:, None, None]
        for images in run.eds.array("element", "tilt", "x", "y")
    ]
    page.figure(
        plotting.plot_response(
            measured,
            np.tensordot(ratios.values, maps, axes=1),
            run.eds.tilts,
            r2=ratios.r2,
            residual_per_tilt=ratios.residual_per_tilt,
            ratios=ratios,
        ),
        "Measured against modelled HAADF signal in blocks of pixels (left), the misfit at each "
        "tilt, and the ratios with their standard errors: measured (filled) or calculated (open).",
    )


def _volumes(page: Page, run) -> None:
    page.heading("Volumes")
    page.text(
        "Each element reconstructed from its maps alone (SIRT) and together with the HAADF (HEBT), "
        "with the same number of iterations, in counts per unit of path. HEBT has the outline of "
        "the HAADF and less noise; where the two differ in more than that, check the response "
        "ratios. An element without a ratio is the same in both."
    )
    eds, pixel = run.eds, run.eds.pixel_size
    unit = "counts per nm" if pixel else "counts per px"
    volumes = {
        name: run.results[key].array("element", "z", "x", "y")
        for name, key in (("EDS alone", "sirt"), ("HEBT", "hebt"))
    }
    volumes["truth"] = run.truth.truth
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


def _errors(page: Page, run) -> None:
    page.heading("Against the truth")
    few = run.results["hebt"].history[-1]["iterations"] // 4
    page.text(
        "The particle is simulated, so the errors are known: correlation 1 and squared error 0 "
        "would be perfect. EDS alone is best after fewer iterations, when it is blurred and not "
        f"yet noisy; it is listed after {few} too."
    )
    truth = run.truth.truth
    early = run.eds.reconstruct_sirt(few, depth=None, width=None, show_progressbar=False)
    candidates = {
        f"EDS alone, {few} iterations": early,
        f"EDS alone, {4 * few} iterations": run.results["sirt"],
        f"HEBT, {4 * few} iterations": run.results["hebt"],
    }
    rows = []
    for i, name in enumerate(run.eds.elements):
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
        np.array([run.factors[name] for name in run.eds.elements])[:, None, None, None] * truth
    )
    inside = weights.sum(axis=0) > 0.5 * weights.sum(axis=0).max()
    true_percent = 100 * weights[:, inside] / weights[:, inside].sum(axis=0)
    percent = run.results["composition"].array("element", "z", "x", "y")[:, inside]
    quantified = percent.sum(axis=0) > 0
    error = np.sqrt(np.mean((percent - true_percent)[:, quantified] ** 2))
    region = inside.copy()
    region[inside] = quantified
    means = run.results["hebt"].mean_composition(
        run.results["composition"], region.transpose(0, 2, 1)
    )
    true_sums = weights[:, region].sum(axis=1, dtype=np.float64)
    true_means = dict(zip(run.eds.elements, 100 * true_sums / true_sums.sum(), strict=True))
    page.text(
        f"Composition: root mean square error {error:.1f} wt% per voxel inside the particle; "
        + "; ".join(
            f"mean {name} {means[name]:.1f} wt% (truth {true_means[name]:.1f})"
            for name in run.eds.elements
        )
        + "."
    )
    across = run.haadf.alignment.across + run.truth.across
    radians = np.deg2rad(run.eds.tilts)
    # Displacements of the object and the axis offset, which projections cannot determine.
    undetermined = np.stack([np.ones_like(radians), np.cos(radians), np.sin(radians)], axis=1)
    across = across - undetermined @ np.linalg.lstsq(undetermined, across, rcond=None)[0]
    along = run.haadf.alignment.along + run.truth.along
    page.text(
        "Alignment: shifts of up to 3 px were measured with an error of "
        f"{np.sqrt(np.mean(across**2)):.2f} px across the tilt axis and {along.std():.2f} px along "
        "it (root mean square)."
    )


def _composition(page: Page, run) -> None:
    composition = run.results["composition"]
    page.heading("Composition")
    page.text(
        "Percent of the listed elements in each voxel of the particle, from the HEBT volumes by "
        "the Cliff-Lorimer method, with the k-factors "
        + ", ".join(f"{k} {v:.3g}" for k, v in run.factors.items())
        + ". Outside the particle it is 0."
    )
    percent = composition.array("element", "z", "x", "y")
    page.figure(
        plotting.plot_composition(
            percent,
            composition.elements,
            mask=percent.sum(axis=0) > 0,
            pixel_size=composition.pixel_size,
            unit="wt%",
        ),
        "Middle sections, and the histogram of each element in the particle.",
    )


def _convergence(page: Page, run) -> None:
    page.heading("Residuals")
    residuals = run.results["hebt"].residuals
    curves = {name: residuals["eds"][:, i] for i, name in enumerate(run.eds.elements)} | {
        "HAADF": residuals["haadf"]
    }
    page.text(
        "Maps of few counts keep a large residual: it is their noise, which a reconstruction "
        f"should not fit. The residual of the HAADF fell to {residuals['haadf'][-1]:.3f}."
    )
    page.figure(
        plotting.plot_residuals(curves), "Relative residuals of HEBT from iteration to iteration."
    )


def _provenance(page: Page, run) -> None:
    page.heading("How it was made")
    page.table(
        [(what, f"{seconds:.1f} s") for what, seconds in run.seconds.items()],
        header=["step", "time"],
    )
    for title, key in (("HEBT volume", "hebt"), ("composition", "composition")):
        page.details(
            f"History of the {title}",
            json.dumps(run.results[key].history, indent=1, ensure_ascii=False)[:20000],
        )


def _diameter(run) -> float:
    """Return the width of the object across the tilt axis, nm or px.

    It is where the mean over tilts and y exceeds a tenth of its maximum.
    """
    profile = run.haadf.aligned().array("tilt", "x", "y").mean(axis=(0, 2))
    return float(np.count_nonzero(profile > 0.1 * profile.max()) * (run.haadf.pixel_size or 1.0))


def _blocks(images: np.ndarray, side: int) -> np.ndarray:
    tilts, x, y = images.shape
    cut = images[:, : x // side * side, : y // side * side]
    return cut.reshape(tilts, x // side, side, y // side, side).sum(axis=(2, 4))


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _span(values) -> str:
    return f"{np.min(values):.2f} to {np.max(values):.2f}"
