# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping rules and relaxation: residuals down to the noise, channels that stand still,
what a run says of its end."""

import numpy as np
import pytest

from hyperspy_multitomo.simulation import huber, simulate, yuan, zhong
from hyperspy_multitomo.tomography import (
    DataTerm,
    TiltGeometry,
    calibrate,
    cgls,
    counting_noise,
    hebt,
    image_noise,
    image_variance,
    net_variance,
    projector,
    run,
    sirt,
    variational,
)
from hyperspy_multitomo.tomography.stopping import StoppingRule

TILTS = np.linspace(-75, 75, 31)


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 48))


@pytest.fixture(scope="module")
def truth():
    """Many counts in the first channel, few in the second."""
    z, x = np.indices((48, 48)) - 23.5
    volume = np.stack([np.hypot(x, z) < 15, np.hypot(x - 6, z + 4) < 10]).astype(np.float32)[
        ..., None
    ]
    return volume.repeat(4, axis=-1) * np.array([2.0, 0.1], np.float32)[:, None, None, None]


@pytest.fixture(scope="module")
def counts(A, truth):
    return np.random.default_rng(0).poisson(A(truth)).astype(np.float32)


class TestDiscrepancy:
    def test_channels_stop_one_iteration_after_their_noise(self, A, counts):
        noise = counting_noise(counts)
        result = run(sirt(A, counts), 500, noise=noise)
        assert result.stopped_by == "discrepancy"
        assert result.converged
        for channel, done in enumerate(result.channel_iterations):
            residuals = result.residuals["eds"][:, channel]
            assert residuals[done - 1] <= noise[channel] < residuals[done - 2]
        assert result.channel_iterations[0] > 2 * result.channel_iterations[1]
        assert result.iterations == result.channel_iterations.max()

    def test_held_channels_are_those_of_shorter_runs(self, A, counts):
        result = run(sirt(A, counts), 500, noise=counting_noise(counts))
        alone = run(sirt(A, counts[1]), int(result.channel_iterations[1])).volume
        np.testing.assert_allclose(result.volume[1], alone, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("backend", ["numba", "astra_cpu"])
    def test_both_forms_hold_alike(self, A, counts, backend):
        if backend == "astra_cpu":
            pytest.importorskip("astra", reason="astra-toolbox is not installed")
        few = counts[..., :1]
        expected = run(sirt(A, few), 40, noise=counting_noise(few)).channel_iterations
        result = run(sirt(projector(A.geometry, backend), few), 40, noise=counting_noise(few))
        np.testing.assert_array_equal(result.channel_iterations, expected)

    def test_few_counts_are_not_overfitted(self, A, truth, counts):
        result = run(sirt(A, counts[1:]), 500, noise=counting_noise(counts[1:]))
        stopped = np.linalg.norm(result.volume - truth[1:])
        assert stopped < 0.75 * np.linalg.norm(run(sirt(A, counts[1:]), 300).volume - truth[1:])

    def test_hebt_stops_as_a_whole(self, A, truth, counts):
        haadf = A(20 * truth[0] + 60 * truth[1])
        iterates = hebt(A, counts, haadf, [20.0, 60.0])
        result = run(iterates, 60, noise=1.3 * counting_noise(counts))
        assert result.stopped_by == "discrepancy"
        assert len(set(result.channel_iterations.tolist())) == 1
        with pytest.raises(ValueError, match="coupled"):
            next(hebt(A, counts, haadf, [20.0, 60.0])).hold([True, False])

    @pytest.mark.parametrize("backend", ["numba", "astra_cpu"])
    def test_cgls_ends_with_the_iterate_that_meets_the_rule(self, A, truth, counts, backend):
        if backend == "astra_cpu":
            pytest.importorskip("astra", reason="astra-toolbox is not installed")
        A, noise = projector(A.geometry, backend), counting_noise(counts)
        result = run(cgls(A, counts), 30, noise=noise)
        assert result.stopped_by == "discrepancy"
        for channel, done in enumerate(result.channel_iterations):
            assert done < 15
            for iterations, met in ((done, True), (done - 1, False)):
                volume = run(cgls(A, counts[channel]), int(iterations)).volume
                residual = np.linalg.norm(counts[channel] - A(volume)) / np.linalg.norm(
                    counts[channel]
                )
                assert (residual <= noise[channel]) is np.bool_(met)
        # One iteration more would fit the noise.
        few = result.channel_iterations[1]
        errors = [
            np.linalg.norm(run(cgls(A, counts[1]), int(n)).volume - truth[1])
            for n in (few, few + 1)
        ]
        assert np.linalg.norm(result.volume[1] - truth[1]) == pytest.approx(errors[0], rel=1e-4)
        assert errors[1] > 1.5 * errors[0]

    def test_residuals_of_cgls_stay_with_a_channel_that_is_held(self, A, counts):
        result = run(cgls(A, counts), 8, noise=counting_noise(counts) * [0.0, 1.0])
        residual = np.linalg.norm(counts[1] - A(result.volume[1])) / np.linalg.norm(counts[1])
        assert result.channel_iterations.tolist() == [8, 2]
        assert result.residuals["eds"][-1, 1] == pytest.approx(residual, rel=1e-4)

    def test_images_with_noise_estimated(self, A, truth):
        images = A(truth[0]) * 50
        noisy = images + np.random.default_rng(1).normal(0, 30, images.shape)
        true_noise = np.linalg.norm(noisy - images) / np.linalg.norm(noisy)
        assert image_noise(noisy, sigma=30) == pytest.approx(true_noise, rel=0.02)
        big = np.zeros((2, 128, 128)) + 100
        big[:, 40:80, 40:80] += 500
        big += np.random.default_rng(2).normal(0, 30, big.shape)
        assert image_noise(big) == pytest.approx(image_noise(big, sigma=30), rel=0.15)
        assert (
            run(sirt(A, noisy), 300, noise=image_noise(noisy, sigma=30)).stopped_by == "discrepancy"
        )

    def test_one_number_for_all_channels(self, A, counts):
        result = run(sirt(A, counts), 300, noise=float(counting_noise(counts).max()))
        assert result.stopped_by == "discrepancy"

    def test_empty_channel_does_not_hold_the_others_up(self, A, counts):
        with_empty = np.stack([counts[1], np.zeros_like(counts[1])])
        assert (
            run(sirt(A, with_empty), 300, noise=counting_noise(with_empty)).stopped_by
            == "discrepancy"
        )


class TestNoise:
    def test_counting_noise_is_that_of_the_counts(self, A, truth, counts):
        expected = [
            np.linalg.norm(counts[c] - A(truth)[c]) / np.linalg.norm(counts[c]) for c in range(2)
        ]
        np.testing.assert_allclose(counting_noise(counts), expected, rtol=0.03)

    def test_net_counts_have_the_noise_of_the_gross(self):
        rng = np.random.default_rng(3)
        gross = rng.poisson(7.0, (1, 9, 40, 40))
        net = (gross - 5.0) / 0.8
        noise = counting_noise(net, gross / 0.8**2)
        assert noise[0] * np.linalg.norm(net) == pytest.approx(
            np.linalg.norm(net - 2.0 / 0.8), rel=0.03
        )

    @pytest.mark.parametrize("level", [0.5, 5.0, 200.0])
    @pytest.mark.parametrize("beside", [0.0, 0.3, 1.5])
    def test_noise_of_net_counts_is_measured(self, level, beside):
        """A background that is counted in windows beside adds to the variance;
        structure does not, edges and all."""
        rng, y = np.random.default_rng(5), np.indices((64, 64)).sum(axis=0)
        mean = level * np.where(y > 60, 3.0, 1.0) * np.ones((2, 4, 1, 1))
        gross, windows = (
            rng.poisson(mean + 2),
            rng.poisson(2 / max(beside, 1e-9), mean.shape) if beside else 0,
        )
        net = gross - (beside * windows if beside else 2.0)
        expected = (mean + 2).mean() + 2 * beside
        np.testing.assert_allclose(net_variance(net, gross).mean(axis=1), expected, rtol=0.15)

    def test_noise_of_single_rows(self):
        images = np.random.default_rng(6).normal(100, 3, (20, 400, 1))
        assert image_variance(images).mean() == pytest.approx(9, rel=0.1)
        counts = np.random.default_rng(7).poisson(4.0, (1, 20, 400, 1))
        assert net_variance(counts, counts).mean() == pytest.approx(4, rel=0.1)

    def test_dead_tilts_are_left_out(self, counts):
        gains = (np.arange(31) > 4).astype(float)
        np.testing.assert_allclose(
            counting_noise(counts, gains=gains), counting_noise(counts[:, 5:]), rtol=1e-6
        )

    def test_bad_input(self):
        with pytest.raises(ValueError, match="net_variance"):
            counting_noise(np.full((1, 2, 3, 4), -1.0))
        with pytest.raises(ValueError, match="expected"):
            counting_noise(np.ones((3, 4)))
        with pytest.raises(ValueError, match="not all zero"):
            image_noise(np.zeros((2, 8, 8)))
        with pytest.raises(ValueError, match="above 0"):
            image_noise(np.ones((2, 8, 8)), sigma=-1)
        with pytest.raises(ValueError, match="finest detail is 0; pass its standard deviation"):
            image_noise(np.ones((2, 8, 8)))


class TestRun:
    def test_says_what_stopped_it(self, A, counts):
        assert run(sirt(A, counts), 3).stopped_by == "iterations"
        assert run(sirt(A, counts), 500, tolerance=1e-2).stopped_by == "tolerance"
        assert run(sirt(A, counts), 3).channel_iterations.tolist() == [3, 3]

    def test_a_turning_point_of_the_objective_is_no_end(self):
        rule, history = StoppingRule(tolerance=1e-3), []
        found = []
        for objective in (12.0, 9.0, 9.001, 9.1, 9.05, 9.051, 9.049):
            history.append({"objective": objective, "eds": np.array([0.5])})
            found.append(rule.reached(None, history))
        assert found == [None] * 6 + ["tolerance"]

    @pytest.mark.slow
    def test_regularised_runs_end_near_the_minimum(self):
        A = projector(TiltGeometry(np.linspace(-70, 70, 30), 24))
        z, x = np.mgrid[:24, :24] - 12
        truth = np.stack(
            [(np.hypot(z - 3 * i + 2, x + 2 * i) < 6 + i) * (1 + z / 24) for i in range(3)]
        )[..., None]
        terms = [
            DataTerm(A, np.random.default_rng(0).poisson(A(truth * [[[[1]]], [[[5]]], [[[1]]]])))
        ]
        found = calibrate(terms, 3, kind="tgv", coupling="nuclear")
        ends = [
            run(variational(found.terms, found.regulariser, found.scales), 1200, tolerance=t)
            for t in (1e-4, None)
        ]
        assert ends[0].stopped_by == "tolerance"
        assert ends[0].residuals["objective"][-1] < 1.004 * ends[1].residuals["objective"][-1]

    @pytest.mark.parametrize("noise", [-0.1, np.nan, [[0.1]]])
    def test_bad_noise(self, A, counts, noise):
        with pytest.raises(ValueError, match="`noise` is"):
            run(sirt(A, counts), 3, noise=noise)

    def test_noise_for_other_channels(self, A, counts):
        with pytest.raises(ValueError, match="one per channel"):
            run(sirt(A, counts), 3, noise=[0.1, 0.1, 0.1])


class TestRelaxation:
    def test_scales_the_first_step(self, A, counts):
        whole, half = (run(sirt(A, counts, relaxation=v), 1).volume for v in (1.0, 0.5))
        np.testing.assert_allclose(half, whole / 2, rtol=1e-5)
        haadf = counts.sum(axis=0)
        whole, more = (
            run(hebt(A, counts, haadf, [1, 2], relaxation=v), 1).volume for v in (1.0, 1.5)
        )
        np.testing.assert_allclose(more, 1.5 * whole, rtol=1e-5)

    def test_large_steps_converge_faster_and_stay_stable(self, A, truth):
        data = A(truth[0])
        slow, plain, fast = (
            run(sirt(A, data, relaxation=v), 30).residuals["eds"][-1, 0] for v in (0.3, 1.0, 1.9)
        )
        assert fast < plain < slow
        assert np.isfinite(run(sirt(A, data, relaxation=1.99), 300).volume).all()

    @pytest.mark.parametrize("relaxation", [0, 2, -1, np.nan, "fast"])
    def test_bad_input(self, A, counts, relaxation):
        with pytest.raises(ValueError, match="between 0 and 2"):
            sirt(A, counts, relaxation=relaxation)


@pytest.fixture(scope="module")
def ends():
    """Errors at 1e-3 and 1e-4 over those of 400 iterations, and iterations, (case, 2)."""
    errors, iterations = [], []
    cases = ((yuan, "tv", "nuclear"), (zhong, "tv", "frobenius"), (huber, "tv", "frobenius"))
    for make, kind, coupling in cases:
        phantom = make(48, 4)
        peak = simulate(phantom, blur=0, seed=0).expected_maps.max(axis=(1, 2, 3)).min()
        series = simulate(phantom, blur=0, dose=3 / peak, seed=1)
        A = projector(TiltGeometry(series.tilts, phantom.size, pixel_size=series.pixel_size))
        found = calibrate(
            [DataTerm(A, series.maps)], len(series.maps), kind=kind, coupling=coupling
        )
        problem = found.terms, found.regulariser, found.scales
        results = [
            run(variational(*problem), 400, tolerance=tolerance) for tolerance in (1e-3, 1e-4, None)
        ]
        errors.append([np.linalg.norm(result.volume - series.truth) for result in results])
        iterations.append([result.iterations for result in results[:2]])
    return np.array(errors), np.array(iterations)


class TestDefaultOfTheRegularised:
    """A relative change of the objective of 1e-3 in twenty iterations,
    where 1e-4 gives the same image later."""

    @pytest.mark.slow
    def test_the_image_is_as_good(self, ends):
        errors, _ = ends
        assert (errors[:, 0] / errors[:, 2]).mean() < 1.005
        assert (errors[:, 0] / errors[:, 2]).max() < 1.02

    @pytest.mark.slow
    def test_there_are_fewer_iterations(self, ends):
        _, iterations = ends
        assert (iterations[:, 0] / iterations[:, 1]).mean() < 0.75
