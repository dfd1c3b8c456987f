# SPDX-License-Identifier: GPL-3.0-or-later
"""All panels on one series: what each needs, and what it hands on to the next."""

from __future__ import annotations

from hyperspy.ui_registry import add_gui_method

from .panel import Panel, held

_NO_VOLUME = "there is no volume yet: reconstruct the whole volume in the step Reconstruction"


@add_gui_method(toolkey="hyperspy_multitomo.workbench")
class WorkbenchPanel(Panel):
    """The state of the workbench: the series, the volume and the composition, and the panels made so far.

    Each panel is made when it is asked for, on what there is then; what it makes is handed on.
    """

    haadf = held("The HAADF series.")
    eds = held("The series of elemental maps.")
    spectra = held("The spectra, or nothing.")
    volume = held("The volume of counts that was made last.")
    composition = held("The composition that was made last.")
    #: Names of the panels, in the order of the work.
    STEPS = ("Tilt series", "Alignment", "Response ratios", "Reconstruction", "Composition", "Volume")

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
        return make[step]()

    def _kept(self, panel: Panel, name: str) -> Panel:
        """Take what a panel makes as our own."""
        panel.threaded = self.threaded
        panel.observe(lambda event: event.new is not None and self.trait_set(**{name: event.new}), "result")
        return panel

    def _tilt_series(self) -> Panel:
        from .tilt_series import TiltSeriesPanel

        return self._kept(TiltSeriesPanel(series=self.eds, spectra=self.spectra), "eds")

    def _alignment(self) -> Panel:
        from .alignment import AlignmentPanel

        panel = AlignmentPanel(series=self.haadf)
        panel.threaded = self.threaded
        return panel

    def _ratios(self) -> Panel:
        from .response_ratios import ResponseRatiosPanel

        panel = ResponseRatiosPanel(eds=self.eds, haadf=self.haadf)
        panel.threaded = self.threaded
        return panel

    def _reconstruction(self) -> Panel:
        from .reconstruction import ReconstructionPanel

        return self._kept(ReconstructionPanel(eds=self.eds, haadf=self.haadf), "volume")

    def _composition(self) -> Panel:
        from .composition import CompositionPanel

        if self.volume is None:
            raise ValueError(
                "there is no volume yet: make one in the step Reconstruction, and press its button for the whole volume"
            )
        return self._kept(CompositionPanel(volume=self.volume), "composition")

    def _volume(self) -> Panel:
        from .volume import VolumePanel

        shown = self.composition if self.composition is not None else self.volume
        if shown is None:
            raise ValueError(
                "there is no volume yet: make one in the step Reconstruction, and press its button for the whole volume"
            )
        return VolumePanel(volume=shown)
