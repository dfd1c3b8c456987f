# SPDX-License-Identifier: GPL-3.0-or-later
"""Series as arrays in one frame: in the numerics' order, put in place by their alignment, and checked to fit together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyperspy_multitomo.acquisition.counts import expected_background
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.lazy_images import Smoothing, changed, image_means
from hyperspy_multitomo.reconstruction.lazy_rows import is_lazy
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    axis_named,
    forget,
    on_recorded_grid,
    record,
)
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside

# Means of lazy transmissions by the names of these, the latest ones: each is read once.
_MEANS: dict[str, np.ndarray] = {}
_REMEMBERED = 16


def as_recorded(series):
    """Return a series as (channel, tilt, x, y), a view of its data."""
    if axis_named(series, "element") or series.channels:
        return series.array("element", "tilt", "x", "y")
    return series.array("tilt", "x", "y")[None]


def projections(series):
    """Return a series as (channel, tilt, x, y), resampled where the alignment moves it along the axis or turns it.

    What the transmission of X-rays has of contrast within an image is divided out; its mean is in
    `gains_of`.
    """
    return _placed(series, as_recorded(series))


def _placed(series, images, smoothing: Smoothing | None = None):
    """Return images (channel, tilt, x, y) evened and in place, NumPy or dask as they are; dask ones are smoothed before."""
    if not is_lazy(images):
        return in_place(series, even(series, images))
    transmission = _transmission(series)
    means = None if transmission is None else _means(transmission)
    evened = {"transmission": transmission, "means": means, "smoothing": smoothing}
    return changed(images, **evened, alignment=series.alignment, for_geometry=True)


def even(series, images):
    """Return images (channel, tilt, x, y) as recorded, over what the transmission of a pixel is of the mean of its image.

    The mean stays in the model, as a gain of the counts, so that the statistics are those of what
    was counted but for this factor.
    """
    transmission = _transmission(series)
    if transmission is None:
        return images
    if is_lazy(transmission):
        return images / (transmission / _means(transmission)[..., None, None].astype(np.float32))
    return images / (transmission / transmission.mean(axis=(2, 3), keepdims=True))


def _transmission(series):
    """Return the transmission of the X-rays, (channel, tilt, x, y), NumPy or dask, or None."""
    transmission = getattr(series, "transmission", None)
    return None if transmission is None else transmission.transpose(1, 0, 3, 2)


def _means(transmission) -> np.ndarray:
    """Return the mean over the pixels of each image, (channel, tilt); those of a lazy transmission are remembered."""
    if not is_lazy(transmission):
        return transmission.mean(axis=(2, 3), dtype=np.float64)
    if transmission.name not in _MEANS:
        means = image_means(transmission)
        while len(_MEANS) >= _REMEMBERED:
            _MEANS.pop(next(iter(_MEANS)))
        _MEANS[transmission.name] = means
    return _MEANS[transmission.name]


def in_place(series, images):
    """Return images (channel, tilt, x, y) of a series resampled as its alignment asks for, NumPy or dask as they are."""
    alignment = series.alignment
    if alignment is None and not is_lazy(images):
        return np.asarray(images, dtype=np.float32)
    return _applied(alignment, images, for_geometry=True)


def _applied(alignment: Alignment | None, images, *, for_geometry: bool = False):
    """Return what an alignment makes of images (..., tilt, x, y), NumPy or dask as they are, edges continued."""
    if not is_lazy(images):
        return alignment.apply(images, for_geometry=for_geometry, fill="edge")
    if images.ndim == 3:
        return _applied(alignment, images[None], for_geometry=for_geometry)[0]
    return changed(images, alignment=alignment, for_geometry=for_geometry)


def recorded_counts(series):
    """Return (gross, background, share) of elemental maps: counts (channel, tilt, x, y) in place, share (channel, tilt); or None.

    What was expected of the elements themselves is share times the net counts, and gross counts are
    that plus the background, which is smoothed here to an expectation. A lazy background is read
    twice for that, once for all slabs.
    """
    held = [getattr(series, name, None) for name in ("gross", "background", "window_share")]
    if any(values is None for values in held):
        return None
    check_counts_beside(series)
    gross, background = (values.transpose(1, 0, 3, 2) for values in held[:2])
    if is_lazy(background):
        expected = _placed(series, background, Smoothing.of(background))
    else:
        expected = _placed(series, expected_background(background))
    return _placed(series, gross), expected, held[2].T


def gains_of(series):
    """Return the gains of a series in the numerics' order, (tilt,) or (channel, tilt), or None.

    The mean transmission of the X-rays of each image is in them.
    """
    gains, transmission = series.gains, _transmission(series)
    gains = None if gains is None else gains.T
    if transmission is None:
        return gains
    means = _means(transmission)
    return means if gains is None else gains * means


def in_one_frame(eds, haadf):
    """Return both series with pixels that correspond.

    The HAADF is averaged over pixels as large as those of the maps; where their alignments differ,
    both are aligned copies.
    """
    binning = pixel_ratio(eds, haadf)
    if binning > 1:
        haadf = haadf.bin(binning)
    return (
        (eds, haadf) if alike(eds.alignment, haadf.alignment) else (eds.aligned(), haadf.aligned())
    )


def alike(first: Alignment | None, second: Alignment | None) -> bool:
    """Say whether two alignments put images in the same place."""
    if first is None or second is None:
        return first is second
    if len(first) != len(second) or (first.drift is None) != (second.drift is None):
        return False
    names = ("across", "along", "axis_offset", "rotation") + (
        () if first.drift is None else ("drift",)
    )
    return all(
        np.allclose(getattr(first, name), getattr(second, name), atol=1e-6) for name in names
    )


def aligned_copy(series):
    """Return a copy of a series resampled once to its alignment, lazy if that is; see `TiltSeries.aligned`."""
    names = ("element", "tilt", "x", "y") if axis_named(series, "element") else ("tilt", "x", "y")
    places = [axis_named(series, name).index_in_array for name in names]
    images, alignment = series.array(*names).astype(np.float32, copy=False), series.alignment
    if alignment is not None:
        # The axis goes to the middle after the rotation: before it, that is a shift along the
        # rotated x.
        angle = np.deg2rad(alignment.rotation)
        across = alignment.across - alignment.axis_offset * np.cos(angle)
        along = alignment.along + alignment.axis_offset * np.sin(angle)
        images = _applied(replace(alignment, across=across, along=along, axis_offset=0.0), images)
    images = images.transpose(*np.argsort(places).tolist())
    copy = series._deepcopy_with_new_data(
        images if is_lazy(images) else np.ascontiguousarray(images)
    )
    copy.alignment = Alignment.identity(len(series.tilts))
    copy.alignment = None
    if getattr(series, "transmission", None) is not None:
        rays = (
            _transmission(series)
            if alignment is None
            else _applied(alignment, _transmission(series))
        )
        rays = np.clip(rays, None, 1).transpose(1, 0, 3, 2)
        record(
            copy,
            "transmission",
            on_recorded_grid(copy, rays, fill=1.0),
            ("tilt", "element", "y", "x"),
        )
    if alignment is not None:
        # Counts as recorded do not belong to resampled images.
        for name in ("gross", "background"):
            forget(copy, name)
    add_step(copy, "aligned")
    return copy


def pixel_ratio(eds, haadf) -> int:
    """Return how many pixels of the HAADF make one of the maps, along each edge."""
    return max(1, round(axis_named(eds, "x").scale / axis_named(haadf, "x").scale))


def check_pair(eds, haadf) -> int:
    """Raise an error where two series cannot share a volume; warn where only one of them is aligned.

    Returns how many pixels of the HAADF make one of the maps, along each edge.
    """
    if getattr(eds, "_TITLE", None) is None:
        raise TypeError(
            f"haadf= goes with elemental maps, and this is a {type(eds).__name__}; leave it out, "
            "or call it of the maps"
        )
    title = eds._TITLE
    if getattr(haadf, "_signal_type", None) != "TiltSeriesHAADF":
        raise TypeError(f"haadf must be a TiltSeriesHAADF; got {type(haadf).__name__}")
    for name in ("x", "y"):
        if axis_named(eds, name) is None or axis_named(haadf, name) is None:
            raise ValueError(
                f"both series need the axis {name!r}; it has been summed or sliced away in one of "
                "them"
            )
    binning = pixel_ratio(eds, haadf)
    for name in ("x", "y"):
        mine, other = axis_named(eds, name), axis_named(haadf, name)
        if mine.units != other.units or not np.isclose(
            mine.scale, binning * other.scale, rtol=1e-3
        ):
            raise ValueError(
                f"the pixel size along {name} is {mine.scale:g} {mine.units} for {title} but "
                f"{other.scale:g} {other.units} "
                "for HAADF; calibrate both alike, and where they differ bin one of them so that a "
                "whole number of HAADF pixels "
                "makes one of the maps"
            )
        if mine.size * binning != other.size:
            pixels = "" if binning == 1 else f", {binning} to each px of the maps"
            raise ValueError(
                f"the {title} maps have {mine.size} px along {name} but the HAADF images "
                f"{other.size}{pixels}; "
                "crop or bin both alike, to the same field of view"
            )
        # Files state where the first pixel begins, or put 0 at its centre whatever its size.
        edges = (mine.offset - mine.scale / 2) - (other.offset - other.scale / 2)
        if min(abs(edges), abs(mine.offset) + abs(other.offset)) > 0.01 * abs(other.scale):
            raise ValueError(
                f"the {title} maps begin at {name} = {mine.offset:g} {mine.units} but the HAADF "
                f"images at {other.offset:g}; "
                "crop both series alike"
            )
    if (eds.alignment is None) != (haadf.alignment is None):
        aligned, other = ("HAADF", title) if eds.alignment is None else (title, "HAADF")
        source, target = ("haadf", "eds") if eds.alignment is None else ("eds", "haadf")
        remedy = f"{target}.align({source}.alignment)"
        warn(
            f"the {aligned} series is aligned but the {other} series is not; attach the same to "
            f"both: {remedy}"
        )
    return binning
