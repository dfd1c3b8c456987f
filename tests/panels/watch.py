# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of a series that is being acquired; two more tilts come while it is open."""

import tempfile
import threading

import hyperspy.api as hs
import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import gold_shell, simulate, spectra

tilts = np.arange(-60.0, 61.0, 20.0)
lines = {"Al": "Al_Ka", "Au": "Au_Ma"}
series = simulate(gold_shell(size=32, slices=16), tilts=tilts, seed=0)
energies = 0.02 * np.arange(1, 257)
cubes = spectra(series.expected_maps, list(lines), energies, lines=lines, seed=0)
y, x = (
    {"name": name, "size": n, "scale": 2.0, "units": "nm"} for name, n in (("y", 16), ("x", 32))
)
energy = {"name": "Energy", "size": 256, "offset": 0.02, "scale": 0.02, "units": "keV"}
folder = tempfile.mkdtemp()


def acquire(places):
    for place in places:
        image = hs.signals.Signal2D(series.haadf[place].T, axes=[y, x])
        image.save(f"{folder}/haadf_{tilts[place]:.0f}.hspy")
        cube = hs.signals.Signal1D(cubes[place].swapaxes(0, 1), axes=[y, x, energy])
        cube.set_signal_type("EDS_TEM")
        cube.set_microscope_parameters(beam_energy=200, tilt_stage=tilts[place], live_time=100)
        cube.save(f"{folder}/eds_{tilts[place]:.0f}.hspy")


acquire(range(5))
region = mt.Ellipsoid((32.0, 16.0, 0.0), 6.0)
panel = mt.watch(
    folder,
    ["Al", "Au"],
    region=region,
    element="Al",
    stop_at=20.0,
    also=[],
    poll=0.5,
    interactive=True,
)
threading.Timer(6, acquire, [[5, 6]]).start()
