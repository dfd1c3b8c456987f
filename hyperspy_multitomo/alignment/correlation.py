# SPDX-License-Identifier: GPL-3.0-or-later
"""Shifts by correlating each image with its neighbours, from the lowest tilt outwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.series_checks import check_features, checked_series
from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["cross_correlation_shifts"]

# Significance level of a correlation coefficient, in standard deviations of that of unrelated
# noise, 1/sqrt(pixels).
SIGNIFICANT = 5.0
# Images are too small for a correlation where that level is above this coefficient.
_HIGH = 0.7
# Images beyond this tilt (degrees) are not stretched.
_STEEPEST = 80


def cross_correlation_shifts(
    images: ArrayLike,
    tilts: ArrayLike,
    *,
    upsampling: int = 20,
    stretch: bool = True,
    passes: int = 2,
    neighbours: int = 3,
    phase: bool = False,
) -> Alignment:
    """Measure shifts by correlating each image with its neighbours, from the lowest tilt outwards.

    The image of the lowest absolute tilt stays in place. Every other image is registered to the
    mean of its aligned neighbours on the side of that image, all under a Hann window. A second pass
    measures the remaining shift, which removes the bias of the window towards zero. Correlation
    cannot tell a shift from the motion of the features it follows: across the axis the result is
    known up to a + b cos t + c sin t, along the axis up to a constant.

    Parameters
    ----------
    images : array_like (tilt, x, y)
    tilts : array_like (tilt,)
        Degrees, in any order.
    upsampling : int, default 20
        Shifts are found to 1/upsampling of a pixel.
    stretch : bool, default True
        Stretch each image across the axis, about the centre of the view, by the ratio of the
        cosines of the two tilts, so that a lamella looks alike in both. Switch it off for an object
        of equal extent at all tilts. Images beyond 80 degrees are never stretched.
    passes : int, default 2
        How often the shift of an image is measured.
    neighbours : int, default 3
        Number of aligned images whose mean is the reference. With one, the errors of the steps
        from image to image add up, and a single bad image misplaces all that follow.
    phase : bool, default False
        Phase correlation, whose peak is sharper for images full of detail, and which fails on
        noisy ones.

    Returns
    -------
    Alignment
        `axis_offset` and `rotation` are 0.

    Raises
    ------
    ValueError
        For shapes that do not fit, and for an image (named by its tilt) that has no features in
        common with its neighbours.

    References
    ----------
    M. Guizar-Sicairos, S.T. Thurman, J.R. Fienup, Opt. Lett. 33 (2008) 156,
    doi:10.1364/OL.33.000156 (subpixel registration). R. Guckenberger, Ultramicroscopy 9 (1982) 167
    (stretching by the cosine).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.mgrid[:32, :32]
    >>> images = [np.exp(-((x - 15 - m) ** 2 + (y - 14 + m) ** 2) / 18) for m in (0.0, 1.0, 2.0)]
    >>> cross_correlation_shifts(images, [0, 1, 2]).along.round(1)
    array([0., 1., 2.])
    """
    images, tilts = checked_series(images, tilts)
    if not (np.isfinite(upsampling) and upsampling >= 1 and passes >= 1 and neighbours >= 1):
        raise ValueError(
            f"upsampling is {upsampling}, passes {passes} and neighbours {neighbours}; all have to "
            "be 1 or more"
        )
    check_features(images, tilts)
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in images.shape[1:])).astype(np.float32)
    shifts = np.zeros((len(tilts), 2))
    for t, bundle in _outwards(tilts, neighbours):
        fixed, nearest = np.zeros_like(window), bundle[0]
        for n in bundle:
            fixed += _windowed(
                _placed(images[n], shifts[n], _cosine_ratio(tilts[nearest], tilts[n], stretch)),
                window,
            )
        ratio = _cosine_ratio(tilts[nearest], tilts[t], stretch)
        shifts[t] = shifts[nearest]
        for _ in range(passes):
            moving = _windowed(_placed(images[t], shifts[t], ratio), window)
            if not (moving.any() and fixed.any()):
                raise ValueError(
                    f"the image at {tilts[t]:g} degrees has no features to align; leave this tilt "
                    "out"
                )
            # Measured in the stretched frame, whose pixels are 1/ratio of a recorded one.
            shifts[t] += _registration(fixed, moving, upsampling, phase) / (ratio, 1.0)
        moving = _windowed(_placed(images[t], shifts[t], ratio), window)
        likeness = float(
            (fixed * moving).sum()
            / np.sqrt((fixed**2).sum() * (moving**2).sum() + np.finfo(np.float32).tiny)
        )
        chance = SIGNIFICANT * np.sqrt((window**4).sum()) / (window**2).sum()
        if likeness < chance and chance > _HIGH:
            raise ValueError(
                f"images of {images.shape[1]} x {images.shape[2]} px (x, y) are too small for a "
                "correlation: one of "
                f"{min(chance, 1.0):.2f} may be chance; give more slices or a larger view, or "
                "align by the centre of mass"
            )
        if likeness < chance:
            raise ValueError(
                f"the image at {tilts[t]:g} degrees has no features in common with that at "
                f"{tilts[nearest]:g} degrees "
                f"(correlation {likeness:.2f}); leave this tilt out (drop_tilts) or align by the "
                "centre of mass"
            )
    return Alignment(shifts[:, 0], shifts[:, 1], tilts=tilts)


def _outwards(tilts: np.ndarray, neighbours: int) -> list[tuple[int, list[int]]]:
    """List (image, its neighbours, nearest first) from the lowest absolute tilt outwards.

    The neighbours are those towards the lowest tilt.
    """
    order = np.argsort(tilts, kind="stable")
    start = int(np.argmin(np.abs(tilts[order])))
    upwards = [
        (order[i], order[max(start, i - neighbours) : i][::-1].tolist())
        for i in range(start + 1, len(order))
    ]
    downwards = [
        (order[i], order[i + 1 : min(start, i + neighbours) + 1].tolist())
        for i in range(start - 1, -1, -1)
    ]
    return upwards + downwards


def _cosine_ratio(reference: float, tilt: float, stretch: bool) -> float:
    """Return the stretch across the axis that makes the image at `tilt` like the reference."""
    cosines = np.abs(np.cos(np.deg2rad([reference, tilt])))
    return (
        float(cosines[0] / cosines[1])
        if stretch and cosines.min() > np.cos(np.deg2rad(_STEEPEST))
        else 1.0
    )


def _placed(image: np.ndarray, shifts: np.ndarray, ratio: float) -> np.ndarray:
    """Shift an image, then stretch it across the axis about its centre, by linear interpolation."""
    x, y = (np.arange(size, dtype=np.float64) for size in image.shape)
    centre = (image.shape[0] - 1) / 2
    return _sampled(_sampled(image, (x - centre) / ratio + centre - shifts[0], 0), y - shifts[1], 1)


def _sampled(image: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Return an image at other places along an axis."""
    # Beyond the edge its value: a step to zero would be the strongest feature in view.
    places = np.clip(places, 0, image.shape[axis] - 1)
    low = np.minimum(places.astype(int), image.shape[axis] - 2)
    part = np.expand_dims((places - low).astype(np.float32), 1 - axis)
    near = np.take(image, low, axis)
    return near + part * (np.take(image, low + 1, axis) - near)


def _windowed(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Subtract the mean under the window and multiply by the window; a constant image becomes 0."""
    contrast = image - (image * window).sum(dtype=np.float64) / window.sum(dtype=np.float64)
    return np.where(
        np.abs(contrast).max() > 1e-6 * np.abs(image).max(), contrast * window, 0
    ).astype(np.float32)


def _registration(
    fixed: np.ndarray, moving: np.ndarray, upsampling: int, phase: bool
) -> np.ndarray:
    """Return the shift that brings `moving` onto `fixed`, px."""
    from skimage.registration import phase_cross_correlation

    return phase_cross_correlation(
        fixed, moving, upsample_factor=upsampling, normalization="phase" if phase else None
    )[0]
