# SPDX-License-Identifier: GPL-3.0-or-later
"""From counts to composition: response ratios, quantification and the mask of the particle."""

from hyperspy_multitomo.composition.quantification import quantify
from hyperspy_multitomo.composition.response import ResponseRatios, fit_response_ratios
from hyperspy_multitomo.composition.threshold import particle_mask, specimen_mask

__all__ = ["ResponseRatios", "fit_response_ratios", "particle_mask", "quantify", "specimen_mask"]
