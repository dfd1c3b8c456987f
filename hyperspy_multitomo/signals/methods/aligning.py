# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment of a series: measured, attached, true after slicing, passed on, drawn."""

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
from hyperspy_multitomo.signals.methods.panels import open_panel
from hyperspy_multitomo.tomography import Specimen
from hyperspy_multitomo.tomography.specimen_extent import cut_edges

AXIS = f"{NODE}.axis_position"
_ROTATION, _SLOW = f"{NODE}.rotation", f"{NODE}.slow_axis"
_ERRORS, _REPORT = f"{NODE}.axis_errors", f"{NODE}.alignment_report"
_SPECIMEN = f"{NODE}.specimen"
_PER_TILT = ("across", "along", "scan_drift", "across_error", "along_error", "alignment_residual")


def get_axis_offset(series) -> float:
    """Return the position of the tilt axis across the images, px from their centre (n - 1)/2.

    Positive towards larger x.
    """
    return axis_position(series) - (axis_named(series, "x").size - 1) / 2


def get_alignment(series) -> Alignment | None:
    """Return the attached alignment in px of the images as they are now, or None.

    It is kept in pixels of the series as it was loaded, so that slicing by tilt, cropping and
    rebinning keep it true. One of another series of the same field of view is converted to the
    tilts and pixels of this one when it is set.
    """
    if not recorded(series, "across"):
        return None
    bins = np.array([grid(series, name)[1] for name in ("x", "y")])
    shifts = np.stack([recall(series, "across"), recall(series, "along")])
    rotation, slow = (
        series.metadata.get_item(_ROTATION, default=0.0),
        series.metadata.get_item(_SLOW, default="y"),
    )
    drift = recall(series, "scan_drift")
    shifts = _about_present_centre(series, shifts, rotation, drift, slow) / bins[:, None]
    if drift is not None:
        drift = drift * bins[1 if slow == "y" else 0] / bins
    return Alignment(
        *shifts,
        axis_offset=series.axis_offset,
        rotation=rotation,
        tilts=series.tilts,
        pixel_size=series.pixel_size,
        drift=drift,
        slow_axis=slow,
        quality=_recorded_quality(series, bins),
        specimen=_recorded_specimen(series, bins),
    )


@checked
def set_alignment(series, alignment: Alignment | None) -> None:
    """Attach an alignment, or with None take it off."""
    for name in _PER_TILT:
        forget(series, name)
    for node in (_ERRORS, _REPORT, _SPECIMEN):
        if series.metadata.has_item(node):
            delattr(series.metadata.get_item(NODE), node.rpartition(".")[2])
    if alignment is None:
        return
    alignment = alignment_for(series, alignment)
    bins = np.array([grid(series, name)[1] for name in ("x", "y")])
    shifts, drift = (
        np.stack([alignment.across, alignment.along]) * bins[:, None],
        alignment.drift,
    )
    if drift is not None:
        drift = drift * bins / bins[1 if alignment.slow_axis == "y" else 0]
        record(series, "scan_drift", drift, ("tilt",))
    shifts = _about_present_centre(
        series, shifts, alignment.rotation, drift, alignment.slow_axis, inverse=True
    )
    record(series, "across", shifts[0], ("tilt",))
    record(series, "along", shifts[1], ("tilt",))
    centre = (axis_named(series, "x").size - 1) / 2
    series.metadata.set_item(AXIS, to_recorded(series, "x", centre + alignment.axis_offset))
    series.metadata.set_item(_ROTATION, float(alignment.rotation))
    series.metadata.set_item(_SLOW, alignment.slow_axis)
    if alignment.specimen is not None:
        series.metadata.set_item(_SPECIMEN, alignment.specimen.scaled(float(bins[0])).as_dict())
    quality = alignment.quality
    if quality is not None:
        record(series, "across_error", quality.across_error * bins[0], ("tilt",))
        record(series, "along_error", quality.along_error * bins[1], ("tilt",))
        record(series, "alignment_residual", quality.residual, ("tilt",))
        series.metadata.set_item(
            _ERRORS, [float(quality.axis_offset_error * bins[0]), float(quality.rotation_error)]
        )
        series.metadata.set_item(_REPORT, list(quality.report))


@checked
def align(
    series,
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
        Print each stage of the measurement; by default HyperSpy's preference.
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
        Of tilts whose residual stands out of the others', and of a specimen that is cut by the
        upper or lower edge of the view at some of them.

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
        raise ValueError(f"orientation={orientation!r} must be one of {', '.join(ORIENTATIONS)}")
    if interactive:
        settings = dict(method=method, maps=maps, orientation=orientation, interpolate=interpolate)
        return open_panel(
            "alignment", series, alignment, display=display, toolkit=toolkit, **settings
        )
    if alignment is not None:
        if maps is not None:
            raise ValueError("pass either an alignment or maps= to measure one with")
        series.alignment = alignment_for(series, alignment, orientation, interpolate)
        add_step(series, "align", method="given", **series.alignment.as_dict())
        return series.alignment
    from hyperspy_multitomo.alignment import auto

    attached = (
        series.alignment if method in ("refine", "tilt_axis", "projection_matching") else None
    )
    others = [] if maps is None else modalities_of(series, maps)
    with progress_lines(show_progressbar, "aligning") as report:
        measured = auto.align(
            alignment_images(series),
            series.tilts,
            method,
            start=attached,
            others=others,
            progress=report,
        )
    measured = replace(measured, pixel_size=series.pixel_size)
    series.alignment = measured
    add_step(
        series,
        "align",
        method=method,
        maps=None if maps is None else list(maps.channels),
        **measured.as_dict(),
    )
    _warn_of_suspicious(measured, series)
    if maps is not None:
        maps.align(series.alignment)
    return series.alignment


@checked
def register_to(series, haadf, *, drift: bool = True, slow_axis: str | None = None) -> Alignment:
    """Measure where each map lies on the HAADF image of the same tilt, and attach that.

    It is combined with the alignment of the HAADF.

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
    >>> settings = dict(size=48, tilts=[-20, 0, 20], shift=0, counts=50)
    >>> series = mt.simulation.misaligned("lamella", **settings)
    >>> haadf = mt.TiltSeriesHAADF.from_images(series.haadf.swapaxes(1, 2), tilts=series.tilts)
    >>> maps = dict(zip(series.elements, np.roll(series.maps, 2, axis=2).swapaxes(2, 3)))
    >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=series.tilts)
    >>> eds.register_to(haadf, drift=False).across.round()
    array([-2., -2., -2.])
    """
    from hyperspy_multitomo.alignment.scan_drift import scan_offsets

    if not series.channels and axis_named(series, "element") is None:
        raise TypeError(
            "register_to puts elemental maps in the frame of a HAADF series: call it of the "
            "maps, eds.register_to(haadf)"
        )
    _check_view(haadf, series)
    ratio = axis_named(series, "x").scale / axis_named(haadf, "x").scale
    slow_axis = slow_axis or ("x" if series.tilt_axis == "x" else "y")
    own = series.tilts
    places = match_tilts(own, haadf.tilts, SAME_VIEW)
    missing = own[places < 0]
    if missing.size:
        raise ValueError(
            f"the HAADF series has no images at {named(missing)} degrees; drop_tilts these maps"
        )
    images = alignment_images(haadf)[places]
    data = _maps_to_register(series)
    found = scan_offsets(data, images, own, pixel=ratio, drift=drift, slow_axis=slow_axis)
    found = replace(found, pixel_size=series.pixel_size)
    if haadf.alignment is not None:
        found = replace(found.then(alignment_for(series, haadf.alignment)), quality=found.quality)
    series.alignment = found
    add_step(series, "register_to", drift=drift, slow_axis=slow_axis, **found.as_dict())
    return series.alignment


def aligned(series):
    """Return the series with the attached alignment applied (linear interpolation), to look at.

    The copy has its tilt axis in the middle and no alignment attached; what the microscope did
    not see is filled with the nearest pixel that it saw. Elemental maps lose their `gross` and
    `background` counts, which belong to the images as recorded.
    """
    return aligned_copy(series)


def plot_alignment(series):
    """Draw the attached alignment: shifts with errors, wobble, residual of each tilt.

    Raises
    ------
    ValueError
        Where no alignment is attached.
    """
    from hyperspy_multitomo.inspection import plot_alignment

    return plot_alignment(_attached(series), pixel_size=series.pixel_size)


@checked
def plot_alignment_sinograms(series, y: int | None = None):
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

    _attached(series)
    before, after = alignment_images(series), alignment_images(series.aligned())
    unit = "counts" if series.channels else "HAADF signal"
    shown = dict(y=y, pixel_size=series.pixel_size, unit=unit, axis_offset=0.0)
    return plot_alignment_sinograms(before, after, series.tilts, **shown)


def _attached(series) -> Alignment:
    if series.alignment is None:
        raise ValueError(
            "no alignment is attached to this series; measure one with align(), or pass one to it"
        )
    return series.alignment


def alignment_for(
    series, alignment: Alignment, orientation: str = "same", interpolate: bool = False
) -> Alignment:
    """Return an alignment for the tilts and pixels of this series, as far as it knows its own."""
    pixel = series.pixel_size
    if (
        pixel is None
        or alignment.pixel_size is None
        or np.isclose(pixel, alignment.pixel_size, rtol=1e-4)
    ):
        pixel = None
    return alignment.transfer(series.tilts, pixel, orientation=orientation, interpolate=interpolate)


def modalities_of(series, maps) -> list:
    """Return the elements' maps as `alignment.Modality`, after a look at their field of view."""
    from hyperspy_multitomo.alignment.refinement import Modality

    _check_view(series, maps)
    ratio = axis_named(maps, "x").scale / axis_named(series, "x").scale
    data = _maps_to_register(maps)
    return [
        Modality(images, maps.tilts, ratio, name)
        for name, images in zip(maps.channels, data, strict=True)
    ]


def alignment_images(series) -> np.ndarray:
    """Return the images (tilt, x, y) to align by: the HAADF, or the sums of all maps."""
    if series._signal_type == "TiltSeriesHAADF":
        return np.asarray(series.array("tilt", "x", "y"), dtype=np.float32)
    images = np.asarray(series.array("element", "tilt", "x", "y"), dtype=np.float32).sum(axis=0)
    check_finite(images, "the sum of the elemental maps")
    return images


def _maps_to_register(series) -> np.ndarray:
    """Return the maps (element, tilt, x, y) as recorded."""
    data = np.asarray(series.array("element", "tilt", "x", "y"), dtype=np.float32)
    check_finite(data, f"the {series.metadata.General.title} series")
    return data


def _check_view(series, maps) -> None:
    """Raise an error for maps of another field of view."""
    ratio = axis_named(maps, "x").scale / axis_named(series, "x").scale
    for name in ("x", "y"):
        pixels, covered = axis_named(series, name).size, axis_named(maps, name).size * ratio
        if abs(pixels - covered) >= max(1.0, ratio):
            raise ValueError(
                f"the maps cover {covered:g} px of these images along {name}, which have "
                f"{pixels}: crop both to one field of "
                "view"
            )


def _warn_of_suspicious(alignment: Alignment, series) -> None:
    """Warn of tilts at which the specimen is cut, and of others with outstanding residuals."""
    suspicious = np.isin(series.tilts, alignment.suspicious)
    cut = cut_edges(alignment_images(series))
    # A specimen that is longer than the view is cut at most tilts, and rightly so. The rims of a
    # lamella differ without that.
    cut &= cut.mean(axis=0) < 0.5
    if alignment.specimen is None or alignment.specimen.shape == "slab":
        cut &= suspicious[:, None]
    for edge, where in zip(("upper", "lower"), cut.T, strict=True):
        if where.any():
            warn(
                f"the specimen is cut by the {edge} edge of the view at "
                f"{named(series.tilts[where])} degrees, which show less of it than the others: "
                "leave these tilts out (drop_tilts), or crop all images along y to what every "
                "tilt shows"
            )
    rest = series.tilts[suspicious & ~cut.any(axis=1)]
    if rest.size:
        warn(
            f"the residual of the alignment stands out at {named(rest)} degrees: "
            "look at these images with "
            "plot_alignment() and plot_alignment_sinograms(), then drop_tilts them or set "
            "their shifts by hand (with_shift)"
        )


def _recorded_quality(series, bins: np.ndarray) -> AlignmentQuality | None:
    if not recorded(series, "alignment_residual"):
        return None
    axis_error, rotation_error = np.asarray(series.metadata.get_item(_ERRORS), dtype=float)
    return AlignmentQuality(
        np.asarray(recall(series, "across_error")) / bins[0],
        np.asarray(recall(series, "along_error")) / bins[1],
        float(axis_error / bins[0]),
        float(rotation_error),
        recall(series, "alignment_residual"),
        tuple(str(line) for line in series.metadata.get_item(_REPORT, default=[])),
    )


def _recorded_specimen(series, bins: np.ndarray) -> Specimen | None:
    node = series.metadata.get_item(_SPECIMEN, default=None)
    if node is None:
        return None
    return Specimen.from_dict(node.as_dictionary()).scaled(1 / float(bins[0]))


def _about_present_centre(series, shifts, rotation: float, drift, slow: str, inverse: bool = False):
    """Re-express shifts (2, tilt), recorded px, about the present centre c', not the recorded c.

    R (v + s + d (l - c) - c) + c = R (v + s' + d (l - c') - c') + c'  gives  s' = s + d (c' -
    c) + (R^-1 - 1)(c - c').
    """
    difference = []
    for name in ("x", "y"):
        size = recorded_axis(series, name)[2]
        difference.append(
            (size - 1) / 2 - to_recorded(series, name, (axis_named(series, name).size - 1) / 2)
        )
    angle = np.deg2rad(-rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    change = ((turn - np.eye(2)) @ difference)[:, None]
    if drift is not None:
        change = change - np.asarray(drift).T * difference[1 if slow == "y" else 0]
    return shifts - change if inverse else shifts + change


def axis_position(signal) -> float:
    """Return the position of the tilt axis on the present axis x of a series or its spectra.

    In px, 0 is the centre of the first pixel.
    """
    recorded_size = recorded_axis(signal, "x")[2]
    return to_present(signal, "x", signal.metadata.get_item(AXIS, default=(recorded_size - 1) / 2))
