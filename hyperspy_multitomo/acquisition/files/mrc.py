# SPDX-License-Identifier: GPL-3.0-or-later
"""The length of an MRC file and the sign of its bytes, checked against its header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hyperspy_multitomo.machine.notices import warn

__all__ = ["MrcHeader", "read_mrc_header", "with_sign"]

_HEADER = 1024
# Bytes per value of each mode; of other modes the reader raises the error.
_SIZES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2}
# IMOD marks its headers with this number in word 38; then the lowest bit of word 39 states that
# bytes are signed.
_STAMP, _STAMP_WORD, _FLAGS_WORD, _IS_SIGNED = 1146047817, 38, 39, 1
# Bytes that are read at a time.
_PIECE = 2**24


@dataclass(frozen=True)
class MrcHeader:
    """
    The entries of an MRC header that decide how its data are read.

    Attributes
    ----------
    path : Path
    shape : (int, int, int)
        (z, y, x).
    mode : int
        Type of the values; 0 is bytes.
    start : int
        Bytes before the data: header and extended header.
    signed : bool or None
        Of mode 0, whether bytes are signed, or None where the header does not tell: by IMOD's stamp
        and flag, else by the minimum and maximum of the data if they fit one reading only.
    """

    path: Path
    shape: tuple[int, int, int]
    mode: int
    start: int
    signed: bool | None

    def check_length(self) -> None:
        """
        Compare the length of the file with its header.

        Raises
        ------
        ValueError
            Where the file is shorter.

        Warns
        -----
        UserWarning
            Where it is longer; the surplus is not read.
        """
        if self.mode not in _SIZES:
            return
        size, actual = _SIZES[self.mode], self.path.stat().st_size
        expected = self.start + size * int(np.prod(self.shape, dtype=object))
        count = " x ".join(map(str, self.shape))
        if actual < expected:
            raise ValueError(
                f"{self.path.name} is cut short: by its header expected {expected} bytes "
                f"({_HEADER} of header, {self.start - _HEADER} of extended header, {count} values "
                f"of {size}), found {actual}; copy or export it again"
            )
        if actual > expected:
            warn(
                f"{self.path.name} has {actual - expected} bytes more than its header says "
                f"({expected} expected, {actual} found); the first {count} values are read: check "
                "that all images are there"
            )


def read_mrc_header(path: str | Path) -> MrcHeader:
    """
    Read the header of an MRC file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    MrcHeader

    Raises
    ------
    ValueError
        For a file with an incomplete header, or an impossible size in it.
    """
    path = Path(path)
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER:
        raise ValueError(
            f"{path.name} has no whole header: expected {_HEADER} bytes, found "
            f"{path.stat().st_size}; copy it again"
        )
    words = np.frombuffer(header, dtype="<i4")
    (x, y, z, mode), extended = words[:4].tolist(), int(words[23])
    if min(x, y, z) < 1 or extended < 0:
        raise ValueError(
            f"{path.name} cannot be read, it is damaged or not what its name says: its header "
            f"states {z} x {y} x {x} values and {extended} bytes of extended header"
        )
    return MrcHeader(
        path, (z, y, x), mode, _HEADER + extended, _stated_sign(words) if mode == 0 else None
    )


def _stated_sign(words: np.ndarray) -> bool | None:
    if words[_STAMP_WORD] == _STAMP:
        return bool(words[_FLAGS_WORD] & _IS_SIGNED)
    low, high = words[19:21].view("<f4").tolist()
    fits = {True: -128 <= low <= high <= 127, False: 0 <= low <= high <= 255}
    return None if fits[True] == fits[False] else fits[True]


def with_sign(data, header: MrcHeader, signed: bool | None = None):
    """
    Return the bytes of an MRC file as signed or unsigned integers.

    Parameters
    ----------
    data : ndarray or dask array of uint8
    header : MrcHeader
    signed : bool, optional
        Whether they are signed; overrides the header.

    Returns
    -------
    ndarray or dask array of int8 or uint8

    Warns
    -----
    UserWarning
        Where the header does not tell and the sign matters; bytes are then taken as signed.
    """
    signed = header.signed if signed is None else signed
    if signed is None:
        signed = True
        if _has_high_bytes(header):
            warn(
                f"the header of {header.path.name} does not tell whether its bytes (mode 0) are "
                "signed, -128 to 127, or unsigned, 0 to 255; they are taken as signed: pass "
                "signed_bytes=True or False to load_tilt_series"
            )
    return data.view(np.int8) if signed else data


def _has_high_bytes(header: MrcHeader) -> bool:
    """Return whether any byte of the data exceeds 127, so that its sign matters."""
    left = int(np.prod(header.shape, dtype=object))
    with header.path.open("rb") as file:
        file.seek(header.start)
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            if (np.frombuffer(piece, np.uint8) > 127).any():
                return True
            left -= len(piece)
    return False
