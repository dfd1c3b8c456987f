# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment of tilt series: measuring shifts and the tilt axis, and applying them once."""

from hyperspy_multitomo.alignment.auto import METHODS, align
from hyperspy_multitomo.alignment.centre_of_mass import centre_of_mass_shifts
from hyperspy_multitomo.alignment.common_line import common_line_shifts
from hyperspy_multitomo.alignment.correlation import cross_correlation_shifts
from hyperspy_multitomo.alignment.projection_matching import projection_matching_shifts
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.refinement import Modality, refine
from hyperspy_multitomo.alignment.scan_drift import scan_offsets
from hyperspy_multitomo.alignment.tilt_axis import TiltAxis, axis_by_centre_of_mass
from hyperspy_multitomo.alignment.transform import Alignment

__all__ = [
    "METHODS",
    "Alignment",
    "AlignmentQuality",
    "Modality",
    "TiltAxis",
    "align",
    "axis_by_centre_of_mass",
    "centre_of_mass_shifts",
    "common_line_shifts",
    "cross_correlation_shifts",
    "projection_matching_shifts",
    "refine",
    "scan_offsets",
]
