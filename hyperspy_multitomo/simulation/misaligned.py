# SPDX-License-Identifier: GPL-3.0-or-later
"""Misaligned tilt series of known truth: a needle, a particle on a film, a lamella.

All are made of ellipsoids and films, whose projections are closed forms at any shift and rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.transform import Alignment

__all__ = ["MisalignedSeries", "misaligned"]

ELEMENTS = ("Al", "Cu")
# HAADF signal per unit of path (px) and density of each element.
BRIGHTNESS = np.array([1.0, 2.5], np.float32)
# Rays along each edge of a pixel, whose mean is the pixel's value.
_OVERSAMPLING = 2


@dataclass(frozen=True, eq=False)
class MisalignedSeries:
    """
    Images and maps of a specimen that moved from tilt to tilt, with the true alignment.

    Attributes
    ----------
    haadf : numpy.ndarray (tilt, x, y), float32
        Images with noise.
    maps : numpy.ndarray (element, tilt, x, y), float32
        Poisson counts.
    expected_haadf, expected_maps : numpy.ndarray
        Expectation values, without noise.
    tilts : numpy.ndarray (tilt,)
        Degrees.
    alignment : Alignment
        The truth: shifts, position of the tilt axis and in-plane rotation.
    elements : tuple of str
        Names of the maps.
    """

    haadf: np.ndarray
    maps: np.ndarray
    expected_haadf: np.ndarray
    expected_maps: np.ndarray
    tilts: np.ndarray
    alignment: Alignment
    elements: tuple[str, ...] = ELEMENTS


@dataclass(frozen=True)
class _Ellipsoid:
    """Ellipsoid, rotated about y by `turn` (radians); centre and half axes (x, z, y) in px."""

    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]
    turn: float
    densities: tuple[float, ...]

    def paths(self, tilt: float, u: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the path length, px, at u across and y along the projected tilt axis."""
        (x0, z0, y0), (a, b, c) = self.centre, self.half_axes
        width = np.hypot(a * np.cos(tilt - self.turn), b * np.sin(tilt - self.turn))
        inside = (
            1 - ((u - x0 * np.cos(tilt) - z0 * np.sin(tilt)) / width) ** 2 - ((y - y0) / c) ** 2
        )
        return 2 * a * b / width * np.sqrt(np.maximum(inside, 0))

    def box(self, tilt: float) -> np.ndarray:
        """Return the bounding box of the projection: the ranges of u and y, (2, 2)."""
        (x0, z0, y0), (a, b, c) = self.centre, self.half_axes
        width = np.hypot(a * np.cos(tilt - self.turn), b * np.sin(tilt - self.turn))
        middle = x0 * np.cos(tilt) + z0 * np.sin(tilt)
        return np.array([[middle - width, middle + width], [y0 - c, y0 + c]])


@dataclass(frozen=True)
class _Film:
    """An infinite film; thickness in px, inclination about y in radians."""

    thickness: float
    inclination: float
    densities: tuple[float, ...]

    def paths(self, tilt: float, u: np.ndarray, y: np.ndarray) -> float:
        """Return the path length, px, which is the same everywhere."""
        return self.thickness / np.cos(tilt - self.inclination)

    def box(self, tilt: float) -> np.ndarray:
        """Return ranges that contain any view."""
        return np.array([[-1e9, 1e9], [-1e9, 1e9]])


def misaligned(
    specimen: str = "particle",
    *,
    size: int = 128,
    height: int | None = None,
    tilts: ArrayLike | None = None,
    shift: float = 10.0,
    axis_offset: float = 4.0,
    rotation: float = 2.0,
    counts: float = 5.0,
    noise: float = 0.03,
    seed: int = 0,
) -> MisalignedSeries:
    """
    Simulate a series with random shifts at each tilt and an offset, rotated tilt axis.

    Specimens are made of ellipsoids, whose projections are closed forms at any shift and rotation:
    nothing is interpolated.

    Parameters
    ----------
    specimen : {"particle", "needle", "lamella"}, default "particle"
        A particle with grains on a thin film, in view as a whole but for the film; a needle with
        grains along the tilt axis, longer than the view; or a lamella of grains, larger than the
        view on all sides.
    size : int, default 128
        Pixels across the tilt axis; the specimen scales with it.
    height : int, optional
        Pixels along the tilt axis; by default `size`.
    tilts : array_like (tilt,), optional
        Degrees; by default -70 to 70 in steps of 5.
    shift : float, default 10.0
        Shifts in both directions are uniformly distributed between minus and plus this, px; their
        mean is subtracted.
    axis_offset : float, default 4.0
        Position of the tilt axis from the middle of the aligned images, px.
    rotation : float, default 2.0
        Rotation of the images that brings the tilt axis onto y, degrees.
    counts : float, default 5.0
        Expected counts of the brightest pixel of the maps.
    noise : float, default 0.03
        Standard deviation of the HAADF noise as a fraction of the largest HAADF signal.
    seed : int, default 0
        Seed of the specimen, the shifts and the noise.

    Returns
    -------
    MisalignedSeries

    Raises
    ------
    ValueError
        For an unknown specimen, or a number that is not finite or negative.

    Examples
    --------
    >>> series = misaligned("needle", size=32, tilts=[-40, 0, 40], shift=2.0)
    >>> series.haadf.shape, series.maps.shape, series.alignment.axis_offset
    ((3, 32, 32), (2, 3, 32, 32), 4.0)
    """
    if specimen not in _SPECIMENS:
        raise ValueError(
            f"unknown specimen {specimen!r}; choose one of {', '.join(map(repr, _SPECIMENS))}"
        )
    if not (
        np.isfinite([shift, axis_offset, rotation, counts, noise]).all()
        and min(shift, counts, noise) >= 0
    ):
        raise ValueError(
            "shift, counts and noise have to be finite, 0 or more, axis_offset and rotation finite"
        )
    rng = np.random.default_rng(seed)
    tilts = np.arange(-70.0, 71.0, 5.0) if tilts is None else np.asarray(tilts, dtype=np.float64)
    shifts = rng.uniform(-shift, shift, (2, tilts.size))
    truth = Alignment(*(shifts - shifts.mean(axis=1, keepdims=True)), axis_offset, rotation, tilts)
    bodies = _SPECIMENS[specimen](np.random.default_rng([seed, 1]), size / 128)
    paths = _projections(bodies, truth, (size, height or size))
    haadf = np.tensordot(BRIGHTNESS, paths, 1)
    expected = paths * np.float32(counts / max(paths.max(), np.finfo(np.float32).tiny))
    noisy = haadf + rng.normal(0, noise * haadf.max(), haadf.shape).astype(np.float32)
    return MisalignedSeries(
        noisy, rng.poisson(expected).astype(np.float32), haadf, expected, tilts, truth
    )


def _projections(bodies, truth: Alignment, shape: tuple[int, int]) -> np.ndarray:
    """Return the elements' density times path, (element, tilt, x, y), averaged over each pixel."""
    n = _OVERSAMPLING
    x, y = ((np.arange(side * n) + 0.5) / n - side / 2 for side in shape)
    angle = np.deg2rad(truth.rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    paths = np.empty((len(ELEMENTS), len(truth), *shape), np.float32)
    for t, tilt in enumerate(np.deg2rad(truth.tilts)):
        placed_x, placed_y = x + truth.across[t], y + truth.along[t]
        fine = np.zeros((len(ELEMENTS), len(x), len(y)))
        for body in bodies:
            corners = np.stack(
                np.meshgrid(body.box(tilt)[0] + truth.axis_offset, body.box(tilt)[1])
            ).reshape(2, 4)
            near = [
                slice(*np.searchsorted(side, (ends.min() - 1, ends.max() + 1)))
                for side, ends in zip((placed_x, placed_y), turn.T @ corners, strict=True)
            ]
            here_x, here_y = placed_x[near[0], None], placed_y[near[1]]
            u = turn[0, 0] * here_x + turn[0, 1] * here_y - truth.axis_offset
            v = turn[1, 0] * here_x + turn[1, 1] * here_y
            fine[:, near[0], near[1]] += np.multiply.outer(
                np.array(body.densities), body.paths(tilt, u, v) + np.zeros_like(u)
            )
        paths[:, t] = fine.reshape(-1, shape[0], n, shape[1], n).mean(axis=(2, 4))
    return np.maximum(paths, 0)


def _particle(rng: np.random.Generator, scale: float) -> list:
    """Return a particle of Al with an off-centre core of Cu, small grains, and a film.

    The film stands for carbon: it has the HAADF signal of Al.
    """
    bodies = [
        _ellipsoid((4, -3, 3), (30, 22, 26), 0.4, (1.0, 0.0), scale),
        _ellipsoid((10, 4, 8), (12, 9, 10), 1.0, (-0.4, 1.6), scale),
        _ellipsoid((-12, -6, -8), (7, 9, 8), 0.1, (0.0, 1.0), scale),
    ]
    for _ in range(4):
        centre = (rng.uniform(-20, 20), -26, rng.uniform(-20, 20))
        bodies.append(_ellipsoid(centre, rng.uniform(3, 6, 3), 0.0, (0.7, 0.3), scale))
    return [*bodies, _Film(4 * scale, 0.03, (0.6, 0.0))]


def _needle(rng: np.random.Generator, scale: float) -> list:
    """Return a needle of Al along y, with grains of Cu inside."""
    bodies = [_ellipsoid((2, -3, 5), (22, 20, 140), 0.2, (1.0, 0.0), scale)]
    for _ in range(14):
        half_axes, angle, radius = (
            rng.uniform(2.5, 7, 3),
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0, 13),
        )
        centre = (2 + radius * np.cos(angle), -3 + radius * np.sin(angle), rng.uniform(-75, 75))
        bodies.append(_ellipsoid(centre, half_axes, rng.uniform(0, 3), (-0.3, 1.5), scale))
    return bodies


def _lamella(rng: np.random.Generator, scale: float) -> list:
    """Return a film of Al with grains of Cu and of denser Al, larger than the view up to 75°."""
    bodies: list = [_Film(24 * scale, 0.05, (0.5, 0.0))]
    for number in range(330):
        half_axes = np.minimum(rng.uniform(2.5, 9, 3), (9, 5, 9))
        centre = (rng.uniform(-250, 250), rng.uniform(-8, 8), rng.uniform(-90, 90))
        densities = (-0.3, 1.2) if number % 2 else (0.8, 0.0)
        bodies.append(_ellipsoid(centre, half_axes, rng.uniform(0, 3), densities, scale))
    return bodies


def _ellipsoid(centre, half_axes, turn, densities, scale) -> _Ellipsoid:
    centre, half_axes = (
        tuple(scale * float(value) for value in values) for values in (centre, half_axes)
    )
    return _Ellipsoid(centre, half_axes, float(turn), densities)


_SPECIMENS = {"particle": _particle, "needle": _needle, "lamella": _lamella}
