# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on adding a method: its code, run as the files that it names, is a whole method."""

import inspect
import re
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import dask.array as da
import numpy as np
import pytest
import test_properties
import test_rerun
from series_pairs import pair

import hyperspy_multitomo as mt
from hyperspy_multitomo.reconstruction.recipes import RECIPES
from hyperspy_multitomo.signals.tilt_series import TiltSeries
from hyperspy_multitomo.tomography import TiltGeometry, projector, run

QUIET = {"show_progressbar": False}
NAME = "landweber"
METHOD = f"reconstruct_{NAME}"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "adding_a_model.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def run_page(monkeypatch):
    """Run the code of the page in its order and return the names of what is no file's.

    A block that names a file of the package is the module of that name, until the test ends; one
    that names a file of the tests adds to that module.
    """
    script: dict = {"__name__": "page"}
    for block in BLOCKS:
        of_file = re.match(r"# ([\w/]+)\.py\n", block)
        names = script
        if of_file:
            full = of_file[1].replace("/", ".")
            if full.startswith("tests."):
                names = vars(sys.modules[full.removeprefix("tests.")]).copy()
            else:
                module = ModuleType(full)
                monkeypatch.setitem(sys.modules, full, module)
                names = vars(module)
        exec(compile(block, f"{PAGE.name}: {block.splitlines()[0]}", "exec"), names)
        if of_file and of_file[1] == "tests/test_properties":
            script["by_landweber"] = names["by_landweber"]
    return script


@pytest.fixture
def page(monkeypatch):
    # What the page registers is taken back when the test ends.
    monkeypatch.setattr(TiltSeries, METHOD, None, raising=False)
    for table, key in ((RECIPES, NAME), (test_rerun.CALLS, NAME)):
        monkeypatch.setitem(table, key, None)
    return run_page(monkeypatch)


@pytest.fixture(scope="module")
def series():
    haadf, eds = pair()
    return haadf.isig[:, 10:14], eds.isig[:, 10:14]


def test_nothing_stays_registered(page, monkeypatch):
    assert RECIPES[NAME].name == NAME
    monkeypatch.undo()
    assert NAME not in RECIPES
    assert NAME not in test_rerun.CALLS
    assert not hasattr(TiltSeries, METHOD)


def test_its_memory_is_what_the_recipe_says(page):
    """Peaks of a run with many voxels and with many rays, beside the footprint of the plan."""
    for tilts, depth in ((5, None), (61, 16.0)):
        counts = np.random.default_rng(0).poisson(3.0, (tilts, 64, 96))
        eds = mt.TiltSeriesEDS.from_maps(
            {"Au": counts}, tilts=np.linspace(-70, 70, tilts), pixel_size=1.0
        )
        options = {"iterations": 3, "depth": depth, "width": None, **QUIET}
        planned = eds.plan_reconstruction(NAME, **options).memory
        tracemalloc.start()
        eds.reconstruct_landweber(**options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0.9 * planned < peak < 1.1 * planned


def test_files_that_the_page_names_exist():
    root = PAGE.parents[1]
    for path in re.findall(r"`((?:tests|hyperspy_multitomo|changes)/[\w/.]*)`", PAGE.read_text()):
        if path != "tests/test_adding_a_model.py":
            assert (root / path).exists(), path
    for path in re.findall(
        r"`((?:tomography|reconstruction|signals)/[\w/]*(?:\.py)?)`", PAGE.read_text()
    ):
        assert (root / "hyperspy_multitomo" / path).exists(), path


def test_it_is_the_iteration_of_its_docstring(page):
    """Against dense algebra, with gains, a mask and a start."""
    A, rng = projector(TiltGeometry([-50, 0, 35], detector_width=6)), np.random.default_rng(0)
    unit = np.eye(36, dtype=np.float32).reshape(6, 6, 36)
    W = A(unit).reshape(-1, 36).astype(float)  # (ray, voxel)
    gains = np.array([0.5, 1.0, 2.0])
    b = rng.uniform(0, 3, (*A.range_shape, 2))
    mask, start = rng.random((6, 6)) > 0.2, rng.uniform(0, 1, (6, 6, 2))
    M = np.repeat(gains, 6)[:, None] * W
    step = 1.3 / (np.linalg.norm(W, 2) * gains.max()) ** 2
    x = (start * mask[..., None]).reshape(36, 2)
    for _ in range(7):
        x = np.maximum(0, x + step * M.T @ (b.reshape(-1, 2) - M @ x)) * mask.reshape(-1, 1)
    solver = page["landweber"](A, b, gains=gains, mask=mask, initial=start, relaxation=1.3)
    np.testing.assert_allclose(run(solver, 7).volume.reshape(36, 2), x, atol=2e-5 * x.max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "promise",
    [
        name
        for name, test in inspect.getmembers(test_properties.TestReconstruction)
        if name.startswith("test_")
    ],
)
def test_what_every_method_promises(page, promise):
    getattr(test_properties.TestReconstruction(), promise)(method=page["by_landweber"])


def test_a_phantom_is_reconstructed(page):
    volume, truth = page["volume"].data, page["truth"].transpose(0, 2, 1)
    above = (len(truth) - len(volume)) // 2
    truth = truth[above : above + len(volume)]
    assert np.corrcoef(volume.ravel(), truth.ravel())[0, 1] > 0.9
    assert volume.min() >= 0
    residuals = page["volume"].residuals["haadf"]
    assert (np.diff(residuals) < 0).all()


def test_its_signature_and_help_explain_every_keyword(page):
    method = getattr(mt.TiltSeriesEDS, METHOD)
    parameters = inspect.signature(method).parameters
    assert parameters["relaxation"].default == 1.0
    for name in RECIPES[NAME].run.__annotations__:
        assert name in parameters
    explained = re.findall(r"^([\w, ]+) : ", method.__doc__, flags=re.MULTILINE)
    explained = {name for line in explained for name in line.split(", ")}
    assert set(list(parameters)[1:]) <= explained


def test_an_unknown_keyword_names_the_method(page, series):
    expected = rf"{METHOD}\(\) got an unexpected keyword argument 'colour'"
    with pytest.raises(TypeError, match=expected):
        series[1].reconstruct_landweber(colour=1)
    with pytest.raises(ValueError, match=r"`relaxation` is 2\.5"):
        series[1].reconstruct_landweber(relaxation=2.5)


def test_a_plan(page, series):
    plan = series[1].plan_reconstruction(NAME, relaxation=0.5)
    assert plan.iterations == RECIPES[NAME].usual_iterations[1]
    assert plan.fits
    assert str(plan).startswith(METHOD)
    with pytest.raises(TypeError, match=f"{METHOD} has no keyword colour"):
        series[1].plan_reconstruction(NAME, colour=1)


def test_history_and_script_make_it_again(page, series):
    test_rerun.test_the_same_volume_bit_for_bit(series, NAME)
    test_rerun.test_the_script_makes_the_same_volume(series, NAME)
    test_rerun.test_every_method_is_tried()
    script = page["volume"].to_script()
    assert f"volume = haadf.{METHOD}(\n    iterations=20,\n    relaxation=1.5,\n" in script


def test_lazily_slab_by_slab(page, series):
    _, eds = series
    eager = eds.reconstruct_landweber(iterations=6, **QUIET)
    lazy = eds.as_lazy().reconstruct_landweber(iterations=6, chunks=2, **QUIET)
    assert isinstance(lazy.data, da.Array)
    assert lazy.history[-1]["slabs"]["count"] == 2
    np.testing.assert_allclose(lazy.data.compute(), eager.data, atol=1e-5 * eager.data.max())


def test_a_checkpoint_is_resumed(page, series, tmp_path):
    _, eds = series
    whole = eds.reconstruct_landweber(iterations=9, **QUIET)
    eds.reconstruct_landweber(iterations=4, checkpoint=tmp_path / "run.state", **QUIET)
    resumed = eds.reconstruct_landweber(iterations=9, resume=tmp_path / "run.state", **QUIET)
    assert resumed.history[-1]["resumed_at"] == 4
    np.testing.assert_array_equal(resumed.data, whole.data)
    with pytest.raises(ValueError, match="relaxation"):
        eds.reconstruct_landweber(
            iterations=9, relaxation=0.5, resume=tmp_path / "run.state", **QUIET
        )


def test_the_panel_offers_it(page, series, monkeypatch):
    pytest.importorskip("ipywidgets")
    from hyperspy_multitomo.widgets import reconstruction_panel

    # The table is made when the panel is first imported.
    for key, choice in reconstruction_panel._choices().items():
        monkeypatch.setitem(reconstruction_panel.METHODS, key, choice)
    haadf, eds = series
    panel = reconstruction_panel.ReconstructionPanel(
        eds, haadf, ratios={"Au": 9.0, "Ag": 4.0}, threaded=False, iterations=3
    )
    assert NAME in panel.methods
    method = panel.gui(display=False)["ipywidgets"]["wdict"]["method"]
    method.value = NAME
    assert panel.shown.startswith("Landweber")
    panel.apply()
    expected = eds.reconstruct_landweber(iterations=3, **QUIET)
    np.testing.assert_array_equal(panel.result.data, expected.data)
    monkeypatch.setattr(
        "hyperspy_multitomo.signals.methods.reconstruct.open_panel", lambda *a, **k: (a, k)
    )
    opened, options = eds.reconstruct_landweber(iterations=3, interactive=True)
    assert opened[2] == NAME
    assert options["iterations"] == 3
