# SPDX-License-Identifier: GPL-3.0-or-later
"""The alignment of a tilt series: what moves each image into place, and the one resampling that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Alignment"]


@dataclass(frozen=True, eq=False)
class Alignment:
    """
    Shifts per tilt, in-plane rotation and position of the tilt axis.

    The order is: shifts, in the unrotated frame; then the rotation about the image centre (n-1)/2; then the offset, which is
    where the tilt axis lies in the images so aligned. It moves nothing: the projection geometry takes it.

    Parameters
    ----------
    across, along : array_like (tilt,)
        What has to be added to the object's position x (across the tilt axis) and y (along it) to put it in place, px:
        ``aligned = shift(image, (across, along))``.
    axis_offset : float, default 0
        The tilt axis of the aligned images is at x = (n-1)/2 + axis_offset, px.
    rotation : float, default 0
        In-plane rotation in degrees, positive from +x towards +y.

    Raises
    ------
    ValueError
        If the numbers of shifts differ or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((1, 5, 3)); image[0, 1, 1] = 1.0
    >>> alignment = Alignment(across=[2.0], along=[-1.0])
    >>> np.argwhere(alignment.apply(image))
    array([[0, 3, 0]])
    >>> alignment.geometry_shifts
    array([-2.])
    """

    across: np.ndarray
    along: np.ndarray
    axis_offset: float = 0.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("across", "along"):
            shifts = np.array(getattr(self, name), dtype=np.float64)
            if shifts.ndim != 1 or not np.isfinite(shifts).all():
                raise ValueError(f"`{name}` is {shifts}; expected one finite shift in px per tilt")
            shifts.flags.writeable = False
            object.__setattr__(self, name, shifts)
        if len(self.across) != len(self.along):
            raise ValueError(f"`across` has {len(self.across)} shifts and `along` {len(self.along)}; give one of each per tilt")
        for name in ("axis_offset", "rotation"):
            value = float(getattr(self, name))
            if not np.isfinite(value):
                raise ValueError(f"`{name}` is {value}; it has to be finite")
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return the number of tilts."""
        return len(self.across)

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return isinstance(other, Alignment) and self._key() == other._key()

    def __hash__(self) -> int:
        """Agree with the comparison by value."""
        return hash(self._key())

    @classmethod
    def identity(cls, tilts: int) -> Alignment:
        """Return the alignment of `tilts` images that are in place."""
        return cls(np.zeros(tilts), np.zeros(tilts))

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Alignment:
        """Restore what `as_dict` returned."""
        return cls(held["across"], held["along"], held["axis_offset"], held["rotation"])

    def as_dict(self) -> dict[str, Any]:
        """Return lists and plain numbers."""
        return {
            "across": self.across.tolist(),
            "along": self.along.tolist(),
            "axis_offset": self.axis_offset,
            "rotation": self.rotation,
        }

    def subset(self, tilts: slice | ArrayLike) -> Alignment:
        """Return the alignment of some of the tilts: a slice, indices or a boolean mask."""
        chosen = tilts if isinstance(tilts, slice) else np.asarray(tilts)
        return Alignment(self.across[chosen], self.along[chosen], self.axis_offset, self.rotation)

    @property
    def geometry_shifts(self) -> np.ndarray:
        """
        Displacement of each image across the axis that the projection geometry takes (tilt,), px.

        ``TiltGeometry(shifts=...)`` says where the recorded object is, hence the opposite sign. With a rotation the images are
        resampled in any case, and nothing is left to the geometry.
        """
        return np.zeros(len(self)) if self.rotation else -self.across

    def apply(self, images: ArrayLike, *, for_geometry: bool = False) -> np.ndarray:
        """
        Move the images into place in one resampling.

        Linear interpolation, because it keeps counts non-negative and conserves their sum (but for what leaves the view); whole
        pixels move without any loss. What enters the view is zero.

        Parameters
        ----------
        images : array_like (..., tilt, x, y)
            Images as recorded; any leading axes, e.g. channels.
        for_geometry : bool, default False
            True leaves to the projection geometry what it can take (`geometry_shifts`), so that the images are resampled
            only along the axis, or not at all.

        Returns
        -------
        numpy.ndarray (..., tilt, x, y)
            float32. The input itself where nothing moves and it is float32.

        Raises
        ------
        ValueError
            If the number of images is not that of the shifts.
        """
        images = np.asarray(images, dtype=np.float32)
        if images.ndim < 3 or images.shape[-3] != len(self):
            raise ValueError(f"the images have shape {images.shape}; expected (..., tilt, x, y) with {len(self)} tilts")
        across = self.across + self.geometry_shifts if for_geometry else self.across
        if not (across.any() or self.along.any() or self.rotation):
            return images
        aligned = np.empty_like(images)
        for t, shifts in enumerate(zip(across, self.along, strict=True)):
            for leading in np.ndindex(images.shape[:-3]):
                place = (*leading, t)
                aligned[place] = (
                    _rotated(images[place], shifts, self.rotation) if self.rotation else _moved(images[place], shifts)
                )
        return aligned

    def _key(self) -> tuple:
        return (tuple(self.across), tuple(self.along), self.axis_offset, self.rotation)


def _moved(image: np.ndarray, shifts: tuple[float, float]) -> np.ndarray:
    """Shift along both axes by linear interpolation, a product of two one-dimensional ones."""
    for axis, shift in enumerate(shifts):
        whole = int(np.floor(shift))
        part = np.float32(shift - whole)
        near = _moved_whole(image, whole, axis)
        image = near if part == 0 else (1 - part) * near + part * _moved_whole(image, whole + 1, axis)
    return image


def _moved_whole(image: np.ndarray, shift: int, axis: int) -> np.ndarray:
    size = image.shape[axis]
    moved = np.zeros_like(image)
    source, target = [slice(None)] * image.ndim, [slice(None)] * image.ndim
    source[axis] = slice(max(0, -shift), max(0, size - max(0, shift)))
    target[axis] = slice(max(0, shift), max(0, size + min(0, shift)))
    if abs(shift) < size:
        moved[tuple(target)] = image[tuple(source)]
    return moved


def _rotated(image: np.ndarray, shifts: tuple[float, float], rotation: float) -> np.ndarray:
    """Shift, then rotate about the centre, in one linear interpolation."""
    from scipy.ndimage import affine_transform

    angle = np.deg2rad(rotation)
    # The object at v moves to R (v + s - c) + c; so the image at u is taken from R' (u - c) + c - s.
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - np.array(shifts) - inverse @ centre
    return affine_transform(image, inverse, offset, order=1, mode="constant", cval=0.0)
