# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings that point at the user's line, however deep in the package their cause lies."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the first caller outside this package."""
    package = __name__.partition(".")[0]
    level = 1
    while (
        sys._getframe(level).f_globals.get("__name__", "").partition(".")[0] == package
        and sys._getframe(level).f_back
    ):
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)
