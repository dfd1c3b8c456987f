# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums of two signals: counts and doses add up, gains are averaged, the rest is forgotten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hyperspy_multitomo.acquisition.same_tilt import SAME_TILT
from hyperspy_multitomo.signals.arrays import alike
from hyperspy_multitomo.signals.metadata.acquisition_settings import DOSE
from hyperspy_multitomo.signals.metadata.attached_values import (
    changed,
    forget_beside,
    is_series,
    say,
)
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    recorded,
    recorded_values,
    replace_values,
    same_keys,
)
from hyperspy_multitomo.signals.metadata.recorded_counts import (
    COUNTS,
    mark_as_no_counts,
    representative_part,
    why_no_counts,
)

_AXES = {"tilt": "tilts", "z": "positions", "y": "positions", "x": "positions"}
# Relative difference of the window shares that still counts as one scale: fits of two acquisitions
# do not agree to the last digit.
_SAME_SCALE = 0.02


def summed(first, other) -> Callable:
    """Return the function that keeps the sum of two signals true.

    What it needs is read now, before one of them becomes the sum.
    """
    unlike = _unlike(first, other)
    if unlike:
        how = f"a sum of signals whose {' and '.join(unlike)} differ"
        flags = {"moved": "alignments" in unlike, "other_elements": "elements" in unlike}
        return lambda result: changed(result, how, same_unit="units" not in unlike, **flags)
    dose = _sum_of([_dose(one) for one in (first, other)])
    gains = _mean_gains(first, other, dose is not None) if is_series(first) else None
    counts, lost = _counts(first, other)
    marks = [why for why in map(why_no_counts, (first, other)) if why is not None] + lost
    history = other.history

    def follow(result) -> None:
        words = forget_beside(result, keep=(*counts, "acquisition_order"))
        for name, values in counts.items():
            replace_values(result, name, values)
        if gains is not None:
            result.gains = gains
        if dose is not None and is_series(result):
            result.dose = dose
        elif dose is not None:
            result.metadata.set_item(DOSE, dose)
        if marks:
            mark_as_no_counts(result, marks[0])
        add_step(result, "add", other=history)
        still = {
            "gross counts": bool(counts),
            "background": bool(counts),
            "gains": gains is not None,
            "dose": dose is not None,
        }
        say(result, "a sum", [word for word in words if not still.get(word, False)])

    return follow


def _counts(first, other) -> tuple[dict, list[str]]:
    """Return the sums of what is recorded of the counts, by name, or why they do not add up."""
    if not any(recorded(one, name) for one in (first, other) for name in COUNTS):
        return {}, []
    if not all(recorded(one, name) for one in (first, other) for name in COUNTS):
        return {}, ["they are a sum of maps with gross counts and others without"]
    shares = [np.asarray(recorded_values(one, "window_share")) for one in (first, other)]
    if not same_keys(first, other):
        return {}, ["they are a sum of maps of other scans, cut to one size"]
    if not np.allclose(*shares, rtol=_SAME_SCALE):
        return {}, [
            "they are a sum of maps that were scaled differently, whose counts do not add up"
        ]
    sums = {
        name: recorded_values(first, name) + recorded_values(other, name)
        for name in ("gross", "background")
    }
    return sums | {"window_share": (shares[0] + shares[1]) / 2}, []


def _dose(signal) -> float | None:
    return (
        signal.dose
        if hasattr(type(signal), "dose")
        else signal.metadata.get_item(DOSE, default=None)
    )


def _sum_of(values: list[float | None]) -> float | None:
    return None if None in values else float(sum(values))


def _mean_gains(first, other, has_dose: bool) -> np.ndarray | None:
    """Return the gains of a sum, (tilt,) or (tilt, element).

    The mean, weighted by the doses or, without these, by the signal.
    """
    attached = [series.gains for series in (first, other)]
    if attached[0] is None and attached[1] is None:
        return None
    dimensions = max(np.ndim(values) for values in attached)
    gains = [np.ones(len(first.tilts)) if values is None else values for values in attached]
    gains = np.broadcast_arrays(
        *(values[:, None] if values.ndim < dimensions else values for values in gains)
    )
    signals = (
        _dose(series) if has_dose else _total(series) / np.mean(values)
        for series, values in zip((first, other), gains, strict=True)
    )
    weights = [max(float(signal), 0.0) for signal in signals]
    weights = weights if sum(weights) > 0 else [1.0, 1.0]
    return (weights[0] * gains[0] + weights[1] * gains[1]) / sum(weights)


def _total(series) -> float:
    """Return the sum of the data, of lazy ones that of a chunk."""
    return float(np.asarray(series.data[representative_part(series)].sum(dtype=np.float64)))


def _unlike(first, other) -> list[str]:
    """Return in words what two signals must share for their sum to mean something, and do not."""
    kinds = [type(one).__name__.removeprefix("Lazy") for one in (first, other)]
    words = ["kinds"] if kinds[0] != kinds[1] else []
    if first.channels != other.channels:
        words.append("elements")
    for name, word in _AXES.items():
        one, two = axis_named(first, name), axis_named(other, name)
        if (one is None) != (two is None) or (one is not None and not _same_axis(one, two)):
            words.append(word)
    if not words and is_series(first) and not alike(first.alignment, other.alignment):
        words.append("alignments")
    if len({one.metadata.get_item(f"{NODE}.quantity", default="") for one in (first, other)}) > 1:
        words.append("units")
    return list(dict.fromkeys(words))


def _same_axis(first, second) -> bool:
    step = abs(first.scale) if first.is_uniform else 1.0
    # The tilt axis is not uniform; positions are the same to a hundredth of a pixel.
    tolerance = 1e-2 * step if first.is_uniform else SAME_TILT
    return (
        first.units == second.units
        and first.size == second.size
        and np.allclose(first.axis, second.axis, rtol=0, atol=tolerance)
    )
