# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the composition panel in Jupyter."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    control,
    enabled,
    integer_slider,
    markup,
    picture,
    switch,
    words,
)

_SIZE = {"width": "auto", "max_width": "320px", "max_height": "256px", "object_fit": "contain"}
_METHODS = [
    ("Cliff-Lorimer", "CL"),
    ("ζ-factors", "zeta"),
    ("cross sections", "cross_section"),
    ("calculated factors", "model"),
]
_FACTORS = {
    "CL": "k-factor of {}",
    "zeta": "ζ-factor of {} (kg/m²)",
    "cross_section": "Cross section of {} (barn)",
}


_PICTURES = {
    "curve": "Volume above every threshold",
    "histogram": "Composition of the voxels",
    "profile": "Along x through the middle of the section",
}


@add_display_arg
def composition_view(obj, **kwargs):
    """Return the box of a `CompositionPanel` and its widgets by name."""
    controls = _controls(obj)
    _follow_settings(obj, controls)
    texts = {name: markup(obj, name) for name in ("statistics", "notes")}
    texts["notes"].layout = w.Layout(max_width="380px")
    sections, section_images = _sections(obj)
    figures, figure_images = _figures(obj)
    images = section_images | figure_images
    for image in images.values():
        image.layout = w.Layout(**_SIZE)
    apply_button = button(
        "Apply", obj.apply, "Quantify the whole volume; see the panel's result.", "success"
    )
    enabled(obj, apply_button, "can_apply")
    wrap = w.Layout(flex_flow="row wrap")
    pictures = w.VBox([w.HBox(sections, layout=wrap), w.HBox(figures, layout=wrap)])
    obj.begin()
    return assemble(
        obj,
        "Composition",
        [*controls.values(), *texts.values()],
        [pictures],
        [apply_button],
        controls | images | texts | {"apply_button": apply_button},
    )


def _controls(panel) -> dict[str, w.Widget]:
    """Return the controls by name, in the order in which they are shown."""
    threshold = w.FloatSlider(
        panel.threshold, min=0, max=panel.highest, readout_format=".3g", continuous_update=False
    )
    units = [("mass", "weight"), ("atoms", "atomic")]
    controls = {
        "method": choice(panel, "method", "Method", _METHODS),
        **{
            f"factor_{name}": control(
                panel, f"factor_{name}", w.BoundedFloatText(min=0, max=1e12, step=0.01)
            )
            for name in panel.elements
        },
        "composition_units": choice(panel, "composition_units", "Percent of", units),
        "automatic": switch(panel, "automatic", "Automatic threshold"),
        "threshold": control(panel, "threshold", threshold),
        "plane": choice(panel, "plane", "Section", ["xy", "xz", "yz"]),
        "position": integer_slider(panel, "position", "z (px)", 0, panel.last),
    }
    for name in ("automatic", "threshold"):
        controls[name].disabled = panel.mask is not None
    return controls


def _follow_settings(panel, controls: dict[str, w.Widget]) -> None:
    """Keep labels and ranges of the controls up to date with the panel's settings."""

    def label_factors(event=None):
        for name in panel.elements:
            box = controls[f"factor_{name}"]
            box.description = _FACTORS.get(panel.method, "Factor of {}, calculated").format(name)
            box.disabled = panel.method == "model"
        controls["threshold"].description = f"Threshold ({panel.unit()})"

    def scale_threshold(event=None):
        controls["threshold"].max, controls["threshold"].step = panel.highest, panel.highest / 200

    def label_position(event=None):
        controls["position"].max = panel.last
        controls["position"].description = f"{(set('xyz') - set(panel.plane)).pop()} (px)"

    for function, trait in (
        (label_factors, "method"),
        (scale_threshold, "highest"),
        (label_position, "plane"),
        (label_position, "last"),
    ):
        panel.observe(function, trait)
        function()


def _sections(panel) -> tuple[list[w.Widget], dict[str, w.Widget]]:
    """Return a box with section and caption for each element, and the images by name."""
    boxes, images = [], {}
    for name in panel.elements:
        box, image = picture(panel, f"section_{name}")
        box.children = [image, words(panel, f"caption_{name}", small=True)]
        boxes.append(box)
        images[f"section_{name}"] = image
    return boxes, images


def _figures(panel) -> tuple[list[w.Widget], dict[str, w.Widget]]:
    """Return a box for each figure, and the images by name."""
    pairs = {name: picture(panel, name, caption) for name, caption in _PICTURES.items()}
    return [box for box, _ in pairs.values()], {name: image for name, (_, image) in pairs.items()}
