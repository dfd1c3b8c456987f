# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in napari: a layer for each channel, in its colour and place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.exporting import channel_arrays
from hyperspy_multitomo.signals.methods.volume_figures import limits_of


@checked(viewer=None)
def to_napari(volume, channels: str | Sequence[str] | None = None, viewer=None):
    """Show the volume in napari, each channel as a layer.

    Parameters
    ----------
    channels : str or sequence of str, optional
        Which; by default all.
    viewer : napari viewer, optional
        To which the layers are added; by default a new one.

    Returns
    -------
    napari viewer
        Whose layers are named as the channels; axes z, y and x, in nm where calibrated, at the
        coordinates of the volume.

    Raises
    ------
    ImportError
        Where napari (0.5 or later) is not installed.
    ValueError
        For channels that are not there.

    Notes
    -----
    Colours are those of the figures and add up. Contrast limits are 0 and the robust maximum of
    each channel, or 0 and 100 percent. Lazy volumes stay lazy.
    """
    try:
        from napari.utils.colormaps import Colormap
    except ImportError as error:
        raise ImportError(
            'napari is not installed: pip install "napari[all]", or look at volume.explore()'
        ) from error
    from matplotlib.colors import to_rgb

    from hyperspy_multitomo.inspection.orthoslices import full_scale
    from hyperspy_multitomo.inspection.picture import channel_colours

    names, arrays, units = channel_arrays(volume, channels)
    if viewer is None:
        import napari

        viewer = napari.Viewer()
    places = [in_nm(axis_named(volume, name)) for name in ("z", "y", "x")]
    limits = limits_of(volume, names, None)
    for place, (name, colour) in enumerate(zip(names, channel_colours(names), strict=True)):
        array = arrays[place].swapaxes(1, 2)
        low, high = full_scale(np.asarray(array)) if limits is None else limits[place]
        viewer.add_image(
            array,
            name=name,
            scale=[step for step, _, _ in places],
            translate=[offset for _, offset, _ in places],
            colormap=Colormap([(0, 0, 0), to_rgb(colour)], name=f"{name} {colour}"),
            contrast_limits=(low, high),
            blending="additive",
            units=["pixel" if unit == "px" else unit for *_, unit in places],
            metadata={"unit": units[place]},
        )
    return viewer
