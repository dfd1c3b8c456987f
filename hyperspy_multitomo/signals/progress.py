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
    with _bar(show, description, total) as bar:
        yield None if bar is None else lambda *_: bar.update(1)


@contextmanager
def progress_lines(show: bool | None, description: str) -> Iterator[Callable[[str], object] | None]:
    """Give a function that says what was done last, for work whose length is not known; None where nothing is wanted."""
    with _bar(show, description, None) as bar:

        def told(line: str) -> None:
            bar.set_postfix_str(line, refresh=False)
            bar.update(1)

        yield None if bar is None else told


@contextmanager
def _bar(show: bool | None, description: str, total: int | None) -> Iterator:
    import hyperspy.api as hs

    if not (hs.preferences.General.show_progressbar if show is None else show):
        yield None
        return
    from hyperspy.external.progressbar import progressbar

    bar = progressbar(total=total, desc=description, leave=True)
    try:
        yield bar
    finally:
        bar.close()
