# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstructions of the series: gross counts to net volumes, lazy and eager,
what the history says, and bad input."""

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.reconstruction.noise import stopping_noise
from hyperspy_multitomo.signals.arrays import as_recorded, tilt_data
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.tomography import TiltGeometry, cgls, em, fbp, projector, run, sirt

TILTS = np.arange(-70, 71, 10.0)
QUIET = {"show_progressbar": False, "depth": None, "width": None}
METHODS = {
    "sirt": dict(iterations=8),
    "em": dict(iterations=8),
    "cgls": dict(iterations=4),
    "fbp": {},
}
SHARES = np.linspace(0.7, 0.9, 2 * len(TILTS)).reshape(len(TILTS), 2)


@pytest.fixture(scope="module")
def truth():
    """Two elements (element, z, x, y), in counts per nm."""
    volume = np.zeros((2, 32, 32, 6), np.float32)
    volume[0, 8:20, 9:22] = 2.0
    volume[1, 14:24, 14:26] = 1.0
    return volume


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 32, pixel_size=0.5))


def haadf_of(A, truth, lazy=False):
    return mt.TiltSeriesHAADF.from_images(
        dask_if(lazy, 40 * A(truth[0]).transpose(0, 2, 1)), tilts=TILTS, pixel_size=0.5
    )


def eds_of(A, truth, lazy=False, noise=True):
    """Net counts with the gross counts and the background beside them,
    as `elemental_maps` makes them."""
    expected = SHARES.T[:, :, None, None] * A(truth)
    background = np.full_like(expected, 3.0)
    gross = (
        np.random.default_rng(0).poisson(expected + background) if noise else expected + background
    )
    net = (gross - background) / SHARES.T[:, :, None, None]
    maps = {
        name: dask_if(lazy, net[i].transpose(0, 2, 1).astype(np.float32))
        for i, name in enumerate(("Au", "Ag"))
    }
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS, pixel_size=0.5)
    for name, values in (("gross", gross), ("background", background)):
        record(
            eds,
            name,
            values.transpose(1, 0, 3, 2).astype(np.float32),
            ("tilt", "element", "y", "x"),
        )
    record(eds, "window_share", SHARES, ("tilt", "element"))
    return eds


def dask_if(lazy, array):
    if not lazy:
        return array
    import dask.array as da

    return da.from_array(array)


def arrays(volume):
    return volume.array(*(("element",) if volume.channels else ()), "z", "x", "y")


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


class TestAgainstArrays:
    def test_haadf(self, A, truth):
        haadf, images = haadf_of(A, truth), 40 * A(truth[0])
        expected = {
            "sirt": run(sirt(A, images), 8).volume,
            "em": run(em(A, images), 8).volume,
            "cgls": run(cgls(A, images), 4).volume,
            "fbp": fbp(A, images),
        }
        for name, options in METHODS.items():
            volume = getattr(haadf, f"reconstruct_{name}")(**options, **QUIET)
            assert relative(arrays(volume), expected[name]) < 1e-5
            assert volume.quantity == "HAADF signal / nm"
            assert volume.history[-1]["step"] == f"reconstruct_{name}"
            assert volume.history[-1]["backend"] == A.backend

    def test_maps(self, A, truth):
        eds = eds_of(A, truth)
        net = eds.array("element", "tilt", "x", "y")
        gains = np.linspace(0.8, 1.2, len(TILTS))
        eds.gains = gains
        expected = {
            "sirt": run(sirt(A, net, gains=gains), 8).volume,
            "cgls": run(cgls(A, net, gains=gains), 4).volume,
            "fbp": fbp(A, net, gains=gains),
        }
        for name, volume in expected.items():
            assert (
                relative(
                    arrays(getattr(eds, f"reconstruct_{name}")(**METHODS[name], **QUIET)), volume
                )
                < 1e-5
            )

    def test_em_takes_gross_counts_background_share_and_gains(self, A, truth):
        eds = eds_of(A, truth)
        gains = np.linspace(0.8, 1.2, 2 * len(TILTS)).reshape(len(TILTS), 2)
        eds.gains = gains
        gross, background = (v.transpose(1, 0, 3, 2) for v in (eds.gross, eds.background))
        expected = run(em(A, gross, background=background, gains=(gains * SHARES).T), 8)
        volume = eds.reconstruct_em(iterations=8, **QUIET)
        assert relative(arrays(volume), expected.volume) < 1e-5
        np.testing.assert_allclose(
            volume.residuals["deviance"], expected.residuals["deviance"], rtol=1e-4
        )
        assert volume.residuals["eds"].shape == (8, 2)
        assert volume.history[-1]["counts"] == "gross"

    def test_options_reach_the_solver(self, A, truth):
        haadf, images = haadf_of(A, truth), 40 * A(truth[0])
        slow = haadf.reconstruct_sirt(5, relaxation=0.4, **QUIET)
        assert relative(arrays(slow), run(sirt(A, images, relaxation=0.4), 5).volume) < 1e-5
        smooth = haadf.reconstruct_fbp("hann", cutoff=0.6, **QUIET)
        assert relative(arrays(smooth), fbp(A, images, filter="hann", cutoff=0.6)) < 1e-5
        step = smooth.history[-1]
        assert (step["filter"], step["cutoff"]) == ("hann", 0.6)
        mask = np.zeros((32, 6, 32), bool)
        mask[5:28] = True
        for name in ("sirt", "em", "cgls"):
            volume = getattr(haadf, f"reconstruct_{name}")(3, mask=mask, **QUIET)
            assert not volume.data[~mask].any()
            assert volume.history[-1]["mask"] == "given"


class TestInitial:
    def test_channels_of_a_volume_are_taken_by_their_names(self, A, truth):
        eds, haadf = eds_of(A, truth), haadf_of(A, truth)
        start = eds.reconstruct_hebt(
            haadf, iterations=3, ratios={"Au": 40.0, "Ag": 10.0}, rest=True, **QUIET
        )
        np.testing.assert_array_equal(
            eds.reconstruct_sirt(0, initial=start, **QUIET).data, start.data[:, :2]
        )
        other_order = mt.TiltSeriesEDS.from_maps(
            {name: eds[name].data for name in ("Ag", "Au")}, tilts=TILTS, pixel_size=0.5
        )
        begun = other_order.reconstruct_sirt(0, initial=start, **QUIET)
        np.testing.assert_array_equal(begun["Au"].data, start["Au"].data)
        np.testing.assert_array_equal(
            haadf.reconstruct_sirt(0, initial=start["Au"], **QUIET).data, start["Au"].data
        )

    def test_refused(self, A, truth):
        start = haadf_of(A, truth).reconstruct_sirt(1, **QUIET)
        with pytest.raises(ValueError, match="no channel Au, Ag; it holds one without a name"):
            eds_of(A, truth).reconstruct_sirt(1, initial=start, **QUIET)


class TestGains:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", METHODS)
    def test_in_any_unit(self, A, truth, name):
        """Beam currents in A, say: 1e-9 of the gains are 1e9 times the volume, not an empty one."""
        haadf = haadf_of(A, truth)
        expected = getattr(haadf, f"reconstruct_{name}")(**METHODS[name], **QUIET).data
        haadf.gains = np.full(len(TILTS), 1e-9)
        volume = getattr(haadf, f"reconstruct_{name}")(**METHODS[name], **QUIET).data
        assert relative(1e-9 * volume, expected) < 1e-4


class TestNetCounts:
    def test_every_method_gives_counts_per_nm(self, A, truth):
        eds = eds_of(A, truth, noise=False)
        for name, options in {
            **METHODS,
            "em": {"iterations": 60},
            "sirt": {"iterations": 60},
        }.items():
            volume = arrays(getattr(eds, f"reconstruct_{name}")(**options, **QUIET))
            assert volume[0, 10:17, 11:19].mean() == pytest.approx(2.0, rel=0.08), name
            assert volume[1, 16:21, 17:23].mean() == pytest.approx(1.0, rel=0.12), name

    def test_em_does_not_mind_what_was_done_to_the_net_counts(self, A, truth):
        eds = eds_of(A, truth)
        expected = eds.reconstruct_em(3, **QUIET).data
        np.testing.assert_array_equal(eds.smooth(2.0).reconstruct_em(3, **QUIET).data, expected)

    def test_alignment_moves_counts_and_background(self, A, truth):
        """Whole pixels along the axis: the volume moves, and nothing else."""
        eds = eds_of(A, truth)
        expected = eds.reconstruct_em(4, **QUIET)
        eds.align(Alignment(np.zeros(len(TILTS)), np.ones(len(TILTS))))
        moved = eds.reconstruct_em(4, **QUIET)
        np.testing.assert_allclose(
            moved.data[:, :, 1:], expected.data[:, :, :-1], rtol=1e-4, atol=1e-5
        )

    def test_cropped_and_sliced(self, A, truth):
        eds = eds_of(A, truth)
        whole = eds.reconstruct_em(4, **QUIET)
        crop = eds.isig[:, 2:5].reconstruct_em(4, **QUIET)
        np.testing.assert_allclose(crop.data, whole.data[:, :, 2:5], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            eds["Ag"].reconstruct_em(4, **QUIET)["Ag"].data, whole["Ag"].data, rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize("shape", ["number", "tilt", "tilt, element", "whole"])
    def test_background_given(self, A, truth, shape):
        eds = eds_of(A, truth)
        expected = eds.reconstruct_em(4, **QUIET).data
        background = {
            "number": 3.0,
            "tilt": np.full(len(TILTS), 3.0),
            "tilt, element": np.full((len(TILTS), 2), 3.0),
            "whole": np.full((len(TILTS), 2, 6, 32), 3.0),
        }[shape]
        volume = eds.reconstruct_em(4, background=background, **QUIET)
        np.testing.assert_allclose(volume.data, expected, rtol=1e-4, atol=1e-5)
        assert volume.history[-1]["background"] == "given"


class TestStopping:
    def test_recorded_gross_counts_say_how_noisy_the_net_are(self, A, truth):
        eds = eds_of(A, truth)
        volume = eds.reconstruct_sirt(200, stopping="discrepancy", **QUIET)
        step = volume.history[-1]
        assert step["stopped_by"] == "discrepancy"
        assert step["stopping"] == "discrepancy"
        assert max(step["channel_iterations"]) == step["iterations"] < 100
        net = eds.array("element", "tilt", "x", "y")
        spread = np.sqrt((eds.gross / SHARES[:, :, None, None] ** 2).sum(axis=(0, 2, 3)))
        for channel, done in enumerate(step["channel_iterations"]):
            limit = spread[channel] / np.linalg.norm(net[channel])
            assert volume.residuals["eds"][done - 1, channel] == pytest.approx(limit, rel=0.06)

    def test_noise_that_the_gross_counts_do_not_tell(self, A, truth):
        """A background that was subtracted pixel by pixel adds noise of its own."""
        eds = eds_of(A, np.tile(truth, (1, 1, 1, 4)))
        subtracted = np.random.default_rng(1).poisson(1.5, eds.data.shape) * 2 - 3
        eds.data = eds.data + subtracted.astype(np.float32)
        step = eds.reconstruct_sirt(200, stopping="discrepancy", **QUIET).history[-1]
        assert step["stopped_by"] == "discrepancy"
        assert max(step["channel_iterations"]) < 30

    @pytest.mark.parametrize("rotation", [0.0, 3.0])
    @pytest.mark.parametrize("kind", ["eds", "haadf"])
    def test_noise_after_an_alignment_that_resamples(self, A, truth, kind, rotation):
        """Interpolation takes noise away: the rule has to know, or stops too early;
        by the finest detail alone, too late."""
        truth = np.tile(truth, (1, 1, 1, 8))
        rng = np.random.default_rng(2)
        if kind == "eds":
            series = mt.TiltSeriesEDS.from_maps(
                {"Au": rng.poisson(A(truth[0])).transpose(0, 2, 1)}, tilts=TILTS, pixel_size=0.5
            )
            noise = series.data[:, 0] - A(truth[0]).transpose(0, 2, 1)
        else:
            noise = rng.normal(0, 40, A(truth[0]).transpose(0, 2, 1).shape)
            images = 40 * A(truth[0]).transpose(0, 2, 1) + noise
            series = mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, pixel_size=0.5)
        series.align(Alignment(np.zeros(len(TILTS)), np.full(len(TILTS), 0.5), 0.0, rotation))
        left = series.alignment.apply(noise.transpose(0, 2, 1), for_geometry=True)
        data = series.alignment.apply(as_recorded(series)[0], for_geometry=True)
        limit = np.linalg.norm(left) / np.linalg.norm(data)
        _, noise_of = stopping_noise(tilt_data(series), {}, None, "discrepancy", None)
        found = {"maps": data[None], "recorded": as_recorded(series), "gross": None}
        assert noise_of(found)[0] == pytest.approx(limit, rel=0.1)

    def test_other_methods(self, A, truth):
        eds, haadf = eds_of(A, truth), haadf_of(A, truth)
        for name in ("em", "cgls"):
            volume = getattr(eds, f"reconstruct_{name}")(100, stopping="discrepancy", **QUIET)
            assert volume.history[-1]["stopped_by"] == "discrepancy"
        assert (
            haadf.reconstruct_sirt(100, stopping="discrepancy", noise=10.0, **QUIET).history[-1][
                "iterations"
            ]
            < 50
        )
        ratios = {"Au": 40.0, "Ag": 0.0}
        volume = eds.reconstruct_hebt(
            haadf, iterations=300, ratios=ratios, stopping="discrepancy", **QUIET
        )
        assert volume.history[-1]["stopped_by"] == "discrepancy"

    def test_refused(self, A, truth):
        eds, haadf = eds_of(A, truth), haadf_of(A, truth)
        with pytest.raises(ValueError, match="None or 'discrepancy'"):
            haadf.reconstruct_sirt(3, stopping="gcv", **QUIET)
        with pytest.raises(ValueError, match="pass stopping='discrepancy'"):
            haadf.reconstruct_sirt(3, noise=1.0, **QUIET)
        with pytest.raises(ValueError, match="positive number"):
            haadf.reconstruct_sirt(3, stopping="discrepancy", noise=-1.0, **QUIET)
        with pytest.raises(ValueError, match="were smoothed"):
            eds.smooth(1.0).reconstruct_sirt(3, stopping="discrepancy", **QUIET)
        bare = mt.TiltSeriesEDS.from_maps({"Au": eds["Au"].data}, tilts=TILTS)
        with pytest.raises(ValueError, match="no gross counts beside them"):
            bare.reconstruct_sirt(3, stopping="discrepancy", **QUIET)
        scaled = mt.TiltSeriesEDS.from_maps({"Au": 0.3 * eds.gross[:, 0]}, tilts=TILTS)
        with pytest.raises(ValueError, match="no whole counts"):
            scaled.reconstruct_sirt(3, stopping="discrepancy", **QUIET)


class TestLazy:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("kind", ["haadf", "eds"])
    def test_lazy_equals_eager(self, A, truth, name, kind):
        truth = np.tile(truth, (1, 1, 1, 12))
        make = haadf_of if kind == "haadf" else eds_of
        eager, lazy = make(A, truth), make(A, truth, lazy=True)
        options = dict(METHODS[name])
        if name in ("sirt", "cgls", "em"):
            options["mask"] = np.random.default_rng(0).random((32, 72, 32)) > 0.1
        expected = getattr(eager, f"reconstruct_{name}")(**options, **QUIET)
        volume = getattr(lazy, f"reconstruct_{name}")(**options, **QUIET)
        assert volume._lazy
        assert relative(volume.data.compute(), expected.data) < 1e-4

    def test_stopping_per_slab(self, A, truth):
        lazy = eds_of(A, truth, lazy=True)
        expected = eds_of(A, truth).reconstruct_sirt(60, stopping="discrepancy", **QUIET)
        volume = lazy.reconstruct_sirt(60, stopping="discrepancy", **QUIET)
        assert relative(volume.data.compute(), expected.data) < 1e-5


class TestBadInput:
    @pytest.mark.parametrize("name", METHODS)
    def test_a_single_tilt(self, A, truth, name):
        one = haadf_of(A, truth).inav[3:4]
        with pytest.raises(ValueError, match="at least two tilts"):
            getattr(one, f"reconstruct_{name}")(**METHODS[name], **QUIET)

    def test_hebt_of_a_single_tilt(self, A, truth):
        eds = eds_of(A, truth)
        one = (
            eds.inav[:, 3:4]
            if eds.axes_manager.navigation_axes[0].name == "element"
            else eds.inav[3:4]
        )
        with pytest.raises(ValueError, match="at least two tilts"):
            one.reconstruct_hebt(haadf_of(A, truth), ratios={"Au": 1.0, "Ag": 1.0}, **QUIET)

    def test_em_of_negative_values(self, A, truth):
        eds = eds_of(A, truth)
        bare = mt.TiltSeriesEDS.from_maps({"Au": eds["Au"].data}, tilts=TILTS)
        with pytest.raises(ValueError, match="no gross counts beside them"):
            bare.reconstruct_em(3, **QUIET)
        haadf = haadf_of(A, truth)
        haadf.data = haadf.data - 5
        with pytest.raises(ValueError, match=r"offset in the images and pass it as background="):
            haadf.reconstruct_em(3, **QUIET)

    def test_em_background_that_does_not_fit(self, A, truth):
        with pytest.raises(ValueError, match=r"one for each tilt.*tilt, element, y, x"):
            eds_of(A, truth).reconstruct_em(3, background=np.ones(4), **QUIET)
        with pytest.raises(ValueError, match="from 0 up"):
            haadf_of(A, truth).reconstruct_em(3, background=-1.0, **QUIET)

    def test_unknown_filter(self, A, truth):
        with pytest.raises(ValueError, match="'hann'"):
            haadf_of(A, truth).reconstruct_fbp("none", **QUIET)

    def test_relaxation(self, A, truth):
        with pytest.raises(ValueError, match="between 0 and 2"):
            haadf_of(A, truth).reconstruct_sirt(3, relaxation=2.5, **QUIET)


def test_a_weak_fit_of_the_haadf_warns_at_the_line_of_the_call():
    counts = np.random.default_rng(0)
    tilts = [-40, 0, 40]
    eds = mt.TiltSeriesEDS.from_maps({"Au": counts.poisson(9.0, (3, 4, 8))}, tilts=tilts)
    haadf = mt.TiltSeriesHAADF.from_images(90 + counts.random((3, 4, 8)), tilts=tilts)
    with pytest.warns(UserWarning, match="the elements explain only") as seen:
        eds.reconstruct_fused(haadf, iterations=1, show_progressbar=False)
    weak = [one.filename for one in seen if "the elements explain" in str(one.message)]
    assert weak == [__file__]
