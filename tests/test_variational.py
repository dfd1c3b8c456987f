# SPDX-License-Identifier: GPL-3.0-or-later
"""Variational reconstruction: the minimiser against an independent convex solver, the gap,
closed forms, and bad input."""

from itertools import islice, product

import numpy as np
import pytest

from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    projector,
    run,
    variational,
    variational_system,
)
from hyperspy_multitomo.tomography.differences import (
    gradient,
    gradient_adjoint,
    symmetrised_gradient,
    symmetrised_gradient_adjoint,
)

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
    return (
        np.random.default_rng(0).poisson(GAINS[:, None, None] * A(truth) + 0.4).astype(np.float32)
    )


@pytest.fixture(scope="module")
def haadf(haadf_A, truth):
    return (
        np.random.default_rng(1)
        .poisson(haadf_A(np.tensordot(MIX, truth, 1)) + 0.3)
        .astype(np.float32)
    )


@pytest.fixture(scope="module")
def mask():
    inside = np.ones((N, N), bool)
    inside[:, 0] = inside[0] = False
    return inside


def system_of(iterates):
    """The validated problem behind a generator of iterates, which is at its start."""
    return next(iterates)._steps.system


def convex_of(system):
    """Return the same problem, solved by cvxpy;
    its import takes a second, for tests that solve one."""
    from convex_problem import Convex

    return Convex(system)


def problem(A, haadf_A, counts, haadf, mask, case):
    """Return the iterates of a case of the table below."""
    case = dict(case)
    discrepancy, weight, joined = (
        case.pop("discrepancy", "kl"),
        case.pop("weight", 1.0),
        case.pop("haadf", None),
    )
    plain = dict(gains=GAINS, background=0.4)
    terms = [DataTerm(A, counts, discrepancy=discrepancy, weight=weight, **case.pop("maps", plain))]
    scales = SCALES
    if isinstance(joined, str):
        terms.append(
            DataTerm(haadf_A, haadf, first=2, discrepancy=discrepancy, background=0.3, weight=0.7)
        )
        scales = np.append(SCALES, 9.0)
    elif joined is not None:
        terms.append(
            DataTerm(
                haadf_A,
                haadf,
                mix=joined,
                discrepancy=case.pop("haadf_term", "kl"),
                background=0.3,
                weight=0.5,
            )
        )
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
    "HAADF as a sum by voxels": dict(
        haadf=MIX[:, None, None, None] * np.random.default_rng(5).uniform(0.5, 2, (2, N, N, SLICES))
    ),
    "strong": dict(lam=8.0, weight=[0.3, 1.0]),
    "weak": dict(lam=0.05, kind="tgv"),
}


def relative(a, b):
    return float(np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(b))


class TestMinimiser:
    @pytest.fixture(autouse=True)
    def steep(self, monkeypatch):
        """Slopes of so small objects are about 1 per voxel, and so is TGV's field."""
        monkeypatch.setattr(variational_system, "FIELD", 0.5)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", CASES)
    def test_agrees_with_an_independent_solver(self, A, haadf_A, counts, haadf, mask, name):
        iterates = problem(A, haadf_A, counts, haadf, mask, CASES[name])
        system = system_of(iterates)
        convex = convex_of(system)
        u = (convex.volume / system.scales[:, None, None, None]).astype(np.float32)
        field = None if convex.field is None else convex.field.astype(np.float32)
        assert system.objective(
            np.maximum(u, 0) if system.nonnegative else u, field
        ) == pytest.approx(convex.value, rel=1e-5)
        result = run(iterates, 3000 if system.kind == "tgv" else 1000)
        iterate = next(iterates)
        assert iterate.objective == pytest.approx(convex.value, rel=1e-4)
        assert relative(result.volume, convex.volume) < 3e-3
        assert -1e-6 < iterate.gap / convex.value < 2e-3
        assert iterate.gap >= iterate.objective - convex.value - 1e-5 * convex.value

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "case", [dict(), dict(kind="tgv", alpha0=0.6, haadf="channel")], ids=["tv", "tgv"]
    )
    def test_every_step_rule_and_relaxation_reaches_it(
        self, A, haadf_A, counts, haadf, mask, case, monkeypatch
    ):
        found = []
        for data, regulariser, relaxation in (
            (2.0, 6.0, 1.8),
            (0.5, 6.0, 1.0),
            (4.0, 2.0, 1.9),
            (2.0, 20.0, 0.7),
        ):
            monkeypatch.setattr(variational_system, "DATA", data)
            monkeypatch.setattr(variational_system, "REGULARISER", regulariser)
            iterates = problem(A, haadf_A, counts, haadf, mask, case | dict(relaxation=relaxation))
            found.append((run(iterates, 4000).volume, next(iterates).objective))
        for volume, objective in found[1:]:
            assert objective == pytest.approx(found[0][1], rel=2e-4)
            assert relative(volume, found[0][0]) < 0.01

    @pytest.mark.slow
    def test_the_start_does_not_matter(self, A, counts):
        def minimum(**options):
            return run(
                variational([DataTerm(A, counts)], Regulariser(1.0), SCALES, **options), 1500
            ).volume

        start = np.random.default_rng(3).random((2, N, N, SLICES)) * 5
        assert relative(minimum(initial=start), minimum()) < 3e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_the_gap_bounds_the_distance_to_the_minimum_on_the_way(self, A, counts, kind):
        terms, regulariser = (
            [DataTerm(A, counts, background=0.4)],
            Regulariser(1.0, kind, alpha0=0.6),
        )
        gaps, to_the_end = [], variational(terms, regulariser, SCALES)
        run(to_the_end, 4000)
        lowest = next(to_the_end).objective
        for iterate in islice(variational(terms, regulariser, SCALES), 100, 2501, 800):
            gaps.append(iterate.gap)
            assert iterate.gap >= iterate.objective - lowest - 1e-5 * lowest
        assert gaps[-1] < min(1e-3 * lowest, gaps[0])


class TestClosedForms:
    @pytest.mark.slow
    def test_a_step(self):
        """Least squares with TV takes lambda/(2 d n) off a step between n and n pixels,
        here of two rows seen along z."""
        n, d, strength, height = 8, 2.0, 1.5, 6.0
        A = projector(TiltGeometry([0.0], 2 * n, (2, 2 * n)))
        data = np.repeat([0.0, height], n)[None, None, :, None]
        iterates = variational(
            [DataTerm(A, data, discrepancy="ls", weight=d)],
            Regulariser(strength, dimensions=2),
            [1.0],
        )
        expected = np.repeat([0.0, height / 2], n) + strength / (2 * d * n) * np.repeat([1, -1], n)
        np.testing.assert_allclose(
            run(iterates, 2000).volume[0, :, :, 0], [expected, expected], atol=2e-3
        )

    @pytest.mark.slow
    def test_a_ramp_that_tgv_keeps_and_tv_does_not(self):
        """TV flattens the ends of a ramp where TGV goes on straight to the corners."""
        A = projector(TiltGeometry([0.0], 48, (8, 48)))
        profile = np.clip(np.arange(48.0) - 16, 0, 16)

        def bends(kind):
            terms = [DataTerm(A, 8 * profile[None, None, :, None], discrepancy="ls", weight=0.02)]
            found = run(
                variational(terms, Regulariser(190.0, kind, dimensions=2, alpha0=1.0), [16.0]), 3000
            ).volume[0, 3:5, :, 0]
            return np.diff(found.mean(axis=0))[16:32]

        tv, tgv = bends("tv"), bends("tgv")
        assert np.sum(np.abs(tv) < 0.02) >= 3
        np.testing.assert_allclose(tgv[1:-1], tgv[7], atol=0.02)
        assert tgv.min() > 0.5

    @pytest.mark.slow
    def test_equal_channels_by_the_nuclear_norm_are_one_with_sqrt_2_times_lambda(self, A, counts):
        """2 D(u) + lambda sqrt(2) TV(u) is what two equal channels add up to."""
        twice = counts[:1].repeat(2, axis=0)
        for coupling in ("nuclear", "frobenius"):
            both = run(
                variational([DataTerm(A, twice)], Regulariser(1.0, coupling=coupling), [2.0, 2.0]),
                1500,
            ).volume
            one = run(
                variational([DataTerm(A, counts[:1])], Regulariser(2**-0.5), [2.0]), 1500
            ).volume
            assert relative(both[0], one[0]) < 2e-3
            assert relative(both[1], one[0]) < 2e-3


class TestSymmetries:
    @pytest.mark.parametrize("coupling", ["frobenius", "nuclear", "uncoupled"])
    def test_swapped_channels(self, A, counts, coupling):
        def minimum(data, scales):
            return run(
                variational([DataTerm(A, data)], Regulariser(0.7, coupling=coupling), scales), 60
            ).volume

        np.testing.assert_allclose(
            minimum(counts[::-1], SCALES[::-1])[::-1], minimum(counts, SCALES), atol=2e-4
        )

    @pytest.mark.parametrize(("kind", "discrepancy"), list(product(["tv", "tgv"], ["kl", "ls"])))
    def test_counts_times_c(self, A, counts, kind, discrepancy):
        """Counts, background, scales and volume times c, with d/c (KL) or d/c^2 (least squares):
        iterate by iterate the same."""
        c = 7.0

        def iterate(factor):
            weight = 1 / factor if discrepancy == "kl" else 1 / factor**2
            terms = [
                DataTerm(
                    A,
                    factor * counts,
                    background=factor * 0.4,
                    weight=weight,
                    discrepancy=discrepancy,
                )
            ]
            return run(
                variational(terms, Regulariser(0.7, kind, alpha0=0.6), factor * SCALES), 60
            ).volume

        np.testing.assert_allclose(iterate(c), c * iterate(1.0), rtol=2e-3, atol=2e-3)

    @pytest.mark.parametrize("discrepancy", ["kl", "ls"])
    def test_objective_times_c(self, A, counts, discrepancy):
        """d and lambda times c: the same volumes, iterate by iterate, and c times the objective."""

        def iterate(factor):
            terms = [DataTerm(A, counts, weight=factor, discrepancy=discrepancy)]
            iterates = variational(terms, Regulariser(0.7 * factor), SCALES)
            return run(iterates, 60).volume, next(iterates).objective

        (volume, objective), (same, larger) = iterate(1.0), iterate(50.0)
        np.testing.assert_allclose(same, volume, rtol=2e-3, atol=2e-3)
        assert larger == pytest.approx(50 * objective, rel=1e-3)

    def test_length_unit(self, A, counts):
        """Pixels of half the size: volumes of twice the signal per length,
        if their scales are so too."""
        fine = projector(TiltGeometry(TILTS, N, pixel_size=0.5))
        coarse = run(variational([DataTerm(A, counts)], Regulariser(0.7), SCALES), 60).volume
        seen = run(variational([DataTerm(fine, counts)], Regulariser(0.7), 2 * SCALES), 60).volume
        np.testing.assert_allclose(seen, 2 * coarse, atol=1e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_slices_do_not_depend_on_each_other_in_two_dimensions(self, A, counts, kind):
        regulariser = Regulariser(0.7, kind, dimensions=2, alpha0=0.6)
        whole = run(variational([DataTerm(A, counts)], regulariser, SCALES), 1000).volume
        for y in range(SLICES):
            alone = run(
                variational([DataTerm(A, counts[..., y : y + 1])], regulariser, SCALES), 1000
            ).volume
            assert relative(whole[..., y : y + 1], alone) < 3e-3

    @pytest.mark.slow
    def test_three_dimensions_are_two_where_slices_are_alike(self, A, counts):
        data = counts[..., :1].repeat(4, axis=-1)
        flat, deep = (
            run(
                variational([DataTerm(A, data)], Regulariser(0.7, dimensions=dimensions), SCALES),
                1500,
            ).volume
            for dimensions in (2, 3)
        )
        assert relative(deep, flat) < 3e-3

    def test_three_dimensions_join_slices(self, A, counts):
        def spread(dimensions):
            volume = run(
                variational([DataTerm(A, counts)], Regulariser(3.0, dimensions=dimensions), SCALES),
                500,
            ).volume
            return np.linalg.norm(volume[..., 0] - volume[..., 1])

        assert spread(3) < 0.9 * spread(2)

    @pytest.mark.slow
    def test_regulariser_joins_channels_only_when_coupled(self, A, counts):
        def first(coupling, data):
            return run(
                variational([DataTerm(A, data)], Regulariser(0.7, coupling=coupling), SCALES), 1000
            ).volume[0]

        other = np.stack([counts[0], 3 * counts[1]])
        assert relative(first("uncoupled", other), first("uncoupled", counts)) < 2e-3
        assert relative(first("frobenius", other), first("frobenius", counts)) > 0.02


class TestNothing:
    @pytest.mark.parametrize("discrepancy", ["kl", "ls"])
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_an_empty_channel_is_empty(self, A, counts, kind, discrepancy):
        data = np.stack([counts[0], np.zeros_like(counts[0])])
        iterates = variational(
            [DataTerm(A, data, discrepancy=discrepancy)], Regulariser(0.5, kind), SCALES
        )
        result = run(iterates, 300)
        assert np.isfinite(result.volume).all()
        assert result.volume[0].max() > 1
        assert result.volume[1].max() < 1e-3
        assert np.isfinite([*result.residuals["objective"], next(iterates).gap]).all()

    def test_no_counts_at_all(self, A):
        result = run(
            variational(
                [DataTerm(A, np.zeros((1, 5, N, 1)), background=0.1)], Regulariser(0.5), [1.0]
            ),
            50,
        )
        assert not result.volume.any()
        assert result.residuals["eds"].tolist() == [[0.0]] * 5

    @pytest.mark.parametrize("discrepancy", ["kl", "ls"])
    def test_rays_that_miss_the_volume_say_nothing(self, truth, discrepancy):
        """Not in the volume, and not in the objective, whatever they counted and however much."""
        A = projector(TiltGeometry(TILTS, 3 * N, (N, N)))
        lengths = A.row_sums()
        clean = A(truth)
        stray = clean + np.where(lengths > 1e-6, 0, 9)[..., None]
        ends = []
        for data in (clean, stray):
            iterates = variational(
                [DataTerm(A, data, discrepancy=discrepancy)], Regulariser(0.3), SCALES
            )
            result = run(iterates, 300)
            ends.append((result.volume, result.residuals["objective"][-1], next(iterates).gap))
        np.testing.assert_array_equal(ends[1][0], ends[0][0])
        assert ends[1][1:] == pytest.approx(ends[0][1:])
        assert (lengths <= 1e-6).any()

    def test_counts_outside_the_mask(self, A, counts, mask):
        """Rays through masked voxels alone expect their background: the gap closes nevertheless."""
        inside = np.zeros_like(mask)
        inside[2:4, 2:5] = True
        iterates = variational([DataTerm(A, counts)], Regulariser(0.3), SCALES, mask=inside)
        volume = run(iterates, 1000).volume
        iterate = next(iterates)
        assert not volume[:, ~inside].any()
        assert volume[:, inside].max() > 1
        assert iterate.gap < 0.01 * iterate.objective

    def test_dead_tilts_say_nothing(self, A, counts):
        spoilt, gains = counts.copy(), np.array([1.0, 1, 0, 1, 1])
        spoilt[:, 2] = 1000
        kept = projector(TiltGeometry(TILTS[:2] + TILTS[3:], N))
        expected = run(
            variational([DataTerm(kept, np.delete(counts, 2, 1))], Regulariser(0.7), SCALES), 60
        ).volume
        for data in (counts, spoilt):
            result = run(
                variational([DataTerm(A, data, gains=gains)], Regulariser(0.7), SCALES), 60
            )
            np.testing.assert_allclose(result.volume, expected, atol=1e-3)

    def test_input_is_left_alone(self, A, counts):
        data, gains, background, start = (
            counts.copy(),
            GAINS.copy(),
            np.full_like(counts, 0.4),
            np.ones((2, N, N, SLICES)),
        )
        terms = [DataTerm(A, data, gains=gains, background=background)]
        run(variational(terms, Regulariser(1.0), SCALES, initial=start), 5)
        for array, kept in ((data, counts), (gains, GAINS), (background, 0.4), (start, 1.0)):
            np.testing.assert_array_equal(
                array, np.broadcast_to(np.asarray(kept, array.dtype), array.shape)
            )


class TestIterates:
    def test_measured_every_tenth(self, A, counts):
        iterates = variational([DataTerm(A, counts)], Regulariser(1.0), SCALES)
        result = run(iterates, 35)
        assert result.measured_at.tolist() == [10, 20, 30]
        assert {name: len(values) for name, values in result.residuals.items()} == {
            "objective": 3,
            "eds": 3,
        }
        at_thirty = list(islice(variational([DataTerm(A, counts)], Regulariser(1.0), SCALES), 31))[
            -1
        ]
        assert at_thirty.objective == pytest.approx(result.residuals["objective"][-1], rel=1e-5)

    def test_interrupted_and_continued(self, A, counts):
        def interrupt(iterate):
            if iterate.iteration == 7:
                raise KeyboardInterrupt

        iterates = variational([DataTerm(A, counts)], Regulariser(1.0), SCALES)
        with pytest.warns(UserWarning, match="interrupted: this is iteration 7"):
            first = run(iterates, 100, progress=interrupt)
        assert (first.interrupted, first.iterations) == (True, 7)
        straight = run(variational([DataTerm(A, counts)], Regulariser(1.0), SCALES), 20).volume
        np.testing.assert_array_equal(run(iterates, 13).volume, straight)
        at_seven = run(variational([DataTerm(A, counts)], Regulariser(1.0), SCALES), 7).volume
        np.testing.assert_array_equal(first.volume, at_seven)

    def test_channels_cannot_be_held(self, A, counts):
        iterate = next(variational([DataTerm(A, counts)], Regulariser(1.0), SCALES))
        with pytest.raises(ValueError, match="coupled"):
            iterate.hold([True, False])

    @pytest.mark.slow
    def test_steps_obey_their_bound(self, A, haadf_A, counts, haadf, mask):
        """|Sigma^(1/2) K T^(1/2)| <= 1 by power iteration, for the sum of the HAADF too."""
        for case in (
            dict(),
            dict(kind="tgv"),
            dict(haadf="channel", lam=0.05),
            dict(haadf=MIX, kind="tgv", lam=8.0),
        ):
            system = system_of(problem(A, haadf_A, counts, haadf, mask, case))
            assert 0.3 < operator_norm(system) <= 1 + 1e-4


def operator_norm(system, iterations=300):
    """The largest singular value of K between the metrics of the step sizes,
    background left out."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal(system.initial.shape)
    w = rng.standard_normal((system.channels, system.dimensions, *system.initial.shape[1:]))
    root, field_root = np.sqrt(system.volume_steps)[..., None], np.sqrt(system.field_step)
    tgv, size = system.kind == "tgv", 0.0
    for _ in range(iterations):
        x, v = root * u, field_root * w * tgv
        p = system.gradient_step * (gradient(x, system.dimensions) - v)
        q = system.matrix_step * symmetrised_gradient(v)
        pull = gradient_adjoint(p).astype(np.float32)
        for term, sigma in zip(system.terms, system.data_steps, strict=True):
            rays = term.gains[:, :, None, None] * term.A(system.mixed(term, x.astype(np.float32)))
            system.back_project(term, (sigma[..., None] * rays).astype(np.float32), pull)
        u, w = root * pull, field_root * (symmetrised_gradient_adjoint(q) - p) * tgv
        size = np.sqrt(np.sum(u**2) + np.sum(w**2))
        u, w = u / size, w / size
    return np.sqrt(size)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(data=np.full((2, 5, N, 2), -1.0)), ValueError, "gross counts"),
        (dict(data=np.zeros((2, 5, 7, 2))), ValueError, "6 detector pixels"),
        (dict(data=np.full((2, 5, N, 2), np.nan)), ValueError, "NaN or infinite"),
        (dict(data=np.full((2, 5, N, 2), "a")), TypeError, "real numbers"),
        (
            dict(discrepancy="poisson"),
            ValueError,
            "`discrepancy` is 'poisson'; expected 'kl' or 'ls'",
        ),
        (dict(first=1), ValueError, "2 rows from channel 1 on, but the volume has 2"),
        (dict(first=-1), ValueError, "2 rows from channel -1"),
        (dict(weight=0.0), ValueError, "`weight` is 0.0; expected a value above 0"),
        (dict(weight=[1.0, -1.0]), ValueError, "`weight` is"),
        (dict(weight=[1.0, 1.0, 1.0]), ValueError, "`weight` has the shape"),
        (dict(gains=[1, 1, -1, 1, 1]), ValueError, "`gains` must not be negative"),
        (dict(gains=np.zeros(5)), ValueError, "gain above 0"),
        (dict(gains=np.ones(4)), ValueError, "`gains` has the shape"),
        (dict(background=-0.1), ValueError, "from 0 up"),
        (dict(background=np.zeros((3, 3))), ValueError, "what broadcasts to"),
        (dict(mix=[1.0, 1.0]), ValueError, "2 rows; expected .* for one row"),
        (dict(data=np.zeros((5, N, 2)), mix=[1.0, 1.0, 1.0]), ValueError, "`mix` has the shape"),
        (
            dict(data=np.zeros((5, N, 2)), mix=[1.0, -1.0]),
            ValueError,
            "`mix` must be finite and not negative",
        ),
        (
            dict(data=np.zeros((5, N, 2)), mix=[0.0, 0.0]),
            ValueError,
            "`mix` must be finite and not negative",
        ),
    ],
)
def test_bad_terms(A, counts, change, error, message):
    with pytest.raises(error, match=message):
        variational([DataTerm(A, **{"data": counts, **change})], Regulariser(1.0), SCALES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(weight=0.0), "`weight` is 0.0; expected a value above 0"),
        (dict(weight=-1.0), "`weight` is -1.0"),
        (dict(alpha0=0.0), "`alpha0` is 0.0"),
        (dict(kind="tnv"), "`kind` is 'tnv'; expected one of 'tv', 'tgv'"),
        (
            dict(coupling="none"),
            "`coupling` is 'none'; expected one of 'uncoupled', 'frobenius', 'nuclear'",
        ),
        (dict(dimensions=1), "`dimensions` is 1; expected one of 3, 2"),
    ],
)
def test_bad_regularisers(change, message):
    with pytest.raises(ValueError, match=message):
        Regulariser(**{"weight": 1.0, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(scales=[1.0, 0.0]), ValueError, "`scales` is"),
        (dict(scales=[1.0, np.inf]), ValueError, "`scales` holds NaN or infinite"),
        (dict(scales=[1.0]), ValueError, "the volume has 1 channels"),
        (dict(relaxation=2.0), ValueError, "between 0 and 2"),
        (dict(mask=np.ones((N, N))), TypeError, "expected bool"),
        (dict(mask=np.ones((N, N + 1), bool)), ValueError, "`mask` has the shape"),
        (dict(initial=np.zeros((2, N, N, 1))), ValueError, "`initial` has the shape"),
    ],
)
def test_bad_options(A, counts, change, error, message):
    options = dict(change)
    with pytest.raises(error, match=message):
        variational(
            [DataTerm(A, counts)], Regulariser(1.0), options.pop("scales", SCALES), **options
        )


def test_terms_that_do_not_go_together(A, haadf_A, counts, haadf):
    maps, image = DataTerm(A, counts), DataTerm(haadf_A, haadf, mix=MIX)
    wide = projector(TiltGeometry(HAADF_TILTS, N, (N, N + 2)))
    for terms, message in (
        ([], "`terms` is empty"),
        ([maps, image, image], "there are 3 terms"),
        ([image, image], "two terms have a `mix`"),
        ([maps, DataTerm(haadf_A, haadf)], "two terms have data of the same channel"),
        ([maps, DataTerm(wide, haadf, mix=MIX)], "different volume grids"),
        ([maps, DataTerm(haadf_A, haadf[..., :1], mix=MIX)], "different volume grids"),
    ):
        with pytest.raises(ValueError, match=message):
            variational(terms, Regulariser(1.0), SCALES)


def test_counts_have_no_negative_volumes():
    A = projector(TiltGeometry([0.0, 60.0], 6))
    with pytest.raises(ValueError, match="no negative expectations"):
        variational(
            [DataTerm(A, np.ones((1, 2, 6, 1)))], Regulariser(1.0), [1.0], nonnegative=False
        )
