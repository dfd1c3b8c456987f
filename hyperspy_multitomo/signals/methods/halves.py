# SPDX-License-Identifier: GPL-3.0-or-later
"""A series parted into two that are independent of each other: by its counts, or by its tilts."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.acquisition.counts import expected_background
from hyperspy_multitomo.reconstruction.data_terms import noise_of_haadf
from hyperspy_multitomo.reconstruction.held_out import (
    part_of_counts,
    part_of_images,
    why_no_counts,
)
from hyperspy_multitomo.signals.arrays import tilt_data
from hyperspy_multitomo.signals.methods.other_counts import with_counts


def parts_by_counts(series, share: float = 0.5, *, as_counts: bool = False) -> tuple:
    """Return two series, of a share of the counts of a series and of the others.

    Counts are thinned; noise of the size of their own makes parts of images independent. Volumes of
    the parts have the scale of those of the whole.

    Parameters
    ----------
    series : TiltSeries
        In memory, with counts or images as recorded.
    share : float, default 0.5
        Of the first part.
    as_counts : bool, default False
        Whether maps stay counts, with gains of the share, as methods need that know of their
        noise. Otherwise they are scaled to the whole, so that maps weigh as much as before beside
        a HAADF in HEBT.

    Raises
    ------
    ValueError
        For maps that are no counts as recorded, and images that were smoothed.
    """
    data = tilt_data(series)
    if not data.channels:
        if data.smoothed:
            raise ValueError(
                "the HAADF images were smoothed, so that their noise is not known and they cannot "
                "be halved: pass the images as recorded, or halves='tilts'"
            )
        images = np.asarray(data.recorded, np.float32)
        first = part_of_images(images, share, noise_of_haadf(data))
        parts = (first, share), (images - first, 1 - share)
        return tuple(with_counts(series, part / np.float32(size)) for part, size in parts)
    if why := why_no_counts(data):
        raise ValueError(
            f"counts are halved as they were recorded, and these maps are no counts as recorded: "
            f"{why}. Pass the maps as counted, as elemental_maps makes them, or halves='tilts'"
        )
    counts = np.asarray(data.raw, np.float32)
    first = part_of_counts(counts, share)
    gross = data.raw is data.gross
    # As it was estimated it is as noisy as the counts, and parts would share that noise.
    besides = expected_background(np.asarray(data.background)) if gross else None
    return tuple(
        _with_part(series, part, size, besides, as_counts)
        for part, size in ((first, share), (counts - first, 1 - share))
    )


def _with_part(series, counts, share: float, background: np.ndarray | None, as_counts: bool):
    if not as_counts:
        return with_counts(series, counts / np.float32(share), background)
    expected = None if background is None else background * np.float32(share)
    part = with_counts(series, counts, expected)
    gains = np.ones(len(series.tilts)) if series.gains is None else series.gains
    part.gains = share * gains
    return part


def parts_by_tilts(series) -> tuple:
    """Return two series, of every other tilt of a series each, with all that is attached to it.

    Raises
    ------
    ValueError
        For fewer than four tilts.
    """
    if len(series.tilts) < 4:
        raise ValueError(
            f"this series has {len(series.tilts)} tilts; halves of every other tilt need four or "
            "more"
        )
    axes = series.axes_manager.navigation_axes
    return tuple(
        series.inav[
            tuple(slice(first, None, 2) if axis.name == "tilt" else slice(None) for axis in axes)
        ]
        for first in (0, 1)
    )
