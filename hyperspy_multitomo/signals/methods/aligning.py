# SPDX-License-Identifier: GPL-3.0-or-later
"""The alignment of a series: measured, attached, kept true when the series is sliced, passed on, looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyperspy_multitomo.acquisition.same_tilt import SAME_VIEW, match_tilts
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.series_checks import named
from hyperspy_multitomo.alignment.transform import ORIENTATIONS, Alignment
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_lines
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.signals.arrays import aligned_copy
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    forget,
    grid,
    recall,
    record,
    recorded,
    recorded_axis,
    to_present,
    to_recorded,
)

AXIS = f"{NODE}.axis_position"
_ROTATION, _SLOW = f"{NODE}.rotation", f"{NODE}.slow_axis"
_ERRORS, _REPORT = f"{NODE}.axis_errors", f"{NODE}.alignment_report"
_PER_TILT = ("across", "along", "scan_drift", "across_error", "along_error", "alignment_residual")


class Aligning:
    """Mixin of the tilt series: `alignment`, `align`, `register_to`, `aligned` and the figures of them."""

    @property
    def axis_offset(self) -> float:
        """Position of the tilt axis across the images, in px from their centre (n - 1)/2, positive towards larger x."""
        return axis_position(self) - (axis_named(self, "x").size - 1) / 2

    @property
    def alignment(self) -> Alignment | None:
        """The attached alignment in px of the images as they are now, or None.

        It is kept in pixels of the series as it was loaded, so that slicing by tilt, cropping and
        rebinning keep it true. One of another series of the same field of view is converted to the
        tilts and pixels of this one when it is set.
        """
        if not recorded(self, "across"):
            return None
        bins = np.array([grid(self, name)[1] for name in ("x", "y")])
        shifts = np.stack([recall(self, "across"), recall(self, "along")])
        rotation, slow = (
            self.metadata.get_item(_ROTATION, default=0.0),
            self.metadata.get_item(_SLOW, default="y"),
        )
        drift = recall(self, "scan_drift")
        shifts = self._about_present_centre(shifts, rotation, drift, slow) / bins[:, None]
        if drift is not None:
            drift = drift * bins[1 if slow == "y" else 0] / bins
        return Alignment(
            *shifts,
            axis_offset=self.axis_offset,
            rotation=rotation,
            tilts=self.tilts,
            pixel_size=self.pixel_size,
            drift=drift,
            slow_axis=slow,
            quality=self._recorded_quality(bins),
        )

    @alignment.setter
    @checked
    def alignment(self, alignment: Alignment | None) -> None:
        for name in _PER_TILT:
            forget(self, name)
        for node in (_ERRORS, _REPORT):
            if self.metadata.has_item(node):
                delattr(self.metadata.get_item(NODE), node.rpartition(".")[2])
        if alignment is None:
            return
        alignment = self._fitting(alignment)
        bins = np.array([grid(self, name)[1] for name in ("x", "y")])
        shifts, drift = (
            np.stack([alignment.across, alignment.along]) * bins[:, None],
            alignment.drift,
        )
        if drift is not None:
            drift = drift * bins / bins[1 if alignment.slow_axis == "y" else 0]
            record(self, "scan_drift", drift, ("tilt",))
        shifts = self._about_present_centre(
            shifts, alignment.rotation, drift, alignment.slow_axis, inverse=True
        )
        record(self, "across", shifts[0], ("tilt",))
        record(self, "along", shifts[1], ("tilt",))
        centre = (axis_named(self, "x").size - 1) / 2
        self.metadata.set_item(AXIS, to_recorded(self, "x", centre + alignment.axis_offset))
        self.metadata.set_item(_ROTATION, float(alignment.rotation))
        self.metadata.set_item(_SLOW, alignment.slow_axis)
        quality = alignment.quality
        if quality is not None:
            record(self, "across_error", quality.across_error * bins[0], ("tilt",))
            record(self, "along_error", quality.along_error * bins[1], ("tilt",))
            record(self, "alignment_residual", quality.residual, ("tilt",))
            self.metadata.set_item(
                _ERRORS, [float(quality.axis_offset_error * bins[0]), float(quality.rotation_error)]
            )
            self.metadata.set_item(_REPORT, list(quality.report))

    @checked
    def align(
        self,
        alignment: Alignment | None = None,
        *,
        method: str = "auto",
        maps=None,
        orientation: str = "same",
        interpolate: bool = False,
        show_progressbar: bool | None = None,
        interactive: bool = False,
        display: bool = True,
        toolkit: str | None = None,
    ) -> Alignment:
        """Measure the alignment, or take one that was measured on the other modality, and attach it.

        Nothing is resampled: a reconstruction puts the shifts across the tilt axis into its
        geometry and resamples once for those along it, the rotation and the drift. `aligned` gives
        aligned images to look at.

        Parameters
        ----------
        alignment : Alignment, optional
            Of the same field of view, e.g. ``eds.align(haadf.alignment)``: it is converted to the
            tilts and pixels of this series. Measured where it is None.
        method : str, default "auto"
            How to measure: ``"auto"``, ``"cross_correlation"``, ``"phase_correlation"``,
            ``"centre_of_mass"``, ``"common_line"``, ``"projection_matching"``, ``"refine"`` (from
            the attached alignment), or ``"tilt_axis"`` (position and direction of the axis alone);
            see `hyperspy_multitomo.alignment.align`.
        maps : TiltSeriesEDS or TiltSeriesEELS, optional
            Elemental maps of the same field of view, at all or some of the tilts, that decide
            together with these images, each as far as its counts allow; the alignment is attached
            to them too. For ``"auto"`` and ``"refine"``.
        orientation : {"same", "flip_x", "flip_y", "rotate_180"}, default "same"
            How these images lie with respect to those on which a given `alignment` was measured.
        interpolate : bool, default False
            Interpolate a given `alignment` at tilts that it does not have; see
            `Alignment.transfer`.
        show_progressbar : bool, optional
            Tell of each stage of the measurement; by default HyperSpy's preference.
        interactive : bool, default False
            Open a panel instead, in which the alignment is measured, corrected by hand and
            attached.
        display : bool, default True
            For the panel: show it, or return its widgets.
        toolkit : str, optional
            For the panel: by default that of HyperSpy's preferences.

        Returns
        -------
        Alignment
            ``across`` and ``along`` (px per tilt, to be added to the object's position),
            ``axis_offset`` (px), ``rotation`` (degrees), and ``quality`` with standard errors,
            residuals and a report where it was refined. With `interactive` nothing, or the widgets.

        Raises
        ------
        ImportError
            With `interactive`, where the packages for panels are missing.
        ValueError
            If tilts do not match, if images have no features to align by or lie beyond the field of
            view (they are named), and for an unknown method.

        Warns
        -----
        UserWarning
            Of tilts whose residual stands out of the others'.

        Examples
        --------
        >>> import hyperspy_multitomo as mt
        >>> series = mt.simulation.misaligned("needle", size=48, tilts=range(-60, 61, 10), shift=2.0)
        >>> haadf = mt.TiltSeriesHAADF.from_images(series.haadf.swapaxes(1, 2), tilts=series.tilts)
        >>> found = haadf.align(show_progressbar=False)
        >>> bool(abs(found.rotation - 2) < 1)
        True
        """
        if orientation not in ORIENTATIONS:
            raise ValueError(
                f"orientation={orientation!r} must be one of {', '.join(ORIENTATIONS)}"
            )
        if interactive:
            from hyperspy_multitomo.widgets.alignment_panel import AlignmentPanel
            from hyperspy_multitomo.widgets.opening import open_panel

            given = dict(method=method, maps=maps, orientation=orientation, interpolate=interpolate)
            return open_panel(AlignmentPanel(self, alignment, **given), display, toolkit)
        if alignment is not None:
            if maps is not None:
                raise ValueError("pass either an alignment or maps= to measure one with")
            self.alignment = self._fitting(alignment, orientation, interpolate)
            add_step(self, "align", method="given", **self.alignment.as_dict())
            return self.alignment
        from hyperspy_multitomo.alignment.auto import align

        attached = (
            self.alignment if method in ("refine", "tilt_axis", "projection_matching") else None
        )
        others = [] if maps is None else self._modalities(maps)
        with progress_lines(show_progressbar, "aligning") as told:
            found = align(
                self._alignment_images(),
                self.tilts,
                method,
                start=attached,
                others=others,
                progress=told,
            )
        found = replace(found, pixel_size=self.pixel_size)
        self.alignment = found
        add_step(
            self,
            "align",
            method=method,
            maps=None if maps is None else list(maps.channels),
            **found.as_dict(),
        )
        self._warn_of_suspicious(found)
        if maps is not None:
            maps.align(self.alignment)
        return self.alignment

    @checked
    def register_to(self, haadf, *, drift: bool = True, slow_axis: str | None = None) -> Alignment:
        """Measure where each map lies on the HAADF image of the same tilt, and attach that with the alignment of the HAADF.

        For maps that were recorded slowly, after the image or beside it: the stage creeps
        meanwhile, which displaces the map and shears it.

        Parameters
        ----------
        haadf : TiltSeriesHAADF
            Of the same field of view, at all tilts of the maps. Its alignment, if it has one, comes
            after what is measured here.
        drift : bool, default True
            Measure the drift during each scan as well; one that is not significant is left at 0.
        slow_axis : {"y", "x"}, optional
            Direction in which the scan goes from line to line; by default that of the rows as they
            were loaded.

        Returns
        -------
        Alignment
            As attached, with the standard errors and residuals of the registration.

        Raises
        ------
        ValueError
            For a HAADF of another field of view or without some of the tilts, and for maps of too
            few counts or unlike their image, which are named.

        Notes
        -----
        See `hyperspy_multitomo.alignment.scan_offsets`. Maps that were summed from frames
        registered on the HAADF need none of it.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> series = mt.simulation.misaligned("lamella", size=48, tilts=[-20, 0, 20], shift=0, counts=50)
        >>> haadf = mt.TiltSeriesHAADF.from_images(series.haadf.swapaxes(1, 2), tilts=series.tilts)
        >>> maps = dict(zip(series.elements, np.roll(series.maps, 2, axis=2).swapaxes(2, 3)))
        >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=series.tilts)
        >>> eds.register_to(haadf, drift=False).across.round()
        array([-2., -2., -2.])
        """
        from hyperspy_multitomo.alignment.scan_drift import scan_offsets

        if not self.channels and axis_named(self, "element") is None:
            raise TypeError(
                "register_to puts elemental maps in the frame of a HAADF series: call it of the "
                "maps, eds.register_to(haadf)"
            )
        haadf._check_view(self)
        ratio = axis_named(self, "x").scale / axis_named(haadf, "x").scale
        slow_axis = slow_axis or ("x" if self.tilt_axis == "x" else "y")
        own = self.tilts
        places = match_tilts(own, haadf.tilts, SAME_VIEW)
        missing = own[places < 0]
        if missing.size:
            raise ValueError(
                f"the HAADF series has no images at {named(missing)} degrees; drop_tilts these maps"
            )
        images = haadf._alignment_images()[places]
        data = self._registration_images()
        found = scan_offsets(data, images, own, pixel=ratio, drift=drift, slow_axis=slow_axis)
        found = replace(found, pixel_size=self.pixel_size)
        if haadf.alignment is not None:
            found = replace(found.then(self._fitting(haadf.alignment)), quality=found.quality)
        self.alignment = found
        add_step(self, "register_to", drift=drift, slow_axis=slow_axis, **found.as_dict())
        return self.alignment

    def aligned(self):
        """Return the series with the attached alignment applied (linear interpolation), to look at.

        The copy has its tilt axis in the middle and no alignment attached; what the microscope did
        not see is filled with the nearest pixel that it saw. Elemental maps lose their `gross` and
        `background` counts, which belong to the images as recorded.
        """
        return aligned_copy(self)

    def plot_alignment(self):
        """Return a figure of the attached alignment: shifts with their errors, the wobble, and the residual of each tilt.

        Raises
        ------
        ValueError
            Where no alignment is attached.
        """
        from hyperspy_multitomo.inspection import plot_alignment

        return plot_alignment(self._attached(), pixel_size=self.pixel_size)

    @checked
    def plot_alignment_sinograms(self, y: int | None = None):
        """Return a figure of one slice's projections against the tilt, as recorded and aligned.

        Parameters
        ----------
        y : int, optional
            The slice; by default the middle one.

        Raises
        ------
        ValueError
            Where no alignment is attached.
        """
        from hyperspy_multitomo.inspection import plot_alignment_sinograms

        self._attached()
        before, after = self._alignment_images(), self.aligned()._alignment_images()
        unit = "counts" if self.channels else "HAADF signal"
        shown = dict(y=y, pixel_size=self.pixel_size, unit=unit, axis_offset=0.0)
        return plot_alignment_sinograms(before, after, self.tilts, **shown)

    def _attached(self) -> Alignment:
        if self.alignment is None:
            raise ValueError(
                "no alignment is attached to this series; measure one with align(), or pass one to "
                "it"
            )
        return self.alignment

    def _fitting(
        self, alignment: Alignment, orientation: str = "same", interpolate: bool = False
    ) -> Alignment:
        """Return an alignment for the tilts and pixels of this series, as far as it knows its own."""
        pixel = self.pixel_size
        if (
            pixel is None
            or alignment.pixel_size is None
            or np.isclose(pixel, alignment.pixel_size, rtol=1e-4)
        ):
            pixel = None
        return alignment.transfer(
            self.tilts, pixel, orientation=orientation, interpolate=interpolate
        )

    def _modalities(self, maps) -> list:
        """Return the elements' maps as `alignment.Modality`, after a look at their field of view."""
        from hyperspy_multitomo.alignment.refinement import Modality

        self._check_view(maps)
        ratio = axis_named(maps, "x").scale / axis_named(self, "x").scale
        data = maps._registration_images()
        return [
            Modality(images, maps.tilts, ratio, name)
            for name, images in zip(maps.channels, data, strict=True)
        ]

    def _registration_images(self) -> np.ndarray:
        """Return the maps (element, tilt, x, y) as recorded."""
        data = np.asarray(self.array("element", "tilt", "x", "y"), dtype=np.float32)
        check_finite(data, f"the {self.metadata.General.title} series")
        return data

    def _check_view(self, maps) -> None:
        """Raise an error for maps of another field of view."""
        ratio = axis_named(maps, "x").scale / axis_named(self, "x").scale
        for name in ("x", "y"):
            mine, theirs = axis_named(self, name).size, axis_named(maps, name).size * ratio
            if abs(mine - theirs) >= max(1.0, ratio):
                raise ValueError(
                    f"the maps cover {theirs:g} px of these images along {name}, which have "
                    f"{mine}: crop both to one field of "
                    "view"
                )

    def _warn_of_suspicious(self, found: Alignment) -> None:
        if found.suspicious.size:
            warn(
                f"the residual of the alignment stands out at {named(found.suspicious)} degrees: "
                "look at these images with "
                "plot_alignment() and plot_alignment_sinograms(), then drop_tilts them or set "
                "their shifts by hand (with_shift)"
            )

    def _recorded_quality(self, bins: np.ndarray) -> AlignmentQuality | None:
        if not recorded(self, "alignment_residual"):
            return None
        axis_error, rotation_error = np.asarray(self.metadata.get_item(_ERRORS), dtype=float)
        return AlignmentQuality(
            np.asarray(recall(self, "across_error")) / bins[0],
            np.asarray(recall(self, "along_error")) / bins[1],
            float(axis_error / bins[0]),
            float(rotation_error),
            recall(self, "alignment_residual"),
            tuple(str(line) for line in self.metadata.get_item(_REPORT, default=[])),
        )

    def _about_present_centre(
        self, shifts, rotation: float, drift, slow: str, inverse: bool = False
    ):
        """Re-express shifts (2, tilt), recorded px, about the recorded centre c for the present centre c'.

        R (v + s + d (l - c) - c) + c = R (v + s' + d (l - c') - c') + c'  gives  s' = s + d (c' -
        c) + (R^-1 - 1)(c - c').
        """
        difference = []
        for name in ("x", "y"):
            size = recorded_axis(self, name)[2]
            difference.append(
                (size - 1) / 2 - to_recorded(self, name, (axis_named(self, name).size - 1) / 2)
            )
        angle = np.deg2rad(-rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        change = ((turn - np.eye(2)) @ difference)[:, None]
        if drift is not None:
            change = change - np.asarray(drift).T * difference[1 if slow == "y" else 0]
        return shifts - change if inverse else shifts + change


def axis_position(signal) -> float:
    """Return where the tilt axis is on the present axis x of a series or of its spectra (px, 0 = centre of the first pixel)."""
    recorded_size = recorded_axis(signal, "x")[2]
    return to_present(signal, "x", signal.metadata.get_item(AXIS, default=(recorded_size - 1) / 2))
