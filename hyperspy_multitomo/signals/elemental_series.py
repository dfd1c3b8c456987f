# SPDX-License-Identifier: GPL-3.0-or-later
"""What every tilt series of elemental maps can do, whatever spectra the maps come from."""

from __future__ import annotations

from hyperspy_multitomo.signals.methods import (
    construction,
    detection,
    evidence,
    map_counts,
    map_gains,
    panels,
    preprocess,
    ratio_fitting,
    realisations,
    reconstruct_automatically,
    reconstruct_maps,
    resolving,
    series_figures,
    sweeping,
    transfer,
)
from hyperspy_multitomo.signals.tilt_series import TiltSeries


class ElementalTiltSeries(TiltSeries):
    """Base of the tilt series of elemental maps, axes ``(element, tilt | x, y)``.

    Array order (tilt, element, y, x).
    """

    _TITLE = ""
    # What the counts of each element are those of: "lines" or "edges".
    _COUNTED = ""

    from_maps = classmethod(construction.from_maps)

    # What is recorded with the maps.
    gross = property(map_counts.get_gross, map_counts.set_gross)
    background = property(map_counts.get_background)
    window_share = property(map_counts.get_window_share)
    dose = property(map_counts.get_dose, map_counts.set_dose)
    spectrum_fit = property(map_counts.get_spectrum_fit)

    # Preprocessing.
    estimate_gains = map_gains.estimate_gains
    find_hot_pixels = preprocess.find_hot_pixels

    # Response ratios.
    response_ratios = property(ratio_fitting.get_response_ratios)
    fit_response_ratios = ratio_fitting.fit_response_ratios
    model_ratios = ratio_fitting.model_ratios
    plot_response = series_figures.plot_response

    # Reconstructions, alone or with the HAADF.
    reconstruct = reconstruct_automatically.reconstruct_maps
    reconstruct_tv = reconstruct_maps.reconstruct_tv
    reconstruct_tgv = reconstruct_maps.reconstruct_tgv
    reconstruct_tnv = reconstruct_maps.reconstruct_tnv
    reconstruct_hebt = reconstruct_maps.reconstruct_hebt
    reconstruct_fused = reconstruct_maps.reconstruct_fused

    # Tests of what a volume shows, on the counts.
    evidence = evidence.evidence
    detection_map = detection.detection_map
    explore_evidence = panels.explore_evidence

    # What noise does to a volume, and what of a feature arrives in it.
    realisations = realisations.realisations
    transfer_test = transfer.transfer_test

    # Settings side by side, and what a volume resolves.
    sweep = sweeping.sweep_maps
    resolution = resolving.resolution_of_maps
