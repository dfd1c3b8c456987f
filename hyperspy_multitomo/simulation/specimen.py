# SPDX-License-Identifier: GPL-3.0-or-later
"""A phantom: a body known at every point, and the signals per unit of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hyperspy_multitomo.machine.parallel import Workers, thread_count

# Points along each edge of a voxel, whose mean is the truth of the voxel: outlines are then
# accurate to 1/16 of a voxel.
TRUTH_OVERSAMPLING = 4


@dataclass(frozen=True, eq=False)
class Phantom:
    """
    A body of known composition, with the settings that simulate its tilt series.

    Its physical size does not depend on `size`; along the tilt axis it fills `slices`.

    Attributes
    ----------
    name : str
        First author of the paper that the phantom follows.
    elements : tuple of str
        Names of the channels.
    unit : str
        Of `truth`.
    size : int
        Voxels along x and along z, pixels across the detector.
    slices : int
        Voxels along the tilt axis y; a phantom of one slice is the section through the middle.
    pixel_size : float
        nm.
    tilts : numpy.ndarray (tilt,)
        Tilts of the EDS series, degrees.
    haadf_tilts : numpy.ndarray (tilt,)
        Tilts of the HAADF series, degrees.
    counts_per_unit : numpy.ndarray (channel,)
        s_e, EDS counts per unit of `truth` and nm of path.
    haadf_per_unit : numpy.ndarray (channel,)
        z_e, HAADF signal per unit of `truth` and nm of path.
    blur : float
        Standard deviation, px, of the Gaussian along x that smooths the EDS maps after the
        counting.
    haadf_noise : "none" or "poisson"
        Poisson noise (the HAADF unit is then the electron), or none.
    body : callable
        ``body(x, z, y)`` gives (channel, z, x), in `unit`, at points in fractions of the half width
        (-1..1): x of shape (1, x), z of shape (z, 1), y a number. Several threads call it at once,
        with denormal floats flushed to 0.
    """

    name: str
    elements: tuple[str, ...]
    unit: str
    size: int
    slices: int
    pixel_size: float
    tilts: np.ndarray
    haadf_tilts: np.ndarray
    counts_per_unit: np.ndarray
    haadf_per_unit: np.ndarray
    blur: float
    haadf_noise: str
    body: Callable[[np.ndarray, np.ndarray, float], np.ndarray]

    def fine(self, factor: int = 1, start: int = 0, stop: int | None = None) -> np.ndarray:
        """
        Sample the body on a finer grid across the tilt axis.

        Parameters
        ----------
        factor : int, default 1
            Fine voxels along each edge (x and z) of a voxel of the reconstruction's grid. Along y
            each slice is the mean of `factor` planes.
        start, stop : int, optional
            First slice and the one after the last; by default all.

        Returns
        -------
        numpy.ndarray (channel, z, x, y), float32
            `factor` times as many voxels along z and x, in `unit`.

        Raises
        ------
        ValueError
            If `factor` is not a whole number from 1 up.
        """
        if factor < 1 or int(factor) != factor:
            raise ValueError(
                f"the factor is {factor!r}; expected a whole number of fine voxels per voxel, 1 or "
                "more"
            )
        stop = self.slices if stop is None else stop
        across = _unit_points(self.size * factor)
        x, z = across[None, :], across[:, None]
        planes = (
            _unit_points(self.slices * factor).reshape(self.slices, factor)
            if self.slices > 1
            else np.zeros((1, 1))
        )
        volume = np.zeros((len(self.elements), across.size, across.size, stop - start), np.float32)

        def section(y):
            volume[..., y - start] = (
                sum(self.body(x, z, float(plane)) for plane in planes[y]) / planes.shape[1]
            )

        with Workers(thread_count(None)) as workers:
            workers.run(section, [(y,) for y in range(start, stop)])
        return volume

    @cached_property
    def truth(self) -> np.ndarray:
        """Mean of the body over each voxel of the reconstruction's grid, (channel, z, x, y)."""
        n, k = self.size, TRUTH_OVERSAMPLING
        sampled = self.fine(k).reshape(len(self.elements), n, k, n, k, self.slices)
        truth = sampled.mean(axis=(2, 4), dtype=np.float32)
        truth.setflags(write=False)
        return truth

    @property
    def counts_per_nm(self) -> np.ndarray:
        """The ideal reconstruction of the maps, EDS counts per nm of path, (channel, z, x, y)."""
        return self.truth * self.counts_per_unit.astype(np.float32)[:, None, None, None]

    @property
    def ratios(self) -> np.ndarray:
        """Response ratios r_e = z_e / s_e, (channel,): HAADF signal per EDS count."""
        return self.haadf_per_unit / self.counts_per_unit


def line_integrals(body: Callable, tilts: np.ndarray, samples: int = 192) -> np.ndarray:
    """
    Integrate the middle section of a body along rays, without a voxel grid.

    Parameters
    ----------
    body : callable
        As `Phantom.body`.
    tilts : array_like (tilt,)
        Degrees.
    samples : int, default 192
        Rays across the field, and points along each.

    Returns
    -------
    numpy.ndarray (channel, tilt, x)
        The body's unit times the half width of the field, at the centres of the rays.
    """
    points = _unit_points(samples)
    u, w = points[None, :], points[:, None]
    integrals = []
    for tilt in np.deg2rad(np.asarray(tilts, dtype=np.float64)):
        cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        integrals.append(
            body(u * cos - w * sin, u * sin + w * cos, 0.0).sum(axis=1) * (2 / samples)
        )
    return np.stack(integrals, axis=1)


def _unit_points(count: int) -> np.ndarray:
    """Return the centres of `count` equal parts of -1..1."""
    return ((2 * np.arange(count) + 1) / count - 1).astype(np.float32)
