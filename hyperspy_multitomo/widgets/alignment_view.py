# SPDX-License-Identifier: GPL-3.0-or-later
"""The view of the alignment panel in a notebook."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg
from traits.api import TraitError

from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    enabled,
    integer_slider,
    markup,
    picture,
    slider,
)

_SIDE = "220px"
_DIGITS = 3  # decimals of the shifts, px
_PICTURES = {
    "recorded_picture": "Slice as recorded: x →, tilt ↑",
    "aligned_picture": "Aligned: x →, tilt ↑",
    "reprojection_picture": "Projections of the slice below",
    "slice_picture": "Reconstructed slice: x →, z ↑",
    "overlay_picture": "At the tilt (magenta), next (green): y ↓",
    "difference_picture": "Aligned less projections: red +, blue −",
}


@add_display_arg
def alignment_view(obj, **kwargs):
    """Return the widgets of an `AlignmentPanel`."""
    controls = {
        "method": choice(
            obj,
            "method",
            "Method",
            [(name.replace("_", " "), name) for name in obj.trait("method").handler.values],
        ),
        "y": integer_slider(obj, "y", "Slice y (px)", 0, obj.last_y),
        "iterations": integer_slider(obj, "iterations", "SIRT iterations", 1, 50),
        "axis_offset": _growing_slider(
            obj, "axis_offset", "Axis position (px)", min(20.0, obj.highest_x), 0.1
        ),
        "rotation": _growing_slider(obj, "rotation", "Rotation (°)", 15.0, 0.1),
        "tilt": choice(
            obj, "tilt", "Tilt (°)", [(f"{tilt:g}", place) for place, tilt in enumerate(obj.tilts)]
        ),
        "across": _entry(obj, "across", "Shift across the axis (px)", "x"),
        "along": _entry(obj, "along", "Shift along the axis (px)", "y"),
    }
    buttons = {
        "align_button": button(
            "Align",
            obj.align,
            "Measure the alignment by the method; this can be cancelled.",
            "primary",
        ),
        "undo_button": button("Undo", obj.undo, "Take back the last change of the alignment."),
        "apply_button": button(
            "Apply",
            obj.apply,
            "Attach the alignment that is shown to all series it is for.",
            "success",
        ),
    }
    enabled(obj, buttons["align_button"], "running", when=False)
    enabled(obj, buttons["undo_button"], "undoable")
    enabled(obj, buttons["apply_button"], "can_apply")
    boxes, images = zip(
        *(picture(obj, name, caption) for name, caption in _PICTURES.items()), strict=True
    )
    for box, image in zip(boxes, images, strict=True):
        image.layout = w.Layout(width=_SIDE, height=_SIDE, object_fit="contain")
        box.layout.width = "232px"
    rows = [w.HBox(boxes[:3]), w.HBox(boxes[3:])]
    figures = markup(obj, "summary")
    wdict = {**controls, **buttons, **dict(zip(_PICTURES, images, strict=True)), "summary": figures}
    return assemble(
        obj,
        "Alignment",
        [*controls.values(), figures],
        [w.VBox(rows, layout=w.Layout(margin="0 0 0 16px"))],
        buttons.values(),
        wdict,
    )


def _growing_slider(panel, trait: str, label: str, reach: float, step: float):
    """Return a slider from -reach to reach, which widens when the trait exceeds it."""
    reach = max(reach, abs(getattr(panel, trait)))

    def grow(event) -> None:
        if abs(event.new) > widget.max:
            widget.min, widget.max = -abs(event.new), abs(event.new)

    # Before `slider` links widget and trait: the slider has to be widened before it gets the value.
    panel.observe(grow, trait)
    widget = slider(panel, trait, label, -reach, reach, step)
    return widget


def _entry(panel, trait: str, label: str, direction: str):
    """Return a field for a number; a refused value is reported in the message and reset."""
    widget = w.FloatText(
        round(getattr(panel, trait), _DIGITS), step=0.1, description=label, continuous_update=False
    )

    def show(*_) -> None:
        widget.value = round(getattr(panel, trait), _DIGITS)

    def take(change) -> None:
        # The field shows the rounded value; that alone is no change.
        if change.new == round(getattr(panel, trait), _DIGITS):
            return
        try:
            setattr(panel, trait, change.new)
        except TraitError:
            low, high = (getattr(panel, f"{end}_{direction}") for end in ("lowest", "highest"))
            panel.message = f"{label} has to be from {low:g} to {high:g}; {change.new:g} was given."
            show()

    widget.observe(take, "value")
    panel.observe(show, trait)
    widget.style = {"description_width": "initial"}
    widget.tooltip, widget.layout.width = panel.trait(trait).desc, "360px"
    return widget
