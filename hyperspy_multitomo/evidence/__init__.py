# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a volume is evidence: regions tested on the counts, and what could be seen at all."""

from hyperspy_multitomo.evidence.realisations import Realisations, RegionMeans
from hyperspy_multitomo.evidence.transfer import TransferTest

__all__ = ["Realisations", "RegionMeans", "TransferTest"]
