# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series and volumes made from arrays, signals and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.build import build_series, build_volume, stack_channels
from hyperspy_multitomo.signals.gate import images_of, volumes_of

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.elemental_series import ElementalTiltSeries
    from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF
    from hyperspy_multitomo.signals.volume import TomographicVolume


@checked(tilts=None, pixel_size=None)
def from_images(
    cls,
    images,
    tilts=None,
    pixel_size: float | Sequence[float] | None = None,
    *,
    tilt_axis: str = "y",
    reverse_tilts: bool = False,
    duplicates: str = "error",
) -> TiltSeriesHAADF:
    """Make a series from images and their tilts.

    Parameters
    ----------
    images : array-like, dask array, Signal2D or path-like
        Shape (tilt, y, x), in the order of acquisition or any other. A dask array makes a lazy
        series, a path is read. The axes of a signal may be in any order, if they are called x,
        y and tilt (also width, height, angle, alpha ...); those without a name go by their
        place.
    tilts : array-like of float or path-like, optional
        Tilt of each image in degrees, or the file that lists them; by default those of the
        signal (its axis may be in radians) or file.
    pixel_size : float or (float, float), optional
        In nm, of both sides or (y, x); by default that of the signal, whose offsets are kept.
        Without one lengths are in px.
    tilt_axis : {"y", "x"}, default "y"
        Direction of the tilt axis in `images`; with ``"x"`` the images are transposed, so that
        it is y here.
    reverse_tilts : bool, default False
        Change the sign of the tilts, for data of the other handedness.
    duplicates : {"error", "merge"}, default "error"
        What to do with images of the same tilt; ``"merge"`` averages images.

    Returns
    -------
    TiltSeriesHAADF
        Sorted by tilt, with the acquisition order in the metadata.

    Raises
    ------
    ValueError
        For the wrong number of tilts, equal, duplicate or NaN tilts, images that are masked,
        not finite or no real numbers, and axes in units that they cannot have.

    Warns
    -----
    UserWarning
        Of tilts without a unit that look like radians, and of units that are none.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> mt.TiltSeriesHAADF.from_images(np.ones((3, 8, 10)), tilts=[40, 0, -40], pixel_size=0.5)
    <TiltSeriesHAADF, title: HAADF, dimensions: (3|10, 8)>
    """
    found = images_of(images, tilts, pixel_size)
    return build_series(
        cls,
        found.data,
        found.tilts,
        found.sides,
        offsets=found.offsets,
        tilt_axis=tilt_axis,
        reverse_tilts=reverse_tilts,
        duplicates=duplicates,
        metadata=found.metadata,
        title="HAADF",
    )


@checked(maps=None, tilts=None, pixel_size=None)
def from_maps(
    cls,
    maps: Mapping,
    tilts=None,
    pixel_size: float | Sequence[float] | None = None,
    *,
    tilt_axis: str = "y",
    reverse_tilts: bool = False,
    duplicates: str = "error",
) -> ElementalTiltSeries:
    """Make a series from the maps of each element and their tilts.

    Parameters
    ----------
    maps : dict of str to array-like, dask array, Signal2D or path-like
        For each element its maps, shape (tilt, y, x), in counts; a path is read through
        RosettaSciIO. Axes of signals go by their names, as in `TiltSeriesHAADF.from_images`.
    tilts : array-like of float or path-like, optional
        Tilt of each map in degrees, or the file that lists them; by default from the signals or
        files.
    pixel_size : float or (float, float), optional
        In nm, of both sides or (y, x); by default that of the signals or files.
    tilt_axis, reverse_tilts, duplicates
        As in `TiltSeriesHAADF.from_images`; merging sums maps of equal tilts and sets their
        gain to their number.

    Returns
    -------
    TiltSeriesEDS or TiltSeriesEELS
        Of the class that it is called on.

    Raises
    ------
    ValueError
        For maps of different shape or calibration, data that are not finite, or tilts that do
        not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = {"Yb": np.ones((3, 8, 10)), "Al": np.ones((3, 8, 10))}
    >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=[-40, 0, 40], pixel_size=0.76)
    >>> eds.elements, eds
    (('Yb', 'Al'), <TiltSeriesEDS, title: EDS, dimensions: (2, 3|10, 8)>)
    """
    if not isinstance(maps, Mapping) or not maps:
        raise ValueError(
            'maps must be a dict with the maps of each element, e.g. {"Yb": yb, "Al": al}'
        )
    read = {
        name: images_of(item, tilts, pixel_size, f"the maps of {name}")
        for name, item in maps.items()
    }
    first, one = next(iter(read.items()))
    for name, other in read.items():
        if other.data.shape != one.data.shape:
            raise ValueError(
                f"the maps of {name} have the shape {other.data.shape} but those of {first} "
                f"have {one.data.shape}"
            )
        if not np.array_equal(other.tilts, one.tilts):
            raise ValueError(
                f"the maps of {name} have other tilts than those of {first}; give maps of the "
                "same tilts"
            )
        if not np.allclose(other.scan, one.scan, rtol=1e-4, equal_nan=True):
            raise ValueError(
                f"the maps of {name} have another pixel size or position, {other.sides} nm "
                f"from {other.offsets} nm, than "
                f"those of {first}, {one.sides} nm from {one.offsets} nm (y, x); calibrate all "
                "alike, or pass pixel_size="
            )
    stacked = stack_channels([item.data for item in read.values()], axis=1)
    return build_series(
        cls,
        stacked,
        one.tilts,
        one.sides,
        offsets=one.offsets,
        channels=tuple(maps),
        tilt_axis=tilt_axis,
        reverse_tilts=reverse_tilts,
        duplicates=duplicates,
        metadata=one.metadata,
        title=cls._TITLE,
    )


@checked
def from_arrays(
    cls, volumes, pixel_size: float | None = None, *, like=None, quantity: str = ""
) -> TomographicVolume:
    """Make a volume from one array per channel.

    Parameters
    ----------
    volumes : dict of str to array or signal, shape (z, y, x), or one of them
        One volume for each channel, or a single volume without the axis ``element``. Axes of
        signals go by their names.
    pixel_size : float, optional
        In nm; the three axes are centred on the tilt axis along x and z. By default the axes
        are those of signals.
    like : TomographicVolume, optional
        Take axes and acquisition metadata from this one instead.
    quantity : str, default ""
        What the voxels hold, e.g. ``"counts / nm"``.

    Returns
    -------
    TomographicVolume

    Raises
    ------
    ValueError
        For volumes that are masked, of different shape or calibration, or no real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> volume = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 5, 6))}, pixel_size=0.5)
    >>> volume["Au"].data.shape, "Ag" in volume
    ((4, 5, 6), False)
    """
    named = isinstance(volumes, Mapping)
    names = tuple(volumes) if named else ("the object",)
    arrays, axes = volumes_of(list(volumes.values()) if named else [volumes], names)
    axes = axes if pixel_size is None and like is None else None
    how = dict(like=like, quantity=quantity, axes=axes)
    if not named:
        return build_volume(arrays[0], None, pixel_size, **how)
    return build_volume(stack_channels(arrays, axis=1), names, pixel_size, **how)
