# SPDX-License-Identifier: GPL-3.0-or-later
"""What the projections of an unknown object have in common: the covariance of all rays of a slice.

The object is taken as a Gaussian random field: a sum of round blobs with random amplitudes, at
scales from the pixel to eight times that, anywhere inside a disc about the tilt axis or a slab. A
blob projects to the same Gaussian at every tilt, so that all consistency conditions of projections
(equal mass, the path of the centre of mass, and so on) hold exactly. Two rays share the blobs about
the point where they cross: the integral over these is known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.round_rays import round_covariance
from hyperspy_multitomo.alignment.slab_rays import slab_covariance

SCALES = (1.0, 2.0, 4.0, 8.0)
# Standard deviation of a blob over its scale.
_WIDTH = 0.6
# The power spectrum of the object falls with about this power of the frequency.
_POWER = 2.5
# How far a blob reaches beyond its centre, and the edge of the centres at least, in scales.
_REACH, _THINNEST = 0.75, 0.1


@dataclass(frozen=True)
class Support:
    """Where the object can be, in any unit of length.

    Attributes
    ----------
    shape : {"rod", "ball", "slab"}
        About the tilt axis, for an object that is wholly in view across it: as wide in all slices,
        or in the fewer the farther from the axis. Else a slab that goes on without end.
    size : float
        Radius, or depth of the slab.
    inclination : float, default 0.0
        Of the slab, degrees, from +x towards +z: it is edge on at this plus 90.
    """

    shape: str
    size: float
    inclination: float = 0.0


@dataclass(frozen=True)
class Blobs:
    """The blobs of one scale, in steps from ray to ray.

    Attributes
    ----------
    sigma : float
        Standard deviation of their projection, seen by rays as wide as a pixel.
    edge : float
        How far their centres reach: the radius, or half the depth.
    power : float
        Variance of their density, per area.
    """

    sigma: float
    edge: float
    power: float


def ray_covariance(
    tilts: np.ndarray, u: np.ndarray, support: Support
) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance of the rays of all tilts, folded (see `folding`), its mean variance 1.

    Parameters
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    u : numpy.ndarray (u,)
        Positions from the axis, even steps and the same on both sides of it, in the unit of the
        support.
    support : Support

    Returns
    -------
    even, odd : numpy.ndarray (tilt * u >= 0, same), (tilt * u > 0, same)
        float32; of a slab the lower triangle is filled.
    """
    step, half = u[1] - u[0], len(u) // 2
    blobs = [_blobs(scale, support, step) for scale in SCALES]
    # A ray through the axis is folded onto itself.
    outwards, paired = u[half:] / step, len(u) % 2
    if support.shape == "slab":
        even, odd = slab_covariance(np.deg2rad(tilts - support.inclination), outwards, blobs)
    else:
        even, odd = round_covariance(
            np.deg2rad(tilts), outwards, blobs, ball=support.shape == "ball"
        )
    shape = len(tilts), half + paired
    even = even.reshape(shape * 2)
    if paired:
        even[:, 0] *= np.float32(np.sqrt(0.5))
        even[:, :, :, 0] *= np.float32(np.sqrt(0.5))
        odd = odd.reshape(shape * 2)[:, 1:, :, 1:]
    parts = (
        even.reshape(len(tilts) * shape[1], -1),
        np.ascontiguousarray(odd).reshape(len(tilts) * half, -1),
    )
    mean = sum(np.trace(part, dtype=np.float64) for part in parts) / (len(tilts) * len(u))
    for part in parts:
        part /= np.float32(mean)
    return parts


def _blobs(scale: float, support: Support, step: float) -> Blobs:
    size, directions = (support.size / 2, 1) if support.shape == "slab" else (support.size, 2)
    # A ray is as wide as a pixel, whose variance is 1/12.
    sigma = np.sqrt((_WIDTH * scale) ** 2 + 1 / 12)
    # A blob reaches beyond its centre, and the object no further than its edge.
    edge = size / step - _REACH * scale
    centres = max(edge, _THINNEST * scale)
    # What is thinner than a blob has blobs in its middle, as many as have room side by side.
    density = (max(edge, scale / 2) / centres) ** directions
    return Blobs(sigma, centres, density * scale**_POWER)
