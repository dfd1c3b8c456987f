# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a small simulated particle: at each tilt one of an image and one of spectra."""

import hyperspy.api as hs

import hyperspy_multitomo as mt


def write_particle(folder, tilts):
    """Write ``haadf_<tilt>.hspy`` and ``eds_<tilt>.hspy``, Al in a shell of Au, 24 x 12 px."""
    phantom = mt.simulation.gold_shell(size=24, slices=12)
    series = mt.simulation.simulate(phantom, tilts=tilts, seed=0)
    energies = [0.02 * channel for channel in range(1, 257)]  # keV
    lines = {"Al": "Al_Ka", "Au": "Au_Ma"}
    cubes = mt.simulation.spectra(series.expected_maps, list(lines), energies, lines=lines, seed=0)
    y, x = (
        {"name": name, "size": n, "scale": 2.0, "units": "nm"} for name, n in (("y", 12), ("x", 24))
    )
    energy = {"name": "Energy", "size": 256, "offset": 0.02, "scale": 0.02, "units": "keV"}
    for tilt, image, cube in zip(tilts, series.haadf, cubes, strict=True):
        hs.signals.Signal2D(image.T, axes=[y, x]).save(folder / f"haadf_{tilt:.0f}.hspy")
        spectra = hs.signals.Signal1D(cube.swapaxes(0, 1), axes=[y, x, energy])
        spectra.set_signal_type("EDS_TEM")
        spectra.set_microscope_parameters(beam_energy=200, tilt_stage=tilt, live_time=100)
        spectra.save(folder / f"eds_{tilt:.0f}.hspy")
