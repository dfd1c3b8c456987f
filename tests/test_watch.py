# SPDX-License-Identifier: GPL-3.0-or-later
"""A tilt series while it is acquired: files one by one, half-written ones, the end of a watch."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from particle_files import write_particle

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.signals.new_files import NewFiles
from hyperspy_multitomo.signals.watching import in_the_place_of

TILTS = np.arange(-60.0, 61.0, 20.0)
SIRT = {"method": "sirt", "iterations": 5, "also": [], "poll": 0.05, "patience": 0.3}
IDP = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"


@pytest.fixture(scope="module")
def acquired(tmp_path_factory):
    """A folder of a simulated particle: at each tilt a file of an image and one of spectra."""
    folder = tmp_path_factory.mktemp("acquired")
    write_particle(folder, TILTS)
    return folder


def deliver(acquired, folder, tilts, kinds=("haadf", "eds")):
    for tilt in tilts:
        for kind in kinds:
            shutil.copy(acquired / f"{kind}_{tilt:.0f}.hspy", folder)


@pytest.mark.slow
class TestWatch:
    def test_files_that_come_one_by_one(self, acquired, tmp_path):
        deliver(acquired, tmp_path, TILTS[:5])
        region = mt.Ellipsoid((24.0, 12.0, 0.0), 6.0)
        watch = mt.watch(tmp_path, ["Al", "Au"], region=region, element="Au", stop_at=1e3, **SIRT)
        coming, tilts = list(TILTS[5:]), []
        for look in watch:
            tilts.append(look.tilts.tolist())
            if coming:
                deliver(acquired, tmp_path, [coming.pop(0)])
        assert tilts == [TILTS[:5].tolist(), TILTS[:6].tolist(), TILTS.tolist()]
        assert watch.reason == "no new file for 0.3 s"
        assert watch.last is look
        assert [row["tilts"] for row in watch.history] == [5, 6, 7]
        assert look.evidence.tried == 3
        assert look.volume.channels == ("Al", "Au")
        # The last volume is that of these lines.
        again = look.eds.reconstruct_sirt(5, initial=None, show_progressbar=False)
        assert look.volume.data.shape == again.data.shape
        assert watch.plot().axes[0].lines[0].get_ydata().tolist() == [
            row["z"] for row in watch.history
        ]

    def test_half_written_files_wait(self, acquired, tmp_path):
        deliver(acquired, tmp_path, TILTS[:5], ["haadf"])
        whole = (acquired / "haadf_40.hspy").read_bytes()
        (tmp_path / "haadf_40.hspy").write_bytes(whole[: len(whole) // 2])
        watch, seen = mt.watch(tmp_path, **SIRT), []
        for look in watch:
            seen.append(len(look.tilts))
            if len(seen) == 1:
                assert any("haadf_40" in note for note in look.notes)
                (tmp_path / "haadf_40.hspy").write_bytes(whole)
        assert seen == [5, 6]

    def test_images_before_their_spectra(self, acquired, tmp_path):
        deliver(acquired, tmp_path, TILTS[:5])
        deliver(acquired, tmp_path, TILTS[5:6], ["haadf"])
        watch, seen = mt.watch(tmp_path, ["Al", "Au"], **SIRT), []
        for look in watch:
            seen.append((len(look.haadf.tilts), len(look.eds.tilts)))
            if len(seen) == 1:
                deliver(acquired, tmp_path, TILTS[5:6], ["eds"])
        assert seen[-1] == (6, 6)

    def test_enough_evidence_ends_it(self, acquired, tmp_path):
        deliver(acquired, tmp_path, TILTS)
        core = mt.Ellipsoid((24.0, 12.0, 0.0), 6.0)
        settings = SIRT | {"patience": None}
        watch = mt.watch(
            tmp_path, ["Al", "Au"], region=core, element="Al", stop_at=0.01, **settings
        )
        assert len(list(watch)) == 1
        assert watch.reason == f"z = {watch.history[0]['z']:.1f} after 7 tilts"

    def test_stopped_from_another_thread(self, acquired, tmp_path):
        deliver(acquired, tmp_path, TILTS[:3], ["haadf"])
        watch = mt.watch(tmp_path, **SIRT | {"patience": None})
        threading.Timer(0.3, watch.stop).start()
        assert list(watch) == []
        assert watch.reason == "stopped"

    def test_an_interrupt_keeps_what_was_found(self, acquired, tmp_path, monkeypatch):
        deliver(acquired, tmp_path, TILTS[:5], ["haadf"])
        watch = mt.watch(tmp_path, **SIRT)
        looks = iter(watch)
        first = next(looks)

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(watch._stopped, "wait", interrupt)
        assert list(looks) == []
        assert watch.last is first
        assert watch.reason == "interrupted"

    def test_a_folder_that_disappears(self, acquired, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        deliver(acquired, folder, TILTS[:5], ["haadf"])
        watch = mt.watch(folder, **SIRT)
        looks = iter(watch)
        first = next(looks)
        shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError, match="is gone, with 5 files"):
            next(looks)
        assert watch.last is first

    def test_in_a_panel(self, acquired, tmp_path):
        pytest.importorskip("hyperspy_gui_ipywidgets")
        from hyperspy_multitomo.widgets.watch_panel import WatchPanel

        deliver(acquired, tmp_path, TILTS[:5])
        region = mt.Ellipsoid((24.0, 12.0, 0.0), 6.0)
        watch = mt.watch(
            tmp_path, ["Al", "Au"], region=region, element="Au", **SIRT | {"patience": None}
        )
        panel = WatchPanel(watch)
        widgets = panel.gui(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
        end = time.monotonic() + 60
        while panel.result is None or not widgets["evidence"].value:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert panel.running
        widgets["cancel_button"].click()
        assert panel.wait(60)
        assert panel.message == "Ended: stopped."
        assert bytes(widgets["volume"].value).startswith(b"\x89PNG")
        assert len(panel.result.tilts) == 5

    def test_real_particle(self, tmp_path):
        if not IDP.is_dir():
            pytest.skip("needs ../shared/data/idp_l2083")
        files = sorted(IDP.glob("*.bcf"), key=lambda path: abs(float(path.stem)))
        for path in files[:5]:
            (tmp_path / path.name).symlink_to(path)
        watch, seen = mt.watch(tmp_path, **SIRT), []
        for look in watch:
            seen.append(len(look.tilts))
            if len(seen) == 1:
                (tmp_path / files[5].name).symlink_to(files[5])
        assert seen == [5, 6]
        assert look.volume.data.shape[1] == look.haadf.data.shape[1]


class TestNewFiles:
    def test_files_wait_until_they_no_longer_change(self, tmp_path):
        files = NewFiles(tmp_path)
        assert files.complete() == {}
        one = tmp_path / "a_10.hspy"
        one.write_bytes(b"1")
        assert files.complete() == {}
        one.write_bytes(b"12")
        assert files.complete() == {}
        assert list(files.complete()) == [one]
        (tmp_path / "b_20.hspy").touch()  # begun, and still empty
        files.complete()
        assert list(files.complete()) == [one]

    def test_a_pattern(self, tmp_path):
        for name in ("a.hspy", "b.emd"):
            (tmp_path / name).write_bytes(b"1")
        files = NewFiles(tmp_path / "*.emd")
        files.complete()
        assert [path.name for path in files.complete()] == ["b.emd"]


class TestPlace:
    def test_a_displacement_is_taken_off(self):
        rng = np.random.default_rng(0)
        tilts = np.arange(-60.0, 61, 20)
        before = Alignment(rng.normal(size=5), rng.normal(size=5), 1.5, tilts=tilts[:5])
        angles = np.deg2rad(tilts)
        moved = Alignment(
            np.append(before.across, [0.3, -0.4]) + 2 * np.cos(angles) - 3 * np.sin(angles) + 0.5,
            np.append(before.along, [0.1, 0.2]) + 4,
            2.0,
            tilts=tilts,
        )
        back = in_the_place_of(moved, before)
        np.testing.assert_allclose(back.across[:5] - 0.5, before.across, atol=1e-10)
        np.testing.assert_allclose(back.across[5:] - 0.5, [0.3, -0.4], atol=1e-10)
        np.testing.assert_allclose(back.along, [*before.along, 0.1, 0.2], atol=1e-10)
        assert back.axis_offset == 2.0


class TestErrors:
    def test_no_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="does not exist: pass the one"):
            mt.watch(tmp_path / "nothing")

    @pytest.mark.parametrize("wrong", [{"stop_at": 0.0}, {"poll": 0.0}, {"patience": -1.0}])
    def test_numbers_that_are_not_positive(self, tmp_path, wrong):
        with pytest.raises(ValueError, match="must be a positive number"):
            mt.watch(tmp_path, **wrong)

    def test_a_method_that_does_not_exist(self, tmp_path):
        with pytest.raises(ValueError, match="method='magic' must be one of"):
            mt.watch(tmp_path, method="magic")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"elements": ["Xx"]}, "Xx"),
            ({"elements": []}, "elements is empty"),
            ({"element": "Cu"}, "Cu is not among"),
            ({"region": None, "element": "Au"}, "pass region="),
            ({"tilt_axis": "z"}, "tilt_axis='z'"),
        ],
    )
    def test_what_the_first_look_would_refuse(self, tmp_path, wrong, message):
        keywords = {"elements": ["Au"], "region": mt.Ellipsoid((0, 0, 0), 1)} | wrong
        with pytest.raises(ValueError, match=message):
            mt.watch(tmp_path, **keywords)

    def test_what_is_no_region(self, tmp_path):
        with pytest.raises(TypeError, match="must be an Ellipsoid, a Box, a mask"):
            mt.watch(tmp_path, ["Au"], region="features")

    def test_a_region_without_elements(self, tmp_path):
        with pytest.raises(ValueError, match="needs elements="):
            mt.watch(tmp_path, region=mt.Ellipsoid((0, 0, 0), 1))
