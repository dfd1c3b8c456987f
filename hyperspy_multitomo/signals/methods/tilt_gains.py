# SPDX-License-Identifier: GPL-3.0-or-later
"""Gains of a series: those known beforehand, sums of the images, attaching an estimate."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.acquisition.preprocessing.field_of_view import wholly_in_view
from hyperspy_multitomo.acquisition.preprocessing.gains import GainEstimate
from hyperspy_multitomo.acquisition.same_tilt import match_tilts
from hyperspy_multitomo.signals.arrays import as_recorded
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import forget, recall, record
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside

MODELS = ("auto", "constant", "lamella")


def known_gains(series) -> np.ndarray | None:
    """Return the gains that no estimate attached: those of merged exposures, or set by hand."""
    present, estimated = series.gains, recall(series, "estimated_gains")
    if (
        present is None
        or estimated is None
        or present.shape != estimated.shape
        or not np.allclose(present, estimated)
    ):
        return present
    return recall(series, "known_gains")


def chosen_model(series, model: str = "auto") -> str:
    """Return the model of the mean.

    ``"auto"`` decides by the specimen that the alignment found, else by the rim of the images.
    """
    if model not in MODELS:
        raise ValueError(f"model={model!r} must be one of {', '.join(map(repr, MODELS))}")
    if model != "auto":
        return model
    alignment = series.alignment
    if alignment is not None and alignment.specimen is not None:
        return "lamella" if alignment.specimen.shape == "slab" else "constant"
    data = as_recorded(series)
    # Tilt by tilt, since the maps of all elements may be more than the memory holds.
    images = np.stack(
        [np.asarray(data[:, t], dtype=np.float32).sum(axis=0) for t in range(data.shape[1])]
    )
    return "constant" if wholly_in_view(images, sides="across") else "lamella"


def tilt_sums(series, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the sums over the pixels of each image, (channel, tilt).

    Read tilt by tilt; `mask` is (tilt, x, y). A known transmission of the X-rays is divided out:
    absorption is no gain.
    """
    data, sums, transmission = as_recorded(series), [], getattr(series, "transmission", None)
    for t in range(data.shape[1]):
        images = np.asarray(data[:, t])
        if transmission is not None:
            images = images / np.asarray(transmission[t]).swapaxes(1, 2)
        where = True if mask is None else mask[t]
        sums.append(images.sum(axis=(1, 2), dtype=np.float64, where=where))
    return np.stack(sums, axis=1)


def count_variances(series, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the variances of `tilt_sums` of maps, (channel, tilt).

    The gross counts, or the maps themselves without those.
    """
    check_counts_beside(series)
    gross, share = series.gross, series.window_share
    if gross is None:
        return np.maximum(tilt_sums(series, mask), 1.0)
    where = [True] * len(gross) if mask is None else mask.swapaxes(1, 2)
    variances = [
        np.sum(np.asarray(images), (1, 2), np.float64, where=w)
        for images, w in zip(gross, where, strict=True)
    ]
    variances = np.stack(variances)
    return (variances if share is None else variances / share**2).T


def haadf_at(tilts: np.ndarray, haadf) -> np.ndarray:
    """Return the place of each tilt in the HAADF series, -1 where that has no such tilt."""
    return match_tilts(tilts, haadf.tilts)


def attach_gains(series, estimate: GainEstimate, **settings) -> GainEstimate:
    """Attach estimated gains, and note which gains were known before them."""
    known = known_gains(series)
    if known is None:
        forget(series, "known_gains")
    else:
        record(series, "known_gains", known, ("tilt", "element")[: known.ndim])
    series.gains = estimate.values
    record(series, "estimated_gains", estimate.values, ("tilt", "element")[: estimate.values.ndim])
    errors = estimate.standard_errors
    add_step(
        series,
        "estimate_gains",
        model=estimate.model,
        **settings,
        gains=estimate.values,
        standard_errors=errors,
    )
    return estimate
