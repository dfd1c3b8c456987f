# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios with their standard errors, measured or calculated, by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hyperspy_multitomo.composition.response.ratios import ResponseRatios

__all__ = ["draw_ratios"]

_COLOUR, _PRIOR = "#0072B2", "#D55E00"


def draw_ratios(axes: Axes, ratios: ResponseRatios) -> None:
    """Draw ratios and standard errors: filled where measured, open where calculated.

    Ticks of another colour are the ratios that the prior expects.
    """
    places = np.arange(len(ratios.elements))
    for source, face in (("measured", _COLOUR), ("calculated", "white"), ("none", "#bbbbbb")):
        here = [at for at, one in enumerate(ratios.sources.values()) if one == source]
        if here:
            axes.errorbar(
                ratios.values[here],
                places[here],
                xerr=np.nan_to_num(ratios.standard_errors[here]),
                fmt="o",
                color=_COLOUR,
                markerfacecolor=face,
                markersize=5,
                capsize=2,
                label="0" if source == "none" else source,
            )
    if np.isfinite(ratios.prior_values).any():
        axes.plot(ratios.prior_values, places, "|", color=_PRIOR, markersize=10, label="prior")
    axes.set_yticks(places, ratios.elements)
    axes.invert_yaxis()
    highest = np.nanmax(ratios.values + np.nan_to_num(ratios.standard_errors), initial=0)
    axes.set_xlim(0, 1.1 * (highest or 1))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.set(xlabel="HAADF signal per count", title="Response ratios")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
