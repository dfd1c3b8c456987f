# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties that hold for any series: what is done to the object or to the counts is done to the
volumes, and nothing else."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import FACTORS, SEEDS, changes, geometries, tilts, views

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.composition import fit_response_ratios, quantify
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.tomography import (
    TiltGeometry,
    cgls,
    dot_test,
    em,
    fbp,
    hebt,
    projector,
    run,
    sirt,
)

QUIET = {"show_progressbar": False}
settings.register_profile(
    "reproducible",
    deadline=None,
    derandomize=True,
    max_examples=20,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("reproducible")
few = settings(max_examples=8)


def near(result, expected, tolerance=2e-5):
    """Assert equality to single precision, relative to the largest value."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    assert (
        np.abs(result - expected).max(initial=0)
        <= tolerance * np.abs(expected).max(initial=0) + 1e-30
    )


def series_of(v, lazy=False, maps=None, haadf=None, **kwds):
    """Return (haadf, eds) of views; `maps` and `haadf` replace theirs."""
    maps = v.maps if maps is None else maps
    haadf = v.haadf if haadf is None else haadf
    if lazy:
        maps, haadf = (da.from_array(a, chunks=(*a.shape[:-3], 1, 3, -1)) for a in (maps, haadf))
    known = {"tilts": v.tilts, "pixel_size": v.pixel_size, **kwds}
    eds = mt.TiltSeriesEDS.from_maps(dict(zip(v.elements, maps, strict=True)), **known)
    return mt.TiltSeriesHAADF.from_images(haadf, **known), eds


class TestProjector:
    @pytest.mark.slow
    @given(geometries(), SEEDS, st.floats(-3, 3), st.integers(1, 20))
    def test_linear_and_adjoint(self, geometry, seed, factor, slices):
        A, rng = projector(geometry), np.random.default_rng(seed)
        one, two = rng.standard_normal((2, *A.domain_shape, slices))
        scale = np.abs(A(np.abs(one) + np.abs(two))).max(initial=0) * (1 + abs(factor))
        assert np.abs(A(one + factor * two) - (A(one) + factor * A(two))).max() <= 2e-6 * scale
        back = A.T(np.ones((*A.range_shape, 1)))
        if back.any():  # a detector beside the volume sees nothing
            assert dot_test(A, seed, slices) <= 1e-6

    @pytest.mark.slow
    @given(
        geometries(),
        SEEDS,
        st.sampled_from(["uint8", "int8", "uint16", "int32", "int64", "float64"]),
    )
    def test_any_type_of_number_is_taken_by_its_value(self, geometry, seed, dtype):
        A = projector(geometry)
        volume = np.random.default_rng(seed).integers(0, 100, (*A.domain_shape, 3))
        np.testing.assert_array_equal(A(volume.astype(dtype)), A(volume.astype(np.float32)))

    @given(geometries(), st.randoms(use_true_random=False), SEEDS)
    def test_order_of_the_tilts(self, geometry, random, seed):
        order = list(range(len(geometry.tilts)))
        random.shuffle(order)
        g = geometry
        shuffled = TiltGeometry(
            [g.tilts[i] for i in order],
            g.detector_width,
            g.volume_shape,
            g.pixel_size,
            g.axis_offset,
            [g.shifts[i] for i in order],
        )
        volume = np.random.default_rng(seed).random((*g.volume_shape, 2))
        near(projector(shuffled)(volume), projector(g)(volume)[order], 1e-6)

    @given(geometries(), SEEDS)
    def test_reversed_tilts_mirror_the_object(self, geometry, seed):
        g = geometry
        mirrored = TiltGeometry(
            [-t for t in g.tilts],
            g.detector_width,
            g.volume_shape,
            g.pixel_size,
            g.axis_offset,
            g.shifts,
        )
        turned = TiltGeometry(
            mirrored.tilts,
            g.detector_width,
            g.volume_shape,
            g.pixel_size,
            -g.axis_offset,
            [-s for s in g.shifts],
        )
        volume = np.random.default_rng(seed).random((*g.volume_shape, 2))
        projections = projector(g)(volume)
        near(projector(mirrored)(volume[::-1]), projections, 1e-5)
        near(projector(turned)(volume[:, ::-1]), projections[:, ::-1], 1e-5)


@st.composite
def problems(draw):
    """A projector, maps (channel, tilt, x, y), HAADF images (tilt, x, y) and response ratios."""
    A = projector(draw(geometries(draw(tilts(2)))))
    channels, slices = draw(st.integers(1, 3)), draw(st.integers(1, 18))
    rng = np.random.default_rng(draw(SEEDS))
    maps = rng.poisson(rng.uniform(0.2, 5, (channels, *A.range_shape, slices))).astype(np.float32)
    ratios = rng.uniform(1, 20, channels)
    haadf = np.tensordot(ratios, maps, 1) + rng.normal(0, 1, maps.shape[1:])
    return A, maps, haadf, ratios


def by_sirt(A, maps, haadf=None, ratios=None, **kwds):
    return run(sirt(A, maps, **kwds), 5).volume


def by_hebt(A, maps, haadf, ratios, **kwds):
    return run(hebt(A, maps, haadf, ratios, **kwds), 5).volume


def by_em(A, maps, haadf=None, ratios=None, **kwds):
    return run(em(A, maps, **kwds), 5).volume


def by_cgls(A, maps, haadf=None, ratios=None, **kwds):
    return run(cgls(A, maps, **kwds), 3).volume


def by_fbp(A, maps, haadf=None, ratios=None, **kwds):
    return fbp(A, maps, **kwds)


METHODS = pytest.mark.parametrize("method", [by_sirt, by_hebt, by_em, by_cgls, by_fbp])


class TestReconstruction:
    @pytest.mark.slow
    @METHODS
    @given(problem=problems(), dose=FACTORS)
    def test_more_dose_is_more_of_the_same(self, method, problem, dose):
        A, maps, haadf, ratios = problem
        near(method(A, dose * maps, haadf, ratios / dose), dose * method(A, maps, haadf, ratios))

    @pytest.mark.slow
    @METHODS
    @given(problem=problems(), gain=FACTORS)
    def test_a_common_gain_is_a_factor_of_the_data(self, method, problem, gain):
        A, maps, haadf, ratios = problem
        gains = np.full(len(A.geometry.tilts), gain)
        given_gains = (
            {"gains": gains, "haadf_gains": gains} if method is by_hebt else {"gains": gains}
        )
        near(
            method(A, gain * maps, gain * haadf, ratios, **given_gains),
            method(A, maps, haadf, ratios),
            1e-4,
        )

    @pytest.mark.slow
    @METHODS
    @given(problem=problems(), random=st.randoms(use_true_random=False))
    def test_order_of_the_elements(self, method, problem, random):
        A, maps, haadf, ratios = problem
        order = list(range(len(maps)))
        random.shuffle(order)
        near(
            method(A, maps[order], haadf, ratios[order]),
            method(A, maps, haadf, ratios)[order],
            1e-4,
        )

    @pytest.mark.slow
    @METHODS
    @given(problem=problems(), ends=st.tuples(st.integers(0, 17), st.integers(1, 18)))
    def test_slices_know_nothing_of_each_other(self, method, problem, ends):
        A, maps, haadf, ratios = problem
        slab = slice(min(ends[0], maps.shape[-1] - 1), max(ends[1], ends[0] + 1))
        near(
            method(A, maps[..., slab], haadf[..., slab], ratios),
            method(A, maps, haadf, ratios)[..., slab],
            1e-4,
        )

    @pytest.mark.slow
    @METHODS
    @given(problem=problems(), rows=st.integers(-5, 5))
    def test_moving_the_object_along_the_axis(self, method, problem, rows):
        A, maps, haadf, ratios = problem
        rolled = method(A, np.roll(maps, rows, -1), np.roll(haadf, rows, -1), ratios)
        near(rolled, np.roll(method(A, maps, haadf, ratios), rows, -1), 1e-4)

    @pytest.mark.slow
    @METHODS
    @given(problem=problems(), pixels=st.integers(-4, 4))
    def test_moving_the_images_and_the_axis_across(self, method, problem, pixels):
        A, maps, haadf, ratios = problem
        g = A.geometry

        pad = 24  # px, so that the whole volume is seen at every tilt

        def seen(moved):
            """Reconstruct on a wide detector from images, and with an axis,
            that lie `moved` px further on."""
            ends = [(pad + moved, pad - moved), (0, 0)]
            wide = [np.pad(images, [(0, 0)] * (images.ndim - 2) + ends) for images in (maps, haadf)]
            offset = g.axis_offset + moved
            A = projector(
                TiltGeometry(
                    g.tilts,
                    g.detector_width + 2 * pad,
                    g.volume_shape,
                    g.pixel_size,
                    offset,
                    g.shifts,
                )
            )
            return method(A, *wide, ratios)

        near(seen(pixels), seen(0), 2e-4)

    @pytest.mark.slow
    @METHODS
    @given(problem=problems())
    def test_reversed_tilts_mirror_the_volume(self, method, problem):
        A, maps, haadf, ratios = problem
        g = A.geometry
        reverse = [-t for t in g.tilts]
        mirrored = projector(
            TiltGeometry(
                reverse, g.detector_width, g.volume_shape, g.pixel_size, g.axis_offset, g.shifts
            )
        )
        near(method(mirrored, maps, haadf, ratios), method(A, maps, haadf, ratios)[:, ::-1], 2e-3)


class TestSeries:
    @pytest.mark.slow
    @given(views(), st.booleans())
    def test_sorted_by_tilt_with_every_image_at_its_own(self, v, lazy):
        order = np.argsort(v.tilts)
        for series, given_data in zip(
            series_of(v, lazy), (v.haadf[:, None], v.maps.swapaxes(0, 1)), strict=True
        ):
            assert series._lazy == lazy
            assert series.data.dtype == np.float32
            np.testing.assert_array_equal(series.tilts, np.array(v.tilts)[order])
            np.testing.assert_array_equal(series.acquisition_order, order)
            np.testing.assert_array_equal(
                np.asarray(series.data).reshape(given_data.shape), given_data[order]
            )

    @pytest.mark.slow
    @few
    @given(views(), st.booleans(), st.booleans())
    def test_order_type_and_laziness_make_no_difference(self, v, lazy, backwards):
        plain = series_of(v, maps=v.maps.astype(float), haadf=v.haadf.astype(float))
        turn = slice(None, None, -1) if backwards else slice(None)
        other = series_of(v, lazy, maps=v.maps[:, turn], haadf=v.haadf[turn], tilts=v.tilts[turn])
        ratios = dict.fromkeys(v.elements, 3.0)
        for one, two in zip(plain, other, strict=True):
            np.testing.assert_array_equal(
                one.reconstruct_sirt(3, **QUIET).data,
                np.asarray(two.reconstruct_sirt(3, **QUIET).data),
            )
        volumes = [
            eds.reconstruct_hebt(haadf, iterations=3, ratios=ratios, **QUIET)
            for haadf, eds in (plain, other)
        ]
        assert volumes[1]._lazy == lazy
        near(volumes[1].data, volumes[0].data)

    @pytest.mark.slow
    @few
    @given(views(dtypes=("float32",)))
    def test_tilt_axis_along_x_is_the_transpose(self, v):
        plain = series_of(v)
        turned = series_of(
            v, maps=v.maps.swapaxes(-1, -2), haadf=v.haadf.swapaxes(-1, -2), tilt_axis="x"
        )
        for one, two in zip(plain, turned, strict=True):
            assert two.tilt_axis == "x"
            np.testing.assert_array_equal(two.data, one.data)
            np.testing.assert_array_equal(
                two.reconstruct_sirt(3, **QUIET).data, one.reconstruct_sirt(3, **QUIET).data
            )

    @pytest.mark.slow
    @few
    @given(views(dtypes=("float32",)))
    def test_reverse_tilts_mirrors_the_volume(self, v):
        for one, two in zip(series_of(v), series_of(v, reverse_tilts=True), strict=True):
            near(
                two.reconstruct_sirt(4, **QUIET).data,
                one.reconstruct_sirt(4, **QUIET).data[::-1],
                1e-4,
            )

    @pytest.mark.slow
    @settings(max_examples=6)
    @given(v=views(dtypes=("float32",)), seed=SEEDS, suffix=st.sampled_from([".hspy", ".zspy"]))
    def test_saved_is_loaded(self, v, seed, suffix, tmp_path_factory):
        import hyperspy.api as hs

        rng = np.random.default_rng(seed)
        for series in series_of(v):
            n = len(v.tilts)
            series.gains = rng.uniform(0.5, 2, n)
            series.alignment = Alignment(rng.normal(size=n), rng.normal(size=n), 0.7, 1.5)
            path = tmp_path_factory.mktemp("saved") / f"series{suffix}"
            series.save(path)
            again = hs.load(path)
            assert type(again) is type(series)
            assert again.channels == series.channels
            assert again.history == series.history
            assert again.alignment == series.alignment
            for name in ("data", "tilts", "gains", "acquisition_order"):
                np.testing.assert_array_equal(getattr(again, name), getattr(series, name))


class Followed:
    """The plain bookkeeping that a sliced series has to agree with:
    kept tilts, and the pixels of the first grid."""

    def __init__(self, series):
        self.tilt = np.arange(len(series.tilts))
        self.first, self.binning = {"x": 0, "y": 0}, 1

    def apply(self, series, change):
        """Return the series after one change, or the same where nothing would be left of it."""
        navigation = [axis.name for axis in series.axes_manager.navigation_axes]
        if change.axis == "bin":
            if min(series.axes_manager[n].size for n in "xy") < 2 * change.step:
                return series
            whole = [series.axes_manager[n].size // change.step * change.step for n in "xy"]
            self.binning *= change.step
            return series.isig[: whole[0], : whole[1]].rebin(
                scale=(1,) * len(navigation) + (change.step,) * 2
            )
        size = series.axes_manager[change.axis].size
        start, stop = (
            int(change.start * size),
            max(int(np.ceil(change.stop * size)), int(change.start * size) + 1),
        )
        if change.axis == "tilt":
            cut = slice(start, stop, change.step)
            if len(self.tilt[cut]) < 2:
                return series
            self.tilt = self.tilt[cut]
            return series.inav[tuple(cut if name == "tilt" else slice(None) for name in navigation)]
        if stop - start < 2:
            return series
        self.first[change.axis] += start * self.binning
        return series.isig[start:stop] if change.axis == "x" else series.isig[:, start:stop]


class TestMetadataStayTrue:
    @pytest.mark.slow
    @given(views(dtypes=("float32",), smallest=4, sides=(8, 16)), changes(), SEEDS)
    def test_after_any_slicing(self, v, steps, seed):
        rng, n = np.random.default_rng(seed), len(v.tilts)
        gains, across, along, offset = (
            rng.uniform(0.5, 2, n),
            rng.normal(size=n),
            rng.normal(size=n),
            rng.normal(),
        )
        for whole in series_of(v):
            whole.gains = gains
            whole.alignment = Alignment(across, along, offset, 0.0)
            if whole.channels:
                record(whole, "gross", whole.data, ("tilt", "element", "y", "x"))
            followed, series = Followed(whole), whole
            for step in steps:
                series = followed.apply(series, step)
            t, b = followed.tilt, followed.binning
            np.testing.assert_array_equal(series.tilts, whole.tilts[t])
            np.testing.assert_array_equal(series.gains, gains[t])
            np.testing.assert_array_equal(series.acquisition_order, whole.acquisition_order[t])
            np.testing.assert_allclose(series.alignment.across, across[t] / b)
            np.testing.assert_allclose(series.alignment.along, along[t] / b)
            # The axis stays where it is in the object: edges of pixels are counted from the first
            # grid's.
            axis = (v.haadf.shape[-1] - 1) / 2 + offset
            now = (series.axes_manager["x"].size - 1) / 2 + series.axis_offset
            assert (now + 0.5) * b + followed.first["x"] - 0.5 == pytest.approx(axis)
            assert series.pixel_size == pytest.approx(v.pixel_size * b)
            if whole.channels:
                assert series.channels == v.elements
                np.testing.assert_allclose(series.gross, series.data, rtol=1e-6)


@st.composite
def mixtures(draw):
    """Expected maps of two elements that overlap, (element, tilt, x, y),
    their counts and the HAADF."""
    rng = np.random.default_rng(draw(SEEDS))
    expected = np.zeros((2, draw(st.integers(3, 6)), 24, 24))
    expected[0, :, 4:16, 3:20], expected[1, :, 10:21, 5:22] = rng.uniform(3, 12, 2)
    ratios = rng.uniform(5, 50, 2)
    return rng.poisson(expected).astype(np.float32), np.tensordot(ratios, expected, 1)


def ratios_of(maps, haadf, names=("Au", "Ag")):
    return fit_response_ratios(maps, haadf, names, block_size=4, n_bootstrap=8)


class TestComposition:
    @few
    @given(mixtures(), FACTORS, FACTORS)
    def test_ratios_go_with_the_units(self, mixture, dose, contrast):
        maps, haadf = mixture
        first, second = ratios_of(maps, haadf), ratios_of(dose * maps, contrast * haadf)
        np.testing.assert_allclose(second.values, first.values * contrast / dose, rtol=1e-3)
        assert second.r2 == pytest.approx(first.r2, abs=1e-4)

    @few
    @given(mixtures())
    def test_ratios_of_elements_in_another_order(self, mixture):
        maps, haadf = mixture
        first, second = ratios_of(maps, haadf), ratios_of(maps[::-1], haadf, ("Ag", "Au"))
        np.testing.assert_allclose(second.values[::-1], first.values, rtol=1e-4)

    @pytest.mark.slow
    @given(
        st.sampled_from(["CL", "zeta", "cross_section"]),
        st.sampled_from(["weight", "atomic"]),
        SEEDS,
        FACTORS,
        st.permutations(range(3)),
    )
    def test_percent_know_neither_dose_nor_order(self, method, units, seed, dose, order):
        rng = np.random.default_rng(seed)
        volumes = rng.uniform(0.1, 5, (3, 6, 5, 4)).astype(np.float32)
        volumes[:, :2] *= 1e-3  # nearly empty
        names, factors = np.array(["Au", "Ag", "Cu"]), rng.uniform(0.5, 3, 3)
        known = dict(zip(names.tolist(), factors, strict=True))
        percent, mask = quantify(volumes, names, method, known, units)
        again, again_mask = quantify(
            dose * volumes[list(order)], names[list(order)], method, known, units
        )
        np.testing.assert_array_equal(again_mask, mask)
        near(again, percent[list(order)])
        np.testing.assert_allclose(percent.sum(axis=0)[mask], 100, rtol=1e-5)
        assert not percent[:, ~mask].any()

    @pytest.mark.slow
    @few
    @given(mixtures(), FACTORS)
    def test_dose_through_the_whole_chain(self, mixture, dose):
        """Twice the counts: half the ratios, twice the volumes, the same composition."""
        maps, haadf = (a.swapaxes(-1, -2) for a in mixture)
        angles = np.linspace(-60, 60, haadf.shape[0])
        images = mt.TiltSeriesHAADF.from_images(haadf, tilts=angles)
        found = []
        for factor in (1.0, dose):
            eds = mt.TiltSeriesEDS.from_maps(
                {"Au": factor * maps[0], "Ag": factor * maps[1]}, tilts=angles
            )
            ratios = eds.fit_response_ratios(images, block_size=4)
            assume(ratios.values.min() > 0)
            volume = eds.reconstruct_hebt(images, iterations=5, **QUIET)
            found.append(
                (ratios.values, volume.data, volume.quantify("CL", {"Au": 1.5, "Ag": 1.0}).data)
            )
        (ratios, volume, percent), (other_ratios, other_volume, other_percent) = found
        np.testing.assert_allclose(other_ratios, ratios / dose, rtol=1e-3)
        near(other_volume, dose * volume, 1e-3)
        assert (
            np.mean(np.abs(other_percent - percent) > 1) < 0.01
        )  # voxels on the threshold of the mask may change sides
