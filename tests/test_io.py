# SPDX-License-Identifier: GPL-3.0-or-later
"""Microscope files to records: formats, calibration, stacks, damaged and ill-matched files."""

import shutil
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy_files import write_image, write_mrc, write_spectra

from hyperspy_multitomo import load_tilt_series
from hyperspy_multitomo.acquisition import (
    expand_files,
    read_records,
    read_stack,
    read_tilt_files,
    resolve_tilts,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_bruker = pytest.mark.skipif(
    not (DATA / "idp_l2083").is_dir(), reason="the Bruker example files are absent"
)
needs_mrc = pytest.mark.skipif(
    not (DATA / "huber_phantom").is_dir(), reason="the MRC example files are absent"
)


class TestFiles:
    def test_natural_order(self, tmp_path):
        for name in ("a_10", "a_-10", "a_2", "a_-5", "a_2.5"):
            (tmp_path / f"{name}.bcf").touch()
        (tmp_path / "notes.docx").touch()
        names = ["a_-10.bcf", "a_-5.bcf", "a_2.bcf", "a_2.5.bcf", "a_10.bcf"]
        assert [path.name for path in expand_files(tmp_path)] == names
        assert [path.name for path in expand_files(str(tmp_path / "*.bcf"))] == names
        listed = [tmp_path / "a_2.bcf", str(tmp_path / "a_-5.bcf")]
        assert [path.name for path in expand_files(listed)] == ["a_2.bcf", "a_-5.bcf"]
        # What a list names twice is one file.
        assert [path.name for path in expand_files([*listed, tmp_path / "a_*2*"])] == [
            "a_2.bcf",
            "a_-5.bcf",
            "a_2.5.bcf",
        ]

    def test_nothing_found(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no file matches '.*\*\.bcf'"):
            expand_files(tmp_path / "*.bcf")
        with pytest.raises(FileNotFoundError, match="no microscope files"):
            expand_files(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"0\.bcf"):
            expand_files(tmp_path / "0.bcf")
        with pytest.raises(FileNotFoundError, match="empty"):
            expand_files([])
        with pytest.raises(TypeError, match="pattern"):
            expand_files(3)

    def test_brackets_are_tried_as_they_stand(self, tmp_path):
        for folder in ("run [1]", "run 1", "run 2"):
            (tmp_path / folder).mkdir()
            for name in ("a_5.bcf", "a_[5]x.bcf", "b_5.bcf"):
                (tmp_path / folder / name).touch()

        def found(pattern):
            return [str(path.relative_to(tmp_path)) for path in expand_files(tmp_path / pattern)]

        assert found("run [1]/a_5*") == ["run [1]/a_5.bcf"]
        assert found("run [1]/[b]*.bcf") == ["run [1]/b_5.bcf"]
        assert found("run [1]/*[5]*.bcf") == ["run [1]/a_[5]x.bcf"]
        assert found("run [12]/b*") == ["run 1/b_5.bcf", "run 2/b_5.bcf"]
        assert found("*[1]/b*") == ["run [1]/b_5.bcf"]
        assert len(found("run [1]")) == 3
        series = write_image(tmp_path / "run [1]" / "0.hspy")
        assert load_tilt_series(str(tmp_path / "run [[]1]" / "0.hspy"), tilts=[0]).data.shape == (
            1,
            6,
            8,
        )
        assert load_tilt_series(str(series), tilts=[0]).data.shape == (1, 6, 8)

    def test_hidden_files_are_passed_over(self, tmp_path):
        for name in ("-40.bcf", "._-40.bcf", ".0.bcf", "0.bcf", ".haadf.0a1b2c3d.zspy"):
            (tmp_path / name).touch()
        shown = ["-40.bcf", "0.bcf"]
        assert [path.name for path in expand_files(tmp_path)] == shown
        assert [path.name for path in expand_files(tmp_path / "*.bcf")] == shown
        # Unlike the shell, pathlib lists them.
        assert [
            path.name
            for path in expand_files(
                [path for path in sorted(tmp_path.glob("*.bcf")) if path.name != ".0.bcf"]
            )
        ] == shown
        assert [path.name for path in expand_files(tmp_path / "._-40.bcf")] == ["._-40.bcf"]
        (tmp_path / "only").mkdir()
        (tmp_path / "only/._0.bcf").touch()
        with pytest.raises(FileNotFoundError, match="no microscope files"):
            expand_files(tmp_path / "only")

    def test_dashes_in_natural_order(self, tmp_path):
        for name in ("a_–5", "a_−40", "a_5"):
            (tmp_path / f"{name}.bcf").touch()
        assert [path.name for path in expand_files(tmp_path)] == [
            "a_−40.bcf",
            "a_–5.bcf",
            "a_5.bcf",
        ]

    def test_several_formats(self, tmp_path):
        for name in ("2.mrc", "1.bcf", "-3.dm4"):
            (tmp_path / name).touch()
        assert [path.name for path in expand_files(tmp_path)] == ["-3.dm4", "1.bcf", "2.mrc"]

    def test_unknown_extension(self, tmp_path):
        (tmp_path / "a.xyz").touch()
        with pytest.raises(ValueError, match=r"a\.xyz: unknown extension '\.xyz'.*\.bcf"):
            read_records(tmp_path / "a.xyz")


class TestRecords:
    @pytest.mark.parametrize("suffix", ["hspy", "zspy"])
    def test_lengths_in_nm(self, tmp_path, suffix):
        (record,) = read_records(write_image(tmp_path / f"a.{suffix}"))
        assert record.kind == "image"
        assert record.pixel_size == pytest.approx((2.0, 2.0))
        assert record.energy is None
        assert np.isnan(record.tilts).all()

    @pytest.mark.parametrize("units", ["keV", "eV"])
    def test_energies_in_kev(self, tmp_path, units):
        (record,) = read_records(write_spectra(tmp_path / "a.hspy", units=units))
        assert record.kind == "spectrum_image"
        np.testing.assert_allclose(record.energy[:3], [0, 0.01, 0.02])
        assert record.pixel_size == (3.0, 3.0)
        assert record.elements == ("Fe",)
        assert record.beam_energy == 200
        np.testing.assert_array_equal(record.tilts, [12.5])

    def test_missing_calibration(self, tmp_path):
        (record,) = read_records(write_image(tmp_path / "a.hspy", scale=1.0, units=None))
        assert record.pixel_size is None

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"a\.bcf"):
            read_records(tmp_path / "a.bcf")


class TestSeries:
    def test_images_and_spectra_of_separate_files(self, tmp_path):
        files = [write_image(tmp_path / f"{tilt}.hspy", value=tilt) for tilt in (10, -10)]
        series = read_tilt_files(files)
        assert [record.data[0, 0] for record in series["images"]] == [10, -10]
        assert series["spectra"] == []

    def test_lazy_spectra(self, tmp_path):
        files = [write_spectra(tmp_path / f"{tilt}.hspy") for tilt in (10, -10)]
        assert all(hasattr(record.data, "dask") for record in read_tilt_files(files)["spectra"])
        assert not any(
            hasattr(record.data, "dask") for record in read_tilt_files(files, lazy=False)["spectra"]
        )

    @pytest.mark.parametrize(
        ("write", "odd", "what"),
        [
            (write_image, {"shape": (6, 9)}, "shape"),
            (write_image, {"scale": 0.0021}, "pixel size"),
            (write_spectra, {"offset": 0.1}, "energy axis"),
            (write_spectra, {"channels": 65}, "shape"),
        ],
    )
    def test_files_that_differ_are_named(self, tmp_path, write, odd, what):
        files = [write(tmp_path / f"{name}.hspy") for name in ("1", "2")] + [
            write(tmp_path / "odd.hspy", **odd)
        ]
        with pytest.raises(ValueError, match=rf"same {what}.*1\.hspy, 2\.hspy;.*odd\.hspy"):
            read_tilt_files(files)

    def test_different_elements_are_all_kept(self, tmp_path):
        """Which elements were chosen in the microscope's program differs from tilt to tilt,
        and hinders nothing."""
        files = [
            write_spectra(tmp_path / "1.hspy"),
            write_spectra(tmp_path / "2.hspy", elements=["Co", "Fe"]),
        ]
        with pytest.warns(
            UserWarning, match=r"different elements \(Co, Fe; Fe\); all of them are kept"
        ):
            spectra = load_tilt_series(files)
        assert spectra.metadata.Sample.elements == ["Co", "Fe"]

    def test_files_of_different_content(self, tmp_path):
        files = [write_image(tmp_path / "1.hspy"), write_spectra(tmp_path / "2.hspy")]
        series = read_tilt_files(files)
        assert [record.path.name for record in series["images"]] == ["1.hspy"]
        assert [record.path.name for record in series["spectra"]] == ["2.hspy"]

    def test_damaged_file(self, tmp_path):
        files = [write_image(tmp_path / f"{tilt}.hspy") for tilt in (1, 2, 3)]
        files[1].write_bytes(files[1].read_bytes()[:3000])
        with pytest.raises(ValueError, match=r"2\.hspy cannot be read"):
            read_tilt_files(files)
        with pytest.warns(UserWarning, match=r"left out: 2\.hspy"):
            series = read_tilt_files(files, on_error="skip")
        assert [record.path.name for record in series["images"]] == ["1.hspy", "3.hspy"]
        with pytest.raises(ValueError, match="'raise' or 'skip'"):
            read_tilt_files(files, on_error="ignore")


class TestStacks:
    def test_mrc_with_tilts_beside_it(self, tmp_path):
        data = np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)
        path = write_mrc(tmp_path / "a.mrc", data)
        (tmp_path / "a.rawtlt").write_text("-10\n0\n10")
        stack = read_stack(path)
        np.testing.assert_array_equal(stack.data, data)
        assert [axis["name"] for axis in stack.axes] == ["tilt", "y", "x"]
        assert stack.pixel_size is None
        assert np.isnan(stack.tilts).all()
        np.testing.assert_array_equal(resolve_tilts(None, [path], stack.tilts, n=3), [-10, 0, 10])

    def test_sinograms_are_told_by_the_number_of_tilts(self, tmp_path):
        data = np.random.default_rng(0).random((5, 3, 7)).astype(np.float32)
        path = write_mrc(tmp_path / "a.mrc", data)
        for stack in (read_stack(path, n_tilts=3), read_stack(path, stack_axes="y tilt x")):
            np.testing.assert_array_equal(stack.data, data.swapaxes(0, 1))
        np.testing.assert_array_equal(read_stack(path).data, data)

    def test_axes_that_do_not_fit(self, tmp_path):
        path = write_mrc(tmp_path / "a.mrc", np.zeros((5, 3, 7)))
        with pytest.raises(
            ValueError, match=r"a\.mrc has the shape \(5, 3, 7\), no axis of which fits the 4 tilts"
        ):
            read_stack(path, n_tilts=4)
        with pytest.raises(ValueError, match="stack_axes='tilt z x'"):
            read_stack(path, stack_axes="tilt z x")
        with pytest.raises(ValueError, match="0 stacks"):
            read_stack(write_image(tmp_path / "b.hspy"))

    def test_tilt_axis_of_a_signal(self, tmp_path):
        axes = [{"name": "tilt", "axis": [-50.0, 0.0, 20.0], "navigate": True}]
        axes += [
            {"name": name, "size": size, "scale": 0.5, "units": "nm", "navigate": False}
            for name, size in (("y", 4), ("x", 5))
        ]
        hs.signals.Signal2D(np.ones((3, 4, 5)), axes=axes).save(tmp_path / "a.hspy")
        stack = read_stack(tmp_path / "a.hspy")
        np.testing.assert_array_equal(stack.tilts, [-50, 0, 20])
        assert stack.pixel_size == (0.5, 0.5)

    @needs_mrc
    def test_huber_phantom(self):
        stack = read_stack(DATA / "huber_phantom" / "HAADF_lrsino.mrc")
        assert stack.data.shape == (36, 60, 433)
        # The object is in view at every tilt: its mass is the same in each projection, slice by
        # slice.
        mass = np.asarray(stack.data, dtype=float).sum(axis=2)
        assert np.all(mass.std(axis=0) < 0.05 * mass.mean(axis=0))
        np.testing.assert_array_equal(
            resolve_tilts(None, [stack.path], stack.tilts, n=36), np.arange(0, -180, -5)
        )


@needs_bruker
class TestBruker:
    def test_image_and_spectra_of_a_file(self):
        image, spectra = read_records(DATA / "idp_l2083" / "-40.bcf", lazy=True)
        assert (image.kind, image.title, image.data.shape) == ("image", "HAADF", (256, 256))
        assert (spectra.kind, spectra.data.shape) == ("spectrum_image", (256, 256, 2048))
        assert image.pixel_size == pytest.approx((13.08, 13.08), abs=0.01)
        assert spectra.pixel_size == image.pixel_size
        assert spectra.energy[[0, -1]] == pytest.approx([-0.471, 20.005], abs=1e-3)
        assert hasattr(spectra.data, "dask")

    @pytest.mark.parametrize("interpreter", ["/nowhere/python", "/bin/true"])
    def test_read_without_a_trial_where_none_can_be_started(self, monkeypatch, interpreter):
        """Inside another program `sys.executable` may be no Python;
        whole files are read all the same."""
        monkeypatch.setattr("sys.executable", interpreter)
        assert [
            record.kind for record in read_records(DATA / "idp_l2083" / "0.bcf", lazy=True)
        ] == ["image", "spectrum_image"]

    def test_truncated_and_corrupt_files(self, tmp_path):
        """The compiled reader ends the process on these;
        the error names them and the process lives."""
        for name in ("5", "10", "15"):
            shutil.copy(DATA / "idp_l2083" / f"{name}.bcf", tmp_path)
            (tmp_path / f"{name}.bcf").chmod(0o600)
        content = (tmp_path / "5.bcf").read_bytes()
        (tmp_path / "5.bcf").write_bytes(content[: len(content) // 2])
        content = bytearray((tmp_path / "10.bcf").read_bytes())
        middle = len(content) // 2
        content[middle : middle + 5000] = np.random.default_rng(0).bytes(5000)
        (tmp_path / "10.bcf").write_bytes(content)
        with pytest.raises(ValueError, match=r"5\.bcf cannot be read, it is damaged or truncated"):
            read_records(tmp_path / "5.bcf")
        with pytest.warns(UserWarning, match="left out") as caught:
            series = read_tilt_files(tmp_path, on_error="skip")
        assert [str(w.message).split()[2] for w in caught if "left out" in str(w.message)] == [
            "5.bcf",
            "10.bcf",
        ]
        assert [record.path.name for record in series["spectra"]] == ["15.bcf"]


def test_the_image_of_a_stack_goes_by_its_name(tmp_path):
    path = write_mrc(tmp_path / "haadf_stack.mrc", np.ones((3, 6, 8), np.float32))
    assert read_tilt_files(path, image="HAADF", n_tilts=3)["images"][0].kind == "image_stack"
    with pytest.raises(ValueError, match="has no image called 'BF', only"):
        read_tilt_files(path, image="BF", n_tilts=3)
