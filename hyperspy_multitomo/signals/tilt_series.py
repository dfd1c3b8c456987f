# SPDX-License-Identifier: GPL-3.0-or-later
"""What every tilt series can do: a table of contents by step of the work."""

from __future__ import annotations

from hyperspy_multitomo.signals.base import TomographySignal
from hyperspy_multitomo.signals.methods import (
    aligning,
    image_changes,
    panels,
    reconstruct,
    reconstruct_series,
    series_exporting,
    series_figures,
    series_geometry,
    tilt_checks,
)


class TiltSeries(TomographySignal):
    """Base of the tilt series: images or maps, one per tilt, the tilt axis along y."""

    # The noise (`data_terms.Noise`) of the series that this one was cut out of to be looked at.
    noise_of_whole = None
    # Whether `bin` sums pixels, as counts are, or averages them.
    _SUM_BINS = True

    # Tilts and projection geometry.
    tilts = property(series_geometry.get_tilts)
    acquisition_order = property(series_geometry.get_acquisition_order)
    tilt_axis = property(series_geometry.get_tilt_axis)
    gains = property(series_geometry.get_gains, series_geometry.set_gains)
    geometry = series_geometry.geometry

    # Looking at the series.
    browse = panels.browse
    plot_projections = series_figures.plot_projections
    plot_sinogram = series_figures.plot_sinogram

    # Which tilts to trust.
    rank_tilts = tilt_checks.rank_tilts
    drop_tilts = tilt_checks.drop_tilts
    check_dose_drift = tilt_checks.check_dose_drift

    # Changes of the images.
    smooth = image_changes.smooth
    is_smoothed = property(image_changes.is_smoothed)
    bin = image_changes.bin
    threshold_background = image_changes.threshold_background

    # Alignment.
    alignment = property(aligning.get_alignment, aligning.set_alignment)
    axis_offset = property(aligning.get_axis_offset)
    align = aligning.align
    register_to = aligning.register_to
    aligned = aligning.aligned
    plot_alignment = aligning.plot_alignment
    plot_alignment_sinograms = aligning.plot_alignment_sinograms

    # Files of other programs.
    export = series_exporting.export

    # Reconstructions from the series alone.
    plan_reconstruction = reconstruct.plan_reconstruction
    reconstruct_fbp = reconstruct_series.reconstruct_fbp
    reconstruct_sirt = reconstruct_series.reconstruct_sirt
    reconstruct_em = reconstruct_series.reconstruct_em
    reconstruct_cgls = reconstruct_series.reconstruct_cgls
