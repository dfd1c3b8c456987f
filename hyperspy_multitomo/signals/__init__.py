# SPDX-License-Identifier: GPL-3.0-or-later
"""The HyperSpy face: tilt series and volumes as signals, and the way from files and spectra to them."""

from .edge_maps import edge_maps
from .eds import LazyTiltSeriesEDS, TiltSeriesEDS
from .eels import LazyTiltSeriesEELS, TiltSeriesEELS
from .haadf import LazyTiltSeriesHAADF, TiltSeriesHAADF
from .load import load_tilt_series
from .maps import elemental_maps
from .volume import LazyTomographicVolume, TomographicVolume
from .workbench import workbench

__all__ = [
    "LazyTiltSeriesEDS",
    "LazyTiltSeriesEELS",
    "LazyTiltSeriesHAADF",
    "LazyTomographicVolume",
    "TiltSeriesEDS",
    "TiltSeriesEELS",
    "TiltSeriesHAADF",
    "TomographicVolume",
    "edge_maps",
    "elemental_maps",
    "load_tilt_series",
    "workbench",
]
