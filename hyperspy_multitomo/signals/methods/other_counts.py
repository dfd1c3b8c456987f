# SPDX-License-Identifier: GPL-3.0-or-later
"""A series with other counts in the place of those that were recorded."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    axis_named,
    grid,
    on_recorded_grid,
    recall,
    record,
)


def with_counts(series, images: np.ndarray, background=None):
    """Return a series as it is, with other images in the place of those that were recorded.

    Parameters
    ----------
    series : TiltSeries
        With its alignment, gains and whatever else is attached.
    images : array (channel, tilt, x, y)
        What was recorded instead: gross counts where the series keeps them.
    background : array (channel, tilt, x, y), optional
        Expected among gross counts, smooth; it is taken off for the net counts.

    Returns
    -------
    TiltSeries
        In memory.
    """
    # Gross counts of which not all is known are not what was counted; see `TiltData.raw`.
    names_beside = ("gross", "background", "window_share")
    beside = all(recall(series, name) is not None for name in names_beside)
    net = images
    if beside:
        share = np.asarray(recall(series, "window_share")).T[..., None, None]
        expected = np.zeros(images.shape) if background is None else background
        net = (images - expected) / np.where(share > 0, share, 1)
    names = ("element", "tilt", "x", "y") if axis_named(series, "element") else ("tilt", "x", "y")
    places = [axis_named(series, name).index_in_array for name in names]
    data = np.asarray(net, np.float32).reshape([series.data.shape[place] for place in places])
    data = np.ascontiguousarray(data.transpose(np.argsort(places).tolist()))
    other = series._deepcopy_with_new_data(data)
    if series._lazy:
        other._lazy = False
        other._assign_subclass()
    if beside:
        for name, values in (("gross", images), ("background", expected)):
            values = np.asarray(values, np.float32).transpose(1, 0, 3, 2)
            _, factor_y = grid(series, "y")
            _, factor_x = grid(series, "x")
            whole = on_recorded_grid(other, values / (factor_x * factor_y), fill=0.0)
            record(other, name, whole, ("tilt", "element", "y", "x"))
    return other
