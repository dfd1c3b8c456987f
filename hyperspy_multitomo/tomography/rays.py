# SPDX-License-Identifier: GPL-3.0-or-later
"""The covariance of all rays of a slice, for an unknown object.

The object is modelled as a Gaussian random field: a sum of round blobs with random amplitudes, with
scales from one to eight pixels, anywhere inside a disc about the tilt axis or inside a slab. A blob
projects to the same Gaussian at every tilt, so that all consistency conditions of projections
(equal mass, the path of the centre of mass, and so on) hold exactly. Two rays share the blobs about
the point where they cross; the integral over these has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.tomography.round_rays import round_covariance
from hyperspy_multitomo.tomography.slab_rays import slab_covariance

# Scales of the blobs, in steps from ray to ray.
SCALES = (1.0, 2.0, 4.0, 8.0)
# Standard deviation of a blob over its scale.
_WIDTH = 0.6
# The power spectrum of the object falls with about this power of the frequency.
_POWER = 2.5
# Extent of a blob beyond its centre, and the least extent of the centres, in scales.
_REACH, _THINNEST = 0.75, 0.1


@dataclass(frozen=True)
class Support:
    """The region that contains the object, in any unit of length.

    Attributes
    ----------
    shape : {"rod", "ball", "slab"}
        For an object that is wholly in view across the tilt axis, a region about it: "rod" has the
        same radius in all slices, of "ball" fewer slices reach far from the axis. Else an infinite
        "slab".
    size : float
        Radius, or depth of the slab.
    inclination : float, default 0.0
        Of the slab, degrees, from +x towards +z: it is edge-on at this tilt plus 90.
    """

    shape: str
    size: float
    inclination: float = 0.0


@dataclass(frozen=True)
class Blobs:
    """The blobs of one scale; lengths are in steps from ray to ray.

    Attributes
    ----------
    sigma : float
        Standard deviation of their projection on rays as wide as a pixel.
    edge : float
        Extent of their centres: the radius, or half the depth.
    power : float
        Variance of their density per area.
    """

    sigma: float
    edge: float
    power: float


def ray_covariance(
    tilts: np.ndarray, u: np.ndarray, support: Support
) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance of the rays of all tilts, folded (see `folding`), of mean variance 1.

    Parameters
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    u : numpy.ndarray (u,)
        Positions from the axis, equidistant and symmetric about it, in the unit of the support.
    support : Support

    Returns
    -------
    even, odd : numpy.ndarray (tilt * u >= 0, same), (tilt * u > 0, same)
        float32; for a slab only the lower triangle is filled.
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


def whitened(covariance: np.ndarray, data: np.ndarray, noise: float) -> tuple | None:
    """Return the Cholesky factor, the sum of squares of the whitened data, and log(det(factor)).

    None where the matrix is not positive definite in float32. Matrices are filled only below the
    diagonal, which is above it in the order of LAPACK.
    """
    from scipy.linalg.lapack import spotrf, strtrs

    total = covariance.copy()
    total[np.diag_indices(len(total))] += np.float32(noise)
    root, failed = spotrf(total.T, lower=0, clean=0, overwrite_a=1)
    if failed:
        return None
    white, _ = strtrs(root, data, lower=0, trans=1)
    squares = np.einsum("ij,ij->", white, white, dtype=np.float64)
    return root.T, float(squares), float(np.log(np.diag(root), dtype=np.float64).sum())


def _blobs(scale: float, support: Support, step: float) -> Blobs:
    """Return the blobs of a scale inside a support, for rays `step` apart."""
    size, directions = (support.size / 2, 1) if support.shape == "slab" else (support.size, 2)
    # A ray is as wide as a pixel, whose variance is 1/12.
    sigma = np.sqrt((_WIDTH * scale) ** 2 + 1 / 12)
    # Blobs extend beyond their centres, and the object ends at the edge of the support.
    edge = size / step - _REACH * scale
    centres = max(edge, _THINNEST * scale)
    # A support thinner than a blob has them in its middle, as many as fit side by side.
    density = (max(edge, scale / 2) / centres) ** directions
    return Blobs(sigma, centres, density * scale**_POWER)
