# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of benchmarks/structure.py, on a small package whose figures are known."""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from test_imports import PACKAGE, circles

FILES = {
    "__init__.py": """
        from . import signals
        from .signals import Series

        __all__ = ["Series", "signals"]
        """,
    "signals/__init__.py": """
        from .series import Series

        __all__ = ["Series"]
        """,
    "signals/keywords.py": """
        import functools
        import inspect
        from typing import TypedDict


        class Run(TypedDict, total=False):
            mask: object
            depth: float


        def keywords(shared):
            def decorated(function):
                @functools.wraps(function)
                def wrapper(*args, **kwargs):
                    return function(*args, **kwargs)

                own = list(inspect.signature(function).parameters.values())[:-1]
                kind = inspect.Parameter.KEYWORD_ONLY
                more = [inspect.Parameter(name, kind) for name in shared.__annotations__]
                wrapper.__signature__ = inspect.Signature([*own, *more])
                wrapper.__doc__ += "\\n\\nmask, depth\\n    As in\\n    `reconstruct_em`."
                return wrapper

            return decorated
        """,
    "signals/series.py": """
        import threading

        from .keywords import Run, keywords


        class Base:
            @property
            def tilts(self):
                '''As in `reconstruct_em`, not as in [1]_.'''

            def reconstruct_em(self, iterations, /, *more, mask=None, **options):
                '''Reconstruct.

                Two more lines.
                '''


        class Series(Base, dict):
            _METHODS = "sirt", "em", "reconstruct_tv"

            @keywords(Run)
            def reconstruct_sirt(self, iterations=2, **run):
                '''Reconstruct.'''
                from ..tomography.solver import negative, solve

                thread = threading.Thread(target=alone)
                thread.start()
                thread.join()
                return sorted(solve(iterations), key=negative)


        class Lazy(Series):
            pass


        def alone():
            from ..tomography import series

            series.load()
        """,
    "tomography/__init__.py": "",
    "tomography/series.py": """
        class Run:
            kind = "sirt"


        def load():
            '''Another text.'''
            return 1


        def same(x):
            return x
        """,
    "tomography/solver.py": """
        def solve(n):
            from ..signals import series

            yield from range(n)


        def negative(x):
            return -x


        def load():
            return 2


        def same(x):
            '''Only the text differs.'''
            return x
        """,
}


@pytest.fixture(scope="module")
def figures():
    """The benchmark, as a module."""
    spec = importlib.util.spec_from_file_location(
        "structure", Path(__file__).parents[1] / "benchmarks" / "structure.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip())
    return tmp_path / "small"


@pytest.fixture
def small(package, monkeypatch):
    """The package, imported."""
    monkeypatch.syspath_prepend(package.parent)
    yield importlib.import_module("small")
    for name in [name for name in sys.modules if name.split(".")[0] == "small"]:
        del sys.modules[name]


def test_files(figures, package):
    table = figures.files_table(package)
    assert list(table) == ["(top)", "signals", "tomography", "all"]
    assert table["(top)"] == {"files": 1, "lines": 4, "median": 4, "largest": 4, "statements": 3}
    assert table["tomography"] == {
        "files": 3,
        "lines": 28,
        "median": 11,
        "largest": 17,
        "statements": 6 + 9,
    }
    assert table["all"]["files"] == len(FILES)
    assert table["all"]["lines"] == sum(
        len(path.read_text().splitlines()) for path in package.rglob("*.py")
    )


def test_imports_and_circles(figures, package):
    trees = figures.trees_of(package)
    top = {
        ("__init__.py", "signals/__init__.py"),
        ("signals/__init__.py", "signals/series.py"),
        ("signals/series.py", "signals/keywords.py"),
    }
    inside = {
        ("signals/series.py", "tomography/solver.py"),
        ("signals/series.py", "tomography/series.py"),
        ("tomography/solver.py", "signals/series.py"),
    }
    assert figures.imports_of(trees, "small", everywhere=False) == top
    assert figures.imports_of(trees, "small", everywhere=True) == top | inside
    table, lists = figures.imports_table(trees, "small")
    assert list(table["at the top"].values()) == [3, 1, 0, 0, 0]
    assert list(table["anywhere"].values()) == [6, 4, 1, 2, 2]
    assert lists["files in circles anywhere"] == ["signals/series.py", "tomography/solver.py"]


def test_absolute_imports_are_seen(figures):
    trees = {
        "__init__.py": ast.parse("import small.a\nimport numpy"),
        "a.py": ast.parse("from small.b import c"),
        "b.py": ast.parse(""),
    }
    assert figures.imports_of(trees, "small", everywhere=False) == {
        ("__init__.py", "a.py"),
        ("a.py", "b.py"),
    }
    assert figures.circles_of(set()) == []


@pytest.mark.slow
def test_circles_are_those_of_the_test_of_imports(figures):
    found = figures.circles_of(
        figures.imports_of(figures.trees_of(PACKAGE), PACKAGE.name, everywhere=True)
    )
    assert sorted(map(sorted, found)) == sorted(map(sorted, circles(everywhere=True)))


def test_classes(figures, small):
    table = figures.classes_table([small.Series, small.signals.series.Lazy], "small")
    assert table["Series"] == {"public names": 3, "classes": 2, "files": 1}
    assert table["Lazy"] == {"public names": 3, "classes": 3, "files": 1}


def test_signatures_and_docstrings(figures, small, package):
    lazy = small.signals.series.Lazy
    functions = [small.Series.reconstruct_sirt, small.Series.reconstruct_em, lazy.reconstruct_sirt]
    assert figures.definition(functions[0]).name == "reconstruct_sirt"
    assert figures.declared(figures.definition(functions[1])) == [
        "self",
        "iterations",
        "more",
        "mask",
        "options",
    ]
    assert figures.signatures_table(functions, figures.trees_of(package).values()) == {
        "functions": 2,
        "declared": 2 + 4,  # iterations, run; iterations, more, mask, options
        "shared": 2,
        "in signatures": 3 + 4,
        "distinct": 5,
        "lines written": 1 + 3,
        "lines shown": 5 + 3,
    }
    assert figures.as_in(figures.public_docstrings(small)) == 2


def test_calls(figures, small, package):
    table, lists = figures.calls_table({"SIRT": small.Series().reconstruct_sirt}, package)
    # From the decorator to the method; to the generator, thrice, and to the key, twice; from the
    # thread to a function.
    assert table["SIRT"] == {
        "files": 4,
        "above": 2,
        "moves": 7,
        "moves above": 1,
        "signals": 2,
        "tomography": 2,
    }
    assert lists == {
        "files above tomography/ that SIRT enters": ["signals/keywords.py", "signals/series.py"]
    }
    assert sys.getprofile() is None


def test_names(figures, package):
    trees = figures.trees_of(package)
    table, lists = figures.method_names(trees)
    assert table["sirt"] == {"alone": 2, "either way": 2}
    assert table["tv"] == {"alone": 0, "either way": 1}
    assert table["three or more"] == {"alone": 0, "either way": 1}
    assert lists["files that name three or more methods, either way"] == ["signals/series.py"]
    table, lists = figures.same_names(trees)
    assert table == {"files": {"names": 1}, "classes": {"names": 1}, "functions": {"names": 1}}
    assert list(lists.values()) == [["series.py"], ["Run"], ["load"]]


def test_tables_show_what_changed(figures):
    before, now = {"a": {"x": 1, "y": 2}, "gone": {"x": 3}}, {"a": {"x": 1, "y": 2.5}}
    assert figures.as_text("of", now).splitlines() == [
        "| of | x | y |",
        "| --- | --- | --- |",
        "| a | 1 | 2.5 |",
    ]
    assert figures.as_text("of", now, before).splitlines()[2:] == [
        "| a | 1 | 2 → 2.5 |",
        "| gone | 3 → - | - |",
    ]
