# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan says is what the run then does."""

import numpy as np
import pytest
from series_pairs import QUIET, RATIOS, wire

from hyperspy_multitomo.reconstruction import plan as plans
from hyperspy_multitomo.reconstruction import slabs


@pytest.fixture(scope="module")
def series():
    return wire()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["sirt", "em", "cgls", "fbp", "hebt", "tv", "tgv", "tnv", "fused"]
)
def test_of_every_method(series, method):
    """Iterations, slabs and shape are those of the run, and nothing is left behind."""
    (haadf, eds), (lazy_haadf, lazy_eds) = series
    options = {} if method == "fbp" else {"iterations": 2}
    with_haadf = method in ("hebt", "tv", "tgv", "tnv", "fused")
    for maps, images in ((eds, haadf), (lazy_eds, lazy_haadf)):
        before = maps.metadata.as_dictionary()
        given = dict(options, ratios=RATIOS) if method == "hebt" else options
        plan = maps.plan_reconstruction(method, *([images] if with_haadf else []), **given)
        assert repr(maps.metadata.as_dictionary()) == repr(before)
        volume = getattr(maps, f"reconstruct_{method}")(
            *([images] if with_haadf else []), **given, **QUIET
        )
        step = volume.history[-1]
        assert plan.method == step["step"]
        assert plan.iterations == step.get("iterations", 0)
        depth = volume.axes_manager["z"].size  # what the specimen needs
        assert plan.shape == (len(volume.channels), depth, 40, 32)
        assert plan.slabs == step.get("slabs", {"count": 1})["count"]
        assert plan.seconds >= plan.iterations * plan.seconds_per_iteration > 0 or method == "fbp"
        assert plan.seconds > 0
        assert plan.fits
        assert 4 * np.prod(plan.shape) < plan.memory < plan.available


def test_slabs_and_threads(series, monkeypatch):
    (_, _), (haadf, eds) = series
    plan = eds.plan_reconstruction("tgv", haadf, chunks=10, overlap=4, iterations=100)
    assert (plan.slabs, plan.thickness, plan.overlap) == (4, 10, 4)
    assert plan.at_once * plan.threads >= 1
    monkeypatch.setattr(slabs, "worker_memory", lambda: 30_000_000)
    monkeypatch.setattr(plans, "available_memory", lambda: 30_000_000)
    plan = eds.plan_reconstruction("tgv", haadf, overlap=4, iterations=100, depth=None)
    assert 1 < plan.slabs < 4
    assert "slabs of" in str(plan)
    assert "4 more on either side" in str(plan)
    assert "of 30 MB that are free" in str(plan)


def test_hebt_without_ratios_fits_none(series):
    haadf, eds = series[0]
    eds = eds.deepcopy()
    eds.plan_reconstruction("hebt", haadf, iterations=2)
    assert eds.response_ratios is None


def test_a_long_trial_ends_soon(series, monkeypatch):
    monkeypatch.setattr(plans, "_SECONDS", 0.0)
    plan = series[0][0].plan_reconstruction("sirt", iterations=500)
    assert plan.seconds == pytest.approx(500 * plan.seconds_per_iteration, rel=0.5)


def test_what_the_method_refuses(series, monkeypatch):
    haadf, eds = series[0]
    with pytest.raises(ValueError, match="method='tvg' must be one of"):
        eds.plan_reconstruction("tvg")
    with pytest.raises(ValueError, match="must be one of"):
        eds.plan_reconstruction("with_absorption")
    with pytest.raises(ValueError, match="weight=-1"):
        eds.plan_reconstruction("tgv", haadf, weight=-1)
    monkeypatch.setattr("hyperspy_multitomo.machine.memory.available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match="needs about"):
        haadf.plan_reconstruction("sirt")
    monkeypatch.undo()
    assert haadf.reconstruct_sirt(1, **QUIET).data.any()  # a plan that failed leaves no trace


@pytest.mark.parametrize(
    "options",
    [{"iterations": -1}, {"iterations": 2.5}, {"depth": "20"}, {"relaxation": "x"}, {"mask": 3j}],
)
def test_a_keyword_of_a_wrong_kind_is_refused_as_by_the_method(series, options):
    (_, eds), _ = series
    with pytest.raises((TypeError, ValueError)) as refused:
        eds.reconstruct_sirt(**options)
    with pytest.raises(type(refused.value)) as planned:
        eds.plan_reconstruction("sirt", **options)
    assert str(planned.value) == str(refused.value)


def test_a_panel_makes_no_plan(series):
    (_, eds), _ = series
    with pytest.raises(TypeError, match="reconstruct_sirt makes no plan"):
        eds.plan_reconstruction("sirt", interactive=True)


def test_units_of_the_table():
    assert plans._bytes(2.5e9) == "2.5 GB"
    assert plans._bytes(2.5e6) == "2.5 MB"
    times = {
        0.012: "12 ms",
        0.0997: "100 ms",
        0.234: "234 ms",
        3.21: "3.2 s",
        65: "65 s",
        600: "10 min",
        10_000: "2.78 h",
    }
    assert {seconds: plans._time(seconds) for seconds in times} == times
