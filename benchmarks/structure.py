# SPDX-License-Identifier: GPL-3.0-or-later
"""How the package is built, in figures: `python benchmarks/structure.py`.

The package is the one on the import path: `PYTHONPATH=another_checkout` measures another. Only its
sources and its public names are looked at, so that the figures of two designs can be compared:
`--json FILE` writes the figures, `--compare FILE` prints them beside those written before, and
`--lists` names what was counted.

files
    Of each folder, without its sub-folders, and of the whole package: Python files, their lines
    (with comments, docstrings and blank lines), lines of the median and of the largest file, and
    statements (without docstrings), which no formatter changes.
imports
    Imports from one file to another file of the package, each pair once; and circles: sets of files
    each of which leads to all others. "at the top" are import statements at the top of a module,
    "anywhere" those inside functions too. Names that are imported as strings (the lazy top
    `__init__`, the panels) or for type checkers alone are not seen.
classes
    Of each public class at the top of the package: public names that are defined in the package,
    not those of HyperSpy alone; classes of the package among its bases, itself included, and the
    files that hold them.
signatures
    The methods `reconstruct_*` of all public classes, each definition once. "declared" are the
    parameters in the `def` statements, without the instance, `**keywords` being one; "shared" the
    fields of the package's classes (a TypedDict, a dataclass) that a decorator or the type of
    `**keywords` names, each class once; "in signatures" the parameters that `inspect.signature`
    shows, and "distinct" their names. "lines written" are the docstrings in the source, "lines
    shown" those of `help`. "as in" counts "as in `another`" in all public docstrings of the
    package, as `help` shows them.
calls
    Real calls on 9 tilts of 16 x 8 pixels and two elements, iterative ones with 10 iterations, each
    traced with `sys.setprofile`, in threads too, after one run for imports and compilation. "files"
    are those in which a Python function is called, in all and by folder; compiled functions are not
    seen. A "move" is a call of a function in another file than that of the nearest caller in the
    package, whatever is called in between; a generator counts each time it goes on. "above" are
    files outside of `tomography`, and moves between two such, which grow with neither iterations
    nor cores.
method names
    In how many files the name of each method is a string literal, alone or after "reconstruct_",
    and how many files hold three names or more.
same names
    File names (but `__init__.py`) and class names that occur more than once, and functions at the
    top of modules that share their name with one in another file whose parameters or body differ.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

METHODS = ("sirt", "em", "cgls", "fbp", "hebt", "tv", "tgv", "tnv", "fused")
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef

Table = dict[str, dict[str, float]]
Lists = dict[str, list[str]]


def trees_of(package: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of each file by its path in the package."""
    return {
        path.relative_to(package).as_posix(): ast.parse(path.read_text())
        for path in sorted(package.rglob("*.py"))
    }


def folder_of(file: str) -> str:
    return file.rpartition("/")[0] or "(top)"


# Files and imports


def statements_in(tree: ast.Module) -> int:
    """Return the number of statements, those inside others too, without docstrings."""
    nodes = list(ast.walk(tree))
    documented = [
        node
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | DEFINITIONS) and ast.get_docstring(node)
    ]
    return sum(isinstance(node, ast.stmt) for node in nodes) - len(documented)


def files_table(package: Path) -> Table:
    """Return the number and the size of the files of each folder and of all."""
    lines, statements = defaultdict(list), Counter()
    for file, tree in trees_of(package).items():
        for folder in (folder_of(file), "all"):
            lines[folder].append(len((package / file).read_text().splitlines()))
            statements[folder] += statements_in(tree)
    return {
        folder: {
            "files": len(n := lines[folder]),
            "lines": sum(n),
            "median": median(n),
            "largest": max(n),
            "statements": statements[folder],
        }
        for folder in [*sorted(lines.keys() - {"all"}), "all"]
    }


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from executed(child)


def imports_of(
    trees: dict[str, ast.Module], package: str, everywhere: bool
) -> set[tuple[str, str]]:
    """Return the pairs (file, file that it imports), at the top of modules or everywhere."""
    modules = {}
    for file in trees:
        parts = [package, *file.removesuffix(".py").split("/")]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    found = set()
    for file, tree in trees.items():
        around = [package, *file.split("/")[:-1]]
        for node in executed(tree) if everywhere else tree.body:
            if isinstance(node, ast.Import):
                names = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = around[: len(around) - node.level + 1] if node.level else []
                base = ".".join([*base, *([node.module] if node.module else [])])
                names = [(f"{base}.{alias.name}", base) for alias in node.names]
            else:
                continue
            imported = {modules.get(module, modules.get(base)) for module, base in names}
            found |= {(file, other) for other in imported - {None, file}}
    return found


def circles_of(imports: set[tuple[str, str]]) -> list[set[str]]:
    """Return the sets of files each of which leads to all others."""
    files = sorted({file for pair in imports for file in pair})
    if not files:
        return []
    place = {file: i for i, file in enumerate(files)}
    rows, columns = zip(*((place[a], place[b]) for a, b in imports), strict=True)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(files), len(files)))
    groups = defaultdict(set)
    for file, group in zip(files, connected_components(graph, connection="strong")[1], strict=True):
        groups[group].add(file)
    return [group for group in groups.values() if len(group) > 1]


def imports_table(trees: dict[str, ast.Module], package: str) -> tuple[Table, Lists]:
    """Return the imports among files, and the circles."""
    table, lists = {}, {}
    for where in ("at the top", "anywhere"):
        imports = imports_of(trees, package, where == "anywhere")
        circles = circles_of(imports)
        sizes = [len(circle) for circle in circles]
        table[where] = {
            "imports": len(imports),
            "between folders": sum(folder_of(a) != folder_of(b) for a, b in imports),
            "circles": len(sizes),
            "files in circles": sum(sizes),
            "largest circle": max(sizes, default=0),
        }
        lists[f"files in circles {where}"] = sorted(set().union(*circles))
    return table, lists


# Classes, signatures and docstrings


def package_classes(cls: type, package: str) -> list[type]:
    """Return a class and its bases, those of the package alone."""
    return [base for base in cls.__mro__ if base.__module__.split(".")[0] == package]


def members(cls: type, package: str) -> dict[str, object]:
    """Return the public members of a class that the package defines, by name."""
    names = {
        name
        for base in package_classes(cls, package)
        for name in vars(base)
        if not name.startswith("_")
    }
    found = {name: inspect.getattr_static(cls, name) for name in sorted(names)}
    return {name: getattr(member, "__func__", member) for name, member in found.items()}


def classes_table(classes: Iterable[type], package: str) -> Table:
    """Return how many names each class has, and from how many classes and files of the package."""
    return {
        cls.__name__: {
            "public names": len(members(cls, package)),
            "classes": len(package_classes(cls, package)),
            "files": len({base.__module__ for base in package_classes(cls, package)}),
        }
        for cls in classes
    }


def definition(function: Callable) -> ast.FunctionDef:
    """Return the `def` statement that a function is made by, below its decorators."""
    code = inspect.unwrap(function).__code__
    for node in ast.walk(ast.parse(Path(code.co_filename).read_text())):
        named = isinstance(node, DEFINITIONS) and node.name == code.co_name
        if (
            named
            and min(part.lineno for part in (node, *node.decorator_list)) == code.co_firstlineno
        ):
            return node
    raise LookupError(
        f"no def of {code.co_qualname} at line {code.co_firstlineno} of {code.co_filename}"
    )


def declared(node: ast.FunctionDef) -> list[str]:
    """Return the names of the parameters in a `def` statement, in its order."""
    a = node.args
    optional = [[a.vararg] if a.vararg else [], a.kwonlyargs, [a.kwarg] if a.kwarg else []]
    return [arg.arg for group in (a.posonlyargs, a.args, *optional) for arg in group]


def fields_of(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Return the annotated names in the bodies of classes and their bases, by class name."""
    nodes = defaultdict(list)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                nodes[node.name].append(node)

    def fields(name: str, below: tuple[str, ...] = ()) -> set[str]:
        body = [
            part.target
            for node in nodes[name]
            for part in node.body
            if isinstance(part, ast.AnnAssign)
        ]
        bases = {
            base.id for node in nodes[name] for base in node.bases if isinstance(base, ast.Name)
        }
        further = bases & nodes.keys() - {name, *below}
        return {target.id for target in body}.union(
            *(fields(base, (name, *below)) for base in further)
        )

    return {name: found for name in nodes if (found := fields(name))}


def shared_fields(node: ast.FunctionDef, fields: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return (class, field) of the classes named by the decorators or the type of `**keywords`."""
    places = [*node.decorator_list, getattr(node.args.kwarg, "annotation", None)]
    parts = [part for place in places if place is not None for part in ast.walk(place)]
    names = {getattr(part, "id", getattr(part, "attr", None)) for part in parts}
    return {(name, field) for name in names & set(fields) for field in fields[name]}


def signatures_table(functions: Iterable[Callable], trees: Iterable[ast.Module]) -> dict[str, int]:
    """Return what the signatures and the docstrings of functions say, each definition once."""
    by_code = {inspect.unwrap(function).__code__: function for function in functions}
    nodes = [definition(function) for function in by_code.values()]
    signatures = [list(inspect.signature(function).parameters)[1:] for function in by_code.values()]
    fields = fields_of(trees)
    return {
        "functions": len(nodes),
        "declared": sum(len(declared(node)) - 1 for node in nodes),
        "shared": len(set().union(*(shared_fields(node, fields) for node in nodes))),
        "in signatures": sum(map(len, signatures)),
        "distinct": len({name for names in signatures for name in names}),
        "lines written": sum(len((ast.get_docstring(node) or "").splitlines()) for node in nodes),
        "lines shown": sum(
            len((inspect.getdoc(function) or "").splitlines()) for function in by_code.values()
        ),
    }


def public_docstrings(top) -> Iterator[str]:
    """Yield the docstring of each public function, class and member, once."""
    documented, folders = (
        {},
        [value for name in top.__all__ if inspect.ismodule(value := getattr(top, name))],
    )
    values = [getattr(module, name) for module in (top, *folders) for name in module.__all__]
    values += [
        member
        for cls in values
        if inspect.isclass(cls)
        for member in members(cls, top.__name__).values()
    ]
    for value in values:
        if inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, property):
            documented[getattr(inspect.unwrap(value), "__code__", value)] = (
                value.__doc__ or ""
            )  # one `def`, whoever binds it
    yield from documented.values()


def as_in(docstrings: Iterable[str]) -> int:
    """Return how often docstrings send the reader to another one."""
    return sum(len(re.findall(r"\bas\s+in\s+`", text, re.IGNORECASE)) for text in docstrings)


# Calls


def traced(call: Callable[[], object], package: Path) -> tuple[set[str], Counter]:
    """Return the files of the package that a call enters, and its moves, counted by (from, to)."""
    inside = f"{package}{os.sep}"
    entered, moves = set(), []  # appended to by threads: each step is one of the interpreter's

    def profile(frame, event, _):
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(inside):
            return
        entered.add(file)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(inside):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != file:
            moves.append((caller.f_code.co_filename, file))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)

    def name(file: str) -> str:
        return file.removeprefix(inside).replace(os.sep, "/")

    return {name(file) for file in entered}, Counter((name(a), name(b)) for a, b in moves)


def calls_table(calls: dict[str, Callable], package: Path) -> tuple[Table, Lists]:
    """Return files and moves of each call, and the files above `tomography`."""
    table, lists = {}, {}
    for name, call in calls.items():
        call()
        files, moves = traced(call, package)
        above = sorted(file for file in files if not file.startswith("tomography/"))
        table[name] = {
            "files": len(files),
            "above": len(above),
            "moves": moves.total(),
            "moves above": sum(n for pair, n in moves.items() if set(pair) <= set(above)),
            **dict(
                sorted(
                    Counter(
                        file.split("/")[0] if "/" in file else "(top)" for file in files
                    ).items()
                )
            ),
        }
        lists[f"files above tomography/ that {name} enters"] = above
    return table, lists


def small_calls(mt, folder: Path) -> dict[str, Callable]:
    """Return calls of the public methods on small data; files are written to `folder`."""
    import mrcfile

    random, tilts = np.random.default_rng(0), np.arange(-60.0, 61.0, 15.0)
    images, quiet = (len(tilts), 8, 16), {"show_progressbar": False, "backend": "numba"}
    few, ratios = quiet | {"iterations": 10}, {"Au": 2.0, "Ag": 1.0}
    maps = {name: random.poisson(3.0, images) for name in ratios}
    haadf = mt.TiltSeriesHAADF.from_images(
        2.0 * maps["Au"] + maps["Ag"] + 1.0, tilts=tilts, pixel_size=2.0
    )
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=tilts, pixel_size=2.0)
    volume = eds.reconstruct_sirt(**few)
    stack = folder / "stack.mrc"
    with mrcfile.new(stack) as file:
        file.set_data(np.asarray(haadf.data, np.float32))
    return {
        "HEBT": lambda: eds.reconstruct_hebt(haadf, ratios=ratios, **few),
        "HEBT with TV": lambda: eds.reconstruct_hebt(haadf, ratios=ratios, regulariser="tv", **few),
        "TGV": lambda: eds.reconstruct_tgv(**few),
        "SIRT": lambda: eds.reconstruct_sirt(**few),
        "plan of HEBT": lambda: eds.plan_reconstruction("hebt", haadf, ratios=ratios, **few),
        "loading an MRC file": lambda: mt.load_tilt_series(stack, tilts=tilts),
        "quantification": lambda: volume.quantify(factors={"Au": 1.7, "Ag": 1.0}),
    }


# Names


def method_names(trees: dict[str, ast.Module]) -> tuple[Table, Lists]:
    """Return how many files hold each method's name as a literal, and which hold three or more."""
    words = {
        file: {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for file, tree in trees.items()
    }
    table, lists = defaultdict(dict), {}
    for column, prefixes in {"alone": [""], "either way": ["", "reconstruct_"]}.items():
        holders = {
            name: {file for file in trees if words[file] & {part + name for part in prefixes}}
            for name in METHODS
        }
        counts = Counter(file for files in holders.values() for file in files)
        many = sorted(file for file, n in counts.items() if n >= 3)
        for name, files in [*holders.items(), ("three or more", many)]:
            table[name][column] = len(files)
        lists[f"files that name three or more methods, {column}"] = many
    return dict(table), lists


def same_names(trees: dict[str, ast.Module]) -> tuple[Table, Lists]:
    """Return how many names of files, classes and functions are used more than once, and which."""
    files = Counter(file.split("/")[-1] for file in trees)
    classes = Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    functions = defaultdict(dict)
    for file, tree in trees.items():
        for node in tree.body:
            if isinstance(node, DEFINITIONS):
                body = node.body[ast.get_docstring(node) is not None :]
                functions[node.name][file] = ast.dump(node.args) + "".join(map(ast.dump, body))
    found = {
        "files": sorted(name for name, n in files.items() if n > 1 and name != "__init__.py"),
        "classes": sorted(name for name, n in classes.items() if n > 1),
        "functions": sorted(
            name for name, bodies in functions.items() if len(set(bodies.values())) > 1
        ),
    }
    table = {kind: {"names": len(names)} for kind, names in found.items()}
    return table, {f"names of several {kind}": names for kind, names in found.items()}


# All of it


def measured() -> dict:
    """Return where the package is from, tables and lists."""
    import hyperspy_multitomo as mt

    package = Path(mt.__file__).parent
    trees = trees_of(package)
    classes = [value for name in sorted(mt.__all__) if inspect.isclass(value := getattr(mt, name))]
    methods = [
        member
        for cls in classes
        for name, member in members(cls, mt.__name__).items()
        if name.startswith("reconstruct_") and inspect.isfunction(member)
    ]
    signatures = signatures_table(methods, trees.values()) | {"as in": as_in(public_docstrings(mt))}
    imports, circles = imports_table(trees, mt.__name__)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls, entered = calls_table(small_calls(mt, Path(folder)), package)
    names, telling = method_names(trees)
    same, repeated = same_names(trees)
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=package, capture_output=True, text=True
    )
    return {
        "of": {"commit": git.stdout.strip() or mt.__version__, "cores": os.cpu_count()},
        "tables": {
            "files": files_table(package),
            "imports": imports,
            "classes": classes_table(classes, mt.__name__),
            "signatures": {"reconstruct_*": signatures},
            "calls": calls,
            "method names": names,
            "same names": same,
        },
        "lists": {**circles, **entered, **telling, **repeated},
    }


def as_text(title: str, table: Table, before: Table | None = None) -> str:
    """Return a table as Markdown, with `before → now` where a figure has changed."""
    before = table if before is None else before
    rows = dict.fromkeys([*before, *table])
    columns = dict.fromkeys(
        column for part in (before, table) for row in part.values() for column in row
    )

    def cell(row: str, column: str) -> str:
        values = [part.get(row, {}).get(column) for part in (before, table)]
        then, now = ("-" if value is None else f"{value:g}" for value in values)
        return now if then == now else f"{then} → {now}"

    lines = [[title, *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(cell(row, column) for column in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the figures, and write them or compare them with others."""
    parser = argparse.ArgumentParser(description="how the package is built, in figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="print beside those that --json has written before",
    )
    parser.add_argument(
        "--lists",
        action="store_true",
        help="name the files, classes and functions that were counted, too",
    )
    options = parser.parse_args()
    now = measured()
    before = json.loads(options.compare.read_text()) if options.compare else None
    if options.json:
        options.json.write_text(json.dumps(now, indent=1) + "\n")
    print(f"{before['of']} → {now['of']}" if before else now["of"])
    for title, table in now["tables"].items():
        print(f"\n{as_text(title, table, before and before['tables'].get(title))}")
    for title, names in now["lists"].items() if options.lists else ():
        print(f"\n{title}: {', '.join(names)}")
        if before and (gone := sorted(set(before["lists"].get(title, ())) - set(names))):
            print(f"before, too: {', '.join(gone)}")


if __name__ == "__main__":
    main()
