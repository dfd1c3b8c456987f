# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of one specimen side by side: the same sections, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.arguments import checked, each_named, flag, listed_names, of_type
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.exporting import channel_arrays
from hyperspy_multitomo.signals.methods.volume_figures import cube_side, voxel_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_multitomo.signals.volume import TomographicVolume

_AXES = ("z", "x", "y")
# Grids are one grid up to this part of a voxel.
_APART = 0.05


@checked(
    volumes=each_named(of_type("TomographicVolume"), "title to volume"),
    planes=listed_names,
    difference=flag,
)
def compare(
    volumes: Mapping[str, TomographicVolume],
    channels: str | Sequence[str] | None = None,
    *,
    planes: Sequence[str] = ("xy", "xz"),
    position: Sequence[float] | None = None,
    difference: bool = True,
) -> Figure:
    """Draw the same sections of several volumes side by side, and how each differs from the first.

    All sections go through one point. Each channel has one colour scale in all volumes, and one for
    the differences.

    Parameters
    ----------
    volumes : dict of str to TomographicVolume
        One column each, with its title, such as ``{"EDS alone": first, "HEBT": second}``. Where
        they are not of one size, what all of them hold is drawn.
    channels : str or sequence of str, optional
        Which to draw; by default all that every volume has.
    planes : sequence of {"xy", "xz", "yz"}, default ("xy", "xz")
        A row for each, for each channel. xz is normal to the tilt axis; the missing wedge shows
        there.
    position : (float, float, float), optional
        x, y and z on the axes of the volumes, nm (px without calibration); by default the centre of
        mass of the first volume.
    difference : bool, default True
        Whether a column follows for each volume but the first: that minus the first.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For no volume, channels that are not in all of them, other units or voxels, grids that do
        not overlap or are shifted by parts of a voxel, and a position outside.

    Notes
    -----
    Of lazy volumes the sections alone are computed; without a position also the sums of the first
    one along its axes. `inspection.plot_side_by_side` draws plain arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> first = mt.TomographicVolume.from_arrays({"Au": np.ones((8, 6, 9))}, pixel_size=2.0)
    >>> figure = mt.compare({"EDS alone": first, "HEBT": first * 1.1}, planes=["xz"])
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['EDS alone', 'HEBT', 'HEBT − EDS alone']
    """
    from hyperspy_multitomo.inspection.side_by_side import plot_side_by_side

    if not volumes:
        raise ValueError("volumes={} is empty; expected one volume or more, each with its title")
    channels = _shared(volumes) if channels is None else channels
    found = {title: channel_arrays(volume, channels) for title, volume in volumes.items()}
    names, _, units = next(iter(found.values()))
    for title, (_, _, other) in found.items():
        if list(other) != list(units):
            raise ValueError(
                f"{title} holds {', '.join(sorted(set(other)))} and the first volume "
                f"{', '.join(sorted(set(units)))}: compare volumes of one unit"
            )
    parts, origin = _common(volumes)
    arrays = {title: found[title][1][(slice(None), *part)] for title, part in parts.items()}
    where = None
    first = next(iter(volumes.values()))
    if position is not None:
        place = voxel_at(position, [axis_named(first, name) for name in _AXES])
        start = [part.start for part in next(iter(parts.values()))]
        where = tuple(p - s for p, s in zip(place, start, strict=True))
        shape = next(iter(arrays.values())).shape[1:]
        if not all(0 <= p < n for p, n in zip(where, shape, strict=True)):
            raise ValueError(f"position={tuple(position)} is outside of what all volumes hold")
    return plot_side_by_side(
        arrays,
        names,
        planes=planes,
        position=where,
        difference=difference,
        pixel_size=cube_side(first),
        origin=origin,
        unit=units,
    )


def _shared(volumes: Mapping) -> list[str] | None:
    """Return the channels that all volumes have, None where none has any."""
    present = [volume.channels for volume in volumes.values()]
    if not any(present):
        return None
    names = [name for name in present[0] if all(name in other for other in present[1:])]
    if not names:
        raise ValueError(
            "the volumes have no channel in common: "
            + "; ".join(
                f"{title} has {', '.join(volume.channels) or 'none'}"
                for title, volume in volumes.items()
            )
        )
    return names


def _common(volumes: Mapping) -> tuple[dict[str, tuple[slice, ...]], tuple[float, ...]]:
    """Return the part of each volume (z, x, y) that all of them hold, and where it begins."""
    parts: dict[str, list[slice]] = {title: [] for title in volumes}
    origin = []
    for name in _AXES:
        axes = {title: axis_named(volume, name) for title, volume in volumes.items()}
        if missing := [title for title, axis in axes.items() if axis is None]:
            raise ValueError(f"{', '.join(missing)} has no axis {name!r}: pass whole volumes")
        found = {title: in_nm(axis) for title, axis in axes.items()}
        scale, offset, unit = next(iter(found.values()))
        begins = {}
        for title, (side, start, its) in found.items():
            shift = (start - offset) / scale
            if its != unit or not np.isclose(side, scale, rtol=1e-3):
                raise ValueError(
                    f"along {name} a voxel of {title} is {side:g} {its} and of the first volume "
                    f"{scale:g} {unit}: compare volumes with voxels of one size"
                )
            if abs(shift - round(shift)) > _APART:
                raise ValueError(
                    f"along {name} the voxels of {title} are shifted by {shift:.2f} of one against "
                    "the first volume: compare volumes of one grid"
                )
            begins[title] = round(shift)
        low = max(begins.values())
        high = min(begins[title] + axis.size for title, axis in axes.items())
        if low >= high:
            raise ValueError(f"along {name} there is no place that all volumes hold")
        for title, begin in begins.items():
            parts[title].append(slice(low - begin, high - begin))
        origin.append(offset + scale * low)
    return {title: tuple(part) for title, part in parts.items()}, tuple(origin)
