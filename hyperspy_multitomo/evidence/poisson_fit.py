# SPDX-License-Identifier: GPL-3.0-or-later
"""Weighted fits of a few terms to counts, and of one region more among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hyperspy_multitomo.evidence.poisson_tail import PoissonSum

# Part of the information of a region that has to be left when its surroundings are fitted too.
_LEAST = 1e-6
# Added to the diagonal of a matrix of correlations, since terms may be alike or empty.
_RIDGE = 1e-9
# Squared residuals beyond their variance of a host that does not explain the counts.
_MISFIT = 0.1
# Of the limits of `Contrast`.
LEVELS = (3.0, 5.0)


@dataclass(frozen=True, eq=False)
class HostFit:
    """Amplitudes of the terms of a host without the region that is tested.

    Attributes
    ----------
    counts, background, variance : array (ray,)
        The last is what the volume makes one expect, not below `floor`.
    floor : float
        Least expected counts of a ray.
    design : array (term, ray)
        Expected counts of each term at an amplitude of 1.
    normal : array (term, term)
        Fisher matrix.
    gradient : array (term,)
        ``design @ ((counts - background) / variance)``.
    amplitudes : array (term,)
    """

    counts: np.ndarray
    background: np.ndarray
    variance: np.ndarray
    floor: float
    design: np.ndarray
    normal: np.ndarray
    gradient: np.ndarray
    amplitudes: np.ndarray

    @classmethod
    def of(
        cls,
        counts: np.ndarray,
        background: np.ndarray,
        variance: np.ndarray,
        floor: float,
        design: np.ndarray,
    ) -> HostFit:
        """Fit the terms of a host to counts, all (ray,)."""
        variance = np.maximum(variance, floor)
        weighted = design / variance
        normal, gradient = weighted @ design.T, weighted @ (counts - background)
        amplitudes = solved(normal, gradient)
        return cls(counts, background, variance, floor, design, normal, gradient, amplitudes)

    @property
    def expected(self) -> np.ndarray:
        """Expected counts by the terms, (ray,)."""
        return self.amplitudes @ self.design + self.background

    @property
    def weights(self) -> np.ndarray:
        """One over the variance of each ray."""
        return 1 / self.variance

    @cached_property
    def misfit(self) -> float:
        """Squared residuals over their variance, both summed over rays; 1 of the right model."""
        used = self.design.any(axis=0)
        squares = np.square(self.counts - self.expected)[used]
        return float(squares.sum() / self.variance[used].sum())

    @property
    def explains(self) -> bool:
        """Whether the terms explain the counts; few counts make the misfit itself uncertain."""
        return self.misfit <= 1 + max(_MISFIT, 4 / float(np.sqrt(self.counts.sum())))

    @cached_property
    def spread(self) -> float:
        """Standard deviations over those of Poisson counts, where the misfit is above 1."""
        return float(np.sqrt(max(1.0, self.misfit)))


@dataclass(frozen=True)
class Contrast:
    """Amplitude of a region against its surroundings, from a fit.

    Attributes
    ----------
    value, sd : float
    z : float
        Normal equivalent of the probability of the value by chance: the counts are few.
    score : float
        Value over the standard deviation without a contrast.
    chance : PoissonSum
        The distribution of the value without a contrast.
    growth : float
        Variance that a contrast of 1 adds by its own counts.
    spread : float
        Standard deviations over those of Poisson counts: in `sd`, not in `chance` and `growth`.
    """

    value: float
    sd: float
    z: float
    chance: PoissonSum
    growth: float
    spread: float

    @property
    def score(self) -> float:
        """Value over the standard deviation without a contrast."""
        return self.value / (self.spread * self.chance.sd)

    @property
    def limits(self) -> tuple[float, float]:
        """Contrasts that are 3 and 5 of their standard deviations."""
        levels = (self.spread * level for level in LEVELS)
        three, five = (limit_at(level, self.chance.sd, self.growth) for level in levels)
        return three, five

    def sd_of(self, value: float, dose: float = 1.0) -> float:
        """Return the standard deviation of a contrast, at a dose in that of the counts."""
        variance = self.chance.sd**2 + max(value, 0.0) * self.growth
        return float(self.spread * np.sqrt(variance / dose))


def limit_at(level: float, sd, growth):
    """Return the contrast that is `level` of its standard deviations, of numbers or arrays.

    `sd` is that without a contrast, `growth` the variance that one of 1 adds.
    """
    half = level**2 * growth / 2
    return half + np.sqrt(half**2 + level**2 * sd**2)


def contrast(host: HostFit, changes: np.ndarray, local: np.ndarray, own: np.ndarray) -> Contrast:
    """Fit the terms of a host, changed near a region, with those of a region.

    Parameters
    ----------
    host : HostFit
    changes : array (term, ray)
        Taken off the terms of the host: what they hold in the region beyond its surroundings.
    local : array (term, ray)
        Terms of the region; the first is its own contrast.
    own : array (ray,)
        Counts that the element's volume has in the region beyond its surroundings, which are taken
        off the variance: weights and the distribution are those without a contrast.

    Raises
    ------
    ValueError
        Where the tilts cannot tell the region from its surroundings.
    """
    near = local.any(axis=0) | changes.any(axis=0)
    counts, weights = (host.counts - host.background)[near], host.weights[near]
    old = host.design[:, near]
    size = len(old)
    elsewhere = host.normal - (old * weights) @ old.T
    pull = host.gradient - (old * weights) @ counts
    design = np.concatenate([local[:1, near], old - changes[:, near], local[1:, near]])
    # Without what the volume holds in the region: weights that followed its noise would hide it.
    null = np.maximum(host.variance[near] - own[near], host.floor)
    weighted = design / null
    normal, gradient = weighted @ design.T, weighted @ counts
    normal[1 : size + 1, 1 : size + 1] += elsewhere
    gradient[1 : size + 1] += pull
    row = _first_row(normal)
    value = float(row @ gradient)
    # The value is a sum of counts, each with a factor; rays elsewhere are many and nearly normal.
    factors = row @ weighted
    rest = float(row[1 : size + 1] @ elsewhere @ row[1 : size + 1])
    chance = PoissonSum(factors, null, max(rest, 0.0))
    with_it = np.maximum(null + value * design[0], host.floor)
    sd = float(np.sqrt(np.square(factors) @ with_it + chance.rest))
    growth = float(np.square(factors) @ design[0])
    return Contrast(
        value, host.spread * sd, chance.z(value) / host.spread, chance, growth, host.spread
    )


def solved(normal: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the amplitudes of a Fisher matrix; those of empty terms are 0."""
    scales = np.sqrt(np.diag(normal))
    scales = np.where(scales > 0, scales, 1.0)
    alike = normal / np.outer(scales, scales) + _RIDGE * np.eye(len(scales))
    return np.linalg.solve(alike, (gradient / scales)) / scales


def _first_row(normal: np.ndarray) -> np.ndarray:
    """Return the first row of the inverse of a Fisher matrix."""
    coupling = normal[1:, 0]
    projected = solved(normal[1:, 1:], coupling)
    left = normal[0, 0] - coupling @ projected
    if not left > _LEAST * normal[0, 0]:
        raise ValueError(
            "these tilts and counts cannot tell the region from its surroundings: make it "
            "larger, or pass another outline="
        )
    return np.append(1.0, -projected) / left
