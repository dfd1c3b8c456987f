# SPDX-License-Identifier: GPL-3.0-or-later
"""Poisson-weighted fits of a few terms to counts, and of one region more among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Expected counts are not taken below this part of their mean, for the weights of rays: where next
# to nothing is expected the model is not as exact as that.
_FLOOR = 0.1
_ROUNDS = 8
_LOCAL_ROUNDS = 4
# Part of the information of a region that has to be left when its surroundings are fitted too.
_LEAST = 1e-6
# Added to the diagonal of a matrix of correlations, since terms may be alike or empty.
_RIDGE = 1e-9


@dataclass(frozen=True, eq=False)
class HostFit:
    """Amplitudes of the terms of a host without the region that is tested.

    Attributes
    ----------
    counts, background : array (ray,)
    design : array (term, ray)
        Expected counts of each term at an amplitude of 1.
    amplitudes : array (term,)
    expected : array (ray,)
        Counts.
    floor : float
        Least variance.
    normal : array (term, term)
        Fisher matrix.
    gradient : array (term,)
        ``design @ ((counts - background) / variance)``.
    """

    counts: np.ndarray
    background: np.ndarray
    design: np.ndarray
    amplitudes: np.ndarray
    expected: np.ndarray
    floor: float
    normal: np.ndarray
    gradient: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, background: np.ndarray, design: np.ndarray) -> HostFit:
        """Fit the terms of a host to counts, all (ray,).

        Raises
        ------
        ValueError
            Where nothing was counted.
        """
        if not counts.any():
            raise ValueError("the maps of this element hold no count: there is nothing to test")
        floor = _FLOOR * float(counts.mean())
        expected = np.full(counts.shape, float(counts.mean()))
        for _ in range(_ROUNDS):
            weights = 1 / np.maximum(expected, floor)
            normal = (design * weights) @ design.T
            gradient = (design * weights) @ (counts - background)
            amplitudes = solved(normal, gradient)
            expected = amplitudes @ design + background
        weights = 1 / np.maximum(expected, floor)
        normal = (design * weights) @ design.T
        gradient = (design * weights) @ (counts - background)
        return cls(counts, background, design, amplitudes, expected, floor, normal, gradient)

    @property
    def weights(self) -> np.ndarray:
        """One over the variance of each ray."""
        return 1 / np.maximum(self.expected, self.floor)

    @property
    def misfit(self) -> float:
        """Mean of the squared residuals over their variance, which is 1 of the right model."""
        used = self.design.any(axis=0)
        return float(np.mean(((self.counts - self.expected) ** 2 * self.weights)[used]))


@dataclass(frozen=True)
class Contrast:
    """Amplitude of a region against its surroundings, from a fit.

    Attributes
    ----------
    value, sd : float
    limits : tuple of float
        At which z is expected to be 3 and 5.
    """

    value: float
    sd: float
    limits: tuple[float, float]

    @property
    def z(self) -> float:
        """Value over standard deviation."""
        return self.value / self.sd


# Of the limits of `Contrast`.
LEVELS = (3.0, 5.0)


def contrast(host: HostFit, changes: np.ndarray, local: np.ndarray) -> Contrast:
    """Fit the terms of a host, changed near a region, with those of a region.

    Parameters
    ----------
    host : HostFit
    changes : array (term, ray)
        Taken off the terms of the host: what they hold in the region beyond its surroundings.
    local : array (term, ray)
        Terms of the region; the first is its own contrast.

    Raises
    ------
    ValueError
        Where the tilts cannot tell the region from its surroundings.
    """
    near = local.any(axis=0) | changes.any(axis=0)
    counts, background = host.counts[near], host.background[near]
    old = host.design[:, near]
    size, more = len(old), len(local)
    elsewhere, pull = np.zeros((size + more,) * 2), np.zeros(size + more)
    weights = host.weights[near]
    elsewhere[:size, :size] = host.normal - (old * weights) @ old.T
    pull[:size] = host.gradient - (old * weights) @ (counts - background)
    design = np.concatenate([old - changes[:, near], local[:, near]])
    own = size

    def normal_at(expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weighted = design / np.maximum(expected, host.floor)
        return elsewhere + weighted @ design.T, pull + weighted @ (counts - background)

    def fitted(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        expected = host.expected[near]
        for _ in range(_LOCAL_ROUNDS):
            normal, gradient = (part[..., terms] for part in normal_at(expected))
            amplitudes = solved(normal[terms], gradient)
            expected = amplitudes @ design[terms] + background
        return amplitudes, expected

    everything = np.arange(size + more)
    without = np.delete(everything, own)
    amplitudes, expected = fitted(everything)
    sd = _sd(normal_at(expected)[0], own)
    base = fitted(without)[1]
    limits = []
    for level in LEVELS:
        limit = 0.0
        for _ in range(_LOCAL_ROUNDS):
            limit = level * _sd(normal_at(base + limit * design[own])[0], own)
        limits.append(limit)
    return Contrast(float(amplitudes[own]), sd, (limits[0], limits[1]))


def solved(normal: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the amplitudes of a Fisher matrix; those of empty terms are 0."""
    scales = np.sqrt(np.diag(normal))
    scales = np.where(scales > 0, scales, 1.0)
    alike = normal / np.outer(scales, scales) + _RIDGE * np.eye(len(scales))
    return np.linalg.solve(alike, (gradient / scales)) / scales


def _sd(normal: np.ndarray, place: int) -> float:
    """Return the standard deviation of one amplitude, all others being fitted."""
    others = np.delete(np.arange(len(normal)), place)
    coupling = normal[others, place]
    information = normal[place, place]
    left = information - coupling @ solved(normal[np.ix_(others, others)], coupling)
    if not left > _LEAST * information:
        raise ValueError(
            "these tilts and counts cannot tell the region from its surroundings: make it "
            "larger, or pass the outline as mask="
        )
    return float(1 / np.sqrt(left))
