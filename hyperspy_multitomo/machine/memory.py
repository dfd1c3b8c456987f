# SPDX-License-Identifier: GPL-3.0-or-later
"""Available memory, and the error that is raised before a run that would need more."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Return the bytes that this process can still allocate, or None if unknown."""
    known = [size for size in (_of_machine(), _of_container()) if size is not None]
    return min(known, default=None)


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raise a MemoryError if fewer bytes are available than needed.

    Parameters
    ----------
    needed : int
        Bytes.
    what, remedy : str
        What needs them, and how to need less, for the message.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{what} needs about {needed / 1e9:.3g} GB and {available / 1e9:.3g} GB are available: "
            f"{remedy}"
        )


def _of_machine() -> int | None:
    """Return the bytes that the kernel can allocate without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return _of_other_systems()
    sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in sizes else None


def _of_other_systems() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _of_container() -> int | None:
    """Return the bytes left below the limit of a container; cached files count as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return (
        None if limit == "max" else max(int(limit) - used + int(cached.get("inactive_file", 0)), 0)
    )
