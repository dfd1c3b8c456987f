# SPDX-License-Identifier: GPL-3.0-or-later
"""Read one microscope file to its records, by the reader of its format."""

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

from hyperspy_multitomo.acquisition.files.bruker import with_checked_spectra
from hyperspy_multitomo.acquisition.files.lazy_files import naming_file
from hyperspy_multitomo.acquisition.files.mdoc import Mdoc, mdoc_beside, read_mdoc
from hyperspy_multitomo.acquisition.files.mrc import read_mrc_header, with_sign
from hyperspy_multitomo.acquisition.files.records import Record, record_of
from hyperspy_multitomo.acquisition.files.stored_arrays import check_arrays
from hyperspy_multitomo.acquisition.files.tiff_ends import check_tiff
from hyperspy_multitomo.acquisition.files.velox import is_velox, read_velox

__all__ = ["EXTENSIONS", "damaged_files", "naming_errors", "read_records"]

#: RosettaSciIO reader of each extension. A format that needs no more is one more entry.
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
# Velox files may have an extension of HDF5; in folders such files are skipped.
_HDF5 = (".h5", ".hdf5")
#: Extensions of files without frames.
FRAMELESS = tuple(suffix for suffix in READERS if suffix != ".emd")
# Optional dependencies of RosettaSciIO, and what to install for them.
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
        Return dask arrays where the reader supports it (images of .bcf files are always in memory).
    frames : (int, int), optional
        Velox: first frame, from 0, and the one after the last; by default all are summed.
    register_frames : bool, default False
        Velox: correct the drift of the frames measured on the image, see `velox.read_velox`.
    image : str, optional
        The image by which frames are registered, where there are several.
    signed_bytes : bool, optional
        MRC of bytes (mode 0): whether they are signed. By default as the header says: IMOD's stamp
        and flag, else minimum and maximum of the data if they fit one reading only. Else they are
        taken as signed, with a warning.

    Returns
    -------
    list of Record

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For an unknown extension, a file that is empty, unreadable, shorter than its header says or
        lacks chunks of its arrays, and for frames of a file without them. Names the file.
    ModuleNotFoundError
        Where a package is missing that the format needs; names it.

    Warns
    -----
    UserWarning
        For an MRC file longer than its header says, and for bytes of unknown sign.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    _check_extension(path)
    damaged = damaged_files([path])
    if damaged:
        raise ValueError(damaged[path])
    return read_checked(
        path,
        lazy=lazy,
        frames=frames,
        register_frames=register_frames,
        image=image,
        signed_bytes=signed_bytes,
    )


def has_known_extension(path: Path) -> bool:
    """Return whether files with this extension can be read."""
    return path.suffix.lower() in (*EXTENSIONS, *_HDF5)


def _check_extension(path: Path) -> None:
    if not has_known_extension(path):
        raise ValueError(
            f"{path.name}: unknown extension {path.suffix!r}; these can be read: "
            f"{', '.join(EXTENSIONS)}"
        )


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
    """Return how many bytes a .bcf file lacks of its blocks; its reader returns zeros for them."""
    if not path.is_file():
        return 0
    with open(path, "rb") as file:
        head = file.read(0x14C)
    if not head.startswith(b"AAMVHFSS") or len(head) < 0x14C:
        return 0
    (block,) = struct.unpack_from("<I", head, 0x128)
    (blocks,) = struct.unpack_from("<I", head, 0x148)
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
    """Read a file that has passed `damaged_files`; see `read_records`."""
    suffix = path.suffix.lower()
    _check_extension(path)
    with naming_errors(path, FileNotFoundError):
        velox = suffix in (".emd", *_HDF5) and is_velox(path)
    if velox:
        with naming_errors(path, ValueError):
            records = read_velox(
                path, lazy=lazy, frames=frames, register=register_frames, image=image
            )
        return [replace(record, data=naming_file(record.data, path)) for record in records]
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
    records = _read_with_rosettasciio(path, lazy)
    if header is not None and header.mode == 0:
        records = [
            replace(record, data=with_sign(record.data, header, signed_bytes)) for record in records
        ]
    return [
        _completed(replace(record, data=naming_file(record.data, path)))
        for record in _without_pictures(records)
    ]


def _read_with_rosettasciio(path: Path, lazy: bool) -> list[Record]:
    """Read a file by RosettaSciIO, and add or check what its reader leaves out."""
    suffix = path.suffix.lower()
    with naming_errors(path, FileNotFoundError), _quiet():
        contents = import_module(READERS[suffix]).file_reader(
            str(path), lazy=lazy or suffix == ".bcf"
        )
        if suffix == ".bcf":
            contents = with_checked_spectra(path, contents, lazy)
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
    return records


def _without_pictures(records: list[Record]) -> list[Record]:
    """Leave out colour pictures (previews, screenshots) unless the file has nothing else."""
    plain = [record for record in records if record.data.dtype.names is None]
    return plain or records


def _add_imagej_unit(contents: list[dict]) -> None:
    """Add the length unit in ImageJ's description to the axes; RosettaSciIO knows microns only."""
    for content in contents:
        unit = re.search(
            r"^unit=(.+)$",
            str(content["original_metadata"].get("ImageDescription", "")),
            re.MULTILINE,
        )
        if unit is None:
            continue
        for axis in content["axes"][-2:]:
            # ImageJ escapes characters beyond ASCII.
            written = unit[1].strip().replace("\\u00B5", "µ").replace("\\u00C5", "Å")
            axis["units"] = axis.get("units") or written


def _add_positions(path: Path, contents: list[dict]) -> None:
    """Add the positions along each axis of an NCEM EMD file to the axes.

    They may be uneven, and RosettaSciIO makes even steps of them.
    """
    import h5py

    with h5py.File(path, "r") as file:
        groups: list[h5py.Group] = []
        file.visititems(
            lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None
        )
        for content in contents:
            title = content.get("metadata", {}).get("General", {}).get("title")
            named = [group for group in groups if group.name.rpartition("/")[2] == title]
            for axis in content["axes"] if len(named) == 1 else ():
                for name, item in named[0].items():
                    is_dimension = (
                        name.startswith("dim")
                        and isinstance(item, h5py.Dataset)
                        and item.shape == (axis["size"],)
                    )
                    if (
                        is_dimension
                        and item.dtype.kind in "iuf"
                        and _decoded(item.attrs.get("name")) == axis["name"]
                    ):
                        axis["axis"] = item[()].astype(float)


def _decoded(value) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _completed(record: Record) -> Record:
    """Add the .mdoc beside an image file, and the file's name where there is no title."""
    mdoc = (
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
    if mdoc is not None:
        record = _with_mdoc(record, read_mdoc(mdoc))
    return record if record.title else replace(record, title=record.path.stem)


def _with_mdoc(record: Record, mdoc: Mdoc) -> Record:
    """Return a record with the calibration and the metadata of its .mdoc."""
    for axis in record.axes[-2:]:
        if mdoc.pixel_size and axis.get("units") != "nm":
            axis.update(scale=mdoc.pixel_size, offset=0.0, units="nm")
    metadata = copy.deepcopy(record.metadata)
    microscope = metadata.setdefault("Acquisition_instrument", {}).setdefault("TEM", {})
    if mdoc.beam_energy is not None:
        microscope["beam_energy"] = mdoc.beam_energy
    stage = microscope.setdefault("Stage", {})
    if mdoc.tilt_axis_angle is not None:
        stage["tilt_axis_angle"] = mdoc.tilt_axis_angle
    if not record.kind.endswith("stack") and mdoc.tilts.size == 1:
        stage["tilt_alpha"] = float(mdoc.tilts[0])
    general = metadata.setdefault("General", {})
    # The tilt axis of a stack is identified later: any of its axes may fit.
    if mdoc.times.size in (record.data.shape[:3] if record.kind.endswith("stack") else (1,)):
        general["times"] = [str(time) for time in mdoc.times]
    return replace(record, metadata=metadata)


@contextmanager
def naming_errors(path: Path, passing: type[Exception]) -> Iterator[None]:
    """Turn errors into ones that name the file: of a missing package, or of a damaged file.

    Errors of the type `passing` pass, as they name the file already.
    """
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
        # JSON and Unicode errors are ValueErrors, too, but do not name the file.
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
    """Silence readers: what they warn about is checked here, or does not concern a tilt series."""
    logger = logging.getLogger("rsciio")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
