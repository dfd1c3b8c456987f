# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the composition in Jupyter."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    control,
    enabled,
    markup,
    picture,
    switch,
    whole,
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


@add_display_arg
def composition_view(obj, **kwargs):
    """Return the box of a `CompositionPanel` and its widgets by name."""
    wdict = {"method": choice(obj, "method", "Method", _METHODS)}
    for name in obj.elements:
        wdict[f"factor_{name}"] = control(
            obj, f"factor_{name}", w.BoundedFloatText(min=0, max=1e12, step=0.01)
        )
    wdict["composition_units"] = choice(
        obj, "composition_units", "Percent of", [("mass", "weight"), ("atoms", "atomic")]
    )
    wdict["automatic"] = switch(obj, "automatic", "Automatic threshold")
    wdict["threshold"] = control(
        obj,
        "threshold",
        w.FloatSlider(
            obj.threshold, min=0, max=obj.highest, readout_format=".3g", continuous_update=False
        ),
    )
    wdict["plane"] = choice(obj, "plane", "Section", ["xy", "xz", "yz"])
    wdict["position"] = whole(obj, "position", "z (px)", 0, obj.last)
    for name in ("automatic", "threshold"):
        wdict[name].disabled = obj.mask is not None

    def name_method(event=None):
        for name in obj.elements:
            box = wdict[f"factor_{name}"]
            box.description = _FACTORS.get(obj.method, "Factor of {}, calculated").format(name)
            box.disabled = obj.method == "model"
        wdict["threshold"].description = f"Threshold ({obj.unit()})"

    def stretch(event=None):
        wdict["threshold"].max, wdict["threshold"].step = obj.highest, obj.highest / 200

    def name_axis(event=None):
        wdict["position"].max = obj.last
        wdict["position"].description = f"{(set('xyz') - set(obj.plane)).pop()} (px)"

    for function, trait in (
        (name_method, "method"),
        (stretch, "highest"),
        (name_axis, "plane"),
        (name_axis, "last"),
    ):
        obj.observe(function, trait)
        function()
    sections = []
    for name in obj.elements:
        box, wdict[f"section_{name}"] = picture(obj, f"section_{name}")
        box.children = [wdict[f"section_{name}"], words(obj, f"caption_{name}", small=True)]
        sections.append(box)
    figures = []
    for name, caption in (
        ("curve", "Volume above every threshold"),
        ("histogram", "Composition of the voxels"),
        ("profile", "Along x through the middle of the section"),
    ):
        box, wdict[name] = picture(obj, name, caption)
        figures.append(box)
    for name in (*(f"section_{name}" for name in obj.elements), "curve", "histogram", "profile"):
        wdict[name].layout = w.Layout(**_SIZE)
    wdict["statistics"], wdict["notes"] = markup(obj, "statistics"), markup(obj, "notes")
    wdict["notes"].layout = w.Layout(max_width="380px")
    wdict["apply_button"] = button(
        "Apply", obj.apply, "Quantify the whole volume; see the panel's result.", "success"
    )
    enabled(obj, wdict["apply_button"], "can_apply")
    names = [
        "method",
        *(f"factor_{name}" for name in obj.elements),
        "composition_units",
        "automatic",
        "threshold",
        "plane",
    ]
    controls = [wdict[name] for name in (*names, "position", "statistics", "notes")]
    wrap = w.Layout(flex_flow="row wrap")
    pictures = [w.VBox([w.HBox(sections, layout=wrap), w.HBox(figures, layout=wrap)])]
    obj.begin()
    return assemble(obj, "Composition", controls, pictures, [wdict["apply_button"]], wdict)
