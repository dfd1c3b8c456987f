# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the workbench: all panels on one series, each with the results of those before."""

from __future__ import annotations

import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.widgets.display import series_description
from hyperspy_multitomo.widgets.panel import Panel, signal_trait

# The data that each panel shows; after a change of them the panel has to be opened again.
_SHOWS = {
    "Tilt series": ("eds",),
    "Alignment": ("haadf",),
    "Response ratios": ("haadf", "eds", "alignment"),
    "Reconstruction": ("haadf", "eds", "alignment", "ratios"),
    "Evidence": ("haadf", "eds", "alignment", "volume"),
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
    """State of the workbench: the series, the volume and the composition, and the open panels.

    A panel is made when it is opened, on the present data; its result is the input of the next
    ones. The alignment of the HAADF series is attached to the maps as well, also to maps that
    replace them later. Without maps and spectra the HAADF images alone are shown and reconstructed.
    """

    haadf = signal_trait("The HAADF series.")
    eds = signal_trait("The series of elemental maps, or None.")
    spectra = signal_trait("The spectra, or None.")
    volume = signal_trait("The last volume of counts.")
    evidence = signal_trait("The last evidence.")
    composition = signal_trait("The last composition.")
    #: Names of the panels, in the order of the work.
    STEPS = (
        "Tilt series",
        "Alignment",
        "Response ratios",
        "Reconstruction",
        "Evidence",
        "Composition",
        "Volume",
    )

    # The last panel of each step, and the last volume or composition, whichever is newer.
    _opened = t.Dict
    _newest = signal_trait()

    def __init__(self, **traits):
        super().__init__(**traits)
        if self._maps_lack_alignment():
            # The maps come from the user: only Apply changes them.
            self.message = (
                f"The HAADF series is aligned but {series_description(self.eds)} are not: open the "
                "step Alignment and press Apply, which attaches it to both."
            )

    @property
    def ready(self) -> bool:
        """Whether there is a series for the first step."""
        return self.eds is not None or (self.haadf is not None and self.spectra is None)

    def panel(self, step: str) -> Panel:
        """Return a new panel for a step, on the present data.

        Raises
        ------
        ValueError
            If an input is missing; the message says which step makes it.
        """
        make = {
            "Tilt series": self._tilt_series,
            "Alignment": self._alignment,
            "Response ratios": self._ratios,
            "Reconstruction": self._reconstruction,
            "Evidence": self._evidence,
            "Composition": self._composition,
            "Volume": self._volume,
        }
        self._opened[step] = panel = make[step]()
        return panel

    def _on_result(self, panel: Panel, take) -> Panel:
        """Call `take` with each result of a panel."""
        panel.observe(lambda event: None if event.new is None else take(event.new), "result")
        return panel

    def _store_result(self, panel: Panel, name: str) -> Panel:
        """Store each result of a panel in a trait of the workbench."""
        return self._on_result(panel, lambda result: self.trait_set(**{name: result}))

    def _tilt_series(self) -> Panel:
        from hyperspy_multitomo.widgets.tilt_series_panel import TiltSeriesPanel

        series = self._maps_or_images()
        name = "haadf" if series is self.haadf else "eds"
        panel = TiltSeriesPanel(series=series, spectra=self.spectra, threaded=self.threaded)
        return self._store_result(panel, name)

    def _alignment(self) -> Panel:
        from hyperspy_multitomo.widgets.alignment_panel import AlignmentPanel

        panel = AlignmentPanel(series=self.haadf, maps=self.eds, threaded=self.threaded)
        self.observe(lambda event: panel.trait_set(maps=event.new), "eds")
        return self._on_result(panel, lambda result: self._outdate("alignment"))

    def _ratios(self) -> Panel:
        from hyperspy_multitomo.widgets.response_ratios_panel import ResponseRatiosPanel

        panel = ResponseRatiosPanel(
            eds=self._required_maps(), haadf=self.haadf, threaded=self.threaded
        )
        return self._on_result(panel, lambda result: self._outdate("ratios"))

    def _reconstruction(self) -> Panel:
        from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel

        series = self._maps_or_images()
        haadf = None if series is self.haadf else self.haadf
        panel = ReconstructionPanel(eds=series, haadf=haadf, threaded=self.threaded)
        return self._store_result(panel, "volume")

    def _evidence(self) -> Panel:
        from hyperspy_multitomo.widgets.evidence_panel import EvidencePanel

        return self._store_result(
            EvidencePanel(
                self._required_maps(),
                self._required(self.volume),
                self.haadf,
                threaded=self.threaded,
            ),
            "evidence",
        )

    def _composition(self) -> Panel:
        from hyperspy_multitomo.widgets.composition_panel import CompositionPanel

        return self._store_result(
            CompositionPanel(volume=self._required(self.volume), threaded=self.threaded),
            "composition",
        )

    def _volume(self) -> Panel:
        from hyperspy_multitomo.widgets.volume_panel import VolumePanel

        return VolumePanel(volume=self._required(self._newest), threaded=self.threaded)

    def _maps_or_images(self):
        """Return the maps; the HAADF series where there are none, and no spectra to make them."""
        images_alone = self.eds is None and self.spectra is None and self.haadf is not None
        return self.haadf if images_alone else self._required_maps()

    def _required_maps(self):
        """Return the maps, or raise a ValueError if there are none."""
        if self.eds is None:
            raise ValueError(
                "there are no maps yet: make them of the spectra by mt.elemental_maps(spectra, "
                "...) and set the workbench's `eds`"
            )
        return self.eds

    def _required(self, volume):
        """Return a volume, or raise a ValueError that says which step makes one."""
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
        """Attach the alignment of the HAADF series to maps that have none, and report it."""
        if self._maps_lack_alignment():
            self.eds.align(self.haadf.alignment)
            maps = series_description(self.eds)
            self.message = f"The alignment of the HAADF series was attached to {maps} as well."

    def _outdate(self, name: str) -> None:
        """Mark the open panels that show some data as outdated."""
        for step, panel in list(self._opened.items()):
            images_shown = step == "Tilt series" and name == "haadf" and self.eds is None
            if name in _SHOWS[step] or images_shown:
                panel.outdated = f"{_WORDS[name]} since this panel was opened: open it again."
