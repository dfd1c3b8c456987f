# SPDX-License-Identifier: GPL-3.0-or-later
"""Resampling of an image in one step: shift, shear and rotation by linear interpolation.

Linear interpolation never makes counts negative, and conserves the sum of what stays in view:
exactly for shifts, to about 0.1 % for small rotations. Shifts by whole pixels are lossless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Modes of scipy.ndimage for pixels that were not recorded: the nearest recorded pixel, or 0.
FILLS = {"edge": "nearest", "zero": "constant"}


@dataclass(frozen=True)
class Rows:
    """Rows of images, along y, counted in the whole images.

    Attributes
    ----------
    start, stop : int
        The rows from `start` to before `stop` are computed.
    first : int
        First row of the part of the images that is in memory.
    size : int
        Number of rows of the whole images, whose edges and centre the resampling refers to.
    """

    start: int
    stop: int
    first: int
    size: int

    @classmethod
    def whole(cls, size: int) -> Rows:
        """Return all rows of whole images."""
        return cls(0, size, 0, size)


def rotation_matrix(angle: float) -> np.ndarray:
    """Return the matrix (2, 2) that rotates (x, y) from +x towards +y by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def moved(image: np.ndarray, shifts: np.ndarray, fill: str, rows: Rows | None = None) -> np.ndarray:
    """Shift an image along both axes by linear interpolation, one axis after the other."""
    made = Rows.whole(image.shape[0]), rows or Rows.whole(image.shape[1])
    for axis, shift in enumerate(shifts):
        whole = int(np.floor(shift))
        part = np.float32(shift - whole)
        near = _moved_whole(image, whole, axis, fill, made[axis])
        image = (
            near
            if part == 0
            else (1 - part) * near + part * _moved_whole(image, whole + 1, axis, fill, made[axis])
        )
    return image


def transformed(
    image: np.ndarray,
    matrix: np.ndarray,
    shifts: np.ndarray,
    fill: str,
    rows: Rows | None = None,
) -> np.ndarray:
    """Map the point v of an image to M (v - c) + c + shifts, c being its centre."""
    from scipy.ndimage import affine_transform

    rows = rows or Rows.whole(image.shape[1])
    inverse, offset = _inverse_map(matrix, shifts, (image.shape[0], rows.size))
    offset = offset + inverse[:, 1] * rows.start - (0, rows.first)
    shape = image.shape[0], rows.stop - rows.start
    return affine_transform(image, inverse, offset, shape, order=1, mode=FILLS[fill], cval=0.0)


def rows_needed(
    start: int, stop: int, matrix: np.ndarray, shifts: np.ndarray, shape: tuple[int, int]
) -> tuple[int, int]:
    """Return the rows (first, last) that `transformed` reads for its rows `start` to `stop`.

    Both ranges end before their second number.
    """
    inverse, offset = _inverse_map(matrix, shifts, shape)
    corners = [
        inverse[1] @ (x, y) + offset[1] for x in (0, shape[0] - 1) for y in (start, stop - 1)
    ]
    # Interpolation reads two rows; one more on either side allows for rounded coordinates. Beyond
    # an edge it reads that edge.
    first = min(max(int(np.floor(min(corners))) - 1, 0), shape[1] - 1)
    return first, max(min(int(np.floor(max(corners))) + 3, shape[1]), first + 1)


def _inverse_map(
    matrix: np.ndarray, shifts: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (A, b): the point w of the transformed image comes from A w + b."""
    inverse = np.linalg.inv(matrix)
    centre = (np.array(shape) - 1) / 2
    return inverse, centre - inverse @ (centre + np.asarray(shifts))


def _moved_whole(image: np.ndarray, shift: int, axis: int, fill: str, rows: Rows) -> np.ndarray:
    if shift == 0 and rows == Rows.whole(image.shape[axis]):
        return image
    wanted = np.arange(rows.start, rows.stop) - shift
    present = np.clip(wanted, 0, rows.size - 1)
    shifted = np.take(image, present - rows.first, axis=axis)
    if fill == "zero":
        np.moveaxis(shifted, axis, 0)[wanted != present] = 0
    return shifted
