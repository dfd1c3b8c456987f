# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings side by side: as in runs of their own, judged by held-out counts and a truth."""

import numpy as np
import pytest
from series_pairs import QUIET, TILTS, pair

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import nrmse

CUBE = {"depth": None, **QUIET}
FAST = {"held_out": False, **CUBE}
RATIOS = {"Au": 9.0, "Ag": 4.0}


@pytest.fixture(scope="module")
def series():
    return pair(counts=5.0, gains=np.ones(len(TILTS)))


def section(volume, found):
    first, last = found.slices
    axes = ("element", "z", "x", "y") if volume.channels else ("z", "x", "y")
    return volume.array(*axes)[..., first:last]


def test_hebt_as_in_runs_of_its_own(series):
    haadf, eds = series
    found = eds.sweep(haadf, "hebt", alpha=[0.5, 0.9], iterations=[5, 12], ratios=RATIOS, **FAST)
    assert [tuple(one.values()) for one in found.settings] == [
        (0.5, 5), (0.5, 12), (0.9, 5), (0.9, 12)
    ]  # fmt: skip
    for setting, array in zip(found.settings, found.arrays, strict=True):
        volume = eds.reconstruct_hebt(haadf, **setting, ratios=RATIOS, **CUBE)
        scale = volume.data.max()
        np.testing.assert_allclose(array, section(volume, found), atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "lists"),
    [
        ("sirt", {"iterations": [3, 8], "relaxation": [0.5, 1.0], "nonnegative": [True, False]}),
        ("em", {"iterations": [2, 5]}),
        ("cgls", {"iterations": [1, 3]}),
        ("fbp", {"filter": ["ramp", "hann"], "cutoff": [0.5, 1.0]}),
    ],
)
def test_other_methods_as_in_runs_of_their_own(method, lists, series):
    _, eds = series
    eds = eds.deepcopy()
    eds.gains = np.linspace(0.5, 1.5, len(TILTS))
    found = eds.sweep(None, method, slices=2, **lists, **FAST)
    assert len(found) == np.prod([len(values) for values in lists.values()])
    for setting, array in zip(found.settings, found.arrays, strict=True):
        volume = getattr(eds, f"reconstruct_{method}")(**setting, **CUBE)
        scale = np.abs(volume.data).max()
        np.testing.assert_allclose(array, section(volume, found), atol=1e-5 * scale)


@pytest.mark.slow
def test_regularised_in_two_dimensions_as_in_runs_of_their_own(series):
    _, eds = series
    options = {"iterations": 20, "tolerance": None, "dimensions": 2, "support": False}
    found = eds.sweep(None, "tv", weight=[1.0, 3.0], slices=3, **options, **FAST)
    for setting, array in zip(found.settings, found.arrays, strict=True):
        volume = eds.reconstruct_tv(**setting, **options, **CUBE)
        # The step of each element depends on the slices that there are.
        np.testing.assert_allclose(array, section(volume, found), atol=0.05 * volume.data.max())


def test_images_with_a_finer_grid_and_an_alignment(series):
    """Maps of twice the pixel share the grid of the images."""
    haadf, eds = series
    coarse = eds.bin(2)
    for one in (haadf, coarse):
        one.alignment = None
    found = coarse.sweep(haadf, "hebt", alpha=[0.5, 0.8], iterations=6, ratios=RATIOS, **FAST)
    assert found.slices[1] - found.slices[0] == 2
    volume = coarse.reconstruct_hebt(haadf, alpha=0.8, iterations=6, ratios=RATIOS, **CUBE)
    np.testing.assert_allclose(
        found.arrays[1], section(volume, found), atol=1e-5 * volume.data.max()
    )


def test_volumes_are_where_they_belong(series):
    haadf, _ = series
    found = haadf.sweep("sirt", iterations=[2, 4], slices=3, **FAST)
    volume = haadf.reconstruct_sirt(4, **CUBE)
    first, last = found.slices
    part = volume.isig[:, first:last]
    one = found.volumes[1]
    np.testing.assert_allclose(one.data, part.data, atol=1e-5 * volume.data.max())
    for name in "zxy":
        axes = [next(a for a in v.axes_manager._axes if a.name == name) for v in (one, part)]
        assert axes[0].offset == pytest.approx(axes[1].offset)
        assert axes[0].scale == axes[1].scale
    assert one.history[-1]["step"] == "sweep"
    with pytest.raises(ValueError, match="no reconstruction in its history"):
        mt.rerun(one, haadf)


@pytest.mark.slow
def test_held_out_counts_find_what_the_truth_says():
    """The least deviance is at an error within a tenth of the least."""
    _, eds = pair(counts=3.0, gains=np.ones(len(TILTS)))
    clean = pair(counts=1e4, gains=np.ones(len(TILTS)), seed=1)[1]
    truth = clean.reconstruct_sirt(300, **CUBE)
    truth.data = truth.data * (3.0 / 1e4)
    iterations = [1, 2, 4, 7, 12, 20, 40, 80]
    found = eds.sweep(None, "sirt", iterations=iterations, slices=8, truth=truth, **CUBE)
    errors = found.metrics["nrmse"]
    chosen = iterations.index(found.best()["iterations"])
    assert errors[chosen] < 1.1 * errors.min()
    assert 0 < chosen < len(iterations) - 1
    assert found.deviance.min() == 0
    assert found.deviance_error[found.deviance.argmin()] == 0


@pytest.mark.slow
def test_the_least_deviance_is_where_auto_stops():
    """The same counts are held out of the same slices as for iterations="auto"."""
    haadf, eds = pair(counts=5.0, gains=np.ones(len(TILTS)))
    known = {"alpha": 0.6, "ratios": RATIOS} | CUBE
    chosen = eds.reconstruct_hebt(haadf, iterations="auto", **known).history[-1]["iterations"]
    assert chosen > 5
    iterations = list(range(chosen - 4, chosen + 5))
    found = eds.sweep(haadf, "hebt", iterations=iterations, slices=24, **known)
    assert found.best() == {"iterations": chosen}


def test_errors_are_those_of_the_slices(series):
    _, eds = series
    truth = eds.reconstruct_sirt(20, **CUBE)
    found = eds.sweep(None, "sirt", iterations=[2, 5], truth=truth, **FAST)
    ours = section(truth, found)
    assert found.errors["nrmse"][1, 0] == pytest.approx(nrmse(found.arrays[1, 0], ours[0]))
    assert found.best("ssim") == found.best("nrmse") == {"iterations": 5}


def test_residuals_are_those_of_the_data(series):
    """With all slices they are those that the volume itself records, an iteration later."""
    haadf, eds = series
    found = eds.sweep(haadf, "hebt", iterations=[3, 4], slices=24, ratios=RATIOS, **FAST)
    residuals = eds.reconstruct_hebt(haadf, iterations=5, ratios=RATIOS, **CUBE).residuals
    for place, iterations in enumerate((3, 4)):
        assert found.residuals["Au"][place] == pytest.approx(
            residuals["eds"][iterations, 0], rel=1e-3
        )
        assert found.residuals["HAADF"][place] == pytest.approx(
            residuals["haadf"][iterations], rel=1e-3
        )


def test_it_is_printed_and_drawn(series):
    haadf, eds = series
    found = eds.sweep(
        haadf, "hebt", alpha=[0.3, 0.6, 0.9], iterations=[2, 4, 8], ratios=RATIOS, **CUBE
    )
    lines = str(found).splitlines()
    assert lines[0] == f"hebt, 9 settings of slice {found.slices[0]}"
    assert lines[1].split()[:2] == ["alpha", "iterations"]
    assert len(lines) == 11
    figure = found.plot(["deviance", "residual, Au"])
    assert figure.axes[0].get_xlabel() == "iterations"
    assert figure.axes[0].get_ylabel() == "alpha"
    sections = found.plot_sections("Ag", plane="xz")
    assert sections.axes[0].get_title() == "alpha 0.3, iterations 2"
    curves = found.plot(["residual, HAADF"])
    assert len(curves.axes) == 2
    one = haadf.sweep("sirt", iterations=[1, 10, 40], **FAST).plot()
    assert one.axes[0].get_xscale() == "log"


def test_what_holds_no_counts_is_not_held_out(series):
    _, eds = series
    found = eds.smooth(1.0).sweep(None, "sirt", iterations=[2, 4], **CUBE)
    assert found.deviance is None
    assert "smoothed" in found.not_held_out
    assert "no deviance" in str(found)
    with pytest.raises(ValueError, match="smoothed"):
        found.best()
    assert found.best("residual, Au") == {"iterations": 4}
    assert found.plot().axes[0].get_title() == "residual, Au"


def test_lazy_series(series):
    haadf, eds = series
    lazy = eds.as_lazy()
    found = lazy.sweep(
        haadf.as_lazy(), "hebt", alpha=[0.4, 0.8], iterations=4, ratios=RATIOS, **CUBE
    )
    assert found.not_held_out == "the series is lazy"
    volume = eds.reconstruct_hebt(haadf, alpha=0.8, iterations=4, ratios=RATIOS, **CUBE)
    np.testing.assert_allclose(
        found.arrays[1], section(volume, found), atol=1e-5 * volume.data.max()
    )


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({}, ValueError, "nothing is swept"),
        ({"iterations": []}, ValueError, "iterations=.. is empty"),
        ({"iteration": [2, 3]}, TypeError, "no keyword iteration"),
        ({"iterations": [5, "auto"]}, ValueError, "'auto' chooses from the data"),
        ({"relaxation": [0.5], "iterations": "auto"}, ValueError, "'auto' chooses"),
        ({"depth": [40.0, 60.0], "iterations": 2}, ValueError, "depth"),
        ({"backend": ["numba"], "iterations": 2}, ValueError, "backend"),
        ({"iterations": [2], "stopping": "discrepancy"}, ValueError, "no meaning in a sweep"),
        ({"iterations": [2], "interactive": True}, ValueError, "interactive"),
        ({"iterations": [2, -1]}, ValueError, "iterations=-1"),
        ({"iterations": [2], "slices": 0}, ValueError, "slices"),
    ],
)
def test_bad_keywords_are_refused(keywords, error, message, series):
    haadf, _ = series
    with pytest.raises(error, match=message):
        haadf.sweep("sirt", **keywords)


def test_bad_calls_are_refused(series):
    haadf, eds = series
    with pytest.raises(ValueError, match="method='art' must be one of"):
        eds.sweep(None, "art", iterations=[2])
    with pytest.raises(TypeError, match="takes no haadf="):
        eds.sweep(haadf, "sirt", iterations=[2])
    with pytest.raises(TypeError, match="needs haadf"):
        eds.sweep(None, "hebt", iterations=[2])
    with pytest.raises(TypeError, match="haadf"):
        eds.sweep("hebt", "hebt", iterations=[2])
    small = eds.isig[4:-4, :].reconstruct_sirt(1, **CUBE)
    with pytest.raises(ValueError, match="truth= has the shape"):
        eds.sweep(None, "sirt", iterations=[2], truth=small, **FAST)
    with pytest.raises(ValueError, match="no channel Ag"):
        eds.sweep(None, "sirt", iterations=[2], truth=small["Au"], **FAST)
    found = eds.sweep(None, "sirt", iterations=[2], **FAST)
    with pytest.raises(ValueError, match="channel='Pt'"):
        found.plot_sections("Pt")
    with pytest.raises(ValueError, match="plane"):
        found.plot_sections(plane="ab")
    with pytest.raises(ValueError, match="metric='nrmse'"):
        found.plot(["nrmse"])


def test_empty_counts(series):
    _, eds = series
    empty = eds.deepcopy()
    empty.data = np.zeros_like(eds.data)
    found = empty.sweep(None, "sirt", iterations=[2, 3], **CUBE)
    assert "no counts" in found.not_held_out
    assert np.isnan(found.residuals["Au"]).all()
