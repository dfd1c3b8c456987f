# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured before the reconstruction:
gains, levels, defects, bad tilts, drift of the dose."""

import numpy as np
import pytest
from ellipsoids import core_shell, ellipsoid

from hyperspy_multitomo.acquisition import (
    background_level,
    eds_gains,
    find_saturation,
    fit_background,
    fit_dose_drift,
    fit_gains,
    gain_from_means,
    hot_pixels,
    hot_positions,
    image_measures,
    rank_tilts,
    wholly_in_view,
)

TILTS = np.arange(-60.0, 61.0, 10.0)
GAINS = np.random.default_rng(0).uniform(0.6, 1.4, len(TILTS))
GAINS /= GAINS.mean()


def test_constant_model_recovers_the_gains_of_a_particle():
    images = ellipsoid(TILTS, 64, 32, axes=(20, 14, 10), oversampling=4)
    before = images.copy()
    np.testing.assert_allclose(
        gain_from_means(images * GAINS[:, None, None], TILTS), GAINS, rtol=1e-2
    )
    np.testing.assert_array_equal(images, before)


def test_lamella_model_recovers_the_gains_of_a_full_view():
    images = np.ones((len(TILTS), 8, 8)) * (GAINS / np.cos(np.deg2rad(TILTS)))[:, None, None]
    np.testing.assert_allclose(gain_from_means(images, TILTS, "lamella"), GAINS, rtol=1e-12)
    both = gain_from_means(np.stack([images, 3 * images]), TILTS, "lamella")
    assert both.shape == (2, len(TILTS))
    np.testing.assert_allclose(both[1], GAINS)


def test_eds_gains_hold_where_the_composition_in_view_changes():
    maps = core_shell(64, 16, TILTS)
    # Only half the particle is in view, so that the share of the core changes with the tilt.
    maps = maps[:, :, :32]
    ratios = np.array([9.0, 2.0])
    haadf = np.tensordot(ratios, maps, 1)
    shadowed = maps * GAINS[:, None, None]
    np.testing.assert_allclose(eds_gains(shadowed, haadf, weights=ratios), GAINS, rtol=1e-9)
    haadf_gains = GAINS[::-1]
    found = eds_gains(
        shadowed, haadf * haadf_gains[:, None, None], weights=ratios, haadf_gains=haadf_gains
    )
    np.testing.assert_allclose(found, GAINS, rtol=1e-9)
    assert np.abs(eds_gains(shadowed, haadf) / GAINS - 1).max() > 0.01


def test_eds_gains_leave_out_the_holder_and_mind_the_mask():
    haadf = np.full((3, 4, 4), 10.0)
    specimen, holder = (
        np.full((3, 4, 4), 5.0),
        np.ones((3, 4, 4)) * np.array([1.0, 5.0, 9.0])[:, None, None],
    )
    np.testing.assert_allclose(eds_gains([specimen, holder], haadf, weights=[1, 0]), 1)
    mask = np.zeros((3, 4, 4), bool)
    mask[:, :2] = True
    specimen[2, 2:] = 100.0
    np.testing.assert_allclose(eds_gains([specimen], haadf, mask=mask), 1)


def test_particle_is_in_view_until_it_leaves():
    noise = np.random.default_rng(1).normal(size=(len(TILTS), 80, 60))
    particle = ellipsoid(TILTS, 80, 60, axes=(24, 18, 16)) + noise
    assert wholly_in_view(particle)
    moved = np.zeros((len(TILTS), 2))
    moved[3] = 30, 0
    leaving = ellipsoid(TILTS, 80, 60, axes=(24, 18, 16), moved=moved) + noise
    assert not wholly_in_view(leaving)
    assert wholly_in_view(leaving, sides="along")


def test_lamella_and_empty_view_are_not_in_view():
    rng = np.random.default_rng(2)
    assert not wholly_in_view(10 + rng.normal(size=(3, 40, 40)))
    assert not wholly_in_view(np.zeros((3, 40, 40)))


def test_bad_input():
    images = np.ones((3, 8, 8))
    with pytest.raises(ValueError, match="expected"):
        gain_from_means(np.ones((8, 8)), [0])
    with pytest.raises(ValueError, match="one finite angle per projection"):
        gain_from_means(images, [0, 1])
    with pytest.raises(ValueError, match="unknown model 'slab'"):
        gain_from_means(images, [0, 1, 2], "slab")
    with pytest.raises(ValueError, match="beyond 85 degrees"):
        gain_from_means(images, [0, 45, 90], "lamella")
    with pytest.raises(ValueError, match="not positive"):
        gain_from_means(0 * images, [0, 1, 2])
    with pytest.raises(ValueError, match="alike"):
        eds_gains(np.ones((2, 3, 8, 7)), images)
    with pytest.raises(ValueError, match="expected 2 that are >= 0"):
        eds_gains(np.ones((2, 3, 8, 8)), images, weights=[0, 0])
    with pytest.raises(ValueError, match="no positive sum"):
        eds_gains(np.zeros((2, 3, 8, 8)), images)
    with pytest.raises(ValueError, match="unknown sides"):
        wholly_in_view(images, sides="top")
    with pytest.raises(ValueError, match="NaN"):
        wholly_in_view(images * np.nan)


class TestGainsFromCounts:
    TRUE = np.exp(-0.4 * TILTS / 60 + 0.2 * (TILTS / 60) ** 2)
    TRUE = TRUE / TRUE.mean()

    def test_standard_errors_are_the_scatter_over_many_series(self):
        rng = np.random.default_rng(3)
        counts = rng.poisson(400 * self.TRUE, (400, len(TILTS)))
        for smooth in (None, 2):
            gains, errors = fit_gains(
                counts, np.ones(len(TILTS)), TILTS, variances=counts, smooth=smooth
            )
            np.testing.assert_allclose(gains.mean(axis=0), self.TRUE, rtol=0.01)
            np.testing.assert_allclose(errors.mean(axis=0), gains.std(axis=0), rtol=0.15)

    def test_smooth_gains_are_nearer_to_the_truth_at_few_counts(self):
        rng = np.random.default_rng(4)
        counts = rng.poisson(20 * self.TRUE, (100, len(TILTS)))
        single, _ = fit_gains(counts, np.ones(len(TILTS)), TILTS)
        smooth, _ = fit_gains(counts, np.ones(len(TILTS)), TILTS, smooth=2)
        assert np.square(smooth - self.TRUE).mean() < 0.35 * np.square(single - self.TRUE).mean()

    def test_background_widens_the_errors(self):
        rng = np.random.default_rng(5)
        gross = rng.poisson(300 + 100 * self.TRUE, (400, len(TILTS)))
        gains, errors = fit_gains(
            gross - 300, np.ones(len(TILTS)), TILTS, variances=gross, smooth=2
        )
        np.testing.assert_allclose(errors.mean(axis=0), gains.std(axis=0), rtol=0.25)

    def test_known_exposures_are_kept_and_only_the_rest_is_smoothed(self):
        exposures = np.ones(len(TILTS))
        exposures[4] = 2.0
        gains, _ = fit_gains(
            1000 * exposures * self.TRUE, np.ones(len(TILTS)), TILTS, known=exposures, smooth=2
        )
        expected = exposures * self.TRUE
        np.testing.assert_allclose(gains, expected / expected.mean(), rtol=1e-6)

    def test_gaps_are_bridged_by_the_smooth_course_only(self):
        expected = np.ones(len(TILTS))
        expected[5] = np.nan
        gains, _ = fit_gains(1e6 * self.TRUE, expected, TILTS, smooth=2)
        np.testing.assert_allclose(gains, self.TRUE, rtol=1e-6)
        with pytest.raises(ValueError, match="-10"):
            fit_gains(1e6 * self.TRUE, expected, TILTS)

    def test_doubling_the_dose_changes_nothing(self):
        counts = 50 * self.TRUE
        np.testing.assert_allclose(
            fit_gains(counts, np.ones(13), TILTS, smooth=3)[0],
            fit_gains(2 * counts, np.ones(13), TILTS, smooth=3)[0],
        )

    def test_per_element(self):
        haadf = np.full((3, 4, 4), 10.0)
        maps = np.ones((2, 3, 4, 4)) * np.array([[1.0, 2.0, 3.0], [6.0, 4.0, 2.0]])[..., None, None]
        np.testing.assert_allclose(
            eds_gains(maps, haadf, per_element=True), [[0.5, 1, 1.5], [1.5, 1, 0.5]]
        )

    @pytest.mark.parametrize("smooth", [-1, 12, 1.5])
    def test_bad_degree(self, smooth):
        with pytest.raises(ValueError, match="degree of a polynomial"):
            fit_gains(np.ones(13), np.ones(13), TILTS, smooth=smooth)


class TestBackgroundLevel:
    WIDE = np.arange(-70.0, 71.0, 5.0)

    def series(self, size=64, axes=(12, 9, 10), noise=3.0, offset=100.0, film=40.0):
        particle = 20 * ellipsoid(self.WIDE, size, size, axes=axes)
        level = offset + film / np.cos(np.deg2rad(self.WIDE))
        return (
            particle
            + level[:, None, None]
            + np.random.default_rng(6).normal(0, noise, particle.shape)
        )

    @pytest.mark.parametrize(
        ("size", "axes"), [(64, (12, 9, 10)), (64, (26, 20, 26)), (96, (38, 30, 38))]
    )
    def test_offset_and_film_beside_a_particle(self, size, axes):
        """To 1 % of the offset, which is 0.2 % of the particle's signal,
        even where the particle covers most of the view."""
        fit = fit_background(
            [background_level(image) for image in self.series(size, axes)], self.WIDE
        )
        assert fit.offset == pytest.approx(100, abs=1.0)
        assert fit.film == pytest.approx(40, abs=0.5)
        assert np.abs(fit.residuals).max() < 1

    @pytest.mark.slow
    def test_errors_say_how_well_offset_and_film_are_told_apart(self):
        """Scatter of both over many noisy series; at low tilts the two are nearly the same."""
        rng = np.random.default_rng(7)
        errors = {}
        for limit in (70, 30):
            tilts = np.arange(-limit, limit + 1, 5.0)
            exact = 100 + 40 / np.cos(np.deg2rad(tilts))
            fits = [
                fit_background(exact + rng.normal(0, 0.2, tilts.size), tilts) for _ in range(300)
            ]
            spread = np.std([f.offset for f in fits])
            errors[limit] = np.mean([f.offset_error for f in fits])
            assert errors[limit] == pytest.approx(spread, rel=0.25)
        assert errors[30] > 10 * errors[70]
        assert fits[0].correlation < -0.99

    def test_one_tilt_with_the_object_everywhere_does_not_pull_the_fit(self):
        levels = (
            100
            + 40 / np.cos(np.deg2rad(self.WIDE))
            + np.random.default_rng(8).normal(0, 0.1, self.WIDE.size)
        )
        levels[3] += 500
        assert fit_background(levels, self.WIDE).offset == pytest.approx(100, abs=0.5)

    def test_gains_multiply_the_film_and_not_the_offset(self):
        gains = np.linspace(0.7, 1.3, self.WIDE.size)
        fit = fit_background(
            100 + gains * 40 / np.cos(np.deg2rad(self.WIDE)), self.WIDE, gains=gains
        )
        assert (fit.offset, fit.film) == (pytest.approx(100), pytest.approx(40))

    def test_mask_and_vacuum_alone(self):
        image = np.full((16, 16), 7.0)
        image[:, :12] = 50.0
        assert background_level(image, image < 10) == 7.0
        assert background_level(np.full((16, 16), 3.0)) == 3.0
        assert fit_background([5.0, 5.1, 4.9], [-10, 0, 10], film=False).offset == pytest.approx(5)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="film=False"):
            fit_background([1.0, 1.0, 1.0], [0, 0.1, 0.2])
        with pytest.raises(ValueError, match="three tilts"):
            fit_background([1.0, 1.0], [0, 10])
        with pytest.raises(ValueError, match="stands on edge"):
            fit_background([1.0, 1.2, 1.5], [0, 45, 90])
        assert fit_background([1.0, 1.0, 1.0], [0, 45, 90], film=False).offset == 1.0
        with pytest.raises(ValueError, match="at least one pixel"):
            background_level(np.ones((4, 4)), np.zeros((4, 4), bool))


class TestDefects:
    def test_saturation_is_found_where_values_pile_up(self):
        rng = np.random.default_rng(9)
        free = rng.gamma(4, 8000, (4, 64, 64)).round()
        for end in (65535.0, 50000.0):
            cut = np.minimum(free, end)
            found = find_saturation(cut, [0, 1, 2, 3])
            assert found.level == end
            np.testing.assert_allclose(found.fraction, (free >= end).mean(axis=(1, 2)))
        assert find_saturation(free, [0, 1, 2, 3]).level is None
        assert find_saturation(free / 7e5, [0, 1, 2, 3]).level is None

    def test_counts_of_few_electrons_and_even_images_are_not_saturated(self):
        assert (
            find_saturation(np.random.default_rng(0).poisson(2.0, (3, 64, 64)), [0, 1, 2]).level
            is None
        )
        assert find_saturation(np.full((3, 8, 8), 5.0), [0, 1, 2]).level is None

    def test_a_given_level_is_taken(self):
        images = np.arange(100.0).reshape(1, 10, 10)
        np.testing.assert_allclose(find_saturation(images, [0], level=90).fraction, 0.1)

    def test_hot_pixels_are_found_and_edges_and_features_are_not(self):
        rng = np.random.default_rng(10)
        image = 300 * ellipsoid([20.0], 64, 64, axes=(20, 16, 18))[0] + rng.normal(0, 30, (64, 64))
        image[32:35, 32:35] += 3000.0
        assert not hot_pixels(image)[0].any()
        places = [(5, 5), (40, 22), (60, 63)]
        for x, y in places:
            image[x, y] += 9000.0
        hot, median = hot_pixels(image)
        assert sorted(map(tuple, np.argwhere(hot))) == places
        assert np.abs(median[5, 5]) < 100

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
    def test_hot_pixels_of_whole_numbers_are_those_of_floats(self, dtype):
        """Unsigned numbers have no differences below 0:
        dark pixels must not wrap around to hot ones."""
        image = np.random.default_rng(11).normal(100, 3, (32, 32)).round()
        image[9, 7], image[3, 3] = 250, 0
        hot, median = hot_pixels(image.astype(dtype))
        assert np.argwhere(hot).tolist() == [[9, 7]]
        np.testing.assert_array_equal(median, hot_pixels(image)[1])

    def test_pure_noise_has_no_hot_pixels(self):
        assert not hot_pixels(np.random.default_rng(11).normal(100, 10, (256, 256)))[0].any()

    def test_positions_stand_out_of_the_sum_of_all_tilts(self):
        rng = np.random.default_rng(12)
        expected = 0.5 * ellipsoid(TILTS, 48, 48, axes=(16, 12, 14)).sum(axis=0) / 13
        total = rng.poisson(np.maximum(expected, 0.2))
        assert not hot_positions(total).any()
        total[10, 11] += 60
        assert np.argwhere(hot_positions(total)).tolist() == [[10, 11]]
        assert not hot_positions(total, variance=np.full(total.shape, 400.0)).any()

    def test_bad_input(self):
        for function in (hot_pixels, hot_positions):
            with pytest.raises(ValueError, match="odd"):
                function(np.ones((8, 8)), size=4)
        with pytest.raises(ValueError, match="NaN"):
            find_saturation(np.full((1, 4, 4), np.nan), [0])


class TestBadTilts:
    TILTS = np.arange(-60.0, 61.0, 5.0)

    def particle(self):
        rng = np.random.default_rng(13)
        images = np.zeros((len(self.TILTS), 64, 64))
        for _ in range(12):
            centre = rng.uniform(-14, 14, 3)
            images += rng.uniform(0.5, 2) * ellipsoid(
                self.TILTS, 64, 64, centre, tuple(rng.uniform(2, 7, 3))
            )
        return 100 * images + rng.normal(0, 20, images.shape)

    def ranked(self, images, **options):
        return rank_tilts(image_measures(images, self.TILTS), self.TILTS, **options)

    def test_a_good_series_has_no_bad_tilts(self):
        ranking = self.ranked(self.particle())
        assert ranking.suspicious.size == 0
        assert set(ranking.reasons) == {""}

    @pytest.mark.slow
    @pytest.mark.parametrize("bad", [0, 7, 12, 24])
    @pytest.mark.parametrize("fault", ["dark", "bright", "blurred", "another object"])
    def test_the_bad_one_is_the_worst_and_the_reason_fits(self, bad, fault):
        from scipy.ndimage import gaussian_filter

        images = self.particle()
        if fault == "dark":
            images[bad] *= 0.6
        elif fault == "bright":
            images[bad] *= 1.4
        elif fault == "blurred":
            images[bad] = gaussian_filter(images[bad], 3)
        else:
            images[bad] = images[bad].T[::-1]
        ranking = self.ranked(images)
        assert ranking.suspicious[0] == self.TILTS[bad]
        assert len(ranking.suspicious) <= 2
        word = {
            "dark": "darker",
            "bright": "brighter",
            "blurred": "less sharp",
            "another object": "unlike",
        }[fault]
        assert word in ranking.reasons[bad]
        assert f"{self.TILTS[bad]:.1f}" in str(ranking).splitlines()[1]

    @pytest.mark.slow
    def test_tilts_that_merely_scatter_are_rarely_suspicious(self):
        """The polynomial takes part of the scatter of a few tilts;
        a score in what is left of it would cry wolf."""
        rng, tilts = np.random.default_rng(15), np.linspace(-60, 60, 13)
        found = np.zeros((400, 2), bool)
        for series in found:
            signal = np.exp(rng.normal(0, 0.03, 13))
            series[0] = rank_tilts({"signal": signal}, tilts).suspicious.size > 0
            signal[4] *= np.exp(-8 * 0.03)
            series[1] = tilts[4] in rank_tilts({"signal": signal}, tilts).suspicious
        alarms, hits = found.mean(axis=0)
        assert alarms < 0.08
        assert hits > 0.85

    def test_a_single_slice_and_even_images_can_be_ranked(self):
        images = self.particle()
        images[7] *= 0.5
        assert self.ranked(images[:, :, 32:33]).suspicious[0] == self.TILTS[7]
        even = self.ranked(np.ones((len(self.TILTS), 8, 8)))
        assert even.suspicious.size == 0
        assert "-0.0" not in str(even)

    def test_shifts_off_their_course(self):
        radians = np.deg2rad(self.TILTS)
        across, along = 3 + 8 * np.cos(radians) - 5 * np.sin(radians), 0.05 * self.TILTS
        measures = {"signal": np.ones(len(self.TILTS))}
        assert rank_tilts(measures, self.TILTS, across=across, along=along).suspicious.size == 0
        along[20] += 9
        ranking = rank_tilts(measures, self.TILTS, across=across, along=along)
        assert ranking.suspicious.tolist() == [40.0]
        assert "moved" in ranking.reasons[20]

    def test_bad_input(self):
        with pytest.raises(ValueError, match="at least three"):
            image_measures(np.ones((2, 8, 8)), [0, 1])
        with pytest.raises(ValueError, match="tilt 1"):
            image_measures(np.ones((3, 8, 8)) * np.array([1, 0, 1])[:, None, None], [0, 1, 2])
        with pytest.raises(ValueError, match="one value per tilt"):
            rank_tilts({"signal": [1, 1]}, [0, 1, 2])


class TestDoseDrift:
    TILTS = np.arange(-60.0, 61.0, 5.0)
    MIXED = np.random.default_rng(14).permutation(25)

    def test_slope_and_error_over_many_series(self):
        rng = np.random.default_rng(15)
        signal = 500 * (1 - 0.2 * (self.MIXED - 12) / 24)
        drifts = [
            fit_dose_drift(c[None], np.ones(25), self.TILTS, self.MIXED, ["S"], variances=c[None])
            for c in rng.poisson(signal, (300, 25))
        ]
        change = np.array([d.change[0] for d in drifts])
        assert change.mean() == pytest.approx(-0.2, abs=0.005)
        assert np.mean([d.change_error[0] for d in drifts]) == pytest.approx(change.std(), rel=0.2)
        assert not drifts[0].confounded
        assert drifts[0].slope[0] == pytest.approx(drifts[0].change[0] / 24)

    def test_shadowing_is_not_taken_for_a_drift_where_the_order_is_mixed(self):
        shadowed = 1 + 0.004 * self.TILTS + 5e-5 * self.TILTS**2
        drift = fit_dose_drift([shadowed], np.ones(25), self.TILTS, self.MIXED, ["Al"])
        assert abs(drift.change[0]) < 1e-9
        ascending = fit_dose_drift([shadowed], np.ones(25), self.TILTS, np.arange(25), ["Al"])
        assert ascending.confounded
        assert ascending.significant[0]
        assert "may as well be shadowing" in str(ascending)

    def test_two_branches_from_the_middle_are_confounded_with_the_square_of_the_tilt(self):
        outwards = np.argsort(np.argsort(np.abs(self.TILTS) + 0.1 * (self.TILTS > 0)))
        assert fit_dose_drift([np.ones(25)], np.ones(25), self.TILTS, outwards, ["Al"]).confounded

    def test_noise_is_no_drift(self):
        rng = np.random.default_rng(16)
        counts = rng.poisson(30, (200, 25))
        drift = fit_dose_drift(
            counts, np.ones(25), self.TILTS, self.MIXED, ["X"] * 200, variances=counts
        )
        assert drift.significant.mean() < 0.02

    def test_bad_input(self):
        with pytest.raises(ValueError, match="at least four"):
            fit_dose_drift(np.ones((1, 3)), np.ones(3), [0, 1, 2], [0, 1, 2], ["Al"])
        with pytest.raises(ValueError, match="Al; leave it out"):
            fit_dose_drift(np.zeros((1, 5)), np.ones(5), np.arange(5), np.arange(5), ["Al"])
        with pytest.raises(ValueError, match="2 names"):
            fit_dose_drift(np.ones((1, 5)), np.ones(5), np.arange(5), np.arange(5), ["Al", "Si"])
