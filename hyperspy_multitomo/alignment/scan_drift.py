# SPDX-License-Identifier: GPL-3.0-or-later
"""Shift and drift of a map during its slow scan, relative to the fast HAADF image of the tilt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.series_checks import check_features, named
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.tomography.scaling import in_range

__all__ = ["scan_offsets"]

# Standard deviation (px) of the Gaussian that smooths map and image, and of the wider one for the
# first estimate by correlation.
_SMOOTHING, _START_SMOOTHING = 1.0, 2.0
# Fraction of the variance of white noise that remains after smoothing.
_LEFT = 1 / (4 * np.pi * _SMOOTHING**2)
# Pixels along the rim of map and image that are ignored: smoothing mixes them with the outside.
_RIM = 2
# Maps of fewer counts are refused.
_FEWEST_COUNTS = 30
# Significance level of a correlation coefficient, in standard deviations of that of unrelated
# noise, 1/sqrt(pixels).
_SIGNIFICANT = 5.0
# A drift below this many standard errors, in both directions, is not significant.
_DRIFT_SIGNIFICANT = 2.0
# Fraction of a map that has to lie on the image.
_OVERLAP = 0.4
# Least expectation of a pixel, as a fraction of the mean; it limits the weights.
_FLOOR = 0.1
# Gauss-Newton steps at most, the step (px) at which they end, and the longest step (px).
_STEPS, _LAST_STEP, _LONGEST_STEP = 30, 0.005, 1.0
# Number of registrations of several maps; before the first, their brightness is not known.
_PASSES = 3


@one_blas_thread()
def scan_offsets(
    maps: ArrayLike,
    images: ArrayLike,
    tilts: ArrayLike,
    *,
    pixel: float = 1.0,
    drift: bool = True,
    slow_axis: str = "y",
) -> Alignment:
    """Measure the shift of each map relative to the HAADF image of its tilt, and its drift.

    An image takes seconds, a map minutes, during which the stage drifts: the map is displaced, and
    sheared or stretched along its slow axis. The sum of the maps over the elements is modelled as
    ``gain * image(v + shift + drift * line(v)) + offset``, with lines counted from the middle of
    the scan. The fit starts at the peak of the cross-correlation and takes Gauss-Newton steps with
    Poisson weights. Map and image are smoothed alike, so that a few counts per pixel are enough.
    With maps of several elements, the fit is repeated with each weighted by the brightness of its
    counts in the images, at all tilts together.

    Parameters
    ----------
    maps : array_like (element, tilt, x, y) or (tilt, x, y)
        Counts.
    images : array_like (tilt, X, Y)
        HAADF images of the same field of view, to within a pixel of the map.
    tilts : array_like (tilt,)
        Degrees.
    pixel : float, default 1.0
        Edge of a pixel of the map in pixels of the image: 2.0 for maps binned twofold. Both have
        the same centre.
    drift : bool, default True
        Measure the drift as well. For a tilt where it is below two standard errors in both
        directions it is 0.
    slow_axis : {"y", "x"}, default "y"
        Direction in which the scan goes from line to line.

    Returns
    -------
    Alignment
        In pixels of the map: ``alignment.apply(maps)`` lies on the images. `quality` has the
        standard errors of the shift at the middle of the scan, and the root mean square residual of
        the smoothed map, relative to its standard deviation. `drift` is None if no drift is
        significant.

    Raises
    ------
    ValueError
        For shapes that do not fit; for NaN, an even image, a map of too few counts or one without
        features in common with its image, named by the tilt; for a pixel that is not positive and
        an unknown slow axis.

    Notes
    -----
    The part of the image that the weighted sum of the maps cannot explain enters the standard
    errors as if it were noise. It also causes a bias: a single sum map (tilt, x, y) of elements
    that differ in brightness may be wrong by a tenth of a pixel in the shift and by a pixel in the
    drift over the scan. A round particle says little about a drift across the lines. The drift is
    assumed to be constant during a scan; jumps are not modelled.

    References
    ----------
    B. D. Lucas, T. Kanade, Proc. IJCAI 2 (1981) 674 (registration by the gradient).
    L. Jones, P. D. Nellist, Microsc. Microanal. 19 (2013) 1050, doi:10.1017/S1431927613001402
    (drift in scanned images).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.mgrid[:32, :32]
    >>> image = 9 * np.exp(-((x - 17) ** 2 + (y - 14) ** 2) / 40)
    >>> image += 6 * np.exp(-((x - 11) ** 2 + (y - 20) ** 2) / 10)
    >>> counts = np.roll(image, (-1, 2), axis=(0, 1))
    >>> found = scan_offsets([counts], [100 * image + 7], [30.0])
    >>> found.across.round(1), found.along.round(1), found.drift
    (array([1.]), array([-2.]), None)
    """
    if not (np.isfinite(pixel) and pixel > 0):
        raise ValueError(
            f"`pixel` is {pixel!r}; expected the edge of a map's pixel in pixels of the image, "
            "more than 0"
        )
    if slow_axis not in ("x", "y"):
        raise ValueError(f"`slow_axis` is {slow_axis!r}; expected 'x' or 'y'")
    maps, images, tilts = _checked(maps, images, tilts, pixel)
    # The fit of gain and offset needs an image of about the range of its constant column.
    images = np.array([_on_grid(image, maps.shape[2:], pixel) for image in in_range(images)])
    brightness, passes = np.ones(len(maps)), _PASSES if len(maps) > 1 else 1
    starts: list = [None] * len(tilts)
    for number in range(passes):
        sums = np.tensordot(brightness, maps, 1)
        pairs = [_Registration(*pair, slow_axis) for pair in zip(sums, images, tilts, strict=True)]
        fits = [pair.registered(start, drift) for pair, start in zip(pairs, starts, strict=True)]
        starts = [fit.moved for fit in fits]
        if number < passes - 1:
            brightness = _brightness(maps, pairs, fits)
    moved, error = (np.array([getattr(fit, name) for fit in fits]) for name in ("moved", "error"))
    lines = maps.shape[2 if slow_axis == "x" else 3]
    drifts = moved[:, 2:] / _half(lines)
    drifting = int(drifts.any(axis=1).sum())
    report = (
        f"maps registered to the HAADF of their tilt, {drifting} of {len(tilts)} "
        f"with a drift during the scan along {slow_axis}"
    )
    if drifting:
        # From the first line to the last.
        report += f", of up to {np.hypot(*drifts.T).max() * (lines - 1):.2g} px"
    quality = AlignmentQuality(
        error[:, 0],
        error[:, 1],
        np.nan,
        np.nan,
        np.array([fit.residual for fit in fits]),
        (report,),
    )
    return Alignment(
        moved[:, 0],
        moved[:, 1],
        tilts=tilts,
        drift=drifts if drifting else None,
        slow_axis=slow_axis,
        quality=quality,
    )


@dataclass(frozen=True)
class _Fit:
    """Registration of a map: shift (x, y), then drift (x, y) from the scan's middle to its end."""

    moved: np.ndarray  # px, (4,)
    error: np.ndarray  # standard errors, px, (4,)
    residual: float


class _Registration:
    """A map (x, y) to be registered to an image on the same grid."""

    def __init__(self, counts: np.ndarray, image: np.ndarray, tilt: float, slow_axis: str):
        from scipy.ndimage import gaussian_filter, spline_filter

        self.counts, self.image, self.tilt = counts, image, tilt
        self.smooth = gaussian_filter(counts, _SMOOTHING, mode="nearest")
        self.floor = _FLOOR * counts.mean()
        smooth = gaussian_filter(image, _SMOOTHING, mode="nearest")
        self._splines = [
            spline_filter(values, mode="nearest") for values in (smooth, *np.gradient(smooth))
        ]
        self._grid = np.indices(counts.shape, dtype=np.float64)
        axis = 0 if slow_axis == "x" else 1
        # -1 to 1 from the first line to the last.
        self._line = (self._grid[axis] - (counts.shape[axis] - 1) / 2) / _half(counts.shape[axis])
        self._known = self._within(self._grid)

    def registered(self, start: np.ndarray | None, drift: bool) -> _Fit:
        """Return the best shift, and the drift if it is significant.

        The fit begins at a start, or by default at the peak of the cross-correlation.
        """
        start = self.start() if start is None else start
        if drift:
            fit = self.fitted(start, True)
            if (
                np.abs(fit.moved[2:]) >= np.maximum(_DRIFT_SIGNIFICANT * fit.error[2:], _LAST_STEP)
            ).any():
                return fit
            start = fit.moved * (1, 1, 0, 0)
        return self.fitted(start, False)

    def start(self) -> np.ndarray:
        """Return the shift at the peak of the cross-correlation, without drift (x, y, 0, 0)."""
        from scipy.ndimage import gaussian_filter
        from skimage.registration import phase_cross_correlation

        window = np.outer(*(np.hanning(size + 2)[1:-1] for size in self.counts.shape))
        faded = []
        for values in (self.image, self.counts):
            smooth = gaussian_filter(values, _START_SMOOTHING, mode="nearest")
            faded.append(window * (smooth - (window * smooth).sum() / window.sum()))
        shift = phase_cross_correlation(*faded, upsample_factor=10, normalization=None)[0]
        return np.array([*shift, 0.0, 0.0])

    def fitted(self, moved: np.ndarray, drift: bool) -> _Fit:
        """Return the best shift (and drift) near a start, by damped Gauss-Newton steps."""
        free = 4 if drift else 2
        values, slopes, seen = self.sampled(moved)
        linear = np.linalg.lstsq(
            np.stack([values[seen], np.ones(seen.sum())], axis=1), self.smooth[seen], rcond=None
        )[0]
        damping = 1e-3
        for _ in range(_STEPS):
            columns, left, weights = self._linearised(values, slopes, linear, free)
            weighted = weights[seen] * columns[:, seen]
            normal = weighted @ columns[:, seen].T
            damped = (
                normal
                + damping * np.diag(np.diag(normal))
                + np.finfo(float).tiny * np.eye(len(normal))
            )
            step = np.linalg.lstsq(damped, weighted @ left[seen], rcond=None)[0]
            longest = np.abs(step[:free]).max()
            step *= min(1.0, _LONGEST_STEP / max(longest, 1e-12))
            trial = moved.copy()
            trial[:free] += step[:free]
            found = self.sampled(trial)
            both = seen & found[2]
            remaining = self.smooth - (linear[0] + step[-2]) * found[0] - linear[1] - step[-1]
            if (weights * remaining**2)[both].sum() <= (weights * left**2)[both].sum():
                moved, linear, (values, slopes, seen) = trial, linear + step[-2:], found
                damping = max(damping / 10, 1e-6)
            else:
                damping *= 10
            if longest < _LAST_STEP:
                break
        columns, left, weights = self._linearised(values, slopes, linear, free)
        self._check(linear, values, seen)
        error = np.zeros(4)
        error[:free] = self._errors(moved, linear, columns, left, weights * seen)[:free]
        return _Fit(
            moved, error, float(np.sqrt((left[seen] ** 2).mean()) / self.smooth[seen].std())
        )

    def sampled(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image and slopes (2, x, y) at the pixels of the map, and which are inside it."""
        from scipy.ndimage import map_coordinates

        places = self._grid + moved[:2, None, None] + moved[2:, None, None] * self._line
        values, *slopes = (
            map_coordinates(spline, places, prefilter=False, mode="nearest")
            for spline in self._splines
        )
        seen = self._known & self._within(places)
        if seen.sum() < _OVERLAP * seen.size:
            raise ValueError(self._unlike("it would lie outside that image"))
        return values, np.array(slopes), seen

    def _within(self, places: np.ndarray) -> np.ndarray:
        last = np.array(self.counts.shape)[:, None, None] - 1 - _RIM
        return np.logical_and.reduce((places >= _RIM) & (places <= last), axis=0)

    def _linearised(
        self, values, slopes, linear, free
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the derivatives of the model (parameter, x, y), the residuals, and the weights."""
        from scipy.ndimage import gaussian_filter

        model = linear[0] * values + linear[1]
        slopes = linear[0] * slopes
        columns = np.array([*slopes, *(slopes * self._line), values, np.ones_like(values)])
        # Smoothing spreads the noise of bright pixels to their dark neighbours.
        expected = np.maximum(gaussian_filter(model, _SMOOTHING, mode="nearest"), self.floor)
        return columns[[*range(free), 4, 5]], self.smooth - model, 1 / expected

    def _errors(self, moved, linear, columns, left, weights) -> np.ndarray:
        """Return standard errors of the parameters.

        The estimate is linear in the counts, smoothing included, so that their variance propagates
        exactly. It is proportional to the expected counts, with the dispersion of the residuals, so
        that noise of the image and misfit are included.
        """
        from scipy.ndimage import gaussian_filter

        count, seen = len(columns), weights > 0
        free = count - 2
        weighted = (weights * columns).reshape(count, -1)
        normal = weighted @ columns.reshape(count, -1).T
        # The slopes of the image's noise make this matrix too large; the change of the gradient
        # with the shift is free of them.
        bent, change = normal.copy(), 0.5
        for n in range(free):
            gradients = []
            for sign in (1, -1):
                values, slopes, _ = self.sampled(moved + sign * change * np.eye(4)[n])
                derivatives, remaining, _ = self._linearised(values, slopes, linear, free)
                gradients.append(derivatives.reshape(count, -1) @ (weights * remaining).ravel())
            bent[n] = (gradients[1] - gradients[0]) / (2 * change)
        bent[:free, free:] = normal[:free, free:]
        bent = (bent + bent.T) / 2
        # At least a tenth of the normal matrix, where there is only noise.
        scale = np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
        curvatures, modes = np.linalg.eigh(bent / np.outer(scale, scale))
        least = 0.1 * np.linalg.eigvalsh(normal / np.outer(scale, scale))[0]
        inverse = (
            (modes / np.maximum(curvatures, max(least, 1e-9))) @ modes.T / np.outer(scale, scale)
        )
        pulls = np.array(
            [
                gaussian_filter(column.reshape(seen.shape), _SMOOTHING, mode="constant")
                for column in weighted
            ]
        )
        dispersion = (weights * left**2).sum() / (_LEFT * max(1, seen.sum() - count / _LEFT))
        variance = dispersion * np.where(seen, 1 / np.where(seen, weights, 1), self.counts.mean())
        spread = (pulls * variance).reshape(count, -1) @ pulls.reshape(count, -1).T
        return np.sqrt(np.diag(inverse @ spread @ inverse))

    def _check(self, linear: np.ndarray, values: np.ndarray, seen: np.ndarray) -> None:
        """Raise an error unless the counts before smoothing, with white noise, fit the image."""
        counts, values = self.counts[seen], linear[0] * values[seen]
        likeness = (
            (counts - counts.mean())
            @ (values - values.mean())
            / max(counts.size * counts.std() * values.std(), np.finfo(float).tiny)
        )
        if linear[0] <= 0 or likeness < _SIGNIFICANT / np.sqrt(counts.size):
            raise ValueError(self._unlike(f"correlation {np.sign(linear[0]) * likeness:.2f}"))

    def _unlike(self, why: str) -> str:
        return (
            f"the map at {self.tilt:g} degrees has no features in common with the HAADF image "
            f"({why}); are both of the same tilt "
            "and of the same orientation? Leave this tilt out (drop_tilts)"
        )


def _checked(
    maps: ArrayLike, images: ArrayLike, tilts: ArrayLike, pixel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the maps (element, tilt, x, y), the images and the tilts, after checking them."""
    maps, images, tilts = (np.asarray(values, dtype=np.float64) for values in (maps, images, tilts))
    if maps.ndim == 3:
        maps = maps[None]
    if maps.ndim != 4 or not len(maps):
        raise ValueError(
            f"the maps have shape {maps.shape}; expected (element, tilt, x, y) or (tilt, x, y)"
        )
    total = maps.sum(axis=0)
    for name, values in (("maps", total), ("images", images)):
        if values.ndim != 3 or min(values.shape[1:]) < 8:
            raise ValueError(
                f"the {name} have shape {values.shape}; expected (tilt, x, y) of 8 pixels or more "
                "in x and y"
            )
    if (
        tilts.shape != total.shape[:1]
        or len(total) != len(images)
        or not np.isfinite(tilts).all()
        or not len(tilts)
    ):
        raise ValueError(
            f"there are {len(total)} maps, {len(images)} images and tilts of shape {tilts.shape}; "
            "pass one map, image and "
            "finite angle per tilt (Alignment.transfer brings an alignment to other tilts)"
        )
    if max(
        abs(image - pixel * size)
        for image, size in zip(images.shape[1:], total.shape[1:], strict=True)
    ) > pixel * (1 + 1e-6):
        raise ValueError(
            f"the maps of {total.shape[1:]} px, {pixel:g} px of the image each, do not show the "
            "field of view of the images of "
            f"{images.shape[1:]} px; crop one of them, or correct `pixel`"
        )
    for name, values in (("map", total), ("image", images)):
        broken = tilts[~np.isfinite(values).all(axis=(1, 2))]
        if broken.size:
            raise ValueError(
                f"the {name} at {named(broken)} degrees holds NaN or infinite values; leave out or "
                "repair it"
            )
    poor = tilts[(total.sum(axis=(1, 2)) < _FEWEST_COUNTS) | (np.ptp(total, axis=(1, 2)) == 0)]
    if poor.size:
        raise ValueError(
            f"the map at {named(poor)} degrees has too few counts to be registered, fewer than "
            f"{_FEWEST_COUNTS} or the same "
            "everywhere; leave this tilt out (drop_tilts), or sum the maps of more elements"
        )
    check_features(images, tilts)
    return maps, images, tilts


def _brightness(maps: np.ndarray, pairs: list[_Registration], fits: list[_Fit]) -> np.ndarray:
    """Return the brightness of a count of each element in the images, 1 on average over all counts.

    It is a linear regression over all tilts.
    """
    from scipy.ndimage import gaussian_filter

    normal, pull = np.zeros((len(maps), len(maps))), np.zeros(len(maps))
    for t, (pair, fit) in enumerate(zip(pairs, fits, strict=True)):
        values, _, seen = pair.sampled(fit.moved)
        smooth = np.array(
            [gaussian_filter(element, _SMOOTHING, mode="nearest")[seen] for element in maps[:, t]]
        )
        smooth -= smooth.mean(axis=1, keepdims=True)
        normal += smooth @ smooth.T
        pull += smooth @ (values[seen] - values[seen].mean())
    brightness = np.maximum(np.linalg.pinv(normal, hermitian=True) @ pull, 0)
    counts = maps.sum(axis=(1, 2, 3))
    total = brightness @ counts
    return brightness * counts.sum() / total if total > 0 else np.ones(len(maps))


def _half(lines: int) -> float:
    """Return the distance from the middle of a scan to its last line."""
    return (lines - 1) / 2


def _on_grid(image: np.ndarray, shape: tuple[int, ...], pixel: float) -> np.ndarray:
    """Return the means of an image over the pixels of a map of the same centre."""
    for axis, size in enumerate(shape):
        if pixel == 1 and image.shape[axis] == size:
            continue
        along = np.moveaxis(image, axis, 0)
        edges = (np.arange(size + 1) - size / 2) * pixel + len(along) / 2
        # Of a pixel that reaches beyond the image, the part inside counts.
        edges = np.clip(edges, 0, len(along))
        total = np.concatenate([np.zeros((1, along.shape[1])), np.cumsum(along, axis=0)])
        whole = np.minimum(edges.astype(int), len(along) - 1)
        upto = total[whole] + (edges - whole)[:, None] * along[whole]
        image = np.moveaxis(np.diff(upto, axis=0) / np.diff(edges)[:, None], 0, axis)
    return image
