# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the README's picture: a section from EDS alone and by HEBT (best iterations), and truth."""

from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import plot_comparison
from hyperspy_multitomo.simulation import simulate, yuan

series = simulate(yuan(size=97, slices=32), dose=0.2, seed=7)
known = {"tilts": series.tilts, "pixel_size": series.pixel_size}
maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
eds = mt.TiltSeriesEDS.from_maps(maps, **known)
haadf = mt.TiltSeriesHAADF.from_images(series.haadf.transpose(0, 2, 1), **known)
eds.fit_response_ratios(haadf, block_size=8)
order = ("element", "z", "x", "y")
volumes = {
    "EDS alone": eds.reconstruct_sirt(10, show_progressbar=False).array(*order),
    "HEBT": eds.reconstruct_hebt(haadf, alpha=0.8, iterations=50, show_progressbar=False).array(
        *order
    ),
    "truth": series.truth,
}
figure = plot_comparison(volumes, eds.elements, plane="xz", pixel_size=series.pixel_size)
figure.savefig(Path(__file__).parent / "images" / "overview.png", dpi=80)
print("counts per pixel inside the particle:", np.round(series.maps[series.maps > 0].mean(), 1))
