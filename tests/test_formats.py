# SPDX-License-Identifier: GPL-3.0-or-later
"""DM3/DM4, MRC with .mdoc, TIFF, .hspy and .zspy, files of images beside files of spectra,
and what is wrong with files."""

import sys

import hyperspy.api as hs
import numpy as np
import pytest
from dm_file import microscope_tags, write_dm
from hyperspy_files import write_image, write_mrc, write_spectra
from velox_file import write_velox

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition import expand_files, read_records, read_stack
from hyperspy_multitomo.acquisition.files.mdoc import read_mdoc
from hyperspy_multitomo.acquisition.files.pairing import pair_by_tilt

TILTS = (0, 20, -20)


def random(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1000, shape)


def eds_tags(live_time):
    detector = {"Azimuthal angle": 45.0, "Elevation angle": 18.0}
    return {
        "EDS": {"Live time": live_time, "Real time": live_time + 1.0, "Detector Info": detector}
    }


def write_mdoc(path, tilts, spacing=7.5, axis=3.0, seconds=None):
    lines = [
        f"PixelSpacing = {spacing}",
        "Voltage = 200",
        f"[T = Tilt axis angle = {axis}, binning = 1]",
    ]
    for number, tilt in enumerate(tilts):
        lines += [f"[ZValue = {number}]", f"TiltAngle = {tilt}"]
        if seconds is not None:
            lines.append(f"DateTime = 05-Nov-24  10:00:{seconds[number]:02d}")
    path.write_text("\n".join(lines))
    return path


class TestDigitalMicrograph:
    @pytest.mark.parametrize("suffix", ["dm3", "dm4"])
    def test_image_and_eds(self, tmp_path, suffix):
        cube = random(16, 5, 6).astype(np.uint16)
        for number, tilt in enumerate(TILTS):
            tags = microscope_tags(tilt, seconds=30 * number)
            survey = {"data": np.ones((9, 9), np.float32), "name": "SI Survey Image", "tags": tags}
            image = {"data": cube[0].astype(np.float32) + number, "name": "HAADF", "tags": tags}
            spectra = {
                "data": cube + number,
                "name": "EDS",
                "energy": (-0.1, 0.02, "keV"),
                "signal": "X-ray",
            }
            spectra["tags"] = tags | eds_tags(4.0 + number)
            write_dm(tmp_path / f"view{number}.{suffix}", [survey, image, spectra])
        haadf, eds = mt.load_tilt_series(tmp_path)
        np.testing.assert_allclose(haadf.tilts, [-20, 0, 20])
        np.testing.assert_array_equal(haadf.acquisition_order, [2, 0, 1])
        np.testing.assert_array_equal(haadf.data[1], cube[0])
        assert haadf.pixel_size == pytest.approx(2.0)
        np.testing.assert_array_equal(eds.data[2].compute(), cube.transpose(1, 2, 0) + 1)
        energy = eds.axes_manager["Energy"]
        assert (energy.offset, energy.scale, energy.units) == (
            pytest.approx(-0.1),
            pytest.approx(0.02),
            "keV",
        )
        microscope = eds.metadata.Acquisition_instrument.TEM
        assert microscope.beam_energy == 200
        assert (microscope.Detector.EDS.azimuth_angle, microscope.Detector.EDS.elevation_angle) == (
            45,
            18,
        )
        np.testing.assert_allclose(eds.metadata.Tomography.arrays.live_time.values, [6, 4, 5])
        assert eds.metadata.Tomography.arrays.acquired.values[1:] == [
            "2024-11-05T10:00:00",
            "2024-11-05T10:00:30",
        ]

    def test_eels(self, tmp_path):
        cube = random(32, 5, 6).astype(np.float32)
        for tilt in TILTS:
            spectra = {
                "data": cube + tilt,
                "energy": (500.0, 0.5, "eV"),
                "signal": "EELS",
                "tags": microscope_tags(tilt),
            }
            write_dm(tmp_path / f"a_{tilt}.dm4", [spectra])
        eels = mt.load_tilt_series(tmp_path)
        assert eels.metadata.Signal.signal_type == "EELS"
        assert type(eels).__name__ == "LazyEELSSpectrum"
        np.testing.assert_array_equal(eels.data[0].compute(), cube.transpose(1, 2, 0) - 20)
        energy = eels.axes_manager["Energy loss"]
        assert (energy.offset, energy.scale, energy.units) == (
            pytest.approx(500),
            pytest.approx(0.5),
            "eV",
        )
        np.testing.assert_allclose(eels.axes_manager["tilt"].axis, [-20, 0, 20])
        assert eels.metadata.Acquisition_instrument.TEM.beam_energy == 200

    def test_stack(self, tmp_path):
        stack = random(3, 5, 6).astype(np.int16)
        write_dm(tmp_path / "a.dm4", [{"data": stack, "tags": {}}])
        (tmp_path / "a.rawtlt").write_text("-20\n0\n20")
        series = mt.load_tilt_series(tmp_path / "a.dm4")
        np.testing.assert_array_equal(series.data, stack)
        np.testing.assert_array_equal(series.tilts, [-20, 0, 20])


class TestMrc:
    def test_stack_with_mdoc(self, tmp_path):
        data = random(3, 5, 7).astype(np.float32)
        write_mrc(tmp_path / "a.st", data)
        write_mdoc(tmp_path / "a.st.mdoc", [-20, 0, 20], seconds=[50, 10, 30])
        series = mt.load_tilt_series(tmp_path / "a.st")
        np.testing.assert_array_equal(series.tilts, [-20, 0, 20])
        np.testing.assert_array_equal(series.data, data)
        np.testing.assert_array_equal(series.acquisition_order, [2, 0, 1])
        assert series.pixel_size == pytest.approx(0.75)
        assert series.metadata.Acquisition_instrument.TEM.beam_energy == 200
        assert series.metadata.Tomography.arrays.acquired.values[0] == "2024-11-05T10:00:50"

    @pytest.mark.parametrize("n", [1, 3])
    def test_extended_header_of_fei(self, tmp_path, n):
        """1024 records of 128 bytes behind the header, of which the first belong to the images."""
        data = random(n, 5, 7).astype(np.float32)
        header = np.frombuffer(
            write_mrc(tmp_path / "a.mrc", data).read_bytes()[:1024], np.int32
        ).copy()
        header[23] = 131072
        records = np.zeros((1024, 32), np.float32)
        records[:n, 0], records[:n, 11] = [30.5, -10, 10][:n], 2.5e-10
        (tmp_path / "a.mrc").write_bytes(header.tobytes() + records.tobytes() + data.tobytes())
        series = mt.load_tilt_series(tmp_path / "a.mrc")
        np.testing.assert_array_equal(series.tilts, sorted([30.5, -10, 10][:n]))
        np.testing.assert_array_equal(series.data[-1], data[0])
        assert series.pixel_size == pytest.approx(0.25)

    def test_rawtlt_goes_before_mdoc(self, tmp_path):
        write_mrc(tmp_path / "a.mrc", random(3, 5, 7))
        write_mdoc(tmp_path / "a.mrc.mdoc", [-20, 0, 20])
        (tmp_path / "a.tlt").write_text("-20.5\n-0.5\n19.5")
        np.testing.assert_array_equal(
            mt.load_tilt_series(tmp_path / "a.mrc").tilts, [-20.5, -0.5, 19.5]
        )
        told = mt.load_tilt_series(tmp_path / "a.mrc", tilts=tmp_path / "a.mrc.mdoc")
        np.testing.assert_array_equal(told.tilts, [-20, 0, 20])

    def test_one_file_per_tilt(self, tmp_path):
        for number, tilt in enumerate(TILTS):
            write_mrc(tmp_path / f"view{number}.mrc", np.full((1, 5, 7), tilt, np.float32))
            write_mdoc(tmp_path / f"view{number}.mrc.mdoc", [tilt])
        series = mt.load_tilt_series(tmp_path)
        np.testing.assert_array_equal(series.tilts, [-20, 0, 20])
        np.testing.assert_array_equal(series.data[:, 0, 0], [-20, 0, 20])

    def test_tilt_axis_of_the_mdoc(self, tmp_path):
        write_mrc(tmp_path / "a.mrc", random(3, 5, 7))
        write_mdoc(tmp_path / "a.mrc.mdoc", [-20, 0, 20], axis=-86.2)
        with pytest.warns(UserWarning, match=r"a\.mrc.*-86\.2 degrees.*pass tilt_axis='x'"):
            mt.load_tilt_series(tmp_path / "a.mrc")
        mt.load_tilt_series(tmp_path / "a.mrc", tilt_axis="x")

    @pytest.mark.parametrize(
        ("line", "angle"),
        [
            ("[T =     Tilt axis angle = -94.8, binning = 1]", -94.8),
            ("[T = TiltAxisAngle = 3.5  Binning = 1]", 3.5),
            ("", 84.0),
        ],
    )
    def test_forms_of_the_tilt_axis(self, tmp_path, line, angle):
        """SerialEM counts RotationAngle from the x axis,
        and the angle of the remark from the y axis."""
        (tmp_path / "a.mdoc").write_text(
            f"{line}\n[ZValue = 0]\nTiltAngle = 3\nRotationAngle = 174\n"
        )
        assert read_mdoc(tmp_path / "a.mdoc").tilt_axis_angle == angle

    def test_mdoc_without_angles(self, tmp_path):
        path = tmp_path / "a.mdoc"
        path.write_text("PixelSpacing = 2\n[ZValue = 0]\nTiltAngle = 3\n[ZValue = 1]\nDefocus = 1")
        with pytest.raises(
            ValueError, match=r"a\.mdoc has no TiltAngle for the images 1; pass the tilts"
        ):
            read_mdoc(path)
        path.write_text("nothing")
        with pytest.raises(ValueError, match=r"a\.mdoc has no image sections"):
            read_mdoc(path)


class TestTiff:
    def test_one_file_per_tilt(self, tmp_path):
        for tilt in TILTS:
            image = hs.signals.Signal2D(np.full((5, 7), tilt, np.int16))
            for axis in image.axes_manager.signal_axes:
                axis.scale, axis.units = 0.5, "nm"
            image.save(tmp_path / f"haadf_{tilt}.tif")
        series = mt.load_tilt_series(tmp_path)
        np.testing.assert_array_equal(series.tilts, [-20, 0, 20])
        np.testing.assert_array_equal(series.data[:, 0, 0], [-20, 0, 20])
        assert series.pixel_size == pytest.approx(0.5)

    def test_stack(self, tmp_path):
        from tifffile import imwrite

        data = random(3, 5, 7).astype(np.uint16)
        # As ImageJ writes it: 4 px per nm.
        imwrite(
            tmp_path / "a.tiff",
            data,
            imagej=True,
            resolution=(4, 4),
            metadata={"unit": "nm", "axes": "ZYX"},
        )
        series = mt.load_tilt_series(tmp_path / "a.tiff", tilts=[-20, 0, 20])
        np.testing.assert_array_equal(series.data, data)
        assert series.pixel_size == pytest.approx(0.25)

    def test_time_of_acquisition(self, tmp_path):
        from tifffile import imwrite

        for tilt, second in ((0, 30), (10, 10), (20, 50)):
            imwrite(
                tmp_path / f"{tilt}.tif",
                np.full((5, 7), tilt, np.uint16),
                datetime=f"2024:11:05 10:00:{second}",
            )
        series = mt.load_tilt_series(tmp_path)
        np.testing.assert_array_equal(series.acquisition_order, [1, 0, 2])
        np.testing.assert_array_equal(series.data[:, 0, 0], [0, 10, 20])

    def test_colour_picture(self, tmp_path):
        from tifffile import imwrite

        imwrite(tmp_path / "a.tif", np.zeros((5, 7, 3), np.uint8), photometric="rgb")
        with pytest.raises(ValueError, match=r"a\.tif is a colour picture"):
            mt.load_tilt_series(tmp_path / "a.tif", tilts=[0])

    @pytest.mark.parametrize("colour_first", [True, False])
    @pytest.mark.parametrize(("size", "lazy"), [((5, 7), None), ((9, 4), True)])
    def test_colour_page_beside_the_image(self, tmp_path, size, colour_first, lazy):
        from tifffile import TiffWriter

        image = random(5, 7).astype(np.uint16)
        pages = [(np.zeros((*size, 3), np.uint8), "rgb"), (image, "minisblack")]
        with TiffWriter(tmp_path / "a.tif") as file:
            for page, kind in pages if colour_first else pages[::-1]:
                file.write(page, photometric=kind)
        np.testing.assert_array_equal(
            mt.load_tilt_series(tmp_path / "a.tif", tilts=[0], lazy=lazy).data[0], image
        )


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_hyperspy_files_of_one_tilt_each(tmp_path, suffix):
    for tilt in TILTS:
        write_image(tmp_path / f"haadf_{tilt}.{suffix}", shape=(4, 5), value=tilt)
        write_spectra(tmp_path / f"eds_{tilt}.{suffix}")
    with pytest.raises(ValueError, match="contain no tilts"):
        mt.load_tilt_series(tmp_path, tilts="metadata")
    haadf, eds = mt.load_tilt_series(tmp_path, tilts="filename")
    np.testing.assert_array_equal(haadf.tilts, [-20, 0, 20])
    np.testing.assert_array_equal(haadf.data[:, 0, 0], [-20, 0, 20])
    assert haadf.pixel_size == pytest.approx(2.0)
    assert eds.data.shape == (3, 4, 5, 64)
    assert eds.metadata.Acquisition_instrument.TEM.beam_energy == 200


class TestMixedFiles:
    @pytest.fixture
    def mixed(self, tmp_path):
        """Images in .dm4 and events in .emd, the stage read a little differently."""
        events = random(1, 5, 6, 8).astype(int) % 3
        for tilt in TILTS:
            image = {
                "data": np.full((5, 6), tilt, np.int16),
                "name": "HAADF",
                "tags": microscope_tags(tilt + 0.02, 300e3),
            }
            write_dm(tmp_path / f"haadf_{tilt}.dm4", [image])
            write_velox(tmp_path / f"eds_{tilt}.emd", {}, [events + (tilt > 0)], tilt=tilt)
        return tmp_path

    def test_paired_by_tilt(self, mixed):
        haadf, eds = mt.load_tilt_series(mixed)
        np.testing.assert_allclose(haadf.tilts, [-19.98, 0.02, 20.02])
        np.testing.assert_array_equal(haadf.data[:, 0, 0], [-20, 0, 20])
        np.testing.assert_array_equal(eds.axes_manager["tilt"].axis, haadf.tilts)
        difference = eds.data[2] - eds.data[0]
        np.testing.assert_array_equal(difference.compute(), np.ones((5, 6, 8)))
        assert eds.metadata.Tomography.arrays.files.values == [
            "eds_-20.emd",
            "eds_0.emd",
            "eds_20.emd",
        ]
        assert haadf.metadata.Tomography.arrays.files.values == [
            "haadf_-20.dm4",
            "haadf_0.dm4",
            "haadf_20.dm4",
        ]

    def test_frames_are_asked_of_the_velox_files(self, mixed):
        _, eds = mt.load_tilt_series(mixed, frames=(0, 1))
        assert eds.data.shape == (3, 5, 6, 8)
        with pytest.raises(ValueError, match=r"haadf_-20\.dm4 is no Velox file: it has no frames"):
            mt.load_tilt_series(mixed / "*.dm4", frames=(0, 1))

    def test_tilts_given_for_each_view(self, mixed):
        files = [mixed / f"haadf_{tilt}.dm4" for tilt in TILTS] + [
            mixed / f"eds_{tilt}.emd" for tilt in TILTS
        ]
        for tilts in ([1, 2, 3], [1, 2, 3, 1, 2, 3]):
            haadf, eds = mt.load_tilt_series(files, tilts=tilts)
            np.testing.assert_array_equal(haadf.data[:, 0, 0], [0, 20, -20])
            assert eds.metadata.Tomography.arrays.files.values == [
                "eds_0.emd",
                "eds_20.emd",
                "eds_-20.emd",
            ]

    def test_missing_partner_is_named_or_left_out(self, mixed):
        (mixed / "eds_20.emd").unlink()
        with pytest.raises(ValueError, match=r"haadf_20\.dm4 \(20\.02 degrees\) has no spectra"):
            mt.load_tilt_series(mixed)
        with pytest.warns(UserWarning, match=r"without partner at their tilt: haadf_20\.dm4"):
            haadf, eds = mt.load_tilt_series(mixed, on_error="skip")
        assert haadf.data.shape[0] == eds.data.shape[0] == 2

    def test_a_stack_of_each(self, tmp_path):
        write_mrc(
            tmp_path / "haadf.mrc", np.arange(3.0)[:, None, None] * np.ones((5, 6), np.float32)
        )
        cube = hs.signals.Signal1D(random(3, 5, 6, 16).astype(np.uint8))
        cube.axes_manager[-1].units = "keV"
        cube.save(tmp_path / "eds.hspy")
        haadf, eds = mt.load_tilt_series(
            [tmp_path / "haadf.mrc", tmp_path / "eds.hspy"], tilts=[20, 0, -20]
        )
        np.testing.assert_array_equal(haadf.data[:, 0, 0], [2, 1, 0])
        np.testing.assert_array_equal(eds.data[0].compute(), cube.data[2])

    def test_different_beam_energies(self, tmp_path):
        for tilt in TILTS:
            tags = microscope_tags(tilt, voltage=200e3)
            write_dm(
                tmp_path / f"haadf_{tilt}.dm4", [{"data": np.ones((5, 6), np.int16), "tags": tags}]
            )
            write_velox(tmp_path / f"eds_{tilt}.emd", {}, [np.ones((1, 5, 6, 8), int)], tilt=tilt)
        with pytest.raises(ValueError, match=r"same beam energy \(200 keV: haadf_.*300 keV: eds_"):
            mt.load_tilt_series(tmp_path)

    def test_pairs(self):
        first, second = pair_by_tilt([0, 0, 10], [10, 0, 0], "abc", "def")
        np.testing.assert_array_equal(first, [0, 1, 2])
        np.testing.assert_array_equal(second, [1, 2, 0])
        with pytest.raises(
            ValueError, match=r"c \(10 degrees\) has no spectra; d \(11 degrees\) has no image"
        ):
            pair_by_tilt([0, 5, 10], [11, 5, 0], "abc", "def")


class TestSingleView:
    def test_one_file(self, tmp_path):
        image = {"data": np.ones((5, 6), np.int16), "name": "HAADF", "tags": microscope_tags(12.0)}
        write_dm(tmp_path / "a.dm4", [image])
        np.testing.assert_array_equal(mt.load_tilt_series(tmp_path / "a.dm4").tilts, [12])
        np.testing.assert_array_equal(mt.load_tilt_series(tmp_path / "a.dm4", tilts=[0]).tilts, [0])
        write_image(tmp_path / "b.hspy")
        with pytest.raises(
            ValueError, match=r"no tilts are known for the 1 projections of b\.hspy.*tilts=\[0\]"
        ):
            mt.load_tilt_series(tmp_path / "b.hspy")

    def test_arrays(self):
        assert mt.TiltSeriesHAADF.from_images(np.ones((5, 6)), tilts=[3]).data.shape == (1, 5, 6)
        assert mt.TiltSeriesHAADF.from_images(np.ones((1, 5, 6)), tilts=[3]).data.shape == (1, 5, 6)
        assert mt.TiltSeriesEDS.from_maps({"Co": np.ones((5, 6))}, tilts=[3]).data.shape == (
            1,
            1,
            5,
            6,
        )
        with pytest.raises(ValueError, match=r"shape \(tilt, y, x\)"):
            mt.TiltSeriesHAADF.from_images(np.ones((5, 6)), tilts=[3, 4])


class TestBadInput:
    @pytest.mark.parametrize("suffix", ["bcf", "emd", "dm3", "dm4", "mrc", "tif", "hspy", "zspy"])
    def test_empty_files(self, tmp_path, suffix):
        (tmp_path / f"a.{suffix}").touch()
        with pytest.raises(ValueError, match=rf"a\.{suffix} is empty \(0 bytes\)"):
            read_records(tmp_path / f"a.{suffix}")

    @pytest.mark.parametrize("suffix", ["emd", "dm3", "dm4", "mrc", "tif", "hspy"])
    def test_files_that_are_something_else(self, tmp_path, suffix):
        (tmp_path / f"a.{suffix}").write_bytes(b"This is no microscope file at all. " * 60)
        with pytest.raises(ValueError, match=rf"a\.{suffix} cannot be read"):
            read_records(tmp_path / f"a.{suffix}")

    def test_mixed_pixel_sizes(self, tmp_path):
        for tilt in TILTS:
            image = {
                "data": np.ones((5, 6), np.int16),
                "tags": microscope_tags(tilt),
                "pixel_size": 2.0 + (tilt == 20),
            }
            write_dm(tmp_path / f"{tilt}.dm4", [image])
        with pytest.raises(ValueError, match=r"same pixel size .*-20\.dm4, 0\.dm4;.*20\.dm4"):
            mt.load_tilt_series(tmp_path)

    def test_stacks_without_tilts_or_with_too_few(self, tmp_path):
        path = write_mrc(tmp_path / "a.mrc", random(4, 5, 7))
        with pytest.raises(
            ValueError,
            match=r"no tilts are known for the 4 projections of a\.mrc.*\.rawtlt, \.tlt or \.mdoc",
        ):
            mt.load_tilt_series(path)
        (tmp_path / "a.tlt").write_text("0\n10\n20")
        with pytest.raises(
            ValueError,
            match=r"a\.mrc has the shape \(4, 5, 7\), no axis of which fits the 3 tilts of a\.tlt",
        ):
            mt.load_tilt_series(path)
        with pytest.raises(ValueError, match=r"a\.tlt has 3 angles but there are 4 projections"):
            mt.load_tilt_series(path, tilts=tmp_path / "a.tlt", stack_axes="tilt y x")

    def test_missing_file_of_tilts(self, tmp_path):
        path = write_mrc(tmp_path / "a.mrc", random(4, 5, 7))
        write_mdoc(tmp_path / "a.mrc.mdoc", [-20, 0, 20])
        with pytest.raises(FileNotFoundError, match=r"no file of tilts other\.rawtlt"):
            mt.load_tilt_series(path, tilts="other.rawtlt")
        with pytest.raises(
            ValueError, match=r"fits the 3 tilts of a\.mrc\.mdoc; pass one tilt for each image"
        ):
            mt.load_tilt_series(path)

    def test_energies_without_units(self, tmp_path):
        for kind in ("EDS_TEM", "EELS"):
            signal = hs.signals.Signal1D(random(4, 5, 16))
            signal.set_signal_type(kind)
            signal.save(tmp_path / f"{kind}.hspy")
            with pytest.raises(
                ValueError, match=rf"axis of the {kind} energies in {kind}\.hspy has no units"
            ):
                mt.load_tilt_series(tmp_path / f"{kind}.hspy", tilts=[0])

    def test_several_stacks_of_images(self, tmp_path):
        files = [write_mrc(tmp_path / name, random(3, 5, 7)) for name in ("a.mrc", "b.mrc")]
        with pytest.raises(
            ValueError, match=r"a whole tilt series, and one file is enough; found a\.mrc, b\.mrc"
        ):
            mt.load_tilt_series(files, tilts=[0, 1, 2])
        assert read_stack(files[0]).kind == "image_stack"

    def test_missing_package(self, tmp_path, monkeypatch):
        """Where a package cannot be imported the error says which, and how to install it."""
        write_image(tmp_path / "a.zspy")
        for name in [name for name in sys.modules if name.startswith("rsciio.zspy")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "zarr", None)
        told = (
            r"a\.zspy needs the package 'zarr', which is not installed; "
            r"pip install 'rosettasciio\[zspy\]'"
        )
        with pytest.raises(ModuleNotFoundError, match=told):
            read_records(tmp_path / "a.zspy")

    def test_events_need_no_other_package(self, tmp_path, monkeypatch):
        path = write_velox(tmp_path / "a.emd", {}, [np.ones((1, 5, 6, 8), int)])
        monkeypatch.setitem(sys.modules, "sparse", None)
        assert read_records(path)[0].data.sum() == 5 * 6 * 8

    def test_a_folder_passes_over_other_files(self, tmp_path):
        for name in ("-10.dm4", "2.mrc", "notes.txt", "results.h5", "thumbnail.png"):
            (tmp_path / name).touch()
        assert [path.name for path in expand_files(tmp_path)] == ["-10.dm4", "2.mrc"]
