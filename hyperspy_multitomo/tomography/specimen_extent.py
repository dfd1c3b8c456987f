# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the whole specimen is in view (an even film does not count), or only a part."""

from __future__ import annotations

from typing import Literal

import numpy as np

# Width of the rim, as a fraction of the side, and the largest mean deviation from its median, as a
# fraction of the contrast of the image, that counts as even.
_RIM, _UNEVEN = 0.04, 0.07
# Standard deviation (px) of the smoothing before the rim is judged, or an object outlined.
_SMOOTHING = 2.0
# Fraction of the maximum at which the outline of an object lies; one that is well above noise and
# film; and the quantile of the outlined pixels that counts as the edge.
OUTLINE, CLEAR_OUTLINE, NEARLY_ALL = 0.05, 0.1, 0.995
# Least fraction of the maximum, and standard deviations of the rim, at which faint matter ends.
# With these a needle, a particle and a particle on a film come out 1.09 to 1.43 times as deep as is
# needed (simulated, 0.3 to 10 % of noise: benchmarks/depth.py); 0.04 adds a tenth.
_FAINT, _ABOVE_RIM = 0.06, 5.0
# Noise of the bright part of a smoothed image over its maximum from which faint matter is lost
# among counts, and the volume would come out too thin.
_TOO_NOISY = 0.2


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


def cut_edges(images: np.ndarray) -> np.ndarray:
    """Return whether a specimen is cut by the upper (y = 0) and the lower edge, bool (tilt, 2)."""
    from scipy.ndimage import gaussian_filter

    cut = np.empty((len(images), 2), bool)
    width = max(1, round(_RIM * images.shape[2]))
    for t, image in enumerate(images):
        smooth = gaussian_filter(image, _SMOOTHING)
        highest = np.percentile(smooth, 99)
        for edge, rim in enumerate((smooth[:, :width], smooth[:, -width:])):
            level = np.median(rim)
            cut[t, edge] = np.abs(rim - level).mean() > _UNEVEN * (highest - level)
    return cut


def without_film(images: np.ndarray) -> np.ndarray:
    """Return images (tilt, x, y) less the level of their rim on both sides of the tilt axis."""
    return (
        images - np.array([np.median(_rim(image)) for image in images], np.float32)[:, None, None]
    )


def _rim(image: np.ndarray) -> np.ndarray:
    width = max(1, round(_RIM * len(image)))
    return np.concatenate([image[:width], image[-width:]])


def faintly_outlined(image: np.ndarray) -> np.ndarray:
    """Return where there is anything at all in an image without its film, bool (x, y).

    That is where the smoothed image is well above what varies at the rims across the axis, and
    above a small part of its maximum: what is faint beside bright grains is matter too. Noisy
    images are smoothed more, which widens the outline; there is none where that is not enough.
    """
    from scipy.ndimage import gaussian_filter

    for smoothing in _SMOOTHING * np.array([1, 2, 4, 8]):
        smooth = gaussian_filter(image, smoothing)
        brightest = float(np.percentile(smooth, 99.9))
        if not brightest > 0 or 6 * smoothing > len(image):
            break
        bright = smooth > brightest / 2
        noise = float((image - smooth)[bright].std()) / (2 * np.sqrt(np.pi) * smoothing)
        if noise <= _TOO_NOISY * brightest:
            rim = _rim(smooth)
            spread = 1.4826 * float(np.median(np.abs(rim - np.median(rim))))
            return smooth > np.median(rim) + max(_FAINT * brightest, _ABOVE_RIM * spread)
    return np.zeros(image.shape, bool)


def outlined(image: np.ndarray, tilt: float, level: float = OUTLINE) -> np.ndarray:
    """Return an image less the median of its rim, 0 outside the outline of the object.

    The outline is where the smoothed image reaches a fraction `level` of its maximum.
    """
    from scipy.ndimage import gaussian_filter

    image = image - np.median(
        np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    )
    smooth = gaussian_filter(image, _SMOOTHING)
    # The noise of empty pixels far from the axes has the longest lever.
    image = np.where(smooth > level * smooth.max(), image, 0)
    if image.sum(dtype=np.float64) <= 0:
        raise ValueError(
            f"the image at {tilt:g} degrees has no mass above its rim; leave this tilt out"
        )
    return image
