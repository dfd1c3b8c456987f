# SPDX-License-Identifier: GPL-3.0-or-later
"""Convergence of a reconstruction: residuals, Poisson deviance and objective by iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import line_styles
from hyperspy_multitomo.inspection.series_plots import plot_residuals

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_convergence(
    residuals: Mapping[str, ArrayLike],
    iterations: ArrayLike | None = None,
    *,
    deviance: Mapping[str, ArrayLike] | None = None,
    objective: ArrayLike | None = None,
) -> Figure:
    """
    Draw the relative residuals of a reconstruction against the iteration.

    Where there are any, the Poisson deviance and the objective are drawn too.

    Parameters
    ----------
    residuals : mapping of str to array_like (measurement,)
        Relative residuals |b - A x| / |b|, one curve for each name; NaN is left out.
    iterations : array_like (measurement,), optional
        Numbers of the iterations at which they were measured; by default 1, 2, and so on.
    deviance : mapping of str to array_like (measurement,), optional
        Poisson deviance per pixel of the projections, of EM.
    objective : array_like (measurement,), optional
        Objective that a regularised method minimises; drawn is its excess over the last value.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no curve, one is not one-dimensional, or lengths differ.

    Examples
    --------
    >>> figure = plot_convergence({"Au": [0.5, 0.4, 0.35]}, deviance={"Au": [4.0, 1.4, 1.1]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['relative residual', 'Poisson deviance per pixel']
    """
    figure = plot_residuals(residuals, iterations, objective=objective)
    if not deviance:
        return figure
    count = np.size(next(iter(residuals.values())))
    numbers = np.arange(1, count + 1) if iterations is None else np.asarray(iterations)
    grid = figure.add_gridspec(1, len(figure.axes) + 1)
    for i, axes in enumerate(figure.axes):
        axes.set_subplotspec(grid[0, i])
    panel = figure.add_subplot(grid[0, len(figure.axes)])
    for (name, values), (colour, _) in zip(
        deviance.items(), line_styles(len(deviance)), strict=True
    ):
        values = np.asarray(values, dtype=np.float64)
        if values.shape != numbers.shape:
            raise ValueError(
                f"the deviance of {name} has the shape {values.shape}; expected one value per "
                f"measurement, {count}"
            )
        panel.semilogy(
            numbers, values, color="#222222" if name.upper() == "HAADF" else colour, label=name
        )
    panel.set(xlabel="iteration", ylabel="Poisson deviance per pixel")
    panel.legend(frameon=False, ncols=2)
    panel.grid(alpha=0.3, which="both")
    return figure
