# SPDX-License-Identifier: GPL-3.0-or-later
"""Building blocks of the views: controls linked to traits, pictures, progress bar and buttons."""

from __future__ import annotations

from html import escape

import ipywidgets as w
from traits.api import TraitError
from traits.observation.api import trait as named

from hyperspy_multitomo.widgets.panel import error_text

_WIDE = {"description_width": "initial"}


def control(panel, trait: str, widget, tooltip: str = ""):
    """Link the value of a widget with a trait of the panel, and return the widget.

    A value that the panel refuses (``TraitError``) is reported in its message, and the widget
    returns to its previous value.
    """
    widget.style = _WIDE
    widget.tooltip = tooltip or panel.trait(trait).desc or ""
    widget.layout.width = "360px"
    widget.value = getattr(panel, trait)

    def to_panel(event):
        try:
            setattr(panel, trait, event.new)
        except TraitError as error:
            panel.message = error_text(error)
            widget.value = getattr(panel, trait)

    widget.observe(to_panel, "value")
    panel.observe(lambda event: setattr(widget, "value", event.new), named(trait))
    return widget


def slider(panel, trait: str, label: str, low: float, high: float, step: float, tooltip: str = ""):
    """Return a slider for a number."""
    widget = w.FloatSlider(
        getattr(panel, trait),
        min=low,
        max=high,
        step=step,
        description=label,
        continuous_update=False,
    )
    return control(panel, trait, widget, tooltip)


def integer_slider(panel, trait: str, label: str, low: int, high: int, tooltip: str = ""):
    """Return a slider for a whole number."""
    widget = w.IntSlider(
        getattr(panel, trait), min=low, max=high, description=label, continuous_update=False
    )
    return control(panel, trait, widget, tooltip)


def choice(panel, trait: str, label: str, options, tooltip: str = ""):
    """Return a drop-down list."""
    return control(
        panel,
        trait,
        w.Dropdown(options=options, value=getattr(panel, trait), description=label),
        tooltip,
    )


def switch(panel, trait: str, label: str, tooltip: str = ""):
    """Return a check box."""
    return control(
        panel, trait, w.Checkbox(getattr(panel, trait), description=label, indent=False), tooltip
    )


def button(label: str, press, tooltip: str = "", style: str = ""):
    """Return a button that calls `press`."""
    widget = w.Button(
        description=label, tooltip=tooltip, button_style=style, layout=w.Layout(width="auto")
    )
    widget.on_click(lambda _: press())
    return widget


def picture(panel, trait: str, caption: str = "", key: str = ""):
    """Return a box with a trait of PNG bytes as an image and its caption, and the image.

    `key` is HTML that follows the caption.
    """
    image = w.Image(value=getattr(panel, trait), format="png")
    panel.observe(lambda event: setattr(image, "value", event.new), named(trait))
    return w.VBox([image, w.HTML(f"<small>{_escaped(caption)}{key}</small>")]), image


def words(panel, trait: str, small: bool = False):
    """Return a label with the text of a trait, HTML escaped."""
    size = "<small>{}</small>" if small else "{}"
    label = w.HTML(value=size.format(_escaped(getattr(panel, trait))))
    panel.observe(
        lambda event: setattr(label, "value", size.format(_escaped(event.new))), named(trait)
    )
    return label


def code(panel, trait: str, rows: int):
    """Return a box of so many rows with the text of a trait, to be copied."""
    box = w.Textarea(getattr(panel, trait), rows=rows, layout=w.Layout(width="auto"))
    panel.observe(lambda event: setattr(box, "value", event.new), named(trait))
    return box


def preformatted(panel, trait: str):
    """Return a label with the text of a trait as it is, in letters of one width, HTML escaped."""
    kept = '<pre style="font:12px/1.35 monospace;margin:4px 0">{}</pre>'
    label = w.HTML(value=kept.format(_escaped(getattr(panel, trait))))
    panel.observe(
        lambda event: setattr(label, "value", kept.format(_escaped(event.new))), named(trait)
    )
    return label


def markup(panel, trait: str):
    """Return a label with the HTML of a trait; names in it have to be escaped already."""
    label = w.HTML(value=getattr(panel, trait))
    panel.observe(lambda event: setattr(label, "value", event.new), named(trait))
    return label


def _escaped(text: str) -> str:
    return escape(text, quote=False)


def status(panel) -> tuple[w.Widget, dict]:
    """Return the row with progress bar, cancel button and message, and its widgets by name."""
    bar = w.FloatProgress(value=panel.progress, min=0.0, max=1.0, layout=w.Layout(width="200px"))
    panel.observe(lambda event: setattr(bar, "value", event.new), "progress")
    cancel = button("Cancel", panel.cancel, "Stop what is running; everything stays as it was.")
    cancel.disabled = True
    panel.observe(lambda event: setattr(cancel, "disabled", not event.new), "running")
    message = words(panel, "message")
    return w.HBox([bar, cancel, message]), {
        "progress": bar,
        "cancel_button": cancel,
        "message": message,
    }


def enabled(panel, widget, trait: str, when: bool = True) -> None:
    """Enable a widget only while a trait of the panel equals `when`."""

    def follow(*_) -> None:
        widget.disabled = getattr(panel, trait) != when

    panel.observe(follow, trait)
    follow()


def close_button(panel, box_of) -> w.Widget:
    """Return a button that closes the panel and its widgets; `box_of` returns the outermost one."""

    def close():
        panel.close()
        box_of().close()

    return button(
        "Close", close, "Close the panel; a job that is running is stopped and changes nothing."
    )


def assemble(panel, title: str, controls, pictures, buttons, wdict: dict) -> dict:
    """Return what a view function returns: the box of all widgets, and the widgets by name."""
    row, shared = status(panel)
    box = w.VBox()
    close = close_button(panel, lambda: box)
    box.children = [
        w.HTML(f"<b>{_escaped(title)}</b>"),
        # Controls keep their width, and pictures go below each other where the window is narrow.
        w.HBox(
            [
                w.VBox(list(controls), layout=w.Layout(flex="0 0 auto")),
                w.HBox(list(pictures), layout=w.Layout(flex_flow="row wrap", margin="0 0 0 16px")),
            ]
        ),
        w.HBox([*buttons, close]),
        row,
    ]
    return {"widget": box, "wdict": {**wdict, **shared, "close_button": close}}
