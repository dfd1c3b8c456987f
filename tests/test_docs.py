# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation keeps its promises: documented parameters, pages that point somewhere,
examples that run, clean notebooks."""

import ast
import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import hyperspy_multitomo as mt

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMPOSITION = ("composition", "composition.cross_sections")
PACKAGES = (
    "acquisition",
    "alignment",
    *COMPOSITION,
    "datasets",
    "evidence",
    "inspection",
    "signals",
    "simulation",
    "tomography",
)
# Of numpydoc's checker: no docstring; parameters that are missing or unknown; what is yielded.
CODES = {"GL08", "PR01", "PR02", "YD01"}


def public_functions(package):
    """Yield (full name, function) of a package's public functions,
    and of what its public classes have from us."""
    module = import_module(f"hyperspy_multitomo.{package}")
    seen = set()
    for name in module.__all__:
        item = getattr(module, name)
        members = [(name, item)]
        if inspect.isclass(item):
            members = [
                (f"{name}.{member}", value)
                for member, value in inspect.getmembers(item, inspect.isroutine)
            ]
        for full, value in members:
            function = getattr(value, "__func__", value)
            ours = str(getattr(function, "__module__", "")).startswith("hyperspy_multitomo")
            if (
                ours
                and inspect.isfunction(function)
                and function not in seen
                and not full.split(".")[-1].startswith("_")
            ):
                seen.add(function)
                yield f"{module.__name__}.{full}", function


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_every_parameter_is_documented(package):
    """Methods of one line may say what they take in that line."""
    validate = pytest.importorskip(
        "numpydoc.validate", reason="numpydoc is in the dependency group docs"
    ).validate
    wrong = {}
    for name, function in public_functions(package):
        docstring = inspect.getdoc(function) or ""
        if docstring and "Parameters\n---" not in docstring and name.count(".") == 3:
            continue
        found = [f"{code} {text}" for code, text in validate(name)["errors"] if code in CODES]
        if found:
            wrong[name] = found
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    for target in targets:
        in_site = page.parent / re.sub("^tutorials/", "../notebooks/", target)
        assert in_site.exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_code_on_pages_is_python(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        ast.parse(block)


def test_the_example_on_reproducing_prints_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "reproducing.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
    shown = [line.removeprefix("    ") for line in page.splitlines() if line.startswith("    ")]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 8
    assert [line for line in printed if line] == [line for line in shown if line in printed]


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == mt.__version__
    assert citation["license"] == "GPL-3.0-or-later"
    dois = [entry["doi"] for entry in citation["references"]]
    assert "10.1016/j.ultramic.2016.12.008" in dois
    theory = (ROOT / "docs" / "theory.md").read_text()
    assert all(doi in theory for doi in dois)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.name)
def test_notebooks_hold_no_outputs(notebook):
    content = json.loads(notebook.read_text())
    assert "widgets" not in content["metadata"]
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert any("assert" in "".join(cell["source"]) for cell in code)
