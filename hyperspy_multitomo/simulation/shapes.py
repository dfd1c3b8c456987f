# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of simple outlines, in fractions of the field's half width.

The coordinates x and z broadcast together; the masks have their common shape.
"""

from __future__ import annotations

import numpy as np


def rotated(x: np.ndarray, z: np.ndarray, degrees: float, centre: tuple[float, float] = (0.0, 0.0)):
    """Return the coordinates in a frame at `centre`, rotated by `degrees` from x towards z."""
    angle = np.deg2rad(degrees)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, z = x - np.float32(centre[0]), z - np.float32(centre[1])
    return x * cos + z * sin, z * cos - x * sin


def inside_polygon(
    x: np.ndarray, z: np.ndarray, sides: int, circumradius: float, corner: float
) -> np.ndarray:
    """Return the mask of a regular polygon with a vertex on +x and rounded corners.

    `corner` is the radius of the rounded corners; `circumradius` is the distance of the rounded
    outline from the centre, towards a vertex.
    """
    if corner >= circumradius:
        return x * x + z * z < circumradius**2
    sector = 2 * np.pi / sides
    inner = circumradius - corner
    apothem, half_side = inner * np.cos(sector / 2), inner * np.sin(sector / 2)
    # By symmetry one sector is enough: the nearest side, with its middle on the first axis.
    angle = np.abs(np.arctan2(z, x) % sector - sector / 2)
    radius = np.hypot(x, z)
    across, along = radius * np.cos(angle) - apothem, radius * np.sin(angle) - half_side
    return np.hypot(np.maximum(across, 0), np.maximum(along, 0)) <= corner


def inside_ripple(
    x: np.ndarray, z: np.ndarray, radius: float, amplitude: float, fold: int
) -> np.ndarray:
    """Return the mask of a disc whose radius varies `fold` times around by a relative amplitude."""
    if radius <= 0:
        return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(z)), bool)
    distance = np.hypot(x, z)
    inside = distance < radius
    # The angle is slow to compute and matters only near the outline.
    near = np.abs(distance - radius) <= 1.001 * radius * abs(amplitude)
    x, z = (np.broadcast_to(values, near.shape)[near] for values in (x, z))
    inside[near] = distance[near] < radius * (1 + amplitude * np.cos(fold * np.arctan2(z, x)))
    return inside


def inside_ellipse(x: np.ndarray, z: np.ndarray, half_axes: tuple[float, float]) -> np.ndarray:
    """Return the mask of an ellipse with half axes along x and z."""
    return (x / half_axes[0]) ** 2 + (z / half_axes[1]) ** 2 < 1


def cap(y: float, half_length: float, centre: float = 0.0, power: float = 2.0) -> float:
    """Return the relative size of the section at y of a superellipsoid, 0 beyond its ends.

    With `power` 2 it is an ellipsoid.
    """
    return max(0.0, 1.0 - abs((y - centre) / half_length) ** power) ** (1.0 / power)
