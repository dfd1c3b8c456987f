# SPDX-License-Identifier: GPL-3.0-or-later
"""Preprocessing through the signals: what it attaches, what follows the images,
and that counts stay counts."""

import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from ellipsoids import ellipsoid
from series_pairs import SHADOW, TILTS, pair, spectral

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.inspection import plotting
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.tomography import TiltGeometry, projector, sirt

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class TestGains:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_from_the_haadf_with_errors_that_hold(self, lazy):
        haadf, eds = pair(lazy=lazy)
        before = np.array(eds.data)
        gains = eds.estimate_gains(haadf, weights={"Au": 9.0, "Ag": 4.0})
        assert gains.model == "haadf"
        np.testing.assert_array_equal(eds.gains, gains.values)
        np.testing.assert_array_equal(np.array(eds.data), before)
        pulls = (gains.values - SHADOW) / gains.standard_errors
        assert 0.4 < np.sqrt(np.mean(pulls**2)) < 1.6
        assert eds.history[-1]["step"] == "estimate_gains"

    def test_per_element_and_smooth(self):
        haadf, eds = pair(counts=20.0)
        gains = eds.estimate_gains(haadf, per_element=True, smooth=1)
        assert gains.values.shape == gains.standard_errors.shape == eds.gains.shape == (13, 2)
        np.testing.assert_allclose(gains.values, np.stack([SHADOW] * 2, axis=1), rtol=0.03)
        assert gains.elements == ("Au", "Ag")
        np.testing.assert_allclose(eds["Ag"].gains, gains.values[:, 1:])

    def test_haadf_gains_are_divided_out_and_only_common_tilts_are_needed(self):
        haadf, eds = pair(counts=50.0)
        current = np.linspace(0.8, 1.2, 13)
        haadf.data = haadf.data * current[:, None, None].astype(np.float32)
        haadf.gains = current
        few = haadf.drop_tilts([-10, 20])
        np.testing.assert_allclose(eds.estimate_gains(few, smooth=2).values, SHADOW, rtol=0.02)
        with pytest.raises(ValueError, match="smooth=2"):
            eds.estimate_gains(few)

    def test_mask(self):
        haadf, eds = pair(counts=50.0)
        eds.data[:, :, :, 30:] = 0.0
        mask = np.zeros((13, 24, 48), bool)
        mask[..., :30] = True
        np.testing.assert_allclose(eds.estimate_gains(haadf, mask=mask).values, SHADOW, rtol=0.06)
        with pytest.raises(ValueError, match="mask has the shape"):
            eds.estimate_gains(haadf, mask=mask[:3])

    @pytest.mark.parametrize("aligned", [False, True])
    def test_maps_of_larger_pixels_than_the_haadf_with_a_mask(self, aligned):
        haadf, eds = pair(counts=50.0)
        if aligned:
            haadf.alignment = Alignment(
                across=np.arange(13.0), along=np.zeros(13), axis_offset=0.0, rotation=0.0
            )
        coarse = eds.bin(2)
        mask = np.zeros((13, 12, 24), bool)
        mask[..., 4:20] = True
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the HAADF series is aligned")
            found = coarse.estimate_gains(haadf, mask=mask).values
        np.testing.assert_allclose(found, SHADOW, rtol=0.05)
        fine = mask.repeat(2, axis=1).repeat(2, axis=2)
        haadf.alignment = None
        np.testing.assert_allclose(found, eds.estimate_gains(haadf, mask=fine).values, rtol=1e-6)

    def test_means_of_a_particle_and_of_a_lamella(self):
        haadf, eds = pair(counts=50.0)
        assert eds.estimate_gains().model == "constant"
        np.testing.assert_allclose(eds.gains, SHADOW, rtol=0.03)
        film = np.ones((13, 20, 20)) * (SHADOW / np.cos(np.deg2rad(TILTS)))[:, None, None]
        lamella = mt.TiltSeriesHAADF.from_images(film, tilts=TILTS)
        assert lamella.estimate_gains().model == "lamella"
        np.testing.assert_allclose(lamella.gains, SHADOW, rtol=1e-5)
        assert haadf.estimate_gains().standard_errors is None

    def test_live_times_times_merged_exposures(self):
        stack = np.ones((4, 8, 8))
        eds = mt.TiltSeriesEDS.from_maps({"Au": stack}, tilts=[-10, 0, 0, 10], duplicates="merge")
        with pytest.raises(ValueError, match="no live times"):
            eds.estimate_gains(model="live_time")
        record(eds, "live_time", [10.0, 20.0, 30.0], ("tilt",))
        expected = np.array([10, 40, 30]) / 26.667
        for _ in range(2):
            np.testing.assert_allclose(
                eds.estimate_gains(model="live_time").values, expected, rtol=1e-4
            )
        with pytest.raises(ValueError, match="leave out all other options"):
            eds.estimate_gains(model="live_time", smooth=0)
        each = eds.deepcopy()
        each.gains = np.array([[1.0], [2.0], [1.0]])
        found = each.estimate_gains(model="live_time")
        assert found.elements == ("Au",)
        np.testing.assert_allclose(found.values[:, 0], expected, rtol=1e-4)
        assert len(plotting.plot_gains(found).axes[0].get_legend().get_texts()) == 1
        record(eds, "beam_current", [1.0, 1.0, 2.0], ("tilt",))
        np.testing.assert_allclose(
            eds.estimate_gains(model="live_time").values, np.array([10, 40, 60]) / 36.667, rtol=1e-4
        )

    def test_known_gains_survive_estimates_and_are_not_smoothed(self):
        """Twice in a row: the second estimate must not take the first for known."""
        exposures = np.ones(13)
        exposures[5] = 3.0
        haadf, eds = pair(counts=200.0, gains=SHADOW * exposures)
        eds.gains = exposures
        expected = SHADOW * exposures / (SHADOW * exposures).mean()
        for _ in range(2):
            eds.estimate_gains(haadf, smooth=1)
            np.testing.assert_allclose(eds.gains, expected, rtol=0.02)

    def test_bad_input(self):
        haadf, eds = pair()
        for kwds, message in (
            ({"model": "slab"}, "model='slab'"),
            ({"model": "haadf"}, "pass it"),
            ({"haadf": haadf, "model": "constant"}, "leave out one"),
            ({"haadf": haadf, "weights": {"Pt": 1}}, "Pt"),
            ({"haadf": haadf, "weights": {"Au": 1}, "per_element": True}, "leave out one"),
        ):
            with pytest.raises(ValueError, match=message):
                eds.estimate_gains(**kwds)
        with pytest.raises(TypeError, match="TiltSeriesHAADF"):
            eds.estimate_gains(eds)
        with pytest.raises(ValueError, match="model='haadf'"):
            haadf.estimate_gains("haadf")


class TestScalingAgainstGains:
    """At few counts, dividing the data by the gains makes the noise of weak tilts count as much as
    that of strong ones."""

    def error(self, maps, gains, truth, iterations=20):
        A = projector(TiltGeometry(TILTS, 48))
        for iterate in sirt(A, maps, gains=gains):
            if iterate.iteration == iterations:
                return np.square(iterate.volume - truth).sum() / np.square(truth).sum()

    @pytest.mark.slow
    def test_equal_without_noise_and_better_with_it(self):
        z, x = np.mgrid[:48, :48] - 23.5
        truth = np.repeat((np.hypot(x / 16, z / 12) < 1)[..., None], 12, axis=2).astype(np.float32)
        A = projector(TiltGeometry(TILTS, 48))
        exact = A(truth) / A(truth).max()
        gains = np.where(np.arange(13) % 2, 0.3, 1.0)
        scale = 1 / A(truth).max()
        divided, modelled = (
            self.error(exact * g, h, scale * truth)
            for g, h in ((1.0, None), (gains[:, None, None], gains))
        )
        assert modelled == pytest.approx(divided, rel=0.2)
        better = []
        for seed in range(4):
            counts = (
                np.random.default_rng(seed)
                .poisson(2 * exact * gains[:, None, None])
                .astype(np.float32)
            )
            divided = self.error(counts / gains[:, None, None], None, 2 * scale * truth)
            better.append(divided / self.error(counts, gains, 2 * scale * truth))
        assert min(better) > 1.05


class TestHAADFLevels:
    def series(self, lazy=False):
        particle = 20 * ellipsoid(TILTS, 64, 48, axes=(14, 11, 12)).transpose(0, 2, 1)
        images = particle + 100 + (40 / np.cos(np.deg2rad(TILTS)))[:, None, None]
        images = images + np.random.default_rng(1).normal(0, 2, images.shape)
        return mt.TiltSeriesHAADF.from_images(
            da.from_array(images) if lazy else images, tilts=TILTS
        ), particle

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("film", [False, True])
    def test_offset_and_film_come_off(self, lazy, film):
        haadf, particle = self.series(lazy)
        bare = haadf.remove_background(film=film)
        left = np.asarray(bare.data) - particle
        expected = 0 if film else 40 / np.cos(np.deg2rad(TILTS))
        np.testing.assert_allclose(left.mean(axis=(1, 2)), expected, atol=1.0)
        assert type(bare) is type(haadf)
        assert bare.history[-1]["offset"] == pytest.approx(100, abs=1)
        assert np.asarray(haadf.data).min() > 90

    def test_a_series_with_an_offset_needs_it_off_before_its_means_are_gains(self):
        """A shadowing of 1 in the EDS: against HAADF with offset the gains are wrong,
        without it right."""
        haadf, particle = self.series()
        eds = mt.TiltSeriesEDS.from_maps(
            {"Au": particle * (1 + 0.003 * TILTS)[:, None, None]}, tilts=TILTS
        )
        eds.estimate_gains(haadf)
        assert np.abs(eds.gains - (1 + 0.003 * TILTS)).max() > 0.04
        eds.estimate_gains(haadf.remove_background(film=True))
        np.testing.assert_allclose(eds.gains, 1 + 0.003 * TILTS, atol=0.04)

    def test_masks(self):
        haadf, _ = self.series()
        corner = np.zeros(haadf.data.shape, bool)
        corner[:, :8, :8] = True
        assert haadf.fit_background(mask=corner).offset == pytest.approx(100, abs=1)
        specimen = haadf.remove_background(film=True).specimen_mask()
        assert specimen.shape == haadf.data.shape
        assert 0.1 < specimen.mean() < 0.5
        assert not specimen[:, :4].any()
        with pytest.raises(ValueError, match="expected bool"):
            haadf.fit_background(mask=corner[:, :4])
        with pytest.raises(ValueError, match="fit this series"):
            haadf.drop_tilts(0).remove_background(haadf.fit_background())

    @pytest.mark.parametrize("lazy", [False, True])
    def test_saturation_is_reported_with_a_warning(self, lazy):
        images = np.minimum(np.random.default_rng(2).gamma(4, 9000, (3, 40, 40)).round(), 65535)
        haadf = mt.TiltSeriesHAADF.from_images(
            da.from_array(images) if lazy else images, tilts=[-10, 0, 10]
        )
        with pytest.warns(UserWarning, match="saturated at 65535"):
            found = haadf.find_saturation()
        np.testing.assert_allclose(found.fraction, (images == 65535).mean(axis=(1, 2)))

    @pytest.mark.parametrize("lazy", [False, True])
    def test_hot_pixels_are_replaced_and_counted(self, lazy):
        images = np.random.default_rng(3).normal(100, 3, (3, 32, 40))
        images[1, 5, 6] = images[1, 20, 30] = 4000.0
        haadf = mt.TiltSeriesHAADF.from_images(
            da.from_array(images) if lazy else images, tilts=[-10, 0, 10]
        )
        repaired = haadf.remove_hot_pixels()
        assert repaired.history[-1]["hot_pixels"] == [0, 2, 0]
        assert repaired._lazy == lazy
        data = np.asarray(repaired.data)
        assert data.max() < 120
        changed = data != images.astype(np.float32)
        assert changed.sum() == 2


class TestImages:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_binning_sums_counts_averages_haadf_and_keeps_everything_true(self, lazy):
        haadf, eds = pair(lazy=lazy)
        eds = spectral(eds)
        eds.gains = SHADOW
        for series in (haadf, eds):
            series.alignment = Alignment(
                across=np.arange(13.0), along=np.ones(13), axis_offset=3.0, rotation=0.0
            )
        small, coarse = haadf.bin(3), eds.bin(3)
        assert coarse._lazy == lazy
        assert coarse.data.dtype == np.float32
        blocks = np.asarray(eds.data).reshape(13, 2, 8, 3, 16, 3)
        np.testing.assert_allclose(np.asarray(coarse.data), blocks.sum(axis=(3, 5)))
        np.testing.assert_allclose(coarse.gross, np.asarray(coarse.data) + 18)
        np.testing.assert_allclose(
            np.asarray(small.data).mean(), np.asarray(haadf.data).mean(), rtol=1e-5
        )
        assert coarse.pixel_size == 6.0
        np.testing.assert_allclose(coarse.gains, SHADOW)
        np.testing.assert_allclose(coarse.alignment.across, np.arange(13) / 3)
        assert coarse.axis_offset == pytest.approx(1.0)
        edges = [s.axes_manager["x"].offset - s.axes_manager["x"].scale / 2 for s in (eds, coarse)]
        assert edges[0] == pytest.approx(edges[1])

    def test_binning_leaves_remainders_out_and_the_axis_in_place(self):
        haadf, _ = pair()
        odd = haadf.bin(5)
        assert odd.data.shape == (13, 4, 9)
        # 48 px hold 9 new ones of 5: the old middle, 23.5, is at (23.5 + 0.5) / 5 - 0.5 = 4.3 of
        # the new, whose middle is 4.
        assert odd.axis_offset == pytest.approx(0.3)
        again = haadf.bin(2).bin(2)
        np.testing.assert_allclose(again.data, haadf.bin(4).data, rtol=1e-5)
        assert again.axis_offset == pytest.approx(0.0)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_cropping_by_isig_keeps_what_belongs_to_the_pixels(self, lazy):
        eds = spectral(pair(lazy=lazy)[1])
        cut = eds.isig[10:40, 4:20]
        np.testing.assert_array_equal(cut.gross, eds.gross[..., 4:20, 10:40])
        assert cut.axis_offset == pytest.approx(23.5 - 10 - 14.5)
        np.testing.assert_allclose(
            cut.bin(2).gross,
            eds.gross[..., 4:20, 10:40].reshape(13, 2, 8, 2, 15, 2).sum(axis=(3, 5)),
        )

    @pytest.mark.parametrize("lazy", [False, True])
    def test_smoothing_says_so_and_leaves_gross_counts_raw(self, lazy):
        from scipy.ndimage import gaussian_filter

        eds = spectral(pair(lazy=lazy)[1])
        soft = eds.smooth(1.5)
        np.testing.assert_allclose(
            np.asarray(soft.data)[3, 1], gaussian_filter(np.asarray(eds.data)[3, 1], 1.5), rtol=1e-4
        )
        np.testing.assert_array_equal(soft.gross, eds.gross)
        assert soft.is_smoothed
        assert not eds.is_smoothed
        assert soft["Au"].is_smoothed
        assert soft._lazy == lazy
        np.testing.assert_allclose(
            np.asarray(soft.data).sum(), np.asarray(eds.data).sum(), rtol=1e-3
        )

    @pytest.mark.parametrize("lazy", [False, True])
    def test_threshold_is_one_level_for_each_element(self, lazy):
        eds = pair(lazy=lazy)[1]
        cut = eds.threshold_background(0.3)
        data, kept = np.asarray(eds.data), np.asarray(cut.data)
        for e in range(2):
            level = 0.3 * data[:, e].max()
            np.testing.assert_array_equal(kept[:, e], np.where(data[:, e] >= level, data[:, e], 0))
        assert cut._lazy == lazy

    def test_positions_with_too_many_counts(self):
        _, eds = pair()
        assert not eds.find_hot_pixels().any()
        eds.data[:, 1, 5, 40] += 6
        with pytest.warns(UserWarning, match="Ag 1"):
            hot = eds.find_hot_pixels()
        assert np.argwhere(hot).tolist() == [[1, 5, 40]]
        assert not spectral(eds).find_hot_pixels(threshold=60).any()

    def test_bad_input(self):
        haadf, _ = pair()
        for factor in (1, 2.0, 25):
            with pytest.raises(ValueError, match="whole number"):
                haadf.bin(factor)
        for sigma in (0, -1, np.nan):
            with pytest.raises(ValueError, match="positive"):
                haadf.smooth(sigma)
        with pytest.raises(ValueError, match="between 0 and 1"):
            haadf.threshold_background(1.0)


@pytest.mark.slow
def test_every_figure_of_preprocessing_draws():
    import io

    haadf, eds = pair(counts=20.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drift = eds.check_dose_drift(haadf)
    for figure in (
        plotting.plot_gains(eds.estimate_gains(haadf)),
        plotting.plot_gains(eds.estimate_gains(haadf, per_element=True)),
        plotting.plot_background(haadf.fit_background()),
        plotting.plot_tilt_ranking(haadf.rank_tilts()),
        plotting.plot_dose_drift(drift),
    ):
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=40)
        assert picture.getbuffer().nbytes > 2000
    assert (
        len(
            plotting.plot_gains(eds.estimate_gains(haadf, per_element=True))
            .axes[0]
            .get_legend()
            .get_texts()
        )
        == 2
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA / "idp_l2083").is_dir(), reason="the real lamella (idp_l2083) is not here"
)
def test_real_lamella_is_slightly_saturated_and_taken_as_a_lamella():
    haadf, _ = mt.load_tilt_series(sorted(DATA.glob("idp_l2083/*.bcf"))[:4], tilts="filename")
    with pytest.warns(UserWarning, match="saturated at 65535"):
        found = haadf.find_saturation()
    assert 1e-4 < found.fraction.mean() < 2e-3
    assert haadf.estimate_gains().model == "lamella"
    assert haadf.rank_tilts().suspicious.size == 0


NO_POSITIVE = [np.nan, np.inf, -1.0, 0, True, "8", None, [3.0]]
NO_WHOLE = [2.5, np.nan, 0, -3, True, "5", [3]]

POSITIVE = {
    "level": lambda haadf, eds, value: haadf.find_saturation(value),
    "threshold": lambda haadf, eds, value: haadf.remove_hot_pixels(value),
    "threshold of maps": lambda haadf, eds, value: eds.find_hot_pixels(value),
    "threshold of tilts": lambda haadf, eds, value: haadf.rank_tilts(value),
    "threshold of the dose": lambda haadf, eds, value: haadf.check_dose_drift(threshold=value),
    "sigma": lambda haadf, eds, value: haadf.smooth(value),
    "min_counts": lambda haadf, eds, value: eds.fit_response_ratios(haadf, min_counts=value),
    "min_counts of damping": lambda haadf, eds, value: haadf.estimate_damping(
        eds, min_counts=value
    ),
    "fraction": lambda haadf, eds, value: haadf.specimen_mask(value),
    "fraction of the background": lambda haadf, eds, value: haadf.threshold_background(value),
}
WHOLE = {
    "size": lambda haadf, eds, value: haadf.remove_hot_pixels(size=value),
    "size of maps": lambda haadf, eds, value: eds.find_hot_pixels(size=value),
    "block_size": lambda haadf, eds, value: eds.fit_response_ratios(haadf, block_size=value),
    "slices": lambda haadf, eds, value: eds.fit_response_ratios(haadf, slices=value),
    "smooth": lambda haadf, eds, value: haadf.estimate_gains(smooth=value if value != 0 else -1),
    "factor": lambda haadf, eds, value: haadf.bin(value),
}
LOOKING = {
    "remove_hot_pixels": lambda series: series.remove_hot_pixels(),
    "find_saturation": lambda series: series.find_saturation(),
    "fit_background": lambda series: series.fit_background(),
    "remove_background": lambda series: series.remove_background(),
    "specimen_mask": lambda series: series.specimen_mask(),
    "smooth": lambda series: series.smooth(1.0),
    "bin": lambda series: series.bin(2),
    "threshold_background": lambda series: series.threshold_background(),
    "estimate_gains": lambda series: series.estimate_gains("constant"),
    "rank_tilts": lambda series: series.rank_tilts(model="constant"),
    "estimate_damping": lambda series: series.estimate_damping(model="constant"),
}


class TestKeywords:
    """Numbers that are none are refused by name, whatever the method."""

    @pytest.fixture(scope="class")
    def series(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(5.0, (5, 16, 16))
        haadf = mt.TiltSeriesHAADF.from_images(40.0 * counts + 10, tilts=[-20, -10, 0, 10, 20])
        return haadf, mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=[-20, -10, 0, 10, 20])

    @pytest.mark.parametrize("name", POSITIVE)
    @pytest.mark.parametrize("value", NO_POSITIVE, ids=repr)
    def test_positive_numbers(self, series, name, value):
        if name == "level" and value is None:
            pytest.skip("None is the default")
        with pytest.raises(ValueError, match=rf"{name.split()[0]}=.* must be"):
            POSITIVE[name](*series, value)

    @pytest.mark.parametrize("name", WHOLE)
    @pytest.mark.parametrize("value", NO_WHOLE, ids=repr)
    def test_whole_numbers(self, series, name, value):
        with pytest.raises(ValueError, match=rf"{name.split()[0]}=.* must be"):
            WHOLE[name](*series, value)

    @pytest.mark.parametrize("value", [np.nan, -1.0, True, "1"], ids=repr)
    def test_numbers_by_element(self, series, value):
        haadf, eds = series
        with pytest.raises(ValueError, match="weights"):
            eds.estimate_gains(haadf, weights={"Au": value})

    def test_numpy_numbers_are_numbers(self, series):
        haadf, eds = series
        assert haadf.remove_hot_pixels(np.float32(8), np.int64(5)).history[-1]["size"] == 5
        assert eds.fit_response_ratios(haadf, block_size=np.int32(4)).block_size == 4


class TestValuesThatAreNotFinite:
    @pytest.mark.parametrize("name", LOOKING)
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_of_images(self, name, value):
        images = np.zeros((5, 32, 32))
        images[:, 8:24, 8:24] = 100 + np.random.default_rng(0).normal(0, 3, (5, 16, 16))
        haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-20, -10, 0, 10, 20])
        haadf.data[2, 9, 7] = value
        with pytest.raises(
            ValueError, match=r"(NaN|not positive|has the mean).*(replace|[Rr]epair|leave)"
        ):
            LOOKING[name](haadf)

    def test_of_maps(self):
        maps = np.random.default_rng(0).poisson(3.0, (3, 16, 16)).astype(float)
        eds = mt.TiltSeriesEDS.from_maps({"Au": maps}, tilts=[-10, 0, 10])
        eds.data[1, 0, 3, 4] = np.nan
        with pytest.raises(ValueError, match="NaN or infinite values.*replace"):
            eds.find_hot_pixels()

    def test_of_lazy_images_when_they_are_computed(self):
        haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 16, 16)), tilts=[-10, 0, 10])
        haadf.data[1, 3, 4] = np.nan
        lazy = haadf.as_lazy()
        for changed in (lazy.smooth(1.0), lazy.bin(2)):
            with pytest.raises(ValueError, match="NaN or infinite values"):
                changed.compute()
        with pytest.raises(ValueError, match="image at 0 degrees has 1 NaN"):
            lazy.remove_hot_pixels()
