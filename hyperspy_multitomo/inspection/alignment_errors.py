# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an alignment is from the truth, in what can be known of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["AlignmentErrors", "alignment_errors"]


@dataclass(frozen=True, eq=False)
class AlignmentErrors:
    """
    The errors of an alignment, px and degrees.

    Attributes
    ----------
    across, along : numpy.ndarray (tilt,)
        Of the shifts, in what can be known of them.
    axis_offset, rotation : float
        Of the tilt axis in the aligned images.
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

    Where the axis of the object is seen in the images as recorded is compared. Across the axis no
    method can tell b cos t + c sin t, a displacement of the object; along it no constant. These are
    fitted and taken off, together with the constant a across the axis, which is the error of the
    axis offset.

    Parameters
    ----------
    found, truth : Alignment
        Of the same tilts, which the second has to know, in the same pixels.

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
    moved = _turned(_axis_seen(found) - _axis_seen(truth), truth.rotation)
    angles = np.deg2rad(truth.tilts)
    free = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    fitted = np.linalg.lstsq(free, moved[0], rcond=None)[0]
    return AlignmentErrors(
        moved[0] - free @ fitted,
        moved[1] - moved[1].mean(),
        float(fitted[0]),
        found.rotation - truth.rotation,
    )


def _axis_seen(alignment: Alignment) -> np.ndarray:
    """Return where the images as recorded show the middle of the axis, (2, tilt), px from their centre."""
    axis = np.array([[alignment.axis_offset], [0.0]])
    return _turned(axis, -alignment.rotation) - np.stack([alignment.across, alignment.along])


def _turned(vectors: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ vectors
