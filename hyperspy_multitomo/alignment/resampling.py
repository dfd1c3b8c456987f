# SPDX-License-Identifier: GPL-3.0-or-later
"""The one resampling: an image moved, sheared and turned by linear interpolation, which keeps counts counts.

Linear interpolation never makes counts negative, and conserves the sum of what stays in view:
exactly for shifts, to a part in a thousand or so for small rotations. Whole pixels move without any
loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# What pixels hold that the microscope did not see: the nearest pixel that it did, or nothing.
FILLS = {"edge": "nearest", "zero": "constant"}


@dataclass(frozen=True)
class Rows:
    """Rows of images, along y: those from `start` to before `stop` are made, of images whose rows begin with `first`.

    `size` is the number of rows of the whole images, whose edges and centre stay where they are.
    """

    start: int
    stop: int
    first: int
    size: int

    @classmethod
    def whole(cls, size: int) -> Rows:
        """Return all rows of whole images."""
        return cls(0, size, 0, size)


def moved(
    image: np.ndarray, shifts: tuple[float, float], fill: str, rows: Rows | None = None
) -> np.ndarray:
    """Shift an image along both axes by linear interpolation, a product of two one-dimensional ones."""
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
    shifts: tuple[float, float],
    fill: str,
    rows: Rows | None = None,
) -> np.ndarray:
    """Map the point v of an image to M (v - c) + c + shifts, c being its centre, by linear interpolation."""
    from scipy.ndimage import affine_transform

    rows = rows or Rows.whole(image.shape[1])
    inverse, offset = _pulled(matrix, shifts, (image.shape[0], rows.size))
    offset = offset + inverse[:, 1] * rows.start - (0, rows.first)
    shape = image.shape[0], rows.stop - rows.start
    return affine_transform(image, inverse, offset, shape, order=1, mode=FILLS[fill], cval=0.0)


def rows_needed(
    start: int, stop: int, matrix: np.ndarray, shifts: tuple[float, float], shape: tuple[int, int]
) -> tuple[int, int]:
    """Return (first, last): the rows from `start` to before `stop` are made of those from `first` to before `last`."""
    inverse, offset = _pulled(matrix, shifts, shape)
    corners = [
        inverse[1] @ (x, y) + offset[1] for x in (0, shape[0] - 1) for y in (start, stop - 1)
    ]
    # Two rows are interpolated between; one more on either side, as coordinates are rounded. Beyond
    # an edge it is that edge.
    first = min(max(int(np.floor(min(corners))) - 1, 0), shape[1] - 1)
    return first, max(min(int(np.floor(max(corners))) + 3, shape[1]), first + 1)


def _pulled(
    matrix: np.ndarray, shifts: tuple[float, float], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (A, b): the point w of the image that `transformed` makes comes from A w + b."""
    inverse = np.linalg.inv(matrix)
    centre = (np.array(shape) - 1) / 2
    return inverse, centre - inverse @ (centre + np.asarray(shifts))


def _moved_whole(image: np.ndarray, shift: int, axis: int, fill: str, rows: Rows) -> np.ndarray:
    if shift == 0 and rows == Rows.whole(image.shape[axis]):
        return image
    wanted = np.arange(rows.start, rows.stop) - shift
    held = np.clip(wanted, 0, rows.size - 1)
    shifted = np.take(image, held - rows.first, axis=axis)
    if fill == "zero":
        np.moveaxis(shifted, axis, 0)[wanted != held] = 0
    return shifted
