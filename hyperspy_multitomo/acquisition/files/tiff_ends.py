# SPDX-License-Identifier: GPL-3.0-or-later
"""Detect truncated TIFF files: their directories state where the images end."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_tiff"]

# Tags: offsets of strips and tiles, their sizes, and the description.
_OFFSETS, _SIZES, _DESCRIPTION = (273, 324), (279, 325), 270
_USED_TAGS = (*_OFFSETS, *_SIZES, _DESCRIPTION)
_TYPES = {2: "s", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Layout:
    """Format of the directories: classic TIFF or BigTIFF, in either byte order."""

    order: str
    count: str
    number: str

    def read(self, file: BinaryIO, kind: str, times: int = 1) -> tuple:
        """Read numbers, or a string, at the present position of the file."""
        form = f"{self.order}{times}{kind}"
        data = file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise ValueError("it ends within the list of its pictures")
        return struct.unpack(form, data)


def check_tiff(path: Path) -> None:
    """
    Raise a ValueError where a TIFF file ends before its images do.

    Files of other kinds pass: their reader raises the error.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else None
        if order is None or version not in (42, 43):
            return
        layout = _Layout(order, "Q", "Q") if version == 43 else _Layout(order, "H", "I")
        first = struct.unpack(order + layout.number, head[8:16] if version == 43 else head[4:8])[0]
        end = max(_ends(file, layout, first), default=0)
    if end > size:
        raise ValueError(f"it ends {end - size} bytes before its last picture does")


def _ends(file: BinaryIO, layout: _Layout, place: int) -> Iterator[int]:
    """Yield the end of each image in bytes."""
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        file.seek(place)
        (count,) = layout.read(file, layout.count)
        tags = _tags(file, layout, count)
        (place,) = layout.read(file, layout.number)
        offsets, sizes = (_tag_values(file, layout, tags, names) for names in (_OFFSETS, _SIZES))
        ends = [offset + size for offset, size in zip(offsets, sizes, strict=False)]
        # ImageJ describes only the first image of a large stack; the others follow it.
        description = (
            b"".join(_tag_values(file, layout, tags, (_DESCRIPTION,)))
            if _DESCRIPTION in tags and not place
            else b""
        )
        images = (
            re.search(rb"^images=(\d+)", description, re.MULTILINE)
            if description.startswith(b"ImageJ=") and len(seen) == 1
            else None
        )
        if ends and images:
            yield min(offsets) + int(images[1]) * (max(ends) - min(offsets))
        yield max(ends, default=0)


def _tags(file: BinaryIO, layout: _Layout, count: int) -> dict[int, tuple[str, int, int]]:
    """Return type, number and position of the values of each tag in `_USED_TAGS`."""
    form = f"{layout.order}HH{layout.number}{struct.calcsize(layout.number)}s"
    size, start = struct.calcsize(form), file.tell()
    (block,) = layout.read(file, "s", count * size)
    tags = {}
    for i, (tag, kind, times, field) in enumerate(struct.iter_unpack(form, block)):
        if tag in _USED_TAGS and kind in _TYPES:
            # The field holds the values if they fit, else their position in the file.
            inside = struct.calcsize(_TYPES[kind]) * times <= len(field)
            place = (
                start + (i + 1) * size - len(field)
                if inside
                else struct.unpack(layout.order + layout.number, field)[0]
            )
            tags[tag] = (_TYPES[kind], times, place)
    return tags


def _tag_values(file: BinaryIO, layout: _Layout, tags: dict, names: tuple[int, ...]) -> tuple:
    """Return the values of the first of some tags that is present; empty for none."""
    for name in names:
        if name in tags:
            kind, times, place = tags[name]
            position = file.tell()
            file.seek(place)
            values = layout.read(file, kind, times)
            file.seek(position)
            return values
    return ()
