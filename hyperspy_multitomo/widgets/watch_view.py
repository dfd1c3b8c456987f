# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the panel of a series that is being acquired in Jupyter."""

from __future__ import annotations

from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.view import assemble, picture, words


@add_display_arg
def watch_view(obj, **kwargs):
    """Return the widgets of a `WatchPanel`."""
    volume, image = picture(obj, "volume_picture", "Sections through the volume so far")
    evidence, graph = picture(obj, "evidence_picture", "Evidence for the region so far")
    wdict = {"notes": words(obj, "notes", small=True), "volume": image, "evidence": graph}
    if obj.watch.region is None:
        evidence.layout.display = "none"
    made = assemble(
        obj, "Series that is being acquired", [wdict["notes"]], [volume, evidence], [], wdict
    )
    made["wdict"]["cancel_button"].description = "Stop"
    # After everything is linked, so that no picture is missed.
    obj.begin()
    return made
