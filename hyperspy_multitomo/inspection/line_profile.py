# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of a volume along a line, averaged over a disc across it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.figures import new_figure
from hyperspy_multitomo.inspection.picture import line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Profile:
    """Values along a line, by channel.

    Attributes
    ----------
    distance : array (place,)
        From the start, in `length`.
    values : dict of str to array (place,)
        Means over the disc across the line, in `unit`; NaN outside the volume.
    errors : dict of str to array (place,)
        Standard errors of these means, where errors were given; else empty.
    unit, length : str
    """

    distance: np.ndarray
    values: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]
    unit: str
    length: str

    def plot(self) -> Figure:
        """Draw the channels against the distance, with bands of one standard error."""
        figure = new_figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        styles = line_styles(len(self.values))
        for (name, values), (colour, _) in zip(self.values.items(), styles, strict=True):
            axes.plot(self.distance, values, color=colour, label=name)
            if name in self.errors:
                low, high = values - self.errors[name], values + self.errors[name]
                axes.fill_between(self.distance, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.set(xlabel=f"distance ({self.length})", ylabel=self.unit)
        axes.margins(x=0)
        axes.legend(frameon=False)
        return figure

    def to_csv(self, path) -> None:
        """Write the profile as a table of comma-separated values, with a line of headings."""
        columns = {f"distance ({self.length})": self.distance}
        for name, values in self.values.items():
            columns[f"{name} ({self.unit})" if self.unit else name] = values
            if name in self.errors:
                columns[f"{name} standard error"] = self.errors[name]
        heading = ",".join(f'"{name}"' for name in columns)
        table = np.column_stack(list(columns.values()))
        np.savetxt(path, table, delimiter=",", header=heading, comments="", fmt="%.6g")


def line_profile(
    volume: ArrayLike, start: Sequence[float], end: Sequence[float], width: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the means of a volume over discs along a line, by linear interpolation.

    Parameters
    ----------
    volume : array_like (z, x, y)
        Any unit.
    start, end : (float, float, float)
        z, x and y in voxels, 0 in the middle of the first one.
    width : float, default 1.0
        Diameter of the discs, in voxels.

    Returns
    -------
    distance : numpy.ndarray (place,)
        From the start, one place per voxel and the end.
    means : numpy.ndarray (place,)
        NaN where no part of the disc is in the volume.
    points : numpy.ndarray (place,)
        Independent voxels in the mean, at least 1.

    Raises
    ------
    ValueError
        For equal ends and a width that is not positive.

    Examples
    --------
    >>> ramp = np.arange(8.0)[:, None, None] * np.ones((8, 5, 5))
    >>> distance, means, _ = line_profile(ramp, (1, 2, 2), (6, 2, 2), width=3)
    >>> means.tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    """
    from scipy.ndimage import map_coordinates

    volume = np.asarray(volume, dtype=np.float32)
    first, last = np.asarray(start, float), np.asarray(end, float)
    long = float(np.linalg.norm(last - first))
    if not long > 0:
        raise ValueError(f"start and end are the same place, {tuple(start)}; expected a line")
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"width={width} must be a positive number")
    distance = np.linspace(0, long, round(long) + 1 if long >= 1 else 2)
    along = (last - first) / long
    across = np.linalg.svd(along[None])[2][1:]  # two axes across the line
    radius = max(0.0, (width - 1) / 2)
    steps = np.arange(-np.floor(radius), np.floor(radius) + 1)
    disc = np.array([(a, b) for a in steps for b in steps if np.hypot(a, b) <= radius + 1e-9])
    places = first + distance[:, None, None] * along + disc @ across
    found = map_coordinates(
        volume, np.moveaxis(places, -1, 0), order=1, cval=np.nan, mode="constant"
    )
    inside = np.isfinite(found)
    counts = inside.sum(axis=1)
    sums = np.where(inside, found, 0).sum(axis=1, dtype=float)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return distance, means, np.maximum(counts, 1)
