# SPDX-License-Identifier: GPL-3.0-or-later
"""The figure of the edge-spread function, from which the particle's threshold is chosen."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.inspection.picture import page_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_multitomo.composition.particle.edge_spread import ThresholdCurve

CURVE, THRESHOLD, FLAT = "#0072B2", "#D55E00", "#E69F00"


def plot_threshold(curve: ThresholdCurve, unit: str = "") -> Figure:
    """
    Show the volume above every level, its slope, and the threshold in the middle of the plateau.

    Parameters
    ----------
    curve : ThresholdCurve
        From `hyperspy_multitomo.composition.particle.edge_spread.edge_spread`.
    unit : str, default ""
        Unit of the levels, e.g. "g/cm³".

    Returns
    -------
    matplotlib.figure.Figure
        V(t) in percent of all voxels on the left; |dV/dt|, smoothed and on a logarithmic scale, on
        the right. Where the threshold is ambiguous the title says why.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_multitomo.composition.particle.edge_spread import edge_spread
    >>> volume = np.random.default_rng(0).normal(0, 1, (12, 12, 12))
    >>> volume[3:9, 3:9, 3:9] += 20
    >>> plot_threshold(edge_spread(volume), unit="g/cm³").axes[0].get_xlabel()
    'level t (g/cm³)'
    """
    figure = page_figure(3.8 if curve.ambiguous else 3.4)
    left, right = figure.subplots(1, 2, sharex=True)
    left.plot(curve.levels, 100 * curve.volumes, color=CURVE)
    left.set(ylabel="voxels above t, V(t) (%)", ylim=(0, None))
    # Slopes far below those of both drops are empty levels, which would stretch the log scale.
    least = 1e-4 * curve.slopes.max()
    right.semilogy(curve.levels, np.maximum(100 * curve.slopes, 100 * least), color=CURVE)
    right.set(
        ylabel=f"slope |dV/dt| (% per {unit})" if unit else "slope |dV/dt| (% per unit of t)",
        ylim=(100 * least, None),
    )
    for axes in (left, right):
        if np.isfinite(curve.value):
            axes.axvspan(*curve.flat, color=FLAT, alpha=0.3, linewidth=0, label="flat run")
            axes.axvline(
                curve.value, color=THRESHOLD, linewidth=1.5, label=f"threshold {curve.value:.4g}"
            )
        axes.axvline(
            curve.interior,
            color="#555555",
            linewidth=1,
            linestyle=":",
            label=f"interior {curve.interior:.4g}",
        )
        axes.set_xlabel(f"level t ({unit})" if unit else "level t")
        axes.grid(alpha=0.3)
    left.legend(frameon=False)
    if curve.ambiguous:
        figure.suptitle(fill(f"Ambiguous: {curve.ambiguous}", 110), fontsize=9, color=THRESHOLD)
    return figure
