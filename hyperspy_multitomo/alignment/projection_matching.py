# SPDX-License-Identifier: GPL-3.0-or-later
"""Projection matching: registration to projections of a reconstruction, on grids coarse to fine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.binned_images import (
    MovingImages,
    Placement,
    common_view,
    positions,
)
from hyperspy_multitomo.alignment.centre_of_mass import AXIS_SPREAD, point_path
from hyperspy_multitomo.alignment.series_checks import check_features, checked_series
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.machine.denormals import denormals_flushed
from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt
from hyperspy_multitomo.tomography.specimen_extent import sides_in_view, without_film

__all__ = ["projection_matching_shifts"]

# Shifts are found to 1/_UPSAMPLING of a pixel.
_UPSAMPLING = 20
# Pixels across the view on the first grid; largest step, in pixels, at which shifts have converged.
_FIRST, _ARRIVED = 64, 0.05
# Depth of the volume of a specimen that is cut by the view, as a fraction of its width.
_DEPTH = 0.4


@one_blas_thread()
def projection_matching_shifts(
    images: ArrayLike,
    tilts: ArrayLike,
    start: Alignment,
    *,
    rounds: int = 10,
    iterations: int = 15,
    progress: Callable[[str], object] | None = None,
) -> Alignment:
    """Refine shifts by registering each image to the projection of a reconstruction from all.

    All slices are reconstructed together, by SIRT without negative values, first from binned
    images. The rotation is not changed. Errors that vary slowly with the tilt are absorbed by the
    reconstruction and converge slowly; `refine` has no such modes.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As recorded.
    tilts : array_like (tilt,)
        Degrees.
    start : Alignment
        Right to a few pixels.
    rounds : int, default 10
        Reconstructions on each grid at most.
    iterations : int, default 15
        Of SIRT.
    progress : callable, optional
        Called with a line of text after each grid.

    Returns
    -------
    Alignment
        With the rotation of the start.

    Raises
    ------
    ValueError
        For bad images, or numbers below 1.

    References
    ----------
    P. A. Penczek, M. Radermacher, J. Frank, Ultramicroscopy 40 (1992) 33,
    doi:10.1016/0304-3991(92)90233-A.

    Examples
    --------
    >>> from hyperspy_multitomo.simulation import misaligned
    >>> tilts = np.arange(-60, 61, 10)
    >>> series = misaligned("needle", size=48, tilts=tilts, shift=1.0, axis_offset=0, rotation=0)
    >>> found = projection_matching_shifts(series.haadf, series.tilts, Alignment.identity(13))
    >>> bool(np.std(found.along - series.alignment.along) < 0.2)
    True
    """
    images, tilts = checked_series(images, tilts, fewest=3)
    check_features(images, tilts)
    if len(start) != len(tilts) or min(rounds, iterations) < 1:
        raise ValueError(
            f"expected a start of {len(tilts)} tilts and rounds and iterations from 1; got "
            f"{len(start)}, {rounds}"
        )
    whole = sides_in_view(images)
    images = without_film(images) if whole[0] else images
    extent, angle = images.shape[1:], np.deg2rad(start.rotation)
    placement = Placement(start.across, start.along, angle).moved(
        np.full(len(tilts), -start.axis_offset), np.zeros(len(tilts))
    )
    finest = max(1, round(extent[0] / 256))
    for bins in sorted({max(finest, round(extent[0] / _FIRST)), finest}, reverse=True):
        moving = MovingImages(images, bins)
        for count in range(1, rounds + 1):  # noqa: B007
            steps = _round(moving, placement, tilts, whole, extent, iterations)
            placement = placement.moved(*steps)
            if np.abs(steps).max() <= _ARRIVED * moving.step:
                break
        if progress is not None:
            progress(f"projection matching on a grid of {bins} px: {count} rounds")
    turned = placement.turned
    offset, path = point_path(-turned[0], tilts, axis=AXIS_SPREAD * extent[0], height=0.0)
    placement = placement.moved(path, -np.full(len(tilts), turned[1].mean()))
    return Alignment(
        placement.across, placement.along, offset, start.rotation, tilts, start.pixel_size
    )


@denormals_flushed()
def _round(
    moving: MovingImages,
    placement: Placement,
    tilts: np.ndarray,
    whole: tuple[bool, bool],
    extent: tuple[int, int],
    iterations: int,
) -> np.ndarray:
    """Return the shifts from images to projections of their reconstruction, px, (2, tilt)."""
    from skimage.registration import phase_cross_correlation

    ranges = [
        (-size / 2, size / 2) if inside else limits
        for size, inside, limits in zip(extent, whole, common_view(placement, extent), strict=True)
    ]
    u, y = (positions(*limits, moving.step) for limits in ranges)
    data = moving.sample(placement, u, y)
    A = projector(_geometry(tilts, u, whole[0]))
    expected = A(run(sirt(A, data), iterations).volume)
    taper = np.outer(*(np.hanning(len(side) + 2)[1:-1] for side in (u, y))).astype(np.float32)
    steps = np.empty((2, len(tilts)))
    for t in range(len(tilts)):
        pair = [
            (image - (image * taper).sum() / taper.sum()) * taper
            for image in (expected[t], data[t])
        ]
        steps[:, t] = phase_cross_correlation(
            *pair, upsample_factor=_UPSAMPLING, normalization=None
        )[0]
    steps[1] -= steps[1].mean()
    return steps * moving.step


def _geometry(tilts: np.ndarray, u: np.ndarray, whole: bool) -> TiltGeometry:
    """Return the geometry of rays at u from the axis; its pixels are the steps between rays.

    The volume of a specimen that is cut by the view extends beyond it.
    """
    step, middle = u[1] - u[0], (u[0] + u[-1]) / 2
    offset = -middle / step
    reach = len(u) / 2 + abs(offset)
    if whole:
        shape = (int(np.ceil(2 * reach)),) * 2
    else:
        steepest = max(0.1, np.cos(np.deg2rad(tilts)).min())
        depth = max(4, round(_DEPTH * len(u)))
        shape = (depth, int(np.ceil((2 * reach + depth * np.sqrt(1 - steepest**2)) / steepest)))
    return TiltGeometry(tilts.tolist(), len(u), shape, axis_offset=offset)
