# SPDX-License-Identifier: GPL-3.0-or-later
"""Series as plain arrays for the numerics, and whether two of them fit together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.lazy_images import changed
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    axis_named,
    forget,
    on_recorded_grid,
    record,
)
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside, why_no_counts


def tilt_data(series) -> TiltData:
    """Return a series without HyperSpy, as reconstructions take it."""
    tilts, gains = series.tilts, series.gains  # the first says what to do where an axis is gone
    return TiltData(
        title=series.metadata.General.title,
        channels=series.channels,
        tilts=tilts,
        recorded=as_recorded(series),
        geometry=series.geometry,
        gains=None if gains is None else gains.T,
        alignment=series.alignment,
        beside=partial(_beside, series),
        smoothed=series.is_smoothed,
        no_counts=why_no_counts(series),
        noise_of_whole=series.noise_of_whole,
        history=series.history,
    )


def as_recorded(series):
    """Return a series as (channel, tilt, x, y), NumPy or dask, a view of its data."""
    if axis_named(series, "element") or series.channels:
        return series.array("element", "tilt", "x", "y")
    return series.array("tilt", "x", "y")[None]


def projections(series):
    """Return a series as (channel, tilt, x, y) in the frame of its geometry; see `TiltData`."""
    return tilt_data(series).projections


def even(series, images):
    """Return images over the contrast that the transmission has within them; see `TiltData`."""
    return tilt_data(series).evened(images)


def gains_of(series):
    """Return the gains of a series with the mean transmission of each image; see `TiltData`."""
    return tilt_data(series).model_gains


def _beside(series, name: str):
    """Return what is recorded beside the data, in the numerics' order, or None."""
    values = getattr(series, name, None)
    if values is None:
        return None
    if name == "window_share":
        return values.T
    if name in ("gross", "background"):
        check_counts_beside(series)
    return values.transpose(1, 0, 3, 2)


def _resampled(alignment: Alignment, images):
    """Return images (..., tilt, x, y), NumPy or dask, resampled to an alignment."""
    if not is_lazy(images):
        return alignment.apply(images, fill="edge")
    if images.ndim == 3:
        return _resampled(alignment, images[None])[0]
    return changed(images, alignment=alignment)


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
    """Return a copy of a series resampled once to its alignment, lazy if the series is.

    See `TiltSeries.aligned`.
    """
    names = ("element", "tilt", "x", "y") if axis_named(series, "element") else ("tilt", "x", "y")
    places = [axis_named(series, name).index_in_array for name in names]
    images, alignment = series.array(*names).astype(np.float32, copy=False), series.alignment
    if alignment is not None:
        # The axis goes to the middle after the rotation: before it, that is a shift along the
        # rotated x.
        angle = np.deg2rad(alignment.rotation)
        across = alignment.across - alignment.axis_offset * np.cos(angle)
        along = alignment.along + alignment.axis_offset * np.sin(angle)
        images = _resampled(replace(alignment, across=across, along=along, axis_offset=0.0), images)
    images = images.transpose(*np.argsort(places).tolist())
    copy = series._deepcopy_with_new_data(
        images if is_lazy(images) else np.ascontiguousarray(images)
    )
    copy.alignment = Alignment.identity(len(series.tilts))
    copy.alignment = None
    rays = _beside(series, "transmission")
    if rays is not None:
        rays = rays if alignment is None else _resampled(alignment, rays)
        rays = np.clip(rays, None, 1).transpose(1, 0, 3, 2)
        rays = on_recorded_grid(copy, rays, fill=1.0)
        record(copy, "transmission", rays, ("tilt", "element", "y", "x"))
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
    """Raise an error if two series cannot share a volume; warn if only one of them is aligned.

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
