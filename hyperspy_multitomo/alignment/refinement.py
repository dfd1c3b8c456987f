# SPDX-License-Identifier: GPL-3.0-or-later
"""Joint maximum-likelihood alignment of images and maps, coarse to fine; see `likelihood`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.same_tilt import SAME_VIEW, match_tilts
from hyperspy_multitomo.alignment.binned_images import (
    MovingImages,
    Placement,
    common_view,
    positions,
)
from hyperspy_multitomo.alignment.centre_of_mass import AXIS_SPREAD, outline_path, point_path
from hyperspy_multitomo.alignment.likelihood import View
from hyperspy_multitomo.alignment.newton import Newton
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.series_checks import check_features, checked_series, named
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.machine.denormals import denormals_flushed, denormals_kept
from hyperspy_multitomo.machine.parallel import Workers, available_cores
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.rays import Support, ray_covariance
from hyperspy_multitomo.tomography.specimen import specimen_and_height
from hyperspy_multitomo.tomography.specimen_extent import sides_in_view, without_film

__all__ = ["Modality", "refine"]

# Largest number of pixels across the object, and of rays of a slice, on the first grid and on the
# last. The time grows with the third power of the number of rays.
_FIRST, _LAST = (28, 1500), (100, 3200)
# Fraction of the view that all aligned images have to share.
_SHARED = 0.4
# First trial depths of a slab, in widths of the view.
_DEPTHS = (0.04, 0.07, 0.11, 0.17, 0.25, 0.38)
# Then the size of the support changes by this factor and its inclination by this step (degrees), up
# to this inclination and number of trials.
_FACTOR, _INCLINATION, _LARGEST_INCLINATION, _MOST_SUPPORTS = 1.15, 3.0, 25.0, 30
# Largest radius of the support of an object, in radii of its outline.
_LARGEST = 1.5
# Radius of the region that is compared, in radii of the support.
_MARGIN = 1.25
# Least number of pixels across the object, however many tilts there are.
_FEWEST_PIXELS = 14
# Maps with fewer counts, on average over the tilts, are not used.
_FEWEST_COUNTS = 30
# Below this fraction of half the shared view on one side of the axis, the object is centred first.
_LOPSIDED = 0.7
# Least number of positions across and along the axis; of few slices, a shift removes one.
_ACROSS, _ALONG = 4, 3
# Newton steps at most, and the size of a step, in pixels of the grid, at which they end.
_STEPS, _SMALL = 12, 0.02
# Least rotation that is applied, in standard errors.
_SIGNIFICANT = 1.0
# Ratio of the median residuals after and before, above which the start is returned.
_WORSE = 1.2


@dataclass(frozen=True)
class Modality:
    """Images that share the alignment of a series.

    Attributes
    ----------
    images : numpy.ndarray (tilt, x, y)
        HAADF images or the maps of one element.
    tilts : numpy.ndarray (tilt,)
        Degrees, all or some of those of the series that is aligned.
    pixel : float
        Edge of a pixel, in px of the series that is aligned.
    name : str
        For the report.
    """

    images: np.ndarray
    tilts: np.ndarray
    pixel: float = 1.0
    name: str = "maps"


@one_blas_thread()
def refine(
    images: ArrayLike,
    tilts: ArrayLike,
    start: Alignment,
    *,
    others: Sequence[Modality] = (),
    free: Sequence[str] = ("shifts", "axis", "rotation"),
    progress: Callable[[str], object] | None = None,
) -> Alignment:
    """Refine shifts, tilt axis and rotation jointly by the residual of the reconstruction.

    All tilts, slices, images and maps are fitted together, weighted by their noise. No
    reconstruction is computed: with a Gaussian prior, the residual at the best reconstruction has a
    closed form with exact derivatives (see Notes).

    Parameters
    ----------
    images : array_like (tilt, x, y)
        As recorded; HAADF images, or maps.
    tilts : array_like (tilt,)
        Degrees.
    start : Alignment
        Right to a few pixels and degrees.
    others : sequence of Modality, default ()
        Maps of elements of the same field of view, at all or some of the tilts; pixels may differ.
    free : sequence of {"shifts", "axis", "rotation"}, default all
        Parameters that may change. Without "shifts" those of `start` stay, and "axis" is one shift
        of all images.
    progress : callable, optional
        Called with a line of text after each grid.

    Returns
    -------
    Alignment
        With its `quality` and `specimen`. The specimen's mid-height is at the height of the tilt
        axis, and the shifts are the smallest that allow this.

    Raises
    ------
    ValueError
        For bad images, and where the aligned images share too little of the view; the tilts are
        named.

    Notes
    -----
    The object is a Gaussian random field in a disc, or in a slab where it is cut by the view across
    the axis. The images b of a slice then have the covariance s (K + v 1), and minus the
    log-likelihood is the sum over slices of b' (K + v 1)^-1 b / 2 s: the residual of the
    regularised reconstruction as a function of the geometry (variable projection [1]_). v, s and
    the size of the support maximise the likelihood.

    Pixels are binned to the frequencies that neighbouring tilts share, 1/(D dt) [2]_, and to 3200
    rays of a slice at most. The time grows with the third power of that number and with the slices
    of the binned images, not with the pixels across. Across the axis the part of the view that is
    symmetric about it is used, so that the even and the odd part of the rays are independent. The
    memory is that of about ten matrices of half as many rays, 0.1 GB. Linear algebra uses one
    thread for each part (`one_blas_thread`).

    A rotation below its standard error is set to 0, because rotated images are resampled.

    References
    ----------
    .. [1] G. H. Golub, V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413, doi:10.1137/0710036.
    .. [2] R. A. Crowther et al., Proc. R. Soc. A 317 (1970) 319, doi:10.1098/rspa.1970.0119.

    Examples
    --------
    >>> from hyperspy_multitomo.simulation import misaligned
    >>> known = {"shift": 1.0, "axis_offset": 0.5, "rotation": 1.0}
    >>> series = misaligned("needle", size=48, tilts=np.arange(-60, 61, 10), **known)
    >>> found = refine(series.haadf, series.tilts, Alignment.identity(13))
    >>> bool(abs(found.rotation - 1) < 0.3)
    True
    """
    images, tilts = checked_series(images, tilts, fewest=3)
    check_features(images, tilts)
    if len(start) != len(tilts):
        raise ValueError(
            f"the start has shifts for {len(start)} tilts but there are {len(tilts)} images"
        )
    if start.drift is not None:
        raise ValueError(
            "the start has a drift during the scan; refine without it, and put the drift first "
            "with `then`"
        )
    unknown = set(free) - {"shifts", "axis", "rotation"}
    if unknown or not free:
        raise ValueError(f"free={tuple(free)!r} must name some of 'shifts', 'axis' and 'rotation'")
    whole = sides_in_view(images)
    if whole[0]:
        images = without_film(images)
    # From here on the axis is at x = 0.
    angle = np.deg2rad(start.rotation)
    across = start.across - start.axis_offset * np.cos(angle)
    placement = Placement(across, start.along + start.axis_offset * np.sin(angle), angle)
    report: list[str] = []
    series = [Modality(images, tilts, 1.0, "images")]
    for other in others:
        counts = other.images.sum(dtype=np.float64) / len(other.tilts)
        if counts < _FEWEST_COUNTS:
            report.append(f"{other.name}: {counts:.0f} counts per tilt are too few to help")
        else:
            series.append(other)
    with Workers(min(2, available_cores())) as workers:
        found = _search(
            _Problem(series, tilts, whole, free, workers),
            placement,
            start,
            report,
            denormals_kept(progress),
        )
    return _with_specimen(found, images, tilts, "shifts" in free)


def _with_specimen(
    found: Alignment, images: np.ndarray, tilts: np.ndarray, shifted: bool
) -> Alignment:
    """Return the alignment with the specimen that the aligned images show."""
    geometry = TiltGeometry(
        tilts.tolist(),
        images.shape[1],
        axis_offset=found.axis_offset,
        shifts=found.geometry_shifts.tolist(),
    )
    placed = found.apply(images, for_geometry=True, fill="edge")
    measured, quality = specimen_and_height(placed, geometry), found.quality
    if measured is None or quality is None:
        return found
    specimen, height = measured
    if specimen.shape == "slab" and shifted:
        # Its middle goes to the height of the axis, where a volume is thinnest.
        dx, angle = -height * np.sin(np.deg2rad(tilts)), np.deg2rad(found.rotation)
        found = replace(
            found,
            across=found.across + np.cos(angle) * dx,
            along=found.along - np.sin(angle) * dx,
        )
    else:
        specimen = replace(specimen, depth=specimen.depth + 2 * abs(height))
    report = (*quality.report, f"the specimen: {specimen}")
    return replace(found, specimen=specimen, quality=replace(quality, report=report))


@denormals_flushed()
def _search(
    problem: _Problem,
    placement: Placement,
    start: Alignment,
    report: list[str],
    progress: Callable | None,
) -> Alignment:
    """Find the most likely support and alignment, on a coarse grid and then on a fine one."""
    free, whole = problem.free, problem.whole
    placement, support = problem.first_support(placement)
    first = placement
    rough = ("shifts",) if "shifts" in free else free
    for number, bins in enumerate(problem.grids(placement, support)):
        bins = problem.grids(placement, support)[-1] if number else bins
        problem.set_grid(bins, placement, support)
        # The size of an object in view is found best in aligned images: on the first grid twice.
        for parameters in (free,) if number else (rough,) * (1 + whole[0]):
            support = problem.most_likely_support(support, placement)
            problem.fit(support, placement)
            problem.newton = problem.steps(placement, parameters)
            placement, count = problem.descend(placement)
        report.append(f"grid of {bins} px, {problem.views[0].rays} rays: {count} steps")
        if progress is not None:
            progress(report[-1])
    assert support is not None, "there are two grids"
    placement = problem.without_insignificant_rotation(placement, free, report)
    return problem.result(placement, first, support, start, report)


class _Problem:
    """Images and maps on the present grid, and the state of the search."""

    def __init__(
        self,
        series: Sequence[Modality],
        tilts: np.ndarray,
        whole: tuple[bool, bool],
        free: Sequence[str],
        workers: Workers,
    ):
        self.series, self.tilts, self.whole = series, tilts, whole
        self.free, self.workers = free, workers
        self.extent = series[0].images.shape[1:]
        self.places = [_places(tilts, item.tilts) for item in series]
        self.views: list[View] = []
        self.bins = 1
        self.largest = float(self.extent[0])
        self.newton: Newton

    def first_support(self, placement: Placement) -> tuple[Placement, Support | None]:
        """Centre an object across the axis; return its first support, None if the view cuts it."""
        if not self.whole[0]:
            return self.centred(placement), None
        images = self.series[0].images
        path, reach = outline_path(images, self.tilts, placement.turned[0], placement.rotation)
        self.largest = _LARGEST * reach
        return placement.moved(-path, np.zeros(len(self.tilts))), Support("rod", reach)

    def centred(self, placement: Placement) -> Placement:
        """Move an object cut by the view until the images share as much on both sides of the axis.

        Only if they share little on one side. The position of the object along x is arbitrary, and
        the axis stays.
        """
        low, high = common_view(placement, self.extent)[0]
        if min(-low, high) >= _LOPSIDED * (high - low) / 2:
            return placement
        cosines = np.cos(np.deg2rad(self.tilts))[:, None]
        moves = np.linspace(-1, 1, 401) * 2 * np.abs(placement.turned[0]).max()
        best = moves[np.abs(placement.turned[0][:, None] + moves * cosines).max(axis=0).argmin()]
        return placement.moved(best * cosines[:, 0], np.zeros(len(self.tilts)))

    def ranges(self, placement: Placement, support: Support | None) -> list[tuple[float, float]]:
        """Return the ranges across and along the axis that are compared, px."""
        ranges = list(common_view(placement, self.extent))
        for axis, name in enumerate(("across", "along")):
            size = self.extent[axis]
            if self.whole[axis]:
                # The images are 0 beyond the view.
                ranges[axis] = (-size / 2, size / 2)
            elif ranges[axis][1] - ranges[axis][0] < _SHARED * size:
                shifts = placement.turned[axis]
                far = self.tilts[np.abs(shifts - np.median(shifts)) > (1 - _SHARED) * size / 2]
                raise ValueError(
                    f"once in place the images share less than {100 * _SHARED:.0f} % of the view "
                    f"{name} the axis; "
                    f"far off lies what was recorded at {named(far if far.size else self.tilts)} "
                    "degrees. Leave it out "
                    "(drop_tilts), give its shift and use method='refine', or give a larger view"
                )
        if support is not None and support.shape != "slab":
            half = min(_MARGIN * support.size, self.extent[0] / 2)
        else:
            half = min(-ranges[0][0], ranges[0][1])
        # Symmetric about the axis, so that the even and the odd part of the rays are independent.
        ranges[0] = (-half, half)
        return ranges

    def grids(self, placement: Placement, support: Support | None) -> list[int]:
        """Return the binning of the grids, coarse to fine."""
        across = self.ranges(placement, support)[0]
        extent = across[1] - across[0]
        first, last = (
            max(1, int(np.ceil(extent / min(pixels, max(_FEWEST_PIXELS, rays / len(self.tilts))))))
            for pixels, rays in (_FIRST, _LAST)
        )
        return [max(first, last), last]

    def set_grid(self, bins: int, placement: Placement, support: Support | None) -> None:
        """Bin the images and maps to a grid."""
        self.bins = bins
        across, along = self.ranges(placement, support)
        self.views = []
        for number, (item, places) in enumerate(zip(self.series, self.places, strict=True)):
            # Maps have few counts: pixels twice as large lose no information.
            binning = max(1, round((bins if number == 0 else 2 * bins) / item.pixel))
            # Slices are binned less where there are few of them.
            most = max(1, int((along[1] - along[0]) / (_ACROSS * item.pixel) + 1e-6))
            moving = MovingImages(item.images, binning, item.pixel, min(binning, most))
            u, y = positions(*across, moving.step), positions(*along, moving.step_along)
            if len(u) >= _ACROSS and len(y) >= _ALONG:
                self.views.append(
                    View(moving, item.tilts, places, u, y, not self.whole[1], self.workers)
                )
            elif number == 0:
                raise ValueError(_too_small(across, along, self.extent))

    def fit(self, support: Support, placement: Placement) -> None:
        """Set the support of all views, and for each its most likely noise."""
        covariances: dict = {}
        for view in self.views:
            key = (view.tilts.tobytes(), view.u.tobytes())
            if key not in covariances:
                covariances[key] = ray_covariance(view.tilts, view.u, support)
            view.fit(support, placement, covariances[key])

    def most_likely_support(self, support: Support | None, placement: Placement) -> Support:
        """Return the most likely support by a search from a first one, or from the trial slabs."""
        view = self.views[0]
        tried: dict[Support, float] = {}
        view.fit(support or Support("slab", _DEPTHS[-1] * self.extent[0]), placement)

        def likelihood(candidate: Support) -> float:
            if candidate not in tried:
                tried[candidate] = view.likelihood(candidate, placement)
            return tried[candidate]

        if support is None:
            support = max(
                (Support("slab", depth * self.extent[0]) for depth in _DEPTHS), key=likelihood
            )
        while True:
            around = [
                replace(support, size=support.size * factor) for factor in (1 / _FACTOR, _FACTOR)
            ]
            if support.shape == "slab":
                leaning = (
                    replace(support, inclination=support.inclination + step)
                    for step in (-_INCLINATION, _INCLINATION)
                )
                around += [
                    item for item in leaning if abs(item.inclination) <= _LARGEST_INCLINATION
                ]
            else:
                around.append(replace(support, shape="ball" if support.shape == "rod" else "rod"))
            around = [item for item in around if item.size <= self.largest]
            better = max(around, key=likelihood)
            if likelihood(better) <= likelihood(support) or len(tried) > _MOST_SUPPORTS:
                return support
            support = better

    def steps(self, placement: Placement, free: Sequence[str]) -> Newton:
        """Return the Newton steps in the free parameters on the present grid."""
        image = self.views[0]
        lever = 0.25 * (np.ptp(image.u) + np.ptp(image.y))
        return Newton(self.tilts, self.extent[0], lever, free, centred=self.whole[0])

    def descend(self, placement: Placement) -> tuple[Placement, int]:
        """Take Newton steps until they are small; return the placement and their number."""
        for count in range(1, _STEPS + 1):  # noqa: B007
            found = self.newton.derivatives(self.views, placement)
            dx, dy, turn = self.newton.step(found, self.bins)
            placement = placement.moved(dx, dy, turn)
            if (
                max(self.newton.longest_shift(dx, dy), abs(turn) * self.newton.lever)
                < _SMALL * self.bins
            ):
                break
        return placement, count

    def without_insignificant_rotation(
        self, placement: Placement, free: Sequence[str], report: list[str]
    ) -> Placement:
        """Return the placement with a rotation of 0 where the measured one is not significant."""
        self.newton = self.steps(placement, free)
        if "rotation" not in free:
            return placement
        sure = self.newton.uncertainty(self.newton.derivatives(self.views, placement))
        turn = np.rad2deg(placement.rotation)
        if abs(turn) >= _SIGNIFICANT * sure.rotation:
            return placement
        report.append(
            f"a rotation of {turn:.2f} +- {sure.rotation:.2f} degrees is not significant and was "
            "left out"
        )
        upright = Placement(placement.turned[0], placement.turned[1], 0.0)
        rest = tuple(name for name in free if name != "rotation")
        if rest:
            self.newton = self.steps(upright, rest)
            upright, _ = self.descend(upright)
            self.newton = self.steps(upright, free)
        return upright

    def result(
        self,
        placement: Placement,
        first: Placement,
        support: Support,
        start: Alignment,
        report: list[str],
    ) -> Alignment:
        """Return the alignment with its quality, or the start where that has a smaller residual."""
        before, after = (
            self.views[0].leave_one_out_residual(first),
            self.views[0].leave_one_out_residual(placement),
        )
        if np.median(after) > _WORSE * np.median(before):
            report.append(
                "refinement left more of the images unexplained than the start, which was kept"
            )
            placement, after = first, before
        sure = self.newton.uncertainty(self.newton.derivatives(self.views, placement))
        if support.shape == "slab":
            inclination = f"inclined by {support.inclination:.0f} degrees"
            size = f"slab of depth {support.size:.1f} px, {inclination}"
        else:
            size = f"{support.shape} of radius {support.size:.1f} px"
        report.append(
            f"most likely a {size}; median residual {np.median(before):.3f} before, "
            f"{np.median(after):.3f} after"
        )
        quality = AlignmentQuality(
            sure.across, sure.along, sure.axis, sure.rotation, after, tuple(report)
        )
        turned = placement.turned
        if "shifts" in self.newton.free:
            # The smallest shifts that keep the object at the height of the axis.
            offset, path = point_path(
                -turned[0], self.tilts, axis=AXIS_SPREAD * self.extent[0], height=0.0
            )
            placement = placement.moved(path, -np.full(len(self.tilts), turned[1].mean()))
            shifts = placement.across, placement.along
        else:
            # The shifts stay, and the common shift of all images is that of the axis.
            turn = placement.rotation - first.rotation
            offset, shifts = (
                start.axis_offset * np.cos(turn) - (turned[0] - first.turned[0]).mean(),
                (start.across, start.along),
            )
        return Alignment(
            *shifts,
            offset,
            np.rad2deg(placement.rotation),
            self.tilts,
            start.pixel_size,
            quality=quality,
        )


def _too_small(
    across: tuple[float, float], along: tuple[float, float], extent: tuple[int, int]
) -> str:
    """Return the error text for a view that is too small to be refined."""
    narrow = across[1] - across[0] < _ACROSS
    side, shared, least = ("across", across, _ACROSS) if narrow else ("along", along, _ALONG)
    remedy = "smaller pixels" if narrow else "more slices"
    return (
        f"once in place {max(shared[1] - shared[0], 0):.1f} px {side} the axis are there to be "
        "compared, of images of "
        f"{extent[0]} x {extent[1]} px (x, y), and {least} are needed to refine an alignment; give "
        f"{remedy}, or use "
        "method='cross_correlation' or 'centre_of_mass'"
    )


def _places(tilts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the indices of the tilts of maps among those of the images."""
    places = match_tilts(wanted, tilts, SAME_VIEW)
    missing = np.asarray(wanted)[places < 0]
    if missing.size:
        raise ValueError(
            f"the maps have tilts {missing} degrees that the images lack; align with the maps at "
            "the images' tilts "
            "(drop_tilts), then transfer the alignment"
        )
    return places
