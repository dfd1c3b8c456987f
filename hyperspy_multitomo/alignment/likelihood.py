# SPDX-License-Identifier: GPL-3.0-or-later
"""The likelihood of where images are, all tilts and slices together, with its derivatives.

With the covariance K of the rays of an unknown object (`rays`), the images b of a slice, in place, have the covariance
s (K + v 1), v being the noise. Up to a constant, minus the log-likelihood of shifts and rotation is the sum over the slices of
b' (K + v 1)^-1 b / 2 s. That is the smallest sum of the residual of a reconstruction and of what it costs to be unlikely, so
that to follow its gradient is to follow that of the residual with the reconstruction kept at its best, without making one.
Near-by tilts agree below about 1/(diameter x tilt step), a frequency that coarse pixels hold, and all tilts at the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.alignment.moving import MovingImages, Placement
from hyperspy_multitomo.alignment.rays import Support, ray_covariance

# Noise to signal that are tried, in variance.
NOISES = tuple(10.0 ** np.arange(-5, 1.1, 0.5))
# Part of the slices at either end over which a cut specimen fades out.
_TAPER = 0.15


@dataclass
class Derivatives:
    """Minus the log-likelihood and its derivatives with respect to shifts across and along (px) and rotation (radians)."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    by_slice: np.ndarray  # gradient (slice, parameter)


class View:
    """
    The images of one modality or element on a coarse grid, and how likely they are.

    Parameters
    ----------
    images : MovingImages
    tilts : numpy.ndarray (tilt,)
        Degrees.
    places : numpy.ndarray (tilt,)
        Where they stand among the tilts that are aligned.
    u, y : numpy.ndarray
        Positions across and along the axis, px.
    cut : bool
        Whether the specimen goes on beyond the view along the axis.
    """

    def __init__(self, images: MovingImages, tilts: np.ndarray, places: np.ndarray, u: np.ndarray, y: np.ndarray, cut: bool):
        self.images, self.tilts, self.places = images, tilts, places
        self.u, self.y = u, y
        self.weights = _fade(len(y)) if cut else np.ones(len(y), np.float32)
        self.noise, self.scale = NOISES[len(NOISES) // 2], 1.0
        self._inverse: np.ndarray | None = None

    @property
    def rays(self) -> int:
        """Rays in a slice."""
        return len(self.tilts) * len(self.u)

    def fit(self, support: Support, placement: Placement, covariance: np.ndarray | None = None) -> float:
        """Take a support, with the noise that makes the images most likely; return their log-likelihood per pixel.

        The noise is looked for from the present one on, up and down. `covariance` is that of the rays, if it is known already.
        """
        covariance = ray_covariance(self.tilts, self.u, support) if covariance is None else covariance
        data = self.images.sample(placement.of(self.places), self.u, self.y).reshape(self.rays, -1) * np.sqrt(self.weights)
        tried: dict[int, tuple] = {}

        def likelihood(number: int) -> float:
            if number not in tried:
                tried[number] = self._likelihood(covariance, data, NOISES[number])
            return tried[number][0]

        number = min(range(len(NOISES)), key=lambda k: abs(NOISES[k] - self.noise))
        best = number
        while True:
            best = max((k for k in (number - 1, number, number + 1) if 0 <= k < len(NOISES)), key=likelihood)
            if best == number:
                break
            number = best
            for known in [k for k in tried if abs(k - number) > 1]:
                del tried[known]
        found, self.scale, self._factor = tried[number]
        if self._factor is None:
            raise ValueError("the images have no signal that could be aligned")
        self.noise, self._inverse = NOISES[number], None
        return found

    def likelihood(self, support: Support, placement: Placement) -> float:
        """Return the log-likelihood per pixel with another support and the present noise, changing nothing."""
        data = self.images.sample(placement.of(self.places), self.u, self.y).reshape(self.rays, -1) * np.sqrt(self.weights)
        return self._likelihood(ray_covariance(self.tilts, self.u, support), data, self.noise)[0]

    def _likelihood(self, covariance: np.ndarray, data: np.ndarray, noise: float) -> tuple:
        """Return (log-likelihood per pixel, scale, Cholesky factor); minus infinity where float32 does not suffice."""
        from scipy.linalg import LinAlgError, cholesky, solve_triangular

        total = covariance.copy()
        total[np.diag_indices(self.rays)] += np.float32(noise)
        try:
            root = cholesky(total, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return -np.inf, 1.0, None
        white = solve_triangular(root, data, lower=True, check_finite=False)
        scale = float(np.einsum("ij,ij->", white, white, dtype=np.float64)) / (self.rays * float(self.weights.sum()))
        volume = 2 * float(np.log(np.diag(root), dtype=np.float64).sum()) / self.rays
        return -0.5 * (volume + np.log(max(scale, np.finfo(float).tiny))), scale, root

    @property
    def inverse(self) -> np.ndarray:
        """(K + v 1)^-1, (tilt * u, tilt * u)."""
        if self._inverse is None:
            from scipy.linalg.lapack import spotri

            inverse, _ = spotri(self._factor, lower=1, overwrite_c=1)
            lower = np.tril(inverse, -1)
            self._inverse = lower + lower.T + np.diag(np.diag(inverse))
            self._factor = None
        return self._inverse

    def value(self, placement: Placement) -> float:
        """Return minus the log-likelihood."""
        data = self.images.sample(placement.of(self.places), self.u, self.y).reshape(self.rays, -1)
        return 0.5 * float(np.vdot(self.inverse @ data, data * self.weights)) / self.scale

    def derivatives(self, placement: Placement, count: int) -> Derivatives:
        """Return them for `count` tilts in all; the order of the parameters is across, along, rotation."""
        P, tilts = self.inverse, len(self.tilts)
        data = self.images.sample(placement.of(self.places), self.u, self.y)
        w = (P @ data.reshape(self.rays, -1)).reshape(data.shape)
        weighted = w * self.weights
        U, Y = (grid.astype(np.float32) for grid in np.meshgrid(self.u, self.y, indexing="ij"))
        # The gradient along what the object is expected to look like, which has less noise than the images.
        du, dy, *_ = _slopes(data - np.float32(self.noise) * w, self.u, self.y)
        per_slice = [-np.einsum("tuy,tuy->yt", field, weighted) for field in (du, dy)]
        by_slice = np.concatenate([*per_slice, np.einsum("tuy,tuy->y", Y * du - U * dy, weighted)[:, None]], axis=1)

        du, dy, duu, duy, dyy = _slopes(data, self.u, self.y)
        turn = Y * du - U * dy
        fields = (-du, -dy)
        hessian = np.zeros((2 * tilts + 1,) * 2)
        slices = len(self.y)
        for t in range(tilts):
            rows = slice(t * len(self.u), (t + 1) * len(self.u))
            moved = P[:, rows] @ np.concatenate([field[t] * self.weights for field in fields], axis=1)
            for i in range(2):
                seen = moved[:, i * slices : (i + 1) * slices].reshape(data.shape)
                for j in range(2):
                    hessian[i * tilts + t, j * tilts : (j + 1) * tilts] = np.einsum("tuy,tuy->t", fields[j], seen)
                hessian[i * tilts + t, -1] = hessian[-1, i * tilts + t] = np.vdot(turn, seen)
        turned = (P @ (turn * self.weights).reshape(self.rays, -1)).reshape(data.shape)
        hessian[-1, -1] = np.vdot(turn, turned)
        # The second derivatives of the images themselves: without them all smooth modes seem stiffer than they are.
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
        hessian[-1, -1] += np.vdot(Y * Y * duu - 2 * U * Y * duy + U * U * dyy - U * du - Y * dy, weighted)

        value = 0.5 * float(np.vdot(w, data * self.weights)) / self.scale
        return _spread(value, by_slice / self.scale, (hessian + hessian.T) / (2 * self.scale), self.places, count)

    def left_out(self, placement: Placement) -> np.ndarray:
        """Return for each tilt (tilt,) the root mean square of what the others do not predict of it, over what is expected."""
        data = self.images.sample(placement.of(self.places), self.u, self.y)
        w = (self.inverse @ data.reshape(self.rays, -1)).reshape(data.shape)
        n, squares = len(self.u), np.empty(len(self.tilts))
        for t in range(len(self.tilts)):
            rows = slice(t * n, (t + 1) * n)
            # What is missed is P_tt^-1 w_t, and its covariance s P_tt^-1.
            missed = np.linalg.solve(self.inverse[rows, rows].astype(np.float64), w[t] * self.weights)
            squares[t] = np.vdot(w[t], missed) / (self.scale * n * self.weights.sum())
        return np.sqrt(np.maximum(squares, 0))


def _spread(value, by_slice, hessian, places, count) -> Derivatives:
    """Put the derivatives of some tilts where they belong among all."""
    where = np.concatenate([places, count + places, [2 * count]])
    whole = np.zeros((2 * count + 1,) * 2)
    whole[np.ix_(where, where)] = hessian
    gradients = np.zeros((len(by_slice), 2 * count + 1))
    gradients[:, where] = by_slice
    return Derivatives(value, gradients.sum(axis=0), whole, gradients)


def _slopes(model: np.ndarray, u: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return the first and second derivatives du, dy, duu, duy, dyy by central differences of central differences.

    The second ones being differences of the first, the parts of the Hessian cancel where nothing changes.
    """
    padded = np.pad(model, ((0, 0), (2, 2), (2, 2)), mode="edge")
    du = (padded[:, 2:] - padded[:, :-2]) / np.float32(2 * (u[1] - u[0]))
    dy = (padded[:, :, 2:] - padded[:, :, :-2]) / np.float32(2 * (y[1] - y[0]))
    duu = (du[:, 2:, 2:-2] - du[:, :-2, 2:-2]) / np.float32(2 * (u[1] - u[0]))
    dyy = (dy[:, 2:-2, 2:] - dy[:, 2:-2, :-2]) / np.float32(2 * (y[1] - y[0]))
    duy = (du[:, 1:-1, 3:-1] - du[:, 1:-1, 1:-3]) / np.float32(2 * (y[1] - y[0]))
    return [du[:, 1:-1, 2:-2], dy[:, 2:-2, 1:-1], duu, duy, dyy]


def _fade(slices: int) -> np.ndarray:
    """Return weights that fade out to both ends: what moves into view and out of it pulls at the shifts."""
    weights, count = np.ones(slices, np.float32), max(1, int(_TAPER * slices))
    ramp = np.sin(np.pi / 2 * (np.arange(count) + 0.5) / count) ** 2
    weights[:count], weights[-count:] = ramp, ramp[::-1]
    return weights
