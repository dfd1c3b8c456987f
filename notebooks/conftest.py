# SPDX-License-Identifier: GPL-3.0-or-later
"""Notebooks that are run as tests are marked; those of measured data run where the files are."""

import os
from pathlib import Path

import pytest

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_NEEDED = {
    "08_quantum_dots.ipynb": "quantum_dots",
    "09_dust_particle.ipynb": "idp_l2083",
    "10_is_it_really_there.ipynb": "idp_l2083",
}
if _DATA.is_dir():
    os.environ.setdefault("MULTITOMO_DATA", str(_DATA))


def pytest_itemcollected(item):
    """Mark each cell of a notebook, and skip those whose data would have to be downloaded."""
    if item.path.suffix != ".ipynb":
        return
    item.add_marker(pytest.mark.notebook)
    item.add_marker(pytest.mark.slow)
    needed, folder = _NEEDED.get(item.path.name), os.environ.get("MULTITOMO_DATA", "")
    if needed and not (folder and (Path(folder) / needed).is_dir()):
        item.add_marker(pytest.mark.skip(reason=f"MULTITOMO_DATA names no folder with {needed}"))
