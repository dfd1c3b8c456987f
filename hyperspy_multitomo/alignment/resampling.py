# SPDX-License-Identifier: GPL-3.0-or-later
"""The one resampling: an image moved, sheared and turned by linear interpolation, which keeps counts counts.

Linear interpolation never makes counts negative, and conserves the sum of what stays in view: exactly for shifts, to a part in a
thousand or so for small rotations. Whole pixels move without any loss.
"""

from __future__ import annotations

import numpy as np

# What pixels hold that the microscope did not see: the nearest pixel that it did, or nothing.
FILLS = {"edge": "nearest", "zero": "constant"}


def moved(image: np.ndarray, shifts: tuple[float, float], fill: str) -> np.ndarray:
    """Shift an image along both axes by linear interpolation, a product of two one-dimensional ones."""
    for axis, shift in enumerate(shifts):
        whole = int(np.floor(shift))
        part = np.float32(shift - whole)
        near = _moved_whole(image, whole, axis, fill)
        image = near if part == 0 else (1 - part) * near + part * _moved_whole(image, whole + 1, axis, fill)
    return image


def transformed(image: np.ndarray, matrix: np.ndarray, shifts: tuple[float, float], fill: str) -> np.ndarray:
    """Map the point v of an image to M (v - c) + c + shifts, c being its centre, by linear interpolation."""
    from scipy.ndimage import affine_transform

    inverse = np.linalg.inv(matrix)
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - inverse @ (centre + np.asarray(shifts))
    return affine_transform(image, inverse, offset, order=1, mode=FILLS[fill], cval=0.0)


def _moved_whole(image: np.ndarray, shift: int, axis: int, fill: str) -> np.ndarray:
    size = image.shape[axis]
    if shift == 0:
        return image
    if fill == "edge":
        return np.take(image, np.clip(np.arange(size) - shift, 0, size - 1), axis=axis)
    shifted = np.zeros_like(image)
    source, target = [slice(None)] * image.ndim, [slice(None)] * image.ndim
    source[axis] = slice(max(0, -shift), max(0, size - max(0, shift)))
    target[axis] = slice(max(0, shift), max(0, size + min(0, shift)))
    if abs(shift) < size:
        shifted[tuple(target)] = image[tuple(source)]
    return shifted
