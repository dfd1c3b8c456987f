# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition of lazy volumes: block by block what it is in memory, in few passes and little memory."""

import tracemalloc
from types import SimpleNamespace

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import particle_mask, quantify
from hyperspy_multitomo.composition.particle.edge_spread import edge_spread
from hyperspy_multitomo.composition.particle.median import median_of_neighbours
from hyperspy_multitomo.composition.particle.value_table import ValueTable, threshold_between_values
from hyperspy_multitomo.composition.xrays.coarse_grid import coarse_geometry, cube_means, finer
from hyperspy_multitomo.signals.methods import haadf_composition
from hyperspy_multitomo.signals.methods import xray_paths as tracing
from hyperspy_multitomo.simulation.absorbing_phantoms import gold_shell
from hyperspy_multitomo.tomography import TiltGeometry, projector

SIZE = 40
AT = np.mgrid[:SIZE, :SIZE, :SIZE] - (SIZE - 1) / 2
WHOLE = np.sqrt((AT**2).sum(axis=0)) < 15
CORE = np.sqrt((AT**2).sum(axis=0)) < 8
FACTORS = {
    "CL": {"Ag": 1.5, "Au": 2.0},
    "zeta": {"Ag": 480.0, "Au": 620.0},
    "cross_section": {"Ag": 12.0, "Au": 9.0},
}
CHUNKS = [(-1, -1, 16, -1), (7, 1, 13, -1), (-1, 2, 9, 11), (1, 2, -1, -1)]
#: "auto" votes in the noisy one.
NOISE = {"clean": 0.01, "noisy": 0.3}
QUIET = dict(show_progressbar=False)


def counts(noise):
    """Silver with a core of gold, blurred, (z, y, x) of both."""
    rng = np.random.default_rng(0)
    found = {}
    for name, where in (("Ag", WHOLE & ~CORE), ("Au", CORE)):
        blurred = gaussian_filter(where.astype(np.float64), 0.8)
        found[name] = np.maximum(
            blurred + noise * np.sqrt(0.1 + blurred) * rng.normal(size=where.shape), 0
        ).astype(np.float32)
    return found


@pytest.fixture(scope="module", params=NOISE)
def volume(request):
    made = mt.TomographicVolume.from_arrays(
        counts(NOISE[request.param]), pixel_size=2.0, quantity="counts / nm"
    )
    made.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    made.metadata.set_item("Acquisition_instrument.TEM.Detector.EDS.solid_angle", 0.7)
    made.metadata.set_item("Sample.xray_lines", ["Ag_La", "Au_La"])
    return made


def lazy(volume, chunks=CHUNKS[0]):
    made = volume.as_lazy()
    made.data = made.data.rechunk(chunks)
    return made


def counted(volume, chunks=CHUNKS[0]):
    """A lazy volume, and how many times each of its blocks has been read."""
    made, reads = lazy(volume, chunks), SimpleNamespace(blocks=0)

    def read(block):
        reads.blocks += 1
        return block

    made.data = da.map_blocks(
        read, made.data, dtype=np.float32, meta=np.empty((0,) * 4, np.float32)
    )
    number = int(np.prod(made.data.numblocks))

    def passes():
        done, reads.blocks = reads.blocks / number, 0
        return done

    return made, passes


class TestSameAsInMemory:
    @pytest.mark.parametrize("units", ["weight", "atomic"])
    @pytest.mark.parametrize("method", ["CL", "zeta", "cross_section", "model"])
    def test_methods_and_units(self, volume, method, units):
        factors = FACTORS.get(method)
        wanted = volume.quantify(method, factors, units)
        found = lazy(volume).quantify(method, factors, units)
        assert isinstance(found, mt.LazyTomographicVolume)
        assert found.quantity == wanted.quantity
        assert found.history == wanted.history
        assert found.metadata.General.title == wanted.metadata.General.title
        # Some of those that their neighbours vote for are empty.
        assert found.history[-1]["voxels"] >= np.count_nonzero(wanted.data.sum(axis=1)) > 1000
        np.testing.assert_array_equal(found.data.compute(), wanted.data)

    @pytest.mark.parametrize("chunks", CHUNKS)
    @pytest.mark.parametrize("threshold", [None, "esf", "otsu", 1.2])
    def test_thresholds_and_chunks(self, volume, threshold, chunks):
        wanted = volume.quantify("CL", FACTORS["CL"], threshold=threshold)
        found = lazy(volume, chunks).quantify("CL", FACTORS["CL"], threshold=threshold)
        np.testing.assert_array_equal(found.data.compute(), wanted.data)
        voxels = found.history[-1]["voxels"]
        assert voxels is None if threshold == 1.2 else voxels == wanted.history[-1]["voxels"]
        # All elements of a block stay together.
        assert found.data.chunks[1] == (2,)
        assert found.data.chunks[2] == lazy(volume, chunks).data.chunks[2]

    def test_neighbours_vote_in_noise_only(self, volume):
        curve = volume.find_threshold()
        assert curve.smoothed == (volume["Ag"].data[0].std() > 0.02)

    def test_from_file_to_file(self, volume, tmp_path):
        lazy(volume).save(tmp_path / "counts.zspy", **QUIET)
        stored = hs.load(tmp_path / "counts.zspy", lazy=True)
        stored.quantify("zeta", FACTORS["zeta"]).save(tmp_path / "percent.zspy", **QUIET)
        percent = hs.load(tmp_path / "percent.zspy")
        wanted = volume.quantify("zeta", FACTORS["zeta"])
        assert isinstance(percent, mt.TomographicVolume)
        assert percent.elements == ("Ag", "Au")
        np.testing.assert_array_equal(percent.data, wanted.data)
        assert percent.history[-1] == wanted.history[-1]

    @pytest.mark.parametrize("kind", ["array", "dask", "signal", "lazy signal"])
    def test_masks(self, volume, kind):
        mask = WHOLE.copy()
        mask[:, :5] = False
        given = {
            "array": mask,
            "dask": da.from_array(mask, chunks=(11, -1, 6)),
            "signal": hs.signals.Signal2D(mask),
            "lazy signal": hs.signals.Signal2D(mask).as_lazy(),
        }[kind]
        wanted = volume.quantify("CL", FACTORS["CL"], mask=mask)
        found = lazy(volume, CHUNKS[1]).quantify("CL", FACTORS["CL"], mask=given)
        np.testing.assert_array_equal(found.data.compute(), wanted.data)
        assert found.history[-1]["voxels"] == (
            None if hasattr(getattr(given, "data", given), "dask") else mask.sum()
        )
        np.testing.assert_array_equal(
            volume.quantify("CL", FACTORS["CL"], mask=given).data, wanted.data
        )

    def test_thresholds_of_arrays(self):
        total = sum(counts(0.1).values())
        for chunks in [(40, 40, 16), (7, 11, 40)]:
            blocks = da.from_array(total, chunks=chunks)
            for smooth in (None, True, False):
                one, other = edge_spread(total, smooth), edge_spread(blocks, smooth)
                for name in (
                    "levels",
                    "volumes",
                    "slopes",
                    "value",
                    "flat",
                    "interior",
                    "smoothed",
                    "ambiguous",
                ):
                    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            np.testing.assert_array_equal(particle_mask(blocks).compute(), particle_mask(total))
        np.testing.assert_array_equal(
            quantify(da.from_array(total[None], chunks=9), ["Au"], "CL", [1.0])[0].compute(),
            quantify(total[None], ["Au"], "CL", [1.0])[0],
        )

    def test_ambiguous_in_the_same_words(self):
        ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32)[:, None, None], (32, 32, 32))
        film = counts(0.0)["Ag"] + 0.3 * (np.abs(AT[0]) < 4) * ~WHOLE
        for total, words in ((ramp, "gradient"), (film, "support film")):
            blocks = da.from_array(
                np.ascontiguousarray(total, dtype=np.float32), chunks=(9, 32, 13)
            )
            assert words in edge_spread(blocks).ambiguous
            assert edge_spread(blocks).ambiguous == edge_spread(total).ambiguous
            with pytest.raises(ValueError, match=words):
                particle_mask(blocks, "esf")
            with pytest.warns(UserWarning, match=f"Otsu's.*{words}"):
                found = particle_mask(blocks)
            np.testing.assert_array_equal(found.compute(), particle_mask(total, "otsu"))

    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_errors(self, volume, chunks):
        composition = volume.quantify("CL", FACTORS["CL"])
        blocks = lazy(volume, chunks)
        spread = volume._deepcopy_with_new_data(0.1 * volume.data)
        by_element = {"Ag": 0.1, "Au": np.full(WHOLE.shape, 0.2)}
        for errors in (
            spread,
            lazy(spread, CHUNKS[2]),
            by_element,
            {"Ag": 0.1, "Au": da.full(WHOLE.shape, 0.2)},
            0.3,
            None,
        ):
            how = dict(factor_errors={"Au": 0.1}, count_errors=errors)
            wanted = volume.composition_errors(composition, **how)
            for of in (composition, lazy(composition)):
                found = blocks.composition_errors(of, **how)
                assert isinstance(found, mt.LazyTomographicVolume)
                assert found.data.dtype == np.float32
                np.testing.assert_allclose(found.data.compute(), wanted.data, rtol=1e-6)
        negative = blocks.composition_errors(
            composition, count_errors=lazy(volume._deepcopy_with_new_data(-1 - volume.data))
        )
        with pytest.raises(ValueError, match="negative"):
            negative.data.compute()

    @pytest.mark.parametrize("method", ["zeta", "cross_section", "model"])
    def test_density(self, volume, method):
        wanted = volume.quantify_density(method, FACTORS.get(method), dose=1e7)
        found = lazy(volume, CHUNKS[2]).quantify_density(method, FACTORS.get(method), dose=1e7)
        assert found._lazy
        assert found.quantity == "g/cm^3"
        np.testing.assert_allclose(found.data.compute(), wanted.data, rtol=1e-6)
        assert found.history == wanted.history

    def test_curve_and_figure(self, volume):
        one, other = (
            volume.find_threshold(FACTORS["CL"]),
            lazy(volume, CHUNKS[1]).find_threshold(FACTORS["CL"]),
        )
        assert one.value == other.value
        np.testing.assert_array_equal(one.volumes, other.volumes)
        assert len(lazy(volume).plot_threshold().axes) == 2


class TestPasses:
    @pytest.mark.parametrize(
        ("how", "passes"),
        [
            ({}, 2),
            ({"threshold": "esf"}, 2),
            ({"threshold": "otsu"}, 1),
            ({"threshold": 0.8}, 0),
            ({"mask": WHOLE}, 0),
        ],
    )
    def test_number(self, volume, how, passes):
        blocks, read = counted(volume)
        found = blocks.quantify("CL", FACTORS["CL"], **how)
        assert read() == passes
        found.data.compute()
        assert read() == 1

    def test_a_third_one_where_there_may_be_a_dim_phase(self):
        bright = 4 * gaussian_filter(CORE.astype(np.float32), 1.0) + gaussian_filter(
            WHOLE.astype(np.float32), 1.0
        )
        volume = mt.TomographicVolume.from_arrays({"Au": bright})
        blocks, read = counted(volume)
        assert blocks.find_threshold().ambiguous == volume.find_threshold().ambiguous != ""
        assert read() == 3

    def test_what_is_wrong_is_said_before_anything_is_read(self, volume):
        blocks, read = counted(volume)
        composition = blocks.quantify("CL", FACTORS["CL"], threshold=0.8)
        for wrong in (
            lambda: blocks.quantify("CL", FACTORS["CL"], "volume"),
            lambda: blocks.quantify("CL", {"Ag": 1.0}),
            lambda: blocks.quantify("CL", FACTORS["CL"], mask=WHOLE[:3]),
            lambda: blocks.quantify("CL", FACTORS["CL"], mask=da.zeros((3, 3, 3), bool)),
            lambda: blocks.quantify("CL", FACTORS["CL"], mask=np.zeros_like(WHOLE)),
            lambda: blocks.quantify("CL", FACTORS["CL"], threshold="li"),
            lambda: blocks.composition_errors(composition),
            lambda: blocks.composition_errors(composition, factor_errors={"Fe": 1.0}),
            lambda: blocks.composition_errors(composition, count_errors={"Fe": 1.0}),
            lambda: blocks.quantify_density("CL", FACTORS["CL"], dose=1.0),
        ):
            with pytest.raises(ValueError, match=r"\w"):
                wrong()
        assert read() == 0

    def test_nothing_and_no_numbers(self, volume):
        for fill, words in ((0.0, "nothing in the volume is positive"), (np.nan, "NaN")):
            bad = lazy(volume._deepcopy_with_new_data(np.full_like(volume.data, fill)))
            for threshold in (None, "esf", "otsu"):
                with pytest.raises(ValueError, match=words):
                    bad.quantify("CL", FACTORS["CL"], threshold=threshold)

    def test_a_reconstruction_that_is_not_saved_is_named(self, tmp_path):
        tilts = np.arange(-60.0, 61.0, 20.0)
        A = projector(TiltGeometry(tilts, SIZE))
        maps = {
            name: A(one.transpose(0, 2, 1)[None])[0].swapaxes(1, 2)
            for name, one in counts(0.0).items()
        }
        eds = mt.TiltSeriesEDS.from_maps(maps, tilts=tilts, pixel_size=2.0).as_lazy()
        made = eds.reconstruct_sirt(5)
        part = made.isig[2:, :]
        for unsaved in (made, part):
            with pytest.warns(UserWarning, match=r"has not been saved.*volume\.save"):
                unsaved.quantify("CL", FACTORS["CL"], threshold="otsu")
        with pytest.warns(UserWarning, match="has not been saved"):
            made.find_threshold()
        eds.reconstruct_sirt(5, checkpoint=tmp_path / "slabs").find_threshold()
        made.quantify("CL", FACTORS["CL"], threshold=1.0)
        made.save(tmp_path / "volume.zspy", **QUIET)
        saved = hs.load(tmp_path / "volume.zspy", lazy=True)
        wanted = hs.load(tmp_path / "volume.zspy").quantify("CL", FACTORS["CL"], threshold="otsu")
        found = saved.quantify("CL", FACTORS["CL"], threshold="otsu")
        np.testing.assert_array_equal(found.data.compute(), wanted.data)


def peak_of(volume, path, **how):
    """Peak of memory of composing a volume and saving it, bytes."""
    tracemalloc.start()
    with dask.config.set(scheduler="threads", num_workers=1):
        volume.quantify("CL", FACTORS["CL"], **how).save(path, **QUIET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("how", [{}, {"threshold": 0.8}], ids=["auto", "number"])
def test_memory_does_not_grow_with_the_slices(how, tmp_path):
    slab = np.concatenate(
        [np.stack([one.swapaxes(0, 1) for one in counts(0.3).values()])] * 2, axis=1
    )
    size, repeats, peaks, whole = 2 * SIZE, (16, 32), [], 0
    wide = np.pad(slab, ((0, 0), (0, 0), (0, 72), (0, 72))).transpose(
        2, 0, 1, 3
    )  # (z, element, y, x)
    warm = mt.TomographicVolume.from_arrays({"Ag": wide[:, 0], "Au": wide[:, 1]}).as_lazy()
    peak_of(warm, tmp_path / "warm.zspy", **how)
    for times in repeats:
        data = da.concatenate(
            [da.from_delayed(dask.delayed(np.copy)(wide), wide.shape, np.float32)] * times, axis=2
        )
        volume = mt.TomographicVolume.from_arrays({"Ag": data[:, 0], "Au": data[:, 1]})
        volume.save(tmp_path / f"{times}.zspy", **QUIET)
        stored = hs.load(tmp_path / f"{times}.zspy", lazy=True)
        assert set(stored.data.chunks[2]) == {size}
        peaks.append(peak_of(stored, tmp_path / f"percent_{times}.zspy", **how))
        whole = stored.data.nbytes
    assert peaks[1] < 1.15 * peaks[0]
    assert peaks[1] < (0.45 if how == {} else 0.2) * whole


class TestWhatItIsMadeOf:
    def test_table_is_that_of_rounded_values(self):
        values = np.random.default_rng(1).normal(0, 3, (9, 10, 11)).astype(np.float32)
        table = ValueTable.of(values)
        np.testing.assert_allclose(
            np.repeat(table.values, table.counts),
            np.sort(values.ravel()),
            rtol=2.0**-14,
            atol=1e-30,
        )
        parts = ValueTable.sum([ValueTable.of(part) for part in np.array_split(values, 4)])
        np.testing.assert_array_equal(parts.keys, table.keys)
        np.testing.assert_array_equal(parts.counts, table.counts)
        assert table.size == values.size
        for part in (0.0, 0.1, 0.5, 0.999, 1.0):
            np.testing.assert_allclose(
                table.quantile(part), np.quantile(values, part), rtol=1e-4, atol=1e-4
            )
        for level in (-2.0, -0.3, 0.0, 0.7, 4.0, float(values[0, 0, 0])):
            at = threshold_between_values(level)
            assert abs(at - level) <= 2.0**-13 * abs(level) + 1e-30
            assert np.count_nonzero(values > at) == table.above(level).size == table.above(at).size
            assert table.above(level).size + table.up_to(level).size == table.size
        levels = np.linspace(-5, 5, 11)
        np.testing.assert_allclose(
            table.from_levels_on(levels), [(values >= level).sum() for level in levels], atol=1
        )

    def test_table_of_whole_numbers_is_exact(self):
        from skimage.filters import threshold_otsu

        values = np.random.default_rng(2).integers(0, 200, 5000)
        table = ValueTable.of(values)
        np.testing.assert_array_equal(table.values, np.unique(values))
        assert table.quantile(0.5) == np.median(values)
        assert table.otsu() == threshold_otsu(values.astype(np.float64))
        clipped = table.clipped(150.0)
        np.testing.assert_array_equal(
            np.repeat(clipped.values, clipped.counts), np.sort(np.minimum(values, 150))
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_table_of_no_numbers(self, value):
        with pytest.raises(ValueError, match="NaN or infinite"):
            ValueTable.of(np.array([0.0, value, 1.0]))

    @pytest.mark.parametrize(
        "shape", [(1,), (7,), (3, 4), (1, 1, 130), (5, 1, 64), (12, 13, 65), (2, 3, 4, 5)]
    )
    def test_median_of_neighbours(self, shape):
        values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        np.testing.assert_array_equal(median_of_neighbours(values), median_filter(values, 3))

    @pytest.mark.parametrize("size", [1, 2, 3, 4])
    @pytest.mark.parametrize("shape", [(2, 8, 12, 5), (1, 9, 7, 12)])
    def test_block_means(self, shape, size):
        values = np.random.default_rng(4).random(shape)
        means = cube_means(values, size)
        lazily = cube_means(da.from_array(values, chunks=(1, 5, 3, 4)), size)
        assert lazily.shape == means.shape
        np.testing.assert_allclose(lazily.compute(), means)
        np.testing.assert_allclose(size**3 * means.sum(axis=(1, 2, 3)), values.sum(axis=(1, 2, 3)))

    @pytest.mark.parametrize("binning", [1, 2])
    @pytest.mark.parametrize("size", [2, 3, 4])
    def test_coarse_rays_fall_where_they_did(self, size, binning):
        """The centre of the projections of a smooth blob is the same, whatever the padding."""
        for nz, nx in ((77, 90), (78, 92)):
            z, x = np.mgrid[:nz, :nx]
            blob = np.exp(-((z - 0.55 * nz) ** 2 + (x - 0.45 * nx) ** 2) / 2 / 36)[None, ..., None]
            blob = np.repeat(blob, 12, axis=3).astype(np.float32)
            width = nx // binning
            geometry = TiltGeometry(
                [-60, -10, 35, 90],
                width,
                (nz, nx),
                2.0,
                axis_offset=1.3,
                shifts=[0.4, -1.0, 0, 2.2],
                binning=binning,
            )
            fine = projector(geometry)(blob)
            coarse = projector(coarse_geometry(geometry, size))(cube_means(blob, size, binning))
            back = finer(coarse, size, width, slice(0, 12 // binning))
            assert back.shape == fine.shape
            at = np.arange(width)[:, None]
            centres = [
                (images * at).sum(axis=(2, 3)) / images.sum(axis=(2, 3)) for images in (fine, back)
            ]
            np.testing.assert_allclose(*centres, atol=0.02)


class TestHAADF:
    def made(self):
        signal = np.random.default_rng(6).normal(0, 0.2, WHOLE.shape) + 10.0 * WHOLE + 14.0 * CORE
        return mt.TomographicVolume.from_arrays(signal.astype(np.float32))

    def test_same_and_within_what_is_said(self):
        wanted = self.made().quantify_haadf(("Au", "Ag"))
        blocks = self.made().as_lazy()
        tracemalloc.start()
        found = blocks.quantify_haadf(("Au", "Ag"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found._lazy
        np.testing.assert_array_equal(found.data.compute(), wanted.data)
        assert peak < 1.05 * haadf_composition._BYTES_BY_VOXEL * WHOLE.size

    def test_refused_where_it_does_not_fit(self, monkeypatch):
        monkeypatch.setattr(
            "hyperspy_multitomo.machine.memory.available_memory", lambda: 50 * WHOLE.size
        )
        with pytest.raises(
            MemoryError, match="quantify_haadf, which loads the whole volume.*crop it"
        ):
            self.made().as_lazy().quantify_haadf(("Au", "Ag"))
        self.made().quantify_haadf(("Au", "Ag"))


TILTS = np.arange(-60.0, 61.0, 30.0)
HOW = dict(density=9.0, efficiency=1.0, threshold="otsu", **QUIET)


class TestAbsorption:
    @pytest.fixture
    def pair(self):
        """Series and volume of a particle that absorbs, both in memory; the light of the series is arbitrary."""
        phantom = gold_shell(size=34, slices=30)
        arrays = phantom.counts_per_unit[:, None, None, None] * phantom.truth
        geometry = TiltGeometry(TILTS, phantom.size, pixel_size=phantom.pixel_size)
        maps = projector(geometry)(arrays.astype(np.float32)).swapaxes(2, 3)
        eds = mt.TiltSeriesEDS.from_maps(
            {"Al": maps[0], "Au": maps[1]}, tilts=TILTS, pixel_size=phantom.pixel_size
        )
        volume = mt.TomographicVolume.from_arrays(
            {"Al": arrays[0].swapaxes(1, 2), "Au": arrays[1].swapaxes(1, 2)},
            pixel_size=phantom.pixel_size,
        )
        for signal in (eds, volume):
            signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
            signal.metadata.set_item("Sample.xray_lines", ["Al_Ka", "Au_La"])
        eds.detectors = "super-x"
        return eds, volume

    def test_lazy_is_the_same(self, pair, tmp_path):
        eds, volume = pair[0].deepcopy(), pair[1]
        wanted = eds.estimate_absorption(volume, **HOW)
        blocks = volume.as_lazy()
        blocks.data = blocks.data.rechunk((10, 1, 7, 13))
        maps = pair[0].deepcopy().as_lazy()
        maps.data = maps.data.rechunk((2, 1, 8, -1))
        found = maps.estimate_absorption(blocks, **HOW)
        np.testing.assert_allclose(found.transmission, wanted.transmission, rtol=1e-5)
        assert found.density == pytest.approx(wanted.density) == pytest.approx(9.0)
        assert maps.history[-1]["binning"] == 1
        assert isinstance(maps.transmission, da.Array)
        np.testing.assert_allclose(maps.transmission.compute(), eds.transmission, rtol=1e-5)
        maps.save(tmp_path / "maps.zspy", **QUIET)
        np.testing.assert_allclose(
            hs.load(tmp_path / "maps.zspy").transmission, eds.transmission, rtol=1e-5
        )

    @pytest.mark.parametrize(("binning", "error"), [(2, 0.008), (4, 0.025)])
    def test_binned(self, pair, binning, error):
        eds, volume = pair[0].deepcopy(), pair[1]
        eds.estimate_absorption(volume, **HOW)
        exact, emitted = eds.transmission, eds.array("tilt", "element", "y", "x")
        for series in (eds, eds.as_lazy()):
            series.estimate_absorption(volume, binning=binning, **HOW)
            difference = np.asarray(series.transmission) - exact
            rms = np.sqrt(
                (difference**2 * emitted).sum(axis=(0, 2, 3)) / emitted.sum(axis=(0, 2, 3))
            )
            assert 0 < rms.max() < error

    def test_with_an_alignment(self, pair):
        """Where images lie displaced and turned, so does what is attached, on the coarse grid too."""
        eds, volume = pair[0].deepcopy(), pair[1]
        eds.alignment = mt.alignment.Alignment(
            [1.0, -2.0, 0.5, 3.0, 0.0], [2.0, 0.0, -3.0, 1.0, 0.0], rotation=3.0
        )
        eds.estimate_absorption(volume, **HOW)
        exact = eds.transmission
        eds.estimate_absorption(volume, binning=2, **HOW)
        seen = eds.array("tilt", "element", "y", "x") > 0.1 * eds.data.max()
        assert np.sqrt(np.mean((eds.transmission - exact)[seen] ** 2)) < 0.01

    def test_as_coarse_as_the_memory_asks_for(self, pair, monkeypatch):
        eds, blocks = pair[0].as_lazy(), pair[1].as_lazy()
        found = []
        for room in (1e9, 4e6, 3e5):
            monkeypatch.setattr(tracing, "available_memory", lambda room=room: room)
            eds.estimate_absorption(blocks, **HOW)
            found.append(eds.history[-1]["binning"])
        assert found[0] == 1 < found[1] < found[2]

    @pytest.mark.parametrize("binning", [0, 1.5, True, 100])
    def test_bad_binning(self, pair, binning):
        with pytest.raises(
            ValueError, match="binning=.*must be a whole number(, 1 or more| from 1 to half)"
        ):
            pair[0].deepcopy().estimate_absorption(pair[1], binning=binning, **HOW)
