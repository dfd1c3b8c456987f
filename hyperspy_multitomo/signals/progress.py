# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperSpy's progress bar around a loop, where the user wants one."""

from __future__ import annotations

from collections.abc import Iterable


def progress_over(items: Iterable, show: bool | None, description: str = "", total: int | None = None) -> Iterable:
    """Return `items` behind a progress bar; `show` is None for HyperSpy's preference."""
    import hyperspy.api as hs

    if show is None:
        show = hs.preferences.General.show_progressbar
    if not show:
        return items
    from hyperspy.external.progressbar import progressbar

    return progressbar(items, desc=description, total=total, leave=True)
