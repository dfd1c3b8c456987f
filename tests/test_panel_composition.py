# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the composition: its controls, what it shows,
and that it makes what `quantify` makes."""

import threading
import time

import hyperspy.api  # noqa: F401
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.signals.methods import thresholds
from hyperspy_multitomo.widgets.composition_panel import CompositionPanel

FACTORS = {"Au": 1.5, "Ag": 1.0}


def ball(noise=0.3, slices=24, elements=("Au", "Ag")):
    """A gold core in a silver shell, counts per nm."""
    z, x, y = np.mgrid[:24, :24, :slices]
    r = np.sqrt((z - 11.5) ** 2 + (x - 11.5) ** 2 + (y - (slices - 1) / 2) ** 2)
    rng = np.random.default_rng(0)
    volumes = {"Au": 10.0 * (r < 5), "Ag": 10.0 * ((r < 9) & (r >= 5))}
    noisy = {
        name: (volumes[name] + rng.normal(0, noise, r.shape)).transpose(0, 2, 1)
        for name in elements
    }
    volume = mt.TomographicVolume.from_arrays(noisy, pixel_size=2.0, quantity="counts / nm")
    volume.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return volume


def opened(volume, *args, **kwds):
    panel = CompositionPanel(volume, *args, threaded=False, **kwds)
    return panel, panel.gui(display=False)["ipywidgets"]["wdict"]


CONTROLS = {
    "method": "zeta", "factor_Au": 2.0, "composition_units": "atomic", "automatic": False,
    "threshold": 4.0, "plane": "yz", "position": 3,
}  # fmt: skip


def test_controls_and_traits_are_linked_both_ways(monkeypatch):
    panel, wdict = opened(ball(), "CL", FACTORS)
    monkeypatch.setattr(CompositionPanel, "_update", lambda *args: None)
    for name, value in CONTROLS.items():
        before = getattr(panel, name)
        wdict[name].value = value
        assert getattr(panel, name) == value != before
        setattr(panel, name, before)
        assert wdict[name].value == before
        assert len(wdict[name].tooltip) > 15


@pytest.mark.slow
def test_labels_are_unique_and_name_their_units():
    panel, wdict = opened(ball(), "CL", FACTORS)
    for method in ("CL", "zeta", "cross_section", "model"):
        panel.method = method
        labels = [
            widget.description for widget in wdict.values() if getattr(widget, "description", "")
        ]
        assert len(set(labels)) == len(labels)
        assert "counts/nm" in wdict["threshold"].description
        assert wdict["factor_Au"].disabled == (method == "model")
    # The lines are not known: nothing stays that is not of these settings.
    assert "xray_lines" in panel.message
    assert panel.statistics == ""
    assert wdict["position"].description == "z (px)"
    panel.method = "zeta"
    assert "(kg/m²)" in wdict["factor_Au"].description


@pytest.mark.slow
def test_threshold_is_preset_by_find_threshold_and_follows_the_factors(monkeypatch):
    volume = ball()
    panel, wdict = opened(volume, "CL", FACTORS)
    assert panel.threshold == pytest.approx(volume.find_threshold(FACTORS).value)
    wdict["factor_Au"].value, wdict["factor_Ag"].value = 3.0, 2.0
    assert panel.threshold == pytest.approx(volume.find_threshold({"Au": 3.0, "Ag": 2.0}).value)
    assert wdict["threshold"].max == pytest.approx(panel.highest)
    preset = panel.threshold
    wdict["threshold"].value = 8.0
    assert not wdict["automatic"].value
    wdict["automatic"].value = True
    assert wdict["threshold"].value == pytest.approx(preset)
    # A threshold chosen by hand is in the unit of the sum as it was weighted then.
    wdict["threshold"].value = 8.0
    monkeypatch.setattr(CompositionPanel, "refresh", lambda *args: None)
    wdict["factor_Au"].value = 1.0
    assert panel.keywords()["threshold"] == "auto"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "keywords"),
    [
        ({}, {}),
        ({"threshold": 5.0}, {"threshold": 5.0}),
        ({"composition_units": "atomic"}, {"composition_units": "atomic"}),
        ({"factor_Au": 2.0}, {"factors": {"Au": 2.0, "Ag": 1.0}}),
    ],
    ids=str,
)
def test_apply_makes_what_quantify_makes(settings, keywords):
    volume = ball(noise=1.0)
    panel, wdict = opened(volume, "CL", FACTORS)
    for name, value in settings.items():
        wdict[name].value = value
    wdict["apply_button"].click()
    expected = volume.quantify(**{"method": "CL", "factors": FACTORS, **keywords})
    np.testing.assert_array_equal(panel.result.data, expected.data)
    inside = panel._inside.transpose(0, 2, 1)
    assert np.count_nonzero(inside) == expected.history[-1]["voxels"]
    assert not expected.data.sum(axis=1)[~inside].any()
    means = volume.mean_composition(expected)
    for at, name in enumerate(volume.elements):
        values = expected.data[:, at][inside]
        row = f"{name}</td>" + wdict["statistics"].value.split(f"{name}</td>")[1].split("</tr>")[0]
        assert f"{means[name]:.2f}" in row
        assert f"{values.std():.2f}" in row


def test_calculated_factors_and_given_mask():
    volume = ball()
    inside = ball(noise=0.0).data.sum(axis=1) > 0
    lines = ["Au_La", "Ag_La"]
    panel, wdict = opened(volume, xray_lines=lines, mask=inside)
    assert panel.method == "model"
    assert wdict["threshold"].disabled
    panel.apply()
    expected = volume.quantify("model", xray_lines=lines, mask=inside)
    np.testing.assert_array_equal(panel.result.data, expected.data)


@pytest.mark.slow
def test_pictures_follow_the_controls():
    _, wdict = opened(ball(), "CL", FACTORS)
    every = ("section_Au", "section_Ag", "curve", "histogram", "profile")

    def changed(name, value):
        before = {each: wdict[each].value for each in every}
        wdict[name].value = value
        return {each for each in every if wdict[each].value != before[each]}

    assert changed("position", 8) >= {"section_Ag", "profile"}
    assert changed("threshold", 3.0) >= {"section_Ag", "curve", "histogram"}
    assert changed("factor_Au", 4.0) == set(every)
    # The profile is along x at the middle of z now.
    assert changed("plane", "yz") >= {"section_Au", "section_Ag", "profile"}


def test_method_opens_the_panel_and_returns_it(monkeypatch):
    volume = ball()
    shown = volume.quantify("CL", FACTORS, threshold=5.0, interactive=True, display=False)
    wdict = shown["ipywidgets"]["wdict"]
    until = time.monotonic() + 60
    while not wdict["statistics"].value and time.monotonic() < until:
        time.sleep(0.01)
    assert (wdict["threshold"].value, wdict["automatic"].value, wdict["factor_Au"].value) == (
        5.0,
        False,
        1.5,
    )
    monkeypatch.setattr("hyperspy_multitomo.widgets.opening.open_panel", lambda panel, *how: panel)
    assert isinstance(volume.quantify("CL", FACTORS, interactive=True), CompositionPanel)


@pytest.mark.slow
def test_errors_are_said_and_change_nothing():
    volume = ball()
    panel, wdict = opened(volume, "zeta")
    assert "No factor of Au, Ag" in wdict["message"].value
    panel.apply()
    assert panel.result is None
    wdict["factor_Au"].value, wdict["factor_Ag"].value = 1.5, 1.0
    wdict["threshold"].value = panel.highest
    assert "no voxel" in wdict["message"].value
    panel.apply()
    assert panel.result is None
    with pytest.raises(ValueError, match="pass one of them"):
        CompositionPanel(volume, mask=np.ones((24, 24, 24), bool), threshold="otsu")
    with pytest.raises(ValueError, match="not counts"):
        CompositionPanel(volume.quantify("CL", FACTORS))


@pytest.mark.slow
def test_cancelled_while_quantifying_there_is_no_result(monkeypatch):
    volume = ball()
    panel, wdict = opened(volume, "CL", FACTORS)
    quantify = type(volume).quantify

    def stopped(self, *args, **kwds):
        stops.pop(0)()
        return quantify(self, *args, **kwds)

    monkeypatch.setattr(type(volume), "quantify", stopped)
    stops = [wdict["cancel_button"].click, wdict["close_button"].click]
    while stops:
        panel.apply()
        assert panel.result is None
        assert "Cancelled" in panel.message


@pytest.mark.slow
def test_threads_end_with_the_last_setting():
    volume = ball()
    panel = CompositionPanel(volume, "CL", FACTORS)
    wdict = panel.gui(display=False)["ipywidgets"]["wdict"]
    assert panel.wait(30)
    assert wdict["threshold"].value == pytest.approx(volume.find_threshold(FACTORS).value)
    for threshold in (3.0, 4.0, 5.0):
        panel.threshold = threshold
    assert panel.wait(30)
    expected = volume.quantify("CL", FACTORS, threshold=5.0)
    assert np.count_nonzero(panel._inside) == expected.history[-1]["voxels"]
    panel.apply()
    assert panel.wait(30)
    np.testing.assert_array_equal(panel.result.data, expected.data)


@pytest.mark.slow
def test_single_slice_and_single_element():
    panel, wdict = opened(ball(slices=1, elements=("Au",)), "CL", {"Au": 1.0})
    assert (panel.plane, panel.position, wdict["position"].max) == ("xz", 0, 0)
    panel.apply()
    assert np.unique(panel.result.data.round(3)).tolist() == [0.0, 100.0]
    assert "100.00" in wdict["statistics"].value


@pytest.mark.slow
def test_apply_waits_until_the_particle_is_found(monkeypatch):
    volume = ball()
    panel = CompositionPanel(volume, "CL", FACTORS)
    begun, may_end, find = threading.Event(), threading.Event(), thresholds.threshold_curve

    def held(self, *args, **kwds):
        begun.set()
        assert may_end.wait(30)
        return find(self, *args, **kwds)

    monkeypatch.setattr(thresholds, "threshold_curve", held)
    wdict = panel.gui(display=False)["ipywidgets"]["wdict"]
    assert begun.wait(30)
    # The slider goes to 1 until it is known how far it has to go.
    wdict["threshold"].value = 0.5
    assert wdict["apply_button"].disabled
    wdict["apply_button"].click()
    assert "still being looked for" in panel.message
    may_end.set()
    assert panel.wait(30)
    assert not panel.running
    assert panel.result is None
    assert not wdict["apply_button"].disabled
    wdict["apply_button"].click()
    assert panel.wait(30)
    np.testing.assert_array_equal(panel.result.data, volume.quantify("CL", FACTORS).data)
