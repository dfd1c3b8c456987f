# SPDX-License-Identifier: GPL-3.0-or-later
"""Variational reconstruction: the minimiser against an independent convex solver, the gap, closed forms, and bad input."""

from itertools import islice, product

import cvxpy as cp
import numpy as np
import pytest
from scipy import sparse

from hyperspy_multitomo.tomography import DataTerm, Regulariser, TiltGeometry, projector, run, variational

N, SLICES = 6, 2
TILTS, HAADF_TILTS = [-60.0, -25.0, 0.0, 30.0, 70.0], [-50.0, 10.0, 45.0, 85.0]
GAINS = np.array([1.0, 0.5, 2.0, 1.5, 1.0])
MIX = np.array([3.0, 1.0])
SCALES = np.array([3.0, 2.0])


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, N))


@pytest.fixture(scope="module")
def haadf_A():
    return projector(TiltGeometry(HAADF_TILTS, N))


@pytest.fixture(scope="module")
def truth():
    """Two parts that touch, the second absent from one of the slices, (channel, z, x, y)."""
    volume = np.zeros((2, N, N, SLICES), np.float32)
    volume[0, 1:4, 1:4] = 3.0
    volume[1, 3:5, 2:5, 0] = 2.0
    volume[1, 2:4, 4:5, 1] = 2.0
    return volume


@pytest.fixture(scope="module")
def counts(A, truth):
    return np.random.default_rng(0).poisson(GAINS[:, None, None] * A(truth) + 0.4).astype(np.float32)


@pytest.fixture(scope="module")
def haadf(haadf_A, truth):
    return np.random.default_rng(1).poisson(haadf_A(np.tensordot(MIX, truth, 1)) + 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def mask():
    inside = np.ones((N, N), bool)
    inside[:, 0] = inside[0] = False
    return inside


def system_of(iterates):
    """The validated problem behind a generator of iterates, which is at its start."""
    return next(iterates)._steps.system


class Convex:
    """The same problem for cvxpy, from matrices that are made here: projections by rays, differences by axes."""

    def __init__(self, system):
        self.system = system
        channels, (nz, nx), slices = system.channels, system.A.domain_shape, system.initial.shape[-1]
        sizes = (nz, nx, slices)
        voxels = nz * nx * slices
        self.u = [cp.Variable(voxels) for _ in range(channels)]
        self.constraints = [u >= 0 for u in self.u] if system.nonnegative else []
        if system.mask is not None:
            outside = np.broadcast_to(system.mask if system.mask.ndim == 3 else system.mask[..., None], sizes).ravel() == 0
            self.constraints += [u[outside] == 0 for u in self.u]
        ahead = [sparse.diags([[-1.0] * (n - 1) + [0.0], [1.0] * (n - 1)], [0, 1]) if n > 1 else sparse.csr_matrix((1, 1))
                 for n in sizes]  # fmt: skip
        dimensions = system.dimensions
        forward = [self._along(ahead[axis], axis, sizes) for axis in range(dimensions)]
        backward = [-D.T for D in forward]
        fields = [[D @ u for D in forward] for u in self.u]
        self.w, second = None, 0
        if system.kind == "tgv":
            self.w = [[cp.Variable(voxels) for _ in range(dimensions)] for _ in self.u]
            fields = [[a - b for a, b in zip(field, w, strict=True)] for field, w in zip(fields, self.w, strict=True)]
            parts = [self._symmetrised(backward, w) for w in self.w]
            second = system.alpha0 * self._norm(parts, "uncoupled" if system.coupling == "uncoupled" else "frobenius")
        objective = system.strength * (self._norm(fields, system.coupling) + second)
        for term in system.terms:
            objective += self._data(term, slices)
        self.problem = cp.Problem(cp.Minimize(objective), self.constraints)
        self.problem.solve(solver="CLARABEL", tol_gap_rel=1e-8, tol_gap_abs=1e-6, tol_feas=1e-8)

    @staticmethod
    def _along(D, axis, sizes):
        factors = [sparse.identity(n) for n in sizes]
        factors[axis] = D
        return sparse.kron(sparse.kron(factors[0], factors[1]), factors[2]).tocsr()

    @staticmethod
    def _symmetrised(backward, w):
        n = len(w)
        mixed = [(backward[i] @ w[j] + backward[j] @ w[i]) / np.sqrt(2) for i in range(n) for j in range(i + 1, n)]
        return [backward[i] @ w[i] for i in range(n)] + mixed

    @staticmethod
    def _norm(fields, coupling):
        """Sum the norm over voxels of fields[channel][component]."""
        if coupling == "nuclear":
            matrices = [cp.vstack([cp.hstack([part[j] for part in field]) for field in fields]) for j in range(fields[0][0].size)]
            return sum(cp.normNuc(matrix) for matrix in matrices)
        groups = fields if coupling == "uncoupled" else [[part for field in fields for part in field]]
        return sum(cp.sum(cp.norm(cp.vstack(group), 2, axis=0)) for group in groups)

    def _data(self, term, slices):
        voxels = np.prod(term.A.domain_shape)
        rays = term.A(np.eye(voxels, dtype=np.float32).reshape(*term.A.domain_shape, voxels)).astype(float)
        rays = sparse.kron(sparse.csr_matrix(rays.reshape(-1, voxels)), sparse.identity(slices)).tocsr()
        total = 0
        for row, (f, gains, d) in enumerate(zip(term.data, term.gains, term.weights, strict=True)):
            if term.mix is None:
                seen = self.system.scales[term.first + row] * self.u[term.first + row]
            else:
                mix = np.broadcast_to(np.reshape(term.mix, (len(self.u), -1)), (len(self.u), voxels * slices))
                seen = sum(cp.multiply(s * m, u) for s, m, u in zip(self.system.scales, mix, self.u, strict=True))
            g = np.broadcast_to(gains[:, None, None], f.shape).ravel()
            a = cp.multiply(g, rays @ seen)
            if term.background is not None:
                a = a + term.background[row].ravel()
            live = np.flatnonzero(g > 0)
            f = f.ravel()[live].astype(float)
            total += float(d) * (cp.sum(cp.kl_div(f, a[live])) if term.discrepancy == "kl" else cp.sum_squares(f - a[live]) / 2)
        return total

    @property
    def volume(self):
        sizes = (*self.system.A.domain_shape, -1)
        return np.stack([s * u.value.reshape(sizes) for s, u in zip(self.system.scales, self.u, strict=True)])

    @property
    def value(self):
        return self.problem.value

    @property
    def field(self):
        """w (channel, component, z, x, y), None for TV."""
        sizes = (*self.system.A.domain_shape, -1)
        return None if self.w is None else np.stack([[part.value.reshape(sizes) for part in w] for w in self.w])


def problem(A, haadf_A, counts, haadf, mask, case):
    """Return the iterates of a case of the table below."""
    case = dict(case)
    discrepancy, weight, joined = case.pop("discrepancy", "kl"), case.pop("weight", 1.0), case.pop("haadf", None)
    plain = dict(gains=GAINS, background=0.4)
    terms = [DataTerm(A, counts, discrepancy=discrepancy, weight=weight, **case.pop("maps", plain))]
    scales = SCALES
    if isinstance(joined, str):
        terms.append(DataTerm(haadf_A, haadf, first=2, discrepancy=discrepancy, background=0.3, weight=0.7))
        scales = np.append(SCALES, 9.0)
    elif joined is not None:
        terms.append(DataTerm(haadf_A, haadf, mix=joined, discrepancy=case.pop("haadf_term", "kl"), background=0.3, weight=0.5))
    options = {name: case.pop(name) for name in ("nonnegative", "relaxation") if name in case}
    if case.pop("masked", False):
        options["mask"] = mask
    return variational(terms, Regulariser(case.pop("lam", 0.8), **case), scales, **options)


CASES = {
    "tv, kl": dict(),
    "tgv, kl": dict(kind="tgv", alpha0=0.6),
    "nuclear tv, kl": dict(coupling="nuclear"),
    "uncoupled tv, kl, 2-D": dict(coupling="uncoupled", dimensions=2),
    "tv, ls": dict(discrepancy="ls", weight=[0.5, 2.0]),
    "tgv, ls, 2-D": dict(discrepancy="ls", kind="tgv", dimensions=2, alpha0=0.4),
    "nuclear tgv, ls": dict(discrepancy="ls", kind="tgv", coupling="nuclear", alpha0=0.5),
    "uncoupled tgv, kl": dict(kind="tgv", coupling="uncoupled", alpha0=0.7),
    "signed, ls": dict(discrepancy="ls", nonnegative=False, maps={}),
    "no background, mask": dict(masked=True, maps=dict(gains=GAINS, background=0.05)),
    "a dead tilt": dict(maps=dict(gains=[1.0, 0.5, 0.0, 1.5, 1.0], background=0.4)),
    "HAADF as a channel": dict(haadf="channel", coupling="nuclear"),
    "HAADF as a channel, tgv, ls": dict(haadf="channel", kind="tgv", discrepancy="ls", alpha0=0.5),
    "HAADF as a sum": dict(haadf=MIX),
    "HAADF as a sum, ls, tgv": dict(haadf=MIX, haadf_term="ls", kind="tgv", alpha0=1.0),
    "HAADF as a sum by voxels": dict(haadf=MIX[:, None, None, None] * np.random.default_rng(5).uniform(0.5, 2, (2, N, N, SLICES))),
    "strong": dict(lam=8.0, weight=[0.3, 1.0]),
    "weak": dict(lam=0.05, kind="tgv"),
}


def relative(a, b):
    return float(np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(b))


class TestMinimiser:
    @pytest.mark.parametrize("name", CASES)
    def test_agrees_with_an_independent_solver(self, A, haadf_A, counts, haadf, mask, name):
        iterates = problem(A, haadf_A, counts, haadf, mask, CASES[name])
        system = system_of(iterates)
        convex = Convex(system)
        u = (convex.volume / system.scales[:, None, None, None]).astype(np.float32)
        field = None if convex.field is None else convex.field.astype(np.float32)
        assert system.objective(np.maximum(u, 0) if system.nonnegative else u, field) == pytest.approx(convex.value, rel=1e-4)
        result = run(iterates, 4000)
        iterate = next(iterates)
        assert iterate.objective == pytest.approx(convex.value, rel=1e-4)
        assert relative(result.volume, convex.volume) < 0.02
        assert iterate.gap < 2e-3 * convex.value
