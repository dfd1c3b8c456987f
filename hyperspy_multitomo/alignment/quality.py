# SPDX-License-Identifier: GPL-3.0-or-later
"""How good an alignment is: standard errors, what is left at each tilt, the tilts to look at, and how it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["AlignmentQuality"]

# A residual this many robust standard deviations above the median makes a tilt suspicious.
SUSPICIOUS = 5.0
# Nor does a spread of the residuals below this part of their median count as one.
LEAST_SPREAD = 0.4


@dataclass(frozen=True, eq=False)
class AlignmentQuality:
    """Standard errors and residuals of a measured alignment.

    Errors are of what can be known: of shifts across the axis after a + b cos t + c sin t has been
    taken off (the position of the axis and of the object), along it after their mean; that of the
    axis is a's.

    Attributes
    ----------
    across_error, along_error : numpy.ndarray (tilt,)
        Standard errors of the shifts, px.
    axis_offset_error : float
        Of the position of the tilt axis, px.
    rotation_error : float
        Of the in-plane rotation, degrees.
    residual : numpy.ndarray (tilt,)
        Root mean square of what the other tilts do not predict of each image, relative to what was
        to be expected of it: 1 on the average for an object that is the Gaussian random field of
        the model, and more where something is wrong with the image or its place. Of simulated
        specimens (`hyperspy_multitomo.simulation.misaligned`, 64 px, 29 tilts) the median is 0.96
        to 1.02 with a noise of 2 to 5 %, and 0.64 to 1.05 without any, whose edges and flat parts
        the model does not know.
    report : tuple of str
        What was done, step by step.
    """

    across_error: np.ndarray
    along_error: np.ndarray
    axis_offset_error: float
    rotation_error: float
    residual: np.ndarray
    report: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("across_error", "along_error", "residual"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "report", tuple(self.report))

    @property
    def tilt_counts(self) -> set[int]:
        """Numbers of tilts that errors and residuals are of: one, if all is well."""
        return {self.across_error.size, self.along_error.size, self.residual.size}

    @property
    def suspicious(self) -> np.ndarray:
        """Whether the residual of a tilt stands out of the others' by five robust standard deviations, bool (tilt,)."""
        known = self.residual[np.isfinite(self.residual)]
        if known.size < 4:
            return np.zeros(self.residual.size, bool)
        middle = np.median(known)
        spread = max(1.4826 * np.median(np.abs(known - middle)), LEAST_SPREAD * middle)
        return np.nan_to_num(self.residual, nan=middle) > middle + SUSPICIOUS * spread

    def forgetting(self, place: int) -> AlignmentQuality:
        """Return the same without errors and residual of one tilt, whose shift was set by hand."""
        names = ("across_error", "along_error", "residual")
        known = np.arange(self.residual.size) != place
        return replace(
            self, **{name: np.where(known, getattr(self, name), np.nan) for name in names}
        )

    def subset(self, tilts: slice | np.ndarray) -> AlignmentQuality:
        """Return that of some tilts: a slice, indices or a boolean mask."""
        names = ("across_error", "along_error", "residual")
        return replace(self, **{name: getattr(self, name)[tilts] for name in names})

    def scaled(self, factor: float) -> AlignmentQuality:
        """Return the same with errors in pixels of which `factor` make one of the present."""
        lengths = ("across_error", "along_error", "axis_offset_error")
        return replace(self, **{name: getattr(self, name) * factor for name in lengths})

    def as_dict(self) -> dict[str, Any]:
        """Return lists and plain numbers."""
        lists = {
            name: getattr(self, name).tolist()
            for name in ("across_error", "along_error", "residual")
        }
        numbers = {
            name: float(getattr(self, name)) for name in ("axis_offset_error", "rotation_error")
        }
        return lists | numbers | {"report": list(self.report)}

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> AlignmentQuality:
        """Restore what `as_dict` returned."""
        return cls(**held)
