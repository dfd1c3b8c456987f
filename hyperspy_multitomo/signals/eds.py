# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilt series of EDS maps as a HyperSpy signal, axes ``(element, tilt | x, y)``."""

from __future__ import annotations

from hyperspy.signals import LazySignal2D

from hyperspy_multitomo.signals.elemental_series import ElementalTiltSeries
from hyperspy_multitomo.signals.metadata.recorded_arrays import recall
from hyperspy_multitomo.signals.methods import absorption, absorption_loop


class TiltSeriesEDS(ElementalTiltSeries):
    """Elemental maps of one object, one set per tilt: axes ``(element, tilt | x, y)``, array order (tilt, element, y, x).

    The data are net counts of each element's line. `gross` and `background` hold the counts in the
    line's window and what of them is not the element, where the maps were made by `elemental_maps`.
    """

    _signal_type = "TiltSeriesEDS"
    _TITLE = "EDS"
    _COUNTED = "lines"

    # Self-absorption of the X-rays.
    detectors = property(absorption.detectors_of_series, absorption.set_detectors)
    transmission = property(absorption.transmission_of_series, absorption.set_transmission)
    estimate_absorption = absorption.estimate_absorption
    reconstruct_with_absorption = absorption_loop.reconstruct_with_absorption

    @property
    def lines(self) -> tuple[str, ...]:
        """The X-ray line of each element, e.g. ``"Fe_Ka"``; empty where the maps were not made from spectra."""
        return tuple(recall(self, "lines") or ())


class LazyTiltSeriesEDS(TiltSeriesEDS, LazySignal2D):
    """A `TiltSeriesEDS` whose data are a dask array."""
