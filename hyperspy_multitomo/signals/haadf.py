# SPDX-License-Identifier: GPL-3.0-or-later
"""The HAADF tilt series as a HyperSpy signal, axes ``(tilt | x, y)``."""

from __future__ import annotations

from hyperspy.signals import LazySignal2D

from hyperspy_multitomo.signals.methods import (
    construction,
    damping,
    image_gains,
    preprocess,
    realisations,
    reconstruct_automatically,
    reconstruct_series,
    resolving,
    series_geometry,
    sweeping,
)
from hyperspy_multitomo.signals.tilt_series import TiltSeries


class TiltSeriesHAADF(TiltSeries):
    """HAADF-STEM images of one object, one per tilt, axes ``(tilt | x, y)``.

    Array order (tilt, y, x), tilt axis along y.
    """

    _signal_type = "TiltSeriesHAADF"
    _SUM_BINS = False

    from_images = classmethod(construction.from_images)

    # Preprocessing.
    fit_background = preprocess.fit_background
    remove_background = preprocess.remove_background
    find_saturation = preprocess.find_saturation
    remove_hot_pixels = preprocess.remove_hot_pixels
    estimate_gains = image_gains.estimate_gains
    specimen_mask = preprocess.specimen_mask

    # Damping in thick places.
    estimate_damping = damping.estimate_damping
    correct_damping = damping.correct_damping
    plot_damping = damping.plot_damping

    # Reconstruction.
    estimate_depth = series_geometry.estimate_depth
    reconstruct = reconstruct_automatically.reconstruct_images
    reconstruct_tv = reconstruct_series.reconstruct_tv_of_images
    reconstruct_tgv = reconstruct_series.reconstruct_tgv_of_images

    # What noise does to a volume.
    realisations = realisations.realisations_of_images

    # Settings side by side, and what a volume resolves.
    sweep = sweeping.sweep_images
    resolution = resolving.resolution_of_images


class LazyTiltSeriesHAADF(TiltSeriesHAADF, LazySignal2D):
    """A `TiltSeriesHAADF` whose data are a dask array."""
