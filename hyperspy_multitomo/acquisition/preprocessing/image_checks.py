# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of images and tilts before anything is measured on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# Beyond this tilt (degrees) a film or lamella is on edge: the path is set by its ends, not by
# 1/cos t.
STEEPEST = 85.0


def checked_images(images: ArrayLike) -> np.ndarray:
    """Return images (tilt, x, y) as an array after checking them."""
    images = np.asarray(images)
    if images.ndim != 3 or images.size == 0:
        raise ValueError(f"the images have shape {images.shape}; expected (tilt, x, y)")
    if not np.isfinite(images).all():
        raise ValueError("the images hold NaN or infinite values; repair or leave out those tilts")
    return images


def tilts_of_projections(tilts: ArrayLike, number: int) -> np.ndarray:
    """Return the tilts of a number of projections as an array after checking them."""
    tilts = np.asarray(tilts, dtype=np.float64)
    if tilts.shape != (number,) or not np.isfinite(tilts).all():
        raise ValueError(
            f"`tilts` has the shape {tilts.shape} for {number} projections; pass one finite angle "
            "per projection"
        )
    return tilts
