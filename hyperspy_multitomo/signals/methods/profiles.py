# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of a volume along a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.arguments import checked, instance_of
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.exporting import channel_arrays
from hyperspy_multitomo.signals.methods.volume_figures import cube_side

if TYPE_CHECKING:
    from hyperspy_multitomo.inspection.line_profile import Profile


@checked(start=None, end=None, errors=instance_of("TomographicVolume"))
def profile(
    volume,
    start: Sequence[float],
    end: Sequence[float],
    width: float | None = None,
    *,
    channels: str | Sequence[str] | None = None,
    errors=None,
) -> Profile:
    """Return the values along a line, averaged over a disc across it.

    Parameters
    ----------
    start, end : (float, float, float)
        x, y and z on the axes of the volume, nm (px without calibration).
    width : float, optional
        Diameter of the disc in the same unit; by default one voxel.
    channels : str or sequence of str, optional
        By default all.
    errors : TomographicVolume, optional
        Standard errors of the voxels, such as of `composition_errors`, or `Realisations.sd`. Those
        of the means are these over the root of the voxels in the disc: errors that voxels share
        are not made smaller by a mean, and have to be added.

    Returns
    -------
    Profile
        ``distance``, ``values`` and ``errors`` by channel; `Profile.plot` and `Profile.to_csv`.

    Raises
    ------
    ValueError
        For ends that are equal or not finite, voxels that are no cubes, errors of another shape,
        and a line that is nowhere in the volume.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> ramp = np.ones((4, 4, 1)) * np.arange(8.0)
    >>> volume = mt.TomographicVolume.from_arrays({"Au": ramp}, pixel_size=2.0)
    >>> x = volume.axes_manager["x"].axis
    >>> line = volume.profile((x[1], 2.0, 0.0), (x[5], 2.0, 0.0))
    >>> line.distance.tolist(), line.values["Au"].tolist()
    ([0.0, 2.0, 4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    """
    from hyperspy_multitomo.inspection.line_profile import Profile, line_profile

    size = cube_side(volume)
    unit, voxel = ("px", 1.0) if size is None else ("nm", size)
    names, arrays, units = channel_arrays(volume, channels)
    ends = [_in_voxels(volume, name, place) for name, place in (("start", start), ("end", end))]
    beside = None
    if errors is not None:
        found, beside, _ = channel_arrays(errors, list(names))
        if beside.shape != arrays.shape or found != names:
            raise ValueError(
                f"errors= has the shape {beside.shape} (channel, z, x, y); expected "
                f"{arrays.shape}, that of the volume"
            )
    values, sds = {}, {}
    for place, name in enumerate(names):
        distance, values[name], points = line_profile(
            arrays[place], *ends, 1.0 if width is None else width / voxel
        )
        if beside is not None:
            variance = line_profile(np.square(beside[place]), *ends, max(1.0, (width or 0) / voxel))
            sds[name] = np.sqrt(variance[1] / points)
    if all(np.isnan(one).all() for one in values.values()):
        raise ValueError(
            f"the line from {tuple(start)} to {tuple(end)} is nowhere in the volume: see "
            "volume.axes_manager for its axes"
        )
    return Profile(distance * voxel, values, sds, units[0], unit)


def _in_voxels(volume, name: str, place) -> tuple[float, float, float]:
    """Return z, x and y in voxels of a place x, y and z on the axes of a volume."""
    if np.shape(place) != (3,) or not np.all(np.isfinite(np.asarray(place, float))):
        raise ValueError(f"{name}={place!r} must be three numbers, x, y and z")
    x, y, z = (
        (float(value) - axis.offset) / axis.scale
        for value, axis in zip(place, (axis_named(volume, one) for one in "xyz"), strict=True)
    )
    return z, x, y
