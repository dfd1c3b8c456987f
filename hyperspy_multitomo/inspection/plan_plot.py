# SPDX-License-Identifier: GPL-3.0-or-later
"""The dose at which a feature would be seen, for each range and number of tilts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.inspection.picture import line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_plan(rows: Sequence[Any], dose: float, feature: str, element: str) -> Figure:
    """
    Draw the dose for z = 5 against the number of tilts, and z at one dose, for each tilt range.

    Parameters
    ----------
    rows : sequence of PlannedSeries
        See `hyperspy_multitomo.evidence.PlannedSeries`.
    dose : float
        That z is of, in doses of the pilot.
    feature, element : str
        For the titles.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from hyperspy_multitomo.evidence import PlannedSeries
    >>> nan = float("nan")
    >>> rows = [PlannedSeries(70.0, n, 4.0, 1.6, nan, nan, nan) for n in (15, 29)]
    >>> figure = plot_plan(rows, 1.0, "a ball of 5 nm", "Au")
    >>> figure.axes[0].get_ylabel()
    'dose for z = 5 (doses of the pilot)'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    doses, levels = figure.subplots(1, 2)
    ranges = sorted({row.range for row in rows})
    for reach, (colour, marker) in zip(ranges, line_styles(len(ranges)), strict=True):
        some = sorted((row for row in rows if row.range == reach), key=lambda row: row.tilts)
        numbers = [row.tilts for row in some]
        style = {"color": colour, "marker": marker, "label": f"±{reach:g}°"}
        doses.plot(numbers, [row.dose for row in some], **style)
        levels.plot(numbers, [row.z for row in some], **style)
    doses.set(xlabel="tilts, sharing the dose", ylabel="dose for z = 5 (doses of the pilot)")
    doses.set_ylim(0, 1.15 * max(row.dose for row in rows))
    if np.isfinite([row.electrons for row in rows]).all():
        per_dose = rows[0].electrons / rows[0].dose
        right = doses.secondary_yaxis(
            "right", functions=(lambda d: d * per_dose, lambda e: e / per_dose)
        )
        right.set_ylabel("electrons / px, all tilts")
    levels.axhline(5, color="0.6", ls="--", lw=0.8)
    levels.set(xlabel="tilts, sharing the dose", ylabel=f"z at {dose:g} times the pilot's dose")
    levels.set_ylim(bottom=min(0.0, *(row.z for row in rows)))
    doses.legend(frameon=False)
    figure.suptitle(f"{element}: {feature}", fontsize=10)
    return figure
