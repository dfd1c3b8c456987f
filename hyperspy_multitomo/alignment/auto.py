# SPDX-License-Identifier: GPL-3.0-or-later
"""All methods of alignment by name, and the sequence of them that suits most specimens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.centre_of_mass import centre_of_mass_shifts
from hyperspy_multitomo.alignment.common_line import common_line_shifts
from hyperspy_multitomo.alignment.correlation import cross_correlation_shifts
from hyperspy_multitomo.alignment.projection_matching import projection_matching_shifts
from hyperspy_multitomo.alignment.refinement import Modality, refine
from hyperspy_multitomo.alignment.series_checks import check_features, checked_series
from hyperspy_multitomo.alignment.tilt_axis import FEWEST, axis_by_centre_of_mass
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.tomography.specimen_extent import in_view, sides_in_view, without_film

__all__ = ["METHODS", "align"]

METHODS = (
    "auto",
    "cross_correlation",
    "phase_correlation",
    "centre_of_mass",
    "common_line",
    "projection_matching",
    "refine",
    "tilt_axis",
)


@one_blas_thread()
def align(
    images: ArrayLike,
    tilts: ArrayLike,
    method: str = "auto",
    *,
    start: Alignment | None = None,
    others: Sequence[Modality] = (),
    progress: Callable[[str], object] | None = None,
) -> Alignment:
    """Align a tilt series.

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As recorded: HAADF images, or maps.
    tilts : array_like (tilt,)
        Degrees, in any order.
    method : str, default "auto"
        - ``"auto"``: rough shifts, then ``"refine"``. The rough shifts are chosen for each
          direction: by the centre of mass where the specimen ends inside the view (an even film
          does not matter); else along the axis by the common line, if the specimen ends inside the
          view across the axis; else by cross-correlation.
        - ``"cross_correlation"``, ``"phase_correlation"``: see `cross_correlation_shifts`.
        - ``"centre_of_mass"``: see `centre_of_mass_shifts`.
        - ``"common_line"``: along the axis `common_line_shifts`, across it the centre of mass.
        - ``"projection_matching"``: see `projection_matching_shifts`.
        - ``"refine"``: see `refine`.
        - ``"tilt_axis"``: position and direction of the tilt axis only; the shifts stay.
    start : Alignment, optional
        For the last three methods, which by default start from the rough shifts
        (``"tilt_axis"``: from no shifts).
    others : sequence of Modality, default ()
        Maps that are aligned jointly with the images, for ``"auto"`` and ``"refine"``.
    progress : callable, optional
        Called with a line of text after each stage.

    Returns
    -------
    Alignment
        After a refinement with its `quality`, whose ``report`` lists the steps.

    Raises
    ------
    ValueError
        For an unknown method, shapes that do not fit, or images without features, which are named
        by their tilts.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.mgrid[:32, :32]
    >>> moved = np.array([1.0, -1.0, 2.0, -2.0])
    >>> images = [np.exp(-((x - 15.5) ** 2 + (y - 15.5 - m) ** 2) / 18) for m in moved]
    >>> align(images, [-60, -20, 20, 60], "centre_of_mass").along.round(2)
    array([-1.,  1., -2.,  2.])
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; use one of {', '.join(map(repr, METHODS))}")
    if others and method not in ("auto", "refine"):
        raise ValueError(
            f"method={method!r} looks at the images alone; leave out the maps, or use 'auto' or "
            "'refine'"
        )
    images, tilts = checked_series(images, tilts)
    if method in ("cross_correlation", "phase_correlation"):
        return cross_correlation_shifts(images, tilts, phase=method == "phase_correlation")
    if method == "centre_of_mass":
        return centre_of_mass_shifts(images, tilts)
    checked_series(images, tilts, fewest=3)
    check_features(images, tilts)
    if method == "common_line":
        across = centre_of_mass_shifts(without_film(images), tilts)
        return replace(across, along=common_line_shifts(images, tilts))
    if method == "tilt_axis":
        return _tilt_axis(images, tilts, Alignment.identity(len(tilts)) if start is None else start)
    report: tuple[str, ...] = ()
    if start is None or method == "auto":
        start, report = rough_shifts(images, tilts)
        if progress is not None:
            progress(report[0])
    if method == "projection_matching":
        return projection_matching_shifts(images, tilts, start, progress=progress)
    found = refine(images, tilts, start, others=others, progress=progress)
    return _with_report(found, report)


def _with_report(refined: Alignment, steps: tuple[str, ...]) -> Alignment:
    """Return the alignment with earlier steps put before those of its report."""
    quality = refined.quality
    if quality is None:
        return refined
    return replace(refined, quality=replace(quality, report=(*steps, *quality.report)))


def rough_shifts(images: np.ndarray, tilts: np.ndarray) -> tuple[Alignment, tuple[str]]:
    """Return shifts right to a pixel or two, and a line for the report."""
    across, along = sides_in_view(images)
    if across:
        shifts = centre_of_mass_shifts(without_film(images), tilts)
        if along:
            return shifts, ("rough shifts: centre of mass across the axis, and along it",)
        report = "rough shifts: centre of mass across the axis, common line along it"
        return replace(shifts, along=common_line_shifts(images, tilts)), (report,)
    if along:
        centred = centre_of_mass_shifts(images, tilts)
        report = "rough shifts: cross-correlation across the axis, centre of mass along it"
        return replace(cross_correlation_shifts(images, tilts), along=centred.along), (report,)
    return cross_correlation_shifts(images, tilts), ("rough shifts: cross-correlation",)


def _tilt_axis(images: np.ndarray, tilts: np.ndarray, start: Alignment) -> Alignment:
    """Find the axis with fixed shifts.

    Centres of mass give a first estimate where the object is in view; the residual refines it.
    """
    placed = replace(start, rotation=0.0).apply(images, fill="edge")
    report: tuple[str, ...] = ()
    if len(tilts) >= 5 and images.shape[2] >= FEWEST and in_view(placed, "across"):
        axis = axis_by_centre_of_mass(placed, tilts)
        report = (
            f"axis by centres of mass: {axis.offset:.2f} +- {axis.offset_error:.2f} px, "
            f"{axis.rotation:.2f} degrees",
        )
        # With few slices the direction may be so wrong that the rotation would leave none in view.
        width, slices = images.shape[1:]
        left = slices - width * abs(np.sin(np.deg2rad(axis.rotation))) > slices / 2
        start = replace(start, axis_offset=axis.offset, rotation=axis.rotation if left else 0.0)
    return _with_report(refine(images, tilts, start, free=("axis", "rotation")), report)
