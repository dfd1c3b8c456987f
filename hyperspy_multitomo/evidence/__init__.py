# SPDX-License-Identifier: GPL-3.0-or-later
"""What the data say of a volume, and what not: noise, false transfer, resolution, settings."""

from hyperspy_multitomo.evidence.edge_width import EdgeFit, EdgeWidths, edge_widths
from hyperspy_multitomo.evidence.realisations import Realisations, RegionMeans
from hyperspy_multitomo.evidence.resolution import Resolution
from hyperspy_multitomo.evidence.shell_correlation import ShellCorrelation, shell_correlation
from hyperspy_multitomo.evidence.sweep import Sweep
from hyperspy_multitomo.evidence.transfer import TransferTest

__all__ = [
    "EdgeFit",
    "EdgeWidths",
    "Realisations",
    "RegionMeans",
    "Resolution",
    "ShellCorrelation",
    "Sweep",
    "TransferTest",
    "edge_widths",
    "shell_correlation",
]
