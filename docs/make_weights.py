# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the picture of docs/regularisers.md: a section by TNV at five weights, and the truth."""

from fractions import Fraction
from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import nrmse, plot_comparison
from hyperspy_multitomo.simulation import huber, simulate

series = simulate(huber(size=144, slices=16), dose=4, seed=3)
known = {"tilts": series.tilts, "pixel_size": series.pixel_size}
maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
eds = mt.TiltSeriesEDS.from_maps(maps, **known)
haadf = mt.TiltSeriesHAADF.from_images(series.haadf.transpose(0, 2, 1), **known)
volumes = {}
for weight in (0.25, 0.5, 1.0, 2.0, 4.0):
    volume = eds.reconstruct_tnv(haadf, weight=weight, show_progressbar=False)
    arrays = volume.array("element", "z", "x", "y")[: len(series.elements)]
    errors = [round(nrmse(one, true), 3) for one, true in zip(arrays, series.truth, strict=True)]
    print(weight, dict(zip(series.elements, errors, strict=True)))
    volumes[str(Fraction(weight))] = arrays
volumes["truth"] = series.truth
shown = [series.elements.index(name) for name in ("Yb", "Si")]
part = (shown, slice(14, 112), slice(20, 122))
figure = plot_comparison(
    {name: array[part] for name, array in volumes.items()},
    ["Yb", "Si"],
    pixel_size=series.pixel_size,
)
figure.savefig(Path(__file__).parent / "images" / "weights.png", dpi=110)
print(
    "counts per pixel in the specimen:",
    np.round([one[series.haadf > 3e4].mean() for one in series.maps], 1),
)
