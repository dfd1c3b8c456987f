# SPDX-License-Identifier: GPL-3.0-or-later
"""The figure of a summed spectrum and of the fit from which the elemental maps are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import page_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_spectrum(
    energy: ArrayLike,
    counts: ArrayLike,
    fit: ArrayLike,
    background: ArrayLike,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """
    Show a summed spectrum, its fit and background, and the residual in standard deviations.

    Parameters
    ----------
    energy : array_like (energy,)
        In keV.
    counts, fit, background : array_like (energy,)
        Summed counts, their fit (background included) and the background in it.
    lines : mapping of str to float, optional
        Energy (keV) of each line to label.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For arrays of different length.

    Examples
    --------
    >>> energy = np.linspace(0.2, 10, 200)
    >>> counts = 100 + 900 * np.exp(-(((energy - 6.4) / 0.06) ** 2))
    >>> len(plot_spectrum(energy, counts, counts, 100 + 0 * energy, {"Fe Ka": 6.4}).axes)
    2
    """
    energy, counts, fit, background = (
        np.asarray(values, dtype=float) for values in (energy, counts, fit, background)
    )
    if not energy.shape == counts.shape == fit.shape == background.shape:
        raise ValueError(
            f"the arrays have {energy.size}, {counts.size}, {fit.size} and {background.size} "
            "channels; give equal ones"
        )
    figure = page_figure(4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.step(
        energy,
        np.maximum(counts, 0.5),
        where="mid",
        color="#7a8794",
        linewidth=0.9,
        label="counts, all tilts and pixels",
    )
    above.plot(energy, fit, color="#d55e00", linewidth=1.1, label="fit")
    above.plot(energy, background, color="#0072b2", linewidth=1.1, label="background")
    above.set_yscale("log")
    lowest = max(1.0, 0.5 * np.percentile(counts[counts > 0], 2)) if np.any(counts > 0) else 1.0
    above.set_ylim(lowest, 6 * max(counts.max(), 1))
    for name, place in (lines or {}).items():
        height = np.interp(place, energy, counts)
        above.annotate(
            name,
            (place, max(height, lowest)),
            (0, 5),
            textcoords="offset points",
            rotation=90,
            ha="center",
            fontsize=8,
        )
    above.set_ylabel("counts")
    above.legend(loc="upper right", fontsize=8, frameon=False)
    below.axhline(0, color="#c0c6cc", linewidth=0.8)
    below.plot(energy, (counts - fit) / np.sqrt(np.maximum(fit, 1)), color="#7a8794", linewidth=0.8)
    below.set_ylabel("misfit (σ)")
    below.set_xlabel("energy (keV)")
    return figure
