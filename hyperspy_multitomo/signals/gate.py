# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign data become plain: arrays with their axes in order, in nm, degrees and keV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperspy_multitomo.acquisition.axes import (
    check_sides,
    checked_values,
    in_order,
    pixel_sides,
    role_of,
)
from hyperspy_multitomo.acquisition.files.io import read_stack
from hyperspy_multitomo.acquisition.tilts import (
    is_tilt_file,
    order_tilts,
    read_tilt_file,
    resolve_tilts,
)
from hyperspy_multitomo.acquisition.units import unit_of
from hyperspy_multitomo.signals.metadata.missing_chunks import check_file_of


@dataclass(frozen=True)
class Images:
    """Images of a series as they come in.

    Data (tilt, y, x), tilts in degrees, sides and offsets (y, x) of the pixels in nm.
    """

    data: Any
    tilts: np.ndarray
    sides: tuple[float, float] | tuple[None, None]
    offsets: tuple[float, float]
    metadata: dict

    @property
    def scan(self) -> np.ndarray:
        """Sides and offsets (y, x) of the pixels in nm, NaN where they are not known."""
        return np.array([self.sides, self.offsets], dtype=float)


def images_of(images, tilts, pixel_size, what: str = "the images") -> Images:
    """Return the projections of an array, a signal or the path of a stack, in their order.

    A single image (y, x) with a single tilt is a series of one view. `tilts` are in degrees, or
    what `resolve_tilts` takes.

    Raises
    ------
    TypeError, ValueError
        Where the data have not three dimensions or are no plain numbers, axes are uneven or in
        units that they cannot have, or no tilts are known.
    """
    metadata: dict = {}
    stored, paths, n_tilts = None, (), count_tilts(tilts)
    if isinstance(images, str | Path):
        stack = read_stack(images, n_tilts=n_tilts, tilts_of=name_of(tilts))
        stored, paths, metadata, data = stack.tilts, [stack.path], stack.metadata, stack.data
        axes = {axis["name"]: axis for axis in stack.axes}
    else:
        if hasattr(images, "axes_manager"):
            described, data, metadata = (
                axes_of(images),
                images.data,
                images.metadata.as_dictionary(),
            )
        else:
            data, described = checked_values(images, what), ()
        if data.ndim == 2 and n_tilts in (None, 1):
            data, described = data[None], [{"name": "tilt"}, *described] if described else ()
        data, axes = in_order(data, described, ("tilt", "y", "x"), what=what, n_tilts=n_tilts)
        stored = axes["tilt"]["axis"]
    sides, offsets = sides_of(pixel_size), (0.0, 0.0)
    if pixel_size is None:
        sides = pixel_sides(axes, what) or sides
        # Files put the origin anywhere; a signal may have been cropped.
        offsets = (0.0, 0.0) if paths else (axes["y"]["offset"], axes["x"]["offset"])
    metadata = {
        name: metadata[name] for name in ("Acquisition_instrument", "Sample") if name in metadata
    }
    resolved = resolve_tilts(tilts, paths, stored, n=data.shape[0])
    return Images(data, resolved, sides, offsets, metadata)


@dataclass(frozen=True)
class SpectrumImages:
    """Spectra of a series as they come in.

    Data (tilt, y, x, energy), tilts in degrees, ascending, and energies (energy,) in keV, rising.
    `acquisition_order` is the place of each tilt in the signal; `sides` and `offsets` (y, x) of
    pixels are in nm.
    """

    data: Any
    tilts: np.ndarray
    energy: np.ndarray
    acquisition_order: np.ndarray
    sides: tuple[float, float] | tuple[None, None]
    offsets: tuple[float, float]


def spectra_of(spectra) -> SpectrumImages:
    """Return the spectra of a signal whose axes mean x, y and tilt, in any order.

    Raises
    ------
    ValueError
        For other axes, energies without a unit, uneven steps, and tilts that cannot be those of a
        series.
    """
    described = axes_of(spectra)
    known = [role_of(axis) for axis in described]
    if sorted(map(str, known)) not in (
        sorted(("tilt", "y", "x", last)) for last in ("energy", "None")
    ):
        raise ValueError(
            "spectra with the axes (x, y, tilt | Energy) are needed; these have "
            f"{', '.join(str(axis['name']) for axis in described)}. "
            "Name the axes so; a single view has them when it is loaded with "
            "load_tilt_series(file, tilts=[0])"
        )
    energy = next(
        axis for axis, role in zip(described, known, strict=True) if role not in ("tilt", "y", "x")
    )
    if unit_of(energy["units"]).kind != "energy":
        raise ValueError(
            f"the axis {energy['name']} has the units {energy['units']}, expected eV or keV; set "
            "them: "
            "spectra.axes_manager.signal_axes[0].units = 'eV'"
        )
    data, axes = in_order(spectra.data, described, ("tilt", "y", "x", "energy"), what="the spectra")
    tilts = resolve_tilts(None, (), axes["tilt"]["axis"], n=data.shape[0])
    order = order_tilts(tilts)
    steps, sides = axes["energy"], pixel_sides(axes, "the spectra") or (None, None)
    return SpectrumImages(
        data=order.merge(data),
        tilts=order.tilts,
        energy=steps["offset"] + steps["scale"] * np.arange(steps["size"]),
        acquisition_order=order.acquisition_order,
        sides=sides,
        offsets=(axes["y"]["offset"], axes["x"]["offset"]),
    )


def plain(values, roles: Sequence[str], what: str):
    """Return an array, or the data of a signal with its axes in the order of `roles`.

    NumPy or dask, without a mask.

    The axes of a signal go by their names, those of an array by their places.
    """
    if not hasattr(values, "axes_manager"):
        return checked_values(values, what)
    return in_order(values.data, axes_of(values), roles, what=what)[0]


def volumes_of(volumes: Sequence, names: Sequence[str]) -> tuple[list, dict | None]:
    """Return volumes (z, y, x), arrays or signals, as arrays, and the axes of signals in nm.

    Raises
    ------
    ValueError
        For volumes that are masked, of other axes, or calibrated in different ways.
    """
    arrays, known, roles = [], {}, ("z", "y", "x")
    for volume, name in zip(volumes, names, strict=True):
        what = f"the volume of {name}"
        if not hasattr(volume, "axes_manager"):
            arrays.append(checked_values(volume, what))
            if arrays[-1].ndim != len(roles):
                raise ValueError(
                    f"{what} has the shape {arrays[-1].shape}; expected (z, y, x), in each of the "
                    "volumes"
                )
            continue
        data, axes = in_order(volume.data, axes_of(volume), roles, what=what)
        arrays.append(data)
        sides = pixel_sides(axes, what, roles)
        if sides is not None:
            known[name] = {
                role: (side, axes[role]["offset"]) for role, side in zip(roles, sides, strict=True)
            }
    first = next(iter(known), None)
    for name, axes in known.items():
        if not np.allclose(list(axes.values()), list(known[first].values()), rtol=1e-4):
            raise ValueError(
                f"the volumes of {first} and {name} have other voxels or positions; calibrate them "
                "alike"
            )
    return arrays, known.get(first)


def axes_of(signal) -> list[dict]:
    """Return a signal's axes in the order of its array, for `acquisition.axes.in_order`.

    Raises
    ------
    OSError
        Where the file that the signal was loaded from lacks chunks of its arrays.
    """
    check_file_of(signal)
    return [
        {"name": axis.name, "units": axis.units, "size": axis.size}
        | (
            {"scale": axis.scale, "offset": axis.offset}
            if axis.is_uniform
            else {"axis": np.array(axis.axis)}
        )
        for axis in signal.axes_manager._axes
    ]


def count_tilts(tilts) -> int | None:
    """Return how many tilts an array or a file has, or None where that is not known."""
    if tilts is None or hasattr(tilts, "pattern"):
        return None
    if isinstance(tilts, str | Path):
        return read_tilt_file(tilts).size if is_tilt_file(tilts) else None
    return np.size(tilts)


def name_of(tilts) -> str | None:
    """Return the name of the file that lists the tilts, or None for tilts from elsewhere."""
    return Path(tilts).name if isinstance(tilts, str | Path) and is_tilt_file(tilts) else None


def sides_of(pixel_size) -> tuple[float, float] | tuple[None, None]:
    """Return the sides (y, x) of a pixel in nm, from one length or two; None if not known."""
    if pixel_size is None:
        return None, None
    try:
        sides = np.broadcast_to(np.asarray(pixel_size, dtype=float), (2,))
    except (TypeError, ValueError):
        sides = np.array([np.nan])
    if not (np.isfinite(sides).all() and (sides > 0).all()):
        raise ValueError(
            f"pixel_size={pixel_size!r} must be a positive length in nm, or two, (y, x), or None "
            "where it is not known"
        )
    check_sides(dict(zip("yx", sides.tolist(), strict=True)), "the images (pixel_size=)")
    return float(sides[0]), float(sides[1])
