# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded beside the data and belongs to their values: scaled, or forgotten."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.signals.metadata.acquisition_settings import TEM
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    forget,
    forget_node,
    recorded,
    recorded_names,
    recorded_values,
    replace_values,
)
from hyperspy_multitomo.signals.metadata.recorded_counts import mark_as_no_counts, why_no_counts

#: The gains in use, those known before an estimate, and those estimated.
GAINS = ("gains", "known_gains", "estimated_gains")
_TIMES = ("live_time", "real_time", "beam_current")
# Recorded arrays that belong to the values of the data, as messages call them; None goes with
# another one.
_ARRAYS = {
    "gross": "gross counts",
    "background": "background",
    "window_share": None,
    "transmission": "transmission",
}
_ARRAYS |= {"gains": "gains", "known_gains": None, "estimated_gains": None} | dict.fromkeys(_TIMES)
_ARRAYS |= {"ratios": "response ratios"}
_PREFIXES = ("ratios_", "residuals_", "deviance_")
_NODES = {
    "spectrum_fit": "spectrum fit",
    "ratio_fit": None,
    "objective": None,
    "residuals_haadf": None,
    "dose": "dose",
}
# Response ratios and what has their unit: HAADF signal per count.
_PER_COUNT = ("ratios", "ratios_standard_errors", "ratios_prior_values", "ratios_errors")
_CHANNELS = ("channels", "lines", "edges", "integration_windows")


def is_series(signal) -> bool:
    """Say whether a signal is a tilt series, not a volume."""
    return hasattr(type(signal), "gains")


def scaled(signal, factor: float) -> None:
    """Keep a signal true whose data were multiplied.

    Counts as recorded stay, and what is per unit of the data is divided.
    """
    for name in recorded_names(signal):
        if name == "window_share" or name in _PER_COUNT:
            replace_values(signal, name, np.asarray(recorded_values(signal, name)) / factor)
    if is_series(signal) and signal.channels and factor != 1 and not recorded(signal, "gross"):
        mark_as_no_counts(signal, f"they were multiplied by {factor:g}")
    add_step(signal, "multiply", factor=factor)


def masked(signal) -> None:
    """Take off the result of a comparison, silently, what belongs to the values of the data."""
    forget_beside(signal)


def changed(
    signal, how: str, *, same_unit: bool = False, moved: bool = False, other_elements: bool = False
) -> None:
    """Forget what an operation that follows no rule makes untrue of a signal, and say so, once.

    Parameters
    ----------
    signal : TomographySignal
        The result.
    how : str
        The operation, for the message.
    same_unit : bool
        Whether the values have the unit that they had.
    moved : bool
        Whether the images may have been moved, which makes their alignment untrue.
    other_elements : bool
        Whether the channels are not those whose names they bear.
    """
    if np.dtype(signal.data.dtype).kind == "b":
        masked(signal)
        return
    words = forget_beside(signal)
    if moved and getattr(signal, "alignment", None) is not None:
        signal.alignment = None
        words.append("alignment")
    if other_elements:
        for name in _CHANNELS:
            forget(signal, name)
        words.append("names of the elements")
    if not same_unit and signal.metadata.get_item(f"{NODE}.quantity", default=""):
        signal.metadata.set_item(f"{NODE}.quantity", "")
        words.append("unit")
    if is_series(signal) and signal.channels:
        mark_as_no_counts(signal, f"they were changed by {how}")
    add_step(signal, "change", operation=how)
    say(signal, how, words)


def forget_beside(signal, keep: tuple[str, ...] = ()) -> list[str]:
    """Forget what belongs to the values of the data, but for the arrays `keep`.

    Returns in words what was there.
    """
    words = []
    for name in recorded_names(signal):
        if name not in keep and (name in _ARRAYS or name.startswith(_PREFIXES)):
            forget(signal, name)
            words.append(_ARRAYS.get(name))
    for name, word in _NODES.items():
        if forget_node(signal, name):
            words.append(word)
    # Times of the whole acquisition, from which a dose would be calculated.
    detector = signal.metadata.get_item(f"{TEM}.Detector.EDS", default=None)
    for name in _TIMES:
        if detector is not None and detector.has_item(name):
            delattr(detector, name)
            words.append("dose")
    return [word for word in dict.fromkeys(words) if word]


def say(signal, how: str, words: list[str]) -> None:
    """Tell of what was forgotten."""
    if words:
        title = signal.metadata.General.title or "the signal"
        marked = is_series(signal) and why_no_counts(signal) is not None
        warn(
            f"{how}: what was kept with {title} does not hold for the result and is forgotten: "
            f"{', '.join(words)}" + ("; its maps are marked as no counts" if marked else "")
        )
