# SPDX-License-Identifier: GPL-3.0-or-later
"""Edges with the error functions fitted to them, and Fourier shell correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.figures import new_figure
from hyperspy_multitomo.inspection.picture import LINES, PAGE_WIDTH, line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {"counts": "halves of the counts", "tilts": "even and odd tilts"}
# From 10 to 90 % of an error function, in its standard deviations.
_TEN_TO_NINETY = 2.5631


def plot_edges(
    edges: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike, float]]], unit: str = "nm"
) -> Figure:
    """
    Draw mean profiles across edges, with the error function fitted to each.

    Parameters
    ----------
    edges : mapping of str to mapping of str to (distance, edge, width)
        For each channel, one panel each, and each axis: distances from the edge, the profile there
        from 0 outside to 1 inside, and the width from 10 to 90 %, NaN where it is not known.
    unit : str, default "nm"
        Of distances and widths.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no channel.

    Examples
    --------
    >>> figure = plot_edges({"Au": {"x": ([-1, 0, 1], [0.1, 0.5, 0.9], 2.0)}})
    >>> figure.axes[0].get_title()
    'Au'
    """
    from scipy.special import ndtr

    if not edges:
        raise ValueError("there are no edges to draw; expected those of one channel or more")
    colours = dict(zip("xyz", LINES, strict=False))
    figure = new_figure(figsize=_size(len(edges)), layout="constrained")
    grid = figure.subplots(1, len(edges), squeeze=False, sharey=True)[0]
    for axes, (channel, by_axis) in zip(grid, edges.items(), strict=True):
        for axis, (distance, edge, width) in by_axis.items():
            distance = np.asarray(distance, float)
            label = f"{axis}: {width:.3g} {unit}" if np.isfinite(width) else f"{axis}: too noisy"
            axes.plot(distance, edge, ".", ms=4, color=colours[axis], alpha=0.7)
            fine = np.linspace(distance.min(), distance.max(), 200)
            if np.isfinite(width):
                axes.plot(fine, ndtr(fine * _TEN_TO_NINETY / width), color=colours[axis])
            axes.plot([], [], ".-", color=colours[axis], label=label)
        axes.set_title(channel)
        axes.set(xlabel=f"distance into the object / {unit}", ylim=(-0.35, 1.35))
        for level in (0.1, 0.9):
            axes.axhline(level, color="0.75", lw=0.8, zorder=0)
        if by_axis:
            axes.legend(frameon=False, loc="upper left", fontsize="small", title="from 10 to 90 %")
        else:
            axes.text(0.5, 0.5, "no edges", transform=axes.transAxes, ha="center", va="center")
    grid[0].set_ylabel("mean profile")
    return figure


def plot_shell_correlations(
    curves: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    limit: Mapping[str, tuple[ArrayLike, ArrayLike]] | float = 1 / 7,
    unit: str = "nm",
) -> Figure:
    """
    Draw Fourier shell correlations, one panel for each way to halve the data.

    Parameters
    ----------
    curves : mapping of str to mapping of str to (frequency, correlation)
        For ``"counts"`` and ``"tilts"`` and each channel; cycles per unit of length.
    limit : float, or mapping of str to (frequency, correlation), default 1/7
        Correlation at which the resolution is read, or that of each shell for each halving.
    unit : str, default "nm"
        Of length.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no curve.

    Examples
    --------
    >>> figure = plot_shell_correlations({"counts": {"Au": ([0.1, 0.2], [0.9, 0.1])}})
    >>> figure.axes[0].get_title()
    'halves of the counts'
    """
    if not curves:
        raise ValueError("there are no curves to draw; expected those of one halving or more")
    figure = new_figure(figsize=_size(len(curves)), layout="constrained")
    grid = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (halves, by_channel) in zip(grid, curves.items(), strict=True):
        styles = line_styles(len(by_channel))
        for (channel, curve), (colour, marker) in zip(by_channel.items(), styles, strict=True):
            axes.plot(*curve, color=colour, marker=marker, ms=3, label=channel)
        if isinstance(limit, Mapping):
            axes.plot(*limit[halves], color="0.4", ls="--", lw=1, label="threshold")
        else:
            axes.axhline(limit, color="0.4", ls="--", lw=1, label="threshold")
        axes.axhline(0, color="0.75", lw=0.8, zorder=0)
        axes.set_title(_TITLES.get(halves, halves))
        axes.set(xlabel=f"spatial frequency / {unit}$^{{-1}}$", ylim=(-0.25, 1.05))
        axes.set_xlim(left=0)
        above = axes.secondary_xaxis("top", functions=(_inverse, _inverse))
        above.set_xticks(_periods(axes.get_xlim()[1]))
        above.set_xlabel(f"period / {unit}", fontsize="small")
        above.tick_params(labelsize="small")
        axes.legend(frameon=False, fontsize="small")
    grid[0].set_ylabel("correlation of halves")
    return figure


def _size(panels: int) -> tuple[float, float]:
    return (4.6, 3.6) if panels == 1 else (min(PAGE_WIDTH, 4.4 * panels), 3.6)


def _inverse(values):
    return 1 / np.maximum(np.asarray(values, float), 1e-12)


def _periods(highest: float) -> list[float]:
    """Return round periods, of which the shortest is at the highest frequency or below."""
    from hyperspy_multitomo.inspection.picture import round_length

    shortest = round_length(1 / highest)
    shortest = shortest if shortest >= 1 / highest * (1 - 1e-9) else 2 * shortest
    return [shortest, 2 * shortest, 4 * shortest]
