# SPDX-License-Identifier: GPL-3.0-or-later
"""Expand patterns, folders and lists to files, in natural order, without hidden files."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from hyperspy_multitomo.acquisition.files.readers import EXTENSIONS
from hyperspy_multitomo.acquisition.files.tilt_names import plain_signs
from hyperspy_multitomo.machine.writing import restore

__all__ = ["expand_files", "listed"]


def expand_files(files: str | Path | Iterable[str | Path]) -> list[Path]:
    """
    List the files of a pattern, a folder, a path or a list of these.

    Parameters
    ----------
    files : path-like or iterable of path-like
        A glob pattern or a folder (its files of known extensions) is sorted naturally: 2 before 10,
        -10 before -5. A list keeps its order, without duplicates. Brackets in a pattern are first
        taken literally, as in a folder ``run [1]``. Hidden files (``.name``) are skipped in folders
        and patterns, the companion files of macOS (``._-40.bcf``) in lists as well.

    Returns
    -------
    list of Path

    Raises
    ------
    FileNotFoundError
        Where nothing is found.
    TypeError
        For anything but paths.
    """
    if isinstance(files, str | Path):
        return _expand_one(files)
    if not isinstance(files, Iterable):
        raise TypeError(f"files={files!r} must be a pattern, a folder, a file or a list of them")
    paths = [path for item in files for path in _expand_one(item)]
    paths = list(dict.fromkeys(path for path in paths if not path.name.startswith("._")))
    if not paths:
        raise FileNotFoundError(
            "the list of files is empty; pass a pattern, a folder, a file or a list of them"
        )
    return paths


def listed(paths, limit: int = 8) -> str:
    """Return the names of the first few files for a message."""
    names = [Path(path).name for path in paths]
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )


def _expand_one(item):
    text = str(item)
    path = Path(text).expanduser()
    restore(path)
    if path.is_dir() and path.suffix.lower() not in EXTENSIONS:
        shown = (p for p in path.iterdir() if not p.name.startswith("."))
        found = sorted((p for p in shown if p.suffix.lower() in EXTENSIONS), key=_natural)
        if not found:
            raise FileNotFoundError(
                f"no microscope files in the folder {path}; these can be read: "
                f"{', '.join(EXTENSIONS)}"
            )
        return found
    if path.exists():
        return [path]
    if not glob.has_magic(text):
        raise FileNotFoundError(f"there is no file or folder {path}")
    matches = (glob.glob(pattern, recursive=True) for pattern in _with_brackets(path))
    found = sorted(map(Path, next(filter(None, matches), [])), key=_natural)
    if not found:
        raise FileNotFoundError(f"no file matches {text!r} (looked from {Path.cwd()})")
    return found


def _with_brackets(path: Path) -> Iterator[str]:
    """Yield the readings of a pattern: in each part brackets taken literally, then as choices."""
    readings = [(part.replace("[", "[[]"), part) if "[" in part else (part,) for part in path.parts]
    return (str(Path(*parts)) for parts in product(*readings))


def _natural(path):
    """Return a sort key with numbers; a minus is a sign at the start or after a separator."""
    parts = re.split(r"((?:(?<![A-Za-z0-9])-)?\d+(?:\.\d+)?)", plain_signs(path.stem))
    return (
        str(path.parent),
        [(float(part), "") if i % 2 else (-np.inf, part) for i, part in enumerate(parts)],
        path.suffix,
    )
