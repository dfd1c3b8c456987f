# SPDX-License-Identifier: GPL-3.0-or-later
"""Quality of a fit of response ratios: residuals, R2, and warnings."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperspy_multitomo.composition.response.blocks import BlockSums
from hyperspy_multitomo.composition.response.ratios import ResponseRatios

__all__ = ["assess", "deviation", "fit_warnings"]

# Below this centred R2 an element that is bright in the HAADF is most likely missing; published
# values are 0.91 to 0.98.
POOR_FIT = 0.9
# Threshold of `noise_correlation`, between recorded counts and maps smoothed by a Gaussian of half
# a pixel.
LARGEST_CORRELATION = 0.2
REMEDY = (
    'pass prior={element: relative ratio}, or prior="auto" to a series whose beam energy and X-ray '
    "lines are known"
)


def assess(blocks: BlockSums, solution: np.ndarray, weights: np.ndarray | None) -> dict[str, Any]:
    """Return r2, residual_per_tilt and residual_map of the fitted blocks."""
    fitted = np.ones(len(blocks.haadf), bool) if weights is None else weights > 0
    residual = blocks.haadf - blocks.counts @ solution
    r2 = 1.0 - float((residual[fitted] ** 2).sum() / (deviation(blocks, weights) ** 2).sum())
    tilts = blocks.grid[0]
    misfit = np.bincount(blocks.tilt[fitted], residual[fitted] ** 2, tilts)
    signal = np.bincount(blocks.tilt[fitted], blocks.haadf[fitted] ** 2, tilts)
    per_tilt = np.sqrt(np.divide(misfit, signal, out=np.full(tilts, np.nan), where=signal > 0))
    return {"r2": r2, "residual_per_tilt": per_tilt, "residual_map": blocks.as_map(residual)}


def deviation(blocks: BlockSums, weights: np.ndarray | None) -> np.ndarray:
    """Return the deviation of the HAADF from its mean in the fitted blocks."""
    fitted = blocks.haadf if weights is None else blocks.haadf[weights > 0]
    return fitted - fitted.mean()


def fit_warnings(
    ratios: ResponseRatios,
    alike: list[str],
    noise_part: float,
    missed_counts: float | None,
    correlation: float,
) -> list[str]:
    """Return the warnings of a fit as text.

    Parameters
    ----------
    ratios : ResponseRatios
    alike : list of str
        Elements that cannot be distinguished.
    noise_part : float
        Fraction of the HAADF's variance over the blocks by which the noise of the counts reduces
        R2.
    missed_counts : float or None
        The requested counts per block, if the view is too small for them.
    correlation : float
        See `noise_correlation`.

    Returns
    -------
    list of str
    """
    warnings = []
    if ratios.r2 < POOR_FIT:
        warnings.append(
            f"R2 = {ratios.r2:.2f}, the noise of the counts taking {noise_part:.2f}: "
            f"{', '.join(ratios.elements)} explain the "
            "HAADF poorly. Which element is missing? Look where "
            "`residual_map` is positive (a strap, the support, a coating, oxygen or carbon) and "
            "add it, or pass rest=True"
        )
    warnings += _about_ratios(ratios)
    if alike:
        warnings.append(
            f"the maps of {', '.join(alike)} cannot be told apart within their noise, so that only "
            "a sum of their contributions "
            f"is known; {REMEDY}"
        )
    if missed_counts is not None:
        warnings.append(
            f"blocks of {ratios.block_size} px hold "
            f"{ratios.block_counts[ratios.block_counts > 0].min():.3g} counts of the "
            f"weakest element, fewer than the {missed_counts:g} asked for: larger ones would be "
            "too few"
        )
    if correlation > LARGEST_CORRELATION:
        warnings.append(
            "the noise of neighbouring pixels looks correlated, as in maps that were smoothed or "
            "resampled, and then biases the "
            "ratios; fit them to the maps as recorded and smooth afterwards"
        )
    return warnings


def _about_ratios(ratios: ResponseRatios) -> list[str]:
    """Return the warnings of ratios that are not measured."""
    warnings = []
    zero = ratios.unexplained
    empty = [name for name in zero if ratios.block_counts[ratios.elements.index(name)] == 0]
    explained = [name for name in zero if name not in empty]
    if empty:
        warnings.append(
            f"the response ratio of {', '.join(empty)} is 0, because its map holds no net counts "
            "over the specimen; leave it out"
        )
    if explained:
        warnings.append(
            f"the response ratio of {', '.join(explained)} is 0, because the other elements "
            "explain the HAADF without it; its volume will come from its own maps alone. To tie it "
            f"to others, {REMEDY}"
        )
    calculated = [name for name, source in ratios.sources.items() if source == "calculated"]
    if calculated:
        warnings.append(
            f"the response ratios of {', '.join(calculated)} are calculated, not measured: the "
            "prior knows them better than the HAADF does. Their standard errors say how well"
        )
    return warnings
