# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperSpy's progress bar around long work, where the user wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(show: bool | None, description: str, total: int) -> Iterator[Callable | None]:
    """Give a function that moves a bar of `total` steps on by one, whatever it is called with; None where no bar is wanted.

    `show` is None for HyperSpy's preference.
    """
    import hyperspy.api as hs

    if not (hs.preferences.General.show_progressbar if show is None else show):
        yield None
        return
    from hyperspy.external.progressbar import progressbar

    bar = progressbar(total=total, desc=description, leave=True)
    try:
        yield lambda *_: bar.update(1)
    finally:
        bar.close()
