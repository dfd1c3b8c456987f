# SPDX-License-Identifier: GPL-3.0-or-later
"""The composition panel on a noisy volume;
the mean of the composition that was made is shown as RESULT."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import yuan

phantom = yuan(size=40, slices=16)
truth = phantom.counts_per_nm.transpose(0, 1, 3, 2)
noisy = (truth + np.random.default_rng(0).normal(0, truth.max() / 50, truth.shape)).astype(
    "float32"
)
arrays = dict(zip(phantom.elements, noisy, strict=True))
volume = mt.TomographicVolume.from_arrays(
    arrays, pixel_size=phantom.pixel_size, quantity="counts / nm"
)
result = ipywidgets.Label("")
panel = volume.quantify("CL", {"Au": 1.5, "Ag": 1.0}, interactive=True)


def tell(event):
    if event.new is not None:
        result.value = f"RESULT {float(event.new['Au'].data.mean()):.4f} {event.new.quantity}"


panel.observe(tell, "result")
display(result)  # noqa: F821
