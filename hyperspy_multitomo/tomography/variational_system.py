# SPDX-License-Identifier: GPL-3.0-or-later
r"""A variational problem: its terms, the primal-dual step sizes, and both objectives.

    min_{u >= 0}  sum_k D_k(K_k u + b_k, f_k) + lambda R(u),     x_c = S_c u_c

with TV, R(u) = \|grad u\|, or TGV, R(u) = min_w \|grad u - w\| + alpha_0 \|E w\|. The volumes x are
in signal per unit length, u has no unit, and K_k projects with the gains and scales in it. The
saddle point is that of

    sum_k [<K_k u + b_k, s_k> - D_k^*(s_k)] + <grad u - w, p> + <E w, q>,
    |p| <= lambda,  |q| <= alpha_0 lambda.

**Refit.** The second step of Bregman's iteration (S. Osher et al., Multiscale Model. Simul. 4
(2005) 460, doi:10.1137/040605412; against the bias of regularisers, E.-M. Brinkmann et al.,
arXiv:1606.05113) has R(u) - <q_1, u> in the place of R(u), q_1 being a subgradient of R at the
first solution. The dual field of the first solve gives it: lambda q_1 = grad^T p_1 = l, and -<l, u>
is all that the second problem has besides. R(u) - <q_1, u> is 0, its least, where the edges are
those of the first solution, however high they are: the contrast that R took from them comes back.

**Step sizes.** With factors gamma > 0 for each row and xi > 0 for each block of columns of the
operator K, the steps sigma_i = gamma_i/sum_j |K_ij| xi_j and tau_j = xi_j/sum_i gamma_i |K_ij| obey
|Sigma^(1/2) K T^(1/2)| <= 1 (T. Pock, A. Chambolle, ICCV 2011, 1762, doi:10.1109/ICCV.2011.6126441,
lemma 2, with rows and columns scaled). The gamma remain to be chosen. The bound on the distance to
the solution, sum_i (y_i - y_i*)^2/sigma_i + |u - u*|^2/tau, is smallest if they are in proportion
to the size of the dual variables: lambda for p; for a ray that of the noise. At weights lambda that
suit the noise it is about sqrt(lambda c), c being the curvature of D at the data, d or d/f for
counts. That alone fits data of little noise slowly: their D* is strongly convex, with modulus 1/c,
and parts of the volume that projections show weakly oscillate while sigma is far below c. Hence the
second term of

    gamma_i = DATA (sqrt(lambda c_i) + DAMPING c_i sum_j |K_ij|),

which is large for data of many counts; sigma_i is then never far below DATA DAMPING c_i.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter1d

from hyperspy_multitomo.tomography.box import Box
from hyperspy_multitomo.tomography.differences import (
    gradient,
    gradient_adjoint,
    symmetrised_gradient,
    symmetrised_gradient_adjoint,
)
from hyperspy_multitomo.tomography.functionals import (
    COUPLINGS,
    DISCREPANCIES,
    FieldNorm,
    Frobenius,
    Uncoupled,
)
from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.scaling import divided, power_of_two, roomy

# Sizes of the dual blocks, the damping of the data, and the size of TGV's field relative to that of
# the volume, 1: the slope per voxel of objects some tens of voxels wide. Tuned on two phantoms, see
# benchmarks/steps.py for others. The optimum of the first three is flat: a factor of two in any of
# them costs a fifth more iterations.
REGULARISER, DATA, DAMPING, FIELD = 8.0, 2.0, 0.03, 0.015


@dataclass(frozen=True)
class Term:
    """A validated data term: each row sees one channel or, with `mix`, one row sees a sum.

    `data` and `background` (row, tilt, x, y), the background None where it is 0; `gains` (row,
    tilt); `weights` d (row,); `first` is the channel of row 0. `mix` (channel,) or (channel, z, x,
    y) are factors of x. `name` is that of its residuals. `profile` (row, tilt, x) is the mean of
    the data over the slices of a whole of which these are a part, or None. `counts` (row,) is the
    signal of one count, or of one noise-equivalent electron, of Poisson data. Weights and counts
    are in double precision until `in_units`: those of a detector's current are beyond single
    precision.
    """

    A: Projector
    data: np.ndarray
    gains: np.ndarray
    weights: np.ndarray
    discrepancy: str
    background: np.ndarray | None = None
    first: int = 0
    mix: np.ndarray | None = None
    name: str = "eds"
    profile: np.ndarray | None = None
    counts: np.ndarray = field(kw_only=True)

    def in_units(self, typical: np.ndarray, energy: float = 1.0) -> Term:
        """Return the term with its data in counts or, for least squares, in about `typical` (row,).

        The units are powers of two: nothing is rounded, and where the numbers fit the iterates are
        the same ones. The discrepancy comes out in units of `energy`, and `gains` hold the unit, so
        that the volume keeps its own.
        """
        poisson = self.discrepancy == "kl"
        units = power_of_two(self.counts) if poisson else roomy(typical)
        return replace(
            self,
            data=divided(self.data, units),
            background=divided(self.background, units),
            gains=divided(self.gains, units),
            weights=(self.weights * units ** (1 if poisson else 2) / energy).astype(np.float32),
            profile=divided(self.profile, units),
            counts=self.counts / units,
        )

    @property
    def rows(self) -> int:
        """Rows of data."""
        return len(self.data)

    @cached_property
    def live(self) -> np.ndarray:
        """False for tilts of gain 0, whose data say nothing, (row, tilt, 1, 1)."""
        return (self.gains > 0)[:, :, None, None]

    @cached_property
    def norms(self) -> np.ndarray:
        """|f| of each row, (row,)."""
        return np.sqrt(np.sum(np.square(self.data, dtype=np.float64), axis=(1, 2, 3)))

    def curvature(self, row: int) -> np.ndarray:
        """Return the second derivative of D at a row's data, (tilt, x): d, or d/f for counts f.

        Counts are averaged along y and over 5 px of the detector, and taken to be at least a
        twentieth of their mean, and a thousandth of a count.
        """
        d, data = float(self.weights[row]), self.data[row]
        if self.discrepancy == "ls":
            return np.full(data.shape[:2], d)
        counts = data.mean(axis=-1, dtype=np.float64) if self.profile is None else self.profile[row]
        counts = uniform_filter1d(counts, 5, axis=1)
        return d / np.maximum(counts, max(0.05 * counts.mean(), 1e-3 * self.counts[row]))

    def difference(self, expectations: np.ndarray | float) -> np.ndarray:
        """Return data less expectations, 0 where tilts are dead."""
        return np.where(self.live, self.data - expectations, 0)

    def relative(self, squares: np.ndarray) -> np.ndarray | float:
        """Return |f - a|/|f| of each row from sums of squares; 0 where the data are 0."""
        relative = np.sqrt(squares) / np.where(self.norms > 0, self.norms, np.inf)
        return relative if self.name == "eds" else float(relative[0])

    def expectations(self, projections: np.ndarray) -> np.ndarray:
        """Return gain times projections plus background, (row, tilt, x, y)."""
        means = self.gains[:, :, None, None] * projections
        return means if self.background is None else means + self.background


def over_volume(mix: np.ndarray) -> np.ndarray:
    """Return factors (channel,) or (channel, z, x, y) in the shape that multiplies a volume."""
    return mix if mix.ndim == 4 else mix[:, None, None, None]


@dataclass(frozen=True)
class VariationalSystem:
    """The validated problem, in float32.

    `scales` is S (channel,), `strength` lambda, and `initial` x (channel, z, x, y).

    Weights and strength, and with them the dual variables, are in units of `energy`; the objectives
    that are given are not. `box` is where the problem lies in the `whole` (z, x, y) that it was cut
    out of, see `support`; None where it is all.
    """

    terms: tuple[Term, ...]
    scales: np.ndarray
    initial: np.ndarray
    kind: str
    coupling: str
    dimensions: int
    strength: float
    alpha0: float = 4.0
    mask: np.ndarray | None = None
    nonnegative: bool = True
    relaxation: float = 1.8
    energy: float = 1.0
    box: Box | None = None
    whole: tuple[int, ...] | None = None

    def in_signal(self, u: np.ndarray) -> np.ndarray:
        """Return the volume x of u, in signal per unit length, with zeros around a box."""
        x = self.scales[:, None, None, None] * u
        return x if self.box is None or self.whole is None else self.box.padded(x, self.whole)

    @property
    def channels(self) -> int:
        """Number of channels of the volume."""
        return len(self.scales)

    @property
    def A(self) -> Projector:
        """A projector of the volume grid."""
        return self.terms[0].A

    @property
    def threads(self) -> int:
        """Threads to use."""
        return self.A.threads

    @property
    def separate(self) -> bool:
        """Whether channels can be held one by one: never, as one rule stops all."""
        return False

    @property
    def norm(self) -> type[FieldNorm]:
        """The norm of the gradient (TV), or of its difference from the field (TGV)."""
        return COUPLINGS[self.coupling]

    @property
    def field_norm(self) -> type[FieldNorm]:
        """The norm of TGV's symmetrised gradient: Frobenius wherever channels are coupled."""
        return Uncoupled if self.coupling == "uncoupled" else Frobenius

    # Operators

    def mixed(self, term: Term, u: np.ndarray) -> np.ndarray:
        """Return the volumes that the rows of a term see, (row, z, x, y), in the unit of x."""
        if term.mix is None:
            channels = slice(term.first, term.first + term.rows)
            return self.scales[channels, None, None, None] * u[channels]
        return (self._coefficients(term.mix) * u).sum(axis=0, keepdims=True)

    def _coefficients(self, mix: np.ndarray) -> np.ndarray:
        return self.scales[:, None, None, None] * over_volume(mix)

    def project(self, term: Term, u: np.ndarray) -> np.ndarray:
        """Return the expectations K u + b of a term."""
        return term.expectations(term.A(self.mixed(term, u)))

    def back_project(self, term: Term, s: np.ndarray, out: np.ndarray) -> None:
        """Add K^T s of a term to `out` (channel, z, x, y)."""
        back = term.A.T(term.gains[:, :, None, None] * s)
        if term.mix is None:
            channels = slice(term.first, term.first + term.rows)
            out[channels] += self.scales[channels, None, None, None] * back
        else:
            out += self._coefficients(term.mix) * back

    # Step sizes

    @cached_property
    def _data_steps(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Return sigma (row, tilt, x) of each term, and sum gamma |K| of all (channel, z, x)."""
        sigmas, columns = [], np.zeros((self.channels, *self.A.domain_shape), np.float32)
        for term in self.terms:
            lengths, sigma = (
                term.A.row_sums(),
                np.zeros((term.rows, *term.A.range_shape), np.float32),
            )
            for row in range(term.rows):
                if term.mix is None:
                    factors = np.zeros(self.channels, np.float32)
                    factors[term.first + row] = self.scales[term.first + row]
                else:
                    mix = term.mix if term.mix.ndim == 1 else term.mix.max(axis=(1, 2, 3))
                    factors = (self.scales * mix).astype(np.float32)
                sums = factors.sum() * term.gains[row][:, None] * lengths
                if not (seen := sums > 1e-6 * sums.max()).any():
                    continue
                # Rays are longer than columns where there are few tilts: half of that goes to
                # either side.
                typical = sums[seen].mean()
                longer = typical / (
                    factors.max() * term.A.column_sums(term.gains[row]).mean(dtype=np.float64)
                )
                curvature = term.curvature(row)
                gamma = (
                    DATA
                    * np.sqrt(longer)
                    * (np.sqrt(self.strength * curvature) + DAMPING * typical * curvature)
                )
                gamma = np.where(seen, gamma, 0).astype(np.float32)
                sigma[row] = np.divide(gamma, sums, out=np.zeros_like(sums), where=seen)
                columns += (
                    factors[:, None, None]
                    * term.A.T((term.gains[row][:, None] * gamma)[..., None])[..., 0]
                )
            sigmas.append(sigma)
        return sigmas, columns

    @property
    def data_steps(self) -> list[np.ndarray]:
        """Step sizes sigma of the rays of each term, (row, tilt, x); 0 for rays that miss all."""
        return self._data_steps[0]

    @property
    def _gammas(self) -> tuple[float, float]:
        """Sizes of the dual blocks p and q."""
        size = REGULARISER * self.strength / np.sqrt(self.dimensions)
        return size, size * self.alpha0

    @cached_property
    def volume_steps(self) -> np.ndarray:
        """Step sizes tau of u, (channel, z, x)."""
        sums = self._data_steps[1] + np.float32(2 * self.dimensions * self._gammas[0])
        return (1 / sums).astype(np.float32)

    @property
    def gradient_step(self) -> float:
        """Step size sigma of p."""
        return self._gammas[0] / (2 + (FIELD if self.kind == "tgv" else 0))

    @property
    def field_step(self) -> float:
        """Step size tau of w."""
        first, second = self._gammas
        return FIELD / (first + second * (2 + np.sqrt(2) * (self.dimensions - 1)))

    @property
    def matrix_step(self) -> float:
        """Step size sigma of q."""
        return self._gammas[1] / (2 * np.sqrt(2) * FIELD)

    # Values

    def restricted(self, u: np.ndarray) -> np.ndarray:
        """Return u made to obey the constraints."""
        if self.nonnegative:
            u = np.maximum(u, 0)
        if self.mask is not None:
            u = u * (self.mask if self.mask.ndim == 3 else self.mask[..., None])
        return u

    def start(self) -> np.ndarray:
        """Return the start of u."""
        return self.restricted(self.initial / self.scales[:, None, None, None]).astype(np.float32)

    def data_values(self, term: Term, expectations: np.ndarray) -> np.ndarray:
        """Return D of each row of a term, (row,)."""
        d = term.weights[:, None, None, None]
        values = DISCREPANCIES[term.discrepancy].value(expectations, term.data, d)
        values = np.where(term.live, values, 0)
        return np.asarray(np.sum(values, axis=(1, 2, 3), dtype=np.float64))

    def variation(self, u: np.ndarray, w: np.ndarray | None) -> tuple[float, float, float]:
        """Return |grad u - w|, |E w| and |w|; for TV |grad u|, 0 and 0."""
        slope = gradient(u, self.dimensions)
        if w is None:
            return self.norm.value(slope), 0.0, 0.0
        return (
            self.norm.value(slope - w),
            self.field_norm.value(symmetrised_gradient(w)),
            self.norm.value(w),
        )

    def of_variation(
        self, jumps: float, strains: float, slopes: float, linear: float = 0.0
    ) -> dict:
        """Return lambda R(u) - <l, u> as "objective" and, for TGV, the part in w as "slopes".

        R(u) with the field w is an upper bound until w is the best. `linear` is <l, u>.
        """
        found = {"objective": self.strength * (jumps + self.alpha0 * strains) - linear}
        return found | (
            {"slopes": float(slopes / (jumps + slopes)) if slopes > 0 else 0.0}
            if self.kind == "tgv"
            else {}
        )

    def objective(
        self, u: np.ndarray, w: np.ndarray | None, linear: np.ndarray | None = None
    ) -> float:
        """Return the value that is minimised, of a refit with its linear term l."""
        data = sum(self.data_values(term, self.project(term, u)).sum() for term in self.terms)
        regulariser = self.of_variation(*self.variation(u, w), _product(linear, u))["objective"]
        return self.energy * float(data + regulariser)

    def gap(
        self,
        u: np.ndarray,
        w: np.ndarray | None,
        p: np.ndarray,
        q: np.ndarray | None,
        s: list[np.ndarray],
        linear: np.ndarray | None = None,
    ) -> float:
        """Return the primal-dual gap over volumes and fields up to twice the largest of now.

        The unrestricted gap is infinite before the dual constraints hold exactly, which they do in
        the limit alone: A. Chambolle, T. Pock, J. Math. Imaging Vis. 40 (2011) 120,
        doi:10.1007/s10851-010-0251-1, sec. 3.1.
        """
        dual, pull = (
            0.0,
            gradient_adjoint(p := self.norm.project(p, self.strength)).astype(np.float32),
        )
        for term, dual_rays in zip(self.terms, s, strict=True):
            d = term.weights[:, None, None, None]
            if term.discrepancy == "kl":  # over-relaxed duals may leave the domain
                dual_rays = np.minimum(dual_rays, d * np.float32(1 - 1e-6))
            dual_rays = np.where(term.live, dual_rays, 0)
            values = DISCREPANCIES[term.discrepancy].conjugate(dual_rays, term.data, d)
            dual -= np.sum(np.where(term.live, values, 0), dtype=np.float64)
            if term.background is not None:
                dual += np.sum(dual_rays * term.background, dtype=np.float64)
            self.back_project(term, dual_rays, pull)
        if linear is not None:
            pull -= linear
        bound = 2 * float(np.abs(u).max())
        allowed = self.restricted(np.ones_like(u))
        pull *= allowed
        dual -= bound * float(
            np.sum(np.maximum(-pull, 0) if self.nonnegative else np.abs(pull), dtype=np.float64)
        )
        if w is not None and q is not None:
            q = self.field_norm.project(q, self.alpha0 * self.strength)
            slack = np.sqrt(np.square(symmetrised_gradient_adjoint(q) - p).sum(axis=1))
            largest = 2 * float(np.sqrt(np.square(w).sum(axis=1)).max())
            dual -= largest * float(np.sum(slack, dtype=np.float64))
        return self.objective(u, w, linear) - self.energy * dual

    def residuals(
        self, u: np.ndarray, w: np.ndarray | None, linear: np.ndarray | None = None
    ) -> dict:
        """Return the result of `of_variation` with the data's objective and relative residuals.

        |f - K u - b|/|f| of each term has the term's name.
        """
        found: dict = self.of_variation(*self.variation(u, w), _product(linear, u))
        for term in self.terms:
            expected = self.project(term, u)
            found["objective"] += float(self.data_values(term, expected).sum())
            found[term.name] = term.relative(
                np.sum(np.square(term.difference(expected), dtype=np.float64), axis=(1, 2, 3))
            )
        found["objective"] *= self.energy
        return found

    def with_mix(self, mix: np.ndarray, background: np.ndarray | None) -> VariationalSystem:
        """Return the system with other factors and background of its mixed term."""
        terms = tuple(
            t if t.mix is None else replace(t, mix=mix, background=background) for t in self.terms
        )
        return replace(self, terms=terms)


def _product(linear: np.ndarray | None, u: np.ndarray) -> float:
    """Return <l, u>, 0 without l."""
    return 0.0 if linear is None else float(np.sum(linear * u, dtype=np.float64))
