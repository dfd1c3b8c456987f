# SPDX-License-Identifier: GPL-3.0-or-later
"""Features that are found on a random half of the counts, to be tested on the other half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperspy_multitomo.evidence.regions import grown
from hyperspy_multitomo.evidence.scan import Scan, ball
from hyperspy_multitomo.signals.methods.evidence_data import VolumeAndCounts, outline_of
from hyperspy_multitomo.signals.methods.other_counts import with_counts
from hyperspy_multitomo.signals.methods.reconstruct import Call

# At most so many places are proposed for each element, of this z or more on their half.
_PROPOSED, _LEAST_Z = 3, 2.5
_SEED = 20261203
# Diameter in voxels.
_USUAL = 5.0
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Halves:
    """A volume of one half of the counts of a series, with each half's counts.

    Attributes
    ----------
    first, second : VolumeAndCounts
        The volume of the first half, with the counts of the first and of the second half.
    """

    first: VolumeAndCounts
    second: VolumeAndCounts

    @classmethod
    def of(
        cls, data: VolumeAndCounts, outline=None, given: Mapping[str, Any] | None = None, seed=_SEED
    ) -> Halves:
        """Divide the counts at random, and reconstruct the first half by the same method."""
        model = data.model
        whole = np.rint(model.images).astype(np.int64)
        kept = np.random.default_rng(seed).binomial(whole, _HALF).astype(np.float32)
        background = np.broadcast_to(model.background, whole.shape) * _HALF
        half = with_counts(data.series, kept, background)
        call = Call.of_recipe(half, data.haadf, _of_half(data), _run(data, given))
        volume = call.volume(call.prepare())
        volumes = np.asarray(volume.array("element", "z", "x", "y"), np.float32)
        parts = [
            replace(
                model, images=images, background=background, sensitivity=_HALF * model.sensitivity
            )
            for images in (kept, (whole - kept).astype(np.float32))
        ]
        found = outline_of(volume, volumes, outline)
        first, second = (
            replace(data, model=part, volumes=volumes, outline=found) for part in parts
        )
        return cls(first, second)


def diameter_of(data: VolumeAndCounts, size: float | None) -> float:
    """Return a diameter in voxels, from one in the unit of the volume's axes.

    Raises
    ------
    ValueError
        Where it is less than three voxels, or more than the volume has.
    """
    step = data.volume.pixel_size or 1.0
    diameter = _USUAL if size is None else size / step
    if diameter < 3:
        raise ValueError(
            f"size={size} is {diameter:.3g} voxels: features are looked for from 3 voxels "
            f"({3 * step:.3g}) across"
        )
    if diameter > min(data.outline.shape[:2]):
        raise ValueError(
            f"size={size} is {diameter:.3g} voxels, more than the volume has: pass a smaller one"
        )
    return diameter


def proposed(data: VolumeAndCounts, element: str, diameter: float) -> list[np.ndarray]:
    """Return balls (z, x, y) at the most conspicuous places of an element, at most three.

    They do not overlap with each other's rims, and are within the outline shrunk by two voxels.
    """
    radius = diameter / 2
    host = data.plain_host(element)
    shape = ball(radius)
    scan = Scan.of(host, shape)
    within = scan.places & grown(scan.places, -1)
    z = np.where(within, np.abs(scan.z()), 0)
    balls: list[np.ndarray] = []
    grids = np.ogrid[tuple(slice(size) for size in z.shape)]
    while len(balls) < _PROPOSED and z.max() >= _LEAST_Z:
        centre = np.unravel_index(z.argmax(), z.shape)
        square = sum((grid - at) ** 2 for grid, at in zip(grids, centre, strict=True))
        balls.append(square <= radius**2 + 1e-9)
        z = np.where(square <= (2 * radius + 2) ** 2, 0, z)
    return balls


def _of_half(data: VolumeAndCounts):
    """Return the recipe for half of the counts."""
    recipe = data.call.recipe
    ratios = getattr(recipe, "ratios", None)
    if ratios is not None:
        # HAADF signal per count.
        halved = {name: float(ratios[name]) / _HALF for name in data.elements}
        recipe = replace(recipe, ratios=halved)
    background = getattr(recipe, "background", None)
    if background is not None:
        recipe = replace(recipe, background=np.asarray(background) * _HALF)
    return recipe


def _run(data: VolumeAndCounts, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the keywords of the run as it was, in memory and without a start from all counts."""
    run = {name: one for name, one in data.call.run.items() if name not in ("chunks", "initial")}
    mask = (given or {}).get("mask")
    return run | {"show_progressbar": False} | ({} if mask is None else {"mask": mask})
