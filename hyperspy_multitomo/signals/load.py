# SPDX-License-Identifier: GPL-3.0-or-later
"""Microscope files to tilt series: the records of `acquisition.files.io` become signals."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.axes import check_sides, pixel_sides
from hyperspy_multitomo.acquisition.files.frame_sums import check_frames
from hyperspy_multitomo.acquisition.files.io import expand_files, read_tilt_files
from hyperspy_multitomo.acquisition.files.lazy_files import naming_file
from hyperspy_multitomo.acquisition.files.modalities import align_modalities
from hyperspy_multitomo.acquisition.files.readers import naming_errors
from hyperspy_multitomo.acquisition.files.records import Record
from hyperspy_multitomo.acquisition.files.stored_arrays import check_arrays, stored_signals
from hyperspy_multitomo.acquisition.tilts import order_tilts
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.memory import available_memory, check_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import text
from hyperspy_multitomo.signals.build import build_series, merging
from hyperspy_multitomo.signals.gate import count_tilts, name_of
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.length_axes import in_nm, length_axis
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    forget,
    record,
    set_keys,
)
from hyperspy_multitomo.signals.registry import SIGNAL_TYPES, class_of

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF

LAZILY = "pass lazy=True, which leaves it on disk, or load fewer tilts"
# Files that are smaller than the memory by more than this factor fit into it, however they are
# compressed.
_COMPRESSED = 20
#: eXSpy's signal of each kind of spectra: signal type, name of the axis of the energies, title.
_SPECTRA = {"EDS": ("EDS_TEM", "Energy", "EDS"), "EELS": ("EELS", "Energy loss", "EELS")}


@checked(tilts=None, spectra=text)
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
    spectra: str | None = None,
    energy_loss: float | None = None,
    frames: tuple[int, int] | None = None,
    register_frames: bool = False,
    signed_bytes: bool | None = None,
    lazy: bool | None = None,
):
    """Load a tilt series: one file per tilt and modality, or files that hold a stack.

    Parameters
    ----------
    files : path-like or list of path-like
        A folder, a pattern such as ``"tilts/*.bcf"``, a list of files, or a single stack. Bruker
        .bcf, Velox .emd, Gatan .dm3 and .dm4, MRC (.mrc, .st, .ali), TIFF, .hspy and .zspy. Axes
        that the file names (.hspy, .zspy, EMD) go by their names. Images and spectra may be in
        files of their own, which are paired by their tilts (within half a degree).
    tilts : array-like, "metadata", "filename", regular expression or path-like, optional
        Tilts in degrees in the order of the files (or of the stack); where to take them from; a
        regular expression for the file names; or a .rawtlt, .tlt, .mdoc, .txt or .csv file. By
        default the metadata if they cover half a degree, else a .rawtlt, .tlt or .mdoc beside the
        stack, else the last number of each file name. One tilt makes a single view.
    tilt_axis : {"y", "x"}, default "y"
        Direction of the tilt axis in the images; with ``"x"`` images are transposed, so that it is
        y here.
    reverse_tilts : bool, default False
        Change the sign of the tilts, for data of the other handedness.
    duplicates : {"error", "merge"}, default "error"
        What to do with several files of one tilt; ``"merge"`` averages images and sums counts.
    on_error : {"raise", "skip"}, default "raise"
        What to do with a file that cannot be read: stop, or leave that tilt out with a warning.
    stack_axes : str, optional
        Order of the axes in a stack, e.g. ``"y tilt x"`` for sinograms; by default the axis that
        fits the number of tilts.
    image : str, optional
        Detector or title (or a part of it) of the image to take where the files hold several; by
        default the one called HAADF.
    spectra : {"EDS", "EELS"}, optional
        Which spectra to take from files with both; by default EDS, and EELS where `energy_loss` is
        given.
    energy_loss : float, optional
        Energy loss in eV that the EELS spectra have to include, where the files hold several
        ranges.
    frames : (int, int), optional
        Velox: first frame, from 0, and the one after the last. The image is averaged over them and
        the EDS events are summed; by default over all frames. EELS spectra are not kept frame by
        frame.
    register_frames : bool, default False
        Velox: measure the drift of the frames on the image, and move its frames and (by whole
        pixels) the events back before averaging and summing. The largest shift at each tilt is
        recorded as ``frame_drift`` (px): crop as much from the borders, where fewer frames
        contribute.
    signed_bytes : bool, optional
        MRC files of bytes (mode 0): whether they are signed, -128 to 127. By default what the
        header says: IMOD's stamp and flag, else minimum and maximum of the data where they fit one
        reading only; else they are taken as signed, with a warning.
    lazy : bool, optional
        By default images are read and spectrum images stay on disk until they are needed; True
        keeps both there, False reads both.

    Returns
    -------
    TiltSeriesHAADF, spectra, or both as a tuple
        ``haadf`` with the axes ``(tilt | x, y)``; ``spectra``, eXSpy's (lazy) EDS_TEM signal with
        the axes ``(x, y, tilt | Energy)`` in keV, or its EELS signal with ``(x, y, tilt | Energy
        loss)`` in eV. Whatever the files hold: both, or only one of them. A file saved by this
        package comes back as it was. The acquisition order is that of the times in the files,
        failing these that of the files.

    Raises
    ------
    ValueError
        For files that cannot be read or do not belong together, and for tilts that are of the wrong
        number, equal, duplicate or not finite; the message names them and what to do.
    FileNotFoundError
        Where no file is found.
    MemoryError
        Where the series is larger than the memory that is available and not left on disk; nothing
        has been read then.

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
        raise ValueError(
            f"tilt_axis={tilt_axis!r} must be 'x' or 'y', the direction of the tilt axis in the "
            "images"
        )
    paths = expand_files(files)
    if len(paths) == 1:
        ours = _saved_by_us(paths[0], lazy)
        if ours is not None:
            if tilts is not None or reverse_tilts:
                warn(
                    f"{paths[0].name} was saved by this package and comes back as it was: the "
                    "tilts that are given are not used"
                )
            return ours
    frames = check_frames(frames)
    read = partial(
        read_tilt_files,
        paths,
        on_error=on_error,
        image=image,
        spectra=spectra,
        energy_loss=energy_loss,
        frames=frames,
        register_frames=register_frames,
        stack_axes=stack_axes,
        n_tilts=count_tilts(tilts),
        tilts_of=name_of(tilts),
        signed_bytes=signed_bytes,
    )
    if lazy is False:
        _check_size(paths, read)
    records = read(lazy=lazy is not False)
    series, angles = align_modalities(records, tilts, paths, skip=on_error == "skip")
    how = {"tilt_axis": tilt_axis, "reverse_tilts": reverse_tilts, "duplicates": duplicates}
    _check_tilt_axis(series, tilt_axis)
    signals = []
    if "images" in series:
        signals.append(_images(series["images"], angles, lazy=bool(lazy), **how))
    if "spectra" in series:
        signals.append(_spectra(series["spectra"], angles, lazy=lazy is not False, **how))
    chosen = {
        "image": image,
        "spectra": spectra,
        "energy_loss": energy_loss,
        "frames": frames,
        "register_frames": register_frames,
    }
    chosen = {name: value for name, value in chosen.items() if value}
    chosen |= {} if signed_bytes is None else {"signed_bytes": signed_bytes}
    for signal in signals:
        add_step(
            signal,
            "load_tilt_series",
            files=[str(path) for path in _files(series)],
            **how,
            **chosen,
        )
    return signals[0] if len(signals) == 1 else tuple(signals)


def _check_size(paths: list[Path], read) -> None:
    """Raise a MemoryError where the files hold more than there is memory.

    Large files are opened lazily to find out.
    """
    if not _is_large(paths):
        return
    needed = sum(record.data.nbytes for records in read(lazy=True).values() for record in records)
    check_memory(needed, "the series", LAZILY)


def _is_large(paths: list[Path]) -> bool:
    """Say whether the files may be larger than the memory, however they are compressed."""
    on_disk = sum(
        file.stat().st_size
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
    )
    available = available_memory()
    return available is not None and _COMPRESSED * on_disk >= available


def _in_memory(data, what: str) -> np.ndarray:
    """Return the data as an array in memory, where there is enough of it."""
    if is_lazy(data):
        check_memory(data.nbytes, what, LAZILY)
    return np.asarray(data)


def _files(series: dict[str, list[Record]]) -> list[Path]:
    """Return the files of a series, each once."""
    return list(dict.fromkeys(record.path for records in series.values() for record in records))


def _check_tilt_axis(series: dict[str, list[Record]], tilt_axis: str) -> None:
    """Warn where SerialEM says that the tilt axis is nearer to the other direction."""
    record = next(iter(series.values()))[0]
    angle = _find(record.metadata.get("Acquisition_instrument", {}), "tilt_axis_angle")
    if angle is None:
        return
    nearer = "y" if abs((angle + 90) % 180 - 90) <= 45 else "x"
    if nearer != tilt_axis:
        warn(
            f"the .mdoc of {record.path.name} says that the tilt axis is {angle:g} degrees from "
            "the image y axis, nearer to "
            f"{nearer} than to {tilt_axis}; pass tilt_axis={nearer!r} unless the images have been "
            "rotated since"
        )


def _saved_by_us(path: Path, lazy):
    """Return the signal of a file that this package saved, or None."""
    if path.suffix.lower() not in (".hspy", ".zspy"):
        return None
    (signal_type, has_records), *others = stored_signals(path, NODE) or [("", False)]
    is_series, is_spectra = signal_type in SIGNAL_TYPES, signal_type.startswith(("EDS", "EELS"))
    if others or not (is_series or has_records):
        return None
    try:
        check_arrays(path)
    except OSError as error:
        raise ValueError(str(error)) from None
    import hyperspy.api as hs

    stays = lazy is not False if is_spectra else bool(lazy)
    with naming_errors(path, FileNotFoundError):
        if not stays and _is_large([path]):
            check_memory(hs.load(path, lazy=True).data.nbytes, path.name, LAZILY)
        ours = hs.load(path, lazy=stays)
    if stays:
        ours.data = naming_file(ours.data, path)
    if not has_records or not (is_series or is_spectra):
        lost = "what it was" if has_records else "what was recorded in it"
        warn(
            f"{path.name} was saved by this package, but {lost} is lost from the file: it comes "
            f"back as {type(ours).__name__} "
            "with what is left; copy the file again, or load the files that it was made from"
        )
    _check_saved(ours, path.name, is_series)
    return ours


def _check_saved(signal, name: str, is_series: bool) -> None:
    """Check the pixels and the order of acquisition in a file that this package saved."""
    sides = {
        axis: in_nm(axis_named(signal, axis))
        for axis in "yx"
        if axis_named(signal, axis) is not None
    }
    sides = {axis: length for axis, (length, _, units) in sides.items() if units == "nm"}
    if sides:
        check_sides(sides, name)
    if is_series and hasattr(type(signal), "acquisition_order"):
        try:
            _ = signal.acquisition_order
        except ValueError as error:
            warn(f"{name}: {error}. It is forgotten")
            forget(signal, "acquisition_order")


def _images(records: list[Record], angles, *, lazy, **how) -> TiltSeriesHAADF:
    data = _stacked(records)
    if not lazy:
        data = _in_memory(data, "the series of images")
    return build_series(
        class_of("TiltSeriesHAADF"),
        data,
        angles,
        _sides(records[0]),
        metadata=_metadata(records),
        per_tilt=_per_tilt(records, len(angles)),
        title="HAADF",
        **how,
    )


def _sides(record: Record) -> tuple[float, float] | tuple[None, None]:
    """Return the sides (y, x) of a pixel in nm, None where the file does not say."""
    return pixel_sides({axis["name"]: axis for axis in record.axes}, record.path.name) or (
        None,
        None,
    )


def _spectra(records: list[Record], angles, *, lazy, tilt_axis, reverse_tilts, duplicates):
    """Return eXSpy's signal, array order (tilt, y, x, energy), chunks of one tilt at most."""
    from hyperspy.signals import LazySignal1D, Signal1D

    data = _stacked(records)
    order = order_tilts(angles, reverse=reverse_tilts, duplicates=merging(duplicates, "sum"))
    data = order.merge(data)
    spacing = _sides(records[0])
    if tilt_axis == "x":
        data, spacing = data.swapaxes(1, 2), spacing[::-1]
    y, x = (
        length_axis(name, size, step) | {"navigate": True}
        for name, size, step in zip("yx", data.shape[1:3], spacing, strict=True)
    )
    energy = {name: records[0].energy_axis[name] for name in ("size", "offset", "scale", "units")}
    signal_type, name, title = _SPECTRA[records[0].spectroscopy]
    energy |= {"name": name, "navigate": False}
    axes = [{"name": "tilt", "axis": order.tilts, "units": "°", "navigate": True}, y, x, energy]
    signal = (
        LazySignal1D(data, axes=axes)
        if lazy
        else Signal1D(_in_memory(data, "the series of spectra"), axes=axes)
    )
    for node, content in _metadata(records).items():
        signal.metadata.set_item(node, content)
    with warnings.catch_warnings():
        # eXSpy still imports HyperSpy's classes by their old names.
        warnings.simplefilter("ignore")
        signal.set_signal_type(signal_type)
    _without_assumed_angles(signal, records[0])
    signal.metadata.General.title = title
    set_keys(signal)
    signal.metadata.set_item(f"{NODE}.tilt_axis", tilt_axis)
    record(signal, "acquisition_order", order.acquisition_order, ("tilt",))
    for name, values in _per_tilt(records, len(angles)).items():
        record(signal, name, [values[group[0]] for group in order.groups], ("tilt",))
    exposures = np.array([len(group) for group in order.groups], dtype=float)
    if exposures.max() > 1:
        record(signal, "gains", exposures, ("tilt",))
    return signal


def _without_assumed_angles(signal, first: Record) -> None:
    """Remove detector angles that eXSpy took from its preferences: they are not measured."""
    in_file = (
        first.metadata.get("Acquisition_instrument", {})
        .get("TEM", {})
        .get("Detector", {})
        .get("EDS", {})
    )
    detector = signal.metadata.get_item("Acquisition_instrument.TEM.Detector.EDS", default=None)
    for name in ("azimuth_angle", "elevation_angle"):
        if detector is not None and detector.has_item(name) and name not in in_file:
            delattr(detector, name)


def _stacked(records: list[Record]):
    """Return the data of all tilts: those of a stack, or of one file per tilt."""
    if records[0].kind.endswith("stack"):
        return records[0].data
    arrays = [record.data for record in records]
    if not any(is_lazy(array) for array in arrays):
        return np.stack(arrays)
    import dask.array as da

    return da.stack(arrays)


def _metadata(records: list[Record]) -> dict:
    """Return the metadata that hold for the whole series; `_per_tilt` has the rest."""
    first, *others = (record.metadata for record in records)
    common = {
        name: _common(first[name], [other.get(name) for other in others])
        for name in ("Acquisition_instrument", "Sample")
        if name in first
    }
    for name in ("elements", "xray_lines"):
        listed = sorted(
            {item for record in records for item in record.metadata.get("Sample", {}).get(name, ())}
        )
        if listed:
            common.setdefault("Sample", {})[name] = listed
    return common


def _common(tree: dict, others: list) -> dict:
    """Return the entries of a metadata tree that are the same in all others."""
    common = {}
    for name, value in tree.items():
        values = [other.get(name) if isinstance(other, dict) else None for other in others]
        if isinstance(value, dict):
            common[name] = _common(value, values)
        elif all(np.array_equal(value, other) for other in values):
            common[name] = value
    return common


def _per_tilt(records: list[Record], n: int) -> dict:
    """Return what the files say of each tilt: file, times, current, drift of the frames."""
    times = np.concatenate([record.times for record in records])
    known: dict = {} if np.isnat(times).any() else {"acquired": [str(time) for time in times]}
    if len(records) != n:
        return known
    known["files"] = [record.path.name for record in records]
    for name in ("real_time", "live_time", "beam_current"):
        values = [
            _find(record.metadata.get("Acquisition_instrument", {}), name) for record in records
        ]
        if None not in values:
            known[name] = [float(value) for value in values]
    shifts = [record.metadata.get("General", {}).get("frame_shifts") for record in records]
    if all(moved is not None for moved in shifts):
        known["frame_drift"] = [float(np.abs(moved).max()) for moved in shifts]
    return known


def _find(tree, name):
    if not isinstance(tree, dict):
        return None
    if name in tree:
        return tree[name]
    return next(
        (found for found in (_find(branch, name) for branch in tree.values()) if found is not None),
        None,
    )
