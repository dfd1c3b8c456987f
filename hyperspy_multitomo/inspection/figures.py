# SPDX-License-Identifier: GPL-3.0-or-later
"""New figures: managed by pyplot where somebody would see them, and free of it elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Whether figures are kept by those who draw them, such as pages.
_KEPT: ContextVar[bool] = ContextVar("kept", default=False)
# Backends of pyplot without a window.
_WITHOUT_WINDOW = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def new_figure(**keywords) -> Figure:
    """Return an empty figure, `keywords` being those of `matplotlib.figure.Figure`.

    In a notebook and with a window it is pyplot's: it shows below its cell wherever it was drawn
    there, and in a script by ``matplotlib.pyplot.show()``. Without a window, in threads and within
    `own_figures` nobody would close it, and it belongs to who drew it alone.
    """
    from matplotlib.figure import Figure

    if _KEPT.get() or threading.current_thread() is not threading.main_thread():
        return Figure(**keywords)
    import matplotlib
    from matplotlib import pyplot

    backend = matplotlib.get_backend().lower()
    if backend in _WITHOUT_WINDOW:
        return Figure(**keywords)
    with matplotlib.rc_context({"figure.max_open_warning": 0}):
        figure = pyplot.figure(**keywords)
    if "inline" in backend:
        figure._ipython_display_ = partial(_display_once, figure)  # type: ignore[attr-defined]
    return figure


@contextlib.contextmanager
def own_figures() -> Iterator[None]:
    """Draw figures that pyplot does not know, for a page or a panel that keeps them itself."""
    token = _KEPT.set(True)
    try:
        yield
    finally:
        _KEPT.reset(token)


def _display_once(figure: Figure) -> None:
    """Show a figure in a notebook, after those that were drawn before it, and forget it.

    The last expression of a cell and the end of a cell both show figures: whichever comes first
    does.
    """
    from matplotlib import pyplot

    before = [pyplot.figure(number) for number in sorted(pyplot.get_fignums())]
    if figure in before:
        before = before[: before.index(figure)]
        for one in before:
            if "_ipython_display_" in vars(one):
                _show(one)
    _show(figure)


def _show(figure: Figure) -> None:
    from IPython.display import display
    from matplotlib import pyplot

    display_again = vars(figure).pop("_ipython_display_")
    try:
        display(figure)
    finally:
        figure._ipython_display_ = display_again  # type: ignore[attr-defined]
        pyplot.close(figure)
