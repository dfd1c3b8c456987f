# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence panel asks what its controls say, shows where, and is open about what it refuses."""

import io
import threading

import numpy as np
import pytest

import hyperspy_multitomo as mt

pytest.importorskip("link_traits", reason="the packages for panels are in the extra gui")

from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.signals import TiltSeriesEDS
from hyperspy_multitomo.widgets.evidence_panel import EvidencePanel
from hyperspy_multitomo.widgets.workbench_panel import WorkbenchPanel

TILTS = np.arange(-70.0, 71.0, 10.0)
SIZE, SLICES, PIXEL = 32, 12, 0.5
CIRCLE = (0x56, 0xB4, 0xE9)
QUIET = {"depth": None, "show_progressbar": False}
# Of the grain, on the axes of the volume.
GRAIN = {"x": 7.0, "y": 3.0, "z": 1.25}


def _maps():
    """A rod of Au and Ag with a grain that is three times as rich in Au."""
    z, x, y = (
        PIXEL * (np.arange(size) - start).reshape(shape)
        for size, start, shape in (
            (SIZE, (SIZE - 1) / 2, (-1, 1, 1)),
            (SIZE, 0, (1, -1, 1)),
            (SLICES, 0, (1, 1, -1)),
        )
    )
    rod = (z**2 + (x - 7.75) ** 2 + 0 * y < 36).astype(np.float32)
    squares = (z - GRAIN["z"]) ** 2 + (x - GRAIN["x"]) ** 2 + (y - GRAIN["y"]) ** 2
    grain = (squares < 1.3**2).astype(np.float32)
    project, rng = mt.projector(mt.TiltGeometry(TILTS, SIZE)), np.random.default_rng(0)
    expected = {"Au": 0.4 * (rod + 2 * grain), "Ag": 0.4 * rod}
    return {name: rng.poisson(project(one)).transpose(0, 2, 1) for name, one in expected.items()}


@pytest.fixture(scope="module")
def pair():
    eds = mt.TiltSeriesEDS.from_maps(_maps(), tilts=TILTS, pixel_size=PIXEL)
    return eds, eds.reconstruct_sirt(15, **QUIET)


def opened(pair, **keywords):
    panel = EvidencePanel(*pair, threaded=False, **keywords)
    return panel, panel.gui(display=False)["ipywidgets"]["wdict"]


def at_grain(pair, **keywords):
    panel, widgets = opened(pair, **keywords)
    for name, place in GRAIN.items():
        widgets[name].value = place
    widgets["diameter"].value = 2.5
    return panel, widgets


def circle(picture):
    """Return the middle and the radii of the circle in a section, px: row, column."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    rows, columns = np.nonzero((np.abs(pixels - CIRCLE) < 12).all(axis=2))
    ends = [(places.min(), places.max()) for places in (rows, columns)]
    return [(low + high) / 2 for low, high in ends], [(high - low) / 2 for low, high in ends]


def rows(evidence):
    return [(row.region, row.element, row.z, row.p_corrected) for row in evidence]


CONTROLS = {
    "element": "Ag",
    "x": 5.5,
    "y": 2.0,
    "z": -1.25,
    "diameter": 3.0,
    "found_here": False,
    "contrast": -0.5,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_and_its_trait_follow_each_other(pair, name):
    panel, widgets = opened(pair)
    before = getattr(panel, name)
    widgets[name].value = CONTROLS[name]
    assert getattr(panel, name) == CONTROLS[name] != before
    setattr(panel, name, before)
    assert widgets[name].value == before
    assert panel.message == ""


class TestAsking:
    @pytest.mark.slow
    def test_a_place_that_was_found_in_the_volume(self, pair):
        eds, volume = pair
        panel, widgets = at_grain(pair)
        widgets["ask_button"].click()
        ball = mt.Ellipsoid(tuple(GRAIN.values()), 1.25)
        expected = eds.evidence(volume, {"ball": ball}, "Au", found_in=volume)
        assert rows(panel.result) == rows(expected)
        assert str(expected) in panel.table
        assert "ball of 2.5 nm at x = 7, y = 3, z = 1.25 nm" in widgets["table"].value
        assert panel.message.startswith(f"Au in the ball: z = {expected.z[0]:.1f}, p = ")
        assert bytes(widgets["plot"].value).startswith(b"\x89PNG")

    @pytest.mark.slow
    def test_one_that_was_known_before_has_a_smaller_probability(self, pair):
        panel, widgets = at_grain(pair)
        panel.ask()
        found = panel.result
        widgets["found_here"].value = False
        panel.ask()
        assert panel.result.tried == 1
        assert panel.result.z == pytest.approx(found.z)
        assert panel.result.p[0] < found.p[0]

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["ask", "search"])
    def test_the_call_in_python_makes_the_same(self, pair, method):
        panel, _ = at_grain(pair)
        panel.element = "Ag"
        getattr(panel, method)()
        made = {"eds": pair[0], "volume": pair[1], "mt": mt}
        exec(panel.python, made)
        assert rows(made["found"]) == rows(panel.result)

    @pytest.mark.slow
    def test_weight_percent_and_an_outline_are_passed_on(self, pair):
        outline = np.ones((SIZE, SLICES, SIZE), bool)
        panel, _ = at_grain(pair, factors={"Au": 1.5, "Ag": 1.0}, outline=outline)
        panel.ask()
        assert "wt%" in panel.table
        assert panel.result.made_of["outline_voxels"] == outline.size
        assert panel.python.endswith("outline=outline, factors=factors, found_in=volume)")

    def test_a_ball_that_is_not_in_the_volume_is_refused_in_words(self, pair):
        panel, _ = opened(pair)
        panel.z = panel.high_z
        panel.ask()
        assert "The region ball goes from z = " in panel.message
        assert panel.result is None
        assert not panel.running

    def test_warnings_are_shown_and_go_with_the_next_result(self, pair, monkeypatch):
        panel, widgets = at_grain(pair)
        panel.found_here = False
        panel.ask()
        made = panel.result

        def evidence(*args, **keywords):
            warn("z may be <b>too large</b>")
            return made

        with monkeypatch.context() as patched:
            patched.setattr(TiltSeriesEDS, "evidence", evidence)
            panel.ask()
        assert "z may be &lt;b&gt;too large&lt;/b&gt;" in widgets["notes"].value
        panel.ask()
        assert widgets["notes"].value == ""

    def test_cancel_drops_the_result(self, pair, monkeypatch):
        begun, may_end = threading.Event(), threading.Event()

        def evidence(*args, **keywords):
            begun.set()
            assert may_end.wait(30)
            return "never shown"

        monkeypatch.setattr(TiltSeriesEDS, "evidence", evidence)
        panel = EvidencePanel(*pair)
        panel.ask()
        assert begun.wait(30)
        assert not panel.can_apply
        panel.search()
        assert panel.message == "Something is still running: wait for it, or cancel it."
        panel.cancel()
        may_end.set()
        assert panel.wait(30)
        assert panel.result is None
        assert panel.message == "Cancelled; everything is as it was."


class TestFeatures:
    @pytest.mark.slow
    def test_the_sliders_go_to_the_most_conspicuous(self, pair):
        eds, volume = pair
        panel, widgets = opened(pair)
        widgets["diameter"].value = 2.5
        widgets["search_button"].click()
        expected = eds.evidence(volume, "features", "Au", size=2.5)
        assert rows(panel.result) == rows(expected)
        largest = max(expected, key=lambda row: abs(row.z))
        assert (panel.x, panel.y, panel.z) == pytest.approx(largest.centre)
        assert [widgets[name].value for name in "xyz"] == pytest.approx(list(GRAIN.values()), abs=1)
        assert f"{largest.region} at x = {panel.x:.4g}" in panel.table
        assert panel.message.endswith(f"{largest.region}, z = {largest.z:.1f}.")

    def test_none_is_said(self, pair, monkeypatch):
        from dataclasses import replace

        panel, widgets = at_grain(pair)
        panel.found_here = False
        panel.ask()
        none = replace(panel.result, rows=())
        monkeypatch.setattr(TiltSeriesEDS, "evidence", lambda *args, **keywords: none)
        place = panel.x, panel.y, panel.z
        panel.search()
        assert panel.message == "No place stands out on half of the counts."
        assert "no feature beyond chance" in widgets["table"].value
        assert bytes(widgets["plot"].value) == b""
        assert (panel.x, panel.y, panel.z) == place


class TestTransfer:
    @pytest.mark.slow
    def test_it_is_the_test_of_the_ball(self, pair):
        eds, volume = pair
        panel, widgets = at_grain(pair)
        panel.ask()
        evidence = panel.result
        widgets["contrast"].value = 2.0
        seen = []
        panel.observe(lambda event: seen.append(event.new), "progress")
        widgets["transfer_button"].click()
        expected = eds.transfer_test(
            volume,
            position=tuple(GRAIN.values()),
            size=2.5,
            contrast=2.0,
            into="Au",
            show_progressbar=False,
        )
        np.testing.assert_array_equal(panel.transfer.arrived, expected.arrived)
        assert str(expected) in panel.table
        assert panel.result is evidence
        assert seen == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
        made = {"eds": eds, "volume": volume}
        exec(panel.python, made)
        np.testing.assert_array_equal(made["found"].arrived, expected.arrived)

    def test_it_can_be_cancelled_between_reconstructions(self, pair):
        panel, _ = at_grain(pair)
        panel.observe(lambda event: panel.cancel() if event.new > 0.3 else None, "progress")
        panel.test_transfer()
        assert panel.transfer is None
        assert panel.progress == pytest.approx(1 / 3)
        assert panel.message == "Cancelled; everything is as it was."

    def test_nothing_to_add_is_refused_in_words(self, pair):
        panel, _ = at_grain(pair)
        panel.contrast = 0.0
        panel.test_transfer()
        assert panel.message.startswith("Contrast=0 inserts nothing")


class TestSections:
    def test_the_ball_is_drawn_where_it_is(self, pair):
        panel, _ = at_grain(pair)
        scale, heading = 320 / (SIZE * PIXEL), 20
        # z goes up, y down; the ends of the volume are half a voxel beyond the outer ones.
        row = {
            "z": heading + scale * (SIZE * PIXEL / 2 - GRAIN["z"]),
            "y": heading + scale * (GRAIN["y"] + PIXEL / 2),
        }
        for plane in ("xz", "yz", "xy"):
            middle, radii = circle(getattr(panel, plane))
            across, along = plane
            column = scale * (GRAIN[across] + PIXEL / 2)
            assert middle == pytest.approx([row[along], column], abs=1.5)
            assert radii == pytest.approx([scale * 1.25] * 2, abs=1.5)

    def test_they_are_of_the_element_and_through_the_ball(self, pair):
        panel, widgets = at_grain(pair)
        volume = pair[1].array("element", "z", "x", "y")
        z, x, y = int(GRAIN["z"] / PIXEL + SIZE / 2), int(GRAIN["x"] / PIXEL), 6
        for place, element in enumerate(("Au", "Ag")):
            panel.element = element
            value = f"{element} in the middle of the ball: {volume[place, z, x, y]:.3g} "
            assert widgets["values"].value.startswith(f"<small>{value}")

    @pytest.mark.parametrize("name", ["element", "x", "y", "z", "diameter"])
    def test_they_follow_a_control(self, pair, name):
        widgets = opened(pair)[1]
        before = [widgets[plane].value for plane in ("xz", "yz", "xy")]
        widgets[name].value = CONTROLS[name]
        after = [widgets[plane].value for plane in ("xz", "yz", "xy")]
        assert all(one != other for one, other in zip(before, after, strict=True))


class TestOpening:
    def test_by_the_method(self, pair):
        eds, volume = pair
        widgets = eds.explore_evidence(volume, display=False)["ipywidgets"]["wdict"]
        assert (widgets["x"].min, widgets["x"].max, widgets["x"].step) == (0, 15.5, 0.5)
        assert (widgets["z"].min, widgets["z"].max) == (-7.75, 7.75)
        # Five voxels; from three voxels to the shortest side.
        diameter = widgets["diameter"]
        assert (diameter.value, diameter.min, diameter.max) == (2.5, 1.5, SLICES * PIXEL)
        assert widgets["element"].options == ("Au", "Ag")

    def test_without_calibration_lengths_are_in_pixels(self):
        eds = mt.TiltSeriesEDS.from_maps(_maps(), tilts=TILTS)
        panel, widgets = opened((eds, eds.reconstruct_sirt(2, **QUIET)))
        assert widgets["diameter"].description == "Diameter (px)"
        assert (panel.high_x, panel.usual) == (SIZE - 1, 5.0)

    def test_one_slice_is_drawn_and_its_slider_waits(self):
        maps = {name: images[:, 6:7] for name, images in _maps().items()}
        eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS, pixel_size=PIXEL)
        panel, widgets = opened((eds, eds.reconstruct_sirt(2, **QUIET)))
        assert widgets["y"].disabled
        assert panel.largest == SIZE * PIXEL
        _, radii = circle(panel.xz)
        assert radii == pytest.approx([20 * panel.diameter / 2] * 2, abs=1.5)

    @pytest.mark.slow
    def test_the_haadf_is_passed_where_the_volume_was_made_of_it(self, pair):
        eds, volume = pair
        images = sum(_maps().values()).astype(np.float32)
        haadf = mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, pixel_size=PIXEL)
        joint = eds.reconstruct_hebt(haadf, 0.5, 5, ratios={"Au": 1.0, "Ag": 1.0}, **QUIET)
        with pytest.raises(ValueError, match="a HAADF series: pass it too, as haadf="):
            EvidencePanel(eds, joint, threaded=False)
        panel, _ = at_grain((eds, joint, haadf))
        panel.ask()
        assert panel.result.z[0] > 5
        assert "haadf=haadf" in panel.python
        # Of one that was made of the maps alone it is not used.
        panel, _ = at_grain((eds, volume, haadf))
        panel.ask()
        assert panel.result.z[0] > 5
        assert "haadf" not in panel.python

    def test_what_cannot_be_asked_is_refused(self, pair):
        eds, volume = pair
        other = mt.TiltSeriesEDS.from_maps(
            {"Cu": np.ones((len(TILTS), SLICES, SIZE))}, tilts=TILTS, pixel_size=PIXEL
        )
        with pytest.raises(ValueError, match=r"holds Au, Ag, and was not made of the maps of Cu"):
            other.explore_evidence(volume, display=False)
        arrays = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 4, 4))}, PIXEL)
        with pytest.raises(ValueError, match="no reconstruction in its history"):
            eds.explore_evidence(arrays, display=False)
        with pytest.raises(ValueError, match="positive k-factor of each of Au, Ag"):
            eds.explore_evidence(volume, factors={"Au": 1.0}, display=False)
        with pytest.raises(TypeError, match="TomographicVolume"):
            eds.explore_evidence(eds, display=False)

    def test_a_volume_of_another_series_is_refused_by_the_button(self, pair):
        eds, volume = pair
        panel, _ = at_grain((eds.drop_tilts([0.0]), volume))
        panel.ask()
        assert panel.result is None
        assert panel.message


class TestWorkbench:
    def test_without_a_volume_it_says_which_step_makes_one(self, pair):
        bench = WorkbenchPanel(haadf=None, eds=pair[0], threaded=False)
        with pytest.raises(ValueError, match="make one in the step Reconstruction"):
            bench.panel("Evidence")

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["sirt", "hebt"])
    def test_of_the_volume_that_the_step_before_made(self, method):
        images = sum(_maps().values()).astype(np.float32)
        haadf = mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, pixel_size=PIXEL)
        eds = mt.TiltSeriesEDS.from_maps(_maps(), tilts=TILTS, pixel_size=PIXEL)
        eds.fit_response_ratios(haadf, prior={"Au": 1.0, "Ag": 1.0})
        bench = WorkbenchPanel(haadf=haadf, eds=eds, threaded=False)
        reconstruction = bench.panel("Reconstruction")
        reconstruction.trait_set(method=method, iterations=15)
        reconstruction.apply()
        panel = bench.panel("Evidence")
        panel.trait_set(**GRAIN, diameter=2.5)
        panel.ask()
        assert panel.result is not None, panel.message
        assert bench.evidence is panel.result
        assert bench.evidence.z[0] > 5
        reconstruction.apply()
        assert panel.outdated.startswith("Another volume was made")
        panel.ask()
        assert panel.message == panel.outdated
