# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the object is wholly in view, which decides the expected mean of each image."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.preprocessing.image_checks import checked_images

__all__ = ["wholly_in_view"]

# Width of the rim that has to be empty, as a fraction of the image's side; tested on particles and
# lamellae in tests/test_preprocessing.py.
RIM = 0.03


def wholly_in_view(
    images: ArrayLike,
    *,
    sides: Literal["both", "across", "along"] = "both",
    tolerance: float = 0.05,
) -> bool:
    """
    Return whether the object is inside the view at every tilt.

    It is if the mean signal in the rim of every image, above the background of the series (the
    1st percentile), is small against the bright parts (the 99th).

    Parameters
    ----------
    images : array_like (tilt, x, y)
        HAADF images, or maps summed over the elements.
    sides : "both", "across" or "along", default "both"
        Sides of the view to examine: the two ends of x (across the tilt axis), those of y (along
        it), or all four. A needle along the tilt axis is in view across it.
    tolerance : float, default 0.05
        Largest mean signal in the rim, as a fraction of the 99th percentile of the series.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        For images that are not (tilt, x, y) or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((3, 20, 20)); images[:, 5:15] = 1.0
    >>> wholly_in_view(images), wholly_in_view(images, sides="across")
    (False, True)
    """
    from scipy.ndimage import gaussian_filter

    images = checked_images(images)
    if sides not in ("both", "across", "along"):
        raise ValueError(f"unknown sides {sides!r}; use 'both', 'across' or 'along'")
    # Smoothed, so that the 1st percentile is the background and not the lower end of its noise.
    smooth = gaussian_filter(images.astype(np.float32), (0, 2, 2))
    floor, ceiling = np.percentile(smooth, (1, 99))
    if ceiling <= floor:
        floor, ceiling = smooth.min(), smooth.max()
    if ceiling == floor:
        return False
    width, height = (max(1, round(RIM * size)) for size in images.shape[1:])
    rims = {
        "across": (images[:, :width], images[:, -width:]),
        "along": (images[:, :, :height], images[:, :, -height:]),
    }
    examined = [rim for side, pair in rims.items() if sides in (side, "both") for rim in pair]
    brightest = max(rim.mean(axis=(1, 2), dtype=np.float64).max() for rim in examined)
    return bool(brightest - floor <= tolerance * (ceiling - floor))
