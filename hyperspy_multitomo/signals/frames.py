# SPDX-License-Identifier: GPL-3.0-or-later
"""Series as arrays in one frame: in the numerics' order, put in place by their alignment, and checked to fit together."""

from __future__ import annotations

import numpy as np

from ..alignment.transform import Alignment
from ..notices import warn
from .history import add_step
from .keyed import axis_named


def projections(series):
    """Return a series as (channel, tilt, x, y), resampled where the alignment moves it along the axis or turns it."""
    if axis_named(series, "element") or series.channels:
        data = series.array("element", "tilt", "x", "y")
    else:
        data = series.array("tilt", "x", "y")[None]
    alignment = series.alignment

    def in_place(images):
        return images if alignment is None else alignment.apply(images, for_geometry=True)

    if series._lazy:
        return data if alignment is None else data.rechunk((1, -1, -1, -1)).map_blocks(in_place, dtype=np.float32)
    return in_place(np.asarray(data, dtype=np.float32))


def gains_of(series):
    """Return the gains of a series in the numerics' order, (tilt,) or (channel, tilt), or None."""
    gains = series.gains
    return None if gains is None else (gains.T if gains.ndim == 2 else gains)


def in_one_frame(eds, haadf):
    """Return both series; aligned copies where their alignments differ, so that their pixels correspond."""
    first, second = eds.alignment, haadf.alignment
    return (eds, haadf) if first == second else (eds.aligned(), haadf.aligned())


def aligned_copy(series):
    """Return a copy of a series resampled once to its alignment; see `TiltSeries.aligned`."""
    names = ("element", "tilt", "x", "y") if axis_named(series, "element") else ("tilt", "x", "y")
    places = [axis_named(series, name).index_in_array for name in names]
    images = np.asarray(series.array(*names), dtype=np.float32)
    alignment = series.alignment
    if alignment is not None:
        # The axis goes to the middle after the rotation: before it, that is a shift along the rotated x.
        angle = np.deg2rad(alignment.rotation)
        across = alignment.across - alignment.axis_offset * np.cos(angle)
        along = alignment.along + alignment.axis_offset * np.sin(angle)
        images = Alignment(across, along, 0.0, alignment.rotation).apply(images)
    copy = series._deepcopy_with_new_data(np.ascontiguousarray(images.transpose(np.argsort(places))))
    copy.alignment = Alignment.identity(len(series.tilts))
    copy.alignment = None
    add_step(copy, "aligned")
    return copy


def check_pair(eds, haadf) -> None:
    """Raise an error where two series cannot share a volume; warn where only one of them is aligned."""
    if getattr(haadf, "_signal_type", None) != "TiltSeriesHAADF":
        raise TypeError(f"haadf must be a TiltSeriesHAADF; got {haadf!r}")
    for name in ("x", "y"):
        mine, other = axis_named(eds, name), axis_named(haadf, name)
        if mine is None or other is None:
            raise ValueError(f"both series need the axis {name!r}; it has been summed or sliced away in one of them")
        if mine.size != other.size:
            raise ValueError(
                f"the EDS maps have {mine.size} px along {name} but the HAADF images {other.size}; crop or bin both alike"
            )
        if mine.units != other.units or not np.isclose(mine.scale, other.scale, rtol=1e-3):
            raise ValueError(
                f"the pixel size along {name} is {mine.scale:g} {mine.units} for EDS but {other.scale:g} {other.units} "
                "for HAADF; calibrate both alike"
            )
        if abs(mine.offset - other.offset) > 0.01 * abs(mine.scale):
            raise ValueError(
                f"the EDS maps begin at {name} = {mine.offset:g} {mine.units} but the HAADF images at {other.offset:g}; "
                "crop both series alike"
            )
    if (eds.alignment is None) != (haadf.alignment is None):
        aligned, other = ("HAADF", "EDS") if eds.alignment is None else ("EDS", "HAADF")
        warn(f"the {aligned} series is aligned but the {other} series is not; attach one to both: eds.align(haadf.alignment)")
