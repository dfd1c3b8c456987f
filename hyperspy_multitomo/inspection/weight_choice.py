# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights that held-out counts judged, and the one that they chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_weight_choice(
    weights: ArrayLike, deviances: ArrayLike, errors: ArrayLike, chosen: float
) -> Figure:
    """
    Draw the deviance of the counts that were held out against the weight of the regulariser.

    Parameters
    ----------
    weights : array_like (weight,)
        That were tried.
    deviances, errors : array_like (weight,)
        Of the counts that were held out, above the least, and the standard error of that.
    chosen : float
        Weight.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = plot_weight_choice([2.0, 1.4, 1.0], [12.0, 2.0, 0.0], [6.0, 4.0, 0.0], 1.4)
    >>> figure.axes[0].get_ylabel()
    'deviance above the least'
    """
    weights, deviances, errors = (np.asarray(each, float) for each in (weights, deviances, errors))
    order = np.argsort(weights)
    figure = new_figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(
        weights[order], deviances[order], errors[order], color="#0072B2", marker="o", capsize=3
    )
    axes.axhline(0, color="0.6", lw=0.8)
    axes.axvline(chosen, color="#D55E00", ls="--", label=f"chosen, {chosen:.2g}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(weights[order], [f"{weight:.2g}" for weight in weights[order]])
    axes.set(xlabel="weight", ylabel="deviance above the least")
    axes.set_title("counts held out, one standard error", fontsize="medium")
    axes.legend(frameon=False)
    return figure
