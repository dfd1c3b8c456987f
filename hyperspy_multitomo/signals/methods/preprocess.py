# SPDX-License-Identifier: GPL-3.0-or-later
"""Preprocessing of tilt series, none of which rescales counts."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo import composition, parameters
from hyperspy_multitomo.acquisition.preprocessing import defects, detector_offset
from hyperspy_multitomo.acquisition.preprocessing.defects import (
    Saturation,
    hot_pixels,
    hot_positions,
)
from hyperspy_multitomo.acquisition.preprocessing.detector_offset import (
    BackgroundLevel,
    background_level,
)
from hyperspy_multitomo.acquisition.same_tilt import SAME_TILT
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import check_finite, odd_number, positive_number
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside
from hyperspy_multitomo.signals.methods.aligning import alignment_images
from hyperspy_multitomo.signals.methods.image_changes import each_image, finite_images
from hyperspy_multitomo.signals.methods.tilt_gains import known_gains


@checked
def fit_background(series, *, mask=None, film: bool = True) -> BackgroundLevel:
    """Fit the level beside the object by offset and film: ``offset + film / cos t``.

    Parameters
    ----------
    mask : array-like of bool, shape (tilt, y, x), optional
        Pixels without object; by default the lowest peak in the histogram of each smoothed
        image. That needs some ten per cent of vacuum or film in view at every tilt: a lamella
        that fills it has no such level.
    film : bool, default True
        Whether there is a film (its signal grows as 1/cos t), or vacuum only.

    Returns
    -------
    BackgroundLevel
        ``offset`` and ``film`` with standard errors, ``levels`` and ``residuals`` per tilt.
        ``print`` shows it. Look at the residuals: a level that is no background does not follow
        the model.

    Raises
    ------
    ValueError
        For fewer than three tilts, a mask that does not fit, tilts too alike to tell offset
        from film, and values that are not finite.

    Notes
    -----
    Gains that were known before multiply the film. Offset and film are told apart by the high
    tilts alone; for tilts up to 40 degrees, where 1/cos t ends at 1.3, their errors are large
    and opposite.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> tilts = np.arange(-60, 61, 20)
    >>> images = np.zeros((7, 48, 48)) + 100 + 40 / np.cos(np.deg2rad(tilts))[:, None, None]
    >>> images[:, 18:30, 18:30] += 500
    >>> print(mt.TiltSeriesHAADF.from_images(images, tilts=tilts).fit_background())
    offset 100... ± ..., film 40 ± ... at tilt 0, scatter ..., correlation of the two -0.9...
    """
    images = series.array("tilt", "x", "y")
    if mask is not None:
        mask = np.asarray(plain(mask, ("tilt", "y", "x"), "the mask"))
        if mask.shape != (images.shape[0], images.shape[2], images.shape[1]) or mask.dtype != bool:
            raise ValueError(
                f"the mask is {mask.dtype} of shape {mask.shape}; expected bool of shape "
                f"{(images.shape[0], images.shape[2], images.shape[1])} (tilt, y, x)"
            )
    masks = [None] * len(images) if mask is None else [inside.T for inside in mask]
    levels = [
        background_level(image, inside)
        for image, inside in zip(finite_images(series), masks, strict=True)
    ]
    return detector_offset.fit_background(
        levels, series.tilts, gains=known_gains(series), film=film
    )


@checked
def remove_background(series, fit: BackgroundLevel | None = None, *, film: bool = False):
    """Return the series without the detector's offset, and on request without the film.

    Parameters
    ----------
    fit : BackgroundLevel, optional
        From `fit_background`, of the same tilts; fitted now where it is None.
    film : bool, default False
        Subtract the film as well. A film in view is part of what is projected, and can stay;
        but one that is larger than the field of view cannot be reconstructed.

    Returns
    -------
    TiltSeriesHAADF
        A new series, lazy if this one is. A subtraction is no rescaling: gains and ratios keep
        their meaning.

    Raises
    ------
    ValueError
        For a fit of other tilts.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.full((7, 48, 48), 100.0); images[:, 18:30, 18:30] += 500
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=np.arange(-60, 61, 20))
    >>> bool(abs(haadf.remove_background().data.min()) < 1)
    True
    """
    fit = series.fit_background() if fit is None else fit
    tilts = series.tilts
    if fit.tilts.shape != tilts.shape or np.abs(fit.tilts - tilts).max() > SAME_TILT:
        raise ValueError(
            f"the fit is of the tilts {fit.tilts} but the series has {tilts}; fit this series"
        )
    levels = fit.offset + (fit.film_levels if film else np.zeros(len(tilts)))
    place = axis_named(series, "tilt").index_in_array
    shape = [-1 if i == place else 1 for i in range(series.data.ndim)]
    copy = series._deepcopy_with_new_data(series.data - levels.astype(np.float32).reshape(shape))
    add_step(
        copy,
        "remove_background",
        offset=fit.offset,
        film=fit.film if film else None,
        levels=levels,
    )
    return copy


@checked
def find_saturation(series, level: float | None = None) -> Saturation:
    """Find the level at which the signal ends, and how many pixels are there at each tilt.

    Parameters
    ----------
    level : float, optional
        Where the detector saturates; by default the largest value of the series, if pixels pile
        up there. Look before anything is subtracted or smoothed.

    Returns
    -------
    Saturation
        ``level`` (None where there is none) and ``fraction`` of the pixels per tilt.

    Raises
    ------
    ValueError
        For a level that is no positive number, and values that are not finite.

    Warns
    -----
    UserWarning
        Where pixels are saturated: the HAADF is too low there, and so are response ratios and
        volumes.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).normal(3000, 500, (2, 50, 50)).round()
    >>> print(mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 10]).find_saturation())
    no saturation
    """
    level = None if level is None else positive_number("level", level, "of the signal")
    found = defects.find_saturation(series.array("tilt", "x", "y"), series.tilts, level)
    if found.fraction.any():
        warn(
            f"{found}: the signal of these pixels is too low; lower the detector's gain, or "
            "leave out the worst tilts"
        )
    return found


@checked
def remove_hot_pixels(series, threshold: float = 8.0, size: int = 5):
    """Return the series with hot pixels replaced by the local median.

    Parameters
    ----------
    threshold : float, default 8.0
        How far above the local median, in standard deviations of the noise.
    size : int, default 5
        Side of the surroundings, px, odd.

    Returns
    -------
    TiltSeriesHAADF
        A new series, lazy if this one is (the pixels are counted now, tilt by tilt, and
        replaced when needed). The number of replaced pixels per tilt is in its history.

    Raises
    ------
    ValueError
        For a threshold that is no positive number, a size that is no odd number from 3 up, and
        values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).normal(100, 3, (2, 32, 32)); images[1, 9, 7] = 900
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 10]).remove_hot_pixels()
    >>> haadf.history[-1]["hot_pixels"], bool(haadf.data.max() < 120)
    ([0, 1], True)
    """
    threshold, size = positive_number("threshold", threshold), odd_number("size", size, 3)

    def repaired(images):
        flat = np.array(images).reshape(-1, *images.shape[-2:])
        for image in flat:
            hot, median = hot_pixels(image, threshold, size)
            image[hot] = median[hot]
        return flat.reshape(images.shape)

    found = [int(hot_pixels(image, threshold, size)[0].sum()) for image in finite_images(series)]
    copy = series._deepcopy_with_new_data(each_image(series, repaired))
    add_step(copy, "remove_hot_pixels", threshold=threshold, size=size, hot_pixels=found)
    return copy


@checked
def specimen_mask(series, fraction: float = 0.05) -> np.ndarray:
    """Choose generously the pixels that hold specimen, for ``mask=`` of fits and gains.

    Parameters
    ----------
    fraction : float, default 0.05
        Level as a part of the 99th percentile of the series; the HAADF has to be zero in
        vacuum.

    Returns
    -------
    ndarray of bool, shape (tilt, y, x)
        See `hyperspy_multitomo.composition.specimen_mask`.

    Raises
    ------
    ValueError
        Where no pixel is positive, for a fraction outside (0, 1), and values that are not
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.zeros((2, 20, 30)); images[:, :, :10] = 1.0
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 10])
    >>> haadf.specimen_mask().mean(axis=(0, 1))[[0, 25]]
    array([1., 0.])
    """
    fraction = parameters.fraction("fraction", fraction)
    return composition.specimen_mask(alignment_images(series), fraction).swapaxes(1, 2)


@checked
def find_hot_pixels(series, threshold: float = 8.0, size: int = 5) -> np.ndarray:
    """Find positions with too many counts at all tilts, such as where the beam rests.

    The maps stay as they are: crop the series (``isig``), or leave the pixels out of fits with
    ``mask=``.

    Parameters
    ----------
    threshold : float, default 8.0
        How far above the surroundings, in standard deviations of the Poisson counts of the sum
        over the tilts.
    size : int, default 5
        Side of the surroundings, px, odd.

    Returns
    -------
    ndarray of bool, shape (element, y, x)

    Raises
    ------
    ValueError
        For a threshold that is no positive number, a size that is no odd number from 3 up, and
        values that are not finite.

    Warns
    -----
    UserWarning
        Where there are such positions.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = np.random.default_rng(0).poisson(2.0, (5, 24, 24))
    >>> hot = mt.TiltSeriesEDS.from_maps({"Au": maps}, tilts=np.arange(5)).find_hot_pixels()
    >>> hot.shape, bool(hot.any())
    ((1, 24, 24), False)
    """
    threshold, size = positive_number("threshold", threshold), odd_number("size", size, 3)
    check_counts_beside(series)
    data, gross, share = (
        series.array("tilt", "element", "y", "x"),
        series.gross,
        series.window_share,
    )
    total = sum(np.asarray(images, dtype=np.float64) for images in data)
    check_finite(total, "the sum of the maps over the tilts")
    variance = [None] * len(total)
    if gross is not None:
        variance = gross / (1.0 if share is None else share[..., None, None] ** 2)
        variance = np.asarray(variance.sum(axis=0, dtype=np.float64))
    hot = np.stack(
        [hot_positions(t, v, threshold, size) for t, v in zip(total, variance, strict=True)]
    )
    if hot.any():
        counted = ", ".join(
            f"{name} {n}"
            for name, n in zip(series.channels, hot.sum(axis=(1, 2)), strict=True)
            if n
        )
        warn(
            f"positions with too many counts at all tilts together: {counted}; crop them, or "
            "leave them out with mask="
        )
    return hot
