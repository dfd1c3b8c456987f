# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the pictures of a TIFF file end, read from its directories alone: a file that was cut is known before it is computed."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_tiff"]

# Tags: the places of strips and tiles, their sizes, and the description.
_PLACES, _SIZES, _DESCRIPTION = (273, 324), (279, 325), 270
_LOOKED_AT = (*_PLACES, *_SIZES, _DESCRIPTION)
_TYPES = {2: "s", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Layout:
    """How directories are written: classic TIFF or BigTIFF, in either order of bytes."""

    order: str
    count: str
    number: str

    def read(self, file: BinaryIO, kind: str, times: int = 1) -> tuple:
        """Return numbers, or a string, from where the file is."""
        form = f"{self.order}{times}{kind}"
        data = file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise ValueError("it ends within the list of its pictures")
        return struct.unpack(form, data)


def check_tiff(path: Path) -> None:
    """
    Raise a ValueError where a TIFF file ends before its pictures do.

    Other kinds of files are passed over: what they are is said by the reader.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else None
        if version not in (42, 43):
            return
        layout = _Layout(order, "Q", "Q") if version == 43 else _Layout(order, "H", "I")
        first = struct.unpack(order + layout.number, head[8:16] if version == 43 else head[4:8])[0]
        end = max(_ends(file, layout, first), default=0)
    if end > size:
        raise ValueError(f"it ends {end - size} bytes before its last picture does")


def _ends(file: BinaryIO, layout: _Layout, place: int) -> Iterator[int]:
    """Yield the place behind each picture."""
    seen = set()
    while place and place not in seen:
        seen.add(place)
        file.seek(place)
        (count,) = layout.read(file, layout.count)
        tags = _tags(file, layout, count)
        (place,) = layout.read(file, layout.number)
        found = [_values(file, layout, tags, names) for names in (_PLACES, _SIZES)]
        ends = [start + length for start, length in zip(*found, strict=False)]
        # ImageJ describes the first picture of a large stack alone; the others follow it.
        told = (
            b"".join(_values(file, layout, tags, (_DESCRIPTION,)))
            if _DESCRIPTION in tags and not place
            else b""
        )
        images = (
            re.search(rb"^images=(\d+)", told, re.MULTILINE)
            if told.startswith(b"ImageJ=") and len(seen) == 1
            else None
        )
        if ends and images:
            yield min(found[0]) + int(images[1]) * (max(ends) - min(found[0]))
        yield max(ends, default=0)


def _tags(file: BinaryIO, layout: _Layout, count: int) -> dict[int, tuple[str, int, int]]:
    """Return the type, number and place of the values of those tags that are looked at."""
    form = f"{layout.order}HH{layout.number}{struct.calcsize(layout.number)}s"
    size, start = struct.calcsize(form), file.tell()
    (block,) = layout.read(file, "s", count * size)
    tags = {}
    for i, (tag, kind, times, held) in enumerate(struct.iter_unpack(form, block)):
        if tag in _LOOKED_AT and kind in _TYPES:
            # Values that fit stand in the entry itself; else their place does.
            inside = struct.calcsize(_TYPES[kind]) * times <= len(held)
            place = (
                start + (i + 1) * size - len(held)
                if inside
                else struct.unpack(layout.order + layout.number, held)[0]
            )
            tags[tag] = (_TYPES[kind], times, place)
    return tags


def _values(file: BinaryIO, layout: _Layout, tags: dict, names: tuple[int, ...]) -> tuple:
    """Return the values of the first of some tags that is there."""
    for name in names:
        if name in tags:
            kind, times, place = tags[name]
            behind = file.tell()
            file.seek(place)
            values = layout.read(file, kind, times)
            file.seek(behind)
            return values
    return ()
