# SPDX-License-Identifier: GPL-3.0-or-later
"""The figure of noise realisations: a section of the volume, its noise and its bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.orthoslices import centre_of_mass
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

SIGNED = "RdBu_r"


def plot_realisations(
    volume: ArrayLike,
    sd: ArrayLike,
    bias: ArrayLike,
    names: Sequence[str],
    *,
    count: int,
    unit: str = "",
    pixel_size: float | None = None,
) -> Figure:
    """
    Show a volume, its standard deviation by noise, and its bias, across the tilt axis.

    Parameters
    ----------
    volume, sd, bias : array_like (channel, z, x, y)
    names : sequence of str (channel,)
    count : int
        Of realisations.
    unit : str, default ""
        Of the values.
    pixel_size : float, optional
        nm; without it the scale bars are in pixels.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each channel: the section xz through the centre of mass. Standard deviation and
        bias have one scale, so that their sizes compare.

    Examples
    --------
    >>> volume = np.ones((1, 8, 8, 4))
    >>> figure = plot_realisations(volume, 0.1 * volume, 0.02 * volume, ["Au"], count=30)
    >>> figure.axes[1].get_title()
    'sd (noise only)'
    """
    volume, names = named_channels("volume", volume, names, ("channel", "z", "x", "y"))
    place = centre_of_mass(np.maximum(volume, 0))[2]
    depth, width = volume.shape[1:3]
    height = min(max(PAGE_WIDTH * 0.26 * depth / width, 0.8), 4.0) + 0.4
    figure = page_figure(height * len(names) + 0.5)
    grid = figure.subplots(len(names), 3, squeeze=False)
    for row, name in enumerate(names):
        cuts = [np.asarray(one)[row, :, :, place] for one in (volume, sd, bias)]
        most = max(robust_limits(np.abs(cut))[1] for cut in cuts[1:])
        scales = [
            (robust_limits(volume[row]), COLOUR_MAP),
            ((0.0, most), COLOUR_MAP),
            ((-most, most), SIGNED),
        ]
        for axes, cut, (limits, colours) in zip(grid[row], cuts, scales, strict=True):
            shown = show_image(
                axes, cut, limits, colours, horizontal="x", vertical="z", upward=True
            )
            colour_bar(figure, shown, axes, unit if axes is grid[row, 2] else "", shrink=0.85)
        scale_bar(grid[row, 0], pixel_size)
        grid[row, 0].set_title(name, fontsize=11, loc="left", fontweight="bold")
    for axes, title in zip(grid[0, 1:], ("sd (noise only)", "bias"), strict=True):
        axes.set_title(title, fontsize=11)
    figure.suptitle(f"{count} noise realisations", fontsize=10)
    return figure
