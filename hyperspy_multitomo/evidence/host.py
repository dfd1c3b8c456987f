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
# Pixels (standard deviation) by which expected counts are smoothed where they are the variance, and
# the part of their mean that is the least.
_SMOOTH, _FLOOR = 1.5, 0.1


@dataclass(frozen=True, eq=False)
class Host:
    """An element's surroundings as terms, each with an amplitude that is fitted to its counts.

    The terms are a constant within the outline, a rim of two voxels around that, the other channels
    of the volume, the element's own, and the background. Near the region the other channels and,
    more widely, the element's own are filled from what is around.

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
    own : array (z, x, y)
        Volume of the element, which also gives the variance of the counts.
    own_is_term : bool
    fit : HostFit
    """

    model: RecordedModel
    place: int
    sensitivity: np.ndarray
    outline: np.ndarray
    others: np.ndarray
    own: np.ndarray
    own_is_term: bool
    fit: HostFit

    @classmethod
    def of(
        cls,
        model: RecordedModel,
        place: int,
        outline: np.ndarray,
        others: np.ndarray,
        own: np.ndarray,
        own_is_term: bool = True,
    ) -> Host:
        """Fit the host of an element to its counts; see `Host` for the parameters."""
        counts = model.images[place].astype(float).ravel()
        background = np.broadcast_to(model.background, model.images.shape)[place].astype(float)
        sensitivity = np.broadcast_to(model.sensitivity, model.images.shape)[place]
        rim = grown(outline, OUTER_RIM) & ~outline
        rays = model.rays(np.concatenate([[outline, rim], others, [own]]).astype(np.float32))
        variance, floor = _variance(counts, background, *(sensitivity * rays[[-1, 0]]))
        if not (own_is_term and own.any()):
            own_is_term, rays = False, rays[:-1]
        terms = (sensitivity * rays).astype(float).reshape(len(rays), -1)
        if background.any():
            # How large it is comes out of the counts too.
            terms = np.concatenate([terms, background.reshape(1, -1)])
        fit = HostFit.of(counts, background.ravel(), variance, floor, terms)
        return cls(model, place, sensitivity, outline, others, own, own_is_term, fit)

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
        known = len(self.others) + self.own_is_term
        changes[2 : 2 + known] = rays.beyond[:known].reshape(known, self.sensitivity.size)
        sensitivity = self.sensitivity.ravel()
        return contrast(
            self.fit,
            sensitivity * changes,
            sensitivity * local.astype(float),
            _smoothed(self.sensitivity * rays.own).ravel(),
        )


@dataclass(frozen=True, eq=False)
class LocalRays:
    """Projections of a region, and of what other channels hold in it beyond its surroundings.

    Attributes
    ----------
    region : array (tilt, x, y)
    beyond : array (channel, tilt, x, y)
        What the other channels hold in the region and its rim beyond its surroundings; the element
        itself last, more widely.
    own : array (tilt, x, y)
        What the element itself holds in the region and its rim.
    """

    region: np.ndarray
    beyond: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, host: Host, around: Neighbourhood) -> LocalRays:
        """Project a region, and what the volumes hold in it and its rim."""
        others = host.others[(slice(None), *around.box)]
        shell = others[:, around.shell].mean(axis=1)[:, None, None, None]
        own = host.own[around.box]
        parts = [
            around.region,
            *np.where(around.filled, others - shell, 0),
            np.where(around.wide, own - own[around.far_shell].mean(), 0),
            np.where(around.filled, own - own[around.shell].mean(), 0),
        ]
        rays = rays_of_box(host.model, parts, around.box, host.outline.shape)
        return cls(rays[0], rays[1:-1], rays[-1])

    def whole(self, model: RecordedModel, around: Neighbourhood, outline: np.ndarray) -> np.ndarray:
        """Project a region with its surroundings within an outline."""
        near = around.whole & outline[around.box]
        return rays_of_box(model, [near], around.box, outline.shape)[0]


def _variance(
    counts: np.ndarray, background: np.ndarray, signal: np.ndarray, outline: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the variance of each ray, (ray,), and the least.

    It is what the volume of the element makes one expect, smoothed so that it does not follow the
    noise of the counts, and as many in all as were counted.
    """
    if not counts.any():
        raise ValueError("the maps of this element hold no count: there is nothing to test")
    signal = _smoothed(np.maximum(signal, 0))
    excess = max(counts.sum() - background.sum(), 0.0) - signal.sum()
    if excess < 0:
        signal *= 1 + excess / signal.sum()
    else:
        # What the volume has lost is taken to be anywhere in the specimen.
        signal += excess * (outline / outline.sum())
    return (signal + background).ravel(), _FLOOR * float(counts.mean())


def _smoothed(images: np.ndarray) -> np.ndarray:
    """Return images (tilt, x, y) smoothed as the variance is."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images.astype(float), (0, _SMOOTH, _SMOOTH))


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
