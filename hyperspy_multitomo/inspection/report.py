# SPDX-License-Identifier: GPL-3.0-or-later
"""A self-contained HTML page of headings, text, tables and figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1d2733;
       background: #f5f6f8; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 2rem 4rem; background: #fff; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid #dfe3e8; }
p { margin: .5rem 0 .8rem; max-width: 46rem; }
p.lead { color: #51606f; font-size: 1.05rem; }
p.warning { background: #fff5da; border-left: 4px solid #e0a100; padding: .55rem .9rem; }
figure { margin: 1.1rem 0 1.6rem; }
figure img { width: 100%; height: auto; }
figcaption { color: #51606f; font-size: .92rem; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .95rem .3rem 0; text-align: right; border-bottom: 1px solid #e8ebef;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: #51606f; font-weight: 600; }
details { margin: .6rem 0; }
pre { background: #f5f6f8; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem;
      white-space: pre-wrap; }
"""


class Page:
    """A page under construction, self-contained: it refers to no other file.

    Parameters
    ----------
    title : str
        The heading, and the title of the browser's tab.
    lead : str, default ""
        A sentence under the heading.

    Examples
    --------
    >>> page = Page("A particle", "Reconstructed from 31 tilts.")
    >>> page.heading("Counts")
    >>> page.table([["Au", 120]], header=["element", "counts"])
    >>> "<td>Au</td><td>120</td>" in page.html()
    True
    """

    def __init__(self, title: str, lead: str = ""):
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if lead:
            self._parts.append(f'<p class="lead">{escape(lead)}</p>')

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def warning(self, text: str) -> None:
        """Add a highlighted paragraph."""
        self._parts.append(f'<p class="warning">{escape(text)}</p>')

    def table(self, rows: Iterable[Sequence], header: Sequence[str] = ()) -> None:
        """Add a table; the first column is left-aligned, the others right-aligned."""
        head = f"<thead><tr>{_cells(header, 'th')}</tr></thead>" if header else ""
        body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
        self._parts.append(f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>')

    def figure(self, figure, caption: str) -> None:
        """Add a matplotlib figure with a caption."""
        data = base64.b64encode(_png(figure, dpi=110)).decode()
        self._parts.append(
            f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def details(self, summary: str, text: str) -> None:
        """Add preformatted text, collapsed under a summary."""
        self._parts.append(
            f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
        )

    def html(self) -> str:
        """Return the page."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta '
            f'charset="utf-8"><title>{escape(self.title)}</title>'
            '<meta name="viewport" content="width=device-width, '
            f'initial-scale=1"><style>{_STYLE}</style></head>\n'
            f"<body><main>\n" + "\n".join(self._parts) + "\n</main></body></html>\n"
        )


def _png(figure, dpi: int) -> bytes:
    """Return a figure as a PNG. `savefig` would draw it twice, once for the layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture, previous = io.BytesIO(), (figure.dpi, figure.canvas)
    try:
        figure.dpi = dpi
        FigureCanvasAgg(figure).print_png(picture)
    finally:
        figure.dpi = previous[0]
        figure.set_canvas(previous[1])
    return picture.getvalue()


def _cells(values: Sequence, tag: str) -> str:
    return "".join(f"<{tag}>{escape(str(value))}</{tag}>" for value in values)
