# SPDX-License-Identifier: GPL-3.0-or-later
"""View of the response-ratios panel in Jupyter."""

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
    slider,
    switch,
)

_SIZE = {"width": "auto", "max_width": "320px", "max_height": "320px", "object_fit": "contain"}
_METHODS = [("sums over blocks", "blocks"), ("counts of pixels", "poisson")]


@add_display_arg
def response_ratios_view(obj, **kwargs):
    """Return the box of a `ResponseRatiosPanel` and its widgets by name."""
    wdict = {
        "method": choice(obj, "method", "Method", _METHODS),
        "block_size": integer_slider(obj, "block_size", "Block size (px, 0: automatic)", 0, 128),
        "min_counts": control(
            obj,
            "min_counts",
            w.BoundedFloatText(min=1, max=1e6, step=10, description="Least counts per block"),
        ),
        "rest": switch(obj, "rest", "Unexplained HAADF as a channel of its own"),
        "mask_level": slider(obj, "mask_level", "Mask level (part of brightest)", 0.01, 0.95, 0.01),
        "tilt": control(
            obj,
            "tilt",
            w.SelectionSlider(
                options=[(f"{tilt:g}", at) for at, tilt in enumerate(obj.tilts)],
                value=obj.tilt,
                description="Tilt shown (°)",
                continuous_update=False,
            ),
        ),
    }
    wdict["mask_level"].disabled = obj.mask is not None
    shown = []
    for name, caption in (
        ("measured", "HAADF; orange: edge of the fitted pixels"),
        ("residual", "Measured less modelled; red: brighter than the maps say"),
        ("scatter", "Measured against modelled; line: equal"),
    ):
        box, wdict[name] = picture(obj, name, caption)
        wdict[name].layout = w.Layout(**_SIZE)
        shown.append(box)
    wdict["figures"], wdict["notes"] = markup(obj, "figures"), markup(obj, "notes")
    wdict["fit_button"] = button(
        "Fit", obj.fit, "Fit on a copy of the series and show the result.", "primary"
    )
    wdict["apply_button"] = button(
        "Apply",
        obj.apply,
        "Attach the ratios to the series, for the methods that follow.",
        "success",
    )
    enabled(obj, wdict["fit_button"], "running", when=False)
    enabled(obj, wdict["apply_button"], "can_apply")
    wdict["notes"].layout = wdict["figures"].layout = w.Layout(max_width="380px")
    controls = [
        wdict[name]
        for name in (
            "method",
            "block_size",
            "min_counts",
            "rest",
            "mask_level",
            "tilt",
            "figures",
            "notes",
        )
    ]
    return assemble(
        obj, "Response ratios", controls, shown, [wdict["fit_button"], wdict["apply_button"]], wdict
    )
