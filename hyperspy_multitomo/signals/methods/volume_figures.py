# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the volumes: what is drawn, with names and units, for `inspection`.

Every method returns a `matplotlib.figure.Figure` that belongs to nobody else: save it, or show it
in a notebook.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.exporting import channel_arrays


@checked
def plot_orthoslices(
    volume,
    position: Sequence[float] | None = None,
    channels: str | Sequence[str] | None = None,
    *,
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
):
    """Draw the sections xy, xz and zy through one point: channels mixed, and each alone.

    Parameters
    ----------
    position : (float, float, float), optional
        x, y and z on the axes of the volume, nm (px without calibration); by default the centre
        of mass.
    channels : str or sequence of str, optional
        Which to draw; by default all.
    limits : sequence of (float, float), optional
        Values that are black and full colour, for each channel; by default 0 and the robust
        maximum of its sections, or 0 and 100 percent.
    colours : sequence of str, optional
        For each channel; by default colours that colour-blind readers can tell apart.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For channels that are not there, a position outside, or voxels that are no cubes.

    Notes
    -----
    Of a lazy volume only the sections are computed; without a position, also its sums along the
    axes.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Au": np.ones((8, 6, 9)), "Ag": np.ones((8, 6, 9))}
    >>> volume = mt.TomographicVolume.from_arrays(counts, pixel_size=2.0)
    >>> volume.plot_orthoslices((0.0, 6.0, -3.0)).get_suptitle()
    'Sections through x = 0, y = 6, z = -3 nm'
    """
    from hyperspy_multitomo.inspection.orthoslices import plot_orthoslices

    names, volumes, units = channel_arrays(volume, channels)
    axes = [axis_named(volume, name) for name in ("z", "x", "y")]
    origin = [in_nm(axis)[1] for axis in axes]
    return plot_orthoslices(
        volumes,
        names,
        position=None if position is None else voxel_at(position, axes),
        pixel_size=cube_side(volume),
        origin=origin,
        unit=units,
        limits=limits_of(volume, names, limits),
        colours=colours,
    )


@checked
def plot_volume(
    volume,
    channels: str | Sequence[str] | None = None,
    direction: str | float = "z",
    *,
    depth_cue: float = 0.5,
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
):
    """Draw the brightest voxel along each line of sight, each channel in its colour.

    Parameters
    ----------
    channels : str or sequence of str, optional
        Which to draw; by default all.
    direction : {"z", "x", "y"} or float, default "z"
        From the electron source, from -x, along the tilt axis from +y; or the view of the
        microscope at a tilt in degrees.
    depth_cue : float, default 0.5
        Part of the brightness that is lost at the far side; 0 is a plain maximum-intensity
        projection.
    limits : sequence of (float, float), optional
        Values that are black and full colour, for each channel; by default 0 and the robust
        maximum of its picture, or 0 and 100 percent.
    colours : sequence of str, optional
        For each channel; by default colours that colour-blind readers can tell apart.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For channels that are not there, an unknown direction, or voxels that are no cubes.

    Notes
    -----
    A maximum does not show what is inside: `plot_orthoslices` does. A lazy volume is computed
    channel by channel.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Au": np.ones((8, 6, 9)), "Ag": np.ones((8, 6, 9))}
    >>> volume = mt.TomographicVolume.from_arrays(counts, pixel_size=2.0)
    >>> volume.plot_volume(direction=-40).axes[0].get_title()
    'at a tilt of -40°'
    """
    from hyperspy_multitomo.inspection.maximum_projection import plot_volume

    names, volumes, units = channel_arrays(volume, channels)
    return plot_volume(
        volumes,
        names,
        direction=direction,
        depth_cue=depth_cue,
        pixel_size=cube_side(volume),
        unit=units,
        limits=limits_of(volume, names, limits),
        colours=colours,
    )


@checked
def plot_composition(volume, channels: str | Sequence[str] | None = None, *, mask=None):
    """Draw the middle sections of a composition, and its histograms in the particle.

    Parameters
    ----------
    channels : str or sequence of str, optional
        Which to draw; by default all.
    mask : array-like of bool or signal, shape (z, y, x), optional
        The particle; by default where the percentages do not sum to 0.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a volume that does not hold percent, channels that are not there, or a mask of
        another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Ag": np.ones((4, 4, 4)), "Au": np.ones((4, 4, 4))}
    >>> volume = mt.TomographicVolume.from_arrays(counts)
    >>> inside = np.ones((4, 4, 4), bool)
    >>> composition = volume.quantify("CL", factors={"Ag": 1.0, "Au": 3.0}, mask=inside)
    >>> composition.plot_composition().axes[-1].get_xlabel()
    'wt%'
    """
    from hyperspy_multitomo.inspection import plot_composition

    if not volume.quantity.endswith("percent"):
        raise ValueError(
            f"this volume holds {volume.quantity or 'an unknown quantity'}, not percent: plot "
            "what quantify() returns, or use "
            "plot_orthoslices()"
        )
    whole = np.asarray(channel_arrays(volume)[1])
    names, percent, _ = channel_arrays(volume, channels)
    mask = whole.sum(axis=0) > 0 if mask is None else mask_array(mask, whole.shape[1:])
    unit = {"weight": "wt%", "atomic": "at%"}.get(volume.quantity.split()[0], volume.quantity)
    return plot_composition(
        np.asarray(percent), names, mask=mask, pixel_size=cube_side(volume), unit=unit
    )


def plot_convergence(volume):
    """Draw the residuals of the reconstruction and, if any, deviance and objective.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a volume that was not made by an iterative reconstruction.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 2, 8)), tilts=[-10, 0, 10])
    >>> volume = haadf.reconstruct_sirt(iterations=5, show_progressbar=False)
    >>> volume.plot_convergence().axes[0].get_xlabel()
    'iteration'
    """
    from hyperspy_multitomo.inspection.convergence import plot_convergence

    found = volume.residuals
    curves = _curves(volume, found.get("eds")) | (
        {"HAADF": found["haadf"]} if "haadf" in found else {}
    )
    if not curves:
        raise ValueError(
            "no residuals are recorded for this volume: FBP, lazy reconstructions and volumes "
            "from arrays have none, and "
            "quantify() keeps none; plot those of the volume as it was reconstructed"
        )
    deviance = found.get("deviance")
    if deviance is not None:
        deviance = _curves(volume, deviance) if np.ndim(deviance) == 2 else {"HAADF": deviance}
    return plot_convergence(
        curves, found.get("iteration"), deviance=deviance, objective=found.get("objective")
    )


def plot_weight_choice(volume):
    """Draw how well each weight predicted the counts that were held out, for ``weight="auto"``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a volume whose weight was given.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = np.random.default_rng(0).poisson(5 * np.ones((5, 4, 8)))
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=[-60, -30, 0, 30, 60])
    >>> volume = eds.reconstruct_tv(weight="auto", depth=None, show_progressbar=False)
    >>> volume.plot_weight_choice().axes[0].get_xlabel()
    'weight'
    """
    from hyperspy_multitomo.inspection.weight_choice import plot_weight_choice

    steps = [step for step in volume.history if "weight_choice" in step]
    if not steps:
        raise ValueError(
            "the weight of this volume was not chosen from the data; reconstruct it with "
            "weight='auto'"
        )
    choice = steps[-1]["weight_choice"]
    return plot_weight_choice(
        choice["weights"], choice["deviances"], choice["errors"], steps[-1]["weight"]
    )


def _curves(volume, values) -> dict[str, np.ndarray]:
    """Return values (iteration, element) by channel, without those that were never measured."""
    if values is None:
        return {}
    return {
        name: curve
        for name, curve in zip(volume.channels, values.T, strict=True)
        if np.isfinite(curve).any()
    }


def limits_of(volume, names, limits):
    """Return the limits as given, or all percentages, or None."""
    return (
        [(0.0, 100.0)] * len(names)
        if limits is None and volume.quantity.endswith("percent")
        else limits
    )


def cube_side(volume) -> float | None:
    """Return the side of a voxel in nm, None without calibration; an error for no cubes."""
    sides, _, units = zip(
        *(in_nm(axis_named(volume, name)) for name in ("z", "y", "x")), strict=True
    )
    if len(set(units)) > 1:
        raise ValueError(
            f"the axes z, y and x are in {', '.join(units)}: calibrate all of them, or none"
        )
    if not np.allclose(sides, sides[0], rtol=1e-3):
        raise ValueError(
            f"the voxels have the sides {', '.join(f'{side:g}' for side in sides)} along z, y and "
            "x; the figures are drawn for "
            "cubes: rebin all axes alike"
        )
    return volume.pixel_size


def voxel_at(position: Sequence[float], axes) -> tuple[int, int, int]:
    """Return z, x and y of the voxel at a position x, y, z; an error where there is none."""
    if np.shape(position) != (3,) or not np.all(np.isfinite(position)):
        raise ValueError(f"the position is {position}; expected three numbers, x, y and z")
    x, y, z = position
    found = []
    for value, axis in zip((z, x, y), axes, strict=True):
        index = round((float(value) - axis.offset) / axis.scale)
        if not 0 <= index < axis.size:
            last = axis.offset + (axis.size - 1) * axis.scale
            raise ValueError(
                f"the position is {value:g} along {axis.name}; expected {axis.offset:g} to "
                f"{last:g} {axis.units}"
            )
        found.append(index)
    return tuple(found)
