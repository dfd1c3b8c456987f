# SPDX-License-Identifier: GPL-3.0-or-later
"""From arrays and tilts to signals: sorted by tilt, tilt axis along y, calibrated axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.acquisition.axes import checked_values
from hyperspy_multitomo.acquisition.tilts import order_tilts
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.parameters import check_finite, positive_number
from hyperspy_multitomo.signals.metadata.length_axes import length_axis
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, record, set_keys
from hyperspy_multitomo.signals.registry import class_of


def build_series(
    cls,
    data,
    tilts,
    sides: Sequence[float | None] = (None, None),
    *,
    offsets: Sequence[float] = (0.0, 0.0),
    channels: Sequence[str] | None = None,
    tilt_axis: str = "y",
    reverse_tilts: bool = False,
    duplicates: str = "error",
    metadata: Mapping | None = None,
    per_tilt: Mapping[str, Sequence] | None = None,
    title: str = "",
):
    """Make a tilt series of the class `cls` from data (tilt, [element,] y, x).

    Parameters
    ----------
    cls : type
        `TiltSeriesHAADF`, `TiltSeriesEDS` or `TiltSeriesEELS`.
    data : ndarray or dask array
        Array order (tilt, y, x), or (tilt, element, y, x) with `channels`.
    tilts : array-like, shape (tilt,)
        Degrees, in the order of `data`, which is taken as the order of acquisition.
    sides : (y, x), default (None, None)
        Of a pixel, in nm; None where they are not known.
    offsets : (y, x), default (0.0, 0.0)
        Positions of the first pixel, in nm.
    channels : sequence of str, optional
        Names along the axis ``element``.
    tilt_axis, reverse_tilts, duplicates
        As in `TiltSeriesHAADF.from_images`.
    metadata : dict, optional
        HyperSpy metadata.
    per_tilt : dict of sequences, optional
        Other values recorded per tilt, in the order of `data`.
    title : str, default ""
        ``metadata.General.title``.
    """
    if tilt_axis not in ("x", "y"):
        raise ValueError(
            f"tilt_axis={tilt_axis!r} must be 'x' or 'y', the direction of the tilt axis in the "
            "images"
        )
    what = f"the {title or 'tilt series'}"
    data = checked_values(data, what)
    order = order_tilts(
        tilts,
        reverse=reverse_tilts,
        duplicates=merging(duplicates, "mean" if channels is None else "sum"),
    )
    with np.errstate(over="ignore"):
        data = (
            data.astype(np.float32, copy=False)
            if isinstance(data, np.ndarray)
            else data.astype(np.float32)
        )
    if isinstance(data, np.ndarray):
        # In float32 values beyond 3.4e38 become infinite.
        check_finite(data, what)
    data = order.merge(data)
    if tilt_axis == "x":
        data, sides, offsets = data.swapaxes(-1, -2), sides[::-1], offsets[::-1]
    axes = [{"name": "tilt", "axis": order.tilts, "units": "°", "navigate": True}]
    if channels is not None:
        axes.append(
            {"name": "element", "size": len(channels), "offset": 0, "scale": 1, "navigate": True}
        )
    axes += [
        length_axis(name, data.shape[i], sides[i], offsets[i]) for i, name in ((-2, "y"), (-1, "x"))
    ]
    series = _signal(cls, data, axes, metadata, title)
    series.metadata.set_item(f"{NODE}.tilt_axis", tilt_axis)
    record(series, "acquisition_order", order.acquisition_order, ("tilt",))
    for name, values in (per_tilt or {}).items():
        record(series, name, [values[group[0]] for group in order.groups], ("tilt",))
    if channels is not None:
        record(series, "channels", list(channels), ("element",))
        exposures = np.array([len(group) for group in order.groups], dtype=float)
        if exposures.max() > 1:
            record(series, "gains", exposures, ("tilt",))
    return series


def merging(duplicates: str, how: str) -> str:
    """Return what `order_tilts` is to do with duplicates: ``"error"``, or `how` to merge."""
    if duplicates not in ("error", "merge"):
        raise ValueError(f"duplicates={duplicates!r} must be 'error' or 'merge'")
    return how if duplicates == "merge" else "error"


def build_volume(
    data,
    channels,
    pixel_size,
    *,
    like=None,
    quantity="",
    axis_position=0.0,
    axes=None,
    title="Volume",
):
    """Make a `TomographicVolume` of data (z, y, x), or (z, element, y, x) with `channels`.

    `axis_position` is the coordinate of the tilt axis along x, and `axes` the scale and offset in
    nm of axes that are not centred on it; with `like`, another volume, axes and metadata are taken
    from that.
    """
    if pixel_size is not None:
        positive_number("pixel_size", pixel_size, "of nm")
    if data.ndim != (3 if channels is None else 4):
        raise ValueError(f"a volume must have the shape (z, y, x); got {data.shape}")
    metadata: dict = {}
    if like is not None:
        axes_of_like = {axis.name: axis.get_axis_dictionary() for axis in like.axes_manager._axes}
        spatial = [axes_of_like["z"], axes_of_like["y"], axes_of_like["x"]]
        metadata = like.metadata.as_dictionary()
        metadata = {
            name: metadata[name]
            for name in ("Acquisition_instrument", "Sample")
            if name in metadata
        }
    else:
        step = 1.0 if pixel_size is None else float(pixel_size)
        centred = {
            name: (pixel_size, -(data.shape[i] - 1) / 2 * step) for i, name in ((0, "z"), (-1, "x"))
        }
        centred["x"] = (pixel_size, axis_position + centred["x"][1])
        placed = {"y": (pixel_size, 0.0)} | centred | (axes or {})
        spatial = [
            length_axis(name, data.shape[i], *placed[name])
            for i, name in ((0, "z"), (-2, "y"), (-1, "x"))
        ]
        spatial[0]["navigate"] = True
    if channels is not None:
        spatial.insert(
            1, {"name": "element", "size": len(channels), "offset": 0, "scale": 1, "navigate": True}
        )
    volume = _signal(class_of("TomographicVolume"), data, spatial, metadata, title)
    volume.metadata.set_item(f"{NODE}.quantity", quantity)
    if channels is not None:
        record(volume, "channels", list(channels), ("element",))
    return volume


def stack_channels(arrays, axis: int):
    """Stack one array for each channel, NumPy or dask, along a new axis."""
    arrays = list(arrays)
    if not arrays:
        raise ValueError("there are no channels; give one array or more, as in {'Au': array}")
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"the channels have different shapes {sorted(shapes)}; all must be alike")
    if not any(is_lazy(array) for array in arrays):
        return np.stack(arrays, axis=axis)
    import dask.array as da

    return da.stack(arrays, axis=axis)


def _signal(cls, data, axes, metadata, title):
    if is_lazy(data):
        cls = class_of(cls._signal_type, lazy=True)
    signal = cls(data, axes=axes, metadata=dict(metadata or {}))
    signal.metadata.General.title = title
    signal.metadata.Signal.signal_type = cls._signal_type
    set_keys(signal)
    return signal
