# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors name the file, the argument and its value, and say what to do instead."""

import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo import arguments, parameters
from hyperspy_multitomo.acquisition.files.lazy_files import naming_file
from hyperspy_multitomo.machine import memory
from hyperspy_multitomo.signals import load

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import calls

TILTS = [-60, -30, 0, 30, 60]


@pytest.fixture(scope="module")
def made():
    """One signal of each class."""
    return calls.signals()


class TestArguments:
    @pytest.mark.slow
    def test_wrong_values_of_every_argument(self):
        """Of all methods, arguments and wrong values some, drawn at random;
        the whole of it by running the script."""
        found = calls.run(seed=7, n=200)
        bad = [f"{call} -> {came}" for call, came in found if came.kind in ("unclear", "silent")]
        assert len(bad) <= 0.02 * len(found), "\n".join(bad)

    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            (
                lambda s: s["haadf"].reconstruct_sirt(2, depth="deep"),
                r"depth='deep' must be a positive number",
            ),
            (
                lambda s: s["haadf"].reconstruct_sirt(2, width=[1, 2]),
                r"width=\[1, 2\] must be a positive number",
            ),
            (
                lambda s: s["haadf"].reconstruct_sirt(2, depth=1.0),
                "depth=1.0 is 1 voxel of 2; expected 2 voxels or more",
            ),
            (lambda s: s["haadf"].reconstruct_sirt(2.5), "iterations=2.5 must be a whole number"),
            (
                lambda s: s["haadf"].reconstruct_sirt(2, backend=["numba"]),
                r"backend=\['numba'\] must be a string",
            ),
            (
                lambda s: s["haadf"].reconstruct_sirt(2, nonnegative="no"),
                "nonnegative='no' must be True or False",
            ),
            (
                lambda s: s["haadf"].reconstruct_sirt(2, initial=1j),
                "initial=1j must be an array of real numbers",
            ),
            (
                lambda s: s["haadf"].reconstruct_sirt(2, chunks=1.5),
                "chunks=1.5 must be a whole number",
            ),
            (lambda s: s["haadf"].reconstruct_sirt(2, checkpoint=3), "checkpoint=3 must be a path"),
            (lambda s: s["haadf"].geometry(binning="2"), "binning='2' must be a whole number"),
            (lambda s: s["haadf"].plot_projections(tilt="0"), "tilt='0' must be"),
            (lambda s: s["haadf"].plot_sinogram(y="middle"), "y='middle' must be a whole number"),
            (
                lambda s: s["haadf"].smooth(1e12),
                r"sigma=1000000000000.0 is larger than the images, 16 px",
            ),
            (
                lambda s: s["haadf"].align("previous"),
                "alignment='previous' must be of the class Alignment",
            ),
            (
                lambda s: s["haadf"].align(orientation="upside down"),
                "orientation='upside down' must be one of same, flip_x",
            ),
            (lambda s: setattr(s["haadf"], "alignment", [0] * 5), "must be of the class Alignment"),
            (
                lambda s: setattr(s["haadf"], "gains", "equal"),
                "gains='equal' must be an array of real numbers",
            ),
            (lambda s: s["haadf"].drop_tilts("0"), "tilts='0' must be angles in degrees"),
            (lambda s: s["haadf"].register_to(s["haadf"]), "call it of the maps"),
            (
                lambda s: s["eds"].fit_response_ratios("haadf"),
                "haadf must be a TiltSeriesHAADF; got str 'haadf'",
            ),
            (
                lambda s: s["eds"].fit_response_ratios(s["eds"]),
                "haadf must be a TiltSeriesHAADF; got TiltSeriesEDS",
            ),
            (
                lambda s: s["eds"].estimate_absorption(s["haadf"]),
                "volume must be a TomographicVolume; got TiltSeriesHAADF",
            ),
            (
                lambda s: s["eds"].estimate_absorption(s["volume"], xray_lines="Au_La"),
                "xray_lines='Au_La' must be a list of lines",
            ),
            (
                lambda s: s["eds"].reconstruct_tv(mu={1: 2}),
                "mu holds 1; expected one number for each of Au, Ag",
            ),
            (
                lambda s: s["eds"].plot_projections(channels=3),
                "channels=3 must be a string or a list of strings",
            ),
            (
                lambda s: s["volume"].plot_volume(limits=5),
                "limits=5 must be two numbers for each channel",
            ),
            (
                lambda s: s["volume"].quantify(factors=2.0),
                "factors=2.0 must be a dict with the factor of each element",
            ),
            (lambda s: s["volume"].quantify(factors={"Au": "1", "Ag": 2}), "factors="),
            (lambda s: s["volume"].quantify(threshold=object()), "threshold="),
            (lambda s: s["volume"].export(None), "filename=None must be a path"),
            (lambda s: mt.TomographicVolume.from_arrays({}), "there are no channels"),
            (
                lambda s: mt.projector(mt.TiltGeometry(TILTS, 8), backend={}),
                "backend={} must be a string",
            ),
            (lambda s: mt.TiltGeometry(TILTS, 8, volume_shape=3), "volume_shape=3 must be"),
            (lambda s: mt.Alignment("abc", [0.0]), "across='abc' must be an array of real numbers"),
            (lambda s: mt.elemental_maps("spectra"), "spectra='spectra' must be an EDS signal"),
            (
                lambda s: mt.load_tilt_series(7),
                "files=7 must be a file, a folder, a pattern or a list of them",
            ),
        ],
    )
    def test_named_with_what_is_expected(self, made, call, expected):
        with pytest.raises((TypeError, ValueError), match=expected):
            call(made)

    def test_none_passes_where_it_is_the_default(self, made):
        assert made["haadf"].geometry(depth=None, width=None).volume_shape == (16, 16)

    def test_a_call_that_does_not_fit_names_the_method(self, made):
        with pytest.raises(
            TypeError, match=r"smooth\(\) missing 1 required positional argument: 'sigma'"
        ):
            made["haadf"].smooth()

    def test_signatures_and_docs_are_the_methods_own(self):
        method = mt.TiltSeriesHAADF.reconstruct_sirt
        assert list(inspect.signature(method).parameters)[:2] == ["self", "iterations"]
        assert "Parameters" in method.__doc__
        assert method.__name__ == "reconstruct_sirt"

    def test_every_kind_is_of_an_argument_that_exists(self):
        """No check is left behind when an argument gets another name."""
        names = set()
        for path in Path(arguments.__file__).parent.rglob("*.py"):
            names |= {
                word
                for word in path.read_text()
                .replace(":", " ")
                .replace(",", " ")
                .replace("=", " ")
                .split()
            }
        assert set(arguments.KINDS) <= names

    def test_long_values_are_shortened(self):
        with pytest.raises(
            ValueError,
            match=(
                r"values=an array of the shape \(3000,\) and type float64 "
                r"must be finite numbers$"
            ),
        ):
            parameters.numbers("values", np.full(3000, np.nan))


class TestPlans:
    def test_a_haadf_series_that_is_not_taken(self, made):
        with pytest.raises(
            TypeError, match=r"reconstruct_sirt reconstructs this series alone and takes no haadf="
        ):
            made["haadf"].plan_reconstruction("sirt", made["haadf"])

    def test_unknown_and_missing_keywords(self, made):
        with pytest.raises(
            TypeError,
            match="reconstruct_sirt has no keyword rounds; expected some of iterations, mask",
        ):
            made["haadf"].plan_reconstruction("sirt", rounds=3)
        with pytest.raises(TypeError, match="reconstruct_hebt needs haadf"):
            made["eds"].plan_reconstruction("hebt")

    def test_unknown_methods(self, made):
        for method in ("best", 3, None, made["haadf"]):
            with pytest.raises((TypeError, ValueError), match="method="):
                made["haadf"].plan_reconstruction(method)


class TestIndices:
    @pytest.mark.parametrize(
        "name", ["reconstruct_sirt", "smooth", "align", "plot_sinogram", "tilts", "geometry"]
    )
    def test_an_index_that_takes_an_image_axis_away(self, made, name):
        profile = made["haadf"].isig[5, :]
        assert profile.data.shape == (5, 12)
        with pytest.raises(
            ValueError,
            match=(
                rf"{name} needs a TiltSeriesHAADF.*took 'x' away; a slice "
                r"keeps it, as in isig\[5:6, :\]"
            ),
        ):
            getattr(profile, name)

    def test_parts_are_signals_like_others(self, made):
        profile = made["haadf"].isig[5, :]
        assert (profile + profile).data.sum() == 2 * profile.data.sum()
        assert not hasattr(profile, "reconstruct_sirt")
        assert not hasattr(profile, "nothing")
        assert made["haadf"].isig[5, 3].data.shape == (5,)
        assert made["haadf"].as_lazy().isig[:, 3]._lazy

    def test_an_index_that_takes_the_tilts_or_elements_away(self, made):
        with pytest.raises(ValueError, match=r"a slice keeps it, as in inav\[3:4\]"):
            made["haadf"].inav[0].reconstruct_sirt(2)
        with pytest.raises(LookupError, match=r"a slice keeps it, as in inav\[0:1, :\]"):
            made["eds"].inav[0].reconstruct_sirt(2)
        with pytest.raises(ValueError, match=r"has no axis tilt .*as in inav\[3:4\]"):
            made["haadf"].inav[0].array("tilt", "y", "x")

    @pytest.mark.parametrize(
        "index",
        [[1, 2], np.array([1, 2]), np.array([True] * 5), None, ([0, 1],), (slice(None), [1, 2])],
    )
    def test_lists_arrays_and_masks(self, made, index):
        for series in (made["haadf"], made["eds"]):
            with pytest.raises(TypeError, match=r"write a slice, as in inav\[1:3\]"):
                series.inav[index]

    @pytest.mark.slow
    def test_indices_that_can_be(self, made):
        haadf = made["haadf"]
        assert haadf.inav[::2].isig[2.0:8.0, "4 nm":].data.shape == (3, 10, 3)
        assert made["eds"].inav[..., 1].data.shape == (2, 12, 16)


class TestFormats:
    @pytest.mark.parametrize("name", ["x.foo", "x.png", "x.76nm", "x.mrc"])
    def test_files_that_cannot_be_written(self, made, tmp_path, name):
        with pytest.raises(
            ValueError,
            match=rf"{name}: this signal cannot be saved as .*, only as one of .hspy, .zspy",
        ):
            made["haadf"].save(tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_names_of_formats(self, made, tmp_path):
        with pytest.raises(ValueError, match="file_format='foo' must be one of ZSPY"):
            made["haadf"].save(tmp_path / "x.hspy", file_format="foo")
        made["volume"]["Au"].save(tmp_path / "x.tif")
        assert (tmp_path / "x.tif").is_file()


def saved(folder: Path, kind: str) -> Path:
    """Save images (5, 64, 64) in a format."""
    from hyperspy.signals import Signal2D

    data = np.random.default_rng(0).random((5, 64, 64)).astype(np.float32)
    path = folder / f"images.{kind}"
    if kind == "mrc":
        import mrcfile

        with mrcfile.new(path) as file:
            file.set_data(data)
    else:
        Signal2D(data).save(path)
    return path


def damage(path: Path) -> None:
    """Cut a file, or the largest file of a folder, in half."""
    file = (
        max((one for one in path.rglob("*") if one.is_file()), key=lambda one: one.stat().st_size)
        if path.is_dir()
        else path
    )
    os.truncate(file, file.stat().st_size // 2)


class TestFiles:
    @pytest.mark.parametrize("kind", ["mrc", "tif", "zspy"])
    def test_a_file_that_is_damaged_when_it_is_computed(self, tmp_path, kind):
        path = saved(tmp_path, kind)
        haadf = mt.load_tilt_series(path, tilts=TILTS, lazy=True)
        part = haadf.isig[3:9, :].data.compute()
        np.testing.assert_array_equal(part, mt.load_tilt_series(path, tilts=TILTS).data[..., 3:9])
        damage(path)
        # Chunks of a store that are cut are told of before the run.
        for compute in (
            haadf.data.compute,
            haadf.compute,
            lambda: haadf.reconstruct_sirt(2).data.compute(),
        ):
            with pytest.raises(
                (ValueError, OSError),
                match=rf"images.{kind}( cannot be read|.* lacks 1 of its 1 chunks)",
            ):
                compute()

    def test_a_saved_series_that_is_damaged_when_it_is_computed(self, tmp_path):
        values = np.random.default_rng(0).random((5, 64, 64))
        mt.TiltSeriesHAADF.from_images(values, tilts=TILTS).save(tmp_path / "series.zspy")
        haadf = mt.load_tilt_series(tmp_path / "series.zspy", lazy=True)
        damage(tmp_path / "series.zspy")
        with pytest.raises(ValueError, match=r"series.zspy cannot be read"):
            haadf.data.compute()

    def test_hdf5_in_its_own_words(self):
        class Broken:
            shape, dtype, ndim, id = (
                (4,),
                np.dtype("f4"),
                1,
                type("Id", (), {"get_num_chunks": None})(),
            )

            def __getitem__(self, place):
                raise OSError("Can't synchronously read data (inflate() failed)")

        data = naming_file(da.from_array(Broken(), chunks=2, asarray=True), "tilts/a.hspy")
        with pytest.raises(ValueError, match=r"^a.hspy cannot be read.*inflate\(\) failed"):
            data.compute()

    def test_lazy_hdf5_travels_to_workers(self, tmp_path):
        data = mt.load_tilt_series(saved(tmp_path, "hspy"), tilts=TILTS, lazy=True).data
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).compute(), data.compute())

    def test_a_tiff_that_ends_early_is_left_out(self, tmp_path):
        """Its pictures are counted when it is loaded, lazily too."""
        import tifffile

        for tilt in TILTS:
            tifffile.imwrite(tmp_path / f"image_{tilt}.tif", np.ones((32, 32), np.float32))
        damage(tmp_path / "image_30.tif")
        with pytest.raises(
            ValueError,
            match=r"image_30.tif cannot be read.*it ends \d+ bytes before its last picture does",
        ):
            mt.load_tilt_series(tmp_path)
        with pytest.warns(UserWarning, match=r"left out: image_30.tif"):
            assert mt.load_tilt_series(tmp_path, on_error="skip", lazy=True).tilts.tolist() == [
                -60,
                -30,
                0,
                60,
            ]

    @pytest.mark.parametrize("lazy", [None, False])
    @pytest.mark.parametrize("kind", ["mrc", "hspy"])
    def test_more_than_there_is_memory(self, made, tmp_path, monkeypatch, kind, lazy):
        path = saved(tmp_path, kind)
        for module in (load, memory):
            monkeypatch.setattr(module, "available_memory", lambda: 50_000)
        with pytest.raises(
            MemoryError, match="needs about 8.19e-05 GB and 5e-05 GB are available: pass lazy=True"
        ):
            mt.load_tilt_series(path, tilts=TILTS, lazy=lazy)
        assert mt.load_tilt_series(path, tilts=TILTS, lazy=True)._lazy

    def test_eighty_gigabytes_are_not_read(self, tmp_path):
        """An MRC file with nothing in it, which takes no room on the disk."""
        import mrcfile

        path = tmp_path / "large.mrc"
        with mrcfile.new_mmap(path, (5, 2, 2), mrc_mode=2) as file:
            file.header.nx = file.header.mx = file.header.ny = file.header.my = 64_000
        os.truncate(path, 1024 + 5 * 64_000**2 * 4)
        for lazy in (None, False):
            with pytest.raises(
                MemoryError, match="needs about 81.9 GB and .* GB are available: pass lazy=True"
            ):
                mt.load_tilt_series(path, tilts=TILTS, lazy=lazy)


@pytest.mark.slow
def test_kernels_compile_where_no_cache_can_be_written():
    code = (
        "import numpy as np, hyperspy_multitomo.composition.particle.median as m\n"
        "print(m._filter._cache.__class__.__name__, m.median_of_neighbours(np.ones((4, 4, 4), "
        "'f4')).sum())"
    )
    environment = os.environ | {
        "NUMBA_CACHE_DIR": "/dev/null/none",
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.split() == ["NullCache", "64.0"], done.stderr
