# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the tilt-series panel: images, signal per tilt, bad tilts, windows on the spectra."""

from __future__ import annotations

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.inspection.picture import COLOUR_MAP, LINES, robust_limits
from hyperspy_multitomo.signals.arrays import as_recorded
from hyperspy_multitomo.widgets.panel import TaskControl, signal_trait
from hyperspy_multitomo.widgets.pictures import figure_png
from hyperspy_multitomo.widgets.spectrum_window import SpectrumWindow, image_png

ALL = "all elements"
# Upper limit of the signal's axis over its largest value.
_ROOM = 1.12


@add_gui_method(toolkey="hyperspy_multitomo.tilt_series")
class TiltSeriesPanel(SpectrumWindow):
    """State of the panel: tilt and channel shown, tilts marked as bad, window on the spectra.

    `apply` calls `drop_tilts` with the marked tilts and puts the new series into `result`; the
    series itself is unchanged.
    """

    tilt = t.Range(low=0, high="last", value=0, desc="The tilt that is shown, in degrees.")
    last = t.Int(0)
    channel = t.Enum(values="names", desc="The image or elemental map that is shown.")
    names = t.List(t.Str, ["HAADF"])
    same_brightness = t.Bool(
        True, desc="Draw all tilts with the same limits, so that darker ones look darker."
    )
    bad = t.Bool(False, desc="Mark the tilt that is shown as bad.")
    marked = t.List(t.Float, desc="The tilts marked as bad, in degrees, ascending.")
    marked_text = t.Str("Marked: none", desc="The tilts marked as bad, in words.")
    title = t.Str(desc="Which image is shown.")
    image_picture = t.Bytes(desc="The image at the current tilt.")
    signal_picture = t.Bytes(desc="Signal of each tilt; marked tilts are crossed out.")
    lacking = t.Property(t.Str, observe="marked.items")
    result = signal_trait("The series without the marked tilts, after they were dropped.")

    series = t.Any
    #: Sum of each image, (name, tilt), and brightness limits of each name; None until read.
    sums = t.Any
    limits = t.Any
    _stale = t.Set
    _begun = t.Bool(False)

    def __init__(self, series, spectra=None, **traits):
        super().__init__(**traits)
        self.series, self._data, self._tilts = series, as_recorded(series), series.tilts
        channels = list(series.channels) or ["HAADF"]
        self.names = [*channels, ALL] if len(channels) > 1 else channels
        self.channel = self.names[0]
        self.last = len(self._tilts) - 1
        self.tilt = int(np.abs(self._tilts).argmin())
        if spectra is not None:
            self.use_spectra(spectra, series.elements)

    @property
    def current(self) -> float:
        """The tilt that is shown, in degrees."""
        return float(self._tilts[self.tilt])

    def begin(self) -> None:
        """Draw the first pictures, and read the whole series in the background."""
        self._begun = True
        self._redraw("image", "signal", "map", "spectrum")
        if self.sums is None:
            self.start(self._read_series, self._read_done)

    def mark_suspicious(self) -> None:
        """Mark the tilts that `rank_tilts` finds suspicious, in addition to the marked ones."""

        def work(task: TaskControl):
            task.step(0.1, "Comparing the tilts ...")
            return self.series.rank_tilts()

        def then(ranking) -> None:
            suspicious = [float(tilt) for tilt in ranking.suspicious]
            self.marked = sorted({*self.marked, *suspicious})
            reasons = [f"{tilt:.1f}° ({ranking.reasons[self._index(tilt)]})" for tilt in suspicious]
            self.message = (
                f"Suspicious: {', '.join(reasons)}" if suspicious else "No tilt is suspicious."
            )

        self.start(work, then)

    def clear_marks(self) -> None:
        """Remove all marks."""
        self.marked = []

    def apply(self) -> None:
        """Put the series without the marked tilts into `result`."""
        if words := self.hindrance():
            self.message = words
            return
        marked = list(self.marked)

        def then(result) -> None:
            self.result = result
            self.message = (
                f"{len(result.tilts)} of {len(self._tilts)} tilts are kept: the new series is in "
                "result."
            )

        self.start(lambda task: self.series.drop_tilts(marked), then)

    def _get_lacking(self) -> str:
        return "" if self.marked else "No tilt is marked: mark those that are to be dropped."

    def _index(self, tilt: float) -> int:
        return int(np.abs(self._tilts - tilt).argmin())

    def _image(self, name: str, index: int) -> np.ndarray:
        """Return the image of one channel at one tilt, (x, y)."""
        if name == ALL:
            return np.asarray(self._data[:, index]).sum(axis=0)
        return np.asarray(self._data[self.names.index(name), index])

    def _read_series(self, task: TaskControl):
        """Return sums (name, tilt), limits for all tilts (name, 2), and the summed spectrum."""
        sums, limits = (
            np.zeros((len(self.names), self.last + 1)),
            np.zeros((len(self.names), self.last + 1, 2)),
        )
        share = 1.0 if self.counts is None else 0.5
        for place in range(self.last + 1):
            task.step(share * place / (self.last + 1), "Reading the tilts ...")
            images = np.asarray(self._data[:, place])
            if len(self.names) > len(images):
                images = np.concatenate([images, images.sum(axis=0, keepdims=True)])
            sums[:, place] = images.sum(axis=(1, 2), dtype=np.float64)
            limits[:, place] = [robust_limits(image) for image in images]
        # The median over the tilts, so that one bright tilt does not darken all others.
        common = np.median(limits, axis=1)
        return sums, common, None if self.counts is None else self.sum_spectra(task)

    def _read_done(self, results) -> None:
        self.sums, self.limits, self.summed = results
        self.message = ""
        self._redraw("image", "signal", "spectrum")

    @t.observe("[tilt, channel, same_brightness, marked, moved]", post_init=True)
    def _changed(self, event) -> None:
        stale = {
            "tilt": ("image", "signal", "map"),
            "channel": ("image", "signal"),
            "same_brightness": ("image",),
            "marked": ("image", "signal"),
            "moved": ("map", "spectrum"),
        }
        if event.name in ("tilt", "marked"):
            self.bad = self.current in self.marked
            listed = ", ".join(f"{tilt:.1f}°" for tilt in self.marked)
            self.marked_text = f"Marked: {listed or 'none'}"
        self._redraw(*stale[event.name])

    @t.observe("bad", post_init=True)
    def _bad_changed(self, event) -> None:
        if event.new != (self.current in self.marked):
            others = [tilt for tilt in self.marked if tilt != self.current]
            self.marked = sorted([*others, self.current]) if event.new else others

    def _redraw(self, *names: str) -> None:
        """Request pictures; a new request is added to those that are still waiting."""
        if not self._begun:
            return
        self._stale |= set(names)
        self.refresh(lambda: self._draw())

    def _draw(self) -> None:
        for name, draw in (
            ("image", self._draw_image),
            ("map", lambda: self.draw_map(self.current)),
            ("signal", self._draw_signal),
            ("spectrum", self.draw_spectrum),
        ):
            if name in self._stale and not self.closed:
                # Discarded before the drawing, so that a change meanwhile requests another one.
                self._stale.discard(name)
                if name not in ("map", "spectrum") or self.counts is not None:
                    draw()

    def _draw_image(self) -> None:
        place, name = self.tilt, self.channel
        image = self._image(name, place)
        whole = self.same_brightness and self.limits is not None
        limits = tuple(self.limits[self.names.index(name)]) if whole else robust_limits(image)
        tilt = float(self._tilts[place])
        mark = ", marked as bad" if tilt in self.marked else ""
        self.title = f"{name} at {tilt:.1f}° (image {place + 1} of {self.last + 1}{mark})"
        self.image_picture = image_png(
            image.T, COLOUR_MAP if self.series.channels else "gray", limits
        )

    def _draw_signal(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        axes = figure.subplots()
        if self.sums is None:
            axes.text(0.5, 0.5, "not read", ha="center", transform=axes.transAxes)
        else:
            values = self.sums[self.names.index(self.channel)]
            axes.plot(self._tilts, values, "o-", color=LINES[1], markersize=3, linewidth=0.8)
            bad = np.isin(self._tilts, self.marked)
            axes.plot(
                self._tilts[bad], values[bad], "x", color=LINES[0], markersize=8, markeredgewidth=2
            )
            axes.set_ylim(min(0.0, _ROOM * values.min()), _ROOM * max(values.max(), 1e-30))
        axes.axvline(self.current, color="black", linewidth=0.8, linestyle=":")
        axes.set_xlabel("tilt (°)")
        axes.set_ylabel("counts" if self.series.channels else "summed signal")
        self.signal_picture = figure_png(figure)
