# SPDX-License-Identifier: GPL-3.0-or-later
"""Indices and sums that remove an axis: what is refused, and what is left of a signal."""

from __future__ import annotations

import numpy as np
from hyperspy.signals import BaseSignal, LazySignal, LazySignal1D, Signal1D

from hyperspy_multitomo.parameters import shown
from hyperspy_multitomo.signals.metadata.missing_axes import remedy
from hyperspy_multitomo.signals.registry import SIGNAL_TYPES, class_of


class MissingAxisError(AttributeError, ValueError):
    """A method of the package is asked of a signal that has lost an axis of its class."""


class _Cut:
    """Mixin of what is left of a series or volume when it is no image any more.

    A line profile, for example.
    """

    def __getattr__(self, name: str):
        kind = (
            self.metadata.get_item("Signal.signal_type", default="")
            if "_metadata" in self.__dict__
            else ""
        )
        private = name.startswith("_")
        if private or kind not in SIGNAL_TYPES or not hasattr(class_of(kind), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        left = [axis.name for axis in self.axes_manager._axes]
        lost = [axis for axis in ("x", "y") if axis not in left]
        raise MissingAxisError(
            f"{name} needs a {kind}, and this is a part of one: {' and '.join(map(remedy, lost))}"
        )


class CutSignal(_Cut, BaseSignal):
    """What is left of a series when both axes of its images are gone."""


class CutSignal1D(_Cut, Signal1D):
    """What is left of a series when one axis of its images is gone."""


class LazyCutSignal(_Cut, LazySignal):
    """A `CutSignal` whose data are a dask array."""


class LazyCutSignal1D(_Cut, LazySignal1D):
    """A `CutSignal1D` whose data are a dask array."""


_CUT = {
    BaseSignal: CutSignal,
    Signal1D: CutSignal1D,
    LazySignal: LazyCutSignal,
    LazySignal1D: LazyCutSignal1D,
}


def check_indices(indexer: str, indices) -> None:
    """Raise an error for indices of ``inav`` or ``isig`` that are neither numbers nor slices."""
    for one in indices if isinstance(indices, tuple) else (indices,):
        if (
            one is None
            or (isinstance(one, list | tuple | np.ndarray | bool) and np.ndim(one) > 0)
            or isinstance(one, bool)
        ):
            raise TypeError(
                f"{indexer}[{shown(one)}]: lists, arrays and masks are no indices here; write a "
                f"slice, as in {indexer}[1:3] or "
                f"{indexer}[::2], drop_tilts([...]) for tilts, or series['Au'] for elements"
            )


def mark_as_cut(signal, signal_type: str) -> None:
    """Make a signal that lost its class with an axis a cut one, which knows what it was."""
    recorded = signal.metadata.get_item("Signal.signal_type", default="")
    if type(signal) in _CUT and recorded == signal_type:
        signal.__class__ = _CUT[type(signal)]
