# SPDX-License-Identifier: GPL-3.0-or-later
"""Keywords that methods share: in every signature, help and completion, and for type checkers."""

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.reconstruction import keywords
from hyperspy_multitomo.reconstruction.recipes import RECIPES

CLASSES = (mt.TiltSeriesHAADF, mt.TiltSeriesEDS, mt.TiltSeriesEELS)
METHODS = [
    pytest.param(cls, name, id=f"{cls.__name__}.{name}")
    for cls in CLASSES
    for name in RECIPES
    if hasattr(cls, f"reconstruct_{name}")
]


def method_of(cls, name):
    return getattr(cls, f"reconstruct_{name}")


def series():
    maps = np.random.default_rng(0).poisson(3.0, (3, 4, 8))
    eds = mt.TiltSeriesEDS.from_maps({"Au": maps}, tilts=[-40, 0, 40])
    return eds, mt.TiltSeriesHAADF.from_images(3.0 * maps, tilts=[-40, 0, 40])


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_signature_and_help_have_them_all(cls, name):
    method, recipe = method_of(cls, name), RECIPES[name]
    signature = inspect.signature(method)
    assert not [
        one for one in signature.parameters.values() if one.kind is inspect.Parameter.VAR_KEYWORD
    ]
    for keyword in recipe.run.__annotations__:
        if keyword != "haadf_term" or cls is not mt.TiltSeriesHAADF:
            assert keyword in signature.parameters
    for parameter in list(signature.parameters)[1:]:
        assert f"{parameter}" in method.__doc__
    assert "As in" not in method.__doc__


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_declared_defaults_are_those_of_the_recipe(cls, name):
    recipe = RECIPES[name]
    for parameter in inspect.signature(method_of(cls, name)).parameters.values():
        if parameter.default in (None, inspect.Parameter.empty):
            continue  # of the data, or of the form
        expected = recipe.defaults().get(parameter.name)
        if parameter.name == "tolerance":
            expected = recipe.tolerance
        if parameter.name in keywords.DEFAULTS:
            expected = keywords.DEFAULTS[parameter.name]
        if parameter.name == "data_term":
            expected = "poisson"
        assert parameter.default == expected, parameter.name


def test_fbp_takes_none_of_the_iterative_ones():
    eds, _ = series()
    for keyword in ("mask", "tolerance", "checkpoint", "initial", "resume"):
        with pytest.raises(
            TypeError,
            match=rf"reconstruct_fbp\(\) got an unexpected keyword argument '{keyword}'",
        ):
            eds.reconstruct_fbp(**{keyword: None})


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_an_unknown_keyword_names_the_method(cls, name):
    haadf = [None] if RECIPES[name].haadf == "required" else []
    with pytest.raises(
        TypeError, match=rf"reconstruct_{name}\(\) got an unexpected keyword argument 'colour'"
    ):
        method_of(cls, name)(None, *haadf, colour=1)


def test_the_same_function_without_a_wrapper():
    def method(series, *, weight: float = 1.0, **run: "Unpack[Run]"):  # noqa: F821
        """Do it.

        Parameters
        ----------
        weight : float, default 1.0
            How much.

        Returns
        -------
        int
        """

    method.__globals__["Run"] = keywords.Run
    recipe = RECIPES["sirt"]
    assert keywords.with_shared(recipe)(method) is method
    assert "backend" in inspect.signature(method).parameters
    sections = inspect.cleandoc(method.__doc__)
    assert sections.index("weight :") < sections.index("depth, width :")
    assert sections.index("toolkit :") < sections.index("Returns")


def test_methods_of_a_signal_are_pickled():
    eds, _ = series()
    for name in RECIPES:
        function = getattr(type(eds), f"reconstruct_{name}")
        assert pickle.loads(pickle.dumps(function)) is function


def test_completion_has_them():
    jedi = pytest.importorskip("jedi")
    eds, haadf = series()
    for one, name in ((eds, "tv"), (eds, "fbp"), (haadf, "sirt")):
        source = f"one.reconstruct_{name}("
        (signature,) = jedi.Interpreter(source, [{"one": one}]).get_signatures()
        shown = {parameter.name for parameter in signature.params}
        assert {"depth", "backend", "interactive"} <= shown
        assert ("checkpoint" in shown) == (name != "fbp")


def test_type_checkers_read_them(tmp_path):
    """A keyword of another type and one that does not exist are errors, a right call is none."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "from hyperspy_multitomo.signals.methods.reconstruct_series import reconstruct_fbp\n"
        "from hyperspy_multitomo.signals.methods.reconstruct_maps import reconstruct_tv\n"
        "reconstruct_tv(None, weight=2.0, depth=40.0, checkpoint='a')\n"
        "reconstruct_tv(None, weight='much')\n"
        "reconstruct_fbp(None, tolerance=0.1)\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports"]
    said = subprocess.run([*command, str(program)], capture_output=True, text=True).stdout
    lines = [line.split(":")[1] for line in said.splitlines() if ": error:" in line]
    assert lines == ["4", "5"], said


@pytest.mark.parametrize(
    ("cls", "name"), [one for one in METHODS if one.values[0] is not mt.TiltSeriesEELS]
)
@pytest.mark.slow
def test_a_panel_opens_for_every_method(cls, name, monkeypatch):
    pytest.importorskip("ipywidgets")
    from hyperspy_multitomo.signals.methods import reconstruct
    from hyperspy_multitomo.widgets.reconstruction_panel import METHODS, ReconstructionPanel

    opened = []
    monkeypatch.setattr(reconstruct, "open_panel", lambda *a, **k: opened.append((a, k)))
    eds, haadf = series()
    one = haadf if cls is mt.TiltSeriesHAADF else eds
    others = [haadf] if RECIPES[name].haadf == "required" else []
    keywords = {"ratios": {"Au": 3.0}} if name == "hebt" else {}
    keywords |= {} if name == "fbp" else {"iterations": 2}
    method_of(cls, name)(one, *others, interactive=True, display=False, **keywords)
    ((_, *arguments), options), *_ = opened
    assert options.pop("constructor") == "of_method"
    assert options.pop("display") is False
    panel = ReconstructionPanel.of_method(*arguments, threaded=False, **options)
    assert METHODS[panel.method].method == name
    assert panel.message == "" or name == "fused"  # the elements of few counts explain little
    panel.apply()
    assert panel.message.startswith("The whole volume is done"), panel.message
    assert panel.result.history[-1]["step"] == f"reconstruct_{name}"
