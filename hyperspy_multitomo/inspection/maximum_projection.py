# SPDX-License-Identifier: GPL-3.0-or-later
"""Maximum-intensity projections: the brightest voxel along each line of sight, in colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.orthoslices import (
    checked_volumes,
    colour_legend,
    full_scale,
    legend_labels,
    per_channel,
)
from hyperspy_multitomo.inspection.picture import (
    PAGE_WIDTH,
    colour_mix,
    page_figure,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Horizontal and vertical axis of the picture, and the position of the viewer.
_VIEWS = {
    "z": ("x", "y", "from the electron source, +z"),
    "x": ("z", "y", "from -x"),
    "y": ("x", "z", "from +y"),
}


def plot_volume(
    volumes: ArrayLike,
    names: Sequence[str],
    *,
    direction: str | float = "z",
    depth_cue: float = 0.5,
    pixel_size: float | None = None,
    unit: str | Sequence[str] = "counts per nm",
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
) -> Figure:
    """
    Show the maximum-intensity projection of all channels, each in its colour, with depth cue.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y)
        Any unit; of a dask array one channel after the other is computed.
    names : sequence of str (channel,)
        Names of the channels.
    direction : {"z", "x", "y"} or float, default "z"
        Line of sight, or a tilt in degrees: the view of the microscope at that tilt; see
        `brightest`.
    depth_cue : float, default 0.5
        Fraction of the brightness that is lost at the far side; 0 is a plain maximum-intensity
        projection.
    pixel_size : float, optional
        nm; without it the scale bar is in pixels.
    unit : str or sequence of str (channel,), default "counts per nm"
        Unit of all channels, or of each.
    limits : sequence of (float, float), optional
        Values drawn black and, at the front, in full colour; by default 0 and the robust maximum of
        each channel's picture.
    colours : sequence of str, optional
        By default those of `orthoslices.channel_colours`, which are distinct for colour-blind
        readers.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If names, units, limits or colours do not fit the volumes, and for an unknown direction or
        depth cue.

    Notes
    -----
    A maximum shows where an element is, not how much of it: what lies behind or around a brighter
    part of the same channel is hidden. Use `plot_orthoslices` for cores in shells.

    References
    ----------
    J.W. Wallis et al., IEEE Trans. Med. Imaging 8 (1989) 297, doi:10.1109/42.41482
    (maximum-activity projection, with the attenuation of distant points that is used here).

    Examples
    --------
    >>> import numpy as np
    >>> figure = plot_volume(np.ones((2, 8, 16, 12)), ["Au", "Ag"], direction=30.0, pixel_size=1.5)
    >>> figure.axes[0].get_title()
    'at a tilt of 30°'
    """
    volumes, names = checked_volumes(volumes, names)
    pictures = np.stack(
        [brightest(np.asarray(channel), direction, depth_cue=depth_cue) for channel in volumes]
    )
    limits = [full_scale(picture) for picture in pictures] if limits is None else limits
    limits, colours, units = per_channel(names, limits, colours, unit)
    horizontal, vertical, title = _VIEWS.get(
        direction, ("x at this tilt", "y", f"at a tilt of {direction}°")
    )
    if not isinstance(direction, str):
        title = f"at a tilt of {direction:g}°"
    mixed = colour_mix(pictures, limits=limits, colours=colours)
    mixed = mixed if direction == "y" else mixed.swapaxes(0, 1)
    rows, columns = mixed.shape[:2]
    figure = page_figure(min(0.7 * PAGE_WIDTH * max(rows / columns, 0.12), 6.0) + 1.2)
    axes = figure.subplots()
    show_image(
        axes, mixed, (0, 1), None, horizontal=horizontal, vertical=vertical, upward=vertical == "z"
    )
    scale_bar(axes, pixel_size)
    axes.set_title(title, fontsize=11)
    # With a depth cue the brightness is not quantitative: no values in the legend.
    colour_legend(figure, colours, names if depth_cue else legend_labels(names, limits, units))
    return figure


def brightest(
    volume: ArrayLike, direction: str | float = "z", *, depth_cue: float = 0.0
) -> np.ndarray:
    """
    Return the largest value along every line of sight, weighted down with distance.

    Parameters
    ----------
    volume : array_like (z, x, y)
        Any unit; negative values and NaN count as 0.
    direction : {"z", "x", "y"} or float, default "z"
        ``"z"``: seen from the electron source, +z, picture (x, y). ``"x"``: seen from -x, picture
        (z, y), as in the microscope at a tilt of 90 degrees. ``"y"``: along the tilt axis from +y,
        picture (z, x). A number is a tilt in degrees: seen from the source, picture (u, y) with u =
        x cos t + z sin t.
    depth_cue : float, default 0
        A value at the far side of the volume is multiplied by 1 - `depth_cue`, one at the front by
        1, linearly between.

    Returns
    -------
    numpy.ndarray (x, y), (z, y), (z, x) or (u, y), float32

    Raises
    ------
    ValueError
        For an array that is not (z, x, y), an unknown direction, a tilt that is not finite, or a
        depth cue outside 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.zeros((4, 5, 6)); volume[3, 1, 2] = 1.0; volume[0, 1, 2] = 1.5
    >>> float(brightest(volume)[1, 2]), float(brightest(volume, depth_cue=0.5)[1, 2])
    (1.5, 1.0)
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or 0 in volume.shape:
        raise ValueError(f"the volume has the shape {volume.shape}; expected (z, x, y), not empty")
    if not 0 <= depth_cue <= 1:
        raise ValueError(
            f"the depth cue is {depth_cue}; expected 0 (none) to 1 (black at the far side)"
        )
    if isinstance(direction, str):
        if direction not in _VIEWS:
            raise ValueError(
                f"the direction is {direction!r}; expected 'x', 'y', 'z' or a tilt in degrees"
            )
        # The layer nearest to the viewer comes last: seen from +z, -x and +y.
        layers = {"z": volume, "x": volume.swapaxes(0, 1)[::-1], "y": np.moveaxis(volume, 2, 0)}[
            direction
        ]
        count, layers = len(layers), iter(layers)
    elif np.ndim(direction) == 0 and np.isfinite(direction):
        count, layers = _rotated_layers(volume, float(direction))
    else:
        raise ValueError(
            f"the direction is {direction!r}; expected 'x', 'y', 'z' or a tilt in degrees"
        )
    picture = None
    for i, layer in enumerate(layers):
        nearness = i / (count - 1) if count > 1 else 1.0
        seen = layer * np.float32(1 - depth_cue * (1 - nearness))
        picture = np.zeros(seen.shape, np.float32) if picture is None else picture
        # Unlike maximum, fmax ignores NaN.
        np.fmax(picture, seen, out=picture, casting="same_kind")
    return picture


def _rotated_layers(volume: np.ndarray, tilt: float) -> tuple[int, Iterator[np.ndarray]]:
    """Return the layers (u, y) normal to the beam at a tilt, the nearest last, and their number."""
    depth, width = volume.shape[:2]
    sine, cosine = np.sin(np.deg2rad(tilt)), np.cos(np.deg2rad(tilt))

    def pixels(extent: float) -> int:
        return max(int(np.ceil(extent - 1e-9)), 1)

    across = pixels(width * abs(cosine) + depth * abs(sine))
    count = pixels(width * abs(sine) + depth * abs(cosine))
    # Zero padding, so that all four neighbours of a point near the edge exist.
    padded = np.pad(volume.astype(np.float32, copy=False), ((1, 1), (1, 1), (0, 0)))
    u = np.arange(across) - (across - 1) / 2

    def layers() -> Iterator[np.ndarray]:
        for w in np.arange(count) - (count - 1) / 2:
            z = np.clip(u * sine + w * cosine + (depth - 1) / 2, -1, depth) + 1
            x = np.clip(u * cosine - w * sine + (width - 1) / 2, -1, width) + 1
            low_z, low_x = np.minimum(z.astype(int), depth), np.minimum(x.astype(int), width)
            part_z = (z - low_z).astype(np.float32)[:, None]
            part_x = (x - low_x).astype(np.float32)[:, None]
            lower = padded[low_z, low_x] * (1 - part_x) + padded[low_z, low_x + 1] * part_x
            upper = padded[low_z + 1, low_x] * (1 - part_x) + padded[low_z + 1, low_x + 1] * part_x
            yield lower * (1 - part_z) + upper * part_z

    return count, layers()
