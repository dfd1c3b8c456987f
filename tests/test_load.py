# SPDX-License-Identifier: GPL-3.0-or-later
"""From files to signals: real Bruker and MRC files, stacks saved by HyperSpy,
and what goes wrong with files."""

from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
IDP, HUBER = DATA / "idp_l2083", DATA / "huber_phantom"
needs_idp = pytest.mark.skipif(
    not IDP.is_dir(), reason=f"the example data {IDP.name} are not beside the repository"
)
needs_huber = pytest.mark.skipif(
    not HUBER.is_dir(), reason=f"the example data {HUBER.name} are not beside the repository"
)


@pytest.fixture(scope="module")
def three_files(tmp_path_factory):
    """Three Bruker files of one tilt each."""
    folder = tmp_path_factory.mktemp("bruker")
    for tilt in (-5, 0, 10):
        (folder / f"{tilt}.bcf").symlink_to(IDP / f"{tilt}.bcf")
    return folder


@pytest.fixture(scope="module")
def loaded(three_files):
    return mt.load_tilt_series(three_files)


@needs_idp
class TestBruker:
    def test_both_modalities(self, loaded):
        haadf, spectra = loaded
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

    def test_pixels_are_those_of_the_files(self, loaded):
        from rsciio.bruker import file_reader

        haadf, spectra = loaded
        image, cube = file_reader(IDP / "10.bcf")
        np.testing.assert_array_equal(haadf.inav[10.0].data, image["data"])
        np.testing.assert_array_equal(spectra.data[2, 40:44].compute(), cube["data"][40:44])

    def test_given_tilts_order_and_axis(self, three_files, loaded):
        files = [three_files / f"{t}.bcf" for t in (0, 10, -5)]
        turned, spectra = mt.load_tilt_series(
            files, tilts=[0, 10, -5], tilt_axis="x", reverse_tilts=True
        )
        # The times in the files, 21:47, 21:52 and 22:01, go before the order in which the files are
        # given.
        np.testing.assert_array_equal(turned.acquisition_order, [2, 1, 0])
        np.testing.assert_array_equal(turned.tilts, [-10, 0, 5])
        np.testing.assert_array_equal(turned.data, loaded[0].data[::-1].swapaxes(1, 2))
        assert spectra.data.shape == (3, 256, 256, 2048)
        assert turned.tilt_axis == "x"

    def test_files_without_tilts_name_the_remedies(self, three_files):
        with pytest.raises(ValueError, match=r"no tilts.*filename"):
            mt.load_tilt_series(three_files / "0.bcf", tilts="metadata")

    def test_duplicates(self, three_files, loaded):
        with pytest.raises(ValueError, match="more than once"):
            mt.load_tilt_series(three_files, tilts=[0, 0, 10])
        haadf, spectra = mt.load_tilt_series(three_files, tilts=[0, 0, 10], duplicates="merge")
        np.testing.assert_allclose(haadf.data[0], loaded[0].data[:2].mean(axis=0))
        assert spectra.data.shape[0] == 2

    def test_damaged_file_is_named_or_skipped(self, tmp_path):
        for tilt in (-5, 10):
            (tmp_path / f"{tilt}.bcf").symlink_to(IDP / f"{tilt}.bcf")
        whole = (IDP / "0.bcf").read_bytes()
        (tmp_path / "0.bcf").write_bytes(whole[: len(whole) // 3])
        with pytest.raises(ValueError, match=r"0\.bcf.*damaged"):
            mt.load_tilt_series(tmp_path / "0.bcf")
        with pytest.warns(UserWarning, match=r"0\.bcf"):
            haadf, _ = mt.load_tilt_series(tmp_path, on_error="skip", tilts=[-5, 0, 10])
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
        haadf = mt.TiltSeriesHAADF.from_images(
            HUBER / "Al_EDXsino.mrc", tilts=HUBER / "Al_EDXsino.rawtlt"
        )
        np.testing.assert_array_equal(eds.tilts, tilts[::-1])
        np.testing.assert_array_equal(eds["Al"].data, haadf.data)
        assert eds.acquisition_order[0] == 35

    def test_wrong_number_of_tilts(self):
        with pytest.raises(ValueError, match="35"):
            mt.load_tilt_series(HUBER / "HAADF_lrsino.mrc", tilts=np.arange(35))


class TestOthers:
    def test_tilts_of_the_metadata(self, tmp_path):
        """Each file's stage tilt is taken where they differ;
        all equal is an error that names the remedies."""
        for number, tilt in enumerate((20.0, -10.0, 5.0)):
            image = hs.signals.Signal2D(np.full((6, 8), float(number)))
            image.metadata.set_item("Acquisition_instrument.TEM.Stage.tilt_alpha", tilt)
            image.save(tmp_path / f"view{number}.hspy")
            image.metadata.Acquisition_instrument.TEM.Stage.tilt_alpha = 0.0
            image.save(tmp_path / f"flat{number}.hspy")
        loaded = mt.load_tilt_series(str(tmp_path / "view*.hspy"), tilts="metadata")
        np.testing.assert_array_equal(loaded.tilts, [-10, 5, 20])
        np.testing.assert_array_equal(loaded.data[:, 0, 0], [1, 2, 0])
        np.testing.assert_array_equal(
            mt.load_tilt_series(str(tmp_path / "view*.hspy")).tilts, [-10, 5, 20]
        )
        with pytest.raises(ValueError, match=r"equal.*filename"):
            mt.load_tilt_series(str(tmp_path / "flat*.hspy"), tilts="metadata")

    def test_mapped_metadata_of_a_reader(self):
        from hyperspy_multitomo.acquisition.files.records import record_of

        content = {
            "data": np.zeros((4, 5)),
            "axes": [{"name": "y", "size": 4}, {"name": "x", "size": 5}],
            "original_metadata": {"Stage": {"Tilt": -35.0}},
            "mapping": {
                "Stage.Tilt": ("Acquisition_instrument.TEM.Stage.tilt_alpha", None),
                "Stage.X": ("A.x", float),
            },
        }
        np.testing.assert_array_equal(record_of(Path("a.bcf"), content).tilts, [-35.0])

    def test_a_plain_hyperspy_stack(self, tmp_path):
        stack = hs.signals.Signal2D(np.random.default_rng(0).random((4, 6, 8)).astype(np.float32))
        stack.save(tmp_path / "stack.hspy")
        loaded = mt.load_tilt_series(tmp_path / "stack.hspy", tilts=[0, 1, 2, 3])
        assert type(loaded) is mt.TiltSeriesHAADF
        np.testing.assert_array_equal(loaded.data, stack.data)

    def test_files_saved_by_this_package(self, tmp_path):
        haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 6, 8)), tilts=[-20, 0, 20])
        haadf.save(tmp_path / "haadf.hspy")
        mt.TiltSeriesEDS.from_maps(
            {"Fe": np.ones((3, 6, 8)), "O": np.ones((3, 6, 8))}, tilts=[-20, 0, 20]
        ).save(tmp_path / "eds.hspy")
        assert mt.load_tilt_series(tmp_path / "eds.hspy").elements == ("Fe", "O")
        assert type(mt.load_tilt_series(tmp_path / "eds.hspy", lazy=True)) is mt.LazyTiltSeriesEDS
        with pytest.raises(
            ValueError, match=r"neither an image nor spectra .*: eds\.hspy; leave them out"
        ):
            mt.load_tilt_series(tmp_path)
        with pytest.warns(
            UserWarning, match=r"haadf\.hspy was saved by this package and comes back as it was"
        ):
            again = mt.load_tilt_series(tmp_path / "haadf.hspy", tilts=[1, 2, 3])
        np.testing.assert_array_equal(again.tilts, [-20, 0, 20])
        (tmp_path / "bad.hspy").write_bytes((tmp_path / "eds.hspy").read_bytes()[:3000])
        with pytest.raises(ValueError, match=r"bad\.hspy cannot be read"):
            mt.load_tilt_series(tmp_path / "bad.hspy")

    def test_saved_spectra_keep_what_is_recorded_of_their_tilts(self, tmp_path):
        """Two files of one tilt are merged; after a crop,
        saving and loading the maps know of both."""
        for number in range(3):
            spectra = hs.signals.Signal1D(np.full((6, 8, 16), number + 1, np.uint8))
            spectra.axes_manager[-1].units = "keV"
            spectra.save(tmp_path / f"{number}.hspy")
        files = [tmp_path / f"{number}.hspy" for number in range(3)]
        merged = mt.load_tilt_series(files, tilts=[10, 0, 10], duplicates="merge")
        merged.inav[3:, 1:, :].save(tmp_path / "cropped.hspy")
        again = mt.load_tilt_series(tmp_path / "cropped.hspy")
        assert again._lazy
        assert not mt.load_tilt_series(tmp_path / "cropped.hspy", lazy=False)._lazy
        np.testing.assert_array_equal(again.axes_manager["tilt"].axis, [0, 10])
        np.testing.assert_array_equal(again.data.compute(), merged.data[:, 1:, 3:].compute())
        arrays = again.metadata.Tomography.arrays
        np.testing.assert_array_equal(arrays.gains.as_dictionary()["values"], [1, 2])
        assert again.axes_manager["x"].offset == 3
        assert again.metadata.Tomography.has_item("recorded_axes.x")

    def test_spectra_are_not_read_to_see_what_a_file_is(self, tmp_path, monkeypatch):
        spectra = hs.signals.Signal1D(np.ones((3, 4, 5, 16), np.uint8))
        spectra.axes_manager[-1].units = "keV"
        spectra.save(tmp_path / "eds.hspy")
        monkeypatch.setattr(hs, "load", lambda *args, **kwds: pytest.fail("read twice"))
        assert mt.load_tilt_series(tmp_path / "eds.hspy", tilts=[0, 1, 2])._lazy

    def test_what_cannot_be_a_series(self):
        with pytest.raises(
            ValueError, match="values of the type complex128; expected real numbers"
        ):
            mt.TiltSeriesHAADF.from_images(np.ones((2, 3, 4), complex), tilts=[0, 1])
        for size in (0, -1.0, (2.0, np.nan)):
            with pytest.raises(ValueError, match="pixel_size=.* must be a positive length"):
                mt.TiltSeriesHAADF.from_images(np.ones((2, 3, 4)), tilts=[0, 1], pixel_size=size)

    def test_no_files(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            mt.load_tilt_series(tmp_path / "nothing*.bcf")


@needs_idp
@pytest.mark.parametrize("kept", [0.18, 0.5, 0.999])
def test_bruker_files_that_end_early(tmp_path, kept):
    """RosettaSciIO reads zeros where the blocks of a file end early."""
    whole = (IDP / "0.bcf").read_bytes()
    (tmp_path / "0.bcf").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        ValueError, match=r"0\.bcf cannot be read.* bytes shorter than its header says"
    ):
        mt.load_tilt_series(tmp_path / "0.bcf", tilts=[0])


def test_no_name_is_no_folder():
    with pytest.raises(TypeError, match="files='' must be a path"):
        mt.load_tilt_series("")
