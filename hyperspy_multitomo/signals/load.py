# SPDX-License-Identifier: GPL-3.0-or-later
"""Microscope files to tilt series: the records of `acquisition.io` become signals."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ..acquisition.io import Record, expand_files, read_stack, read_tilt_files
from ..acquisition.tilts import order_tilts, resolve_tilts
from .base import length_axis
from .build import build_series, count_tilts, merging
from .haadf import TiltSeriesHAADF
from .history import add_step
from .keyed import NODE, record, set_keys

_OURS = ("TiltSeriesHAADF", "TiltSeriesEDS", "TomographicVolume")


def load_tilt_series(
    files,
    tilts=None,
    *,
    tilt_axis: str = "y",
    reverse_tilts: bool = False,
    duplicates: str = "error",
    on_error: str = "raise",
    stack_axes: str | None = None,
    image: str | None = None,
    lazy: bool | None = None,
):
    """Load a tilt series: one file per tilt, or one file that holds the whole stack.

    Parameters
    ----------
    files : path-like or list of path-like
        A folder, a pattern such as ``"tilts/*.bcf"``, a list of files, or a single stack. Bruker .bcf, MRC (.mrc, .st, .ali),
        .hspy and .zspy.
    tilts : array-like, "metadata", "filename", regular expression or path-like, optional
        Tilts in degrees in the order of the files (or of the stack); where to take them from; a regular expression for the
        file names; or a .rawtlt, .tlt, .txt or .csv file. By default the metadata if they differ from tilt to tilt, else a
        .rawtlt beside the stack, else the last number of each file name.
    tilt_axis : {"y", "x"}, default "y"
        Direction of the tilt axis in the images; with ``"x"`` images are transposed, so that it is y here.
    reverse_tilts : bool, default False
        Change the sign of the tilts, for data of the other handedness.
    duplicates : {"error", "merge"}, default "error"
        What to do with several files of one tilt; ``"merge"`` averages images and sums counts.
    on_error : {"raise", "skip"}, default "raise"
        What to do with a file that cannot be read: stop, or leave that tilt out with a warning.
    stack_axes : str, optional
        Order of the axes in a stack, e.g. ``"y tilt x"`` for sinograms; by default the axis that fits the number of tilts.
    image : str, optional
        Title (or a part of it) of the image to take where the files hold several; by default the one called HAADF.
    lazy : bool, optional
        By default images are read and spectrum images stay on disk until they are needed; True keeps both there, False
        reads both.

    Returns
    -------
    TiltSeriesHAADF, spectra, or both as a tuple
        ``haadf`` with the axes ``(tilt | x, y)``; ``spectra``, eXSpy's (lazy) EDS_TEM signal with the axes
        ``(x, y, tilt | Energy)``. Whatever the files hold: both, or only one of them. A file saved by this package comes back
        as it was.

    Raises
    ------
    ValueError
        For files that cannot be read or do not belong together, and for tilts that are of the wrong number, equal, duplicate or
        not finite; the message names them and what to do.
    FileNotFoundError
        Where no file is found.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import hyperspy_multitomo as mt
    >>> path = tempfile.mkdtemp() + "/haadf.hspy"
    >>> mt.TiltSeriesHAADF.from_images(np.ones((3, 8, 10)), tilts=[-40, 0, 40]).save(path)
    >>> mt.load_tilt_series(path)
    <TiltSeriesHAADF, title: HAADF, dimensions: (3|10, 8)>
    """
    if tilt_axis not in ("x", "y"):
        raise ValueError(f"tilt_axis={tilt_axis!r} must be 'x' or 'y', the direction of the tilt axis in the images")
    paths = expand_files(files)
    if len(paths) == 1:
        ours = _saved_by_us(paths[0], lazy)
        if ours is not None:
            return ours
        found = {"images": [], "spectra": []}
        stack = read_stack(paths[0], stack_axes=stack_axes, n_tilts=count_tilts(tilts), lazy=bool(lazy))
        found["images" if stack.kind == "image_stack" else "spectra"] = [stack]
    else:
        found = read_tilt_files(paths, on_error=on_error, lazy=lazy is not False, image=image)
    kept = [r.path for r in found["images"] or found["spectra"]]
    if not np.isscalar(tilts) and tilts is not None and np.size(tilts) == len(paths) and len(kept) < len(paths):
        # Tilts given for all files: those of the files left out are left out too.
        tilts = [t for t, path in zip(tilts, paths, strict=True) if path in kept]
    records = found["images"] or found["spectra"]
    stored = np.concatenate([r.tilts for r in records])
    angles = resolve_tilts(tilts, kept, stored, n=len(stored))
    how = {"tilt_axis": tilt_axis, "reverse_tilts": reverse_tilts, "duplicates": duplicates}
    made = []
    if found["images"]:
        made.append(_images(found["images"], angles, lazy=bool(lazy), **how))
    if found["spectra"]:
        made.append(_spectra(found["spectra"], angles, lazy=lazy is not False, **how))
    for signal in made:
        add_step(signal, "load_tilt_series", files=[str(path) for path in kept], **how)
    return made[0] if len(made) == 1 else tuple(made)


def _saved_by_us(path: Path, lazy):
    """Return the signal of a file that this package saved, or None."""
    if path.suffix not in (".hspy", ".zspy"):
        return None
    import hyperspy.api as hs

    loaded = hs.load(path, lazy=bool(lazy))
    return loaded if getattr(loaded, "_signal_type", None) in _OURS else None


def _images(records: list[Record], angles, *, lazy, **how) -> TiltSeriesHAADF:
    data = _stacked(records)
    if not lazy:
        data = np.asarray(data)
    return build_series(
        TiltSeriesHAADF,
        data,
        angles,
        records[0].pixel_size,
        metadata=_metadata(records),
        per_tilt=_per_tilt(records, len(angles)),
        title="HAADF",
        **how,
    )


def _spectra(records: list[Record], angles, *, lazy, tilt_axis, reverse_tilts, duplicates):
    """Return an EDS_TEM signal, array order (tilt, y, x, energy), one chunk per tilt."""
    from hyperspy.signals import LazySignal1D, Signal1D

    data = _stacked(records)
    order = order_tilts(angles, reverse=reverse_tilts, duplicates=merging(duplicates, "sum"))
    data = order.merge(data)
    spacing = records[0].pixel_size or (None, None)
    if tilt_axis == "x":
        data, spacing = data.swapaxes(1, 2), spacing[::-1]
    y, x = (
        length_axis(name, size, step) | {"navigate": True}
        for name, size, step in zip("yx", data.shape[1:3], spacing, strict=True)
    )
    energy = {name: records[0].energy_axis[name] for name in ("size", "offset", "scale", "units")}
    energy |= {"name": "Energy", "navigate": False}
    axes = [{"name": "tilt", "axis": order.tilts, "units": "°", "navigate": True}, y, x, energy]
    signal = LazySignal1D(data, axes=axes) if lazy else Signal1D(np.asarray(data), axes=axes)
    for node, content in _metadata(records).items():
        signal.metadata.set_item(node, content)
    with warnings.catch_warnings():
        # eXSpy still imports HyperSpy's classes by their old names.
        warnings.simplefilter("ignore")
        signal.set_signal_type("EDS_TEM")
    signal.metadata.General.title = "EDS"
    set_keys(signal)
    signal.metadata.set_item(f"{NODE}.tilt_axis", tilt_axis)
    record(signal, "acquisition_order", order.acquisition_order, ("tilt",))
    for name, values in _per_tilt(records, len(angles)).items():
        record(signal, name, [values[group[0]] for group in order.groups], ("tilt",))
    exposures = np.array([len(group) for group in order.groups], dtype=float)
    if exposures.max() > 1:
        record(signal, "gains", exposures, ("tilt",))
    return signal


def _stacked(records: list[Record]):
    """Return the data of all tilts: those of a stack, or of one file per tilt."""
    if len(records) == 1:
        return records[0].data
    arrays = [record.data for record in records]
    if not any(hasattr(array, "dask") for array in arrays):
        return np.stack(arrays)
    import dask.array as da

    return da.stack(arrays)


def _metadata(records: list[Record]) -> dict:
    """Return what of the files' metadata holds for the whole series: what differs from tilt to tilt is left to `_per_tilt`."""
    first, *others = (record.metadata for record in records)
    return {
        name: _common(first[name], [other.get(name) for other in others])
        for name in ("Acquisition_instrument", "Sample")
        if name in first
    }


def _common(tree: dict, others: list) -> dict:
    kept = {}
    for name, value in tree.items():
        values = [other.get(name) if isinstance(other, dict) else None for other in others]
        if isinstance(value, dict):
            kept[name] = _common(value, values)
        elif all(np.array_equal(value, other) for other in values):
            kept[name] = value
    return kept


def _per_tilt(records: list[Record], n: int) -> dict:
    """Return what the files say of each tilt, in their order: the file's name and the times of the EDS detector."""
    if len(records) != n:
        return {}
    known: dict = {"files": [record.path.name for record in records]}
    for name in ("real_time", "live_time", "beam_current"):
        values = [_find(record.metadata.get("Acquisition_instrument", {}), name) for record in records]
        if None not in values:
            known[name] = [float(value) for value in values]
    return known


def _find(tree, name):
    if not isinstance(tree, dict):
        return None
    if name in tree:
        return tree[name]
    return next((found for found in (_find(branch, name) for branch in tree.values()) if found is not None), None)
