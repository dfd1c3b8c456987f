# SPDX-License-Identifier: GPL-3.0-or-later
"""All panels on one series: what each needs, and what it hands on to the next."""

from __future__ import annotations

import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.widgets.display import in_words
from hyperspy_multitomo.widgets.panel import Panel, held

# What a panel shows of the workbench; after a change of it the panel has to be opened again.
_SHOWS = {
    "Tilt series": ("eds",),
    "Alignment": ("haadf",),
    "Response ratios": ("haadf", "eds", "alignment"),
    "Reconstruction": ("haadf", "eds", "alignment", "ratios"),
    "Composition": ("volume",),
    "Volume": ("volume", "composition"),
}
_WORDS = {
    "haadf": "The HAADF series was replaced",
    "eds": "The maps were replaced",
    "alignment": "The alignment was attached",
    "ratios": "The response ratios were attached",
    "volume": "Another volume was made",
    "composition": "Another composition was made",
}


@add_gui_method(toolkey="hyperspy_multitomo.workbench")
class WorkbenchPanel(Panel):
    """The state of the workbench: the series, the volume and the composition, and the panels made so far.

    Each panel is made when it is asked for, on what there is then; what it makes is handed on. The
    alignment of the HAADF series is that of the maps too: of those that are there when it is
    attached, and of those that replace them.
    """

    haadf = held("The HAADF series.")
    eds = held("The series of elemental maps, or nothing yet.")
    spectra = held("The spectra, or nothing.")
    volume = held("The volume of counts that was made last.")
    composition = held("The composition that was made last.")
    #: Names of the panels, in the order of the work.
    STEPS = (
        "Tilt series",
        "Alignment",
        "Response ratios",
        "Reconstruction",
        "Composition",
        "Volume",
    )

    # The panels that were opened last, by step, and the volume or composition that was made last.
    _opened = t.Dict
    _newest = held()

    def __init__(self, **traits):
        super().__init__(**traits)
        if self._maps_lack_alignment():
            # They are the user's: only Apply changes them.
            self.message = (
                f"The HAADF series is aligned but {in_words(self.eds)} are not: open the step "
                "Alignment and press Apply, "
                "which attaches it to both."
            )

    def panel(self, step: str) -> Panel:
        """Return a new panel for a step, on what there is now.

        Raises
        ------
        ValueError
            Where what it needs has not been made; the message says which step makes it.
        """
        make = {
            "Tilt series": self._tilt_series,
            "Alignment": self._alignment,
            "Response ratios": self._ratios,
            "Reconstruction": self._reconstruction,
            "Composition": self._composition,
            "Volume": self._volume,
        }
        self._opened[step] = panel = make[step]()
        return panel

    def _handing_on(self, panel: Panel, take) -> Panel:
        """Call `take` with each result of a panel."""
        panel.observe(lambda event: None if event.new is None else take(event.new), "result")
        return panel

    def _kept(self, panel: Panel, name: str) -> Panel:
        """Take what a panel makes as our own."""
        return self._handing_on(panel, lambda result: self.trait_set(**{name: result}))

    def _tilt_series(self) -> Panel:
        from hyperspy_multitomo.widgets.tilt_series_panel import TiltSeriesPanel

        return self._kept(
            TiltSeriesPanel(series=self._maps(), spectra=self.spectra, threaded=self.threaded),
            "eds",
        )

    def _alignment(self) -> Panel:
        from hyperspy_multitomo.widgets.alignment_panel import AlignmentPanel

        panel = AlignmentPanel(series=self.haadf, maps=self.eds, threaded=self.threaded)
        self.observe(lambda event: panel.trait_set(maps=event.new), "eds")
        return self._handing_on(panel, lambda result: self._outdate("alignment"))

    def _ratios(self) -> Panel:
        from hyperspy_multitomo.widgets.response_ratios_panel import ResponseRatiosPanel

        panel = ResponseRatiosPanel(eds=self._maps(), haadf=self.haadf, threaded=self.threaded)
        return self._handing_on(panel, lambda result: self._outdate("ratios"))

    def _reconstruction(self) -> Panel:
        from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel

        return self._kept(
            ReconstructionPanel(eds=self._maps(), haadf=self.haadf, threaded=self.threaded),
            "volume",
        )

    def _composition(self) -> Panel:
        from hyperspy_multitomo.widgets.composition_panel import CompositionPanel

        return self._kept(
            CompositionPanel(volume=self._made(self.volume), threaded=self.threaded), "composition"
        )

    def _volume(self) -> Panel:
        from hyperspy_multitomo.widgets.volume_panel import VolumePanel

        return VolumePanel(volume=self._made(self._newest), threaded=self.threaded)

    def _maps(self):
        """Return the maps, or say that there are none."""
        if self.eds is None:
            raise ValueError(
                "there are no maps yet: make them of the spectra by mt.elemental_maps(spectra, "
                "...) and set the workbench's `eds`"
            )
        return self.eds

    def _made(self, volume):
        """Return a volume, or say which step makes one."""
        if volume is None:
            raise ValueError(
                "there is no volume yet: make one in the step Reconstruction, and press its button "
                "for the whole volume"
            )
        return volume

    def _maps_lack_alignment(self) -> bool:
        both = self.haadf is not None and self.eds is not None
        return both and self.eds.alignment is None and self.haadf.alignment is not None

    @t.observe("haadf, eds", post_init=True)
    def _series_replaced(self, event) -> None:
        self._outdate(event.name)
        self._safely(self._align_maps)

    @t.observe("volume, composition")
    def _volume_made(self, event) -> None:
        if event.new is not None:
            self._newest = event.new
        self._outdate(event.name)

    def _align_maps(self) -> None:
        """Attach to maps without an alignment that of the HAADF series, and say so."""
        if self._maps_lack_alignment():
            self.eds.align(self.haadf.alignment)
            self.message = (
                f"The alignment of the HAADF series was attached to {in_words(self.eds)} as well."
            )

    def _outdate(self, name: str) -> None:
        """Tell the open panels that show something that it has changed."""
        for step, panel in list(self._opened.items()):
            if name in _SHOWS[step]:
                panel.outdated = f"{_WORDS[name]} since this panel was opened: open it again."
