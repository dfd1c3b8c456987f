# SPDX-License-Identifier: GPL-3.0-or-later
"""Damping of the HAADF estimated with elemental maps, whose counts grow with the thickness."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.haadf.haadf_damping import (
    STEEPEST_PART,
    STEPS,
    DampingModel,
    checked_images,
    linear_signal,
    tested_model,
)
from hyperspy_multitomo.composition.haadf.haadf_noise import (
    LARGEST_NOISE,
    averaged,
    averaging_side,
    noise_law,
)
from hyperspy_multitomo.composition.particle.threshold import specimen_mask
from hyperspy_multitomo.composition.response.blocks import (
    block_side,
    bootstrap_tile,
    in_tiles,
    noise_covariance,
    sum_blocks,
)
from hyperspy_multitomo.parameters import positive_number

__all__ = ["damping_from_maps"]


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
    """Estimate the damping D of h = D(sum_e r_e p_e) from elemental maps p_e.

    The counts grow linearly with the thickness. The inverted HAADF is summed to blocks of pixels,
    where it is linear in the counts whatever the thickness inside. Response ratios and saturation
    solve two equations: (P'P - N) r = P'L - c, with the noise N of the counts subtracted as in
    `fit_response_ratios`, and G'(L - P r) = 0, with L the inverted HAADF and G its derivative by
    1/S, which has no count noise.

    Parameters
    ----------
    maps : array_like (channel, tilt, x, y)
        Net counts as recorded, not smoothed, of every element that is bright in the HAADF.
    haadf : array_like (tilt, x, y)
        Images at the same tilts and pixels, zero in vacuum.
    ratios : array_like (channel,), optional
        Response ratios of the undamped HAADF, if they are known (e.g. from thin regions); by
        default they are fitted as well.
    tilts : array_like (tilt,), optional
        Degrees, for figures; by default 0, 1, 2 and so on.
    gains : array_like (tilt,) or (channel, tilt), optional
        Gains of the maps; 1 by default.
    haadf_gains : array_like (tilt,), optional
        Gains of the HAADF.
    mask : array_like of bool (tilt, x, y), optional
        Pixels to use; by default `specimen_mask`.
    min_counts : float, default 50
        Counts of the weakest element in the mean block.

    Returns
    -------
    DampingModel
        With `points` and `ratios`; a negative ratio is set to 0.

    Raises
    ------
    ValueError
        For arrays that do not fit together, maps without counts or too similar to be separated, or
        a HAADF more non-linear than damping can explain.

    Notes
    -----
    The object may have any shape, e.g. a cylinder. Absorption of soft lines damps the maps as well
    and hides the damping of the HAADF; gains of the maps estimated against the HAADF hide a part of
    it. Errors are from the jackknife over tilts, or over parts of the views if there are fewer than
    eight tilts.

    References
    ----------
    R. Huber et al., Nanoscale 11 (2019) 5617, eqs 6-7, doi:10.1039/C8NR09058K. W.A. Fuller,
    Measurement Error Models (Wiley, 1987), ch. 2-3.

    Examples
    --------
    >>> import numpy as np
    >>> path = np.linspace(0, 40, 96)[None, :, None] * np.ones((9, 1, 32))
    >>> counts = np.random.default_rng(0).poisson(path)[None]
    >>> found = damping_from_maps(counts, DampingModel(1000.0).apply(20 * path))
    >>> 970 < found.saturation < 1030, found.significant, found.ratios.round()
    (True, True, array([20.]))
    """
    min_counts = positive_number("min_counts", min_counts, "of counts")
    maps = np.asarray(maps)
    if maps.ndim != 4 or maps.shape[1:] != np.shape(haadf) or not np.isfinite(maps).all():
        raise ValueError(
            f"the maps have shape {maps.shape} and the HAADF {np.shape(haadf)}; expected finite "
            "(channel, tilt, x, y) and "
            "(tilt, x, y) of equal tilts and pixels: crop or rebin one to the other"
        )
    haadf, tilts = checked_images(
        haadf, np.arange(maps.shape[1]) if tilts is None else tilts, haadf_gains
    )
    if gains is not None:
        maps = maps / np.broadcast_to(gains, maps.shape[:2]).astype(np.float32)[..., None, None]
    inside = specimen_mask(haadf) if mask is None else np.asarray(mask, dtype=bool)
    if inside.shape != haadf.shape or not inside.any():
        raise ValueError(
            f"the mask has shape {inside.shape}; expected that of the HAADF, {haadf.shape}, with a "
            "pixel inside"
        )
    pixels, relative_noise = averaging_side(haadf, 16)
    if relative_noise > 1.5 * LARGEST_NOISE:
        raise ValueError(
            f"the noise of the HAADF is {100 * relative_noise:.0f} % of its brightest signal even "
            f"over {pixels} x {pixels} pixels, where {150 * LARGEST_NOISE:.0f} % can be inverted; "
            "estimate the damping from the HAADF alone, or record less noise"
        )
    if pixels > 1:
        maps, haadf = (
            np.stack([averaged(channel, pixels) for channel in maps]),
            averaged(haadf, pixels),
        )
        inside = averaged(inside, pixels) == 1
    present = pixels**2 * np.array([channel[inside].sum(dtype=np.float64) for channel in maps])
    if not (present > 0).all():
        raise ValueError(
            f"channels {np.flatnonzero(present <= 0).tolist()} have no counts in the mask; leave "
            "them out"
        )
    fixed, active = np.zeros(len(maps)), list(range(len(maps)))
    if ratios is not None:
        fixed, active = np.array(ratios, dtype=np.float64), []
        if fixed.shape != (len(maps),) or not (fixed >= 0).all() or not fixed.any():
            raise ValueError(
                f"the ratios are {ratios}; expected one per map, {len(maps)}, none of them negative"
            )
    noise, top = noise_law(haadf), float(np.percentile(haadf[inside], 99.9))
    side, _ = block_side(present.min(), inside, min_counts)
    groups = _groups(maps, haadf, inside, side)
    k, deleted, values, freedom = _solved(groups, fixed, active, noise, top, side)
    linear = _linear(haadf, k, noise)
    modelled = np.tensordot(values, maps, 1)
    blocks = sum_blocks(
        np.stack([inside.astype(np.float32), modelled, haadf]), linear, inside, side
    )
    signal = np.stack(
        [
            np.where(inside, image, 0).sum(axis=(1, 2), dtype=np.float64)
            for image in (haadf, linear, modelled)
        ]
    )
    sums = signal[:2] / signal[2]
    return tested_model(
        k,
        deleted,
        freedom,
        0.0,
        source="maps",
        brightest=top,
        tilts=tilts,
        sums=sums / sums.mean(axis=1, keepdims=True),
        points=blocks.counts[:, 1:].T / blocks.counts[:, 0],
        ratios=values,
    )


def _groups(
    maps: np.ndarray, haadf: np.ndarray, mask: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maps, HAADF and mask with the groups of the jackknife instead of the tilts.

    Groups are tilts, or parts of the views.
    """
    tile = bootstrap_tile(mask, side)
    if tile is None:
        return maps, haadf, mask
    maps, haadf, mask = (in_tiles(array, tile) for array in (maps, haadf, mask))
    used = mask.any(axis=(1, 2))
    return maps[:, used], haadf[used], mask[used]


def _solved(
    groups: tuple[np.ndarray, np.ndarray, np.ndarray],
    fixed: np.ndarray,
    active: list[int],
    noise: np.ndarray,
    top: float,
    side: int,
) -> tuple[float, np.ndarray, np.ndarray, int]:
    """Return 1/S, 1/S without each group, the ratios and the degrees of freedom."""
    k, values, active = 0.0, fixed.copy(), list(active)
    for _ in range(STEPS):
        gram, cross = _equations(*groups, active, fixed, k, noise, top, side)
        whole = gram.sum(axis=0), cross.sum(axis=0)
        solution = _solution(*whole)
        found, change = solution[:-1], solution[-1]
        if (found < 0).any():
            values[active.pop(int(np.argmin(found)))] = 0.0
            continue
        values[active] = found
        before, k = (
            k,
            float(np.clip(k - np.clip(change, -0.2, 0.2) / top, -1.0 / top, STEEPEST_PART / top)),
        )
        if abs(k - before) < 1e-6 / top:
            break
    if k * top > 0.99 * STEEPEST_PART:
        raise ValueError(
            "the HAADF bends more against the maps than damping explains; is an element missing "
            "among the maps, is vacuum zero?"
        )
    deleted = np.array(
        [-_solution(whole[0] - g, whole[1] - c)[-1] / top for g, c in zip(gram, cross, strict=True)]
    )
    return k, deleted, values, len(gram) - 1 - len(active)


def _equations(
    maps, haadf, mask, active, fixed, k, noise, top, side
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linearised equations in (ratios, change of -k top) of each group.

    They are (group, n, n) and (group, n), for n unknowns.
    """
    delta = 1e-3 / top
    linear = _linear(haadf, k, noise)
    slope = (_linear(haadf, k + delta, noise) - linear) / (delta * top)
    target = linear - np.tensordot(fixed, maps, 1).astype(np.float32)
    chosen = maps[active]
    regressors = np.concatenate([chosen, slope[None]])
    groups, n = len(haadf), len(active)
    gram, cross = np.zeros((groups, n + 1, n + 1)), np.zeros((groups, n + 1))
    # The mean over shifted grids depends less on where blocks cut core and shell.
    offsets = [(0, 0)] if side == 1 else list(product((0, side // 2), repeat=2))
    for offset in offsets:
        blocks = sum_blocks(regressors, target, mask, side, offset)
        for group in range(groups):
            here = blocks.counts[blocks.tilt == group]
            gram[group] += here.T @ here / len(offsets)
            cross[group] += here.T @ blocks.haadf[blocks.tilt == group] / len(offsets)
    # Slope and inverted signal share the noise of the HAADF: the product of their derivatives times
    # its variance is subtracted.
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


def _linear(haadf: np.ndarray, k: float, noise: np.ndarray) -> np.ndarray:
    # Image by image, because intermediate results are float64.
    return np.stack([linear_signal(image, k, noise) for image in haadf])


def _solution(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.maximum(np.diag(matrix), 0))
    if not (scale > 0).all() or np.linalg.cond(matrix / np.outer(scale, scale)) > 1e8:
        raise ValueError(
            "the maps cannot be told apart from one another, or from the damping, within their "
            "noise; sum or leave out"
        )
    return np.linalg.solve(matrix / np.outer(scale, scale), target / scale) / scale
