# SPDX-License-Identifier: GPL-3.0-or-later
"""The box that holds all that a coarse solution shows: vacuum around it takes no time.

Single rays cannot identify vacuum: at 0.03 counts per pixel most rays through the specimen have no
count. The solution on voxels several times larger uses all counts of all tilts, with gains,
backgrounds and the HAADF in the model, and shows whatever the full solution would, matter or noise.
"""

from __future__ import annotations

from dataclasses import replace
from math import lcm

import numpy as np

from hyperspy_multitomo.machine.denormals import denormals_flushed
from hyperspy_multitomo.tomography.box import Box
from hyperspy_multitomo.tomography.coarse import block_averages, coarse_term
from hyperspy_multitomo.tomography.forms import primal_dual_of
from hyperspy_multitomo.tomography.variational_system import Term, VariationalSystem

# tests/test_support.py holds that boxes with these numbers contain the specimen, down to 0.03
# counts per pixel.
#
# A coarse voxel is occupied above this fraction of the largest of its channel, with a margin of so
# many voxels.
OCCUPIED, MARGIN = 0.003, 2
# Fraction of the strength that smooths the coarse solution: one that is too rough shows too much,
# which is safe.
ROUGH = 0.25
# Counts of the specimen that a coarse voxel needs in all tilts together: fewer cannot be told from
# none.
COUNTS = 100
# Voxels along the widest edge of the coarse volume, at most and at least, and its iterations, whose
# number is fixed so that a resumed run has the same box.
_FINEST, _COARSEST, _ITERATIONS = 64, 24, 30
# Fraction of the volume below which a box saves time, and the smallest volume (voxels) worth it.
WORTH, LEAST_VOXELS = 0.8, 2**18


def supported(
    system: VariationalSystem, shown: VariationalSystem | None = None
) -> VariationalSystem:
    """Return the problem on the box that holds the specimen, or as it is if that saves little.

    `shown` replaces the problem in the coarse solution, by default with itself.
    """
    shape = system.initial.shape[1:]
    if np.prod(shape) < LEAST_VOXELS:
        return system
    box = support_of(system if shown is None else shown)
    return within(system, box) if box.voxels <= WORTH * np.prod(shape) else system


def within(system: VariationalSystem, box: Box) -> VariationalSystem:
    """Return the problem on the voxels of a box and the rays that meet it, with 0 around it.

    The volumes that it returns are whole.

    A layer of voxels around the box is included and stays 0: an edge at the rim of the box costs
    as much as elsewhere.
    """
    whole = system.initial.shape[1:]
    together = lcm(*(term.A.geometry.binning for term in system.terms))
    around = box.grown(whole, (1, 1, together))
    mask = np.zeros(whole if around.y != box.y else whole[:2], np.float32)
    mask[box.places[1 : 1 + mask.ndim]] = 1
    if system.mask is not None:
        mask = (
            mask * system.mask
            if mask.ndim == system.mask.ndim
            else _in_slices(mask) * _in_slices(system.mask)
        )
    return replace(
        system,
        terms=tuple(_term_of(around, term) for term in system.terms),
        initial=system.initial[around.places],
        mask=np.ascontiguousarray(mask[around.places[1 : 1 + mask.ndim]]),
        box=around,
        whole=whole,
    )


def _term_of(box: Box, whole: Term) -> Term:
    """Return a data term of the volume as one of a box in it."""
    geometry, starts = box.geometry(whole.A.geometry)
    window = starts[:, None] + np.arange(geometry.detector_width)
    tilts = np.arange(len(starts))[:, None]
    slices = slice(box.y[0] // geometry.binning, -(-box.y[1] // geometry.binning))

    def part(images):
        return (
            None if images is None else np.ascontiguousarray(images[..., slices][:, tilts, window])
        )

    return replace(
        whole,
        A=type(whole.A)(geometry, whole.A.threads),
        data=part(whole.data),
        background=part(whole.background),
        mix=whole.mix if whole.mix is None or whole.mix.ndim == 1 else whole.mix[box.places],
        profile=None if whole.profile is None else whole.profile[:, tilts, window],
    )


def _in_slices(mask: np.ndarray) -> np.ndarray:
    """Return a mask as (z, x, y)."""
    return mask if mask.ndim == 3 else mask[..., None]


def support_of(system: VariationalSystem) -> Box:
    """Return the box of all that a coarse solution shows; the whole volume if it cannot tell."""
    together, shape = (
        lcm(*(term.A.geometry.binning for term in system.terms)),
        system.initial.shape[1:],
    )
    whole = Box.of([0, shape[0], 0, shape[1], 0, shape[2]], shape)
    factor = _factor(system, together)
    if factor is None:
        return whole
    volume = _coarse_solution(system, factor)
    occupied = (volume > OCCUPIED * volume.max(axis=(1, 2, 3), keepdims=True)).any(axis=0)
    if not occupied.any():
        return whole
    places = np.argwhere(occupied)
    first, last = places.min(axis=0) - MARGIN, places.max(axis=0) + 1 + MARGIN
    bounds = np.stack([np.maximum(first * factor, 0), np.minimum(last * factor, shape)], axis=1)
    return Box.of(bounds.ravel(), shape, together)


def _factor(system: VariationalSystem, together: int) -> int | None:
    """Return the factor of the coarse voxels, a multiple of `together`; None if too large.

    It is the smallest that gives a coarse voxel enough counts.
    """
    longest = max(system.initial.shape[1:])
    factor = max(2, -(-longest // _FINEST))
    factor = -(-factor // together) * together
    while factor * _COARSEST <= longest:
        if all(_counts(term, factor) >= COUNTS for term in system.terms):
            return factor
        factor += together
    return None


def _counts(term: Term, factor: int) -> float:
    """Return the counts of all tilts in the pixels of a coarse voxel of the specimen.

    With even noise it is the square of the signal to noise ratio.
    """
    pixels = factor // term.A.geometry.binning
    images = coarse_term(term, factor).data
    if term.discrepancy == "kl":
        images = images / term.counts[:, None, None, None]
    else:
        images = np.square(np.maximum(images, 0)) * term.weights[:, None, None, None]
    images = images.sum(axis=0, dtype=np.float64)
    sums = images.sum(axis=(1, 2))
    levels = np.square(images).sum(axis=(1, 2)) / np.where(sums > 0, sums, 1)
    return float(levels.sum() * pixels * min(pixels, term.data.shape[-1]))


@denormals_flushed()
def _coarse_solution(system: VariationalSystem, factor: int) -> np.ndarray:
    """Return u (channel, z, x, y) on voxels `factor` times as long, by TV.

    TGV would show the same support.
    """
    terms = tuple(coarse_term(term, factor) for term in system.terms)
    mask = system.mask
    if mask is not None:
        coarse = block_averages(_in_slices(mask), (factor, factor, factor)) > 0
        mask = (coarse[..., 0] if mask.ndim == 2 else coarse).astype(np.float32)
    slices = -(-system.initial.shape[-1] // factor)
    start = np.broadcast_to(np.float32(0), (system.channels, *terms[0].A.domain_shape, slices))
    steps = primal_dual_of(
        replace(
            system,
            terms=terms,
            initial=start,
            mask=mask,
            kind="tv",
            strength=ROUGH * system.strength,
        )
    )
    try:
        for _ in range(_ITERATIONS):
            steps.advance()
        return np.abs(steps.state()[0])
    finally:
        steps.close()
