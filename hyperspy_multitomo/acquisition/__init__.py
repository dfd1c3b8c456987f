# SPDX-License-Identifier: GPL-3.0-or-later
"""From microscope files to calibrated records, tilts, and elemental maps in counts."""

from hyperspy_multitomo.acquisition.calibration import LineShapes, region_spectra
from hyperspy_multitomo.acquisition.counts import ElementalCounts
from hyperspy_multitomo.acquisition.detector import Detector
from hyperspy_multitomo.acquisition.elemental import LineModel, prepare_fit
from hyperspy_multitomo.acquisition.io import expand_files, read_records, read_stack, read_tilt_files
from hyperspy_multitomo.acquisition.preprocessing import eds_gains, gain_from_means, wholly_in_view
from hyperspy_multitomo.acquisition.records import Record
from hyperspy_multitomo.acquisition.tilts import TiltOrder, order_tilts, read_tilt_file, resolve_tilts
from hyperspy_multitomo.acquisition.windows import WindowModel, prepare_windows
from hyperspy_multitomo.acquisition.xray_lines import families_of, line_of

__all__ = [
    "Detector",
    "ElementalCounts",
    "LineModel",
    "LineShapes",
    "Record",
    "TiltOrder",
    "WindowModel",
    "eds_gains",
    "expand_files",
    "families_of",
    "gain_from_means",
    "line_of",
    "order_tilts",
    "prepare_fit",
    "prepare_windows",
    "read_records",
    "read_stack",
    "read_tilt_file",
    "read_tilt_files",
    "region_spectra",
    "resolve_tilts",
    "wholly_in_view",
]
