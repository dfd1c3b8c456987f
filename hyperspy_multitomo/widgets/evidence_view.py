# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the evidence panel in Jupyter."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    code,
    enabled,
    markup,
    picture,
    preformatted,
    slider,
    switch,
    words,
)


@add_display_arg
def evidence_view(obj, **kwargs):
    """Return the widgets of an `EvidencePanel`."""
    controls = _controls(obj)
    values, notes = words(obj, "values", small=True), markup(obj, "notes")
    for text in (values, notes):
        text.layout = w.Layout(max_width="380px")
    # Space for two lines, so that nothing moves when numbers get longer.
    values.layout.min_height = "60px"
    sections = {name: picture(obj, name) for name in ("xz", "yz", "xy")}
    images = {name: image for name, (_, image) in sections.items()}
    figure, images["plot"] = picture(obj, "plot")
    for image in images.values():
        # Prevents a narrow picture from being stretched to the width of the others.
        image.layout.align_self = "flex-start"
    table, script = preformatted(obj, "table"), code(obj, "python", rows=5)
    script.layout.width = "360px"
    row = w.Layout(flex_flow="row wrap", align_items="flex-start", grid_gap="0 8px")
    # The figure is in a tab of its own, so that the buttons stay where they are.
    tabs = w.Tab(
        [w.HBox([box for box, _ in sections.values()], layout=row), _plotted(obj, figure)],
        titles=["Sections", "Figure"],
        layout=w.Layout(min_width="780px"),
    )
    buttons = _buttons(obj)
    wdict = controls | images | buttons
    wdict |= {"values": values, "notes": notes, "table": table, "python": script, "tabs": tabs}
    left = [*controls.values(), values, notes]
    left += [w.HTML("<small>The last call in Python, to be copied</small>"), script]
    return assemble(obj, "Evidence", left, [w.VBox([tabs, table])], buttons.values(), wdict)


def _plotted(panel, figure: w.Widget) -> w.Widget:
    """Return the tab of the figure, with words where there is none."""
    none = w.HTML("No figure yet.")

    def show(event=None):
        # No frame of a picture that is not there.
        figure.layout.display = "" if panel.plot else "none"
        none.layout.display = "none" if panel.plot else ""

    panel.observe(show, "plot")
    show()
    return w.VBox([none, figure])


def _controls(panel) -> dict[str, w.Widget]:
    """Return the controls by name, in the order in which they are shown."""
    controls = {"element": choice(panel, "element", "Element", panel.elements)}
    for axis in "xyz":
        low, high = getattr(panel, f"low_{axis}"), getattr(panel, f"high_{axis}")
        controls[axis] = _length(panel, axis, f"{axis} ({panel.unit})", low, high, panel.step(axis))
    controls["diameter"] = _length(
        panel,
        "diameter",
        f"Diameter ({panel.unit})",
        panel.smallest,
        panel.largest,
        panel.step() / 2,
    )
    controls["found_here"] = switch(panel, "found_here", "I found this place in this volume")
    controls["contrast"] = slider(panel, "contrast", "Contrast to add (× typical)", -1.0, 5.0, 0.1)
    return controls


def _length(panel, name: str, label: str, low: float, high: float, step: float):
    """Return a slider for a length."""
    # A slider needs different ends, which a single slice does not have.
    room = step / 2 if low == high else 0.0
    widget = slider(panel, name, label, low - room, high + room, step)
    widget.disabled, widget.readout_format = bool(room), ".2f" if step >= 0.05 else ".4f"
    return widget


def _buttons(panel) -> dict[str, w.Widget]:
    """Return the buttons by name; they wait while something runs."""
    buttons = {
        "ask_button": button(
            "Ask the counts",
            panel.ask,
            "Whether the counts say that the ball holds more or less of the element than what is "
            "around it.",
            "primary",
        ),
        "search_button": button(
            "Look for features",
            panel.search,
            "Look for balls of this diameter on a random half of the counts, and test them on the "
            "other half.",
        ),
        "transfer_button": button(
            "What arrives",
            panel.test_transfer,
            "Add the ball to the counts of this element alone, reconstruct, and see what arrives "
            "in it and in the other channels.",
        ),
    }
    for one in buttons.values():
        enabled(panel, one, "can_apply")
    return buttons
