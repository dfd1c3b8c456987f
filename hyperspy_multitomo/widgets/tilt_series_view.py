# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the tilt-series panel in Jupyter."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    control,
    enabled,
    picture,
    slider,
    switch,
    words,
)

_WIDTH = 340  # px, of images


@add_display_arg
def tilt_series_view(obj, **kwargs):
    """Return the widgets of a `TiltSeriesPanel`."""
    tilts = [(f"{tilt:.1f}", place) for place, tilt in enumerate(obj.series.tilts)]
    selection = w.SelectionSlider(
        options=tilts, value=obj.tilt, description="Tilt (°)", continuous_update=False
    )
    wdict = {
        "tilt": control(obj, "tilt", selection),
        "channel": choice(obj, "channel", "Image", list(obj.names)),
        "same_brightness": switch(obj, "same_brightness", "Same brightness at all tilts"),
        "bad": switch(obj, "bad", "This tilt is bad"),
        "marked": words(obj, "marked_text"),
    }
    controls = list(wdict.values())
    pictures = [
        w.VBox(
            [
                _image(obj, "title", "image_picture"),
                picture(obj, "signal_picture", "Signal of each tilt")[0],
            ]
        )
    ]
    if obj.counts is not None:
        step = float(obj.energy[1] - obj.energy[0])
        window = {
            "line": choice(obj, "line", "X-ray line", list(obj.lines)),
            "centre": slider(obj, "centre", "Window centre (keV)", obj.lowest, obj.highest, step),
            "width": slider(obj, "width", "Window width (keV)", obj.narrowest, obj.widest, step),
        }
        wdict |= window
        controls += [w.HTML("<b>Window on the spectrum</b>"), *window.values()]
        spectrum = picture(
            obj, "spectrum_picture", "Spectrum of all tilts: the whole, and near the window"
        )[0]
        pictures.append(w.VBox([_image(obj, "map_title", "map_picture"), spectrum]))
    buttons = {
        "suspicious_button": button(
            "Mark suspicious tilts",
            obj.mark_suspicious,
            "Mark the tilts that stand out in signal, sharpness or likeness.",
        ),
        "clear_button": button("Clear marks", obj.clear_marks, "Take the marks of all tilts away."),
        "apply_button": button(
            "Drop marked tilts",
            obj.apply,
            "Make a new series without the marked tilts; this one stays as it is.",
            "primary",
        ),
    }
    enabled(obj, buttons["suspicious_button"], "running", when=False)
    enabled(obj, buttons["apply_button"], "can_apply")
    made = assemble(obj, "Tilt series", controls, pictures, buttons.values(), {**wdict, **buttons})
    # After everything is linked, so that no picture is missed.
    obj.begin()
    return made


def _image(obj, title: str, trait: str):
    """Return an image of fixed width below its title."""
    box, image = picture(obj, trait)
    height, width = obj.series.axes_manager["y"].size, obj.series.axes_manager["x"].size
    image.layout.width = f"{round(_WIDTH * min(1.0, width / height))}px"
    return w.VBox([words(obj, title), box.children[0]])
