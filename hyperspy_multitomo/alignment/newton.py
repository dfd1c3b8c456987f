# SPDX-License-Identifier: GPL-3.0-or-later
"""Newton's steps to the most likely placement of the images, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.binned_images import Placement
from hyperspy_multitomo.alignment.likelihood import Derivatives, View

# Expected distance of the tilt axis from the middle of the view, in views, and of its direction
# from y, degrees.
AXIS_SPREAD = 0.05
ROTATION_SPREAD = 3.0
# A shift is known beforehand to this many px, and no curvature in a step counts as less than that
# of a standard error of a px.
_SHIFT_SPREAD, _LEAST_CURVATURE = 10.0, 0.5
# The longest step: pixels of the grid, and degrees.
_LONGEST, _LARGEST_TURN = 1.5, 1.5
# What the model of the object gets wrong is the same in all slices: standard errors of the axis,
# found against the truth.
_MODEL = 2.0
# Blocks of slices whose pulls are compared for the standard errors.
_BLOCKS = 12


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of what can be known, px and degrees; see `AlignmentQuality`."""

    across: np.ndarray
    along: np.ndarray
    axis: float
    rotation: float


class Newton:
    """Steps in those of the parameters that are free.

    Parameters
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    width : float
        Of the view across the axis, px.
    lever : float
        Distance from the middle, px, at which a turn is measured as a shift.
    free : sequence of {"shifts", "axis", "rotation"}
        "shifts" are those of each image, "axis" one across the axis for all.
    centred : bool
        Whether the object is in the middle already, across and in depth; else its depth is found by
        the slab that holds it.
    """

    def __init__(
        self, tilts: np.ndarray, width: float, lever: float, free: Sequence[str], centred: bool
    ):
        count, angles = len(tilts), np.deg2rad(tilts)
        self.count, self.lever, self.free = count, lever, tuple(free)
        modes = np.stack([np.ones(count), np.cos(angles), np.sin(angles)], axis=1)
        self._pinv = np.linalg.pinv(modes)
        self._known = np.eye(count) - modes @ self._pinv
        # Parameters are px; columns of the basis are what may change.
        size, columns = 2 * count + 1, []
        if "shifts" in self.free:
            # Where the object is along and across the axis, and in depth, is anybody's choice.
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
        """Return the sum over the views, with what is expected of the axis, the turn being measured in px at the lever."""
        total = None
        blocks = np.zeros((_BLOCKS, 2 * self.count + 1))
        for view in views:
            found = view.derivatives(placement, self.count)
            of_slice = np.arange(len(found.by_slice)) * _BLOCKS // len(found.by_slice)
            np.add.at(blocks, of_slice, found.by_slice)
            if total is None:
                total = found
            else:
                total.value += found.value
                total.gradient += found.gradient
                total.hessian += found.hessian
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

    def step(self, found: Derivatives, grid: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Return a step (dx, dy, turn in radians), no longer than is safe on a grid of so many px."""
        curvatures, modes = np.linalg.eigh(self.basis.T @ found.hessian @ self.basis)
        pull = modes.T @ (self.basis.T @ found.gradient)
        step = -self.basis @ (modes @ (pull / np.maximum(np.abs(curvatures), _LEAST_CURVATURE)))
        dx, dy, turn = step[: self.count], step[self.count : -1], step[-1] / self.lever
        longest = max(np.abs(dx).max(), np.abs(dy).max(), 1e-12) / (_LONGEST * grid)
        shorter = min(1.0, 1 / longest, np.deg2rad(_LARGEST_TURN) / max(abs(turn), 1e-12))
        return shorter * dx, shorter * dy, shorter * turn

    def knowable(self, dx: np.ndarray, dy: np.ndarray) -> float:
        """Return the longest shift (px) in a step that is not a displacement of the object or the axis."""
        return float(max(np.abs(self._known @ dx).max(), np.abs(dy - dy.mean()).max()))

    def uncertainty(self, found: Derivatives) -> Uncertainty:
        """Return standard errors: the larger of those from the curvature and from how much the slices disagree.

        The second are the sandwich estimator with blocks of slices, which holds for slices that
        resemble their neighbours.
        """
        curvatures, modes = np.linalg.eigh(self.basis.T @ found.hessian @ self.basis)
        bent = (
            self.basis
            @ (modes / np.maximum(curvatures, 1 / _SHIFT_SPREAD**2))
            @ modes.T
            @ self.basis.T
        )
        pulls = found.by_slice[np.abs(found.by_slice).sum(axis=1) > 0]
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
