# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume is as deep and wide as the specimen needs, by whatever route it is known."""

from dataclasses import replace

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.simulation import misaligned, simulate, yuan
from hyperspy_multitomo.tomography import (
    Specimen,
    TiltGeometry,
    estimate_depth,
    measure_specimen,
    needed_volume,
)

QUIET = {"show_progressbar": False}
TILTS = np.arange(-60, 61, 10.0)
NM = 2.0


def still(specimen, **keywords):
    settings = {"size": 64, "height": 24, "tilts": TILTS, "noise": 0.01} | keywords
    return misaligned(specimen, shift=0, axis_offset=0, rotation=0, **settings)


@pytest.fixture(scope="module")
def lamella():
    """Of 12 px, grains up to 13 px, inclined by 0.05."""
    return still("lamella")


def haadf_of(series):
    images = np.maximum(series.haadf, 0).swapaxes(1, 2)
    return mt.TiltSeriesHAADF.from_images(images, tilts=series.tilts, pixel_size=NM)


def eds_of(series):
    maps = dict(zip(series.elements, series.maps.swapaxes(2, 3), strict=True))
    return mt.TiltSeriesEDS.from_maps(maps, tilts=series.tilts, pixel_size=NM)


@pytest.fixture
def slab(lamella):
    """HAADF and maps that share an alignment with a specimen of known extent."""
    haadf, eds = haadf_of(lamella), eds_of(lamella)
    zeros = np.zeros(len(TILTS))
    alignment = Alignment(
        zeros, zeros, tilts=TILTS, pixel_size=NM, specimen=Specimen("slab", 12.0, 3.0)
    )
    haadf.align(alignment)
    eds.align(haadf.alignment)
    return haadf, eds


def depth_of(series, **keywords):
    volume = series.reconstruct_sirt(1, **QUIET, **keywords)
    return volume.data.shape[0] * series.pixel_size


def test_slab_is_measured_whatever_its_height(lamella):
    images = lamella.haadf
    geometry = TiltGeometry(TILTS, 64)
    found = measure_specimen(images, geometry)
    assert found.shape == "slab"
    assert 10 < found.depth < 15
    assert abs(found.inclination) < 4
    raised = replace(geometry, shifts=6 * np.sin(np.deg2rad(TILTS)))
    lifted = measure_specimen(images, raised)  # the images show it 6 px below this axis
    assert lifted.depth == pytest.approx(found.depth + 12, abs=3)
    assert measure_specimen(images[:4], TiltGeometry(TILTS[:4], 64)) is None
    assert measure_specimen(images[..., :3], geometry) is None
    noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    assert measure_specimen(noise, geometry) is None


@pytest.mark.parametrize(("kind", "shape"), [("particle", "ball"), ("needle", "rod")])
def test_outlines_bound_what_ends_in_view(kind, shape):
    series = still(kind, height=64)
    found = measure_specimen(series.haadf, TiltGeometry(TILTS, 64))
    assert found.shape == shape
    needed = {"ball": 2 * 14, "rod": 2 * 11}[shape]  # about the axis, without the last grains
    assert needed < 1.1 * found.depth < 1.4 * needed
    assert estimate_depth(series.haadf, TiltGeometry(TILTS, 64, pixel_size=NM)) == pytest.approx(
        1.1 * found.depth * NM
    )


def test_needed_volume():
    geometry = TiltGeometry([-60, 0, 60], 100, pixel_size=2.0)
    depth, width = needed_volume(Specimen("slab", 20.0, 5.0), geometry)
    assert width > 2 * 200
    leaning = 48 * (1 / np.cos(np.deg2rad(5)) - 1) + width * np.tan(np.deg2rad(5))
    assert depth == pytest.approx(48 + np.hypot(4.8, leaning))
    assert needed_volume(Specimen("rod", 20.0), geometry) == (pytest.approx(44.0), 200.0)
    with pytest.raises(ValueError, match="expected one of rod, ball, slab"):
        Specimen("cone", 3.0)
    with pytest.raises(ValueError, match="expected a length"):
        Specimen("rod", 0.0)


def test_alignment_finds_it_and_every_route_agrees():
    series = misaligned("lamella", size=64, height=24, tilts=TILTS, shift=3.0, noise=0.01)
    haadf = haadf_of(series)
    found = haadf.align(**QUIET)
    assert found.specimen.shape == "slab"
    assert found.quality.report[-1] == f"the specimen: {found.specimen}"
    aligned = depth_of(haadf)
    assert haadf.estimate_depth() == pytest.approx(aligned, rel=0.15)
    assert haadf.estimate_gains().model == "lamella"


def test_alignment_keeps_it(tmp_path):
    specimen = Specimen("slab", 12.5, -3.0)
    known = Alignment([0, 1.0], [0, 2.0], tilts=[-10, 10], pixel_size=2.0, specimen=specimen)
    for name in ("a.json", "a.csv"):
        known.save(tmp_path / name)
        assert Alignment.load(tmp_path / name).specimen == specimen
    known.save(tmp_path / "a.xf")
    assert Alignment.load(tmp_path / "a.xf").specimen is None
    assert known.transfer(pixel_size=4.0).specimen == Specimen("slab", 6.25, -3.0)
    assert known.subset([0]).specimen == specimen
    assert Alignment([0, 0], [0, 0]).then(known).specimen == specimen
    assert known.inverse().specimen is None
    old = known.as_dict()
    del old["specimen"]
    assert Alignment.from_dict(old).specimen is None
    (tmp_path / "b.csv").write_text(
        (tmp_path / "a.csv").read_text().replace("shape = slab", "shape = cone")
    )
    with pytest.raises(ValueError, match=r"b\.csv: the shape of the specimen is 'cone'"):
        Alignment.load(tmp_path / "b.csv")


def test_all_that_share_an_alignment_have_the_same_grid(slab, tmp_path):
    haadf, eds = slab
    depth = depth_of(haadf)
    assert 12 * NM < depth < 64 * NM
    assert depth_of(eds) == depth
    volume = eds.reconstruct_hebt(haadf, iterations=1, ratios={"Al": 1.0, "Cu": 2.0}, **QUIET)
    assert volume.data.shape[0] * NM == depth
    assert volume.data.shape[-1] > 64  # what the detector sees at 60 degrees
    assert depth_of(haadf.bin(2)) == pytest.approx(depth, abs=2 * NM)
    assert depth_of(haadf.isig[:, 3:4]) == depth
    assert depth_of(haadf.as_lazy()) == depth
    # Less wide, the inclination takes less.
    assert 12 * NM < depth_of(haadf.isig[16:48, :]) < depth
    assert haadf.plan_reconstruction("sirt").shape[1] * NM == depth
    haadf.save(tmp_path / "haadf.hspy")
    again = hs.load(tmp_path / "haadf.hspy")
    assert again.alignment.specimen == haadf.alignment.specimen
    haadf.alignment = None
    assert haadf.alignment is None
    haadf.alignment = Alignment.identity(len(TILTS))
    assert haadf.alignment.specimen is None


def test_history_makes_the_same_volume(slab):
    haadf, _ = slab
    volume = haadf.reconstruct_sirt(2, **QUIET)
    step = volume.history[-1]
    assert (step["depth"], step["width"]) == ("auto", "auto")
    forgotten = replace(haadf.alignment, specimen=None)
    haadf.alignment = forgotten
    again = mt.rerun(volume, haadf)
    np.testing.assert_array_equal(again.data, volume.data)
    assert f"depth={volume.data.shape[0] * NM}" in volume.to_script()
    cube = haadf.reconstruct_sirt(2, depth=None, width=None, **QUIET)
    assert cube.data.shape[::2] == (64, 64)
    assert "depth=None" in cube.to_script()
    np.testing.assert_array_equal(mt.rerun(cube, haadf).data, cube.data)


def test_what_is_given_decides(slab, tmp_path):
    haadf, _ = slab
    mask = np.ones((30, 24, 50), bool)
    assert haadf.reconstruct_sirt(1, mask=mask, **QUIET).data.shape == (30, 24, 50)
    start = haadf.reconstruct_sirt(1, depth=40.0, width=128.0, **QUIET)
    assert haadf.reconstruct_sirt(1, initial=start, **QUIET).data.shape == start.data.shape
    assert depth_of(haadf, depth=40.0) == 40.0
    state = tmp_path / "state"
    cube = haadf.reconstruct_sirt(2, depth=None, width=None, checkpoint=state, **QUIET)
    assert haadf.reconstruct_sirt(3, resume=state, **QUIET).data.shape == cube.data.shape
    lazy, folder = haadf.as_lazy(), tmp_path / "slabs"
    cube = lazy.reconstruct_sirt(2, depth=None, width=None, checkpoint=folder, **QUIET)
    cube.compute(**QUIET)
    again = lazy.reconstruct_sirt(2, resume=folder, **QUIET)
    assert again.data.shape == cube.data.shape
    for wrong in ("deep", -3.0):
        with pytest.raises((TypeError, ValueError), match="depth="):
            haadf.reconstruct_sirt(1, depth=wrong, **QUIET)


@pytest.mark.filterwarnings("default")
def test_a_cube_comes_with_a_word(lamella):
    haadf = haadf_of(lamella)
    few = haadf.inav[4:7]
    with pytest.warns(UserWarning, match="a cube: there are 3 along tilt, of 5 that are needed"):
        volume = few.reconstruct_sirt(1, **QUIET)
    assert volume.data.shape == (64, 24, 64)
    with pytest.warns(UserWarning, match="a cube: there are 1 along y, of 4"):
        haadf.isig[:, :1].reconstruct_sirt(1, **QUIET)
    haadf.data = np.random.default_rng(0).random(haadf.data.shape).astype(np.float32)
    with pytest.warns(UserWarning, match="the images do not tell it"):
        haadf.reconstruct_sirt(1, **QUIET)


def test_too_thin_a_volume_is_named(lamella):
    haadf = haadf_of(lamella)
    with pytest.warns(UserWarning, match=r"too thin.* Pass depth= of more than 16"):
        haadf.reconstruct_tv(depth=16.0, width=256.0, haadf_gain=1.0, iterations=100, **QUIET)
    haadf.reconstruct_tv(depth=40.0, width=256.0, haadf_gain=1.0, iterations=100, **QUIET)


def test_a_specimen_cut_by_an_edge_is_named():
    series = still("particle", height=64)
    images = np.maximum(series.haadf, 0)
    film = np.median(images[2, :, -8:])
    images[2] = np.roll(images[2], -28, axis=1)
    images[2, :, -28:] = film
    haadf = mt.TiltSeriesHAADF.from_images(images.swapaxes(1, 2), tilts=TILTS)
    with pytest.warns(UserWarning, match="cut by the upper edge of the view at -40 degrees"):
        haadf.align(**QUIET)
    rows = haadf.data[:, ::-1].copy()
    turned = mt.TiltSeriesHAADF.from_images(rows, tilts=TILTS)
    with pytest.warns(UserWarning, match="cut by the lower edge of the view at -40 degrees"):
        turned.align(**QUIET)


def test_gains_follow_what_the_alignment_found(lamella):
    haadf = haadf_of(lamella)
    zeros = np.zeros(len(TILTS))
    for shape, model in (("slab", "lamella"), ("ball", "constant"), ("rod", "constant")):
        haadf.alignment = Alignment(zeros, zeros, specimen=Specimen(shape, 12.0))
        assert haadf.estimate_gains().model == model


def test_faint_matter_around_bright_grains_is_in_the_volume():
    from hyperspy_multitomo.simulation import huber, simulate

    series = simulate(huber(48, 6), seed=0)
    haadf = mt.TiltSeriesHAADF.from_images(
        series.haadf.transpose(0, 2, 1), tilts=series.haadf_tilts, pixel_size=1.0
    )
    inside = (series.truth.sum(axis=0) > 0).any(axis=(1, 2))
    needed = np.ptp(np.flatnonzero(inside)) + 1
    assert needed <= haadf.estimate_depth() <= 1.4 * needed


@pytest.mark.parametrize("dose", [0.0005, 0.002, 0.004, 0.01, 0.05])
def test_counts_that_are_too_few_to_show_the_rim_do_not_make_it_thin(dose):
    few = simulate(yuan(40, 8), dose=dose, blur=0, seed=0)
    images = few.maps.sum(axis=0, dtype=np.float32)
    geometry = TiltGeometry(few.tilts, detector_width=40)
    truth = int(few.truth.sum(axis=0).any(axis=(1, 2)).sum())
    specimen = measure_specimen(images, geometry)
    assert (specimen is None) if dose < 0.01 else (truth <= specimen.depth <= 1.4 * truth)
