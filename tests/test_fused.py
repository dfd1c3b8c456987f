# SPDX-License-Identifier: GPL-3.0-or-later
"""Fused tomography: the power law and its tangents, descent, scale, the weights of the HAADF,
the published gain, bad input."""

from dataclasses import replace
from importlib import import_module
from itertools import islice

import numpy as np
import pytest

from hyperspy_multitomo.inspection.metrics import nrmse
from hyperspy_multitomo.simulation import schwartz, simulate
from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    calibrate,
    fused,
    projector,
    regressed_weights,
    run,
    scaled_weights,
    variational,
)
from hyperspy_multitomo.tomography.primal_dual import TextbookPrimalDual
from hyperspy_multitomo.tomography.variational import checked_problem

# The name in the package is that of the function.
MODULE = import_module("hyperspy_multitomo.tomography.fused")
N, SLICES = 24, 2
RATIOS, SCALES = np.array([9.0, 5.0]), np.array([2.0, 1.0])
SMOOTH = Regulariser(0.5, dimensions=2)


@pytest.fixture(scope="module")
def few():
    return projector(TiltGeometry(np.linspace(-70, 70, 5), N))


@pytest.fixture(scope="module")
def many():
    return projector(TiltGeometry(np.linspace(-70, 70, 19), N))


@pytest.fixture(scope="module")
def truth():
    """Two rectangles side by side, the second of another height in the second slice,
    (channel, z, x, y)."""
    volume = np.zeros((2, N, N, SLICES), np.float32)
    volume[0, 8:16, 7:12] = SCALES[0]
    volume[1, 8:16, 12:17, 0] = SCALES[1]
    volume[1, 11:16, 12:17, 1] = SCALES[1]
    return volume


@pytest.fixture(scope="module")
def maps(few, truth):
    return DataTerm(few, np.random.default_rng(0).poisson(few(truth)))


def images_of(many, truth, ratios=RATIOS, power=1.0, seed=1, **more):
    """HAADF of x^power, counted, as a term with its weights."""
    expected = many(np.tensordot(ratios, truth.astype(float) ** power, 1))
    return DataTerm(many, np.random.default_rng(seed).poisson(expected), mix=ratios, **more)


@pytest.fixture(scope="module")
def law(maps, many, truth):
    terms = maps, images_of(many, truth, gains=np.linspace(0.5, 1.5, 19), background=2.0)
    return MODULE.PowerLaw(
        checked_problem(terms, SMOOTH, SCALES, mask=None, initial=None, relaxation=1.8), 1.6
    )


class TestPowerLaw:
    def volume(self, seed):
        return np.random.default_rng(seed).gamma(1, 0.5, (2, N, N, SLICES)).astype(np.float32)

    def haadf_of(self, system, u):
        return system.project(system.terms[1], u)

    def test_is_the_power_of_the_volume(self, law, many):
        u = self.volume(0) + 0.2
        expected = many(np.tensordot(RATIOS, (SCALES[:, None, None, None] * u) ** 1.6, 1))
        expected = np.linspace(0.5, 1.5, 19)[:, None, None] * expected + 2
        np.testing.assert_allclose(law.haadf(u)[0], expected, rtol=2e-3)

    def test_tangent_touches_from_below(self, law):
        u, other = self.volume(0), self.volume(1)
        tangent = law.tangent(u)
        np.testing.assert_allclose(self.haadf_of(tangent, u), law.haadf(u), rtol=1e-4)
        assert (self.haadf_of(tangent, other) < law.haadf(other) + 1e-3).all()
        assert (self.haadf_of(tangent, other) < 0.9 * law.haadf(other)).any()

    def test_tangent_has_the_slope(self, law):
        u, step = self.volume(0), 1e-2 * self.volume(1)
        moved = law.haadf(u + step) - law.haadf(u)
        difference = np.linalg.norm(self.haadf_of(law.tangent(u), u + step) - law.haadf(u) - moved)
        assert difference < 0.02 * np.linalg.norm(moved)

    def test_an_empty_voxel_sees_the_haadf(self, law):
        u = self.volume(0)
        u[:, :, :12] = 0
        factors = law.tangent(u).terms[1].mix
        assert (factors[:, :, :12] > 0.05 * factors[:, :, 12:].mean()).all()

    def test_of_nothing_the_chord(self, law):
        full = np.ones((2, N, N, SLICES), np.float32)
        chord = law.tangent(0 * full)
        np.testing.assert_allclose(self.haadf_of(chord, full), law.haadf(full), rtol=2e-3)
        np.testing.assert_allclose(self.haadf_of(chord, 0 * full), law.haadf(0 * full))

    def test_objective_is_finite_where_rays_meet_nothing(self, maps, many, truth):
        images = images_of(many, truth)
        images.data[:, 0] = 3
        terms = maps, images
        system = checked_problem(terms, SMOOTH, SCALES, mask=None, initial=None, relaxation=1.8)
        assert np.isfinite(MODULE.PowerLaw(system, 1.6).residuals(0 * truth, None)["objective"])


class TestSolver:
    def test_power_one_is_the_variational_problem(self, maps, many, truth):
        terms, regulariser = (maps, images_of(many, truth)), Regulariser(0.5, "tgv", "nuclear")
        ours, theirs = (
            run(solver(terms, regulariser, SCALES), 20) for solver in (fused, variational)
        )
        np.testing.assert_array_equal(ours.volume, theirs.volume)

    @pytest.mark.slow
    @pytest.mark.parametrize("power", [1.3, 2.0])
    @pytest.mark.parametrize("discrepancy", ["kl", "ls"])
    @pytest.mark.parametrize(("kind", "dimensions"), [("tv", 2), ("tgv", 3)])
    @pytest.mark.parametrize("warm", [False, True])
    def test_never_rises(self, maps, many, truth, power, discrepancy, kind, dimensions, warm):
        weight = 0.3 if discrepancy == "kl" else 0.01
        terms = maps, images_of(many, truth, power=power, discrepancy=discrepancy, weight=weight)
        initial = run(variational([maps], SMOOTH, SCALES), 50).volume if warm else None
        iterates = fused(
            terms,
            Regulariser(0.5, kind, dimensions=dimensions),
            SCALES,
            power=power,
            initial=initial,
        )
        values = [(i.objective, i.measured) for i in islice(iterates, 201)]
        objectives = np.array([value for value, _ in values])
        assert (np.diff(objectives) <= 2e-6 * objectives[:-1]).all()
        assert objectives[-1] < (0.6 if warm else 0.1) * objectives[0]
        changed = {k for k in range(1, 201) if objectives[k] != objectives[k - 1]}
        assert (
            changed
            <= {k for k, (_, measured) in enumerate(values) if measured}
            <= set(range(0, 201, 10))
        )

    def test_objective_is_what_the_model_says(self, maps, many, truth):
        terms, power = (maps, images_of(many, truth, power=1.6)), 1.6
        *_, last = islice(fused(terms, SMOOTH, SCALES, power=power), 51)
        x = last.volume.astype(float)
        u = np.pad(x / SCALES[:, None, None, None], ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
        down, right = np.diff(u, axis=1)[:, :, :-1], np.diff(u, axis=2)[:, :-1]
        value = 0.5 * np.sqrt((np.square(down) + np.square(right)).sum(axis=0)).sum()
        for f, a in (
            (maps.data, maps.A(x)),
            (terms[1].data, many(np.tensordot(RATIOS, x**power, 1))),
        ):
            a = np.maximum(a, 1e-20)
            value += np.sum(a - f + f * np.log(np.where(f > 0, f, 1) / a))
        assert last.objective == pytest.approx(value, rel=2e-3)

    @pytest.mark.slow
    def test_is_stationary(self, maps, many, truth):
        terms = maps, images_of(many, truth, power=1.6, weight=0.1)
        *_, last = islice(fused(terms, SMOOTH, SCALES, power=1.6), 1501)
        solver = last._steps._solver
        # The gap bounds what the convex problem with the tangent could still gain.
        assert solver.gap() < 5e-3 * last.objective
        u = last.volume / SCALES[:, None, None, None].astype(np.float32)
        assert solver.system.objective(u, None) < 1.002 * last.objective

    @pytest.mark.slow
    @pytest.mark.parametrize("power", [1.6, 2.0])
    def test_finds_what_the_power_law_made(self, few, many, truth, power):
        graded = truth * np.linspace(0.4, 1, N, dtype=np.float32)[:, None, None]
        exact = (
            DataTerm(few, few(graded)),
            DataTerm(many, many(np.tensordot(RATIOS, graded**power, 1)), mix=RATIOS),
        )
        light = Regulariser(0.01, dimensions=2)
        right = run(fused(exact, light, SCALES, power=power), 800).volume
        line = replace(exact[1], mix=regressed_weights(graded, *exact))
        wrong = run(fused((exact[0], line), light, SCALES), 800).volume
        errors = [
            np.linalg.norm(volume - graded) / np.linalg.norm(graded) for volume in (right, wrong)
        ]
        assert errors[0] < 0.06
        assert errors[1] > 2 * errors[0]

    def test_keeps_the_scale_of_the_counts(self, maps, many, truth):
        """Twice the counts, with weights and scales to go with them, give twice the volume."""
        terms, power = (maps, images_of(many, truth, power=1.6)), 1.6
        twice = (
            replace(maps, data=2 * maps.data),
            replace(terms[1], mix=RATIOS / 2**power, weight=2.0),
        )
        ours = run(fused(terms, SMOOTH, SCALES, power=power), 60).volume
        theirs = run(
            fused(twice, replace(SMOOTH, weight=2 * SMOOTH.weight), 2 * SCALES, power=power), 60
        ).volume
        assert np.linalg.norm(theirs - 2 * ours) < 0.02 * np.linalg.norm(theirs)
        assert abs(ours[0].sum() / truth[0].sum() - 1) < 0.1

    def test_textbook_and_compiled_form_agree(self, maps, many, truth, monkeypatch):
        terms, regulariser = (maps, images_of(many, truth, power=1.6)), Regulariser(0.5, "tgv")
        compiled = run(fused(terms, regulariser, SCALES, power=1.6), 60)
        monkeypatch.setattr(MODULE, "primal_dual_of", TextbookPrimalDual)
        textbook = run(fused(terms, regulariser, SCALES, power=1.6), 60)
        np.testing.assert_allclose(
            compiled.residuals["objective"], textbook.residuals["objective"], rtol=1e-3
        )
        np.testing.assert_allclose(compiled.volume, textbook.volume, atol=2e-2)

    def test_stops_and_tells(self, maps, many, truth):
        terms = maps, images_of(many, truth, power=1.6, weight=0.1)
        found = run(fused(terms, SMOOTH, SCALES, power=1.6), 3000, tolerance=1e-3)
        assert found.stopped_by == "tolerance"
        assert found.iterations == found.measured_at[-1] < 3000
        assert found.residuals["eds"].shape == (len(found.measured_at), 2)
        assert found.residuals["haadf"][-1] < 0.1

    def test_mask_and_interrupt(self, maps, many, truth):
        inside = np.ones((N, N), bool)
        inside[:, :6] = False

        def interrupt(iterate):
            if iterate.iteration == 25:
                raise KeyboardInterrupt

        iterates = fused(
            (maps, images_of(many, truth, power=1.6)), SMOOTH, SCALES, power=1.6, mask=inside
        )
        with pytest.warns(UserWarning, match="interrupted"):
            found = run(iterates, 100, progress=interrupt)
        assert found.interrupted
        assert found.volume.any()
        assert not found.volume[:, :, :6].any()


class TestWeights:
    def test_of_perfect_data(self, few, many, truth):
        exact = DataTerm(few, few(truth)), DataTerm(many, many(np.tensordot(RATIOS, truth, 1)))
        np.testing.assert_allclose(regressed_weights(truth, *exact), RATIOS, rtol=1e-4)

    def test_lowered_volumes_get_their_counts_back(self, few, many, truth):
        exact = DataTerm(few, few(truth)), DataTerm(many, many(np.tensordot(RATIOS, truth, 1)))
        lowered = truth * np.array([0.9, 0.7], np.float32)[:, None, None, None]
        np.testing.assert_allclose(regressed_weights(lowered, *exact), RATIOS, rtol=1e-4)
        np.testing.assert_allclose(scaled_weights(RATIOS / 3, lowered, *exact), RATIOS, rtol=1e-4)

    def test_gains_backgrounds_and_dead_tilts(self, few, many, truth):
        rng = np.random.default_rng(0)
        gains, haadf_gains = rng.uniform(0.3, 1, (2, 5)), rng.uniform(0.3, 1, 19)
        gains[:, 1], haadf_gains[3] = 0, 0
        counts = gains[..., None, None] * few(truth) + 3
        images = haadf_gains[:, None, None] * many(np.tensordot(RATIOS, truth, 1)) + 40
        counts[:, 1], images[3] = 1e4, 1e6
        terms = (
            DataTerm(few, counts, gains=gains, background=3.0),
            DataTerm(many, images, gains=haadf_gains, background=40.0),
        )
        np.testing.assert_allclose(regressed_weights(0.8 * truth, *terms), RATIOS, rtol=1e-4)
        np.testing.assert_allclose(
            scaled_weights(2 * RATIOS, 0.8 * truth, *terms), RATIOS, rtol=1e-4
        )

    @pytest.mark.parametrize("power", [1.3, 2.0])
    def test_of_a_power(self, few, many, truth, power):
        graded = truth * np.linspace(0.4, 1, N, dtype=np.float32)[:, None, None]
        exact = (
            DataTerm(few, few(graded)),
            DataTerm(many, many(np.tensordot(RATIOS, graded**power, 1))),
        )
        np.testing.assert_allclose(
            regressed_weights(graded, *exact, power=power), RATIOS, rtol=1e-4
        )
        np.testing.assert_allclose(
            scaled_weights(RATIOS * 7, graded, *exact, power=power), RATIOS, rtol=1e-4
        )

    def test_an_element_that_the_haadf_does_not_see(self, few, many, truth, maps):
        exact = DataTerm(many, many(9 * truth[0]))
        np.testing.assert_allclose(
            regressed_weights(truth, DataTerm(few, few(truth)), exact), [9, 0], atol=1e-3
        )
        volume = run(fused((maps, replace(exact, mix=[9.0, 0.0])), SMOOTH, SCALES), 100).volume
        assert abs(volume[1].sum() / truth[1].sum() - 1) < 0.1

    def test_an_element_without_counts(self, few, many, truth):
        alone = truth * np.array([1, 0], np.float32)[:, None, None, None]
        terms = DataTerm(few, few(alone)), DataTerm(many, many(9 * alone[0]))
        found = regressed_weights(alone, *terms)
        np.testing.assert_allclose(found, [9, 0], rtol=1e-4)
        volume = run(
            fused(
                (terms[0], replace(terms[1], mix=found)), SMOOTH, SCALES, power=1.6, initial=alone
            ),
            50,
        ).volume
        assert volume[0].any()
        assert not volume[1].any()

    def test_elements_in_a_fixed_proportion(self, few, many, truth):
        """The parts of their weight are not known, the sum is."""
        oxide = np.concatenate([truth, 0.5 * truth[:1]])
        terms = DataTerm(few, few(oxide)), DataTerm(many, many(np.tensordot(RATIOS, truth, 1)))
        found = regressed_weights(oxide, *terms)
        assert (found >= 0).all()
        np.testing.assert_allclose([found[0] + 0.5 * found[2], found[1]], RATIOS, rtol=1e-3)

    def test_warns_of_a_missing_element(self, few, many, truth):
        heavy = np.zeros_like(truth[0])
        heavy[17:20, 4:8] = 2
        images = many(np.tensordot(RATIOS, truth, 1) + 30 * heavy)
        with pytest.warns(UserWarning, match=r"explain only 0\.\d\d of the variance"):
            regressed_weights(truth, DataTerm(few, few(truth)), DataTerm(many, images))

    def test_refused(self, few, many, truth, maps):
        images = DataTerm(many, many(truth[0]))
        for volume in (truth[0], 0 * truth, -truth):
            with pytest.raises(ValueError, match="`volume` has the shape"):
                regressed_weights(volume, maps, images)
        with pytest.raises(ValueError, match="`power` is 3"):
            regressed_weights(truth, maps, images, power=3)
        with pytest.raises(ValueError, match="no element of the volume explains"):
            regressed_weights(truth, maps, DataTerm(many, -images.data, discrepancy="ls"))
        for relative in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan]):
            with pytest.raises(ValueError, match="`relative` is"):
                scaled_weights(relative, truth, maps, images)
        with pytest.raises(ValueError, match="expected both to be above 0"):
            scaled_weights([1.0, 1.0], truth, maps, DataTerm(many, 0 * images.data))


def case_of(phantom, tilts=None):
    """Series, terms, and the volume of the maps alone."""
    series = simulate(phantom, tilts, phantom.haadf_tilts, seed=0)
    grids = (
        TiltGeometry(t, phantom.size, pixel_size=phantom.pixel_size)
        for t in (series.tilts, series.haadf_tilts)
    )
    A, B = map(projector, grids)
    maps = DataTerm(A, series.maps)
    alone = calibrate([maps], 4, dimensions=2)
    volume = run(variational(alone.terms, alone.regulariser, alone.scales), 200).volume
    return series, maps, DataTerm(B, series.haadf), volume


@pytest.fixture(scope="module")
def case():
    return case_of(schwartz())


class TestPublishedGain:
    """The phantom of four elements: 9 tilts of maps with 5 counts at the peak, 47 of HAADF."""

    def error(self, volume, series):
        return np.mean([nrmse(x, t) for x, t in zip(volume, series.truth, strict=True)])

    def fused_error(self, case, ratios, power=1.0):
        series, maps, images, volume = case
        both = calibrate([maps, replace(images, mix=ratios)], 4, dimensions=2)
        terms = (
            both.terms[0],
            replace(both.terms[1], mix=ratios * both.scales.astype(float) ** (1 - power)),
        )
        found = run(fused(terms, both.regulariser, both.scales, power=power, initial=volume), 150)
        return self.error(found.volume, series)

    @pytest.mark.slow
    def test_at_the_default_weight(self, case):
        series, maps, images, volume = case
        alone = self.error(volume, series)
        true = self.fused_error(case, series.true_ratios)
        ratios = regressed_weights(volume, maps, images)
        regressed = self.fused_error(case, ratios)
        # Asked for are 0.43, 0.45 and 0.95 times what the maps alone give.
        assert true < 0.25
        assert regressed < 0.25
        assert regressed < 0.75 * alone < 0.3
        oxides = ratios[:2] + ratios[2] * series.truth[2].max() / series.truth[:2].max(
            axis=(1, 2, 3)
        )
        expected = series.true_ratios[:2] + series.true_ratios[2] * series.truth[
            2
        ].max() / series.truth[:2].max(axis=(1, 2, 3))
        np.testing.assert_allclose(oxides, expected, rtol=0.1)
        assert ratios[3] == pytest.approx(series.true_ratios[3], rel=0.1)

    @pytest.mark.slow
    def test_with_a_power_too(self, case):
        assert self.fused_error(case, case[0].true_ratios, power=1.6) < 0.25

    @pytest.mark.slow
    def test_at_five_tilts(self):
        case = case_of(schwartz(), np.linspace(-70, 70, 5))
        series, maps, images, volume = case
        assert self.fused_error(case, regressed_weights(volume, maps, images)) < 0.8 * self.error(
            volume, series
        )


class TestBadInput:
    @pytest.mark.parametrize("power", [0.9, 2.1, "1.6", None, np.nan])
    def test_power(self, maps, many, truth, power):
        with pytest.raises(ValueError, match="`power` is"):
            fused((maps, images_of(many, truth)), SMOOTH, SCALES, power=power)

    def test_terms(self, maps, many, truth):
        images = images_of(many, truth)
        volume = np.broadcast_to(RATIOS[:, None, None, None], truth.shape)
        for terms in ([maps], [images, maps], [maps, replace(images, mix=volume)]):
            with pytest.raises(ValueError, match="the HAADF with its weights"):
                fused(terms, SMOOTH, SCALES)

    def test_weights(self, maps, many, truth):
        for weights in ([9.0, -1.0], [0.0, 0.0], [np.nan, 1.0]):
            with pytest.raises(ValueError, match="`mix` must be finite and not negative"):
                fused((maps, replace(images_of(many, truth), mix=weights)), SMOOTH, SCALES)
        with pytest.raises(ValueError, match="`mix` has the shape"):
            fused((maps, replace(images_of(many, truth), mix=[1.0, 2.0, 3.0])), SMOOTH, SCALES)

    def test_negative_images(self, maps, many, truth):
        images = images_of(many, truth)
        with pytest.raises(ValueError, match="`data` has negative values"):
            fused((maps, replace(images, data=images.data - 5)), SMOOTH, SCALES)
