# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross sections, yields and factors of the elements from hydrogen to californium."""

from hyperspy_multitomo.composition.cross_sections.elastic import elastic_browning, haadf
from hyperspy_multitomo.composition.cross_sections.factors import (
    convert_factors,
    haadf_factor,
    model_ratios,
    xray_factor,
)
from hyperspy_multitomo.composition.cross_sections.ionisation import edge, ionisation
from hyperspy_multitomo.composition.cross_sections.relaxation import (
    emission,
    fluorescence_yield,
    line_fraction,
)

__all__ = [
    "convert_factors",
    "edge",
    "elastic_browning",
    "emission",
    "fluorescence_yield",
    "haadf",
    "haadf_factor",
    "ionisation",
    "line_fraction",
    "model_ratios",
    "xray_factor",
]
