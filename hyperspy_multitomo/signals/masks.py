# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks as users give them, arrays or signals, checked and in the axis order of the numerics."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.reconstruction.start import checked_mask
from hyperspy_multitomo.signals.gate import plain


def mask_array(mask, shape: tuple[int, int, int], *, lazy: bool = False):
    """Return a mask (z, y, x) of a volume as booleans (z, x, y) of that `shape`.

    With `lazy` a dask array stays one.
    """
    mask = plain(mask, ("z", "y", "x"), "the mask")
    return checked_mask(mask if lazy else np.asarray(mask), shape)


def image_mask(mask, shape: tuple[int, int, int], images: str = "images") -> np.ndarray:
    """Return a mask (tilt, y, x) of images of that `shape` as booleans (tilt, x, y)."""
    mask = np.asarray(plain(mask, ("tilt", "y", "x"), "the mask"))
    if mask.shape != tuple(shape):
        raise ValueError(
            f"the mask has the shape {mask.shape} but the {images} are {tuple(shape)} (tilt, y, x)"
        )
    return mask.astype(bool).swapaxes(1, 2)
