# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperSpy's progress bar, where the user wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    show: bool | Callable | None, description: str, total: int | None
) -> Iterator[Callable | None]:
    """Yield a function that advances a bar by one; None where no bar is wanted.

    The bar has `total` steps, None where their number is not known. The function ignores its
    arguments. `show` is None for HyperSpy's preference.

    For panels `show`, and so the `show_progressbar` of the public methods, may be a callable, which
    is called after each step in place of the bar. Iterative reconstructions in memory call it with
    the `tomography.Iterate`. A KeyboardInterrupt raised in it stops them, in any thread, as one by
    the user does: the public method returns the last complete iterate with a warning, and its
    history says ``interrupted``. Work without iterates passes the interrupt on to the caller.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 2, 8)), tilts=[-40, 0, 40])
    >>> def show(iterate):
    ...     print(iterate.iteration)
    >>> volume = haadf.reconstruct_sirt(3, show_progressbar=show)
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
    """Yield a function that shows a status line, for work of unknown length; None if not wanted."""
    with _bar(show, description, None) as bar:

        def show_line(line: str) -> None:
            bar.set_postfix_str(line, refresh=False)
            bar.update(1)

        yield None if bar is None else show_line


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
