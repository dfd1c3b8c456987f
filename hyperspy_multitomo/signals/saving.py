# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving that loses nothing: write under a temporary name beside the target, then rename."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path


def save_atomically(write, path: str | os.PathLike, overwrite: bool | None = None) -> Path:
    """Call ``write(temporary_path)`` and rename the result to `path`; the previous file survives any failure.

    Parameters
    ----------
    write : callable
        Writes a file, or a folder such as a .zspy store, under the path that it is given (same suffix as `path`).
    path : path-like
        The target.
    overwrite : bool, optional
        True replaces an existing target once the new one is complete; otherwise an existing target is an error.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    FileExistsError
        If the target exists and `overwrite` is not True.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> save_atomically(lambda temporary: temporary.write_text("42 tilts"), target).read_text()
    '42 tilts'
    """
    path = Path(path)
    if path.exists() and overwrite is not True:
        raise FileExistsError(f"{path} exists already; choose another name, or pass overwrite=True to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    temporary = path.with_name(f".{path.stem}.{mark}{path.suffix}")
    try:
        write(temporary)
        _replace(temporary, path, path.with_name(f".{path.stem}.{mark}.previous{path.suffix}"))
    except BaseException:
        _remove(temporary)
        raise
    return path


def _replace(temporary: Path, path: Path, previous: Path) -> None:
    if not path.is_dir():
        os.replace(temporary, path)
        return
    # A folder cannot be replaced in one step: the old one is set aside and comes back if the second rename fails.
    os.rename(path, previous)
    try:
        os.rename(temporary, path)
    except OSError:
        os.rename(previous, path)
        raise
    _remove(previous)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
