# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimators by name, and the chain of them that suits most specimens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.centre_of_mass import centre_of_mass_shifts
from hyperspy_multitomo.alignment.common_line import common_line_shifts
from hyperspy_multitomo.alignment.correlation import cross_correlation_shifts
from hyperspy_multitomo.alignment.projection_matching import projection_matching_shifts
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.refinement import Modality, refine
from hyperspy_multitomo.alignment.series_checks import check_features, checked_series
from hyperspy_multitomo.alignment.specimen_extent import in_view, sides_in_view, without_film
from hyperspy_multitomo.alignment.tilt_axis import FEWEST, axis_by_centre_of_mass
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.blas_threads import one_blas_thread

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
        - ``"auto"``: rough shifts by what suits the specimen, then ``"refine"``. For each direction
          of its own the rough shifts are those of the centre of mass where the specimen is in view,
          but for an even film; else along the axis those of the common line, where it is in view
          across the axis; else those of the cross-correlation.
        - ``"cross_correlation"``, ``"phase_correlation"``: see `cross_correlation_shifts`.
        - ``"centre_of_mass"``: see `centre_of_mass_shifts`.
        - ``"common_line"``: along the axis `common_line_shifts`, across it the centre of mass.
        - ``"projection_matching"``: see `projection_matching_shifts`.
        - ``"refine"``: see `refine`.
        - ``"tilt_axis"``: position and direction of the tilt axis alone; the shifts stay.
    start : Alignment, optional
        For the last three, which by default start from the rough shifts (``"tilt_axis"``: from
        none).
    others : sequence of Modality, default ()
        Maps that decide together with the images, for ``"auto"`` and ``"refine"``.
    progress : callable, optional
        Called with a line of words after each stage.

    Returns
    -------
    Alignment
        Where it was refined, with its `quality`, whose ``report`` says what was done.

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
    told = ()
    if start is None or method == "auto":
        start, told = rough_shifts(images, tilts)
        if progress is not None:
            progress(told[0])
    if method == "projection_matching":
        return projection_matching_shifts(images, tilts, start, progress=progress)
    found = refine(images, tilts, start, others=others, progress=progress)
    return replace(found, quality=replace(found.quality, report=(*told, *found.quality.report)))


def rough_shifts(images: np.ndarray, tilts: np.ndarray) -> tuple[Alignment, tuple[str]]:
    """Return shifts right to a pixel or two, and by what they were found."""
    across, along = sides_in_view(images)
    whole = without_film(images) if across else images
    centred = centre_of_mass_shifts(whole, tilts) if across or along else None
    correlated = None if across else cross_correlation_shifts(images, tilts)
    if across:
        shifts = centred.along if along else common_line_shifts(images, tilts)
        words = "centre of mass across the axis, " + (
            "and along it" if along else "common line along it"
        )
        return replace(centred, along=shifts), (f"rough shifts: {words}",)
    if along:
        words = "cross-correlation across the axis, centre of mass along it"
        return replace(correlated, along=centred.along), (f"rough shifts: {words}",)
    return correlated, ("rough shifts: cross-correlation",)


def _tilt_axis(images: np.ndarray, tilts: np.ndarray, start: Alignment) -> Alignment:
    """Find the axis with the shifts as they are: by centres of mass where the object is in view, then by the residual."""
    placed = replace(start, rotation=0.0).apply(images, fill="edge")
    told = ()
    if len(tilts) >= 5 and images.shape[2] >= FEWEST and in_view(placed, "across"):
        axis = axis_by_centre_of_mass(placed, tilts)
        told = (
            f"axis by centres of mass: {axis.offset:.2f} +- {axis.offset_error:.2f} px, "
            f"{axis.rotation:.2f} degrees",
        )
        # Of few slices the direction may come out so far off that nothing of them would be left.
        width, slices = images.shape[1:]
        left = slices - width * abs(np.sin(np.deg2rad(axis.rotation))) > slices / 2
        start = replace(start, axis_offset=axis.offset, rotation=axis.rotation if left else 0.0)
    found = refine(images, tilts, start, free=("axis", "rotation"))
    quality: AlignmentQuality = found.quality
    return replace(found, quality=replace(quality, report=(*told, *quality.report)))
