# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the panel of a series that is being acquired: a watch in the background."""

from __future__ import annotations

import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.widgets.panel import Panel, TaskControl
from hyperspy_multitomo.widgets.pictures import figure_png


@add_gui_method(toolkey="hyperspy_multitomo.watch")
class WatchPanel(Panel):
    """State of the panel: the watch, and pictures of its last look.

    `result` is the last `Look`.
    """

    volume_picture = t.Bytes(desc="Sections through the last volume.")
    evidence_picture = t.Bytes(desc="z of the region against the number of tilts.")
    notes = t.Str(desc="Warnings of the last look.")
    result = t.Any
    watch = t.Any

    def __init__(self, watch, **traits):
        super().__init__(**traits)
        self.watch = watch

    def begin(self) -> None:
        """Watch in the background until the watch ends."""
        if not self.running:
            self.start(self._follow, lambda reason: setattr(self, "message", f"Ended: {reason}."))

    def cancel(self) -> None:
        """End the watch after the present look."""
        self.watch.stop()

    def _follow(self, task: TaskControl) -> str:
        self.message = "Waiting for files ..."
        for look in self.watch:
            self.result, self.notes = look, "; ".join(look.notes)
            self.volume_picture = figure_png(look.volume.plot_orthoslices())
            if look.evidence is not None:
                self.evidence_picture = figure_png(self.watch.plot())
            best = self.watch.history[-1].get("z")
            found = "" if best is None else f", z = {best:.1f}"
            self.message = f"{len(look.tilts)} tilts after {look.seconds:.0f} s{found}"
        return self.watch.reason
