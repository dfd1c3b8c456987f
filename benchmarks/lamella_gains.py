# SPDX-License-Identifier: GPL-3.0-or-later
"""A lamella with gains by 1/cos t against gains by a constant mean.

    python benchmarks/lamella_gains.py FOLDER_OF_BCF_FILES

The same counts are reconstructed twice, both times with gains in the forward model: once for a
specimen that fills the view, whose signal is proportional to 1/cos t, once for a constant mean.
Prints figures of both volumes, and draws sections of them.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from scipy.ndimage import gaussian_filter1d

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import plot_comparison
from hyperspy_multitomo.signals.arrays import projections
from hyperspy_multitomo.tomography import projector, visible_width

ELEMENTS = ("C", "O", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt")
SHOWN = ("HAADF", "Mg", "Fe", "Pt")
# Stripes are the difference between the profile across the tilt axis of each plane z and the same
# profile smoothed by a Gaussian of this many pixels.
SMOOTH = 2.0


def with_gains(haadf, eds, model: str):
    """Return copies with gains: HAADF by `model`; EDS from the HAADF, or by each map's mean."""
    haadf, eds = haadf.deepcopy(), eds.deepcopy()
    haadf.estimate_gains(model)
    if model == "lamella":
        eds.estimate_gains(haadf)
    else:
        eds.estimate_gains(model="constant", per_element=True)
    return haadf, eds


def measured(haadf, volume) -> dict[str, str]:
    """Return figures of merit of a HAADF volume that need no truth."""
    data, pixel = volume.array("z", "x", "y").astype(np.float32), haadf.pixel_size
    A = projector(haadf.geometry(data.shape[0] * pixel, data.shape[1] * pixel))
    images, modelled = (
        projections(haadf)[0],
        haadf.gains[:, None, None] * A(np.ascontiguousarray(data)),
    )
    misfit = np.linalg.norm(modelled - images, axis=(1, 2)) / np.linalg.norm(images, axis=(1, 2))
    bias = 100 * (modelled.mean(axis=(1, 2)) / images.mean(axis=(1, 2)) - 1)
    in_view = haadf.axes_manager["x"].size
    outside = (data.shape[1] - in_view) // 2
    profiles = data[:, outside : outside + in_view].mean(axis=2)
    stripes = (profiles - gaussian_filter1d(profiles, SMOOTH, axis=1))[:, 8:-8].std(
        axis=1
    ).mean() / profiles.mean()
    profile, z = data.sum(axis=(1, 2)), pixel * np.arange(len(data))
    centre = (z * profile).sum() / profile.sum()
    spread = np.sqrt(((z - centre) ** 2 * profile).sum() / profile.sum())
    return {
        "misfit of the projections, mean (largest)": f"{misfit.mean():.3f} ({misfit.max():.3f})",
        "modelled over measured mean, -40°, 0°, +35° (%)": ", ".join(
            f"{bias[i]:+.1f}" for i in (0, 8, -1)
        ),
        "stripes across the tilt axis (% of the mean)": f"{100 * stripes:.1f}",
        "extent along z (nm, root mean square)": f"{spread:.1f}",
    }


def main() -> None:
    """Print the tables and write the pictures."""
    parser = argparse.ArgumentParser(
        description="a lamella with 1/cos t gains against common-mean gains"
    )
    parser.add_argument("folder", help="the .bcf files of the lamella, one per tilt")
    parser.add_argument(
        "--picture",
        default="lamella_gains",
        help="where to draw the sections, _xy.png and _xz.png are added",
    )
    parser.add_argument(
        "--slices", type=int, default=64, help="slices to reconstruct, from the middle (default 64)"
    )
    parser.add_argument("--iterations", type=int, default=100, help="iterations (default 100)")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    haadf, spectra = mt.load_tilt_series(f"{options.folder}/*.bcf", tilts="filename")
    eds = mt.elemental_maps(spectra, elements=list(ELEMENTS), show_progressbar=False)
    haadf.align()
    eds.align(haadf.alignment)
    haadf.estimate_gains("lamella")
    depth = haadf.estimate_depth()
    first = (haadf.axes_manager["y"].size - options.slices) // 2
    table, volumes = {}, {}
    for name, model in (("1/cos t", "lamella"), ("common mean", "constant")):
        images, maps = with_gains(haadf, eds, model)
        maps.fit_response_ratios(images, block_size=8)
        images, maps = (series.isig[:, first : first + options.slices] for series in (images, maps))
        extent = {
            "depth": depth,
            "width": visible_width(images.geometry(), depth),
            "show_progressbar": False,
        }
        sirt = images.reconstruct_sirt(options.iterations, **extent)
        hebt = maps.reconstruct_hebt(images, 0.7, options.iterations, **extent)
        table[name] = measured(images, sirt) | {
            "R² of the response ratios": f"{maps.response_ratios.r2:.3f}",
            "HEBT's residual of the HAADF": f"{hebt.residuals['haadf'][-1]:.3f}",
            "HAADF gains": f"{images.gains.min():.2f} to {images.gains.max():.2f}",
        }
        volumes[name] = {"HAADF": sirt.array("z", "x", "y")} | {
            element: data
            for element, data in zip(
                hebt.elements, hebt.array("element", "z", "x", "y"), strict=True
            )
        }
    one, other = volumes.values()
    print(f"depth {depth:.0f} nm, {options.slices} slices, {options.iterations} iterations\n")
    print("| | " + " | ".join(table) + " |\n|---|---|---|")
    for row in table["1/cos t"]:
        print(f"| {row} | " + " | ".join(cells[row] for cells in table.values()) + " |")
    print("\n| volume | difference after the best common factor (%) |\n|---|---|")
    for name, volume in one.items():
        scaled = other[name] * (volume * other[name]).sum() / np.square(other[name]).sum()
        print(f"| {name} | {100 * np.linalg.norm(volume - scaled) / np.linalg.norm(volume):.0f} |")
    for plane in ("xz", "xy"):
        shown = {
            name: np.stack([channels[channel] for channel in SHOWN])
            for name, channels in volumes.items()
        }
        plot_comparison(
            shown, SHOWN, plane=plane, pixel_size=haadf.pixel_size, unit="signal per nm"
        ).savefig(f"{options.picture}_{plane}.png", dpi=110)


if __name__ == "__main__":
    main()
