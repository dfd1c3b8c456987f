# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the response ratios: its controls, what it shows,
and that it attaches what the method attaches."""

import threading

import hyperspy.api  # noqa: F401
import numpy as np
import pytest
import series_pairs
import traits.api

import hyperspy_multitomo as mt
from hyperspy_multitomo.widgets.response_ratios_panel import ResponseRatiosPanel


def pair(counts=3.0):
    return series_pairs.pair(counts, gains=np.ones(len(series_pairs.TILTS)))


def opened(eds, haadf, **settings):
    panel = ResponseRatiosPanel(eds, haadf, threaded=False, **settings)
    return panel, panel.gui(display=False)["ipywidgets"]["wdict"]


CONTROLS = {
    "method": "poisson",
    "block_size": 6,
    "min_counts": 30.0,
    "rest": True,
    "mask_level": 0.2,
    "tilt": 2,
}


def controls(wdict):
    return [widget for widget in wdict.values() if hasattr(widget, "description")]


@pytest.mark.slow
def test_controls_and_traits_are_linked_both_ways(monkeypatch):
    haadf, eds = pair()
    panel, wdict = opened(eds, haadf)
    monkeypatch.setattr(ResponseRatiosPanel, "_draw", lambda *args: None)
    for name, value in CONTROLS.items():
        before = getattr(panel, name)
        wdict[name].value = value
        assert getattr(panel, name) == value != before
        setattr(panel, name, before)
        assert wdict[name].value == before
        assert len(wdict[name].tooltip) > 20


def test_labels_are_unique_and_name_their_units():
    haadf, eds = pair()
    _, wdict = opened(eds, haadf)
    labels = [widget.description for widget in controls(wdict) if widget.description]
    assert len(set(labels)) == len(labels)
    assert "(px" in wdict["block_size"].description
    assert "(°)" in wdict["tilt"].description
    assert wdict["tilt"].options[0] == ("-60", 0)


def test_method_opens_the_panel_with_its_arguments():
    haadf, eds = pair()
    wdict = eds.fit_response_ratios(
        haadf, block_size=6, rest=True, interactive=True, display=False
    )["ipywidgets"]["wdict"]
    assert (wdict["block_size"].value, wdict["rest"].value, wdict["method"].value) == (
        6,
        True,
        "blocks",
    )
    assert eds.response_ratios is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "poisson"},
        {"block_size": 5, "rest": True},
        {"prior": {"Au": 9.0, "Ag": 4.0}, "prior_strength": 0.5},
    ],
    ids=str,
)
def test_apply_attaches_what_the_method_attaches(settings):
    haadf, eds = pair(counts=20.0)
    panel, wdict = opened(eds, haadf, **settings)
    wdict["fit_button"].click()
    assert eds.response_ratios is None
    assert "copy" in wdict["message"].value
    wdict["apply_button"].click()
    other = pair(counts=20.0)[1]
    expected = other.fit_response_ratios(haadf, **settings)
    assert panel.result.as_dict().keys() == expected.as_dict().keys()
    for name in ("values", "standard_errors", "residual_map", "block_counts"):
        np.testing.assert_array_equal(
            getattr(eds.response_ratios, name), getattr(other.response_ratios, name)
        )
    assert eds.history == other.history
    assert eds.response_ratios.r2 == expected.r2


@pytest.mark.slow
def test_apply_fits_with_settings_that_were_not_fitted_yet():
    haadf, eds = pair(counts=20.0)
    panel, wdict = opened(eds, haadf)
    panel.fit()
    wdict["mask_level"].value = 0.4
    assert "differ" in wdict["message"].value
    mask = panel.keywords()["mask"]
    assert mask.shape == eds.array("element", "tilt", "y", "x").shape[1:]
    panel.apply()
    expected = pair(counts=20.0)[1].fit_response_ratios(haadf, mask=mask)
    np.testing.assert_array_equal(eds.response_ratios.values, expected.values)
    # The particle's rim is left out: fewer blocks hold a residual.
    other = pair(counts=20.0)[1].fit_response_ratios(haadf, block_size=expected.block_size)
    assert np.isfinite(expected.residual_map).sum() < np.isfinite(other.residual_map).sum()


def test_level_of_the_untouched_slider_is_that_of_a_fit_without_mask():
    haadf, eds = pair()
    panel, _ = opened(eds, haadf)
    assert panel.keywords()["mask"] is None
    mask = np.zeros(eds.array("element", "tilt", "y", "x").shape[1:], bool)
    mask[panel._common] = panel._pixels.transpose(0, 2, 1)
    other = pair()[1]
    np.testing.assert_array_equal(
        eds.fit_response_ratios(haadf).values, other.fit_response_ratios(haadf, mask=mask).values
    )


def test_pictures_follow_the_controls():
    haadf, eds = pair(counts=20.0)
    panel, wdict = opened(eds, haadf)
    seen = {name: wdict[name].value for name in ("measured", "residual", "scatter")}
    panel.fit()
    assert wdict["residual"].value != seen["residual"]
    assert wdict["scatter"].value != seen["scatter"]
    assert "Au" in wdict["figures"].value
    assert "R²" in wdict["figures"].value
    fitted = {name: wdict[name].value for name in seen}
    wdict["tilt"].value = 1
    assert all(wdict[name].value != fitted[name] for name in seen)
    outlined = wdict["measured"].value
    wdict["mask_level"].value = 0.5
    assert wdict["measured"].value != outlined


def test_warnings_of_the_fit_are_shown():
    haadf, eds = pair(counts=20.0)
    haadf.data = haadf.data[:, ::-1] ** 2 + 1
    panel, wdict = opened(eds, haadf)
    panel.fit()
    assert "R2" in wdict["notes"].value


def test_values_out_of_range_are_refused():
    haadf, eds = pair()
    with pytest.raises(traits.api.TraitError, match="block_size"):
        ResponseRatiosPanel(eds, haadf, threaded=False, block_size=-3)
    panel, wdict = opened(eds, haadf)
    with pytest.raises(traits.api.TraitError):
        panel.tilt = len(eds.tilts)
    wdict["min_counts"].value = -5
    assert panel.min_counts == 1.0


def test_errors_are_said_and_change_nothing():
    haadf, eds = pair()
    panel, wdict = opened(eds, haadf, prior={"Cu": 1.0, "Au": 2.0})
    panel.apply()
    assert "Cu" in wdict["message"].value
    assert eds.response_ratios is None
    assert not panel.running
    with pytest.raises(ValueError, match="the mask has the shape"):
        ResponseRatiosPanel(eds, haadf, threaded=False, mask=np.ones((2, 2, 2), bool))


def test_cancelled_or_closed_while_fitting_the_series_stays_as_it_was(monkeypatch):
    haadf, eds = pair()
    history = eds.history
    panel, wdict = opened(eds, haadf)
    fit = type(eds).fit_response_ratios

    def stopped(self, *args, **kwds):
        stops.pop(0)()
        return fit(self, *args, **kwds)

    monkeypatch.setattr(type(eds), "fit_response_ratios", stopped)
    stops = [wdict["cancel_button"].click, wdict["close_button"].click]
    while stops:
        panel.apply()
        assert "Cancelled" in panel.message
        assert eds.response_ratios is None
        assert eds.history == history


def test_thread_leaves_the_kernel_free_and_ends():
    haadf, eds = pair(counts=20.0)
    panel = ResponseRatiosPanel(eds, haadf)
    panel.apply()
    assert panel.wait(30)
    assert not panel.running
    assert panel.result is not None
    np.testing.assert_array_equal(eds.response_ratios.values, panel.result.values)


def test_single_slice_and_single_element():
    haadf, eds = pair(counts=60.0)
    haadf, eds = haadf.isig[:, 10:11], eds.isig[:, 10:11].inav[:1]
    haadf.data = 9.0 * eds.data[:, 0] if eds.data.ndim == 4 else 9.0 * eds.data
    panel, wdict = opened(eds, haadf, block_size=4)
    panel.fit()
    panel.apply()
    assert panel.result.values.size == 1
    np.testing.assert_allclose(panel.result.values, 9.0, rtol=0.02)
    assert wdict["measured"].value[:4] == b"\x89PNG"


def test_apply_waits_for_the_fit_under_way(monkeypatch):
    haadf, eds = pair(counts=20.0)
    panel = ResponseRatiosPanel(eds, haadf)
    wdict = panel.gui(display=False)["ipywidgets"]["wdict"]
    fit, begun, may_end = type(eds).fit_response_ratios, threading.Event(), threading.Event()

    def held(self, *args, **kwds):
        begun.set()
        assert may_end.wait(30)
        return fit(self, *args, **kwds)

    monkeypatch.setattr(type(eds), "fit_response_ratios", held)
    wdict["fit_button"].click()
    assert begun.wait(30)
    assert wdict["fit_button"].disabled
    assert wdict["apply_button"].disabled
    wdict["apply_button"].click()
    assert "still running" in wdict["message"].value
    may_end.set()
    assert panel.wait(30)
    assert eds.response_ratios is None
    assert not wdict["apply_button"].disabled


@pytest.mark.slow
def test_a_fit_before_the_alignment_is_not_attached_after_it():
    haadf, eds = pair(counts=20.0)
    haadf.data = np.roll(haadf.data, 2, axis=1)
    panel, _ = opened(eds, haadf)
    panel.fit()
    along = np.full(len(haadf.tilts), 1.0)
    haadf.align(mt.alignment.Alignment(np.zeros(len(along)), -along, tilts=haadf.tilts))
    eds.align(mt.alignment.Alignment(np.zeros(len(along)), along, tilts=eds.tilts))
    panel.apply()
    other = pair(counts=20.0)[1]
    other.align(eds.alignment)
    expected = other.fit_response_ratios(haadf)
    np.testing.assert_array_equal(eds.response_ratios.values, expected.values)
    assert panel.message.startswith("Attached to the maps of Au, Ag: Au ")
