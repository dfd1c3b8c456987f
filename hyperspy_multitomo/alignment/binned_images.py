# SPDX-License-Identifier: GPL-3.0-or-later
"""Binned images, sampled at a trial alignment in one interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hyperspy_multitomo.alignment.resampling import rotation_matrix

# Standard deviation, in binned pixels, of the Gaussian that suppresses aliasing on the binned grid.
_BLUR = 0.6


@dataclass(frozen=True)
class Placement:
    """Trial alignment of a series: the tilt axis is at x = 0, and y = 0 is the middle.

    Attributes
    ----------
    across, along : numpy.ndarray (tilt,)
        Shifts before the rotation, px.
    rotation : float
        Radians, from +x towards +y.
    """

    across: np.ndarray
    along: np.ndarray
    rotation: float = 0.0

    @cached_property
    def turned(self) -> np.ndarray:
        """The shifts after the rotation, (2, tilt)."""
        return rotation_matrix(self.rotation) @ np.stack([self.across, self.along])

    def moved(self, dx: np.ndarray, dy: np.ndarray, turn: float = 0.0) -> Placement:
        """Return the placement with shifts added after the rotation, then a further rotation."""
        across, along = rotation_matrix(-self.rotation) @ np.stack([dx, dy])
        return Placement(self.across + across, self.along + along, self.rotation + turn)

    def of(self, places: np.ndarray) -> Placement:
        """Return the placement of some tilts."""
        return Placement(self.across[places], self.along[places], self.rotation)


class MovingImages:
    """Images (tilt, x, y), binned, as cubic splines.

    Parameters
    ----------
    images : numpy.ndarray (tilt, x, y)
        As recorded.
    bins : int
        Pixels along each edge of a binned pixel.
    bins_along : int, optional
        Pixels along its edge parallel to the tilt axis, fewer than `bins` where there are few
        slices; by default `bins`.
    pixel : float, default 1.0
        Edge of a pixel of these images, in px of the series that is aligned.
    """

    def __init__(
        self, images: np.ndarray, bins: int, pixel: float = 1.0, bins_along: int | None = None
    ):
        from scipy.ndimage import gaussian_filter, spline_filter

        self.shape = images.shape[1:]
        self._bins, self._pixel = (bins, bins_along or bins), pixel
        self.step, self.step_along = (b * pixel for b in self._bins)
        counts = [size // b for size, b in zip(self.shape, self._bins, strict=True)]
        self._starts = [
            (size - n * b) // 2 for size, n, b in zip(self.shape, counts, self._bins, strict=True)
        ]
        window = tuple(
            slice(start, start + n * b)
            for start, n, b in zip(self._starts, counts, self._bins, strict=True)
        )
        blocks = (len(images), counts[0], self._bins[0], counts[1], self._bins[1])
        binned = images[(slice(None), *window)].reshape(blocks).mean(axis=(2, 4))
        smooth = gaussian_filter(binned, (0, _BLUR, _BLUR))
        self._splines = np.stack(
            [spline_filter(image, order=3, mode="mirror", output=np.float32) for image in smooth]
        )

    def sample(self, placement: Placement, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the aligned images (tilt, u, y) at positions u across and y along the axis, px."""
        from scipy.ndimage import map_coordinates

        grid = np.meshgrid(u, y, indexing="ij")
        back = np.tensordot(rotation_matrix(-placement.rotation), np.stack(grid), 1)
        values = np.empty((len(self._splines), len(u), len(y)), np.float32)
        for t, shifts in enumerate(zip(placement.across, placement.along, strict=True)):
            places = [
                (((v - s) / self._pixel + (size - 1) / 2 - start) + 0.5) / b - 0.5
                for v, s, size, start, b in zip(
                    back, shifts, self.shape, self._starts, self._bins, strict=True
                )
            ]
            map_coordinates(
                self._splines[t], places, values[t], order=3, mode="nearest", prefilter=False
            )
        return values


def common_view(
    placement: Placement, extent: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges across and along the axis, px, that all aligned images cover.

    The extent (x, y) is that of one image, px.
    """
    ranges = []
    for axis, shifts in enumerate(placement.turned):
        # A rotated image is cut to the rectangle inside it.
        margin = abs(np.sin(placement.rotation)) * extent[1 - axis] / 2
        half = extent[axis] / 2
        ranges.append(
            (
                float(max(shifts.max(), 0) - half + margin),
                float(min(shifts.min(), 0) + half - margin),
            )
        )
    return ranges[0], ranges[1]


def positions(low: float, high: float, step: float) -> np.ndarray:
    """Return the centres of as many whole steps as fit between two ends, centred between them."""
    count = int((high - low) / step + 1e-6)
    return (np.arange(count) - (count - 1) / 2) * step + (low + high) / 2
