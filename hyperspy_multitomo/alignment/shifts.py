# SPDX-License-Identifier: GPL-3.0-or-later
"""Shifts measured on the images: cross-correlation of neighbouring tilts, and the path of the centre of mass."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.field_of_view import wholly_in_view
from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["align", "centre_of_mass_shifts", "cross_correlation_shifts"]

# A correlation has to stand out of that of unrelated noise by this many standard deviations, 1/sqrt(pixels).
SIGNIFICANT = 5.0
# Sigma (px) of the smoothing that outlines an object, and the part of the maximum that does.
SMOOTHING = 2.0
OUTLINE = 0.05
# Expected distance of the tilt axis from the centre of the view, and of the object from the axis's height, in views.
AXIS_SPREAD = 0.05


def align(
    images: ArrayLike,
    tilts: ArrayLike,
    method: Literal["auto", "cross_correlation", "centre_of_mass"] = "auto",
) -> Alignment:
    """
    Align a tilt series in the plain way that suits the object.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        HAADF images, zero in vacuum.
    tilts : array_like (tilt,)
        Degrees, in any order.
    method : "auto", "cross_correlation" or "centre_of_mass", default "auto"
        ``"auto"``, for each direction of the image on its own: the centre of mass where the object is wholly in view, which
        leaves no drift; else the cross-correlation of neighbouring tilts, stretched like a lamella, since then mass enters and
        leaves the view.

    Returns
    -------
    Alignment
        Without rotation.

    Raises
    ------
    ValueError
        For shapes that do not fit, or an image (named by its tilt) without features to align.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.mgrid[:32, :32]
    >>> moved = np.array([1.0, -1.0, 2.0, -2.0])
    >>> images = [np.exp(-((x - 15.5) ** 2 + (y - 15.5 - m) ** 2) / 18) for m in moved]
    >>> align(images, [-60, -20, 20, 60]).along.round(2)
    array([-1.,  1., -2.,  2.])
    """
    images, tilts = _checked_series(images, tilts)
    if method == "cross_correlation":
        return cross_correlation_shifts(images, tilts)
    if method == "centre_of_mass":
        return centre_of_mass_shifts(images, tilts)
    if method != "auto":
        raise ValueError(f"unknown method {method!r}; use 'auto', 'cross_correlation' or 'centre_of_mass'")
    inside = {sides: wholly_in_view(images, sides=sides) for sides in ("across", "along")}
    if all(inside.values()):
        return centre_of_mass_shifts(images, tilts)
    correlated = cross_correlation_shifts(images, tilts, stretch=not inside["across"])
    if not any(inside.values()):
        return correlated
    centred = centre_of_mass_shifts(images, tilts)
    if inside["across"]:
        return Alignment(centred.across, correlated.along, centred.axis_offset)
    return Alignment(correlated.across, centred.along)


def cross_correlation_shifts(
    images: ArrayLike, tilts: ArrayLike, *, upsampling: int = 20, stretch: bool = True, passes: int = 2
) -> Alignment:
    """
    Measure shifts by cross-correlating each image with its neighbour, from the lowest tilt outwards.

    The image of the lowest absolute tilt stays where it is. Every other image is registered to its neighbour nearer to that
    one, both under a Hann window and with the neighbour's shift; a second pass measures what the first left, which frees the
    result from the window's pull towards zero. Correlation cannot tell a shift from the motion of the features it follows:
    across the axis the result is known up to a + b cos t + c sin t, along the axis up to a constant.

    Parameters
    ----------
    images : array_like (tilt, x, y)
    tilts : array_like (tilt,)
        Degrees, in any order.
    upsampling : int, default 20
        Shifts are found to 1/upsampling of a pixel.
    stretch : bool, default True
        Stretch each image across the axis, about the centre of the view, by the ratio of the cosines of the two tilts, so that a
        lamella looks alike in both. Leave it off for an object of equal extent at all tilts. Off beyond 80 degrees.
    passes : int, default 2
        How often the shift of an image is measured.

    Returns
    -------
    Alignment
        `axis_offset` and `rotation` are 0.

    Raises
    ------
    ValueError
        For shapes that do not fit, and for an image (named by its tilt) that has no features in common with its neighbour.

    References
    ----------
    M. Guizar-Sicairos, S.T. Thurman, J.R. Fienup, Opt. Lett. 33 (2008) 156, doi:10.1364/OL.33.000156 (subpixel registration).
    R. Guckenberger, Ultramicroscopy 9 (1982) 167 (stretching by the cosine).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.mgrid[:32, :32]
    >>> images = [np.exp(-((x - 15 - m) ** 2 + (y - 14 + m) ** 2) / 18) for m in (0.0, 1.0, 2.0)]
    >>> cross_correlation_shifts(images, [0, 1, 2]).along.round(1)
    array([0., 1., 2.])
    """
    images, tilts = _checked_series(images, tilts)
    if not (np.isfinite(upsampling) and upsampling >= 1 and passes >= 1):
        raise ValueError(f"upsampling is {upsampling} and passes {passes}; both have to be 1 or more")
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in images.shape[1:])).astype(np.float32)
    shifts = np.zeros((len(tilts), 2))
    for t, neighbour in _outwards(tilts):
        ratio = _cosine_ratio(tilts[neighbour], tilts[t]) if stretch else 1.0
        fixed = _windowed(_placed(images[neighbour], shifts[neighbour]), window)
        if not fixed.any():
            raise ValueError(f"the image at {tilts[neighbour]:g} degrees has no features to align; leave this tilt out")
        shifts[t] = shifts[neighbour]
        for _ in range(passes):
            moving = _windowed(_placed(images[t], shifts[t], ratio), window)
            if not moving.any():
                raise ValueError(f"the image at {tilts[t]:g} degrees has no features to align; leave this tilt out")
            # Measured in the stretched frame: a pixel there is 1/ratio of a recorded one.
            shifts[t] += _registration(fixed, moving, upsampling) / (ratio, 1.0)
        moving = _windowed(_placed(images[t], shifts[t], ratio), window)
        likeness = float((fixed * moving).sum() / np.sqrt((fixed**2).sum() * (moving**2).sum() + np.finfo(np.float32).tiny))
        if likeness < SIGNIFICANT * np.sqrt((window**4).sum()) / (window**2).sum():
            raise ValueError(
                f"the image at {tilts[t]:g} degrees has no features in common with that at {tilts[neighbour]:g} degrees "
                f"(correlation {likeness:.2f}); leave this tilt out or align by the centre of mass"
            )
    return Alignment(shifts[:, 0], shifts[:, 1])


def centre_of_mass_shifts(images: ArrayLike, tilts: ArrayLike) -> Alignment:
    """
    Put the centre of mass of an object that is wholly in view on the path of a point.

    Along the axis the centre of mass has to stay where it is; across the axis, that of a body at (x0, z0) is at
    a + x0 cos t + z0 sin t. This is fitted to the measured path, and the images are moved onto it: every such path is
    consistent, the fitted one moves the images least. The tilt axis then lies at a.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        Images of the whole object. The median of the rim of each image is taken off as background, and pixels that stay below
        5 % of the maximum after smoothing do not count.
    tilts : array_like (tilt,)
        Degrees, in any order.

    Returns
    -------
    Alignment
        `axis_offset` is a, px. Both a and z0 are drawn towards 0 as far as the scatter of the shifts hides them, as it does where
        high tilts are missing.

    Raises
    ------
    ValueError
        For shapes that do not fit, or an image (named by its tilt) without mass.

    References
    ----------
    T. Sanders, M. Prange, C. Akatay, P. Binev, Adv. Struct. Chem. Imaging 1 (2015) 4, doi:10.1186/s40679-015-0005-7.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((4, 16, 16)); images[[0, 1, 2, 3], [6, 7, 8, 7], [8, 9, 8, 8]] = 1.0
    >>> centre_of_mass_shifts(images, [-60, -20, 20, 60]).along
    array([ 0.25, -0.75,  0.25,  0.25])
    """
    from scipy.ndimage import gaussian_filter

    images, tilts = _checked_series(images, tilts)
    x, y = (np.arange(size) - (size - 1) / 2 for size in images.shape[1:])
    centres = np.empty((len(tilts), 2))
    for t, image in enumerate(images):
        image = image - np.median(np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]))
        smooth = gaussian_filter(image, SMOOTHING)
        # Far from the axes the noise of empty pixels has the longest lever.
        image = np.where(smooth > OUTLINE * smooth.max(), image, 0)
        mass = image.sum(dtype=np.float64)
        if mass <= 0:
            raise ValueError(f"the image at {tilts[t]:g} degrees has no mass above its rim; leave this tilt out")
        centres[t] = (image.sum(axis=1, dtype=np.float64) @ x / mass, image.sum(axis=0, dtype=np.float64) @ y / mass)
    path = _point_path(centres[:, 0], tilts, spread=AXIS_SPREAD * images.shape[1])
    along = centres[:, 1].mean() - centres[:, 1]
    return Alignment(path[1] - centres[:, 0], along, axis_offset=path[0])


def _point_path(positions: np.ndarray, tilts: np.ndarray, spread: float) -> tuple[float, np.ndarray]:
    """Fit a + x0 cos t + z0 sin t, a and z0 of the expected size `spread`; return a and the fitted positions."""
    angles = np.deg2rad(tilts)
    design = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    free = np.linalg.lstsq(design, positions, rcond=None)[0]
    surplus = len(tilts) - design.shape[1]
    scatter = np.sqrt(((positions - design @ free) ** 2).sum() / surplus) if surplus > 0 else spread
    # Maximum a posteriori with a, z0 ~ N(0, spread^2): rows of their own, scaled like the measurements by their scatter.
    held = np.vstack([design, np.diag([scatter / spread, 0.0, scatter / spread])])
    fitted = np.linalg.lstsq(held, np.append(positions, np.zeros(3)), rcond=None)[0]
    return float(fitted[0]), design @ fitted


def _checked_series(images: ArrayLike, tilts: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    images, tilts = np.asarray(images, dtype=np.float32), np.asarray(tilts, dtype=np.float64)
    if images.ndim != 3 or min(images.shape[1:], default=0) < 4:
        raise ValueError(f"the images have shape {images.shape}; expected (tilt, x, y) of 4 pixels or more in x and y")
    if tilts.shape != images.shape[:1] or not np.isfinite(tilts).all():
        raise ValueError(f"`tilts` has the shape {tilts.shape} for {len(images)} images; pass one finite angle per image")
    if len(images) < 2:
        raise ValueError("a single image has nothing to be aligned to; give two tilts or more")
    broken = tilts[~np.isfinite(images).all(axis=(1, 2))]
    if broken.size:
        raise ValueError(f"the image at {broken[0]:g} degrees holds NaN or infinite values; leave this tilt out or repair it")
    return images, tilts


def _outwards(tilts: np.ndarray) -> list[tuple[int, int]]:
    """List (image, its neighbour towards the lowest absolute tilt), nearest first."""
    order = np.argsort(tilts, kind="stable")
    start = int(np.argmin(np.abs(tilts[order])))
    up = [(order[i], order[i - 1]) for i in range(start + 1, len(order))]
    down = [(order[i], order[i + 1]) for i in range(start - 1, -1, -1)]
    return up + down


def _cosine_ratio(reference: float, tilt: float) -> float:
    """Return how much the image at `tilt` has to be stretched to look like that at `reference`."""
    cosines = np.abs(np.cos(np.deg2rad([reference, tilt])))
    return float(cosines[0] / cosines[1]) if cosines.min() > np.cos(np.deg2rad(80)) else 1.0


def _placed(image: np.ndarray, shifts: np.ndarray, ratio: float = 1.0) -> np.ndarray:
    """Shift an image, then stretch it across the axis about its centre."""
    from scipy.ndimage import affine_transform

    centre = (image.shape[0] - 1) / 2
    # The edge is repeated: a step to zero would be the strongest feature in view.
    offset = (centre - centre / ratio - shifts[0], -shifts[1])
    return affine_transform(image, np.array([1 / ratio, 1.0]), offset, order=1, mode="nearest")


def _windowed(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Take the mean under the window off, so that a constant image becomes nothing, and fade the image out to its edges."""
    contrast = image - (image * window).sum(dtype=np.float64) / window.sum(dtype=np.float64)
    return np.where(np.abs(contrast).max() > 1e-6 * np.abs(image).max(), contrast * window, 0).astype(np.float32)


def _registration(fixed: np.ndarray, moving: np.ndarray, upsampling: int) -> np.ndarray:
    """Return the shift that brings `moving` onto `fixed`, px."""
    from skimage.registration import phase_cross_correlation

    return phase_cross_correlation(fixed, moving, upsample_factor=upsampling, normalization=None)[0]
