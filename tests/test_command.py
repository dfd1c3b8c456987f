# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `multitomo`: folders in, results out, and the same results from their settings."""

import re
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
import yaml
from particle_files import write_particle

import hyperspy_multitomo as mt
from hyperspy_multitomo import command, command_page
from hyperspy_multitomo.command import RESULTS, main
from hyperspy_multitomo.command_settings import Settings

IDP = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
TILTS = np.arange(-60.0, 61.0, 30.0)
QUICK = ["--method", "sirt", "--set", "iterations=3"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of a small simulated particle: at each tilt a file of an image and of spectra."""
    folder = tmp_path_factory.mktemp("files") / "particle"
    folder.mkdir()
    write_particle(folder, TILTS)
    return folder


@pytest.fixture(scope="module")
def first(files, tmp_path_factory):
    """The results of a run with everything left to the command."""
    out = tmp_path_factory.mktemp("first")
    assert main([str(files), "--elements", "Al", "Au", "--out", str(out)]) == 0
    return out


@pytest.fixture
def no_page(monkeypatch):
    """Write no figures, which take most of the time of a small run."""
    monkeypatch.setattr(command_page, "write_page", lambda run, path: path.write_text("page"))


@pytest.fixture
def haadf_files(tmp_path):
    """Two folders of HAADF images, with a broken one between them."""
    rng = np.random.default_rng(0)
    image = np.zeros((3, 10, 16))
    image[:, 3:7, 5:10] = 9
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "haadf.hspy"
        if name == "b":
            path.write_bytes(b"this is no HDF5 file")
        else:
            series = mt.TiltSeriesHAADF.from_images(
                image + rng.random(image.shape), tilts=[-40, 0, 40], pixel_size=1.0
            )
            series.save(path)
    return tmp_path


def texts(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.slow
class TestOneFolder:
    def test_writes_series_volume_composition_settings_and_page(self, first):
        assert {path.name for path in first.iterdir()} == set(RESULTS)
        assert type(hs.load(first / "eds.zspy")) is mt.TiltSeriesEDS
        assert type(hs.load(first / "haadf.zspy")) is mt.TiltSeriesHAADF
        composition = hs.load(first / "composition.zspy")
        assert composition.quantity == "weight percent"
        total = sum(composition[name].data for name in ("Al", "Au"))
        np.testing.assert_allclose(total[total > 0], 100, rtol=1e-4)

    def test_the_page_shows_every_step(self, first):
        page = (first / "report.html").read_text()
        for words in ("largest gap", "response ratio", "weight percent", "reconstruct_hebt"):
            assert words in page
        assert "Chosen from the data: TNV of the maps with the HAADF as their sum" in page
        assert page.count("data:image/png;base64,") == 9
        assert (first / "settings.yaml").read_text().splitlines()[4] in page
        # Nothing is loaded from elsewhere; the letters alone occur by chance in the pictures.
        assert "://" not in page.split("<body>")[1]

    def test_evidence_and_noise_are_shown(self, first, files, tmp_path):
        settings = ["--settings", str(first / "settings.yaml")]
        quick = ["--method", "sirt", "--set", "iterations=3", "--bin", "1"]
        more = ["--realisations", "2", "--evidence"]
        assert main([str(files), *settings, *quick, *more, "--out", str(tmp_path)]) == 0
        noise = hs.load(tmp_path / "noise.zspy")
        assert "noise only" in noise.quantity
        assert noise.data.max() > 0
        page = (tmp_path / "report.html").read_text()
        assert "The counts were drawn anew 2 times" in page
        assert "whole particle, weight percent" in page
        assert "tested on the other half" in page
        assert "edges from 10 to 90 %, nm" in page
        assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["realisations"] == 2

    @pytest.mark.filterwarnings("ignore:the noise of images:UserWarning")
    def test_the_volume_is_that_of_the_lines_in_the_readme(self, first, files):
        haadf, spectra = mt.load_tilt_series(files)
        eds = mt.elemental_maps(spectra, elements=["Al", "Au"], show_progressbar=False)
        eds.align(haadf.align(show_progressbar=False))
        haadf.estimate_gains()
        eds.estimate_gains(haadf)
        eds.fit_response_ratios(haadf)
        volume = eds.reconstruct(haadf, show_progressbar=False)
        np.testing.assert_array_equal(hs.load(first / "volume.zspy").data, volume.data)

    def test_the_volume_can_be_made_again_from_the_series_beside_it(self, first):
        haadf, eds, volume = (
            hs.load(first / f"{name}.zspy") for name in ("haadf", "eds", "volume")
        )
        np.testing.assert_array_equal(mt.rerun(volume, haadf, eds).data, volume.data)

    def test_settings_say_what_was_resolved(self, first):
        written = yaml.safe_load((first / "settings.yaml").read_text())
        assert (written["version"], written["method"], written["haadf"]) == (1, "hebt", True)
        assert written["gains"] in ("constant", "lamella")
        assert (written["bin"], written["keywords"]["regulariser"]) == (1, "tnv")
        assert 0.5 <= written["keywords"]["weight"] <= 4
        assert written["keywords"]["refit"]
        assert written["keywords"]["tolerance"] == 0.0001

    def test_settings_make_the_same_results(self, first, files, tmp_path, no_page):
        settings = first / "settings.yaml"
        assert main([str(files), "--settings", str(settings), "--out", str(tmp_path)]) == 0
        assert (tmp_path / "settings.yaml").read_text() == settings.read_text()
        for name in ("volume", "composition", "eds"):
            before, after = (hs.load(folder / f"{name}.zspy") for folder in (first, tmp_path))
            np.testing.assert_array_equal(after.data, before.data)

    @pytest.mark.parametrize(
        "more",
        [
            ["--method", "hebt", "--set", "iterations=4", "regulariser=tv", "weight=2"],
            ["--method", "fused", "--set", "iterations=4", "tolerance=null", "depth=30"],
            [
                "--method",
                "em",
                "--set",
                "iterations=2",
                "--bin",
                "2",
                "--k-factors",
                "Al=1",
                "Au=2",
            ],
        ],
    )
    def test_so_do_those_of_other_methods(self, files, tmp_path, no_page, more):
        a, b = tmp_path / "a", tmp_path / "b"
        chosen = [*more, "--elements", "Al", "Au", "--also", "Cu"]
        assert main([str(files), *chosen, "--out", str(a)]) == 0
        again = ["--settings", str(a / "settings.yaml")]
        assert main([str(files), *again, "--out", str(b)]) == 0
        before, after = (hs.load(folder / "volume.zspy") for folder in (a, b))
        np.testing.assert_array_equal(after.data, before.data)
        assert (a / "settings.yaml").read_text() == (b / "settings.yaml").read_text()

    def test_options_replace_those_of_the_file(self, first, files, tmp_path, no_page):
        settings = ["--settings", str(first / "settings.yaml")]
        assert main([str(files), *settings, *QUICK, "--out", str(tmp_path)]) == 0
        written = yaml.safe_load((tmp_path / "settings.yaml").read_text())
        assert written["method"] == "sirt"
        assert "weight" not in written["keywords"]  # of nuclear TV
        assert hs.load(tmp_path / "volume.zspy").history[-1]["iterations"] == 3

    def test_the_demo_leads_here(self, files, tmp_path, no_page, capsys):
        from hyperspy_multitomo.demo import main as demo

        arguments = ["--data", str(files), "--elements", "Al", "Au", "--iterations", "3"]
        assert demo([*arguments, "--out", str(tmp_path)]) == 0
        assert "--data is the command multitomo now" in texts(capsys)[0]
        last = hs.load(tmp_path / "volume.zspy").history[-1]
        assert (last["step"], last["iterations"]) == ("reconstruct_hebt", 3)


class TestOtherFiles:
    def test_haadf_alone(self, haadf_files, tmp_path):
        out = tmp_path / "out"
        assert main([str(haadf_files / "a"), "--out", str(out)]) == 0
        left = {"haadf.zspy", "volume.zspy", "settings.yaml", "report.html"}
        assert {path.name for path in out.iterdir()} == left
        volume = hs.load(out / "volume.zspy")
        assert volume.history[-1]["step"] == "reconstruct_tv"
        assert yaml.safe_load((out / "settings.yaml").read_text())["elements"] is None

    def test_maps_alone_without_pixel_size(self, tmp_path, capsys):
        rng, expected = np.random.default_rng(0), np.zeros((5, 10, 16))
        expected[:, 2:8, 4:11] = 5
        maps = {name: rng.poisson(expected) for name in ("Se", "S")}
        (tmp_path / "dots").mkdir()
        mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS).save(tmp_path / "dots" / "eds.hspy")
        out = tmp_path / "out"
        assert main([str(tmp_path / "dots"), "--out", str(out)]) == 0
        assert "no composition:" in texts(capsys)[0]
        left = {"eds.zspy", "volume.zspy", "settings.yaml", "report.html"}
        assert {path.name for path in out.iterdir()} == left
        written = yaml.safe_load((out / "settings.yaml").read_text())
        assert (written["haadf"], written["gains"]) == (False, "none")
        assert written["elements"] == ["Se", "S"]
        assert "gains" not in [step["step"] for step in hs.load(out / "eds.zspy").history]

        assert main([str(tmp_path / "dots"), "--elements", "Au", "--out", str(tmp_path)]) == 1
        assert "maps of Se, S" in texts(capsys)[1]

    def test_a_stack_and_settings_by_hand(self, haadf_files, tmp_path, no_page):
        out, settings = tmp_path / "out", tmp_path / "run.yaml"
        settings.write_text("version: 1\ngains: none\nmethod: sirt\nkeywords: {iterations: 3}\n")
        stack = str(haadf_files / "a" / "haadf.hspy")
        assert main([stack, "--settings", str(settings), "--out", str(out)]) == 0
        assert hs.load(out / "volume.zspy").history[-1]["iterations"] == 3
        assert hs.load(out / "haadf.zspy").gains is None


class TestSeveralFolders:
    def test_one_fails_and_the_others_go_on(self, haadf_files, tmp_path, no_page, capsys):
        folders = [str(haadf_files / name) for name in ("a", "b", "c", "d")]
        assert main([*folders, *QUICK, "--out", str(tmp_path / "out")]) == 1
        for name, there in {"a": True, "b": False, "c": True, "d": False}.items():
            assert (tmp_path / "out" / name / "volume.zspy").exists() is there
        last = texts(capsys)[1].strip().splitlines()[-3:]
        assert last[0] == "multitomo: 2 of 4 failed:"
        assert last[1].startswith(f"  {folders[1]}: ")
        assert "haadf.hspy" in last[1]
        assert last[2] == f"  {folders[3]}: there is no file or folder {folders[3]}"

    def test_folders_of_one_name_are_kept_apart(self, tmp_path):
        folders = [str(tmp_path / name / "tilts") for name in ("one", "two")]
        targets = command._targets(folders, Path("out"))
        assert list(targets.values()) == [Path("out/one/tilts"), Path("out/two/tilts")]
        with pytest.raises(ValueError, match="named twice"):
            command._targets([folders[0], folders[0]], Path("out"))
        patterns = [f"{tmp_path}/{name}/*.bcf" for name in ("one", "two")]
        assert list(command._targets(patterns, Path("out")).values()) == [
            Path("out/one"),
            Path("out/two"),
        ]
        (tmp_path / "-5.bcf").touch()
        (tmp_path / "5.bcf").touch()
        with pytest.raises(ValueError, match="put the pattern in quotes"):
            command._targets([str(path) for path in tmp_path.glob("*.bcf")], Path("out"))
        with pytest.raises(ValueError, match="is a folder of the files"):
            command._targets([str(tmp_path)], tmp_path)

    def test_earlier_results_are_kept_unless_asked(self, haadf_files, tmp_path, no_page, capsys):
        call = [str(haadf_files / "a"), *QUICK, "--out", str(tmp_path / "out")]
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "composition.zspy").mkdir()
        assert main(call) == 1
        assert "composition.zspy already; choose another --out" in texts(capsys)[1]
        assert not (tmp_path / "out" / "volume.zspy").exists()
        assert main([*call, "--overwrite"]) == 0
        # Of another run: it would not belong to this volume.
        assert not (tmp_path / "out" / "composition.zspy").exists()
        assert (tmp_path / "out" / "volume.zspy").exists()

    def test_an_interrupt_leaves_what_is_finished(
        self, haadf_files, tmp_path, no_page, monkeypatch, capsys
    ):
        calls, reconstruct = [], command.reconstruct

        def interrupted(*args):
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return reconstruct(*args)

        monkeypatch.setattr(command, "reconstruct", interrupted)
        folders = [str(haadf_files / name) for name in ("a", "c", "b")]
        assert main([*folders, *QUICK, "--out", str(tmp_path / "out")]) == 130
        assert texts(capsys)[1].strip() == (
            f"multitomo: interrupted in {folders[1]}; finished before: {folders[0]}"
        )
        assert (tmp_path / "out" / "a" / "report.html").exists()
        assert not (tmp_path / "out" / "c").exists()
        assert len(calls) == 2

    def test_an_interrupted_reconstruction_is_saved_as_far_as_it_came(
        self, haadf_files, tmp_path, no_page, monkeypatch
    ):
        def stop(iterate):
            if iterate.iteration == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(
            command,
            "reconstruct",
            lambda haadf, *_: haadf.reconstruct_sirt(9, show_progressbar=stop),
        )
        folders = [str(haadf_files / name) for name in ("a", "c")]
        assert main([*folders, "--out", str(tmp_path / "out")]) == 130
        assert hs.load(tmp_path / "out" / "a" / "volume.zspy").history[-1]["interrupted"]
        written = yaml.safe_load((tmp_path / "out" / "a" / "settings.yaml").read_text())
        assert written["keywords"]["iterations"] == 2
        assert not (tmp_path / "out" / "c").exists()


class TestWrongCalls:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--bin", "0"], "bin: 0 must be a whole number from 1 up, or auto"),
            (["--bin", "two"], "bin: 'two' must be"),
            (["--method", "art"], "method: 'art' must be one of auto, cgls"),
            (["--set", "alpha=2"], "the automatic choice has no 'alpha'"),
            (["--method", "sirt", "--set", "weight=2"], "sirt has no 'weight'"),
            (["--method", "sirt", "--set", "mask=2"], "sirt has no 'mask'"),
            (["--method", "sirt", "--set", "iterations"], "expected KEY=VALUE"),
            (["--k-factors", "Au=x"], "positive number for each element"),
            (["--elements", "Au", "Ag", "--k-factors", "Au=2"], "each of Au, Ag"),
            (["--settings", "nowhere.yaml"], "nowhere.yaml"),
        ],
    )
    def test_are_named_before_anything_is_read(self, tmp_path, capsys, arguments, message):
        assert main([str(tmp_path), *arguments, "--out", str(tmp_path / "out")]) == 2
        error = texts(capsys)[1].strip()
        assert error.startswith("multitomo: ")
        assert message in error

    def test_what_goes_wrong_later_is_said_in_one_line(self, haadf_files, files, tmp_path, capsys):
        out = ["--out", str(tmp_path / "out")]
        assert main([str(files), *out]) == 1
        assert "name the elements to map" in texts(capsys)[1]
        assert main([str(haadf_files / "a"), "--method", "tnv", *out]) == 1
        assert "tnv needs elemental maps" in texts(capsys)[1]
        assert not (tmp_path / "out").exists()

    def test_an_error_that_no_check_foresaw_is_shown_with_its_place(
        self, haadf_files, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setattr(command, "reconstruct", lambda *_: 1 / 0)
        assert main([str(haadf_files / "a"), "--out", str(tmp_path / "out")]) == 1
        error = texts(capsys)[1]
        assert "Traceback" in error
        assert "ZeroDivisionError: division by zero" in error.splitlines()[-1]


class TestSettingsFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("version: 2\nmethod: tnv\n", r"version: 2; this version of multitomo reads .*: 1\."),
            ("version: true\n", "version: True"),
            ("method: tnv\n", "has no version"),
            ("version: 1\nmethods: tnv\n", "unknown key 'methods'; is 'method' meant"),
            ("version: 1\nmethod: art\n", "run.yaml: method: 'art' must be one of"),
            ("version: 1\nmethod: tnv\nkeywords: {wait: 1}\n", "tnv has no 'wait'"),
            ("version: 1\nkeywords: {alpha: 1}\n", "automatic choice has no 'alpha'"),
            ("version: 1\nkeywords: 3\nmethod: tnv\n", "keywords: 3 must be keywords"),
            ("version: 1\nelements: Au\n", "elements: 'Au' must be a list"),
            ("version: 1\nelements: []\n", "the list is empty"),
            ("version: 1\nelements: [1]\n", "must be a list of elements"),
            ("version: 1\ntilts: [1, 2]\n", "must be text"),
            ("version: 1\nbin: true\n", "bin: True must be"),
            ("version: 1\ngains: many\n", "gains: 'many' must be one of auto"),
            ("version: 1\nhaadf: 1\n", "haadf: 1 must be true or false"),
            ("version: 1\nk_factors: {Au: -1}\n", "positive number"),
            ("version: [\n", "is no YAML file"),
            ("- version\n", "holds no settings"),
            ("", "holds no settings"),
        ],
    )
    def test_wrong_ones_are_refused(self, tmp_path, text, message):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Settings.load(path)

    def test_those_of_another_version_of_the_package_are_read_with_a_word(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("version: 1\nmade_by: hyperspy_multitomo 9.9\nbin: 2\n")
        with pytest.warns(UserWarning, match="written by hyperspy_multitomo 9.9"):
            assert Settings.load(path) == Settings(bin=2)

    def test_come_back_to_the_last_bit(self, tmp_path):
        keywords = {"weight": 0.1 + 0.2, "depth": 1e-5, "mu": {"Au": 1 / 3, "Ag": 1.0}}
        settings = Settings(["Au", "Ag"], ["Cu"], method="tnv", keywords=keywords, bin=4)
        settings.save(tmp_path / "run.yaml")
        assert Settings.load(tmp_path / "run.yaml") == settings

    def test_another_method_begins_anew(self):
        """A run by SIRT says that it took no HAADF."""
        settings = Settings(method="sirt", haadf=False, keywords={"iterations": 3}, bin=2)
        assert settings.replaced(method="tnv") == Settings(method="tnv", bin=2)
        more = settings.replaced(keywords={"relaxation": 0.5})
        assert more.keywords == {"iterations": 3, "relaxation": 0.5}
        assert not more.haadf

    def test_powers_of_ten_are_numbers(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("version: 1\nmethod: tnv\nkeywords: {tolerance: 1e-3, weight: auto}\n")
        assert Settings.load(path).keywords == {"tolerance": 0.001, "weight": "auto"}
        assert command._pairs("--set", ["a=2e-4", "b=1", "c=tv"]) == {"a": 2e-4, "b": 1, "c": "tv"}

    def test_numbers_of_arrays_are_written_as_such(self):
        settings = Settings(
            method="tnv", keywords={"mu": np.array([1.5, 2]), "weight": np.float64(2)}
        )
        read = yaml.safe_load(settings.text())
        assert read["keywords"] == {"mu": [1.5, 2.0], "weight": 2.0}


@pytest.mark.slow
@pytest.mark.skipif(
    not IDP.is_dir(), reason=f"the example data {IDP.name} are not beside the repository"
)
def test_real_particle(tmp_path):
    """Interplanetary dust: a lamella, 16 tilts within 40 degrees, under one count per pixel."""
    elements = ["C", "O", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt"]
    how = ["--bin", "8", "--out", str(tmp_path)]
    assert main([str(IDP), "--elements", *elements, *how]) == 0
    eds, volume, composition = (
        hs.load(tmp_path / f"{name}.zspy") for name in ("eds", "volume", "composition")
    )
    assert eds.elements == tuple(elements)
    assert eds.data.sum(axis=(2, 3)).min() >= 0
    assert eds.response_ratios.r2 > 0.7
    assert (eds.response_ratios.values > 0).all()
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["gains"] == "lamella"
    assert np.isfinite(composition.data).all()
    for element in ("O", "Mg", "Si", "Fe"):
        image = eds.aligned()[element].inav[0.0].data
        seen = volume[element].data.sum(axis=0)
        spare = (seen.shape[1] - image.shape[1]) // 2
        seen = seen[:, spare : spare + image.shape[1]]
        assert np.corrcoef(image.ravel(), seen.ravel())[0, 1] > 0.85, element
    assert re.search("a lamella", (tmp_path / "report.html").read_text())
