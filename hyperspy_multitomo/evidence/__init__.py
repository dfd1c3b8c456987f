# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a volume is evidence: regions tested on the counts, and what could be seen at all."""

from hyperspy_multitomo.evidence.planner import AcquisitionPlan, PlannedSeries
from hyperspy_multitomo.evidence.regions import Box, Ellipsoid
from hyperspy_multitomo.evidence.table import Evidence, RegionEvidence

__all__ = ["AcquisitionPlan", "Box", "Ellipsoid", "Evidence", "PlannedSeries", "RegionEvidence"]
