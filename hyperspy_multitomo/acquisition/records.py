# SPDX-License-Identifier: GPL-3.0-or-later
"""A data set of a microscope file as a plain record: array, calibrated axes and metadata."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Record", "record_of"]

_NANOMETRES = {"m": 1e9, "mm": 1e6, "µm": 1e3, "μm": 1e3, "um": 1e3, "micron": 1e3, "nm": 1.0, "Å": 0.1, "A": 0.1, "pm": 1e-3}
_KILOELECTRONVOLTS = {"keV": 1.0, "eV": 1e-3}
_DEGREES = ("°", "deg", "degree", "degrees")


@dataclass(frozen=True, eq=False)
class Record:
    """
    One data set of a file, calibrated in nm and keV.

    Attributes
    ----------
    path : Path
        The file it came from.
    kind : {"image", "spectrum_image", "image_stack", "spectrum_image_stack", "other"}
        Stacks have the tilt as their first axis.
    title : str
    data : ndarray or dask array
        (y, x), (y, x, energy), (tilt, y, x) or (tilt, y, x, energy), of the dtype of the file.
    axes : list of dict
        As RosettaSciIO gives them; lengths in nm, energies in keV. An axis without calibration has the scale 1 and no units.
    metadata, original_metadata : dict
    """

    path: Path
    kind: str
    title: str
    data: Any
    axes: list[dict]
    metadata: dict = field(default_factory=dict, repr=False)
    original_metadata: dict = field(default_factory=dict, repr=False)

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Size of a pixel (y, x) in nm, or None where the file does not say."""
        last = self.axes[:-1] if self.energy_axis else self.axes
        sides = [axis["scale"] if axis.get("units") == "nm" and "scale" in axis else None for axis in last[-2:]]
        return None if None in sides or len(sides) < 2 else (float(sides[0]), float(sides[1]))

    @property
    def energy_axis(self) -> dict | None:
        """Axis of the energies (keV) of a spectrum image, or None."""
        return self.axes[-1] if self.axes and self.axes[-1].get("units") == "keV" else None

    @property
    def energy(self) -> np.ndarray | None:
        """Energy of each channel in keV, shape (energy,), or None."""
        axis = self.energy_axis
        return None if axis is None else axis["offset"] + axis["scale"] * np.arange(axis["size"])

    @property
    def beam_energy(self) -> float | None:
        """In keV, or None where the file does not say."""
        value = self.metadata.get("Acquisition_instrument", {}).get("TEM", {}).get("beam_energy")
        return None if value is None else float(value)

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements that the file lists, sorted."""
        return tuple(sorted(self.metadata.get("Sample", {}).get("elements", ())))

    @property
    def tilts(self) -> np.ndarray:
        """Tilt of each projection in degrees, shape (tilt,), of length 1 if it is no stack; NaN where the file does not say."""
        microscope = self.metadata.get("Acquisition_instrument", {}).get("TEM", {})
        stored = microscope.get("Stage", {}).get("tilt_alpha", microscope.get("tilt_stage"))
        if not self.kind.endswith("stack"):
            return np.array([np.nan if stored is None else float(stored)])
        first, size = self.axes[0], self.data.shape[0]
        header = self.original_metadata.get("fei_header", {})
        for listed in (first.get("axis"), header.get("a_tilt"), stored):
            if listed is not None and np.size(listed) == size:
                return np.array(listed, dtype=float)
        if str(first.get("units") or "").lower() in _DEGREES and "scale" in first:
            return first["offset"] + first["scale"] * np.arange(size, dtype=float)
        return np.full(size, np.nan)


def record_of(path: Path, content: dict) -> Record:
    """Make a record of what a RosettaSciIO reader returned for one data set."""
    axes = [_calibrated(axis) for axis in content["axes"]]
    metadata = _with_mapped(content)
    spectral = bool(axes) and axes[-1].get("units") == "keV"
    spatial = len(axes) - spectral
    kinds = {2: "spectrum_image", 3: "spectrum_image_stack"} if spectral else {2: "image", 3: "image_stack"}
    title = metadata.get("General", {}).get("title", "")
    return Record(
        path=path,
        kind=kinds.get(spatial, "other"),
        title=title,
        data=content["data"],
        axes=axes,
        metadata=metadata,
        original_metadata=content.get("original_metadata", {}),
    )


def _with_mapped(content: dict) -> dict:
    """Return the metadata with what the reader says belongs there from the original metadata, such as the tilt of the stage."""
    metadata = copy.deepcopy(content.get("metadata", {}))
    for source, (target, function) in (content.get("mapping") or {}).items():
        value = content.get("original_metadata", {})
        for name in source.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            continue
        *nodes, leaf = target.split(".")
        branch = metadata
        for node in nodes:
            branch = branch.setdefault(node, {})
        branch.setdefault(leaf, value if function is None else function(value))
    return metadata


def _calibrated(axis: dict) -> dict:
    axis = {key: value for key, value in axis.items() if key != "index_in_array"}
    units = str(axis.get("units") or "").strip()
    for table, unit in ((_NANOMETRES, "nm"), (_KILOELECTRONVOLTS, "keV")):
        if units in table and axis.get("scale"):
            axis.update(scale=axis["scale"] * table[units], offset=axis.get("offset", 0.0) * table[units], units=unit)
            return axis
    if "scale" in axis and not axis["scale"]:
        # MRC headers without a pixel size say 0 nm.
        axis.update(scale=1.0, offset=0.0, units=None)
    return axis
