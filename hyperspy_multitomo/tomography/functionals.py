# SPDX-License-Identifier: GPL-3.0-or-later
"""The functionals of the variational methods in NumPy: discrepancies of data, norms of fields.

A discrepancy D(a, f) has `value` and, for the primal-dual method, the proximal map of its convex
conjugate in the first argument. A norm |J| of the field J (channel, component, z, x, y) has
`value`, the sum over voxels, and `project`, the projection onto the ball of its dual norm at every
voxel.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

# Expected counts are not taken to be below this: a ray that meets nothing has none, whatever it
# counted.
LEAST = np.float32(1e-20)


class Discrepancy(Protocol):
    """D(a, f) of expectations a from data f, with a factor d, and what the solver needs of it."""

    @staticmethod
    def value(a, f, d) -> np.ndarray:
        """Return each ray's part of D."""
        ...

    @staticmethod
    def prox_conjugate(v, f, d, sigma) -> np.ndarray:
        """Return argmin_s (s - v)^2/2 + sigma D*(s)."""
        ...

    @staticmethod
    def conjugate(s, f, d) -> np.ndarray:
        """Return each ray's part of D*(s)."""
        ...


class FieldNorm(Protocol):
    """The norm of a field (channel, component, z, x, y) and the projection on its dual ball."""

    @staticmethod
    def value(field: np.ndarray) -> float:
        """Return the sum over voxels."""
        ...

    @staticmethod
    def project(field: np.ndarray, radius) -> np.ndarray:
        """Return the nearest field whose dual norm is nowhere above `radius`."""
        ...


class KullbackLeibler:
    """Poisson statistics: D(a, f) = d sum [a - f + f log(f/a)], counts f, expectations a."""

    @staticmethod
    def value(a, f, d) -> np.ndarray:
        """Return each ray's part of D; very large, not infinite, where a is 0 and f is not."""
        logs = np.where(f > 0, f * np.log(np.where(f > 0, f, 1) / np.maximum(a, LEAST)), 0)
        return d * (a - f + logs)

    @staticmethod
    def prox_conjugate(v, f, d, sigma) -> np.ndarray:
        """Return argmin_s (s - v)^2/2 + sigma D*(s)."""
        return 0.5 * (v + d - np.sqrt(np.square(v - d) + 4 * sigma * d * f))

    @staticmethod
    def conjugate(s, f, d) -> np.ndarray:
        """Return each ray's part of D*(s) = sup_a [s a - D(a, f)].

        It is -d f log(1 - s/d) for s < d, and infinite beyond.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = np.where(f > 0, -d * f * np.log(np.maximum(1 - s / d, 0)), 0)
        return np.where(s <= d, inside, np.inf)


class LeastSquares:
    """Gaussian statistics: D(a, f) = d/2 sum (a - f)^2."""

    @staticmethod
    def value(a, f, d) -> np.ndarray:
        """Return each ray's part of D."""
        return 0.5 * d * np.square(a - f)

    @staticmethod
    def prox_conjugate(v, f, d, sigma) -> np.ndarray:
        """Return argmin_s (s - v)^2/2 + sigma D*(s)."""
        return (v - sigma * f) / (1 + sigma / d)

    @staticmethod
    def conjugate(s, f, d) -> np.ndarray:
        """Return each ray's part of D*(s) = s^2/(2 d) + s f."""
        return np.square(s) / (2 * d) + s * f


class Uncoupled:
    """The Frobenius norm over the components of each channel on its own, summed over channels."""

    @staticmethod
    def value(field) -> float:
        """Return the sum over voxels and channels."""
        return float(np.sum(np.sqrt(np.square(field, dtype=np.float64).sum(axis=1))))

    @staticmethod
    def project(field, radius) -> np.ndarray:
        """Return the nearest field that is nowhere larger than `radius` in any channel."""
        return _shrunk(field, np.sqrt(np.square(field).sum(axis=1, keepdims=True)), radius)


class Frobenius:
    """The Frobenius norm over channels and components ("joint sparsity").

    It favours edges of all channels at one place.
    """

    @staticmethod
    def value(field) -> float:
        """Return the sum over voxels."""
        return float(np.sum(np.sqrt(np.square(field, dtype=np.float64).sum(axis=(0, 1)))))

    @staticmethod
    def project(field, radius) -> np.ndarray:
        """Return the nearest field whose norm is nowhere above `radius`."""
        return _shrunk(field, np.sqrt(np.square(field).sum(axis=(0, 1), keepdims=True)), radius)


class Nuclear:
    """The nuclear norm of the matrix channels x components. Its dual is the spectral norm.

    It favours edges of all channels at one place, with one direction.
    """

    @staticmethod
    def value(field) -> float:
        """Return the sum over voxels."""
        return float(np.sum(np.linalg.svd(_matrices(field.astype(np.float64)), compute_uv=False)))

    @staticmethod
    def project(field, radius) -> np.ndarray:
        """Return the nearest field whose singular values are nowhere above `radius`."""
        left, values, right = np.linalg.svd(_matrices(field), full_matrices=False)
        return np.moveaxis(
            (left * np.minimum(values, radius)[..., None, :]) @ right, (-2, -1), (0, 1)
        ).astype(field.dtype)


def _shrunk(field, norms, radius):
    return field * (radius / np.maximum(norms, radius))


def _matrices(field):
    """Return the field as (z, x, y, channel, component)."""
    return np.moveaxis(field, (0, 1), (-2, -1))


DISCREPANCIES: dict[str, type[Discrepancy]] = {"kl": KullbackLeibler, "ls": LeastSquares}
COUPLINGS: dict[str, type[FieldNorm]] = {
    "uncoupled": Uncoupled,
    "frobenius": Frobenius,
    "nuclear": Nuclear,
}
