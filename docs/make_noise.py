# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the picture of docs/noise.md: a section by TNV with its noise and its bias."""

from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import plot_realisations
from hyperspy_multitomo.simulation import huber, simulate

COUNT = 20
series = simulate(huber(size=72, slices=12), dose=0.2, seed=3)
known = {"tilts": series.tilts, "pixel_size": series.pixel_size}
maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
eds = mt.TiltSeriesEDS.from_maps(maps, **known)
haadf = mt.TiltSeriesHAADF.from_images(series.haadf.transpose(0, 2, 1), **known)
volume = eds.reconstruct_tnv(haadf, show_progressbar=False)
noise = eds.realisations(volume, haadf, count=COUNT, show_progressbar=False)
print(noise)
shown = [volume.channels.index(name) for name in ("Yb", "Al")]
part = (shown, slice(6, 66), slice(6, 66))
arrays = [
    np.asarray(one.array("element", "z", "x", "y"))[part] for one in (volume, noise.sd, noise.bias)
]
figure = plot_realisations(
    *arrays, ["Yb", "Al"], count=COUNT, unit=volume.quantity, pixel_size=series.pixel_size
)
figure.savefig(Path(__file__).parent / "images" / "noise.png", dpi=110)
print("counts per pixel:", np.round(series.maps.mean(axis=(1, 2, 3)), 2))
