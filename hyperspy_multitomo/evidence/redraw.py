# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts and images drawn anew around what a volume makes one expect, and their moments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

from hyperspy_multitomo.tomography import net_variance
from hyperspy_multitomo.tomography.finest_detail import (
    MEDIAN,
    even_places,
    finest_detail,
    local_mean,
)

# Classes of the level of images, in each of which the noise is measured.
_CLASSES = 12
# Rounds of the fit, and the variance over the largest below which none is told from 0.
_ROUNDS, _LEAST = 3, 0.01
# Part of the counts that a volume may expect below 0, where a Poisson law begins.
MOST_NEGATIVE = 0.01


@dataclass(frozen=True)
class ImageNoise:
    """The noise of images as recorded: its variance is a straight line of the signal.

    Attributes
    ----------
    constant : float
        Variance where there is no signal, of a pixel.
    per_signal : float
        Variance for each unit of signal, the signal of one electron where they are counted.
    nonnegative : bool
        Whether the images have no value below 0.
    """

    constant: float
    per_signal: float
    nonnegative: bool

    @classmethod
    def of(cls, images: np.ndarray) -> ImageNoise:
        """Return the noise of images (tilt, x, y), from their finest detail at each level.

        Examples
        --------
        >>> electrons = np.full((4, 80, 40), 100.0)
        >>> electrons[:, 40:] = 400.0
        >>> noise = ImageNoise.of(25.0 * np.random.default_rng(0).poisson(electrons))
        >>> bool(23 < noise.per_signal < 27)
        True
        """
        images = np.asarray(images, np.float32)
        even = even_places(images)
        squares = np.square(finest_detail(images)[even], dtype=np.float64)
        levels = np.maximum(local_mean(images)[even], 0)
        # Classes by the level, so that the vacuum is one or some of them.
        limits = np.quantile(levels, np.arange(1, _CLASSES) / _CLASSES)
        classes = np.searchsorted(limits, levels, side="right")
        rows = [
            (np.median(levels[one]), np.median(squares[one]) / MEDIAN)
            for one in (classes == c for c in range(_CLASSES))
            if one.any()
        ]
        level, variance = np.array(rows).T
        design = np.stack([np.ones_like(level), level / (level.max() or 1.0)], axis=1)
        # Relative errors are alike: classes weigh by the variance, first as it was measured.
        fitted, line = variance, np.zeros(2)
        for _ in range(_ROUNDS):
            weight = 1 / np.maximum(fitted, _LEAST * variance.max() or 1.0)
            line, _ = nnls(weight[:, None] * design, weight * variance)
            fitted = design @ line
        constant, slope = line[0], line[1] / (level.max() or 1.0)
        return cls(float(constant), float(slope), bool(images.min() >= 0))

    def draw(self, expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return images drawn around an expectation, float32.

        Normal, or where images have no value below 0 a Poisson variable times a factor that gives
        it this variance.
        """
        mean = np.asarray(expected, np.float64)
        variance = self.constant + self.per_signal * np.maximum(mean, 0)
        if not self.nonnegative:
            return rng.normal(mean, np.sqrt(variance)).astype(np.float32)
        mean = np.maximum(mean, 0)
        drawn = (mean > 0) & (variance > 1e-12 * mean**2)
        unit = np.divide(variance, mean, out=np.ones_like(mean), where=drawn)
        return np.where(drawn, unit * rng.poisson(mean / unit), mean).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CountNoise:
    """The noise of maps: Poisson counts, and what a subtracted background does to net ones.

    Attributes
    ----------
    factor : array (channel, 1, 1, 1)
        Noise of the net counts over that of the gross counts.
    """

    factor: np.ndarray

    @classmethod
    def of(cls, gross, net, share) -> CountNoise:
        """Return the noise of maps with gross counts, (channel, tilt, x, y), and window shares."""
        variance = (net_variance(net, gross) * np.asarray(share) ** 2).sum(axis=1)
        counts = np.asarray(gross).mean(axis=(2, 3), dtype=np.float64).sum(axis=1)
        factor = np.sqrt(np.divide(variance, counts, out=np.ones_like(counts), where=counts > 0))
        return cls(factor[:, None, None, None])

    def background(self, drawn, expected, background) -> np.ndarray:
        """Return the background, as noisy as it has to be, that is taken off counts drawn."""
        return background + (1 - self.factor) * (drawn - expected)


def draw_counts(expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return Poisson counts, float32; expectations below 0 count as 0."""
    return rng.poisson(np.maximum(expected, 0)).astype(np.float32)


def negative_part(expected: np.ndarray) -> float:
    """Return how much an expectation is below 0, over how much it is above."""
    below, above = float(-np.minimum(expected, 0).sum()), float(np.maximum(expected, 0).sum())
    return below / above if above > 0 else 0.0


@dataclass
class Moments:
    """Mean and standard deviation of volumes that come one at a time (Welford).

    References
    ----------
    B. P. Welford, Technometrics 4 (1962) 419, https://doi.org/10.1080/00401706.1962.10490022.

    Examples
    --------
    >>> moments = Moments()
    >>> for value in (1.0, 2.0, 6.0):
    ...     moments.add(np.array([value]))
    >>> moments.mean, moments.sd.round(3)
    (array([3.]), array([2.646]))
    """

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    _squares: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, values: np.ndarray) -> None:
        """Take one more into account."""
        if not self.count:
            self.mean, self._squares = np.zeros(values.shape), np.zeros(values.shape)
        self.count += 1
        off = values - self.mean
        self.mean += off / self.count
        self._squares += off * (values - self.mean)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation, that of a sample."""
        return np.sqrt(self._squares / (self.count - 1))
