# SPDX-License-Identifier: GPL-3.0-or-later
"""The figure of a transfer test: each channel without and with a feature, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.picture import (
    COLOUR_MAP,
    PAGE_WIDTH,
    colour_bar,
    named_channels,
    page_figure,
    robust_limits,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNED, OUTLINE = "RdBu_r", "#56B4E9"


def plot_transfer(
    without: ArrayLike,
    with_feature: ArrayLike,
    names: Sequence[str],
    *,
    inserted: str,
    outline: ArrayLike | None = None,
    pixel_size: float | None = None,
) -> Figure:
    """
    Show sections of each channel without and with a feature, and what it changed.

    Parameters
    ----------
    without, with_feature : array_like (channel, z, x)
        Sections across the tilt axis.
    names : sequence of str (channel,)
    inserted : str
        The channel that has the feature.
    outline : array_like of bool (z, x), optional
        Where the feature was inserted.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each channel. The scale of a difference is half that of the channel, so that a
        faint one looks faint.

    Examples
    --------
    >>> cut = np.ones((2, 8, 8))
    >>> figure = plot_transfer(cut, 1.2 * cut, ["Au", "Ag"], inserted="Au")
    >>> figure.get_suptitle()
    'a feature in Au alone'
    """
    without, names = named_channels("without", without, names, ("channel", "z", "x"))
    depth, width = without.shape[1:]
    height = min(max(PAGE_WIDTH * 0.26 * depth / width, 0.8), 4.0) + 0.4
    figure = page_figure(height * len(names) + 0.5)
    grid = figure.subplots(len(names), 3, squeeze=False)
    for row, name in enumerate(names):
        cuts = [without[row], np.asarray(with_feature)[row]]
        most = max(robust_limits(cut)[1] for cut in cuts)
        cuts.append(cuts[1] - cuts[0])
        scales = [((0.0, most), COLOUR_MAP)] * 2 + [((-most / 2, most / 2), SIGNED)]
        for axes, cut, (limits, colours) in zip(grid[row], cuts, scales, strict=True):
            shown = show_image(
                axes, cut, limits, colours, horizontal="x", vertical="z", upward=True
            )
            colour_bar(figure, shown, axes, "", shrink=0.85)
            if outline is not None:
                axes.contour(np.asarray(outline, float), [0.5], colors=OUTLINE, linewidths=0.8)
        scale_bar(grid[row, 0], pixel_size)
        title = f"{name} (has it)" if name == inserted else name
        grid[row, 0].set_title(title, fontsize=11, loc="left", fontweight="bold")
    for axes, title in zip(grid[0, 1:], ("with the feature", "difference"), strict=True):
        axes.set_title(title, fontsize=11)
    figure.suptitle(f"a feature in {inserted} alone", fontsize=10)
    return figure
