# SPDX-License-Identifier: GPL-3.0-or-later
"""Preprocessing of tilt series, none of which rescales counts."""

from __future__ import annotations


class Preprocessing:
    """Mixin of every tilt series."""


class HAADFPreprocessing:
    """Mixin of the HAADF series."""


class ElementalPreprocessing:
    """Mixin of the series of elemental maps."""
