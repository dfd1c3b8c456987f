# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the preprocessing: gains, background level, ranked tilts and dose drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.preprocessing.bad_tilts import TiltRanking
from hyperspy_multitomo.acquisition.preprocessing.detector_offset import BackgroundLevel
from hyperspy_multitomo.acquisition.preprocessing.dose_drift import DoseDrift
from hyperspy_multitomo.acquisition.preprocessing.gains import GainEstimate
from hyperspy_multitomo.inspection.picture import line_styles, page_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_gains(gains: GainEstimate) -> Figure:
    """
    Draw gains against the tilt, with standard errors where they are known.

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
    >>> gains, tilts = np.array([0.9, 1.0, 1.1]), np.array([-10.0, 0.0, 10.0])
    >>> figure = plot_gains(GainEstimate(gains, None, tilts, "lamella"))
    >>> figure.axes[0].get_ylabel()
    'gain'
    """
    figure = page_figure(3.6)
    axes = figure.subplots()
    values = np.reshape(gains.values, (len(gains.tilts), -1))
    errors = (
        None if gains.standard_errors is None else np.reshape(gains.standard_errors, values.shape)
    )
    styles = line_styles(values.shape[1])
    for i, (name, (colour, marker)) in enumerate(zip(gains.elements or ("",), styles, strict=True)):
        bar = None if errors is None else errors[:, i]
        axes.errorbar(
            gains.tilts,
            values[:, i],
            bar,
            fmt=f"{marker}-",
            color=colour,
            markersize=4,
            linewidth=1,
            capsize=2,
            label=name or None,
        )
    axes.axhline(1, color="#888888", linewidth=0.8)
    axes.set(xlabel="tilt (°)", ylabel="gain", title=f"Gains; expected signal: {gains.model}")
    axes.grid(alpha=0.3)
    if gains.elements:
        _legend_beside(axes)
    return figure


def plot_background(fit: BackgroundLevel) -> Figure:
    """
    Draw the HAADF level beside the object at every tilt, and its fit by an offset and a film.

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
    >>> fit = fit_background([24.0, 22.0, 21.0, 22.0, 24.0], [-60, -40, 0, 40, 60])
    >>> figure = plot_background(fit)
    >>> len(figure.axes)
    2
    """
    figure = page_figure(4.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.plot(fit.tilts, fit.levels, "o", color="#0072B2", markersize=4, label="measured")
    upper.plot(
        fit.tilts, fit.offset + fit.film_levels, color="#D55E00", label="offset + film / cos t"
    )
    upper.axhline(fit.offset, color="#888888", linewidth=0.8, linestyle="--", label="offset")
    upper.set(ylabel="HAADF signal", title=str(fit).replace(", scatter", "\nscatter"))
    _legend_beside(upper)
    lower.plot(fit.tilts, fit.residuals, "o", color="#0072B2", markersize=4)
    lower.axhline(0, color="#888888", linewidth=0.8)
    lower.set(xlabel="tilt (°)", ylabel="residual")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def plot_tilt_ranking(ranking: TiltRanking) -> Figure:
    """
    Draw the scores of every tilt and mark the suspicious ones.

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
    >>> tilts, scores = np.array([-10.0, 0.0, 10.0]), {"signal": np.array([0.0, -9.0, 1.0])}
    >>> figure = plot_tilt_ranking(TiltRanking(tilts, scores, 5.0))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0°']
    """
    from matplotlib.ticker import SymmetricalLogLocator

    figure = page_figure(3.6)
    axes = figure.subplots()
    for (name, scores), (colour, marker) in zip(
        ranking.scores.items(), line_styles(len(ranking.scores)), strict=True
    ):
        axes.plot(
            ranking.tilts,
            scores,
            f"{marker}-",
            color=colour,
            markersize=4,
            linewidth=0.8,
            label=name,
        )
    for side in (-1, 1):
        axes.axhline(side * ranking.threshold, color="#888888", linewidth=0.8, linestyle="--")
    for tilt in ranking.suspicious:
        axes.axvline(tilt, color="#CC0000", alpha=0.3, linewidth=4)
        axes.annotate(
            f"{tilt:g}°",
            (tilt, 1),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=8,
        )
    axes.set(xlabel="tilt (°)", ylabel="score (robust standard deviations)")
    if max(np.abs(scores).max() for scores in ranking.scores.values()) > 4 * ranking.threshold:
        # One extreme score would flatten all others on a linear scale. The default ticks of the
        # logarithmic part are powers of ten; plain numbers read better.
        axes.set_yscale("symlog", linthresh=2 * ranking.threshold)
        axes.yaxis.set_major_locator(
            SymmetricalLogLocator(base=10, linthresh=2 * ranking.threshold, subs=(1, 2, 5))
        )
        axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    _legend_beside(axes)
    return figure


def plot_dose_drift(drift: DoseDrift) -> Figure:
    """
    Draw the ratio of measured to expected signal in the order of acquisition, and the fitted drift.

    If order and tilt are distinguishable, the fitted dependence on the tilt is subtracted.

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
    >>> tilts = [-50, -30, -10, 10, 30, 50]
    >>> drift = fit_dose_drift([1 - 0.04 * order], np.ones(6), tilts, order, ["HAADF"])
    >>> [text.get_text() for text in plot_dose_drift(drift).axes[0].get_legend().get_texts()]
    ['HAADF: -22.2 ± 0.0 %']
    """
    figure = page_figure(3.8)
    axes = figure.subplots()
    along = np.argsort(drift.order)
    values, lines, title = (
        drift.relative,
        drift.fitted,
        "Signal over the expected one, and its change over the series",
    )
    if drift.confounded:
        title += "\norder and tilt went together: may be shadowing"
    else:
        # The dependence on the tilt would hide the drift.
        lines = 1 + drift.slope[:, None] * (drift.order - drift.order.mean())
        values = drift.relative - drift.fitted + lines
        title += "\n(the smooth dependence on the tilt is taken off)"
    channels = zip(drift.names, values, lines, drift.change, drift.change_error, strict=True)
    styles = line_styles(len(drift.names))
    for (name, signal, line, change, error), (colour, marker) in zip(channels, styles, strict=True):
        label = f"{name}: {100 * change:+.1f} ± {100 * error:.1f} %"
        axes.plot(
            drift.order[along], signal[along], marker, color=colour, markersize=4, label=label
        )
        axes.plot(drift.order[along], line[along], color=colour, linewidth=1)
    axes.set(xlabel="order of acquisition", ylabel="relative signal", title=title)
    axes.grid(alpha=0.3)
    _legend_beside(axes)
    return figure


def _legend_beside(axes) -> None:
    """Draw the legend to the right of the axes, where it hides no curve."""
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
