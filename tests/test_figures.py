# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures show once in a notebook wherever they are drawn, in a window by show, else nowhere."""

import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection.figures import own_figures

SETUP = """%matplotlib inline
import numpy as np
import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import plot_weight_choice
volume = mt.TomographicVolume.from_arrays({"Au": np.random.rand(6, 7, 8)}, pixel_size=1.0)
"""


def volume():

    return mt.TomographicVolume.from_arrays({"Au": np.ones((6, 7, 8))}, pixel_size=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "pictures"),
    [
        ("volume.plot_orthoslices()", 1),
        ("figure = volume.plot_orthoslices()", 1),
        ("volume.plot_orthoslices()\nprint('later')", 1),
        ("volume.plot_orthoslices()\nvolume.plot_threshold()", 2),
        ("for _ in range(25):\n    plot_weight_choice([2, 1], [1, 0], [1, 0], 1)", 25),
        ("figure = volume.plot_orthoslices()\nfigure.savefig('a.svg')\nfigure", 1),
    ],
)
def test_one_picture_for_each_call(cell, pictures, notebook):
    shown, left, warned = notebook(cell)
    assert shown == pictures
    assert left == "[]"
    assert not warned


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Return a function that runs a cell: pictures, figures that are left, and warnings."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    book = nbformat.v4.new_notebook()
    client = nbclient.NotebookClient(book, resources=where, kernel_name="python3")

    def run(source):
        cell = nbformat.v4.new_code_cell(source)
        after = nbformat.v4.new_code_cell("import matplotlib.pyplot as p; print(p.get_fignums())")
        for one in (cell, after):
            book.cells.append(one)
            client.execute_cell(one, len(book.cells) - 1)
        pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        warned = [o for o in cell.outputs if o.get("name") == "stderr"]
        return len(pictures), after.outputs[0]["text"].strip(), warned

    with client.setup_kernel():
        run(SETUP)
        yield run


def test_a_figure_is_seen_again_when_it_is_asked_for(notebook):
    notebook("figure = volume.plot_orthoslices()")
    assert notebook("figure")[0] == 1
    assert (
        notebook("import pickle; pickle.loads(pickle.dumps(figure)).axes[0].get_xlabel()")[0] == 0
    )


def test_in_a_script_figures_wait_for_show(tmp_path):
    """With a backend that has a window: a stand-in for one, since there is no screen here."""
    (tmp_path / "windows.py").write_text(
        "from matplotlib.backend_bases import FigureManagerBase\n"
        "from matplotlib.backends.backend_agg import FigureCanvasAgg\n"
        "shown = []\n"
        "class Manager(FigureManagerBase):\n"
        "    def show(self):\n        shown.append(self.num)\n"
        "    @classmethod\n"
        "    def pyplot_show(cls, *, block=None):\n"
        "        from matplotlib import pyplot\n        shown.extend(pyplot.get_fignums())\n"
        "class FigureCanvas(FigureCanvasAgg):\n    manager_class = Manager\n"
        "FigureManager = Manager\n"
    )
    script = (
        "import matplotlib; matplotlib.use('module://windows')\n"
        "import numpy as np, windows\n"
        "from matplotlib import pyplot\n"
        "from hyperspy_multitomo.inspection import plot_orthoslices\n"
        "figure = plot_orthoslices(np.random.rand(1, 6, 7, 8), ['Au'])\n"
        "pyplot.show(); figure.show(); print(windows.shown)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[1, 1]", done.stderr


def test_without_a_window_nothing_grows():
    assert matplotlib.get_backend().lower() == "agg"
    for _ in range(3):
        volume().plot_orthoslices()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("where", ["thread", "page"])
def test_who_keeps_figures_has_its_own(where, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "qtagg")
    drawn = []

    def draw():
        drawn.append(volume().plot_orthoslices())

    if where == "thread":
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
    else:
        with own_figures():
            draw()
    assert drawn
    assert pyplot.get_fignums() == []
    draw()
    assert pyplot.get_fignums() == [1]
    pyplot.close("all")
