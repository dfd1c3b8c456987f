# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume panel on a simulated core and shell; the size of the saved page is shown as RESULT."""

import ipywidgets
import numpy as np

import hyperspy_multitomo as mt

z, y, x = np.indices((32, 32, 32), dtype=np.float32) - 15.5
r = np.sqrt(z**2 + x**2 + y**2)
arrays = {"Au": 3.0 * (r < 7), "Ag": 2.0 * ((r >= 7) & (r < 12))}
volume = mt.TomographicVolume.from_arrays(arrays, pixel_size=0.8, quantity="counts / nm")
result = ipywidgets.Label("")
panel = volume.explore(display=False)["ipywidgets"]
shown = panel["wdict"]
shown["values"].observe(lambda event: setattr(result, "value", f"RESULT {event.new}"), "value")
display(panel["widget"], result)  # noqa: F821
