# SPDX-License-Identifier: GPL-3.0-or-later
"""One microscope file to its records, by the reader of its format."""

from __future__ import annotations

import copy
import json
import logging
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from hyperspy_multitomo.acquisition.files.bruker import with_own_spectra
from hyperspy_multitomo.acquisition.files.lazy_files import naming_file
from hyperspy_multitomo.acquisition.files.mdoc import Mdoc, mdoc_beside, read_mdoc
from hyperspy_multitomo.acquisition.files.mrc import read_mrc_header, with_sign
from hyperspy_multitomo.acquisition.files.records import Record, record_of
from hyperspy_multitomo.acquisition.files.stored_arrays import check_arrays
from hyperspy_multitomo.acquisition.files.tiff_ends import check_tiff
from hyperspy_multitomo.acquisition.files.velox import is_velox, read_velox

__all__ = ["EXTENSIONS", "damaged_files", "naming_errors", "read_records"]

#: RosettaSciIO reader of each extension. A format that needs nothing else is one more entry.
READERS = {
    ".bcf": "rsciio.bruker",
    ".emd": "rsciio.emd",
    ".dm3": "rsciio.digitalmicrograph",
    ".dm4": "rsciio.digitalmicrograph",
    ".mrc": "rsciio.mrc",
    ".st": "rsciio.mrc",
    ".ali": "rsciio.mrc",
    ".tif": "rsciio.tiff",
    ".tiff": "rsciio.tiff",
    ".hspy": "rsciio.hspy",
    ".zspy": "rsciio.zspy",
}
EXTENSIONS = tuple(READERS)
# A Velox file may have the extension of HDF5; in a folder such files are passed over.
_HDF5 = (".h5", ".hdf5")
#: Extensions of files that have no frames to choose from.
FRAMELESS = tuple(suffix for suffix in READERS if suffix != ".emd")
# What RosettaSciIO needs besides itself, and how to get it.
_EXTRAS = {
    "sparse": "rosettasciio[eds-stream]",
    "tifffile": "rosettasciio[tiff]",
    "zarr": "rosettasciio[zspy]",
}


def read_records(
    path: str | Path,
    *,
    lazy: bool = False,
    frames: tuple[int, int] | None = None,
    register_frames: bool = False,
    image: str | None = None,
    signed_bytes: bool | None = None,
) -> list[Record]:
    """
    Read all data sets of one file.

    Parameters
    ----------
    path : path-like
        Bruker .bcf, Velox .emd (also .h5 and .hdf5), Gatan .dm3 and .dm4, MRC (.mrc, .st, .ali,
        with the .mdoc beside it), TIFF, .hspy or .zspy.
    lazy : bool, default False
        Return dask arrays where the reader has them (images of .bcf files are always in memory).
    frames : (int, int), optional
        Velox: first frame, from 0, and the one after the last; by default all are summed.
    register_frames : bool, default False
        Velox: move the frames back by the drift measured on the image, see `velox.read_velox`.
    image : str, optional
        The image by which frames are registered, where there are several.
    signed_bytes : bool, optional
        MRC of bytes (mode 0): whether they are signed. By default what the header says: IMOD's
        stamp and flag, else minimum and maximum of the data where they fit one reading only; else
        they are taken as signed, with a warning.

    Returns
    -------
    list of Record

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For an unknown extension, an empty file, a file that cannot be read, is shorter than its
        header says or lacks chunks of its arrays, frames of a file without; it is named.
    ModuleNotFoundError
        Where a package is missing that the format needs; it is named.

    Warns
    -----
    UserWarning
        Of an MRC file that is longer than its header says, and of bytes whose sign is not known.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not known(path):
        raise ValueError(
            f"{path.name}: unknown extension {path.suffix!r}; these can be read: "
            f"{', '.join(EXTENSIONS)}"
        )
    damaged = damaged_files([path])
    if damaged:
        raise ValueError(damaged[path])
    options = {
        "frames": frames,
        "register_frames": register_frames,
        "image": image,
        "signed_bytes": signed_bytes,
    }
    return read_checked(path, lazy=lazy, **options)


def known(path: Path) -> bool:
    """Say whether files with this extension can be read."""
    return path.suffix.lower() in (*EXTENSIONS, *_HDF5)


def damaged_files(paths: Sequence[Path]) -> dict[Path, str]:
    """Return an error message for each file that is empty or shorter than it says."""
    damaged = {
        path: f"{path.name} is empty (0 bytes); leave it out"
        for path in paths
        if path.is_file() and not path.stat().st_size
    }
    for path in (path for path in paths if path not in damaged and path.suffix.lower() == ".bcf"):
        if lacking := _lacking_bcf(path):
            damaged[path] = (
                f"{path.name} cannot be read, it is damaged or truncated ({lacking} bytes shorter "
                "than its header says)"
            )
    return damaged


def _lacking_bcf(path: Path) -> int:
    """Return how many bytes a .bcf file has less than its blocks take; its reader makes zeros of them."""
    if not path.is_file():
        return 0
    with open(path, "rb") as file:
        head = file.read(0x14C)
    if not head.startswith(b"AAMVHFSS") or len(head) < 0x14C:
        return 0
    (block,), (blocks,) = (
        struct.unpack_from("<I", head, 0x128),
        struct.unpack_from("<I", head, 0x148),
    )
    return max(0, 0x118 + block * blocks - path.stat().st_size)


def read_checked(
    path: Path,
    *,
    lazy: bool,
    frames: tuple[int, int] | None = None,
    register_frames: bool = False,
    image: str | None = None,
    signed_bytes: bool | None = None,
) -> list[Record]:
    """Read a file that `damaged_files` has nothing against; see `read_records`."""
    suffix = path.suffix.lower()
    if not known(path):
        raise ValueError(
            f"{path.name}: unknown extension {path.suffix!r}; these can be read: "
            f"{', '.join(EXTENSIONS)}"
        )
    with naming_errors(path, FileNotFoundError):
        velox = suffix in (".emd", *_HDF5) and is_velox(path)
    if velox:
        with naming_errors(path, ValueError):
            found = read_velox(
                path, lazy=lazy, frames=frames, register=register_frames, image=image
            )
        return [replace(record, data=naming_file(record.data, path)) for record in found]
    if frames is not None or register_frames:
        raise ValueError(f"{path.name} is no Velox file: it has no frames to choose or to register")
    if suffix in _HDF5:
        raise ValueError(
            f"{path.name} is no Velox file; save its arrays with HyperSpy as .hspy to read them"
        )
    header = read_mrc_header(path) if READERS[suffix] == "rsciio.mrc" else None
    if header is not None:
        header.check_length()
    try:
        check_arrays(path)
    except OSError as error:
        raise ValueError(str(error)) from None
    with naming_errors(path, FileNotFoundError), _quiet():
        contents = import_module(READERS[suffix]).file_reader(
            str(path), lazy=lazy or suffix == ".bcf"
        )
        if suffix == ".bcf":
            contents = with_own_spectra(path, contents, lazy)
        if READERS[suffix] == "rsciio.tiff":
            check_tiff(path)
            _add_imagej_unit(contents)
        if suffix == ".emd":
            _add_positions(path, contents)
        records = [record_of(path, content) for content in contents]
    if suffix == ".emd" and not records:
        raise ValueError(
            f"{path.name} is an HDF5 file in which neither Velox nor NCEM data are found; leave it "
            "out"
        )
    if header is not None and header.mode == 0:
        records = [
            replace(record, data=with_sign(record.data, header, signed_bytes)) for record in records
        ]
    return [
        _completed(replace(record, data=naming_file(record.data, path)))
        for record in _without_pictures(records)
    ]


def _without_pictures(records: list[Record]) -> list[Record]:
    """Leave out the colour pictures of a file, previews and screenshots, that has other data beside them."""
    plain = [record for record in records if record.data.dtype.names is None]
    return plain or records


def _add_imagej_unit(contents: list[dict]) -> None:
    """Put the unit of length that ImageJ writes into the description at the axes; RosettaSciIO knows microns only."""
    for content in contents:
        unit = re.search(
            r"^unit=(.+)$",
            str(content["original_metadata"].get("ImageDescription", "")),
            re.MULTILINE,
        )
        for axis in content["axes"][-2:] if unit else ():
            # ImageJ escapes what is not ASCII: \\u00B5m, \\u00C5.
            axis["units"] = axis.get("units") or unit[1].strip().replace("\\u00B5", "µ").replace(
                "\\u00C5", "Å"
            )


def _add_positions(path: Path, contents: list[dict]) -> None:
    """Put the positions along each axis of an NCEM EMD, stored one by one, at the axes: RosettaSciIO makes even steps of them."""
    import h5py

    with h5py.File(path, "r") as file:
        groups: list[h5py.Group] = []
        file.visititems(
            lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None
        )
        for content in contents:
            title = content.get("metadata", {}).get("General", {}).get("title")
            own = [group for group in groups if group.name.rpartition("/")[2] == title]
            for axis in content["axes"] if len(own) == 1 else ():
                for name, item in own[0].items():
                    is_dimension = (
                        name.startswith("dim")
                        and isinstance(item, h5py.Dataset)
                        and item.shape == (axis["size"],)
                    )
                    if (
                        is_dimension
                        and item.dtype.kind in "iuf"
                        and _text(item.attrs.get("name")) == axis["name"]
                    ):
                        axis["axis"] = item[()].astype(float)


def _text(value) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _completed(record: Record) -> Record:
    """Add what stands beside the file: the .mdoc of an image file; and its name, where it has no title."""
    listed = (
        mdoc_beside(record.path)
        if READERS[record.path.suffix.lower()] in ("rsciio.mrc", "rsciio.tiff")
        else None
    )
    if record.data.dtype.names is not None:
        raise ValueError(
            f"{record.path.name} is a colour picture, not the signal of a detector; leave it out"
        )
    kind = str(record.metadata.get("Signal", {}).get("signal_type", ""))
    if record.spectroscopy is None and kind.upper().startswith(("EDS", "EELS")):
        raise ValueError(
            f"the axis of the {kind} energies in {record.path.name} has no units; save it again "
            "with eV or keV"
        )
    if listed is not None:
        record = _with_mdoc(record, read_mdoc(listed))
    return record if record.title else replace(record, title=record.path.stem)


def _with_mdoc(record: Record, told: Mdoc) -> Record:
    microscope = {"beam_energy": told.beam_energy}
    stage = {"tilt_axis_angle": told.tilt_axis_angle}
    general = {}
    if not record.kind.endswith("stack") and told.tilts.size == 1:
        stage["tilt_alpha"] = float(told.tilts[0])
    # Which axis of a stack is that of the tilts is found later.
    if told.times.size in (record.data.shape[:3] if record.kind.endswith("stack") else (1,)):
        general["times"] = [str(time) for time in told.times]
    for axis in record.axes[-2:]:
        if told.pixel_size and axis.get("units") != "nm":
            axis.update(scale=told.pixel_size, offset=0.0, units="nm")
    metadata = copy.deepcopy(record.metadata)
    known_of = metadata.setdefault("Acquisition_instrument", {}).setdefault("TEM", {})
    known_of.update({name: value for name, value in microscope.items() if value is not None})
    known_of.setdefault("Stage", {}).update(
        {name: value for name, value in stage.items() if value is not None}
    )
    metadata.setdefault("General", {}).update(general)
    return replace(record, metadata=metadata)


@contextmanager
def naming_errors(path: Path, passing: type[Exception]) -> Iterator[None]:
    """Let errors name the file: a package that is missing, or a damaged file; those of the type `passing` do so themselves."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = error.name or next((name for name in _EXTRAS if name in str(error)), str(error))
        remedy = _EXTRAS.get(package, package)
        raise ModuleNotFoundError(
            f"{path.name} needs the package {package!r}, which is not installed; pip install "
            f"'{remedy}'",
            name=package,
        ) from error
    except Exception as error:
        # What JSON and Unicode raise is a ValueError, too, but names no file.
        if isinstance(error, passing) and not isinstance(
            error, json.JSONDecodeError | UnicodeError
        ):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"{path.name} cannot be read, it is damaged or truncated, or not what its name says "
            f"({reason})"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep readers from talking: what they warn of is checked here, or does not concern a tilt series."""
    logger = logging.getLogger("rsciio")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
