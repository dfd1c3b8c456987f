# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of an alignment: shifts, path of the image centre, residuals, and sinograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.inspection.picture import (
    COLOUR_MAP,
    LINES,
    checked_tilts,
    colour_bar,
    page_figure,
    robust_limits,
)
from hyperspy_multitomo.inspection.series_plots import cell_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUSPICIOUS_COLOUR, PLAIN_COLOUR = LINES[0], LINES[1]


def plot_alignment(alignment: Alignment, *, pixel_size: float | None = None) -> Figure:
    """
    Draw the shifts and residuals against the tilt, and the path of the image centre.

    Parameters
    ----------
    alignment : Alignment
        Its `quality` adds error bars, where they are finite, and the residuals, in which suspicious
        tilts are marked. Without tilts the numbers of the images are used.
    pixel_size : float, optional
        nm, for a second scale of the shifts; by default that of the alignment, if it is known.

    Returns
    -------
    matplotlib.figure.Figure
        The path is in the order of the tilts, y downwards as in the images: across is what is added
        to x and along what is added to y, in the unrotated frame. With a drift during the scan they
        are those of the middle of the scan.

    Raises
    ------
    ValueError
        If there is no tilt, or `pixel_size` is not a positive length.

    Examples
    --------
    >>> shifts = [0.0, 2.0, 1.0], [1.0, -1.0, 0.0]
    >>> alignment = Alignment(*shifts, axis_offset=3.0, tilts=[-10, 0, 10], pixel_size=0.5)
    >>> figure = plot_alignment(alignment)
    >>> figure.axes[0].get_xlabel()
    'tilt (°)'
    >>> figure.get_suptitle()
    'Tilt axis at x = (n-1)/2 + 3.00 px, rotation 0.00°'
    """
    if len(alignment) == 0:
        raise ValueError("the alignment has no tilts; there is nothing to draw")
    size = alignment.pixel_size if pixel_size is None else pixel_size
    if size is not None and not (np.isfinite(size) and size > 0):
        raise ValueError(f"`pixel_size` is {size!r}; expected a positive length in nm")
    label, angles = (
        ("number of the image", np.arange(len(alignment)))
        if alignment.tilts is None
        else ("tilt (°)", alignment.tilts)
    )
    quality = alignment.quality
    with_residual = quality is not None and bool(np.isfinite(quality.residual).any())
    figure = page_figure(5.6 if with_residual else 4.2)
    # Space for the nm scale of the left panel beside the px scale of the right one.
    figure.get_layout_engine().set(wspace=0.06)
    grid = figure.add_gridspec(
        2 if with_residual else 1,
        2,
        width_ratios=(1.25, 1),
        height_ratios=(3, 2)[: 1 + with_residual],
    )
    shifts = figure.add_subplot(grid[0, 0])
    _draw_shifts(shifts, alignment, angles, size)
    shifts.set_xlabel(label)
    _draw_wobble(figure, figure.add_subplot(grid[:, 1]), alignment, angles, label)
    if with_residual:
        residual = figure.add_subplot(grid[1, 0], sharex=shifts)
        _draw_residual(residual, alignment, angles)
        residual.set_xlabel(label)
    figure.suptitle(_axis_description(alignment), fontsize=12)
    return figure


def plot_alignment_sinograms(
    before: ArrayLike,
    after: ArrayLike,
    tilts: ArrayLike,
    *,
    y: int | None = None,
    pixel_size: float | None = None,
    unit: str = "HAADF signal",
    axis_offset: float | None = None,
) -> Figure:
    """
    Show one slice's sinogram before and after the alignment, on the same colour scale.

    In an aligned series every point of the object follows a smooth curve.

    Parameters
    ----------
    before, after : array_like (tilt, x, y)
        The images as recorded, and aligned.
    tilts : array_like (tilt,)
        Degrees, in any order: each projection is drawn at its own tilt.
    y : int, optional
        The slice; by default the middle one.
    pixel_size : float, optional
        nm; without it x is in pixels.
    unit : str, default "HAADF signal"
        Unit of the images.
    axis_offset : float, optional
        Position of the tilt axis from the middle (n-1)/2 of the images `after`, px, drawn as a
        dashed line.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If images and tilts do not fit together, there is no such slice, or a length is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.ones((3, 20, 10))
    >>> figure = plot_alignment_sinograms(images, images, [-10, 0, 10], axis_offset=2.0)
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['before', 'after; dashed: tilt axis at +2.00 px']
    """
    before, after = np.asarray(before), np.asarray(after)
    if before.ndim != 3 or before.shape != after.shape or 0 in before.shape:
        raise ValueError(
            f"the images have the shapes {before.shape} and {after.shape}; expected (tilt, x, y), "
            "both alike, not empty"
        )
    tilts = checked_tilts(tilts, len(before))
    y = before.shape[2] // 2 if y is None else y
    if not 0 <= y < before.shape[2]:
        raise ValueError(f"y is {y}; expected a slice from 0 to {before.shape[2] - 1}")
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"`pixel_size` is {pixel_size!r}; expected a positive length in nm")
    if axis_offset is not None and not np.isfinite(axis_offset):
        raise ValueError(f"`axis_offset` is {axis_offset}; it has to be finite")
    order = np.argsort(tilts)
    size, length = (1.0, "px") if pixel_size is None else (pixel_size, "nm")
    edges = (np.arange(before.shape[1] + 1) - before.shape[1] / 2) * size
    sinograms = np.stack([before[order, :, y], after[order, :, y]])
    low, high = robust_limits(sinograms)
    figure = page_figure(3.6)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, sinogram, name in zip(panels, sinograms, ("before", "after"), strict=True):
        shown = axes.pcolormesh(
            edges, cell_edges(tilts[order]), sinogram, cmap=COLOUR_MAP, vmin=low, vmax=high
        )
        axes.set_title(name, fontsize=11)
        axes.set_xlabel(f"x ({length})")
    panels[0].set_ylabel("tilt (°)")
    if axis_offset is not None:
        _draw_axis(panels[1], axis_offset * size)
        place = f" at {axis_offset * size:+.2f} {length}" if axis_offset else ""
        panels[1].set_title(f"after; dashed: tilt axis{place}", fontsize=11)
    colour_bar(figure, shown, list(panels), unit)
    figure.suptitle(f"Sinograms of slice y = {y}", fontsize=12)
    return figure


def _draw_shifts(axes, alignment: Alignment, angles: np.ndarray, pixel_size: float | None) -> None:
    """Draw both shifts in the order of the tilts, with finite errors and, if known, a nm scale."""
    order = np.argsort(angles)
    for name, (colour, marker) in zip(
        ("across", "along"), zip(LINES[1::-1], "os", strict=True), strict=True
    ):
        values = getattr(alignment, name)
        errors = (
            np.full(len(values), np.nan)
            if alignment.quality is None
            else getattr(alignment.quality, f"{name}_error")
        )
        known = np.isfinite(errors)
        text = f"{name} (median error {np.median(errors[known]):.2g} px)" if known.any() else name
        axes.plot(
            angles[order],
            values[order],
            f"{marker}-",
            color=colour,
            markersize=4,
            linewidth=1,
            label=text,
        )
        if known.any():
            axes.errorbar(
                angles[known],
                values[known],
                errors[known],
                fmt="none",
                ecolor=colour,
                elinewidth=1,
                capsize=2,
            )
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set(ylabel="shift (px)", title="Shifts")
    axes.grid(alpha=0.3)
    # The points fill the panel: make space for the legend above them.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.22 * (high - low))
    axes.legend(
        frameon=False, fontsize=8, loc="upper center", ncols=2, columnspacing=1, handlelength=1.5
    )
    if pixel_size is not None:
        second = axes.secondary_yaxis(
            "right", functions=(lambda px: px * pixel_size, lambda nm: nm / pixel_size)
        )
        second.set_ylabel("shift (nm)")


def _draw_wobble(
    figure: Figure, axes, alignment: Alignment, angles: np.ndarray, label: str
) -> None:
    """Draw the path of the image centre in the order of the tilts, coloured by them."""
    order = np.argsort(angles)
    across, along = alignment.across[order], alignment.along[order]
    axes.plot(across, along, "-", color="#999999", linewidth=0.8, zorder=1)
    shown = axes.scatter(
        across,
        along,
        c=angles[order],
        cmap="viridis",
        s=28,
        edgecolors="black",
        linewidths=0.4,
        zorder=2,
    )
    axes.set(xlabel="across (px)", ylabel="along (px)", title="Path of the image centre")
    axes.set_aspect("equal", adjustable="datalim")
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.8, pad=0.02, aspect=25)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _draw_residual(axes, alignment: Alignment, angles: np.ndarray) -> None:
    """Draw the residual at each tilt and name the suspicious ones."""
    residual, suspicious = alignment.quality.residual, alignment.quality.suspicious
    for chosen, colour, marker in (
        (~suspicious, PLAIN_COLOUR, "o"),
        (suspicious, SUSPICIOUS_COLOUR, "D"),
    ):
        chosen = chosen & np.isfinite(residual)
        if chosen.any():
            axes.vlines(angles[chosen], 0, residual[chosen], color=colour, linewidth=1, alpha=0.5)
            axes.plot(angles[chosen], residual[chosen], marker, color=colour, markersize=4)
    for angle, value in zip(angles[suspicious], residual[suspicious], strict=True):
        text = f"{angle:g}" if alignment.tilts is None else f"{angle:g}°"
        # Upright text: the labels of neighbouring tilts would overlap.
        axes.annotate(
            text,
            (angle, value),
            (0, 7),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90,
            fontsize=8,
        )
    axes.set(ylabel="residual", title="Residual, relative to what is expected")
    axes.set_ylim(0, max(1.45 * np.nanmax(residual, initial=0, where=np.isfinite(residual)), 1e-3))
    axes.grid(alpha=0.3)


def _draw_axis(axes, position: float) -> None:
    """Draw a thin dashed line that is visible on dark and on bright pixels."""
    from matplotlib.patheffects import withStroke

    line = axes.axvline(position, color="white", linestyle="--", linewidth=1)
    line.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _axis_description(alignment: Alignment) -> str:
    """Return axis offset and rotation, with errors where they are known, and the largest drift."""
    quality = alignment.quality
    errors = (
        (np.nan, np.nan) if quality is None else (quality.axis_offset_error, quality.rotation_error)
    )
    offset, turn = (f" ± {error:.2g}" if np.isfinite(error) else "" for error in errors)
    sign = "-" if alignment.axis_offset < 0 else "+"
    place = f"(n-1)/2 {sign} {abs(alignment.axis_offset):.2f}{offset} px"
    text = f"Tilt axis at x = {place}, rotation {alignment.rotation:.2f}{turn}°"
    if alignment.drift is not None:
        largest = np.linalg.norm(alignment.drift, axis=1).max()
        text += f"\ndrift during the scan up to {largest:.2g} px per line"
    return text
