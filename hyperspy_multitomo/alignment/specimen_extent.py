# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the whole specimen is in view (an even film does not count), or only a part."""

from __future__ import annotations

from typing import Literal

import numpy as np

# Width of the rim, as a fraction of the side, and the largest mean deviation from its median, as a
# fraction of the contrast of the image, that counts as even.
_RIM, _UNEVEN = 0.04, 0.07
# Standard deviation (px) of the smoothing before the rim is judged.
_SMOOTHING = 2.0


def in_view(images: np.ndarray, side: Literal["across", "along"]) -> bool:
    """Return whether a specimen ends inside the view at every tilt; an even film does not count.

    It does if the rim on both sides is even: the mean deviation from its median is small compared
    with the contrast of the image.

    Parameters
    ----------
    images : numpy.ndarray (tilt, x, y)
    side : {"across", "along"}
        The sides to the left and right of the tilt axis, or those at its ends.

    Returns
    -------
    bool
    """
    return _even_rims(images, (side,))[0]


def sides_in_view(images: np.ndarray) -> tuple[bool, bool]:
    """Return `in_view` across and along the axis, in half the time of two calls."""
    across, along = _even_rims(images, ("across", "along"))
    return across, along


def _even_rims(images: np.ndarray, sides: tuple[str, ...]) -> tuple[bool, ...]:
    """Return whether the rims on these sides are even in all images."""
    from scipy.ndimage import gaussian_filter

    even = dict.fromkeys(sides, True)
    for image in images:
        smooth = gaussian_filter(image, _SMOOTHING)
        highest = np.percentile(smooth, 99)
        for side in [side for side in sides if even[side]]:
            rim = _rim(smooth if side == "across" else smooth.T)
            level = np.median(rim)
            even[side] = bool(np.abs(rim - level).mean() <= _UNEVEN * (highest - level))
        if not any(even.values()):
            break
    return tuple(even.values())


def without_film(images: np.ndarray) -> np.ndarray:
    """Return images (tilt, x, y) less the level of their rim on both sides of the tilt axis."""
    return (
        images - np.array([np.median(_rim(image)) for image in images], np.float32)[:, None, None]
    )


def _rim(image: np.ndarray) -> np.ndarray:
    width = max(1, round(_RIM * len(image)))
    return np.concatenate([image[:width], image[-width:]])
