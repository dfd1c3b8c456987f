# SPDX-License-Identifier: GPL-3.0-or-later
"""Width of the edges of an object along each axis: error functions fitted across its outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: From 10 to 90 % of an error function, in its standard deviations.
TEN_TO_NINETY = 2.5631
#: The axes that edges are measured along, and their places in (z, x, y).
DIRECTIONS = {"x": 1, "y": 2, "z": 0}
# The outline is that of the volume smoothed by the least of these, in voxels, that leaves so few of
# its crossings of a line with another one beside them, at half of the contrast.
_SMOOTHINGS, _DOUBLED = (1.0, 1.5, 2.0, 3.0, 4.0), 0.05
# Normals of the outline are at most 20 degrees off the axis.
_COSINE = np.cos(np.deg2rad(20))
# Profiles reach so many standard deviations to either side, voxels at least, and voxels at first.
_REACH, _LEAST, _FIRST = 3.5, 4, 6
# Profiles that are fitted at most and at least, spread evenly; voxels along the side of a patch of
# the outline, whose profiles are not independent of each other.
_MOST, _FEWEST, _PATCH = 4000, 12, 8
# Narrowest width that is told from a step, in voxels, and steps of the fit at most.
_NARROWEST, _STEPS, _MOST_DAMPING = 0.2, 60, 1e6
# No width is given with so much noise over contrast, of steps with so much, or with such an error
# relative to it.
_HIDDEN, _NOT_SHARP, _UNSURE = 0.5, 0.15, 0.35
# Patches stay whose contrast is this part of the typical one, at least; rounds of the fit at most.
_CONTRAST, _ROUNDS = 0.4, 8


@dataclass(frozen=True, eq=False)
class EdgeFit:
    """The edges of one channel along one axis.

    Attributes
    ----------
    width : float
        From 10 to 90 % of the edge, in the unit of the spacing; NaN without edges, and where noise
        hides them.
    error : float
        Standard error of that.
    profiles : int
        That were fitted; 0 where there are no edges.
    noise : float
        Standard deviation of the profiles about the fit, over the contrast of the edges.
    distance, edge : array (place,)
        From the edge towards the object, and the mean profile there, from 0 to 1.
    """

    width: float
    error: float
    profiles: int
    noise: float
    distance: np.ndarray
    edge: np.ndarray


NO_EDGES = EdgeFit(np.nan, np.nan, 0, np.nan, np.empty(0), np.empty(0))


@dataclass(frozen=True, eq=False)
class EdgeWidths:
    """Widths of the edges of a volume, for each channel and axis; prints as a table.

    Attributes
    ----------
    channels : tuple of str
    fits : dict of str to dict of str to EdgeFit
        By channel, and by ``"x"``, ``"y"`` and ``"z"``.
    unit : str
        Of the widths, "nm" or "px".
    reasons : dict of str to str
        Why there are no edges, of channels without an outline.
    """

    channels: tuple[str, ...]
    fits: dict[str, dict[str, EdgeFit]]
    unit: str
    reasons: dict[str, str]

    @property
    def widths(self) -> dict[str, dict[str, float]]:
        """Widths from 10 to 90 %, by channel and axis; NaN where there are no edges."""
        return {
            name: {axis: fit.width for axis, fit in fits.items()}
            for name, fits in self.fits.items()
        }

    def plot(self) -> Figure:
        """Draw the mean edge of each channel along each axis, with the error function fitted.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from hyperspy_multitomo.inspection.resolution_plots import plot_edges

        edges = {
            name: {
                axis: (fit.distance, fit.edge, fit.width)
                for axis, fit in fits.items()
                if fit.profiles
            }
            for name, fits in self.fits.items()
        }
        return plot_edges(edges, self.unit)

    def __str__(self) -> str:
        size = max(map(len, (*self.channels, "channel")))
        cells = "".join(f"{f'along {axis}':>20}" for axis in DIRECTIONS)
        lines = [f"edges from 10 to 90 %, {self.unit}", f"{'channel':<{size}}{cells}"]
        for name in self.channels:
            row = "".join(f"{_cell(self.fits[name][axis]):>20}" for axis in DIRECTIONS)
            lines.append(f"{name:<{size}}{row}")
        lines += [f"{name}: {why}" for name, why in self.reasons.items()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<EdgeWidths\n{self}>"


def _cell(fit: EdgeFit) -> str:
    if not fit.profiles:
        return "no edges"
    if np.isnan(fit.width):
        return "too noisy"
    return f"{fit.width:.3g} ± {fit.error:.1g} ({fit.profiles})"


class NoOutlineError(ValueError):
    """A channel has no outline whose edges could be measured."""


def edge_widths(
    volume: ArrayLike, spacing: Sequence[float] = (1.0, 1.0, 1.0), mask: ArrayLike | None = None
) -> dict[str, EdgeFit]:
    """
    Return the width of the edges of a volume along each axis.

    Parameters
    ----------
    volume : array_like (z, x, y)
        Any unit.
    spacing : sequence of float (3,), default (1.0, 1.0, 1.0)
        Side of a voxel along z, x and y.
    mask : array_like of bool (z, x, y), optional
        Where the outline counts.

    Returns
    -------
    dict of str to EdgeFit
        Along ``"x"``, ``"y"`` and ``"z"``.

    Raises
    ------
    NoOutlineError
        A `ValueError`, for a volume without contrast, or with an outline that noise breaks.
    ValueError
        For another number of axes, values that are not finite, or a mask of another shape.

    Notes
    -----
    The outline is where the volume, smoothed by a Gaussian of one voxel (up to four where noise
    breaks the outline), crosses half of its contrast: midway between the medians below and above
    Otsu's threshold. Profiles of the volume
    itself are taken through it along an axis where its normal is within 20 degrees of the axis,
    3.5 standard deviations to either side, no further than halfway to the next edge on their line.
    They are fitted together by error functions of one width over the distance along the normal;
    each patch of 8 x 8 voxels of the outline has a position and two levels of its own. The standard
    error is that between the patches.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> cube = np.zeros((48, 48, 48)); cube[12:36, 12:36, 12:36] = 1.0
    >>> widths = edge_widths(gaussian_filter(cube, (2.0, 1.0, 1.0)))
    >>> {axis: round(fit.width / 2.563, 1) for axis, fit in widths.items()}
    {'x': 1.0, 'y': 1.0, 'z': 2.0}
    """
    volume = np.asarray(volume, np.float32)
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ValueError(
            f"the volume has the shape {volume.shape}; expected finite values (z, x, y)"
        )
    region = np.ones(volume.shape, bool) if mask is None else np.asarray(mask, bool)
    if region.shape != volume.shape:
        raise ValueError(f"the mask has the shape {region.shape}; expected {volume.shape}")
    smooth, level = _outline(volume)
    slopes = np.stack(
        [
            np.gradient(smooth, side, axis=axis) if smooth.shape[axis] > 1 else 0 * smooth
            for axis, side in enumerate(spacing)
        ]
    )
    return {
        name: _along(axis, volume, smooth, level, slopes, float(spacing[axis]), region)
        for name, axis in DIRECTIONS.items()
    }


def half_outline(volume: np.ndarray) -> np.ndarray:
    """Return where a volume (z, x, y) is above half of its contrast; see `edge_widths`."""
    smooth, level = _outline(np.asarray(volume, np.float32))
    return smooth > level


def _outline(volume: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a volume so smooth that noise does not break its outline, and the level of that."""
    for sigma in _SMOOTHINGS:
        sides = [sigma if size > 1 else 0.0 for size in volume.shape]
        smooth = gaussian_filter(volume, sides, mode="nearest")
        level = _half_level(smooth)
        if _doubled(smooth > level, round(2 * sigma + 1)) <= _DOUBLED:
            return smooth, level
    raise NoOutlineError(
        "its outline is broken, by noise or because it is of thin layers close to each other"
    )


def _doubled(inside: np.ndarray, reach: int) -> float:
    """Return the part of crossings that have another one within a few voxels on their line."""
    near = total = 0
    for axis in range(3):
        along = np.moveaxis(inside, axis, -1)
        crosses = along[..., 1:] != along[..., :-1]
        line, place = np.divmod(np.flatnonzero(crosses.ravel()), max(crosses.shape[-1], 1))
        near += int(((np.diff(line) == 0) & (np.diff(place) <= reach)).sum())
        total += len(line)
    return near / max(total, 1)


def _half_level(smooth: np.ndarray) -> float:
    from skimage.filters import threshold_otsu

    low, high = float(smooth.min()), float(smooth.max())
    if high - low <= 1e-5 * max(abs(low), abs(high)):
        raise NoOutlineError(f"it is {high:.4g} everywhere, without an outline")
    split = threshold_otsu(smooth)
    above = smooth > split
    return float(np.median(smooth[above]) + np.median(smooth[~above])) / 2


def _along(axis: int, volume, smooth, level: float, slopes, side: float, region) -> EdgeFit:
    """Return the edges along one axis."""
    values, smooth = np.moveaxis(volume, axis, -1), np.moveaxis(smooth, axis, -1)
    slopes = np.moveaxis(slopes, axis + 1, -1)
    outline = smooth > level
    crosses = outline[..., 1:] != outline[..., :-1]
    counted = np.moveaxis(region, axis, -1)
    steep = (slopes[..., 1:] + slopes[..., :-1])[:, crosses]
    cosine = np.abs(steep[axis]) / np.maximum(np.linalg.norm(steep, axis=0), 1e-30)
    before, after = _room(crosses)
    rows, columns, places = np.nonzero(crosses)
    good = (cosine >= _COSINE) & (np.minimum(before, after) >= 2)
    good &= (counted[..., 1:] & counted[..., :-1])[crosses]
    chosen = np.flatnonzero(good)
    if len(chosen) < _FEWEST:
        return NO_EDGES
    patches = np.stack([rows // _PATCH, columns // _PATCH, steep[axis] > 0])[:, chosen]
    patches = np.unique(patches, axis=1, return_inverse=True)[1].ravel()
    few = np.unique(np.linspace(0, patches.max(), _MOST // _PATCH**2).round().astype(int))
    chosen, patches = chosen[np.isin(patches, few)], patches[np.isin(patches, few)]
    first, second = smooth[..., :-1][crosses][chosen], smooth[..., 1:][crosses][chosen]
    lines = _Lines(
        values[rows[chosen], columns[chosen]],
        places[chosen],
        (level - first) / (second - first),
        before[chosen],
        after[chosen],
        cosine[chosen] * side,
        patches,
    )
    return _fitted(lines, side)


def _room(crosses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many voxels belong to each crossing, before and after it on its line."""
    size = int(crosses.shape[-1]) + 1
    where = np.flatnonzero(crosses.ravel())
    line, place = np.divmod(where, size - 1)
    gaps = np.diff(place)
    same = np.diff(line) == 0
    half = np.where(same, gaps // 2, 0)
    before, after = place + 1, size - 1 - place
    before[1:] = np.where(same, half, before[1:])
    after[:-1] = np.where(same, half, after[:-1])
    return before, after


@dataclass(frozen=True, eq=False)
class _Lines:
    """Lines of voxels (line, place) through the outline.

    Where each crosses it (the voxel before, and the part of a voxel from there), the room to either
    side, the side of a voxel along the normal, and the patch of the outline.
    """

    values: np.ndarray
    places: np.ndarray
    beyond: np.ndarray
    before: np.ndarray
    after: np.ndarray
    sides: np.ndarray
    patches: np.ndarray

    def profiles(self, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return distances from the outline, values, whether they count, and patches."""
        steps = np.arange(-reach, reach) + 1
        counts = (steps > -self.before[:, None]) & (steps <= self.after[:, None])
        places = np.clip(self.places[:, None] + steps, 0, self.values.shape[1] - 1)
        distance = (steps - self.beyond[:, None]) * self.sides[:, None]
        values = np.take_along_axis(self.values, places, 1).astype(float)
        return distance, values, counts.astype(float), self.patches

    def some(self, chosen: np.ndarray) -> _Lines:
        """Return some of the lines, their patches numbered anew."""
        parts = {name: values[chosen] for name, values in vars(self).items()}
        parts["patches"] = np.unique(parts["patches"], return_inverse=True)[1]
        return _Lines(**parts)


def _fitted(lines: _Lines, side: float) -> EdgeFit:
    """Return the fit of one width to profiles, whose reach follows the width."""
    lines, reach, sigma = lines.some(np.arange(len(lines.places))), _FIRST, 1.5 * side
    for _ in range(_ROUNDS):
        fit = _OneWidth.of(*lines.profiles(reach), sigma, _NARROWEST * side)
        contrast = np.diff(fit.levels).ravel()
        # Of noise, or of another edge that the outline passes by.
        keep = contrast * fit.rising > _CONTRAST * np.median(np.abs(contrast))
        keep = keep[lines.patches]
        if keep.sum() < _FEWEST:
            return NO_EDGES
        needed = max(_LEAST, int(np.ceil(_REACH * fit.sigma / side)))
        settled = abs(needed - reach) <= 1 and keep.all()
        reach, sigma = needed, fit.sigma
        if settled:
            break
        lines = lines.some(keep)
    profiles = lines.profiles(reach)
    fit = _OneWidth.of(*profiles, sigma, _NARROWEST * side)
    count = len(fit.scores)
    scatter = np.sqrt(count / max(count - 1, 1) * np.square(fit.scores).sum())
    contrast = np.abs(np.diff(fit.levels)).ravel()[lines.patches].mean()
    noise = np.sqrt(fit.cost / profiles[2].sum()) / max(contrast, 1e-30)
    sharp = fit.sigma <= 1.01 * _NARROWEST * side
    width = TEN_TO_NINETY * fit.sigma
    error = width * scatter / fit.information if count > 1 else np.nan
    if noise > _HIDDEN or (sharp and noise > _NOT_SHARP) or error > _UNSURE * width:
        width = np.nan
    return EdgeFit(width, error, len(lines.places), noise, *_mean_edge(*profiles, fit))


@dataclass(frozen=True, eq=False)
class _OneWidth:
    """Error functions of one width fitted to profiles.

    `levels` (before, after) and `centres` are those of each patch, `rising` whether it rises there
    (1 or -1), `scores` its pull on the logarithm of the width, `information` what holds it.
    """

    sigma: float
    levels: np.ndarray
    centres: np.ndarray
    rising: np.ndarray
    scores: np.ndarray
    information: float
    cost: float

    @classmethod
    def of(cls, distance, values, counts, patches, sigma: float, narrowest: float) -> _OneWidth:
        """Return the fit by Levenberg and Marquardt's method.

        Position and levels are eliminated from the normal equations patch by patch.
        """
        size, furthest = patches.max() + 1, np.abs(distance).max() / 2

        def summed(numbers):
            sums = np.zeros((size, *numbers.shape[1:]))
            np.add.at(sums, patches, numbers)
            return sums

        def side(where):
            weights = counts * where
            return summed((weights * values).sum(1)) / np.maximum(summed(weights.sum(1)), 1e-9)

        parameters = np.stack([side(distance < 0), side(distance >= 0), np.zeros(size)])
        rising = np.sign(parameters[1] - parameters[0])

        def model(parameters, log_sigma):
            low, high, centre = parameters[:, patches, None]
            z = (distance - centre) * np.exp(-log_sigma)
            part = ndtr(z)
            return z, part, counts * (values - low - (high - low) * part)

        log_sigma, damping = np.log(sigma), 1e-3
        z, part, residual = model(parameters, log_sigma)
        cost = np.square(residual).sum()
        for _ in range(_STEPS):
            contrast = (parameters[1] - parameters[0])[patches, None]
            bell = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * contrast * counts
            jacobian = np.stack([counts * (1 - part), counts * part, -bell * np.exp(-log_sigma)])
            of_width = -bell * z
            normal = summed(np.einsum("apd,bpd->pab", jacobian, jacobian))
            coupled = summed(np.einsum("apd,pd->pa", jacobian, of_width))
            pull = summed(np.einsum("apd,pd->pa", jacobian, residual))
            diagonal = np.einsum("paa->pa", normal)
            diagonal = np.maximum(diagonal, 1e-9 * diagonal.max(axis=0) + 1e-30)
            damped = normal + damping * diagonal[:, None] * np.eye(3)
            solved = np.linalg.solve(damped, np.stack([coupled, pull], axis=2))
            shared = np.einsum("pa,pab->pb", coupled, solved)
            information = max(float(np.square(of_width).sum() - shared[:, 0].sum()), 1e-30)
            scores = summed(np.einsum("pd,pd->p", of_width, residual)) - shared[:, 1]
            step = float(np.clip(scores.sum() / (information * (1 + damping)), -0.5, 0.5))
            moved = parameters + (solved[..., 1] - step * solved[..., 0]).T
            moved[2] = np.clip(moved[2], -furthest, furthest)
            trial = moved, max(log_sigma + step, np.log(narrowest))
            found = model(*trial)
            better = np.square(found[2]).sum()
            if better > cost:
                damping *= 10
                if damping > _MOST_DAMPING:
                    break
                continue
            gain = cost - better
            (parameters, log_sigma), (z, part, residual), cost = trial, found, better
            damping = max(damping / 10, 1e-9)
            if abs(step) < 1e-4 and gain <= 1e-6 * cost:
                break
        levels, centres = parameters[:2].T, parameters[2]
        return cls(float(np.exp(log_sigma)), levels, centres, rising, scores, information, cost)


def _mean_edge(distance, values, counts, patches, fit: _OneWidth) -> tuple[np.ndarray, np.ndarray]:
    """Return distances from the edge, and the mean profile there from 0 to 1."""
    low, high = fit.levels[patches].T[..., None]
    step = np.median(np.diff(distance, axis=1)) / 2
    contrast = high - low
    part = (values - low) / np.where(contrast == 0, 1, contrast)
    # All profiles as if the object were at positive distances.
    away, rising = distance - fit.centres[patches, None], contrast > 0
    away, part = np.where(rising, away, -away), np.where(rising, part, 1 - part)
    places = np.rint(away / step).astype(int)
    weights = counts * np.square(contrast)
    first = places.min()
    total = np.bincount((places - first).ravel(), weights.ravel())
    sums = np.bincount((places - first).ravel(), (weights * part).ravel())
    filled = total > 0.02 * total.max()
    return (np.flatnonzero(filled) + first) * step, sums[filled] / total[filled]
