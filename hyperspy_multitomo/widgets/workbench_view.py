# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the workbench in Jupyter: a tab for each step, whose panel is opened by a button."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.panel import error_text
from hyperspy_multitomo.widgets.view import button, words


@add_display_arg
def workbench_view(obj, **kwargs):
    """Return tabs with a button that opens the panel of each step; the first one is open."""
    tabs, wdict = w.Tab(), {}
    boxes, openers = [], []
    for step in obj.STEPS:
        box = w.VBox()

        def open_step(step=step, box=box):
            try:
                made = obj.panel(step).gui(display=False, toolkit="ipywidgets")["ipywidgets"]
            except Exception as error:
                obj.message = error_text(error)
                return
            obj.message = ""
            box.children = [box.children[0], made["widget"]]
            wdict[step] = made["wdict"]

        opener = button(
            f"Open {step.lower()}",
            open_step,
            f"Open the panel of this step on what there is now: {step.lower()}.",
        )
        opener.layout.align_self = "flex-start"
        wdict[f"{step} button"] = opener
        box.children = [opener]
        boxes.append(box)
        openers.append(open_step)
    tabs.children = boxes
    for number, step in enumerate(obj.STEPS):
        tabs.set_title(number, step)
    message = words(obj, "message")
    wdict["message"] = message
    if obj.ready:
        said = obj.message
        openers[0]()
        obj.message = said
    return {"widget": w.VBox([tabs, message]), "wdict": wdict}
