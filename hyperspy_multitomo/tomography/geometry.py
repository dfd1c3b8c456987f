# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilt geometry: where the centre of every voxel falls on the detector at every tilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import cast

import numpy as np

from hyperspy_multitomo.arguments import checked, listed, real
from hyperspy_multitomo.parameters import array

# px: positions beyond it would lose their fractions in the single precision of the projectors.
FARTHEST = 1e6


def _per_tilt(name: str, values, length: int | None = None) -> tuple[float, ...]:
    """Return `values` as a tuple of finite floats, one per tilt, or say what is wrong with them."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"`{name}` has the shape {array.shape}; expected one number per tilt, a list that is "
            "not empty"
        )
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array)).tolist()
        raise ValueError(
            f"`{name}` is not finite at the positions {bad}; drop those tilts or give their values"
        )
    if length is not None and array.size != length:
        raise ValueError(
            f"`{name}` has {array.size} values but there are {length} tilts; pass one value per "
            "tilt"
        )
    return tuple(array.tolist())


def _size(name: str, value) -> int:
    """Return `value` as a number of pixels, at least two, or say what is wrong with it."""
    if not isinstance(value, Integral) or value < 2:
        raise ValueError(f"`{name}` is {value!r}; expected a whole number of pixels, 2 or more")
    return int(value)


@checked(
    binning=None, tilts=array, shifts=array, volume_shape=listed, pixel_size=real, axis_offset=real
)
@dataclass(frozen=True)
class TiltGeometry:
    """Parallel-beam geometry of one tilt series on a volume grid, equal and hashable by value.

    The centre of voxel (x, z) falls at tilt t on the detector coordinate (pixels, counted from 0)::

        u = (nu - 1)/2 + axis_offset + shifts[t] + x' cos t + z' sin t,
        x' = x - (nx - 1)/2,  z' = z - (nz - 1)/2

    Every slice y along the tilt axis is projected alike. Modalities on the same volume grid may
    have geometries with different tilts, and with `binning` different pixels: a detector pixel is
    `binning` voxels wide, across the tilt axis and along it, x' and z' above are divided by it, and
    a projection is the mean of the line integrals through the `binning` x `binning` voxel columns
    that a pixel covers.

    Parameters
    ----------
    tilts : sequence of float
        Tilt angles in degrees, in any order, kept as a tuple.
    detector_width : int
        Number of detector pixels across the tilt axis (x of the projections).
    volume_shape : (int, int), optional
        Voxels along z and x; by default both are `detector_width` times `binning`.
    pixel_size : float, default 1.0
        Edge of a voxel, in nm (or any unit of length): line integrals come out in it.
    axis_offset : float, default 0.0
        Detector pixels by which the tilt axis lies beyond the middle of the detector, (nu - 1)/2.
    shifts : sequence of float, optional
        Detector pixels by which each recorded projection is displaced towards +x; by default none
        is. Kept as a tuple.
    binning : int, default 1
        Voxels along the edge of a detector pixel.

    Raises
    ------
    ValueError
        If tilts or shifts are not finite, their numbers differ, or a size is not positive.

    Examples
    --------
    >>> geometry = TiltGeometry([-60, 0, 60], detector_width=32, volume_shape=(16, 32))
    >>> geometry.tilts
    (-60.0, 0.0, 60.0)
    >>> geometry.volume_shape
    (16, 32)
    >>> geometry == TiltGeometry((-60.0, 0.0, 60.0), 32, (16, 32), shifts=[0, 0, 0])
    True
    """

    tilts: Sequence[float]
    detector_width: int
    volume_shape: tuple[int, int] | None = None
    pixel_size: float = 1.0
    axis_offset: float = 0.0
    shifts: Sequence[float] | None = None
    binning: int = 1

    def __post_init__(self):
        tilts = _per_tilt("tilts", self.tilts)
        width = _size("detector_width", self.detector_width)
        if not isinstance(self.binning, Integral) or self.binning < 1:
            raise ValueError(
                f"`binning` is {self.binning!r}; expected how many voxels wide a detector pixel "
                "is, a whole number from 1"
            )
        binning = int(self.binning)
        shape = (width * binning,) * 2 if self.volume_shape is None else tuple(self.volume_shape)
        if len(shape) != 2:
            raise ValueError(
                f"`volume_shape` is {self.volume_shape!r}; expected two numbers of voxels, (z, x)"
            )
        shape = (_size("volume_shape[0]", shape[0]), _size("volume_shape[1]", shape[1]))
        shifts = (
            (0.0,) * len(tilts)
            if self.shifts is None
            else _per_tilt("shifts", self.shifts, len(tilts))
        )
        pixel_size, axis_offset = float(self.pixel_size), float(self.axis_offset)
        if not (np.isfinite(pixel_size) and pixel_size > 0):
            raise ValueError(
                f"`pixel_size` is {self.pixel_size!r}; expected a positive length, in nm"
            )
        if not abs(axis_offset) < FARTHEST or max(map(abs, shifts)) >= FARTHEST:
            raise ValueError(
                f"`axis_offset` is {self.axis_offset!r} and the largest of `shifts` "
                f"{max(map(abs, shifts))}; "
                f"expected finite numbers of pixels below {FARTHEST:.0e}"
            )
        values = (tilts, width, shape, pixel_size, axis_offset, shifts, binning)
        for field, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, field, value)

    @property
    def fine(self) -> TiltGeometry:
        """The same geometry with detector pixels of one voxel; itself where they are."""
        if self.binning == 1:
            return self
        return replace(
            self,
            detector_width=self.detector_width * self.binning,
            axis_offset=self.axis_offset * self.binning,
            shifts=[shift * self.binning for shift in self.shifts or ()],
            binning=1,
        )

    @property
    def directions(self) -> np.ndarray:
        """The detector's axis (cos t, sin t) in the volume's frame (x, z), (tilt, 2)."""
        # Exact zeros at multiples of 90 degrees, so that rays along the grid stay on it.
        t = np.asarray(self.tilts)
        quarter = np.round(t / 90)
        rest = np.deg2rad(t - 90 * quarter)
        turn = quarter.astype(np.int64) % 4
        cos, sin = np.cos(rest), np.sin(rest)
        return np.stack(
            [np.choose(turn, [cos, -sin, -cos, sin]), np.choose(turn, [sin, cos, -sin, -cos])],
            axis=1,
        )

    @property
    def origins(self) -> np.ndarray:
        """Detector coordinate (px) of the volume's centre at every tilt, (tilt,)."""
        return (self.detector_width - 1) / 2 + self.axis_offset + np.asarray(self.shifts)


def volume_grid(geometry: TiltGeometry) -> tuple[int, int]:
    """Return the voxels along z and x; `volume_shape` is None only before a geometry is made."""
    return cast("tuple[int, int]", geometry.volume_shape)
