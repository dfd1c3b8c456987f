# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise realisations: counts drawn anew around what a volume makes one expect."""

import numpy as np
import pytest
from series_pairs import QUIET, RATIOS, pair, spectral

import hyperspy_multitomo as mt
from hyperspy_multitomo.evidence.redraw import CountNoise, ImageNoise, Moments
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.methods.redrawing import Redrawing
from hyperspy_multitomo.tomography import net_variance

CUBE = QUIET | {"depth": None}
TILTS = np.linspace(-60, 60, 7)
NOISY = pytest.mark.filterwarnings("ignore:(R2 = |blocks of |the elements explain ):UserWarning")


@pytest.fixture(scope="module")
def series():
    haadf, eds = pair()
    return haadf.isig[:, 10:14], eds.isig[:, 10:14]


@pytest.fixture(scope="module")
def made(series):
    """Return a volume by SIRT with its realisations."""
    _, eds = series
    volume = eds.reconstruct_sirt(5, **CUBE)
    return volume, eds.realisations(volume, count=5, **QUIET)


def disc(size=12, slices=2):
    z, x = np.ogrid[:size, :size]
    inside = (z - (size - 1) / 2) ** 2 + (x - (size - 1) / 2) ** 2 < (0.4 * size) ** 2
    return np.repeat(inside[..., None], slices, axis=2).astype(np.float32)


class TestNoise:
    @pytest.mark.parametrize(("constant", "gain"), [(0.0, 20.0), (400.0, 0.0), (200.0, 10.0)])
    def test_of_images_is_found(self, constant, gain):
        rng = np.random.default_rng(0)
        signal = np.zeros((6, 64, 64), np.float32)
        signal[:, 10:40], signal[:, 40:54] = 200.0, 1000.0
        images = gain * rng.poisson(signal / gain) if gain else signal
        images = images + rng.normal(0, np.sqrt(constant), signal.shape)
        noise = ImageNoise.of(images)
        for level in (0.0, 200.0, 1000.0):
            expected = constant + gain * level
            assert noise.constant + noise.per_signal * level == pytest.approx(
                expected, rel=0.15, abs=1e-3 * gain * 1000
            )
        assert noise.nonnegative == (constant == 0)

    @pytest.mark.parametrize("nonnegative", [True, False])
    def test_of_images_is_drawn(self, nonnegative):
        noise = ImageNoise(50.0, 4.0, nonnegative)
        expected = np.full((1, 1, 300, 300), 30.0)
        drawn = noise.draw(expected, np.random.default_rng(0))
        assert drawn.mean() == pytest.approx(30, rel=0.01)
        assert drawn.var() == pytest.approx(50 + 4 * 30, rel=0.02)
        assert (drawn.min() >= 0) == nonnegative
        assert not noise.draw(0 * expected, np.random.default_rng(0)).any() or not nonnegative

    def test_images_without_noise_stay(self):
        noise = ImageNoise(0.0, 0.0, True)
        expected = np.arange(12.0).reshape(1, 1, 3, 4)
        assert np.array_equal(noise.draw(expected, np.random.default_rng(0)), expected)

    def test_of_net_counts_is_that_of_a_counted_background(self):
        rng = np.random.default_rng(0)
        gross = rng.poisson(6.0, (1, 9, 48, 48)).astype(float)
        recorded = gross - rng.poisson(3.0, gross.shape)
        noise = CountNoise.of(gross, recorded, np.ones((1, 9)))
        assert noise.factor[0, 0, 0, 0] == pytest.approx(np.sqrt(9 / 6), rel=0.05)
        expected = np.full(gross.shape, 6.0)
        drawn = rng.poisson(expected).astype(float)
        net = drawn - noise.background(drawn, expected, np.full(gross.shape, 3.0))
        assert net.mean() == pytest.approx(3.0, rel=0.02)
        assert net_variance(net, drawn).mean() == pytest.approx(9.0, rel=0.05)

    def test_moments(self):
        values = np.random.default_rng(0).normal(1e3, 1, (9, 4))
        moments = Moments()
        for one in values:
            moments.add(one)
        assert np.allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
        assert np.allclose(moments.sd, values.std(axis=0, ddof=1), rtol=1e-9)


class TestStandardDeviation:
    @pytest.mark.slow
    def test_of_a_linear_method_is_its_closed_form(self):
        """FBP is a matrix, so that the variance of a voxel is its squared row times the counts."""
        truth, size = 4 * disc(), 12
        A = mt.projector(mt.TiltGeometry(TILTS, size))
        counts = np.random.default_rng(0).poisson(A(truth)).transpose(0, 2, 1)
        eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=TILTS)
        volume = eds.reconstruct_fbp(**CUBE)
        found = eds.realisations(volume, count=200, **QUIET)
        expected = np.maximum(A(volume.array("element", "z", "x", "y")[0]), 0)
        rows = np.eye(7 * size, dtype=np.float32).reshape(7 * size, 7, size)
        impulses = mt.TiltSeriesEDS.from_maps(
            {"Au": rows.transpose(1, 0, 2)}, tilts=TILTS
        ).reconstruct_fbp(**CUBE)
        matrix = impulses.array("element", "z", "x", "y")[0]
        variance = np.tensordot(matrix**2, expected.reshape(7 * size, 2), 1)
        sd = found.sd.array("element", "z", "x", "y")[0]
        assert np.median(sd / np.sqrt(variance)) == pytest.approx(1, abs=0.02)
        mean = found.mean.array("element", "z", "x", "y")[0]
        linear = np.tensordot(matrix, expected.reshape(7 * size, 2), 1)
        assert np.abs(mean - linear).max() < 5 * np.sqrt(variance.max() / 200)
        assert np.allclose(found.bias.data, found.mean.data - volume.data, atol=1e-5)

    @pytest.mark.slow
    def test_is_that_of_repeated_series(self):
        truth = np.stack([0.6 * disc(24, 4), 0.3 * disc(24, 4)])
        expected = mt.projector(mt.TiltGeometry(TILTS, 24))(truth)
        rng, volumes, sds = np.random.default_rng(0), [], []
        for number in range(40):
            drawn = rng.poisson(expected).transpose(0, 1, 3, 2)
            eds = mt.TiltSeriesEDS.from_maps(dict(zip(RATIOS, drawn, strict=True)), tilts=TILTS)
            volume = eds.reconstruct_em(10, **CUBE)
            volumes.append(volume.data)
            if number < 3:
                sds.append(eds.realisations(volume, count=30, **QUIET).sd.data)
        sd, there = np.std(volumes, axis=0, ddof=1), disc(24, 4).transpose(0, 2, 1) > 0
        there = np.broadcast_to(there[:, None], sd.shape)
        ratio = np.sqrt(np.mean(np.square(sds), axis=0)[there].mean() / (sd[there] ** 2).mean())
        assert 0.9 < ratio < 1.12

    def test_of_haadf_images(self, series):
        haadf = series[0].deepcopy()
        rng = np.random.default_rng(0)
        haadf.data = (5 * rng.poisson(haadf.data / 5)).astype(np.float32)
        volume = haadf.reconstruct_fbp(**CUBE)
        found = haadf.realisations(volume, count=20, **QUIET)
        # A pixel of x signal has the variance 5 x, about.
        again = Redrawing.of(volume, haadf)
        assert again.maps.images.per_signal == pytest.approx(5, rel=0.35)
        assert found.mean.channels == ()
        assert "\nHAADF  " in str(found)
        mask = np.ones(volume.data.shape, bool)
        assert found.region(mask).sd[0] > 0


class TestRatios:
    @NOISY
    def test_those_that_were_fitted_are_fitted_again(self, series):
        haadf, eds = series[0], series[1].deepcopy()
        volume = eds.reconstruct_hebt(haadf, iterations=3, **CUBE)
        before = eds.response_ratios
        found = eds.realisations(volume, haadf, count=3, **QUIET)
        assert found.ratios.shape == (3, 2)
        assert (np.ptp(found.ratios, axis=0) > 0).all()
        assert np.allclose(found.ratios.mean(axis=0), before.values, rtol=0.2)
        assert np.array_equal(eds.response_ratios.values, before.values)
        assert found.made_of["ratios"] == "fitted again"

    @NOISY
    @pytest.mark.slow
    def test_blocks_of_a_series_that_was_binned_are_as_large_as_they_were(self, series):
        haadf, eds = series[0], series[1].deepcopy()
        eds.fit_response_ratios(haadf, block_size=6)
        eds, haadf = eds.bin(2), haadf.bin(2)
        volume = eds.reconstruct_hebt(haadf, iterations=3, **CUBE)
        again = Redrawing.of(volume, eds, haadf)
        assert again.refit["block_size"] == 3
        _, ratios = again.maker()(eds, haadf)
        assert np.allclose(ratios, eds.response_ratios.values, rtol=0.05)

    @NOISY
    @pytest.mark.slow
    def test_compositions_through_ratios_take_those_of_each(self, series):
        haadf, eds = series[0], series[1].deepcopy()
        volume = eds.reconstruct_hebt(haadf, iterations=3, **CUBE)
        found = eds.realisations(volume, haadf, count=2, **QUIET)
        how = {"beam_energy": 200.0, "xray_lines": ["Au_La", "Ag_La"]}
        mask = np.zeros((48, 4, 48), bool)
        mask[16:32, :, 16:32] = True
        composition = volume.quantify("model", through="ratios", mask=mask, **how)
        region = found.region(mask, composition)
        factors, used = composition.history[-1]["factors"], volume.response_ratios
        for k in range(2):
            scale = np.array(list(used.values())) / found.ratios[k]
            weights = [factors["Au"] * scale[0], factors["Ag"] * scale[1]]
            # Weight fractions are proportional to the counts over the factors.
            masses = found._each(k)[:, mask.swapaxes(1, 2)].sum(axis=1) / weights
            assert np.allclose(region.each[k], 100 * masses / masses.sum(), rtol=1e-4)

    def test_those_that_were_given_stay(self, series):
        haadf, eds = series
        volume = eds.reconstruct_hebt(haadf, iterations=3, ratios=RATIOS, rest=True, **CUBE)
        found = eds.realisations(volume, haadf, count=2, **QUIET)
        assert found.ratios is None
        assert found.made_of["ratios"] == "as given"
        assert found.mean.channels == ("Au", "Ag", "rest")

    @pytest.mark.parametrize("rest", [True, False])
    def test_the_haadf_is_their_sum(self, series, rest):
        haadf, eds = series
        volume = eds.reconstruct_hebt(haadf, iterations=3, ratios=RATIOS, rest=rest, **CUBE)
        array = volume.array("element", "z", "x", "y")
        seen = Redrawing.of(volume, eds, haadf).seen_by_haadf(array)
        assert np.allclose(seen, 9 * array[0] + 4 * array[1] + (array[2] if rest else 0), rtol=1e-5)

    @pytest.mark.slow
    def test_of_fused_with_its_power(self, series):
        haadf, eds = series
        volume = eds.reconstruct_fused(haadf, iterations=5, power=1.3, **CUBE)
        array = volume.array("element", "z", "x", "y")
        weights = volume.history[-1]["haadf_weights"]
        seen = Redrawing.of(volume, eds, haadf).seen_by_haadf(array)
        expected = weights["Au"] * array[0] ** 1.3 + weights["Ag"] * array[1] ** 1.3
        assert np.allclose(seen, expected, rtol=1e-4)


class TestRecipe:
    @pytest.mark.slow
    @NOISY
    def test_the_weight_that_was_chosen_is_used_again(self, series):
        haadf, eds = series
        volume = eds.reconstruct_tnv(haadf, weight="auto", iterations=20, **CUBE)
        again = Redrawing.of(volume, eds, haadf)
        assert again.call.recipe.weight == volume.history[-1]["weight"]
        assert isinstance(again.call.recipe.weight, float)

    @pytest.mark.slow
    def test_of_a_refit_is_a_refit(self, series):
        haadf, eds = series
        volume = eds.reconstruct_tnv(haadf, iterations=20, refit=True, **CUBE)
        again = Redrawing.of(volume, eds, haadf)
        assert again.call.recipe.refit
        same, _ = again.maker()(eds, haadf)
        assert np.array_equal(same, volume.array("element", "z", "x", "y"))

    def test_gross_counts_are_drawn(self, series):
        eds = spectral(pair()[1])
        record(eds, "window_share", np.ones((13, 2)), ("tilt", "element"))
        eds = eds.isig[:, 10:14]
        volume = eds.reconstruct_em(3, **CUBE)
        again = Redrawing.of(volume, eds)
        expected, _ = again.expected()
        assert expected.min() >= 2
        drawn = again.maps.drawn(expected, np.random.default_rng(0))
        assert np.array_equal(drawn.gross, np.rint(drawn.gross))
        assert drawn.gross.mean() == pytest.approx(expected.mean(), rel=0.02)

    def test_of_a_mask_and_a_start(self, series):
        _, eds = series
        mask = np.ones((48, 4, 48), bool)
        mask[:10] = False
        volume = eds.reconstruct_sirt(2, mask=mask, initial=np.ones((48, 2, 4, 48)), **CUBE)
        given = {"mask": mask, "initial": np.ones((48, 2, 4, 48))}
        found = eds.realisations(volume, count=2, **given, **QUIET)
        assert not found.sd.data[:10].any()
        with pytest.raises(ValueError, match="mask=.*pass it"):
            eds.realisations(volume, count=2, **QUIET)

    def test_a_series_is_binned_as_it_was_for_the_volume(self, series):
        _, eds = series
        volume = eds.bin(2).reconstruct_sirt(3, **CUBE)
        found = eds.realisations(volume, count=2, **QUIET)
        again = eds.bin(2).realisations(volume, count=2, **QUIET)
        assert np.array_equal(found.mean.data, again.mean.data)

    def test_lazy_series_and_volumes(self, series, made):
        _, eds = series
        volume = eds.as_lazy().reconstruct_sirt(5, **CUBE)
        found = eds.as_lazy().realisations(volume, count=2, **QUIET)
        again = eds.realisations(made[0], count=2, **QUIET)
        assert not found.mean._lazy
        assert np.allclose(found.mean.data, again.mean.data, rtol=1e-3, atol=1e-4)


class TestResult:
    def test_parts_are_those_of_each(self, made):
        volume, found = made
        each = np.array([found._each(k) for k in range(5)])
        parts = [one.array("element", "z", "x", "y") for one in (found.mean, found.sd, found.bias)]
        assert np.allclose(parts[0], each.mean(axis=0), rtol=1e-5, atol=1e-7)
        assert np.allclose(parts[1], each.std(axis=0, ddof=1), rtol=1e-4, atol=1e-6)
        array = volume.array("element", "z", "x", "y")
        assert np.allclose(parts[2], each.mean(axis=0) - array, rtol=1e-4, atol=1e-6)
        assert found.count == 5

    def test_regions(self, made):
        volume, found = made
        mask = np.zeros((48, 4, 48), bool)
        mask[20:24, 1:3, 22:30] = True
        region = found.region(mask)
        each = [found._each(k)[:, mask.swapaxes(1, 2)].mean(axis=1) for k in range(5)]
        assert np.allclose(region.sd, np.std(each, axis=0, ddof=1), rtol=1e-5)
        own = [volume[name].data[mask].mean() for name in ("Au", "Ag")]
        assert np.allclose(region.values, own, rtol=1e-5)
        assert np.allclose(region.bias, np.mean(each, axis=0) - own, rtol=1e-3)
        assert "noise only" in str(region)
        assert region.voxels == 64
        signal = volume["Au"] * 0
        signal.data[mask] = 1
        assert np.array_equal(found.region(signal).sd, region.sd)

    def test_composition_of_a_region(self, made):
        volume, found = made
        composition = volume.quantify("CL", factors={"Au": 2.0, "Ag": 1.0}, threshold=0.01)
        mask = composition["Au"].data + composition["Ag"].data > 0
        region = found.region(mask, composition)
        each = []
        for k in range(5):
            au, ag = found._each(k)[:, mask.swapaxes(1, 2)].sum(axis=1)
            each.append([100 * 2 * au / (2 * au + ag), 100 * ag / (2 * au + ag)])
        assert np.allclose(region.each, each, rtol=1e-4)
        means = volume.mean_composition(composition)
        assert np.allclose(region.values, [means["Au"], means["Ag"]], rtol=1e-5)
        assert region.unit == "weight percent"
        with pytest.raises(ValueError, match="quantify"):
            found.region(mask, volume)

    def test_errors_of_the_composition(self, series, made):
        volume, found = made
        composition = volume.quantify("CL", factors={"Au": 2.0, "Ag": 1.0}, threshold=0.01)
        errors = volume.composition_errors(composition, count_errors=found)
        same = volume.composition_errors(composition, count_errors=found.sd)
        assert np.array_equal(errors.data, same.data)
        assert errors.data.max() > 0
        other = series[1].reconstruct_sirt(6, **CUBE)
        composition = other.quantify("CL", factors={"Au": 2.0, "Ag": 1.0}, threshold=0.01)
        with pytest.raises(ValueError, match="another volume"):
            other.composition_errors(composition, count_errors=found)

    def test_it_says_noise_only(self, made, tmp_path):
        import hyperspy.api as hs

        _, found = made
        assert "noise only" in str(found)
        assert "alignment" in str(found)
        assert "noise only" in found.sd.quantity
        found.sd.save(tmp_path / "sd.hspy")
        step = hs.load(tmp_path / "sd.hspy").history[-1]
        assert step["step"] == "realisations"
        assert step["statistic"] == "sd"
        assert "noise only" in step["covers"]
        with pytest.raises(ValueError, match="not counts"):
            found.sd.quantify("CL", factors={"Au": 2.0, "Ag": 1.0})

    def test_figure(self, made):
        figure = made[1].plot()
        titles = [axes.get_title() for axes in figure.axes]
        assert "sd (noise only)" in titles
        assert "bias" in titles
        assert figure.get_suptitle() == "5 noise realisations"


class TestGoingOn:
    def test_a_checkpoint_goes_on_as_if_never_stopped(self, series, made, tmp_path):
        _, eds = series
        folder = tmp_path / "noise"
        eds.realisations(made[0], count=3, checkpoint=folder, **QUIET)
        times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        found = eds.realisations(made[0], count=5, checkpoint=folder, **QUIET)
        assert len(list(folder.iterdir())) == 5
        assert all(path.stat().st_mtime_ns == time for path, time in times.items())
        for name in ("mean", "sd", "bias"):
            assert np.array_equal(getattr(found, name).data, getattr(made[1], name).data)
        mask = np.ones((48, 4, 48), bool)
        assert np.array_equal(found.region(mask).sd, made[1].region(mask).sd)

    def test_that_of_others_is_refused(self, series, made, tmp_path):
        _, eds = series
        eds.realisations(made[0], count=2, checkpoint=tmp_path, **QUIET)
        with pytest.raises(ValueError, match="`seed` is 1 and was 0"):
            eds.realisations(made[0], count=2, seed=1, checkpoint=tmp_path, **QUIET)
        other = eds.reconstruct_sirt(4, **CUBE)
        with pytest.raises(ValueError, match="`volume` is"):
            eds.realisations(other, count=2, checkpoint=tmp_path, **QUIET)
        file = tmp_path / "file"
        file.write_text("")
        with pytest.raises(ValueError, match="folder"):
            eds.realisations(made[0], count=2, checkpoint=file, **QUIET)

    @pytest.mark.parametrize("done", [1, 3])
    def test_an_interrupt_keeps_what_was_done(self, series, made, done):
        _, eds = series
        number = []

        def interrupt(*_):
            number.append(1)
            if len(number) == done:
                raise KeyboardInterrupt

        if done < 2:
            with pytest.raises(KeyboardInterrupt):
                eds.realisations(made[0], count=5, show_progressbar=interrupt)
            return
        with pytest.warns(UserWarning, match="the 3 realisations that were done of 5"):
            found = eds.realisations(made[0], count=5, show_progressbar=interrupt)
        assert found.count == 3
        three = np.mean([made[1]._each(k) for k in range(3)], axis=0)
        assert np.allclose(found.mean.array("element", "z", "x", "y"), three, rtol=1e-5, atol=1e-7)

    def test_an_interrupted_run_is_not_taken(self, series, made, monkeypatch):
        from dataclasses import replace

        from hyperspy_multitomo.signals.methods import redrawing

        solve, number = redrawing.solve, []

        def interrupted(prepared, run):
            number.append(1)
            outcome = solve(prepared, run)
            course = {**outcome.course, "interrupted": len(number) == 3}
            return replace(outcome, course=course)

        monkeypatch.setattr(redrawing, "solve", interrupted)
        with pytest.warns(UserWarning, match="the 2 realisations that were done of 5"):
            found = series[1].realisations(made[0], count=5, **QUIET)
        assert found.count == 2

    def test_too_large_to_be_kept(self, series, made, monkeypatch):
        monkeypatch.setattr("hyperspy_multitomo.signals.methods.realisations._KEPT", 0)
        found = series[1].realisations(made[0], count=2, **QUIET)
        with pytest.raises(ValueError, match="checkpoint="):
            found.region(np.ones((48, 4, 48), bool))

    @pytest.mark.cluster
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_workers_make_the_same(self, series, made):
        distributed = pytest.importorskip("distributed", reason="dask.distributed is missing")
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
            found = series[1].realisations(made[0], count=3, **QUIET)
        again = series[1].realisations(made[0], count=3, **QUIET)
        assert np.allclose(found.sd.data, again.sd.data, rtol=1e-5, atol=1e-7)


class TestRefused:
    @pytest.mark.parametrize("count", [1, 0, 2.5])
    def test_count(self, series, made, count):
        with pytest.raises((ValueError, TypeError), match=f"count={count}"):
            series[1].realisations(made[0], count=count)

    def test_volume_of_another_series(self, made):
        other = pair(seed=1)[1].isig[:, 10:14]
        with pytest.raises(ValueError, match="images of the maps"):
            other.realisations(made[0])

    def test_part_of_a_volume(self, series, made):
        with pytest.raises(ValueError, match="a part of what was"):
            series[1].realisations(made[0].isig[4:])

    def test_volume_that_was_changed(self, series, made):
        composition = made[0].quantify("CL", factors={"Au": 2.0, "Ag": 1.0}, threshold=0.01)
        with pytest.raises(ValueError, match="changed by quantify"):
            series[1].realisations(composition)

    def test_mean_of_realisations(self, series, made):
        with pytest.raises(ValueError, match="changed by realisations"):
            series[1].realisations(made[1].mean)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_smoothed_and_net_maps(self, series):
        smoothed = series[1].smooth(1.0)
        volume = smoothed.reconstruct_sirt(2, **CUBE)
        with pytest.raises(ValueError, match="smoothed"):
            smoothed.realisations(volume)
        net = series[1] * 0.7
        volume = net.reconstruct_sirt(2, **CUBE)
        with pytest.raises(ValueError, match="no counts|not whole numbers|counts as recorded"):
            net.realisations(volume)

    def test_missing_and_surplus_haadf(self, series, made):
        haadf, eds = series
        with pytest.raises(ValueError, match="leave it out"):
            eds.realisations(made[0], haadf)
        volume = eds.reconstruct_hebt(haadf, iterations=2, ratios=RATIOS, **CUBE)
        with pytest.raises(ValueError, match="pass it"):
            eds.realisations(volume)

    def test_regions(self, made):
        with pytest.raises(ValueError, match="empty"):
            made[1].region(np.zeros((48, 4, 48), bool))
        with pytest.raises(ValueError, match="has the shape"):
            made[1].region(np.ones((48, 48, 4), bool))
