# SPDX-License-Identifier: GPL-3.0-or-later
"""The grid that X-rays are traced through: emission, mass and particle, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hyperspy_multitomo.composition.cross_sections.tables import densities
from hyperspy_multitomo.composition.density import quantify_density
from hyperspy_multitomo.composition.quantification import quantify
from hyperspy_multitomo.composition.xrays.coarse_grid import cube_means, finer
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.memory import OF_TRACING, available_memory
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.acquisition_settings import dose_of, solid_angle_of

# Bytes that tracing through a lazy volume may use where the free memory is not known.
_UNKNOWN = 2e9


def particle(counts, elements, factors, mask, threshold):
    """Return the particle (z, x, y), as `quantify` finds it."""
    if mask is not None:
        return mask_array(mask, counts.shape[1:], lazy=is_lazy(counts))
    return quantify(counts, elements, "model", factors, mask=threshold)[1]


def checked_binning(binning: int | None, counts, geometry) -> int:
    """Return the voxels along the edge of a cube for tracing.

    By default 1, or of a lazy volume the least that fits the memory.
    """
    if binning is not None:
        if (
            isinstance(binning, bool)
            or binning != int(binning)
            or not 1 <= binning <= min(counts.shape[1:3]) // 2
        ):
            raise ValueError(
                f"binning={binning!r} must be a whole number from 1 to half of the volume, "
                f"{min(counts.shape[1:3]) // 2}"
            )
        return int(binning)
    if not is_lazy(counts):
        return 1
    available = available_memory()
    room = _UNKNOWN if available is None else OF_TRACING * available
    channels, voxels = len(counts), np.prod(counts.shape[1:], dtype=float)
    pixels = len(geometry.tilts) * geometry.detector_width * counts.shape[3] / geometry.binning
    size = 1
    # Emission, masses, attenuation twice, and three volumes of one channel; rays as they are found,
    # and moved.
    while 4 * ((4 * channels + 3) * voxels / size**3 + 2 * channels * pixels / size**2) > room:
        size += 1
    return size


def coarse_emission(counts, inside, size: int, binning: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over cubes of counts (element, z, x, y) and of the particle (z, x, y)."""
    emitting = np.where(inside, np.maximum(counts, 0), 0).astype(np.float32)
    both = np.concatenate([emitting, inside[None].astype(np.float32)])
    both = np.asarray(cube_means(both, size, binning))
    return both[:-1], both[-1]


def mass_per_count(volume, elements, factors, density, dose, solid_angle) -> np.ndarray:
    """Return the density of each element (g/cm^3) per count.

    Up to a common factor where the mean density is given.
    """
    if density is not None:
        return 1 / np.array([factors[name] for name in elements])
    known = {"dose": dose_of(volume, dose), "solid_angle": solid_angle_of(volume, solid_angle)}
    return quantify_density(np.ones((len(elements), 1)), elements, "model", factors, **known)[:, 0]


def in_coarse_pixels(alignment, size: int):
    """Return an alignment in pixels `size` times as large; the drift, px per line, stays."""
    parts = {name: getattr(alignment, name) / size for name in ("across", "along", "axis_offset")}
    return replace(alignment, **parts, pixel_size=None, quality=None)


def transmission_of(series, rays: np.ndarray, places: Sequence[int], size: int):
    """Return coarse rays (element, tilt, x, y) at all pixels and channels of a series.

    Shape (tilt, element, y, x), lazy if the series is.
    """
    shape = series.array("element", "tilt", "x", "y").shape

    def rows(start: int, stop: int) -> np.ndarray:
        whole = np.ones((*shape[:3], stop - start), np.float32)
        whole[places] = finer(rays, size, shape[2], slice(start, stop))
        return whole.transpose(1, 0, 3, 2)

    if not series._lazy:
        return rows(0, shape[3])
    import dask
    import dask.array as da

    chunks = series.array("tilt", "element", "y", "x").chunks[2]
    ends = np.cumsum(chunks).tolist()
    blocks = [
        da.from_delayed(
            dask.delayed(rows)(end - n, end), (shape[1], shape[0], n, shape[2]), np.float32
        )
        for end, n in zip(ends, chunks, strict=True)
    ]
    return da.concatenate(blocks, axis=2)


def mean_density_of(density, masses, elements) -> float:
    """Return the mean density of the particle, g/cm^3: a number, or that of its mixture."""
    if density != "nominal":
        if isinstance(density, str) or not (np.isfinite(density) and density > 0):
            raise ValueError(
                f"density={density!r} must be a positive number in g/cm^3, or 'nominal'"
            )
        return float(density)
    shares = masses.sum(axis=(1, 2, 3), dtype=np.float64)
    pure = densities(elements)
    if not np.isfinite(pure[shares > 0]).all():
        raise ValueError(
            f"the density of one of {', '.join(elements)} is not known; pass density= in g/cm^3"
        )
    return float(shares.sum() / (shares[shares > 0] / pure[shares > 0]).sum())
