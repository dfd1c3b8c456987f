# SPDX-License-Identifier: GPL-3.0-or-later
"""Damping of the HAADF in thick places: how far the signal falls behind the mass thickness, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.haadf.haadf_noise import averaged, noise_law, quiet_side

__all__ = ["DampingModel", "estimate_damping"]

# Damping counts as there if chance would show as much, one-sided, as seldom as three standard
# deviations.
SIGNIFICANCE = 0.00135
# Range over the tilts of the mean thickness, as a part of it, below which damping is no more than a
# common factor.
LEAST_RANGE = 0.05
# Part of the saturation up to which pixels are inverted while it is estimated; noise beyond is
# continued linearly.
STEEPEST_PART = 0.95
# Slices along the tilt axis are summed to so many slabs, thick against what an alignment leaves.
SLABS = 16
# Newton steps at most.
STEPS = 60


@dataclass(frozen=True, eq=False, repr=False)
class DampingModel:
    """A HAADF that saturates: recorded = S (1 - exp(-linear / S)), of unit slope where the specimen is thin.

    Attributes
    ----------
    saturation : float
        S, the HAADF signal of an infinitely thick specimen; infinite without damping.
    saturation_error : float
        Its standard error, from the scatter between tilts (or parts of the views); NaN where it is
        not known.
    score : float
        1/S in units of its standard error; negative where thick places are too bright.
    significant : bool
        Whether chance alone would not show such damping.
    reason : str
        The figures behind that, in words.
    source : {"given", "haadf", "maps"}
        What it was estimated from.
    brightest : float
        The brightest signal (99.9th percentile) it was estimated from; beyond, the model is a
        guess.
    tilts : numpy.ndarray (tilt,)
        Degrees.
    sums : numpy.ndarray (2, tilt)
        Signal of each tilt over the expected one, of mean 1, as recorded and as corrected.
    points : numpy.ndarray (2, block)
        Linear signal from the maps, and HAADF as recorded, per pixel of each block; empty without
        maps.
    ratios : numpy.ndarray (channel,)
        Response ratios of the undamped HAADF; empty without maps.
    inclination : float
        Tilt (degrees) at which a lamella is square to the beam; 0 for other objects.

    References
    ----------
    R. Huber, G. Haberfehlner, M. Holler, G. Kothleitner, K. Bredies, Nanoscale 11 (2019) 5617, eqs
    6-7, doi:10.1039/C8NR09058K: there S is 0.7 of the electrons that come in.

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
        """Return what is recorded of a linear signal, of any shape; float32 for float32."""
        linear = _as_float(linear)
        return (
            linear.copy()
            if np.isinf(self.saturation)
            else -self.saturation * np.expm1(-linear / self.saturation)
        )

    def invert(self, recorded: ArrayLike) -> np.ndarray:
        """Return the linear signal behind a recorded one, of any shape; float32 for float32.

        Noise grows by 1 / (1 - recorded/S), and in the mean it brightens: by variance / (2 S (1 -
        recorded/S)^2).

        Raises
        ------
        ValueError
            If a pixel is at or above the saturation, where no thickness belongs to it.
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
    """Estimate the damping from a HAADF series alone: the undamped signal of an object is the same at all tilts.

    Each tilt's sum over x of the linear signal is the mass of the slice, whatever the direction
    (the zeroth moment). Where the object is longer along the beam at some tilts, damping makes
    these darker. The saturation is the one whose corrected sums deviate least, in the logarithm,
    from their mean over the tilts.

    Parameters
    ----------
    haadf : array_like (tilt, x, y)
        Images, zero in vacuum, aligned along y.
    tilts : array_like (tilt,)
        Degrees.
    model : "constant" or "lamella", default "constant"
        What the linear sums should be: the same at every tilt, for an object wholly in view along
        x; or proportional to 1/cos(t - inclination), for a lamella that fills the view. The
        inclination is then fitted too.
    gains : array_like (tilt,), optional
        Gains known otherwise, such as the beam current, that are divided out; 1 if not given. Gains
        estimated from the means of these images contain the damping already.

    Returns
    -------
    DampingModel

    Raises
    ------
    ValueError
        For fewer than three tilts (four for a lamella), an object about equally thick at all tilts
        (a cylinder around the tilt axis), sums that are not positive, or that change more than any
        damping can explain.

    Notes
    -----
    Standard errors are of the jackknife over tilts, or of their mean scatter where that is larger:
    a beam current that scatters from tilt to tilt is in them, a trend that goes with the thickness
    is not. The noise of the images, which the inversion would turn into signal, is measured and
    taken off.

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
    haadf = averaged(haadf, quiet_side(haadf, 8)[0])
    noise, top = noise_law(haadf), float(np.percentile(haadf, 99.9))
    starts = np.unique(np.linspace(0, haadf.shape[2], min(SLABS, haadf.shape[2]) + 1).astype(int))[
        :-1
    ]

    def sums(k: float) -> np.ndarray:
        linear = np.stack(
            [linear_signal(image, k, noise).sum(axis=0, dtype=np.float64) for image in haadf]
        )
        return np.add.reduceat(linear, starts, axis=1)

    recorded = sums(0.0)
    kept = recorded.mean(axis=0) > 0.05 * recorded.mean(axis=0).max()
    if not (recorded[:, kept] > 0).all():
        raise ValueError(
            "a tilt has no positive sum of the HAADF; take off the detector's offset, or leave out "
            "empty tilts"
        )
    squares = np.array(
        [
            (image.astype(np.float64) ** 2 - np.polyval(noise, np.maximum(image, 0))).sum()
            for image in haadf
        ]
    )
    thickness = squares / recorded.sum(axis=1)
    if np.ptp(thickness) < LEAST_RANGE * thickness.mean():
        raise ValueError(
            f"the object is about equally thick at all tilts (mean signal {thickness.min():.4g} to "
            f"{thickness.max():.4g}), so "
            "that damping is a common factor that the HAADF alone cannot show; estimate it with "
            "elemental maps"
        )
    if lamella and np.abs(tilts).max() > 75:
        raise ValueError("a lamella beyond 75 degrees stands almost on edge; leave those tilts out")
    weights = recorded.mean(axis=0)[kept]

    def logarithms(k: float, inclination: float) -> np.ndarray:
        bend = np.log(np.cos(np.deg2rad(tilts - inclination)))[:, None] if lamella else 0.0
        # A slab of nothing but noise can fall below 0.
        return (np.log(np.maximum(sums(k)[:, kept], 1e-3 * weights)) + bend) * weights

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
    deleted = np.array(
        [
            _common_step(here, columns, np.arange(len(tilts)) != t)[0] / top
            for t in range(len(tilts))
        ]
    )
    spread = _spread_of_step(here, columns) / top
    expected = 1 / np.cos(np.deg2rad(tilts - inclination)) if lamella else 1.0
    totals = np.stack([recorded.sum(axis=1), sums(k).sum(axis=1)]) / expected
    return judged(
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


def _common_step(here: np.ndarray, columns: list[np.ndarray], used: np.ndarray) -> np.ndarray:
    """Return the step along the columns (tilt, slab) that makes `here` most nearly constant over the tilts used."""
    centred = [(array[used] - array[used].mean(axis=0)).ravel() for array in (here, *columns)]
    return np.linalg.lstsq(np.stack(centred[1:], axis=1), -centred[0], rcond=None)[0]


def _spread_of_step(here: np.ndarray, columns: list[np.ndarray]) -> float:
    """Return the standard error of the first component of the step if all tilts scatter alike, (tilt, slab) summed over slabs."""
    design = np.stack(
        [column.sum(axis=1) - column.sum(axis=1).mean() for column in columns], axis=1
    )
    target = here.sum(axis=1) - here.sum(axis=1).mean()
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    freedom = max(len(target) - 1 - design.shape[1], 1)
    return float(np.sqrt(np.linalg.pinv(design.T @ design)[0, 0] * (rest**2).sum() / freedom))


def judged(k: float, deleted: np.ndarray, freedom: int, spread: float, **known) -> DampingModel:
    """Make the model of 1/S = k, with the error and the test from the changes of k when each group is left out."""
    from scipy.special import stdtr

    groups = len(deleted)
    # By chance the jackknife of few tilts comes out small; the other error does not see tilts of
    # more scatter.
    error = max(
        spread, float(np.sqrt((groups - 1) / groups * ((deleted - deleted.mean()) ** 2).sum()))
    )
    score = k / error if error > 0 else (np.sign(k) * np.inf if k else 0.0)
    significant = bool(freedom > 0 and stdtr(max(freedom, 1), -score) < SIGNIFICANCE)
    part = max(k, 0.0) * known["brightest"]
    loss = 1 + part / np.log1p(-part) if part else 0.0
    recorded, corrected = 100 * known["sums"].std(axis=1)
    reason = f"1/S = {k:.3g} ± {error:.2g}, {score:.1f} errors above 0; the brightest pixels lose {100 * loss:.0f} %; "
    reason += f"scatter of the tilts {recorded:.2g} % recorded, {corrected:.2g} % corrected"
    if k <= 0:
        reason += "; thick places are not too dark"
    saturation = 1 / k if k > 0 else np.inf
    return DampingModel(
        saturation, error / k**2 if k > 0 else np.nan, float(score), significant, reason, **known
    )


def linear_signal(image: np.ndarray, k: float, noise: np.ndarray) -> np.ndarray:
    """Invert an image for 1/S = k of either sign, less what its noise adds in the mean; steep parts continued linearly."""
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
    """Return images without their gains as float32 (tilt, x, y), and their tilts."""
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
        gains = np.asarray(gains, dtype=np.float64)
        if gains.shape != tilts.shape or not (np.isfinite(gains).all() and (gains > 0).all()):
            raise ValueError(
                f"the gains have shape {gains.shape}; expected {tilts.shape}, positive and finite, "
                "one per tilt"
            )
        haadf = haadf / gains[:, None, None]
    return haadf.astype(np.float32, copy=False), tilts


def _as_float(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)
