# SPDX-License-Identifier: GPL-3.0-or-later
"""Where HyperSpy's viewer opens: the middle of a volume, and the tilt nearest 0 of a series."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named


def start_where_something_is(signal) -> None:
    """Move the navigator of a signal that still is at its start.

    The first plane of a volume is vacuum, and the largest tilt shows least.
    """
    for name in ("z", "tilt"):
        axis = axis_named(signal, name)
        if axis is not None and axis.navigate and axis.index == 0:
            values = np.abs(axis.axis) if name == "tilt" else None
            axis.index = axis.size // 2 if values is None else int(values.argmin())
