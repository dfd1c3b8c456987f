# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts and figures of the panels: HTML tables and warnings, images with NaN, small figures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from html import escape
from itertools import chain

import numpy as np

EMPTY = (0.85, 0.87, 0.88)


def series_description(series) -> str:
    """Return the description of a series, such as "the maps of Au, Ag"."""
    return f"the maps of {', '.join(series.channels)}" if series.channels else "the HAADF series"


def colour_mapped(image: np.ndarray, limits: tuple[float, float], colours: str) -> np.ndarray:
    """Return an image in the colours of a colour map, light grey where it is NaN.

    Parameters
    ----------
    image : ndarray (row, column)
        Any unit.
    limits : (float, float)
        Values at the ends of the colour map.
    colours : str
        Name of a colour map of matplotlib.

    Returns
    -------
    ndarray (row, column, 3)
        Red, green and blue from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> colour_mapped(np.array([[0.0, 1.0, np.nan]]), (0, 1), "gray").round(2).tolist()
    [[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.85, 0.87, 0.88]]]
    """
    from matplotlib import colormaps

    low, high = limits
    scaled = np.clip((image - low) / (high - low if high > low else 1.0), 0, 1)
    return np.where(
        np.isfinite(image)[..., None], colormaps[colours](np.nan_to_num(scaled))[..., :3], EMPTY
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML: the first column left-aligned, the others right-aligned.

    Examples
    --------
    >>> html_table(["Element", "mean"], [["Au", "40"]]).count("<td")
    2
    """
    cell = "padding:1px 8px;text-align:"
    sides = ["left", *["right"] * (len(head) - 1)]
    top = "".join(
        f'<th style="{cell}{side}">{escape(text)}</th>'
        for text, side in zip(head, sides, strict=True)
    )
    body = chain.from_iterable(
        [
            "<tr>",
            *(
                f'<td style="{cell}{side}">{escape(text)}</td>'
                for text, side in zip(row, sides, strict=True)
            ),
            "</tr>",
        ]
        for row in rows
    )
    return f'<table style="line-height:1.4"><tr>{top}</tr>{"".join(body)}</table>'


def with_warnings(work: Callable[[], object]) -> tuple[object, list[str]]:
    """Return the result of `work` and the texts of its UserWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = work()
    return value, [str(one.message) for one in caught if one.category is UserWarning]


def sentences(texts: Sequence[str]) -> str:
    """Return warnings as paragraphs of HTML."""
    return "".join(
        f'<p style="line-height:1.3;margin:2px 0">⚠ {escape(text)}</p>'
        for text in dict.fromkeys(texts)
    )


def small_figure():
    """Return an empty figure of the size of a panel's pictures, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes
