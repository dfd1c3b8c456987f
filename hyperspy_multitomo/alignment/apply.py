# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply an alignment in one resampling, or leave its shifts across the axis to the geometry."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.resampling import (
    FILLS,
    Rows,
    moved,
    rotation_matrix,
    rows_needed,
    transformed,
)


class Placing:
    """Mixin of `Alignment`, whose shifts, rotation and drift it reads."""

    across: np.ndarray
    along: np.ndarray
    rotation: float
    drift: np.ndarray | None
    slow_axis: str

    @property
    def geometry_shifts(self) -> np.ndarray:
        """Displacement of each image across the axis for the projection geometry (tilt,), px.

        ``TiltGeometry(shifts=...)`` says where the recorded object is, hence the opposite sign.
        With a rotation it is the part across the rotated axis.
        """
        return -self._placed_shifts()[0]

    def apply(
        self,
        images: ArrayLike,
        *,
        for_geometry: bool = False,
        fill: str = "zero",
        backward: bool = False,
        rows: Rows | None = None,
    ) -> np.ndarray:
        """Move the images into place in one resampling.

        Linear interpolation, because it keeps counts non-negative and conserves their sum (except
        what leaves the view). Shifts by whole pixels are lossless.

        Parameters
        ----------
        images : array_like (..., tilt, x, y)
            Images as recorded; any leading axes, e.g. channels.
        for_geometry : bool, default False
            True leaves the shifts across the axis to the projection geometry (`geometry_shifts`),
            so that images are resampled only for shifts along the axis and rotations.
        fill : {"zero", "edge"}, default "zero"
            Value of pixels that enter the view: 0, or the nearest recorded pixel, which suits a
            specimen that extends beyond the view.
        backward : bool, default False
            True takes aligned images back to where they were recorded.
        rows : Rows, optional
            Rows to compute, and the rows of the whole images that `images` holds: those that
            `rows_needed` returns, or more. The result equals the same rows of the whole images, but
            with ``fill="zero"`` a pixel exactly on the edge of a rotated image may count as inside
            or outside.

        Returns
        -------
        numpy.ndarray (..., tilt, x, y)
            float32. The input itself if it is float32 and no image moves.

        Raises
        ------
        ValueError
            If the number of images is not that of the shifts.
        """
        images = np.asarray(images, dtype=np.float32)
        if images.ndim < 3 or images.shape[-3] != len(self.across):
            raise ValueError(
                f"the images have shape {images.shape}; expected (..., tilt, x, y) with "
                f"{len(self.across)} tilts"
            )
        if fill not in FILLS:
            raise ValueError(f"fill={fill!r} must be one of {', '.join(map(repr, FILLS))}")
        if not self.moves(for_geometry=for_geometry):
            return (
                images
                if rows is None
                else images[..., rows.start - rows.first : rows.stop - rows.first]
            )
        rows = rows or Rows.whole(images.shape[-1])
        aligned = np.empty((*images.shape[:-1], rows.stop - rows.start), np.float32)
        for t in range(len(self.across)):
            matrix, shifts = self._motion(t, for_geometry, backward)
            for leading in np.ndindex(images.shape[:-3]):
                place = (*leading, t)
                image = images[place]
                turned = (
                    transformed(image, matrix, shifts, fill, rows)
                    if self._turns
                    else moved(image, shifts, fill, rows)
                )
                aligned[place] = turned
        return aligned

    def moves(self, *, for_geometry: bool = False) -> bool:
        """Whether `apply` moves any image."""
        across, along = self._placed_shifts()
        return bool(self._turns or along.any() or (across.any() and not for_geometry))

    def rows_needed(
        self,
        start: int,
        stop: int,
        shape: tuple[int, int],
        *,
        for_geometry: bool = False,
        backward: bool = False,
    ) -> tuple[int, int]:
        """Return the rows of the recorded images that `apply` reads for some rows, over all tilts.

        Parameters
        ----------
        start, stop : int
            The rows (pixels along y) from `start` to before `stop` are to be computed.
        shape : tuple of int (x, y)
            Of the whole images.
        for_geometry, backward : bool
            As in `apply`.

        Returns
        -------
        first, last : int
            The rows from `first` to before `last` are read.

        Examples
        --------
        >>> from hyperspy_multitomo.alignment import Alignment
        >>> alignment = Alignment([0.0, 0.0], [2.5, -3.0])
        >>> alignment.rows_needed(10, 20, (32, 32))
        (6, 25)
        """
        needed = [
            rows_needed(start, stop, *self._motion(t, for_geometry, backward), shape)
            for t in range(len(self.across))
        ]
        return min(first for first, _ in needed), max(last for _, last in needed)

    @property
    def _turns(self) -> bool:
        """Whether the images are rotated or sheared."""
        return self.rotation != 0 or self.drift is not None

    def _motion(self, t: int, for_geometry: bool, backward: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the linear map of an image about its centre, and the shifts (x, y) after it."""
        shifts = self._placed_shifts()[:, t]
        if for_geometry:
            shifts = shifts * (0, 1)
        matrix = self._matrix(t)
        if backward:
            matrix = np.linalg.inv(matrix)
            shifts = -matrix @ shifts
        return matrix, shifts

    def _placed_shifts(self) -> np.ndarray:
        """Return the shifts (2, tilt) in the frame after the rotation."""
        shifts = np.stack([self.across, self.along])
        if not self.rotation:
            return shifts
        return rotation_matrix(math.radians(self.rotation)) @ shifts

    def _matrix(self, t: int) -> np.ndarray:
        """Return the linear map of an image: the shear by the drift, then the rotation."""
        shear = np.eye(2)
        if self.drift is not None:
            line = 1 if self.slow_axis == "y" else 0
            shear[:, line] += self.drift[t]
        return rotation_matrix(math.radians(self.rotation)) @ shear
