# SPDX-License-Identifier: GPL-3.0-or-later
"""The covariance of rays through a disc about the tilt axis, as a short sum of products.

Two rays at u and v from the axis, in radii, whose angles differ by t, cross at a radius r where the
density of blobs is (1 - r^2)^(l - 1): l = 1 for a rod and 3/2 for a ball (of whose slices fewer
reach far from the axis). Gegenbauer's product formula [1]_ says::

    (1 - r^2)^(l - 1) / |sin t| = sum_m g_m w(u) D_m(u) w(v) D_m(v) D_m(cos t)

Here D_m is his polynomial C_m^l, normalised to 1 at 1, w(u) is (1 - u^2)^(l - 1/2), and g_m is
proportional to (m + l) C_m^l(1). Gaussian blobs instead of points smooth w D_m and truncate the
sum. The result is positive definite whatever the rounding, and polynomials of even and of odd
degree belong to the even and the odd part of the rays (`folding`).

.. [1] NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov/18.17, eq. 18.17.5.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Cut-off of sigma f in the sum, as the spectrum of the covariance falls as exp(-(sigma f)^2), and
# in the quadrature over a blob.
_HIGHEST, _FINEST = 4.2, 5.5
# Blobs are cut off at this many standard deviations, before their values are denormal numbers.
_REACH = 7.0


def round_covariance(
    angles: np.ndarray, u: np.ndarray, blobs: list, ball: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the even and odd parts (tilt * u, tilt * u) of the covariance; see `rays`.

    Tilts are in radians, and u goes from 0 outwards, in steps from ray to ray.
    """
    order = 1.5 if ball else 1.0
    terms = [_smoothed(u, item, order) for item in blobs]
    degrees = max(len(term) for term in terms)
    # Tilts at even steps have few different differences.
    between = np.abs(np.subtract.outer(angles, angles)).round(9)
    differences, which = np.unique(between, return_inverse=True)
    turned = _polynomials(order, np.cos(differences), degrees)
    parts = []
    for parity in (0, 1):
        products = np.zeros((len(range(parity, degrees, 2)), len(u), len(u)))
        for term in terms:
            values = term[parity::2]
            products[: len(values)] += values[:, :, None] * values[:, None]
        blocks = np.tensordot(
            turned[parity::2].astype(np.float32), products.astype(np.float32), (0, 0)
        )
        pairs = blocks[which.reshape(between.shape)]
        parts.append(pairs.transpose(0, 2, 1, 3).reshape(len(angles) * len(u), -1))
    return parts[0], parts[1]


def _smoothed(u: np.ndarray, blobs, order: float) -> np.ndarray:
    """Return w D_m smoothed by the blobs of a scale, times sqrt(g_m) and sqrt(power), (m, u)."""
    radius = blobs.edge / blobs.sigma
    degrees, nodes = int(_HIGHEST * radius) + 12, int((_HIGHEST + _FINEST) / 2 * radius) + 24
    x, weighted = _quadrature(order, -(-degrees // 32) * 32, -(-nodes // 32) * 32)
    distance = np.minimum(np.abs(u[:, None] / blobs.sigma - radius * x), _REACH)
    seen = np.where(distance < _REACH, np.exp(-0.5 * distance**2), 0.0)
    return radius * np.sqrt(blobs.power) * (weighted[:degrees] @ seen.T)


@lru_cache(maxsize=32)
def _quadrature(order: float, degrees: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes x (node,), and the weights of integrals over sqrt(g_m) w D_m, (m, node)."""
    angles = np.pi * np.arange(1, nodes) / nodes
    x = np.cos(angles)
    m = np.arange(degrees)
    ends = m + 1 if order == 1 else (m + 1) * (m + 2) / 2
    # The constant of both orders is left to the normalisation in `rays`.
    weights = np.sqrt((m + order) * ends)[:, None] * np.sin(angles) ** (2 * order) * np.pi / nodes
    return x, weights * _polynomials(order, x, degrees)


def _polynomials(order: float, x: np.ndarray, degrees: int) -> np.ndarray:
    """Return Gegenbauer polynomials of an order, 1 at x = 1, of the first degrees, (m, x)."""
    values = np.empty((degrees, len(x)))
    values[0], values[1] = 1.0, x
    for m in range(1, degrees - 1):
        values[m + 1] = (2 * (m + order) * x * values[m] - m * values[m - 1]) / (m + 2 * order)
    return values
