# SPDX-License-Identifier: GPL-3.0-or-later
"""The HyperSpy face: tilt series and volumes as signals, and the way from files and spectra to them."""

from .eds import LazyTiltSeriesEDS, TiltSeriesEDS
from .haadf import LazyTiltSeriesHAADF, TiltSeriesHAADF
from .load import load_tilt_series
from .maps import elemental_maps
from .volume import LazyTomographicVolume, TomographicVolume

__all__ = [
    "LazyTiltSeriesEDS",
    "LazyTiltSeriesHAADF",
    "LazyTomographicVolume",
    "TiltSeriesEDS",
    "TiltSeriesHAADF",
    "TomographicVolume",
    "elemental_maps",
    "load_tilt_series",
]
