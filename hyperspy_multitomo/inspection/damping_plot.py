# SPDX-License-Identifier: GPL-3.0-or-later
"""The figure of a damped HAADF: recorded against linear signal, and the signal of each tilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.haadf.haadf_damping import DampingModel
from hyperspy_multitomo.inspection.picture import colour_bar, page_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_damping(model: DampingModel, haadf: ArrayLike | None = None) -> Figure:
    """
    Draw the recorded HAADF against the linear signal, and the signal of each tilt.

    The points from which the model was estimated are drawn too, if it has any.

    Parameters
    ----------
    model : DampingModel
        From `estimate_damping` or `damping_from_maps`, or made by hand.
    haadf : array_like (tilt, x, y), optional
        Images, whose histogram is drawn along the recorded signal. Beyond its end the curve is
        extrapolated.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a model without a finite saturation, data or images, which has nothing to draw.

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_damping(DampingModel(1000.0), np.linspace(0, 600, 1000).reshape(10, 10, 10))
    >>> figure.axes[0].get_ylabel()
    'HAADF recorded'
    """
    images = np.zeros(0) if haadf is None else np.asarray(haadf, dtype=np.float64).ravel()
    brightest = np.nanmax(
        [model.brightest, np.percentile(images, 99.9) if images.size else np.nan, 0.0]
    )
    top = brightest if brightest > 0 else model.saturation
    if not np.isfinite(top):
        raise ValueError(
            "this model has neither a finite saturation nor data; pass the images as haadf="
        )
    damped = np.isfinite(model.saturation)
    longest = float(model.invert(min(top, 0.97 * model.saturation)) if damped else top)
    longest = max(
        longest, float(np.percentile(model.points[0], 99.9)) if model.points.size else 0.0
    )
    linear = np.linspace(0, 1.05 * longest, 200)
    figure = page_figure(4.0)
    left, *others = (
        figure.subplots(1, 2, width_ratios=(1.15, 1)) if model.tilts.size else [figure.subplots()]
    )
    _draw_points(figure, left, model, linear[-1], top)
    left.plot(linear, linear, color="#888888", linewidth=1, linestyle="--", label="no damping")
    if damped:
        label = f"saturation {_three_digits(model.saturation)}"
        if np.isfinite(model.saturation_error):
            label += f" ± {_three_digits(model.saturation_error)}"
            # Two standard errors of 1/S; the interval may include 0, no damping.
            spread = 2 * model.saturation_error / model.saturation**2
            weak, strong = (
                DampingModel(1 / k if k > 0 else np.inf)
                for k in (1 / model.saturation - spread, 1 / model.saturation + spread)
            )
            left.fill_between(
                linear,
                strong.apply(linear),
                weak.apply(linear),
                color="#D55E00",
                alpha=0.25,
                linewidth=0,
            )
        left.plot(linear, model.apply(linear), color="#D55E00", linewidth=1.6, label=label)
    if images.size:
        beside = left.inset_axes((0, 0, 0.16, 1), sharey=left)
        inside = images[(images > 0.02 * top) & (images < 1.05 * top)]
        beside.hist(inside, bins=80, orientation="horizontal", color="#0072B2", alpha=0.35)
        beside.set_axis_off()
    title = "damping is significant" if model.significant else "damping is not significant"
    left.set(
        xlabel="linear signal" + (" (from the maps)" if model.points.size else ""),
        ylabel="HAADF recorded",
        title=title if model.source != "given" else "given damping",
        xlim=(0, linear[-1]),
        ylim=(0, 1.12 * top),
    )
    left.legend(loc="lower right", frameon=False)
    for axes in others:
        _draw_sums(axes, model)
    for axes in (left, *others):
        axes.grid(alpha=0.3)
    return figure


def _draw_points(figure, axes, model: DampingModel, longest: float, top: float) -> None:
    if not model.points.size:
        return
    shown = axes.hexbin(
        *model.points,
        gridsize=50,
        bins="log",
        extent=(0, longest, 0, 1.12 * top),
        cmap="viridis",
        mincnt=1,
        linewidths=0.1,
    )
    colour_bar(figure, shown, axes, "blocks")


def _draw_sums(axes, model: DampingModel) -> None:
    """Draw the signal of each tilt divided by the expected one."""
    order = np.argsort(model.tilts)
    for values, colour, marker, label in zip(
        model.sums, ("#777777", "#0072B2"), "so", ("as recorded", "corrected"), strict=True
    ):
        scatter = f"{label}, scatter {100 * values.std():.2g} %"
        axes.plot(
            model.tilts[order],
            values[order],
            f"{marker}-",
            color=colour,
            markersize=4,
            linewidth=1,
            label=scatter,
        )
    axes.axhline(1, color="#888888", linewidth=0.8)
    expected = "that of the maps" if model.source == "maps" else "the expected one"
    low, high = model.sums.min(), model.sums.max()
    axes.set(
        xlabel="tilt (°)",
        ylabel=f"signal over {expected}",
        title="Sum of each tilt",
        ylim=(low - 0.1 * (high - low) - 1e-3, high + 0.35 * (high - low) + 1e-3),
    )
    axes.legend(loc="upper center", frameon=False, fontsize=9)


def _three_digits(value: float) -> str:
    """Return a number with three digits, without an exponent from 100 to 1e6."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
