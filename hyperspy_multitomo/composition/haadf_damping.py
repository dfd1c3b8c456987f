# SPDX-License-Identifier: GPL-3.0-or-later
"""Damping of the HAADF in thick places: how far the signal falls behind the mass thickness, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.blocks import block_side, bootstrap_tile, in_tiles, noise_covariance, sum_blocks
from hyperspy_multitomo.composition.threshold import specimen_mask

__all__ = ["DampingModel", "damping_from_maps", "estimate_damping"]

# Damping counts as there if chance would show as much, one-sided, as seldom as three standard deviations.
SIGNIFICANCE = 0.00135
# Range over the tilts of the mean thickness, as a part of it, below which damping is no more than a common factor.
LEAST_RANGE = 0.05
# Part of the saturation up to which pixels are inverted while it is estimated; noise beyond is continued linearly.
STEEPEST_PART = 0.95
# Slices along the tilt axis are summed to so many slabs, thick against what an alignment leaves.
SLABS = 16
# Noise of the brightest pixels, relative, above which pixels are averaged: the inversion is expanded to second order in it.
LOUD, MOST_AVERAGED = 0.02, 8
# Bins of the signal in which the noise of the images is measured, and the least number of pixels in one.
_BINS, _LEAST_PIXELS = 16, 100
_STEPS = 60


@dataclass(frozen=True, eq=False, repr=False)
class DampingModel:
    """
    A HAADF that saturates: recorded = S (1 - exp(-linear / S)), of unit slope where the specimen is thin.

    Attributes
    ----------
    saturation : float
        S, the HAADF signal of an infinitely thick specimen; infinite without damping.
    saturation_error : float
        Its standard error, from the scatter between tilts (or parts of the views); NaN where it is not known.
    score : float
        1/S in units of its standard error; negative where thick places are too bright.
    significant : bool
        Whether chance alone would not show such damping.
    reason : str
        The figures behind that, in words.
    source : {"given", "haadf", "maps"}
        What it was estimated from.
    brightest : float
        The brightest signal (99.9th percentile) it was estimated from; beyond, the model is a guess.
    tilts : numpy.ndarray (tilt,)
        Degrees.
    sums : numpy.ndarray (2, tilt)
        Signal of each tilt over the expected one, of mean 1, as recorded and as corrected.
    points : numpy.ndarray (2, block)
        Linear signal from the maps, and HAADF as recorded, per pixel of each block; empty without maps.
    ratios : numpy.ndarray (channel,)
        Response ratios of the undamped HAADF; empty without maps.
    inclination : float
        Tilt (degrees) at which a lamella is square to the beam; 0 for other objects.

    References
    ----------
    R. Huber, G. Haberfehlner, M. Holler, G. Kothleitner, K. Bredies, Nanoscale 11 (2019) 5617, eqs 6-7,
    doi:10.1039/C8NR09058K: there S is 0.7 of the electrons that come in.

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
            raise ValueError(f"the saturation is {self.saturation}; expected a positive HAADF signal, or inf for no damping")

    def __repr__(self) -> str:
        judged = "significant" if self.significant else "not significant"
        figures = f"saturation {self.saturation:.4g} ± {self.saturation_error:.2g} from {self.source}"
        return f"<DampingModel {figures}, {judged}: {self.reason}>"

    def apply(self, linear: ArrayLike) -> np.ndarray:
        """Return what is recorded of a linear signal, of any shape; float32 for float32."""
        linear = _as_float(linear)
        return linear.copy() if np.isinf(self.saturation) else -self.saturation * np.expm1(-linear / self.saturation)

    def invert(self, recorded: ArrayLike) -> np.ndarray:
        """
        Return the linear signal behind a recorded one, of any shape; float32 for float32.

        Noise grows by 1 / (1 - recorded/S), and in the mean it brightens: by variance / (2 S (1 - recorded/S)^2).

        Raises
        ------
        ValueError
            If a pixel is at or above the saturation, where no thickness belongs to it.
        """
        recorded = _as_float(recorded)
        beyond = int(np.count_nonzero(~(recorded < self.saturation)))
        if beyond:
            raise ValueError(
                f"{beyond} of {recorded.size} pixels are NaN, or at or above the saturation of {self.saturation:.4g} (up to "
                f"{recorded.max():.4g}); take off the detector's offset and hot pixels, bin or smooth noisy images, or give a "
                "model of a higher saturation"
            )
        return recorded.copy() if np.isinf(self.saturation) else -self.saturation * np.log1p(-recorded / self.saturation)


def estimate_damping(
    haadf: ArrayLike,
    tilts: ArrayLike,
    *,
    model: Literal["constant", "lamella"] = "constant",
    gains: ArrayLike | None = None,
) -> DampingModel:
    """
    Estimate the damping from a HAADF series alone: the undamped signal of an object is the same at all tilts.

    Each tilt's sum over x of the linear signal is the mass of the slice, whatever the direction (the zeroth moment). Where the
    object is longer along the beam at some tilts, damping makes these darker. The saturation is the one whose corrected sums
    deviate least, in the logarithm, from their mean over the tilts.

    Parameters
    ----------
    haadf : array_like (tilt, x, y)
        Images, zero in vacuum, aligned along y.
    tilts : array_like (tilt,)
        Degrees.
    model : "constant" or "lamella", default "constant"
        What the linear sums should be: the same at every tilt, for an object wholly in view along x; or proportional to
        1/cos(t - inclination), for a lamella that fills the view. The inclination is then fitted too.
    gains : array_like (tilt,), optional
        Gains known otherwise, such as the beam current, that are divided out; 1 if not given. Gains estimated from the means
        of these images contain the damping already.

    Returns
    -------
    DampingModel

    Raises
    ------
    ValueError
        For fewer than three tilts (four for a lamella), an object about equally thick at all tilts (a cylinder around the tilt
        axis), sums that are not positive, or that change more than any damping can explain.

    Notes
    -----
    Standard errors are of the jackknife over tilts, or of their mean scatter where that is larger: a beam current that scatters
    from tilt to tilt is in them, a trend that goes with the thickness is not. The noise of the images, which the inversion would
    turn into signal, is measured and taken off.

    References
    ----------
    S. Helgason, The Radon Transform (1999), ch. 1 (moments of projections). R. Huber et al., Nanoscale 11 (2019) 5617, eqs 6-7,
    doi:10.1039/C8NR09058K (the damping). B. Efron, C. Stein, Ann. Statist. 9 (1981) 586 (jackknife).

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
    haadf, tilts = _checked_images(haadf, tilts, gains)
    if model not in ("constant", "lamella"):
        raise ValueError(f"unknown model {model!r}; use 'constant' (wholly in view) or 'lamella' (fills the view)")
    lamella = model == "lamella"
    if len(tilts) < 3 + lamella:
        raise ValueError(
            f"there are {len(tilts)} tilts; damping shows in how the sums change over at least {3 + lamella} of them"
        )
    haadf = _averaged(haadf, _quiet_side(haadf, 8)[0])
    noise, top = _noise_law(haadf), float(np.percentile(haadf, 99.9))
    starts = np.unique(np.linspace(0, haadf.shape[2], min(SLABS, haadf.shape[2]) + 1).astype(int))[:-1]

    def sums(k: float) -> np.ndarray:
        linear = np.stack([_linear(image, k, noise).sum(axis=0, dtype=np.float64) for image in haadf])
        return np.add.reduceat(linear, starts, axis=1)

    recorded = sums(0.0)
    kept = recorded.mean(axis=0) > 0.05 * recorded.mean(axis=0).max()
    if not (recorded[:, kept] > 0).all():
        raise ValueError("a tilt has no positive sum of the HAADF; take off the detector's offset, or leave out empty tilts")
    squares = np.array([(image.astype(np.float64) ** 2 - np.polyval(noise, np.maximum(image, 0))).sum() for image in haadf])
    thickness = squares / recorded.sum(axis=1)
    if np.ptp(thickness) < LEAST_RANGE * thickness.mean():
        raise ValueError(
            f"the object is about equally thick at all tilts (mean signal {thickness.min():.4g} to {thickness.max():.4g}), so "
            "that damping is a common factor that the HAADF alone cannot show; estimate it with elemental maps"
        )
    weights = recorded.mean(axis=0)[kept]

    def logarithms(k: float, inclination: float) -> np.ndarray:
        bend = np.log(np.cos(np.deg2rad(tilts - inclination)))[:, None] if lamella else 0.0
        # A slab of nothing but noise can fall below 0.
        return (np.log(np.maximum(sums(k)[:, kept], 1e-3 * weights)) + bend) * weights

    if lamella and np.abs(tilts).max() > 75:
        raise ValueError("a lamella beyond 75 degrees stands almost on edge; leave those tilts out")
    k, inclination, delta = 0.0, 0.0, 1e-3 / top
    for _ in range(_STEPS):
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
            "the sums change more from tilt to tilt than damping explains; is the object wholly in view (or model='lamella'), is "
            "vacuum zero, does the beam current drift? Set known gains, or estimate the damping with elemental maps"
        )
    deleted = np.array([_common_step(here, columns, np.arange(len(tilts)) != t)[0] / top for t in range(len(tilts))])
    spread = _spread_of_step(here, columns) / top
    expected = 1 / np.cos(np.deg2rad(tilts - inclination)) if lamella else 1.0
    totals = np.stack([recorded.sum(axis=1), sums(k).sum(axis=1)]) / expected
    return _judged(
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


def damping_from_maps(
    maps: ArrayLike,
    haadf: ArrayLike,
    ratios: ArrayLike | None = None,
    *,
    tilts: ArrayLike | None = None,
    gains: ArrayLike | None = None,
    haadf_gains: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    min_counts: float = 50.0,
) -> DampingModel:
    """
    Estimate the damping from elemental maps, whose counts grow with the thickness: h = D(sum_e r_e p_e).

    The inverted HAADF is summed to blocks of pixels, where it is linear in the counts whatever the thickness does inside.
    Response ratios and saturation solve two equations: (P'P - N) r = P'L - c, with the noise N of the counts taken off as in
    `fit_response_ratios`, and G'(L - P r) = 0, with L the inverted HAADF and G its derivative by 1/S, which has no count noise.

    Parameters
    ----------
    maps : array_like (channel, tilt, x, y)
        Net counts as recorded, not smoothed, of every element that is bright in the HAADF.
    haadf : array_like (tilt, x, y)
        Images at the same tilts and pixels, zero in vacuum.
    ratios : array_like (channel,), optional
        Response ratios of the undamped HAADF, if they are known (from thin places); by default they are fitted as well.
    tilts : array_like (tilt,), optional
        Degrees, for figures; 0, 1, 2 and so on if not given.
    gains : array_like (tilt,) or (channel, tilt), optional
        Gains of the maps; 1 if not given.
    haadf_gains : array_like (tilt,), optional
        Gains of the HAADF.
    mask : array_like of bool (tilt, x, y), optional
        Pixels to use; by default `specimen_mask`.
    min_counts : float, default 50
        Counts of the weakest element in the mean block.

    Returns
    -------
    DampingModel
        With `points` and `ratios`; a ratio that would be negative is 0.

    Raises
    ------
    ValueError
        For arrays that do not fit together, maps without counts or too alike to be told apart, or a HAADF that bends more than
        damping can explain.

    Notes
    -----
    The shape of the object does not matter, a cylinder will do. Absorption of soft lines damps the maps instead and hides the
    damping of the HAADF; gains of the maps estimated against the HAADF hide a part of it. Errors are of the jackknife over
    tilts, or over parts of the views where there are fewer than eight.

    References
    ----------
    R. Huber et al., Nanoscale 11 (2019) 5617, eqs 6-7, doi:10.1039/C8NR09058K. W.A. Fuller, Measurement Error Models
    (Wiley, 1987), ch. 2-3.

    Examples
    --------
    >>> import numpy as np
    >>> path = np.linspace(0, 40, 96)[None, :, None] * np.ones((9, 1, 32))
    >>> counts = np.random.default_rng(0).poisson(path)[None]
    >>> found = damping_from_maps(counts, DampingModel(1000.0).apply(20 * path))
    >>> 970 < found.saturation < 1030, found.significant, found.ratios.round()
    (True, True, array([20.]))
    """
    maps = np.asarray(maps)
    if maps.ndim != 4 or maps.shape[1:] != np.shape(haadf) or not np.isfinite(maps).all():
        raise ValueError(
            f"the maps have shape {maps.shape} and the HAADF {np.shape(haadf)}; expected finite (channel, tilt, x, y) and "
            "(tilt, x, y) of equal tilts and pixels: crop or rebin one to the other"
        )
    haadf, tilts = _checked_images(haadf, np.arange(len(haadf)) if tilts is None else tilts, haadf_gains)
    if gains is not None:
        maps = maps / np.broadcast_to(gains, maps.shape[:2]).astype(np.float32)[..., None, None]
    mask = specimen_mask(haadf) if mask is None else np.asarray(mask, dtype=bool)
    if mask.shape != haadf.shape or not mask.any():
        raise ValueError(f"the mask has shape {mask.shape}; expected that of the HAADF, {haadf.shape}, with a pixel inside")
    averaged, loudness = _quiet_side(haadf, 16)
    if loudness > 1.5 * LOUD:
        raise ValueError(
            f"the noise of the HAADF is {100 * loudness:.0f} % of its brightest signal even over {averaged} x {averaged} pixels, "
            f"where {150 * LOUD:.0f} % can be inverted; estimate the damping from the HAADF alone, or record less noise"
        )
    if averaged > 1:
        maps, haadf = np.stack([_averaged(channel, averaged) for channel in maps]), _averaged(haadf, averaged)
        mask = _averaged(mask, averaged) == 1
    present = averaged**2 * np.array([channel[mask].sum(dtype=np.float64) for channel in maps])
    if not (present > 0).all():
        raise ValueError(f"channels {np.flatnonzero(present <= 0).tolist()} have no counts in the mask; leave them out")
    noise, top = _noise_law(haadf), float(np.percentile(haadf[mask], 99.9))
    side, _ = block_side(present.min(), mask, min_counts)
    tile = bootstrap_tile(mask, side)
    parts = (maps, haadf, mask) if tile is None else (in_tiles(maps, tile), in_tiles(haadf, tile), in_tiles(mask, tile))
    if tile is not None:
        held = parts[2].any(axis=(1, 2))
        parts = (parts[0][:, held], parts[1][held], parts[2][held])
    values, active = np.zeros(len(maps)), list(range(len(maps)))
    if ratios is not None:
        values = np.asarray(ratios, dtype=np.float64)
        if values.shape != (len(maps),) or not (values >= 0).all() or not values.any():
            raise ValueError(f"the ratios are {ratios}; expected one per map, {len(maps)}, none of them negative")
        active = []
    k = 0.0
    for _ in range(_STEPS):
        fixed = np.zeros(len(maps)) if ratios is None else values
        gram, cross = _equations(*parts, active, fixed, k, noise, top, side)
        solution = _solved(gram.sum(axis=0), cross.sum(axis=0))
        if ratios is None and (solution[:-1] < 0).any():
            active.pop(int(np.argmin(solution[:-1])))
            continue
        values[active] = solution[:-1]
        before, k = k, float(np.clip(k - np.clip(solution[-1], -0.2, 0.2) / top, -1.0 / top, STEEPEST_PART / top))
        if abs(k - before) < 1e-6 / top:
            break
    if k * top > 0.99 * STEEPEST_PART:
        raise ValueError(
            "the HAADF bends more against the maps than damping explains; is an element missing among the maps, is vacuum zero?"
        )
    values[[i for i in range(len(maps)) if ratios is None and i not in active]] = 0.0
    whole = gram.sum(axis=0), cross.sum(axis=0)
    deleted = np.array([-_solved(whole[0] - g, whole[1] - c)[-1] / top for g, c in zip(gram, cross, strict=True)])
    linear = np.stack([_linear(image, k, noise) for image in haadf])
    modelled = np.tensordot(values, maps, 1)
    blocks = sum_blocks(np.stack([mask.astype(np.float32), modelled, haadf]), linear, mask, side)
    signal = np.stack([np.where(mask, image, 0).sum(axis=(1, 2), dtype=np.float64) for image in (haadf, linear, modelled)])
    sums = signal[:2] / signal[2]
    return _judged(
        k,
        deleted,
        len(gram) - 1 - len(active),
        0.0,
        source="maps",
        brightest=top,
        tilts=tilts,
        sums=sums / sums.mean(axis=1, keepdims=True),
        points=blocks.counts[:, 1:].T / blocks.counts[:, 0],
        ratios=values,
    )


def _equations(maps, haadf, mask, active, fixed, k, noise, top, side) -> tuple[np.ndarray, np.ndarray]:
    """Return the linearised equations in (ratios, change of -k top) of each group, (group, n, n) and (group, n)."""
    delta = 1e-3 / top
    linear = np.stack([_linear(image, k, noise) for image in haadf])
    slope = np.stack(
        [(_linear(image, k + delta, noise) - here) / (delta * top) for image, here in zip(haadf, linear, strict=True)]
    )
    target = linear - np.tensordot(fixed, maps, 1).astype(np.float32)
    chosen = maps[active]
    regressors = np.concatenate([chosen, slope[None]])
    groups, n = len(haadf), len(active)
    gram, cross = np.zeros((groups, n + 1, n + 1)), np.zeros((groups, n + 1))
    # Where core and shell happen to be cut matters less in the mean over shifted grids.
    offsets = [(0, 0)] if side == 1 else list(product((0, side // 2), repeat=2))
    for offset in offsets:
        blocks = sum_blocks(regressors, target, mask, side, offset)
        for group in range(groups):
            here = blocks.counts[blocks.tilt == group]
            gram[group] += here.T @ here / len(offsets)
            cross[group] += here.T @ blocks.haadf[blocks.tilt == group] / len(offsets)
    # Slope and inverted signal share the noise of the HAADF: their derivatives by it, times its variance.
    rest = 1 - np.minimum(k * haadf, STEEPEST_PART)
    by_noise = np.where(mask, np.polyval(noise, np.maximum(haadf, 0)), 0) * haadf / (top * rest**3)
    cross[:, n] -= by_noise.sum(axis=(1, 2), dtype=np.float64)
    gram[:, n, n] -= (by_noise * haadf / (top * rest)).sum(axis=(1, 2), dtype=np.float64)
    if n:
        measured = noise_covariance(chosen, mask, side, haadf=target)
        gram[:, :n, :n] -= measured[..., :n]
        cross[:, :n] -= measured[..., n]
        gram[:, :n, n] -= noise_covariance(chosen, mask, side, haadf=slope)[..., n]
    return gram, cross


def _solved(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.maximum(np.diag(matrix), 0))
    if not (scale > 0).all() or np.linalg.cond(matrix / np.outer(scale, scale)) > 1e8:
        raise ValueError(
            "the maps cannot be told apart from one another, or from the damping, within their noise; sum or leave out"
        )
    return np.linalg.solve(matrix / np.outer(scale, scale), target / scale) / scale


def _common_step(here: np.ndarray, columns: list[np.ndarray], used: np.ndarray) -> np.ndarray:
    """Return the step along the columns (tilt, slab) that makes `here` most nearly constant over the tilts used."""
    centred = [(array[used] - array[used].mean(axis=0)).ravel() for array in (here, *columns)]
    return np.linalg.lstsq(np.stack(centred[1:], axis=1), -centred[0], rcond=None)[0]


def _spread_of_step(here: np.ndarray, columns: list[np.ndarray]) -> float:
    """Return the standard error of the first component of the step if all tilts scatter alike, (tilt, slab) summed over slabs."""
    design = np.stack([column.sum(axis=1) - column.sum(axis=1).mean() for column in columns], axis=1)
    target = here.sum(axis=1) - here.sum(axis=1).mean()
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    freedom = max(len(target) - 1 - design.shape[1], 1)
    return float(np.sqrt(np.linalg.pinv(design.T @ design)[0, 0] * (rest**2).sum() / freedom))


def _judged(k: float, deleted: np.ndarray, freedom: int, spread: float, **known) -> DampingModel:
    """Make the model of 1/S = k, with the error and the test from the changes of k when each group is left out."""
    from scipy.stats import t as student

    groups = len(deleted)
    # By chance the jackknife of few tilts comes out small; the other error does not see tilts of more scatter.
    error = max(spread, float(np.sqrt((groups - 1) / groups * ((deleted - deleted.mean()) ** 2).sum())))
    score = k / error if error > 0 else (np.sign(k) * np.inf if k else 0.0)
    significant = bool(freedom > 0 and student.sf(score, max(freedom, 1)) < SIGNIFICANCE)
    part = max(k, 0.0) * known["brightest"]
    loss = 1 + part / np.log1p(-part) if part else 0.0
    recorded, corrected = 100 * known["sums"].std(axis=1)
    reason = f"1/S = {k:.3g} ± {error:.2g}, {score:.1f} errors above 0; the brightest pixels lose {100 * loss:.0f} %; "
    reason += f"scatter of the tilts {recorded:.2g} % recorded, {corrected:.2g} % corrected"
    if k <= 0:
        reason += "; thick places are not too dark"
    saturation = 1 / k if k > 0 else np.inf
    return DampingModel(saturation, error / k**2 if k > 0 else np.nan, float(score), significant, reason, **known)


def _linear(image: np.ndarray, k: float, noise: np.ndarray) -> np.ndarray:
    """Invert an image for 1/S = k of either sign, less what its noise adds in the mean; steep parts continued linearly."""
    if k == 0:
        return image
    part = np.minimum(k * image, STEEPEST_PART)
    rest = 1 - part
    linear = -np.log1p(-part) / k + (image - part / k) / rest
    return (linear - 0.5 * k * np.polyval(noise, np.maximum(image, 0)) / rest**2).astype(np.float32, copy=False)


def _quiet_side(images: np.ndarray, left: int) -> tuple[int, float]:
    """Return the side of the pixels, in px, whose mean is quiet enough to be inverted, and its noise at the brightest signal."""
    top = float(np.percentile(images, 99.9))
    loudness = np.sqrt(np.polyval(_noise_law(images), top)) / top
    # Fewer pixels than are to be left would average the thickness of the object itself.
    largest = max(1, min(MOST_AVERAGED, min(images.shape[1:]) // left))
    side = int(np.clip(np.ceil(loudness / LOUD), 1, largest))
    return side, loudness / side


def _averaged(images: np.ndarray, side: int) -> np.ndarray:
    """Return the means over side x side pixels, (tilt, x, y); the last ones are filled up with zeros."""
    if side == 1:
        return images
    width, height = (-(-length // side) for length in images.shape[1:])
    filled = np.zeros((len(images), width * side, height * side), np.float32)
    filled[:, : images.shape[1], : images.shape[2]] = images
    return filled.reshape(len(images), width, side, height, side).mean(axis=(2, 4))


def _noise_law(images: np.ndarray) -> np.ndarray:
    """Measure the variance of a pixel as a line in its signal, (slope, constant), from differences of neighbouring pixels."""
    from scipy.optimize import nnls

    if min(images.shape[1:]) > 1:
        corners = (images[:, :-1, :-1], images[:, 1:, 1:], images[:, 1:, :-1], images[:, :-1, 1:])
        difference, level, variances = corners[0] + corners[1] - corners[2] - corners[3], sum(corners) / 4, 4.0
    else:
        flat = images.reshape(len(images), -1)
        difference, level, variances = flat[:, :-2] - 2 * flat[:, 1:-1] + flat[:, 2:], flat[:, 1:-1], 6.0
    edges = np.linspace(0, np.percentile(images, 99.9), _BINS + 1)
    place = np.digitize(level.ravel(), edges) - 1
    levels, measured = [], []
    for b in range(_BINS):
        inside = np.abs(difference.ravel()[place == b])
        if inside.size >= _LEAST_PIXELS:
            levels.append(edges[b : b + 2].mean())
            # 1.4826 median |d| is the standard deviation of normal noise, blind to the few edges.
            measured.append((1.4826 * np.median(inside)) ** 2 / variances)
    if not levels or max(measured) == 0:
        return np.zeros(2)
    # A variance is known to a part of itself, so relative deviations count.
    scale = np.maximum(measured, 1e-3 * max(measured))
    return nnls(np.stack([levels / scale, 1 / scale], axis=1), measured / scale)[0]


def _checked_images(haadf: ArrayLike, tilts: ArrayLike, gains: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Return images without their gains as float32 (tilt, x, y), and their tilts."""
    haadf, tilts = np.asarray(haadf), np.asarray(tilts, dtype=np.float64)
    if haadf.ndim != 3 or 0 in haadf.shape or not np.isfinite(haadf).all():
        raise ValueError(f"the HAADF has shape {haadf.shape}; expected finite images (tilt, x, y)")
    if tilts.shape != haadf.shape[:1] or not np.isfinite(tilts).all():
        raise ValueError(
            f"`tilts` has the shape {tilts.shape} for {len(haadf)} projections; pass one finite angle per projection"
        )
    if np.percentile(haadf, 99.9) <= 0:
        raise ValueError("no pixel of the HAADF is positive, so there is no specimen in it")
    if gains is not None:
        gains = np.asarray(gains, dtype=np.float64)
        if gains.shape != tilts.shape or not (np.isfinite(gains).all() and (gains > 0).all()):
            raise ValueError(f"the gains have shape {gains.shape}; expected {tilts.shape}, positive and finite, one per tilt")
        haadf = haadf / gains[:, None, None]
    return haadf.astype(np.float32, copy=False), tilts


def _as_float(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)
