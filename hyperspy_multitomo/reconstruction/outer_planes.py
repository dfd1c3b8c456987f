# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the outermost planes of a volume hold matter, as where it is too thin."""

from __future__ import annotations

import numpy as np

# Contrast of an outer plane over that of the plane with most. In simulated lamellae, particles and
# needles (benchmarks/depth.py, 1 % of noise) it is 0.73 to 1 in volumes of at most 0.7 of the depth
# that is needed, and below 0.6 from 1.0 on.
FULL = 0.7
# Fewest planes, and slices, that are looked at, and voxels along x and y over which noise is
# averaged.
_FEWEST, _AVERAGED = 8, 4


def outer_contrast(volume: np.ndarray) -> float | None:
    """Return the contrast of the outermost planes along z, over that of the plane with most.

    The mean of a plane does not tell: what the missing wedge smears is as bright outside.

    Parameters
    ----------
    volume : numpy.ndarray (channel, z, x, y)

    Returns
    -------
    float or None
        Of the channels together, each over its contrast; None where there are too few planes or
        slices, or nothing is in them.
    """
    channels, depth, width, slices = volume.shape
    if min(depth, slices) < _FEWEST:
        return None
    n = (max(1, width // _AVERAGED), max(1, slices // _AVERAGED))
    sizes = [min(_AVERAGED, width), min(_AVERAGED, slices)]
    blocks = volume[..., : n[0] * sizes[0], : n[1] * sizes[1]]
    blocks = blocks.reshape(channels, depth, n[0], sizes[0], n[1], sizes[1])
    spread = blocks.mean(axis=(3, 5), dtype=np.float64).std(axis=(2, 3))
    highest = spread.max(axis=1)
    if not highest.any():
        return None
    # Median over the channels: a noisy one has contrast everywhere.
    ratios = spread[highest > 0][:, [0, -1]].max(axis=1) / highest[highest > 0]
    return float(np.median(ratios))
