# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilt series of EDS maps as a HyperSpy signal, axes ``(element, tilt | x, y)``."""

from __future__ import annotations

from hyperspy.signals import LazySignal2D

from hyperspy_multitomo.signals.elemental_series import ElementalTiltSeries
from hyperspy_multitomo.signals.methods import absorption, absorption_loop, map_counts


class TiltSeriesEDS(ElementalTiltSeries):
    """EDS maps of one object, a set per tilt, axes ``(element, tilt | x, y)``.

    Array order (tilt, element, y, x).

    The data are net counts of each element's line. `gross` and `background` hold the counts in the
    line's window and what of them is not the element, where the maps were made by `elemental_maps`.
    """

    _signal_type = "TiltSeriesEDS"
    _TITLE = "EDS"
    _COUNTED = "lines"

    # Self-absorption of the X-rays.
    detectors = property(absorption.get_detectors, absorption.set_detectors)
    transmission = property(absorption.get_transmission, absorption.set_transmission)
    estimate_absorption = absorption.estimate_absorption
    reconstruct_with_absorption = absorption_loop.reconstruct_with_absorption

    lines = property(map_counts.get_lines)


class LazyTiltSeriesEDS(TiltSeriesEDS, LazySignal2D):
    """A `TiltSeriesEDS` whose data are a dask array."""
