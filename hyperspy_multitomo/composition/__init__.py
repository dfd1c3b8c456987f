# SPDX-License-Identifier: GPL-3.0-or-later
"""From counts to composition: response ratios, cross sections, quantification, absorption, mask."""

from hyperspy_multitomo.composition import cross_sections
from hyperspy_multitomo.composition.density import electrons_per_pixel, quantify_density
from hyperspy_multitomo.composition.haadf.damping_from_maps import damping_from_maps
from hyperspy_multitomo.composition.haadf.haadf_damping import DampingModel, estimate_damping
from hyperspy_multitomo.composition.haadf.two_elements import HAADFComposition, haadf_composition
from hyperspy_multitomo.composition.particle.edge_spread import ThresholdCurve, edge_spread
from hyperspy_multitomo.composition.particle.threshold import particle_mask, specimen_mask
from hyperspy_multitomo.composition.quantification import (
    composition_errors,
    mean_composition,
    quantify,
)
from hyperspy_multitomo.composition.response.fit import ResponseRatios, fit_response_ratios
from hyperspy_multitomo.composition.xrays.detectors import (
    XRayDetector,
    detectors_from,
    shadowing_gains,
    super_x,
)
from hyperspy_multitomo.composition.xrays.efficiency import Layer, efficiency
from hyperspy_multitomo.composition.xrays.self_absorption import (
    attenuation_coefficients,
    linear_attenuation,
    ray_transmission,
    voxel_transmission,
)

__all__ = [
    "DampingModel",
    "HAADFComposition",
    "Layer",
    "ResponseRatios",
    "ThresholdCurve",
    "XRayDetector",
    "attenuation_coefficients",
    "composition_errors",
    "cross_sections",
    "damping_from_maps",
    "detectors_from",
    "edge_spread",
    "efficiency",
    "electrons_per_pixel",
    "estimate_damping",
    "fit_response_ratios",
    "haadf_composition",
    "linear_attenuation",
    "mean_composition",
    "particle_mask",
    "quantify",
    "quantify_density",
    "ray_transmission",
    "shadowing_gains",
    "specimen_mask",
    "super_x",
    "voxel_transmission",
]
