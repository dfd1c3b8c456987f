# SPDX-License-Identifier: GPL-3.0-or-later
"""CGLS: conjugate gradients on the normal equations, least squares without constraints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from hyperspy_multitomo.tomography.cpu.lane_algebra import combine, inner, multiply_tilts
from hyperspy_multitomo.tomography.cpu.lane_rays import LaneRays
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes, lane_count, pack, unpack
from hyperspy_multitomo.tomography.forms import fits_lanes
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.projectors import Projector, matched
from hyperspy_multitomo.tomography.solvers import sirt_system
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.system import System

# Fraction of the norm of A: a shorter new direction is mostly rounding, in single precision and
# after some iterations (tests/test_cgls.py).
EXHAUSTED = 1e-3


def cgls(A: Projector, projections, *, gains=None, mask=None, initial=None) -> Iterator[Iterate]:
    """Solve min_x |A x - b|^2 by conjugate gradients, every slice of every channel on its own.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the projections.
    projections : array_like
        b, (channel, tilt, x, y) or (tilt, x, y), raw: counts stay counts.
    gains : array_like, optional
        (tilt,) or (channel, tilt), not negative: the data are gain times the projections of the
        volume. The default is 1; a tilt of gain 0 is left out.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start, shape of the volume; the default is 0.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end. Voxels may be
        negative.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or values are not finite, at the call.

    Notes
    -----
    A is diag(gains) W. After k iterations x is the least-squares solution in the k-th Krylov space
    of A^T A (M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49 (1952) 409,
    doi:10.6028/jres.049.044). It semi-converges: the error falls for some iterations, 2 or 3 with
    maps of up to 30 counts per pixel, and rises when the noise is being fitted. The number of
    iterations is what regularises, and 10 do what takes SIRT without constraints a hundred. The
    step sizes are those of each slice.

    In single precision the directions lose their orthogonality after some five iterations, and with
    it the equality with exact arithmetic. So the equivalent recurrences of LSQR are used (C. C.
    Paige and M. A. Saunders, ACM Trans. Math. Softw. 8 (1982) 43, doi:10.1145/355984.355989), whose
    basis in the space of the projections is kept and orthogonalised again; one side suffices (H. D.
    Simon and H. Zha, SIAM J. Sci. Comput. 21 (2000) 2257, doi:10.1137/S1064827597327309). A slice
    whose Krylov space is exhausted stays as it is. Memory: three volumes beside the result, and one
    more set of projections per iteration.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, cgls, projector, run
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((24, 24, 2))
    >>> truth[8:16, 8:16] = 2.0
    >>> result = run(cgls(A, A(truth)), iterations=10)
    >>> result.volume.shape, bool(abs(result.volume[10:14, 10:14].mean() - 2) < 0.1)
    ((24, 24, 2), True)
    """
    (A,) = matched([A])
    system, has_channels = sirt_system(
        A, projections, gains=gains, mask=mask, initial=initial, nonnegative=False
    )
    system = system.in_units()
    steps = FusedCGLS(system) if A.geometry.binning == 1 and fits_lanes(A) else TextbookCGLS(system)
    return iterates_of(steps, has_channels)


# State of the recurrences of every slice.
_NUMBERS = ("alpha", "phi", "rho", "size", "exhausted")


def _quotients(a: np.ndarray | float, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), b.shape)), where=b > 0)


class _Bidiagonal(Steps[System]):
    """The recurrences of LSQR with float64 numbers per slice; subclasses do the work on arrays.

    u and v are the two bases, A V = U B with B lower bidiagonal: beta u = A v - alpha u, alpha v =
    A^T u - beta v. Rotations turn B into upper bidiagonal form, from which x += phi/rho w and w =
    v - theta/rho w.
    """

    def _begin(self, beta: np.ndarray, alpha: np.ndarray) -> None:
        """Take the norms of the first residual and of its gradient."""
        self._alpha, self._phi, self._rho = alpha, beta, alpha
        self._size = alpha**2
        self._exhausted = alpha == 0

    @property
    def signature(self):
        """See `Steps`."""
        return super().signature | {"projections": list(self.system.projections.shape)}

    def _numbers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the numbers per slice, (channel, y)."""
        for name in _NUMBERS:
            yield name, self._of_slices(getattr(self, f"_{name}"))

    def _put_numbers(self, arrays) -> None:
        for name in _NUMBERS:
            setattr(self, f"_{name}", self._like_slices(arrays[name]))

    def _of_slices(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers of slices as (channel, y)."""
        return numbers

    def _like_slices(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers (channel, y) in the layout of this form."""
        return numbers

    @abstractmethod
    def _next_u(self, alpha: np.ndarray) -> np.ndarray:
        """Append u to the basis; return beta."""

    @abstractmethod
    def _next_v(self, beta: np.ndarray) -> np.ndarray:
        """Replace v; return alpha."""

    @abstractmethod
    def _move(self, step: np.ndarray, share: np.ndarray) -> None:
        """Do x += step w and w = v - share w."""

    @abstractmethod
    def _per_channel(self, squares: np.ndarray) -> np.ndarray:
        """Return the sums over the slices (channel,) of squares per slice."""

    def advance(self):
        """Do one iteration."""
        beta = self._next_u(self._alpha)
        if self._cancelled.is_set():
            return
        with self._lock:  # no cancelling from here on, so that u, v, w and x belong together
            residuals = self._residuals()
            # An exhausted slice goes on without recurrence, bounded, and without effect.
            beta = np.where(self._exhausted, 0.0, beta)
            alpha = np.where(self._exhausted, 0.0, self._next_v(beta))
            rho = np.hypot(self._rho, beta)
            cosine, sine = _quotients(self._rho, rho), _quotients(beta, rho)
            step, share = _quotients(cosine * self._phi, rho), _quotients(sine * alpha, rho)
            still = self._exhausted | self.stopped[:, None]
            self._move(np.where(still, 0.0, step), np.where(self._exhausted, 0.0, share))
            self._phi = np.where(still, self._phi, sine * self._phi)
            self._alpha, self._rho = alpha, -cosine * alpha
            # The norm of B grows towards that of A.
            self._size = self._size + alpha**2 + beta**2
            self._exhausted |= np.minimum(alpha, beta) <= EXHAUSTED * np.sqrt(self._size)
            self._count(residuals, latest=self._residuals())

    def _residuals(self) -> dict:
        """Return the relative residuals of x, whose norms per slice are phi."""
        return self.system.relative_residuals(np.append(self._per_channel(self._phi**2), 0.0))


class TextbookCGLS(_Bidiagonal):
    """The iteration in NumPy, for any projector: the reference for the fused form.

    The slices that one detector pixel of several voxels sees together have their numbers in common.
    """

    def __init__(self, system: System):
        super().__init__(system)
        self._x = system.start()
        u = system.projections - self._forward(self._x)
        beta = self._norms(u)
        self._basis = [u * self._factors(_quotients(1.0, beta), u)]
        self._v = np.zeros(system.initial.shape, np.float32)
        self._begin(beta, self._next_v(np.zeros_like(beta)))
        self._w = self._v

    def _forward(self, x):
        return self.system.gains[:, :, None, None] * self.system.A(x)

    def _norms(self, array, other=None):
        """Return the norm of each slice (channel, y), or its product with another array."""
        products = np.einsum(
            "cabY,cabY->cY", array, array if other is None else other, dtype=np.float64
        )
        products = products.reshape(len(products), self.system.projections.shape[-1], -1).sum(
            axis=-1
        )
        return np.sqrt(products) if other is None else products

    def _factors(self, values, like):
        """Return values (channel, y of the projections) in the shape that multiplies an array."""
        return np.repeat(values, like.shape[-1] // values.shape[1], axis=1)[:, None, None].astype(
            np.float32
        )

    def _per_channel(self, squares):
        return squares.sum(axis=1)

    def _read(self):
        return self._x.copy()

    def _arrays(self):
        yield from {"x": self._x, "v": self._v, "w": self._w}.items()
        yield from self._numbers()
        # An iteration that was cancelled may have left one more.
        yield from (
            (f"u {number}", u) for number, u in enumerate(self._basis[: self.iteration + 1])
        )

    def _put(self, arrays):
        self._x, self._v, self._w = arrays["x"], arrays["v"], arrays["w"]
        self._put_numbers(arrays)
        self._basis = [arrays[f"u {number}"] for number in range(int(arrays["iteration"]) + 1)]

    def _next_u(self, alpha):
        u = self._forward(self._v)
        u -= self._factors(alpha, u) * self._basis[-1]
        products = [self._norms(u, other) for other in self._basis]
        for other, product in zip(self._basis, products, strict=True):
            u -= self._factors(product, u) * other
        beta = self._norms(u)
        if not self._cancelled.is_set():
            self._basis.append(u * self._factors(_quotients(1.0, beta), u))
        return beta

    def _next_v(self, beta):
        s, mask = self.system, self.system.mask
        v = s.A.T(s.gains[:, :, None, None] * self._basis[-1])
        if mask is not None:
            v *= mask if mask.ndim == 3 else mask[..., None]
        v -= self._factors(beta, v) * self._v
        alpha = self._norms(v)
        self._v = v * self._factors(_quotients(1.0, alpha), v)
        return alpha

    def _move(self, step, share):
        self._x = self._x + self._factors(step, self._w) * self._w
        self._w = self._v - self._factors(share, self._w) * self._w


class FusedCGLS(_Bidiagonal):
    """The same iteration by compiled kernels, with the numbers per slice as lanes.

    Those numbers are arrays (group, channel, lane).

    v is kept as it comes, alpha times the basis vector, which saves a pass.
    """

    def __init__(self, system: System):
        super().__init__(system)
        s = system
        channels, self._slices = s.projections.shape[0], s.projections.shape[-1]
        count = lane_count(self._slices)
        rays = self._rays = LaneRays(s.A, channels, self._slices, count)
        self._tilts = [(group, start, stop) for _, group, start, stop in rays.tasks]
        self._rows = rays.A.row_tasks(rays.groups)
        _, nz, nx, row_stride, nt, nu, tilt_stride = rays.shape
        self._ray_size, self._voxel_size = (
            (channels, nt, nu, tilt_stride),
            (channels, nz, nx, row_stride),
        )
        self._x = pack(s.start(), count)
        self._v, self._w = (empty_lanes(self._x.size, count) for _ in range(2))
        self._v["lanes"][:] = self._w["lanes"][:] = 0
        self._step, self._mask = np.ones((channels, nz, nx), np.float32), None
        if s.mask is not None and s.mask.ndim == 3:
            self._mask = pack(s.mask[None], count)
        elif s.mask is not None:
            self._step *= s.mask
        u, one = pack(s.projections, count), np.ones((rays.groups, channels, count))
        self._forward(self._x)
        self._combine(u, one, rays.rays, -one, self._ray_size, self._tilts)
        beta, none = np.sqrt(self._products(self._tilts, u)), np.zeros_like(one)
        self._basis, self._norm = [self._unit(u, beta)], none
        self._begin(beta, self._next_v(none))
        self._move(none, none)

    def _products(self, tasks, result, other=None, call=None) -> np.ndarray:
        """Return |result|^2 or <result, other>, (group, channel, lane), after `call` on all tasks.

        `call` writes the result of a task.
        """
        size = self._ray_size if tasks is self._tilts else self._voxel_size
        # By rows, so that rounding does not depend on the tasks, which depend on the threads.
        channels, rows, *_ = size
        groups, count = self._rays.groups, self._rays.count
        sums = empty_lanes(groups * channels * rows, count)

        def each(*task):
            if call is not None:
                call(*task)
            inner(result, result if other is None else other, size, *task, sums)

        self._workers.run(each, tasks)
        return sums["lanes"].reshape(groups, channels, rows, count).sum(axis=2, dtype=float)

    def _lanes(self, values: np.ndarray) -> np.ndarray:
        lanes = empty_lanes(values.shape[0] * values.shape[1], self._rays.count)
        lanes["lanes"].reshape(values.shape)[:] = values
        return lanes

    def _combine(self, y, factor, x, share, size, tasks):
        """Do y <- factor y + share x, with factors per slice."""
        factor, share = self._lanes(factor), self._lanes(share)
        self._workers.run(lambda *task: combine(y, factor, x, share, size, *task), tasks)

    def _unit(self, u: np.ndarray, norm: np.ndarray) -> np.ndarray:
        """Return u over its norm, an array of its own."""
        unit = self._rays.empty()
        unit["lanes"][:] = 0
        self._combine(
            unit, np.zeros_like(norm), u, _quotients(1.0, norm), self._ray_size, self._tilts
        )
        return unit

    def _forward(self, volume):
        """Put A x into the rays."""
        rays, gains = self._rays, self.system.gains

        def forward(*task):
            if not self._cancelled.is_set():
                rays.project(volume, *task)
                multiply_tilts(rays.rays, gains, self._ray_size, *task)

        self._workers.run(forward, self._tilts)

    def _per_channel(self, squares):
        return squares.sum(axis=(0, 2))

    def _read(self):
        return self._unpacked(self._x)

    def _unpacked(self, volume):
        return unpack(volume, (len(self.stopped), *self.system.A.domain_shape, self._slices))

    def _of_slices(self, numbers):
        channels = numbers.shape[1]
        return np.ascontiguousarray(
            numbers.transpose(1, 0, 2).reshape(channels, -1)[:, : self._slices]
        )

    def _like_slices(self, numbers):
        groups, count = self._rays.groups, self._rays.count
        padded = np.zeros((len(numbers), groups * count), numbers.dtype)
        padded[:, : self._slices] = numbers
        return np.ascontiguousarray(padded.reshape(len(numbers), groups, count).transpose(1, 0, 2))

    def _arrays(self):
        for name, volume in (("x", self._x), ("v", self._v), ("w", self._w)):
            yield name, self._unpacked(volume)
        yield from self._numbers()
        yield "norm", self._of_slices(self._norm)
        # An iteration that was cancelled may have left one more.
        for number, u in enumerate(self._basis[: self.iteration + 1]):
            yield f"u {number}", unpack(u, self.system.projections.shape)

    def _put(self, arrays):
        count = self._rays.count
        self._x, self._v, self._w = (pack(arrays[name], count) for name in ("x", "v", "w"))
        self._put_numbers(arrays)
        self._norm = self._like_slices(arrays["norm"])
        self._basis = [
            pack(arrays[f"u {number}"], count) for number in range(int(arrays["iteration"]) + 1)
        ]

    def _next_u(self, alpha):
        u, one = self._rays.rays, np.ones_like(alpha)
        self._forward(self._v)
        self._combine(
            u, _quotients(1.0, self._norm), self._basis[-1], -alpha, self._ray_size, self._tilts
        )
        products = [self._products(self._tilts, u, other) for other in self._basis]
        for other, product in zip(self._basis, products, strict=True):
            self._combine(u, one, other, -product, self._ray_size, self._tilts)
        beta = np.sqrt(self._products(self._tilts, u))
        if not self._cancelled.is_set():
            self._basis.append(self._unit(u, beta))
        return beta

    def _next_v(self, beta):
        rays, gains, one = self._rays, self.system.gains, np.ones_like(beta)
        self._combine(
            rays.rays, np.zeros_like(beta), self._basis[-1], one, self._ray_size, self._tilts
        )
        self._workers.run(
            lambda *task: multiply_tilts(rays.rays, gains, self._ray_size, *task), self._tilts
        )
        factor, none = self._lanes(-_quotients(beta, self._norm)), self._lanes(np.zeros_like(beta))

        def back(*task):
            combine(self._v, factor, self._v, none, self._voxel_size, *task)
            rays.back(self._v, *task, step=self._step, mask=self._mask)

        self._norm = np.sqrt(self._products(self._rows, self._v, call=back))
        return self._norm

    def _move(self, step, share):
        one = np.ones_like(step)
        self._combine(self._x, one, self._w, step, self._voxel_size, self._rows)
        self._combine(
            self._w, -share, self._v, _quotients(1.0, self._norm), self._voxel_size, self._rows
        )
