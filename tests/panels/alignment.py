# SPDX-License-Identifier: GPL-3.0-or-later
"""The alignment panel on a simulated particle; what it attaches is shown as RESULT."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt

series = mt.simulation.misaligned(
    "particle", size=48, tilts=np.arange(-60, 61, 10), shift=3.0, seed=1
)
haadf = mt.TiltSeriesHAADF.from_images(
    series.haadf.swapaxes(1, 2), tilts=series.tilts, pixel_size=0.5
)
result = ipywidgets.Label("")
panel = haadf.align(interactive=True, display=False)["ipywidgets"]
shown = panel["wdict"]


def tell(_):
    if haadf.alignment is not None:
        result.value = f"RESULT {haadf.alignment.axis_offset:.4f} {haadf.alignment.across[3]:.4f}"


shown["message"].observe(tell, "value")
display(panel["widget"], result)  # noqa: F821
