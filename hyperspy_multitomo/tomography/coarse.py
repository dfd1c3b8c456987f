# SPDX-License-Identifier: GPL-3.0-or-later
r"""A variational problem on larger voxels, whose solution is about the averaged fine solution.

Voxels are c times as long, and projections are averaged over blocks of pixels that are c voxels
wide. There are c^2 times fewer rays, of the same expectations, and c^3 times fewer voxels, of
gradients c times as large: both sums of the objective shrink by 1/c^2, so that weights and strength
stay the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyperspy_multitomo.tomography.geometry import TiltGeometry, volume_grid
from hyperspy_multitomo.tomography.variational_system import Term


def block_averages(array: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """Return the means over blocks of the given lengths along the last axes.

    The last block of an axis holds what is left.
    """
    for axis, length in enumerate(lengths, -len(lengths)):
        if length > 1:
            starts = np.arange(0, array.shape[axis], length)
            sizes = np.diff(np.append(starts, array.shape[axis]))
            sums = np.add.reduceat(array, starts, axis=axis, dtype=np.float32)
            array = sums / sizes.astype(np.float32).reshape(-1, *(1,) * (-1 - axis))
    return array


def coarse_geometry(geometry: TiltGeometry, factor: int) -> TiltGeometry:
    """Return the geometry with voxels and pixels of `factor` voxels, a multiple of the binning."""
    together = factor // geometry.binning
    width = -(-geometry.detector_width // together)
    fine = volume_grid(geometry)
    shape = -(-fine[0] // factor), -(-fine[1] // factor)
    # Last blocks reach beyond the volume, which moves its centre.
    beyond = (np.array(shape) * factor - np.array(fine))[::-1] / 2
    centres = geometry.origins + geometry.directions @ beyond / geometry.binning
    shifts = (centres + 0.5) / together - 0.5 - (width - 1) / 2
    return TiltGeometry(geometry.tilts, width, shape, geometry.pixel_size * factor, shifts=shifts)


def coarse_term(term: Term, factor: int) -> Term:
    """Return a data term on voxels `factor` times as long."""
    binning = term.A.geometry.binning
    together = factor // binning

    def averaged(images, lengths):
        return None if images is None else block_averages(images, lengths)

    return replace(
        term,
        A=type(term.A)(coarse_geometry(term.A.geometry, factor), term.A.threads),
        data=averaged(term.data, (together, together)),
        background=averaged(term.background, (together, together)),
        weights=term.weights / binning**2,
        mix=term.mix
        if term.mix is None or term.mix.ndim == 1
        else averaged(term.mix, (factor,) * 3),
        profile=averaged(term.profile, (together,)),
    )
