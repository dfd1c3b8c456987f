# SPDX-License-Identifier: GPL-3.0-or-later
"""Provenance: the steps that made a signal, as one JSON string in its metadata."""

from __future__ import annotations

import json

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE

_PATH = f"{NODE}.history"


def read_history(signal) -> list[dict]:
    """Return the steps that made a signal, oldest first.

    Dicts with ``step``, ``version`` and the step's parameters.
    """
    return json.loads(signal.metadata.get_item(_PATH, default="[]"))


def add_step(signal, step: str, *, after=None, **parameters) -> None:
    """Append a step to the history of a signal.

    Parameters
    ----------
    signal : BaseSignal
        The signal that the step made.
    step : str
        The name of the method that ran.
    after : BaseSignal, optional
        The signal whose history comes before this step (the signal itself by default).
    **parameters
        What the step was given, as numbers, strings, lists, dicts, arrays or signals' histories.
    """
    steps = read_history(signal if after is None else after)
    steps.append({"step": step, "version": __version__, **parameters})
    signal.metadata.set_item(_PATH, json.dumps(steps, default=_plain, ensure_ascii=False))


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
