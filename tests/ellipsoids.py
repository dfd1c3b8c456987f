# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact projections of ellipsoids, a phantom that needs no projector."""

import numpy as np


def ellipsoid(
    tilts, width, height, centre=(0, 0, 0), axes=(10, 10, 10), moved=None, oversampling=2
):
    """
    Path lengths (tilt, x, y), px, through an ellipsoid of centre (x, z, y) and half axes (x, z, y),
    averaged over the pixels.

    `moved` (tilt, 2) displaces the projections by (x, y) px.
    """
    (cx, cz, cy), (ax, az, ay) = centre, axes
    moved = np.zeros((len(tilts), 2)) if moved is None else np.asarray(moved)
    u, v = (
        (np.arange(n * oversampling) + 0.5) / oversampling - 0.5 - (n - 1) / 2
        for n in (width, height)
    )
    projections = []
    for tilt, (dx, dy) in zip(np.deg2rad(tilts), moved, strict=True):
        cos, sin = np.cos(tilt), np.sin(tilt)
        radius2 = (ax * cos) ** 2 + (az * sin) ** 2
        inside = (
            1 - (u[:, None] - dx - cx * cos - cz * sin) ** 2 / radius2 - ((v - dy - cy) / ay) ** 2
        )
        path = 2 * ax * az / np.sqrt(radius2) * np.sqrt(np.clip(inside, 0, None))
        projections.append(
            path.reshape(width, oversampling, height, oversampling).mean(axis=(1, 3))
        )
    return np.array(projections)


def core_shell(width=128, height=32, tilts=None, mixed=0.0):
    """Projections (channel, tilt, x, y) of an off-centre core and its shell,
    each with a part `mixed` of the other's element."""
    tilts = np.arange(-75.0, 76.0, 5.0) if tilts is None else tilts
    scale = width / 128
    centre = (0, 0, 0)
    whole = ellipsoid(tilts, width, height, centre, (46 * scale, 40 * scale, 0.7 * height))
    core = ellipsoid(
        tilts,
        width,
        height,
        (6 * scale, -5 * scale, 0.06 * height),
        (24 * scale, 20 * scale, 0.37 * height),
    )
    shell = whole - core
    return np.array([(1 - mixed) * core + mixed * shell, mixed * core + (1 - mixed) * shell])
