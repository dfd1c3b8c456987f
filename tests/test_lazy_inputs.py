# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a lazy series and a slab of it:
equal to the series in memory, and no more is read than the slab needs."""

import tracemalloc

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.alignment.resampling import Rows
from hyperspy_multitomo.reconstruction import tilt_data
from hyperspy_multitomo.signals import arrays as frames
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.methods import ratio_slices

TILTS = np.linspace(-60, 60, 5)
SLICES, WIDTH = 150, 20
FILES = "ignore:The NestedDirectoryStore:FutureWarning"
pytestmark = pytest.mark.filterwarnings(FILES)
RNG = np.random.default_rng(1)
ACROSS, ALONG, DRIFT = (
    scale * RNG.normal(size=shape) for scale, shape in ((2, 5), (6, 5), (0.01, (5, 2)))
)
ALIGNMENTS = {
    "none": None,
    "across": Alignment(ACROSS, np.zeros(5)),
    "whole pixels": Alignment(ACROSS, np.round(ALONG)),
    "along": Alignment(ACROSS, ALONG, axis_offset=1.5),
    "beyond the view": Alignment(ACROSS, [-400.0, -20, 0.5, 20, 400]),
    "turned": Alignment(ACROSS, ALONG, axis_offset=1.5, rotation=3.0),
    "on its side": Alignment(ACROSS, ALONG, rotation=90.0),
    "drift": Alignment(ACROSS, ALONG, drift=DRIFT),
    "drift of columns, turned": Alignment(ACROSS, ALONG, rotation=-2.0, drift=DRIFT, slow_axis="x"),
}
# (tilt, element, y, x)
CHUNKS = {
    "whole": (5, 2, SLICES, WIDTH),
    "images": (1, 1, SLICES, WIDTH),
    "slabs": (5, 2, 64, WIDTH),
    "pieces": (2, 1, 37, 11),
}


def spectral(slices=SLICES, width=WIDTH, transmission=True):
    """Maps with gross counts, background, window shares and transmission,
    (tilt, element, y, x) each."""
    rng = np.random.default_rng(0)
    shape, share = (
        (len(TILTS), 2, slices, width),
        np.linspace(0.7, 0.9, 2 * len(TILTS)).reshape(-1, 2),
    )
    background = np.float32(rng.normal([[[2.0]], [[0.3]]], 1.0, shape))
    background[:, :, : slices // 4] += 1
    gross = rng.poisson(4.0, shape).astype(np.float32)
    net = (gross - background) / share[..., None, None]
    eds = mt.TiltSeriesEDS.from_maps(
        {"Au": net[:, 0], "Ag": net[:, 1]}, tilts=TILTS, pixel_size=0.5
    )
    for name, values in (("gross", gross), ("background", background)):
        record(eds, name, values, ("tilt", "element", "y", "x"))
    record(eds, "window_share", share, ("tilt", "element"))
    if transmission:
        eds.transmission = rng.uniform(0.4, 0.9, shape).astype(np.float32)
    return eds


def from_file(series, folder, chunks):
    """The series as loaded lazily, everything recorded beside the data chunked like them."""
    held = series.deepcopy()
    for _, item in held.metadata.Tomography.arrays:
        if "y" in item.dims.split():
            item.values = da.from_array(item.values, chunks=chunks)
    held.save(folder / "series.zspy", chunks=chunks)
    return hs.load(folder / "series.zspy", lazy=True)


def assert_equal(found, expected, lazily=True):
    assert hasattr(found, "dask") == lazily
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)


class TestRows:
    """`Alignment.apply` of some rows."""

    @pytest.mark.parametrize("name", ALIGNMENTS)
    @pytest.mark.parametrize("backward", [False, True])
    def test_made_of_those_that_are_needed(self, name, backward):
        alignment = ALIGNMENTS[name] or Alignment.identity(5)
        images = np.random.default_rng(2).random((2, 5, 13, 37), np.float32)
        for for_geometry in (False, True):
            options = {"for_geometry": for_geometry, "backward": backward}
            whole = alignment.apply(images, fill="edge", **options)
            for start, stop in ((0, 37), (0, 1), (5, 9), (17, 37), (36, 37)):
                first, last = alignment.rows_needed(start, stop, (13, 37), **options)
                assert 0 <= first < last <= 37
                # Nothing else may matter.
                others = np.full_like(images, np.nan)
                others[..., first:last] = images[..., first:last]
                part = alignment.apply(
                    others[..., first:last],
                    fill="edge",
                    rows=Rows(start, stop, first, 37),
                    **options,
                )
                np.testing.assert_allclose(part, whole[..., start:stop], atol=1e-6)

    def test_no_more_than_the_shift_and_its_neighbours(self):
        first, last = Alignment([0.0, 0.0], [2.5, -3.0]).rows_needed(100, 164, (500, 1000))
        assert (first, last) == (96, 169)
        assert ALIGNMENTS["across"].rows_needed(100, 164, (500, 1000), for_geometry=True) == (
            99,
            166,
        )

    def test_zeros_enter_the_view_where_they_do_for_whole_images(self):
        images = np.random.default_rng(2).random((5, 13, 37), np.float32)
        for name in ("along", "whole pixels", "beyond the view", "turned"):
            whole = ALIGNMENTS[name].apply(images)
            first, last = ALIGNMENTS[name].rows_needed(20, 37, (13, 37))
            part = ALIGNMENTS[name].apply(images[..., first:last], rows=Rows(20, 37, first, 37))
            np.testing.assert_allclose(part, whole[..., 20:], atol=1e-6)


class TestFrames:
    """Lazy series from files, equal to the same in memory."""

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ALIGNMENTS)
    def test_projections_counts_and_gains(self, tmp_path, name):
        eds = spectral()
        eds.alignment = ALIGNMENTS[name]
        lazy = from_file(eds, tmp_path, CHUNKS["images"])
        self.compare(lazy, eds)

    @pytest.mark.slow
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_any_chunks(self, tmp_path, chunks):
        eds = spectral()
        eds.alignment = ALIGNMENTS["turned"]
        lazy = from_file(eds, tmp_path, CHUNKS[chunks])
        assert lazy.gross.chunksize == lazy.data.chunksize == CHUNKS[chunks]
        self.compare(lazy, eds)

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["cropped", "binned", "tilts", "one element", "in memory"])
    def test_what_is_recorded_follows_the_data(self, tmp_path, how):
        eds = spectral()
        eds.alignment = ALIGNMENTS["drift"]
        lazy = eds.as_lazy() if how == "in memory" else from_file(eds, tmp_path, CHUNKS["pieces"])
        change = {
            "cropped": lambda s: s.isig[3:17, 21:140],
            "binned": lambda s: s.isig[1:, 3:].bin(3),
            "tilts": lambda s: s.inav[:, 1:4],
            "one element": lambda s: s["Ag"],
            "in memory": lambda s: s,
        }[how]
        self.compare(change(lazy), change(eds))

    @staticmethod
    def compare(lazy, eds):
        assert lazy._lazy
        assert not eds._lazy
        for name in ("gross", "background", "transmission"):
            assert_equal(getattr(lazy, name), getattr(eds, name))
        assert_equal(frames.projections(lazy), frames.projections(eds))
        found, expected = frames.tilt_data(lazy).counts(), frames.tilt_data(eds).counts()
        for mine, other in zip(found[:2], expected[:2], strict=True):
            assert_equal(mine, other)
        assert isinstance(found[2], np.ndarray)
        np.testing.assert_array_equal(found[2], expected[2])
        np.testing.assert_allclose(frames.gains_of(lazy), frames.gains_of(eds), rtol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ALIGNMENTS)
    def test_aligned_copies(self, tmp_path, name):
        eds = spectral()
        eds.alignment = ALIGNMENTS[name]
        copy, lazy = eds.aligned(), from_file(eds, tmp_path, CHUNKS["slabs"]).aligned()
        assert lazy._lazy
        assert lazy.alignment is None
        assert_equal(lazy.data, copy.data)
        assert_equal(lazy.transmission, copy.transmission)
        assert (lazy.gross is None) == (copy.gross is None) == (name != "none")

    def test_aligned_images_of_the_haadf(self, tmp_path):
        haadf = mt.TiltSeriesHAADF.from_images(
            np.random.default_rng(0).random((5, 90, 20)), tilts=TILTS
        )
        haadf.alignment = ALIGNMENTS["turned"]
        haadf.save(tmp_path / "haadf.hspy")
        lazy = hs.load(tmp_path / "haadf.hspy", lazy=True)
        assert_equal(lazy.aligned().data, haadf.aligned().data)
        assert_equal(frames.projections(lazy), frames.projections(haadf))

    @pytest.mark.slow
    def test_backgrounds_below_nothing_stay_out(self, tmp_path):
        eds = spectral(transmission=False)
        held = eds.background.copy()
        held[0, 0] -= 10
        eds.data[0, 0] += 10 / eds.window_share[0, 0]
        record(eds, "background", held, ("tilt", "element", "y", "x"))
        expected = frames.tilt_data(eds).counts()[1]
        assert not expected[0, 0].any()
        assert_equal(
            frames.tilt_data(from_file(eds, tmp_path, CHUNKS["pieces"])).counts()[1], expected
        )

    @pytest.mark.slow
    def test_gains_and_hot_pixels(self, tmp_path):
        eds = spectral()
        lazy = from_file(eds, tmp_path, CHUNKS["pieces"])
        np.testing.assert_array_equal(lazy.find_hot_pixels(), eds.find_hot_pixels())
        mine, other = lazy.estimate_gains(model="constant"), eds.estimate_gains(model="constant")
        np.testing.assert_allclose(mine.values, other.values, rtol=1e-6)
        np.testing.assert_allclose(mine.standard_errors, other.standard_errors, rtol=1e-6)

    def test_a_lazy_series_is_saved_and_computed_with_what_is_beside_it(self, tmp_path):
        eds = spectral()
        lazy = from_file(eds, tmp_path, CHUNKS["slabs"])
        lazy.inav[:, :3].save(tmp_path / "again.zspy")
        again = hs.load(tmp_path / "again.zspy")
        np.testing.assert_array_equal(again.gross, eds.gross[:3])
        lazy.compute(show_progressbar=False)
        assert isinstance(lazy.gross, np.ndarray)
        np.testing.assert_array_equal(lazy.gross, eds.gross)

    def test_a_transmission_is_averaged_once(self, tmp_path, monkeypatch):
        lazy, passes = from_file(spectral(), tmp_path, CHUNKS["images"]), []
        measure = tilt_data.image_means
        monkeypatch.setattr(
            tilt_data, "image_means", lambda images: passes.append(1) or measure(images)
        )
        frames.projections(lazy), frames.gains_of(lazy), frames.tilt_data(lazy).counts()
        assert len(passes) == 1


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.parametrize("chunks", ["images", "slabs"])
    def test_a_slab_takes_the_same_of_a_series_of_any_length(self, chunks):
        slab, image = 4 * len(TILTS) * 2 * 200 * 64, 4 * 200
        # Images of a chunk each are read and cut one by one: two of them are held, of counts and
        # their transmission.
        images = 2 if chunks == "images" else 0
        # The less of two: other threads of the process may be at something.
        peaks = {slices: min(self.peak(slices, chunks) for _ in range(2)) for slices in (512, 2048)}
        for slices, peak in peaks.items():  # of 8 and 32 slabs
            assert peak < 8 * slab + images * slices * image

    @staticmethod
    def peak(slices, chunks):
        """Bytes at the peak of making one slab of gross counts and background in place."""
        shape = (len(TILTS), 2, slices, 200)
        sizes = (1, 1, slices, 200) if chunks == "images" else (1, 2, 64, 200)
        # Made chunk by chunk, as if read.
        made, twice = (
            da.map_blocks(
                lambda factor, block_info: (
                    factor
                    * np.random.default_rng(0).random(block_info[None]["chunk-shape"], np.float32)
                ),
                factor,
                chunks=da.core.normalize_chunks(sizes, shape),
                dtype=np.float32,
                meta=np.empty((0,) * 4, np.float32),
            )
            for factor in (np.float32(1), np.float32(2))
        )
        eds = mt.TiltSeriesEDS.from_maps({"Au": made[:, 0], "Ag": made[:, 1]}, tilts=TILTS)
        # The gross counts are those of the maps and as many of the background.
        for name, values in (("gross", twice), ("background", made), ("transmission", made)):
            record(eds, name, values, ("tilt", "element", "y", "x"))
        record(eds, "window_share", np.ones((len(TILTS), 2)), ("tilt", "element"))
        eds.alignment = ALIGNMENTS["turned"]
        with dask.config.set(scheduler="synchronous"):
            gross, background, _ = frames.tilt_data(eds).counts()
            tracemalloc.start()
            np.asarray(gross[..., 128:192])
            np.asarray(background[..., 128:192])
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return peak


def maps_and_haadf(slices=300):
    """Counts of two elements with grains along y,
    and the HAADF that they explain but for its noise."""
    rng = np.random.default_rng(0)
    y, x = np.arange(slices), np.arange(24)
    grains = np.stack([1 + np.sin(y / 5.0), 1 + np.cos(y / 7.0)])[:, None, :, None] * np.exp(
        -(((x - 11.5) / 6) ** 2)
    )
    expected = 4 * grains * (1 + 0.1 * np.arange(10))[:, None, None]
    counts = rng.poisson(expected)
    images = 40 * expected[0] + 10 * expected[1] + rng.normal(0, 3, expected.shape[1:])
    tilts = np.arange(10.0)
    haadf = mt.TiltSeriesHAADF.from_images(images, tilts=tilts)
    return mt.TiltSeriesEDS.from_maps({"Au": counts[0], "Ag": counts[1]}, tilts=tilts), haadf


class TestRatios:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["blocks", "poisson"])
    def test_fitted_to_some_slices_they_agree_with_those_of_all(self, tmp_path, method):
        eds, haadf = maps_and_haadf()
        for series, name in ((eds, "eds"), (haadf, "haadf")):
            series.save(tmp_path / f"{name}.zspy")
        lazy, images = (hs.load(tmp_path / f"{name}.zspy", lazy=True) for name in ("eds", "haadf"))
        whole, some = (
            eds.fit_response_ratios(haadf, method=method),
            lazy.fit_response_ratios(images, method=method),
        )
        assert "slices" not in eds.history[-1]
        assert lazy.history[-1]["slices"] == [[21, 53], [96, 128], [171, 203], [246, 278]]
        np.testing.assert_allclose(some.values, [40, 10], atol=3 * some.standard_errors.max())
        assert np.all(
            np.abs(some.values - whole.values)
            < 3 * np.hypot(some.standard_errors, whole.standard_errors)
        )
        assert np.all(some.standard_errors < 4 * whole.standard_errors)
        assert some.r2 == pytest.approx(whole.r2, abs=0.03)

    def test_a_series_in_memory_can_be_fitted_to_some_too(self):
        eds, haadf = maps_and_haadf()
        some = eds.fit_response_ratios(haadf, slices=128)
        lazy = eds.as_lazy().fit_response_ratios(haadf.as_lazy())
        np.testing.assert_allclose(some.values, lazy.values, rtol=1e-6)
        np.testing.assert_allclose(some.residual_map, lazy.residual_map, rtol=1e-5, atol=1e-3)

    def test_nothing_else_is_read(self):
        eds, haadf = maps_and_haadf()
        read = np.zeros(300, bool)

        def noted(block, block_info):
            start, stop = block_info[0]["array-location"][-2]
            read[start:stop] = True
            return block

        lazy = eds._deepcopy_with_new_data(
            da.from_array(eds.data, (1, 1, 4, 24)).map_blocks(noted, dtype=np.float32)
        )
        lazy._lazy, lazy.__class__ = True, mt.LazyTiltSeriesEDS
        read[:] = False
        lazy.fit_response_ratios(
            haadf.as_lazy(), slices=64, prior={"Au": 4, "Ag": 1}, prior_strength=0.01
        )
        ((first, _), _) = groups = lazy.history[-1]["slices"]
        assert sum(stop - start for start, stop in groups) == 64
        assert first > 4
        assert 64 <= read.sum() <= 64 + 4 * 4

    def test_residuals_lie_where_they_were_found(self):
        eds, haadf = maps_and_haadf()
        # A grain that no map explains.
        haadf.data[:, 100:112, 8:16] += 400
        with pytest.warns(UserWarning, match="explain the HAADF poorly"):
            some, whole = (
                eds.fit_response_ratios(haadf, block_size=4, slices=slices)
                for slices in (128, None)
            )
        assert some.residual_map.shape == whole.residual_map.shape
        seen = np.repeat(np.isfinite(some.residual_map).any(axis=(0, 1)), 4)
        assert seen[24:52].all()
        assert not seen[56:96].any()
        found, expected = (np.nansum(fit.residual_map, axis=(0, 1)) for fit in (some, whole))
        # Rows 100 to 112 are in the second group, all of their blocks.
        assert 25 <= found.argmax() <= 27
        assert 25 <= expected.argmax() <= 27
        assert found[25:28].min() > np.abs(np.delete(found, [25, 26, 27])).max()

    def test_groups_are_spread_evenly_and_not_more_than_fit(self, monkeypatch):
        eds, haadf = maps_and_haadf()
        lazy = eds.as_lazy()
        assert ratio_slices.some_slices(eds, None) is None
        assert ratio_slices.some_slices(eds, 300) is None
        assert ratio_slices.some_slices(lazy.isig[:, :128], None) is None
        assert len(ratio_slices.some_slices(eds, 40).rows) == 40
        assert ratio_slices.some_slices(eds, 1).groups == ((149, 150),)
        per_slice = 4 * ratio_slices._PEAK * 3 * 10 * 24
        monkeypatch.setattr(ratio_slices, "available_memory", lambda: 2 * per_slice * 70)
        assert [stop - start for start, stop in ratio_slices.some_slices(lazy, None).groups] == [
            35,
            35,
        ]
        monkeypatch.setattr(ratio_slices, "available_memory", lambda: 2 * per_slice * 20)
        with pytest.raises(MemoryError, match="32 slices of 2 maps at 10 tilts do not fit"):
            lazy.fit_response_ratios(haadf.as_lazy())

    @pytest.mark.parametrize("slices", [0, 2.5, True, "all"])
    def test_wrong_numbers(self, slices):
        eds, haadf = maps_and_haadf(40)
        with pytest.raises(ValueError, match="must be a whole number of slices, 1 or more"):
            eds.fit_response_ratios(haadf, slices=slices)

    def test_an_element_that_is_not_there(self):
        eds, haadf = maps_and_haadf()
        eds.data[:, 1, 10:] = 0
        with pytest.raises(
            ValueError, match="nothing of Ag in the 128 slices that were looked at; pass slices="
        ):
            eds.as_lazy().fit_response_ratios(haadf.as_lazy())

    def test_gross_counts_shares_and_masks(self):
        eds, haadf = maps_and_haadf()
        counts = eds.data.copy()
        record(eds, "gross", counts + 1, ("tilt", "element", "y", "x"))
        record(eds, "window_share", np.ones((10, 2)), ("tilt", "element"))
        eds.data -= np.float32(0.25)
        mask = np.ones((10, 300, 24), bool)
        mask[:, 40:] &= haadf.data[:, 40:] > 20
        options = {"method": "poisson", "mask": mask, "slices": 128}
        lazy = eds.as_lazy().fit_response_ratios(haadf.as_lazy(), **options)
        np.testing.assert_allclose(
            lazy.values, eds.fit_response_ratios(haadf, **options).values, rtol=1e-5
        )

    def test_other_alignments(self):
        eds, haadf = maps_and_haadf()
        haadf.alignment, eds.alignment = (
            Alignment.identity(10),
            Alignment(np.full(10, 1e-3), np.full(10, -2.0)),
        )
        haadf.data[:, :-2] = haadf.data[:, 2:].copy()
        lazy = eds.as_lazy().fit_response_ratios(haadf.as_lazy(), slices=128)
        np.testing.assert_allclose(lazy.values, [40, 10], rtol=0.05)
        np.testing.assert_allclose(
            lazy.values, eds.fit_response_ratios(haadf, slices=128).values, rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["em", "tv"])
def test_from_spectra_to_volumes_lazily(tmp_path, method):
    rng, energy = np.random.default_rng(0), 0.02 * np.arange(1, 512)
    thickness = np.zeros((5, 60, 12))
    thickness[:, 5:50, 3:9] = 1.0
    line = np.exp(-(((energy - 6.4039) / 0.057) ** 2) / 2)
    counts = rng.poisson(2 * thickness[..., None] * line + 0.01)
    axes = [{"name": "tilt", "axis": TILTS}, {"name": "y", "size": 60}, {"name": "x", "size": 12}]
    axes += [{"name": "Energy", "size": energy.size, "offset": 0.02, "scale": 0.02, "units": "keV"}]
    spectra = hs.signals.Signal1D(
        da.from_array(counts, chunks=(1, -1, -1, -1)), axes=axes
    ).as_lazy()
    spectra.set_signal_type("EDS_TEM")
    spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    maps = mt.elemental_maps(spectra, elements=["Fe"], also=[], show_progressbar=False)
    maps.alignment = Alignment(np.zeros(5), [0.0, 1.5, -2, 0.25, 3])
    maps.save(tmp_path / "maps.zspy", chunks=(1, 1, 32, 12))
    lazy = hs.load(tmp_path / "maps.zspy", lazy=True)
    options = {"em": {"iterations": 4}, "tv": {"iterations": 8}}[method]
    # EM of thin slabs; those of TV have steps of their own, so that few iterations would differ.
    volume = getattr(lazy, f"reconstruct_{method}")(
        **options, **({"chunks": 16} if method == "em" else {})
    )
    expected = getattr(maps, f"reconstruct_{method}")(**options, show_progressbar=False)
    assert volume._lazy
    np.testing.assert_allclose(
        volume.data.compute(), expected.data, rtol=1e-3, atol=1e-3 * expected.data.max()
    )
