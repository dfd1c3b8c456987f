# SPDX-License-Identifier: GPL-3.0-or-later
"""The widgets of the reconstruction panel."""

from __future__ import annotations

from html import escape

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.inspection.picture import distinct_colours
from hyperspy_multitomo.reconstruction.recipes import RECIPES
from hyperspy_multitomo.widgets.pictures import SIDE
from hyperspy_multitomo.widgets.reconstruction_panel import METHODS
from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    code,
    control,
    integer_slider,
    picture,
    slider,
    switch,
    words,
)


@add_display_arg
def reconstruction_view(obj, **kwargs):
    """Return the widgets of a `ReconstructionPanel`."""
    single = obj.last_slice == 0
    methods = [(METHODS[name].title, name) for name in obj.methods]
    controls = {
        # A slider needs two ends that differ.
        "y": integer_slider(obj, "y", "Slice y (px)", 0, max(1, obj.last_slice)),
        "element": choice(obj, "element", "Element shown", list(obj.names)),
        "method": choice(obj, "method", "Method", methods),
        "alpha": slider(obj, "alpha", "Weight of the HAADF, alpha", 0.05, 0.99, 0.01),
        "iterations": integer_slider(obj, "iterations", "Iterations", 1, 300),
        "weight": control(
            obj, "weight",
            w.FloatLogSlider(
                obj.weight, min=-1, max=1, step=0.1, readout_format=".2g",
                description="Smoothing weight", continuous_update=False,
            ),
        ),
        "coupled": switch(obj, "coupled", "Elements share their edges"),
        "refit": switch(obj, "refit", "Solve twice, for lost contrast"),
    }  # fmt: skip
    controls["y"].disabled = single
    buttons = {
        "keep_button": button(
            "Keep for comparison", obj.keep, "Show the present picture beside those that follow."
        ),
        "apply_button": button(
            "Reconstruct whole volume",
            obj.apply,
            "Reconstruct all slices with these parameters.",
            "primary",
        ),
        "stop_button": button(
            "Stop", obj.cancel, "Stop after the iterations under way; the volume so far is kept."
        ),
        "resume_button": button(
            "Resume",
            obj.resume,
            "Go on with the run of SIRT or HEBT that was stopped; TV, TGV and TNV cannot be "
            "resumed.",
        ),
    }

    def enable(*_) -> None:
        recipe = RECIPES[METHODS[obj.method].method]
        for name in ("alpha", "weight", "coupled", "refit", "iterations"):
            controls[name].disabled = name not in recipe.fields()
        controls["coupled"].disabled |= "tnv" in obj.method
        buttons["apply_button"].disabled = not obj.can_apply
        buttons["stop_button"].disabled = not obj.running
        buttons["resume_button"].disabled = not (obj.can_apply and obj.can_resume)

    obj.observe(enable, "method, running, can_apply, can_resume")
    enable()
    colours = zip(obj.names, distinct_colours(len(obj.names)), strict=True)
    key = ", ".join(
        f'<b style="color:{colour}; background:#222; padding:0 3px">{escape(name)}</b>'
        for name, colour in colours
    )
    captions = {
        "alone_element": obj.alone_words,
        "alone_mix": "All together: ",
        "shown_element": "By the chosen method, same scale",
        "shown_mix": "All together, same scale",
        "kept_element": "Kept for comparison, same scale",
        "kept_mix": "All together, as kept",
        "residual_curves": "|data - projections| / |data|",
    }
    pictures, images = {}, {}
    for name, caption in captions.items():
        pictures[name], images[name] = picture(
            obj, name, caption, key if name == "alone_mix" else ""
        )
        if name != "residual_curves":
            images[name].layout = w.Layout(width=f"{SIDE}px")
    shown_words, kept_words = words(obj, "shown"), words(obj, "kept")
    shown = w.VBox(
        [w.HTML("<small>Sections of the slice: x to the right, z up</small>"), shown_words]
    )
    columns = [
        w.VBox([pictures["alone_element"], pictures["alone_mix"]]),
        w.VBox([pictures["shown_element"], pictures["shown_mix"]]),
        w.VBox(
            [pictures["kept_element"], pictures["kept_mix"], kept_words],
            layout=w.Layout(max_width=f"{SIDE}px"),
        ),
        w.VBox([pictures["residual_curves"], shown], layout=w.Layout(max_width="340px")),
    ]
    script = code(obj, "python", rows=7)
    columns[-1].children += (w.HTML("<small>The same call in Python, to be copied</small>"), script)
    wdict = controls | buttons | images | {"shown": shown_words, "kept": kept_words}
    wdict["python"] = script
    return assemble(obj, "Reconstruction", controls.values(), columns, buttons.values(), wdict)
