# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment files as text: our JSON and CSV, shifts made in tomviz, and IMOD's transforms.

Text is turned into the fields of an alignment (`Alignment.as_dict`) and back; the class itself is
not needed here.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.same_tilt import SAME_TILT, SAME_VIEW
from hyperspy_multitomo.acquisition.tilts import check_tilts, read_tilt_file
from hyperspy_multitomo.machine.writing import save_atomically

FORMAT, VERSION = "hyperspy_multitomo alignment", 1
# Columns of a table, one value per tilt; in those of ERRORS a cell may be empty (not known).
SHIFTS = ("tilt", "across", "along", "drift_x", "drift_y")
ERRORS = ("across_error", "along_error", "residual")
# Comments of a table, one value for all tilts; those of TOTALS may be empty.
SETTINGS = ("axis_offset", "rotation", "pixel_size")
TOTALS = ("axis_offset_error", "rotation_error")
# Those of the specimen, but for its shape.
_SPECIMEN = "specimen_"
OF_SPECIMEN = ("specimen_depth", "specimen_inclination")
UNITS = (
    "px, added to the position across (x) and along (y) the tilt axis; degrees; "
    "pixel_size in nm; drift in px per scan line"
)
# Largest deviation of the elements of an IMOD matrix from those of a rotation, and of a view's
# rotation from the mean of all views (degrees). IMOD prints seven decimals, so that both are far
# above rounding; tests/test_alignment_files.py holds both sides.
PURE, SAME_ROTATION = 0.01, 0.1
SIX = "expected IMOD's six numbers A11 A12 A21 A22 DX DY per view"
IN_IMOD = (
    "magnification, skew or rotation per view cannot be held by an Alignment; solve without them "
    "in IMOD (tiltalign: RotOption "
    "-1, MagOption 0, SkewOption 0), or apply the file there (newstack -xform) and load the "
    "aligned stack"
)

_Codec = TypeVar("_Codec", bound=Callable)


def write(fields: Mapping[str, Any], path: str | Path, overwrite: bool | None = None) -> Path:
    """Write the fields of an alignment to a file, completely or not at all.

    Parameters
    ----------
    fields : mapping
        As from `Alignment.as_dict`, and always with `slow_axis`.
    path : path-like
        Ends in .json, .csv or .xf.
    overwrite : bool, optional
        True replaces an existing file.

    Returns
    -------
    Path
        The file.
    """
    path = Path(path)
    text = _by_suffix({".json": _json_of, ".csv": _table_of, ".xf": _transforms_of}, path)(fields)
    return save_atomically(
        lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"),
        path,
        overwrite,
    )


def read(path: Path) -> dict[str, Any]:
    """Return the fields of an alignment, as `Alignment.from_dict` takes them, from a file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of shifts {path}")
    parse = _by_suffix({".json": _from_json, ".csv": _from_table, ".xf": _from_transforms}, path)
    with named_errors(path):
        return parse(path.read_text(encoding="utf-8-sig"))


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Name the file in the errors of what is read from it."""
    try:
        yield
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not a text file in UTF-8; in a spreadsheet, save it as 'CSV UTF-8'"
        ) from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from None


def tilts_of_shifts(
    path: Path, stored: np.ndarray | None, count: int, tilts: ArrayLike | str | Path | None
) -> np.ndarray | None:
    """Return the tilts of the shifts in a file: its own, or those that the caller adds to it.

    Parameters
    ----------
    path : Path
        The file. Beside an .xf the .tlt or .rawtlt of the same name lists its tilts.
    stored : numpy.ndarray (tilt,) or None
        Degrees, where the file has them.
    count : int
        Number of shifts in the file.
    tilts : array_like (tilt,), path-like or None
        Those that the caller passes.

    Returns
    -------
    numpy.ndarray (tilt,) or None
        None where they are not known.

    Raises
    ------
    ValueError
        For tilts of another number, other ones than in the file, or two that are the same.
    """
    if tilts is None and path.suffix.lower() == ".xf":
        listed = (path.with_suffix(suffix) for suffix in (".tlt", ".rawtlt"))
        tilts = next((file for file in listed if file.is_file()), None)
    if tilts is not None:
        stored = _checked_against(stored, count, tilts)
    if stored is not None:
        rising = np.sort(stored)
        repeated = rising[1:][np.diff(rising) < SAME_TILT]
        if repeated.size:
            named = ", ".join(f"{tilt:g}" for tilt in np.unique(repeated)[:8])
            raise ValueError(
                f"the tilts {named} are there more than once; expected one row of shifts for each "
                "tilt of a series"
            )
    return stored


def _checked_against(
    stored: np.ndarray | None, count: int, tilts: ArrayLike | str | Path
) -> np.ndarray:
    """Return the stored tilts, or else the caller's, after comparing the two."""
    if isinstance(tilts, str | Path):
        source = Path(tilts).name
        given = check_tilts(read_tilt_file(tilts), source=source)
    else:
        source = "tilts="
        given = check_tilts(tilts, source=source)
    if len(given) != count:
        raise ValueError(
            f"there are {count} shifts but {source} has {len(given)} angles; give one per shift"
        )
    if stored is None:
        return given
    if np.abs(given - stored).max() > SAME_VIEW:
        raise ValueError(
            f"the file has the tilts {stored} but {source} has {given}; leave tilts= out or "
            "correct it"
        )
    return stored


def pixel_of_shifts(stored: float | None, pixel_size: float | None) -> float | None:
    """Return the pixel size (nm) of a file, or else the caller's; they agree to a thousandth."""
    if pixel_size is None:
        return stored
    if stored is None:
        return float(pixel_size)
    if not math.isclose(pixel_size, stored, rel_tol=1e-3):
        raise ValueError(
            f"the file has pixels of {stored} nm but pixel_size={pixel_size}; change it by "
            "`transfer`"
        )
    return stored


def _by_suffix(functions: Mapping[str, _Codec], path: Path) -> _Codec:
    if path.suffix.lower() not in functions:
        expected = ".json (ours or tomviz's), .csv (a table of shifts) or .xf (IMOD's transforms)"
        raise ValueError(f"the name {path} ends in {path.suffix!r}; expected {expected}")
    return functions[path.suffix.lower()]


def _json_of(fields: Mapping[str, Any]) -> str:
    stored = {"format": FORMAT, "version": VERSION, **fields}
    if "drift" not in fields:
        del stored["slow_axis"]
    # JSON has no NaN: unknown values of the quality are null.
    plain = json.loads(json.dumps(stored), parse_constant=lambda _: None)
    return json.dumps(plain, indent=1) + "\n"


def _from_json(text: str) -> dict[str, Any]:
    try:
        stored = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(stored, list):
        return _from_tomviz(stored)
    if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
        found = text.strip()[:80]
        raise ValueError(
            f"expected an object with 'format': {FORMAT!r}, or tomviz's list of pairs [x, y]; "
            f"found {found!r}"
        )
    if (version := stored.pop("version", None)) != VERSION:
        raise ValueError(
            f"the version of this format is {version!r} but {VERSION} is known; update "
            "hyperspy_multitomo"
        )
    if isinstance(quality := stored.get("quality"), dict):
        quality |= {name: math.nan for name in TOTALS if quality.get(name) is None}
    return stored


def _from_tomviz(pairs: list) -> dict[str, Any]:
    """Return the shifts in a list of pairs, whose y points up."""
    for pair in pairs or [pairs]:
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(v, int | float) and math.isfinite(v) for v in pair)
        ):
            raise ValueError(
                "expected a list of pairs [x, y] of finite numbers, as from tomviz; found "
                f"{pair!r} in it"
            )
    across, up = np.array(pairs, dtype=np.float64).T
    # 0 - y and not -y: a shift of 0 stays +0.
    return {"across": across, "along": 0.0 - up}


def _table_of(fields: Mapping[str, Any]) -> str:
    quality = fields.get("quality") or {}
    totals = {name: fields.get(name) for name in SETTINGS}
    totals |= {name: quality.get(name) for name in TOTALS}
    lines = [f"# {FORMAT}", f"# {UNITS}"]
    lines += [f"# {name} = {_cell(value)}" for name, value in totals.items() if value is not None]
    lines += [f"# slow_axis = {fields['slow_axis']}"]
    lines += [
        f"# {_SPECIMEN}{name} = {value}" for name, value in fields.get("specimen", {}).items()
    ]
    lines += [f"# report = {' '.join(line.splitlines())}" for line in quality.get("report", ())]
    drift = zip(*fields["drift"], strict=True) if "drift" in fields else (None, None)
    shifts = (fields.get("tilts"), fields["across"], fields["along"], *drift)
    columns = dict(zip(SHIFTS, shifts, strict=True)) | {name: quality.get(name) for name in ERRORS}
    columns = {name: map(_cell, values) for name, values in columns.items() if values is not None}
    lines += [",".join(row) for row in (columns, *zip(*columns.values(), strict=True))]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    """Return a number with all of its digits, or nothing where it is not known."""
    return repr(float(value)) if math.isfinite(value) else ""


def _from_table(text: str) -> dict[str, Any]:
    comments: list[tuple[int, str]] = []
    rows: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip(' \t,;"'):
            (comments if line.lstrip(' "').startswith("#") else rows).append((number, line))
    if not rows:
        raise ValueError(
            "the table is empty; expected a row with the names tilt,across,along and one row per "
            "tilt"
        )
    separator = max(",;\t", key=rows[0][1].count)
    fields, columns = _settings(comments, separator), _columns(rows, separator)
    if ("drift_x" in columns) != ("drift_y" in columns):
        raise ValueError("there is one of the columns drift_x and drift_y; give both or neither")
    if "drift_x" in columns:
        fields["drift"] = np.transpose([columns["drift_x"], columns["drift_y"]])
    quality: dict[str, Any] = {name: columns[name] for name in ERRORS if name in columns}
    quality |= {name: fields.pop(name) for name in (*TOTALS, "report") if name in fields}
    if quality:
        unknown: dict[str, Any] = dict.fromkeys(ERRORS, [math.nan] * len(columns["across"]))
        fields["quality"] = unknown | dict.fromkeys(TOTALS, math.nan) | quality
    specimen = {name: fields.pop(name) for name in list(fields) if name.startswith(_SPECIMEN)}
    if specimen:
        fields["specimen"] = {name.removeprefix(_SPECIMEN): specimen[name] for name in specimen}
    return fields | {
        "across": columns["across"],
        "along": columns["along"],
        "tilts": columns.get("tilt"),
    }


def _settings(comments: list[tuple[int, str]], separator: str) -> dict[str, Any]:
    """Return the settings in lines "# name = value"; other comments are ignored."""
    fields: dict[str, Any] = {}
    for number, line in comments:
        # Spreadsheets quote a comment that contains the separator, and add empty cells.
        if line.lstrip().startswith('"'):
            line = separator.join(_cells(line, separator))
        name, equals, value = (part.strip() for part in line.strip("# \t,;").partition("="))
        if name == "report":
            fields.setdefault(name, []).append(value)
        elif name in ("slow_axis", f"{_SPECIMEN}shape"):
            fields[name] = value
        elif name in SETTINGS + TOTALS + OF_SPECIMEN:
            fields[name] = _number(value, name, number, separator)
        elif equals and len(name.split()) == 1:
            specimen = (f"{_SPECIMEN}shape", *OF_SPECIMEN)
            known = ", ".join((*SETTINGS, "slow_axis", *specimen, *TOTALS, "report"))
            raise ValueError(f"line {number}: {name!r} is not a setting; expected {known}")
    return fields


def _columns(rows: list[tuple[int, str]], separator: str) -> dict[str, list[float]]:
    """Return the numbers below each name in the first row."""
    (first, line), *rows = rows
    names = [name.lower() for name in _cells(line, separator)]
    if not {"across", "along"} <= set(names) <= {*SHIFTS, *ERRORS} or len(set(names)) < len(names):
        known = ", ".join(SHIFTS + ERRORS)
        raise ValueError(
            f"line {first}: the columns are {', '.join(names)}; expected across and along, and any "
            f"of {known}, each once"
        )
    if not rows:
        raise ValueError(f"line {first}: no shifts follow; expected one row per tilt")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for number, line in rows:
        cells = _cells(line, separator)
        if len(cells) > len(names):
            raise ValueError(
                f"line {number}: there are {len(cells)} values for the {len(names)} columns "
                f"{', '.join(names)}"
            )
        for name, cell in zip(names, cells + [""] * (len(names) - len(cells)), strict=True):
            columns[name].append(_number(cell, name, number, separator))
    return columns


def _cells(line: str, separator: str) -> list[str]:
    """Return the cells of a line but for empty ones at its end."""
    cells = [
        cell.strip()
        for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    ]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _number(text: str, name: str, line: int, separator: str) -> float:
    if not text and name in ERRORS + TOTALS:
        return math.nan
    try:
        # Where commas are decimal, spreadsheets separate by semicolons.
        value = float(text if separator == "," else text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"line {line}: {name} is {text!r}; expected a finite number")
    return value


def _transforms_of(fields: Mapping[str, Any]) -> str:
    if "drift" in fields:
        raise ValueError(
            "IMOD's .xf cannot hold a drift during the scan; save as .json or .csv, or apply the "
            "alignment"
        )
    # Points are x + iy; 0.0 + changes -0 to 0.
    turn = np.exp(1j * np.deg2rad(fields["rotation"]))
    shifts = np.array(fields["across"]) + 1j * np.array(fields["along"])
    moved = turn * shifts - fields["axis_offset"]
    matrix = " ".join(
        f"{0.0 + value:12.7f}" for value in (turn.real, -turn.imag, turn.imag, turn.real)
    )
    return "".join(
        f"{matrix} {0.0 + shift.real:14.6f} {0.0 + shift.imag:14.6f}\n" for shift in moved
    )


def _from_transforms(text: str) -> dict[str, Any]:
    rows = [
        _transform(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    if not rows:
        raise ValueError(f"the file is empty; {SIX}")
    a11, a12, a21, a22, dx, dy = np.transpose(rows)
    turns = np.exp(1j * np.arctan2(a21, a11))
    turn = np.exp(1j * np.angle(turns.sum()))
    impure = np.abs([a11 - turns.real, a12 + turns.imag, a21 - turns.imag, a22 - turns.real]).max(
        axis=0
    )
    deviation = np.abs(np.degrees(np.angle(turns / turn)))
    if impure.max() > PURE:
        view = int(impure.argmax())
        raise ValueError(
            f"view {view + 1} is not just turned and moved, A = {rows[view][:4]}: {IN_IMOD}"
        )
    if deviation.max() > SAME_ROTATION:
        raise ValueError(
            f"view {deviation.argmax() + 1} is turned by {deviation.max():.2f} degrees from the "
            f"mean of the views: {IN_IMOD}"
        )
    shifts = (dx + 1j * dy) / turn
    return {
        "across": shifts.real,
        "along": shifts.imag,
        "rotation": np.degrees(np.angle(turn)),
    }


def _transform(line: str, number: int) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 6 or not np.isfinite(values).all():
        raise ValueError(f"line {number}: {SIX}; found {line.strip()[:80]!r}")
    return values
