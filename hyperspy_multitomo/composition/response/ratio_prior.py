# SPDX-License-Identifier: GPL-3.0-or-later
"""Ratios by a Gaussian prior on their logarithms, set against the covariance of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from hyperspy_multitomo.composition.response.regression import (
    SIGNIFICANT_RATIO,
    ErrorsInVariables,
)
from hyperspy_multitomo.parameters import positive_number

__all__ = [
    "FEWEST_GROUPS",
    "WIDTH",
    "LogPrior",
    "NoPositiveFactor",
    "PriorFit",
    "checked_prior",
    "fit_with_prior",
]

#: Standard deviation of the logarithm of a ratio from cross sections: 30 %.
WIDTH = 0.3
#: Groups of rows from which a covariance can be measured.
FEWEST_GROUPS = 3
# Part of the regressors' power that is left, for the covariance, in a direction in which they do
# not exceed their noise. It is small enough to leave such a direction to the prior, and large
# enough not to count an element as unknown for a few per cent of it.
UNKNOWN = 0.03


class NoPositiveFactor(ValueError):
    """No common factor above 0 brings a prior to the data."""


@dataclass(frozen=True)
class LogPrior:
    """Relative ratios, and the standard deviations of their logarithms, of the channels of a fit.

    Attributes
    ----------
    expected : numpy.ndarray (channel,)
        q_e up to a common factor, NaN for a channel without a prior.
    widths : numpy.ndarray (channel,)
        Standard deviation of log r_e.
    """

    expected: np.ndarray
    widths: np.ndarray

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        prior: Mapping[str, float],
        width: float | Mapping[str, float] = WIDTH,
    ) -> LogPrior:
        """Return the prior of named channels, of which it may leave some out."""
        expected, widths = np.full(len(names), np.nan), np.ones(len(names))
        for element, value in prior.items():
            at = names.index(element)
            expected[at] = value
            one = width.get(element, WIDTH) if isinstance(width, Mapping) else width
            widths[at] = positive_number("prior_width", one)
        return cls(expected, widths)

    @property
    def known(self) -> np.ndarray:
        """Which channels have a prior."""
        return np.isfinite(self.expected)

    def at(self, channels: np.ndarray) -> LogPrior:
        """Return the prior of some channels."""
        return LogPrior(self.expected[channels], self.widths[channels])


def checked_prior(
    elements: Sequence[str],
    prior: Mapping[str, float] | None,
    width: float | Mapping[str, float],
    names: Sequence[str],
) -> dict[str, float] | None:
    """Return the relative ratios of a prior for the elements with counts, `names`.

    None without a prior, or where it would tie no element to another.
    """
    if prior is None:
        return None
    named = [*prior, *(width if isinstance(width, Mapping) else ())]
    if unknown := [element for element in named if element not in elements]:
        raise ValueError(
            f"the prior names {', '.join(unknown)}, but the elements are {', '.join(elements)}"
        )
    if len(prior) < 2:
        raise ValueError(
            f"the prior is {dict(prior)}; give positive relative ratios of two elements or more"
        )
    checked = {element: positive_number(f"prior[{element!r}]", q) for element, q in prior.items()}
    kept = {element: q for element, q in checked.items() if element in names}
    return kept if len(kept) > 1 else None


@dataclass(frozen=True)
class PriorFit:
    """Ratios of a fit with a prior.

    Attributes
    ----------
    values, errors : numpy.ndarray (channel,)
        Ratios and their standard errors, by the data and the prior.
    expected : numpy.ndarray (channel,)
        The prior's ratios with the common factor that was fitted; NaN without a prior.
    calculated : numpy.ndarray of bool (channel,)
        Whether the prior knows a ratio better than the data do.
    """

    values: np.ndarray
    errors: np.ndarray
    expected: np.ndarray
    calculated: np.ndarray


def fit_with_prior(equations: ErrorsInVariables, prior: LogPrior) -> PriorFit:
    """Minimise |A r - b|^2/phi + sum_e (log(r_e/(s q_e))/w_e)^2 over r > 0.

    Parameters
    ----------
    equations : ErrorsInVariables
        A'A and A'b, with the noise of the regressors subtracted, in `FEWEST_GROUPS` groups or more.
    prior : LogPrior
        q and the widths w.

    Returns
    -------
    PriorFit
        A ratio without a prior is 0 below twice its standard error.

    Raises
    ------
    NoPositiveFactor
        For a HAADF of inverted contrast.

    Notes
    -----
    phi makes the first term a log likelihood: the mean variance of the equations from group to
    group, times the misfit per active constraint where least squares want ratios below 0, which
    the groups have in common (Birge's factor [1]_).

    The common factor s is the mean of r_e/q_e in the logarithms over the elements that the data
    determine better than the prior does; their scatter widens all widths where it exceeds them.
    Without such elements s is that of r = s q.

    An element that the data determine to a relative error d has its width multiplied by
    sqrt(1 + (w/d)^2), so that the prior's pull, in standard errors, falls with the third power of
    d/w.

    The errors are those of the estimating equations (a sandwich), which include the scatter between
    groups, the misfit, the widths and the error of s.

    References
    ----------
    .. [1] R.T. Birge, Phys. Rev. 40 (1932) 207, doi:10.1103/PhysRev.40.207.
    """
    start = equations.solve()
    data = _Data.of(equations, start)
    known = prior.known
    scale, scale_error, widening = _common_factor(data, prior, start)
    expected, widths = scale * prior.expected, widening * prior.widths
    # Any positive value will do to begin with.
    middle = np.where(known, expected, scale * np.nanmean(prior.expected))
    precision = np.where(known, widths**-2.0, 0.0)
    values = data.most_probable(precision, middle, np.where(start > 0, start, middle))
    variance = np.diag(data.covariance) / (values * widths) ** 2
    # Where least squares want a ratio of 0 they do not know it, however small their error.
    decided = (start > 0) & (variance < 1)
    precision *= np.where(start > 0, variance / (1 + variance), 1.0)
    values = data.most_probable(precision, middle, values)
    errors = data.errors(values, precision, scale_error)
    doubtful = np.flatnonzero(~known & (values < SIGNIFICANT_RATIO * errors))
    if doubtful.size and len(values) > 1:
        return _without(doubtful[np.argmin((values / errors)[doubtful])], equations, prior, errors)
    return PriorFit(values, errors, expected, known & ~decided)


def _without(
    channel: int, equations: ErrorsInVariables, prior: LogPrior, errors: np.ndarray
) -> PriorFit:
    """Return the fit with the ratio of a channel at 0, its error that of the fit before."""
    kept = np.delete(np.arange(len(errors)), channel)
    rest = fit_with_prior(equations.of(kept), prior.at(kept))
    return PriorFit(
        np.insert(rest.values, channel, 0.0),
        np.insert(rest.errors, channel, errors[channel]),
        np.insert(rest.expected, channel, np.nan),
        np.insert(rest.calculated, channel, False),
    )


@dataclass(frozen=True)
class _Data:
    """The data's part of the objective, |rows r - target|^2, and the scatter of its equations."""

    rows: np.ndarray  # (direction, channel)
    target: np.ndarray  # (direction,)
    scatter: np.ndarray  # covariance of the equations rows'(target - rows r) (channel, channel)
    covariance: np.ndarray  # of the ratios without a prior, misfit included (channel, channel)

    @classmethod
    def of(cls, equations: ErrorsInVariables, ratios: np.ndarray) -> _Data:
        """Return the data's part for equations, their scatter measured at some ratios."""
        gram, cross = equations.sums()
        noise, cross = equations.noise.sum(axis=0), cross - equations.edges.sum(axis=0)
        unit = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
        # gram = root'root, by a Cholesky factor that bears maps which depend on one another.
        even = gram / np.outer(unit, unit) + 1e-10 * np.eye(len(unit))
        root = np.linalg.cholesky(even).T * unit
        white = np.linalg.inv(root)
        share, axes = np.linalg.eigh(white.T @ noise @ white)
        strong = share <= equations.removable
        left = np.where(strong, 1.0 - share, UNKNOWN)
        spread = equations.scores(ratios)
        spread = np.cov(spread, rowvar=False).reshape(gram.shape) * len(spread)
        inverse = white @ (axes / left) @ axes.T @ white.T
        phi = max(np.trace(white.T @ spread @ white) / len(unit), np.finfo(np.float64).tiny)
        powers = np.sqrt(left[strong])
        rows = powers[:, None] * (axes[:, strong].T @ root)
        target = axes[:, strong].T @ (white.T @ cross) / powers
        constraints = max(np.count_nonzero(ratios == 0), 1)
        misfit = max(1.0, ((rows @ ratios - target) ** 2).sum() / phi / constraints)
        phi *= misfit
        return cls(
            rows / np.sqrt(phi),
            target / np.sqrt(phi),
            misfit * spread / phi**2,
            misfit * inverse @ spread @ inverse,
        )

    def most_probable(
        self, precision: np.ndarray, middle: np.ndarray, start: np.ndarray
    ) -> np.ndarray:
        """Return the ratios at the least of the objective with a prior around `middle`."""
        lever = np.diag(np.sqrt(precision))
        # Steps from the start: their zeros give the solver a first step of its own.
        offset = np.log(start / middle)

        def residuals(steps: np.ndarray) -> np.ndarray:
            misfit = self.rows @ (start * np.exp(steps)) - self.target
            return np.concatenate([misfit, lever @ (steps + offset)])

        def slopes(steps: np.ndarray) -> np.ndarray:
            return np.concatenate([self.rows * (start * np.exp(steps)), lever])

        found = least_squares(residuals, np.zeros(len(start)), slopes, method="lm")
        return start * np.exp(found.x)

    def errors(self, values: np.ndarray, precision: np.ndarray, scale_error: float) -> np.ndarray:
        """Return the standard errors of the ratios."""
        held = precision / values**2
        along = scale_error * precision / values
        inverse = np.linalg.pinv(self.rows.T @ self.rows + np.diag(held), hermitian=True)
        middle = self.scatter + np.diag(held) + np.outer(along, along)
        return np.sqrt(np.diag(inverse @ middle @ inverse))


def _common_factor(data: _Data, prior: LogPrior, ratios: np.ndarray) -> tuple[float, float, float]:
    """Return the common factor, the error of its logarithm, and the factor of the widths."""
    variance = np.diag(data.covariance) / prior.widths**2
    measured = prior.known & (ratios > 0) & (variance < ratios**2)
    if not measured.any():
        along = data.rows @ np.nan_to_num(prior.expected)
        factor = float(along @ data.target / (along @ along))
        if factor <= 0:
            raise NoPositiveFactor(
                "the HAADF falls where the maps rise; is its contrast inverted, or its background "
                "not subtracted?"
            )
        return factor, float(prior.widths[prior.known].max()), 1.0
    logs = np.log(ratios[measured] / prior.expected[measured])
    weights = 1 / (
        prior.widths[measured] ** 2 + data.covariance.diagonal()[measured] / ratios[measured] ** 2
    )
    mean = weights @ logs / weights.sum()
    chi2 = weights @ (logs - mean) ** 2 / max(len(logs) - 1, 1)
    widening = float(np.sqrt(max(1.0, chi2)))
    return float(np.exp(mean)), widening / float(np.sqrt(weights.sum())), widening
