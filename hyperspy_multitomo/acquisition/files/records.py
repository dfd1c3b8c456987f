# SPDX-License-Identifier: GPL-3.0-or-later
"""A data set of a microscope file as a plain record: array, calibrated axes and metadata."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperspy_multitomo.acquisition.axes import in_order, positions_of
from hyperspy_multitomo.acquisition.units import unit_of

__all__ = ["Record", "in_projection_order", "record_of"]

# Formats that store the names of axes; the readers of others make them up.
_NAMED = (".hspy", ".zspy", ".emd")


@dataclass(frozen=True, eq=False)
class Record:
    """
    One data set of a file, calibrated in nm and keV (EDS) or eV (EELS).

    Attributes
    ----------
    path : Path
        The file of the data set.
    kind : {"image", "spectrum_image", "image_stack", "spectrum_image_stack", "map", "other"}
        The first axis of a stack is the tilt. A "map" was computed by the microscope's software and
        is no measured image.
    title : str
    data : ndarray or dask array
        (y, x), (y, x, energy), (tilt, y, x) or (tilt, y, x, energy), of the dtype of the file.
    axes : list of dict
        In the order of the data; lengths in nm, energies in keV (EDS) or eV (EELS), angles as
        ``axis`` in degrees. An uncalibrated axis has the scale 1 and no units.
    metadata, original_metadata : dict
    spectroscopy : {"EDS", "EELS"} or None
        Kind of the spectra.
    detector : str
        Name of the detector, where the file has one besides the title.
    """

    path: Path
    kind: str
    title: str
    data: Any
    axes: list[dict]
    metadata: dict = field(default_factory=dict, repr=False)
    original_metadata: dict = field(default_factory=dict, repr=False)
    spectroscopy: str | None = None
    detector: str = ""

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Size of a pixel (y, x) in nm, or None where the file has none."""
        last = self.axes[:-1] if self.spectroscopy else self.axes
        sides = [
            float(axis["scale"])
            for axis in last[-2:]
            if axis.get("units") == "nm" and axis.get("scale") is not None
        ]
        return (sides[0], sides[1]) if len(sides) == 2 else None

    @property
    def energy_axis(self) -> dict | None:
        """Energy axis of a spectrum image (EDS in keV, EELS in eV), or None."""
        return self.axes[-1] if self.spectroscopy else None

    @property
    def energy(self) -> np.ndarray | None:
        """Energy of each channel, shape (energy,), in keV (EDS) or eV (EELS), or None."""
        axis = self.energy_axis
        return None if axis is None else axis["offset"] + axis["scale"] * np.arange(axis["size"])

    @property
    def beam_energy(self) -> float | None:
        """In keV, or None where the file has none."""
        value = self.metadata.get("Acquisition_instrument", {}).get("TEM", {}).get("beam_energy")
        return None if value is None else float(value)

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements listed in the file, sorted."""
        return tuple(sorted(self.metadata.get("Sample", {}).get("elements", ())))

    @property
    def times(self) -> np.ndarray:
        """Time of acquisition of each projection, shape (tilt,), datetime64[s].

        Not-a-time where the file has none.
        """
        listed = self.metadata.get("General", {}).get("times")
        size = self.data.shape[0] if self.kind.endswith("stack") else 1
        if listed is not None and np.size(listed) == size:
            return np.array(listed, dtype="datetime64[s]").reshape(size)
        general = self.metadata.get("General", {})
        date, time = general.get("date"), general.get("time")
        unknown = np.full(size, np.datetime64("NaT", "s"))
        # A date without its time does not give the order within a day.
        if size > 1 or not (date and time):
            return unknown
        try:
            return np.full(size, np.datetime64(f"{date}T{str(time)[:8]}", "s"))
        except ValueError:
            return unknown

    @property
    def tilts(self) -> np.ndarray:
        """Tilt of each projection in degrees, shape (tilt,), NaN where the file has none.

        The length is 1 unless the record is a stack.
        """
        microscope = self.metadata.get("Acquisition_instrument", {}).get("TEM", {})
        stored = microscope.get("Stage", {}).get("tilt_alpha", microscope.get("tilt_stage"))
        if not self.kind.endswith("stack"):
            return np.array([np.nan if stored is None else float(stored)])
        size = self.data.shape[0]
        for listed in (self.axes[0].get("axis"), stored):
            if listed is not None and np.size(listed) == size:
                return np.array(listed, dtype=float)
        return np.full(size, np.nan)


def record_of(path: Path, content: dict) -> Record:
    """Return a RosettaSciIO reader's dictionary for one data set as a record, energy axis last."""
    metadata = _mapped_metadata(content)
    spectroscopy, position = _spectral(
        content["axes"], metadata.get("Signal", {}).get("signal_type", "")
    )
    data = content["data"]
    order = [i for i in range(len(content["axes"])) if i != position] + (
        [] if position is None else [position]
    )
    if order != sorted(order):
        data = data.transpose(order)
    axes = [
        _calibrated_axis(content["axes"][i] | {"size": content["data"].shape[i]}, spectroscopy)
        for i in order
    ]
    kinds = (
        {2: "spectrum_image", 3: "spectrum_image_stack"}
        if spectroscopy
        else {2: "image", 3: "image_stack"}
    )
    return Record(
        path=path,
        kind="other"
        if np.dtype(data.dtype).kind not in "iufb"
        else kinds.get(len(axes) - bool(spectroscopy), "other"),
        title=metadata.get("General", {}).get("title") or "",
        data=data,
        axes=axes,
        metadata=metadata,
        original_metadata=content.get("original_metadata", {}),
        spectroscopy=spectroscopy,
    )


def in_projection_order(
    record: Record, stack_axes: str | None = None, n_tilts: int | None = None
) -> Record:
    """
    Return a record with its axes in the order (y, x) or (tilt, y, x), then energy for spectra.

    Parameters
    ----------
    record : Record
    stack_axes : str, optional
        Roles of a stack's axes in the file, slowest first, e.g. ``"y tilt x"``.
    n_tilts : int, optional
        Number of a stack's tilts, if known.

    Raises
    ------
    ValueError
        As `axes.in_order`, and for `stack_axes` that do not name all axes.
    """
    roles = ["tilt", "y", "x"] if record.kind.endswith("stack") else ["y", "x"]
    spectral = ["energy"] if record.spectroscopy else []
    stated = None
    if stack_axes is not None and len(roles) == 3:
        stated = stack_axes.replace(",", " ").split()
        if sorted(stated) != sorted(roles):
            raise ValueError(
                f"stack_axes={stack_axes!r} must name the axes of the file in their order, e.g. "
                '"tilt y x"'
            )
        stated += spectral
    data, axes = in_order(
        record.data,
        record.axes,
        roles + spectral,
        what=record.path.name,
        named=record.path.suffix.lower() in _NAMED,
        n_tilts=n_tilts,
        stated=stated,
    )
    if spectral:
        axes["energy"] = _calibrated_axis(
            axes["energy"] | {"name": record.axes[-1].get("name")}, record.spectroscopy
        )
    return replace(record, data=data, axes=list(axes.values()))


def _spectral(axes: list[dict], signal_type: str) -> tuple[str | None, int | None]:
    """Return "EDS" or "EELS" and the index of the energy axis, or None and None."""
    spectral = [i for i, axis in enumerate(axes) if unit_of(axis.get("units")).kind == "energy"]
    if not spectral:
        return None, None
    position = spectral[-1]
    is_eels = "EELS" in signal_type.upper() or "loss" in str(axes[position].get("name")).lower()
    return "EELS" if is_eels and not signal_type.upper().startswith("EDS") else "EDS", position


def _mapped_metadata(content: dict) -> dict:
    """Return the metadata with the entries that the reader maps there, such as the stage tilt.

    The mapping is the reader's list of entries of the original metadata with their targets.
    """
    metadata = copy.deepcopy(content.get("metadata", {}))
    for source, (target, function) in (content.get("mapping") or {}).items():
        value = content.get("original_metadata", {})
        for name in source.split("."):
            value = _entry(value, name) if isinstance(value, Mapping) else None
        if value is None:
            continue
        if source.startswith("fei_header."):
            value = _of_images(value, content["data"])
        *nodes, leaf = target.split(".")
        branch = metadata
        for node in nodes:
            branch = branch.setdefault(node, {})
        value = value if function is None else function(value)
        # Gatan writes a beam current of 0 where none was measured.
        if value is not None and not (leaf == "beam_current" and not value):
            branch.setdefault(leaf, value)
    return metadata


def _of_images(values, data):
    """Return the entries of FEI's extended MRC header, of 1024 images, for those in the file."""
    values = np.ravel(values)
    return float(values[0]) if data.ndim < 3 else values[: data.shape[0]].astype(float)


def _entry(tree: Mapping, name: str):
    """Return the entry of a name in which the reader may have replaced spaces by underscores."""
    if name in tree:
        return tree[name]
    return next(
        (
            value
            for key, value in tree.items()
            if str(key).replace(" ", "_") == name.replace(" ", "_")
        ),
        None,
    )


def _calibrated_axis(axis: dict, spectroscopy: str | None) -> dict:
    axis = {key: value for key, value in axis.items() if key != "index_in_array"}
    unit = unit_of(axis.get("units"))
    if unit.kind == "angle" and (positions := positions_of(axis, axis["size"])) is not None:
        return {
            "name": axis.get("name"),
            "size": axis["size"],
            "units": "°",
            "axis": positions * unit.factor,
        }
    if unit.kind in ("length", "energy") and axis.get("scale"):
        units, factor = ("nm", unit.factor) if unit.kind == "length" else ("keV", unit.factor)
        if unit.kind == "energy" and spectroscopy == "EELS":
            units, factor = "eV", 1e3 * unit.factor
        axis.update(
            scale=axis["scale"] * factor, offset=axis.get("offset", 0.0) * factor, units=units
        )
    elif "scale" in axis and not axis["scale"]:
        # MRC headers without a pixel size say 0 nm.
        axis.update(scale=1.0, offset=0.0, units=None)
    return axis
