# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated specimens for the benchmarks of automatic settings, beside those of the papers.

`tuned` names those that the settings were looked for on, `held_out` those that they were not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import Phantom, SimulatedSeries, simulate
from hyperspy_multitomo.simulation.phantoms import huber, schwartz, yuan, zhong
from hyperspy_multitomo.simulation.shapes import inside_ellipse, rotated

_TILTS = np.arange(-70.0, 71.0, 5.0)


def particles(size: int, slices: int) -> Phantom:
    """Return a support of carbon with small bright particles of Pt, some with Co."""
    centres = [(-0.45, 0.2, -0.4), (-0.1, -0.15, 0.3), (0.3, 0.2, 0.0), (0.5, -0.1, 0.6)]
    centres += [(-0.3, -0.2, 0.7), (0.1, 0.25, -0.7), (0.35, -0.25, -0.5)]

    def body(x, z, y):
        support = inside_ellipse(*rotated(x, z, 10), (0.75, 0.36 - 0.05 * y))
        bright = np.zeros_like(support)
        cobalt = np.zeros_like(support)
        for number, (cx, cz, cy) in enumerate(centres):
            radius = 0.08 + 0.015 * (number % 3)
            r2 = (x - cx) ** 2 + (z - cz) ** 2 + 0.12 * (y - cy) ** 2
            bright |= r2 < radius**2
            cobalt |= (r2 < radius**2) & (number % 2 == 0)
        alloy = np.where(cobalt, 0.5, 1.0) * bright
        return np.stack([support & ~bright, alloy, 0.5 * cobalt]).astype(np.float32)

    return _phantom("particles", ("C", "Pt", "Co"), (6, 78, 27), size, slices, body)


def layered(size: int, slices: int) -> Phantom:
    """Return a tilted film of four layers: Si, Ti, Si with a gradient to Ge, and Ti."""

    def body(x, z, y):
        along, across = rotated(x, z, 8, (0.0, 0.05))
        film = np.abs(along) < 0.8
        edges = (-0.32, -0.14, -0.04, 0.2, 0.3)
        layer = [film & (across > a) & (across <= b) for a, b in pairwise(edges)]
        part = np.clip((across + 0.04) / 0.24, 0, 1) * layer[2]
        silicon = layer[0] + layer[2] * (1 - part)
        titanium = 1.0 * layer[1] + layer[3]
        return np.stack([silicon, titanium, part]).astype(np.float32)

    return _phantom("layered", ("Si", "Ti", "Ge"), (14, 22, 32), size, slices, body)


def needle(size: int, slices: int) -> Phantom:
    """Return a needle along the tilt axis of Al with a band of Cu and precipitates of it."""

    def body(x, z, y):
        radius = 0.45 - 0.12 * y
        inside = x * x + z * z < radius**2
        band = np.abs(y + 0.2 + 0.2 * x) < 0.12
        spots = np.zeros_like(inside)
        for cx, cz, cy in (
            (0.15, 0.1, 0.5),
            (-0.2, 0.05, 0.2),
            (0.0, -0.2, -0.7),
            (0.2, -0.15, 0.8),
        ):
            spots |= (x - cx) ** 2 + (z - cz) ** 2 + 0.15 * (y - cy) ** 2 < 0.09**2
        copper = np.where(spots, 1.0, 0.5 * band) * inside
        return np.stack([inside - copper, copper]).astype(np.float32)

    tilts = np.arange(-90.0, 90.0, 6.0)
    return _phantom("needle", ("Al", "Cu"), (13, 29), size, slices, body, tilts)


def alloy(size: int, slices: int) -> Phantom:
    """Return a smooth lump of Au and Pd without an edge inside, whose composition drifts."""

    def body(x, z, y):
        inside = np.clip((0.62 - np.hypot(x, 1.2 * z + 0.1 * x)) / 0.1, 0, 1)
        gold = 0.5 + 0.35 * np.sin(3.0 * x + 1.0) * np.cos(2.5 * z - 0.8 * y)
        return np.stack([inside * gold, inside * (1 - gold)]).astype(np.float32)

    return _phantom("alloy", ("Au", "Pd"), (79, 46), size, slices, body)


tuned: dict[str, Callable[[int, int], Phantom]] = {
    "zhong": zhong, "yuan": yuan, "huber": huber, "schwartz": schwartz,
}  # fmt: skip
held_out: dict[str, Callable[[int, int], Phantom]] = {
    "particles": particles, "layered": layered, "needle": needle, "alloy": alloy,
}  # fmt: skip


def series(
    name: str, counts: float, seed: int, size: int = 64, slices: int = 24
) -> SimulatedSeries:
    """Return a series with so many counts per pixel at the peak of the brightest element's maps."""
    phantom = (tuned | held_out)[name](size, slices)
    peak = simulate(phantom, blur=0, seed=0, oversampling=1).expected_maps.max()
    noise = "poisson" if phantom.haadf_noise == "poisson" else 0.01 * _brightest(phantom)
    return simulate(phantom, dose=counts / peak, blur=0, haadf_noise=noise, seed=seed)


def signals(simulated: SimulatedSeries) -> tuple[mt.TiltSeriesEDS, mt.TiltSeriesHAADF]:
    """Return maps and HAADF images as signals."""
    maps = dict(zip(simulated.elements, simulated.maps.transpose(0, 1, 3, 2), strict=True))
    size = {"pixel_size": simulated.pixel_size}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=simulated.tilts, **size)
    images = simulated.haadf.transpose(0, 2, 1)
    return eds, mt.TiltSeriesHAADF.from_images(images, tilts=simulated.haadf_tilts, **size)


def volume_error(volume, simulated: SimulatedSeries) -> float:
    """Return the mean over the elements of |x - truth| / |truth|."""
    found = volume if isinstance(volume, np.ndarray) else channels(volume, simulated)
    pairs = zip(found, simulated.truth, strict=False)
    return float(np.mean([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs]))


def composition_error(volume, simulated: SimulatedSeries) -> float:
    """Return the RMSE of the elements' fractions (in the unit of the truth) in the specimen."""
    found = volume if isinstance(volume, np.ndarray) else channels(volume, simulated)
    per_unit = simulated.phantom.counts_per_unit[:, None, None, None]
    truth, found = simulated.phantom.truth, found / per_unit
    total, inside = found.sum(axis=0), truth.sum(axis=0) > 0.5 * truth.sum(axis=0).max()
    fractions = np.divide(found, total, out=np.full_like(found, 1 / len(found)), where=total > 0)
    expected = truth / np.where(inside, truth.sum(axis=0), 1)
    return float(np.sqrt(np.mean(np.square(fractions - expected)[:, inside])))


def channels(volume, simulated: SimulatedSeries) -> np.ndarray:
    """Return the elements of a volume on the grid of the truth, (channel, z, x, y).

    Volumes of binned series are put on the recorded voxels, thinner ones get zeros around them.
    """
    array = volume.array("element", "z", "x", "y")
    array = np.asarray(array[[volume.channels.index(name) for name in simulated.elements]])
    factor = round(volume.pixel_size / simulated.pixel_size)
    for axis in (1, 2, 3):
        array = array.repeat(factor, axis) if factor > 1 else array
    found, shape = np.zeros(simulated.truth.shape, np.float32), simulated.truth.shape
    spare = [(a - b) // 2 for a, b in zip(shape[1:3], array.shape[1:3], strict=True)]
    inside = [slice(max(0, s), max(0, s) + min(a, b)) for s, a, b in zip(
        spare, shape[1:3], array.shape[1:3], strict=True)]  # fmt: skip
    cut = [slice(max(0, -s), max(0, -s) + min(a, b)) for s, a, b in zip(
        spare, shape[1:3], array.shape[1:3], strict=True)]  # fmt: skip
    slices = min(shape[3], array.shape[3])
    found[:, inside[0], inside[1], :slices] = array[:, cut[0], cut[1], :slices] / factor**2
    return found


def recorded(path: Path, measure: Callable, cases: list[tuple]) -> list[dict]:
    """Return the records of the cases, those measured that the file does not have."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = {(one["name"], one["counts"], one["seed"]): one for one in map(json.loads, lines)}
    for name, counts, seed in cases:
        if (name, counts, seed) not in records:
            known = {"name": name, "counts": counts, "seed": seed}
            records[name, counts, seed] = known | measure(name, counts, seed)
            with path.open("a") as file:
                print(json.dumps(records[name, counts, seed]), file=file)
    return list(records.values())


def _phantom(name, elements, numbers, size, slices, body, tilts=_TILTS) -> Phantom:
    made = huber(size, slices)
    thickness = 0.5 * 128
    contrast = np.array(numbers, float) ** 1.8
    return replace(
        made, name=name, elements=elements, unit="1 (fraction of the volume)",
        pixel_size=128 / size, tilts=tilts, haadf_tilts=tilts,
        counts_per_unit=np.full(len(elements), 1 / thickness),
        haadf_per_unit=2e4 / thickness * contrast / contrast.max(), body=body,
    )  # fmt: skip


def _brightest(phantom: Phantom) -> float:
    return float(simulate(phantom, blur=0, oversampling=1, seed=0).expected_haadf.max())
