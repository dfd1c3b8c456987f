# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoint of a solver: a file that is complete at any moment and records its origin.

It is a ZIP archive without compression: first `about.json` (format, version of the package, key,
iteration, residuals so far), then one .npy for each array, as `numpy.load` reads them too. It is
written under another name in the same folder, then renamed.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.writing import replacing

# States are in the units of `System.in_units` from format 2 on, and of the box of `support` from
# format 3 on.
FORMAT = 3
# Exceptions of zipfile, NumPy and JSON for a damaged archive; those of JSON and Unicode are
# ValueErrors.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    LookupError,
    ValueError,
)
_NAME, _ABOUT = "hyperspy_multitomo checkpoint", "about.json"
_PIECE = 1 << 22  # elements that are digested at a time where an array is not contiguous


def fingerprint(*arrays) -> str:
    """Return a digest of arrays, for the key of a `Checkpoint`.

    Parameters
    ----------
    *arrays : array_like, None, or mapping of str to them
        Numbers of any type. Names, types, shapes and values count; strides do not.

    Returns
    -------
    str
        BLAKE2b of 128 bits, as 32 hexadecimal digits.

    Raises
    ------
    TypeError
        For arrays of objects.

    Examples
    --------
    >>> counts = np.arange(24.0).reshape(2, 3, 4)
    >>> fingerprint(counts) == fingerprint(np.asfortranarray(counts)) != fingerprint(counts.ravel())
    True
    """
    digest = blake2b(digest_size=16)
    for array in arrays:
        if isinstance(array, Mapping):
            for name in sorted(array):
                digest.update(f"{name}:{fingerprint(array[name])};".encode())
        elif array is None:
            digest.update(b"none;")
        else:
            _update(digest, np.asarray(array))
    return digest.hexdigest()


def _update(digest, array: np.ndarray, piece_elements: int = _PIECE) -> None:
    """Digest one array, in the order of C, without a copy of it."""
    if array.dtype.hasobject:
        raise TypeError(f"an array of the type {array.dtype} has no fingerprint; expected numbers")
    digest.update(f"{array.dtype.str}{array.shape};".encode())
    if array.flags.c_contiguous:
        digest.update(array.reshape(-1).view(np.uint8))
        return
    pieces = np.nditer(
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        buffersize=piece_elements,
        order="C",
    )
    for piece in pieces:
        digest.update(np.ascontiguousarray(piece).view(np.uint8))


class Checkpoint:
    """The file of a run's state, how often it is saved, and the key that identifies the run.

    Parameters
    ----------
    path : path-like
        The file; its folder is made where it is missing.
    every : float, default 600.0
        Seconds from the end of one save to the next, at least; 0 saves after every iteration.
    key : dict or str, optional
        What made the run: its parameters, and `fingerprint` of its data. Numbers, texts, None, and
        lists and dicts of them; arrays are replaced by their fingerprints. A file with another key
        is not loaded. Of the solver itself its form and the shapes of its arrays are compared, no
        values: give the key what else has to be alike.

    Raises
    ------
    ValueError, TypeError
        If `every` is negative or not a number, or JSON cannot hold the key.

    Notes
    -----
    Size of the file for volumes of v bytes and data of d bytes, all float32: SIRT, HEBT and EM v;
    CGLS 3 v + (k + 1) d after k iterations; TV 5 v + d, in two dimensions 4 v + d; TGV 17 v + d, in
    two dimensions 11 v + d; in the second solve of a refit v more; fused tomography with a power v
    more with TV and 4 v with TGV (3 v in two dimensions). While one is being written the disk holds
    the one before it too. A save takes memory for a copy of the largest array: v; with TV 3 v, with
    TGV 6 v, in two dimensions 2 v and 3 v.

    Examples
    --------
    >>> import tempfile
    >>> from hyperspy_multitomo.tomography import Checkpoint, TiltGeometry, projector, run, sirt
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=16))
    >>> data = A(np.ones((16, 16, 1)))
    >>> path, key = tempfile.mkdtemp() + "/sirt.state", {"method": "sirt", "data": data}
    >>> checkpoint = Checkpoint(path, key=key)
    >>> half = run(sirt(A, data), 10, checkpoint=checkpoint)
    >>> whole = run(sirt(A, data), 20, checkpoint=checkpoint, resume=True)
    >>> whole.iterations, whole.resumed_at
    (20, 10)
    >>> bool((whole.volume == run(sirt(A, data), 20).volume).all())
    True
    """

    def __init__(
        self, path: str | os.PathLike, every: float = 600.0, key: Mapping | str | None = None
    ):
        if not (isinstance(every, int | float | np.number) and every >= 0):
            raise ValueError(f"`every` is {every!r}; expected seconds, 0 or more")
        self.path, self.every = Path(os.fspath(path)), float(every)
        given = {} if key is None else {"key": key} if isinstance(key, str) else dict(key)
        try:
            self.key = json.loads(json.dumps(given, default=_plain))
        except (TypeError, ValueError) as error:
            expected = "numbers, texts, arrays, and lists and dicts of them"
            raise TypeError(f"`key` cannot be kept: {error}; expected {expected}") from error

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every:g})"

    def save(
        self,
        state: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]],
        about: Mapping | None = None,
    ) -> None:
        """Write the state; the file that was there is replaced once the new one is complete.

        Parameters
        ----------
        state : mapping of str to numpy.ndarray, or iterable of pairs of them
            Pairs are written as they come, so that no more than one array need be in memory.
        about : mapping, optional
            What JSON can hold, kept beside the key.

        Raises
        ------
        OSError
            If it cannot be written, such as on a full disk: the file before it is still there,
            complete.
        """
        about = {
            "name": _NAME,
            "format": FORMAT,
            "version": __version__,
            "key": self.key,
            "about": dict(about or {}),
        }
        left = (
            "the one before it is whole and can be resumed from"
            if self.path.is_file()
            else "there is none before it"
        )
        with replacing(self.path, "the checkpoint ", left) as partial, open(partial, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_ABOUT, json.dumps(about, default=_plain))
                for name, array in state.items() if isinstance(state, Mapping) else state:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
                    del array  # before the next copy is made
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self.path.parent)

    def load(self) -> Stored:
        """Return what the file holds; arrays are read when they are asked for.

        Returns
        -------
        Stored

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no checkpoint, cut off or damaged, of another format, or another run's: the
            message names the entries of the key that differ.

        Warns
        -----
        UserWarning
            If another version of the package wrote it.
        """
        stored = Stored(self.path)
        header = stored.header
        if found := differences(self.key, header["key"]):
            raise ValueError(
                f"{self.path} is the checkpoint of another run: {found}. Run it as it was begun, "
                "or start another file"
            )
        if header["version"] != __version__:
            warn(
                f"{self.path} was written by version {header['version']} of hyperspy_multitomo, "
                f"this is {__version__}"
            )
        return stored


class Stored(Mapping):
    """The arrays of a checkpoint by their names, each read from the file when it is asked for.

    Attributes
    ----------
    path : Path
    header : dict
        `format`, `version`, `key`, and the `about` of `save`.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "there is no checkpoint", str(path))
        with self._opened() as archive:
            names = archive.namelist()
            header = json.loads(archive.read(_ABOUT)) if _ABOUT in names else None
        if not isinstance(header, dict) or header.get("name") != _NAME:
            raise ValueError(f"{path} is not a checkpoint of hyperspy_multitomo")
        if header.get("format") != FORMAT:
            raise ValueError(
                f"{path} has the format {header.get('format')!r}, of version "
                f"{header.get('version')} of hyperspy_multitomo; this "
                f"is {__version__} and reads the format {FORMAT}: go on with the version that "
                "began the run"
            )
        self.header = header
        self._names = [name.removesuffix(".npy") for name in names if name != _ABOUT]

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        """Open the archive, and say what is wrong with one that cannot be read."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (FileNotFoundError, PermissionError):
            raise
        except (*_DAMAGE, OSError) as error:
            with open(self.path, "rb") as file:
                begun = _ABOUT.encode() in file.read(64)
            if begun:
                raise ValueError(
                    f"{self.path} is damaged or cut off ({error}); take a copy of it, or start anew"
                ) from error
            raise ValueError(f"{self.path} is not a checkpoint of hyperspy_multitomo") from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(
                f"{self.path} holds no {name!r}, only {', '.join(self._names)}; it is damaged, or "
                "of another method"
            )
        with self._opened() as archive, archive.open(f"{name}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _plain(value):
    """Return a NumPy number as a plain one, and the fingerprint in place of an array."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _flat(entry, path: str = "") -> dict[str, object]:
    """Return the entries of nested dicts by their path."""
    if not isinstance(entry, Mapping) or not entry:
        return {path: entry}
    return {
        name: value
        for key in entry
        for name, value in _flat(entry[key], f"{path}.{key}" if path else str(key)).items()
    }


def differences(current: Mapping, stored: Mapping) -> str:
    """Return which entries of two mappings, nested ones too, differ, as text; "" where none do."""
    current, stored = (
        _flat(json.loads(json.dumps(entries, default=_plain))) for entries in (current, stored)
    )
    texts = {
        name: (_short(current, name), _short(stored, name))
        for name in dict.fromkeys((*current, *stored))
        if name
    }
    return "; ".join(
        f"`{name}` is {now} and was {then}" for name, (now, then) in texts.items() if now != then
    )


def _short(entries: Mapping, name: str) -> str:
    """Return an entry as text, "missing" where there is none.

    A long text is cut off and ends in a digest of the whole.
    """
    if name not in entries:
        return "missing"
    text = json.dumps(entries[name], ensure_ascii=False)
    return (
        text
        if len(text) <= 100
        else f"{text[:80]}... ({blake2b(text.encode(), digest_size=4).hexdigest()})"
    )


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
