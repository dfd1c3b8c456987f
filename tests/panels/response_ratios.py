# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the response ratios on a simulated particle;
the attached ratios are shown as RESULT."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import simulate, yuan

phantom = yuan(size=48, slices=24)
s = simulate(phantom, tilts=np.arange(-60, 61, 20.0), dose=0.2, blur=0, seed=1)
known = dict(tilts=s.tilts, pixel_size=phantom.pixel_size)
eds = mt.TiltSeriesEDS.from_maps(
    dict(zip(s.elements, s.maps.transpose(0, 1, 3, 2), strict=True)), **known
)
haadf = mt.TiltSeriesHAADF.from_images(s.haadf.transpose(0, 2, 1), **known)
result = ipywidgets.Label("")
panel = eds.fit_response_ratios(haadf, interactive=True, display=False)["ipywidgets"]


def tell(_):
    if eds.response_ratios is not None:
        result.value = "RESULT " + " ".join(f"{value:.6g}" for value in eds.response_ratios.values)


panel["wdict"]["message"].observe(tell, "value")
display(panel["widget"], result)  # noqa: F821
