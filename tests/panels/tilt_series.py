# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilt series panel on a simulated particle and its spectra;
the tilts that are left are shown as RESULT."""

import hyperspy.api as hs
import ipywidgets
import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import simulate, yuan
from hyperspy_multitomo.simulation import spectra as draw_spectra

tilts = np.arange(-60.0, 61.0, 20.0)
series = simulate(yuan(size=32, slices=16), tilts=tilts, dose=0.2, blur=0, seed=7)
maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
eds = mt.TiltSeriesEDS.from_maps(maps, tilts=tilts, pixel_size=1.0)
cubes = draw_spectra(series.expected_maps, list(series.elements), seed=0).transpose(0, 2, 1, 3)
sizes = [{"name": "y", "size": cubes.shape[1]}, {"name": "x", "size": cubes.shape[2]}]
energy = {
    "name": "Energy",
    "size": cubes.shape[3],
    "offset": 0.0,
    "scale": 20.48 / cubes.shape[3],
    "units": "keV",
}
spectra = hs.signals.Signal1D(cubes, axes=[{"name": "tilt", "axis": tilts}, *sizes, energy])
spectra.set_signal_type("EDS_TEM")
spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
result = ipywidgets.Label("")
panel = eds.browse(spectra)


def tell(event):
    if event.new is not None:
        result.value = "RESULT " + " ".join(f"{tilt:g}" for tilt in event.new.tilts)


panel.observe(tell, "result")
display(result)  # noqa: F821
