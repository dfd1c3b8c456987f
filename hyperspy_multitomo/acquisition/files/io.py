# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the files of a tilt series, one per tilt or a whole stack, to matching records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hyperspy_multitomo.acquisition.files.file_lists import expand_files, listed
from hyperspy_multitomo.acquisition.files.pick_streams import (
    choose_image,
    choose_spectra,
    is_called,
)
from hyperspy_multitomo.acquisition.files.readers import (
    FRAMELESS,
    damaged_files,
    has_known_extension,
    read_checked,
    read_records,
)
from hyperspy_multitomo.acquisition.files.records import Record, in_projection_order
from hyperspy_multitomo.acquisition.tilts import beside, read_tilt_file
from hyperspy_multitomo.machine.notices import warn

__all__ = ["expand_files", "read_records", "read_stack", "read_tilt_files"]


def read_tilt_files(
    files: str | Path | Iterable[str | Path],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    lazy: bool = True,
    image: str | None = None,
    spectra: Literal["EDS", "EELS"] | None = None,
    energy_loss: float | None = None,
    frames: tuple[int, int] | None = None,
    register_frames: bool = False,
    stack_axes: str | None = None,
    n_tilts: int | None = None,
    tilts_of: str | None = None,
    signed_bytes: bool | None = None,
) -> dict[str, list[Record]]:
    """
    Read the files of a tilt series and check that they belong together.

    Parameters
    ----------
    files : path-like or iterable of path-like
        See `expand_files`. One file per tilt with image, spectra or both; separate files of images
        and of spectra; or a stack of each.
    on_error : {"raise", "skip"}, default "raise"
        What to do with an unreadable file: stop, or leave it out with a warning that names it.
    lazy : bool, default True
        Spectrum images are dask arrays, read when computed, so that one tilt at a time is in
        memory.
    image : str, optional
        Title or detector, or a part of either, of the image to take where a file has several; by
        default HAADF.
    spectra : {"EDS", "EELS"}, optional
        Which spectra to take; by default EDS where any file has them, else EELS, and EELS with
        `energy_loss`.
    energy_loss : float, optional
        Energy loss in eV that the EELS spectra have to include, where a file has several ranges.
    frames, register_frames
        For Velox files, see `read_records`.
    stack_axes, n_tilts, tilts_of
        For stacks, see `read_stack`.
    signed_bytes : bool, optional
        For MRC files, see `read_records`.

    Returns
    -------
    dict
        ``{"images": [Record, ...], "spectra": [Record, ...]}``, in the order of the files; a list
        is empty if no file has any, and has one record if it is a stack.

    Raises
    ------
    ValueError
        For damaged files, files of different shape, pixel size, energy axis or beam energy, several
        images to choose from, images or spectra that only some files have, and spectra that no file
        has. Names the files.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'skip'")
    choice = _checked_spectra_choice(spectra, energy_loss)
    paths = expand_files(files)
    options = {
        "lazy": lazy,
        "frames": frames,
        "register_frames": register_frames,
        "image": image,
        "signed_bytes": signed_bytes,
    }
    read = _read_all(paths, on_error, options)
    wanted = _spectroscopy(read, choice, paths)
    images: dict[Path, Record] = {}
    cubes: dict[Path, Record] = {}
    for path, records in read.items():
        stacks = [
            _stack(record, stack_axes, n_tilts, tilts_of)
            for record in records
            if record.kind.endswith("stack")
        ]
        cube = choose_spectra(records, wanted, energy_loss, path)
        shape = None if cube is None else cube.data.shape[:2]
        single = choose_image(records, image, shape, path)
        image_stacks = [stack for stack in stacks if stack.spectroscopy is None]
        _check_image_name(path, image_stacks, image)
        chosen = _only("image", path, image_stacks, single)
        if chosen is not None:
            images[path] = chosen
        cube_stacks = [stack for stack in stacks if stack.spectroscopy == wanted]
        chosen = _only("spectrum image", path, cube_stacks, cube)
        if chosen is not None:
            cubes[path] = chosen
    foreign = [path for path, records in read.items() if path not in images | cubes and records]
    if foreign and (images or cubes):
        raise ValueError(
            "these files have neither an image nor spectra that could be one of the series: "
            f"{listed(foreign)}; leave them out, and load a series that was saved by this package "
            "alone"
        )
    return _checked_series(paths, images, cubes)


def _checked_spectra_choice(spectra: str | None, energy_loss: float | None) -> str | None:
    """Return the choice of spectra after a check; an energy loss chooses EELS."""
    if spectra not in (None, "EDS", "EELS"):
        raise ValueError(
            f"spectra={spectra!r} must be 'EDS', 'EELS' or None (EDS where there are any, else "
            "EELS)"
        )
    if energy_loss is None:
        return spectra
    if spectra == "EDS":
        raise ValueError(
            f"energy_loss={energy_loss!r} goes with EELS spectra; leave it out to take "
            "spectra='EDS'"
        )
    return "EELS"


def _spectroscopy(
    read: dict[Path, list[Record]], spectra: str | None, paths: Sequence[Path]
) -> str:
    """Return the kind of spectra to take: the chosen one, else EDS where any file has them."""
    kinds = {
        record.spectroscopy or ""
        for records in read.values()
        for record in records
        if record.kind.startswith("spectrum_image")
    }
    if spectra is None:
        return "EDS" if "EDS" in kinds else "EELS"
    if spectra not in kinds:
        other = f", only {', '.join(sorted(kinds))}" if kinds else ""
        raise ValueError(f"no file has {spectra} spectra{other}: {listed(paths)}")
    return spectra


def _check_image_name(path: Path, stacks: Sequence[Record], image: str | None) -> None:
    """Refuse a file whose stacks of images have another name than the chosen image."""
    if stacks and image is not None and not any(is_called(stack, image) for stack in stacks):
        titles = [stack.title for stack in stacks]
        raise ValueError(
            f"{path.name} has no image called {image!r}, only {titles}; leave out image=, or name "
            "one of them"
        )


def _only(name: str, path: Path, stacks: Sequence[Record], single: Record | None) -> Record | None:
    """Return the only stack or single projection of a file, or None; refuse several."""
    if len(stacks) + (single is not None) > 1:
        raise ValueError(
            f"{path.name} has several stacks of {name}s, or stacks and single ones; save one of "
            "them alone"
        )
    if stacks:
        return stacks[0]
    return None if single is None else in_projection_order(single)


def _read_all(paths: list[Path], on_error: str, options: dict) -> dict[Path, list[Record]]:
    """Read every file; with `on_error` "skip" leave out the unreadable ones."""
    damaged = damaged_files([path for path in paths if has_known_extension(path)])
    # Frames are chosen in Velox files only; other files of the series have none.
    framed = [path for path in paths if path.suffix.lower() not in FRAMELESS]
    plain = options | {"frames": None, "register_frames": False}
    read = {}
    for path in paths:
        try:
            if path in damaged:
                raise ValueError(damaged[path])
            read[path] = read_checked(path, **(plain if framed and path not in framed else options))
        except (OSError, ValueError) as error:
            if on_error == "raise":
                raise
            warn(f"left out: {error}")
    return read


def _checked_series(
    paths: list[Path], images: dict[Path, Record], spectra: dict[Path, Record]
) -> dict[str, list[Record]]:
    """Check that all tilts have image and spectra alike, of equal shape and calibration."""
    if not images and not spectra:
        raise ValueError(
            f"none of the {len(paths)} files has an image or a spectrum image: {listed(paths)}"
        )
    # Images and spectra in separate files are paired by their tilts later; else each file has both.
    separate = not set(images) & set(spectra)
    for name, records in (("image", images), ("spectrum image", spectra)):
        missing = [path for path in (images | spectra) if path not in records]
        if records and missing and not separate:
            raise ValueError(f"these files have no {name}, unlike the others: {listed(missing)}")
        if len(records) > 1 and any(record.kind.endswith("stack") for record in records.values()):
            stacks = [path for path, record in records.items() if record.kind.endswith("stack")]
            raise ValueError(
                f"a stack of {name}s is a whole tilt series, and one file is enough; found "
                f"{listed(stacks)} among others"
            )
        _check_alike(name, list(records.values()))
    energies: dict[float, list[Path]] = {}
    for path, record in [*images.items(), *spectra.items()]:
        if record.beam_energy is not None:
            energies.setdefault(round(record.beam_energy, 3), []).append(path)
    if len(energies) > 1:
        groups = "; ".join(
            f"{energy:g} keV: {listed(dict.fromkeys(files))}" for energy, files in energies.items()
        )
        raise ValueError(
            f"the files have not all the same beam energy ({groups}); leave out the files of the "
            "other kind"
        )
    elements = {record.elements for record in spectra.values()}
    if len(elements) > 1:
        lists = "; ".join(", ".join(some) or "none" for some in sorted(elements))
        warn(f"the files of spectra list different elements ({lists}); all of them are kept")
    return {"images": list(images.values()), "spectra": list(spectra.values())}


def read_stack(
    path: str | Path,
    *,
    stack_axes: str | None = None,
    n_tilts: int | None = None,
    tilts_of: str | None = None,
    lazy: bool = False,
    signed_bytes: bool | None = None,
) -> Record:
    """
    Read a single file that is a whole tilt series.

    Parameters
    ----------
    path : path-like
        See `read_records`.
    stack_axes : str, optional
        Names of the axes of the array in the file, slowest first: ``"tilt y x"`` (images) or
        ``"y tilt x"`` (sinograms). By default the tilt axis is the one called tilt, else the only
        one of length `n_tilts`.
    n_tilts : int, optional
        Number of tilts; by default that of the .rawtlt, .tlt or .mdoc file of the same name. If
        nothing is known the first axis is the tilt axis.
    tilts_of : str, optional
        The file that `n_tilts` is from, for error messages.
    lazy : bool, default False
        Return a dask array.
    signed_bytes : bool, optional
        For MRC files, see `read_records`.

    Returns
    -------
    Record
        Of the kind "image_stack", (tilt, y, x), or "spectrum_image_stack", (tilt, y, x, energy).

    Raises
    ------
    ValueError
        For a file with no stack or several, and where the axes do not fit the number of tilts.
    """
    path = Path(path)
    stacks = [
        record
        for record in read_records(path, lazy=lazy, signed_bytes=signed_bytes)
        if record.kind.endswith("stack")
    ]
    if len(stacks) != 1:
        raise ValueError(
            f"{path.name} has {len(stacks)} stacks of images; expected exactly one, with the axes "
            "(tilt, y, x)"
        )
    return _stack(stacks[0], stack_axes, n_tilts, tilts_of)


def _stack(
    record: Record, stack_axes: str | None, n_tilts: int | None, tilts_of: str | None
) -> Record:
    """Return a stack with its axes in the order (tilt, y, x[, energy])."""
    named_by = beside(record.path)
    if n_tilts is None and named_by is not None:
        n_tilts, tilts_of = read_tilt_file(named_by).size, named_by.name
    stack = in_projection_order(record, stack_axes, n_tilts)
    if stack_axes is None and n_tilts is not None and stack.data.shape[0] != n_tilts:
        shape = tuple(record.data.shape[:3])
        where = f" of {tilts_of}" if tilts_of else " given"
        problem = (
            "no axis of which fits"
            if n_tilts not in shape
            else "and the axis that is that of the tilts does not fit"
        )
        raise ValueError(
            f"{record.path.name} has the shape {shape}, {problem} the {n_tilts} tilts{where}; pass "
            "one tilt for each image"
            + (', or the order of the axes, e.g. stack_axes="y tilt x"' if n_tilts in shape else "")
        )
    return stack


def _check_alike(name: str, records: list[Record]) -> None:
    """Raise an error where properties of the records differ; it names the files by property."""
    properties: list[tuple[str, Callable[[Record], Any]]] = [
        ("shape", lambda record: tuple(record.data.shape)),
        (
            "pixel size (nm)",
            lambda record: (
                record.pixel_size and tuple(float(f"{side:.4g}") for side in record.pixel_size)
            ),
        ),
        ("energy axis", _rounded_energy_axis),
        ("beam energy (keV)", lambda record: record.beam_energy),
    ]
    for what, value in properties:
        groups: dict[Any, list[Path]] = {}
        for record in records:
            groups.setdefault(value(record), []).append(record.path)
        if len(groups) > 1:
            ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
            by_value = "; ".join(f"{key}: {listed(paths)}" for key, paths in ranked)
            raise ValueError(
                f"the {name}s have not all the same {what} ({by_value}); leave out the files of "
                "the other kind"
            )


def _rounded_energy_axis(record: Record) -> str | None:
    """Describe the energy axis, its ends rounded to about a tenth of a channel."""
    axis = record.energy_axis
    if axis is None:
        return None
    last = axis["offset"] + axis["scale"] * (axis["size"] - 1)
    step = 10 ** np.round(np.log10(axis["scale"])) / 10
    first, last = step * round(axis["offset"] / step), step * round(last / step)
    return f"{first:.4g} to {last:.5g} {axis['units']} in {axis['size']} channels"
