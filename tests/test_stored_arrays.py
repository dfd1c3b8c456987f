# SPDX-License-Identifier: GPL-3.0-or-later
"""Chunks of .hspy and .zspy files that are missing or damaged, and what describes them:
refused however they are loaded."""

import json
import re
import zipfile

import h5py
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition import read_records

TILTS = np.array([-40.0, 0.0, 40.0])
IMAGES = np.random.default_rng(0).poisson(50, (3, 8, 10)).astype(np.float32) + 1
PLACE = r"\(1, 0, 0\)"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def with_wrong_address(path, data, chunk, address):
    """Change the place in the file that the index of an HDF5 data set has for a chunk;
    it must be there once."""
    found = []
    with h5py.File(path) as file:
        file[data].id.chunk_iter(found.append)
    content, entry = (
        bytearray(path.read_bytes()),
        int(found[chunk].byte_offset).to_bytes(8, "little"),
    )
    assert content.count(entry) == 1
    at = content.find(entry)
    content[at : at + 8] = address.to_bytes(8, "little")
    path.write_bytes(content)


def damage(path, kind, name="HAADF"):
    """Damage the second chunk of the data, along the first axis."""
    if path.suffix == ".hspy":
        with h5py.File(path) as file:
            header = h5py.h5o.get_info(file["Experiments"].id).addr
        addresses = {
            "missing": 2**64 - 1,
            "address 0": 0,
            "in a header": header,
            "beyond the end": 10**9,
        }
        with_wrong_address(path, f"Experiments/{name}/data", 1, addresses[kind])
        return
    chunks = [file for file in (path / f"Experiments/{name}/data/1").rglob("*") if file.is_file()]
    content = chunks[0].read_bytes()
    chunks[0].unlink()
    kept = {"missing": None, "empty": b"", "cut": content[:-5], "zeros": bytes(len(content))}[kind]
    if kept is not None:
        chunks[0].write_bytes(kept)


KINDS = [("hspy", kind) for kind in ("missing", "address 0", "in a header", "beyond the end")]
KINDS += [("zspy", kind) for kind in ("missing", "empty", "cut", "zeros")]


@pytest.fixture(params=KINDS, ids=" ".join)
def damaged(request, tmp_path):
    suffix, kind = request.param
    path = tmp_path / f"haadf.{suffix}"
    compression = {"compression": None, "shuffle": False} if suffix == "hspy" else {}
    mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS).save(path, chunks=(1, 8, 10), **compression)
    damage(path, kind)
    return path


def told(path):
    return (
        rf"{path.name}, /?Experiments/.*/data lacks 1 of its 3 chunks, "
        rf"missing or damaged at {PLACE}.*copy or write the file"
    )


class TestSeries:
    @pytest.mark.parametrize("lazy", [None, True, False])
    def test_load_tilt_series(self, damaged, lazy):
        with pytest.raises(ValueError, match=told(damaged)):
            mt.load_tilt_series(damaged, lazy=lazy)

    def test_signals_that_hyperspy_loaded(self, damaged):
        """HyperSpy loads zeros, or fails by itself; with zeros nothing can be done."""
        for lazy in (False, True):
            try:
                series = hs.load(damaged, lazy=lazy)
            except (OSError, RuntimeError):
                continue
            for use in (
                lambda series: series.array("tilt", "y", "x"),
                lambda series: series.inav[:2],
                lambda series: series * 2,
                lambda series: mt.TiltSeriesHAADF.from_images(series),
            ):
                with pytest.raises(OSError, match=told(damaged)):
                    use(series)

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("suffix", ["hspy", "zspy"])
    def test_quantify(self, tmp_path, suffix, lazy):
        volume = mt.TomographicVolume.from_arrays({"Fe": IMAGES, "Pt": 2 * IMAGES})
        volume.save(
            tmp_path / f"v.{suffix}",
            chunks=(1, 2, 8, 10),
            **({"compression": None} if suffix == "hspy" else {}),
        )
        damage(tmp_path / f"v.{suffix}", "missing", "Volume")
        loaded = hs.load(tmp_path / f"v.{suffix}", lazy=lazy)
        with pytest.raises(OSError, match=rf"v\.{suffix}, .*data lacks 1 of its 3 chunks"):
            loaded.quantify("CL", {"Fe": 1.0, "Pt": 2.0})

    def test_from_images_and_records(self, damaged):
        for read in (mt.TiltSeriesHAADF.from_images, read_records):
            with pytest.raises(ValueError, match=told(damaged)):
                read(damaged)


class TestWhole:
    def test_files_of_other_layouts(self, tmp_path):
        """Whole files of HyperSpy's pass: in one chunk, contiguous, with empty arrays,
        and zipped."""
        signal = hs.signals.Signal2D(IMAGES)
        signal.metadata.set_item("General.nothing", np.zeros(0))
        for options in ({}, {"compression": None, "chunks": None}):
            signal.save(tmp_path / "a.hspy", overwrite=True, **options)
            np.testing.assert_array_equal(read_records(tmp_path / "a.hspy")[0].data, IMAGES)
        with h5py.File(tmp_path / "a.hspy", "r+") as file:
            group = file["Experiments/__unnamed__"]
            del group["data"]
            group.create_dataset("data", data=IMAGES)
        np.testing.assert_array_equal(read_records(tmp_path / "a.hspy")[0].data, IMAGES)
        signal.save(tmp_path / "a.zspy", store_type="zip")
        np.testing.assert_array_equal(read_records(tmp_path / "a.zspy")[0].data, IMAGES)

    def test_data_set_that_was_never_written(self, tmp_path):
        hs.signals.Signal2D(IMAGES).save(tmp_path / "a.hspy")
        with h5py.File(tmp_path / "a.hspy", "r+") as file:
            group = file["Experiments/__unnamed__"]
            del group["data"]
            group.create_dataset("data", IMAGES.shape, np.float32)
        with pytest.raises(
            ValueError, match=r"a\.hspy, /Experiments/__unnamed__/data lacks 1 of its 1 chunks"
        ):
            read_records(tmp_path / "a.hspy")

    def test_chunk_missing_in_a_zip(self, tmp_path):
        hs.signals.Signal2D(IMAGES).save(tmp_path / "a.zspy", store_type="zip", chunks=(1, 8, 10))
        with (
            zipfile.ZipFile(tmp_path / "a.zspy") as whole,
            zipfile.ZipFile(tmp_path / "b.zspy", "w") as cut,
        ):
            names = [
                name for name in dict.fromkeys(whole.namelist()) if not name.endswith("data/1.0.0")
            ]
            assert len(names) == len(set(whole.namelist())) - 1
            for name in names:
                cut.writestr(name, whole.read(name))
        with pytest.raises(
            ValueError,
            match=rf"b\.zspy, .*data lacks 1 of its 3 chunks, missing or damaged at {PLACE}",
        ):
            read_records(tmp_path / "b.zspy")

    def test_chunk_of_what_is_recorded(self, tmp_path):
        path = tmp_path / "a.zspy"
        mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS).save(path)
        (path / "Experiments/HAADF/axis-0/axis/0").unlink()
        with pytest.raises(
            ValueError, match=r"a\.zspy, Experiments/HAADF/axis-0/axis lacks 1 of its 1 chunks"
        ):
            mt.load_tilt_series(path)


class TestDescriptions:
    @pytest.fixture
    def saved(self, tmp_path):
        path = tmp_path / "a.zspy"
        mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS).save(path)
        return path

    @pytest.mark.parametrize(
        "lost",
        ["Signal/.zattrs", "Signal/.zgroup", "Tomography/.zgroup", "Tomography/arrays/.zgroup"],
    )
    def test_lost_files_are_named(self, saved, lost):
        (saved / "Experiments/HAADF/metadata" / lost).unlink()
        with pytest.raises(
            ValueError,
            match=(
                r"a\.zspy lacks 1 of the \d+ files that describe.*another "
                rf"signal.*metadata/{lost};"
            ),
        ):
            mt.load_tilt_series(saved)

    def test_class_lost_where_nothing_lists_the_files(self, saved):
        (saved / ".zmetadata").unlink()
        (saved / "Experiments/HAADF/metadata/Signal/.zattrs").unlink()
        with pytest.warns(
            UserWarning,
            match=r"a\.zspy was saved by this package, but what it was is lost.*back as Signal2D",
        ):
            mt.load_tilt_series(saved)

    def test_records_lost_where_nothing_lists_the_files(self, saved):
        (saved / ".zmetadata").unlink()
        (saved / "Experiments/HAADF/metadata/Tomography/.zgroup").unlink()
        with pytest.warns(
            UserWarning,
            match=r"a\.zspy .* what was recorded in it is lost.*comes back as TiltSeriesHAADF",
        ):
            mt.load_tilt_series(saved)

    @pytest.mark.parametrize("order", [[0, 0, 1], [0, 1, -2]])
    def test_acquisition_order_that_is_none(self, tmp_path, order):
        series = mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS)
        series.metadata.Tomography.arrays.acquisition_order.values = np.array(order)
        with pytest.raises(
            ValueError, match=r"acquisition order \[0, .* is none; expected whole numbers"
        ):
            _ = series.acquisition_order
        series.save(tmp_path / "a.hspy")
        with pytest.warns(UserWarning, match=r"a\.hspy: the acquisition order .*It is forgotten"):
            assert mt.load_tilt_series(tmp_path / "a.hspy").acquisition_order is None

    @pytest.mark.parametrize(
        ("scale", "problem"),
        [(1e6, r"0\.001 nm to 100 um"), (1e-5, "0.001 nm to"), (33, "factor of 10")],
    )
    def test_pixels_of_a_saved_series(self, tmp_path, scale, problem):
        series = mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS, pixel_size=3.0)
        series.axes_manager["x"].scale = scale
        series.save(tmp_path / "a.hspy")
        told = rf"the pixels of a\.hspy have .*{re.escape(f'{scale:g}')} nm along x.*{problem}"
        with pytest.warns(UserWarning, match=told):
            mt.load_tilt_series(tmp_path / "a.hspy")


def test_list_of_descriptions_is_written(tmp_path):
    """What is compared with the folder is what HyperSpy writes there."""
    mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS).save(tmp_path / "a.zspy")
    listed = json.loads((tmp_path / "a.zspy/.zmetadata").read_text())["metadata"]
    assert "Experiments/HAADF/metadata/Signal/.zattrs" in listed
