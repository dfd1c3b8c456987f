# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences and functionals of the variational methods:
adjoints, proximal maps by definition, conjugates, closed forms."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from hyperspy_multitomo.tomography.differences import (
    gradient,
    gradient_adjoint,
    symmetrised_gradient,
    symmetrised_gradient_adjoint,
)
from hyperspy_multitomo.tomography.functionals import (
    COUPLINGS,
    DISCREPANCIES,
    Frobenius,
    Nuclear,
    Uncoupled,
)

SHAPES = [(1, 5, 6, 1), (2, 2, 7, 3), (3, 6, 2, 2), (2, 1, 1, 4)]
RADIUS = 0.7
# Name of a functional -> expectations or fields where it is tried; each is a draw from a generator.
RAYS = {
    "kl": lambda rng: rng.poisson([0.5, 3, 20, 1e4, 0]).astype(float),
    "ls": lambda rng: rng.normal(0, 10, 5),
}
FIELDS = {
    "any": lambda rng: rng.normal(0, 0.8, (3, 3, 4, 5, 2)),
    "small": lambda rng: rng.normal(0, 0.01, (3, 3, 4, 5, 2)),
    "in a plane": lambda rng: rng.normal(0, 2, (2, 2, 4, 5, 1)),
    "symmetric matrices": lambda rng: rng.normal(0, 2, (2, 6, 3, 3, 2)),
    "one channel": lambda rng: rng.normal(0, 2, (1, 3, 4, 4, 1)),
    "channels alike": lambda rng: rng.normal(0, 2, (1, 3, 4, 4, 1)) * np.ones((3, 1, 1, 1, 1)),
    "one direction": lambda rng: (
        rng.normal(0, 2, (3, 1, 4, 4, 1)) * rng.normal(0, 1, (1, 3, 1, 1, 1))
    ),
    "nothing": lambda rng: np.zeros((2, 3, 2, 2, 1)),
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def inner(a, b):
    return float(np.sum(a * b, dtype=np.float64))


class TestDifferences:
    @pytest.mark.parametrize("dimensions", [2, 3])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_adjoints(self, rng, shape, dimensions):
        channels, *grid = shape
        u, p = rng.standard_normal(shape), rng.standard_normal((channels, dimensions, *grid))
        assert inner(gradient(u, dimensions), p) == pytest.approx(
            inner(u, gradient_adjoint(p)), abs=1e-10
        )
        q = rng.standard_normal((channels, dimensions * (dimensions + 1) // 2, *grid))
        assert inner(symmetrised_gradient(p), q) == pytest.approx(
            inner(p, symmetrised_gradient_adjoint(q)), abs=1e-5
        )

    def test_gradient_of_a_slope(self):
        z, x, y = np.indices((4, 5, 3))
        slopes = gradient((2.0 * z - 3.0 * x + 0.5 * y)[None], 3)[0]
        for axis, slope in enumerate((2, -3, 0.5)):
            ends = np.take(slopes[axis], [-1], axis=axis)
            np.testing.assert_array_equal(np.delete(slopes[axis], -1, axis=axis), slope)
            np.testing.assert_array_equal(ends, 0)

    def test_symmetrised_gradient_of_linear_fields(self, rng):
        """Inside, E of the field M r is (M + M^T)/2,
        and sums of squares are those of the whole matrix."""
        M = rng.standard_normal((3, 3))
        field = np.tensordot(M, np.indices((6, 6, 6), dtype=float), 1)[None]
        found = symmetrised_gradient(field)[0, :, 2:-2, 2:-2, 2:-2]
        S = (M + M.T) / 2
        expected = [*np.diag(S), *(np.sqrt(2) * S[i, j] for i, j in ((0, 1), (0, 2), (1, 2)))]
        np.testing.assert_allclose(
            found, np.broadcast_to(np.reshape(expected, (6, 1, 1, 1)), found.shape), atol=1e-6
        )
        np.testing.assert_allclose(np.square(found).sum(axis=0), np.square(S).sum(), rtol=1e-6)

    def test_two_dimensions_are_three_without_y(self, rng):
        u = rng.standard_normal((2, 5, 6, 1)).repeat(3, axis=-1)
        flat, full = gradient(u, 2), gradient(u, 3)
        np.testing.assert_array_equal(flat, full[:, :2])
        np.testing.assert_array_equal(full[:, 2], 0)
        np.testing.assert_array_equal(
            symmetrised_gradient(flat), symmetrised_gradient(full)[:, [0, 1, 3]]
        )

    def test_input_is_left_alone(self, rng):
        u, p, q = (rng.standard_normal(s) for s in ((2, 4, 5, 3), (2, 3, 4, 5, 3), (2, 6, 4, 5, 3)))
        kept = u.copy(), p.copy(), q.copy()
        (
            gradient(u, 3),
            gradient_adjoint(p),
            symmetrised_gradient(p),
            symmetrised_gradient_adjoint(q),
        )
        for array, copy in zip((u, p, q), kept, strict=True):
            np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", DISCREPANCIES)
@pytest.mark.parametrize("d", [0.02, 1.0, 30.0])
class TestDiscrepancies:
    def test_conjugate_is_the_supremum(self, rng, name, d):
        discrepancy = DISCREPANCIES[name]
        f = RAYS[name](rng)
        for s in d * np.array([-8.0, -1.0, -0.1, 0.0, 0.3, 0.9]):
            for counts, found in zip(
                f, discrepancy.conjugate(np.full_like(f, s), f, d), strict=True
            ):
                span = (0, 30 * counts + 50) if name == "kl" else (counts - 50, counts + 50)
                best = minimize_scalar(
                    lambda a, c=counts, s=s: discrepancy.value(a, c, d) - s * a,
                    bounds=span,
                    method="bounded",
                )
                assert found == pytest.approx(-best.fun, rel=2e-5, abs=1e-3 * d)

    def test_proximal_map_beats_its_neighbours(self, rng, name, d):
        discrepancy = DISCREPANCIES[name]
        f = RAYS[name](rng)
        for sigma in (0.05, 1.0, 40.0):
            v = d * rng.normal(0, 3, f.shape)
            nearest = discrepancy.prox_conjugate(v, f, d, sigma)

            def cost(s, v=v, sigma=sigma):
                return 0.5 * np.square(s - v) + sigma * discrepancy.conjugate(s, f, d)

            least = cost(nearest)
            assert np.isfinite(least).all()
            for step in np.geomspace(1e-4, 10, 100):
                other = cost(nearest + d * step * rng.choice([-1, 1], f.shape))
                assert (other >= least - 1e-9 * (1 + np.abs(least))).all()

    def test_moreau(self, rng, name, d):
        """v = prox of sigma D* at v + sigma times prox of D/sigma at v/sigma;
        the second is found numerically."""
        discrepancy = DISCREPANCIES[name]
        f, sigma = RAYS[name](rng), 0.8
        v = d * rng.normal(0, 3, f.shape)
        for value, counts, dual in zip(
            v, f, discrepancy.prox_conjugate(v, f, d, sigma), strict=True
        ):
            low = 0 if name == "kl" else -1e3

            def cost(a, value=value, counts=counts):
                return 0.5 * (a - value / sigma) ** 2 + discrepancy.value(a, counts, d) / sigma

            primal = minimize_scalar(
                cost, bounds=(low, 2e4), method="bounded", options=dict(xatol=1e-9, maxiter=1000)
            ).x
            assert dual + sigma * primal == pytest.approx(
                value, abs=2e-4 * max(1, abs(primal), abs(value))
            )

    def test_least_at_the_data(self, rng, name, d):
        discrepancy = DISCREPANCIES[name]
        f = RAYS[name](rng)
        np.testing.assert_allclose(discrepancy.value(f, f, d), 0, atol=1e-12)
        for factor in (0.5, 0.99, 1.01, 3):
            assert (discrepancy.value(factor * f + (f == 0), f, d) > 0).all()

    def test_input_is_left_alone(self, rng, name, d):
        discrepancy = DISCREPANCIES[name]
        f, v = RAYS[name](rng), rng.standard_normal(5)
        kept = f.copy(), v.copy()
        (
            discrepancy.prox_conjugate(v, f, d, 1.0),
            discrepancy.value(np.abs(v), f, d),
            discrepancy.conjugate(v, f, d),
        )
        np.testing.assert_array_equal(f, kept[0])
        np.testing.assert_array_equal(v, kept[1])


def test_kullback_leibler_beyond_its_domain():
    kl = DISCREPANCIES["kl"]
    ones, none = np.ones(1), np.zeros(1)
    assert 30 < kl.value(none, ones, 1.0) < 60  # as if 1e-20 were expected: objectives stay finite
    assert kl.value(none, none, 1.0) == 0
    assert kl.conjugate(np.array([1.001, 1.0]), np.array([0.0, 2.0]), 1.0).tolist() == [
        np.inf,
        np.inf,
    ]
    assert kl.conjugate(np.array([1.0]), none, 1.0) == 0


@pytest.mark.parametrize("coupling", COUPLINGS)
class TestNorms:
    @pytest.mark.parametrize("name", FIELDS)
    def test_projection_is_the_nearest_of_the_ball(self, rng, coupling, name):
        """Its dual norm is at most the radius, and <v - P v,
        w - P v> <= 0 for every w of the ball."""
        norm, v = COUPLINGS[coupling], FIELDS[name](rng)
        nearest = norm.project(v, RADIUS)
        assert dual_norm(coupling, nearest).max() <= RADIUS * (1 + 1e-6)
        inside = dual_norm(coupling, v) <= RADIUS
        if coupling != "uncoupled":
            np.testing.assert_allclose(nearest[..., inside], v[..., inside], atol=1e-6)
        for scale in np.geomspace(1e-3, 10, 100):
            other = norm.project(nearest + scale * rng.standard_normal(v.shape), RADIUS)
            products = ((v - nearest) * (other - nearest)).sum(axis=(0, 1))
            assert products.max() <= 1e-6

    @pytest.mark.parametrize("name", FIELDS)
    def test_moreau(self, rng, coupling, name):
        """v - P v is the proximal map of radius |.|: it beats 100 neighbours."""
        norm, v = COUPLINGS[coupling], FIELDS[name](rng)
        shrunk = v - norm.project(v, RADIUS)

        def cost(field):
            return 0.5 * np.sum(np.square(field - v)) + RADIUS * norm.value(field)

        least = cost(shrunk)
        for scale in np.geomspace(1e-4, 3, 100):
            assert cost(shrunk + scale * rng.standard_normal(v.shape)) >= least * (1 - 1e-9)

    @pytest.mark.parametrize("name", FIELDS)
    def test_norm_is_the_supremum_over_the_ball(self, rng, coupling, name):
        """|J| = sup <J, p> over the unit ball of the dual norm,
        reached in the limit by projecting large multiples of J."""
        norm, v = COUPLINGS[coupling], FIELDS[name](rng)
        assert inner(v, norm.project(1e7 * v, 1.0)) == pytest.approx(
            norm.value(v), rel=1e-5, abs=1e-12
        )
        for _ in range(20):
            assert (
                inner(v, norm.project(rng.standard_normal(v.shape) * 3, 1.0))
                <= norm.value(v) + 1e-9
            )

    def test_projection_is_idempotent_and_brings_fields_closer(self, rng, coupling):
        norm = COUPLINGS[coupling]
        a, b = FIELDS["any"](rng), FIELDS["any"](rng)
        first, second = norm.project(a, RADIUS), norm.project(b, RADIUS)
        np.testing.assert_allclose(norm.project(first, RADIUS), first, atol=1e-7)
        before, after = (np.square(x - y).sum(axis=(0, 1)) for x, y in ((a, b), (first, second)))
        assert (after <= before * (1 + 1e-9)).all()

    def test_input_is_left_alone(self, rng, coupling):
        v = FIELDS["any"](rng)
        kept = v.copy()
        COUPLINGS[coupling].project(v, RADIUS), COUPLINGS[coupling].value(v)
        np.testing.assert_array_equal(v, kept)

    def test_rotations_change_nothing(self, rng, coupling):
        """Of the directions, for all norms; of the channels, for the coupled ones."""
        norm, v = COUPLINGS[coupling], FIELDS["any"](rng)
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        assert norm.value(np.einsum("ij,cjzxy->cizxy", turn, v)) == pytest.approx(
            norm.value(v), rel=1e-6
        )
        if coupling != "uncoupled":
            assert norm.value(np.einsum("ij,jczxy->iczxy", turn, v)) == pytest.approx(
                norm.value(v), rel=1e-6
            )


def dual_norm(coupling, field):
    """The dual norm of a field at every voxel, (z, x, y), by NumPy's general routines."""
    matrices = np.moveaxis(field, (0, 1), (-2, -1))
    if coupling == "uncoupled":
        return np.linalg.norm(matrices, axis=-1).max(axis=-1)
    return np.linalg.norm(matrices, "fro" if coupling == "frobenius" else 2, axis=(-2, -1))


class TestClosedForms:
    def test_one_channel_makes_all_norms_equal(self, rng):
        v = FIELDS["one channel"](rng)
        assert Nuclear.value(v) == pytest.approx(Frobenius.value(v), rel=1e-6)
        assert Uncoupled.value(v) == pytest.approx(Frobenius.value(v), rel=1e-12)
        np.testing.assert_allclose(
            Nuclear.project(v, RADIUS), Frobenius.project(v, RADIUS), atol=1e-6
        )

    @pytest.mark.parametrize("channels", [2, 3])
    def test_equal_channels(self, rng, channels):
        """Of n equal channels the nuclear and the Frobenius norm are sqrt(n) times that of one,
        the uncoupled one n times."""
        one = FIELDS["one channel"](rng)
        alike = one.repeat(channels, axis=0)
        for norm, factor in (
            (Nuclear, channels**0.5),
            (Frobenius, channels**0.5),
            (Uncoupled, channels),
        ):
            assert norm.value(alike) == pytest.approx(factor * norm.value(one), rel=1e-6)

    def test_edges_of_one_place_and_two_directions(self):
        """Edges of size 1 across each other: 2 by the nuclear norm, sqrt(2) by Frobenius's;
        along each other sqrt(2) by both."""
        crossed, along = np.zeros((2, 2, 2, 1, 1, 1))
        crossed[0, 0] = crossed[1, 1] = along[0, 0] = along[1, 0] = 1
        assert [norm.value(crossed) for norm in (Nuclear, Frobenius, Uncoupled)] == pytest.approx(
            [2, 2**0.5, 2]
        )
        assert [norm.value(along) for norm in (Nuclear, Frobenius, Uncoupled)] == pytest.approx(
            [2**0.5, 2**0.5, 2]
        )

    def test_total_variation_of_a_square(self):
        """Its height times its outline, where no corner shares both differences but one:
        1 edge pixel has sqrt(2) for 2."""
        u = np.zeros((1, 12, 12, 2))
        u[:, 3:8, 4:9] = 3.0
        outline = 4 * 5 - 2 + 2**0.5
        assert Frobenius.value(gradient(u, 3)) == pytest.approx(3 * outline * 2)

    @pytest.mark.parametrize("length", [8, 16])
    def test_a_ramp_costs_its_ends_not_its_height(self, length):
        """With w = grad u a ramp of slope s has |E w| = 2 s a row however long it is;
        by TV it costs its height."""
        slope, rows = 0.5, 6
        u = np.broadcast_to(slope * np.clip(np.arange(32.0) - 8, 0, length), (1, rows, 32))[
            ..., None
        ]
        w = gradient(u, 2)
        inside = symmetrised_gradient(w)[:, :, 1:-1]  # rows at the border see the field end
        assert Frobenius.value(inside) == pytest.approx(2 * slope * (rows - 2))
        assert Frobenius.value(w) == pytest.approx(rows * slope * length)
