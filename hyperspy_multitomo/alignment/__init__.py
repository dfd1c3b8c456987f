# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment of tilt series: measuring shifts, and applying them once."""

from hyperspy_multitomo.alignment.shifts import align, centre_of_mass_shifts, cross_correlation_shifts
from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["Alignment", "align", "centre_of_mass_shifts", "cross_correlation_shifts"]
