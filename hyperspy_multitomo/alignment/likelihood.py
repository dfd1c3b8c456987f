# SPDX-License-Identifier: GPL-3.0-or-later
"""The likelihood of an alignment, over all tilts and slices, with its derivatives.

With the covariance K of the rays of an unknown object (`rays`), the aligned images b of a slice
have the covariance s (K + v 1), where v is the noise. Up to a constant, minus the log-likelihood of
shifts and rotation is the sum over the slices of b' (K + v 1)^-1 b / 2 s. This equals the minimum,
over all reconstructions, of the residual plus the penalty of a Gaussian prior. Its gradient is
therefore that of the residual at the best reconstruction, without computing one. The even and the
odd part of the rays (`folding`) are treated in parallel. Neighbouring tilts share frequencies below
about 1/(diameter x tilt step), which coarse pixels resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.binned_images import MovingImages, Placement
from hyperspy_multitomo.machine.parallel import Workers
from hyperspy_multitomo.tomography.folding import fold, unfold
from hyperspy_multitomo.tomography.rays import Support, ray_covariance, whitened

# Trial ratios of noise to signal, in variance.
NOISES = tuple(10.0 ** np.arange(-5, 1.1, 0.5))
# Fraction of the slices at either end over which a specimen that is cut by the view fades out.
_TAPER = 0.15
# Rows that are mirrored at once.
_BLOCK = 64


@dataclass
class Derivatives:
    """Minus the log-likelihood and its derivatives.

    The parameters are the shifts across and along the axis (px), and the rotation (radians).
    """

    value: float
    gradient: np.ndarray  # (parameter,)
    hessian: np.ndarray  # (parameter, parameter)
    by_slice: np.ndarray  # gradient of each slice (slice, parameter)


@dataclass
class Fit:
    """Fit of the scale s to the images, for one support and noise."""

    value: float  # log-likelihood per pixel
    scale: float
    # Cholesky factors of the even and the odd part.
    factors: tuple[np.ndarray, np.ndarray] | None


class View:
    """The images of one modality or element on a coarse grid, with their likelihood.

    Parameters
    ----------
    images : MovingImages
    tilts : numpy.ndarray (tilt,)
        Degrees.
    places : numpy.ndarray (tilt,)
        Their indices among the tilts that are aligned.
    u, y : numpy.ndarray
        Positions across the axis, symmetric about it, and along it, px.
    cut : bool
        Whether the specimen extends beyond the view along the axis.
    workers : Workers, optional
        Two threads, for the even and the odd part of the rays; by default the calling thread does
        both.
    """

    def __init__(
        self,
        images: MovingImages,
        tilts: np.ndarray,
        places: np.ndarray,
        u: np.ndarray,
        y: np.ndarray,
        cut: bool,
        workers: Workers | None = None,
    ):
        self.images, self.tilts, self.places = images, tilts, places
        self.u, self.y = u, y
        self._workers = workers or Workers(1)
        self.weights = _fade(len(y)) if cut else np.ones(len(y), np.float32)
        self.noise, self.scale = NOISES[len(NOISES) // 2], 1.0
        self._value = -np.inf
        # Results with the arguments that they belong to.
        self._sampled: tuple[Placement, np.ndarray] | None = None
        self._fitted: tuple[Support | None, Placement | None] = None, None
        self._factors: tuple[np.ndarray, np.ndarray] | None = None
        self._inverse: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def rays(self) -> int:
        """Rays in a slice."""
        return len(self.tilts) * len(self.u)

    def sampled(self, placement: Placement) -> np.ndarray:
        """Return the aligned images (tilt, u, y)."""
        if self._sampled is None or self._sampled[0] is not placement:
            self._sampled = placement, self.images.sample(placement.of(self.places), self.u, self.y)
        return self._sampled[1]

    def fit(self, support: Support, placement: Placement, covariance: tuple | None = None) -> float:
        """Set a support and the most likely noise; return the log-likelihood per pixel.

        The noise is searched upwards and downwards from the present one. `covariance` is that of
        the rays, if it is already known.
        """
        if self._fitted[0] == support and self._fitted[1] is placement:
            return self._value
        covariance = (
            ray_covariance(self.tilts, self.u, support) if covariance is None else covariance
        )
        data = self._weighted(placement)
        number = min(range(len(NOISES)), key=lambda k: abs(NOISES[k] - self.noise))
        best, start = self._likelihood(covariance, data, NOISES[number]), number
        for direction in (1, -1):
            # The likelihood has one maximum: where it rises upwards, it does not rise downwards.
            while number * direction >= start * direction and 0 <= number + direction < len(NOISES):
                found = self._likelihood(covariance, data, NOISES[number + direction])
                if not found.value > best.value:
                    break
                best, number = found, number + direction
        if best.factors is None:
            raise ValueError("the images have no signal that could be aligned")
        self._value, self.scale, self._factors = best.value, best.scale, best.factors
        self.noise, self._inverse, self._fitted = NOISES[number], None, (support, placement)
        return best.value

    def likelihood(self, support: Support, placement: Placement) -> float:
        """Return the log-likelihood per pixel for a trial support and the present noise."""
        if self._fitted[0] == support and self._fitted[1] is placement:
            return self._value
        return self._likelihood(
            ray_covariance(self.tilts, self.u, support), self._weighted(placement), self.noise
        ).value

    def _weighted(self, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
        """Return the even and odd parts of the aligned images times the root of the weights."""
        return fold(self.sampled(placement) * np.sqrt(self.weights))

    def _likelihood(self, covariance: tuple, data: tuple, noise: float) -> Fit:
        """Return the fit, without factors and of value -infinity where float32 does not suffice."""
        parts = self._both(whitened, covariance, data, (noise, noise))
        if any(part is None for part in parts):
            return Fit(-np.inf, 1.0, None)
        factors, squares, volumes = zip(*parts, strict=True)
        scale = sum(squares) / (self.rays * float(self.weights.sum()))
        volume = 2 * sum(volumes) / self.rays
        return Fit(-0.5 * (volume + np.log(max(scale, np.finfo(float).tiny))), scale, factors)

    @property
    def inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """(K + v 1)^-1, its even and its odd part."""
        if self._inverse is None:
            assert self._factors is not None, "`fit` comes first"
            even, odd = self._both(_inverted, self._factors)
            self._inverse = even, odd
            # They are overwritten by the inversion.
            self._factors = None
            self._fitted = None, None
        return self._inverse

    def _both(self, call: Callable, *arguments: Sequence) -> list:
        """Call a function for the even and for the odd part, in parallel; return both results."""
        results: list = [None, None]

        def one(part: int) -> None:
            results[part] = call(*(pair[part] for pair in arguments))

        self._workers.run(one, [(0,), (1,)])
        return results

    def _solved(self, rays: np.ndarray) -> np.ndarray:
        """Return (K + v 1)^-1 times rays (tilt, u, y)."""
        even, odd = self._both(np.matmul, self.inverse, fold(rays))
        return unfold(even, odd, len(self.tilts))

    def value(self, placement: Placement) -> float:
        """Return minus the log-likelihood."""
        data = self.sampled(placement)
        return 0.5 * float(np.vdot(self._solved(data), data * self.weights)) / self.scale

    def derivatives(self, placement: Placement, count: int) -> Derivatives:
        """Return the derivatives with respect to (across, along, rotation) of all `count` tilts."""
        tilts = len(self.tilts)
        data = self.sampled(placement)
        w = self._solved(data)
        weighted = w * self.weights
        U, Y = (grid.astype(np.float32) for grid in np.meshgrid(self.u, self.y, indexing="ij"))
        # Slopes of the images that the model expects, which are less noisy than the recorded ones.
        du, dy, *_ = _slopes(data - np.float32(self.noise) * w, self.u, self.y)
        per_slice = [-np.einsum("tuy,tuy->yt", field, weighted) for field in (du, dy)]
        by_slice = np.concatenate(
            [*per_slice, np.einsum("tuy,tuy->y", Y * du - U * dy, weighted)[:, None]], axis=1
        )

        du, dy, duu, duy, dyy = _slopes(data, self.u, self.y)
        turn = Y * du - U * dy
        hessian = np.zeros((2 * tilts + 1,) * 2)
        roots = np.sqrt(self.weights)
        fields = fold(np.stack([-du, -dy], axis=2) * roots)
        hessian[:-1, :-1] = sum(self._both(_products, self.inverse, fields, (tilts, tilts)))
        turned = self._solved(turn * self.weights)
        hessian[-1, :-1] = hessian[:-1, -1] = np.concatenate(
            [-np.einsum("tuy,tuy->t", field, turned) for field in (du, dy)]
        )
        hessian[-1, -1] = np.vdot(turn, turned)
        # Second derivatives of the images: without them all smooth modes seem too stiff.
        across, along = np.arange(tilts), tilts + np.arange(tilts)
        second = [np.einsum("tuy,tuy->t", field, weighted) for field in (duu, duy, dyy)]
        hessian[across, across] += second[0]
        hessian[along, along] += second[2]
        hessian[across, along] += second[1]
        hessian[along, across] += second[1]
        for rows, field in ((across, U * duy - Y * duu), (along, U * dyy - Y * duy)):
            mixed = np.einsum("tuy,tuy->t", field, weighted)
            hessian[rows, -1] += mixed
            hessian[-1, rows] += mixed
        hessian[-1, -1] += np.vdot(
            Y * Y * duu - 2 * U * Y * duy + U * U * dyy - U * du - Y * dy, weighted
        )

        value = 0.5 * float(np.vdot(w, data * self.weights)) / self.scale
        return _spread(
            value,
            by_slice / self.scale,
            (hessian + hessian.T) / (2 * self.scale),
            self.places,
            count,
        )

    def leave_one_out_residual(self, placement: Placement) -> np.ndarray:
        """Return the residual of each tilt predicted from the others, over its expectation (tilt,).

        It is a root mean square.
        """
        data = self.sampled(placement)
        parts = fold(data)
        squares = sum(
            self._both(
                _leave_one_out_squares,
                self.inverse,
                parts,
                [self.weights] * 2,
                [len(self.tilts)] * 2,
            )
        )
        return np.sqrt(np.maximum(squares / (self.scale * len(self.u) * self.weights.sum()), 0))


def _inverted(factor: np.ndarray) -> np.ndarray:
    """Return the inverse of a matrix from its Cholesky factor, which is overwritten."""
    from scipy.linalg.lapack import spotri

    inverse = spotri(factor.T, lower=0, overwrite_c=1)[0].T
    for start in range(0, len(inverse), _BLOCK):
        block = slice(start, start + _BLOCK)
        corner = np.tril(inverse[block, block])
        inverse[block, block] = corner + np.tril(corner, -1).T
        inverse[block, start + _BLOCK :] = inverse[start + _BLOCK :, block].T
    return inverse


def _products(inverse: np.ndarray, fields: np.ndarray, tilts: int) -> np.ndarray:
    """Return f_i(t)' P f_j(s) for all pairs of fields and tilts, (field * tilt, field * tilt).

    The fields are (tilt * u, field, y), and P is the inverse covariance.
    """
    rays, kinds, _ = fields.shape
    count = rays // tilts
    fields = np.ascontiguousarray(fields.transpose(1, 0, 2))
    by_tilt = fields.reshape(kinds, tilts, -1)
    products = np.zeros((kinds, tilts, kinds, tilts), np.float32)
    for t in range(tilts):
        rows, upto = slice(t * count, (t + 1) * count), (t + 1) * count
        for i in range(kinds):
            moved = (inverse[:upto, rows] @ fields[i, rows]).reshape(t + 1, -1)
            for j in range(kinds):
                products[i, t, j, : t + 1] = np.einsum("sk,sk->s", moved, by_tilt[j, : t + 1])
        # The matrix is symmetric.
        products[:, :t, :, t] = products[:, t, :, :t].transpose(1, 2, 0)
    return products.reshape((kinds * tilts,) * 2)


def _leave_one_out_squares(
    inverse: np.ndarray, data: np.ndarray, weights: np.ndarray, tilts: int
) -> np.ndarray:
    """Return the squared leave-one-tilt-out residual of a part, over its covariance, (tilt,)."""
    w = inverse @ data
    count, squares = len(w) // tilts, np.empty(tilts)
    for t in range(tilts):
        rows = slice(t * count, (t + 1) * count)
        # The residual is P_tt^-1 w_t, and its covariance s P_tt^-1; the scale s is left out.
        missed = np.linalg.solve(inverse[rows, rows].astype(np.float64), w[rows] * weights)
        squares[t] = np.vdot(w[rows], missed)
    return squares


def _spread(value, by_slice, hessian, places, count) -> Derivatives:
    """Return the derivatives of some tilts as derivatives of all tilts, 0 for the others."""
    where = np.concatenate([places, count + places, [2 * count]])
    whole = np.zeros((2 * count + 1,) * 2)
    whole[np.ix_(where, where)] = hessian
    gradients = np.zeros((len(by_slice), 2 * count + 1))
    gradients[:, where] = by_slice
    return Derivatives(value, gradients.sum(axis=0), whole, gradients)


def _slopes(model: np.ndarray, u: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return the first and second derivatives du, dy, duu, duy, dyy by central differences.

    The second derivatives are differences of the first, so that the terms of the Hessian cancel for
    displacements of the object, which change nothing.
    """
    padded = np.pad(model, ((0, 0), (2, 2), (2, 2)), mode="edge")
    du = (padded[:, 2:] - padded[:, :-2]) / np.float32(2 * (u[1] - u[0]))
    dy = (padded[:, :, 2:] - padded[:, :, :-2]) / np.float32(2 * (y[1] - y[0]))
    duu = (du[:, 2:, 2:-2] - du[:, :-2, 2:-2]) / np.float32(2 * (u[1] - u[0]))
    dyy = (dy[:, 2:-2, 2:] - dy[:, 2:-2, :-2]) / np.float32(2 * (y[1] - y[0]))
    duy = (du[:, 1:-1, 3:-1] - du[:, 1:-1, 1:-3]) / np.float32(2 * (y[1] - y[0]))
    return [du[:, 1:-1, 2:-2], dy[:, 2:-2, 1:-1], duu, duy, dyy]


def _fade(slices: int) -> np.ndarray:
    """Return weights that fade to both ends, where matter that enters the view biases shifts."""
    weights, count = np.ones(slices, np.float32), max(1, int(_TAPER * slices))
    ramp = np.sin(np.pi / 2 * (np.arange(count) + 0.5) / count) ** 2
    weights[:count], weights[-count:] = ramp, ramp[::-1]
    return weights
