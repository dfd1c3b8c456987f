# SPDX-License-Identifier: GPL-3.0-or-later
"""What is expected of an element without the region that is tested: the terms of its host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.evidence.poisson_fit import Contrast, HostFit, contrast
from hyperspy_multitomo.evidence.regions import Neighbourhood, grown
from hyperspy_multitomo.reconstruction.recorded_model import RecordedModel

# Voxels around the outline whose content is fitted freely.
OUTER_RIM = 2
# By how much the outline is moved, in voxels: the test is that of the first.
MOVES = (-1, 0, 1)


@dataclass(frozen=True, eq=False)
class Host:
    """An element's surroundings as terms, each with an amplitude that is fitted to its counts.

    The terms are a constant within the outline, a rim of two voxels around that, the other channels
    of the volume, and the background.

    Attributes
    ----------
    model : RecordedModel
    place : int
        Channel of the images.
    sensitivity : array (tilt, x, y)
        Counts per projected signal.
    outline : array of bool (z, x, y)
    others : array (channel, z, x, y)
        Volumes of the other channels.
    fit : HostFit
    """

    model: RecordedModel
    place: int
    sensitivity: np.ndarray
    outline: np.ndarray
    others: np.ndarray
    fit: HostFit

    @classmethod
    def of(cls, model: RecordedModel, place: int, outline: np.ndarray, others: np.ndarray) -> Host:
        """Fit the host of an element to its counts."""
        counts = model.images[place].astype(float).ravel()
        background = np.broadcast_to(model.background, model.images.shape)[place].astype(float)
        sensitivity = np.broadcast_to(model.sensitivity, model.images.shape)[place]
        rim = grown(outline, OUTER_RIM) & ~outline
        rays = model.rays(np.concatenate([[outline, rim], others]).astype(np.float32))
        terms = (sensitivity * rays).astype(float).reshape(len(rays), -1)
        if background.any():
            # How large it is comes out of the counts too.
            terms = np.concatenate([terms, background.reshape(1, -1)])
        fit = HostFit.of(counts, background.ravel(), terms)
        return cls(model, place, sensitivity, outline, others, fit)

    def contrast(self, around: Neighbourhood, rays: LocalRays) -> Contrast:
        """Return the contrast of a region.

        Parameters
        ----------
        around : Neighbourhood
        rays : LocalRays
            Of the region and of the other channels in it.
        """
        whole = rays.whole(self.model, around, self.outline)
        local = np.stack([rays.region, whole]).reshape(2, -1)
        changes = np.zeros(self.fit.design.shape)
        changes[2 : 2 + len(self.others)] = rays.beyond.reshape(len(self.others), -1)
        sensitivity = self.sensitivity.ravel()
        return contrast(self.fit, sensitivity * changes, sensitivity * local.astype(float))


@dataclass(frozen=True, eq=False)
class LocalRays:
    """Projections of a region, and of what other channels hold in it beyond its surroundings.

    Attributes
    ----------
    region : array (tilt, x, y)
    beyond : array (channel, tilt, x, y)
    """

    region: np.ndarray
    beyond: np.ndarray

    @classmethod
    def of(cls, model: RecordedModel, around: Neighbourhood, others: np.ndarray) -> LocalRays:
        """Project a region, and other channels (channel, z, x, y) in it and its rim."""
        inside = others[(slice(None), *around.box)]
        shell = inside[:, around.shell].mean(axis=1)[:, None, None, None]
        beyond = np.where(around.filled, inside - shell, 0)
        rays = rays_of_box(model, [around.region, *beyond], around.box, others.shape[1:])
        return cls(rays[0], rays[1:])

    def whole(self, model: RecordedModel, around: Neighbourhood, outline: np.ndarray) -> np.ndarray:
        """Project a region with its surroundings within an outline."""
        near = around.whole & outline[around.box]
        return rays_of_box(model, [near], around.box, outline.shape)[0]


def rays_of_box(
    model: RecordedModel, volumes: Sequence[np.ndarray], box: tuple[slice, ...], shape
) -> np.ndarray:
    """Project volumes on a box of the volume, (volume, tilt, x, y) at the recorded pixels.

    Only the slices that the box touches are projected.
    """
    binning = model.project.geometry.binning
    z, x, y = box
    first, last = y.start // binning, -(-y.stop // binning)
    part = np.zeros((len(volumes), *shape[:2], (last - first) * binning), np.float32)
    start = y.start - first * binning
    part[:, z, x, start : start + y.stop - y.start] = np.stack(volumes)
    rays = np.zeros((len(volumes), *model.images.shape[1:]), np.float32)
    rays[..., first:last] = model.project(part)
    if model.alignment is not None:
        rays = model.alignment.apply(rays, for_geometry=True, fill="edge", backward=True)
    return rays
