# SPDX-License-Identifier: GPL-3.0-or-later
"""Available memory, and the error that is raised before a run that would need more."""

from __future__ import annotations

from pathlib import Path

# Fractions of the memory that is free which the parts of the package plan for. All leave room for
# what is read and written beside, and for other programs; none changes a result.
#: One slab of a reconstruction, the input and the volume in transit included.
OF_SLABS = 0.6
#: All slabs that one process reconstructs side by side.
OF_SLABS_TOGETHER = 0.8
#: The slices that a fit of response ratios looks at.
OF_RATIO_FIT = 0.5
#: The counts of spectra that are cached between two passes, instead of read again.
OF_SPECTRA = 0.25
#: The coarse volumes that X-rays are traced through; it runs beside a reconstruction.
OF_TRACING = 0.25
#: The memory of a GPU, where allocations are exact; the rest is for CuPy's pool and cuFFT.
OF_DEVICE = 0.9

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
