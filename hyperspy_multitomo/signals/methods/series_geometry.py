# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilts, gains, tilt axis and projection geometry of a tilt series."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.axes import calibrated, checked_values, pixel_sides
from hyperspy_multitomo.acquisition.tilts import check_order
from hyperspy_multitomo.acquisition.units import unit_of
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.parameters import numbers
from hyperspy_multitomo.signals.arrays import projections
from hyperspy_multitomo.signals.gate import axes_of
from hyperspy_multitomo.signals.metadata.missing_axes import remedy
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    forget,
    recall,
    record,
)
from hyperspy_multitomo.tomography.geometry import TiltGeometry

# Voxels along each edge of a section.
_FEWEST = 2


def get_tilts(series) -> np.ndarray:
    """Return the tilts in degrees, ascending, shape (tilt,)."""
    axis = axis_named(series, "tilt")
    if axis is None:
        raise ValueError(f"this series has no axis 'tilt' any more: {remedy('tilt')}")
    unit = unit_of(axis.units)
    if unit.kind not in ("angle", "none") or not np.isclose(unit.factor, 1.0):
        raise ValueError(
            f"the axis 'tilt' is in {axis.units}, expected degrees: make the series with "
            f"{type(series).__name__}.from_"
            f"{'maps' if series.channels else 'images'}, which converts them"
        )
    return np.array(axis.axis, dtype=float)


def get_acquisition_order(series) -> np.ndarray | None:
    """Return the place of each tilt in the order of acquisition, or None where it is not known.

    Shape (tilt,), 0 first.

    Raises
    ------
    ValueError
        Where what is recorded is no order, as in a damaged file.
    """
    return check_order(recall(series, "acquisition_order"))


def get_tilt_axis(series) -> str:
    """Return the direction, ``"x"`` or ``"y"``, of the tilt axis in the images as loaded.

    In the series it is y.
    """
    return series.metadata.get_item(f"{NODE}.tilt_axis", default="y")


def get_gains(series) -> np.ndarray | None:
    """Return the gain of each tilt, or of each tilt and element; None where none are set.

    Shape (tilt,) or (tilt, element).

    The forward model is ``data = gain * projection``: live time, dose and shadowing go here,
    and the data stay as counted.
    """
    return recall(series, "gains")


@checked(gains=numbers)
def set_gains(series, gains: ArrayLike | None) -> None:
    """Set the gains, or with None take them off."""
    if gains is None:
        forget(series, "gains")
        return
    values = np.asarray(checked_values(gains, "gains"), dtype=float)
    shapes = {(len(series.tilts),): ("tilt",)}
    if series.channels:
        shapes[(len(series.tilts), len(series.channels))] = ("tilt", "element")
    if values.shape not in shapes or not np.all(np.isfinite(values)) or np.any(values <= 0):
        expected = " or ".join(map(str, shapes))
        raise ValueError(
            f"gains must be positive and of the shape {expected} (tilt[, element]); got the "
            f"shape {values.shape}"
        )
    record(series, "gains", values, shapes[values.shape])


@checked
def geometry(
    series, depth: float | None = None, width: float | None = None, *, binning: int = 1
) -> TiltGeometry:
    """Return the projection geometry of this series.

    Parameters
    ----------
    depth, width : float, optional
        Extent of the volume along z and x in nm (px where the series has no calibration); as
        wide as the detector by default.
    binning : int, default 1
        Voxels along the edge of a pixel of this series, for a volume on the finer grid of
        another one.

    Returns
    -------
    TiltGeometry

    Raises
    ------
    ValueError
        For an extent that is not positive, or axes that have been summed or sliced away.
    """
    tilts, axis = series.tilts, axis_named(series, "x")
    if axis is None:
        raise ValueError(
            f"this series has no axis 'x' any more, so that it has no projections: {remedy('x')}"
        )
    _check_units(series)
    pixel = (series.pixel_size or 1.0) / binning
    shape = tuple(
        axis.size * binning if extent is None else _pixels(extent, pixel, name)
        for extent, name in ((depth, "depth"), (width, "width"))
    )
    alignment = series.alignment
    shifts = None if alignment is None else alignment.geometry_shifts
    return TiltGeometry(
        tilts=tilts,
        detector_width=axis.size,
        volume_shape=shape,
        pixel_size=pixel,
        axis_offset=series.axis_offset,
        shifts=shifts,
        binning=binning,
    )


def estimate_depth(series) -> float:
    """Estimate the depth that the volume of a specimen needs, inclination included.

    Reconstructions do so themselves where the alignment did not find it, with ``depth="auto"``.

    Returns
    -------
    float
        In nm (px without calibration); the width of the detector where the images do not tell. See
        `hyperspy_multitomo.tomography.estimate_depth`; it takes seconds.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).random((5, 4, 16))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-40, -20, 0, 20, 40], pixel_size=2.0)
    >>> 8 <= haadf.estimate_depth() <= 32
    True
    """
    from hyperspy_multitomo import tomography

    return tomography.estimate_depth(projections(series)[0], series.geometry(), gains=series.gains)


def _check_units(series) -> None:
    """Warn of axes that are calibrated in part; an error for one that is no length."""
    axes = {axis["name"]: axis for axis in axes_of(series) if axis["name"] in ("x", "y")}
    what = f"the {series.metadata.General.title} series"
    pixel_sides(
        {name: calibrated(name, axis, what) for name, axis in axes.items()}, what, tuple(axes)
    )


def _pixels(extent: float, pixel: float, name: str) -> int:
    if isinstance(extent, str):
        raise ValueError(
            f"{name}={extent!r} is for reconstructions, which look at the data; a geometry takes a "
            "length in nm (px without calibration), or None for as wide as the detector"
        )
    if not (math.isfinite(extent) and extent > 0):
        raise ValueError(
            f"{name}={extent!r} must be a positive length in nm (px without calibration)"
        )
    voxels = max(1, round(extent / pixel))
    if voxels < _FEWEST:
        raise ValueError(
            f"{name}={extent!r} is {voxels} voxel of {pixel:g}; expected {_FEWEST} voxels or more"
        )
    return voxels
