# SPDX-License-Identifier: GPL-3.0-or-later
"""Axes of length: in nm where they have a unit of length, else in pixels."""

from __future__ import annotations

from hyperspy_multitomo.acquisition.units import unit_of


def in_nm(axis) -> tuple[float, float, str]:
    """Return scale, offset and unit of an axis: in nm where it has a length unit, else px."""
    unit = unit_of(axis.units)
    return (
        float(axis.scale) * unit.factor,
        float(axis.offset) * unit.factor,
        "nm" if unit.kind == "length" else "px",
    )


def length_axis(name: str, size: int, pixel_size: float | None, offset: float = 0.0) -> dict:
    """Return a HyperSpy axis dictionary in nm, or in px where `pixel_size` is None."""
    scale, units = (1.0, "px") if pixel_size is None else (float(pixel_size), "nm")
    return {
        "name": name,
        "size": int(size),
        "offset": float(offset),
        "scale": scale,
        "units": units,
        "navigate": False,
    }
