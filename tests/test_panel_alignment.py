# SPDX-License-Identifier: GPL-3.0-or-later
"""The alignment panel: controls and traits agree, pictures follow, and what it attaches is what the method attaches."""

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.simulation import misaligned

pytest.importorskip("ipywidgets")
pytest.importorskip("link_traits")

from hyperspy_multitomo.widgets.alignment_panel import AlignmentPanel
from hyperspy_multitomo.widgets.panel import TaskControl

TILTS = np.arange(-60.0, 61.0, 10.0)
PICTURES = [
    f"{name}_picture"
    for name in ("recorded", "aligned", "reprojection", "difference", "slice", "overlay")
]


@pytest.fixture(scope="module")
def data():
    return misaligned(
        "particle",
        size=40,
        tilts=TILTS,
        shift=2.0,
        axis_offset=1.0,
        rotation=1.5,
        counts=30.0,
        seed=1,
    )


@pytest.fixture
def haadf(data):
    return mt.TiltSeriesHAADF.from_images(data.haadf.swapaxes(1, 2), tilts=TILTS, pixel_size=0.5)


@pytest.fixture
def panel(haadf):
    return AlignmentPanel(haadf, threaded=False)


def widgets_of(panel):
    return panel.gui(display=False)["ipywidgets"]["wdict"]


def pictures_of(panel):
    return {name: getattr(panel, name) for name in PICTURES}


def assert_same(found, expected):
    """Compare up to the rounding of attaching, which keeps shifts in px as recorded."""
    for name in ("across", "along", "axis_offset", "rotation"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=0, atol=1e-12
        )


def test_align_opens_the_panel(haadf):
    opened = haadf.align(interactive=True, display=False, method="centre_of_mass")
    widgets = opened["ipywidgets"]["wdict"]
    assert widgets["method"].value == "centre_of_mass"
    assert haadf.alignment is None
    widgets["align_button"].click()
    until = time.monotonic() + 60
    while not widgets["message"].value.startswith("Aligned") and time.monotonic() < until:
        time.sleep(0.01)
    assert haadf.alignment is None
    widgets["apply_button"].click()
    direct = haadf.deepcopy()
    direct.alignment = None
    assert direct.align(method="centre_of_mass", show_progressbar=False) == haadf.alignment


def test_controls_and_traits_agree(panel):
    widgets = widgets_of(panel)
    values = {
        "method": ("refine", "tilt_axis"),
        "y": (3, 30),
        "iterations": (4, 7),
        "axis_offset": (1.5, -2.5),
        "rotation": (2.0, -3.0),
        "tilt": (2, 9),
        "across": (1.25, -0.5),
        "along": (0.75, -1.5),
    }
    for name, (first, second) in values.items():
        widgets[name].value = first
        assert getattr(panel, name) == first, name
        setattr(panel, name, second)
        assert widgets[name].value == second, name
    alignment = panel.alignment
    assert (alignment.axis_offset, alignment.rotation) == (-2.5, -3.0)
    assert (alignment.across[9], alignment.along[9]) == (-0.5, -1.5)
    assert not np.delete(alignment.across, 9).any()


def test_labels_differ_and_have_units(panel):
    widgets = widgets_of(panel)
    labels = [
        widget.description for widget in widgets.values() if getattr(widget, "description", "")
    ]
    assert len(set(labels)) == len(labels)
    for name, unit in {
        "y": "px",
        "axis_offset": "px",
        "rotation": "°",
        "tilt": "°",
        "across": "px",
        "along": "px",
    }.items():
        assert widgets[name].description.endswith(f"({unit})")
    for name in ("method", "y", "iterations", "axis_offset", "rotation", "tilt", "across", "along"):
        assert widgets[name].tooltip.endswith(".")


def test_pictures_follow_the_controls(panel):
    images = {name: widget for name, widget in widgets_of(panel).items() if name in PICTURES}
    changed = {
        "y": (12, set(PICTURES) - {"overlay_picture"}),
        "iterations": (3, {"reprojection_picture", "difference_picture", "slice_picture"}),
        "axis_offset": (3.0, set(PICTURES) - {"recorded_picture"}),
        "rotation": (4.0, set(PICTURES) - {"recorded_picture"}),
        "across": (2.0, set(PICTURES) - {"recorded_picture"}),
        "tilt": (1, set(PICTURES) - {"slice_picture"}),
    }
    for name, (value, expected) in changed.items():
        before = pictures_of(panel)
        setattr(panel, name, value)
        after = pictures_of(panel)
        assert {picture for picture in PICTURES if before[picture] != after[picture]} == expected, (
            name
        )
        assert all(images[picture].value == after[picture] for picture in PICTURES)
    assert panel.message == ""


def test_shown_row_is_that_of_the_aligned_series(haadf, data):
    drift = np.stack(
        [np.linspace(-0.02, 0.02, len(TILTS)), np.linspace(0.01, 0, len(TILTS))], axis=1
    )
    haadf.alignment = replace(data.alignment, tilts=TILTS, drift=drift)
    panel = AlignmentPanel(haadf, threaded=False, rotation=12.0, axis_offset=2.0)
    panel.rotation = 12.0
    series = haadf.deepcopy()
    series.alignment = panel.alignment
    assert panel.alignment.rotation == 12.0
    whole = series.aligned().data
    for y in (0, 7, 39):
        panel.y = y
        np.testing.assert_allclose(
            panel.aligned_slice().data[:, 0], whole[:, y], rtol=1e-5, atol=1e-5 * whole.max()
        )


def test_apply_attaches_what_align_does(haadf, panel):
    direct = haadf.deepcopy()
    direct.align(show_progressbar=False)
    panel.align()
    assert haadf.alignment is None
    panel.apply()
    assert haadf.alignment.as_dict() == direct.alignment.as_dict()
    assert haadf.history[-1]["step"] == "align"
    panel.tilt = 4
    panel.across = panel.across + 1.0
    panel.apply()
    expected = direct.alignment.with_shift(TILTS[4], across=direct.alignment.across[4] + 1.0)
    np.testing.assert_allclose(haadf.alignment.across, expected.across, atol=1e-12)
    assert np.isnan(haadf.alignment.quality.residual[4])


def test_right_alignment_leaves_the_least(haadf, data):
    def residual(alignment):
        told = AlignmentPanel(haadf, alignment, threaded=False, iterations=30).summary
        return float(re.search(r"slice ([\d.]+) %", told)[1])

    truth = replace(data.alignment, tilts=TILTS)
    others = [
        replace(truth, axis_offset=truth.axis_offset + 4),
        truth.with_shift(0.0, across=6.0),
        None,
    ]
    assert all(residual(truth) < residual(other) for other in others)


def test_refine_goes_on_from_what_is_shown(haadf, panel):
    panel.trait_set(method="centre_of_mass")
    panel.align()
    start = panel.alignment
    panel.method = "tilt_axis"
    panel.align()
    direct = haadf.deepcopy()
    direct.align(start)
    assert_same(direct.align(method="tilt_axis", show_progressbar=False), panel.alignment)
    assert not np.array_equal(panel.alignment.across, np.zeros(13))


def test_maps_decide_with_the_images_and_are_aligned_too(haadf, data):
    maps = mt.TiltSeriesEDS.from_maps(
        dict(zip(("Al", "Cu"), data.maps.swapaxes(2, 3), strict=True)), tilts=TILTS, pixel_size=0.5
    )
    direct, directly = haadf.deepcopy(), maps.deepcopy()
    direct.align(maps=directly, show_progressbar=False)
    panel = AlignmentPanel(haadf, maps=maps, threaded=False)
    panel.align()
    panel.apply()
    assert haadf.alignment == direct.alignment
    np.testing.assert_allclose(maps.alignment.across, directly.alignment.across, atol=1e-12)
    alone = AlignmentPanel(maps, threaded=False)
    assert alone.alignment == maps.alignment
    assert alone.message == ""


def test_undo(panel):
    widgets = widgets_of(panel)
    start = panel.alignment
    assert widgets["undo_button"].disabled
    panel.rotation = 3.0
    panel.along = -2.0
    assert not widgets["undo_button"].disabled
    panel.undo()
    assert (panel.rotation, panel.along, widgets["along"].value) == (3.0, 0.0, 0.0)
    panel.undo()
    assert panel.alignment == start
    assert widgets["undo_button"].disabled
    panel.undo()
    assert "nothing" in panel.message


def test_wrong_values_are_refused_with_a_reason(panel):
    widgets = widgets_of(panel)
    widgets["across"].value = 21.0
    assert (widgets["across"].value, panel.across) == (0.0, 0.0)
    assert panel.message == "Shift across the axis (px) has to be from -20 to 20; 21 was given."
    widgets["along"].value = float("nan")
    assert (widgets["along"].value, panel.along) == (0.0, 0.0)
    widgets["axis_offset"].value = 99.0
    assert widgets["axis_offset"].value == panel.axis_offset == 20.0


def test_far_alignment_is_shown_and_kept(haadf):
    far = mt.alignment.Alignment(
        np.full(13, 25.123456), np.zeros(13), axis_offset=24.0, rotation=40.0, tilts=TILTS
    )
    panel = AlignmentPanel(haadf, far, threaded=False)
    widgets = widgets_of(panel)
    assert [widgets[name].value for name in ("across", "axis_offset", "rotation")] == [
        25.123,
        24.0,
        40.0,
    ]
    assert panel.alignment == far
    panel.rotation = 90.0
    assert widgets["rotation"].value == 90.0
    panel.undo()
    assert panel.alignment == far


def test_cancel_and_errors_leave_everything(haadf, panel, monkeypatch):
    start, step = panel.alignment, TaskControl.step

    def cancelling(job, fraction, message=""):
        job.cancel()
        step(job, fraction, message)

    with monkeypatch.context() as patched:
        patched.setattr(TaskControl, "step", cancelling)
        panel.align()
    assert panel.message.startswith("Cancelled")
    assert panel.alignment is start
    assert not panel.undoable
    dark = mt.TiltSeriesHAADF.from_images(np.ones((13, 40, 40)), tilts=TILTS)
    failing = AlignmentPanel(dark, threaded=False)
    failing.align()
    assert "feature" in failing.message
    assert failing.running is False
    assert dark.alignment is haadf.alignment is None


def test_single_slice(haadf):
    single = haadf.isig[:, 20:21]
    panel = AlignmentPanel(single, threaded=False, method="centre_of_mass")
    widgets = widgets_of(panel)
    assert (widgets["y"].min, widgets["y"].max, panel.y) == (0, 0, 0)
    panel.rotation = 1.0
    panel.axis_offset = 1.0
    assert panel.message == ""
    panel.across = 1.0
    assert panel.aligned_slice().data.shape == (13, 1, 40)
    before = panel.alignment
    panel.align()
    assert "4 pixels or more in x and y" in panel.message
    assert panel.alignment is before
    panel.apply()
    assert_same(single.alignment, before)


def test_in_threads(haadf):
    panel = AlignmentPanel(haadf, method="centre_of_mass")
    assert panel.wait(30)
    before = panel.slice_picture
    panel.align()
    assert panel.wait(30)
    assert not panel.running
    assert panel.message.startswith("Aligned")
    assert panel.slice_picture != before
    panel.close()
    panel.apply()
    assert_same(panel.alignment, haadf.alignment)


def test_apply_waits_for_align(haadf, monkeypatch):
    panel = AlignmentPanel(haadf, method="centre_of_mass")
    widgets = widgets_of(panel)
    assert widgets["apply_button"].disabled
    widgets["apply_button"].click()
    assert "no alignment to attach yet: press Align" in panel.message
    begun, may_end = threading.Event(), threading.Event()
    found = replace(panel.alignment)

    def held(*args, **kwds):
        begun.set()
        assert may_end.wait(30)
        return found

    monkeypatch.setattr("hyperspy_multitomo.widgets.alignment_panel.measure", held)
    panel.align()
    assert begun.wait(30)
    # What is shown would be attached by now, were it not for the measurement.
    panel.rotation = 1.0
    for _ in range(2):
        assert widgets["apply_button"].disabled
        widgets["apply_button"].click()
        assert "still running" in panel.message
    assert haadf.alignment is None
    may_end.set()
    assert panel.wait(30)
    # Found to be in place already is an alignment too.
    assert not widgets["apply_button"].disabled
    panel.apply()
    assert haadf.alignment == found == panel.result
    assert panel.message == "Attached to the HAADF series."


def test_nothing_to_apply_after_all_is_undone(haadf, panel):
    widgets = widgets_of(panel)
    panel.rotation = 2.0
    assert not widgets["apply_button"].disabled
    panel.undo()
    assert widgets["apply_button"].disabled
    panel.apply()
    assert haadf.alignment is None
    # One that is attached, or was given, may be attached again.
    haadf.alignment = replace(panel.alignment)
    assert AlignmentPanel(haadf, threaded=False).can_apply
    assert AlignmentPanel(haadf, replace(panel.alignment), threaded=False).can_apply


def test_maps_decide_by_the_methods_that_take_them(haadf, data):
    maps = mt.TiltSeriesEDS.from_maps(
        dict(zip(("Al", "Cu"), data.maps.swapaxes(2, 3), strict=True)), tilts=TILTS, pixel_size=0.5
    )
    panel = AlignmentPanel(haadf, maps=maps, threaded=False, method="cross_correlation")
    panel.align()
    assert (
        panel.message
        == "Aligned by the images alone. Apply attaches it to the HAADF series and the maps of Al, Cu."
    )
    panel.apply()
    assert maps.alignment == haadf.alignment
    alone = AlignmentPanel(maps, threaded=False)
    alone.apply()
    assert alone.message == "Attached to the maps of Al, Cu."
