# SPDX-License-Identifier: GPL-3.0-or-later
"""The covariance of rays through an infinite slab, from a table for each pair of tilts.

Two rays at u and v, whose tilts from the normal of the slab are s and t, share the blobs about
their crossing. Their covariance is a function of w = u cos t - v cos s alone: a box, given by the
crossings inside the slab, smoothed by the blobs.
"""

from __future__ import annotations

import math

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled

# Least |cos t|: rays closer to the plane of the slab would never leave it.
_STEEPEST = 0.1
# Entries of the table per standard deviation of the finest blob, and the number of standard
# deviations at which blobs are cut off.
_FINE, _REACH = 5, 7.0
# Boxes narrower than this fraction of a standard deviation are treated as lines.
_NARROW = 1e-3
# Step of the table of the normal distribution, in standard deviations. With its slopes, cubic
# interpolation is right to 1e-9.
_STEP = 1 / 40


def slab_covariance(
    angles: np.ndarray, u: np.ndarray, blobs: list
) -> tuple[np.ndarray, np.ndarray]:
    """Return the even and odd parts (tilt * u, tilt * u) of the covariance; see `rays`.

    Only the lower triangles are filled. Tilts are in radians from the normal of the slab.
    """
    cosines = np.cos(angles)
    cosines = np.where(cosines < 0, -1.0, 1.0) * np.maximum(np.abs(cosines), _STEEPEST)
    sines = np.sin(angles)
    size = len(angles) * len(u)
    even, odd = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    scales = np.array([[item.sigma, item.edge, item.power] for item in blobs])
    x = np.arange(-_REACH, _REACH + 2 * _STEP, _STEP)
    slopes = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    from scipy.special import ndtr

    _fill(even, odd, cosines, sines, u, scales, ndtr(x), _STEP * slopes)
    return even, odd


@compiled()
def _fill(even, odd, cosines, sines, u, scales, normal, slopes):
    """Fill the blocks of all pairs of tilts; the rows are the rays of the later tilt."""
    count = len(u)
    table = np.empty(int(2 * u[-1] * _FINE / (scales[0, 0] * _STEEPEST)) + 8, np.float32)
    for s in range(len(cosines)):
        for t in range(s + 1):
            step = _tabulate(
                table, cosines[s], cosines[t], sines[s], sines[t], u[-1], scales, normal, slopes
            )
            for i in range(count):
                for j in range(count):
                    w, shift = u[i] * cosines[t] / step, u[j] * cosines[s] / step
                    near, far = (
                        _interpolated(table, abs(w - shift)),
                        _interpolated(table, abs(w + shift)),
                    )
                    even[s * count + i, t * count + j] = near + far
                    odd[s * count + i, t * count + j] = near - far


@compiled()
def _tabulate(table, cos_s, cos_t, sin_s, sin_t, reach, scales, normal, slopes):
    """Tabulate the covariance of rays of two tilts over w, from -1 step; return the step."""
    width, across = math.sqrt(cos_s**2 + cos_t**2), abs(cos_t * sin_s - cos_s * sin_t)
    step = scales[0, 0] * width / _FINE
    stop = int(reach * (abs(cos_s) + abs(cos_t)) / step) + 4
    table[:stop] = 0
    for k in range(len(scales)):
        spread = scales[k, 0] * width
        half = across * scales[k, 1] / spread
        last = min(stop, int((half + _REACH) * spread / step) + 2)
        for n in range(last):
            x = abs(n - 1) * step / spread
            if half > _NARROW:
                box = (_normal(x + half, normal, slopes) - _normal(x - half, normal, slopes)) / half
            else:
                box = 2 * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) if x < _REACH else 0.0
            table[n] += np.float32(scales[k, 2] * scales[k, 1] / spread * box)
    return step


@compiled()
def _normal(x, normal, slopes):
    """Return the cumulative normal distribution, 0 or 1 in its tails."""
    if x <= -_REACH:
        return 0.0
    if x >= _REACH:
        return 1.0
    place = (x + _REACH) / _STEP
    n = int(place)
    part = place - n
    rest = 1 - part
    values = rest * rest * ((1 + 2 * part) * normal[n] + part * slopes[n])
    return values + part * part * ((1 + 2 * rest) * normal[n + 1] - rest * slopes[n + 1])


@compiled()
def _interpolated(table, place):
    """Return the table's value at a place, in steps, by the cubic through its four neighbours."""
    n = int(place)
    a = np.float32(place - n)
    below, above = a + np.float32(1), a - np.float32(1)
    beyond = a - np.float32(2)
    outer = a * above * (below * table[n + 3] - beyond * table[n]) * np.float32(1 / 6)
    return outer + below * beyond * (above * table[n + 1] - a * table[n + 2]) * np.float32(0.5)
