# SPDX-License-Identifier: GPL-3.0-or-later
"""The strict classifier: what the outcome of loading a damaged file is worth."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np

import hyperspy_multitomo

from .makers import Format, hyperspy
from .mutations import Damage
from .snapshots import differing

OK, UNDETECTABLE, CLEAR, TOLD = "equal", "undetectable", "clear error", "warned"
UNCLEAR, SILENT, CRASH, HANG, FOREIGN = (
    "unclear error",
    "silent wrong",
    "crash",
    "hang",
    "error of hs.load",
)
KINDS = (OK, UNDETECTABLE, TOLD, CLEAR, FOREIGN, UNCLEAR, SILENT, CRASH, HANG)
#: None of these may be.
NEVER = (SILENT, CRASH, HANG)
PACKAGE = str(Path(hyperspy_multitomo.__file__).parent)
# A message has at least this many words besides the names of files.
_WORDS = 4


def of_error(error: BaseException, names: set[str], by_hyperspy: bool) -> tuple[str, str]:
    """Return the kind of an error and what it says; `names` are those of which it has to tell one.

    Where HyperSpy loaded the file the error is its own unless code of ours ran.
    """
    frames = traceback.extract_tb(error.__traceback__)
    said = f"{type(error).__name__}: {error}"
    if by_hyperspy and not any(frame.filename.startswith(PACKAGE) for frame in frames):
        return FOREIGN, said
    text = str(error)
    named = any(name in text for name in names)
    for name in names:
        text = text.replace(name, "")
    # Of the errors that tell of a bug, none is meant for a user, whatever it says.
    meant = type(error) in (
        ValueError,
        MemoryError,
        FileNotFoundError,
        OSError,
        PermissionError,
        IsADirectoryError,
    )
    clear = named and meant and len(text.split()) >= _WORDS
    return (CLEAR if clear else UNCLEAR), said


def of_result(
    reference: dict, found: dict, damage: Damage, form: Format, told: list[str]
) -> tuple[str, str]:
    """Return the kind of a result, and what of it differs."""
    parts = differing(reference, found)
    if not parts:
        return OK, ""
    said = f"differs in {', '.join(parts)}"
    if told:
        return TOLD, said
    structure = any("structure" in part for part in parts)
    if (
        form.load is hyperspy
        and structure
        and not hasattr(hyperspy_multitomo, found["structure"][0])
    ):
        return FOREIGN, f"{said}: HyperSpy made a {found['structure'][0]} of it"
    path = Path(damage.file)
    if path.suffix in form.text:
        # Any number may be the true one of a text, any line may be its last.
        if (wrong := _implausible(found)) is None:
            return UNDETECTABLE, said
        return SILENT, f"{said}; {wrong}"
    if form.gaps and damage.longer and all("data" in part.split() for part in parts):
        return UNDETECTABLE, said
    if structure or not damage.in_place:
        return (UNDETECTABLE if _is_value_of_json(path, structure) else SILENT), said
    changed = [
        _changed(reference[part], found[part])
        for part in parts
        if "data" in part.split() and part in reference
    ]
    several = sum(map(len, changed)) > 2 * damage.size + 8
    # A chunk that is passed over is zero.
    if several and not (form.packed and any(values.any() for values in changed)):
        return SILENT, f"{said}: {sum(map(len, changed))} values by {damage.size} bytes"
    return UNDETECTABLE, said


def _is_value_of_json(path: Path, structure: bool) -> bool:
    """Return whether what was damaged is the JSON of a .zspy folder,
    and only what its values stand for changed."""
    return path.name.startswith(".z") and not structure


def _changed(one, other) -> np.ndarray:
    """Return the values that are others than they were."""
    one, other = np.asarray(one), np.asarray(other)
    return other[one != other] if one.shape == other.shape else other.ravel()


def _implausible(found: dict) -> str | None:
    """Return what of the tilts cannot be, or None."""
    values = found.get("values")
    values = values.get("tilts") if isinstance(values, dict) else values
    if values is None:
        return None
    tilts = np.asarray(values, dtype=float).ravel()
    if not np.isfinite(tilts).all() or np.abs(tilts).max(initial=0) > 360:
        return "tilts that cannot be"
    return "the same tilt twice" if len(np.unique(tilts)) < tilts.size else None
