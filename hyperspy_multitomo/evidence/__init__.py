# SPDX-License-Identifier: GPL-3.0-or-later
"""What the data say of a volume: regions, planning, noise, transfer, resolution, sweeps."""

from hyperspy_multitomo.evidence.edge_width import EdgeFit, EdgeWidths, edge_widths
from hyperspy_multitomo.evidence.planner import AcquisitionPlan, PlannedSeries
from hyperspy_multitomo.evidence.realisations import Realisations, RegionMeans
from hyperspy_multitomo.evidence.regions import Box, Ellipsoid
from hyperspy_multitomo.evidence.resolution import Resolution
from hyperspy_multitomo.evidence.shell_correlation import ShellCorrelation, shell_correlation
from hyperspy_multitomo.evidence.sweep import Sweep
from hyperspy_multitomo.evidence.table import Evidence, RegionEvidence
from hyperspy_multitomo.evidence.transfer import TransferTest

__all__ = [
    "AcquisitionPlan",
    "Box",
    "EdgeFit",
    "EdgeWidths",
    "Ellipsoid",
    "Evidence",
    "PlannedSeries",
    "Realisations",
    "RegionEvidence",
    "RegionMeans",
    "Resolution",
    "ShellCorrelation",
    "Sweep",
    "TransferTest",
    "edge_widths",
    "shell_correlation",
]
