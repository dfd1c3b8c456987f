# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of volumes and compositions, drawn from plain arrays.

Every function returns a new `matplotlib.figure.Figure`; `inspection.figures` says where it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import (
    COLOUR_MAP,
    PAGE_WIDTH,
    channel_colours,
    colour_bar,
    colour_mix,
    named_channels,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The axis of (z, x, y) that is normal to each plane.
PLANES = {"xy": 0, "xz": 2, "yz": 1}


def plot_slices(
    volumes: ArrayLike,
    names: Sequence[str],
    *,
    position: tuple[int, int, int] | None = None,
    pixel_size: float | None = None,
    unit: str = "counts per nm",
    limits: Sequence[tuple[float, float]] | None = None,
    cmap: str = COLOUR_MAP,
) -> Figure:
    """
    Show each channel in the three sections through one voxel, all at the same scale.

    The electrons come from the top of the sections with z upwards; the sections with y have it
    downwards, as images have.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y)
        Any unit.
    names : sequence of str (channel,)
        One row each.
    position : (int, int, int), optional
        z, x and y of the voxel; by default the middle.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.
    unit : str, default "counts per nm"
        Label of the colour bars.
    limits : sequence of (float, float), optional
        Colour limits of each channel; by default robust limits of the whole volume.
    cmap : str, default "inferno"
        Colour map of matplotlib, preferably perceptually uniform.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If names and volumes do not fit together or the position is outside.

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_slices(np.ones((2, 8, 16, 12)), ["Au", "Ag"], pixel_size=1.5)
    >>> len(figure.axes)  # 2 x 3 sections and a colour bar for each row
    8
    """
    volumes, names = named_channels("volumes", volumes, names, ("channel", "z", "x", "y"))
    position = tuple(n // 2 for n in volumes.shape[1:]) if position is None else position
    if len(position) != 3 or not all(
        0 <= p < n for p, n in zip(position, volumes.shape[1:], strict=True)
    ):
        raise ValueError(
            f"the position is {position}; expected (z, x, y) inside {volumes.shape[1:]}"
        )
    limits = [robust_limits(volume) for volume in volumes] if limits is None else limits
    if len(limits) != len(volumes):
        raise ValueError(
            f"there are {len(volumes)} channels but {len(limits)} limits; give one (low, high) for "
            "each"
        )
    grid = _section_grid(len(volumes), volumes.shape[1:])
    figure = grid[0, 0].figure
    for axes_row, volume, name, limit in zip(grid, volumes, names, limits, strict=True):
        shown = _draw_sections(axes_row, volume, position, limit, cmap, pixel_size)
        axes_row[0].set_title(name, fontsize=11, loc="left", fontweight="bold")
        colour_bar(figure, shown, list(axes_row), unit, shrink=0.85)
    z, x, y = position
    if pixel_size is not None:
        z, x, y = (
            round((p - (n - 1) / 2) * pixel_size, 1)
            for p, n in zip(position, volumes.shape[1:], strict=True)
        )
    length = "px" if pixel_size is None else "nm from the centre"
    figure.suptitle(
        f"Sections xy, xz, yz through z = {z:g}, x = {x:g}, y = {y:g} {length}", fontsize=12
    )
    return figure


def plot_comparison(
    volumes: Mapping[str, ArrayLike],
    names: Sequence[str],
    *,
    plane: str = "xz",
    position: int | None = None,
    pixel_size: float | None = None,
    unit: str = "counts per nm",
) -> Figure:
    """
    Show the same section of several reconstructions side by side.

    Each element has the same colour scale in all reconstructions.

    Parameters
    ----------
    volumes : mapping of str to array_like (channel, z, x, y)
        One column each, such as ``{"truth": ..., "EDS alone": ..., "HEBT": ...}``; equal shapes and
        units.
    names : sequence of str (channel,)
        One row each.
    plane : "xz", "xy" or "yz", default "xz"
        xz is the plane normal to the tilt axis, in which the missing wedge shows.
    position : int, optional
        Index along the normal of `plane`; by default the middle.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.
    unit : str, default "counts per nm"
        Label of the colour bars.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the plane is unknown or shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.ones((1, 8, 8, 2))
    >>> figure = plot_comparison({"SIRT": volume, "HEBT": volume}, ["Au"])
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['SIRT', 'HEBT']
    """
    if plane not in PLANES:
        raise ValueError(f"the plane is {plane!r}; expected one of {', '.join(map(repr, PLANES))}")
    arrays = {
        title: named_channels(title, volume, names, ("channel", "z", "x", "y"))[0]
        for title, volume in volumes.items()
    }
    if len({array.shape for array in arrays.values()}) != 1:
        raise ValueError(
            f"the shapes are {[array.shape for array in arrays.values()]}; expected one or more "
            "volumes of equal shape"
        )
    shape = next(iter(arrays.values())).shape
    axis = PLANES[plane]
    position = shape[1 + axis] // 2 if position is None else position
    if not 0 <= position < shape[1 + axis]:
        raise ValueError(f"the position is {position}; expected 0 to {shape[1 + axis] - 1}")
    across, down = (shape[1 + "zxy".index(letter)] for letter in plane)
    cell = PAGE_WIDTH * 0.82 / len(arrays)
    figure = page_figure(len(names) * (max(cell * min(down / across, 3), 0.8) + 0.4) + 0.3)
    grid = figure.subplots(len(names), len(arrays), squeeze=False)
    for row, name in enumerate(names):
        cuts = [section(array[row], plane, position) for array in arrays.values()]
        limits = robust_limits(np.stack(cuts))
        for axes, title, cut in zip(grid[row], arrays, cuts, strict=True):
            shown = show_image(
                axes,
                cut,
                limits,
                COLOUR_MAP,
                horizontal=plane[0],
                vertical=plane[1],
                upward=plane[1] == "z",
            )
            if row == 0:
                axes.set_title(title, fontsize=11)
        grid[row, 0].set_title(name, fontsize=11, loc="left", fontweight="bold")
        scale_bar(grid[row, 0], pixel_size)
        colour_bar(figure, shown, list(grid[row]), unit, shrink=0.85)
    return figure


def plot_composition(
    composition: ArrayLike,
    names: Sequence[str],
    *,
    mask: ArrayLike | None = None,
    pixel_size: float | None = None,
    unit: str = "wt%",
) -> Figure:
    """
    Show the middle sections of a composition and the histogram of each element in the particle.

    All channels are shown from 0 to 100 percent; the last row mixes them, each in its own colour.

    Parameters
    ----------
    composition : array_like (channel, z, x, y)
        Percent; 0 outside the particle.
    names : sequence of str (channel,)
        Elements.
    mask : array_like of bool (z, x, y), optional
        The particle; by default where the channels do not sum to 0.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.
    unit : str, default "wt%"
        "wt%" or "at%".

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If names, mask and composition do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_composition(np.full((2, 8, 8, 4), 50.0), ["Au", "Ag"])
    >>> figure.axes[-1].get_xlabel()
    'wt%'
    """
    composition, names = named_channels(
        "composition", composition, names, ("channel", "z", "x", "y")
    )
    inside = composition.sum(axis=0) > 0 if mask is None else np.asarray(mask, dtype=bool)
    if inside.shape != composition.shape[1:]:
        raise ValueError(f"the mask has the shape {inside.shape}; expected {composition.shape[1:]}")
    position = tuple(n // 2 for n in composition.shape[1:])
    colours = channel_colours(names)
    grid = _section_grid(len(names) + 1, composition.shape[1:], below=2.4)
    figure = grid[0, 0].figure
    for axes_row, percent, name in zip(grid, composition, names, strict=False):
        shown = _draw_sections(
            axes_row,
            np.where(inside, percent, np.nan),
            position,
            (0, 100),
            _particle_colours(),
            pixel_size,
        )
        axes_row[0].set_title(name, fontsize=11, loc="left", fontweight="bold")
        colour_bar(figure, shown, list(axes_row), unit, shrink=0.85)
    mixed = colour_mix(composition, limits=[(0, 100)] * len(names), colours=colours)
    _draw_sections(grid[-1], mixed, position, (0, 1), None, pixel_size)
    grid[-1, 0].set_title("together", fontsize=11, loc="left", fontweight="bold")
    axes = figure.add_subplot(grid[0, 0].get_gridspec()[-1, :])
    for percent, name, colour in zip(composition, names, colours, strict=True):
        axes.hist(
            percent[inside],
            bins=50,
            range=(0, 100),
            histtype="step",
            linewidth=1.8,
            color=colour,
            label=name,
        )
    axes.set(xlabel=unit, ylabel="voxels in the particle", xlim=(0, 100))
    axes.legend(frameon=False)
    return figure


def _section_grid(rows: int, shape: tuple[int, int, int], below: float = 0.0) -> np.ndarray:
    """Return axes (row, 3) for the sections xy, xz, yz at one scale, `below` inches left free."""
    z, x, y = shape
    widths = np.maximum([x, x, y], 0.12 * max(x, y))
    scale = PAGE_WIDTH * 0.80 / widths.sum()
    height = min(max(scale * max(y, z), 0.8), 4.0) + 0.4
    figure = page_figure(rows * height + below + 0.4)
    heights = [height] * rows + [below] * (below > 0)
    grid = figure.add_gridspec(len(heights), 3, width_ratios=widths, height_ratios=heights)
    return np.array(
        [[figure.add_subplot(grid[row, column]) for column in range(3)] for row in range(rows)]
    )


def _draw_sections(
    axes_row,
    volume: np.ndarray,
    position: tuple[int, int, int],
    limits,
    cmap,
    pixel_size: float | None,
):
    """Draw the sections xy, xz and yz of a volume (z, x, y[, 3]); return the last one's artist."""
    for axes, plane in zip(axes_row, PLANES, strict=True):
        cut = section(volume, plane, position[PLANES[plane]])
        shown = show_image(
            axes, cut, limits, cmap, horizontal=plane[0], vertical=plane[1], upward=plane[1] == "z"
        )
    scale_bar(axes_row[0], pixel_size)
    return shown


def section(volume: np.ndarray, plane: str, position: int) -> np.ndarray:
    """Return a section of a volume (z, x, y, ...): columns along the plane's first axis."""
    cut = np.take(volume, position, axis=PLANES[plane])
    return np.swapaxes(cut, 0, 1) if plane == "xy" else cut


def _particle_colours():
    """Return viridis with grey for voxels outside the particle."""
    from matplotlib import colormaps

    return colormaps["viridis"].with_extremes(bad="#d9dde1")
