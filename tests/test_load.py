# SPDX-License-Identifier: GPL-3.0-or-later
"""From files to signals: real Bruker and MRC files, stacks saved by HyperSpy, and what goes wrong with files."""

import shutil
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
IDP, HUBER = DATA / "idp_l2083", DATA / "huber_phantom"
needs_idp = pytest.mark.skipif(not IDP.is_dir(), reason=f"the example data {IDP.name} are not beside the repository")
needs_huber = pytest.mark.skipif(not HUBER.is_dir(), reason=f"the example data {HUBER.name} are not beside the repository")


@pytest.fixture
def three_files(tmp_path):
    """Three Bruker files of one tilt each."""
    for tilt in (-5, 0, 10):
        shutil.copy(IDP / f"{tilt}.bcf", tmp_path / f"{tilt}.bcf")
    return tmp_path


@needs_idp
class TestBruker:
    def test_both_modalities(self, three_files):
        haadf, spectra = mt.load_tilt_series(three_files)
        assert type(haadf) is mt.TiltSeriesHAADF
        assert haadf.data.shape == (3, 256, 256)
        np.testing.assert_array_equal(haadf.tilts, [-5, 0, 10])
        assert haadf.pixel_size == pytest.approx(13.0814, abs=1e-3)
        assert spectra._lazy
        assert spectra.metadata.Signal.signal_type == "EDS_TEM"
        assert spectra.data.shape == (3, 256, 256, 2048)
        assert spectra.axes_manager["Energy"].offset == pytest.approx(-0.4709, abs=1e-3)
        assert spectra.axes_manager["x"].units == "nm"
        microscope = spectra.metadata.Acquisition_instrument.TEM
        assert microscope.beam_energy == 200
        assert microscope.Detector.EDS.elevation_angle == 18
        assert microscope.Detector.EDS.azimuth_angle == 45
        assert [step["step"] for step in haadf.history] == ["load_tilt_series"]

    def test_pixels_are_those_of_the_files(self, three_files):
        from rsciio.bruker import file_reader

        haadf, spectra = mt.load_tilt_series(f"{three_files}/*.bcf", tilts="filename")
        image, cube = file_reader(three_files / "10.bcf")
        np.testing.assert_array_equal(haadf.inav[10.0].data, image["data"])
        np.testing.assert_array_equal(spectra.data[2, 40:44].compute(), cube["data"][40:44])

    def test_given_tilts_order_and_axis(self, three_files):
        files = [three_files / f"{t}.bcf" for t in (0, 10, -5)]
        plain, _ = mt.load_tilt_series(files, tilts=[0, 10, -5])
        turned, spectra = mt.load_tilt_series(files, tilts=[0, 10, -5], tilt_axis="x", reverse_tilts=True)
        # The times in the files, 21:47, 21:52 and 22:01, go before the order in which the files are given.
        np.testing.assert_array_equal(plain.acquisition_order, [0, 1, 2])
        np.testing.assert_array_equal(turned.tilts, [-10, 0, 5])
        np.testing.assert_array_equal(turned.data, plain.data[::-1].swapaxes(1, 2))
        assert spectra.data.shape == (3, 256, 256, 2048)
        assert turned.tilt_axis == "x"

    def test_files_without_tilts_name_the_remedies(self, three_files):
        with pytest.raises(ValueError, match=r"no tilts.*filename"):
            mt.load_tilt_series(three_files, tilts="metadata")

    def test_duplicates(self, three_files):
        with pytest.raises(ValueError, match="more than once"):
            mt.load_tilt_series(three_files, tilts=[0, 0, 10])
        haadf, spectra = mt.load_tilt_series(three_files, tilts=[0, 0, 10], duplicates="merge")
        single, _ = mt.load_tilt_series(three_files)
        np.testing.assert_allclose(haadf.data[0], single.data[:2].mean(axis=0))
        assert spectra.data.shape[0] == 2

    def test_damaged_file_is_named_or_skipped(self, three_files):
        whole = (three_files / "0.bcf").read_bytes()
        (three_files / "0.bcf").write_bytes(whole[: len(whole) // 3])
        with pytest.raises(ValueError, match=r"0\.bcf.*damaged"):
            mt.load_tilt_series(three_files)
        with pytest.warns(UserWarning, match=r"0\.bcf"):
            haadf, _ = mt.load_tilt_series(three_files, on_error="skip", tilts=[-5, 0, 10])
        np.testing.assert_array_equal(haadf.tilts, [-5, 10])


@needs_huber
class TestStacks:
    def test_sinograms_with_rawtlt(self):
        haadf = mt.load_tilt_series(HUBER / "HAADF_lrsino.mrc", tilts=HUBER / "HAADF_lrsino.rawtlt")
        assert haadf.data.shape == (36, 60, 433)
        np.testing.assert_array_equal(haadf.tilts, np.arange(-175, 1, 5))
        assert haadf.acquisition_order[0] == 35

    def test_found_without_being_told(self):
        again = mt.load_tilt_series(str(HUBER / "HAADF_lrsino.mrc"))
        assert again.data.shape == (36, 60, 433)

    def test_maps_from_files(self):
        names = ("Yb", "Al", "Si")
        eds = mt.TiltSeriesEDS.from_maps({name: HUBER / f"{name}_EDXsino.mrc" for name in names})
        assert eds.elements == names
        assert eds.data.shape == (36, 3, 60, 433)
        assert eds["Al"].data.max() == pytest.approx(44, abs=2)

    def test_maps_from_files_with_tilts_in_their_order(self):
        tilts = 2.0 * np.arange(36)[::-1] - 40
        eds = mt.TiltSeriesEDS.from_maps({"Al": HUBER / "Al_EDXsino.mrc"}, tilts=tilts)
        haadf = mt.TiltSeriesHAADF.from_images(HUBER / "Al_EDXsino.mrc", tilts=HUBER / "Al_EDXsino.rawtlt")
        np.testing.assert_array_equal(eds.tilts, tilts[::-1])
        np.testing.assert_array_equal(eds["Al"].data, haadf.data)
        assert eds.acquisition_order[0] == 35

    def test_wrong_number_of_tilts(self):
        with pytest.raises(ValueError, match="35"):
            mt.load_tilt_series(HUBER / "HAADF_lrsino.mrc", tilts=np.arange(35))


class TestOthers:
    def test_tilts_of_the_metadata(self, tmp_path):
        """Each file's stage tilt is taken where they differ; all equal is an error that names the remedies."""
        for number, tilt in enumerate((20.0, -10.0, 5.0)):
            image = hs.signals.Signal2D(np.full((6, 8), float(number)))
            image.metadata.set_item("Acquisition_instrument.TEM.Stage.tilt_alpha", tilt)
            image.save(tmp_path / f"view{number}.hspy")
            image.metadata.Acquisition_instrument.TEM.Stage.tilt_alpha = 0.0
            image.save(tmp_path / f"flat{number}.hspy")
        loaded = mt.load_tilt_series(str(tmp_path / "view*.hspy"), tilts="metadata")
        np.testing.assert_array_equal(loaded.tilts, [-10, 5, 20])
        np.testing.assert_array_equal(loaded.data[:, 0, 0], [1, 2, 0])
        np.testing.assert_array_equal(mt.load_tilt_series(str(tmp_path / "view*.hspy")).tilts, [-10, 5, 20])
        with pytest.raises(ValueError, match=r"equal.*filename"):
            mt.load_tilt_series(str(tmp_path / "flat*.hspy"), tilts="metadata")

    def test_mapped_metadata_of_a_reader(self):
        from hyperspy_multitomo.acquisition.records import record_of

        content = {
            "data": np.zeros((4, 5)),
            "axes": [{"name": "y", "size": 4}, {"name": "x", "size": 5}],
            "original_metadata": {"Stage": {"Tilt": -35.0}},
            "mapping": {"Stage.Tilt": ("Acquisition_instrument.TEM.Stage.tilt_alpha", None), "Stage.X": ("A.x", float)},
        }
        np.testing.assert_array_equal(record_of(Path("a.bcf"), content).tilts, [-35.0])

    def test_a_plain_hyperspy_stack(self, tmp_path):
        stack = hs.signals.Signal2D(np.random.default_rng(0).random((4, 6, 8)).astype(np.float32))
        stack.save(tmp_path / "stack.hspy")
        loaded = mt.load_tilt_series(tmp_path / "stack.hspy", tilts=[0, 1, 2, 3])
        assert type(loaded) is mt.TiltSeriesHAADF
        np.testing.assert_array_equal(loaded.data, stack.data)

    def test_no_files(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            mt.load_tilt_series(tmp_path / "nothing*.bcf")
