# SPDX-License-Identifier: GPL-3.0-or-later
"""Energy window on the summed spectrum of a tilt series, and its map at one tilt."""

from __future__ import annotations

import numpy as np
import traits.api as t

from hyperspy_multitomo.acquisition.eds.xray_lines import families_of, fwhm
from hyperspy_multitomo.acquisition.same_tilt import ROUNDED_TILT, match_tilts
from hyperspy_multitomo.inspection.picture import COLOUR_MAP, LINES, robust_limits
from hyperspy_multitomo.signals.gate import spectra_of
from hyperspy_multitomo.widgets.panel import Panel, TaskControl
from hyperspy_multitomo.widgets.pictures import SIDE, figure_png, png

FREE = "free window"
#: keV; below are the zero-energy strobe peak and the detector's noise threshold.
_LOWEST = 0.1


class SpectrumWindow(Panel):
    """State of the window: an X-ray line or any centre and width, with spectrum and map."""

    line = t.Enum(
        values="lines",
        desc="An X-ray line: sets the window to one FWHM of the detector on either side of it.",
    )
    lines = t.List(t.Str, [FREE])
    centre = t.Range(
        low="lowest",
        high="highest",
        value=1.0,
        desc="Middle of the window on the spectrum, in keV.",
    )
    lowest = t.Float(0.0)
    highest = t.Float(20.0)
    width = t.Range(
        low="narrowest",
        high="widest",
        value=0.2,
        desc="Whole width of the window on the spectrum, in keV.",
    )
    narrowest = t.Float(0.02)
    widest = t.Float(2.0)
    spectrum_picture = t.Bytes(
        desc="The spectrum, summed over all pixels and tilts, with the window."
    )
    map_picture = t.Bytes(desc="Counts in the window at the current tilt.")
    map_title = t.Str(desc="Limits of the window and the counts in it.")
    moved = t.Event(desc="The window has moved; a line that sets centre and width makes one event.")

    #: Counts (tilt, y, x, energy), energies in keV, tilts in degrees; None without spectra.
    counts = t.Any
    energy = t.Any
    spectra_tilts = t.Any
    #: Spectrum summed over all pixels and tilts (energy,); None until it is read.
    summed = t.Any
    _families = t.Any(())
    _resolution = t.Float(130.0)
    _setting = t.Bool(False)

    def use_spectra(self, spectra, elements) -> None:
        """Show these spectra and offer the lines of `elements`, by default of the metadata's."""
        cube = spectra_of(spectra)
        self.counts, self.energy, self.spectra_tilts = cube.data, cube.energy, cube.tilts
        microscope, listed = (
            "Acquisition_instrument.TEM.",
            spectra.metadata.get_item("Sample.elements", default=()),
        )
        beam = spectra.metadata.get_item(microscope + "beam_energy", default=None)
        resolution = spectra.metadata.get_item(
            microscope + "Detector.EDS.energy_resolution_MnKa", default=None
        )
        self._resolution = float(resolution or 130.0)
        self.highest = float(self.energy[-1])
        self.lowest = float(max(self.energy[0], min(_LOWEST, self.highest / 2)))
        step = float(self.energy[1] - self.energy[0])
        self.narrowest, self.widest = 2 * step, max(2.0, 4 * step)
        self._families = [
            f
            for name in elements or listed
            for f in families_of(name, beam, (self.lowest, self.highest))
        ]
        self.lines = [*(family.main for family in self._families), FREE]
        self._set_line(self.lines[0])

    def sum_spectra(self, task: TaskControl) -> np.ndarray:
        """Return the spectrum of the whole series, (energy,), read tilt by tilt."""
        summed = np.zeros(self.energy.size)
        for tilt, cube in enumerate(self.counts):
            task.step(0.5 + 0.5 * tilt / len(self.counts), "Summing the spectra ...")
            summed += np.asarray(cube).sum(axis=(0, 1))
        return summed

    @property
    def window(self) -> np.ndarray:
        """Mask of the channels in the window, (energy,); at least one is in it."""
        distance = np.abs(self.energy - self.centre)
        return distance <= max(self.width / 2, distance.min()) * (1 + 1e-9)

    @property
    def edges(self) -> tuple[float, float]:
        """Lower and upper edge of the window's channels, keV."""
        inside, half = self.energy[self.window], (self.energy[1] - self.energy[0]) / 2
        return float(inside[0] - half), float(inside[-1] + half)

    def window_map(self, tilt: float) -> np.ndarray | None:
        """Return the counts in the window at a tilt (degrees), (y, x); None without its spectra."""
        place = int(match_tilts([tilt], self.spectra_tilts, ROUNDED_TILT)[0])
        if place < 0:
            return None
        inside = np.flatnonzero(self.window)
        return np.asarray(
            self.counts[place][..., inside[0] : inside[-1] + 1].sum(axis=-1), dtype=np.float32
        )

    def draw_map(self, tilt: float) -> None:
        """Draw the map of the window at a tilt in degrees."""
        image = self.window_map(tilt)
        limits = "{:.2f} to {:.2f} keV".format(*self.edges)
        if image is None:
            self.map_title = f"{limits}: no spectra at {tilt:.1f}°"
            image = np.zeros(self.counts.shape[1:3])
        else:
            self.map_title = f"{limits} at {tilt:.1f}°: {image.sum():.0f} counts"
        self.map_picture = image_png(image, COLOUR_MAP, robust_limits(image))

    def draw_spectrum(self) -> None:
        """Draw the full spectrum, and the part near the window."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        whole, near = figure.subplots(2, 1)
        if self.summed is None:
            for axes in (whole, near):
                axes.text(0.5, 0.5, "not summed", ha="center", transform=axes.transAxes)
        else:
            shown = self.energy >= self.lowest
            whole.step(
                self.energy[shown],
                np.maximum(self.summed[shown], 0.5),
                where="mid",
                color="black",
                linewidth=0.7,
            )
            whole.set_yscale("log")
            near.step(self.energy, self.summed, where="mid", color="black", linewidth=0.9)
            self._zoom(near)
        for axes in (whole, near):
            axes.axvspan(*self.edges, color=LINES[0], alpha=0.35, linewidth=0)
            axes.set_ylabel("counts")
        near.set_xlabel("energy (keV)")
        whole.set_xlim(0, self.energy[-1])
        self.spectrum_picture = figure_png(figure)

    def _zoom(self, axes) -> None:
        """Limit the axes to the surroundings of the window, and label the lines there."""
        reach = max(0.6, 1.5 * self.width)
        low, high = self.centre - reach, self.centre + reach
        near = (self.energy >= max(low, self.lowest)) & (self.energy <= high)
        top = max(float(self.summed[near].max(initial=0.0)), 1.0)
        axes.set(xlim=(low, high), ylim=(0, 1.3 * top))
        for family in self._families:
            for name, energy, weight in zip(
                family.names, family.energies, family.weights, strict=True
            ):
                if low < energy < high and weight > 0.1:
                    axes.axvline(energy, color=LINES[1], linewidth=0.7, linestyle=":")
                    axes.text(
                        energy,
                        1.28 * top,
                        name.replace("_", " "),
                        rotation=90,
                        fontsize=7,
                        va="top",
                        ha="right",
                    )

    def _set_line(self, line: str) -> None:
        family = next((f for f in self._families if f.main == line), None)
        self._setting = True
        try:
            self.line = line
            if family is not None:
                self.centre = min(family.energy, self.highest)
                width = 2 * float(fwhm(family.energy, self._resolution))
                self.width = min(max(width, self.narrowest), self.widest)
        finally:
            self._setting = False
        self.moved = True

    @t.observe("line", post_init=True)
    def _line_chosen(self, event) -> None:
        if not self._setting:
            self._set_line(event.new)

    @t.observe("[centre, width]", post_init=True)
    def _window_moved(self, event) -> None:
        if not self._setting:
            self._setting = True
            self.line = FREE
            self._setting = False
            self.moved = True


def image_png(image: np.ndarray, colours: str, limits: tuple[float, float] | None = None) -> bytes:
    """Return an image (y, x) as a PNG with a longer side of `SIDE` px or more.

    Images of a few rows are drawn as a strip of an eighth of their width.
    """
    rows, columns = image.shape
    image = np.repeat(image, max(1, columns // (8 * rows)), axis=0)
    return png(image, limits, colours, side=max(1, SIDE * min(image.shape) // max(image.shape)))
