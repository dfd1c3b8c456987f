# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps an axis that an index or a sum takes away, for messages."""

#: How one entry is taken along each axis without losing it.
_SLICES = {
    "x": "isig[5:6, :]",
    "y": "isig[:, 5:6]",
    "tilt": "inav[3:4], or inav[:, 3:4] of elemental maps",
    "element": "inav[0:1, :]",
    "z": "inav[3:4], or inav[:, 3:4] of a volume of elements",
}


def remedy(name: str) -> str:
    """Return what keeps an axis, for the message where it is missing."""
    advice = f"; a slice keeps it, as in {_SLICES[name]}" if name in _SLICES else ""
    return f"an index or a sum took {name!r} away{advice}"
