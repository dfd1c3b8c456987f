# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the images, each on request and in the history: smooth, bin, threshold."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.parameters import check_finite, positive_number
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named

NOT_FINITE = (
    "the images hold NaN or infinite values, which would spread; replace them, or leave out those "
    "tilts (drop_tilts)"
)


def is_smoothed(series) -> bool:
    """Say whether `smooth` made this series.

    Noise estimates and fits that suppose Poisson counts do not hold for it.
    """
    return any(step["step"] == "smooth" for step in series.history)


@checked
def smooth(series, sigma: float):
    """Return the series with every image smoothed by a Gaussian.

    Parameters
    ----------
    sigma : float
        Standard deviation along x and y, in px.

    Returns
    -------
    TiltSeriesHAADF, TiltSeriesEDS or TiltSeriesEELS
        A new series, lazy if this one is. `gross` and `background` stay as recorded.

    Raises
    ------
    ValueError
        For a sigma that is no positive number or larger than the images, and for values that
        are not finite, of a lazy series when it is computed.

    Notes
    -----
    Sums are kept but for what leaves at the borders, where images are mirrored. Smoothed maps
    are no Poisson counts any more: fit response ratios and estimate gains before, and let the
    reconstruction deal with the noise where it can.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.zeros((2, 9, 9)); images[:, 4, 4] = 1.0
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 10]).smooth(1.0)
    >>> haadf.is_smoothed, haadf.data[0, 4, 4].round(2)
    (True, np.float32(0.16))
    """
    from scipy.ndimage import gaussian_filter

    sigma = positive_number("sigma", sigma, "of pixels")
    largest = max(axis.size for axis in series.axes_manager._axes if axis.name in ("x", "y"))
    if sigma > largest:
        raise ValueError(
            f"sigma={sigma!r} is larger than the images, {largest} px; expected a few pixels"
        )
    width = [sigma if axis.name in ("x", "y") else 0.0 for axis in series.axes_manager._axes]
    copy = series._deepcopy_with_new_data(
        each_image(series, lambda images: gaussian_filter(_finite(images), width))
    )
    add_step(copy, "smooth", sigma=sigma)
    return copy


@checked
def bin(series, factor: int):
    """Return the series with pixels binned: counts are summed, HAADF signal is averaged.

    Parameters
    ----------
    factor : int
        Old pixels along each side of a new one; rows and columns that do not fill one are left
        out.

    Returns
    -------
    TiltSeriesHAADF, TiltSeriesEDS or TiltSeriesEELS
        A new series, lazy if this one is. Alignment, gross counts and background follow; gains
        stay.

    Raises
    ------
    ValueError
        For a factor that is no whole number of at least 2, or larger than the image.

    Notes
    -----
    Volumes of summed counts are in counts per nm and per new pixel, factor^2 times as many.
    HyperSpy's own ``rebin`` sums HAADF too.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = {"Au": np.ones((2, 8, 9))}
    >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=[-10, 10], pixel_size=1.5).bin(2)
    >>> eds, eds.pixel_size, eds.data.max()
    (<TiltSeriesEDS, title: EDS, dimensions: (1, 2|4, 4)>, 3.0, np.float32(4.0))
    """
    places = {name: axis_named(series, name).index_in_array for name in ("y", "x")}
    smallest = min(series.data.shape[place] for place in places.values())
    if not (isinstance(factor, int | np.integer) and 2 <= factor <= smallest):
        raise ValueError(
            f"factor={factor!r} must be a whole number from 2 to the size of the images, "
            f"{smallest} px"
        )
    combine = np.sum if series._SUM_BINS else np.mean
    copy = series._deepcopy_with_new_data(
        _coarse(series.data, dict.fromkeys(places.values(), int(factor)), combine)
    )
    for name, place in places.items():
        axis = axis_named(copy, name)
        # The first new pixel is centred between the old ones that it is made of.
        axis.offset = float(axis.offset + (factor - 1) / 2 * axis.scale)
        axis.scale = float(axis.scale * factor)
        axis.size = copy.data.shape[place]
    add_step(copy, "bin", factor=int(factor))
    return copy


@checked
def threshold_background(series, fraction: float = 0.05):
    """Return the series with all pixels below a part of the maximum set to zero.

    This empties the vacuum, and everything faint with it: thin parts, weak elements and, in
    maps of few counts, single counts that belong to the specimen. It biases the volumes; prefer
    `remove_background`, and masks in the reconstruction.

    Parameters
    ----------
    fraction : float, default 0.05
        Of the largest value of the series, for each element apart; negative values are set to
        zero in any case.

    Returns
    -------
    TiltSeriesHAADF, TiltSeriesEDS or TiltSeriesEELS
        A new series, lazy if this one is. `gross` and `background` stay as recorded.

    Raises
    ------
    ValueError
        For a fraction outside (0, 1), and values that are not finite.

    References
    ----------
    .. [1] R. Huber et al., Nanoscale 11 (2019) 5617, https://doi.org/10.1039/C8NR09058K.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.array([[[100.0, 4.0]], [[50.0, 6.0]]])
    >>> mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 10]).threshold_background().data.tolist()
    [[[100.0, 0.0]], [[50.0, 6.0]]]
    """
    fraction = parameters.fraction("fraction", fraction)
    element = axis_named(series, "element")
    data = series.array(*(("element",) if element or series.channels else ()), "tilt", "x", "y")
    tilts = range(len(series.tilts))
    largest = np.max([np.asarray(data[..., t, :, :].max(axis=(-2, -1))) for t in tilts], axis=0)
    levels = np.maximum(fraction * largest, 0).astype(np.float32)
    shape = [1] * series.data.ndim
    if element:
        shape[element.index_in_array] = element.size
    if not np.isfinite(levels).all():
        raise ValueError(NOT_FINITE)
    copy = series._deepcopy_with_new_data(series.data * (series.data >= levels.reshape(shape)))
    add_step(copy, "threshold_background", fraction=fraction, levels=levels)
    return copy


def finite_images(series):
    """Yield the images (x, y) of a HAADF series; an error names those that are not finite."""
    for tilt, image in zip(series.tilts, series.array("tilt", "x", "y"), strict=True):
        image = np.asarray(image)
        check_finite(image, f"the image at {tilt:g} degrees")
        yield image


def _finite(images: np.ndarray) -> np.ndarray:
    """Return images as they are, if all values are finite."""
    if not np.isfinite(images).all():
        raise ValueError(NOT_FINITE)
    return images


def each_image(series, function):
    """Return the data with `function` applied to whole images, tilt by tilt of lazy series."""
    if not series._lazy:
        return function(np.asarray(series.data))
    chunks = {
        axis.index_in_array: -1 if axis.name in ("x", "y") else 1
        for axis in series.axes_manager._axes
    }
    return series.data.rechunk(chunks).map_blocks(function, dtype=series.data.dtype)


def _coarse(data, factors: dict[int, int], combine):
    """Return the data with blocks of pixels summed or averaged, remainders left out."""
    if not isinstance(data, np.ndarray):
        import dask.array as da

        data = data.map_blocks(_finite, dtype=data.dtype)
        return da.coarsen(combine, data, factors, trim_excess=True).astype(data.dtype)
    data = _finite(data)
    for axis, factor in factors.items():
        data = np.moveaxis(data, axis, -1)
        size = data.shape[-1] // factor
        data = combine(data[..., : size * factor].reshape(*data.shape[:-1], size, factor), axis=-1)
        data = np.moveaxis(data, -1, axis)
    return np.ascontiguousarray(data)
