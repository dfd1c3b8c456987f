# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of what was measured before the reconstruction: gains, levels beside the object, ranked tilts, drift of the dose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.bad_tilts import TiltRanking
from hyperspy_multitomo.acquisition.detector_offset import BackgroundLevel
from hyperspy_multitomo.acquisition.dose_drift import DoseDrift
from hyperspy_multitomo.acquisition.gains import GainEstimate
from hyperspy_multitomo.inspection.picture import PALETTE, distinct_colours, page_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_gains(gains: GainEstimate) -> Figure:
    """
    Draw gains against the tilt, with their standard errors where these are known.

    Parameters
    ----------
    gains : GainEstimate
        From `estimate_gains` of a series.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_gains(GainEstimate(np.array([0.9, 1.0, 1.1]), None, np.array([-10.0, 0.0, 10.0]), "lamella"))
    >>> figure.axes[0].get_ylabel()
    'gain'
    """
    figure = page_figure(3.6)
    axes = figure.subplots()
    values = np.reshape(gains.values, (len(gains.tilts), -1))
    errors = None if gains.standard_errors is None else np.reshape(gains.standard_errors, values.shape)
    for i, (name, colour) in enumerate(zip(gains.elements or ("",), distinct_colours(values.shape[1]), strict=True)):
        bar = None if errors is None else errors[:, i]
        style = f"{_marker(i)}-"
        axes.errorbar(gains.tilts, values[:, i], bar, fmt=style, color=colour, markersize=4, capsize=2, label=name or None)
    axes.axhline(1, color="#888888", linewidth=0.8)
    axes.set(xlabel="tilt (°)", ylabel="gain", title=f"Gains against the expected signal: {gains.model}")
    axes.grid(alpha=0.3)
    if gains.elements:
        axes.legend(frameon=False, ncols=2)
    return figure


def plot_background(fit: BackgroundLevel) -> Figure:
    """
    Draw the level beside the object at every tilt, and its fit by an offset and a film.

    Parameters
    ----------
    fit : BackgroundLevel
        From `fit_background` of a HAADF series.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from hyperspy_multitomo.acquisition import fit_background
    >>> figure = plot_background(fit_background([24.0, 22.0, 21.0, 22.0, 24.0], [-60, -40, 0, 40, 60]))
    >>> len(figure.axes)
    2
    """
    figure = page_figure(4.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.plot(fit.tilts, fit.levels, "o", color="#0072B2", markersize=4, label="measured")
    upper.plot(fit.tilts, fit.offset + fit.film_levels, color="#D55E00", label="offset + film / cos t")
    upper.axhline(fit.offset, color="#888888", linewidth=0.8, linestyle="--", label="offset")
    upper.set(ylabel="HAADF signal", title=str(fit))
    upper.legend(frameon=False)
    lower.plot(fit.tilts, fit.residuals, "o", color="#0072B2", markersize=4)
    lower.axhline(0, color="#888888", linewidth=0.8)
    lower.set(xlabel="tilt (°)", ylabel="residual")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def plot_tilt_ranking(ranking: TiltRanking) -> Figure:
    """
    Draw the scores of every tilt, with the suspicious ones marked.

    Parameters
    ----------
    ranking : TiltRanking
        From `rank_tilts` of a series.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_tilt_ranking(TiltRanking(np.array([-10.0, 0.0, 10.0]), {"signal": np.array([0.0, -9.0, 1.0])}, 5.0))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0°']
    """
    figure = page_figure(3.6)
    axes = figure.subplots()
    for (name, scores), colour in zip(ranking.scores.items(), distinct_colours(len(ranking.scores)), strict=True):
        axes.plot(ranking.tilts, scores, "o-", color=colour, markersize=4, linewidth=0.8, label=name)
    for side in (-1, 1):
        axes.axhline(side * ranking.threshold, color="#888888", linewidth=0.8, linestyle="--")
    for tilt in ranking.suspicious:
        axes.axvline(tilt, color="#CC0000", alpha=0.3, linewidth=4)
        axes.annotate(f"{tilt:g}°", (tilt, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    axes.set(xlabel="tilt (°)", ylabel="score (robust standard deviations)")
    axes.set_yscale("symlog", linthresh=2 * ranking.threshold)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, ncols=2)
    return figure


def plot_dose_drift(drift: DoseDrift) -> Figure:
    """
    Draw the signal over the expected one against the order of acquisition, with the fitted drift.

    Parameters
    ----------
    drift : DoseDrift
        From `check_dose_drift` of a series.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_multitomo.acquisition import fit_dose_drift
    >>> order = np.array([5, 2, 0, 3, 1, 4])
    >>> drift = fit_dose_drift([1 - 0.04 * order], np.ones(6), [-50, -30, -10, 10, 30, 50], order, ["HAADF"])
    >>> [text.get_text() for text in plot_dose_drift(drift).axes[0].get_legend().get_texts()]
    ['HAADF: -22.2 ± 0.0 %']
    """
    figure = page_figure(3.8)
    axes = figure.subplots()
    along = np.argsort(drift.order)
    channels = zip(drift.names, drift.relative, drift.fitted, drift.change, drift.change_error, strict=True)
    colours = distinct_colours(len(drift.names))
    for i, (name, values, fitted, change, error) in enumerate(channels):
        label = f"{name}: {100 * change:+.1f} ± {100 * error:.1f} %"
        axes.plot(drift.order[along], values[along], _marker(i), color=colours[i], markersize=4, label=label)
        axes.plot(drift.order[along], fitted[along], color=colours[i], linewidth=1)
    title = "Signal over the expected one, and its change over the series"
    axes.set(
        xlabel="order of acquisition",
        ylabel="relative signal",
        title=title + ("\norder and tilt went together: may be shadowing" if drift.confounded else ""),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _marker(i: int) -> str:
    """Return another marker for each turn of the palette."""
    return "osv^"[i // len(PALETTE) % 4]
