# SPDX-License-Identifier: GPL-3.0-or-later
"""Non-negative least squares with noisy regressors whose noise covariance is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, eigh
from scipy.optimize import nnls

# Squared singular value of the scaled regressors, about float32 rounding, below which columns are
# dependent.
DEPENDENT = 1e-10
# Standard deviations by which the regressors have to exceed their noise in every direction.
SIGNIFICANT = 5.0
# Standard errors above 0 from which a ratio is significant.
SIGNIFICANT_RATIO = 2.0


class ErrorsInVariables(ABC):
    """Normal equations of h = P r, summed over groups of rows, with the noise part of P'P."""

    noise: np.ndarray
    edges: np.ndarray

    @property
    @abstractmethod
    def removable(self) -> float:
        """Largest fraction of noise in the equations that is fully subtracted."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of regressors."""

    @property
    @abstractmethod
    def groups(self) -> int:
        """Number of groups of rows that the bootstrap draws from."""

    @abstractmethod
    def sums(self, groups: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return gram (channel, channel) and cross (channel,) of groups, which may be repeated."""

    @abstractmethod
    def scores(self, ratios: np.ndarray) -> np.ndarray:
        """Return cross - gram r, noise subtracted, of each group (group, channel)."""

    @abstractmethod
    def of(self, channels: np.ndarray) -> ErrorsInVariables:
        """Return the equations of some of the channels."""

    def solve(
        self,
        prior: np.ndarray | None = None,
        groups: np.ndarray | slice = slice(None),
        pull: np.ndarray | None = None,
    ) -> np.ndarray:
        """Minimise r'(gram + prior - k noise) r - 2 (cross - k edges)'r over r >= 0.

        k is 1 if the noise is at most the fraction `removable` in every direction; otherwise it is
        smaller, so that the matrix stays positive definite and channels that differ only by their
        noise get similar ratios.

        Parameters
        ----------
        prior : numpy.ndarray (channel + 1, channel + 1), optional
            See `prior_terms`.
        groups : numpy.ndarray of int or slice, optional
            Which groups to sum over; they may be repeated.
        pull : numpy.ndarray (channel + 1,), optional
            Right-hand side of the prior's equations; 0 by default.

        Returns
        -------
        numpy.ndarray (channel,)
        """
        gram, cross = self.sums(groups)
        noise, edges = self.noise[groups].sum(axis=0), self.edges[groups].sum(axis=0)
        matrix, target = _with_prior(gram, cross, prior)
        channels, share = len(noise), self._noise_share(matrix, noise)[0]
        matrix[:channels, :channels] -= share * noise
        target[:channels] -= share * edges
        target = target if pull is None else target + pull
        scale = _scale_of(matrix)
        # nnls needs the square root of the normal equations: |B r - c|^2 with B'B = matrix and
        # B'c = target.
        values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
        roots = np.sqrt(np.maximum(values, np.finfo(np.float64).eps * values[-1]))
        solution, _ = nnls(roots[:, None] * vectors.T, (vectors.T @ (target / scale)) / roots)
        return (solution / scale)[:channels]

    def indistinct(self, prior: np.ndarray | None = None) -> list[int]:
        """Return the channels that differ only by their noise, which `solve` cannot distinguish."""
        gram, cross = self.sums()
        matrix, _ = _with_prior(gram, cross, prior)
        share, direction = self._noise_share(matrix, self.noise.sum(axis=0))
        if share == 1.0:
            return []
        weight = np.abs(direction[: len(gram)]) * np.sqrt(np.diag(gram))
        return [int(i) for i in np.flatnonzero(weight > 0.3 * weight.max())]

    def _noise_share(self, matrix: np.ndarray, noise: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the fraction of the noise that can be subtracted, and the limiting direction."""
        widened = np.zeros_like(matrix)
        widened[: len(noise), : len(noise)] = noise
        scale = _scale_of(matrix)
        try:
            parts, directions = eigh(
                widened / np.outer(scale, scale), matrix / np.outer(scale, scale)
            )
        except LinAlgError:
            # The maps of a resampling are dependent: no noise can be subtracted.
            return 0.0, np.ones(len(matrix))
        return min(1.0, self.removable / max(parts[-1], self.removable)), directions[:, -1] / scale


def _scale_of(matrix: np.ndarray) -> np.ndarray:
    """Return the roots of the diagonal, 1 for a channel without counts in a resampling."""
    diagonal = np.diag(matrix)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


@dataclass(frozen=True)
class NormalEquations(ErrorsInVariables):
    """Normal equations whose regressors are the noisy counts themselves.

    Attributes
    ----------
    gram : numpy.ndarray (group, channel, channel)
        P'P.
    cross : numpy.ndarray (group, channel)
        P'h.
    noise : numpy.ndarray (group, channel, channel)
        Covariance of the noise of P, summed over its rows; it includes edges of the specimen.
    edges : numpy.ndarray (group, channel)
        The contribution of edges to P'h, measured in the same way: see `noise_covariance`.
    rows : int
        Number of rows of P.
    """

    gram: np.ndarray
    cross: np.ndarray
    noise: np.ndarray
    edges: np.ndarray
    rows: int

    @property
    def removable(self) -> float:
        """Largest fraction of noise in the equations that is fully subtracted."""
        # The relative scatter of a sum of `rows` squares is sqrt(2/rows); the fraction is at least
        # a half.
        return max(0.5, 1.0 - SIGNIFICANT * np.sqrt(2.0 / self.rows))

    @property
    def channels(self) -> int:
        """Number of regressors."""
        return self.cross.shape[1]

    @property
    def groups(self) -> int:
        """Number of groups of rows that the bootstrap draws from."""
        return len(self.cross)

    def sums(self, groups: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return gram and cross of some groups."""
        return self.gram[groups].sum(axis=0), self.cross[groups].sum(axis=0)

    def scores(self, ratios: np.ndarray) -> np.ndarray:
        """Return cross - gram r, noise subtracted, of each group."""
        return self.cross - self.edges - (self.gram - self.noise) @ ratios

    def of(self, channels: np.ndarray) -> NormalEquations:
        """Return the normal equations of some of the channels."""
        square = np.ix_(np.arange(self.groups), channels, channels)
        return replace(
            self,
            gram=self.gram[square],
            cross=self.cross[:, channels],
            noise=self.noise[square],
            edges=self.edges[:, channels],
        )


def significant_ratios(
    equations: ErrorsInVariables, prior_matrix: np.ndarray | None, repeats: int, seed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return ratios and standard errors; insignificant ratios are set to 0.

    Ratios below twice their standard error are set to 0 one by one, each time refitting the others.
    With a ratio near 0, a volume x_e/r_e would consist of amplified HAADF residuals.

    Parameters
    ----------
    equations : ErrorsInVariables
    prior_matrix : numpy.ndarray (channel + 1, channel + 1) or None
        See `prior_terms`.
    repeats : int
        Resamplings of the groups; below 2 the errors are NaN and no ratio is set to 0.
    seed : int or None

    Returns
    -------
    ratios, errors : numpy.ndarray (channel,)
    """
    solution, spread = (
        equations.solve(prior_matrix),
        _bootstrap(equations, prior_matrix, repeats, seed),
    )
    kept, errors = np.arange(len(solution)), spread
    while True:
        values = solution[kept]
        doubtful = np.flatnonzero((values > 0) & (values < SIGNIFICANT_RATIO * errors))
        if not doubtful.size or len(kept) == 1:
            break
        kept = np.delete(kept, doubtful[np.argmin(values[doubtful] / errors[doubtful])])
        rest = equations.of(kept)
        # The last row of the prior is its common factor.
        prior = None if prior_matrix is None else prior_matrix[np.ix_([*kept, -1], [*kept, -1])]
        solution, errors = np.zeros(len(solution)), _bootstrap(rest, prior, repeats, seed)
        solution[kept], spread[kept] = rest.solve(prior), errors
    return solution, spread


def _bootstrap(
    equations: ErrorsInVariables, prior_matrix: np.ndarray | None, repeats: int, seed: int | None
) -> np.ndarray:
    """Return the standard deviation of the ratios over resampled groups."""
    if repeats < 2:
        return np.full(equations.channels, np.nan)
    rng = np.random.default_rng(seed)
    groups = equations.groups
    drawn = [
        equations.solve(prior_matrix, rng.integers(groups, size=groups)) for _ in range(repeats)
    ]
    return np.std(drawn, axis=0, ddof=1)


def check_independent(
    counts: np.ndarray,
    prior: np.ndarray | None,
    names: Sequence[str],
    known: np.ndarray | None = None,
) -> None:
    """Raise an error that names the channels of counts (block, channel) if they are dependent.

    Channels whose ratios are `known` from elsewhere may depend on one another.
    """
    gram, _ = _with_prior(counts.T @ counts, np.zeros(counts.shape[1]), prior)
    scale = np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    involved = (np.abs(vectors[:, values < DEPENDENT]) > 1e-3).any(axis=1)[: len(names)]
    if involved.any() and (known is None or not known[involved].all()):
        dependent = ", ".join(name for name, is_in in zip(names, involved, strict=True) if is_in)
        raise ValueError(
            f"the maps of {dependent} depend on one another exactly, so that their response ratios "
            "are not defined; leave one "
            "out, use a finer mask or smaller blocks, or give prior={element: relative ratio} for "
            "all of them"
        )


def prior_terms(
    names: Sequence[str],
    prior: Mapping[str, float] | None,
    strength: float | None,
    energy: np.ndarray,
) -> np.ndarray | None:
    """Return the rows strength * sqrt(energy_e) * (r_e - s q_e) = 0 as normal equations in (r, s).

    Parameters
    ----------
    names : sequence of str
        The channels that are fitted.
    prior : mapping of str to float or None
        q_e > 0 of two channels at least.
    strength : float or None
        Positive; None goes with no prior.
    energy : numpy.ndarray (channel,)
        sum of p_e^2 over the blocks.

    Returns
    -------
    numpy.ndarray (channel + 1, channel + 1) or None
    """
    if prior is None or strength is None:
        return None
    terms = np.zeros((len(names) + 1, len(names) + 1))
    for element, q in prior.items():
        row = np.zeros(len(terms))
        row[[names.index(element), -1]] = 1.0, -q
        terms += strength**2 * energy[names.index(element)] * np.outer(row, row)
    return terms


def one_sided_weights(
    signal: np.ndarray, fit: Callable[[np.ndarray], np.ndarray], repeats: int = 15
) -> np.ndarray:
    """Return the blocks that a model explains; others may be brighter, but not darker.

    The scatter is measured on the blocks that are darker than the model, in units of the model's
    square root (counts). First, brighter blocks get one-sided Huber weights; then those beyond
    three standard deviations are left out.

    Parameters
    ----------
    signal : numpy.ndarray (block,)
    fit : callable
        Weights (block,) -> model (block,).
    repeats : int, default 15
        Rounds of each of the two stages.

    Returns
    -------
    numpy.ndarray (block,)
        1 or 0.

    References
    ----------
    P.J. Huber, Ann. Math. Statist. 35 (1964) 73, doi:10.1214/aoms/1177703732.
    """
    weights = np.ones(len(signal))
    for pull in [_huber_pull] * repeats + [_kept] * repeats:
        model = fit(weights)
        excess = (signal - model) / np.sqrt(np.maximum(model, 0.01 * np.abs(model).mean()))
        below = excess[excess < 0]
        # 1.4826 median |d| is the standard deviation of a normal distribution; its lower half is
        # enough by symmetry.
        scatter = 1.4826 * np.median(-below) if below.size else np.finfo(np.float64).eps
        previous, weights = weights, pull(excess / scatter)
        if pull is _kept and np.array_equal(weights, previous):
            break
    return weights


def _huber_pull(deviation: np.ndarray) -> np.ndarray:
    return 1.0 / np.maximum(deviation, 1.0)


def _kept(deviation: np.ndarray) -> np.ndarray:
    return (deviation < 3.0).astype(np.float64)


def _with_prior(
    gram: np.ndarray, cross: np.ndarray, prior: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the equations extended by the prior and its common factor."""
    if prior is None:
        return gram.copy(), cross.copy()
    matrix = prior.copy()
    matrix[: len(cross), : len(cross)] += gram
    return matrix, np.append(cross, 0.0)
