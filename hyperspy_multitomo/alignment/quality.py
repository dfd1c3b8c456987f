# SPDX-License-Identifier: GPL-3.0-or-later
"""Quality of an alignment: standard errors, residuals, suspicious tilts, and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["AlignmentQuality"]

# A residual this many robust standard deviations above the median makes a tilt suspicious.
SUSPICIOUS = 5.0
# Least standard deviation of the residuals, as a fraction of their median.
LEAST_SPREAD = 0.4


@dataclass(frozen=True, eq=False)
class AlignmentQuality:
    """Standard errors and residuals of a measured alignment.

    Shifts across the axis are known up to a + b cos t + c sin t (positions of the axis and of the
    object), and along it up to their mean: the errors are those of the shifts without these terms.
    The error of the axis is that of a.

    Attributes
    ----------
    across_error, along_error : numpy.ndarray (tilt,)
        Standard errors of the shifts, px.
    axis_offset_error : float
        Of the position of the tilt axis, px.
    rotation_error : float
        Of the in-plane rotation, degrees.
    residual : numpy.ndarray (tilt,)
        Root mean square difference between each image and its prediction from the other tilts,
        relative to its expectation: 1 on average for an object that is the Gaussian random field of
        the model, and more where the image or its shift is wrong. For simulated specimens
        (`hyperspy_multitomo.simulation.misaligned`, 64 px, 29 tilts) the median is 0.96 to 1.02
        with a noise of 2 to 5 %, and 0.64 to 1.05 without noise, because the model does not
        describe edges and flat parts.
    report : tuple of str
        The steps of the alignment.
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
        """Lengths of the errors and residuals: a single number if they belong together."""
        return {self.across_error.size, self.along_error.size, self.residual.size}

    @property
    def suspicious(self) -> np.ndarray:
        """Whether a residual is five robust standard deviations above the median, bool (tilt,)."""
        known = self.residual[np.isfinite(self.residual)]
        if known.size < 4:
            return np.zeros(self.residual.size, bool)
        middle = np.median(known)
        spread = max(1.4826 * np.median(np.abs(known - middle)), LEAST_SPREAD * middle)
        return np.nan_to_num(self.residual, nan=middle) > middle + SUSPICIOUS * spread

    def forgetting(self, place: int) -> AlignmentQuality:
        """Return the quality without errors and residual of a tilt whose shift was set by hand."""
        names = ("across_error", "along_error", "residual")
        known = np.arange(self.residual.size) != place
        changed: dict[str, Any] = {
            name: np.where(known, getattr(self, name), np.nan) for name in names
        }
        return replace(self, **changed)

    def subset(self, tilts: slice | np.ndarray) -> AlignmentQuality:
        """Return the quality of some tilts: a slice, indices or a boolean mask."""
        names = ("across_error", "along_error", "residual")
        return replace(self, **{name: getattr(self, name)[tilts] for name in names})

    def scaled(self, factor: float) -> AlignmentQuality:
        """Return the quality in other pixels, of which `factor` are as long as a present one."""
        lengths = ("across_error", "along_error", "axis_offset_error")
        return replace(self, **{name: getattr(self, name) * factor for name in lengths})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as lists and plain numbers."""
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
        """Return the quality of a dict from `as_dict`."""
        return cls(**held)
