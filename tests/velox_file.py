# SPDX-License-Identifier: GPL-3.0-or-later
"""A small file as Velox writes it: frames of images, streams of EDS events,
and the metadata of each frame."""

import json

import h5py
import numpy as np

ROOM = 20000
TIME = 1_700_000_000


def events_stream(frames):
    """Encode counts (frame, y, x, energy) as a stream:
    each event is its channel, and 65535 ends a pixel."""
    values = []
    starts = []
    for frame in frames:
        starts.append(len(values))
        for spectrum in frame.reshape(-1, frame.shape[-1]):
            values += [
                int(channel) for channel in np.repeat(np.arange(len(spectrum)), spectrum)
            ] + [65535]
    return np.array(values, dtype=np.uint16)[:, None], np.array(starts, dtype=np.uint64)[:, None]


def metadata(detector, shape, tilt=0.0, pixel_size=2.0, beam_energy=300.0, seconds=0, live=0.0):
    listed = {
        "HAADF": {
            "DetectorType": "ScanningDetector",
            "CollectionAngleRange": {"begin": "0.06", "end": "0.2"},
        },
        "BF": {
            "DetectorType": "ScanningDetector",
            "CollectionAngleRange": {"begin": "0", "end": "0.01"},
        },
        "DF4": {
            "DetectorType": "ScanningDetector",
            "CollectionAngleRange": {"begin": "0.02", "end": "0.05"},
        },
    }
    for number, azimuth in enumerate((45, 135), start=1):
        listed[f"SuperX{number}"] = {
            "DetectorType": "AnalyticalDetector",
            "AzimuthAngle": str(np.radians(azimuth)),
            "ElevationAngle": str(np.radians(18)),
            "CollectionAngle": "0.7",
            "Dispersion": "20",
            "OffsetEnergy": "-100",
            "LiveTime": str(live),
            "RealTime": str(1.25 * live),
        }
    return {
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": str(TIME + seconds)}},
        "Optics": {
            "AccelerationVoltage": str(1000 * beam_energy),
            "LastMeasuredScreenCurrent": "2e-10",
        },
        "Stage": {"AlphaTilt": str(np.radians(tilt)), "BetaTilt": "0", "Position": {"x": "1e-6"}},
        "Scan": {
            "ScanSize": {"width": "128", "height": "128"},
            "ScanArea": {
                "left": "0.25",
                "right": str(0.25 + shape[1] / 128),
                "top": "0",
                "bottom": str(shape[0] / 128),
            },
        },
        "BinaryResult": {
            "Detector": detector,
            "PixelSize": {"width": str(1e-9 * pixel_size), "height": str(1e-9 * pixel_size)},
            "PixelUnitX": "m",
        },
        "Detectors": {
            f"Detector-{i}": {"DetectorName": name} | entry
            for i, (name, entry) in enumerate(listed.items())
        },
        "CustomProperties": {},
    }


def encoded(columns):
    """Return JSON texts as the columns of an array of bytes."""
    made = np.zeros((ROOM, len(columns)), dtype=np.uint8)
    for column, told in zip(made.T, columns, strict=True):
        text = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
        column[: len(text)] = text
    return made


def write_velox(path, images, events=(), maps=(), pruned=False, frame_live=1.0, **told):
    """
    Write a Velox file.

    images: {detector: (frame, y, x)}; events: for each of up to two detectors counts (frame, y, x,
    energy); maps: names of elements that Velox mapped; told: see `metadata`. Each frame has a live
    time of `frame_live` s.
    """
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "Version", data=[json.dumps({"version": "11", "format": "Velox"})], dtype=text
        )
        file.create_group("Data/Image")
        shape = events[0].shape[1:3] if len(events) else None
        for name, stack in images.items():
            group = file.create_group(f"Data/Image/{name.lower()}")
            group["Data"] = np.moveaxis(np.asarray(stack), 0, -1)
            group["Metadata"] = encoded(
                [metadata(name, shape or stack.shape[1:], **told)] * len(stack)
            )
        for name in maps:
            group = file.create_group(f"Data/Image/0{name.lower()}")
            group["Data"] = np.full((*shape, 1), 7, dtype=np.float32)
            group["Metadata"] = encoded([metadata("SuperX", shape, **told)])
        if len(events) or pruned:
            group = file.create_group("Data/SpectrumImage/map")
            group["Metadata"] = encoded([metadata("SuperX", shape or (2, 2), **told)])
        for number, counts in enumerate(() if pruned else events, start=1):
            group = file.create_group(f"Data/SpectrumStream/stream{number}")
            group["Data"], group["FrameLocationTable"] = events_stream(counts)
            columns = [
                metadata(f"SuperX{number}", shape, live=frame_live * (i + 1), **told)
                for i in range(len(counts))
            ]
            group["Metadata"] = encoded(columns)
            settings = {"bincount": str(counts.shape[-1]), "StreamEncoding": "uint16"}
            group.create_dataset("AcquisitionSettings", data=[json.dumps(settings)], dtype=text)
    return path
