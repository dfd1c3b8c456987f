# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction panel: its controls, its pictures,
and volumes that are those of the public methods."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from series_pairs import pair
from traits.api import TraitError

import hyperspy_multitomo as mt

pytest.importorskip("ipywidgets")
pytest.importorskip("link_traits")
from hyperspy_multitomo.widgets import reconstruction_panel as reconstruction
from hyperspy_multitomo.widgets import reconstruction_parts
from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel

RATIOS = {"Au": 9.0, "Ag": 4.0}
QUIET = {"show_progressbar": False}
# Four slices are few to fit ratios from.
NOISY = pytest.mark.filterwarnings("ignore:(R2 = |blocks of ):UserWarning")
PICTURES = ("alone_element", "alone_mix", "shown_element", "shown_mix", "residual_curves")


@pytest.fixture(scope="module")
def series():
    haadf, eds = pair()
    return haadf.isig[:, 10:14], eds.isig[:, 10:14]


@pytest.fixture
def panel(series):
    haadf, eds = series
    return ReconstructionPanel(eds, haadf, ratios=RATIOS, iterations=6, threaded=False)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(reconstruction, "_PART", 0.0)


def widgets(panel):
    return panel.gui(display=False)["ipywidgets"]["wdict"]


def pictures(panel):
    return {name: getattr(panel, name) for name in PICTURES}


def stop_after(panel, iterations):
    """Cancel the run as soon as so many iterations are done,
    as pressing Stop between two parts does."""
    panel.observe(lambda event: panel._run_of[1].done == iterations and panel.cancel(), "partial")


def same(found, expected):
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.channels == expected.channels
    for name, values in expected.residuals.items():
        np.testing.assert_allclose(found.residuals[name], values, rtol=1e-6)


@pytest.mark.slow
def test_a_picture_is_kept_beside_the_next(panel):
    shown = widgets(panel)
    blank, first = panel.kept_mix, panel.shown_mix
    shown["keep_button"].click()
    assert "HEBT, alpha 0.70, 6 iterations" in panel.kept
    assert panel.kept_mix != blank
    kept = panel.kept_mix
    assert kept == first  # the same picture at the same scale
    panel.method = "sirt"
    assert panel.shown_mix != first
    assert "HEBT" in panel.kept
    panel.element = "Ag"
    assert shown["kept_element"].value == panel.kept_element != blank


@pytest.mark.slow
def test_coupling_is_passed_on(series):
    haadf, eds = series
    panel = ReconstructionPanel(
        eds,
        haadf,
        ratios=RATIOS,
        method="tv",
        coupled=False,
        iterations=20,
        threaded=False,
        dimensions=2,
    )
    assert "each element alone" in panel.shown
    panel.apply()
    options = dict(ratios=RATIOS, regulariser="tv", coupled=False, iterations=20, dimensions=2)
    same(panel.result, eds.reconstruct_hebt(haadf, **options, **QUIET))


class TestControls:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "value", "other"),
        [
            ("y", 0, 3),
            ("element", "Ag", "Au"),
            ("method", "sirt", "hebt_squared"),
            ("alpha", 0.3, 0.9),
            ("iterations", 3, 4),
            ("weight", 10.0, 0.1),
            ("coupled", False, True),
        ],
    )
    def test_both_ways(self, panel, name, value, other):
        control = widgets(panel)[name]
        control.value = value
        assert getattr(panel, name) == value
        setattr(panel, name, other)
        assert control.value == other

    def test_labels_are_unique_and_explained(self, panel):
        shown = widgets(panel)
        controls = [
            shown[name] for name in ("y", "element", "method", "alpha", "iterations", "weight")
        ]
        labels = [w.description for w in shown.values() if getattr(w, "description", "")]
        assert len(set(labels)) == len(labels)
        assert shown["y"].description == "Slice y (px)"
        assert all(w.tooltip.endswith(".") for w in controls)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "value"),
        [("alpha", 1.0), ("alpha", 0.0), ("iterations", 301), ("y", 4), ("weight", 11.0)],
    )
    def test_out_of_range(self, panel, name, value):
        before = getattr(panel, name)
        with pytest.raises(TraitError, match=name):
            setattr(panel, name, value)
        assert getattr(panel, name) == before

    @pytest.mark.slow
    def test_only_what_has_a_meaning_is_enabled(self, panel):
        shown = widgets(panel)
        assert (shown["alpha"].disabled, shown["weight"].disabled) == (False, True)
        panel.method = "sirt"
        assert (shown["alpha"].disabled, shown["weight"].disabled) == (True, True)
        panel.trait_setq(iterations=2)
        panel.method = "tv"
        assert (shown["alpha"].disabled, shown["weight"].disabled) == (True, False)


class TestPictures:
    @pytest.mark.slow
    def test_each_control_changes_them(self, panel):
        shown = widgets(panel)
        for name, value, still in [
            ("alpha", 0.2, {"alone_element", "alone_mix"}),
            ("iterations", 3, {"alone_element", "alone_mix"}),
            ("method", "hebt_squared", {"alone_element", "alone_mix"}),
            ("element", "Ag", {"alone_mix", "shown_mix", "residual_curves"}),
            ("y", 0, set()),
        ]:
            before = pictures(panel)
            shown[name].value = value
            after = pictures(panel)
            # The scale is common to both sides: only colours that are not stretched keep the bytes
            # of the left.
            changed = {picture for picture in PICTURES if before[picture] != after[picture]}
            assert {"shown_element"} <= changed, name
            assert changed | still >= set(PICTURES), name
            assert all(shown[picture].value == after[picture] for picture in PICTURES)

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["tv", "tgv", "tnv"])
    def test_regularised(self, panel, method):
        panel.trait_setq(iterations=10)
        panel.method = method
        assert panel.message == ""
        assert "from the picture before (iterations: 10)" in panel.shown
        before = panel.shown_element
        panel.weight = 10.0
        assert panel.shown_element != before

    @pytest.mark.slow
    def test_a_slice_has_the_noise_of_the_series(self, recwarn):
        """One slice of 48 px does not tell how noisy it is:
        looks at it are weighted as the whole volume is."""
        haadf, eds = pair()
        haadf.change_dtype("float32")
        haadf.data = np.random.default_rng(0).poisson(40 * haadf.data).astype(np.float32)
        for method, given in (
            ("tv", {}),
            ("tv", {"data_term": "least_squares", "haadf_term": "least_squares"}),
        ):
            whole = eds.reconstruct_hebt(
                haadf, ratios=RATIOS, regulariser="tv", iterations=1, dimensions=2, **given, **QUIET
            )
            panel = ReconstructionPanel(
                eds,
                haadf,
                ratios=RATIOS,
                method=method,
                iterations=1,
                dimensions=2,
                threaded=False,
                **given,
            )
            looked = panel._last[1].history[-1]
            assert looked["haadf_gain"] == whole.history[-1]["haadf_gain"]
            for name, term in whole.history[-1]["data_terms"].items():
                np.testing.assert_array_equal(looked["data_terms"][name]["weight"], term["weight"])
        alone = (
            ReconstructionPanel(haadf, method="tv", iterations=1, threaded=False)
            ._last[1]
            .history[-1]
        )
        assert (
            alone["haadf_gain"]
            == haadf.reconstruct_tv(iterations=1, **QUIET).history[-1]["haadf_gain"]
        )
        assert (
            len(
                [
                    w
                    for w in recwarn
                    if "cannot be measured" in str(w.message) and " 1 pixels" in str(w.message)
                ]
            )
            == 0
        )

    @pytest.mark.slow
    def test_slice_is_that_of_the_volume(self, series, panel):
        haadf, eds = series
        for y, alpha, iterations in [(2, 0.7, 6), (2, 0.7, 9), (2, 0.7, 4), (1, 0.3, 4)]:
            panel.trait_set(y=y, alpha=alpha, iterations=iterations)
            expected = eds.reconstruct_hebt(haadf, alpha, iterations, ratios=RATIOS, **QUIET).data[
                :, :, y
            ]
            np.testing.assert_allclose(
                panel._last[1].data[:, :, 0], expected, rtol=0, atol=1e-5 * expected.max()
            )
        assert panel.shown == "HEBT, alpha 0.30, 4 iterations"
        assert len(panel._parts.curves["haadf"]) == 4

    @pytest.mark.slow
    def test_first_look_is_called_one(self, series, monkeypatch):
        haadf, eds = series
        panel = ReconstructionPanel(eds, haadf, ratios=RATIOS, iterations=6, threaded=False)
        monkeypatch.setattr(reconstruction, "_FIRST_LOOK", 0.0)
        told = []
        panel.observe(lambda event: told.append(event.new), "shown")
        panel.alpha = 0.5
        assert told == [
            "First look: HEBT, alpha 0.50, from the picture before (iterations: 1)",
            "HEBT, alpha 0.50, 6 iterations",
        ]
        # A slice that was not looked at yet has no picture before: the first look is on the way
        # from zero.
        told.clear()
        panel.y = 0
        assert told == [
            "First look: HEBT, alpha 0.50, 1 of 6 iterations",
            "HEBT, alpha 0.50, 6 iterations",
        ]
        expected = eds.reconstruct_hebt(haadf, 0.5, 6, ratios=RATIOS, **QUIET).data[:, :, 0]
        np.testing.assert_allclose(
            panel._last[1].data[:, :, 0], expected, rtol=0, atol=1e-5 * expected.max()
        )


class TestWholeVolume:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["sirt", "hebt", "hebt_squared"])
    def test_in_parts_is_the_public_method(self, series, small_parts, method):
        haadf, eds = series
        panel = ReconstructionPanel(
            eds, haadf, ratios=RATIOS, iterations=7, alpha=0.6, method=method, threaded=False
        )
        widgets(panel)["apply_button"].click()
        assert panel._run_of[1].sizes == [1] * 7
        weighting = "squared" if method == "hebt_squared" else "sirt"
        expected = (
            eds.reconstruct_sirt(7, **QUIET)
            if method == "sirt"
            else eds.reconstruct_hebt(haadf, 0.6, 7, ratios=RATIOS, weighting=weighting, **QUIET)
        )
        same(panel.result, expected)
        assert panel.partial is None
        assert (panel.progress, panel.running) == (1.0, False)
        told, says = panel.result.history[-1], expected.history[-1]
        assert told.pop("parts") == [1] * 7
        assert told == says

    @pytest.mark.slow
    def test_regularised_is_the_public_method(self, series):
        haadf, eds = series
        panel = ReconstructionPanel(
            eds,
            haadf,
            ratios=RATIOS,
            iterations=20,
            method="tv",
            weight=2.0,
            dimensions=2,
            threaded=False,
        )
        panel.apply()
        options = {
            "ratios": RATIOS,
            "regulariser": "tv",
            "weight": 2.0,
            "dimensions": 2,
            "iterations": 20,
        }
        expected = eds.reconstruct_hebt(haadf, **options, **QUIET)
        same(panel.result, expected)
        assert panel.result.history == expected.history

    @pytest.mark.slow
    def test_stop_and_resume(self, series, panel, small_parts):
        haadf, eds = series
        shown = widgets(panel)
        stop_after(panel, 2)
        shown["apply_button"].click()
        assert panel.result is None
        assert (
            panel.message
            == "Stopped after 2 of 6 iterations of HEBT, alpha 0.70. Resume goes on with these."
        )
        same(panel.partial, eds.reconstruct_hebt(haadf, 0.7, 2, ratios=RATIOS, **QUIET))
        last = panel.partial.history[-1]
        assert (last["iterations"], last["interrupted"], last["parts"]) == (2, True, [1, 1])
        # What is looked at meanwhile does not change what is resumed.
        panel.alpha = 0.2
        assert not shown["resume_button"].disabled
        shown["resume_button"].click()
        expected = eds.reconstruct_hebt(haadf, 0.7, 6, ratios=RATIOS, **QUIET)
        same(panel.result, expected)
        assert (panel.result.history[-1]["alpha"], panel.result.history[-1]["interrupted"]) == (
            0.7,
            False,
        )
        assert shown["resume_button"].disabled
        assert panel.partial is None

    @pytest.mark.slow
    @pytest.mark.parametrize(("method", "alone"), [("tv", False), ("tgv", True), ("tnv", True)])
    def test_regularised_is_stopped(self, series, method, alone):
        haadf, eds = series
        data, history = eds.data.copy(), eds.history
        partner = {} if alone else {"haadf": haadf, "ratios": RATIOS}
        panel = ReconstructionPanel(
            eds, **partner, method=method, iterations=20, dimensions=2, threaded=False
        )
        shown, moves, told = widgets(panel), [], []
        panel.observe(lambda event: moves.append(event.new), "progress")
        panel.observe(lambda event: told.append(event.new), "message")
        panel.observe(lambda event: len(moves) == 5 and panel.cancel(), "progress")
        with pytest.warns(UserWarning, match="interrupted: this is iteration 6 of 20"):
            shown["apply_button"].click()
        assert moves == [i / 20 for i in range(1, 6)]
        assert f"{panel._run_of[0].words}: iteration 5 of at most 20" in told
        assert (panel.result, panel.running) == (None, False)
        options = {"dimensions": 2, "iterations": 6} | QUIET
        if alone:
            expected = getattr(eds, f"reconstruct_{method}")(**options)
        else:
            expected = eds.reconstruct_hebt(haadf, regulariser=method, ratios=RATIOS, **options)
        np.testing.assert_array_equal(panel.partial.data, expected.data)
        assert panel.partial.channels == expected.channels
        last = panel.partial.history[-1]
        assert (last["iterations"], last["interrupted"], last["stopped_by"]) == (
            6,
            True,
            "interrupt",
        )
        assert panel.message.startswith("Stopped after 6 of at most 20 iterations")
        assert "cannot be resumed" in panel.message
        assert shown["resume_button"].disabled
        panel.resume()
        assert panel.message.startswith("There is nothing to resume")
        np.testing.assert_array_equal(eds.data, data)
        assert eds.history == history
        # A run that is not stopped takes the place of what was kept.
        shown["apply_button"].click()
        assert (panel.result.history[-1]["iterations"], panel.partial, panel.progress) == (
            20,
            None,
            1.0,
        )

    @pytest.mark.slow
    def test_stop_after_the_last_iteration_keeps_the_volume(self, series):
        eds = series[1]
        panel = ReconstructionPanel(eds, method="tv", iterations=10, dimensions=2, threaded=False)
        panel.observe(lambda event: event.new == 1.0 and panel.cancel(), "progress")
        panel.apply()
        assert panel.result is None
        same(panel.partial, eds.reconstruct_tv(iterations=10, dimensions=2, **QUIET))
        assert not panel.partial.history[-1]["interrupted"]
        assert panel.message == (
            "TV, weight 1 had ended, after 10 iterations, before Stop: `partial` holds the result."
        )

    @pytest.mark.filterwarnings("ignore:interrupted:UserWarning")
    def test_regularised_is_stopped_in_threads(self, series):
        panel = ReconstructionPanel(series[1], method="tv", iterations=300, dimensions=2)
        assert panel.wait(30)
        moved, cancelled = threading.Event(), threading.Event()

        def hold(event):
            if event.new > 0:
                moved.set()
                assert cancelled.wait(30)

        panel.observe(hold, "progress")
        panel.apply()
        assert moved.wait(30)
        panel.cancel()
        cancelled.set()
        assert panel.wait(30)
        assert not panel.running
        last = panel.partial.history[-1]
        assert last["interrupted"]
        assert 0 < last["iterations"] < 300

    @pytest.mark.slow
    def test_stopped_in_the_last_part(self, series, panel, small_parts):
        haadf, eds = series
        stop_after(panel, 6)
        panel.apply()
        assert panel.result is None
        panel.resume()
        same(panel.result, eds.reconstruct_hebt(haadf, 0.7, 6, ratios=RATIOS, **QUIET))

    def test_closing_leaves_all_as_it_was(self, series, panel, small_parts):
        eds = series[1]
        data, history = eds.data.copy(), eds.history
        panel.observe(lambda event: panel.close(), "partial")
        panel.apply()
        assert panel.result is None
        assert not panel.running
        np.testing.assert_array_equal(eds.data, data)
        assert eds.history == history

    def test_outdated_panel_neither_begins_nor_goes_on(self, panel, small_parts):
        shown = widgets(panel)
        stop_after(panel, 2)
        shown["apply_button"].click()
        partial, panel.outdated = panel.partial, "The maps were replaced: open it again."
        assert shown["apply_button"].disabled
        assert shown["resume_button"].disabled
        for press in (panel.apply, panel.resume):
            panel.message = ""
            press()
            assert panel.message == panel.outdated
            assert panel.result is None
            assert panel.partial is partial

    @pytest.mark.slow
    def test_nothing_to_resume(self, panel):
        panel.resume()
        assert panel.message.startswith("There is nothing to resume")

    def test_error_is_said(self, panel, monkeypatch):
        def broken(*args, **kwds):
            raise ValueError("no memory for that")

        monkeypatch.setattr(type(panel._series), "reconstruct_hebt", broken)
        panel.apply()
        assert panel.message == "No memory for that"
        assert (panel.result, panel.running) == (None, False)

    @pytest.mark.slow
    def test_in_threads(self, series, small_parts):
        haadf, eds = series
        panel = ReconstructionPanel(eds, haadf, ratios=RATIOS, iterations=6)
        assert panel.wait(30)
        assert panel.shown == "HEBT, alpha 0.70, 6 iterations"
        main, seen = threading.get_ident(), []
        panel.observe(lambda event: seen.append(threading.get_ident()), "partial")
        panel.apply()
        assert panel.wait(30)
        assert not panel.running
        assert len(seen) > 1
        assert main not in seen
        same(panel.result, eds.reconstruct_hebt(haadf, 0.7, 6, ratios=RATIOS, **QUIET))


class TestOpening:
    @NOISY
    def test_hebt(self, series):
        haadf, eds = series
        shown = eds.reconstruct_hebt(haadf, 0.4, 3, interactive=True, display=False)["ipywidgets"][
            "wdict"
        ]
        assert (shown["alpha"].value, shown["iterations"].value, shown["method"].value) == (
            0.4,
            3,
            "hebt",
        )
        assert [value for _, value in shown["method"].options] == list(reconstruction.METHODS)
        # The ratios are fitted for the panel alone.
        assert eds.response_ratios is None

    @pytest.mark.slow
    @NOISY
    def test_fits_the_ratios_as_the_method_does(self, series):
        haadf, eds = series
        panel = ReconstructionPanel(eds, haadf, iterations=3, threaded=False)
        panel.apply()
        expected = eds.isig[:, :].reconstruct_hebt(haadf, 0.7, 3, **QUIET)
        same(panel.result, expected)
        steps = [step["step"] for step in panel.result.history]
        assert steps == [step["step"] for step in expected.history]

    @pytest.mark.slow
    def test_nuclear_coupling(self, series):
        _, eds = series
        panel = ReconstructionPanel(
            eds, method="tgv", coupled="nuclear", iterations=3, threaded=False
        )
        panel.apply()
        expected = eds.reconstruct_tgv(coupled="nuclear", iterations=3, **QUIET)
        np.testing.assert_array_equal(panel.result.data, expected.data)

    @NOISY
    @pytest.mark.slow
    @pytest.mark.parametrize("key", ["sirt", "hebt_squared", "tv", "tnv_edges", "fused", "em"])
    def test_the_call_in_python_makes_the_same_volume(self, series, key):
        haadf, eds = series
        mask = np.ones((48, 4, 48), bool)
        panel = ReconstructionPanel(
            eds, haadf, ratios=RATIOS, mask=mask, iterations=4, threaded=False
        )
        panel.trait_set(method=key, alpha=0.8, weight=1.5)
        panel.apply()
        assert widgets(panel)["python"].value == panel.python
        names = {"haadf": haadf, "eds": eds, "mask": mask}
        exec(panel.python, names)
        np.testing.assert_array_equal(names["volume"].data, panel.result.data)

    def test_maps_alone_and_images_alone(self, series):
        haadf, eds = series
        for one, methods, names in [
            (eds, ["fbp", "sirt", "em", "cgls", "tv", "tgv", "tnv"], ("Au", "Ag")),
            (haadf, ["fbp", "sirt", "em", "cgls", "tv", "tgv"], ("HAADF",)),
        ]:
            shown = one.reconstruct_sirt(4, interactive=True, display=False)["ipywidgets"]["wdict"]
            assert [value for _, value in shown["method"].options] == methods
            assert shown["element"].options == names
            panel = ReconstructionPanel(one, iterations=4, threaded=False)
            panel.apply()
            same(panel.result, one.reconstruct_sirt(4, **QUIET))
            panel.method = "tv"
            assert panel.message.startswith("The whole volume is done")
            assert panel.shown.startswith("TV, weight 1")

    @pytest.mark.slow
    def test_one_slice_and_one_element(self, series):
        haadf, eds = series
        eds = mt.TiltSeriesEDS.from_maps(
            {"Au": eds.inav[0].data[:, 1:2]}, tilts=haadf.tilts, pixel_size=2.0
        )
        haadf = mt.TiltSeriesHAADF.from_images(
            haadf.data[:, 1:2], tilts=haadf.tilts, pixel_size=2.0
        )
        panel = ReconstructionPanel(
            eds, haadf, ratios={"Au": 9.0}, rest=True, iterations=3, threaded=False
        )
        shown = widgets(panel)
        assert shown["y"].disabled
        assert shown["element"].options == ("Au",)
        panel.method = "sirt"
        panel.method = "hebt"
        assert panel.message == ""
        panel.apply()
        same(
            panel.result,
            eds.reconstruct_hebt(haadf, 0.7, 3, ratios={"Au": 9.0}, rest=True, **QUIET),
        )
        assert panel.result.channels == ("Au", "rest")

    @pytest.mark.slow
    def test_finer_images_and_a_mask(self, series):
        haadf, eds = series
        coarse = eds.rebin(scale=(1, 1, 2, 2))
        mask = np.zeros((48, 4, 48), bool)
        mask[8:40, :, 8:40] = True
        panel = ReconstructionPanel(
            coarse, haadf, ratios=RATIOS, mask=mask, iterations=4, threaded=False
        )
        assert panel.last_slice == 1
        assert panel.message == ""
        expected = coarse.reconstruct_hebt(haadf, 0.7, 4, ratios=RATIOS, mask=mask, **QUIET)
        np.testing.assert_allclose(
            panel._last[1].data, expected.data[:, :, :2], rtol=0, atol=1e-5 * expected.data.max()
        )
        panel.apply()
        same(panel.result, expected)
        assert "sirt" not in panel.methods
        both = ReconstructionPanel(coarse, haadf, ratios=RATIOS, iterations=3, threaded=False)
        for method in ("sirt", "hebt"):
            both.method = method
            assert both.message == ""

    @pytest.mark.parametrize(
        "given", [{"stopping": "discrepancy"}, {"tolerance": 1e-3}, {"noise": 1.0}, {"initial": 0}]
    )
    def test_what_the_panel_cannot_do(self, series, given):
        with pytest.raises(
            ValueError, match=f"{next(iter(given))}= cannot be passed with interactive=True"
        ):
            series[1].reconstruct_sirt(interactive=True, display=False, **given)

    @pytest.mark.parametrize("method", ["sirt", "em", "tv"])
    def test_arrays_that_are_passed_on(self, series, method, monkeypatch):
        _, eds = series
        mask = np.ones((48, 4, 48), bool)
        mask[:4] = False
        background = {} if method == "sirt" else {"background": np.full((len(eds.tilts), 2), 0.5)}
        seen = []
        monkeypatch.setattr(ReconstructionPanel, "show", lambda panel: seen.append(panel))
        call = getattr(eds, f"reconstruct_{method}")
        shown = call(
            iterations=3, mask=mask, **background, **QUIET, interactive=True, display=False
        )
        assert shown["ipywidgets"]["wdict"]["method"].value == method
        panel = seen[0]
        np.testing.assert_array_equal(panel._keywords["mask"], mask)
        panel.apply()
        assert panel.wait(60)
        same(panel.result, call(iterations=3, mask=mask, **background, **QUIET))

    def test_lazy(self):
        haadf, eds = pair(lazy=True)
        with pytest.raises(ValueError, match="in memory"):
            eds.reconstruct_hebt(haadf, interactive=True, display=False)


def test_parts_do_not_do_more_than_is_asked():
    asked = []

    def reconstruct(iterations, initial):
        asked.append(iterations)
        return SimpleNamespace(residuals={"eds": np.ones((iterations, 2))})

    parts = reconstruction_parts.Parts()
    assert [p.done for p in parts.go_on(reconstruct, 7, lambda: 3)] == [3, 6, 7]
    assert asked == [3, 3, 1]
    assert list(parts.go_on(reconstruct, 7, lambda: 3)) == []
