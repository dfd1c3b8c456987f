# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions of a volume: ellipsoids, boxes and masks, and the voxels around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.arguments import checked

# Voxels next to a region whose content is neither the region's nor its surroundings', since a
# reconstruction mixes both, and voxels beyond that which are its surroundings.
RIM, SHELL = 1, 2
# Voxels around a region in which the element's own volume is not taken as it is, since the region's
# contrast leaks that far, and voxels beyond that which tell what is taken instead.
REACH, FAR_SHELL = 5, 3


@checked(centre=None, radii=None)
@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with axes along x, y and z.

    Parameters
    ----------
    centre : (float, float, float)
        x, y and z in the coordinates of the volume's axes: nm, or px without calibration. z is 0
        in the middle of the volume; x and y are as in the images.
    radii : float or (float, float, float)
        One radius, or those along x, y and z.

    Raises
    ------
    ValueError
        For numbers that are not finite, or a radius that is not positive.

    Examples
    --------
    >>> grain = Ellipsoid((12.0, 8.0, 0.0), 2.5)
    >>> grain.contains(x=12.0, y=8.0, z=2.0), grain.contains(x=12.0, y=8.0, z=3.0)
    (True, False)
    """

    centre: Sequence[float]
    radii: float | Sequence[float]

    def __post_init__(self):
        object.__setattr__(self, "centre", _three("centre", self.centre))
        object.__setattr__(self, "radii", _sizes("radii", self.radii))

    def contains(self, x, y, z):
        """Say of each point whether it is inside; coordinates broadcast."""
        places = zip((x, y, z), self.centre, self.radii, strict=True)
        inside = sum(np.square((place - middle) / radius) for place, middle, radius in places) <= 1
        return bool(inside) if np.ndim(inside) == 0 else inside


@checked(centre=None, sides=None)
@dataclass(frozen=True)
class Box:
    """A box with edges along x, y and z.

    Parameters
    ----------
    centre : (float, float, float)
        x, y and z in the coordinates of the volume's axes: nm, or px without calibration. z is 0
        in the middle of the volume; x and y are as in the images.
    sides : float or (float, float, float)
        One length, or those along x, y and z.

    Raises
    ------
    ValueError
        For numbers that are not finite, or a side that is not positive.

    Examples
    --------
    >>> Box((12.0, 8.0, 0.0), (4.0, 4.0, 2.0)).contains(x=13.0, y=8.0, z=2.0)
    False
    """

    centre: Sequence[float]
    sides: float | Sequence[float]

    def __post_init__(self):
        object.__setattr__(self, "centre", _three("centre", self.centre))
        object.__setattr__(self, "sides", _sizes("sides", self.sides))

    def contains(self, x, y, z):
        """Say of each point whether it is inside; coordinates broadcast."""
        places = zip((x, y, z), self.centre, self.sides, strict=True)
        inside = reduce(
            np.logical_and,
            (np.abs(place - middle) <= side / 2 for place, middle, side in places),
        )
        return bool(inside) if np.ndim(inside) == 0 else inside


def named_regions(regions) -> dict[str, object]:
    """Return regions by name: one, a list of them or a dict."""
    if isinstance(regions, Mapping):
        parameters.names("region", regions)
        named = dict(regions)
    elif isinstance(regions, list | tuple):
        named = {str(number): one for number, one in enumerate(regions, 1)}
    else:
        named = {"1": regions}
    if not named:
        raise ValueError("there is no region: pass a mask, an Ellipsoid or a Box, or some of them")
    return named


def voxels_of(region, coordinates: Mapping[str, np.ndarray], name: str = "region") -> np.ndarray:
    """Return the voxels (z, x, y) of an `Ellipsoid` or a `Box`.

    Parameters
    ----------
    region : Ellipsoid or Box
    coordinates : dict of arrays
        Of the voxels' centres along x, y and z.
    name : str
        For the error messages.

    Raises
    ------
    ValueError
        Where it reaches out of the volume, or holds no voxel.
    """
    halves = np.asarray(region.radii if hasattr(region, "radii") else region.sides, float)
    halves = halves if hasattr(region, "radii") else halves / 2
    for axis, middle, half in zip("xyz", region.centre, halves, strict=True):
        places = coordinates[axis]
        step = abs(places[1] - places[0]) / 2 if len(places) > 1 else np.inf
        low, high = places.min() - step, places.max() + step
        if middle - half < low - 1e-6 or middle + half > high + 1e-6:
            raise ValueError(
                f"{name} goes from {axis} = {middle - half:.4g} to {middle + half:.4g}, but the "
                f"volume from {low:.4g} to {high:.4g}: move it, or make it smaller"
            )
    inside = region.contains(
        coordinates["x"][None, :, None],
        coordinates["y"][None, None, :],
        coordinates["z"][:, None, None],
    )
    if not inside.any():
        raise ValueError(f"{name}, {region}, holds the centre of no voxel: make it larger")
    return inside


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """A region and what is around it, on the voxels of a box of the volume.

    Attributes
    ----------
    box : tuple of slice
        z, x and y of the box in the volume.
    region, filled, shell, whole : array of bool (z, x, y)
        The region; with its rim, which is filled from the shell; the shell around that, of voxels
        within the outline; and all of them within the outline.
    wide, far_shell : array of bool (z, x, y)
        What is filled in the element's own volume, and the shell that tells with what.
    """

    box: tuple[slice, ...]
    region: np.ndarray
    filled: np.ndarray
    shell: np.ndarray
    whole: np.ndarray
    wide: np.ndarray
    far_shell: np.ndarray

    @classmethod
    def of(cls, region: np.ndarray, outline: np.ndarray) -> Neighbourhood:
        """Return the neighbourhood of a region, (z, x, y), in an outline.

        Raises
        ------
        ValueError
            Where nothing of the outline is around the region.
        """
        reach, most = RIM + SHELL, REACH + FAR_SHELL
        spans = [np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        box = tuple(
            slice(max(0, span[0] - most), min(size, span[-1] + 1 + most))
            for span, size in zip(spans, region.shape, strict=True)
        )
        inner, within = region[box], outline[box]
        distance = distances(inner)
        filled = distance <= RIM
        shell = (distance <= reach) & ~filled & within
        if shell.sum() < inner.sum() / 4:
            raise ValueError(
                f"around the region of {inner.sum()} voxels only {shell.sum()} of the outline "
                "are left to compare it with: make it smaller, or pass the outline as mask="
            )
        wide = distance <= REACH
        far = (distance <= most) & ~wide & within
        whole = (distance <= reach) & within
        return cls(box, inner, filled, shell, whole, wide, far if far.any() else shell)


def distances(mask: np.ndarray) -> np.ndarray:
    """Return how far each voxel is from a mask, in voxels; 0 in it."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~mask)


def grown(mask: np.ndarray, voxels: float) -> np.ndarray:
    """Return a mask grown by some voxels, or shrunk by a negative number of them.

    The edge of the volume is no surface: what touches it goes on behind.
    """
    if voxels == 0:
        return mask
    if voxels > 0:
        return distances(mask) <= voxels
    width = int(np.ceil(-voxels)) + 1
    padded = np.pad(mask, width, mode="edge")
    return (distances(~padded) > -voxels)[(slice(width, -width),) * 3]


def _three(name: str, values) -> tuple[float, ...]:
    return tuple(float(one) for one in parameters.numbers(name, values, 3))


def _sizes(name: str, values) -> tuple[float, ...]:
    sizes = (values,) * 3 if np.ndim(values) == 0 else values
    if min(sizes := _three(name, sizes)) <= 0:
        raise ValueError(f"{name}={values!r} must be one positive number or three, along x, y, z")
    return sizes
