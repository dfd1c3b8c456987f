# SPDX-License-Identifier: GPL-3.0-or-later
"""Newton steps to the most likely alignment, and its standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.binned_images import Placement
from hyperspy_multitomo.alignment.centre_of_mass import AXIS_SPREAD
from hyperspy_multitomo.alignment.likelihood import Derivatives, View

# Standard deviation of the prior on the direction of the tilt axis, degrees from y.
ROTATION_SPREAD = 3.0
# Standard deviation (px) of the prior on a shift, for the standard errors, and the least curvature
# (1/px^2) in a step.
_SHIFT_SPREAD, _LEAST_CURVATURE = 10.0, 0.5
# The longest step: pixels of the grid, and degrees.
_LONGEST, _LARGEST_TURN = 1.5, 1.5
# Factor on the standard errors of the axis: errors of the model of the object are the same in all
# slices, so that the scatter of the slices does not show them. From simulated series
# (benchmarks/alignment.py).
_MODEL = 2.0
# Blocks of slices whose gradients are compared for the standard errors.
_BLOCKS = 12


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors, px and degrees; see `AlignmentQuality`."""

    across: np.ndarray
    along: np.ndarray
    axis: float
    rotation: float


class Newton:
    """Newton steps in the free parameters.

    Parameters
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    width : float
        Of the view across the axis, px.
    lever : float
        Distance from the middle, px, that converts a rotation to a shift.
    free : sequence of {"shifts", "axis", "rotation"}
        "shifts" are those of each image, "axis" is one shift across the axis for all.
    centred : bool
        Whether the object is already centred, across and in depth; else the slab determines its
        depth.
    """

    def __init__(
        self, tilts: np.ndarray, width: float, lever: float, free: Sequence[str], centred: bool
    ):
        count, angles = len(tilts), np.deg2rad(tilts)
        self.count, self.lever, self.free = count, lever, tuple(free)
        modes = np.stack([np.ones(count), np.cos(angles), np.sin(angles)], axis=1)
        self._pinv = np.linalg.pinv(modes)
        self._known = np.eye(count) - modes @ self._pinv
        # Parameters are in px; columns of the basis span the free ones.
        size, columns = 2 * count + 1, []
        if "shifts" in self.free:
            # The position of the object along and across the axis, and in depth, is arbitrary.
            along = np.repeat([[0.0], [1.0]], count, axis=0)
            moved = np.concatenate(
                [modes[:, 1:] if centred else modes[:, 1:2], np.zeros((count, 2 if centred else 1))]
            )
            chosen = np.linalg.qr(np.hstack([along, moved]))[0]
            rest = np.linalg.svd(np.eye(2 * count) - chosen @ chosen.T)[0][
                :, : 2 * count - chosen.shape[1]
            ]
            columns.append(np.vstack([rest, np.zeros(rest.shape[1])]))
        elif "axis" in self.free:
            columns.append(
                np.concatenate([np.ones(count) / np.sqrt(count), np.zeros(count + 1)])[:, None]
            )
        if "rotation" in self.free:
            columns.append(np.eye(size)[:, -1:])
        self.basis = np.concatenate(columns, axis=1)
        self._axis = np.concatenate([-self._pinv[0], np.zeros(count + 1)])
        self._axis_precision = 1 / (AXIS_SPREAD * width) ** 2
        self._turn_precision = 1 / (np.deg2rad(ROTATION_SPREAD) * lever) ** 2

    def derivatives(self, views: Sequence[View], placement: Placement) -> Derivatives:
        """Return the sum over the views and the priors; the rotation is in px at the lever."""
        parts = [view.derivatives(placement, self.count) for view in views]
        blocks = np.zeros((_BLOCKS, 2 * self.count + 1))
        for part in parts:
            of_slice = np.arange(len(part.by_slice)) * _BLOCKS // len(part.by_slice)
            np.add.at(blocks, of_slice, part.by_slice)
        total = parts[0]
        for part in parts[1:]:
            total.value += part.value
            total.gradient += part.gradient
            total.hessian += part.hessian
        total.by_slice = blocks
        total.gradient[-1] /= self.lever
        total.hessian[-1] /= self.lever
        total.hessian[:, -1] /= self.lever
        total.by_slice[:, -1] /= self.lever
        turn = placement.rotation * self.lever
        axis = -self._pinv[0] @ placement.turned[0]
        total.value += 0.5 * (self._axis_precision * axis**2 + self._turn_precision * turn**2)
        total.gradient = total.gradient + self._axis_precision * axis * self._axis
        total.hessian += self._axis_precision * np.outer(self._axis, self._axis)
        total.gradient[-1] += self._turn_precision * turn
        total.hessian[-1, -1] += self._turn_precision
        return total

    def step(self, at: Derivatives, grid: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Return a step (dx, dy, turn in radians), limited on a grid of so many px."""
        curvatures, modes = np.linalg.eigh(self.basis.T @ at.hessian @ self.basis)
        pull = modes.T @ (self.basis.T @ at.gradient)
        step = -self.basis @ (modes @ (pull / np.maximum(np.abs(curvatures), _LEAST_CURVATURE)))
        dx, dy, turn = step[: self.count], step[self.count : -1], step[-1] / self.lever
        longest = max(np.abs(dx).max(), np.abs(dy).max(), 1e-12) / (_LONGEST * grid)
        shorter = min(1.0, 1 / longest, np.deg2rad(_LARGEST_TURN) / max(abs(turn), 1e-12))
        return shorter * dx, shorter * dy, shorter * turn

    def longest_shift(self, dx: np.ndarray, dy: np.ndarray) -> float:
        """Return the longest shift (px) in a step, without displacements of object and axis."""
        return float(max(np.abs(self._known @ dx).max(), np.abs(dy - dy.mean()).max()))

    def uncertainty(self, at: Derivatives) -> Uncertainty:
        """Return standard errors: the larger of those from the curvature and from the slices.

        The second are the sandwich estimator over blocks of slices, which is valid for slices that
        resemble their neighbours.
        """
        curvatures, modes = np.linalg.eigh(self.basis.T @ at.hessian @ self.basis)
        bent = (
            self.basis
            @ (modes / np.maximum(curvatures, 1 / _SHIFT_SPREAD**2))
            @ modes.T
            @ self.basis.T
        )
        pulls = at.by_slice[np.abs(at.by_slice).sum(axis=1) > 0]
        spread = np.zeros_like(bent)
        if len(pulls) > 1:
            responses = (pulls - pulls.mean(axis=0)) @ bent * np.sqrt(len(pulls) / (len(pulls) - 1))
            spread = responses.T @ responses

        def larger(change: np.ndarray) -> np.ndarray:
            variances = [
                np.einsum("ij,jk,ik->i", change, matrix, change) for matrix in (bent, spread)
            ]
            return np.sqrt(np.maximum(np.maximum(*variances), 0))

        n = self.count
        select = np.eye(2 * n + 1)
        across = larger(self._known @ select[:n])
        along = larger((np.eye(n) - 1 / n) @ select[n : 2 * n])
        axis, turn = _MODEL * larger(np.stack([self._axis, select[-1] / self.lever]))
        return Uncertainty(across, along, float(axis), float(np.rad2deg(turn)))
