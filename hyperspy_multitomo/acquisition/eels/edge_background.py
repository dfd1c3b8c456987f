# SPDX-License-Identifier: GPL-3.0-or-later
"""The background below an ionisation edge: its exponent by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["BACKGROUNDS", "Background", "background_of", "shrink"]


def _power_law(energy: np.ndarray, reference: float) -> np.ndarray:
    if energy[0] <= 0:
        raise ValueError(
            f"a power law needs energy losses above 0, but the window begins at {energy[0]:g} eV"
        )
    return np.log(energy / reference)


def _exponential(energy: np.ndarray, reference: float) -> np.ndarray:
    return energy / reference - 1.0


#: The logarithm of a background is linear in one of these functions of (energy, reference energy).
BACKGROUNDS = {"PowerLaw": _power_law, "Exponential": _exponential}
_ROUNDS = 40
# Bound of the exponents: beyond it a window has next to no counts, or no background.
_STEEPEST = 60.0


@dataclass(frozen=True, eq=False)
class Background:
    """
    A background amount * exp(-exponent * u(energy)): a power law for u = log(energy / reference).

    Attributes
    ----------
    kind : str
        A key of `BACKGROUNDS`.
    reference : float
        Energy loss in eV where the background equals its amount.
    """

    kind: str
    reference: float

    def u(self, energy: np.ndarray) -> np.ndarray:
        """Return the function of energy that the logarithm of the background is linear in."""
        return BACKGROUNDS[self.kind](energy, self.reference)

    def shape(self, energy: np.ndarray, exponent) -> np.ndarray:
        """Return the background (..., energy) of amount 1 for each exponent (...)."""
        return np.exp(-np.asarray(exponent, dtype=float)[..., None] * self.u(energy))

    def exponents(self, energy: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Estimate exponents by maximum likelihood for Poisson counts of background alone.

        Parameters
        ----------
        energy : ndarray (energy,)
            The channels of the window, eV.
        counts : ndarray (..., energy)

        Returns
        -------
        exponent, variance : ndarray (...)
            The variance is infinite where there are no counts.

        Notes
        -----
        With the amount profiled out, the likelihood is that of an exponential family: the mean of u
        under the model equals that over the counts, which Newton's method solves. The variance is
        1 / (N var(u)).

        Examples
        --------
        >>> energy = np.arange(480.0, 528.0)
        >>> counts = 1e4 * (energy / 500) ** -2.8
        >>> exponent, _ = background_of("PowerLaw", energy).exponents(energy, counts)
        >>> round(float(exponent), 6)
        2.8
        """
        u = self.u(energy)
        total = counts.sum(axis=-1)
        observed = (counts @ u) / np.where(total > 0, total, 1.0)
        exponent = np.zeros(np.shape(total))
        for _ in range(_ROUNDS):
            shape = np.exp(-exponent[..., None] * (u - u.mean()))
            shape /= shape.sum(axis=-1, keepdims=True)
            mean = shape @ u
            variance = shape @ u**2 - mean**2
            exponent = np.clip(
                exponent + (mean - observed) / np.maximum(variance, 1e-30), -_STEEPEST, _STEEPEST
            )
        known = total > 0
        return np.where(known, exponent, 0.0), np.where(
            known, 1.0 / np.maximum(total * variance, 1e-30), np.inf
        )


def background_of(kind: str, energy: np.ndarray) -> Background:
    """
    Return a background of a kind with its reference in the middle of the energies.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    if kind not in BACKGROUNDS:
        raise ValueError(f"background={kind!r} must be one of {', '.join(map(repr, BACKGROUNDS))}")
    return Background(kind, float(np.mean(energy)))


def shrink(values: np.ndarray, variances: np.ndarray, centre: float) -> tuple[np.ndarray, float]:
    """
    Shrink noisy estimates towards their common centre as far as their scatter is noise.

    Parameters
    ----------
    values, variances : ndarray (region,)
        Estimates and their variances, infinite for unknown values.
    centre : float
        The estimate of all regions together.

    Returns
    -------
    shrunk : ndarray (region,)
    spread : float
        Variance between the regions in excess of noise: the moment estimate of R. DerSimonian,
        N. Laird, Controlled Clinical Trials 7 (1986) 177, doi:10.1016/0197-2456(86)90046-2.

    Examples
    --------
    >>> shrunk, spread = shrink(np.array([2.9, 3.1]), np.array([0.1, 0.1]), 3.0)
    >>> shrunk, spread
    (array([3., 3.]), 0.0)
    """
    weights = 1.0 / variances
    total = weights.sum()
    if not (weights > 0).sum() > 1:
        return np.full(values.shape, centre), 0.0
    excess = np.sum(weights * (values - centre) ** 2) - ((weights > 0).sum() - 1)
    spread = float(max(0.0, excess / (total - np.sum(weights**2) / total)))
    share = spread / (spread + variances) if spread > 0 else np.zeros(values.shape)
    return centre + share * (values - centre), spread
