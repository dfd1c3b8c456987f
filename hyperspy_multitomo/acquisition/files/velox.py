# SPDX-License-Identifier: GPL-3.0-or-later
"""Read Velox .emd files to records: images, EDS events and EELS spectra of the same frames."""

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
    """The frames of a file to use (None: all), and the shifts (frame, 2) of these frames in px."""

    path: Path
    frames: tuple[int, int] | None = None
    shifts: np.ndarray | None = None

    def of_image(self, total: int) -> tuple[int, int]:
        """Return the first frame of an image to use, and the one after the last.

        A survey of a single frame is taken whole.
        """
        return (0, 1) if total == 1 else self.range_of(total)

    def range_of(self, total: int) -> tuple[int, int]:
        """Return the first frame to use, and the one after the last."""
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
    """Return whether a file is an HDF5 file of Velox."""
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
    Read the images and spectra of a Velox file.

    Parameters
    ----------
    path : path-like
    lazy : bool, default False
        Return dask arrays that read the file when computed.
    frames : (int, int), optional
        First frame, from 0, and the one after the last; by default all. Images are averaged over
        the frames and events summed.
    register : bool, default False
        Measure the drift of the frames on the image chosen by `image` (see `choose_image`), and
        correct it before images are averaged and events, moved by whole pixels, are summed.
    image : str, optional
        Detector or title of the image.

    Returns
    -------
    list of Record
        The image of each detector, of kind "map" where Velox computed it (elements, DPC). EDS
        counts, (y, x, energy), summed over the detectors. Each range of EELS spectra,
        (y, x, energy), less the pedestal stated in the file, of all frames. With `register` images
        and EDS have ``metadata["General"]["frame_shifts"]``, (frame, 2), (y, x) in px.

    Raises
    ------
    ValueError
        For frames or an image to register by that the file does not have, and, when the events are
        read, for frames of which a stream has not as many pixels as the map.

    Notes
    -----
    RosettaSciIO 0.15 is not used, because it takes the size of the EDS map from the last image in
    the file (which may be a survey, so that events arrive in wrong pixels), reads the first frame
    of each image but the events of all frames, has no live time of summed frames, reads neither
    beam energy nor pedestal of EELS spectra, and could correct the drift only with all frames in
    memory.
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
        records = images.copy()
        if streams and shape is not None:
            records.append(_eds(file, streams, shape, plan))
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
    """The frames of an image, read from the file one at a time."""

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
    stored = _json_metadata(file[node], first)
    name, entry = detector_of(stored)
    # Elemental maps name a group of detectors or a spectrometer; DPC images are complex.
    measured = (
        entry.get("DetectorType") in _MEASURING
        if entry
        else "DetectorIndex" in stored.get("BinaryResult", {})
    )
    measured = measured and data.dtype.kind in "iuf"
    title = name or "image"
    if (listed := _listed_inputs(file)) is not None:
        key = node.rpartition("/")[2]
        measured, title = key in listed, listed.get(key, title)
    shifts = (
        plan.shifts
        if plan.shifts is not None and len(plan.shifts) == last - first and total > 1
        else None
    )
    metadata = microscope_metadata(stored)
    metadata["General"]["title"] = title
    if shifts is not None:
        metadata["General"]["frame_shifts"] = shifts
    if measured:
        metadata["Acquisition_instrument"]["TEM"]["Detector"] = {"STEM": image_detector(stored)}
    kind = data.dtype if last - first == 1 and shifts is None else np.dtype(np.float32)
    size = pixel_size(stored)
    return Record(
        path=plan.path,
        kind="image" if measured else "map",
        title=title,
        data=_delayed(
            _read_image, (plan.path, node, replace(plan, shifts=shifts)), data.shape[:2], kind
        ),
        axes=_space(data.shape[:2], size),
        metadata=metadata,
        original_metadata=stored,
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
    """Return the number of pixels (y, x) of the spectrum image, or None without one."""
    maps = [f"Data/SpectrumImage/{name}" for name in file.get("Data/SpectrumImage", {})]
    scans = [scan_shape(_json_metadata(file[node])) for node in [*maps, *streams]]
    scanned = [shape for shape in scans if shape]
    shapes = scanned + [record.data.shape for record in images if record.kind == "image"]
    if not streams:
        return scanned[0] if scanned else None
    first = file[streams[0]]
    if shapes and ("FrameLocationTable" not in first or len(first["FrameLocationTable"]) == 0):
        return shapes[0]
    starts = frame_starts(first, None).tolist()
    whole = len(starts) > 1
    pixels = count_pixels(first["Data"], *starts[:2])
    # The last end-of-pixel mark may be missing, and a recording of a single frame incomplete.
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
    # Times are stored frame by frame, or once for all.
    by_frame = all(group["Metadata"].shape[1] == total for group in groups)
    stored = [_json_metadata(group, last - 1) for group in groups]
    before = (
        [_json_metadata(group, first - 1) for group in groups] if by_frame and first > 0 else None
    )
    metadata = microscope_metadata(stored[0])
    metadata["General"]["title"] = "EDS"
    metadata["Signal"] = {"signal_type": "EDS_TEM"}
    share = 1.0 if by_frame else (last - first) / total
    metadata["Acquisition_instrument"]["TEM"]["Detector"] = {
        "EDS": eds_detectors(stored, before, share)
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
    scale = energy_scale(stored[0])
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
        axes=[*_space(shape, pixel_size(stored[0])), energy],
        metadata=metadata,
        original_metadata=stored[0],
        spectroscopy="EDS",
    )


def _delayed_spectra(path, streams, shape, channels, frames, shifts):
    """Return a dask array (y, x, energy) in blocks of rows.

    The stream is decoded once for all blocks of a computation.
    """
    import dask

    counts = dask.delayed(read_events, pure=True)(path, streams, shape, channels, frames, shifts)
    return dense_blocks(counts, (*shape, channels), np.uint16)


def _eels(file: h5py.File, node: str, path: Path) -> Record:
    data = file[node]["Data"]
    scale = json.loads(_json_text(file[node]["AcquisitionMetadata"]))["Data"]
    stored = _json_metadata(file[node])
    maps = file.get("Data/SpectrumImage", {}).values()
    scan = next((_json_metadata(group) for group in maps), stored)
    metadata = microscope_metadata(stored | scan)
    width, channels, height = data.shape
    offset, step = float(scale["offset"]), float(scale["dispersion"])
    title = f"EELS {offset:.0f} to {offset + step * (channels - 1):.0f} eV"
    gain = float(scale.get("intensityScale") or 1.0)
    pedestal = -float(scale.get("intensityOffset") or 0.0) / gain
    metadata["General"]["title"] = title
    metadata["Signal"] = {"signal_type": "EELS"}
    # The stated calibration is (value - pedestal) * gain; without the gain the values stay counts.
    detector = {
        "pedestal": pedestal,
        "intensity_scale": gain,
        "exposure": scale.get("exposureTime"),
    }
    angle = (
        stored.get("CustomProperties", {})
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
        axes=[*_space((height, width), pixel_size(scan)), energy],
        metadata=metadata,
        original_metadata=stored,
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


def _json_text(metadata: h5py.Dataset, column: int = 0) -> bytes:
    return metadata[:, min(column, metadata.shape[1] - 1)].tobytes().split(b"\0", 1)[0]


def _json_metadata(group: h5py.Group, frame: int = 0) -> dict:
    """Return the JSON metadata of a data set at a frame, or of the last one stored."""
    return json.loads(_json_text(group["Metadata"], frame) or b"{}")


def _listed_inputs(file: h5py.File) -> dict[str, str] | None:
    """Return the detector of each measured image, if listed (before version 11), else None."""
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
