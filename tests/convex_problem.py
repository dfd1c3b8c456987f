# SPDX-License-Identifier: GPL-3.0-or-later
"""The variational problem stated and solved independently, by cvxpy and CLARABEL."""

import cvxpy as cp
import numpy as np
from scipy import sparse


class Convex:
    """The same problem for cvxpy, from matrices that are made here:
    projections by rays, differences by axes; of a refit with its linear term."""

    def __init__(self, system, linear=None):
        self.system = system
        channels, (nz, nx), slices = (
            system.channels,
            system.A.domain_shape,
            system.initial.shape[-1],
        )
        sizes = (nz, nx, slices)
        voxels = nz * nx * slices
        self.u = [cp.Variable(voxels) for _ in range(channels)]
        self.constraints = [u >= 0 for u in self.u] if system.nonnegative else []
        if system.mask is not None:
            outside = (
                np.broadcast_to(
                    system.mask if system.mask.ndim == 3 else system.mask[..., None], sizes
                ).ravel()
                == 0
            )
            self.constraints += [u[outside] == 0 for u in self.u]
        ahead = [
            sparse.diags([[-1.0] * (n - 1) + [0.0], [1.0] * (n - 1)], [0, 1])
            if n > 1
            else sparse.csr_matrix((1, 1))
            for n in sizes
        ]
        dimensions = system.dimensions
        forward = [self._along(ahead[axis], axis, sizes) for axis in range(dimensions)]
        backward = [-D.T for D in forward]
        fields = [[D @ u for D in forward] for u in self.u]
        self.w, second = None, 0
        if system.kind == "tgv":
            self.w = [[cp.Variable(voxels) for _ in range(dimensions)] for _ in self.u]
            fields = [
                [a - b for a, b in zip(field, w, strict=True)]
                for field, w in zip(fields, self.w, strict=True)
            ]
            parts = [self._symmetrised(backward, w) for w in self.w]
            second = system.alpha0 * self._norm(
                parts, "uncoupled" if system.coupling == "uncoupled" else "frobenius"
            )
        objective = system.strength * (self._norm(fields, system.coupling) + second)
        for term in system.terms:
            objective += self._data(term, slices)
        if linear is not None:
            objective -= sum(
                each.ravel().astype(float) @ u for each, u in zip(linear, self.u, strict=True)
            )
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
        mixed = [
            (backward[i] @ w[j] + backward[j] @ w[i]) / np.sqrt(2)
            for i in range(n)
            for j in range(i + 1, n)
        ]
        return [backward[i] @ w[i] for i in range(n)] + mixed

    @staticmethod
    def _norm(fields, coupling):
        """Sum the norm over voxels of fields[channel][component]."""
        if coupling == "nuclear":
            matrices = [
                cp.vstack([cp.hstack([part[j] for part in field]) for field in fields])
                for j in range(fields[0][0].size)
            ]
            return sum(cp.normNuc(matrix) for matrix in matrices)
        groups = (
            fields if coupling == "uncoupled" else [[part for field in fields for part in field]]
        )
        return sum(cp.sum(cp.norm(cp.vstack(group), 2, axis=0)) for group in groups)

    def _data(self, term, slices):
        voxels = np.prod(term.A.domain_shape)
        rays = term.A(
            np.eye(voxels, dtype=np.float32).reshape(*term.A.domain_shape, voxels)
        ).astype(float)
        rays = sparse.kron(
            sparse.csr_matrix(rays.reshape(-1, voxels)), sparse.identity(slices)
        ).tocsr()
        total = 0
        for row, (f, gains, d) in enumerate(zip(term.data, term.gains, term.weights, strict=True)):
            if term.mix is None:
                seen = self.system.scales[term.first + row] * self.u[term.first + row]
            else:
                mix = np.broadcast_to(
                    np.reshape(term.mix, (len(self.u), -1)), (len(self.u), voxels * slices)
                )
                seen = sum(
                    cp.multiply(s * m, u)
                    for s, m, u in zip(self.system.scales, mix, self.u, strict=True)
                )
            g = np.broadcast_to(gains[:, None, None], f.shape).ravel()
            a = cp.multiply(g, rays @ seen)
            if term.background is not None:
                a = a + term.background[row].ravel()
            live = np.flatnonzero(g > 0)
            f = f.ravel()[live].astype(float)
            total += float(d) * (
                cp.sum(cp.kl_div(f, a[live]))
                if term.discrepancy == "kl"
                else cp.sum_squares(f - a[live]) / 2
            )
        return total

    @property
    def volume(self):
        sizes = (*self.system.A.domain_shape, -1)
        return np.stack(
            [s * u.value.reshape(sizes) for s, u in zip(self.system.scales, self.u, strict=True)]
        )

    @property
    def value(self):
        return self.problem.value

    @property
    def field(self):
        """w (channel, component, z, x, y), None for TV."""
        sizes = (*self.system.A.domain_shape, -1)
        return (
            None
            if self.w is None
            else np.stack([[part.value.reshape(sizes) for part in w] for w in self.w])
        )
