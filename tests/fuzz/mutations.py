# SPDX-License-Identifier: GPL-3.0-or-later
"""What befalls files: each mutation draws what it does from a generator, and says what it did."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Damage:
    """What was done.

    Attributes
    ----------
    file : str
        The file, relative to the folder of the case.
    what : str
        In words.
    in_place : bool
        Whether the file is as long as before, so that only what its bytes stand for may have
        changed.
    size : int
        Bytes that were touched.
    longer : bool
        Whether the file has more bytes than before.
    """

    file: str
    what: str
    in_place: bool
    size: int
    longer: bool = False


def _range(rng: random.Random, size: int, most: int = 400) -> tuple[int, int]:
    length = min(size, rng.randint(1, max(1, min(most, size))))
    start = rng.randint(0, size - length)
    return start, start + length


def truncate(data: bytes, rng: random.Random):
    keep = rng.choice([rng.randrange(len(data)), max(0, len(data) - rng.randint(1, 64))])
    return data[:keep], f"cut off after {keep} of {len(data)} bytes"


def zero(data: bytes, rng: random.Random):
    start, stop = _range(rng, len(data))
    return data[:start] + bytes(stop - start) + data[stop:], f"bytes {start} to {stop} zeroed"


def flip(data: bytes, rng: random.Random):
    places = sorted(rng.sample(range(len(data)), min(len(data), rng.randint(1, 8))))
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed), f"bits flipped in the bytes {places}"


def delete(data: bytes, rng: random.Random):
    start, stop = _range(rng, len(data))
    return data[:start] + data[stop:], f"bytes {start} to {stop} deleted"


def duplicate(data: bytes, rng: random.Random):
    start, stop = _range(rng, len(data))
    return data[:stop] + data[start:], f"bytes {start} to {stop} doubled"


def swap(data: bytes, rng: random.Random):
    start, stop = _range(rng, len(data) // 2, 64)
    other = rng.randint(stop, len(data) - (stop - start))
    length = stop - start
    changed = bytearray(data)
    changed[start:stop], changed[other : other + length] = (
        data[other : other + length],
        data[start:stop],
    )
    return bytes(changed), f"{length} bytes at {start} and {other} swapped"


def append(data: bytes, rng: random.Random):
    more = rng.randbytes(rng.randint(1, 600))
    return data + more, f"{len(more)} bytes appended"


def empty(data: bytes, rng: random.Random):
    return b"", "emptied"


def recode(data: bytes, rng: random.Random):
    text = data.decode("utf-8", "replace")
    how = rng.choice(["utf-16", "utf-8-sig", "latin-1 with °", "cp1252 quotes", "CRLF", "CR"])
    made = {
        "utf-16": lambda: text.encode("utf-16"),
        "utf-8-sig": lambda: text.encode("utf-8-sig"),
        "latin-1 with °": lambda: (text + "°").encode("latin-1", "replace"),
        "cp1252 quotes": lambda: ("\u201c" + text).encode("cp1252", "replace"),
        "CRLF": lambda: text.replace("\n", "\r\n").encode(),
        "CR": lambda: text.replace("\n", "\r").encode(),
    }[how]()
    return made, f"written as {how}"


BINARY = (truncate, zero, flip, delete, duplicate, swap, append, empty)
TEXT = (*BINARY, recode)
_IN_PLACE = (zero, flip, swap)


def damage(folder: Path, victims: str, text: tuple[str, ...], rng: random.Random) -> Damage:
    """Damage one of the files below a folder that match a pattern;
    those of a .zspy folder may also vanish."""
    files = sorted(path for path in folder.rglob(victims) if path.is_file())
    path = rng.choice(files)
    name = str(path.relative_to(folder))
    stored = ".zspy/" in name
    if stored and rng.random() < 0.25:
        path.unlink()
        return Damage(name, "removed", False, 0)
    # What JSON says in a .zspy folder is text too.
    data = path.read_bytes()
    mutate = rng.choice(
        TEXT if path.suffix in text or (stored and path.name.startswith(".z")) else BINARY
    )
    if len(data) < 4 and mutate is not append:
        mutate = append if not data else empty
    changed, what = mutate(data, rng)
    if mutate is flip and "[" in what:
        size = what.count(",") + 1
    else:
        size = (
            sum(one != other for one, other in zip(data, changed, strict=False))
            if mutate in _IN_PLACE
            else len(changed)
        )
    path.write_bytes(changed)
    return Damage(name, what, mutate in _IN_PLACE, size, len(changed) > len(data))
