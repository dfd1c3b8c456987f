# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperSpy signals of the package: tilt series, volumes, and how they are loaded or mapped."""

from hyperspy_multitomo.signals.edge_maps import edge_maps
from hyperspy_multitomo.signals.eds import LazyTiltSeriesEDS, TiltSeriesEDS
from hyperspy_multitomo.signals.eds_maps import elemental_maps
from hyperspy_multitomo.signals.eels import LazyTiltSeriesEELS, TiltSeriesEELS
from hyperspy_multitomo.signals.haadf import LazyTiltSeriesHAADF, TiltSeriesHAADF
from hyperspy_multitomo.signals.load import load_tilt_series
from hyperspy_multitomo.signals.methods.comparing import compare
from hyperspy_multitomo.signals.methods.panels import workbench
from hyperspy_multitomo.signals.methods.planning import plan_acquisition
from hyperspy_multitomo.signals.methods.rerun import rerun
from hyperspy_multitomo.signals.volume import LazyTomographicVolume, TomographicVolume
from hyperspy_multitomo.signals.watching import watch

__all__ = [
    "LazyTiltSeriesEDS",
    "LazyTiltSeriesEELS",
    "LazyTiltSeriesHAADF",
    "LazyTomographicVolume",
    "TiltSeriesEDS",
    "TiltSeriesEELS",
    "TiltSeriesHAADF",
    "TomographicVolume",
    "compare",
    "edge_maps",
    "elemental_maps",
    "load_tilt_series",
    "plan_acquisition",
    "rerun",
    "watch",
    "workbench",
]
