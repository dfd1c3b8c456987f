# SPDX-License-Identifier: GPL-3.0-or-later
"""Coarser grids for smooth quantities: means of volumes, their geometry, and interpolation back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.tomography import TiltGeometry

__all__ = ["coarse_geometry", "cube_means", "finer"]


def cube_means(volumes, size: int, binning: int = 1):
    """Return the means over cubes of `size` voxels, for NumPy or dask arrays.

    Parameters
    ----------
    volumes : array (channel, z, x, y)
    size : int
    binning : int, default 1
        Voxels along the edge of a detector pixel; the number of cubes along y is a multiple of it.

    Returns
    -------
    array (channel, z, x, y)
        Cubes are symmetric about the middle along z and x, and begin with the first slice along y.
        The volume is padded with zeros.

    Examples
    --------
    >>> import numpy as np
    >>> cube_means(np.ones((1, 2, 4, 3)), 2)
    array([[[[1. , 0.5],
             [1. , 0.5]]]])
    """
    if size == 1:
        return volumes
    nz, nx, ny = volumes.shape[1:]
    padding = [(0, 0), *(_padding(n, size) for n in (nz, nx)), (0, -ny % (size * binning))]
    volumes = np.pad(volumes, padding)
    if is_lazy(volumes):
        import dask.array as da

        return da.coarsen(np.mean, volumes, {1: size, 2: size, 3: size})
    z, x, y = (n // size for n in volumes.shape[1:])
    return volumes.reshape(len(volumes), z, size, x, size, y, size).mean(axis=(2, 4, 6))


def coarse_geometry(geometry: TiltGeometry, size: int) -> TiltGeometry:
    """Return the geometry of `cube_means` of a volume, with detector pixels coarser by `size`.

    Parameters
    ----------
    geometry : TiltGeometry
        Of the volume.
    size : int
        Voxels along the edge of a cube, and detector pixels along that of a coarser one.

    Returns
    -------
    TiltGeometry
        Every point of the specimen is projected to the same place on the detector as before.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry
    >>> coarse = coarse_geometry(TiltGeometry([0.0, 90.0], 5, pixel_size=2.0), 2)
    >>> coarse.detector_width, coarse.volume_shape, coarse.pixel_size
    (3, (3, 3), 4.0)
    """
    if size == 1:
        return geometry
    volume_shape = geometry.volume_shape
    assert volume_shape is not None, "the geometry fills in its default"
    # Shifts of the middles of the padded volume and detector.
    middles = [_middle_shift(n, size) for n in volume_shape]
    across = _middle_shift(geometry.detector_width, size)
    moved = geometry.directions @ np.array([middles[1], middles[0]]) / geometry.binning - across
    return replace(
        geometry,
        detector_width=-(-geometry.detector_width // size),
        volume_shape=(-(-volume_shape[0] // size), -(-volume_shape[1] // size)),
        pixel_size=geometry.pixel_size * size,
        axis_offset=geometry.axis_offset / size,
        shifts=(np.asarray(geometry.shifts) + moved) / size,
    )


def finer(rays: np.ndarray, size: int, width: int, rows: slice) -> np.ndarray:
    """Interpolate values of coarser detector pixels linearly at the original pixels.

    Parameters
    ----------
    rays : numpy.ndarray (channel, tilt, x, y)
        On the detector of `coarse_geometry`.
    size : int
        Detector pixels along the edge of a coarser one.
    width : int
        Detector pixels across the tilt axis.
    rows : slice
        Detector pixels along the tilt axis.

    Returns
    -------
    numpy.ndarray (channel, tilt, x, y), float32

    Examples
    --------
    >>> import numpy as np
    >>> finer(np.array([0.0, 1.0]).reshape(1, 1, 2, 1), 2, 4, slice(0, 1)).ravel()
    array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    if size == 1:
        return np.asarray(rays[..., rows], dtype=np.float32)
    before = _padding(width, size)[0]
    rays = _interpolated_along(rays, (np.arange(width) + before + 0.5) / size - 0.5, 2)
    return _interpolated_along(rays, (np.arange(rows.start, rows.stop) + 0.5) / size - 0.5, 3)


def _interpolated_along(rays: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Return linear interpolations along an axis, constant beyond the ends."""
    last = rays.shape[axis] - 1
    lower = np.clip(np.floor(places), 0, last).astype(int)
    upper = np.minimum(lower + 1, last)
    share = np.clip(places - lower, 0, 1).astype(np.float32)
    share = share.reshape(-1, *(1,) * (rays.ndim - 1 - axis))
    return (np.take(rays, lower, axis) * (1 - share) + np.take(rays, upper, axis) * share).astype(
        np.float32
    )


def _padding(n: int, size: int) -> tuple[int, int]:
    """Return the padding before and after `n` voxels that makes whole blocks."""
    missing = -n % size
    return missing // 2, missing - missing // 2


def _middle_shift(n: int, size: int) -> float:
    """Return the shift of the middle of `n` voxels by the padding."""
    before, after = _padding(n, size)
    return (after - before) / 2
