# SPDX-License-Identifier: GPL-3.0-or-later
"""Orthogonal sections through one voxel, with all channels mixed in colour and each on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import (
    PAGE_WIDTH,
    channel_colours,
    colour_mix,
    named_channels,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)
from hyperspy_multitomo.machine.lazy import is_lazy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AXES = ("channel", "z", "x", "y")


def plot_orthoslices(
    volumes: ArrayLike,
    names: Sequence[str],
    *,
    position: tuple[int, int, int] | None = None,
    pixel_size: float | None = None,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    unit: str | Sequence[str] = "counts per nm",
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
) -> Figure:
    """
    Show the sections xy, xz and zy through one voxel.

    First all channels are mixed, each in its colour; then each channel is shown on its own. The
    sections are unfolded, so that neighbours share an axis: x in xy and in xz below it, y in xy and
    in zy beside it. Dashed lines mark where the other two sections cut. The electrons come from the
    top of xz and from the right of zy.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y)
        Any unit. Of a dask array only the three sections are computed, and the sums for the centre
        of mass.
    names : sequence of str (channel,)
        Names of the channels.
    position : (int, int, int), optional
        z, x and y of the voxel; by default the centre of mass, see `centre_of_mass`.
    pixel_size : float, optional
        nm; without it lengths are in pixels.
    origin : (float, float, float), default (0, 0, 0)
        z, x and y of the centre of the first voxel, nm, for the title.
    unit : str or sequence of str (channel,), default "counts per nm"
        Unit of all channels, or of each.
    limits : sequence of (float, float), optional
        Values drawn black and in full colour; by default 0 and the robust maximum of each channel's
        three sections.
    colours : sequence of str, optional
        By default those of `channel_colours`, which colour-blind readers can tell apart.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If names, units, limits or colours do not fit the volumes, or the position is outside.

    References
    ----------
    M. Okabe, K. Ito, Color universal design (2008), https://jfly.uni-koeln.de/color/.

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_orthoslices(np.ones((2, 8, 16, 12)), ["Au", "Ag"], pixel_size=1.5)
    >>> [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    ['together', 'Au', 'Ag']
    """
    volumes, names = checked_volumes(volumes, names)
    shape = volumes.shape[1:]
    position = centre_of_mass(volumes) if position is None else tuple(int(p) for p in position)
    if len(position) != 3 or not all(0 <= p < n for p, n in zip(position, shape, strict=True)):
        raise ValueError(f"the position is {position}; expected (z, x, y) inside {shape}")
    sections = _cut(volumes, position)
    if limits is None:
        limits = [
            full_scale(np.concatenate([part[i].ravel() for part in sections]))
            for i in range(len(names))
        ]
    limits, colours, units = per_channel(names, limits, colours, unit)
    groups = len(names) + 1 if len(names) > 1 else 1
    figure, cells = _grid_of_groups(groups, shape)
    if len(names) > 1:
        mixed = [colour_mix(part, limits=limits, colours=colours) for part in sections]
        _draw(figure, cells[0], mixed, position, (0, 1), None, pixel_size, "together")
        colour_legend(figure, colours, legend_labels(names, limits, units))
    for i, cell in enumerate(cells[-len(names) :]):
        alone = [part[i] for part in sections]
        _draw(
            figure,
            cell,
            alone,
            position,
            limits[i],
            colour_ramp(colours[i]),
            pixel_size,
            names[i],
            units[i],
        )
    length, size = ("px", 1.0) if pixel_size is None else ("nm", pixel_size)
    z, x, y = (round(start + p * size, 2) for start, p in zip(origin, position, strict=True))
    figure.suptitle(f"Sections through x = {x:g}, y = {y:g}, z = {z:g} {length}", fontsize=12)
    return figure


def centre_of_mass(volumes: ArrayLike) -> tuple[int, int, int]:
    """
    Return the voxel nearest the mean of the channels' centres of mass.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y)
        NumPy or dask; any unit. Negative values and NaN count as 0.

    Returns
    -------
    z, x, y : int
        The middle of the volume if nothing is above 0.

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.zeros((1, 8, 16, 12)); volume[0, 6, 3, 10] = 1.0
    >>> centre_of_mass(volume)
    (6, 3, 10)
    """
    lazy = is_lazy(volumes)
    if lazy:
        import dask.array as xp
    else:
        xp, volumes = np, np.asarray(volumes)
    mass = xp.maximum(xp.nan_to_num(volumes), 0)
    plane = mass.sum(axis=3, dtype=np.float64)
    marginals = [plane.sum(axis=2), plane.sum(axis=1), mass.sum(axis=(1, 2), dtype=np.float64)]
    if lazy:
        marginals = xp.compute(*marginals)
    totals = marginals[0].sum(axis=1)
    if not totals.any():
        return tuple(n // 2 for n in volumes.shape[1:])
    seen = totals > 0
    weights = [(sums[seen] / totals[seen, None]).mean(axis=0) for sums in marginals]
    return tuple(round(float(weight @ np.arange(weight.size))) for weight in weights)


def checked_volumes(volumes, names: Sequence[str]):
    """Return the volumes (channel, z, x, y), dask or NumPy, and their channels' names, checked."""
    volumes = volumes if is_lazy(volumes) else np.asarray(volumes)
    # Only the shape matters, and a dask array must not be computed for it.
    _, names = named_channels(
        "volumes", np.broadcast_to(np.float32(0), volumes.shape), names, _AXES
    )
    return volumes, names


def per_channel(names, limits, colours, unit) -> tuple[list, list[str], list[str]]:
    """Return limits, colours and units, one for each channel, or raise a ValueError."""
    colours = channel_colours(names) if colours is None else list(colours)
    units = [unit] * len(names) if isinstance(unit, str) else list(unit)
    counts = {"limits": len(limits), "colours": len(colours), "units": len(units)}
    for what, count in counts.items():
        if count != len(names):
            raise ValueError(
                f"there are {len(names)} channels but {count} {what}; give one for each"
            )
    return list(limits), colours, units


def full_scale(data: np.ndarray) -> tuple[float, float]:
    """Return 0 and the robust maximum, so that empty voxels are black."""
    high = robust_limits(data)[1]
    return 0.0, high if high > 0 else 1.0


def colour_ramp(colour: str):
    """Return the colour map from black to a colour, as `colour_mix` uses it for one channel."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(colour, ["#000000", colour]).with_extremes(
        bad="#000000"
    )


def legend_labels(names, limits, units) -> list[str]:
    """Return for each channel its name and the values drawn black and in full colour."""
    return [
        f"{name}, {low:.3g} to {high:.3g} {unit}"
        for name, (low, high), unit in zip(names, limits, units, strict=True)
    ]


def colour_legend(figure: Figure, colours: Sequence[str], labels: Sequence[str]) -> None:
    """Draw the legend of the colours below the figure."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=colour, edgecolor="#777777", linewidth=0.5, label=label)
        for colour, label in zip(colours, labels, strict=True)
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=9,
    )


def _cut(volumes, position: tuple[int, int, int]) -> list[np.ndarray]:
    """Return the sections xy (channel, y, x), xz (channel, z, x) and zy (channel, y, z)."""
    z, x, y = position
    sections = [volumes[:, z].swapaxes(1, 2), volumes[:, :, :, y], volumes[:, :, x].swapaxes(1, 2)]
    if is_lazy(volumes):
        import dask

        sections = dask.compute(*sections)
    return [np.asarray(part) for part in sections]


def _grid_of_groups(groups: int, shape: tuple[int, int, int]):
    """Return a figure with a cell for each group, two in a row, and the cells.

    The rows are as high as the unfolded sections of a volume (z, x, y) of that shape need.
    """
    widths, heights = _sides(shape)
    rows = -(-groups // 2)
    height = min(0.38 * PAGE_WIDTH * sum(heights) / sum(widths), 5.0) + 0.6
    figure = page_figure(rows * height + 0.8)
    if groups == 1:
        return figure, [figure.add_gridspec(1, 3, width_ratios=(1, 2, 1))[0, 1]]
    grid = figure.add_gridspec(rows, 2)
    return figure, [grid[i // 2, i % 2] for i in range(groups)]


def _sides(shape: tuple[int, int, int]) -> tuple[list[float], list[float]]:
    """Return widths and heights of the unfolded sections; a single slice has xz only."""
    depth, across, along = (max(side, 0.1 * max(shape)) for side in shape)
    return ([across], [depth]) if shape[2] == 1 else ([across, depth], [along, depth])


def _draw(
    figure: Figure,
    cell,
    sections,
    position,
    limits,
    cmap,
    pixel_size,
    title: str,
    unit: str | None = None,
) -> None:
    """Draw the sections xy, xz and zy into one cell, with a colour scale where there is a unit."""
    z, x, y = position
    widths, heights = _sides((*sections[1].shape[:2], sections[0].shape[0]))
    # Space for a colour scale even without one, so that all groups have the same size.
    inner = cell.subgridspec(
        len(heights),
        len(widths) + 1,
        width_ratios=(*widths, 0.04 * sum(widths)),
        height_ratios=heights,
        wspace=0.02,
        hspace=0.02,
    )
    places = ((0, 0, "x", "y", x, y), (1, 0, "x", "z", x, z), (0, 1, "z", "y", z, y))
    chosen = (
        [(sections[1], (0, 0, *places[1][2:]))]
        if len(heights) == 1
        else list(zip(sections, places, strict=True))
    )
    drawn = []
    for image, (row, column, horizontal, vertical, right, up) in chosen:
        axes = figure.add_subplot(inner[row, column])
        shown = show_image(
            axes,
            image,
            limits,
            cmap,
            horizontal=horizontal,
            vertical=vertical,
            upward=vertical == "z",
        )
        axes.axvline(right, color="white", linewidth=0.6, linestyle=(0, (4, 4)), alpha=0.7)
        axes.axhline(up, color="white", linewidth=0.6, linestyle=(0, (4, 4)), alpha=0.7)
        drawn.append((image.shape[0] * image.shape[1], axes))
    drawn[0][1].set_title(title, fontsize=11, loc="left", fontweight="bold")
    scale_bar(max(drawn, key=lambda item: item[0])[1], pixel_size)
    if unit is not None:
        bar = figure.colorbar(shown, cax=figure.add_subplot(inner[:, -1]))
        bar.set_label(unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
