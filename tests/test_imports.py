# SPDX-License-Identifier: GPL-3.0-or-later
"""The package imports lightly, and its modules import each other in one direction only."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PACKAGE = Path(__file__).resolve().parents[1] / "hyperspy_multitomo"

#: What each part may import of ours, besides itself.
_NUMERICS = ("acquisition", "alignment", "composition", "machine", "tomography")
MAY_IMPORT = {
    "machine": set(),
    "tomography": {"machine"},
    "acquisition": {"machine", "tomography"},
    "alignment": {"machine", "tomography", "acquisition"},
    "composition": {"machine", "tomography"},
    "reconstruction": {*_NUMERICS},
    "simulation": {*_NUMERICS},
    "inspection": {*_NUMERICS},
    "evidence": {*_NUMERICS, "reconstruction", "simulation", "inspection"},
    "signals": {*_NUMERICS, "reconstruction", "simulation", "inspection", "evidence"},
    "widgets": {*_NUMERICS, "reconstruction", "simulation", "inspection", "evidence", "signals"},
}
HEAVY = ("astra", "matplotlib", "ipywidgets", "exspy", "k3d", "hyperspy")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\n"
    code += "print('\\n'.join(sorted({name.split('.')[0] for name in sys.modules})))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_package_import_is_light():
    assert loaded_after("import hyperspy_multitomo").isdisjoint(HEAVY)


@pytest.mark.slow
def test_signals_wait_with_what_only_some_need():
    """SciPy's signal processing and statistics take a third of a second each;
    a composition, a figure or a file asks for them."""
    code = "from hyperspy_multitomo import TiltSeriesEDS\nimport numpy as np, sys\n"
    code += "maps = {'Au': np.ones((3, 2, 8)), 'Ag': np.ones((3, 2, 8))}\n"
    code += "eds = TiltSeriesEDS.from_maps(maps, tilts=[-40, 0, 40])\n"
    code += "eds.reconstruct_sirt(2, show_progressbar=False)\n"
    code += "print('\\n'.join(sys.modules))"
    loaded = set(
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert "hyperspy_multitomo.tomography.steps" in loaded
    late = {
        "scipy.signal",
        "scipy.stats",
        "scipy.cluster",
        "skimage",
        "matplotlib",
        "exspy",
        "zarr",
        "astra",
        "ipywidgets",
        "k3d",
    }
    assert loaded.isdisjoint(late)


@pytest.mark.slow
def test_tomography_needs_numpy_scipy_and_numba_alone():
    loaded = loaded_after(
        "import hyperspy_multitomo.tomography as t; t.projector(t.TiltGeometry([0.0, 10.0], 8))"
    )
    assert loaded.isdisjoint((*HEAVY, "dask", "skimage", "rsciio", "tqdm"))


def imports_of_ours(path: Path):
    """Yield (part, at module level) for each import of the package's own parts in a file."""
    tree = parsed(path)
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            below = path.relative_to(PACKAGE).parts[: depth - node.level]
            module = (*below, *(node.module or "").split("."))
            names = [module[0]] if module[0] else [alias.name for alias in node.names]
            yield from names
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = (
                [node.module]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            yield from (
                m.split(".")[1] for m in modules if m and m.startswith("hyperspy_multitomo.")
            )


@pytest.mark.slow
@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part):
    files = sorted((PACKAGE / part).rglob("*.py"))
    assert files
    for path in files:
        wrong = (
            {name for name in imports_of_ours(path) if name in MAY_IMPORT}
            - MAY_IMPORT[part]
            - {part}
        )
        assert not wrong, f"{path.name} imports {wrong}"
        assert "demo" not in set(imports_of_ours(path))


def executed(node: ast.AST):
    """Yield the nodes of a tree, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from executed(child)


@functools.cache
def exists(path: Path) -> bool:
    return path.exists()


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_files(path: Path, everywhere: bool) -> set[Path]:
    """Return the files of ours that one imports when it runs: at its top, or everywhere."""
    found = set()
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]]
    tree = parsed(path)
    for node in executed(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            modules = [[*base, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        else:
            continue
        for module in modules:
            place = PACKAGE.parent.joinpath(*module)
            inside = (
                place.with_suffix(".py"),
                place / "__init__.py",
            )  # a module; else a name in one
            candidates = (*inside, place.parent.with_suffix(".py"), place.parent / "__init__.py")
            ours = (one for one in candidates if one.is_relative_to(PACKAGE) and exists(one))
            found |= {one for _, one in zip(range(1), ours, strict=False)}
    return found


def circles(everywhere: bool) -> list[set[str]]:
    """Return the sets of files each of which leads to all others by imports."""
    files = sorted(PACKAGE.rglob("*.py"))
    numbers = {path: number for number, path in enumerate(files)}
    # One bit for each file that is reached, completed after Warshall.
    reached = [
        sum({1 << numbers[other] for other in imported_files(path, everywhere)}) for path in files
    ]
    for between in range(len(files)):
        for number, bits in enumerate(reached):
            if bits >> between & 1:
                reached[number] = bits | reached[between]
    rings = {
        frozenset(
            other
            for other in range(len(files))
            if reached[number] >> other & 1 and reached[other] >> number & 1
        )
        for number in range(len(files))
        if reached[number] >> number & 1
    }
    return [{str(files[number].relative_to(PACKAGE)) for number in ring} for ring in rings]


def test_no_circle_at_the_top_of_files():
    assert circles(everywhere=False) == []


def test_no_circle_inside_functions():
    assert circles(everywhere=True) == []


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_heavy_libraries_are_imported_inside_functions(path):
    top = [node for node in parsed(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        alias.name.split(".")[0]
        for node in top
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {
        (node.module or "").split(".")[0]
        for node in top
        if isinstance(node, ast.ImportFrom) and not node.level
    }
    part = path.relative_to(PACKAGE).parts[0]
    allowed = {"hyperspy"} if part in ("signals", "widgets") else set()
    if path.name == "view.py" or path.name.endswith("_view.py"):
        allowed |= {"ipywidgets"}
    assert names.isdisjoint(set(HEAVY) - allowed)


@pytest.mark.slow
def test_panels_are_imported_when_they_are_opened():
    """No module imports a panel at its top, and only views know of ipywidgets."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "widgets":
            top = [node for node in parsed(path).body if isinstance(node, ast.ImportFrom)]
            assert not any("widgets" in (node.module or "") for node in top), path
    loaded = loaded_after("from hyperspy_multitomo import TiltSeriesHAADF")
    assert loaded.isdisjoint({"ipywidgets", "k3d", "hyperspy_gui_ipywidgets"})


def test_every_registered_panel_has_its_view():
    import importlib

    pytest.importorskip(
        "hyperspy_gui_ipywidgets", reason="the packages for panels are in the extra gui"
    )
    gui = yaml.safe_load((PACKAGE / "hyperspy_extension.yaml").read_text())["GUI"]
    assert set(gui["widgets"]["ipywidgets"]) == set(gui["toolkeys"])
    for entry in gui["widgets"]["ipywidgets"].values():
        assert callable(getattr(importlib.import_module(entry["module"]), entry["function"]))


def test_every_panel_that_signals_open_exists_and_has_its_toolkey():
    import importlib

    from hyperspy_multitomo.signals.methods.panels import PANELS

    toolkeys = yaml.safe_load((PACKAGE / "hyperspy_extension.yaml").read_text())["GUI"]["toolkeys"]
    assert {f"hyperspy_multitomo.{name}" for name in PANELS} == set(toolkeys)
    for name, panel in PANELS.items():
        module = importlib.import_module(f"hyperspy_multitomo.widgets.{name}_panel")
        assert callable(getattr(module, panel))


@pytest.mark.slow
def test_every_file_says_its_licence_and_its_idea():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert text.startswith("# SPDX-License-Identifier: GPL-3.0-or-later\n"), path
        assert ast.get_docstring(ast.parse(text)), path


def test_extension_file_at_the_top_is_the_one_in_the_package():
    top = PACKAGE.parent / "hyperspy_extension.yaml"
    assert top.read_text() == (PACKAGE / "hyperspy_extension.yaml").read_text()


def test_every_registered_class_exists_and_has_a_lazy_twin():
    import hyperspy_multitomo as mt

    registered = yaml.safe_load((PACKAGE / "hyperspy_extension.yaml").read_text())["signals"]
    assert {"TiltSeriesHAADF", "TiltSeriesEDS", "TomographicVolume"} <= set(registered)
    for name, entry in registered.items():
        cls = getattr(mt, name)
        assert cls._signal_type == entry["signal_type"]
        assert cls._lazy == entry["lazy"] == name.startswith("Lazy")
        assert name.startswith("Lazy") or f"Lazy{name}" in registered
