# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the pictures of docs/resolution.md and docs/sweeps.md, and print their tables."""

from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import nrmse, plot_metrics
from hyperspy_multitomo.simulation import simulate, zhong

IMAGES = Path(__file__).parent / "images"
QUIET = {"show_progressbar": False, "depth": None}


def signals(series):
    """Return the maps and the images of a simulated series."""
    known = {"tilts": series.tilts, "pixel_size": series.pixel_size}
    maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
    images = series.haadf.transpose(0, 2, 1)
    return mt.TiltSeriesEDS.from_maps(maps, **known), mt.TiltSeriesHAADF.from_images(
        images, **known
    )


phantom = zhong(size=96, slices=24)
series = simulate(phantom, dose=2, blur=0, seed=3)
eds, haadf = signals(series)
eds.fit_response_ratios(haadf)
truth = mt.TomographicVolume.from_arrays(
    dict(zip(series.elements, series.truth.transpose(0, 1, 3, 2), strict=True)),
    pixel_size=series.pixel_size,
)

# Alpha and iterations of HEBT, one slice.
grid = {"alpha": [0.3, 0.5, 0.6, 0.7, 0.8, 0.9], "iterations": [5, 10, 20, 50, 100, 200]}
found = eds.sweep(haadf, "hebt", **grid, truth=truth, **QUIET)
print(found, found.best(), found.best("nrmse"))
found.plot().savefig(IMAGES / "sweep.png", dpi=90)

# Edges and halves of one of them.
volume = eds.reconstruct_hebt(haadf, iterations=100, **QUIET)
print(volume.edge_width())
resolution = eds.resolution(volume, haadf, show_progressbar=False)
print(resolution)
resolution.plot().savefig(IMAGES / "resolution.png", dpi=90)

# A map of dose and sampling: the same exposure at fewer tilts, and fewer counts.
doses, steps = (0.25, 0.5, 1.0, 2.0, 4.0), (1, 2, 3, 5)
errors = []
for dose in doses:
    maps, images = signals(simulate(phantom, dose=dose, blur=0, seed=4))
    for step in steps:
        few, fewer = maps.inav[:, ::step], images.inav[::step]
        few.fit_response_ratios(fewer)
        one = few.reconstruct_tnv(fewer, iterations=100, **QUIET)
        arrays = one.array("element", "z", "x", "y")[: len(series.elements)] / dose
        errors.append(np.mean([nrmse(a, t / 2) for a, t in zip(arrays, series.truth, strict=True)]))
tilts = [len(series.tilts[::step]) for step in steps]
print(doses, tilts, np.round(np.reshape(errors, (len(doses), len(tilts))), 3))
figure = plot_metrics({"nrmse": errors}, {"dose": doses, "tilts": tilts})
figure.savefig(IMAGES / "dose_and_tilts.png", dpi=90)
