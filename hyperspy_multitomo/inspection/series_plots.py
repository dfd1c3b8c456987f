# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of tilt series and of fits to them, drawn from plain arrays.

Every function returns a new `matplotlib.figure.Figure`; `inspection.figures` says where it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import (
    PAGE_WIDTH,
    checked_tilts,
    colour_bar,
    colour_map,
    hide_empty,
    line_styles,
    named_channels,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)
from hyperspy_multitomo.inspection.ratio_plot import draw_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_multitomo.composition.response.ratios import ResponseRatios


def plot_projections(
    maps: ArrayLike,
    tilts: ArrayLike,
    names: Sequence[str],
    *,
    pixel_size: float | None = None,
    unit: str = "counts",
) -> Figure:
    """
    Show every channel at the tilt nearest 0 degrees.

    Parameters
    ----------
    maps : array_like (channel, tilt, x, y)
        Elemental maps, HAADF images, or both.
    tilts : array_like (tilt,)
        Degrees.
    names : sequence of str (channel,)
        Titles.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.
    unit : str, default "counts"
        Unit of the maps.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If names, tilts and maps do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_projections(np.ones((2, 3, 20, 10)), [-10, 0, 10], ["Au", "Ag"])
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['Au', 'Ag']
    """
    maps, names = named_channels("maps", maps, names, ("channel", "tilt", "x", "y"))
    tilts = checked_tilts(tilts, maps.shape[1])
    nearest = int(np.argmin(np.abs(tilts)))
    images = maps[:, nearest].transpose(0, 2, 1)
    columns = min(len(images), 4 if len(images) != 5 else 5)
    rows = -(-len(images) // columns)
    cell = PAGE_WIDTH / columns
    height = min(cell * np.clip(images.shape[1] / images.shape[2], 0.12, 3) * 0.72, 4.2) + 0.5
    figure = page_figure(rows * height + 0.4)
    if columns == 1:
        # A single picture is centred, with its colour scale beside it.
        wide = min(0.9 * PAGE_WIDTH, (height - 0.5) * images.shape[2] / images.shape[1] + 0.8)
        side = (PAGE_WIDTH - wide) / 2
        cells = [
            figure.add_subplot(figure.add_gridspec(1, 3, width_ratios=(side, wide, side))[0, 1])
        ]
    else:
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image, name in zip(cells, images, names, strict=False):
        shown = show_image(
            axes,
            image,
            robust_limits(image),
            colour_map(name),
            horizontal="x",
            vertical="y",
            upward=False,
        )
        axes.set_title(name, fontsize=11)
        scale_bar(axes, pixel_size)
        colour_bar(figure, shown, axes, unit)
    hide_empty(figure)
    figure.suptitle(f"Projections at {tilts[nearest]:g}°", fontsize=12)
    return figure


def plot_sinogram(
    projections: ArrayLike,
    tilts: ArrayLike,
    names: Sequence[str],
    *,
    y: int | None = None,
    pixel_size: float | None = None,
    unit: str = "counts",
) -> Figure:
    """
    Show the sinogram of one slice; in an aligned series every point follows a smooth curve.

    Parameters
    ----------
    projections : array_like (channel, tilt, x, y)
        Elemental maps, HAADF images, or both.
    tilts : array_like (tilt,)
        Degrees, in any order: each projection is drawn at its own tilt.
    names : sequence of str (channel,)
        Titles.
    y : int, optional
        The slice; by default the middle one.
    pixel_size : float, optional
        nm; without it x is in pixels.
    unit : str, default "counts"
        Unit of the projections.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If names, tilts and projections do not fit together, or there is no such slice.

    Examples
    --------
    >>> import numpy as np
    >>> plot_sinogram(np.ones((1, 3, 20, 10)), [-10, 0, 10], ["HAADF"]).axes[0].get_ylabel()
    'tilt (°)'
    """
    projections, names = named_channels(
        "projections", projections, names, ("channel", "tilt", "x", "y")
    )
    tilts = checked_tilts(tilts, projections.shape[1])
    y = projections.shape[3] // 2 if y is None else y
    if not 0 <= y < projections.shape[3]:
        raise ValueError(f"y is {y}; expected a slice from 0 to {projections.shape[3] - 1}")
    order = np.argsort(tilts)
    size, length = (1.0, "px") if pixel_size is None else (pixel_size, "nm")
    half = projections.shape[2] * size / 2
    columns = min(len(projections), 3)
    rows = -(-len(projections) // columns)
    figure = page_figure(2.6 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, sinogram, name in zip(
        grid.ravel(), projections[:, order][..., y], names, strict=False
    ):
        low, high = robust_limits(sinogram)
        # Cells reach halfway to the neighbouring tilts: a missing tilt shows as broad cells.
        shown = axes.pcolormesh(
            np.linspace(-half, half, sinogram.shape[1] + 1),
            cell_edges(tilts[order]),
            sinogram,
            cmap=colour_map(name),
            vmin=low,
            vmax=high,
        )
        axes.set_title(name, fontsize=11)
        colour_bar(figure, shown, axes, unit)
    for axes in grid[-1]:
        axes.set_xlabel(f"x ({length})")
    for axes in grid[:, 0]:
        axes.set_ylabel("tilt (°)")
    hide_empty(figure)
    figure.suptitle(f"Sinograms of slice y = {y}", fontsize=12)
    return figure


def plot_response(
    measured: ArrayLike,
    modelled: ArrayLike,
    tilts: ArrayLike,
    *,
    r2: float | None = None,
    residual_per_tilt: ArrayLike | None = None,
    ratios: ResponseRatios | None = None,
) -> Figure:
    """
    Show how well the element maps explain the HAADF.

    On the left measured against modelled signal, then the misfit at each tilt, and the ratios.

    Parameters
    ----------
    measured, modelled : array_like (tilt, ...)
        HAADF signal of pixels or blocks, and the sum of the maps times their response ratios; NaN
        is ignored.
    tilts : array_like (tilt,)
        Degrees.
    r2 : float, optional
        R2 of the fit; by default the centred R2 of the arrays.
    residual_per_tilt : array_like (tilt,), optional
        Relative misfit |h - sum r p| / |h|; by default that of the arrays.
    ratios : ResponseRatios, optional
        Drawn on the right: filled where they are measured, open where calculated.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> measured = np.random.default_rng(0).uniform(0, 100, (3, 20, 20))
    >>> figure = plot_response(measured, measured, [-10, 0, 10])
    >>> figure.axes[1].get_xlabel()
    'tilt (°)'
    """
    from hyperspy_multitomo.inspection.metrics import r_squared

    measured, modelled = (
        np.asarray(measured, dtype=np.float64),
        np.asarray(modelled, dtype=np.float64),
    )
    tilts = checked_tilts(tilts, len(measured))
    if measured.shape != modelled.shape:
        raise ValueError(
            f"the shapes are {measured.shape} and {modelled.shape}; expected measured and modelled "
            "values alike"
        )
    known = np.isfinite(measured) & np.isfinite(modelled)
    if not known.any():
        raise ValueError("no value is both measured and modelled; was the mask empty?")
    r2 = r_squared(modelled[known], measured[known]) if r2 is None else r2
    if residual_per_tilt is None:
        misfit = np.where(known, measured - modelled, 0).reshape(len(tilts), -1)
        signal = np.where(known, measured, 0).reshape(len(tilts), -1)
        residual_per_tilt = np.linalg.norm(misfit, axis=1) / np.maximum(
            np.linalg.norm(signal, axis=1), 1e-30
        )
    figure = page_figure(3.9)
    left, right, *others = figure.subplots(1, 2 if ratios is None else 3)
    if ratios is not None:
        draw_ratios(others[0], ratios)
    low, high = (
        min(robust_limits(modelled[known])[0], robust_limits(measured[known])[0]),
        robust_limits(measured[known], 99.95)[1],
    )
    shown = left.hexbin(
        modelled[known],
        measured[known],
        gridsize=60,
        bins="log",
        extent=(low, high, low, high),
        cmap="viridis",
        mincnt=1,
        linewidths=0.1,
    )
    left.plot([low, high], [low, high], color="#D55E00", linewidth=1.2, label="equal")
    left.set(
        xlabel="HAADF from the element maps",
        ylabel="HAADF measured",
        title=f"R² = {r2:.3f}",
        xlim=(low, high),
        ylim=(low, high),
    )
    left.set_aspect("equal")
    left.legend(loc="lower right")
    colour_bar(figure, shown, left, "pixels or blocks")
    order = np.argsort(tilts)
    right.plot(
        tilts[order],
        100 * np.asarray(residual_per_tilt)[order],
        "o-",
        color="#0072B2",
        markersize=4,
    )
    right.set(xlabel="tilt (°)", ylabel="misfit (% of the HAADF)", title="Misfit at each tilt")
    right.set_ylim(0, 110 * max(np.nanmax(residual_per_tilt, initial=0), 1e-3))
    right.grid(alpha=0.3)
    return figure


def plot_residuals(
    residuals: Mapping[str, ArrayLike],
    iterations: ArrayLike | None = None,
    *,
    objective: ArrayLike | None = None,
) -> Figure:
    """
    Draw the relative residuals of a reconstruction, and the objective if it is regularised.

    Parameters
    ----------
    residuals : mapping of str to array_like (measurement,)
        Relative residuals |b - A x| / |b|, one curve for each name; NaN is left out.
    iterations : array_like (measurement,), optional
        Numbers of the iterations at which they were measured, ``volume.residuals["iteration"]``; by
        default 1, 2, and so on.
    objective : array_like (measurement,), optional
        Objective that a regularised method minimises, ``volume.residuals["objective"]``: its excess
        over the last value is drawn in a second panel.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no curve, one is not one-dimensional, or lengths differ from that of
        `iterations`.

    Examples
    --------
    >>> figure = plot_residuals({"Au": [1.0, 0.5, 0.4], "HAADF": [1.0, 0.2, 0.1]})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['Au', 'HAADF']
    """
    curves = {name: np.asarray(values, dtype=np.float64) for name, values in residuals.items()}
    if not curves or any(values.ndim != 1 for values in curves.values()):
        shapes = {name: values.shape for name, values in curves.items()}
        raise ValueError(
            f"the residuals have the shapes {shapes}; expected one list over the iterations for "
            "each name"
        )
    fall = np.zeros(0) if objective is None else np.asarray(objective, dtype=np.float64)
    lengths = {values.size for values in (*curves.values(), *([] if objective is None else [fall]))}
    if iterations is not None and lengths != {np.size(iterations)}:
        raise ValueError(
            f"there are {np.size(iterations)} iterations but curves of {sorted(lengths)} values; "
            "pass one for each"
        )
    figure = page_figure(3.4)
    axes = figure.subplots(1, 1 if objective is None else 2, squeeze=False)[0]
    for (name, values), (colour, _) in zip(curves.items(), line_styles(len(curves)), strict=True):
        shade = "#222222" if name.upper() == "HAADF" else colour
        axes[0].semilogy(
            np.arange(1, values.size + 1) if iterations is None else iterations,
            values,
            color=shade,
            label=name,
        )
    axes[0].set(xlabel="iteration", ylabel="relative residual")
    axes[0].legend(frameon=False, ncols=2)
    if objective is not None:
        above = (fall - fall[-1:]) / np.maximum(np.abs(fall[-1:]), np.finfo(float).tiny)
        numbers = np.arange(1, fall.size + 1) if iterations is None else np.asarray(iterations)
        axes[1].semilogy(numbers[above > 0], above[above > 0], color="#0072B2")
        axes[1].set(xlabel="iteration", ylabel="objective above its last value, relative")
    for panel in axes:
        panel.grid(alpha=0.3, which="both")
    return figure


def cell_edges(tilts: np.ndarray) -> np.ndarray:
    """Return the cell edges of ascending tilts, halfway between neighbours."""
    if len(tilts) == 1:
        return tilts[0] + np.array([-0.5, 0.5])
    between = (tilts[1:] + tilts[:-1]) / 2
    return np.concatenate([[2 * tilts[0] - between[0]], between, [2 * tilts[-1] - between[-1]]])
