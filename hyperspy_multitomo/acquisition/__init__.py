# SPDX-License-Identifier: GPL-3.0-or-later
"""From microscope files to calibrated records, tilts, and elemental maps in counts."""

from hyperspy_multitomo.acquisition.counts import ElementalCounts, expected_background
from hyperspy_multitomo.acquisition.eds.detector import Detector
from hyperspy_multitomo.acquisition.eds.elemental import LineModel, prepare_fit
from hyperspy_multitomo.acquisition.eds.line_calibration import LineShapes, region_spectra
from hyperspy_multitomo.acquisition.eds.windows import WindowModel, prepare_windows
from hyperspy_multitomo.acquisition.eds.xray_lines import families_of, line_of
from hyperspy_multitomo.acquisition.eels.edge_fit import EdgeModel, prepare_edge_fit
from hyperspy_multitomo.acquisition.eels.edge_windows import EdgeWindows, prepare_edge_windows
from hyperspy_multitomo.acquisition.eels.edges import Edge, edges_between, resolve_edges
from hyperspy_multitomo.acquisition.files.frame_sums import (
    average_frames,
    register_frames,
    sum_frames,
)
from hyperspy_multitomo.acquisition.files.io import (
    expand_files,
    read_records,
    read_stack,
    read_tilt_files,
)
from hyperspy_multitomo.acquisition.files.records import Record
from hyperspy_multitomo.acquisition.preprocessing.bad_tilts import (
    TiltRanking,
    image_measures,
    rank_tilts,
)
from hyperspy_multitomo.acquisition.preprocessing.defects import (
    Saturation,
    find_saturation,
    hot_pixels,
    hot_positions,
)
from hyperspy_multitomo.acquisition.preprocessing.detector_offset import (
    BackgroundLevel,
    background_level,
    fit_background,
)
from hyperspy_multitomo.acquisition.preprocessing.dose_drift import DoseDrift, fit_dose_drift
from hyperspy_multitomo.acquisition.preprocessing.field_of_view import wholly_in_view
from hyperspy_multitomo.acquisition.preprocessing.gains import (
    GainEstimate,
    expected_means,
    fit_gains,
    gain_from_means,
)
from hyperspy_multitomo.acquisition.preprocessing.shadowing import eds_gains
from hyperspy_multitomo.acquisition.tilts import (
    TiltOrder,
    order_tilts,
    read_tilt_file,
    resolve_tilts,
)

__all__ = [
    "BackgroundLevel",
    "Detector",
    "DoseDrift",
    "Edge",
    "EdgeModel",
    "EdgeWindows",
    "ElementalCounts",
    "GainEstimate",
    "LineModel",
    "LineShapes",
    "Record",
    "Saturation",
    "TiltOrder",
    "TiltRanking",
    "WindowModel",
    "average_frames",
    "background_level",
    "edges_between",
    "eds_gains",
    "expand_files",
    "expected_background",
    "expected_means",
    "families_of",
    "find_saturation",
    "fit_background",
    "fit_dose_drift",
    "fit_gains",
    "gain_from_means",
    "hot_pixels",
    "hot_positions",
    "image_measures",
    "line_of",
    "order_tilts",
    "prepare_edge_fit",
    "prepare_edge_windows",
    "prepare_fit",
    "prepare_windows",
    "rank_tilts",
    "read_records",
    "read_stack",
    "read_tilt_file",
    "read_tilt_files",
    "region_spectra",
    "register_frames",
    "resolve_edges",
    "resolve_tilts",
    "sum_frames",
    "wholly_in_view",
]
