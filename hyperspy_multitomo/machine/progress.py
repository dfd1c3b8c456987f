# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperSpy's progress bar around long work, where the user wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    show: bool | Callable | None, description: str, total: int
) -> Iterator[Callable | None]:
    """Give a function that moves a bar of `total` steps on by one, whatever it is called with; None where no bar is wanted.

    `show` is None for HyperSpy's preference. An internal door, for panels: `show`, and so the
    `show_progressbar` of the public methods, may be a callable instead, which is called after each
    step in place of a bar. Iterative reconstructions in memory call it with the
    `tomography.Iterate`, and a KeyboardInterrupt raised in it ends them, in any thread, as one by
    the user does: the public method returns the last whole iterate and warns, and its history says
    ``interrupted``. From work that has no iterates the interrupt goes through to the caller.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 2, 8)), tilts=[-40, 0, 40])
    >>> volume = haadf.reconstruct_sirt(3, show_progressbar=lambda iterate: print(iterate.iteration))
    1
    2
    3
    """
    if callable(show):
        yield show
        return
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
