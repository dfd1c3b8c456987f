# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies of volumes, and profiles along lines."""

import shutil

import numpy as np
import pytest
from PIL import Image

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection.movie import frames, with_scale_bar


@pytest.fixture(scope="module")
def volume():
    z, _, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (16, 10, 20)), indexing="ij")
    shell = 1.0 * (np.hypot(x, z) < 7)
    core = 2.0 * (np.hypot(x - 3, z) < 2)
    return mt.TomographicVolume.from_arrays({"Ag": shell - core / 2, "Au": core}, pixel_size=0.5)


class TestMovie:
    def test_a_turn_shows_the_object_at_each_angle(self, volume):
        arrays = volume.array("element", "z", "x", "y")
        pictures = frames(arrays, volume.channels, step=90.0, depth_cue=0.0)
        assert pictures.shape == (4, 10, 26, 3)
        # The core, at +x, is seen at the right from the front and at the left from behind.
        blue = pictures[..., 2].sum(axis=1)
        places = (blue * np.arange(26)).sum(axis=1) / blue.sum(axis=1) - 12.5
        assert places[0] > 0.2
        assert places[2] < -0.2
        assert abs(places[1]) < 0.2

    @pytest.mark.parametrize(("view", "shape"), [("z", (16, 10, 20)), ("x", (20, 10, 16))])
    def test_sections_run_through(self, volume, view, shape):
        arrays = volume.array("element", "z", "x", "y")
        pictures = frames(arrays, volume.channels, view, limits=[(0, 1), (0, 2)])
        assert pictures.shape == (*shape, 3)
        middle = arrays[:, 8] if view == "z" else arrays[:, :, 13]
        lit = pictures[8 if view == "z" else 13].sum(axis=-1) > 0
        seen = (middle.sum(axis=0) > 0).T
        np.testing.assert_array_equal(lit, seen)

    def test_z_is_upwards_in_sections_along_the_axis(self):
        up = np.zeros((1, 6, 5, 4))
        up[0, 5] = 1
        picture = frames(up, ["Au"], "y")[0]
        assert picture.shape == (6, 5, 3)
        assert picture[0].any()
        assert not picture[1:].any()

    def test_gif(self, volume, tmp_path):
        path = volume.movie(tmp_path / "turn.gif", step=60.0, seconds=3.0, show_progressbar=False)
        with Image.open(path) as picture:
            assert picture.n_frames == 6
            assert picture.info["duration"] == 500
            assert max(picture.size) >= 480
        with pytest.raises(FileExistsError):
            volume.movie(path, show_progressbar=False)

    @pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
    def test_mp4(self, volume, tmp_path):
        path = volume.movie(tmp_path / "turn.mp4", view="z", show_progressbar=False)
        assert path.stat().st_size > 1000

    def test_mp4_without_ffmpeg_names_the_gif(self, volume, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(FileNotFoundError, match=r"ffmpeg.*or write turn\.gif"):
            volume.movie(tmp_path / "turn.mp4", show_progressbar=False)

    def test_scale_bar_is_a_round_length(self):
        pictures = with_scale_bar(np.zeros((1, 40, 100, 3)), 0.5)
        assert pictures.shape[1:3] == (200, 500)
        bar = (pictures[0, 200 - 500 // 30] == 1).all(axis=-1)
        assert bar.sum() == 100  # 10 nm of 0.5 nm, five times
        assert pictures[0, :, 16 + 100 + 8 :].any()  # its length in words

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"filename": "turn.avi"}, "expected one of .gif, .mp4"),
            ({"view": "spin"}, "view='spin' must be one of"),
            ({"step": 0.0}, "step=0 must be from 0.1"),
            ({"seconds": 0.0}, "seconds=0 must be from 0.1"),
            ({"channels": "Cu"}, "must be one or more of Ag, Au"),
        ],
    )
    def test_bad_input(self, volume, tmp_path, wrong, message):
        keywords = {"filename": tmp_path / "turn.gif", "show_progressbar": False} | wrong
        with pytest.raises(ValueError, match=message):
            volume.movie(**keywords)
        assert not list(tmp_path.iterdir())


class TestProfile:
    def test_along_x_through_core_and_shell(self, volume):
        x = volume.axes_manager["x"].axis
        line = volume.profile((x[0], 2.0, 0.25), (x[-1], 2.0, 0.25))
        expected = volume.array("element", "z", "x", "y")[:, 8, :, 4]
        np.testing.assert_allclose(line.values["Ag"], expected[0], atol=1e-6)
        np.testing.assert_allclose(line.values["Au"], expected[1], atol=1e-6)
        np.testing.assert_allclose(line.distance, 0.5 * np.arange(20))
        assert line.length == "nm"

    def test_a_disc_averages(self):
        rng = np.random.default_rng(0)
        noisy = mt.TomographicVolume.from_arrays({"Au": rng.normal(5, 1, (40, 40, 60))})
        thin = noisy.profile((-25, 20, 0.5), (25, 20, 0.5))
        thick = noisy.profile((-25, 20, 0.5), (25, 20, 0.5), 15.0)
        assert 0.5 < thin.values["Au"].std() < 1.2  # half a voxel beside the grid along x
        assert thick.values["Au"].std() < 0.12  # 150 voxels in the disc

    def test_errors_are_those_of_the_mean(self):
        ones = mt.TomographicVolume.from_arrays({"Au": np.ones((20, 20, 20))})
        sd = mt.TomographicVolume.from_arrays({"Au": np.full((20, 20, 20), 0.5)})
        # The x and y axes begin in the same place for both.
        x = ones.axes_manager["x"].axis
        line = ones.profile((x[5], 10, 0.5), (x[15], 10, 0.5), 5.0, errors=sd)
        assert line.errors["Au"] == pytest.approx(0.5 / np.sqrt(13))
        assert line.plot().axes[0].collections

    def test_table(self, volume, tmp_path):
        x = volume.axes_manager["x"].axis
        volume.profile((x[0], 2.0, 0.25), (x[3], 2.0, 0.25)).to_csv(tmp_path / "line.csv")
        lines = (tmp_path / "line.csv").read_text().splitlines()
        assert lines[0] == '"distance (nm)","Ag","Au"'
        assert len(lines) == 5

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"start": (1, 1, 0), "end": (1, 1, 0)}, "same place"),
            ({"start": (1, 1)}, "three numbers"),
            ({"start": (1, 1, np.nan)}, "three numbers"),
            ({"start": (900, 1, 0), "end": (990, 1, 0)}, "nowhere in the volume"),
            ({"width": -1.0}, "width"),
        ],
    )
    def test_bad_input(self, volume, wrong, message):
        with pytest.raises(ValueError, match=message):
            volume.profile(**({"start": (1, 1, 0), "end": (3, 1, 0)} | wrong))
