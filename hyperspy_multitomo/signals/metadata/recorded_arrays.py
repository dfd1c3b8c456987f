# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata that stay true: arrays stored whole beside their keys and looked up at the present axes.

HyperSpy slices data but not metadata, so an array per tilt or per element would lie after the first
``inav``. Here every such array is stored once, whole, with the names of its dimensions, beside one
set of keys for the signal: the tilts (degrees), the element numbers, and the grid (offset, scale,
size) of the image axes x and y. `recall` looks the array up at the axes as they are now: by value
along tilt and element, by cropping and summing pixels along x and y. Nothing has to be updated when
a signal is sliced, cropped, rebinned, transposed or copied, and a look-up that is no longer
possible raises an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.acquisition.same_tilt import match_tilts
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.signals.metadata.missing_axes import remedy

NODE = "Tomography"
_BY_VALUE = ("tilt", "element")
_GRIDS = ("x", "y")
# Arrays that mean nothing without those with pixels.
_OF_PIXELS = ("window_share",)
_FOREIGN = (
    "this signal was only said to be a {0} (set_signal_type, or another axis): make it one with "
    "from_images, from_maps or "
    "from_arrays, which bring its axes in order and take their units"
)
# Pixel edges are compared to a thousandth of a pixel.
_EDGE_TOLERANCE = 1e-3


def axis_named(signal, name: str):
    """Return the axis called `name`, or None where the signal has none."""
    for axis in signal.axes_manager._axes:
        if axis.name == name:
            return axis
    return None


def set_keys(signal) -> None:
    """Take the present axes of a signal as the keys of everything recorded from now on."""
    keys = {}
    for axis in signal.axes_manager._axes:
        if axis.name in _BY_VALUE:
            keys[axis.name] = np.array(axis.axis, dtype=float)
        elif axis.name in _GRIDS:
            keys[axis.name] = np.array([axis.offset, axis.scale, axis.size], dtype=float)
    signal.metadata.set_item(f"{NODE}.recorded_axes", keys)


def recorded_axis(signal, name: str) -> np.ndarray:
    """Return the keys of an axis: its values (tilt, element), or offset, scale and size (x, y).

    Raises
    ------
    LookupError
        Where the signal has none: it was not made by this package, only said to be of its type.
    """
    keys = signal.metadata.get_item(f"{NODE}.recorded_axes.{name}", default=None)
    if keys is None:
        raise LookupError(_FOREIGN.format(type(signal).__name__))
    return np.asarray(keys, dtype=float)


def record(signal, name: str, values, dims: Sequence[str]) -> None:
    """Store `values` under `name`; the leading dimensions are the present axes `dims`.

    Parameters
    ----------
    signal : BaseSignal
        A signal whose keys have been set.
    name : str
        What the array is called in ``metadata.Tomography.arrays``.
    values : array-like, dask array or list of str
        One entry along each of `dims`; further dimensions are kept as they are.
    dims : sequence of {"tilt", "element", "y", "x"}
        Names of the leading dimensions.
    """
    keep_present(signal)
    if not (is_lazy(values) or all(isinstance(v, str) for v in values)):
        values = np.asarray(values)
    signal.metadata.set_item(f"{NODE}.arrays.{name}", {"dims": " ".join(dims), "values": values})


def on_recorded_grid(signal, values: np.ndarray, fill: float) -> np.ndarray:
    """Return an array (..., y, x) on the whole recorded grid, for `record`.

    `fill` stands where the signal has no pixel any more. Each recorded pixel gets the value of the
    present one that it is part of: `recall` gives the sum over those.
    """
    for position, name in ((-2, "y"), (-1, "x")):
        start, factor, size = _whole_pixels(signal, name)
        whole = int(recorded_axis(signal, name)[2])
        padding = [(0, 0)] * values.ndim
        padding[position] = (start, whole - start - size * factor)
        values = np.pad(np.repeat(values, factor, axis=position), padding, constant_values=fill)
    return values


def forget(signal, name: str) -> None:
    """Remove what was recorded under `name`, if anything was."""
    if recorded(signal, name):
        delattr(signal.metadata.get_item(f"{NODE}.arrays"), name)


def forget_node(signal, name: str) -> bool:
    """Remove an entry of the package's own metadata, and say whether there was one."""
    node = signal.metadata.get_item(NODE, default=None)
    if node is None or not node.has_item(name) or node.get_item(name) is None:
        return False
    delattr(node, name)
    return True


def recorded_names(signal) -> list[str]:
    """Return the names of all that is recorded."""
    return [name for name, _ in signal.metadata.get_item(f"{NODE}.arrays", default=None) or ()]


def recorded_values(signal, name: str):
    """Return what is recorded under `name`, whole, at the axes as they were then."""
    return signal.metadata.get_item(f"{NODE}.arrays.{name}").values


def replace_values(signal, name: str, values) -> None:
    """Put other values, whole, in the place of those recorded under `name`."""
    signal.metadata.get_item(f"{NODE}.arrays.{name}").values = values


def same_keys(first, second) -> bool:
    """Say whether what is recorded of two signals is recorded at the same axes."""
    keys = [
        signal.metadata.get_item(f"{NODE}.recorded_axes").as_dictionary()
        for signal in (first, second)
    ]
    return keys[0].keys() == keys[1].keys() and all(
        np.shape(keys[0][name]) == np.shape(keys[1][name])
        and np.allclose(keys[0][name], keys[1][name])
        for name in keys[0]
    )


def recorded(signal, name: str) -> bool:
    """Say whether anything was recorded under `name`."""
    settle_stack(signal)
    return signal.metadata.has_item(f"{NODE}.arrays.{name}")


def recall(signal, name: str):
    """Return what was recorded under `name`, at the present axes of the signal.

    Returns
    -------
    ndarray, dask array, list of str or None
        None where nothing was recorded. Along x and y pixels are cropped and summed as the signal
        was. Arrays with pixels are lazy where the signal is.

    Raises
    ------
    LookupError
        Where an axis is missing or holds values that were not there when the array was recorded.
    """
    if not recorded(signal, name):
        return None
    item = signal.metadata.get_item(f"{NODE}.arrays.{name}")
    dims, values = item.dims.split(), item.values
    if isinstance(values, list | tuple):
        return [values[i] for i in indices(signal, dims[0])]
    lazy = signal._lazy and not set(dims).isdisjoint(_GRIDS)
    values = _in_chunks(values) if lazy else np.asarray(values)
    for position, dim in enumerate(dims):
        if dim in _BY_VALUE:
            values = np.take(values, indices(signal, dim), axis=position)
        else:
            values = _cut_and_sum(values, position, signal, dim)
    return values


def settle_stack(signal) -> None:
    """Forget what HyperSpy's `stack` copied from the first signal and differs in others.

    `stack` copies the metadata of the first signal and runs none of our code, so that this is
    called wherever recorded arrays are read.
    """
    history = signal.metadata.get_item("_HyperSpy.Stacking_history", default=None)
    node = signal.metadata.get_item(NODE, default=None)
    if (
        history is None
        or node is None
        or node.has_item("stacked")
        or not node.has_item("recorded_axes")
    ):
        return
    node.set_item("stacked", True)
    parts = signal.original_metadata.get_item("stack_elements", default=None)
    others = (
        [] if parts is None else [part.metadata.get_item(NODE, default=None) for _, part in parts]
    )
    names = [axis.name for axis in signal.axes_manager._axes]
    same = [
        name
        for name in recorded_names(signal)
        if others and all(_same_record(node, other, name) for other in others)
    ]
    along = [
        name
        for name in _BY_VALUE
        if name in names and axis_named(signal, name).size > _whole(node, name)
    ]
    lost = []
    for name in recorded_names(signal):
        if name not in same or any(
            dim in along for dim in node.get_item(f"arrays.{name}").dims.split()
        ):
            forget(signal, name)
            lost.append(name)
    for name in (
        "spectrum_fit",
        "ratio_fit",
        "dose",
        "axis_errors",
        "alignment_report",
        "specimen",
    ):
        if forget_node(signal, name):
            lost.append(name)
    if along:
        set_keys(signal)
    if lost:
        warn(
            "what was kept with the first of the stacked signals does not hold for all, and is "
            f"forgotten: {', '.join(lost)}; "
            "attach it again, or make one series of the stacked images"
        )


def _whole(node, name: str) -> int:
    return np.size(node.get_item(f"recorded_axes.{name}", default=()))


def _same_record(node, other, name: str) -> bool:
    """Say whether two signals have the same recorded under a name; never of arrays of pixels."""
    first, second = (
        item if item is None else item.get_item(f"arrays.{name}", default=None)
        for item in (node, other)
    )
    if (
        second is None
        or first.dims != second.dims
        or name in _OF_PIXELS
        or not set(first.dims.split()).isdisjoint(_GRIDS)
    ):
        return False
    return np.array_equal(np.asarray(first.values), np.asarray(second.values))


def indices(signal, name: str) -> np.ndarray:
    """Return where the present values of the axis `name` stand among its keys.

    Raises
    ------
    LookupError
        Where the axis is missing (summed or sliced away) or has values that are not among the keys.
    """
    stored = recorded_axis(signal, name)
    axis = axis_named(signal, name)
    if axis is None:
        if stored.size == 1:
            return np.array([0])
        raise LookupError(
            f"the signal has no axis {name!r} any more, so that what was recorded per {name} is "
            f"unknown: {remedy(name)}"
        )
    present = np.atleast_1d(np.asarray(axis.axis, dtype=float))
    places = match_tilts(present, stored)
    wrong = places < 0
    if wrong.any():
        raise LookupError(
            f"the axis {name!r} holds {present[wrong][:3]} which are not among the recorded values "
            f"{stored}: "
            "it was rebinned or changed; go back to the signal as it was loaded"
        )
    return places


def grid(signal, name: str) -> tuple[float, float]:
    """Return (first, binning) of the present image axis `name` in pixels of the recorded grid.

    The edges of the present pixel i are at ``first + i * binning`` and ``first + (i + 1) *
    binning``, counted in recorded pixels. A new calibration of the whole axis (same size) leaves
    them at (0, 1).
    """
    offset, scale, size = recorded_axis(signal, name)
    axis = axis_named(signal, name)
    if axis is None:
        raise LookupError(
            f"the signal has no axis {name!r} any more: positions along it are unknown"
        )
    if axis.scale * scale < 0:
        raise LookupError(
            f"the axis {name!r} has been reversed: positions along it, and the handedness of the "
            "series, are lost"
        )
    if axis.size == size:
        return 0.0, 1.0
    binning = axis.scale / scale
    first = (axis.offset - offset) / scale + 0.5 - 0.5 * binning
    if first < -_EDGE_TOLERANCE or first + axis.size * binning > size + _EDGE_TOLERANCE:
        raise LookupError(
            f"the axis {name!r} (offset {axis.offset:g}, scale {axis.scale:g}, size {axis.size}) "
            "is not on the recorded grid "
            f"(offset {offset:g}, scale {scale:g}, size {size:g}): calibrate the whole series "
            "before cropping or binning it"
        )
    return float(first), float(binning)


def to_present(signal, name: str, position: float) -> float:
    """Convert a position on the recorded grid of an axis (px) to the present one.

    0 is the centre of the first pixel.
    """
    first, binning = grid(signal, name)
    return (position + 0.5 - first) / binning - 0.5


def to_recorded(signal, name: str, position: float) -> float:
    """Convert a position on the present axis (px) to the recorded grid.

    0 is the centre of the first pixel.
    """
    first, binning = grid(signal, name)
    return (position + 0.5) * binning + first - 0.5


def keep_present(signal) -> None:
    """Forget the tilts and elements that the signal no longer has: keys and arrays are cut."""
    keys = signal.metadata.get_item(f"{NODE}.recorded_axes", default=None)
    if keys is None:
        raise LookupError(_FOREIGN.format(type(signal).__name__))
    for name in _BY_VALUE:
        axis = axis_named(signal, name)
        if (
            axis is None
            or not keys.has_item(name)
            or np.array_equal(axis.axis, np.asarray(keys[name]))
        ):
            continue
        keep = indices(signal, name)
        arrays = signal.metadata.get_item(f"{NODE}.arrays", default=None)
        for _, item in arrays or ():
            dims = item.dims.split()
            if name in dims:
                if isinstance(item.values, list | tuple):
                    item.values = [item.values[i] for i in keep]
                else:
                    values = item.values if is_lazy(item.values) else np.asarray(item.values)
                    item.values = np.take(values, keep, axis=dims.index(name))
        keys[name] = np.asarray(keys[name], dtype=float)[keep]


def _in_chunks(values):
    """Return an array as a dask array; what is in memory is not copied, nor looked at."""
    import dask.array as da

    return (
        values
        if is_lazy(values)
        else da.from_array(np.asarray(values), chunks=(1, *np.shape(values)[1:]), name=False)
    )


def _cut_and_sum(values, position: int, signal, name: str):
    start, factor, size = _whole_pixels(signal, name)
    if is_lazy(values):
        import dask.array as da

        values = values[(slice(None),) * position + (slice(start, start + size * factor),)]
        return da.coarsen(np.sum, values, {position: factor}) if factor > 1 else values
    values = np.moveaxis(values, position, -1)[..., start : start + size * factor]
    values = values.reshape(*values.shape[:-1], size, factor).sum(axis=-1)
    return np.moveaxis(values, -1, position)


def _whole_pixels(signal, name: str) -> tuple[int, int, int]:
    """Return (first recorded pixel, recorded pixels in a present one, present pixels) of an axis.

    An error where the present pixels are parts of recorded ones.
    """
    first, binning = grid(signal, name)
    start, factor = round(first), round(binning)
    if abs(first - start) > _EDGE_TOLERANCE or abs(binning - factor) > _EDGE_TOLERANCE:
        raise LookupError(
            f"the axis {name!r} was rebinned by {binning:g}: what was recorded per pixel follows "
            "whole numbers only"
        )
    return start, factor, axis_named(signal, name).size
