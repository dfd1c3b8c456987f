# SPDX-License-Identifier: GPL-3.0-or-later
"""Each panel in a real browser: Voila serves it, Chromium opens it,
controls are moved by the keyboard, results are compared.

Screenshots go to the folder in ``MULTITOMO_SCREENSHOTS``, if that is set. The scripts in
``tests/panels`` are the notebooks.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCRIPTS = [
    path
    for path in sorted((Path(__file__).parent / "panels").glob("*.py"))
    if path.stem != "conftest"
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Voila, serving a notebook of each script; yields its address."""
    pytest.importorskip("voila", reason="Voila is not installed")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("panels")
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for script in SCRIPTS:
        cell = nbformat.v4.new_code_cell(script.read_text())
        nbformat.write(
            nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / f"{script.stem}.ipynb"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "voila",
        str(folder),
        "--no-browser",
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
    ]
    with (folder / "voila.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(address, timeout=2)
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def browser():
    sync_playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed"
    ).sync_playwright
    with sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


class Opened:
    """A panel in the browser."""

    def __init__(self, page, name):
        self.page, self.name = page, name

    def picture(self, number=0) -> str:
        """Return the source of an image."""
        return self.page.locator("img.widget-image").nth(number).get_attribute("src")

    def move(self, label: str, keys: str = "ArrowRight", times: int = 1) -> None:
        """Move the slider of a label by the keyboard."""
        handle = self.row(label).locator(".noUi-handle").first
        handle.focus()
        for _ in range(times):
            handle.press(keys)

    def row(self, label: str):
        """Return the slider of a label."""
        return (
            self.page.locator(".widget-slider")
            .filter(has=self.page.get_by_text(label, exact=True))
            .first
        )

    def press(self, label: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=label, exact=True).first.click()

    def until(self, happened, seconds=180):
        """Wait until something holds, and return it."""
        for _ in range(int(seconds / 0.2)):
            value = happened()
            if value:
                return value
            self.page.wait_for_timeout(200)
        self.shoot("failed")
        raise AssertionError(f"nothing happened in {seconds} s")

    def changes(self, act, number=0) -> None:
        """Do something, and wait until an image is another one."""
        before = self.picture(number)
        act()
        self.until(lambda: self.picture(number) != before)

    def result(self) -> str:
        """Return the text after ``RESULT`` that a script shows when something was applied."""
        pattern = re.compile(r"RESULT (.*)")
        text = self.until(lambda: next(iter(pattern.findall(self.page.inner_text("body"))), None))
        return text.strip()

    def shoot(self, what: str) -> None:
        """Keep a screenshot where that is asked for."""
        folder = os.environ.get("MULTITOMO_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{folder}/{self.name}_{what}.png", full_page=True)


@pytest.fixture
def opened(server, browser, request):
    """Open the panel of a script by its name; nothing may be asked of another server."""
    name = request.param
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server}/voila/render/{name}.ipynb", timeout=120_000)
    page.wait_for_selector(".jupyter-widgets", timeout=120_000)
    panel = Opened(page, name)
    yield panel
    panel.shoot("end")
    # Voila's own page asks for icons that nothing here uses.
    ours = (server, server.replace("http", "ws"), "data:", "blob:", "about:")
    elsewhere = [url for url in asked if not url.startswith(ours) and "fontawesome" not in url]
    page.close()
    assert not elsewhere


@pytest.mark.parametrize("opened", ["alignment"], indirect=True)
def test_alignment(opened):
    opened.changes(lambda: opened.move("Axis position (px)", times=10), number=1)
    opened.changes(lambda: opened.move("Slice y (px)"), number=0)
    opened.shoot("moved")
    opened.press("Align")
    opened.until(lambda: "Apply attaches it" in opened.page.inner_text("body"), 120)
    opened.press("Apply")
    axis, across = map(float, opened.result().split())
    opened.shoot("applied")

    import numpy as np

    import hyperspy_multitomo as mt

    series = mt.simulation.misaligned(
        "particle", size=48, tilts=np.arange(-60, 61, 10), shift=3.0, seed=1
    )
    haadf = mt.TiltSeriesHAADF.from_images(
        series.haadf.swapaxes(1, 2), tilts=series.tilts, pixel_size=0.5
    )
    expected = haadf.align()
    assert axis == pytest.approx(expected.axis_offset, abs=1e-3)
    assert across == pytest.approx(expected.across[3], abs=1e-3)


@pytest.mark.parametrize("opened", ["tilt_series"], indirect=True)
def test_tilt_series(opened):
    opened.until(lambda: opened.page.locator("img").count() >= 4)
    opened.changes(lambda: opened.move("Tilt (°)"))
    opened.page.get_by_label("This tilt is bad").check()
    opened.until(
        lambda: (
            "Marked: " in opened.page.inner_text("body")
            and "Marked: none" not in opened.page.inner_text("body")
        )
    )
    opened.changes(lambda: opened.move("Window centre (keV)", times=10), number=3)
    opened.shoot("moved")
    opened.press("Drop marked tilts")
    assert opened.result() == "-60 -40 -20 0 40 60"


@pytest.mark.parametrize("opened", ["watch"], indirect=True)
def test_watch(opened):
    opened.until(lambda: "5 tilts after" in opened.page.inner_text("body"))
    opened.changes(lambda: opened.until(lambda: "7 tilts after" in opened.page.inner_text("body")))
    opened.shoot("seven")
    opened.press("Stop")
    opened.until(lambda: "Ended: stopped." in opened.page.inner_text("body"))


@pytest.mark.parametrize("opened", ["volume"], indirect=True)
def test_volume(opened):
    opened.until(lambda: opened.page.locator("img").count() >= 4)
    opened.changes(lambda: opened.move("x (nm)", times=9), number=1)
    opened.shoot("moved")
    opened.until(lambda: opened.result().endswith("Au 0, Ag 2"))


@pytest.mark.parametrize("opened", ["response_ratios"], indirect=True)
def test_response_ratios(opened):
    opened.changes(lambda: opened.move("Tilt shown (°)"))
    opened.press("Fit")
    opened.until(lambda: "Fitted on a copy" in opened.page.inner_text("body"))
    assert "R²" in opened.page.inner_text("body")
    opened.shoot("fitted")
    opened.press("Apply")
    found = [float(value) for value in opened.result().split()]

    import numpy as np

    import hyperspy_multitomo as mt
    from hyperspy_multitomo.simulation import simulate, yuan

    phantom = yuan(size=48, slices=24)
    s = simulate(phantom, tilts=np.arange(-60, 61, 20.0), dose=0.2, blur=0, seed=1)
    known = dict(tilts=s.tilts, pixel_size=phantom.pixel_size)
    eds = mt.TiltSeriesEDS.from_maps(
        dict(zip(s.elements, s.maps.transpose(0, 1, 3, 2), strict=True)), **known
    )
    haadf = mt.TiltSeriesHAADF.from_images(s.haadf.transpose(0, 2, 1), **known)
    assert found == pytest.approx(eds.fit_response_ratios(haadf).values, rel=1e-4)


@pytest.mark.parametrize("opened", ["evidence"], indirect=True)
def test_evidence(opened):
    opened.until(lambda: opened.page.locator("img.widget-image").count() >= 3)
    opened.changes(lambda: opened.move("x (nm)", "ArrowLeft", times=2))
    opened.shoot("opened")
    opened.press("Look for features")
    opened.until(lambda: "The sliders are at Au 1" in opened.page.inner_text("body"))
    opened.shoot("features")
    found = opened.result()
    opened.press("Ask the counts")
    opened.until(lambda: "Au in the ball: z = " in opened.page.inner_text("body"))
    assert "the largest of all places in the outline" in opened.page.inner_text("body")
    opened.shoot("asked")
    again = opened.until(lambda: opened.result() != found and opened.result())
    opened.press("What arrives")
    opened.until(lambda: "arrives in Au." in opened.page.inner_text("body"))
    opened.page.get_by_role("tab", name="Figure").click()
    opened.shoot("arrived")

    import contextlib
    import runpy

    # The script makes the series and the volume that are shown.
    path = Path(__file__).parent / "panels" / "evidence.py"
    with contextlib.redirect_stdout(None):
        made = runpy.run_path(str(path), {"display": lambda *shown: None})
    features = made["eds"].evidence(made["volume"], "features", "Au", size=7.5)
    assert float(found) == pytest.approx(features.z[0], abs=2e-3)
    ball = made["mt"].Ellipsoid(features[0].centre, 3.75)
    expected = made["eds"].evidence(made["volume"], ball, "Au", found_in=made["volume"])
    assert float(again) == pytest.approx(expected.z[0], abs=2e-3)


@pytest.mark.parametrize("opened", ["composition"], indirect=True)
def test_composition(opened):
    opened.until(lambda: opened.page.locator("img").count() >= 4)
    opened.until(lambda: "The particle has" in opened.page.inner_text("body"))
    assert "mean (weight %)" in opened.page.inner_text("body")
    opened.shoot("opened")
    opened.press("Apply")
    mean, *unit = opened.result().split()

    import numpy as np

    import hyperspy_multitomo as mt
    from hyperspy_multitomo.simulation import yuan

    phantom = yuan(size=40, slices=16)
    truth = phantom.counts_per_nm.transpose(0, 1, 3, 2)
    noisy = (truth + np.random.default_rng(0).normal(0, truth.max() / 50, truth.shape)).astype(
        "float32"
    )
    volume = mt.TomographicVolume.from_arrays(
        dict(zip(phantom.elements, noisy, strict=True)), pixel_size=phantom.pixel_size
    )
    expected = volume.quantify("CL", {"Au": 1.5, "Ag": 1.0})
    assert " ".join(unit) == "weight percent"
    assert float(mean) == pytest.approx(float(expected["Au"].data.mean()), abs=1e-3)


@pytest.mark.parametrize("opened", ["reconstruction"], indirect=True)
def test_reconstruction(opened):
    opened.until(
        lambda: ", 100 iterations" in opened.page.inner_text("body")
    )  # a first look has some "of 100"
    opened.press("Keep for comparison")
    opened.changes(lambda: opened.move("Weight of the HAADF, alpha", times=5), number=2)
    opened.until(lambda: "First look" not in opened.page.inner_text("body"))
    opened.shoot("moved")
    opened.press("Reconstruct whole volume")
    alpha, iterations, total = map(float, opened.result().split())
    assert alpha > 0.7
    assert iterations == 100

    import numpy as np

    import hyperspy_multitomo as mt
    from hyperspy_multitomo.simulation import simulate, yuan

    phantom = yuan(size=48, slices=16)
    s = simulate(phantom, tilts=np.arange(-70, 71, 10.0), dose=0.2, blur=0, seed=7)
    known = dict(tilts=s.tilts, pixel_size=phantom.pixel_size)
    haadf = mt.TiltSeriesHAADF.from_images(s.haadf.transpose(0, 2, 1), **known)
    eds = mt.TiltSeriesEDS.from_maps(
        dict(zip(s.elements, s.maps.transpose(0, 1, 3, 2), strict=True)), **known
    )
    eds.fit_response_ratios(haadf)
    expected = eds.reconstruct_hebt(haadf, alpha, 100, show_progressbar=False)
    assert total == pytest.approx(float(expected.data.sum()), rel=1e-3)


@pytest.mark.parametrize("opened", ["workbench"], indirect=True)
def test_workbench(opened):
    steps = (
        "Tilt series",
        "Alignment",
        "Response ratios",
        "Reconstruction",
        "Evidence",
        "Composition",
        "Volume",
    )
    opened.page.get_by_role("tab", name="Composition").click()
    opened.press("Open composition")
    opened.until(lambda: "There is no volume yet" in opened.page.inner_text("body"))
    for step in steps[:4]:
        opened.page.get_by_role("tab", name=step).first.click()
        opened.press(f"Open {step.lower()}")
        opened.until(lambda: opened.page.locator("img:visible").count() >= 1)
        if step == "Alignment":
            assert opened.page.get_by_role("button", name="Apply", exact=True).first.is_disabled()
            opened.press("Align")
            opened.until(lambda: "Apply attaches it" in opened.page.inner_text("body"))
            opened.press("Apply")
            opened.until(
                lambda: (
                    "Attached to the HAADF series and the maps of Au, Ag."
                    in opened.page.inner_text("body")
                )
            )
    opened.until(lambda: ", 100 iterations" in opened.page.inner_text("body"))
    opened.press("Reconstruct whole volume")
    assert "Au" in opened.result()
    opened.page.get_by_role("tab", name="Evidence").first.click()
    opened.press("Open evidence")
    opened.until(lambda: opened.page.locator("img:visible").count() >= 3)
    opened.press("Ask the counts")
    opened.until(lambda: "limit z=3" in opened.page.inner_text("body"))
    opened.shoot("evidence")
    for step in steps[5:]:
        opened.page.get_by_role("tab", name=step).first.click()
        opened.press(f"Open {step.lower()}")
        opened.until(lambda: opened.page.locator("img:visible").count() >= 1)
    opened.shoot("volume")


# Controls whose effect shows at the next press of a button only.
LATER = {
    "Block size (px, 0: automatic)",
    "Unexplained HAADF as a channel of its own",
    "Method",
    "Contrast to add (× typical)",
}


@pytest.mark.parametrize(
    "opened",
    [
        "tilt_series",
        "alignment",
        "response_ratios",
        "reconstruction",
        "evidence",
        "composition",
        "volume",
    ],
    indirect=True,
)
def test_every_slider_and_list_changes_a_picture(opened):
    page = opened.page
    opened.until(lambda: page.locator("img.widget-image").count() >= 2)
    opened.until(lambda: "First look" not in page.inner_text("body"))
    page.wait_for_timeout(1500)

    def pictures():
        return page.locator("img.widget-image").evaluate_all(
            "images => images.map(image => image.src).join()"
        )

    moved = []
    for place in range(page.locator(".widget-slider:visible").count()):
        slider = page.locator(".widget-slider:visible").nth(place)
        label = slider.locator(".widget-label").first.inner_text()
        handle = slider.locator(".noUi-handle").first
        if (
            label in LATER
            or handle.get_attribute("aria-disabled") == "true"
            or slider.locator("[disabled]").count()
        ):
            continue
        before = pictures()
        handle.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
            handle.press(key)
            page.wait_for_timeout(150)
        assert opened.until(lambda before=before: pictures() != before, 30), label
        moved.append(label)
    for place in range(page.locator(".widget-dropdown:visible").count()):
        row = page.locator(".widget-dropdown:visible").nth(place)
        label = row.locator(".widget-label").first.inner_text()
        if (label in LATER and opened.name != "reconstruction") or row.locator(
            "option"
        ).count() < 2:
            continue
        before = pictures()
        shown = row.locator("select").input_value()
        others = [name for name in row.locator("option").all_inner_texts() if name != shown]
        row.locator("select").select_option(label=others[0])
        assert opened.until(lambda before=before: pictures() != before, 30), label
        moved.append(label)
    assert len(moved) >= 2, moved
    assert len(set(moved)) == len(moved)
