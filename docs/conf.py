# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx configuration: pydata theme, numpydoc, notebooks executed during the build."""

import inspect
import os
import shutil
from pathlib import Path

import hyperspy_multitomo

HERE = Path(__file__).parent

project = "hyperspy_multitomo"
author = "hyperspy_multitomo developers"
copyright = f"{author}, GPL-3.0-or-later"
version = release = hyperspy_multitomo.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
]
exclude_patterns = ["_build", "jupyter_execute"]
templates_path = ["_templates"]

# Markdown and notebooks. The repository keeps no outputs: the figures are made whenever the site is
# built.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
# Measured data are not downloaded to build the site: without them these pages have no outputs.
_data = HERE.parents[1] / "shared" / "data"
if _data.is_dir():
    os.environ.setdefault("MULTITOMO_DATA", str(_data))
_folder = Path(os.environ.get("MULTITOMO_DATA", "nowhere"))
nb_execution_excludepatterns = [
    f"tutorials/{name}.ipynb"
    for name, needed in (
        ("08_quantum_dots", "quantum_dots"),
        ("09_dust_particle", "idp_l2083"),
        ("10_is_it_really_there", "idp_l2083"),
    )
    if not (_folder / needed).is_dir()
]

# The reference. Single backticks in docstrings become links where there is something of that name.
default_role = "py:obj"
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "hyperspy_multitomo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars = {page: [] for page in ("index", "getting_started", "theory", "tutorials/*")}


def _copy_notebooks() -> None:
    """Put the notebooks where Sphinx looks for pages; the copies are not kept in the repository."""
    target = HERE / "tutorials"
    target.mkdir(exist_ok=True)
    for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        copy = target / notebook.name
        if not copy.exists() or copy.read_bytes() != notebook.read_bytes():
            shutil.copyfile(notebook, copy)


def _skip_inherited(app, what, name, member, skip, options):
    """Leave out the some two hundred members that a class inherits from HyperSpy."""
    member = (
        member.fget
        if isinstance(member, property)
        else inspect.unwrap(getattr(member, "__func__", member))
    )
    module = getattr(member, "__module__", None)
    return True if module is not None and not module.startswith("hyperspy_multitomo") else None


def _keep_norms(app, what, name, member, options, lines):
    """Escape the bars of norms, |b - A x|, which reStructuredText takes for substitutions."""
    # Indentation of the line that announced a literal block; whether in a doctest.
    literal, example = None, False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None and not example:
            if line.rstrip().endswith("::"):
                literal = indent
            parts = line.split("``")
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[number] = "``".join(parts)


def _hide_empty_signature(app, what, name, member, options, signature, annotation):
    """Hide the signature of the signals' classes, which are made by their class methods."""
    return ("", None) if signature == "(*args, **kwargs)" else None


def setup(app):
    """Connect the hooks above."""
    _copy_notebooks()
    app.connect("autodoc-skip-member", _skip_inherited)
    app.connect("autodoc-process-signature", _hide_empty_signature)
    # Before numpydoc, which works at the default priority of 500.
    app.connect("autodoc-process-docstring", _keep_norms, priority=400)
