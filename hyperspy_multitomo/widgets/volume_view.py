# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the volume panel in Jupyter."""

from __future__ import annotations

import ipywidgets as w
from hyperspy_gui_ipywidgets.utils import add_display_arg

from hyperspy_multitomo.widgets.view import (
    assemble,
    button,
    choice,
    control,
    picture,
    slider,
    switch,
    words,
)


@add_display_arg
def volume_view(obj, **kwargs):
    """Return the widgets of a `VolumePanel`."""
    wdict = {axis: _cursor(obj, axis) for axis in "xyz"}
    wdict["along"] = choice(obj, "along", "Profile along", ["x", "y", "z"])
    rows = []
    for channel in obj.channels:
        parts = _channel(channel)
        wdict |= parts
        rows.append(
            w.VBox(
                list(parts.values()),
                layout=w.Layout(border_top="1px solid #ddd", min_height="96px"),
            )
        )
    values = wdict["values"] = words(obj, "values")
    # Space for two lines, so that nothing moves when numbers get longer.
    values.layout = w.Layout(width="360px", min_height="60px")
    pictures = {name: picture(obj, name) for name in ("xz", "yz", "xy", "profile")}
    wdict |= {name: image for name, (_, image) in pictures.items()}
    for _, image in pictures.values():
        # Prevents a narrow picture from being stretched to the width of the others.
        image.layout.align_self = "flex-start"
    sections = w.GridBox(
        [box for box, _ in pictures.values()],
        layout=w.Layout(grid_template_columns="auto auto", width="fit-content", grid_gap="0 8px"),
    )
    scene = _scene(obj, wdict)
    tabs = wdict["tabs"] = w.Tab(
        [sections, scene], titles=["Sections", "3-D"], layout=w.Layout(min_width="700px")
    )
    left = [wdict["x"], wdict["y"], wdict["z"], wdict["along"], values]
    left.append(w.VBox(rows, layout=w.Layout(max_height="480px", overflow="auto", width="380px")))
    return assemble(obj, "Volume", left, [tabs], [], wdict)


def _cursor(panel, axis: str):
    low, high = getattr(panel, f"low_{axis}"), getattr(panel, f"high_{axis}")
    step = panel.step(axis)
    # A slider needs different ends, which a single slice does not have.
    room = step / 2 if low == high else 0.0
    widget = slider(panel, axis, f"{axis} ({panel.unit})", low - room, high + room, step)
    widget.disabled, widget.readout_format = bool(room), ".2f" if step >= 0.05 else ".4f"
    return widget


def _channel(channel) -> dict:
    name = channel.name
    shown = switch(channel, "shown", f"Show {name}")
    colour = control(
        channel, "colour", w.ColorPicker(value=channel.colour, description=f"Colour of {name}")
    )
    brightness = slider(channel, "brightness", f"Brightness of {name} (×)", 0.1, 10, 0.1)
    return {f"shown_{name}": shown, f"colour_{name}": colour, f"brightness_{name}": brightness}


def _scene(panel, wdict: dict):
    """Return the tab of the 3-D view, empty until it is built."""
    build = wdict["build_button"] = button(
        "Make 3-D view", panel.build, "Make a surface of each element.", "primary"
    )
    directions = [("nothing", "nothing"), ("z (from above)", "z"), ("x (from the right)", "x")]
    cut = wdict["cut"] = choice(panel, "cut", "Cut beyond the cursor along", directions)
    rows = []
    for channel in panel.channels:
        step = (channel.highest - channel.lowest) / 200
        level = slider(
            channel,
            "level",
            f"Level of {channel.name} ({panel.quantity})",
            channel.lowest,
            channel.highest,
            step,
        )
        level.readout_format = ".3g"
        opacity = slider(channel, "opacity", f"Opacity of {channel.name} (0 to 1)", 0.05, 1.0, 0.05)
        wdict |= {f"level_{channel.name}": level, f"opacity_{channel.name}": opacity}
        rows.append(w.HBox([level, opacity]))
    name = wdict["file_name"] = control(
        panel, "file_name", w.Text(panel.file_name, description="File name")
    )
    name.layout.width = "260px"
    overwrite = wdict["overwrite"] = switch(
        panel, "overwrite", "Replace a file that is there already"
    )
    overwrite.layout.width = "auto"
    save = wdict["snapshot_button"] = button(
        "Save as a web page", panel.snapshot, "Save the 3-D view as it is as an HTML file."
    )
    hint = w.HTML(
        f"<small>Axes in {panel.unit}, large y in front; drag to turn, turn the wheel to "
        "zoom.</small>"
    )
    plot = w.VBox([w.HTML("No surfaces yet.")], layout=w.Layout(height="500px", width="720px"))

    def show(event=None):
        save.disabled = panel.surfaces is None
        if panel.surfaces is not None:
            plot.children = [panel.surfaces.plot]

    panel.observe(show, "surfaces")
    show()
    wdict["plot"] = plot
    return w.VBox([w.HBox([build, cut]), *rows, plot, hint, w.HBox([name, overwrite, save])])
