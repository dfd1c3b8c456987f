# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a method side by side: their metrics as curves or maps, and their sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.figures import new_figure
from hyperspy_multitomo.inspection.picture import (
    COLOUR_MAP,
    PAGE_WIDTH,
    colour_bar,
    line_styles,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)
from hyperspy_multitomo.inspection.volume_plots import PLANES, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {
    "deviance": "held-out deviance above the least",
    "nrmse": "NRMSE, mean of the channels",
    "ssim": "SSIM (structure), mean of the channels",
}
# Values span so much where their axis is logarithmic.
_WIDE = 8.0
# Values have ticks of their own up to this many.
_TICKS = 8


def plot_metrics(
    metrics: Mapping[str, ArrayLike],
    parameters: Mapping[str, Sequence],
    *,
    best: Mapping[str, int] | None = None,
    errors: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """
    Draw metrics of many settings: a map of two parameters each, or curves.

    With two parameters of three values or more there is a map for each metric; otherwise the
    parameter with the most values is the axis, and there is a curve for each value of the others.

    Parameters
    ----------
    metrics : mapping of str to array_like (setting,)
        One panel each.
    parameters : mapping of str to sequence
        What was swept; the settings are all combinations, the last parameter fastest.
    best : mapping of str to int, optional
        For each metric the number of the setting to mark.
    errors : mapping of str to array_like (setting,), optional
        Standard errors of metrics.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no metric, or one has another number of settings.

    Examples
    --------
    >>> figure = plot_metrics({"nrmse": [0.5, 0.3, 0.4]}, {"iterations": (10, 50, 200)})
    >>> figure.axes[0].get_xlabel()
    'iterations'
    """
    sizes = [len(values) for values in parameters.values()]
    arrays = {name: np.asarray(values, float) for name, values in metrics.items()}
    wrong = {name: values.shape for name, values in arrays.items()
             if values.shape != (int(np.prod(sizes)),)}  # fmt: skip
    if not arrays or wrong:
        raise ValueError(
            f"the metrics have the shapes {wrong or '()'}; expected one metric or more, with "
            f"{int(np.prod(sizes))} settings"
        )
    as_maps = len(sizes) == 2 and min(sizes) >= 3
    columns = min(len(arrays), 3)
    rows = -(-len(arrays) // columns)
    figure = page_figure(3.3 * rows) if columns > 1 else _narrow()
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, arrays.items(), strict=False):
        mark = None if best is None else best.get(name)
        if as_maps:
            _map(figure, axes, values.reshape(sizes), parameters, mark)
        else:
            error = None if errors is None else errors.get(name)
            _curves(axes, values, parameters, mark, error)
        axes.set_title(_LABELS.get(name, name), fontsize="medium")
    for axes in grid[len(arrays) :]:
        axes.set_axis_off()
    return figure


def plot_settings(
    volumes: ArrayLike,
    parameters: Mapping[str, Sequence],
    *,
    plane: str = "xz",
    position: int | None = None,
    pixel_size: float | None = None,
    unit: str = "counts per nm",
    title: str = "",
) -> Figure:
    """
    Draw the same section of a volume with each setting, in one colour scale.

    Parameters
    ----------
    volumes : array_like (setting, z, x, y)
        The settings are all combinations of the parameters, the last one fastest.
    parameters : mapping of str to sequence
        What was swept: rows are the values of the first, columns those of the others; a single
        one fills rows of six.
    plane : "xz", "xy" or "yz", default "xz"
    position : int, optional
        Index along the normal of the plane; by default the middle.
    pixel_size : float, optional
        nm; without it the scale bar is in pixels.
    unit : str, default "counts per nm"
        Label of the colour bar.
    title : str, optional
        Of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the plane or the position is unknown, or settings and parameters do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_settings(np.ones((2, 8, 8, 1)), {"alpha": (0.5, 0.9)})
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['alpha 0.5', 'alpha 0.9']
    """
    volumes = np.asarray(volumes)
    sizes = [len(values) for values in parameters.values()]
    if plane not in PLANES:
        raise ValueError(f"the plane is {plane!r}; expected one of {', '.join(map(repr, PLANES))}")
    if volumes.ndim != 4 or len(volumes) != int(np.prod(sizes)):
        raise ValueError(
            f"the volumes have the shape {volumes.shape}; expected (setting, z, x, y) with "
            f"{int(np.prod(sizes))} settings"
        )
    along = volumes.shape[1 + PLANES[plane]]
    position = along // 2 if position is None else position
    if not 0 <= position < along:
        raise ValueError(f"the position is {position}; expected 0 to {along - 1}")
    cuts = [section(volume, plane, position) for volume in volumes]
    limits = robust_limits(np.stack(cuts))
    columns = min(len(cuts), 6) if len(sizes) == 1 else int(np.prod(sizes[1:]))
    rows = -(-len(cuts) // columns)
    down, across = cuts[0].shape[:2]
    cell = PAGE_WIDTH * 0.9 / columns
    figure = page_figure(rows * (max(cell * min(down / across, 3), 0.5) + 0.3) + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    labels = [_label(parameters, values) for values in product(*parameters.values())]
    for axes, cut, label in zip(grid.ravel(), cuts, labels, strict=False):
        shown = show_image(
            axes,
            cut,
            limits,
            COLOUR_MAP,
            horizontal=plane[0],
            vertical=plane[1],
            upward=plane[1] == "z",
        )
        axes.set(xlabel="", ylabel="")
        axes.set_title(label, fontsize=8 if columns > 3 else 10)
    for axes in grid.ravel()[len(cuts) :]:
        axes.set_axis_off()
    scale_bar(grid[0, 0], pixel_size)
    colour_bar(figure, shown, list(grid.ravel()), unit, shrink=0.6)
    figure.suptitle(f"{title}, sections {plane}" if title else f"sections {plane}", fontsize=11)
    return figure


def _narrow() -> Figure:
    return new_figure(figsize=(4.8, 3.5), layout="constrained")


def _map(figure, axes, values: np.ndarray, parameters, mark: int | None) -> None:
    """Draw a metric of two parameters, the first one down."""
    (first, rows), (second, columns) = parameters.items()
    shown = axes.imshow(values, cmap="viridis", aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(columns)), [_short(value) for value in columns])
    axes.set_yticks(range(len(rows)), [_short(value) for value in rows])
    axes.set(xlabel=second, ylabel=first)
    axes.tick_params(labelsize="small")
    figure.colorbar(shown, ax=axes, shrink=0.9, pad=0.02)
    if mark is not None:
        row, column = np.unravel_index(mark, values.shape)
        axes.plot(column, row, "o", ms=11, mfc="none", mec="#D55E00", mew=2, label="best")


def _curves(axes, values: np.ndarray, parameters, mark: int | None, errors) -> None:
    """Draw a metric against the parameter with the most values."""
    names = list(parameters)
    sizes = [len(parameters[name]) for name in names]
    axis = int(np.argmax(sizes))
    places = parameters[names[axis]]
    numeric = all(isinstance(value, Real) and not isinstance(value, bool) for value in places)
    at = np.array(places, float) if numeric else np.arange(len(places), dtype=float)
    others = [name for number, name in enumerate(names) if number != axis]
    table = np.moveaxis(values.reshape(sizes), axis, -1).reshape(-1, len(places))
    bars = None
    if errors is not None:
        bars = np.moveaxis(np.reshape(errors, sizes), axis, -1).reshape(table.shape)
    combinations = list(product(*(parameters[name] for name in others)))
    styles = line_styles(len(table))
    for number, (curve, others_values) in enumerate(zip(table, combinations, strict=True)):
        colour, marker = styles[number]
        named = {name: parameters[name] for name in others}
        axes.errorbar(
            at,
            curve,
            None if bars is None else bars[number],
            color=colour,
            marker=marker,
            ms=4,
            capsize=2,
            label=_label(named, others_values) or None,
        )
    if mark is not None:
        place = np.unravel_index(mark, sizes)[axis]
        axes.plot(at[place], values[mark], "o", ms=11, mfc="none", mec="0.3", mew=1.5)
    if numeric and (at > 0).all() and at.max() > _WIDE * at.min():
        axes.set_xscale("log")
        axes.minorticks_off()
    if not numeric or len(places) <= _TICKS:
        axes.set_xticks(at, [_short(value) for value in places])
    axes.set_xlabel(names[axis])
    if others:
        axes.legend(frameon=False, fontsize="small")


def _label(parameters: Mapping[str, Sequence], values: Sequence) -> str:
    return ", ".join(
        f"{name} {_short(value)}" for name, value in zip(parameters, values, strict=True)
    )


def _short(value) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)
