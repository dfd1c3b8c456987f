# SPDX-License-Identifier: GPL-3.0-or-later
"""Damping of the HAADF in thick regions: model, inversion, and estimate from the HAADF alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.haadf.haadf_noise import averaged, averaging_side, noise_law

__all__ = ["DampingModel", "estimate_damping"]

# Significance level of damping: one-sided 3 sigma (p = 0.00135).
SIGNIFICANCE = 0.00135
# Range of the mean thickness over the tilts, as a fraction of its mean, below which damping is only
# a common factor.
LEAST_RANGE = 0.05
# Fraction of the saturation up to which pixels are inverted during the fit; noise beyond is
# extrapolated linearly.
STEEPEST_PART = 0.95
# Number of slabs to which slices along the tilt axis are summed; slabs are thick compared with
# errors of the alignment.
SLABS = 16
# Newton steps at most.
STEPS = 60


@dataclass(frozen=True, eq=False, repr=False)
class DampingModel:
    """A saturating HAADF: recorded = S (1 - exp(-linear / S)), of unit slope for thin specimens.

    Attributes
    ----------
    saturation : float
        S, the HAADF signal of an infinitely thick specimen; infinite without damping.
    saturation_error : float
        Its standard error, from the scatter between tilts (or parts of the views); NaN if unknown.
    score : float
        1/S in units of its standard error; negative where thick regions are too bright.
    significant : bool
        Whether the damping is significant: one-sided 3 sigma.
    reason : str
        The figures behind that.
    source : {"given", "haadf", "maps"}
        The data from which it was estimated.
    brightest : float
        The brightest signal (99.9th percentile) of these data; the model extrapolates beyond.
    tilts : numpy.ndarray (tilt,)
        Degrees.
    sums : numpy.ndarray (2, tilt)
        Signal of each tilt over the expected one, of mean 1, as recorded and as corrected.
    points : numpy.ndarray (2, block)
        Linear signal from the maps, and recorded HAADF, per pixel of each block; empty without
        maps.
    ratios : numpy.ndarray (channel,)
        Response ratios of the undamped HAADF; empty without maps.
    inclination : float
        Tilt (degrees) at which a lamella is perpendicular to the beam; 0 for other objects.

    References
    ----------
    R. Huber, G. Haberfehlner, M. Holler, G. Kothleitner, K. Bredies, Nanoscale 11 (2019) 5617, eqs
    6-7, doi:10.1039/C8NR09058K: there S is 0.7 of the incident electrons.

    Examples
    --------
    >>> model = DampingModel(1000.0)
    >>> float(model.apply(500.0).round(1)), float(model.invert(393.4693).round(3))
    (393.5, 500.0)
    """

    saturation: float
    saturation_error: float = np.nan
    score: float = np.nan
    significant: bool = True
    reason: str = "given"
    source: Literal["given", "haadf", "maps"] = "given"
    brightest: float = np.nan
    tilts: np.ndarray = field(default_factory=lambda: np.empty(0))
    sums: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))
    points: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))
    ratios: np.ndarray = field(default_factory=lambda: np.empty(0))
    inclination: float = 0.0

    def __post_init__(self):
        if not self.saturation > 0:
            raise ValueError(
                f"the saturation is {self.saturation}; expected a positive HAADF signal, or inf "
                "for no damping"
            )

    def __repr__(self) -> str:
        judged = "significant" if self.significant else "not significant"
        figures = (
            f"saturation {self.saturation:.4g} ± {self.saturation_error:.2g} from {self.source}"
        )
        return f"<DampingModel {figures}, {judged}: {self.reason}>"

    def apply(self, linear: ArrayLike) -> np.ndarray:
        """Return the recorded signal for a linear one, of any shape; float32 for float32."""
        linear = _as_float(linear)
        return (
            linear.copy()
            if np.isinf(self.saturation)
            else -self.saturation * np.expm1(-linear / self.saturation)
        )

    def invert(self, recorded: ArrayLike) -> np.ndarray:
        """Return the linear signal behind a recorded one, of any shape; float32 for float32.

        Noise is amplified by 1 / (1 - recorded/S), and its mean becomes positive: variance /
        (2 S (1 - recorded/S)^2).

        Raises
        ------
        ValueError
            If a pixel is at or above the saturation, which no thickness can produce.
        """
        recorded = _as_float(recorded)
        beyond = int(np.count_nonzero(~(recorded < self.saturation)))
        if beyond:
            raise ValueError(
                f"{beyond} of {recorded.size} pixels are NaN, or at or above the saturation of "
                f"{self.saturation:.4g} (up to "
                f"{recorded.max():.4g}); take off the detector's offset and hot pixels, bin or "
                "smooth noisy images, or give a "
                "model of a higher saturation"
            )
        return (
            recorded.copy()
            if np.isinf(self.saturation)
            else -self.saturation * np.log1p(-recorded / self.saturation)
        )


def estimate_damping(
    haadf: ArrayLike,
    tilts: ArrayLike,
    *,
    model: Literal["constant", "lamella"] = "constant",
    gains: ArrayLike | None = None,
) -> DampingModel:
    """Estimate the damping from a HAADF series alone, by sums that should not change with the tilt.

    Each tilt's sum over x of the linear signal is the mass of the slice, whatever the direction
    (the zeroth moment). At tilts where the object is thicker along the beam, damping reduces the
    sum. The fitted saturation minimises the deviations of the logarithms of the corrected sums from
    their mean over the tilts.

    Parameters
    ----------
    haadf : array_like (tilt, x, y)
        Images, zero in vacuum, aligned along y.
    tilts : array_like (tilt,)
        Degrees.
    model : "constant" or "lamella", default "constant"
        The linear sums: the same at every tilt, for an object wholly in view along x; or
        proportional to 1/cos(t - inclination), for a lamella that fills the view. The inclination
        is then fitted as well.
    gains : array_like (tilt,), optional
        Independently known gains, such as the beam current, that are divided out; 1 by default.
        Gains estimated from the means of these images already contain the damping.

    Returns
    -------
    DampingModel

    Raises
    ------
    ValueError
        For fewer than three tilts (four for a lamella), an object about equally thick at all tilts
        (a cylinder around the tilt axis), and sums that are not positive or that vary more than
        damping can explain.

    Notes
    -----
    Standard errors are from the jackknife over tilts, or from the mean scatter of the tilts where
    that is larger. They include random variations of the beam current from tilt to tilt, but not a
    trend that is correlated with the thickness. The noise of the images, which the inversion would
    turn into signal, is measured and subtracted.

    References
    ----------
    S. Helgason, The Radon Transform (1999), ch. 1 (moments of projections). R. Huber et al.,
    Nanoscale 11 (2019) 5617, eqs 6-7, doi:10.1039/C8NR09058K (the damping). B. Efron, C. Stein,
    Ann. Statist. 9 (1981) 586 (jackknife).

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((6, 60, 4))
    >>> for image, width in zip(images, (12, 16, 20, 24, 30, 40)):
    ...     image[:width] = DampingModel(1000.0).apply(9600 / width)
    >>> found = estimate_damping(images, [-50, -30, -10, 10, 30, 50])
    >>> round(found.saturation), found.significant
    (1000, True)
    """
    haadf, tilts = checked_images(haadf, tilts, gains)
    lamella = _is_lamella(model, tilts)
    haadf = averaged(haadf, averaging_side(haadf, 8)[0])
    slabs = _Slabs(haadf, noise_law(haadf))
    top, recorded = float(np.percentile(haadf, 99.9)), slabs.sums(0.0)
    used = recorded.mean(axis=0) > 0.05 * recorded.mean(axis=0).max()
    if not (recorded[:, used] > 0).all():
        raise ValueError(
            "a tilt has no positive sum of the HAADF; take off the detector's offset, or leave out "
            "empty tilts"
        )
    slabs.check_thickness()
    if lamella and np.abs(tilts).max() > 75:
        raise ValueError("a lamella beyond 75 degrees stands almost on edge; leave those tilts out")
    k, inclination, logarithms, columns = _fit_constant_sums(slabs, used, tilts, top, lamella)
    deleted = np.array(
        [
            _common_step(logarithms, columns, np.arange(len(tilts)) != t)[0] / top
            for t in range(len(tilts))
        ]
    )
    spread = _spread_of_step(logarithms, columns) / top
    expected = 1 / np.cos(np.deg2rad(tilts - inclination)) if lamella else 1.0
    totals = np.stack([recorded.sum(axis=1), slabs.sums(k).sum(axis=1)]) / expected
    return tested_model(
        k,
        deleted,
        len(tilts) - 2 - lamella,
        spread,
        source="haadf",
        brightest=top,
        tilts=tilts,
        sums=totals / totals.mean(axis=1, keepdims=True),
        inclination=inclination,
    )


def _is_lamella(model: str, tilts: np.ndarray) -> bool:
    """Return whether the model is that of a lamella, after checking it and the number of tilts."""
    if model not in ("constant", "lamella"):
        raise ValueError(
            f"unknown model {model!r}; use 'constant' (wholly in view) or 'lamella' (fills the "
            "view)"
        )
    lamella = model == "lamella"
    if len(tilts) < 3 + lamella:
        raise ValueError(
            f"there are {len(tilts)} tilts; damping shows in how the sums change over at least "
            f"{3 + lamella} of them"
        )
    return lamella


class _Slabs:
    """Sums of the linear signal of images (tilt, x, y) over slabs along the tilt axis."""

    def __init__(self, haadf: np.ndarray, noise: np.ndarray):
        self.haadf, self.noise = haadf, noise
        slices = haadf.shape[2]
        edges = np.linspace(0, slices, min(SLABS, slices) + 1).astype(int)
        self._starts = np.unique(edges)[:-1]

    def sums(self, k: float) -> np.ndarray:
        """Return the sums for 1/S = k, (tilt, slab)."""
        linear = np.stack(
            [
                linear_signal(image, k, self.noise).sum(axis=0, dtype=np.float64)
                for image in self.haadf
            ]
        )
        return np.add.reduceat(linear, self._starts, axis=1)

    def check_thickness(self) -> None:
        """Raise an error if the mean thickness hardly changes with the tilt."""
        squares = np.array(
            [
                (image.astype(np.float64) ** 2 - np.polyval(self.noise, np.maximum(image, 0))).sum()
                for image in self.haadf
            ]
        )
        thickness = squares / self.sums(0.0).sum(axis=1)
        if np.ptp(thickness) < LEAST_RANGE * thickness.mean():
            raise ValueError(
                "the object is about equally thick at all tilts (mean signal "
                f"{thickness.min():.4g} to {thickness.max():.4g}), so "
                "that damping is a common factor that the HAADF alone cannot show; estimate it "
                "with elemental maps"
            )


def _fit_constant_sums(
    slabs: _Slabs, used: np.ndarray, tilts: np.ndarray, top: float, lamella: bool
) -> tuple[float, float, np.ndarray, list[np.ndarray]]:
    """Find 1/S, and the inclination of a lamella, by Gauss-Newton steps on the logarithms of sums.

    Returns
    -------
    k, inclination : float
        1/S, and degrees.
    logarithms : numpy.ndarray (tilt, slab)
        Of the sums, weighted, at the last step.
    columns : list of numpy.ndarray (tilt, slab)
        Their derivatives by k top, and by the inclination (radians) of a lamella.
    """
    weights = slabs.sums(0.0).mean(axis=0)[used]

    def logarithms(k: float, inclination: float) -> np.ndarray:
        bend = np.log(np.cos(np.deg2rad(tilts - inclination)))[:, None] if lamella else 0.0
        # The sum of a slab without signal can be negative.
        return (np.log(np.maximum(slabs.sums(k)[:, used], 1e-3 * weights)) + bend) * weights

    k, inclination, delta = 0.0, 0.0, 1e-3 / top
    for _ in range(STEPS):
        here = logarithms(k, inclination)
        columns = [(logarithms(k + delta, inclination) - here) / (delta * top)]
        if lamella:
            columns.append(np.tan(np.deg2rad(tilts - inclination))[:, None] * weights)
        step = _common_step(here, columns, np.ones(len(tilts), bool))
        before, k = k, float(np.clip(k + step[0] / top, -1.0 / top, STEEPEST_PART / top))
        inclination = float(np.clip(inclination + np.rad2deg(step[1]), -14, 14)) if lamella else 0.0
        if abs(k - before) < 1e-6 / top:
            break
    if k * top > 0.99 * STEEPEST_PART:
        raise ValueError(
            "the sums change more from tilt to tilt than damping explains; is the object wholly in "
            "view (or model='lamella'), is "
            "vacuum zero, does the beam current drift? Set known gains, or estimate the damping "
            "with elemental maps"
        )
    return k, inclination, here, columns


def _common_step(here: np.ndarray, columns: list[np.ndarray], used: np.ndarray) -> np.ndarray:
    """Return the step along the columns (tilt, slab) that minimises the scatter over some tilts."""
    centred = [(array[used] - array[used].mean(axis=0)).ravel() for array in (here, *columns)]
    return np.linalg.lstsq(np.stack(centred[1:], axis=1), -centred[0], rcond=None)[0]


def _spread_of_step(here: np.ndarray, columns: list[np.ndarray]) -> float:
    """Return the standard error of the step's first component if all tilts scatter alike.

    It is that of the sums over the slabs.
    """
    design = np.stack(
        [column.sum(axis=1) - column.sum(axis=1).mean() for column in columns], axis=1
    )
    target = here.sum(axis=1) - here.sum(axis=1).mean()
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    freedom = max(len(target) - 1 - design.shape[1], 1)
    return float(np.sqrt(np.linalg.pinv(design.T @ design)[0, 0] * (rest**2).sum() / freedom))


def tested_model(
    k: float, deleted: np.ndarray, freedom: int, spread: float, **known
) -> DampingModel:
    """Return the model of 1/S = k, with its standard error and significance from the jackknife.

    Parameters
    ----------
    k : float
    deleted : numpy.ndarray (group,)
        Estimates of k without each group, or their changes.
    freedom : int
        Degrees of freedom.
    spread : float
        Standard error from the scatter of all groups; the larger error counts.
    **known
        Other attributes of the model; `brightest` and `sums` are required.
    """
    from scipy.special import stdtr

    groups = len(deleted)
    # The jackknife of few tilts may be small by chance; the other error ignores that some tilts
    # scatter more.
    error = max(
        spread, float(np.sqrt((groups - 1) / groups * ((deleted - deleted.mean()) ** 2).sum()))
    )
    score = k / error if error > 0 else (np.sign(k) * np.inf if k else 0.0)
    significant = bool(freedom > 0 and stdtr(max(freedom, 1), -score) < SIGNIFICANCE)
    part = max(k, 0.0) * known["brightest"]
    loss = 1 + part / np.log1p(-part) if part else 0.0
    recorded, corrected = 100 * known["sums"].std(axis=1)
    reason = f"1/S = {k:.3g} ± {error:.2g}, {score:.1f} errors above 0; "
    reason += f"the brightest pixels lose {100 * loss:.0f} %; "
    reason += f"scatter of the tilts {recorded:.2g} % recorded, {corrected:.2g} % corrected"
    if k <= 0:
        reason += "; thick places are not too dark"
    saturation = 1 / k if k > 0 else np.inf
    return DampingModel(
        saturation, error / k**2 if k > 0 else np.nan, float(score), significant, reason, **known
    )


def linear_signal(image: np.ndarray, k: float, noise: np.ndarray) -> np.ndarray:
    """Return the linear signal of an image for 1/S = k of either sign, without the bias of noise.

    Beyond `STEEPEST_PART` of the saturation it is extrapolated linearly.
    """
    if k == 0:
        return image
    part = np.minimum(k * image, STEEPEST_PART)
    rest = 1 - part
    linear = -np.log1p(-part) / k + (image - part / k) / rest
    return (linear - 0.5 * k * np.polyval(noise, np.maximum(image, 0)) / rest**2).astype(
        np.float32, copy=False
    )


def checked_images(
    haadf: ArrayLike, tilts: ArrayLike, gains: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return images divided by their gains as float32 (tilt, x, y), and their tilts."""
    haadf, tilts = np.asarray(haadf), np.asarray(tilts, dtype=np.float64)
    if haadf.ndim != 3 or 0 in haadf.shape:
        raise ValueError(f"the HAADF has shape {haadf.shape}; expected images (tilt, x, y)")
    bad = haadf.size - np.count_nonzero(np.isfinite(haadf))
    if bad:
        raise ValueError(
            f"the HAADF holds {bad} NaN or infinite values of {haadf.size}; replace them, or leave "
            "out those tilts"
        )
    if tilts.shape != haadf.shape[:1] or not np.isfinite(tilts).all():
        raise ValueError(
            f"`tilts` has the shape {tilts.shape} for {len(haadf)} projections; pass one finite "
            "angle per projection"
        )
    if np.percentile(haadf, 99.9) <= 0:
        raise ValueError("no pixel of the HAADF is positive, so there is no specimen in it")
    if gains is not None:
        factors = np.asarray(gains, dtype=np.float64)
        if factors.shape != tilts.shape or not (np.isfinite(factors).all() and (factors > 0).all()):
            raise ValueError(
                f"the gains have shape {factors.shape}; expected {tilts.shape}, positive and "
                "finite, one per tilt"
            )
        haadf = haadf / factors[:, None, None]
    return haadf.astype(np.float32, copy=False), tilts


def _as_float(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)
