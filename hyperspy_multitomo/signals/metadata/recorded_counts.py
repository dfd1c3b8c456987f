# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts as recorded: whether maps still are counts, and gross counts still theirs."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.signals.metadata.history import read_history
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    forget,
    recall,
    recorded,
)

#: What `elemental_maps` records beside the net counts.
COUNTS = ("gross", "background", "window_share")
_MARK = f"{NODE}.no_counts"
# Steps that change the net counts and leave the gross ones as recorded, as their docstrings say.
_STEPS_ON_NET_COUNTS = ("smooth", "threshold_background")
# Tolerance of the totals of gross counts: this many standard deviations of the counts, and these
# fractions of the element's counts and of the background, the misfit of the spectra.
# tests/test_arithmetic.py checks it with the maps' counts and with others.
_DEVIATIONS, _OF_NET, _OF_BACKGROUND = 6.0, 0.1, 0.05


def mark_as_no_counts(series, why: str) -> None:
    """Note that the maps of a series are no counts as recorded any more, and why not."""
    series.metadata.set_item(_MARK, why)


def why_no_counts(series) -> str | None:
    """Return what made the maps of a series no counts as recorded, or None."""
    return series.metadata.get_item(_MARK, default=None)


def forget_counts(series) -> None:
    """Forget the gross counts and what belongs to them; the maps are no counts then."""
    if any(recorded(series, name) for name in COUNTS):
        mark_as_no_counts(series, "their gross counts were taken off")
    for name in COUNTS:
        forget(series, name)


def check_counts_beside(series) -> None:
    """Raise an error where the recorded gross counts cannot be those of the maps.

    Compared are the totals of each element at each tilt, of a lazy series those of one chunk of the
    data.

    Raises
    ------
    ValueError
        With the element that differs most, and what to do.
    """
    if not all(recorded(series, name) for name in COUNTS) or any(
        step["step"] in _STEPS_ON_NET_COUNTS for step in read_history(series)
    ):
        return
    part = representative_part(series)
    axes = (axis_named(series, name) for name in ("tilt", "element", "y", "x"))
    # A single element that was picked has no axis any more: all of it is compared.
    place = tuple(slice(None) if axis is None else part[axis.index_in_array] for axis in axes)
    net, gross, background = (
        np.asarray(values[place], dtype=np.float32).sum(axis=(2, 3), dtype=np.float64)
        for values in (
            series.array("tilt", "element", "y", "x"),
            recall(series, "gross"),
            recall(series, "background"),
        )
    )
    in_window = np.asarray(recall(series, "window_share"))[place[:2]] * net
    allowed = (
        _DEVIATIONS * np.sqrt(np.maximum(gross, 1))
        + _OF_NET * np.abs(in_window)
        + _OF_BACKGROUND * np.abs(background)
    )
    excess = np.abs(gross - in_window - background) - allowed
    if not (excess > 0).any():
        return
    tilt, element = np.unravel_index(excess.argmax(), excess.shape)
    raise ValueError(
        "the gross counts recorded with the maps do not belong to them: at "
        f"{series.tilts[place[0]][tilt]:g} degrees there are "
        f"{gross[tilt, element]:.0f} of {series.channels[place[1]][element]}, but the maps and the "
        "background come to "
        f"{(in_window + background)[tilt, element]:.0f}. The data were replaced or written to: "
        "make the maps again, or take the gross "
        "counts off (series.gross = None) and go on with the maps alone"
    )


def representative_part(series) -> tuple[slice, ...]:
    """Return a slice per axis that stands for all data: all of them, or a chunk of lazy ones."""
    if not series._lazy:
        return (slice(None),) * series.data.ndim
    starts = [np.cumsum((0, *chunks)) for chunks in series.data.chunks]
    middle = [len(chunks) // 2 for chunks in series.data.chunks]
    return tuple(
        slice(int(start[i]), int(start[i + 1])) for start, i in zip(starts, middle, strict=True)
    )
