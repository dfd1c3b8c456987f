# SPDX-License-Identifier: GPL-3.0-or-later
"""One case of the fuzz: a valid file is damaged and loaded, all of it drawn from one seed."""

from __future__ import annotations

import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .classify import of_error, of_result
from .makers import FORMATS, hyperspy
from .mutations import Damage, damage
from .snapshots import snapshot


@dataclass
class Case:
    """What is about to be loaded."""

    seed: int
    format: str
    lazy: bool
    damage: Damage

    def __str__(self) -> str:
        return (
            f"{self.format}, {self.damage.file}: {self.damage.what}{', lazy' if self.lazy else ''}"
        )


def formats(long: bool) -> list[str]:
    """Return the names of the formats of a run."""
    return [name for name, one in FORMATS.items() if one.available() and (long or not one.long)]


@cache
def _model(name: str) -> tuple[tempfile.TemporaryDirectory, Path, dict]:
    """Return a folder with valid files, what of it is loaded, and what comes of that,
    eager and lazy."""
    kept = tempfile.TemporaryDirectory()
    form, folder = FORMATS[name], Path(kept.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = form.make(folder).relative_to(folder)
        reference = {lazy: _load(form.load, folder, path, lazy) for lazy in (False, True)}
    return kept, path, reference


def _load(load: Callable, folder: Path, path: Path, lazy: bool) -> tuple[dict, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = snapshot(load(folder / path, lazy), str(folder))
    return found, [str(one.message) for one in caught if one.category is UserWarning]


def run(
    seed: int, long: bool, begun: Callable[[str], None] = lambda what: None
) -> tuple[Case, str, str]:
    """Damage a file and load it; return the case, the kind of outcome, and what was said.
    `begun` is told before it is loaded."""
    rng = random.Random(seed)
    name = rng.choice(formats(long))
    form, lazy = FORMATS[name], rng.random() < 0.5
    kept, path, reference = _model(name)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(kept.name, folder, dirs_exist_ok=True)
        done = damage(Path(folder), form.victims, form.text, rng)
        case = Case(seed, name, lazy, done)
        begun(str(case))
        names = _names(Path(done.file), path)
        expected, usual = reference[lazy]
        try:
            found, told = _load(form.load, Path(folder), path, lazy)
        except Exception as error:
            return case, *of_error(error, names, form.load is hyperspy)
        return case, *of_result(
            expected, found, done, form, [one for one in told if one not in usual]
        )


def _names(damaged: Path, path: Path) -> set[str]:
    """Return the names of which an error has to tell one:
    the damaged file, or its .zspy folder, or the file that is loaded."""
    stores = [part for part in damaged.parts if part.endswith(".zspy")]
    return {stores[0] if stores else damaged.name, path.name} - {""}
