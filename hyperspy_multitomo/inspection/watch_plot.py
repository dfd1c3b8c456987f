# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence for a region while a series is acquired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hyperspy_multitomo.inspection.figures import new_figure
from hyperspy_multitomo.inspection.picture import LINES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_watch(history: Sequence[Mapping[str, float]], stop_at: float) -> Figure:
    """
    Draw z of a region against the number of tilts, with the z, of either sign, at which to stop.

    Parameters
    ----------
    history : sequence of dict
        ``"tilts"`` and ``"z"`` of each look; those without z are left out.
    stop_at : float
        z at which to stop.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = plot_watch([{"tilts": 5, "z": 2.1}, {"tilts": 6, "z": 3.0}], 5.0)
    >>> figure.axes[0].get_xlabel()
    'tilts'
    """
    seen = [look for look in history if "z" in look]
    figure = new_figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([one["tilts"] for one in seen], [one["z"] for one in seen], "o-", color=LINES[0])
    for level in (stop_at, -stop_at):
        axes.axhline(level, color="0.4", linestyle="--", linewidth=1)
    place = axes.get_yaxis_transform()
    axes.text(0.02, stop_at, f"stop at {stop_at:g}", va="bottom", transform=place)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="tilts", ylabel="z of the region")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.15)
    return figure
