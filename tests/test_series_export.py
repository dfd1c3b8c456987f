# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series as stacks for other programs, and back."""

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment

TILTS = np.array([-40.0, -10.0, 5.0, 30.0])


@pytest.fixture
def haadf():
    images = np.random.default_rng(0).random((4, 6, 8)).astype(np.float32)
    return mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, pixel_size=0.5)


def test_a_stack_comes_back_with_its_tilts_and_alignment(haadf, tmp_path):
    haadf.alignment = Alignment([1, 0, -2, 0.5], [0, 1.5, 0, -1], axis_offset=1.25, rotation=2.0)
    files = haadf.export(tmp_path / "stack.mrc")
    assert [path.name for path in files] == ["stack.mrc", "stack.rawtlt", "stack.xf"]
    back = mt.load_tilt_series(tmp_path / "stack.mrc")
    np.testing.assert_array_equal(back.data, haadf.data)
    np.testing.assert_allclose(back.tilts, TILTS)
    assert back.pixel_size == pytest.approx(0.5)
    found = mt.Alignment.load(tmp_path / "stack.xf")
    expected, probe = haadf.aligned().data, back.deepcopy()
    probe.align(found)
    np.testing.assert_allclose(probe.aligned().data, expected, atol=1e-3)


def test_each_element_has_a_stack(tmp_path):
    maps = {name: np.full((4, 6, 8), n, np.float32) for n, name in enumerate(("Au", "Ag"))}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS)
    files = eds.export(tmp_path / "maps.st", "Ag")
    assert [path.name for path in files] == ["maps_Ag.st", "maps_Ag.rawtlt"]
    back = mt.load_tilt_series(tmp_path / "maps_Ag.st")
    assert (back.data == 1).all()
    assert len(eds.export(tmp_path / "all.mrc")) == 4


def test_existing_files_stay(haadf, tmp_path):
    (tmp_path / "stack.rawtlt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"stack\.rawtlt exist already"):
        haadf.export(tmp_path / "stack.mrc")
    assert [path.name for path in tmp_path.iterdir()] == ["stack.rawtlt"]
    haadf.export(tmp_path / "stack.mrc", overwrite=True)
    assert (tmp_path / "stack.rawtlt").read_text().split() == [f"{tilt:.4f}" for tilt in TILTS]


def test_a_drift_is_not_in_the_transforms(haadf, tmp_path):
    haadf.alignment = Alignment(np.zeros(4), np.zeros(4), drift=np.full((4, 2), 0.01))
    with pytest.warns(UserWarning, match="drift during the scan"):
        files = haadf.export(tmp_path / "stack.mrc")
    assert [path.suffix for path in files] == [".mrc", ".rawtlt"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"filename": "a.tif"}, "expected one of .mrc"), ({"channels": "Cu"}, "Cu is not among")],
)
def test_bad_input(tmp_path, keywords, message):
    eds = mt.TiltSeriesEDS.from_maps({"Au": np.ones((4, 6, 8))}, tilts=TILTS)
    with pytest.raises(ValueError, match=message):
        eds.export(**({"filename": tmp_path / "a.mrc"} | keywords))
    assert not list(tmp_path.iterdir())
