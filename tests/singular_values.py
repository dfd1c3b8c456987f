# SPDX-License-Identifier: GPL-3.0-or-later
"""Small matrices of known singular values, for kernels that clip them,
and the relative difference of two arrays."""

import numpy as np


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def matrices(channels, components, values, seed=0):
    """16 random matrices (voxel, channel, component) with the given singular values (min(channel,
    component),)."""
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.standard_normal((16, channels, channels)))
    right, _ = np.linalg.qr(rng.standard_normal((16, components, components)))
    count = min(channels, components)
    return ((left[..., :count] * values[:count]) @ right[:, :count]).astype(np.float32)


SPECTRA = {
    "distinct": [3.0, 1.5, 0.5],
    "all above": [3.0, 2.5, 1.2],
    "all below": [0.9, 0.5, 0.1],
    "equal": [2.0, 2.0, 2.0],
    "two equal": [2.0, 2.0, 0.3],
    "nearly equal": [2.0, 2.0 + 1e-5, 2.0 - 1e-5],
    "rank 1": [3.0, 0.0, 0.0],
    "rank 2": [3.0, 2.0, 0.0],
    "at the radius": [1.0, 1.0, 0.5],
    "spread": [50.0, 5.0, 0.05],
    "zero": [0.0, 0.0, 0.0],
}
