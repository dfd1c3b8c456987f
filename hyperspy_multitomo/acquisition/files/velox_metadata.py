# SPDX-License-Identifier: GPL-3.0-or-later
"""Translate the JSON metadata of Velox files to HyperSpy's names and the package's units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

__all__ = ["detector_of", "eds_detectors", "microscope_metadata"]


def microscope_metadata(metadata: Mapping) -> dict:
    """
    Translate the metadata of one data set.

    Parameters
    ----------
    metadata : mapping
        The JSON metadata: SI units and radians, numbers as text.

    Returns
    -------
    dict
        ``General`` (date and time of the start, UTC) and ``Acquisition_instrument.TEM`` with
        ``beam_energy`` (keV), ``beam_current`` (nA, as last measured on the screen),
        ``convergence_angle`` (mrad), ``camera_length`` (mm), ``magnification``, ``microscope`` and
        ``Stage`` (degrees, m).
    """
    optics, stage = metadata.get("Optics", {}), metadata.get("Stage", {})
    currents = (_number(optics, name) for name in ("ScreenCurrent", "LastMeasuredScreenCurrent"))
    microscope = {
        "beam_energy": _number(optics, "AccelerationVoltage", 1e-3),
        # During the acquisition the screen is up, and only the last measurement is known.
        "beam_current": next((1e9 * current for current in currents if current), None),
        "convergence_angle": _number(optics, "BeamConvergence", 1e3),
        "camera_length": _number(optics, "CameraLength", 1e3),
        "magnification": _number(
            metadata.get("CustomProperties", {}).get("StemMagnification", {}), "value"
        ),
        "microscope": metadata.get("Instrument", {}).get("InstrumentClass"),
    }
    position = stage.get("Position", {})
    place = {"tilt_alpha": _degrees(stage, "AlphaTilt"), "tilt_beta": _degrees(stage, "BetaTilt")}
    place |= {name: _number(position, name) for name in "xyz"}
    microscope["Stage"] = _known(place)
    general = {}
    acquisition = metadata.get("Acquisition", {})
    started = _number(acquisition.get("AcquisitionStartDatetime", {}), "DateTime")
    if started:
        moment = datetime.fromtimestamp(started, tz=UTC)
        general = {
            "date": moment.date().isoformat(),
            "time": moment.time().isoformat(),
            "time_zone": "UTC",
        }
    return {"General": general, "Acquisition_instrument": {"TEM": _known(microscope)}}


def detector_of(metadata: Mapping) -> tuple[str, dict]:
    """Return the name of the detector of an image and its entry, empty if it is not listed."""
    result = metadata.get("BinaryResult", {})
    name = result.get("Detector", "")
    listed = [
        entry
        for entry in metadata.get("Detectors", {}).values()
        if entry.get("DetectorName") == name
    ]
    return name, dict(listed[0]) if listed else {}


def image_detector(metadata: Mapping) -> dict:
    """Return name, collection angles (mrad) and pedestal (image unit) of an image's detector."""
    name, entry = detector_of(metadata)
    angles, result = entry.get("CollectionAngleRange", {}), metadata.get("BinaryResult", {})
    inner, outer = _number(angles, "begin", 1e3), _number(angles, "end", 1e3)
    scale, offset = _number(result, "IntensityScale"), _number(result, "IntensityOffset")
    known = {"name": name, "pedestal": -offset / scale if scale and offset is not None else None}
    if outer:
        known |= {"inner_angle": inner, "outer_angle": outer}
    return _known(known)


def eds_detectors(
    metadata: Sequence[Mapping], before: Sequence[Mapping] | None = None, share: float = 1.0
) -> dict:
    """
    Translate the metadata of the EDS detectors whose streams are summed.

    Parameters
    ----------
    metadata : sequence of mapping
        Of each stream at the last frame used; live and real time accumulate from frame 0.
    before : sequence of mapping, optional
        The same at the frame before the first used.
    share : float, default 1.0
        Fraction of the times that belongs to the frames used, where they are not stored frame by
        frame.

    Returns
    -------
    dict
        ``live_time`` and ``real_time`` (s, of the map, mean of the detectors), ``elevation_angle``
        and ``azimuth_angle`` (degrees, only if all detectors share them), ``solid_angle`` (sr,
        which Velox states for all of them together), and ``detectors`` with lists of the same for
        each detector.
    """
    entries = [detector_of(one)[1] for one in metadata]
    earlier = [{}] * len(entries) if before is None else [detector_of(one)[1] for one in before]
    lists: dict[str, list] = {
        "names": [entry.get("DetectorName", "") for entry in entries],
        "azimuth_angles": [_degrees(entry, "AzimuthAngle") for entry in entries],
        "elevation_angles": [_degrees(entry, "ElevationAngle") for entry in entries],
    }
    for name, key in (("live_times", "LiveTime"), ("real_times", "RealTime")):
        pairs = [
            (_number(entry, key), _number(first, key) or 0.0)
            for entry, first in zip(entries, earlier, strict=True)
        ]
        lists[name] = [None if end is None else share * (end - start) for end, start in pairs]
    lists = {name: values for name, values in lists.items() if values and None not in values}
    known: dict = {"detectors": lists}
    for name in ("live_time", "real_time"):
        if f"{name}s" in lists:
            known[name] = math.fsum(lists[f"{name}s"]) / len(entries)
    for name in ("azimuth_angle", "elevation_angle"):
        values = lists.get(f"{name}s", [])
        if values and max(values) - min(values) < 0.1:
            known[name] = values[0]
    known["solid_angle"] = (
        max((_number(entry, "CollectionAngle") or 0.0 for entry in entries), default=0.0) or None
    )
    return _known(known)


def energy_scale(metadata: Mapping) -> tuple[float, float] | None:
    """Return offset and channel width in keV of the EDS detector of a stream, or None."""
    entry = detector_of(metadata)[1]
    offset, width = _number(entry, "OffsetEnergy", 1e-3), _number(entry, "Dispersion", 1e-3)
    return None if offset is None or not width else (offset, width)


def pixel_size(metadata: Mapping) -> tuple[float, float] | None:
    """Return the size of a pixel (y, x) in nm, or None."""
    result = metadata.get("BinaryResult", {})
    size = result.get("PixelSize", {})
    height, width = _number(size, "height", 1e9), _number(size, "width", 1e9)
    if height is None or width is None or result.get("PixelUnitX") != "m":
        return None
    return height, width


def scan_shape(metadata: Mapping) -> tuple[int, int] | None:
    """Return the number of pixels (y, x) of the scanned part of the field of view, or None."""
    scan = metadata.get("Scan", {})
    size, area = scan.get("ScanSize", {}), scan.get("ScanArea", {})
    sides = []
    for name, begin, end in (("height", "top", "bottom"), ("width", "left", "right")):
        pixels, first, last = _number(size, name), _number(area, begin), _number(area, end)
        if pixels is None or first is None or last is None:
            return None
        sides.append(round(pixels * (last - first)))
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _number(tree, name: str, factor: float = 1.0) -> float | None:
    try:
        value = float(tree[name])
    except (KeyError, TypeError, ValueError):
        return None
    return factor * value if math.isfinite(value) else None


def _degrees(tree, name: str) -> float | None:
    value = _number(tree, name)
    # Velox writes radians; stages are read to far less than four decimals of a degree.
    return None if value is None else round(math.degrees(value), 4)


def _known(tree: dict) -> dict:
    return {name: value for name, value in tree.items() if value is not None and value != {}}
