# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that look like HTML reach no browser as such:
in every panel, and on the page of a report."""

import html

import numpy as np
import pytest

import hyperspy_multitomo as mt

pytest.importorskip("link_traits", reason="the packages for panels are in the extra gui")

import ipywidgets as w

from hyperspy_multitomo.inspection.report import Page
from hyperspy_multitomo.widgets.composition_panel import CompositionPanel
from hyperspy_multitomo.widgets.evidence_panel import EvidencePanel
from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel
from hyperspy_multitomo.widgets.response_ratios_panel import ResponseRatiosPanel
from hyperspy_multitomo.widgets.tilt_series_panel import TiltSeriesPanel
from hyperspy_multitomo.widgets.volume_panel import VolumePanel
from hyperspy_multitomo.widgets.workbench_panel import WorkbenchPanel

NAME = "<img src=x onerror=alert(1)> & co"
TILTS = np.arange(-60.0, 61.0, 30.0)
RATIOS = {NAME: 2.0, "Ag": 1.0}


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    maps = {name: rng.poisson(20.0, (len(TILTS), 12, 16)).astype(np.float32) for name in RATIOS}
    haadf = sum(RATIOS[name] * images for name, images in maps.items())
    known = dict(tilts=TILTS, pixel_size=1.0)
    return mt.TiltSeriesHAADF.from_images(haadf, **known), mt.TiltSeriesEDS.from_maps(maps, **known)


def volume_of(haadf=False):
    block = np.zeros((8, 8, 8), np.float32)
    block[2:6, 2:6, 2:6] = 5.0
    return mt.TomographicVolume.from_arrays(
        {NAME: block, "Ag": 0.5 * block}, 1.0, quantity="counts / nm"
    )


def browse(haadf, eds):
    panel = TiltSeriesPanel(eds, threaded=False)
    shown = panel.gui(display=False)["ipywidgets"]["widget"]
    panel.bad = True
    return panel, shown


def ratios(haadf, eds):
    panel = ResponseRatiosPanel(eds.deepcopy(), haadf, threaded=False)
    shown = panel.gui(display=False)["ipywidgets"]["widget"]
    panel.fit()
    panel.apply()
    return panel, shown


def reconstruction(haadf, eds):
    panel = ReconstructionPanel(eds, haadf, ratios=RATIOS, iterations=2, threaded=False)
    shown = panel.gui(display=False)["ipywidgets"]["widget"]
    panel.keep()
    return panel, shown


def evidence(haadf, eds):
    made = eds.reconstruct_sirt(2, depth=12.0, show_progressbar=False)
    panel = EvidencePanel(eds, made, haadf, outline=np.ones((12, 12, 16)), threaded=False)
    shown = panel.gui(display=False)["ipywidgets"]["widget"]
    panel.trait_set(x=8.0, y=6.0, z=0.5, diameter=3.0)
    panel.ask()
    assert panel.result is not None, panel.message
    return panel, shown


def composition(haadf, eds):
    panel = CompositionPanel(volume_of(), "CL", {NAME: 1.5, "Ag": 1.0}, threaded=False)
    return panel, panel.gui(display=False)["ipywidgets"]["widget"]


def volume(haadf, eds):
    panel = VolumePanel(volume_of(), threaded=False)
    return panel, panel.gui(display=False)["ipywidgets"]["widget"]


def workbench(haadf, eds):
    panel = WorkbenchPanel(haadf=haadf, eds=eds, threaded=False)
    shown = panel.gui(display=False)["ipywidgets"]["widget"]
    panel.message = f"no ratio of {NAME}"
    return panel, shown


def texts(widget):
    """Yield what the browser is given as HTML, of a widget and all that it holds."""
    if isinstance(widget, w.HTML | w.HTMLMath):
        yield widget.value
    assert not getattr(widget, "description_allow_html", False)
    for child in getattr(widget, "children", ()):
        yield from texts(child)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:hyperspy_multitomo.*")
@pytest.mark.parametrize(
    "make", [browse, ratios, reconstruction, evidence, composition, volume, workbench]
)
def test_names_are_escaped(series, make):
    panel, shown = make(*series)
    panel.message = NAME
    given = " ".join(texts(shown))
    assert "<img" not in given
    # In the message, and but for the workbench, which has panels for them, among the names.
    assert given.count(html.escape(NAME, quote=False)) >= (1 if make is workbench else 2)


def test_names_are_escaped_on_the_page_of_a_report():
    page = Page(NAME, NAME)
    for add in (page.heading, page.text, page.warning):
        add(NAME)
    page.table([[NAME, 1]], header=[NAME, "x"])
    page.details(NAME, NAME)
    assert "<img" not in page.html()
    assert page.html().count(html.escape(NAME)) == 10
