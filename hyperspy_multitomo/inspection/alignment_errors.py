# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of an alignment against the truth, without what no method can determine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["AlignmentErrors", "alignment_errors"]


@dataclass(frozen=True, eq=False)
class AlignmentErrors:
    """
    Errors of an alignment, estimate minus truth.

    Attributes
    ----------
    across, along : numpy.ndarray (tilt,)
        Errors of the shifts, px, less what projections cannot determine (see `alignment_errors`).
    axis_offset, rotation : float
        Errors of the tilt axis in the aligned images, px and degrees.
    """

    across: np.ndarray
    along: np.ndarray
    axis_offset: float
    rotation: float

    @property
    def across_rms(self) -> float:
        """Root mean square of the errors across the axis, px."""
        return float(np.sqrt(np.mean(self.across**2)))

    @property
    def along_rms(self) -> float:
        """Root mean square of the errors along the axis, px."""
        return float(np.sqrt(np.mean(self.along**2)))


def alignment_errors(found: Alignment, truth: Alignment) -> AlignmentErrors:
    """
    Compare an alignment with the true one.

    Compared is the position of the tilt axis in the images as recorded. A displacement of the
    object moves it by b cos t + c sin t across the axis and by a constant along it, which no method
    can determine: both are fitted and subtracted. So is the constant a across the axis, which is
    the error of the axis offset.

    Parameters
    ----------
    found, truth : Alignment
        The estimate and the truth, of the same tilts and in the same pixels. `truth` has to know
        its tilts.

    Returns
    -------
    AlignmentErrors

    Raises
    ------
    ValueError
        If the tilts of the truth are not known or their number differs.

    Examples
    --------
    >>> truth = Alignment([0.0, 1.0, 0.0, 2.0], [0.0] * 4, tilts=[-60, -20, 20, 60])
    >>> found = Alignment([1.0, 2.0, 1.0, 3.0], [5.0] * 4, axis_offset=1.5)
    >>> errors = alignment_errors(found, truth)
    >>> round(errors.across_rms, 6), round(errors.along_rms, 6), round(errors.axis_offset, 6)
    (0.0, 0.0, 0.5)
    """
    if truth.tilts is None or len(found) != len(truth):
        raise ValueError(
            f"the truth has {len(truth)} shifts and tilts {truth.tilts}; expected tilts, and "
            f"{len(found)} of them"
        )
    across, along = _rotated(_axis_positions(found) - _axis_positions(truth), truth.rotation)
    angles = np.deg2rad(truth.tilts)
    undetermined = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    fitted = np.linalg.lstsq(undetermined, across, rcond=None)[0]
    return AlignmentErrors(
        across - undetermined @ fitted,
        along - along.mean(),
        float(fitted[0]),
        found.rotation - truth.rotation,
    )


def _axis_positions(alignment: Alignment) -> np.ndarray:
    """Return the middle of the axis in the images as recorded, (2, tilt), px from their centre."""
    axis = np.array([[alignment.axis_offset], [0.0]])
    return _rotated(axis, -alignment.rotation) - np.stack([alignment.across, alignment.along])


def _rotated(vectors: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ vectors
