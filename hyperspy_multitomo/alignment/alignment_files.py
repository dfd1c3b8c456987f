# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of alignments: our JSON and CSV, shifts made in tomviz, and IMOD's transforms."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.tilts import SAME_TILT as EQUAL_TILTS
from hyperspy_multitomo.acquisition.tilts import check_tilts, read_tilt_file
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.transform import SAME_TILT, Alignment
from hyperspy_multitomo.machine.writing import save_atomically

FORMAT, VERSION = "hyperspy_multitomo alignment", 1
# What a table holds per tilt, and in its comments for all tilts; of the second, what is not known
# is left empty.
SHIFTS, ERRORS = (
    ("tilt", "across", "along", "drift_x", "drift_y"),
    ("across_error", "along_error", "residual"),
)
SETTINGS, TOTALS = (
    ("axis_offset", "rotation", "pixel_size"),
    ("axis_offset_error", "rotation_error"),
)
UNITS = "px, added to the position across (x) and along (y) the tilt axis; degrees; pixel_size in nm; drift in px per scan line"
# How far a transform of IMOD's may be from a rotation, and a rotation from that of the other views
# (degrees).
PURE, SAME_ROTATION = 0.01, 0.1
SIX = "expected IMOD's six numbers A11 A12 A21 A22 DX DY per view"
IN_IMOD = (
    "magnification, skew or rotation per view cannot be held by an Alignment; solve without them "
    "in IMOD (tiltalign: RotOption "
    "-1, MagOption 0, SkewOption 0), or apply the file there (newstack -xform) and load the "
    "aligned stack"
)


def save(alignment: Alignment, path: str | Path, overwrite: bool | None = None) -> Path:
    """Write a .json, .csv or .xf file, completely or not at all (`Alignment.save`)."""
    path = Path(path)
    text = _by_suffix({".json": _json_of, ".csv": _table_of, ".xf": _transforms_of}, path)(
        alignment
    )
    return save_atomically(
        lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"),
        path,
        overwrite,
    )


def load(
    path: str | Path, tilts: ArrayLike | str | Path | None = None, pixel_size: float | None = None
) -> Alignment:
    """Read a .json, .csv or .xf file; `tilts` and `pixel_size` are what it may lack (`Alignment.load`)."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of shifts {path}")
    parse = _by_suffix({".json": _from_json, ".csv": _from_table, ".xf": _from_transforms}, path)
    if tilts is None and parse is _from_transforms:
        tilts = next(
            (
                beside
                for suffix in (".tlt", ".rawtlt")
                if (beside := path.with_suffix(suffix)).is_file()
            ),
            None,
        )
    try:
        return _completed(parse(path.read_text(encoding="utf-8-sig")), tilts, pixel_size)
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not a text file in UTF-8; in a spreadsheet, save it as 'CSV UTF-8'"
        ) from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from None


def _by_suffix(functions: dict[str, Any], path: Path) -> Any:
    if path.suffix.lower() not in functions:
        expected = ".json (ours or tomviz's), .csv (a table of shifts) or .xf (IMOD's transforms)"
        raise ValueError(f"the name {path} ends in {path.suffix!r}; expected {expected}")
    return functions[path.suffix.lower()]


def _completed(
    alignment: Alignment, tilts: ArrayLike | str | Path | None, pixel_size: float | None
) -> Alignment:
    """Return the alignment with the tilts and the pixel size that its file lacks, or say where they contradict it."""
    if tilts is not None:
        named = isinstance(tilts, str | Path)
        source = Path(tilts).name if named else "tilts="
        tilts = check_tilts(read_tilt_file(tilts) if named else tilts, source=source)
        if len(tilts) != len(alignment):
            raise ValueError(
                f"there are {len(alignment)} shifts but {source} has {len(tilts)} angles; give one "
                "per shift"
            )
        if alignment.tilts is None:
            alignment = replace(alignment, tilts=tilts)
        elif np.abs(tilts - alignment.tilts).max() > SAME_TILT:
            raise ValueError(
                f"the file has the tilts {alignment.tilts} but {source} has {tilts}; leave tilts= "
                "out or correct it"
            )
    if alignment.tilts is not None:
        rising = np.sort(alignment.tilts)
        if (twice := rising[1:][np.diff(rising) < EQUAL_TILTS]).size:
            named = ", ".join(f"{tilt:g}" for tilt in np.unique(twice)[:8])
            raise ValueError(
                f"the tilts {named} are there more than once; expected one row of shifts for each "
                "tilt of a series"
            )
    if pixel_size is not None and alignment.pixel_size is None:
        return replace(alignment, pixel_size=float(pixel_size))
    if pixel_size is not None and not math.isclose(pixel_size, alignment.pixel_size, rel_tol=1e-3):
        raise ValueError(
            f"the file has pixels of {alignment.pixel_size} nm but pixel_size={pixel_size}; change "
            "it by `transfer`"
        )
    return alignment


def _json_of(alignment: Alignment) -> str:
    held = {"format": FORMAT, "version": VERSION, **alignment.as_dict()}
    # JSON has no NaN: what is not known of the quality is null.
    return json.dumps(json.loads(json.dumps(held), parse_constant=lambda _: None), indent=1) + "\n"


def _from_json(text: str) -> Alignment:
    try:
        held = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(held, list):
        return _from_tomviz(held)
    if not isinstance(held, dict) or held.pop("format", None) != FORMAT:
        found = text.strip()[:80]
        raise ValueError(
            f"expected an object with 'format': {FORMAT!r}, or tomviz's list of pairs [x, y]; "
            f"found {found!r}"
        )
    if (version := held.pop("version", None)) != VERSION:
        raise ValueError(
            f"the version of this format is {version!r} but {VERSION} is known; update "
            "hyperspy_multitomo"
        )
    try:
        if isinstance(quality := held.get("quality"), dict):
            quality |= {name: math.nan for name in TOTALS if quality.get(name) is None}
        return Alignment.from_dict(held)
    except TypeError as error:
        raise ValueError(f"not what was saved: {error}") from None


def _from_tomviz(pairs: list) -> Alignment:
    """Return the shifts of a list of pairs, whose y points up."""
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
    return Alignment(across, 0.0 - up)


def _table_of(alignment: Alignment) -> str:
    quality = alignment.quality
    settings = {name: getattr(alignment, name) for name in SETTINGS} | {
        name: getattr(quality, name, None) for name in TOTALS
    }
    lines = [f"# {FORMAT}", f"# {UNITS}"]
    lines += [f"# {name} = {_cell(value)}" for name, value in settings.items() if value is not None]
    lines += [f"# slow_axis = {alignment.slow_axis}"]
    lines += [
        f"# report = {' '.join(line.splitlines())}" for line in getattr(quality, "report", ())
    ]
    drift = (None, None) if alignment.drift is None else alignment.drift.T
    columns = dict(
        zip(SHIFTS, (alignment.tilts, alignment.across, alignment.along, *drift), strict=True)
    )
    columns |= {name: getattr(quality, name, None) for name in ERRORS}
    columns = {name: map(_cell, values) for name, values in columns.items() if values is not None}
    lines += [",".join(row) for row in (columns, *zip(*columns.values(), strict=True))]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    """Return a number with all of its digits, or nothing where it is not known."""
    return repr(float(value)) if math.isfinite(value) else ""


def _from_table(text: str) -> Alignment:
    comments, rows = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip(' \t,;"'):
            (comments if line.lstrip(' "').startswith("#") else rows).append((number, line))
    if not rows:
        raise ValueError(
            "the table is empty; expected a row with the names tilt,across,along and one row per "
            "tilt"
        )
    separator = max(",;\t", key=rows[0][1].count)
    held, columns = _settings(comments, separator), _columns(rows, separator)
    if ("drift_x" in columns) != ("drift_y" in columns):
        raise ValueError("there is one of the columns drift_x and drift_y; give both or neither")
    if "drift_x" in columns:
        held["drift"] = np.transpose([columns["drift_x"], columns["drift_y"]])
    quality = {name: columns[name] for name in ERRORS if name in columns}
    quality |= {name: held.pop(name) for name in (*TOTALS, "report") if name in held}
    if quality:
        unknown = dict.fromkeys(ERRORS, [math.nan] * len(columns["across"])) | dict.fromkeys(
            TOTALS, math.nan
        )
        held["quality"] = AlignmentQuality(**(unknown | quality))
    return Alignment(columns["across"], columns["along"], tilts=columns.get("tilt"), **held)


def _settings(comments: list[tuple[int, str]], separator: str) -> dict[str, Any]:
    """Return what the lines "# name = value" say; other comments are free."""
    held: dict[str, Any] = {}
    for number, line in comments:
        # Spreadsheets put quotes around a comment that holds the separator, and empty cells behind
        # it.
        if line.lstrip().startswith('"'):
            line = separator.join(_cells(line, separator))
        name, equals, value = (part.strip() for part in line.strip("# \t,;").partition("="))
        if name == "report":
            held.setdefault(name, []).append(value)
        elif name == "slow_axis":
            held[name] = value
        elif name in SETTINGS + TOTALS:
            held[name] = _number(value, name, number, separator)
        elif equals and len(name.split()) == 1:
            known = ", ".join((*SETTINGS, "slow_axis", *TOTALS, "report"))
            raise ValueError(f"line {number}: {name!r} is not a setting; expected {known}")
    return held


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


def _transforms_of(alignment: Alignment) -> str:
    if alignment.drift is not None:
        raise ValueError(
            "IMOD's .xf cannot hold a drift during the scan; save as .json or .csv, or apply the "
            "alignment"
        )
    # Points are x + iy; 0.0 + changes -0 to 0.
    turn = np.exp(1j * np.deg2rad(alignment.rotation))
    moved = turn * (alignment.across + 1j * alignment.along) - alignment.axis_offset
    matrix = " ".join(
        f"{0.0 + value:12.7f}" for value in (turn.real, -turn.imag, turn.imag, turn.real)
    )
    return "".join(
        f"{matrix} {0.0 + shift.real:14.6f} {0.0 + shift.imag:14.6f}\n" for shift in moved
    )


def _from_transforms(text: str) -> Alignment:
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
    apart = np.abs(np.degrees(np.angle(turns / turn)))
    if impure.max() > PURE:
        view = int(impure.argmax())
        raise ValueError(
            f"view {view + 1} is not just turned and moved, A = {rows[view][:4]}: {IN_IMOD}"
        )
    if apart.max() > SAME_ROTATION:
        raise ValueError(
            f"view {apart.argmax() + 1} is turned by {apart.max():.2f} degrees from the mean of "
            f"the views: {IN_IMOD}"
        )
    shifts = (dx + 1j * dy) / turn
    return Alignment(shifts.real, shifts.imag, rotation=np.degrees(np.angle(turn)))


def _transform(line: str, number: int) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 6 or not np.isfinite(values).all():
        raise ValueError(f"line {number}: {SIX}; found {line.strip()[:80]!r}")
    return values
