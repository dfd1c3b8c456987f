# SPDX-License-Identifier: GPL-3.0-or-later
"""All figures in one module: of tilt series, fits, volumes and compositions."""

from hyperspy_multitomo.inspection.alignment_plots import plot_alignment, plot_alignment_sinograms
from hyperspy_multitomo.inspection.convergence import plot_convergence
from hyperspy_multitomo.inspection.damping_plot import plot_damping
from hyperspy_multitomo.inspection.maximum_projection import plot_volume
from hyperspy_multitomo.inspection.orthoslices import plot_orthoslices
from hyperspy_multitomo.inspection.picture import colour_mix, robust_limits
from hyperspy_multitomo.inspection.preprocessing_plots import (
    plot_background,
    plot_dose_drift,
    plot_gains,
    plot_tilt_ranking,
)
from hyperspy_multitomo.inspection.realisations_plot import plot_realisations
from hyperspy_multitomo.inspection.resolution_plots import plot_edges, plot_shell_correlations
from hyperspy_multitomo.inspection.series_plots import (
    plot_projections,
    plot_residuals,
    plot_response,
    plot_sinogram,
)
from hyperspy_multitomo.inspection.side_by_side import plot_side_by_side
from hyperspy_multitomo.inspection.sweep_plots import plot_metrics, plot_settings
from hyperspy_multitomo.inspection.threshold_plot import plot_threshold
from hyperspy_multitomo.inspection.transfer_plot import plot_transfer
from hyperspy_multitomo.inspection.volume_plots import (
    plot_comparison,
    plot_composition,
    plot_slices,
)
from hyperspy_multitomo.inspection.weight_choice import plot_weight_choice

__all__ = [
    "colour_mix",
    "plot_alignment",
    "plot_alignment_sinograms",
    "plot_background",
    "plot_comparison",
    "plot_composition",
    "plot_convergence",
    "plot_damping",
    "plot_dose_drift",
    "plot_edges",
    "plot_gains",
    "plot_metrics",
    "plot_orthoslices",
    "plot_projections",
    "plot_realisations",
    "plot_residuals",
    "plot_response",
    "plot_settings",
    "plot_shell_correlations",
    "plot_side_by_side",
    "plot_sinogram",
    "plot_slices",
    "plot_threshold",
    "plot_tilt_ranking",
    "plot_transfer",
    "plot_volume",
    "plot_weight_choice",
    "robust_limits",
]
