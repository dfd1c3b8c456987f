# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularised reconstructions on the signals: what enters the model, what the volumes hold and record, and bad input."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.inspection import plot_residuals
from hyperspy_multitomo.signals import memory
from hyperspy_multitomo.signals.keyed import record
from hyperspy_multitomo.tomography import DataTerm, TiltGeometry, calibrate, hebt, projector, run, variational

TILTS = np.arange(-60, 61, 15.0)
HAADF_TILTS = np.arange(-65, 66, 10.0)
QUIET = {"show_progressbar": False}
FEW = QUIET | {"iterations": 20}
SHARES = np.linspace(0.7, 0.9, 2 * len(TILTS)).reshape(len(TILTS), 2)
RATIOS = {"Au": 40.0, "Ag": 15.0}
# What each method asks of the regulariser.
METHODS = {
    "tv": dict(kind="tv", coupling="frobenius"),
    "tgv": dict(kind="tgv", coupling="frobenius"),
    "tnv": dict(kind="tv", coupling="nuclear"),
}


@pytest.fixture(scope="module")
def truth():
    """Two elements (element, z, x, y), in counts per nm."""
    volume = np.zeros((2, 24, 24, 5), np.float32)
    volume[0, 6:16, 6:17] = 2.0
    volume[1, 10:19, 10:20, 1:] = 1.0
    return volume


def geometry(tilts=TILTS, **kwds):
    return TiltGeometry(tilts, kwds.pop("detector_width", 24), pixel_size=0.5, **kwds)


def haadf_of(truth, tilts=TILTS, noise=2.0, lazy=False):
    images = np.tensordot(list(RATIOS.values()), projector(geometry(tilts))(truth), 1)
    images = images + np.random.default_rng(5).normal(0, noise, images.shape) + 20
    return mt.TiltSeriesHAADF.from_images(dask_if(lazy, images.transpose(0, 2, 1)), tilts=tilts, pixel_size=0.5)


def eds_of(truth, dose=1.0, lazy=False, cls=mt.TiltSeriesEDS, **kwds):
    """Counts as recorded."""
    counts = np.random.default_rng(0).poisson(dose * projector(geometry())(truth)).transpose(0, 1, 3, 2)
    maps = {name: dask_if(lazy, part) for name, part in zip(RATIOS, counts, strict=True)}
    return cls.from_maps(maps, tilts=TILTS, pixel_size=0.5, **kwds)


def spectral(truth, lazy=False):
    """Net counts, some of them negative, with the gross counts and the background beside them."""
    expected = SHARES.T[:, :, None, None] * projector(geometry())(truth)
    gross = np.random.default_rng(0).poisson(expected + 3.0)
    net = (gross - 3.0) / SHARES.T[:, :, None, None]
    maps = {name: dask_if(lazy, net[i].transpose(0, 2, 1)) for i, name in enumerate(RATIOS)}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS, pixel_size=0.5)
    for name, values in (("gross", gross), ("background", np.full_like(net, 3.0))):
        record(eds, name, values.transpose(1, 0, 3, 2).astype(np.float32), ("tilt", "element", "y", "x"))
    record(eds, "window_share", SHARES, ("tilt", "element"))
    return eds


@pytest.fixture(scope="module")
def few(truth):
    """Four times the counts, at every other tilt."""
    counts = np.random.default_rng(3).poisson(4 * projector(geometry(TILTS[::2]))(truth)).transpose(0, 1, 3, 2)
    return mt.TiltSeriesEDS.from_maps(dict(zip(RATIOS, counts, strict=True)), tilts=TILTS[::2], pixel_size=0.5)


def dask_if(lazy, array):
    if not lazy:
        return array
    import dask.array as da

    return da.from_array(array)


def arrays(volume):
    return volume.array(*(("element",) if volume.channels else ()), "z", "x", "y")


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def solved(terms, channels, iterations=20, **kwds):
    """The reconstruction from arrays that the signals should give."""
    found = calibrate(terms, channels, **kwds)
    return run(variational(found.terms, found.regulariser, found.scales), iterations).volume


class TestAgainstArrays:
    @pytest.mark.parametrize("method", METHODS)
    def test_gross_counts_background_share_and_gains(self, truth, method):
        eds = spectral(truth)
        eds.gains = gains = np.linspace(0.8, 1.2, 2 * len(TILTS)).reshape(len(TILTS), 2)
        gross, background = (values.transpose(1, 0, 3, 2) for values in (eds.gross, eds.background))
        term = DataTerm(projector(geometry()), gross, gains=(gains * SHARES).T, background=background)
        volume = getattr(eds, f"reconstruct_{method}")(**FEW)
        assert relative(arrays(volume), solved([term], 2, **METHODS[method])) < 1e-4

    @pytest.mark.parametrize("method", METHODS)
    def test_the_haadf_is_one_more_channel(self, truth, method):
        eds, haadf = eds_of(truth), haadf_of(truth, HAADF_TILTS)
        haadf.gains = gains = np.linspace(0.9, 1.1, len(HAADF_TILTS))
        counts, images = eds.array("element", "tilt", "x", "y"), haadf.array("tilt", "x", "y")
        other = DataTerm(projector(geometry(HAADF_TILTS)), images, first=2, gains=gains, weight=1 / 5.0)
        volume = getattr(eds, f"reconstruct_{method}")(haadf, haadf_gain=5.0, weight=2.0, **FEW)
        expected = solved([DataTerm(projector(geometry()), counts), other], 3, weight=2.0, **METHODS[method])
        assert relative(arrays(volume), expected) < 1e-4

    @pytest.mark.parametrize("method", METHODS)
    def test_hebt(self, truth, method):
        eds, haadf = eds_of(truth), haadf_of(truth, HAADF_TILTS)
        counts, images = eds.array("element", "tilt", "x", "y"), haadf.array("tilt", "x", "y")
        other = DataTerm(projector(geometry(HAADF_TILTS)), images, mix=[40.0, 15.0], weight=1 / 5.0)
        volume = eds.reconstruct_hebt(haadf, regulariser=method, ratios=RATIOS, haadf_gain=5.0, tolerance=0, **FEW)
        expected = solved([DataTerm(projector(geometry()), counts), other], 2, **METHODS[method])
        assert relative(arrays(volume), expected) < 1e-4
        assert volume.response_ratios == RATIOS

    def test_keywords_reach_the_regulariser(self, truth):
        eds = eds_of(truth)
        terms = [DataTerm(projector(geometry()), eds.array("element", "tilt", "x", "y"))]
        apart = eds.reconstruct_tv(coupled=False, dimensions=2, **FEW)
        assert relative(arrays(apart), solved(terms, 2, coupling="uncoupled", dimensions=2)) < 1e-4
        slopes = eds.reconstruct_tgv(coupled="nuclear", alpha0=2.0, **FEW)
        assert relative(arrays(slopes), solved(terms, 2, kind="tgv", coupling="nuclear", alpha0=2.0)) < 1e-4

    def test_least_squares_takes_net_counts_by_their_noise(self, truth):
        eds = spectral(truth)
        net = eds.array("element", "tilt", "x", "y")
        assert net.min() < 0
        volume = eds.reconstruct_tv(data_term="least_squares", **FEW)
        told = volume.history[-1]["data_terms"]["maps"]
        assert told["discrepancy"] == "ls"
        spread = (eds.gross / SHARES[:, :, None, None] ** 2).mean(axis=(0, 2, 3))
        weight = 1 / spread
        expected = solved([DataTerm(projector(geometry()), net, discrepancy="ls", weight=weight)], 2)
        assert relative(arrays(volume), expected) < 0.15  # the noise is measured there
        smoothed = eds.smooth(1.0).reconstruct_tv(data_term="least_squares", **FEW)
        np.testing.assert_allclose(smoothed.history[-1]["data_terms"]["maps"]["weight"], weight, rtol=0.01)

    @pytest.mark.parametrize("method", ["tv", "tgv"])
    def test_images_alone(self, truth, method):
        haadf = haadf_of(truth)
        term = DataTerm(projector(geometry()), haadf.array("tilt", "x", "y"), background=20.0, weight=1 / 3.0)
        volume = getattr(haadf, f"reconstruct_{method}")(haadf_gain=3.0, background=20.0, **FEW)
        assert relative(arrays(volume), solved([term], 1, **METHODS[method])[0]) < 1e-4
        assert volume.quantity == "HAADF signal / nm"
        assert volume.residuals["haadf"].shape == volume.residuals["objective"].shape == (2,)

    def test_mask_start_and_constraint(self, truth):
        eds = eds_of(truth)
        mask = np.zeros((24, 5, 24), bool)
        mask[4:20] = True
        volume = eds.reconstruct_tv(mask=mask, **FEW)
        assert not volume.data[~mask.any(axis=(1, 2))].any()
        assert volume.history[-1]["mask"] == "given"
        begun = eds.reconstruct_tv(initial=volume, **(FEW | {"iterations": 0}))
        np.testing.assert_allclose(begun.data, volume.data, rtol=1e-5)
        assert eds.reconstruct_tv(nonnegative=False, weight=0.1, **FEW).data.min() < 0 <= volume.data.min()


class TestVolumes:
    def test_the_haadf_is_a_channel_and_no_element(self, truth):
        volume = eds_of(truth).reconstruct_tnv(haadf_of(truth), **FEW)
        assert volume.channels == ("Au", "Ag", "HAADF")
        assert volume.elements == ("Au", "Ag")
        assert volume.data.shape == (24, 3, 5, 24)
        assert volume["HAADF"].data.shape == (24, 5, 24)
        assert volume.quantity == "counts / nm"
        percent = volume.quantify("CL", {"Au": 1.0, "Ag": 1.5})
        assert percent.channels == ("Au", "Ag")

    def test_the_sum_of_a_volume_is_that_of_the_counts(self, truth):
        eds = eds_of(np.repeat(truth, 2, axis=3))
        for method in METHODS:
            volume = getattr(eds, f"reconstruct_{method}")(**(FEW | {"iterations": 200}), weight=0.1)
            counts = eds.data.sum(axis=(0, 2, 3)) / len(TILTS)
            np.testing.assert_allclose(0.5 * volume.data.sum(axis=(0, 2, 3)), counts, rtol=0.06)

    def test_what_the_maps_do_not_explain(self, truth):
        eds, haadf = eds_of(truth).inav[:1], haadf_of(truth)
        volume = eds.reconstruct_hebt(haadf, ratios={"Au": 40.0}, rest=True, regulariser="tv", **QUIET)
        assert volume.channels == ("Au", "rest")
        assert volume.response_ratios == {"Au": 40.0, "rest": 1.0}
        where = truth[1] > truth[0]
        assert volume["rest"].array("z", "x", "y")[where].mean() > 3 * volume["rest"].array("z", "x", "y")[~where].mean()

    def test_ratios_are_fitted_where_there_are_none(self, truth):
        truth = np.repeat(truth, 6, axis=3)
        eds = eds_of(truth, dose=3.0)
        volume = eds.reconstruct_hebt(haadf_of(truth), regulariser="tnv", **FEW)
        assert volume.response_ratios["Au"] == eds.response_ratios["Au"]

    def test_more_dose_is_more_of_the_same(self, truth):
        """Three times the counts, drawn apart: three times the volume, but for noise."""
        truth = np.repeat(truth, 2, axis=3)
        few, many = (eds_of(truth, dose).reconstruct_tv(**(FEW | {"iterations": 150})) for dose in (400.0, 1200.0))
        assert relative(many.data / 3, few.data) < 0.05

    def test_eels(self, truth):
        expected = eds_of(truth).reconstruct_tv(**FEW)
        volume = eds_of(truth, cls=mt.TiltSeriesEELS).reconstruct_tv(**FEW)
        np.testing.assert_array_equal(volume.data, expected.data)

    def test_maps_of_larger_pixels(self, truth):
        """The volume has the voxels of the HAADF."""
        truth = np.repeat(truth, 2, axis=3)[..., :8]
        haadf = haadf_of(truth)
        counts = np.random.default_rng(1).poisson(4 * projector(geometry())(truth))
        counts = counts.reshape(2, len(TILTS), 12, 2, 4, 2).sum(axis=(3, 5)).transpose(0, 1, 3, 2)
        eds = mt.TiltSeriesEDS.from_maps(dict(zip(RATIOS, counts, strict=True)), tilts=TILTS, pixel_size=1.0)
        for axis in ("x", "y"):
            eds.axes_manager[axis].offset = 0.25
        for volume in (eds.reconstruct_tv(haadf, **FEW), eds.reconstruct_hebt(haadf, regulariser="tv", ratios=RATIOS, **FEW)):
            assert volume.data.shape[0] == volume.data.shape[-1] == 24
            assert volume.data.shape[2] == 8
            assert volume.pixel_size == 0.5
        volume = eds.reconstruct_tv(haadf, **(FEW | {"iterations": 150}))
        inside = truth[0] > 0
        assert arrays(volume)[0][inside].mean() == pytest.approx(16 * 2.0, rel=0.1)

    def test_alignment_moves_counts_and_background(self, truth):
        """Whole pixels along the axis: the volume moves, and nothing else."""
        eds = spectral(truth)
        expected = eds.reconstruct_tv(dimensions=2, **FEW)
        eds.align(Alignment(np.zeros(len(TILTS)), np.ones(len(TILTS))))
        moved = eds.reconstruct_tv(dimensions=2, **FEW)
        scale = expected.history[-1]["calibration"]
        assert scale.keys() == moved.history[-1]["calibration"].keys()
        assert relative(moved.data[:, :, 1:], expected.data[:, :, :-1]) < 0.1


class TestHistory:
    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_saved_is_loaded(self, truth, tmp_path, suffix):
        volume = eds_of(truth).reconstruct_tgv(haadf_of(truth), weight=2.0, **(FEW | {"iterations": 30}))
        volume.save(tmp_path / f"volume{suffix}")
        again = hs.load(tmp_path / f"volume{suffix}")
        assert again.history == volume.history
        assert again.channels == volume.channels
        for name, values in volume.residuals.items():
            np.testing.assert_array_equal(again.residuals[name], values)

    def test_what_made_the_volume(self, truth):
        eds, haadf = eds_of(truth), haadf_of(truth)
        haadf.gains = np.ones(len(TILTS))
        volume = eds.reconstruct_tgv(haadf, weight=2.0, alpha0=3.0, coupled=False, **(FEW | {"iterations": 30}))
        step = volume.history[-1]
        told = {name: step[name] for name in ("step", "weight", "alpha0", "coupled", "dimensions", "data_term", "iterations")}
        assert told == {
            "step": "reconstruct_tgv", "weight": 2.0, "alpha0": 3.0, "coupled": False, "dimensions": 3, "data_term": "poisson",
            "iterations": 30,
        }  # fmt: skip
        assert step["calibration"]
        assert step["data_terms"]["maps"]["discrepancy"] == "kl"
        assert step["data_terms"]["haadf"]["weight"] > 0
        assert step["haadf_gains"] == [1.0] * len(TILTS)
        assert step["haadf_history"] == haadf.history

    def test_residuals_of_every_tenth_iteration(self, truth):
        volume = eds_of(truth).reconstruct_tv(haadf_of(truth), tolerance=None, **(FEW | {"iterations": 47}))
        found = volume.residuals
        np.testing.assert_array_equal(found["iteration"], [10, 20, 30, 40])
        assert found["eds"].shape == (4, 3)
        assert np.isnan(found["eds"][:, 2]).all()
        assert not np.isnan(found["eds"][:, :2]).any()
        assert found["haadf"].shape == found["objective"].shape == (4,)
        assert found["objective"][-1] < found["objective"][0]
        assert volume.history[-1]["iterations"] == 47

    def test_the_objective_ends_the_run(self, truth):
        volume = eds_of(truth).reconstruct_tv(tolerance=1e-3, **QUIET)
        step = volume.history[-1]
        assert step["stopped_by"] == "tolerance"
        assert step["iterations"] < 500
        last, now = volume.residuals["objective"][-2:]
        assert abs(now - last) < 1e-3 * abs(now)
        assert eds_of(truth).reconstruct_tv(tolerance=None, **FEW).history[-1]["stopped_by"] == "iterations"

    def test_other_methods_number_their_iterations_too(self, truth):
        found = eds_of(truth).reconstruct_sirt(3, **QUIET).residuals
        np.testing.assert_array_equal(found["iteration"], [1, 2, 3])


class TestInterruption:
    def test_the_current_volume_is_returned(self, truth, monkeypatch):
        from contextlib import contextmanager

        def interrupt(iterate):
            if iterate.iteration == 12:
                raise KeyboardInterrupt

        @contextmanager
        def bar(*_):
            yield interrupt

        eds = eds_of(truth)
        expected = eds.reconstruct_tv(tolerance=None, **(FEW | {"iterations": 12}))
        monkeypatch.setattr("hyperspy_multitomo.signals.reconstruct.progress_bar", bar)
        with pytest.warns(UserWarning, match="this is iteration 12 of 20"):
            volume = eds.reconstruct_tv(tolerance=None, **FEW)
        np.testing.assert_allclose(volume.data, expected.data, rtol=1e-5)
        step = volume.history[-1]
        assert (step["stopped_by"], step["iterations"]) == ("interrupt", 12)
        assert len(volume.residuals["iteration"]) == 1


class TestPlot:
    def test_curves_lie_at_the_iterations_that_were_measured(self, truth):
        volume = eds_of(truth).reconstruct_tv(haadf_of(truth), tolerance=None, **(FEW | {"iterations": 40}))
        found = volume.residuals
        curves = {name: found["eds"][:, i] for i, name in enumerate(volume.elements)} | {"HAADF": found["haadf"]}
        left, right = plot_residuals(curves, found["iteration"], objective=found["objective"]).axes
        for line in left.lines:
            np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30, 40])
        np.testing.assert_array_equal(right.lines[0].get_xdata(), [10, 20, 30])
        assert (np.diff(right.lines[0].get_ydata()) < 0).all()
        with pytest.raises(ValueError, match="there are 3 iterations"):
            plot_residuals(curves, [10, 20, 30])


class TestNoise:
    def test_images_with_negative_values_have_an_even_noise(self, truth):
        haadf = haadf_of(truth)
        haadf.data -= 25
        eds = eds_of(truth)
        assert eds.reconstruct_tv(haadf, **FEW).history[-1]["data_terms"]["haadf"]["discrepancy"] == "ls"
        assert haadf.reconstruct_tv(**FEW).history[-1]["data_terms"]["maps"]["discrepancy"] == "ls"
        with pytest.raises(ValueError, match=r"negative values, down to -.*pass haadf_term='least_squares'"):
            eds.reconstruct_tv(haadf, haadf_term="poisson", **FEW)
        with pytest.raises(ValueError, match=r"pass data_term='least_squares'"):
            haadf.reconstruct_tv(data_term="poisson", **FEW)

    def test_noisier_images_weigh_less(self, truth):
        eds = eds_of(truth)
        weights = [
            eds.reconstruct_tv(haadf_of(truth, noise=noise), **FEW).history[-1]["data_terms"]["haadf"]["weight"]
            for noise in (5.0, 20.0)
        ]
        assert weights[0] > 5 * weights[1]

    def test_a_channel_without_counts(self, truth):
        empty = truth * np.array([1, 0], np.float32)[:, None, None, None]
        for call in (
            lambda eds: eds.reconstruct_tv(**FEW),
            lambda eds: eds.reconstruct_tnv(haadf_of(truth), **FEW),
            lambda eds: eds.reconstruct_tgv(data_term="least_squares", **FEW),
            lambda eds: eds.reconstruct_hebt(haadf_of(truth), ratios={"Au": 40.0, "Ag": 0.0}, regulariser="tv", **FEW),
        ):
            with pytest.warns(UserWarning, match="no counts of Ag anywhere"):
                volume = call(eds_of(empty))
            assert np.isfinite(volume.data).all()
            assert np.abs(volume["Ag"].data).max() <= 1e-3 * volume["Au"].data.max()

    def test_whole_counts_are_not_remarked_upon(self, truth, recwarn):
        eds_of(truth).reconstruct_tv(**FEW)
        spectral(truth).reconstruct_tv(**FEW)
        spectral(truth).smooth(1.0).reconstruct_tv(**FEW)
        assert not [w for w in recwarn if "no counts as recorded" in str(w.message)]

    def test_other_values_are(self, truth):
        eds = eds_of(truth)
        scaled = mt.TiltSeriesEDS.from_maps({"Au": 0.3 * eds["Au"].data}, tilts=TILTS)
        with pytest.warns(UserWarning, match="no counts as recorded") as found:
            scaled.reconstruct_tv(**FEW)
        assert len([w for w in found if "no counts" in str(w.message)]) == 1
        with pytest.warns(UserWarning, match="no counts as recorded"):
            eds.smooth(1.0).reconstruct_tv(data_term="least_squares", **FEW)


class TestLazy:
    @pytest.mark.parametrize("method", METHODS)
    def test_lazy_equals_eager(self, truth, method):
        truth = np.tile(truth, (1, 1, 1, 14))
        options = FEW | {"dimensions": 2, "tolerance": None}
        eager, lazy = (
            getattr(spectral(truth, lazy), f"reconstruct_{method}")(haadf_of(truth, HAADF_TILTS, lazy=lazy), **options)
            for lazy in (False, True)
        )
        assert lazy._lazy
        assert lazy.channels == eager.channels
        assert lazy.history[-1]["calibration"] == eager.history[-1]["calibration"]
        assert relative(lazy.data.compute(), eager.data) < 1e-4

    def test_images_and_hebt(self, truth):
        truth = np.tile(truth, (1, 1, 1, 14))
        options = FEW | {"dimensions": 2, "tolerance": None}
        images = [haadf_of(truth, lazy=lazy).reconstruct_tv(**options).data for lazy in (False, True)]
        assert relative(images[1].compute(), images[0]) < 1e-4
        options |= {"regulariser": "tv", "ratios": RATIOS, "tolerance": 0, "iterations": 60}
        maps = [eds_of(truth, lazy=lazy).reconstruct_hebt(haadf_of(truth, lazy=lazy), **options).data for lazy in (False, True)]
        assert relative(maps[1].compute(), maps[0]) < 1e-3  # steps are those of each slab

    def test_three_dimensions_need_all_slices(self, truth):
        with pytest.raises(ValueError, match=r"pass dimensions=2.*compute\(\)"):
            eds_of(truth, lazy=True).reconstruct_tv(**FEW)


class TestFormsOfHEBT:
    def test_plain_as_ever(self, truth):
        eds, haadf = eds_of(truth), haadf_of(truth)
        A = projector(geometry())
        maps, images = eds.array("element", "tilt", "x", "y"), haadf.array("tilt", "x", "y")
        volume = eds.reconstruct_hebt(haadf, ratios=RATIOS, **QUIET)
        assert relative(arrays(volume), run(hebt(A, maps, images, [40.0, 15.0], alpha=0.7), 100).volume) < 1e-5
        assert volume.history[-1]["alpha"] == 0.7
        volume = eds.reconstruct_hebt(haadf, 0.5, 10, ratios=RATIOS, weighting="squared", relaxation=0.8, **QUIET)
        other = hebt(A, maps, images, [40.0, 15.0], alpha=0.5, weighting="squared", relaxation=0.8)
        assert relative(arrays(volume), run(other, 10).volume) < 1e-5

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"data_term": "poisson"}, r"data_term= .*pass regulariser='tv', 'tgv' or 'tnv'"),
            ({"weight": 2.0, "haadf_gain": 3.0}, r"haadf_gain=, weight= .*pass regulariser="),
            ({"regulariser": "tv", "alpha": 0.7}, r"alpha= has no meaning with regulariser='tv'"),
            ({"regulariser": "tv", "stopping": "discrepancy", "noise": 1.0}, "stopping=, noise= has no meaning"),
            ({"regulariser": "tv", "weighting": "sirt"}, "weighting= has no meaning"),
            ({"regulariser": "tv", "alpha0": 4.0}, "alpha0= has no meaning"),
            ({"regulariser": "tnv", "coupled": True}, "coupled= has no meaning"),
            ({"regulariser": "l1"}, "must be 'tv', 'tgv' or 'tnv'"),
        ],
    )
    def test_keywords_of_the_other_form(self, truth, keywords, message):
        with pytest.raises(ValueError, match=message):
            eds_of(truth).reconstruct_hebt(haadf_of(truth), ratios=RATIOS, **keywords, **QUIET)


class TestFused:
    """Maps at a few tilts, images at many."""

    def images(self, truth, power=1.0):
        signal = np.tensordot(list(RATIOS.values()), projector(geometry(HAADF_TILTS))(np.power(truth, power)), 1)
        return mt.TiltSeriesHAADF.from_images(signal.transpose(0, 2, 1), tilts=HAADF_TILTS, pixel_size=0.5)

    def test_weights_are_found_and_given(self, truth, few):
        haadf = self.images(truth)
        volume = few.reconstruct_fused(haadf, dimensions=2, **(FEW | {"iterations": 100}))
        assert volume.channels == ("Au", "Ag")
        step = volume.history[-1]
        assert (step["step"], step["power"], step["regulariser"]) == ("reconstruct_fused", 1.0, "tv")
        for name, weight in step["haadf_weights"].items():
            assert weight == pytest.approx(RATIOS[name] / 4, rel=0.25)
        assert volume.response_ratios == step["haadf_weights"]
        given = few.reconstruct_fused(haadf, haadf_weights={"Ag": 1.5, "Au": 4.0}, dimensions=2, **FEW)
        weights = given.history[-1]["haadf_weights"]
        assert weights["Au"] / weights["Ag"] == pytest.approx(4 / 1.5)
        assert weights["Au"] == pytest.approx(10.0, rel=0.15)

    @pytest.mark.parametrize("regulariser", METHODS)
    def test_the_images_help(self, truth, few, regulariser):
        """Absolute scale kept: the error is that of counts per nm."""
        options = {"iterations": 150, "dimensions": 2} | QUIET
        alone = getattr(few, f"reconstruct_{regulariser}")(**options)
        both = few.reconstruct_fused(self.images(truth), regulariser=regulariser, **options)
        expected = (4 * truth).transpose(1, 0, 3, 2)
        assert relative(both.data, expected) < 0.9 * relative(alone.data, expected)

    def test_power(self, truth, few):
        options = {"iterations": 150, "dimensions": 2} | QUIET
        haadf = self.images(truth, 1.6)
        volume = few.reconstruct_fused(haadf, power=1.6, **options)
        expected = (4 * truth).transpose(1, 0, 3, 2)
        assert relative(volume.data, expected) < relative(few.reconstruct_tv(**options).data, expected)
        assert volume.response_ratios is None
        for name, weight in volume.history[-1]["haadf_weights"].items():
            assert weight == pytest.approx(RATIOS[name] / 4**1.6, rel=0.4)

    def test_lazy_equals_eager(self, truth, few):
        truth = np.tile(truth, (1, 1, 1, 14))
        haadf, eds = self.images(truth), eds_of(truth, 4.0)
        options = {"iterations": 60, "dimensions": 2, "tolerance": None} | QUIET
        eager, lazy = eds.reconstruct_fused(haadf, **options), eds.as_lazy().reconstruct_fused(haadf, **options)
        assert lazy._lazy
        assert lazy.history[-1]["haadf_weights"] == eager.history[-1]["haadf_weights"]
        assert relative(lazy.data.compute(), eager.data) < 1e-3

    def test_refused(self, truth, few):
        haadf = self.images(truth)
        for keywords, message in (
            ({"power": 0.9}, "`power` is 0.9"),
            ({"haadf_weights": {"Au": 1.0}}, "for Ag"),
            ({"haadf_weights": {"Au": -1.0, "Ag": 1.0}}, "none below 0"),
            ({"regulariser": "l1"}, "must be 'tv', 'tgv' or 'tnv'"),
        ):
            with pytest.raises(ValueError, match=message):
                few.reconstruct_fused(haadf, **keywords, **FEW)


class TestBadInput:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"weight": 0}, "weight=0 must be a positive number"),
            ({"weight": -1.0}, "weight=-1.0 must be a positive number"),
            ({"weight": np.nan}, "weight=nan must be a positive number"),
            ({"mu": {"Au": 0.01, "Ag": -0.01}}, "positive numbers"),
            ({"mu": [0.01]}, "one number for each of Au, Ag, in this order"),
            ({"mu": {"Au": 0.01}}, "mu holds Au; expected one number for each of Au, Ag"),
            ({"mu": [0.01, 0.02], "weight": 2.0}, "pass one of them"),
            ({"dimensions": 1}, "dimensions=1 must be 3, or 2"),
            ({"coupled": "frobenius"}, "True, False or 'nuclear'"),
            ({"data_term": "huber"}, "'poisson' or 'least_squares'"),
            ({"haadf_term": "kl"}, "'poisson' or 'least_squares'"),
            ({"haadf_gain": 0.0}, "haadf_gain=0.0 must be a positive number"),
            ({"iterations": -1}, "0 or more"),
            ({"tolerance": -1.0}, "expected a positive number"),
            ({"background": -1.0}, "from 0 up"),
            ({"background": np.ones(4)}, "one for each tilt"),
        ],
    )
    def test_keywords(self, truth, keywords, message):
        with pytest.raises(ValueError, match=message):
            eds_of(truth).reconstruct_tv(**keywords, **QUIET)

    def test_alpha0(self, truth):
        with pytest.raises(ValueError, match="alpha0=0 must be a positive number"):
            eds_of(truth).reconstruct_tgv(alpha0=0, **QUIET)

    def test_negative_counts(self, truth):
        bare = mt.TiltSeriesEDS.from_maps({"Au": spectral(truth)["Au"].data}, tilts=TILTS)
        with pytest.raises(ValueError, match=r"no gross counts beside them.*elemental_maps.*data_term='least_squares'"):
            bare.reconstruct_tv(**FEW)

    def test_a_single_tilt(self, truth):
        with pytest.raises(ValueError, match="at least two tilts"):
            haadf_of(truth).inav[3:4].reconstruct_tv(**FEW)
        with pytest.raises(ValueError, match="HAADF series has a single tilt"):
            eds_of(truth).reconstruct_tv(haadf_of(truth).inav[3:4], **FEW)

    def test_data_that_are_not_finite(self, truth):
        eds, haadf = eds_of(truth), haadf_of(truth)
        eds.data[2, 0, 1, 1] = np.nan
        with pytest.raises(ValueError, match="the EDS series has 1 NaN"):
            eds.reconstruct_tv(**FEW)
        haadf.data[:, 1, 1] = np.inf
        with pytest.raises(ValueError, match="the HAADF series has"):
            eds_of(truth).reconstruct_tv(haadf, **FEW)

    def test_nothing_in_the_images(self, truth):
        haadf = haadf_of(truth)
        haadf.data[:] = 0
        with pytest.raises(ValueError, match="expected signal above 0"):
            haadf.reconstruct_tv(**FEW)

    def test_another_field_of_view(self, truth):
        with pytest.raises(ValueError, match="px along y"):
            eds_of(truth).reconstruct_tv(haadf_of(truth).isig[:, :3], **FEW)
        with pytest.raises(TypeError, match="must be a TiltSeriesHAADF"):
            eds_of(truth).reconstruct_tv(eds_of(truth), **FEW)

    def test_memory_that_would_not_suffice(self, truth, monkeypatch):
        monkeypatch.setattr(memory, "available_memory", lambda: 1_500_000)
        eds, haadf = eds_of(truth), haadf_of(truth)
        eds.reconstruct_tv(**FEW)
        with pytest.raises(MemoryError, match=r"3 channels needs about .* GB and 0.0015 GB.*crop or bin.*reconstruct_tv or"):
            eds.reconstruct_tgv(haadf, **FEW)


def test_available_memory_is_that_of_the_machine():
    available = memory.available_memory()
    assert available is None or 1e7 < available < 1e14
