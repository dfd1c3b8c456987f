# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction panel on a simulated particle;
the sum of the volume that was made is shown as RESULT."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import simulate, yuan

phantom = yuan(size=48, slices=16)
s = simulate(phantom, tilts=np.arange(-70, 71, 10.0), dose=0.2, blur=0, seed=7)
known = dict(tilts=s.tilts, pixel_size=phantom.pixel_size)
haadf = mt.TiltSeriesHAADF.from_images(s.haadf.transpose(0, 2, 1), **known)
eds = mt.TiltSeriesEDS.from_maps(
    dict(zip(s.elements, s.maps.transpose(0, 1, 3, 2), strict=True)), **known
)
eds.fit_response_ratios(haadf)
result = ipywidgets.Label("")
panel = eds.reconstruct_hebt(haadf, interactive=True)


def tell(event):
    if event.new is not None:
        step = event.new.history[-1]
        result.value = (
            f"RESULT {step['alpha']:.3f} {step['iterations']} {float(event.new.data.sum()):.6g}"
        )


panel.observe(tell, "result")
display(result)  # noqa: F821
