# SPDX-License-Identifier: GPL-3.0-or-later
"""Notebooks that are run as tests have the markers `notebook` and `slow`."""

import pytest


def pytest_itemcollected(item):
    """Mark each cell of a notebook."""
    if item.path.suffix == ".ipynb":
        item.add_marker(pytest.mark.notebook)
        item.add_marker(pytest.mark.slow)
