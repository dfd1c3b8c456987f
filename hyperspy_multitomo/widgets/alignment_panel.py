# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the alignment panel: measure, correct by hand, check in one slice, attach."""

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
from hyperspy_multitomo.widgets.display import series_description
from hyperspy_multitomo.widgets.panel import Panel, TaskControl, error_text, signal_trait
from hyperspy_multitomo.widgets.pictures import png

# Methods that refine an alignment; the others start from none.
_REFINING_METHODS = ("projection_matching", "refine", "tilt_axis")
# Methods that use the maps together with the images.
_JOINT_METHODS = ("auto", "refine")
_MARK_COLOUR = (1.0, 0.85, 0.0)
# Width of the marks of the edited tilt, as a fraction of the width of a sinogram.
_MARK_WIDTH = 0.03
# Images wider than this, px, start with half as many iterations, to keep the preview fast.
_SMALL = 256


@add_gui_method(toolkey="hyperspy_multitomo.alignment")
class AlignmentPanel(Panel):
    """
    Align a series: measure, correct by hand, check in one slice, attach.

    Parameters
    ----------
    series : TiltSeriesHAADF, TiltSeriesEDS or TiltSeriesEELS
        Unchanged until `apply`.
    alignment : Alignment, optional
        Initial alignment, of the same field of view; by default the attached one.
    maps : TiltSeriesEDS or TiltSeriesEELS, optional
        Maps to which the alignment is attached as well. The methods auto and refine use them
        together with the images.
    orientation, interpolate
        As in ``series.align``: conversion of `alignment`.
    **traits
        Values of the controls, such as ``method="refine"``.
    """

    method = t.Enum(
        *METHODS,
        desc="Method of the alignment: auto suits most specimens, refine improves the present one.",
    )
    y = t.Range(
        low=0, high="last_y", value=0, desc="The slice across the tilt axis that the pictures show."
    )
    iterations = t.Range(
        1,
        50,
        10,
        desc="SIRT iterations of the slice that is shown; more show finer detail and take longer.",
    )
    axis_offset = t.Range(
        low="lowest_x",
        high="highest_x",
        value=0.0,
        desc="Tilt axis from the middle of the images, positive towards larger x; "
        "a wrong one bends points into arcs.",
    )
    rotation = t.Range(
        -180.0,
        180.0,
        0.0,
        desc="In-plane rotation that puts the tilt axis along y, positive from +x towards +y.",
    )
    tilt = t.Range(
        low=0,
        high="last_tilt",
        value=0,
        desc="The image whose shifts are edited; ticks mark it in the sinograms.",
    )
    across = t.Range(
        low="lowest_x",
        high="highest_x",
        value=0.0,
        desc="Shift that aligns this tilt, added to x; at most half the width of the images.",
    )
    along = t.Range(
        low="lowest_y",
        high="highest_y",
        value=0.0,
        desc="Shift that aligns this tilt, added to y; at most half the height of the images.",
    )

    #: The alignment that is shown and edited; `apply` attaches it.
    alignment = t.Instance(Alignment, comparison_mode=t.ComparisonMode.identity)
    #: The maps to which `apply` attaches the alignment besides the series, or None.
    maps = signal_trait("The maps of the same field of view.")
    result = t.Instance(
        Alignment,
        comparison_mode=t.ComparisonMode.identity,
        desc="The alignment that was attached last.",
    )
    lacking = t.Property(t.Str, observe="alignment")
    undoable = t.Bool(False, desc="Whether there is a change to undo.")
    summary = t.Str(desc="Axis, rotation and residual of the slice that is shown.")

    recorded_picture = t.Bytes(desc="The slice's projections against the tilt, as recorded.")
    aligned_picture = t.Bytes(desc="The same, aligned, with the tilt axis in the middle.")
    reprojection_picture = t.Bytes(desc="Projections of the reconstructed slice.")
    difference_picture = t.Bytes(
        desc="Aligned projections minus those of the reconstruction: red positive, blue negative."
    )
    slice_picture = t.Bytes(desc="The slice, reconstructed from the aligned projections.")
    overlay_picture = t.Bytes(desc="The image at the chosen tilt over its neighbour, aligned.")

    last_y = t.Int
    last_tilt = t.Int
    lowest_x, highest_x = t.Float, t.Float
    lowest_y, highest_y = t.Float, t.Float

    _series, _images, _preview, _slice_results, _placeholder, _undo_stack = (
        t.Any,
        t.Any,
        t.Any,
        t.Any,
        t.Any,
        t.List,
    )
    _updating_controls = t.Bool(False)

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
        self._preview = _image_series(series, self._images)
        if alignment is not None:
            alignment = alignment_for(series, alignment, orientation, interpolate)
        else:
            alignment = series.alignment
        if alignment is None:
            # A placeholder that `apply` refuses: neither measured nor set by hand.
            alignment = self._placeholder = self._identity()
        self.alignment = alignment
        self.trait_set(y=height // 2, tilt=count // 2, iterations=10 if width <= _SMALL else 5)
        self.trait_set(**traits)
        self._update_controls()
        self.observe(self._edited, ["axis_offset", "rotation", "across", "along"])
        self.observe(lambda event: self._update_controls(), "tilt")
        self.observe(lambda event: self.draw(), ["y", "iterations", "tilt", "alignment"])
        self.draw()

    @property
    def tilts(self) -> np.ndarray:
        """Tilts of the series, degrees."""
        return self._preview.tilts

    def align(self) -> None:
        """Measure the alignment as ``series.align(method=...)`` does, without attaching it."""
        method = self.method
        start = (
            self.alignment
            if method in _REFINING_METHODS and self.alignment != self._identity()
            else None
        )
        maps = self.maps if method in _JOINT_METHODS else None
        by = " by the images alone" if self.maps is not maps else ""
        self.message = "Aligning ..."

        def work(task: TaskControl) -> Alignment:
            stages = []

            def report(line: str) -> None:
                stages.append(line)
                task.step(1 - 0.6 ** len(stages), line)

            others = modalities_of(self._series, maps) if maps is not None else []
            result = measure(
                self._images, self.tilts, method, start=start, others=others, progress=report
            )
            task.step(0.95)
            return replace(result, pixel_size=self._series.pixel_size)

        def then(result: Alignment) -> None:
            self._change(result)
            self.message = f"Aligned{by}. Apply attaches it to {self._targets()}."

        self.start(work, then)

    def undo(self) -> None:
        """Undo the last change."""
        if not self._undo_stack:
            self.message = "There is nothing to take back."
            return
        self.message = ""
        self.alignment = self._undo_stack.pop()
        self.undoable = bool(self._undo_stack)
        self._update_controls()

    def apply(self) -> None:
        """Attach the alignment to the series and, if there are any, to the maps.

        If there is none yet, or one is being measured, only the message changes.
        """
        if words := self.hindrance():
            self.message = words
            return
        try:
            # The maps first: if they refuse the alignment, the series stays unchanged too.
            if self.maps is not None:
                self.maps.align(self.alignment)
            self._series.align(self.alignment)
        except ValueError as error:
            self.message = error_text(error)
            return
        self.message = f"Attached to {self._targets()}."
        self.result = self.alignment

    def _get_lacking(self) -> str:
        if self.alignment is not self._placeholder:
            return ""
        return (
            "There is no alignment to attach yet: press Align, or set axis, rotation or shifts by "
            "hand."
        )

    def _targets(self) -> str:
        """Return the description of the series to which the alignment is attached."""
        targets = [self._series] if self.maps is None else [self._series, self.maps]
        return " and ".join(series_description(series) for series in targets)

    def draw(self) -> None:
        """Redraw all pictures."""
        if not self.closed:
            self.refresh(self._draw)

    def aligned_slice(self):
        """Return the shown slice as an aligned series of one row; only the rows needed are read."""
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
        self._preview.alignment = alignment
        return self._preview.isig[:, low:high].aligned().isig[:, y - low : y - low + 1]

    def _draw(self) -> None:
        alignment, y, tilt = self.alignment, self.y, self.tilt
        recorded = self._images[..., y]
        limits = robust_limits(recorded)
        most = max(0.25 * (limits[1] - limits[0]), 1e-12)
        self.recorded_picture = self._sinogram(recorded, limits, "gray", tilt)
        self._draw_overlay(tilt)
        # The selected tilt changes only the marks: the reconstruction is reused.
        key = (alignment, y, self.iterations)
        if self._slice_results is None or self._slice_results[0] != key:
            row = self.aligned_slice()
            aligned = row.array("tilt", "x", "y")[..., 0]
            self.aligned_picture = self._sinogram(aligned, limits, "gray", tilt)
            volume = row.reconstruct_sirt(self.iterations, show_progressbar=False)
            self._slice_results = (key, aligned, _projected(row, volume))
            self.slice_picture = png(
                volume.array("z", "x", "y")[..., 0], robust_limits(volume.data), upward=True
            )
            self.summary = _summary_html(alignment, volume)
        _, aligned, projected = self._slice_results
        self.aligned_picture = self._sinogram(aligned, limits, "gray", tilt)
        self.reprojection_picture = self._sinogram(projected, limits, "gray", tilt)
        self.difference_picture = self._sinogram(aligned - projected, (-most, most), "RdBu_r", tilt)

    def _draw_overlay(self, tilt: int) -> None:
        # The last image is overlaid on the one before it, all others on the next one.
        first = max(0, min(tilt, self.last_tilt - 1))
        self._preview.alignment = self.alignment
        pair = self._preview.inav[first : first + 2].aligned().array("tilt", "y", "x")
        images = [pair[tilt - first], pair[-1 if tilt == first else 0]]
        self.overlay_picture = png(
            colour_mix(images, limits=[robust_limits(pair)] * 2, colours=["magenta", "lime"])
        )

    def _sinogram(self, sinogram: np.ndarray, limits, colours: str, tilt: int) -> bytes:
        """Return a square picture (tilt, x) on a uniform tilt axis, the edited tilt marked."""
        from matplotlib import colormaps

        side = sinogram.shape[1]
        angles = np.linspace(self.tilts[0], self.tilts[-1], side)
        rows = np.abs(angles[:, None] - self.tilts).argmin(axis=1)
        low, high = limits
        image = colormaps[colours](np.clip((sinogram - low) / ((high - low) or 1.0), 0, 1))[rows][
            ..., :3
        ]
        edge = max(1, round(_MARK_WIDTH * side))
        marked = np.flatnonzero(rows == tilt)
        for columns in (slice(0, edge), slice(side - edge, side)):
            image[marked, columns] = _MARK_COLOUR
        return png(image, upward=True)

    def _change(self, alignment: Alignment) -> None:
        """Replace the alignment and remember the present one for `undo`."""
        self.message = ""
        self._undo_stack.append(self.alignment)
        self.undoable = True
        self.alignment = alignment
        self._update_controls()

    def _edited(self, event) -> None:
        if self._updating_controls:
            return
        name, value = event.name, float(event.new)
        if name in ("axis_offset", "rotation"):
            self._change(replace(self.alignment, **{name: value}))
        else:
            self._change(self.alignment.with_shift(self.tilts[self.tilt], **{name: value}))

    def _update_controls(self) -> None:
        """Set the controls to the values of the alignment."""
        self._updating_controls = True
        try:
            # A measured or loaded alignment may exceed the ranges of the controls.
            for name, high in (("across", "highest_x"), ("along", "highest_y")):
                value = float(getattr(self.alignment, name)[self.tilt])
                self._widen(high, abs(value))
                setattr(self, name, value)
            self._widen("highest_x", abs(self.alignment.axis_offset))
            self.axis_offset = self.alignment.axis_offset
            self.rotation = (self.alignment.rotation + 180) % 360 - 180
        finally:
            self._updating_controls = False

    def _widen(self, name: str, value: float) -> None:
        if value > getattr(self, name):
            self.trait_set(**{name: value, name.replace("highest", "lowest"): -value})

    def _identity(self) -> Alignment:
        """Return the alignment of a series that has none: no shifts, its own axis offset."""
        return replace(
            Alignment.identity(len(self.tilts)),
            axis_offset=self._series.axis_offset,
            tilts=self.tilts,
            pixel_size=self._series.pixel_size,
        )


def _image_series(series, images: np.ndarray):
    """Return images (tilt, x, y) as a HAADF series with the tilts and gains of `series`."""
    from hyperspy_multitomo.signals import TiltSeriesHAADF

    result = TiltSeriesHAADF.from_images(
        images.swapaxes(1, 2), tilts=series.tilts, pixel_size=series.pixel_size
    )
    if series.gains is not None and series.gains.ndim == 1:
        result.gains = series.gains
    return result


def _projected(row, volume) -> np.ndarray:
    """Return the projections (tilt, x) of a reconstructed slice times the gains of the images."""
    from hyperspy_multitomo.tomography import projector

    projections = projector(row.geometry())(
        np.ascontiguousarray(volume.array("z", "x", "y"))[None]
    )[0, ..., 0]
    return projections if row.gains is None else projections * row.gains[:, None]


def _summary_html(alignment: Alignment, volume) -> str:
    """Return axis, rotation, residual and suspicious tilts as HTML."""
    residual = 100 * float(volume.residuals["haadf"][-1])
    lines = [
        f"Axis at {alignment.axis_offset:.2f} px, rotation {alignment.rotation:.2f}°",
        f"Residual of the slice {residual:.1f} %",
    ]
    if alignment.suspicious.size:
        lines.append(
            "The residual stands out at " + ", ".join(f"{tilt:g}°" for tilt in alignment.suspicious)
        )
    return "<br>".join(lines)
