# SPDX-License-Identifier: GPL-3.0-or-later
"""The test of a region at every place of a volume: its errors, its z, and the largest by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.evidence.host import Host
from hyperspy_multitomo.evidence.poisson_fit import limit_at, solved
from hyperspy_multitomo.evidence.regions import RIM, SHELL, distances
from hyperspy_multitomo.tomography import TiltGeometry, projector

# Draws of counts for the distribution of the largest z.
_DRAWS = 100
_SEED = 20261202


def ball(radius: float) -> np.ndarray:
    """Return a ball as a mask (z, x, y), of a radius in voxels."""
    reach = int(np.floor(radius))
    z, x, y = np.ogrid[(slice(-reach, reach + 1),) * 3]
    return z**2 + x**2 + y**2 <= radius**2 + 1e-9


@dataclass(frozen=True, eq=False)
class Scan:
    """A region of one shape, tested at every place of a volume.

    The terms are those of `Host`, without the region being filled in the other channels, and
    with surroundings that are not cut off at the outline.

    Attributes
    ----------
    host : Host
    sums : (region, surroundings) of Sums
    sd : array (z, x, y)
        Standard deviation of the contrast at each place; infinite where there is no information.
    growth : array (z, x, y)
        Relative growth of the variance per unit of contrast, whose own counts are noise too.
    places : array of bool (z, x, y)
        Where the region is within the outline.
    couplings : array (2, term, z, x, y)
        Of the two shapes with the terms of the host.
    mixed, both : array (z, x, y)
        Information that the two shapes share, and that of the surroundings.
    """

    host: Host
    sums: tuple[Sums, Sums]
    sd: np.ndarray
    growth: np.ndarray
    places: np.ndarray
    couplings: np.ndarray
    mixed: np.ndarray
    both: np.ndarray

    @classmethod
    def of(cls, host: Host, region: np.ndarray) -> Scan:
        """Return the scan of a region, given as a mask (z, x, y) of its own.

        Raises
        ------
        ValueError
            For HAADF pixels that are finer than those of the maps.
        """
        if host.model.project.geometry.binning > 1:
            raise ValueError(
                "places cannot be compared where the HAADF has finer pixels than the maps: bin "
                "the HAADF series to the pixels of the maps, and reconstruct again"
            )
        shapes = _shapes(region)
        chords = [_chords(host.model.project.geometry, shape) for shape in shapes]
        weights = host.fit.weights.reshape(host.sensitivity.shape)
        squared = weights * host.sensitivity**2
        information = [
            _at_places(host, squared, one * other)
            for one, other in ((chords[0], chords[0]), (chords[0], chords[1]), (chords[1],) * 2)
        ]
        back = _back(host, (weights * host.sensitivity).reshape(1, -1) * host.fit.design)
        sums = tuple(Sums.of(shape, host.outline.shape) for shape in shapes)
        couplings = np.stack([one(back) for one in sums])
        solves = _solves(host, couplings)
        own, mixed, both = (
            part - np.einsum("kzxy,kzxy->zxy", couplings[a], solves[b])
            for part, (a, b) in zip(information, ((0, 0), (0, 1), (1, 1)), strict=True)
        )
        both = np.maximum(both, 1e-6 * information[2] + 1e-30)
        left = own - mixed**2 / both
        enough = left > 1e-6 * information[0]
        sd = np.where(enough, 1 / np.sqrt(np.where(enough, left, 1)), np.inf)
        places = _fits(host, shapes[0])
        # Only rays through the region get noisier, and not what its surroundings cost.
        part = np.clip(left / np.maximum(information[0], 1e-30), 0, 1)
        third = _at_places(host, weights**2 * host.sensitivity**3, chords[0] ** 3)
        growth = part * third / np.maximum(information[0], 1e-30)
        return cls(host, (sums[0], sums[1]), sd, growth, places, couplings, mixed, both)

    def z(self, residual: np.ndarray | None = None) -> np.ndarray:
        """Return z at every place (z, x, y), 0 where there is none.

        It is that of the counts, or of others less what is expected, (ray,).
        """
        fit = self.host.fit
        residual = fit.counts - fit.expected if residual is None else residual
        weighted = residual * fit.weights
        pull = fit.design @ weighted
        back = _back(self.host, (weighted * self.host.sensitivity.ravel())[None])
        amplitudes = solved(fit.normal, pull)
        scores = [
            one(back)[0] - np.tensordot(amplitudes, coupling, 1)
            for one, coupling in zip(self.sums, self.couplings, strict=True)
        ]
        left = scores[0] - self.mixed / self.both * scores[1]
        known = self.places & np.isfinite(self.sd)
        return left * np.where(known, self.sd, 0)

    def limit(self, level: float) -> np.ndarray:
        """Return the contrast that is `level` of its standard deviations, at every place (z, x, y).

        NaN where the region is not within the outline.
        """
        known = self.places & np.isfinite(self.sd)
        sd = np.where(known, self.sd, 0)
        return np.where(known, limit_at(level, sd, sd**2 * self.growth), np.nan).astype(np.float32)

    def largest(self, draws: int = _DRAWS) -> np.ndarray:
        """Return the largest |z| of counts that are drawn from the host, (draw,)."""
        rng = np.random.default_rng(_SEED)
        expected = self.host.fit.variance
        drawn = (rng.poisson(expected) - expected for _ in range(draws))
        return np.array([np.abs(self.z(one)).max() for one in drawn])


@dataclass(frozen=True)
class LargestByChance:
    """The distribution of the largest |z| of all places: a Gumbel distribution.

    Attributes
    ----------
    mode, scale : float
    """

    mode: float
    scale: float

    @classmethod
    def of(cls, scan: Scan) -> LargestByChance:
        """Return the distribution of a scan, from draws of counts."""
        drawn = scan.largest()
        scale = float(drawn.std(ddof=1) * np.sqrt(6) / np.pi)
        return cls(float(drawn.mean() - np.euler_gamma * scale), scale)

    def __call__(self, z: float) -> float:
        """Return the probability of a largest |z| that is as large."""
        return float(-np.expm1(-np.exp(-(abs(z) - self.mode) / self.scale)))


def _shapes(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a region and its surroundings as masks of one odd size."""
    spans = [np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    own = region[tuple(slice(span[0], span[-1] + 1) for span in spans)]
    reach = RIM + SHELL
    own = np.pad(own, [(reach, reach + (1 - size % 2)) for size in own.shape])
    return own, distances(own) <= reach


def _chords(geometry: TiltGeometry, shape: np.ndarray) -> np.ndarray:
    """Return projections (tilt, x, y) of a mask about the middle of a detector of its own."""
    diagonal = int(np.ceil(np.hypot(*shape.shape[:2])))
    local = TiltGeometry(
        geometry.tilts, diagonal + 1 + diagonal % 2, shape.shape[:2], geometry.pixel_size
    )
    return projector(local)(shape.astype(np.float32))


def _at_places(host: Host, images: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Return the sum over rays of images times kernels about each place, (z, x, y)."""
    from scipy.ndimage import correlate

    summed = np.stack(
        [
            correlate(image, kernel, mode="constant")
            for image, kernel in zip(_in_frame(host, images), kernels, strict=True)
        ]
    )
    project = host.model.project
    return np.asarray(project.T(summed), float) / project.geometry.pixel_size


def _back(host: Host, images: np.ndarray) -> np.ndarray:
    """Return images (image, ray) projected back, (image, z, x, y)."""
    shaped = images.reshape(-1, *host.sensitivity.shape)
    return np.asarray(host.model.project.T(_in_frame(host, shaped)), float)


def _in_frame(host: Host, images: np.ndarray) -> np.ndarray:
    """Return images (..., tilt, x, y) at the recorded pixels in the frame of the geometry."""
    alignment = host.model.alignment
    images = images.astype(np.float32)
    if alignment is None:
        return images
    return alignment.apply(images, for_geometry=True, fill="edge")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of volumes over a mask about each place, by Fourier transforms.

    Attributes
    ----------
    transform : array
        Of the mask.
    padded, reach : tuple of int
        Size of the transform, and of the mask on either side of its middle.
    """

    transform: np.ndarray
    padded: tuple[int, ...]
    reach: tuple[int, ...]

    @classmethod
    def of(cls, shape: np.ndarray, size: tuple[int, ...]) -> Sums:
        """Return the sums over a mask (z, x, y) of odd size, in volumes of a size."""
        from scipy.fft import next_fast_len, rfftn

        padded = tuple(
            next_fast_len(one + own, real=True) for one, own in zip(size, shape.shape, strict=True)
        )
        # The mask is turned round, since a convolution turns it.
        turned = shape[::-1, ::-1, ::-1].astype(np.float32)
        reach = tuple(one // 2 for one in shape.shape)
        return cls(rfftn(turned, padded), padded, reach)

    def __call__(self, volumes: np.ndarray) -> np.ndarray:
        """Return the sums, shaped as the volumes (..., z, x, y)."""
        from scipy.fft import irfftn, rfftn

        axes = (-3, -2, -1)
        wide = irfftn(
            rfftn(volumes, self.padded, axes=axes) * self.transform, self.padded, axes=axes
        )
        places = tuple(
            slice(reach, reach + size)
            for reach, size in zip(self.reach, volumes.shape[-3:], strict=True)
        )
        return wide[(..., *places)]


def _solves(host: Host, couplings: np.ndarray) -> np.ndarray:
    """Return the inverse of the host's Fisher matrix times couplings (shape, term, z, x, y)."""
    inverse = np.stack([solved(host.fit.normal, unit) for unit in np.eye(len(host.fit.normal))])
    return np.einsum("jk,skzxy->sjzxy", inverse, couplings)


def _fits(host: Host, shape: np.ndarray) -> np.ndarray:
    """Return where a mask is within the outline."""
    from scipy.ndimage import binary_erosion

    return binary_erosion(host.outline, structure=shape)
