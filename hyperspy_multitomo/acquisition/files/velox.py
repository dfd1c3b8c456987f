# SPDX-License-Identifier: GPL-3.0-or-later
"""Velox .emd files to records: images, EDS events and EELS spectra of one view, of the same frames."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.files.frame_sums import (
    average_frames,
    check_frames,
    register_frames,
)
from hyperspy_multitomo.acquisition.files.pick_streams import choose_image
from hyperspy_multitomo.acquisition.files.records import Record
from hyperspy_multitomo.acquisition.files.velox_events import (
    count_pixels,
    frame_starts,
    read_events,
)
from hyperspy_multitomo.acquisition.files.velox_metadata import (
    detector_of,
    eds_detectors,
    energy_scale,
    image_detector,
    microscope_metadata,
    pixel_size,
    scan_shape,
)
from hyperspy_multitomo.acquisition.sparse_counts import dense_blocks
from hyperspy_multitomo.machine.notices import warn

if TYPE_CHECKING:
    import h5py

__all__ = ["is_velox", "read_velox"]

_MEASURING = ("ScanningDetector", "ImagingDetector")


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which frames of a file are used: the range asked for (None: all), and the shifts (frame, 2) of these frames in px."""

    path: Path
    frames: tuple[int, int] | None = None
    shifts: np.ndarray | None = None

    def of_image(self, total: int) -> tuple[int, int]:
        """Return the first frame of an image and the one after the last; a survey of a single frame is taken whole."""
        return (0, 1) if total == 1 else self.range_of(total)

    def range_of(self, total: int) -> tuple[int, int]:
        """Return the first of the frames of the file that are used, and the one after the last."""
        if self.frames is None:
            return 0, total
        first, last = self.frames
        if not 0 <= first < last <= total:
            raise ValueError(
                f"{self.path.name} has {total} frames; frames={self.frames} must be (first, last), "
                "0 <= first < last"
            )
        return first, last


def is_velox(path: str | Path) -> bool:
    """Say whether a file is HDF5 as Velox writes it."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        try:
            return json.loads(file["Version"][0])["format"] in ("Velox", "DevelopersKit")
        except (KeyError, ValueError, TypeError, IndexError):
            return False


def read_velox(
    path: str | Path,
    *,
    lazy: bool = False,
    frames: tuple[int, int] | None = None,
    register: bool = False,
    image: str | None = None,
) -> list[Record]:
    """
    Read what a Velox file holds of one view.

    Parameters
    ----------
    path : path-like
    lazy : bool, default False
        Return dask arrays that read the file when they are computed.
    frames : (int, int), optional
        First frame, from 0, and the one after the last; by default all. Images are averaged over
        them and events summed.
    register : bool, default False
        Measure the drift of the frames on the image chosen by `image` (see `choose_image`) and move
        events, by whole pixels, and images back before they are summed and averaged.
    image : str, optional
        Name of the detector, or title.

    Returns
    -------
    list of Record
        Each detector's image; "map" for what Velox computed (elements, DPC); EDS counts, (y, x,
        energy), the streams of all detectors summed; each range of EELS spectra, (y, x, energy),
        less the pedestal that the file states, whole whatever the frames. With `register` images
        and EDS have ``metadata["General"]["frame_shifts"]``, (frame, 2), (y, x) in px.

    Raises
    ------
    ValueError
        For frames that the file does not have, images to register by that it has not, and, when the
        events are read, frames of which a stream has not as many pixels as the map.

    Notes
    -----
    The file is read here and not by RosettaSciIO 0.15, which takes the size of the EDS map from
    whichever image the file lists last (events of a map in a survey arrive in wrong pixels), the
    first frame of each image beside the events of all frames, no live time where frames are summed,
    and neither beam energy nor the detector's zero of EELS spectra; frames cannot be moved before
    they are summed without all of them in memory.
    """
    import h5py

    plan = _Plan(Path(path), check_frames(frames))
    with h5py.File(path, "r") as file:
        nodes = [f"Data/Image/{name}" for name in file.get("Data/Image", {})]
        images = [_image(file, node, plan) for node in nodes]
        streams = [f"Data/SpectrumStream/{name}" for name in file.get("Data/SpectrumStream", {})]
        shape = _map_shape(file, streams, images)
        if register:
            chosen = choose_image(images, image, shape, plan.path)
            if chosen is None:
                raise ValueError(f"{plan.path.name} has no image to register its frames by")
            stack = _Frames(file[nodes[images.index(chosen)]]["Data"], plan)
            plan = replace(plan, shifts=register_frames(stack))
            images = [_image(file, node, plan) for node in nodes]
        records = images + ([_eds(file, streams, shape, plan)] if streams else [])
        records += [
            _eels(file, f"Data/EelsSpectrumImage/{name}", plan.path)
            for name in file.get("Data/EelsSpectrumImage", {})
        ]
        if not streams and images:
            plan.range_of(max(file[node]["Data"].shape[2] for node in nodes))
        if "Data/SpectrumImage" in file and "Data/EelsSpectrumImage" not in file and not streams:
            warn(
                f"{plan.path.name}: its EDS events have been pruned; export it from Velox unpruned "
                "to have spectra"
            )
    return (
        records if lazy else [replace(record, data=np.asarray(record.data)) for record in records]
    )


class _Frames:
    """The frames of an image in the file, one at a time."""

    def __init__(self, data: h5py.Dataset, plan: _Plan):
        self.data = data
        self.first, self.last = plan.of_image(data.shape[2])

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, number: int) -> np.ndarray:
        frame = self.data[:, :, self.first + number]
        # Velox stores complex images (DPC, FFT) as pairs of numbers.
        return (
            frame
            if frame.dtype.names is None
            else np.abs(frame.view(np.float32).view(np.complex64))
        )


def _image(file: h5py.File, node: str, plan: _Plan) -> Record:
    data = file[node]["Data"]
    total = data.shape[2]
    first, last = plan.of_image(total)
    told = _told(file[node], first)
    name, entry = detector_of(told)
    # Maps of elements name a group of detectors or a spectrometer; DPC images are not of real
    # numbers.
    measured = (
        entry.get("DetectorType") in _MEASURING
        if entry
        else "DetectorIndex" in told.get("BinaryResult", {})
    )
    measured = measured and data.dtype.kind in "iuf"
    title = name or "image"
    if (listed := _listed_inputs(file)) is not None:
        measured, title = (
            node.rpartition("/")[2] in listed,
            listed.get(node.rpartition("/")[2], title),
        )
    shifts = (
        plan.shifts
        if plan.shifts is not None and len(plan.shifts) == last - first and total > 1
        else None
    )
    metadata = microscope_metadata(told)
    metadata["General"]["title"] = title
    if shifts is not None:
        metadata["General"]["frame_shifts"] = shifts
    if measured:
        metadata["Acquisition_instrument"]["TEM"]["Detector"] = {"STEM": image_detector(told)}
    kind = data.dtype if last - first == 1 and shifts is None else np.dtype(np.float32)
    size = pixel_size(told)
    return Record(
        path=plan.path,
        kind="image" if measured else "map",
        title=title,
        data=_delayed(
            _read_image, (plan.path, node, replace(plan, shifts=shifts)), data.shape[:2], kind
        ),
        axes=_space(data.shape[:2], size),
        metadata=metadata,
        original_metadata=told,
        detector=name,
    )


def _read_image(path: Path, node: str, plan: _Plan) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        stack = _Frames(file[node]["Data"], plan)
        return (
            stack[0]
            if len(stack) == 1 and plan.shifts is None
            else average_frames(stack, plan.shifts)
        )


def _map_shape(file: h5py.File, streams: list[str], images: list[Record]) -> tuple[int, int] | None:
    """Return the number of pixels (y, x) of the spectrum image, None where there is none."""
    maps = [f"Data/SpectrumImage/{name}" for name in file.get("Data/SpectrumImage", {})]
    told = [scan_shape(_told(file[node])) for node in [*maps, *streams]]
    shapes = [shape for shape in told if shape] + [
        record.data.shape for record in images if record.kind == "image"
    ]
    if not streams:
        return next((shape for shape in told if shape), None)
    first = file[streams[0]]
    if shapes and ("FrameLocationTable" not in first or len(first["FrameLocationTable"]) == 0):
        return shapes[0]
    starts = frame_starts(first, None).tolist()
    whole = len(starts) > 1
    pixels = count_pixels(first["Data"], *starts[:2])
    # The end of the last pixel of a recording may be missing, and one of a single frame may have
    # been stopped within it.
    fitting = [shape for shape in shapes if shape[0] * shape[1] - pixels in (0, 1)]
    fitting += [] if whole else [shape for shape in shapes if shape[0] * shape[1] > pixels]
    if not fitting:
        raise ValueError(
            f"{Path(file.filename).name} does not say how large its EDS map is: a frame of its "
            f"events has {pixels} pixels, but scan and images have {sorted(set(shapes))}; export "
            "it from Velox again"
        )
    return fitting[0]


def _eds(file: h5py.File, streams: list[str], shape: tuple[int, int], plan: _Plan) -> Record:
    channels = int(json.loads(file[streams[0]]["AcquisitionSettings"][0])["bincount"])
    total = max(len(frame_starts(file[node], shape)) for node in streams)
    first, last = plan.range_of(total)
    groups = [file[node] for node in streams]
    # Times are told frame by frame, or once for all.
    by_frame = all(group["Metadata"].shape[1] == total for group in groups)
    told = [_told(group, last - 1) for group in groups]
    before = [_told(group, first - 1) for group in groups] if by_frame and first > 0 else None
    metadata = microscope_metadata(told[0])
    metadata["General"]["title"] = "EDS"
    metadata["Signal"] = {"signal_type": "EDS_TEM"}
    share = 1.0 if by_frame else (last - first) / total
    metadata["Acquisition_instrument"]["TEM"]["Detector"] = {
        "EDS": eds_detectors(told, before, share)
    }
    metadata["Sample"] = {"elements": _elements(file)}
    shifts = plan.shifts if total > 1 else None
    if shifts is not None:
        if len(shifts) != last - first:
            raise ValueError(
                f"{plan.path.name}: the image to register by has {len(shifts)} frames, the EDS map "
                f"{last - first}"
            )
        metadata["General"]["frame_shifts"] = shifts
    scale = energy_scale(told[0])
    energy = {"name": "Energy", "size": channels, "units": "keV", "navigate": False}
    energy |= {"offset": scale[0], "scale": scale[1]} if scale else {"offset": 0.0, "scale": 0.01}
    if scale is None:
        warn(
            f"{plan.path.name} does not say the energies of its EDS channels; 10 eV per channel "
            "from 0 are assumed"
        )
    return Record(
        path=plan.path,
        kind="spectrum_image",
        title="EDS",
        data=_delayed_spectra(plan.path, streams, shape, channels, (first, last), shifts),
        axes=[*_space(shape, pixel_size(told[0])), energy],
        metadata=metadata,
        original_metadata=told[0],
        spectroscopy="EDS",
    )


def _delayed_spectra(path, streams, shape, channels, frames, shifts):
    """Return a dask array (y, x, energy) in blocks of rows: the stream is decoded once for all blocks of a computation."""
    import dask

    counts = dask.delayed(read_events, pure=True)(path, streams, shape, channels, frames, shifts)
    return dense_blocks(counts, (*shape, channels), np.uint16)


def _eels(file: h5py.File, node: str, path: Path) -> Record:
    data = file[node]["Data"]
    scale = json.loads(_text(file[node]["AcquisitionMetadata"]))["Data"]
    told = _told(file[node])
    where = next((_told(group) for group in file.get("Data/SpectrumImage", {}).values()), told)
    metadata = microscope_metadata(told | where)
    width, channels, height = data.shape
    offset, step = float(scale["offset"]), float(scale["dispersion"])
    title = f"EELS {offset:.0f} to {offset + step * (channels - 1):.0f} eV"
    gain = float(scale.get("intensityScale") or 1.0)
    pedestal = -float(scale.get("intensityOffset") or 0.0) / gain
    metadata["General"]["title"] = title
    metadata["Signal"] = {"signal_type": "EELS"}
    # The stated calibration is (value - pedestal) * gain; the values stay as counted, only their
    # zero is put in place.
    detector = {
        "pedestal": pedestal,
        "intensity_scale": gain,
        "exposure": scale.get("exposureTime"),
    }
    angle = (
        told.get("CustomProperties", {})
        .get("EnergyFilter.CollectionAngleRange.End", {})
        .get("value")
    )
    if angle is not None:
        detector["collection_angle"] = 1e3 * float(angle)
    metadata["Acquisition_instrument"]["TEM"]["Detector"] = {"EELS": detector}
    energy = {
        "name": "Energy loss",
        "size": channels,
        "offset": offset,
        "scale": step,
        "units": "eV",
        "navigate": False,
    }
    return Record(
        path=path,
        kind="spectrum_image",
        title=title,
        data=_delayed(
            _read_eels, (path, node, pedestal), (height, width, channels), np.dtype(np.float32)
        ),
        axes=[*_space((height, width), pixel_size(where)), energy],
        metadata=metadata,
        original_metadata=told,
        spectroscopy="EELS",
    )


def _read_eels(path: Path, node: str, pedestal: float) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        return file[node]["Data"][:].transpose(2, 0, 1).astype(np.float32) - np.float32(pedestal)


def _delayed(function, arguments, shape, dtype):
    import dask
    import dask.array as da

    return da.from_delayed(dask.delayed(function)(*arguments), shape, dtype)


def _space(shape: tuple[int, int], size: tuple[float, float] | None) -> list[dict]:
    return [
        {
            "name": name,
            "size": n,
            "offset": 0.0,
            "scale": step or 1.0,
            "units": "nm" if step else None,
        }
        for name, n, step in zip("yx", shape, size or (None, None), strict=True)
    ]


def _text(metadata: h5py.Dataset, column: int = 0) -> bytes:
    return metadata[:, min(column, metadata.shape[1] - 1)].tobytes().split(b"\0", 1)[0]


def _told(group: h5py.Group, frame: int = 0) -> dict:
    """Return the JSON metadata of a data set at a frame, or at the last one before it that has some."""
    return json.loads(_text(group["Metadata"], frame) or b"{}")


def _listed_inputs(file: h5py.File) -> dict[str, str] | None:
    """Return the detector of each measured image where the file lists them, as those before version 11 do, else None."""
    groups = [
        (f"Operations/{kind}InputOperation", name)
        for kind, name in (("Stem", "detector"), ("Camera", "cameraName"))
    ]
    entries = [
        (json.loads(entry[0]), name)
        for node, name in groups
        for entry in file.get(node, {}).values()
    ]
    return {
        entry["dataPath"].rpartition("/")[2]: entry.get(name, "")
        for entry, name in entries
        if "dataPath" in entry
    } or None


def _elements(file: h5py.File) -> list[str]:
    """Return the elements that were chosen in Velox."""
    from rsciio.utils._elements import atomic_number2name

    for node in (
        "SharedProperties/EDSSpectrumQuantificationSettings",
        "Operations/ImageQuantificationOperation",
    ):
        for settings in file.get(node, {}).values():
            numbers = json.loads(settings[0]).get("elementSelection") or []
            return sorted(atomic_number2name[int(number)] for number in numbers)
    return []
