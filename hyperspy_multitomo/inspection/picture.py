# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of figures: robust limits, scale bars, axis labels, channels mixed in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR_MAP = "inferno"
PAGE_WIDTH = 9.6  # inches

# The palette of Okabe and Ito (https://jfly.uni-koeln.de/color/) without its dark blue, which is
# faint on black and the second blue, and its grey, which is the HAADF's; then four that are far
# from these, also to those who do not tell red from green (CIELAB, as Machado et al. simulate it,
# doi:10.1109/TVCG.2009.113).
PALETTE = (
    *("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#E69F00"),
    *("#7A4DFF", "#B9FFA2", "#C8102E", "#A22E8B"),
)
# Okabe and Ito's for lines on white, without yellow and light grey, which are too faint there.
LINES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")


def robust_limits(data: ArrayLike, percentile: float = 99.7) -> tuple[float, float]:
    """
    Return limits of a grey scale that ignore a few hot pixels.

    Parameters
    ----------
    data : array_like
        NaN and infinite values are ignored.
    percentile : float, default 99.7
        The upper limit is this percentile. The lower one is 0, or 100 minus this percentile if that
        is below 0.

    Returns
    -------
    low, high : float
        Always different.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.ones(1000); image[0] = 1e6
    >>> robust_limits(image)
    (0.0, 1.0)
    """
    values = np.asarray(data)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [100 - percentile, percentile])
    if high <= 0:
        # The object is smaller than the ignored fraction of the pixels, or there is none.
        high = values.max()
    low = min(0.0, float(low))
    return low, float(high) if high > low else low + 1.0


def colour_mix(
    channels: ArrayLike,
    *,
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
) -> np.ndarray:
    """
    Mix channels into one picture: the sum of their colours on black.

    Parameters
    ----------
    channels : array_like (channel, ...)
        Images or volumes, any unit.
    limits : sequence of (float, float), optional
        Values of each channel drawn black and in full colour; by default robust limits of each.
    colours : sequence of str, optional
        Any colours that matplotlib knows; by default a palette that is distinct for colour-blind
        readers.

    Returns
    -------
    numpy.ndarray (..., 3), float32
        Red, green and blue from 0 to 1.

    Raises
    ------
    ValueError
        If there are fewer colours or limits than channels.

    References
    ----------
    M. Okabe, K. Ito, Color universal design (2008), https://jfly.uni-koeln.de/color/.

    Examples
    --------
    >>> channels = [[[0.0, 1.0]], [[1.0, 0.0]]]
    >>> colour_mix(channels, colours=["#ff0000", "#0000ff"], limits=[(0, 1)] * 2)[0]
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    from matplotlib.colors import to_rgb

    channels = np.asarray(channels, dtype=np.float32)
    colours = PALETTE if colours is None else colours
    limits = [robust_limits(channel) for channel in channels] if limits is None else limits
    if len(colours) < len(channels) or len(limits) != len(channels):
        raise ValueError(
            f"there are {len(channels)} channels but {len(colours)} colours and {len(limits)} "
            "limits; give one for each"
        )
    mixed = np.zeros((*channels.shape[1:], 3), np.float32)
    for channel, colour, (low, high) in zip(channels, colours, limits, strict=False):
        mixed += np.clip((channel - low) / (high - low), 0, 1)[..., None] * np.array(
            to_rgb(colour), np.float32
        )
    return np.clip(mixed, 0, 1)


def show_image(axes, image, limits, cmap, *, horizontal: str, vertical: str, upward: bool):
    """Draw an image (vertical, horizontal[, 3]) without ticks, its axes labelled with arrows."""
    low, high = limits
    kind = {} if image.ndim == 3 else {"cmap": cmap, "vmin": low, "vmax": high}
    shown = axes.imshow(
        image, origin="lower" if upward else "upper", interpolation="nearest", **kind
    )
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"{horizontal} →", fontsize=8, labelpad=2)
    # The label is rotated by 90 degrees, so that → points up the page.
    axes.set_ylabel(f"{vertical} →" if upward else f"← {vertical}", fontsize=8, labelpad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return shown


def scale_bar(axes, pixel_size: float | None) -> None:
    """Draw a scale bar of a round length, about a quarter of the picture, at the lower left."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    size, unit = (1.0, "px") if pixel_size is None else (pixel_size, "nm")
    length = round_length(abs(right - left) * size / 4)
    x, y = left + 0.05 * (right - left), bottom + 0.09 * (top - bottom)
    # A fraction of the width, since flat pictures have little height; up may be either sign of y.
    thickness = 0.012 * abs(right - left) * np.sign(top - bottom)
    axes.add_patch(
        Rectangle(
            (x, y), length / size, thickness, facecolor="white", edgecolor="black", linewidth=0.5
        )
    )
    # Beside the bar: flat pictures have no space above it.
    beside = x + length / size + 0.015 * (right - left)
    text = axes.text(
        beside,
        y + thickness / 2,
        f"{length:g} {unit}",
        color="white",
        fontsize=8,
        va="center_baseline",
        ha="left",
    )
    text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])


def round_length(length: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that does not exceed a length."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)) * power)


def page_figure(height: float) -> Figure:
    """Return an empty figure of page width and `height` inches, with constrained layout."""
    return new_figure(figsize=(PAGE_WIDTH, float(height)), layout="constrained")


def colour_bar(figure: Figure, shown, axes, unit: str, shrink: float = 0.9) -> None:
    """Draw the colour scale beside one picture or a row of them."""
    bar = figure.colorbar(shown, ax=axes, shrink=shrink, pad=0.02, aspect=25)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def hide_empty(figure: Figure) -> None:
    """Remove the cells of a grid in which nothing was drawn."""
    for axes in figure.axes:
        if not axes.has_data():
            axes.set_axis_off()


def colour_map(name: str) -> str:
    """Return the colour map of a channel alone: grey for the HAADF, as microscopes show it."""
    return "gray" if name.upper() == "HAADF" else COLOUR_MAP


def distinct_colours(count: int) -> list[str]:
    """Return `count` colours, the palette in turn."""
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def channel_colours(names: Sequence[str]) -> list[str]:
    """
    Return a colour for each channel: grey for the HAADF, the palette in turn for the elements.

    Parameters
    ----------
    names : sequence of str
        Names of the channels.

    Returns
    -------
    list of str

    Examples
    --------
    >>> channel_colours(["Au", "HAADF", "Ag"])
    ['#D55E00', '#DDDDDD', '#56B4E9']
    """
    rest = iter(distinct_colours(len(names)))
    return ["#DDDDDD" if name.upper() == "HAADF" else next(rest) for name in names]


def line_styles(count: int) -> list[tuple[str, str]]:
    """Return `count` pairs of line colour and marker; the marker changes when colours repeat."""
    return [(LINES[i % len(LINES)], "osv^"[i // len(LINES) % 4]) for i in range(count)]


def named_channels(
    what: str, array: ArrayLike, names: Sequence[str], axes: tuple[str, ...]
) -> tuple[np.ndarray, list[str]]:
    """Return the array and a name for each of its channels, or raise a ValueError."""
    array = np.asarray(array)
    if array.ndim != len(axes) or 0 in array.shape:
        raise ValueError(
            f"`{what}` has the shape {array.shape}; expected ({', '.join(axes)}), none of them "
            "empty"
        )
    if isinstance(names, str) or len(names) != len(array):
        raise ValueError(
            f"`{what}` has {len(array)} channels for the names {names!r}; give each channel one "
            "name"
        )
    return array, [str(name) for name in names]


def checked_tilts(tilts: ArrayLike, count: int) -> np.ndarray:
    """Return the tilts as an array, or raise a ValueError if their number is wrong."""
    tilts = np.asarray(tilts, dtype=np.float64)
    if tilts.shape != (count,):
        raise ValueError(
            f"`tilts` has the shape {tilts.shape} but there are {count} projections; pass one "
            "angle per projection"
        )
    return tilts
