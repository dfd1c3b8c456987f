# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic writes: files and folders get a temporary name beside the target, then are renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import sys
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

# Bytes: with fewer free, a write that failed without a reason failed because the disk is full.
_FREE = 1 << 20
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota on this disk is used up",
    errno.EFBIG: "files may not be that large here",
}
_ROOM = "free some space, or save to another disk"
#: Temporary names that this process writes under at present.
_in_use: set[str] = set()


def save_atomically(
    write: Callable[[Path], object], path: str | os.PathLike, overwrite: bool | None = None
) -> Path:
    """Call ``write(temporary_path)`` and rename the result to `path`.

    The previous file survives any failure.

    Parameters
    ----------
    write : callable
        Writes a file, or a folder such as a .zspy store, to the path in its argument, which has the
        suffix of `path`.
    path : path-like
        The target.
    overwrite : bool, optional
        True replaces an existing target once the new one is complete; else it is an error.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    FileExistsError
        If the target exists and `overwrite` is not True.
    OSError
        If it cannot be written, such as on a full disk; the message names the target.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> save_atomically(lambda temporary: temporary.write_text("42 tilts"), target).read_text()
    '42 tilts'
    """
    path = Path(path)
    restore(path)
    if path.exists() and overwrite is not True:
        raise FileExistsError(
            f"{path} exists already; choose another name, or pass overwrite=True to replace it"
        )
    with replacing(path) as temporary:
        write(temporary)
    return path


@contextmanager
def replacing(path: Path, what: str = "", remains: str = "") -> Iterator[Path]:
    """Yield a temporary name beside `path`; the file written there replaces `path` at the end.

    After a failure it is removed. So is, at the start, what killed processes left under temporary
    names of `path`. The error says `what` the file is, and what `remains` of the previous one.

    Raises
    ------
    OSError
        If it cannot be written; the message names `path`, the reason and a remedy.
    """
    mark = f"{_machine()}{os.getpid():08x}{uuid.uuid4().hex[:4]}"
    temporary, previous = (
        path.with_name(f".{path.stem}.{mark}{kind}{path.suffix}") for kind in ("", ".previous")
    )
    _in_use.add(mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        _rename(temporary, path, previous)
    except OSError as error:
        explained = _unwritten(error, path, what, remains)
        _remove(temporary)
        raise explained from error
    except BaseException:
        _remove(temporary)
        raise
    finally:
        _in_use.discard(mark)


def restore(path: Path) -> None:
    """Rename a folder back after the process replacing it was killed between the two renames."""
    if path.exists():
        return
    for left, kind in _leftovers(path):
        if kind:
            with suppress(OSError):
                os.rename(left, path)
                return


def file_part(name: str) -> str:
    """Return a name that can be part of a file name on any system.

    Separators of folders, control characters and forbidden characters become ``_``.

    Examples
    --------
    >>> file_part("Au/Ag"), file_part("Fe L2,3")
    ('Au_Ag', 'Fe L2,3')
    """
    allowed = (
        char if char not in '/\\:*?"<>|' and unicodedata.category(char)[0] != "C" else "_"
        for char in str(name)
    )
    # File names have 255 bytes at most.
    return "".join(allowed)[:60].strip(" .") or "_"


def _unwritten(error: OSError, path: Path, what: str, remains: str) -> OSError:
    """Return the error of a failed write: the file, the reason, and a remedy."""
    number = error.errno
    if number is None and _is_full(path.parent):
        number = errno.ENOSPC  # NumPy's ``tofile`` gives no number
    elsewhere = (
        error.filename is not None and Path(os.fsdecode(error.filename)).parent != path.parent
    )
    stated = None if number is None else _REASONS.get(number)
    reason = stated or (str(error) if elsewhere else error.strerror) or str(error)
    # A write that stopped short has no number: a limit, or a full network disk.
    room = number in _REASONS or number is None
    remedy = (
        _ROOM if room else "see that the folder is there and can be written to, or save elsewhere"
    )
    return OSError(
        number or errno.EIO,
        f"{what}{path} could not be written ({reason}): {remedy}{remains and '; '}{remains}",
    )


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes left."""
    for left, _ in list(_leftovers(path)):
        _remove(left)


def _leftovers(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the temporary files of `path` that no process writes any more.

    With each comes ".previous" if it is the content before the last write, else "".
    """
    stem, suffix = (re.escape(part) for part in (path.stem, path.suffix))
    pattern = re.compile(rf"\.{stem}\.([0-9a-f]{{16}})(\.previous)?{suffix}")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match and not _is_written(match[1]):
                yield Path(entry.path), match[2] or ""


def _is_written(mark: str) -> bool:
    """Return whether the process in a temporary name may still write; a foreign machine's may."""
    machine, process = mark[:4], int(mark[4:12], 16)
    if machine != _machine():
        return True
    if process == os.getpid():
        return mark in _in_use
    if os.name != "posix":
        return True  # os.kill would end the process there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # the process of another user
    return True


@cache
def _machine() -> str:
    """Return four digits for this machine or container, within which process numbers are unique."""
    names = socket.gethostname()
    with suppress(OSError, AttributeError):
        names += os.readlink("/proc/self/ns/pid")
    return blake2b(names.encode(), digest_size=2).hexdigest()


def _rename(temporary: Path, path: Path, previous: Path) -> None:
    """Rename `temporary` to `path`, in one step where the system can."""
    if not (path.is_dir() or (path.exists() and temporary.is_dir())):
        os.replace(temporary, path)
    elif _exchange(temporary, path):
        _remove(temporary)
    else:
        # The old one is renamed back if the second rename fails, or later by `restore`.
        os.rename(path, previous)
        try:
            os.rename(temporary, path)
        except BaseException:
            os.rename(previous, path)
            raise
        _remove(previous)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one step; return whether the system can."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return (
        renameat2(
            _AT_FDCWD,
            os.fsencode(one),
            _AT_FDCWD,
            os.fsencode(other),
            ctypes.c_uint(_RENAME_EXCHANGE),
        )
        == 0
    )


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FREE
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
