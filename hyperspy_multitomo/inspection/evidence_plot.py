# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions on sections of their elements, with z of each and the contrasts that could be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import (
    COLOUR_MAP,
    LINES,
    colour_bar,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)
from hyperspy_multitomo.inspection.volume_plots import PLANES, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# At most so many rows are shown on sections.
_SHOWN = 3


def plot_evidence(
    rows: Sequence[Any],
    *,
    volumes: Mapping[str, ArrayLike],
    regions: Mapping[str, ArrayLike],
    pixel_size: float | None = None,
    unit: str = "counts per nm",
) -> Figure:
    """
    Draw regions on the sections through them, and z of each row with the levels 3 and 5.

    Sections are those of the three rows with the largest z, of either sign, each through the middle
    of its region, outlined; other regions that a section cuts are outlined thinly. The two of a
    single row are side by side.

    Parameters
    ----------
    rows : sequence of RegionEvidence
        See `hyperspy_multitomo.evidence.RegionEvidence`.
    volumes : dict of str to array_like (z, x, y)
        Of each element.
    regions : dict of str to array_like of bool (z, x, y)
        By their names in the rows.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.
    unit : str, default "counts per nm"
        Of the volumes.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Without any row.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_multitomo.evidence import RegionEvidence
    >>> row = RegionEvidence(
    ...     "grain", "Au", 2.0, 0.4, 5.0, 4.9, 5.1, (1.2, 2.1), 0.5, 90.0, 6e-7, 6e-7, 8, (0, 0, 0)
    ... )
    >>> region = np.zeros((8, 8, 8), bool); region[3:5, 3:5, 3:5] = True
    >>> figure = plot_evidence([row], volumes={"Au": np.ones((8, 8, 8))}, regions={"grain": region})
    >>> figure.subfigs[1].axes[0].get_xlabel()
    'z'
    """
    if not rows:
        raise ValueError("there is no row of evidence to draw: nothing was found")
    shown = sorted(rows, key=lambda row: -abs(row.z))[:_SHOWN]
    z, x, y = next(iter(volumes.values())).shape  # type: ignore[union-attr]
    # The height of a section in inches: xz and xy side by side, one pair for each row.
    width = 9.0 / max(len(shown), 2)
    heights = [min(max(width * size / x, 0.7), 3.2) for size in (z, y)]
    alone = len(shown) == 1
    heights = [max(heights)] if alone else heights
    below = 0.8 + 0.28 * len(rows)
    figure = page_figure(sum(heights) + below + 0.9)
    # The two parts are laid out each on its own.
    above, under = figure.subfigures(2, 1, height_ratios=[sum(heights) + 0.9, below])
    grid = above.add_gridspec(len(heights), 2 if alone else len(shown), height_ratios=heights)
    for column, row in enumerate(shown):
        volume = np.asarray(volumes[row.element])
        region = np.asarray(regions[row.region], bool)
        middle = [int(np.median(places)) for places in np.nonzero(region)]
        limits, drawn = robust_limits(volume), []
        for place, plane in enumerate(("xz", "xy")):
            axes = above.add_subplot(grid[(0, place) if alone else (place, column)])
            _draw_section(axes, volume, regions, row.region, plane, middle, limits, drawn)
            if place == 0:
                axes.set_title(f"{row.element}, {row.region}: z = {row.z:.1f}", fontsize=10)
                scale_bar(axes, pixel_size)
        colour_bar(above, drawn[0], drawn[0].axes, unit)
    _draw_rows(under.add_subplot(), rows, unit)
    return figure


def _draw_section(axes, volume, regions, name: str, plane: str, middle, limits, drawn) -> None:
    """Draw a section through the middle of a region, with the regions that it cuts."""
    position = middle[PLANES[plane]]
    image = section(volume, plane, position)
    drawn.append(
        show_image(
            axes, image, limits, COLOUR_MAP, horizontal="x", vertical=plane[1], upward=plane == "xz"
        )
    )
    for title, region in regions.items():
        cut = section(np.asarray(region, float), plane, position)
        if cut.any():
            axes.contour(cut, [0.5], colors="#56B4E9", linewidths=1.8 if title == name else 0.7)


def _draw_rows(axes, rows: Sequence[Any], unit: str) -> None:
    """Draw z of each row, with those of the other outlines, and its contrast in words."""
    places, words = np.arange(len(rows))[::-1], []
    for place, row in zip(places, rows, strict=True):
        three = [row.z, row.z_as_given, row.z_larger]
        axes.plot([min(three), max(three)], [place] * 2, color="0.7", lw=4, solid_capstyle="round")
        colour = LINES[0] if row.significant else LINES[1]
        axes.plot(row.z, place, "o", color=colour)
        percent = np.isfinite(row.percent)
        numbers = (
            (row.percent, row.percent_sd, row.percent_limit[1], "wt%")
            if percent
            else (row.contrast, row.sd, row.limit[1], unit)
        )
        text = "{:+.2g} ± {:.1g}, z = 5 at {:.2g} {}".format(*numbers)
        words.append(text)
    for level in (-5, -3, 3, 5):
        axes.axvline(level, color="0.6", ls=":" if abs(level) == 3 else "--", lw=0.8)
    axes.axvline(0, color="0.6", lw=0.8)
    most = max(6.0, *(abs(row.z) * 1.1 for row in rows))
    axes.set(xlim=(-most, most), ylim=(-0.7, len(rows) - 0.3), xlabel="z")
    axes.set_yticks(places, [f"{row.element}, {row.region}" for row in rows], fontsize=8)
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(places, words, fontsize=8)
    right.tick_params(length=0)
    axes.set_title(
        "contrast over its noise (grey: the three outlines; red: p below 0.00135 for all tried)",
        fontsize=9,
    )
