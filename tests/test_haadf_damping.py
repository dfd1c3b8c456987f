# SPDX-License-Identifier: GPL-3.0-or-later
"""Damping of the HAADF: a known saturation comes back from the series and from maps,
and nothing is found where there is none."""

import dask.array as da
import numpy as np
import pytest
from ellipsoids import core_shell, ellipsoid

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition.haadf.damping_from_maps import damping_from_maps
from hyperspy_multitomo.composition.haadf.haadf_damping import DampingModel, estimate_damping
from hyperspy_multitomo.inspection.damping_plot import plot_damping
from hyperspy_multitomo.simulation import simulate, yuan

TILTS = np.arange(-70.0, 71.0, 5.0)
RATIOS = np.array([90.0, 40.0])


def recorded(linear, saturation, noise=0.02, scatter=0.005, seed=0):
    """A damped HAADF with noise (part of its maximum) and a beam current that scatters from tilt to
    tilt."""
    rng = np.random.default_rng(seed)
    damped = DampingModel(saturation).apply(linear)
    current = 1 + scatter * rng.normal(size=len(linear))
    return (damped + noise * damped.max() * rng.normal(size=damped.shape)) * current[:, None, None]


@pytest.fixture(scope="module")
def elongated():
    return ellipsoid(TILTS, 96, 32, (3, -2, 0), (40, 22, 13))


@pytest.fixture(scope="module")
def bimodal():
    """Expected counts (channel, tilt, x, y), their undamped HAADF and the tilts."""
    tilts = np.arange(-60.0, 61.0, 10.0)
    counts = core_shell(96, 48, tilts, mixed=0.2)
    counts *= 15 / counts.max()
    return counts, np.tensordot(RATIOS, counts, 1), tilts


@pytest.fixture(scope="module")
def series():
    """Yuan's particle, wholly in view, with counted HAADF."""
    return simulate(
        yuan(48, 24), tilts=np.arange(-60, 61, 10.0), dose=2.0, blur=0, oversampling=2, seed=0
    )


def within(model, saturation, errors=3.0, part=0.1):
    assert model.significant
    assert abs(model.saturation - saturation) < errors * model.saturation_error
    assert abs(model.saturation - saturation) < part * saturation


class TestModel:
    def test_round_trip_and_limits(self):
        model, linear = DampingModel(1000.0), np.linspace(-50, 4000, 5000)
        np.testing.assert_allclose(model.invert(model.apply(linear)), linear, rtol=1e-6, atol=1e-9)
        assert np.all(model.apply(linear) <= linear)
        assert model.apply(1e-3) == pytest.approx(1e-3, rel=1e-6)
        np.testing.assert_array_equal(DampingModel(np.inf).invert(linear), linear)
        assert model.apply(linear.astype(np.float32)).dtype == np.float32

    def test_of_independent_scatterers(self):
        """Huber et al., eq. 7: a part 0.7 of the electrons,
        less what passes each element unscattered."""
        electrons, paths = 1e5, np.array([0.3, 0.8])
        assert DampingModel(0.7 * electrons).apply(0.7 * electrons * paths.sum()) == pytest.approx(
            electrons * 0.7 * (1 - np.prod(np.exp(-paths)))
        )

    def test_refuses_what_no_thickness_gives(self):
        with pytest.raises(
            ValueError, match="2 of 3 pixels are NaN, or at or above the saturation of 100"
        ):
            DampingModel(100.0).invert([50.0, 100.0, np.nan])
        with pytest.raises(ValueError, match="positive HAADF signal"):
            DampingModel(0.0)


class TestFromTheSeries:
    @pytest.mark.parametrize("part", [0.6, 1.5, 4.0])
    def test_known_saturation_comes_back(self, elongated, part):
        saturation = part * elongated.max()
        found = estimate_damping(recorded(elongated, saturation), TILTS)
        within(found, saturation)
        assert found.sums[1].std() < 0.008 < found.sums[0].std()

    @pytest.mark.slow
    def test_errors_hold_over_many_series(self, elongated):
        saturation = 1.5 * elongated.max()
        found = [
            estimate_damping(recorded(elongated, saturation, seed=seed), TILTS)
            for seed in range(30)
        ]
        pulls = [
            (1 / f.saturation - 1 / saturation) * f.saturation**2 / f.saturation_error
            for f in found
        ]
        assert 0.7 < np.sqrt(np.mean(np.square(pulls))) < 1.4

    def test_undamped_series_are_not_significant(self, elongated):
        found = [
            estimate_damping(recorded(elongated, np.inf, seed=seed), TILTS) for seed in range(20)
        ]
        # One in 700 may be, by chance; one of these is.
        assert sum(f.significant for f in found) <= 1
        assert 0.6 < np.sqrt(np.mean([f.score**2 for f in found])) < 1.5
        assert all("errors above 0" in f.reason for f in found)

    def test_noise_is_not_taken_for_signal(self, elongated):
        saturation = 1.5 * elongated.max()
        noisy = [
            estimate_damping(recorded(elongated, saturation, 0.1, 0.0, seed), TILTS).saturation
            for seed in range(8)
        ]
        assert np.mean(noisy) == pytest.approx(saturation, rel=0.03)

    def test_known_gains_are_divided_out(self, elongated):
        saturation, gains = 1.5 * elongated.max(), np.linspace(0.7, 1.3, len(TILTS)) ** 2
        images = recorded(elongated, saturation, scatter=0.0) * gains[:, None, None]
        assert estimate_damping(images, TILTS, gains=gains).saturation == pytest.approx(
            saturation, rel=0.03
        )

    def test_inclined_lamella(self):
        tilts = np.arange(-60.0, 46.0, 5.0)
        linear = 300 / np.cos(np.deg2rad(tilts - 7))[:, None, None] * np.ones((1, 40, 16))
        saturation = 1.2 * linear.max()
        found = estimate_damping(
            recorded(linear, saturation, scatter=0.002), tilts, model="lamella"
        )
        within(found, saturation)
        assert found.inclination == pytest.approx(7, abs=0.5)

    def test_what_cannot_be_told_is_refused(self, elongated):
        cylinder = ellipsoid(TILTS, 96, 16, (0, 0, 0), (30, 30, 18))
        images = recorded(cylinder, cylinder.max(), scatter=0.0)
        with pytest.raises(ValueError, match="equally thick at all tilts.*elemental maps"):
            estimate_damping(images, TILTS)
        with pytest.raises(ValueError, match="2 tilts"):
            estimate_damping(images[:2], TILTS[:2])
        with pytest.raises(ValueError, match="more from tilt to tilt than damping explains"):
            estimate_damping(elongated / elongated.max(axis=(1, 2), keepdims=True) ** 0.7, TILTS)
        with pytest.raises(ValueError, match="for 29 projections"):
            estimate_damping(images, TILTS[1:])


class TestFromMaps:
    @pytest.mark.slow
    @pytest.mark.parametrize("part", [0.7, 1.5])
    def test_known_saturation_and_ratios_come_back(self, bimodal, part):
        counts, linear, tilts = bimodal
        saturation = part * linear.max()
        maps = np.random.default_rng(1).poisson(counts)
        found = damping_from_maps(maps, recorded(linear, saturation), tilts=tilts)
        within(found, saturation)
        np.testing.assert_allclose(found.ratios, RATIOS, rtol=0.06)
        known = damping_from_maps(maps, recorded(linear, saturation), RATIOS, tilts=tilts)
        assert known.saturation == pytest.approx(saturation, rel=0.02)
        assert known.saturation_error < found.saturation_error

    def test_undamped_haadf_is_not_significant(self, bimodal):
        counts, linear, _ = bimodal
        maps = np.random.default_rng(2).poisson(counts)
        assert not damping_from_maps(maps, recorded(linear, np.inf)).significant

    @pytest.mark.slow
    def test_noise_of_the_haadf_does_not_bend_it(self, bimodal):
        counts, linear, _ = bimodal
        found = [
            damping_from_maps(
                np.random.default_rng(seed).poisson(counts),
                recorded(linear, linear.max(), 0.06, seed=seed),
            )
            for seed in range(6)
        ]
        assert np.mean([f.saturation for f in found]) == pytest.approx(linear.max(), rel=0.05)
        with pytest.raises(ValueError, match="noise of the HAADF is"):
            damping_from_maps(counts, recorded(linear, linear.max(), 0.2))

    def test_cylinder_and_few_tilts_will_do(self):
        path = ellipsoid([-20.0, 0.0, 20.0], 96, 48, (0, 0, 0), (40, 40, 21))
        counts = 15 * path / path.max()
        found = damping_from_maps(
            np.random.default_rng(0).poisson(counts)[None], recorded(20 * counts, 300.0)
        )
        within(found, 300.0)

    @pytest.mark.slow
    def test_gains_of_both_are_divided_out(self, bimodal):
        counts, linear, _ = bimodal
        gains, current = np.linspace(0.5, 2, len(linear)), np.linspace(1.2, 0.8, len(linear))
        maps = np.random.default_rng(3).poisson(counts * gains[:, None, None])
        images = recorded(linear, linear.max(), scatter=0.0) * current[:, None, None]
        found = damping_from_maps(maps, images, gains=gains, haadf_gains=current)
        within(found, linear.max())

    def test_bad_input(self, bimodal):
        counts, linear, _ = bimodal
        with pytest.raises(ValueError, match="crop or rebin"):
            damping_from_maps(counts[:, :, :-1], linear)
        with pytest.raises(ValueError, match="no counts"):
            damping_from_maps(counts * [[[[1]]], [[[0]]]], linear)
        with pytest.raises(ValueError, match="one per map"):
            damping_from_maps(counts, linear, [1.0])
        with pytest.raises(ValueError, match="told apart"):
            damping_from_maps(np.concatenate([counts[:1]] * 2), linear)


class TestSignals:
    @pytest.mark.slow
    @pytest.mark.parametrize("lazy", [False, True])
    def test_measured_against_maps_and_corrected_on_request(self, series, lazy):
        saturation = 0.9 * series.expected_haadf.max()
        images = DampingModel(saturation).apply(series.haadf).transpose(0, 2, 1)
        maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
        haadf = mt.TiltSeriesHAADF.from_images(
            da.from_array(images) if lazy else images, tilts=series.tilts, pixel_size=3.0
        )
        eds = mt.TiltSeriesEDS.from_maps(maps, tilts=series.tilts, pixel_size=3.0)
        found = haadf.estimate_damping(eds)
        within(found, saturation)
        assert [step["step"] for step in haadf.history] == []
        corrected = haadf.correct_damping(found)
        assert corrected._lazy == lazy
        assert corrected.history[-1]["step"] == "correct_damping"
        assert corrected.history[-1]["saturation"] == found.saturation
        missed = [
            np.abs(np.asarray(s.data) - series.haadf.transpose(0, 2, 1)).sum()
            for s in (haadf, corrected)
        ]
        assert missed[1] < 0.15 * missed[0]

    def test_sums_are_consistent_after_the_correction(self, elongated):
        saturation = 1.5 * elongated.max()
        images = recorded(elongated, saturation, scatter=0.001)
        haadf = mt.TiltSeriesHAADF.from_images(images.transpose(0, 2, 1), tilts=TILTS)
        sums = [series.data.sum(axis=(1, 2)) for series in (haadf, haadf.correct_damping())]
        before, after = (values.std() / values.mean() for values in sums)
        assert after < 0.002 < 0.02 < before
        assert sums[1].mean() == pytest.approx(elongated.sum(axis=(1, 2)).mean(), rel=0.02)

    def test_gains_of_the_current_stay_and_those_of_the_means_go(self, elongated):
        saturation, current = 1.5 * elongated.max(), np.linspace(0.8, 1.2, len(TILTS))
        images = recorded(elongated, saturation, scatter=0.0) * current[:, None, None]
        haadf = mt.TiltSeriesHAADF.from_images(images.transpose(0, 2, 1), tilts=TILTS)
        haadf.gains = current
        found = haadf.estimate_damping()
        within(found, saturation)
        corrected = haadf.correct_damping(DampingModel(saturation))
        np.testing.assert_array_equal(corrected.gains, current)
        linear = (corrected.data / current[:, None, None]).transpose(0, 2, 1)
        assert np.abs(linear - elongated).mean() < 0.1 * elongated.mean()
        haadf.estimate_gains("constant")
        assert haadf.estimate_damping().saturation == pytest.approx(found.saturation)
        with pytest.warns(UserWarning, match="gains that were estimated from the damped images"):
            again = haadf.correct_damping(DampingModel(saturation))
        np.testing.assert_array_equal(again.gains, current)
        np.testing.assert_allclose(again.data, corrected.data, rtol=1e-6)

    def test_says_what_it_cannot_do(self, elongated):
        haadf = mt.TiltSeriesHAADF.from_images(
            recorded(elongated, np.inf).transpose(0, 2, 1), tilts=TILTS
        )
        weak = haadf.estimate_damping()
        assert not weak.significant
        with pytest.warns(UserWarning, match="not significant"):
            haadf.correct_damping(weak)
        with pytest.raises(ValueError, match="at or above the saturation"):
            haadf.correct_damping(DampingModel(0.5 * elongated.max()))
        with pytest.raises(ValueError, match="at or above the saturation"):
            haadf.as_lazy().correct_damping(DampingModel(0.5 * elongated.max()))
        with pytest.raises(TypeError, match="DampingModel"):
            haadf.correct_damping(50.0)
        with pytest.raises(ValueError, match="leave out the mask"):
            haadf.estimate_damping(mask=np.ones(3, bool))


def test_figure_draws_curve_data_and_sums(elongated, bimodal):
    counts, linear, tilts = bimodal
    images = recorded(elongated, 1.5 * elongated.max())
    model = estimate_damping(images, TILTS)
    curve, sums = plot_damping(model, images).axes[:2]
    drawn = {line.get_label(): line.get_xydata() for line in curve.lines}
    damped = next(values for name, values in drawn.items() if name.startswith("saturation"))
    np.testing.assert_allclose(damped[:, 1], model.apply(damped[:, 0]))
    np.testing.assert_allclose(*drawn["no damping"].T)
    np.testing.assert_allclose(sums.lines[1].get_ydata(), model.sums[1])
    maps = np.random.default_rng(1).poisson(counts)
    against = plot_damping(damping_from_maps(maps, recorded(linear, linear.max()), tilts=tilts))
    assert "from the maps" in against.axes[0].get_xlabel()
    assert sum(len(c.get_offsets()) for c in against.axes[0].collections) > 100
    with pytest.raises(ValueError, match="pass the images"):
        plot_damping(DampingModel(np.inf))
