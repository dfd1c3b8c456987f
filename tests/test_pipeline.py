# SPDX-License-Identifier: GPL-3.0-or-later
"""From series to volumes and compositions through the signals:
what a user of the methods relies on."""

import json
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.inspection import ssim_structure
from hyperspy_multitomo.simulation import simulate, yuan

HUBER = Path(__file__).resolve().parents[2] / "shared" / "data" / "huber_phantom"
# As wide as the images, whatever the specimen needs.
CUBE = {"depth": None, "width": None}
QUIET = {"show_progressbar": False, **CUBE}


@pytest.fixture(scope="module")
def simulated():
    return simulate(yuan(size=49, slices=20), tilts=np.arange(-70, 71, 10.0), seed=3)


def series_of(simulated, lazy=False, **kwds):
    maps = dict(zip(simulated.elements, simulated.maps.transpose(0, 1, 3, 2), strict=True))
    images = simulated.haadf.transpose(0, 2, 1)
    if lazy:
        maps = {name: da.from_array(data, chunks=(5, 7, 49)) for name, data in maps.items()}
        images = da.from_array(images, chunks=(5, 20, 49))
    known = {"pixel_size": simulated.pixel_size, **kwds}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=simulated.tilts, **known)
    return mt.TiltSeriesHAADF.from_images(images, tilts=simulated.haadf_tilts, **known), eds


class TestVolumes:
    def test_counts_per_nm_whatever_the_method(self, simulated):
        haadf, eds = series_of(simulated)
        mass = simulated.truth.sum(axis=(1, 2, 3))
        for volume in (
            eds.reconstruct_sirt(25, **QUIET),
            eds.reconstruct_hebt(haadf, iterations=60, **QUIET),
        ):
            assert volume.quantity == "counts / nm"
            found = volume.array("element", "z", "x", "y")
            np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), mass, rtol=0.08)
            assert found.min() >= 0
            assert (
                min(ssim_structure(f, t) for f, t in zip(found, simulated.truth, strict=True))
                > 0.85
            )

    def test_hebt_records_what_made_it(self, simulated):
        haadf, eds = series_of(simulated)
        fit = eds.fit_response_ratios(haadf)
        volume = eds.reconstruct_hebt(haadf, alpha=0.6, iterations=7, **(QUIET | {"depth": 40.0}))
        assert volume.response_ratios == pytest.approx(
            dict(zip(fit.elements, fit.values, strict=True))
        )
        step = volume.history[-1]
        assert (step["step"], step["alpha"], step["iterations"]) == ("reconstruct_hebt", 0.6, 7)
        assert step["version"] == mt.__version__
        assert step["geometry"]["tilts"] == pytest.approx(list(eds.tilts))
        assert [s["step"] for s in volume.history] == ["fit_response_ratios", "reconstruct_hebt"]
        assert volume.residuals["eds"].shape == (7, 2)
        assert volume.residuals["haadf"].shape == (7,)
        assert np.all(np.diff(volume.residuals["haadf"]) < 0)
        json.dumps(volume.history)
        assert volume.axes_manager["z"].size == round(40.0 / simulated.pixel_size)

    def test_axes_overlay_the_images(self, simulated):
        haadf, _ = series_of(simulated)
        volume = haadf.reconstruct_sirt(20, **(QUIET | {"width": 30 * simulated.pixel_size}))
        assert [axis.name for axis in volume.axes_manager._axes] == ["z", "y", "x"]
        x = haadf.axes_manager["x"]
        middle = x.offset + x.scale * (x.size - 1) / 2
        assert np.mean(volume.axes_manager["x"].axis) == pytest.approx(middle)
        assert np.mean(volume.axes_manager["z"].axis) == pytest.approx(0.0, abs=1e-9)
        assert volume.quantity == "HAADF signal / nm"

    def test_gains_stand_for_scaled_data(self, simulated):
        _, eds = series_of(simulated)
        gains = np.linspace(0.5, 1.5, eds.data.shape[0] * 2).reshape(-1, 2)
        scaled = eds.deepcopy()
        scaled.data = eds.data * gains[:, :, None, None].astype(np.float32)
        scaled.gains = gains
        plain = eds.reconstruct_sirt(200, **QUIET).data
        again = scaled.reconstruct_sirt(200, **QUIET).data
        np.testing.assert_allclose(again.sum(), plain.sum(), rtol=0.01)
        assert np.corrcoef(again.ravel(), plain.ravel())[0, 1] > 0.97

    def test_own_tilts_for_each_modality(self, simulated):
        haadf, eds = series_of(simulated)
        fewer = eds.inav[:, ::2]
        volume = fewer.reconstruct_hebt(haadf, iterations=40, **QUIET)
        found = volume.array("element", "z", "x", "y")
        alone = fewer.reconstruct_sirt(40, **QUIET).array("element", "z", "x", "y")
        for hebt, sirt, truth in zip(found, alone, simulated.truth, strict=True):
            assert ssim_structure(hebt, truth) > ssim_structure(sirt, truth)

    def test_warm_start_continues(self, simulated):
        _, eds = series_of(simulated)
        whole = eds.reconstruct_sirt(12, **QUIET)
        half = eds.reconstruct_sirt(6, **QUIET)
        np.testing.assert_allclose(
            eds.reconstruct_sirt(6, initial=half, **QUIET).data, whole.data, rtol=1e-4, atol=1e-6
        )

    @pytest.mark.slow
    def test_mask(self, simulated):
        haadf, _ = series_of(simulated)
        mask = np.zeros((49, 20, 49), bool)
        mask[10:40, :, 12:35] = True
        volume = haadf.reconstruct_sirt(5, mask=mask, **QUIET)
        assert volume.data[mask].any()
        assert not volume.data[~mask].any()

    def test_rest_takes_what_no_map_explains(self, simulated):
        haadf, eds = series_of(simulated)
        gold = mt.TiltSeriesEDS.from_maps(
            {"Au": eds["Au"].data}, tilts=eds.tilts, pixel_size=simulated.pixel_size
        )
        ratio = {"Au": float(simulated.true_ratios[simulated.elements.index("Au")])}
        volume = gold.reconstruct_hebt(haadf, iterations=60, ratios=ratio, rest=True, **QUIET)
        assert volume.channels == ("Au", "rest")
        assert volume.elements == ("Au",)
        silver = simulated.truth[simulated.elements.index("Ag")]
        assert ssim_structure(volume["rest"].data.transpose(0, 2, 1), silver) > 0.8

    def test_interrupted_run_returns_the_last_iterate(self, simulated, monkeypatch):
        from hyperspy_multitomo.reconstruction import run

        @contextmanager
        def interrupted(show, description, total):
            def step(iterate):
                if iterate.iteration == 5:
                    raise KeyboardInterrupt

            yield step

        _, eds = series_of(simulated)
        monkeypatch.setattr(run, "progress_bar", interrupted)
        with pytest.warns(UserWarning, match="interrupt"):
            volume = eds.reconstruct_sirt(50, **CUBE)
        done = volume.history[-1]["iterations"]
        assert volume.history[-1]["interrupted"]
        assert done == 5
        assert len(volume.residuals["eds"]) == 5
        monkeypatch.undo()
        np.testing.assert_allclose(volume.data, eds.reconstruct_sirt(done, **QUIET).data)

    def test_handedness_from_images_to_volume(self):
        """A grain at x = 6 nm, z = 10 nm (nearer to the source) is seen at x cos t + z sin t,
        and comes back there."""
        tilts = np.arange(-60, 61, 15.0)
        images = np.zeros((tilts.size, 4, 41), np.float32)
        u = np.arange(41) - 20
        for image, t in zip(images, np.deg2rad(tilts), strict=True):
            image[:] = np.exp(-((u - (3 * np.cos(t) + 5 * np.sin(t))) ** 2) / 2)
        volume = mt.TiltSeriesHAADF.from_images(
            images, tilts=tilts, pixel_size=2.0
        ).reconstruct_sirt(20, **QUIET)
        z, _, x = np.unravel_index(volume.data.argmax(), volume.data.shape)
        axes = volume.axes_manager
        assert axes["z"].axis[z] == pytest.approx(10.0)
        assert axes["x"].axis[x] - axes["x"].axis.mean() == pytest.approx(6.0)
        reversed_ = mt.TiltSeriesHAADF.from_images(
            images, tilts=tilts, pixel_size=2.0, reverse_tilts=True
        )
        z, _, _ = np.unravel_index(
            reversed_.reconstruct_sirt(20, **QUIET).data.argmax(), volume.data.shape
        )
        assert axes["z"].axis[z] == pytest.approx(-10.0)


class TestLazy:
    def test_lazy_in_lazy_out_and_equal(self, simulated):
        haadf, eds = series_of(simulated)
        lazy_haadf, lazy_eds = series_of(simulated, lazy=True)
        ratios = {"Au": 300.0, "Ag": 200.0}
        volume = lazy_eds.reconstruct_hebt(lazy_haadf, iterations=8, ratios=ratios, **CUBE)
        assert type(volume) is mt.LazyTomographicVolume
        expected = eds.reconstruct_hebt(haadf, iterations=8, ratios=ratios, **QUIET)
        np.testing.assert_allclose(volume.data.compute(), expected.data, rtol=1e-4, atol=1e-6)
        assert volume.elements == expected.elements
        alone = lazy_haadf.reconstruct_sirt(4, **CUBE)
        np.testing.assert_allclose(
            alone.data.compute(), haadf.reconstruct_sirt(4, **QUIET).data, rtol=1e-4, atol=1e-3
        )

    @pytest.mark.slow
    def test_slabs_with_mask_and_start(self, simulated):
        _, eds = series_of(simulated)
        _, lazy_eds = series_of(simulated, lazy=True)
        mask = np.zeros((49, 20, 49), bool)
        mask[5:45, :, 5:45] = True
        start = eds.reconstruct_sirt(3, **QUIET)
        lazy = lazy_eds.reconstruct_sirt(3, mask=mask, initial=start)
        np.testing.assert_allclose(
            lazy.data.compute(),
            eds.reconstruct_sirt(3, mask=mask, initial=start, **QUIET).data,
            rtol=1e-4,
            atol=1e-6,
        )


class TestAlignment:
    def test_attached_alignment_is_used(self, simulated):
        """Displaced data with their alignment give the volume of the data in place."""
        moved = {"across": np.linspace(-3, 3, 15).round(), "along": np.tile([0.0, 1.0, 2.0], 5)}
        displaced = simulate(yuan(size=49, slices=20), tilts=simulated.tilts, seed=3, **moved)
        known = {"tilts": simulated.tilts, "pixel_size": simulated.pixel_size}
        haadf = mt.TiltSeriesHAADF.from_images(displaced.expected_haadf.transpose(0, 2, 1), **known)
        haadf.alignment = Alignment(across=-moved["across"], along=-moved["along"])
        unmoved = mt.TiltSeriesHAADF.from_images(
            simulated.expected_haadf.transpose(0, 2, 1), **known
        )
        expected = unmoved.reconstruct_sirt(30, **QUIET)
        volume = haadf.reconstruct_sirt(30, **QUIET)
        haadf.alignment = None
        unaligned = haadf.reconstruct_sirt(30, **QUIET)
        z, x = np.mgrid[:49, :49] - 24
        # Away from the corners, which the displaced detector sees at other tilts.
        particle = np.hypot(z, x) < 22
        expected, aligned, unaligned = (
            v.data[:, 4:-4].swapaxes(1, 2)[particle] for v in (expected, volume, unaligned)
        )
        errors = [
            np.linalg.norm(found - expected) / np.linalg.norm(expected)
            for found in (aligned, unaligned)
        ]
        assert errors[0] < 0.03
        assert errors[1] > 0.2

    def test_aligned_copy_needs_no_alignment(self, simulated):
        haadf, _ = series_of(simulated)
        haadf.alignment = Alignment(
            across=np.full(15, 2.0), along=np.full(15, -1.0), axis_offset=1.0
        )
        copy = haadf.aligned()
        assert copy.alignment is None
        assert copy.axis_offset == pytest.approx(0.0)
        np.testing.assert_allclose(copy.data[:, 2:-3, 5:-5], haadf.data[:, 3:-2, 4:-6])


class TestQuantify:
    def test_same_composition_from_both_methods(self, simulated):
        """A volume in counts need not tell how it was made:
        mean composition agrees up to noise, and with the truth."""
        haadf, eds = series_of(simulated)
        factors = {
            name: 1 / s
            for name, s in zip(simulated.elements, simulated.phantom.counts_per_unit, strict=True)
        }
        mass = (
            simulated.truth
            * np.array([factors[name] for name in simulated.elements])[:, None, None, None]
        )
        inside = mass.sum(axis=0) > 0.5 * mass.sum(axis=0).max()
        truth = 100 * mass[0, inside].sum() / mass[:, inside].sum()
        means = []
        for volume in (
            eds.reconstruct_sirt(30, **QUIET),
            eds.reconstruct_hebt(haadf, iterations=60, **QUIET),
        ):
            composition = volume.quantify("CL", factors, mask=inside.transpose(0, 2, 1))
            assert composition.quantity == "weight percent"
            percent = composition.array("element", "z", "x", "y")
            total = percent.sum(axis=0)[inside]
            np.testing.assert_allclose(total[total > 0], 100, rtol=1e-4)
            assert not percent[:, ~inside].any()
            means.append(percent[0, inside].mean())
        assert means[0] == pytest.approx(means[1], abs=3)
        assert means == pytest.approx([truth, truth], abs=4)

    def test_list_of_factors_is_in_alphabetical_order(self, simulated):
        _, eds = series_of(simulated)
        volume = eds.reconstruct_sirt(5, **QUIET)
        by_name = volume.quantify("CL", {"Ag": 1.0, "Au": 2.0})
        np.testing.assert_array_equal(volume.quantify("CL", [1.0, 2.0]).data, by_name.data)
        assert by_name.history[-1]["factors"] == {"Ag": 1.0, "Au": 2.0}

    def test_haadf_cannot_be_quantified(self, simulated):
        haadf, _ = series_of(simulated)
        with pytest.raises(ValueError, match="no elements"):
            haadf.reconstruct_sirt(2, **QUIET).quantify("CL", {"Au": 1.0})


@pytest.mark.slow
@pytest.mark.skipif(
    not HUBER.is_dir(), reason=f"the example data {HUBER.name} are not beside the repository"
)
def test_stacks_of_a_phantom_on_disk():
    """The tilt series of Huber et al. (2019): sinograms with their .rawtlt files;
    the HAADF guides the weak elements."""
    names = ("Yb", "Al", "Si")
    eds = mt.TiltSeriesEDS.from_maps({name: HUBER / f"{name}_EDXsino.mrc" for name in names}).isig[
        :, :16
    ]
    haadf = mt.load_tilt_series(HUBER / "HAADF_lrsino.mrc").isig[:, :16]
    alone = eds.reconstruct_sirt(30, **QUIET)
    assert alone.data.shape == (433, 3, 16, 433)
    ratios = eds.fit_response_ratios(haadf)
    assert ratios.r2 > 0.9
    volume = eds.reconstruct_hebt(haadf, iterations=30, **QUIET)
    assert volume.residuals["haadf"][-1] < 0.1 < volume.residuals["haadf"][0]
    noise = [
        np.abs(np.diff(v["Yb"].data, axis=1)).mean() / v["Yb"].data.mean() for v in (volume, alone)
    ]
    assert noise[0] < 0.8 * noise[1]


class TestBadInput:
    def test_series_cropped_differently(self, simulated):
        haadf, eds = series_of(simulated)
        with pytest.raises(ValueError, match="crop both series alike"):
            eds.isig[:40, :].reconstruct_hebt(haadf.isig[9:, :], ratios={"Au": 1.0, "Ag": 1.0})

    def test_mask_of_another_shape(self, simulated):
        haadf, eds = series_of(simulated)
        with pytest.raises(ValueError, match=r"mask has the shape \(20, 49\)"):
            eds.fit_response_ratios(haadf, mask=np.ones((20, 49), bool))

    def test_haadf_is_no_haadf(self, simulated):
        _, eds = series_of(simulated)
        with pytest.raises(TypeError, match="TiltSeriesHAADF"):
            eds.reconstruct_hebt(eds, ratios={"Au": 1.0, "Ag": 1.0})

    def test_only_one_series_is_aligned(self, simulated):
        haadf, eds = series_of(simulated)
        haadf.alignment = Alignment.identity(15)
        with pytest.warns(UserWarning, match=r"eds\.align\(haadf\.alignment\)"):
            eds.reconstruct_hebt(haadf, iterations=1, ratios={"Au": 1.0, "Ag": 1.0}, **QUIET)

    def test_other_shape_or_pixel_size(self, simulated):
        haadf, eds = series_of(simulated)
        with pytest.raises(ValueError, match="49 px along x but the HAADF images 40"):
            eds.reconstruct_hebt(haadf.isig[:40, :], ratios={"Au": 1.0, "Ag": 1.0})
        other, _ = series_of(simulated, pixel_size=9.0)
        with pytest.raises(ValueError, match="pixel size"):
            eds.fit_response_ratios(other)

    @pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, np.nan])
    def test_alpha(self, simulated, alpha):
        haadf, eds = series_of(simulated)
        with pytest.raises(ValueError, match="alpha"):
            eds.reconstruct_hebt(haadf, alpha=alpha, ratios={"Au": 1.0, "Ag": 1.0}, **QUIET)

    def test_ratios_for_other_elements(self, simulated):
        haadf, eds = series_of(simulated)
        with pytest.raises(ValueError, match="no response ratio for Ag"):
            eds.reconstruct_hebt(haadf, ratios={"Au": 1.0})

    def test_all_zero_maps_are_named(self, simulated):
        haadf, eds = series_of(simulated)
        eds.data[:, eds.elements.index("Ag")] = 0
        with pytest.raises(ValueError, match="Ag"):
            eds.fit_response_ratios(haadf)

    def test_not_finite(self, simulated):
        haadf, _ = series_of(simulated)
        haadf.data[2, 3, 4] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            haadf.reconstruct_sirt(2, **QUIET)

    def test_no_common_tilts(self, simulated):
        haadf, eds = series_of(simulated)
        haadf.axes_manager["tilt"].axis = haadf.axes_manager["tilt"].axis + 1
        with pytest.raises((ValueError, LookupError)):
            eds.fit_response_ratios(haadf)

    def test_extent(self, simulated):
        haadf, _ = series_of(simulated)
        with pytest.raises(ValueError, match="depth"):
            haadf.reconstruct_sirt(2, depth=-5.0)
