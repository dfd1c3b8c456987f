# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularised reconstructions on the signals:
what enters the model, and what the volumes hold and record."""

import hyperspy.api as hs
import numpy as np
import pytest
from regularised_series import (
    FEW,
    HAADF_TILTS,
    METHODS,
    QUIET,
    RATIOS,
    SHARES,
    TILTS,
    arrays,
    eds_of,
    geometry,
    haadf_of,
    relative,
    solved,
    spectral,
    two_elements,
)

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.inspection import plot_residuals
from hyperspy_multitomo.tomography import DataTerm, projector


@pytest.fixture(scope="module")
def truth():
    return two_elements()


class TestAgainstArrays:
    @pytest.mark.parametrize("method", METHODS)
    def test_gross_counts_background_share_and_gains(self, truth, method):
        eds = spectral(truth)
        eds.gains = gains = np.linspace(0.8, 1.2, 2 * len(TILTS)).reshape(len(TILTS), 2)
        gross, background = (values.transpose(1, 0, 3, 2) for values in (eds.gross, eds.background))
        term = DataTerm(
            projector(geometry()), gross, gains=(gains * SHARES).T, background=background
        )
        volume = getattr(eds, f"reconstruct_{method}")(**FEW)
        assert relative(arrays(volume), solved([term], 2, **METHODS[method])) < 1e-4

    @pytest.mark.parametrize("method", METHODS)
    def test_the_haadf_is_one_more_channel(self, truth, method):
        eds, haadf = eds_of(truth), haadf_of(truth, HAADF_TILTS)
        haadf.gains = gains = np.linspace(0.9, 1.1, len(HAADF_TILTS))
        counts, images = eds.array("element", "tilt", "x", "y"), haadf.array("tilt", "x", "y")
        other = DataTerm(
            projector(geometry(HAADF_TILTS)), images, first=2, gains=gains, weight=1 / 5.0
        )
        volume = getattr(eds, f"reconstruct_{method}")(haadf, haadf_gain=5.0, weight=2.0, **FEW)
        expected = solved(
            [DataTerm(projector(geometry()), counts), other], 3, weight=2.0, **METHODS[method]
        )
        assert relative(arrays(volume), expected) < 1e-4

    @pytest.mark.parametrize("method", METHODS)
    def test_hebt(self, truth, method):
        eds, haadf = eds_of(truth), haadf_of(truth, HAADF_TILTS)
        counts, images = eds.array("element", "tilt", "x", "y"), haadf.array("tilt", "x", "y")
        other = DataTerm(projector(geometry(HAADF_TILTS)), images, mix=[40.0, 15.0], weight=1 / 5.0)
        volume = eds.reconstruct_hebt(
            haadf, regulariser=method, ratios=RATIOS, haadf_gain=5.0, tolerance=0, **FEW
        )
        expected = solved([DataTerm(projector(geometry()), counts), other], 2, **METHODS[method])
        assert relative(arrays(volume), expected) < 1e-4
        assert volume.response_ratios == RATIOS

    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_a_single_slice_has_two_dimensions(self, truth, method):
        """And is as smooth as those."""
        one, haadf = eds_of(truth).isig[:, 2:3], haadf_of(truth).isig[:, 2:3]
        volumes = [
            getattr(one, f"reconstruct_{method}")(haadf, dimensions=n, **FEW).data for n in (2, 3)
        ]
        assert relative(*volumes) < 1e-5

    def test_keywords_reach_the_regulariser(self, truth):
        eds = eds_of(truth)
        terms = [DataTerm(projector(geometry()), eds.array("element", "tilt", "x", "y"))]
        apart = eds.reconstruct_tv(coupled=False, dimensions=2, **FEW)
        assert relative(arrays(apart), solved(terms, 2, coupling="uncoupled", dimensions=2)) < 1e-4
        slopes = eds.reconstruct_tgv(coupled="nuclear", alpha0=2.0, **FEW)
        assert (
            relative(arrays(slopes), solved(terms, 2, kind="tgv", coupling="nuclear", alpha0=2.0))
            < 1e-4
        )

    def test_least_squares_takes_net_counts_by_their_noise(self, truth):
        eds = spectral(truth)
        net = eds.array("element", "tilt", "x", "y")
        assert net.min() < 0
        volume = eds.reconstruct_tv(data_term="least_squares", **FEW)
        told = volume.history[-1]["data_terms"]["maps"]
        assert told["discrepancy"] == "ls"
        # The variance where the element is: means weighted by its true signal.
        signal = projector(geometry())(truth).transpose(1, 0, 3, 2)
        variances = (SHARES[:, :, None, None] * signal + 3.0) / SHARES[:, :, None, None] ** 2
        weight = signal.sum(axis=(0, 2, 3)) / (signal * variances).sum(axis=(0, 2, 3))
        np.testing.assert_allclose(
            told["weight"], weight, rtol=0.25
        )  # measured from 45 noisy rays of 24 px
        expected = solved(
            [DataTerm(projector(geometry()), net, discrepancy="ls", weight=weight)], 2
        )
        assert relative(arrays(volume), expected) < 0.15  # the noise is measured there
        smoothed = eds.smooth(1.0).reconstruct_tv(data_term="least_squares", **FEW)
        np.testing.assert_allclose(
            smoothed.history[-1]["data_terms"]["maps"]["weight"], weight, rtol=0.25
        )

    @pytest.mark.parametrize("method", ["tv", "tgv"])
    def test_images_alone(self, truth, method):
        haadf = haadf_of(truth)
        term = DataTerm(
            projector(geometry()), haadf.array("tilt", "x", "y"), background=20.0, weight=1 / 3.0
        )
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
        assert (
            eds.reconstruct_tv(
                nonnegative=False, data_term="least_squares", weight=0.1, **FEW
            ).data.min()
            < 0
            <= volume.data.min()
        )
        both = eds.reconstruct_tv(haadf_of(truth), **FEW)
        begun = haadf_of(truth).reconstruct_tv(initial=both["HAADF"], **(FEW | {"iterations": 0}))
        np.testing.assert_allclose(begun.data, both["HAADF"].data, rtol=1e-5)


class TestVolumes:
    def test_the_haadf_is_a_channel_and_no_element(self, truth):
        volume = eds_of(truth).reconstruct_tnv(haadf_of(truth), **FEW)
        assert volume.channels == ("Au", "Ag", "HAADF")
        assert volume.elements == ("Au", "Ag")
        assert volume.data.shape == (24, 3, 5, 24)
        assert volume["HAADF"].data.shape == (24, 5, 24)
        assert volume.quantity == volume["Au"].quantity == "counts / nm"
        assert volume["HAADF"].quantity == "HAADF signal / nm"
        percent = volume.quantify("CL", {"Au": 1.0, "Ag": 1.5})
        assert percent.channels == ("Au", "Ag")

    def test_the_sum_of_a_volume_is_that_of_the_counts(self, truth):
        eds = eds_of(np.repeat(truth, 2, axis=3))
        for method in METHODS:
            volume = getattr(eds, f"reconstruct_{method}")(
                **(FEW | {"iterations": 200}), weight=0.1
            )
            counts = eds.data.sum(axis=(0, 2, 3)) / len(TILTS)
            np.testing.assert_allclose(0.5 * volume.data.sum(axis=(0, 2, 3)), counts, rtol=0.06)

    def test_what_the_maps_do_not_explain(self, truth):
        eds, haadf = eds_of(truth).inav[:1], haadf_of(truth)
        volume = eds.reconstruct_hebt(
            haadf, ratios={"Au": 40.0}, rest=True, regulariser="tv", **QUIET
        )
        assert volume.channels == ("Au", "rest")
        assert volume.response_ratios == {"Au": 40.0, "rest": 1.0}
        where = truth[1] > truth[0]
        assert (
            volume["rest"].array("z", "x", "y")[where].mean()
            > 3 * volume["rest"].array("z", "x", "y")[~where].mean()
        )

    def test_ratios_are_fitted_where_there_are_none(self, truth):
        truth = np.repeat(truth, 6, axis=3)
        eds = eds_of(truth, dose=3.0)
        volume = eds.reconstruct_hebt(haadf_of(truth), regulariser="tnv", **FEW)
        assert volume.response_ratios["Au"] == eds.response_ratios["Au"]

    def test_more_dose_is_more_of_the_same(self, truth):
        """Three times the counts, drawn apart: three times the volume, but for noise."""
        truth = np.repeat(truth, 2, axis=3)
        few, many = (
            eds_of(truth, dose).reconstruct_tv(**(FEW | {"iterations": 150}))
            for dose in (400.0, 1200.0)
        )
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
        eds = mt.TiltSeriesEDS.from_maps(
            dict(zip(RATIOS, counts, strict=True)), tilts=TILTS, pixel_size=1.0
        )
        for axis in ("x", "y"):
            eds.axes_manager[axis].offset = 0.25
        for volume in (
            eds.reconstruct_tv(haadf, **FEW),
            eds.reconstruct_hebt(haadf, regulariser="tv", ratios=RATIOS, **FEW),
        ):
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
        volume = eds_of(truth).reconstruct_tgv(
            haadf_of(truth), weight=2.0, **(FEW | {"iterations": 30})
        )
        volume.save(tmp_path / f"volume{suffix}")
        again = hs.load(tmp_path / f"volume{suffix}")
        assert again.history == volume.history
        assert again.channels == volume.channels
        for name, values in volume.residuals.items():
            np.testing.assert_array_equal(again.residuals[name], values)

    def test_what_made_the_volume(self, truth):
        eds, haadf = eds_of(truth), haadf_of(truth)
        haadf.gains = np.ones(len(TILTS))
        volume = eds.reconstruct_tgv(
            haadf, weight=2.0, alpha0=3.0, coupled=False, **(FEW | {"iterations": 30})
        )
        step = volume.history[-1]
        told = {
            name: step[name]
            for name in (
                "step",
                "weight",
                "alpha0",
                "coupled",
                "dimensions",
                "data_term",
                "iterations",
            )
        }
        assert told == {
            "step": "reconstruct_tgv", "weight": 2.0, "alpha0": 3.0, "coupled": False,
            "dimensions": 3, "data_term": "poisson", "iterations": 30,
        }  # fmt: skip
        assert step["calibration"]
        assert step["data_terms"]["maps"]["discrepancy"] == "kl"
        assert step["data_terms"]["haadf"]["weight"] > 0
        assert step["haadf_gains"] == [1.0] * len(TILTS)
        assert step["haadf_geometry"]["tilts"] == TILTS.tolist()
        assert step["haadf_history"] == haadf.history

    def test_residuals_of_every_tenth_iteration(self, truth):
        volume = eds_of(truth).reconstruct_tv(
            haadf_of(truth), tolerance=None, **(FEW | {"iterations": 47})
        )
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
        assert (
            eds_of(truth).reconstruct_tv(tolerance=None, **FEW).history[-1]["stopped_by"]
            == "iterations"
        )

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
        monkeypatch.setattr("hyperspy_multitomo.reconstruction.run.progress_bar", bar)
        with pytest.warns(UserWarning, match="this is iteration 12 of 20"):
            volume = eds.reconstruct_tv(tolerance=None, **FEW)
        np.testing.assert_allclose(volume.data, expected.data, rtol=1e-5)
        step = volume.history[-1]
        assert (step["stopped_by"], step["iterations"]) == ("interrupt", 12)
        assert len(volume.residuals["iteration"]) == 1


class TestPlot:
    def test_curves_lie_at_the_iterations_that_were_measured(self, truth):
        volume = eds_of(truth).reconstruct_tv(
            haadf_of(truth), tolerance=None, **(FEW | {"iterations": 40})
        )
        found = volume.residuals
        curves = {name: found["eds"][:, i] for i, name in enumerate(volume.elements)} | {
            "HAADF": found["haadf"]
        }
        left, right = plot_residuals(curves, found["iteration"], objective=found["objective"]).axes
        for line in left.lines:
            np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30, 40])
        np.testing.assert_array_equal(right.lines[0].get_xdata(), [10, 20, 30])
        assert (np.diff(right.lines[0].get_ydata()) < 0).all()
        with pytest.raises(ValueError, match="there are 3 iterations"):
            plot_residuals(curves, [10, 20, 30])


class TestLazy:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_lazy_equals_eager(self, truth, method):
        truth = np.tile(truth, (1, 1, 1, 14))
        options = FEW | {"dimensions": 2, "tolerance": None}
        eager, lazy = (
            getattr(spectral(truth, lazy), f"reconstruct_{method}")(
                haadf_of(truth, HAADF_TILTS, lazy=lazy), **options
            )
            for lazy in (False, True)
        )
        assert lazy._lazy
        assert lazy.channels == eager.channels
        assert lazy.history[-1]["calibration"] == eager.history[-1]["calibration"]
        assert relative(lazy.data.compute(), eager.data) < 1e-6  # steps are those of all slices

    @pytest.mark.slow
    def test_images_and_hebt(self, truth):
        truth = np.tile(truth, (1, 1, 1, 14))
        options = FEW | {"dimensions": 2, "tolerance": None}
        images = [
            haadf_of(truth, lazy=lazy).reconstruct_tv(**options).data for lazy in (False, True)
        ]
        assert relative(images[1].compute(), images[0]) < 1e-6
        options |= {"regulariser": "tv", "ratios": RATIOS, "tolerance": 0, "iterations": 60}
        maps = [
            eds_of(truth, lazy=lazy).reconstruct_hebt(haadf_of(truth, lazy=lazy), **options).data
            for lazy in (False, True)
        ]
        assert relative(maps[1].compute(), maps[0]) < 1e-6

    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_three_dimensions_in_slabs_that_overlap(self, truth, method):
        truth = np.tile(truth, (1, 1, 1, 8))
        options = FEW | {"tolerance": None, "iterations": 100}
        whole = getattr(eds_of(truth), f"reconstruct_{method}")(**options)
        slabs = getattr(eds_of(truth, lazy=True), f"reconstruct_{method}")(chunks=20, **options)
        assert slabs.history[-1]["calibration"] == whole.history[-1]["calibration"]
        assert slabs.history[-1]["slabs"] == {"count": 2, "thickness": 20, "overlap": 16}
        assert relative(slabs.data.compute(), whole.data) < 5e-3
