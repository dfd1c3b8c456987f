# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a tilt series before it is aligned; errors name bad images by their tilts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.scaling import in_range

# An image whose values differ by less than this fraction of the largest is constant.
CONSTANT = 1e-6


def checked_series(
    images: ArrayLike, tilts: ArrayLike, *, fewest: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Return images (tilt, x, y) as float32 and their tilts in degrees, after checking them.

    The images are scaled so that their largest value is about 1000: correlations are products of
    spectra, which would exceed the range of single precision and meet absolute thresholds of other
    packages.
    """
    images, tilts = np.asarray(images, dtype=np.float32), np.asarray(tilts, dtype=np.float64)
    if images.ndim != 3 or min(images.shape[1:], default=0) < 4:
        raise ValueError(
            f"the images have shape {images.shape}; expected (tilt, x, y) of 4 pixels or more in x "
            "and y: give a larger view, or "
            "more slices"
        )
    if tilts.shape != images.shape[:1] or not np.isfinite(tilts).all():
        raise ValueError(
            f"`tilts` has the shape {tilts.shape} for {len(images)} images; pass one finite angle "
            "per image"
        )
    if len(images) < 2:
        raise ValueError("a single image has nothing to be aligned to; give two tilts or more")
    if len(images) < fewest:
        raise ValueError(
            f"there are {len(images)} tilts, and {fewest} or more are needed to tell shifts from "
            "motion by tilting"
        )
    broken = tilts[~np.isfinite(images).all(axis=(1, 2))]
    if broken.size:
        raise ValueError(
            f"the image at {named(broken)} degrees holds NaN or infinite values; leave out or "
            "repair it"
        )
    return in_range(images), tilts


def check_features(images: np.ndarray, tilts: np.ndarray) -> None:
    """Raise an error that names the images without any contrast."""
    lowest, highest = images.min(axis=(1, 2)), images.max(axis=(1, 2))
    flat = tilts[highest - lowest <= CONSTANT * np.maximum(np.abs(highest), np.abs(lowest))]
    if flat.size:
        raise ValueError(
            f"the image at {named(flat)} degrees has no features to align, it is the same "
            "everywhere; leave out this tilt, "
            f"as in series.drop_tilts([{', '.join(f'{tilt:g}' for tilt in flat)}])"
        )


def named(tilts: ArrayLike) -> str:
    """Return tilts as text: "-40, 5 and 10"."""
    words = [f"{tilt:g}" for tilt in np.atleast_1d(tilts)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
