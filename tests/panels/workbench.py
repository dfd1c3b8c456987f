# SPDX-License-Identifier: GPL-3.0-or-later
"""The workbench on a simulated particle, opened step by step."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import simulate, yuan

phantom = yuan(size=32, slices=12)
s = simulate(phantom, tilts=np.arange(-60, 61, 20.0), dose=0.2, blur=0, seed=7)
known = dict(tilts=s.tilts, pixel_size=phantom.pixel_size)
haadf = mt.TiltSeriesHAADF.from_images(s.haadf.transpose(0, 2, 1), **known)
eds = mt.TiltSeriesEDS.from_maps(
    dict(zip(s.elements, s.maps.transpose(0, 1, 3, 2), strict=True)), **known
)
result = ipywidgets.Label("")
bench = mt.workbench(haadf, eds)
bench.observe(lambda event: setattr(result, "value", f"RESULT {event.new.elements}"), "volume")
display(result)  # noqa: F821
