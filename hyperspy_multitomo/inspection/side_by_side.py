# SPDX-License-Identifier: GPL-3.0-or-later
"""The same sections of several volumes side by side, and how each differs from the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.orthoslices import centre_of_mass
from hyperspy_multitomo.inspection.picture import (
    COLOUR_MAP,
    PAGE_WIDTH,
    colour_bar,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)
from hyperspy_multitomo.inspection.volume_plots import PLANES, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DIFFERENCES = "RdBu_r"


def plot_side_by_side(
    volumes: Mapping[str, ArrayLike],
    names: Sequence[str],
    *,
    planes: Sequence[str] = ("xy", "xz"),
    position: tuple[int, int, int] | None = None,
    difference: bool = True,
    pixel_size: float | None = None,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    unit: str | Sequence[str] = "counts per nm",
) -> Figure:
    """
    Show the same sections of several volumes, and how they differ from the first.

    All sections go through one point. Each channel has one colour scale in all volumes, and one
    for the differences; in a window that can be zoomed, panels of one plane move together.

    Parameters
    ----------
    volumes : mapping of str to array_like (channel, z, x, y)
        One column each, NumPy or dask, of one shape and unit. Of dask arrays the sections alone are
        computed, and of the first one what its centre of mass needs.
    names : sequence of str (channel,)
        A row for each, and for each plane.
    planes : sequence of {"xy", "xz", "yz"}, default ("xy", "xz")
        xz is normal to the tilt axis; the missing wedge shows there.
    position : (int, int, int), optional
        z, x and y of the voxel; by default the centre of mass of the first volume.
    difference : bool, default True
        Whether a column follows for each volume but the first: that minus the first.
    pixel_size : float, optional
        nm; without it lengths are in pixels.
    origin : (float, float, float), default (0, 0, 0)
        z, x and y of the centre of the first voxel, nm, for the title.
    unit : str or sequence of str (channel,), default "counts per nm"
        Unit of all channels, or of each.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no volume, shapes differ, names do not fit, a plane is unknown or the position
        outside.

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.ones((1, 8, 8, 4))
    >>> figure = plot_side_by_side({"SIRT": volume, "HEBT": 2 * volume}, ["Au"], planes=["xz"])
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['SIRT', 'HEBT', 'HEBT − SIRT']
    """
    shape = _checked(volumes, names, planes)
    first = next(iter(volumes))
    position = centre_of_mass(volumes[first]) if position is None else tuple(position)
    if len(position) != 3 or not all(0 <= p < n for p, n in zip(position, shape[1:], strict=True)):
        raise ValueError(f"the position is {position}; expected (z, x, y) inside {shape[1:]}")
    units = [unit] * len(names) if isinstance(unit, str) else list(unit)
    others = [title for title in volumes if title != first] if difference else []
    grid, figure = _grid(shape[1:], len(names), planes, len(volumes), len(others))
    titles = [*volumes, *(f"{title} − {first}" for title in others)]
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    for channel, name in enumerate(names):
        rows = grid[channel * len(planes) : (channel + 1) * len(planes)]
        cuts = [
            [
                np.asarray(section(volume[channel], plane, position[PLANES[plane]]), float)
                for volume in volumes.values()
            ]
            for plane in planes
        ]
        _draw(figure, rows, cuts, planes, pixel_size, units[channel], len(others))
        rows[0, 0].set_title(f"{name}  " if channel else name, loc="left", fontweight="bold")
    _link(grid, planes)
    z, x, y = position
    length = "px" if pixel_size is None else "nm"
    step = 1.0 if pixel_size is None else pixel_size
    z, x, y = (o + step * p for o, p in zip(origin, position, strict=True))
    figure.suptitle(f"Sections through x = {x:.4g}, y = {y:.4g}, z = {z:.4g} {length}", fontsize=11)
    return figure


def _checked(volumes: Mapping[str, ArrayLike], names, planes) -> tuple[int, ...]:
    """Return the shape of all volumes, or raise an error."""
    shapes = {title: np.shape(volume) for title, volume in volumes.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 4:
        raise ValueError(
            f"the volumes have the shapes {shapes}; expected one or more, of one shape (channel, "
            "z, x, y)"
        )
    shape = next(iter(shapes.values()))
    if isinstance(names, str) or len(names) != shape[0]:
        raise ValueError(f"there are {shape[0]} channels for the names {names!r}; give one each")
    if not planes or any(plane not in PLANES for plane in planes):
        raise ValueError(
            f"the planes are {planes!r}; expected some of {', '.join(map(repr, PLANES))}"
        )
    return shape


def _grid(shape, channels: int, planes, volumes: int, differences: int):
    """Return axes (row, column) at one scale, and their figure."""
    sizes = dict(zip("zxy", shape, strict=True))
    columns = volumes + differences
    cell = PAGE_WIDTH * (0.86 if differences else 0.92) / columns
    widest = max(sizes[plane[0]] for plane in planes)
    heights = [max(cell * sizes[plane[1]] / widest, 0.35) + 0.25 for plane in planes] * channels
    figure = page_figure(min(sum(heights), 40) + 0.6)
    return figure.subplots(
        len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    ), figure


def _draw(figure, rows, cuts, planes, pixel_size, unit: str, differences: int) -> None:
    """Draw the sections of one channel, and their colour scales."""
    limits = robust_limits(np.concatenate([np.ravel(cut) for row in cuts for cut in row]))
    apart = [[cut - row[0] for cut in row[1:]] for row in cuts]
    most = 1.0
    if differences:
        values = np.abs(np.concatenate([np.ravel(cut) for row in apart for cut in row]))
        most = robust_limits(values)[1]
    count = len(cuts[0])
    for axes_row, plane, row, changes in zip(rows, planes, cuts, apart, strict=True):
        how = {"horizontal": plane[0], "vertical": plane[1], "upward": plane[1] == "z"}
        for axes, cut in zip(axes_row[:count], row, strict=True):
            shown = show_image(axes, cut, limits, COLOUR_MAP, **how)
        for axes, cut in zip(axes_row[count:], changes if differences else [], strict=True):
            changed = show_image(axes, cut, (-most, most), _DIFFERENCES, **how)
        for axes in axes_row[1:]:
            axes.set(xlabel="", ylabel="")
    scale_bar(rows[0, 0], pixel_size)
    colour_bar(figure, shown, list(rows[:, :count].ravel()), unit, shrink=0.8)
    if differences:
        colour_bar(figure, changed, list(rows[:, count:].ravel()), f"difference, {unit}", 0.8)


def _link(grid: np.ndarray, planes: Sequence[str]) -> None:
    """Let panels of one plane be zoomed together."""
    for number in range(len(planes)):
        first, *others = grid[number :: len(planes)].ravel()
        for axes in others:
            axes.sharex(first)
            axes.sharey(first)
