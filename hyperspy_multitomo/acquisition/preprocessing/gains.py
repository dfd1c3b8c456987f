# SPDX-License-Identifier: GPL-3.0-or-later
"""Gains per tilt, from the signal of each tilt relative to the expected signal.

They enter the forward model; the data are never divided by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.preprocessing.image_checks import STEEPEST, tilts_of_projections

__all__ = ["GainEstimate", "expected_means", "fit_gains", "gain_from_means"]


@dataclass(frozen=True, eq=False, repr=False)
class GainEstimate:
    """
    Gains of a series and their standard errors.

    Attributes
    ----------
    values : numpy.ndarray (tilt,) or (tilt, element)
        The gains, of mean 1 over the tilts: data = gain * projection.
    standard_errors : numpy.ndarray or None
        Errors of `values` from the Poisson noise of the counts; None for other signals.
    tilts : numpy.ndarray (tilt,)
        Degrees.
    model : str
        The expected signal: ``"constant"``, ``"lamella"``, ``"haadf"`` or ``"live_time"``.
    elements : tuple of str
        Names along the last axis of `values`; empty for one gain per tilt.
    """

    values: np.ndarray
    standard_errors: np.ndarray | None
    tilts: np.ndarray
    model: str
    elements: tuple[str, ...] = ()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.values, dtype=dtype)

    def __repr__(self) -> str:
        names = self.elements or ("gain",)
        values = self.values.reshape(len(self.tilts), -1)
        errors = (
            None if self.standard_errors is None else self.standard_errors.reshape(values.shape)
        )
        lines = ["  tilt  " + "".join(f"{name:>16}" for name in names)]
        for t, row in enumerate(values):
            cells = (
                f"{v:.3f}" if errors is None else f"{v:.3f} ± {errors[t, i]:.3f}"
                for i, v in enumerate(row)
            )
            lines.append(f"{self.tilts[t]:6.1f}° " + "".join(f"{cell:>16}" for cell in cells))
        return "\n".join([f"gains, expected signal: {self.model}", *lines])


def expected_means(tilts: ArrayLike, model: Literal["constant", "lamella"]) -> np.ndarray:
    """
    Return the expected mean signal of each tilt, up to a common factor.

    Parameters
    ----------
    tilts : array_like (tilt,)
        Degrees.
    model : "constant" or "lamella"
        Constant over the tilts, for an object wholly in view; or 1/cos t, the path through a
        lamella that fills the view.

    Returns
    -------
    numpy.ndarray (tilt,)

    Raises
    ------
    ValueError
        For an unknown model, or a lamella on edge (beyond 85 degrees).

    Examples
    --------
    >>> expected_means([-60, 0, 60], "lamella").round(6)
    array([2., 1., 2.])
    """
    tilts = np.asarray(tilts, dtype=np.float64)
    if model == "constant":
        return np.ones(len(tilts))
    if model != "lamella":
        raise ValueError(
            f"unknown model {model!r}; use 'constant' (wholly in view) or 'lamella' (fills the "
            "view)"
        )
    if np.abs(tilts).max() > STEEPEST:
        raise ValueError(
            f"a lamella beyond {STEEPEST:g} degrees has no defined thickness; leave those tilts "
            "out or use model='constant'"
        )
    return 1 / np.cos(np.deg2rad(tilts))


def fit_gains(
    sums: ArrayLike,
    expected: ArrayLike,
    tilts: ArrayLike,
    *,
    variances: ArrayLike | None = None,
    known: ArrayLike | None = None,
    smooth: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Estimate gains from the summed signal of every tilt and the expected signal.

    Parameters
    ----------
    sums : array_like (tilt,) or (channel, tilt)
        Signal summed over the pixels; net counts for maps.
    expected : array_like (tilt,)
        Expected signal, up to a factor for each channel; NaN at tilts where it is unknown, which
        requires `smooth`.
    tilts : array_like (tilt,)
        Degrees.
    variances : array_like, optional
        Variances of `sums`, same shape: the gross counts. Without them there are no standard
        errors.
    known : array_like, same shape as `sums` or (tilt,), optional
        Gains known beforehand that are not smooth in the tilt, such as live times. They are factors
        of the result, and only the rest is smoothed. Without `smooth` they change nothing, because
        the sums contain them.
    smooth : int, optional
        Degree of a polynomial in the tilt for the logarithm of the gain; by default the gains of
        the tilts are independent.

    Returns
    -------
    gains : numpy.ndarray, shape of `sums`
        Of mean 1 over the tilts.
    standard_errors : numpy.ndarray or None
        Errors of the gains, with that of their normalisation.

    Raises
    ------
    ValueError
        For shapes that do not fit, sums that are not positive, or fewer tilts than the polynomial
        needs.

    Notes
    -----
    The polynomial is the maximum-likelihood fit of Poisson counts with a logarithmic link, by
    iteratively reweighted least squares. Net counts above a background are overdispersed: the
    covariance is multiplied by the ratio of variance to counts. P. McCullagh, J. A. Nelder,
    Generalized Linear Models, 2nd ed. (1989), chapters 2 and 9.

    Examples
    --------
    >>> counts = [50.0, 100.0, 150.0]
    >>> gains, errors = fit_gains(counts, [1, 1, 1], [-10, 0, 10], variances=counts)
    >>> gains, errors.round(3)
    (array([0.5, 1. , 1.5]), array([0.065, 0.082, 0.087]))
    """
    sums = np.asarray(sums, dtype=np.float64)
    rows = np.atleast_2d(sums)
    tilts = tilts_of_projections(tilts, rows.shape[1])
    expected = np.asarray(expected, dtype=np.float64)
    if expected.shape != tilts.shape or not (np.isnan(expected) | (expected > 0)).all():
        raise ValueError(
            "a tilt has no positive sum of the expected signal, so that it has no gain; leave it "
            "out"
        )
    spread = None if variances is None else np.atleast_2d(np.asarray(variances, dtype=np.float64))
    known = np.broadcast_to(
        1.0 if known is None else np.asarray(known, dtype=np.float64), rows.shape
    )
    if smooth is None:
        gains, covariances = _each_tilt(rows, expected, tilts, spread)
    else:
        gains, covariances = _along_tilts(rows, known * expected, tilts, spread, smooth)
        gains = known * gains
    gains = gains / gains.mean(axis=-1, keepdims=True)
    if covariances is None:
        return gains.reshape(sums.shape), None
    # d log(g_t / mean g) = d log g_t - sum_s (g_s / sum g) d log g_s
    relative = np.eye(len(tilts)) - (gains / gains.sum(axis=-1, keepdims=True))[:, None]
    variances = np.einsum("cts,csr,ctr->ct", relative, covariances, relative)
    errors = gains * np.sqrt(np.maximum(variances, 0))
    return gains.reshape(sums.shape), errors.reshape(sums.shape)


def gain_from_means(
    projections: ArrayLike, tilts: ArrayLike, model: Literal["constant", "lamella"] = "constant"
) -> np.ndarray:
    """
    Estimate the gain of every tilt from the mean of its image relative to the expected mean.

    The gains belong in the forward model, projection = gain x (W x); the data stay as they are.

    Parameters
    ----------
    projections : array_like (tilt, x, y) or (channel, tilt, x, y)
        Counts or HAADF signal, background subtracted.
    tilts : array_like (tilt,)
        Degrees.
    model : "constant" or "lamella", default "constant"
        The expected mean: constant over the tilts, for an object that is wholly in view; or
        proportional to 1/cos t, the path through a lamella that fills the view.

    Returns
    -------
    numpy.ndarray (tilt,) or (channel, tilt)
        Gains of mean 1.

    Raises
    ------
    ValueError
        If numbers of tilts differ, a mean is not positive, or a lamella is on edge (beyond 85
        degrees).

    References
    ----------
    The constant mean is the scaling of R. Huber et al., Nanoscale 11 (2019) 5617,
    doi:10.1039/C8NR09058K.

    Examples
    --------
    >>> import numpy as np
    >>> projections = np.ones((3, 4, 4)) * np.array([2.0, 4.0, 6.0])[:, None, None]
    >>> gain_from_means(projections, [-10, 0, 10])
    array([0.5, 1. , 1.5])
    """
    projections = np.asarray(projections)
    if projections.ndim not in (3, 4):
        raise ValueError(
            f"the projections have shape {projections.shape}; expected (tilt, x, y) or (channel, "
            "tilt, x, y)"
        )
    tilts = tilts_of_projections(tilts, projections.shape[-3])
    means = projections.mean(axis=(-2, -1), dtype=np.float64)
    return fit_gains(means, expected_means(tilts, model), tilts)[0]


def _each_tilt(rows, expected, tilts, spread):
    """Return signal over expected signal, and the covariance of its logarithm, (tilt, tilt)."""
    if np.isnan(expected).any():
        raise ValueError(
            f"nothing is known of the expected signal at the tilts {tilts[np.isnan(expected)]}: "
            "use only the tilts that both series have, or pass smooth=2, which bridges the gaps"
        )
    if not (np.isfinite(rows).all() and (rows > 0).all()):
        bad = tilts[~(np.isfinite(rows) & (rows > 0)).all(axis=0)]
        raise ValueError(
            f"the mean is not positive and finite at the tilts {bad}; leave these tilts out, or "
            "pass smooth=2"
        )
    if spread is None:
        return rows / expected, None
    return rows / expected, (np.maximum(spread, 0) / rows**2)[:, None] * np.eye(len(tilts))


def _along_tilts(rows, exposure, tilts, spread, degree):
    """Return exp(polynomial of the tilt) for each row, and the covariance of the polynomial."""
    fitted = np.isfinite(exposure[0])
    if not (
        isinstance(degree, int | np.integer)
        and not isinstance(degree, bool)
        and 0 <= degree < fitted.sum() - 1
    ):
        raise ValueError(
            f"smooth={degree!r} must be the degree of a polynomial, 0 or more, and below "
            f"{fitted.sum() - 1} for {fitted.sum()} tilts"
        )
    if not np.isfinite(rows[:, fitted]).all() or not (rows[:, fitted].sum(axis=1) > 0).all():
        raise ValueError(
            "a channel has no positive sum over the tilts, so that it has no gains; leave it out"
        )
    powers = np.polynomial.legendre.legvander(tilts / np.abs(tilts).max(), degree)
    results = [
        _poisson_fit(y[fitted], e[fitted], powers[fitted])
        for y, e in zip(rows, exposure, strict=True)
    ]
    gains = np.stack([np.exp(powers @ coefficients) for coefficients, _ in results])
    if spread is None:
        return gains, None
    excess = spread[:, fitted].sum(axis=1) / rows[:, fitted].sum(axis=1)
    return gains, excess[:, None, None] * np.stack(
        [powers @ covariance @ powers.T for _, covariance in results]
    )


def _poisson_fit(
    counts: np.ndarray, exposure: np.ndarray, powers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit counts ~ Poisson(exposure * exp(powers @ coefficients)).

    Returns the coefficients and their covariance.
    """
    coefficients = np.zeros(powers.shape[1])
    coefficients[0] = np.log(counts.sum() / exposure.sum())
    for _ in range(50):
        mean = exposure * np.exp(powers @ coefficients)
        curvature = (powers.T * mean) @ powers
        step = np.linalg.solve(curvature, powers.T @ (counts - mean))
        # Beyond a factor of e the quadratic expansion of the likelihood does not hold.
        coefficients = coefficients + step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-10:
            break
    mean = exposure * np.exp(powers @ coefficients)
    return coefficients, np.linalg.inv((powers.T * mean) @ powers)
