# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-modal electron tomography for HyperSpy: HAADF, EDS and EELS tilt series to 3-D chemistry.

The names below are imported on first use, so that ``import hyperspy_multitomo.tomography`` needs
NumPy, SciPy and numba alone.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Alignment": "alignment",
    "Box": "evidence",
    "Ellipsoid": "evidence",
    "LazyTiltSeriesEDS": "signals",
    "LazyTiltSeriesEELS": "signals",
    "LazyTiltSeriesHAADF": "signals",
    "LazyTomographicVolume": "signals",
    "ResponseRatios": "composition",
    "TiltGeometry": "tomography",
    "TiltSeriesEDS": "signals",
    "TiltSeriesEELS": "signals",
    "TiltSeriesHAADF": "signals",
    "TomographicVolume": "signals",
    "compare": "signals",
    "edge_maps": "signals",
    "elemental_maps": "signals",
    "load_tilt_series": "signals",
    "plan_acquisition": "signals",
    "projector": "tomography",
    "rerun": "signals",
    "watch": "signals",
    "workbench": "signals",
}
_PACKAGES = (
    "acquisition",
    "alignment",
    "composition",
    "datasets",
    "evidence",
    "inspection",
    "signals",
    "simulation",
    "tomography",
)

__all__ = ["__version__", *_PACKAGES, *_HOME]


def __getattr__(name: str):
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
