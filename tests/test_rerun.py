# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions run again from their history, and written as scripts that do the same."""

import warnings

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from series_pairs import pair

import hyperspy_multitomo as mt
from hyperspy_multitomo.reconstruction.recipes import RECIPES

QUIET = {"show_progressbar": False}
RATIOS = {"Au": 9.0, "Ag": 4.0}
NOISY = pytest.mark.filterwarnings("ignore:(R2 = |blocks of |the elements explain ):UserWarning")

#: Every method in every form, with keywords that are not its defaults.
CALLS = {
    "fbp": ("fbp", False, {"filter": "hann", "cutoff": 0.7}),
    "sirt": ("sirt", False, {"iterations": 6, "relaxation": 0.8, "depth": 40.0}),
    "sirt, stopped": ("sirt", False, {"iterations": 60, "stopping": "discrepancy"}),
    "sirt, not negative": ("sirt", False, {"iterations": 5, "nonnegative": False}),
    "em": ("em", False, {"iterations": 4}),
    "cgls": ("cgls", False, {"iterations": 3}),
    "hebt": ("hebt", True, {"iterations": 6, "alpha": 0.8, "ratios": RATIOS, "rest": True}),
    "hebt, squared": ("hebt", True, {"iterations": 4, "weighting": "squared", "ratios": RATIOS}),
    "hebt, tv": ("hebt", True, {"regulariser": "tv", "iterations": 20, "ratios": RATIOS}),
    "hebt, tnv": ("hebt", True, {"regulariser": "tnv", "iterations": 20, "ratios": RATIOS}),
    "tv": ("tv", False, {"iterations": 30, "weight": 1.7, "dimensions": 2}),
    "tv, mu": ("tv", True, {"iterations": 20, "mu": {"HAADF": 0.3, "Au": 0.2, "Ag": 0.2}}),
    "tgv": ("tgv", True, {"iterations": 20, "alpha0": 2.0, "tolerance": None}),
    "tnv": ("tnv", True, {"iterations": 20, "data_term": "least_squares"}),
    "fused": ("fused", True, {"iterations": 20, "power": 1.3}),
}
OF_IMAGES = {
    "sirt": {"iterations": 5},
    "tv": {"iterations": 20, "mu": 0.3},
    "tgv": {"iterations": 20, "haadf_gain": 30.0},
}


@pytest.fixture(scope="module")
def series():
    haadf, eds = pair()
    return haadf.isig[:, 10:14], eds.isig[:, 10:14]


def reconstructed(series, name):
    method, with_haadf, keywords = CALLS[name]
    haadf, eds = series
    return getattr(eds, f"reconstruct_{method}")(
        *([haadf] if with_haadf else []), **keywords, **QUIET
    ), (haadf if with_haadf else None)


def run_script(script, **names):
    """Run a script with the series, and what else it leaves open, put in."""
    lines = [line for line in script.splitlines() if " = ...  # the" not in line]
    exec("\n".join(lines), names)
    return names["volume"]


def test_every_method_is_tried():
    assert {method for method, _, _ in CALLS.values()} == set(RECIPES)


@NOISY
@pytest.mark.parametrize("name", CALLS)
def test_the_same_volume_bit_for_bit(series, name):
    volume, haadf = reconstructed(series, name)
    again = mt.rerun(volume, haadf, series[1])
    np.testing.assert_array_equal(again.data, volume.data)
    assert again.history == volume.history
    assert again.channels == volume.channels
    assert again.response_ratios == volume.response_ratios


@NOISY
@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_the_script_makes_the_same_volume(series, name):
    volume, _ = reconstructed(series, name)
    again = run_script(volume.to_script(), haadf=series[0], eds=series[1])
    np.testing.assert_array_equal(again.data, volume.data)


@pytest.mark.parametrize("method", OF_IMAGES)
def test_images(series, method):
    haadf, _ = series
    volume = getattr(haadf, f"reconstruct_{method}")(**OF_IMAGES[method], **QUIET)
    np.testing.assert_array_equal(mt.rerun(volume, haadf).data, volume.data)
    again = run_script(volume.to_script(), haadf=haadf)
    np.testing.assert_array_equal(again.data, volume.data)


def test_after_saving_and_with_alignment_and_gains(series, tmp_path):
    eds = series[1].deepcopy()
    eds.gains = np.linspace(0.9, 1.1, len(eds.tilts))
    shifts = np.linspace(-1, 1, len(eds.tilts))
    eds.align(mt.Alignment(shifts, shifts[::-1], 0.3, 1.0))
    volume = eds.reconstruct_sirt(4, **QUIET)
    volume.save(tmp_path / "volume.hspy")
    eds.save(tmp_path / "eds.hspy")
    loaded, again = hs.load(tmp_path / "volume.hspy"), hs.load(tmp_path / "eds.hspy")
    np.testing.assert_array_equal(mt.rerun(loaded, eds=again).data, volume.data)


def test_arrays_that_were_given(series):
    _, eds = series
    mask = np.ones((48, 4, 48), bool)
    mask[:10] = False
    start = eds.reconstruct_sirt(2, depth=None, **QUIET)
    volume = eds.reconstruct_em(3, mask=mask, initial=start, background=0.5, **QUIET)
    given = {"mask": mask, "initial": start, "background": 0.5}
    np.testing.assert_array_equal(mt.rerun(volume, eds=eds, **given).data, volume.data)
    again = run_script(volume.to_script(), eds=eds, **given)
    np.testing.assert_array_equal(again.data, volume.data)
    for name in given:
        with pytest.raises(ValueError, match=rf"made of a .* \({name}=\): pass it"):
            mt.rerun(volume, eds=eds, **(given | {name: None}))
    with pytest.raises(ValueError, match="the mask differ"):
        mt.rerun(volume, eds=eds, **(given | {"mask": ~mask}))
    with pytest.raises(ValueError, match="the background differ"):
        mt.rerun(volume, eds=eds, **(given | {"background": 0.6}))


def test_lazy_arrays_that_were_given(series):
    _, eds = series
    lazy = eds.as_lazy()
    mask = da.ones((48, 4, 48), bool, chunks=24)
    start = eds.reconstruct_sirt(2, depth=None, **QUIET).as_lazy()
    given = {"mask": mask, "initial": start}
    volume = lazy.reconstruct_sirt(3, **given, **QUIET)
    again = mt.rerun(volume, eds=lazy, **given)
    np.testing.assert_array_equal(again.data.compute(), volume.data.compute())
    for name in given:
        with pytest.raises(ValueError, match=rf"made of a .* \({name}=\): pass it"):
            mt.rerun(volume, eds=lazy, **(given | {name: None}))


def test_counts_and_transmission_of_a_lazy_series(series):
    _, eds = series
    whole = eds.deepcopy()
    whole.transmission = np.full(np.shape(whole.array("tilt", "element", "y", "x")), 0.8)
    volume = whole.reconstruct_sirt(2, **QUIET)
    again = mt.rerun(volume, eds=whole.as_lazy())
    np.testing.assert_allclose(again.data.compute(), volume.data, rtol=1e-5, atol=1e-5)
    mt.rerun(again, eds=whole)
    for one in (eds, eds.as_lazy()):
        with pytest.raises(ValueError, match="the transmission of the maps"):
            mt.rerun(volume, eds=one)


@pytest.mark.parametrize("chunks", [(1, 16, 32), (6, 2, 32)])
def test_a_lazy_series_is_hardly_read_before_it_is_asked_for(chunks):
    read = []

    def block(images):
        read.append(images.shape)
        return images

    images = da.ones((6, 16, 32), dtype=np.float32, chunks=chunks)
    images = images.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    haadf = mt.TiltSeriesHAADF.from_images(images, tilts=np.linspace(-60, 60, 6))
    read.clear()
    haadf.reconstruct_sirt(2, depth=None, width=None, **QUIET)
    assert 1 <= len(read) <= 4


def test_other_series_are_refused(series):
    haadf, eds = series
    volume = eds.reconstruct_hebt(haadf, iterations=3, ratios=RATIOS, **QUIET)
    with pytest.raises(ValueError, match=r"made of maps \(eds=\): pass it"):
        mt.rerun(volume, haadf)
    with pytest.raises(ValueError, match=r"made of a HAADF series \(haadf=\): pass it"):
        mt.rerun(volume, eds=eds)
    alone = eds.reconstruct_sirt(2, **QUIET)
    with pytest.raises(ValueError, match="not made of a HAADF series .*leave it out"):
        mt.rerun(alone, haadf, eds)
    other = eds.deepcopy()
    other.data[3, 0, 2, 7] += 1
    with pytest.raises(ValueError, match=r"the images of the maps \(eds=\) differ"):
        mt.rerun(volume, haadf, other)
    gained = eds.deepcopy()
    gained.gains = np.full(len(eds.tilts), 1.1)
    with pytest.raises(ValueError, match="the gains of the maps"):
        mt.rerun(volume, haadf, gained)
    moved = haadf.deepcopy()
    moved.align(mt.Alignment(np.full(len(haadf.tilts), 0.5), np.zeros(len(haadf.tilts))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # only one of both is aligned
        with pytest.raises(ValueError, match="the alignment of the HAADF series"):
            mt.rerun(volume, moved, eds)


def test_another_pixel_size_is_refused(series):
    _, eds = series
    volume = eds.reconstruct_sirt(2, **QUIET)
    other = eds.deepcopy()
    for name in ("x", "y"):
        other.axes_manager[name].scale *= 2
    with pytest.raises(ValueError, match=r"another geometry .*pixel_size is .* and was "):
        mt.rerun(volume, eds=other)


def test_the_script_of_a_mu_by_its_channel(series):
    haadf, _ = series
    volume = haadf.reconstruct_tv(mu={"HAADF": 0.3}, iterations=5, **QUIET)
    again = run_script(volume.to_script(), haadf=haadf)
    np.testing.assert_array_equal(again.data, volume.data)


def test_of_a_lazy_series(series):
    _, eds = series
    lazy = eds.as_lazy()
    volume = lazy.reconstruct_tv(iterations=20, chunks=2, overlap=1, **QUIET)
    again = mt.rerun(volume, eds=lazy)
    assert again._lazy
    assert again.history == volume.history
    np.testing.assert_array_equal(again.data.compute(), volume.data.compute())
    other = eds.deepcopy()
    other.data[0] += 1
    with pytest.raises(ValueError, match="the images of the maps"):
        mt.rerun(volume, eds=other.as_lazy())


@NOISY
def test_lazy_from_eager_and_the_other_way(series):
    _, eds = series
    eager = eds.reconstruct_em(3, **QUIET)
    again = mt.rerun(eager, eds=eds.as_lazy())
    assert again._lazy
    np.testing.assert_allclose(again.data.compute(), eager.data, atol=1e-5 * eager.data.max())
    back = mt.rerun(again, eds=eds)
    np.testing.assert_array_equal(back.data, eager.data)


def test_images_that_are_too_large_to_be_compared(series, monkeypatch):
    _, eds = series
    monkeypatch.setattr("hyperspy_multitomo.reconstruction.tilt_data._MOST_READ", 0)
    lazy = eds.as_lazy()
    volume = lazy.reconstruct_sirt(3, **QUIET)
    with pytest.warns(UserWarning, match="whether they are those .* is not known"):
        again = mt.rerun(volume, eds=lazy)
    np.testing.assert_array_equal(again.data.compute(), volume.data.compute())


def test_later_steps_and_other_volumes(series):
    _, eds = series
    volume = eds.reconstruct_sirt(3, **QUIET)
    percent = volume.quantify(factors={"Au": 1.0, "Ag": 1.0}, threshold="otsu")
    with pytest.warns(UserWarning, match="changed by quantify, which is not made again"):
        again = mt.rerun(percent, eds=eds)
    np.testing.assert_array_equal(again.data, volume.data)
    with pytest.warns(UserWarning, match="cropped or sliced after its reconstruction"):
        again = mt.rerun(volume.isig[2:, :], eds=eds)
    np.testing.assert_array_equal(again.data, volume.data)
    plain = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 4, 4))})
    for call in (lambda: mt.rerun(plain, eds=eds), plain.to_script):
        with pytest.raises(ValueError, match="no reconstruction in its history"):
            call()


def test_of_another_version(series, monkeypatch):
    _, eds = series
    monkeypatch.setattr("hyperspy_multitomo.signals.metadata.history.__version__", "0.0.9")
    volume = eds.reconstruct_sirt(3, **QUIET)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"made by version 0\.0\.9 of hyperspy_multitomo, this is"):
        again = mt.rerun(volume, eds=eds)
    np.testing.assert_array_equal(again.data, volume.data)


def test_an_interrupted_run_is_made_as_far_as_it_came(series):
    _, eds = series

    def stop(iterate):
        if iterate.iteration == 4:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupt"):
        volume = eds.reconstruct_sirt(50, show_progressbar=stop)
    np.testing.assert_array_equal(mt.rerun(volume, eds=eds).data, volume.data)
