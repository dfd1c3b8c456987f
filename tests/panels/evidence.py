# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence panel on a simulated rod with a grain; z of the last result is shown as RESULT."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt

z, x, y = (
    grid - middle for grid, middle in zip(np.ogrid[:32, :32, :16], (15.5, 15.5, 7.5), strict=True)
)
rod = (z**2 + x**2 + 0 * y < 144).astype(np.float32)
grain = (z - 3) ** 2 + (x + 2) ** 2 + y**2 < 2.6**2
tilts = np.arange(-70.0, 71.0, 10.0)
project = mt.projector(mt.TiltGeometry(tilts, 32))
rng = np.random.default_rng(0)
expected = {"Au": 0.3 * (rod + 2 * grain), "Ag": 0.3 * rod}
maps = {name: rng.poisson(project(one)).transpose(0, 2, 1) for name, one in expected.items()}
eds = mt.TiltSeriesEDS.from_maps(maps, tilts=tilts, pixel_size=1.5)
volume = eds.reconstruct_sirt(15, depth=None, show_progressbar=False)
result = ipywidgets.Label("")
panel = eds.explore_evidence(volume)
panel.observe(lambda event: setattr(result, "value", f"RESULT {event.new.z[0]:.4f}"), "result")
display(result)  # noqa: F821
