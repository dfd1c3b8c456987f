# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulation: phantoms, and tilt series of them with known truth."""

from hyperspy_multitomo.simulation.absorbed import absorbed_maps
from hyperspy_multitomo.simulation.absorbing_phantoms import gold_shell, heavy_oxide
from hyperspy_multitomo.simulation.microscope import SimulatedSeries, count, simulate
from hyperspy_multitomo.simulation.misaligned import MisalignedSeries, misaligned
from hyperspy_multitomo.simulation.phantoms import huber, schwartz, yuan, zhong
from hyperspy_multitomo.simulation.specimen import Phantom, line_integrals
from hyperspy_multitomo.simulation.spectra import spectra

__all__ = [
    "MisalignedSeries",
    "Phantom",
    "SimulatedSeries",
    "absorbed_maps",
    "count",
    "gold_shell",
    "heavy_oxide",
    "huber",
    "line_integrals",
    "misaligned",
    "schwartz",
    "simulate",
    "spectra",
    "yuan",
    "zhong",
]
