# SPDX-License-Identifier: GPL-3.0-or-later
"""The package's classes by signal type, so that functions that make signals import none."""

from __future__ import annotations

import numpy as np
from hyperspy.io import assign_signal_subclass

#: The signal types of the package, as in ``hyperspy_extension.yaml``.
SIGNAL_TYPES = ("TiltSeriesHAADF", "TiltSeriesEDS", "TiltSeriesEELS", "TomographicVolume")


def class_of(signal_type: str, *, lazy: bool = False) -> type:
    """Return the class of the package that is registered for a signal type, or its lazy twin."""
    return assign_signal_subclass(np.dtype(np.float32), 2, signal_type, lazy)


def is_ours(signal) -> bool:
    """Say whether an object is a signal of one of the package's classes."""
    return getattr(type(signal), "_signal_type", "") in SIGNAL_TYPES
