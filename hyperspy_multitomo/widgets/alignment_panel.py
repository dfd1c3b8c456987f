# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the alignment panel: an alignment that is measured, turned by hand, looked at in one slice, and then attached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.alignment import METHODS, Alignment
from hyperspy_multitomo.alignment import align as measure
from hyperspy_multitomo.inspection.picture import colour_mix, robust_limits
from hyperspy_multitomo.signals.methods.aligning import (
    alignment_for,
    alignment_images,
    modalities_of,
)
from hyperspy_multitomo.widgets.display import in_words
from hyperspy_multitomo.widgets.panel import Job, Panel, held, said
from hyperspy_multitomo.widgets.pictures import png

# Methods that go on from an alignment; the others begin from nothing.
_GO_ON = ("projection_matching", "refine", "tilt_axis")
# Methods in which maps decide together with the images.
_WITH_MAPS = ("auto", "refine")
_MARK = (1.0, 0.85, 0.0)
# Share of the width of a sinogram that a mark takes.
_WIDTH = 0.03
# Images wider than this, px, begin with half as many iterations.
_FAST = 256


@add_gui_method(toolkey="hyperspy_multitomo.alignment")
class AlignmentPanel(Panel):
    """
    Align a series: measure, correct by hand, look at one slice, attach.

    Parameters
    ----------
    series : TiltSeriesHAADF, TiltSeriesEDS or TiltSeriesEELS
        It keeps what it has until `apply`.
    alignment : Alignment, optional
        To begin from, of the same field of view; by default the attached one.
    maps : TiltSeriesEDS or TiltSeriesEELS, optional
        Maps to which the alignment is attached as well; with the methods auto and refine they
        decide together with the images.
    orientation, interpolate
        As for ``series.align``, how a given `alignment` is converted.
    **traits
        Values of the controls, such as ``method="refine"``.
    """

    method = t.Enum(
        *METHODS,
        desc="How to measure the alignment: auto suits most specimens, refine goes on from what is shown.",
    )
    y = t.Range(
        low=0, high="last_y", value=0, desc="The slice across the tilt axis that the pictures show."
    )
    iterations = t.Range(
        1,
        50,
        10,
        desc="Iterations of SIRT for the slice that is shown; more show finer detail and take longer.",
    )
    axis_offset = t.Range(
        low="lowest_x", high="highest_x", value=0.0,
        desc="Where the tilt axis lies, from the middle of the images towards larger x; a wrong one bends points into arcs.",
    )  # fmt: skip
    rotation = t.Range(
        -180.0, 180.0, 0.0, desc="In-plane rotation that puts the tilt axis along y, positive from +x towards +y."
    )  # fmt: skip
    tilt = t.Range(
        low=0,
        high="last_tilt",
        value=0,
        desc="The image whose shifts are edited; ticks mark it in the sinograms.",
    )
    across = t.Range(
        low="lowest_x", high="highest_x", value=0.0,
        desc="What is added to x at this tilt to put the object in place; at most half the width of the images.",
    )  # fmt: skip
    along = t.Range(
        low="lowest_y", high="highest_y", value=0.0,
        desc="What is added to y at this tilt to put the object in place; at most half the height of the images.",
    )  # fmt: skip

    #: What is looked at and edited; `apply` attaches it.
    alignment = t.Instance(Alignment, comparison_mode=t.ComparisonMode.identity)
    #: What the alignment is attached to besides the series, or nothing.
    maps = held("The maps of the same field of view.")
    result = t.Instance(
        Alignment,
        comparison_mode=t.ComparisonMode.identity,
        desc="The alignment that was attached last.",
    )
    lacking = t.Property(t.Str, observe="alignment")
    undoable = t.Bool(False, desc="Whether there is a change to take back.")
    summary = t.Str(desc="Figures of the alignment and of the slice that is shown.")

    recorded_picture = t.Bytes(desc="The slice's projections against the tilt, as recorded.")
    aligned_picture = t.Bytes(desc="The same, aligned, with the tilt axis in the middle.")
    reprojection_picture = t.Bytes(desc="Projections of the reconstructed slice.")
    difference_picture = t.Bytes(
        desc="Aligned projections less those of the reconstruction: red too bright, blue too dark."
    )
    slice_picture = t.Bytes(desc="The slice, reconstructed from the aligned projections.")
    overlay_picture = t.Bytes(desc="The image at the chosen tilt over its neighbour, aligned.")

    last_y = t.Int
    last_tilt = t.Int
    lowest_x, highest_x = t.Float, t.Float
    lowest_y, highest_y = t.Float, t.Float

    _series, _images, _shown, _solved, _nothing, _before = t.Any, t.Any, t.Any, t.Any, t.Any, t.List
    _following = t.Bool(False)

    def __init__(
        self, series, alignment=None, *, maps=None, orientation="same", interpolate=False, **traits
    ):
        super().__init__()
        self._series, self.maps = series, maps
        self._images = alignment_images(series)
        count, width, height = self._images.shape
        self.trait_set(last_tilt=count - 1, last_y=height - 1)
        self.trait_set(
            lowest_x=-width / 2, highest_x=width / 2, lowest_y=-height / 2, highest_y=height / 2
        )
        self._shown = _alone(series, self._images)
        if alignment is not None:
            alignment = alignment_for(series, alignment, orientation, interpolate)
        else:
            alignment = series.alignment
        if alignment is None:
            # Not to be attached: nobody has measured or set it.
            alignment = self._nothing = self._none()
        self.alignment = alignment
        self.trait_set(y=height // 2, tilt=count // 2, iterations=10 if width <= _FAST else 5)
        self.trait_set(**traits)
        self._follow()
        self.observe(self._edited, ["axis_offset", "rotation", "across", "along"])
        self.observe(lambda event: self._follow(), "tilt")
        self.observe(lambda event: self.draw(), ["y", "iterations", "tilt", "alignment"])
        self.draw()

    @property
    def tilts(self) -> np.ndarray:
        """Tilts of the series, degrees."""
        return self._shown.tilts

    def align(self) -> None:
        """Measure by `method`, as ``series.align(method=...)`` does; what is attached stays until `apply`."""
        method = self.method
        start = self.alignment if method in _GO_ON and self.alignment != self._none() else None
        maps = self.maps if method in _WITH_MAPS else None
        by = " by the images alone" if self.maps is not maps else ""
        self.message = "Aligning ..."

        def work(job: Job) -> Alignment:
            stages = []

            def told(line: str) -> None:
                stages.append(line)
                job.step(1 - 0.6 ** len(stages), line)

            others = modalities_of(self._series, maps) if maps is not None else []
            found = measure(
                self._images, self.tilts, method, start=start, others=others, progress=told
            )
            job.step(0.95)
            return replace(found, pixel_size=self._series.pixel_size)

        def then(found: Alignment) -> None:
            self._change(found)
            self.message = f"Aligned{by}. Apply attaches it to {self._targets()}."

        self.start(work, then)

    def undo(self) -> None:
        """Take back the last change."""
        if not self._before:
            self.message = "There is nothing to take back."
            return
        self.message = ""
        self.alignment = self._before.pop()
        self.undoable = bool(self._before)
        self._follow()

    def apply(self) -> None:
        """Attach the alignment: ``series.align(alignment)``, and the same on the maps where there are any.

        Where there is none yet, or one is being measured, nothing happens but that the message says
        so.
        """
        if words := self.hindrance():
            self.message = words
            return
        try:
            # The maps may refuse it; then the series keeps what it has.
            if self.maps is not None:
                self.maps.align(self.alignment)
            self._series.align(self.alignment)
        except ValueError as error:
            self.message = said(error)
            return
        self.message = f"Attached to {self._targets()}."
        self.result = self.alignment

    def _get_lacking(self) -> str:
        if self.alignment is not self._nothing:
            return ""
        return "There is no alignment to attach yet: press Align, or set axis, rotation or shifts by hand."

    def _targets(self) -> str:
        """Return in words what the alignment is attached to."""
        return " and ".join(in_words(one) for one in (self._series, self.maps) if one is not None)

    def draw(self) -> None:
        """Draw all pictures anew."""
        if not self.closed:
            self.refresh(self._draw)

    def aligned_slice(self):
        """Return the shown slice as an aligned series of one row, from the rows that it needs."""
        alignment, y = self.alignment, self.y
        _, width, height = self._images.shape
        angle = np.deg2rad(alignment.rotation)
        reach = (
            abs(np.sin(angle)) * (width / 2 + abs(alignment.axis_offset))
            + (1 - np.cos(angle)) * height / 2
        )
        reach += (
            np.hypot(alignment.across, alignment.along).max()
            if alignment.rotation
            else np.abs(alignment.along).max()
        )
        if alignment.drift is not None:
            reach += np.abs(alignment.drift).max() * max(width, height)
        low, high = max(0, int(y - reach) - 2), min(height, int(np.ceil(y + reach)) + 3)
        self._shown.alignment = alignment
        return self._shown.isig[:, low:high].aligned().isig[:, y - low : y - low + 1]

    def _draw(self) -> None:
        alignment, y, tilt = self.alignment, self.y, self.tilt
        recorded = self._images[..., y]
        limits = robust_limits(recorded)
        most = max(0.25 * (limits[1] - limits[0]), 1e-12)
        self.recorded_picture = self._sinogram(recorded, limits, "gray", tilt)
        self._draw_overlay(tilt)
        # Another tilt moves only the marks.
        key = (alignment, y, self.iterations)
        if self._solved is None or self._solved[0] != key:
            row = self.aligned_slice()
            aligned = row.array("tilt", "x", "y")[..., 0]
            self.aligned_picture = self._sinogram(aligned, limits, "gray", tilt)
            volume = row.reconstruct_sirt(self.iterations, show_progressbar=False)
            self._solved = (key, aligned, _projected(row, volume))
            self.slice_picture = png(
                volume.array("z", "x", "y")[..., 0], robust_limits(volume.data), upward=True
            )
            self.summary = _figures(alignment, volume)
        _, aligned, projected = self._solved
        self.aligned_picture = self._sinogram(aligned, limits, "gray", tilt)
        self.reprojection_picture = self._sinogram(projected, limits, "gray", tilt)
        self.difference_picture = self._sinogram(aligned - projected, (-most, most), "RdBu_r", tilt)

    def _draw_overlay(self, tilt: int) -> None:
        # The neighbour of the last image is the one before.
        first = max(0, min(tilt, self.last_tilt - 1))
        self._shown.alignment = self.alignment
        pair = self._shown.inav[first : first + 2].aligned().array("tilt", "y", "x")
        images = [pair[tilt - first], pair[-1 if tilt == first else 0]]
        self.overlay_picture = png(
            colour_mix(images, limits=[robust_limits(pair)] * 2, colours=["magenta", "lime"])
        )

    def _sinogram(self, sinogram: np.ndarray, limits, colours: str, tilt: int) -> bytes:
        """Return a square picture of projections (tilt, x) on an even axis of tilts, with marks at the edited one."""
        from matplotlib import colormaps

        side = sinogram.shape[1]
        angles = np.linspace(self.tilts[0], self.tilts[-1], side)
        rows = np.abs(angles[:, None] - self.tilts).argmin(axis=1)
        low, high = limits
        image = colormaps[colours](np.clip((sinogram - low) / ((high - low) or 1.0), 0, 1))[rows][
            ..., :3
        ]
        edge = max(1, round(_WIDTH * side))
        marked = np.flatnonzero(rows == tilt)
        for columns in (slice(0, edge), slice(side - edge, side)):
            image[marked, columns] = _MARK
        return png(image, upward=True)

    def _change(self, alignment: Alignment) -> None:
        """Take another alignment, and remember the present one for `undo`."""
        self.message = ""
        self._before.append(self.alignment)
        self.undoable = True
        self.alignment = alignment
        self._follow()

    def _edited(self, event) -> None:
        if self._following:
            return
        name, value = event.name, float(event.new)
        if name in ("axis_offset", "rotation"):
            self._change(replace(self.alignment, **{name: value}))
        else:
            self._change(self.alignment.with_shift(self.tilts[self.tilt], **{name: value}))

    def _follow(self) -> None:
        """Let the controls show the alignment."""
        self._following = True
        try:
            # An alignment from elsewhere may go further than the controls do.
            for name, high in (("across", "highest_x"), ("along", "highest_y")):
                value = float(getattr(self.alignment, name)[self.tilt])
                self._reach(high, abs(value))
                setattr(self, name, value)
            self._reach("highest_x", abs(self.alignment.axis_offset))
            self.axis_offset = self.alignment.axis_offset
            self.rotation = (self.alignment.rotation + 180) % 360 - 180
        finally:
            self._following = False

    def _reach(self, name: str, value: float) -> None:
        if value > getattr(self, name):
            self.trait_set(**{name: value, name.replace("highest", "lowest"): -value})

    def _none(self) -> Alignment:
        """Return what a series without an alignment has."""
        nothing = Alignment.identity(len(self.tilts))
        return replace(
            nothing,
            axis_offset=self._series.axis_offset,
            tilts=self.tilts,
            pixel_size=self._series.pixel_size,
        )


def _alone(series, images: np.ndarray):
    """Return images (tilt, x, y) as a series of their own, for the pictures."""
    from hyperspy_multitomo.signals import TiltSeriesHAADF

    alone = TiltSeriesHAADF.from_images(
        images.swapaxes(1, 2), tilts=series.tilts, pixel_size=series.pixel_size
    )
    if series.gains is not None and series.gains.ndim == 1:
        alone.gains = series.gains
    return alone


def _projected(row, volume) -> np.ndarray:
    """Return the projections (tilt, x) of a reconstructed slice, with the gains of the images."""
    from hyperspy_multitomo.tomography import projector

    projections = projector(row.geometry())(
        np.ascontiguousarray(volume.array("z", "x", "y"))[None]
    )[0, ..., 0]
    return projections if row.gains is None else projections * row.gains[:, None]


def _figures(alignment: Alignment, volume) -> str:
    """Return what is known of the alignment, in words, as HTML."""
    residual = 100 * float(volume.residuals["haadf"][-1])
    told = [
        f"Axis at {alignment.axis_offset:.2f} px, rotation {alignment.rotation:.2f}°",
        f"Residual of the slice {residual:.1f} %",
    ]
    if alignment.suspicious.size:
        told.append(
            "The residual stands out at " + ", ".join(f"{tilt:g}°" for tilt in alignment.suspicious)
        )
    return "<br>".join(told)
