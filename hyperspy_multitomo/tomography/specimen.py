# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape and extent of a specimen, measured on its aligned projections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.tomography.folding import fold
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.rays import Support, ray_covariance, whitened
from hyperspy_multitomo.tomography.specimen_extent import (
    NEARLY_ALL,
    faintly_outlined,
    sides_in_view,
    without_film,
)

SHAPES = ("rod", "ball", "slab")
# Fewest tilts, slices, and pixels across the view from which an extent along the beam is measured.
FEWEST_TILTS, FEWEST_SLICES = 5, 4
FEWEST_PIXELS = 32
# Rays of a slice on the first grid and on the last, and its pixels across the view at most. The
# time grows with the third power of the rays: a few seconds on one core.
_GRIDS, _PIXELS = (400, 1000), 100
# Slices at most, after averaging, and coefficients of the polynomials that are left out.
_SLICES, _DEGREES = 48, 2
# Fraction of the variance of an image that no other tilt has: diffraction contrast, shadows.
_DIFFERENT = 0.03
# Trial depths in widths of the view, and inclinations (degrees); then the first steps of the
# search: of the logarithm of the depth, of the inclination, and of the height in depths. They are
# halved after each of so many searches on the two grids.
_DEPTHS, _INCLINATIONS = (
    tuple(np.geomspace(0.03, 0.8, 8)),
    (-18.0, -12.0, -6.0, 0.0, 6.0, 12.0, 18.0),
)
_STEPS, _HALVINGS = (0.3, 3.0, 0.2), (2, 2)
_LARGEST_INCLINATION = 25.0
# Inclination (degrees) below which it is not told from 0.
_LEAST_INCLINATION = 1.0
# Trial ratios of noise to signal, in variance.
_NOISES = tuple(10.0 ** np.arange(-5, 2.1, 0.5))
# A depth is known if one that is larger by this factor is less likely by so much (in logarithms),
# and if it is below this fraction of the view.
_LARGER, _EVIDENCE, _DEEPEST = 2.0, 10.0, 0.6
# Sweeps of a search at most.
_SWEEPS = 8
# Trial positions across the axis for the highest and lowest point of an outline.
_POSITIONS = 201


@dataclass(frozen=True)
class Specimen:
    """The shape and extent of a specimen, about the tilt axis.

    Parameters
    ----------
    shape : {"rod", "ball", "slab"}
        Of a specimen that ends inside the view across the tilt axis: "ball" if it ends inside it
        along the axis too, else "rod". "slab" for one that is cut by the view across the axis, a
        lamella.
    depth : float
        Twice the largest distance from the tilt axis along z, of a slab perpendicular to itself,
        px.
    inclination : float, default 0.0
        Of a slab, degrees, from +x towards +z: it is edge-on at this tilt plus 90.

    Raises
    ------
    ValueError
        For another shape, and numbers that are not finite.

    Examples
    --------
    >>> round(Specimen("slab", 20.0, 3.0).extent(100.0), 1)
    25.3
    """

    shape: str
    depth: float
    inclination: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(
                f"the shape of the specimen is {self.shape!r}; expected one of {', '.join(SHAPES)}"
            )
        for name in ("depth", "inclination"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not (math.isfinite(self.depth) and self.depth > 0):
            raise ValueError(f"the depth of the specimen is {self.depth}; expected a length in px")
        if not abs(self.inclination) < 90:
            raise ValueError(
                f"the inclination of the specimen is {self.inclination}; expected less than 90 "
                "degrees"
            )

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Specimen:
        """Return the specimen of a dict from `as_dict`."""
        return cls(**held)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as text and plain numbers."""
        return asdict(self)

    def scaled(self, factor: float) -> Specimen:
        """Return the specimen in other pixels, of which `factor` are as long as a present one."""
        return replace(self, depth=self.depth * factor)

    def extent(self, width: float) -> float:
        """Return its extent along z, px, in a volume of a width in px."""
        angle = math.radians(self.inclination)
        return self.depth / math.cos(angle) + width * abs(math.tan(angle))

    def __str__(self) -> str:
        leaning = f", inclined by {self.inclination:.1f} degrees" if self.shape == "slab" else ""
        return f"{self.shape} of depth {self.depth:.1f} px{leaning}"


def measure_specimen(images: np.ndarray, geometry: TiltGeometry) -> Specimen | None:
    """Measure the shape and extent of a specimen on its projections.

    Parameters
    ----------
    images : numpy.ndarray (tilt, x, y)
        In the frame of the geometry, gains divided out.
    geometry : TiltGeometry
        Tilts, shifts and axis; its volume is not used.

    Returns
    -------
    Specimen or None
        None for too few tilts or slices, and where the images do not tell its depth.

    Notes
    -----
    A specimen that ends inside the view lies within the strips that its outline covers at each
    tilt. Where high tilts are missing, their intersection is long along z: the specimen is then
    taken to be no deeper than wide. A specimen that leaves the view is taken for a Gaussian random
    field in a slab (see `rays`), whose likelihood tells depth, inclination and height together:
    what lies on the two surfaces moves against each other from tilt to tilt.
    """
    found = specimen_and_height(images, geometry)
    if found is None:
        return None
    specimen, height = found
    return replace(specimen, depth=specimen.depth + 2 * abs(height))


@one_blas_thread()
def specimen_and_height(
    images: np.ndarray, geometry: TiltGeometry
) -> tuple[Specimen, float] | None:
    """Return the specimen about its own middle, and the height of that above the tilt axis, px.

    See `measure_specimen`.
    """
    tilts, pixels, slices = images.shape
    if tilts < FEWEST_TILTS or slices < FEWEST_SLICES or pixels < FEWEST_PIXELS:
        return None
    across, along = sides_in_view(images)
    if across:
        heights = _heights_of_outlines(without_film(images), geometry)
        if heights is None:
            return None
        low, high = heights
        return Specimen("ball" if along else "rod", high - low), (low + high) / 2
    return _most_likely_slab(images, geometry)


def _heights_of_outlines(images: np.ndarray, geometry: TiltGeometry) -> tuple[float, float] | None:
    """Return the lowest and the highest z about the axis that the outlines allow, px."""
    x = np.arange(images.shape[1])
    edges = np.empty((len(images), 2))
    for t, image in enumerate(images):
        something = faintly_outlined(image)
        if not something.any():
            return None
        inside = np.broadcast_to(x[:, None], something.shape)[something]
        edges[t] = np.quantile(inside, (1 - NEARLY_ALL, NEARLY_ALL)) + np.array([-0.5, 0.5])
    edges -= geometry.origins[:, None]
    cosines, sines = geometry.directions.T
    widest = float(np.ptp(edges, axis=1).max())
    at = np.linspace(-widest, widest, _POSITIONS)
    # The strip edges[0] <= x cos t + z sin t <= edges[1] at all positions x.
    tilted = np.abs(sines) > 1e-3
    if not tilted.any():
        return None
    ends = (edges[tilted, :, None] - (cosines[tilted, None] * at)[:, None]) / sines[
        tilted, None, None
    ]
    low, high = ends.min(axis=1).max(axis=0), ends.max(axis=1).min(axis=0)
    upright = ~tilted
    allowed = low <= high
    for bounds, cosine in zip(edges[upright], cosines[upright], strict=True):
        allowed &= (at * cosine >= bounds[0]) & (at * cosine <= bounds[1])
    if not allowed.any():
        return -widest / 2, widest / 2
    low, high = low[allowed].min(), high[allowed].max()
    middle, half = (low + high) / 2, min((high - low) / 2, widest / 2)
    return float(middle - half), float(middle + half)


class _Slab:
    """The likelihood of slabs, on a grid of pixels across and along the axis.

    A polynomial of each tilt in each slice is left out: gains that are not known, and long slopes
    in brightness, would pass for depth.
    """

    def __init__(self, images: np.ndarray, geometry: TiltGeometry, rays: int):
        origins = geometry.origins
        half = float(np.min([origins + 0.5, images.shape[1] - 0.5 - origins]))
        count = int(np.clip(rays // len(images), 4, min(_PIXELS, int(2 * half))))
        count += count % 2
        self.tilts, self._sines = np.asarray(geometry.tilts), geometry.directions[:, 1]
        self.step = 2 * half / count
        self.u = (np.arange(count) - (count - 1) / 2) * self.step
        self._edges = (np.arange(count + 1) - count / 2) * self.step + origins[:, None] + 0.5
        thick = max(1, round(self.step), -(-images.shape[2] // _SLICES))
        slices = max(1, images.shape[2] // thick)
        binned = images[:, :, : slices * thick].reshape(*images.shape[:2], slices, -1)
        sums = np.cumsum(binned.mean(axis=3, dtype=np.float64), axis=1)
        self._sums = np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
        outwards = self.u[count // 2 :] / half
        self._bases = [
            np.linalg.qr(outwards[:, None] ** np.arange(parity, _DEGREES, 2), mode="complete")[0][
                :, len(range(parity, _DEGREES, 2)) :
            ].astype(np.float32)
            for parity in (0, 1)
        ]
        self.noise = len(_NOISES) // 2
        self._found: dict[tuple, float] = {}
        # The last covariance, which several trials of the noise have in common.
        self._last: tuple[tuple, list[np.ndarray]] = (), []

    def _data(self, height: float) -> list[np.ndarray]:
        """Return the even and odd part of the means over the pixels of the grid."""
        size = self._sums.shape[1] - 1
        places = np.clip(self._edges + height * self._sines[:, None], 0, size)
        first = np.minimum(places.astype(int), size - 1)
        part = (places - first)[..., None]
        rows = np.arange(len(first))[:, None]
        sums = (1 - part) * self._sums[rows, first] + part * self._sums[rows, first + 1]
        tilts = len(self.tilts)
        return [
            np.einsum("ub,tus->tbs", base, values.reshape(tilts, len(base), -1)).reshape(
                tilts * base.shape[1], -1
            )
            for base, values in zip(
                self._bases,
                fold((np.diff(sums, axis=1) / self.step).astype(np.float32)),
                strict=True,
            )
        ]

    def _covariance(self, depth: float, inclination: float) -> list[np.ndarray]:
        """Return the even and odd part of the covariance, without the polynomials."""
        if self._last[0] == (depth, inclination):
            return self._last[1]
        tilts, parts = len(self.tilts), []
        found = ray_covariance(self.tilts, self.u, Support("slab", depth, inclination))
        for base, matrix in zip(self._bases, found, strict=True):
            whole = np.tril(matrix) + np.tril(matrix, -1).T
            size, left = base.shape
            right = (whole.reshape(-1, size) @ base).reshape(tilts, size, tilts * left)
            part = np.matmul(base.T, right).reshape(tilts, left, tilts, left)
            own = np.arange(tilts)
            keep = part[own, :, own]
            part *= np.float32(1 - _DIFFERENT)
            part[own, :, own] = keep
            parts.append(part.reshape(tilts * left, tilts * left))
        self._last = (depth, inclination), parts
        return parts

    def likelihood(self, slab: tuple[float, ...], noise: int | None = None) -> float:
        """Return the log-likelihood of (log depth, inclination, height in depths)."""
        noise = self.noise if noise is None else noise
        key = (*slab, noise)
        if key not in self._found:
            depth = math.exp(slab[0])
            parts = [
                whitened(matrix, part, _NOISES[noise])
                for matrix, part in zip(
                    self._covariance(depth, slab[1]), self._data(slab[2] * depth), strict=True
                )
            ]
            self._found[key] = -math.inf if None in parts else self._value(parts)
        return self._found[key]

    def _value(self, parts: list) -> float:
        _, squares, volumes = zip(*parts, strict=True)
        slices = self._sums.shape[2]
        rays = len(self.tilts) * sum(base.shape[1] for base in self._bases)
        scale = max(sum(squares) / (rays * slices), np.finfo(float).tiny)
        return -0.5 * slices * (2 * sum(volumes) + rays * math.log(scale))

    def best_noise(self, slab: tuple[float, ...]) -> float:
        """Set the most likely noise for a slab, from the present one; return the likelihood."""
        for direction in (1, -1):
            while 0 <= self.noise + direction < len(_NOISES) and self.likelihood(
                slab, self.noise + direction
            ) > self.likelihood(slab):
                self.noise += direction
        return self.likelihood(slab)

    def climb(self, slab: tuple[float, ...], steps: tuple[float, ...]) -> tuple[float, ...]:
        """Return the most likely slab near one, by a pattern search."""
        for _ in range(_SWEEPS):
            better = False
            for axis, step in enumerate(steps):
                around = [
                    (*slab[:axis], slab[axis] + sign * step, *slab[axis + 1 :]) for sign in (-1, 1)
                ]
                around = [one for one in around if abs(one[1]) <= _LARGEST_INCLINATION]
                best = max(around, key=self.likelihood, default=slab)
                if self.likelihood(best) > self.likelihood(slab):
                    slab, better = best, True
            if not better:
                break
        self.best_noise(slab)
        return slab


def _most_likely_slab(images: np.ndarray, geometry: TiltGeometry) -> tuple[Specimen, float] | None:
    """Return the most likely slab and its height; None where deeper ones are as likely."""
    width = images.shape[1]
    grids = [_Slab(images, geometry, rays) for rays in _GRIDS]
    first = grids[0]
    trials: list[tuple[float, ...]] = [
        (math.log(depth * width), inclination, 0.0)
        for inclination in _INCLINATIONS
        for depth in _DEPTHS
    ]
    likelihoods = [(first.best_noise(slab), first.noise, slab) for slab in trials]
    _, noise, slab = max(likelihoods)
    steps = np.array(_STEPS)
    for grid, searches in zip(grids, _HALVINGS, strict=True):
        grid.noise = noise
        grid.best_noise(slab)
        for _ in range(searches):
            slab = grid.climb(slab, tuple(steps.tolist()))
            steps = steps / 2
        noise = grid.noise
    depth, height = math.exp(slab[0]), slab[2] * math.exp(slab[0])
    deeper = (slab[0] + math.log(_LARGER), slab[1], slab[2] / _LARGER)
    evidence = grid.likelihood(slab) - grid.likelihood(deeper)
    steepest = abs(slab[1]) > _LARGEST_INCLINATION - _STEPS[1]
    if not evidence > _EVIDENCE or depth > _DEEPEST * width or steepest:
        return None
    inclination = slab[1] if abs(slab[1]) >= _LEAST_INCLINATION else 0.0
    return Specimen("slab", depth, inclination), height
