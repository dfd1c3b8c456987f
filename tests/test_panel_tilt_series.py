# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel to look through a tilt series:
its controls, pictures, marks, and the windows on the spectra."""

import io
import re

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
import traits.api as t
from PIL import Image
from series_pairs import TILTS, pair

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition.eds.xray_lines import families_of, fwhm, line_energy
from hyperspy_multitomo.widgets.spectrum_window import FREE
from hyperspy_multitomo.widgets.tilt_series_panel import ALL, TiltSeriesPanel

pytest.importorskip("hyperspy_gui_ipywidgets")

PICTURES = ("image_picture", "signal_picture", "map_picture", "spectrum_picture")
STEP = 0.02


def spectra_of(eds, lazy=False, tilts=TILTS, units="keV"):
    """Spectra whose lines hold the counts of the maps, all in the channel of the line,
    on one count in every channel."""
    maps = np.asarray(eds.data)
    counts = np.ones((*maps[:, 0].shape, 700), np.uint16)
    for element, name in enumerate(("Au_La", "Ag_La")):
        counts[..., round(line_energy(name) / STEP)] += maps[:, element].astype(np.uint16)
    counts = counts[: len(tilts)]
    scale = STEP * (1000 if units == "eV" else 1)
    axes = [
        {"name": "tilt", "axis": tilts},
        {"name": "y", "size": counts.shape[1]},
        {"name": "x", "size": counts.shape[2]},
    ]
    axes.append({"name": "Energy", "size": 700, "offset": 0.0, "scale": scale, "units": units})
    spectra = hs.signals.Signal1D(
        da.from_array(counts, chunks=(1, -1, -1, 350)) if lazy else counts, axes=axes
    )
    if lazy:
        spectra = spectra.as_lazy()
    spectra.set_signal_type("EDS_TEM")
    spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    return spectra


def opened(series, spectra=None, **traits):
    panel = TiltSeriesPanel(series, spectra, threaded=False, **traits)
    return panel, panel.gui(display=False, toolkit="ipywidgets")["ipywidgets"]


def shots(panel):
    return {name: getattr(panel, name) for name in PICTURES}


def changed(panel, before):
    return {name for name in PICTURES if getattr(panel, name) != before[name]}


@pytest.fixture(scope="module")
def both():
    eds = pair()[1]
    return opened(eds, spectra_of(eds))


class TestControls:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("tilt", (2, 12)),
            ("channel", ("Ag", ALL)),
            ("same_brightness", (False, True)),
            ("bad", (True, False)),
            ("line", ("Ag_La", FREE)),
            ("centre", (4.0, 5.5)),
            ("width", (0.3, 0.4)),
        ],
    )
    def test_values_reach_the_trait_and_come_back(self, both, name, values):
        panel, made = both
        widget = made["wdict"][name]
        for value in values:
            widget.value = value
            assert getattr(panel, name) == value
        for value in values:
            setattr(panel, name, value)
            assert widget.value == value
        assert panel.message == ""

    @pytest.mark.slow
    def test_labels_are_unique_and_name_units_and_tooltips_are_sentences(self, both):
        _, made = both
        controls = [
            made["wdict"][n]
            for n in ("tilt", "channel", "same_brightness", "bad", "line", "centre", "width")
        ]
        buttons = [widget for name, widget in made["wdict"].items() if name.endswith("button")]
        labels = [widget.description for widget in controls + buttons]
        assert len(set(labels)) == len(labels) == 12
        assert [w.description for w in (controls[0], *controls[-2:])] == [
            "Tilt (°)",
            "Window centre (keV)",
            "Window width (keV)",
        ]
        assert all(re.fullmatch(r"[A-Z].*\.", widget.tooltip) for widget in controls + buttons)
        assert [label for label, _ in controls[0].options][:2] == ["-60.0", "-50.0"]

    def test_values_out_of_range_are_refused(self, both):
        panel, made = both
        for name, value in (
            ("tilt", 13),
            ("tilt", -1),
            ("channel", "Fe"),
            ("centre", 14.2),
            ("width", 0.01),
            ("line", "Fe_Ka"),
        ):
            held = getattr(panel, name)
            with pytest.raises(t.TraitError):
                setattr(panel, name, value)
            assert getattr(panel, name) == held
        assert made["wdict"]["centre"].max == panel.highest == pytest.approx(699 * STEP)
        assert made["wdict"]["width"].min == panel.narrowest == pytest.approx(2 * STEP)

    def test_without_spectra_there_is_no_window(self):
        panel, made = opened(pair()[0])
        assert {"line", "centre", "width"}.isdisjoint(made["wdict"])
        assert panel.map_picture == panel.spectrum_picture == b""
        assert made["wdict"]["channel"].options == ("HAADF",)


class TestPictures:
    @pytest.mark.slow
    def test_each_control_changes_its_pictures(self, both):
        panel, _ = both
        panel.tilt, panel.channel, panel.line, panel.same_brightness = 1, "Au", "Au_La", True
        for name, value, expected in (
            ("tilt", 2, {"image_picture", "signal_picture", "map_picture"}),
            ("channel", "Ag", {"image_picture", "signal_picture"}),
            ("same_brightness", False, {"image_picture"}),
            ("bad", True, {"signal_picture"}),
            ("line", "Ag_La", {"map_picture", "spectrum_picture"}),
            ("width", 1.0, {"map_picture", "spectrum_picture"}),
        ):
            before = shots(panel)
            setattr(panel, name, value)
            assert changed(panel, before) == expected, name

    def test_the_image_is_that_of_the_tilt_with_x_to_the_right_and_y_down(self):
        images = np.zeros((3, 32, 32), np.float32)
        images[1, 4:8, 20:24] = 1.0
        panel, _ = opened(mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10]))
        panel.same_brightness = False
        drawn = np.asarray(Image.open(io.BytesIO(panel.image_picture)))[..., 0]
        np.testing.assert_array_equal(drawn[::8, ::8] > 0, images[1] > 0)
        assert panel.title == "HAADF at 0.0° (image 2 of 3)"

    def test_a_darker_tilt_looks_darker_where_all_have_the_same_brightness(self):
        haadf = pair()[0]
        haadf.data[3] *= 0.5
        panel, _ = opened(haadf, tilt=0)
        panel.tilt = 3
        brightest = []
        for panel.same_brightness in (True, False):
            brightest.append(np.asarray(Image.open(io.BytesIO(panel.image_picture))).max())
        assert brightest[1] == 255
        assert 100 < brightest[0] < 150

    def test_sums_are_those_of_each_tilt_and_channel(self):
        eds = pair(lazy=True)[1]
        panel, _ = opened(eds)
        sums = np.asarray(eds.data).sum(axis=(2, 3), dtype=float).T
        np.testing.assert_allclose(panel.sums, [*sums, sums.sum(axis=0)])

    @pytest.mark.slow
    @pytest.mark.parametrize("single", ["slice", "element"])
    def test_one_slice_and_one_element(self, single):
        eds = pair()[1]
        part = eds.isig[:, 10:11] if single == "slice" else eds["Au"]
        panel, made = opened(part, spectra_of(eds).inav[:, 10:11] if single == "slice" else None)
        assert panel.message == ""
        assert Image.open(io.BytesIO(panel.image_picture)).size == (
            (240, 30) if single == "slice" else (240, 120)
        )
        made["wdict"]["bad"].value = True
        made["wdict"]["apply_button"].click()
        np.testing.assert_array_equal(panel.result.data, part.drop_tilts(0.0).data)


class TestMarks:
    @pytest.mark.slow
    def test_marks_follow_the_tilt_and_apply_drops_them(self):
        eds = pair()[1]
        panel, made = opened(eds)
        widgets, data, history = made["wdict"], eds.data.copy(), len(eds.history)
        for place in (7, 2):
            widgets["tilt"].value = place
            widgets["bad"].value = True
        widgets["tilt"].value = 3
        assert not widgets["bad"].value
        widgets["tilt"].value = 7
        assert widgets["bad"].value
        assert panel.marked == [TILTS[2], TILTS[7]]
        assert widgets["marked"].value == "Marked: -40.0°, 10.0°"
        assert "marked as bad" in panel.title
        widgets["apply_button"].click()
        expected = eds.drop_tilts([TILTS[2], TILTS[7]])
        np.testing.assert_array_equal(panel.result.data, expected.data)
        np.testing.assert_array_equal(panel.result.tilts, expected.tilts)
        assert panel.result.history == expected.history
        assert panel.message.startswith("11 of 13 tilts are kept")
        np.testing.assert_array_equal(eds.data, data)
        assert len(eds.history) == history
        widgets["clear_button"].click()
        assert panel.marked == []
        assert not widgets["bad"].value

    def test_suspicious_tilts_are_those_of_rank_tilts(self):
        haadf = pair()[0]
        haadf.data[4] *= 0.5
        panel, made = opened(haadf)
        panel.marked = [TILTS[1]]
        made["wdict"]["suspicious_button"].click()
        assert panel.marked == sorted({TILTS[1], *haadf.rank_tilts().suspicious})
        assert TILTS[4] in panel.marked
        assert "-20.0° (darker" in panel.message

    @pytest.mark.slow
    def test_nothing_marked_and_too_many_marked(self):
        panel, made = opened(pair()[0])
        assert made["wdict"]["apply_button"].disabled
        made["wdict"]["apply_button"].click()
        assert panel.result is None
        assert "No tilt is marked" in panel.message
        panel.marked = list(TILTS[1:])
        assert not made["wdict"]["apply_button"].disabled
        made["wdict"]["apply_button"].click()
        assert panel.result is None
        assert "needs two or more" in made["wdict"]["message"].value


class TestWindow:
    @pytest.mark.slow
    @pytest.mark.parametrize(("lazy", "units"), [(False, "keV"), (True, "eV")])
    def test_spectrum_and_map_of_a_line(self, lazy, units):
        eds = pair()[1]
        spectra = spectra_of(eds, lazy=lazy, units=units)
        panel, made = opened(eds, spectra)
        main = [
            family.main
            for name in ("Au", "Ag")
            for family in families_of(name, 200, (0.1, panel.highest))
        ]
        assert made["wdict"]["line"].options == (*main, FREE)
        np.testing.assert_allclose(panel.summed, np.asarray(spectra.data).sum(axis=(0, 1, 2)))
        panel.line = "Ag_La"
        assert panel.centre == pytest.approx(line_energy("Ag_La"))
        assert panel.width == pytest.approx(2 * fwhm(line_energy("Ag_La")))
        background = panel.window.sum()
        for panel.tilt in (0, 12):
            np.testing.assert_allclose(
                panel.window_map(panel.current), np.asarray(eds.data)[panel.tilt, 1] + background
            )
        low, high = panel.edges
        assert high - low == pytest.approx(background * STEP)
        assert panel.map_title.startswith(f"{low:.2f} to {high:.2f} keV at 60.0°: ")

    @pytest.mark.slow
    def test_a_window_that_was_moved_is_no_line_any_more(self, both):
        panel, made = both
        made["wdict"]["centre"].value += 0.1
        assert made["wdict"]["line"].value == FREE
        made["wdict"]["line"].value = "Au_La"
        assert made["wdict"]["centre"].value == pytest.approx(line_energy("Au_La"))
        for end in (panel.lowest, panel.highest):
            panel.centre = end
            assert panel.window.any()

    @pytest.mark.slow
    def test_tilts_without_spectra_are_said(self):
        haadf, eds = pair()
        panel, _ = opened(haadf, spectra_of(eds, tilts=TILTS[:5]))
        assert panel.lines == [FREE]
        assert "no spectra at 0.0°" in panel.map_title
        panel.tilt = 4
        assert "counts" in panel.map_title
        assert panel.message == ""

    def test_other_axes_are_an_error(self):
        haadf, eds = pair()
        with pytest.raises(ValueError, match=r"axes \(x, y, tilt \| Energy\) are needed"):
            haadf.browse(spectra_of(eds).sum("tilt"), display=False)
        with pytest.raises(ValueError, match="has no axis tilt"):
            haadf.sum("tilt").browse(display=False)


class TestWork:
    @pytest.mark.slow
    def test_a_line_is_one_move_of_the_window(self, both):
        panel, moves = both[0], []
        panel.line = "Au_La"
        panel.observe(moves.append, "moved")
        panel.line = "Ag_La"
        panel.width = 0.5
        assert len(moves) == 2

    def test_reading_can_be_cancelled(self):
        eds = pair()[1]
        panel = TiltSeriesPanel(eds, spectra_of(eds), threaded=False)
        panel.observe(lambda event: event.new > 0.6 and panel.cancel(), "progress")
        panel.begin()
        assert panel.sums is None
        assert panel.summed is None
        assert not panel.running
        assert panel.message.startswith("Cancelled")
        assert panel.image_picture

    def test_closing_during_a_job_changes_nothing(self):
        panel, made = opened(pair()[0])
        panel.marked = [0.0]
        panel.observe(lambda event: event.new and made["wdict"]["close_button"].click(), "running")
        made["wdict"]["apply_button"].click()
        assert panel.closed
        assert panel.result is None

    def test_errors_of_the_images_show_in_the_message(self):
        haadf = pair(lazy=True)[0]

        def failing(block):
            raise OSError("the file is gone")

        haadf.data = haadf.data.map_blocks(
            failing, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
        )
        panel, _ = opened(haadf)
        assert panel.message == "The file is gone"
        assert not panel.running

    @pytest.mark.slow
    def test_in_threads_it_comes_to_the_same(self):
        eds = pair()[1]
        spectra = spectra_of(eds, lazy=True)
        here, _ = opened(eds, spectra)
        panel = TiltSeriesPanel(eds, spectra)
        panel.gui(display=False, toolkit="ipywidgets")
        assert panel.wait(30)
        assert not panel.running
        assert panel.message == ""
        assert shots(panel) == shots(here)

    @pytest.mark.parametrize("display", [True, False])
    def test_browse_returns_the_panel_or_its_widgets(self, display, capsys, monkeypatch):
        monkeypatch.setattr(TiltSeriesPanel, "_run", lambda self, function: function())
        found = pair()[0].browse(display=display, toolkit="ipywidgets")
        if display:
            assert isinstance(found, TiltSeriesPanel)
            found.close()
        else:
            assert "apply_button" in found["ipywidgets"]["wdict"]
