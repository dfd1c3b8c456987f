# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading microscope files into plain records: one file per tilt, or one file that is a whole stack."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..notices import warn
from .records import Record, record_of
from .tilts import beside, read_tilt_file

__all__ = ["expand_files", "read_records", "read_stack", "read_tilt_files"]

#: RosettaSciIO reader of each extension. A format that needs nothing else is one more entry.
READERS = {
    ".bcf": "rsciio.bruker",
    ".mrc": "rsciio.mrc",
    ".st": "rsciio.mrc",
    ".ali": "rsciio.mrc",
    ".hspy": "rsciio.hspy",
    ".zspy": "rsciio.zspy",
}
# Readers that end the whole process on a damaged file (compiled, without bounds checks): tried in a process of their own first.
_UNSAFE = (".bcf",)
_TRIAL = """
import sys
reader = __import__(sys.argv[1], fromlist=["file_reader"])
print("ready", flush=True)
for path in sys.argv[2:]:
    try:
        reader.file_reader(path)
        print("readable", flush=True)
    except BaseException as error:
        print(type(error).__name__, *str(error).splitlines()[:1], flush=True)
"""


def expand_files(files: str | Path | Iterable[str | Path]) -> list[Path]:
    """
    List the files that a pattern, a folder, a path or a list of them stands for.

    Parameters
    ----------
    files : path-like or iterable of path-like
        A glob pattern or a folder is sorted naturally (2 before 10, -10 before -5); a list keeps its order.

    Returns
    -------
    list of Path

    Raises
    ------
    FileNotFoundError
        Where nothing is found.
    ValueError
        For a folder with files of several formats.
    TypeError
        For what is no path.
    """
    if isinstance(files, str | Path):
        return _expand_one(files)
    if not isinstance(files, Iterable):
        raise TypeError(f"files={files!r} must be a pattern, a folder, a file or a list of them")
    found = [path for item in files for path in _expand_one(item)]
    if not found:
        raise FileNotFoundError("the list of files is empty; pass a pattern, a folder, a file or a list of them")
    return found


def read_records(path: str | Path, *, lazy: bool = False) -> list[Record]:
    """
    Read all data sets of one file.

    Parameters
    ----------
    path : path-like
        Bruker .bcf, MRC (.mrc, .st, .ali), .hspy or .zspy.
    lazy : bool, default False
        Return dask arrays where the reader has them (images of .bcf files are always in memory).

    Returns
    -------
    list of Record

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For an unknown extension, and a file that cannot be read; it is named.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path.name}: unknown extension {path.suffix!r}; these can be read: {', '.join(READERS)}")
    damaged = _damaged([path])
    if damaged:
        raise ValueError(damaged[path])
    return _read(path, lazy)


def read_tilt_files(
    files: str | Path | Iterable[str | Path],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    lazy: bool = True,
    image: str | None = None,
) -> dict[str, list[Record]]:
    """
    Read the files of a tilt series, one per tilt, and check that they belong together.

    Parameters
    ----------
    files : path-like or iterable of path-like
        See `expand_files`.
    on_error : {"raise", "skip"}, default "raise"
        What to do with a file that cannot be read: stop, or leave it out with a warning that names it.
    lazy : bool, default True
        Spectrum images are dask arrays that are read when they are computed, so that one tilt at a time is in memory.
    image : str, optional
        Title (or a part of it) of the image to take where a file has several; by default the one called HAADF.

    Returns
    -------
    dict
        ``{"images": [Record, ...], "spectra": [Record, ...]}``, in the order of the files; a list is empty if no file has any.

    Raises
    ------
    ValueError
        For damaged files, files of different shape, pixel size, energy axis or elements, several images to choose from, and
        files of which some lack what the others have. The files are named.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'skip'")
    paths = expand_files(files)
    damaged = _damaged([path for path in paths if path.suffix.lower() in READERS])
    images, spectra = {}, {}
    for path in paths:
        try:
            if path in damaged:
                raise ValueError(damaged[path])
            records = _read(path, lazy)
        except (OSError, ValueError) as error:
            if on_error == "raise":
                raise
            warn(f"left out: {error}")
            continue
        if (found := _only([r for r in records if r.kind == "image"], image, path)) is not None:
            images[path] = found
        if (found := _only([r for r in records if r.kind == "spectrum_image"], None, path)) is not None:
            spectra[path] = found
    if not images and not spectra:
        raise ValueError(f"none of the {len(paths)} files has an image or a spectrum image: {_listed(paths)}")
    for name, found in (("image", images), ("spectrum image", spectra)):
        missing = [path for path in (images | spectra) if path not in found]
        if found and missing:
            raise ValueError(f"these files have no {name}, unlike the others: {_listed(missing)}")
        _check_alike(name, list(found.values()))
    return {"images": list(images.values()), "spectra": list(spectra.values())}


def read_stack(path: str | Path, *, stack_axes: str | None = None, n_tilts: int | None = None, lazy: bool = False) -> Record:
    """
    Read a single file that is a whole tilt series.

    Parameters
    ----------
    path : path-like
        See `read_records`.
    stack_axes : str, optional
        Names of the axes of the array in the file, slowest first: ``"tilt y x"`` (images), ``"y tilt x"`` (sinograms). By
        default the axis called tilt or, failing this, the only one with as many entries as there are tilts.
    n_tilts : int, optional
        Number of tilts; by default that of the .rawtlt or .tlt file of the same name. If nothing is known the first axis is
        that of the tilts.
    lazy : bool, default False
        Return a dask array.

    Returns
    -------
    Record
        Of the kind "image_stack", (tilt, y, x), or "spectrum_image_stack", (tilt, y, x, energy).

    Raises
    ------
    ValueError
        For a file without one stack, and where the axes do not fit the number of tilts.
    """
    path = Path(path)
    stacks = [record for record in read_records(path, lazy=lazy) if record.kind.endswith("stack")]
    if len(stacks) != 1:
        raise ValueError(f"{path.name} has {len(stacks)} stacks of images; expected exactly one, with the axes (tilt, y, x)")
    (record,) = stacks
    names = ["tilt", "y", "x"]
    if stack_axes is not None:
        given = stack_axes.replace(",", " ").split()
        if sorted(given) != sorted(names):
            raise ValueError(f'stack_axes={stack_axes!r} must name the axes of the file in their order, e.g. "tilt y x"')
        place = [given.index(name) for name in names]
    else:
        tilt = _tilt_axis(record, n_tilts)
        place = [tilt, *(axis for axis in range(3) if axis != tilt)]
    if record.energy_axis is not None:
        place.append(3)
    axes = [dict(record.axes[i], name=name) for i, name in zip(place, [*names, "energy"], strict=False)]
    return replace(record, data=record.data.transpose(place), axes=axes)


def _expand_one(item):
    text = str(item)
    path = Path(text).expanduser()
    if path.is_dir() and path.suffix.lower() not in READERS:
        found = sorted((p for p in path.iterdir() if p.suffix.lower() in READERS), key=_natural)
        formats = sorted({p.suffix.lower() for p in found})
        if len(formats) > 1:
            raise ValueError(
                f"the folder {path} has files of several formats ({', '.join(formats)}); pass a pattern like '*.bcf'"
            )
        if not found:
            raise FileNotFoundError(f"no microscope files in the folder {path}; these can be read: {', '.join(READERS)}")
        return found
    if path.exists():
        return [path]
    if not glob.has_magic(text):
        raise FileNotFoundError(f"there is no file or folder {path}")
    found = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)
    if not found:
        raise FileNotFoundError(f"no file matches {text!r} (looked from {Path.cwd()})")
    return found


def _natural(path):
    """Sort key in which numbers count as numbers; a minus is a sign at the start of the name or after a separator."""
    parts = re.split(r"((?:(?<![A-Za-z0-9])-)?\d+(?:\.\d+)?)", path.stem)
    return str(path.parent), [(float(part), "") if i % 2 else (-np.inf, part) for i, part in enumerate(parts)], path.suffix


def _listed(paths, limit=8):
    names = [Path(path).name for path in paths]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _damaged(paths: Sequence[Path]) -> dict[Path, str]:
    """Return an error message for each file whose reader would fail or end the process; the files of one reader in one go."""
    damaged = {}
    for suffix in _UNSAFE:
        waiting = [path for path in paths if path.suffix.lower() == suffix]
        while waiting:
            answers = _tried(READERS[suffix], waiting)
            if answers is None:
                break
            for path, answer in zip(waiting, answers, strict=False):
                if answer != "readable":
                    damaged[path] = f"{path.name} cannot be read, it is damaged or truncated ({answer})"
            waiting = waiting[len(answers) :]
            if waiting:
                damaged[waiting[0]] = f"{waiting[0].name} cannot be read, it is damaged or truncated (the reader crashed)"
                waiting = waiting[1:]
    return damaged


def _tried(reader: str, paths: Sequence[Path]) -> list[str] | None:
    """Return what a process of its own says of each file, up to a crash; None where no such process can be started."""
    command = [sys.executable or "python", "-c", _TRIAL, reader, *map(str, paths)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        answers = subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout.splitlines()
    except OSError:
        return None
    # An interpreter inside another program may not start, or lack the reader: then the files are read without a trial.
    return answers[1 : len(paths) + 1] if answers[:1] == ["ready"] else None


def _read(path: Path, lazy: bool) -> list[Record]:
    try:
        reader = import_module(READERS[path.suffix.lower()])
    except KeyError:
        raise ValueError(f"{path.name}: unknown extension {path.suffix!r}; these can be read: {', '.join(READERS)}") from None
    try:
        contents = reader.file_reader(str(path), lazy=lazy)
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path.name} cannot be read, it is damaged or truncated ({reason})") from error
    return [record_of(path, content) for content in contents]


def _only(found: list[Record], wanted: str | None, path: Path) -> Record | None:
    if wanted is not None:
        chosen = [record for record in found if wanted.lower() in record.title.lower()]
        if found and not chosen:
            raise ValueError(f"{path.name} has no image called {wanted!r}, only {[record.title for record in found]}")
    elif len(found) > 1:
        chosen = [record for record in found if "haadf" in record.title.lower()] or found
    else:
        chosen = found
    if len(chosen) > 1:
        titles = [record.title for record in chosen]
        raise ValueError(f"{path.name} has several {chosen[0].kind.replace('_', ' ')}s, {titles}; name one with image='...'")
    return chosen[0] if chosen else None


def _check_alike(name: str, records: list[Record]) -> None:
    """Raise an error that names the files which differ from most others."""
    properties: list[tuple[str, Callable[[Record], Any]]] = [
        ("shape", lambda record: tuple(record.data.shape)),
        ("pixel size (nm)", lambda record: record.pixel_size and tuple(float(f"{side:.4g}") for side in record.pixel_size)),
        ("energy axis", _rounded_energy_axis),
        ("beam energy (keV)", lambda record: record.beam_energy),
        ("elements", lambda record: record.elements),
    ]
    for what, value in properties:
        groups: dict[Any, list[Path]] = {}
        for record in records:
            groups.setdefault(value(record), []).append(record.path)
        if len(groups) > 1:
            ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
            told = "; ".join(f"{key}: {_listed(paths)}" for key, paths in ranked)
            raise ValueError(f"the {name}s have not all the same {what} ({told}); leave out the files of the other kind")


def _rounded_energy_axis(record):
    """Describe the energy axis to a tenth of a channel at both ends."""
    axis = record.energy_axis
    if axis is None:
        return None
    last = axis["offset"] + axis["scale"] * (axis["size"] - 1)
    step = 10 ** np.round(np.log10(axis["scale"])) / 10
    return f"{step * round(axis['offset'] / step):.4g} to {step * round(last / step):.5g} keV in {axis['size']} channels"


def _tilt_axis(record: Record, n_tilts: int | None) -> int:
    named = [i for i, axis in enumerate(record.axes) if str(axis.get("name")).lower() == "tilt"]
    if named:
        return named[0]
    listed = beside(record.path)
    if n_tilts is None and listed is not None:
        n_tilts = read_tilt_file(listed).size
    if n_tilts is None:
        return 0
    shape = tuple(record.data.shape[:3])
    fitting = [i for i, size in enumerate(shape) if size == n_tilts]
    if not fitting:
        raise ValueError(f"{record.path.name} has the shape {shape}, no axis of which fits the {n_tilts} tilts")
    # Images, tilt first, are the rule where several axes would fit.
    return fitting[0]
