# SPDX-License-Identifier: GPL-3.0-or-later
"""Threshold of the particle by the edge-spread function V(t), the volume above a level t."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.dask_blocks import (
    as_array,
    reduced,
    with_neighbours,
)
from hyperspy_multitomo.composition.particle.median import median_of_neighbours
from hyperspy_multitomo.composition.particle.value_table import ValueTable, threshold_between_values
from hyperspy_multitomo.machine.lazy import is_lazy

__all__ = ["ThresholdCurve", "edge_spread"]

# As fractions of the interior level: width of the smoothing, noise above which the median is used,
# highest level of an empty background, highest threshold.
SMOOTHING, NOISE, EMPTY, HIGH = 0.05, 0.05, 0.2, 0.75
# A flat run is where the slope stays within this factor of its minimum ...
FLATNESS = 1.25
# ... which has to be this many times less steep than the falls on both sides.
DEPTH = 2.0
# Slopes below this fraction of the interior's fall, or of fewer voxels than this within the width
# of the smoothing, are taken as 0.
NEGLIGIBLE, FEW = 0.01, 4.0
# A phase below this fraction of the brightest one's level is ambiguous.
DIM, OR_NOT = 0.4, "which may be a dim phase, a support film or streaks"
# Where the steps suit a bright phase only, there may be a dim phase from these fractions of its
# level and of its number of voxels.
FAINT, MINOR = 0.15, 0.25
_NOTHING = (
    "nothing in the volume is positive, so there is no particle to find; was the reconstruction "
    "run?"
)


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """The edge-spread function of a volume, and the threshold that follows from it.

    Attributes
    ----------
    levels : numpy.ndarray (level,)
        Levels t, evenly spaced, in the unit of the volume.
    volumes : numpy.ndarray (level,)
        V(t), the fraction of all voxels above each level.
    slopes : numpy.ndarray (level,)
        |dV/dt|, smoothed by a Gaussian of 0.05 `interior`; per unit of the volume.
    value : float
        The threshold, in the unit of the volume; not reliable if `ambiguous`, and NaN if there is
        no flat run.
    flat : tuple of (float, float)
        Lowest and highest level of the flat run of V(t), whose centre is `value`; NaN if there is
        none.
    interior : float
        Typical level inside the particle: the median above Otsu's threshold.
    smoothed : bool
        Whether the curve is that of the median over 3 voxels along each axis.
    ambiguous : str
        Why the threshold is not reliable; empty if it is.
    """

    levels: np.ndarray
    volumes: np.ndarray
    slopes: np.ndarray
    value: float
    flat: tuple[float, float]
    interior: float
    smoothed: bool
    ambiguous: str


def edge_spread(total: ArrayLike, smooth: bool | None = None) -> ThresholdCurve:
    """Find the threshold at which the volume of the particle depends least on it.

    The volume V(t) of the voxels above a level t falls steeply in the noise of the background, is
    flat between background and particle, and falls again inside the particle. The threshold is the
    centre of the flat run, i.e. of the levels whose slope abs(dV/dt), smoothed by 0.05 of the
    interior level, is within a factor of 1.25 of its minimum between the two falls. Where V(t) is
    also flat between phases of the particle, the lowest run counts.

    Parameters
    ----------
    total : array_like (z, x, y), or of any shape
        Sum over the elements of X_e/f_e, counts over response: 0 in vacuum, in any unit.
    smooth : bool, optional
        Whether the volume is first filtered by the median over 3 voxels along every axis (27 in a
        volume). By default if the noise inside the particle, 1.48 times the median difference from
        that median, exceeds 5 % of its level. The median preserves flat surfaces and walls of two
        voxels; edges and corners lose a voxel, and thinner walls and wires are lost.

    Returns
    -------
    ThresholdCurve
        Check `ambiguous` before using `value`. Plot it by
        `hyperspy_multitomo.inspection.threshold_plot.plot_threshold`.

    Raises
    ------
    ValueError
        If `total` is empty, not finite, or has no positive voxel, before or after the median.

    Notes
    -----
    The threshold is ambiguous

    - if V(t) has no flat run, i.e. its slope nowhere falls to half of that of the falls on both
      sides: no background in view, no interior, a gradient, or noise and streaks as strong as the
      signal;
    - if the typical level below the run is not near 0, but more than 0.2 of that above it;
    - if the run is not above 0, the level of the vacuum;
    - if the run is above 0.75 of the interior level: edges wider than the particle;
    - if a phase with less than 0.4 of the brightest one's level lies above the run, or much of the
      volume at one level below it: a dim phase of the particle, a support film, or streaks of the
      missing wedge.

    References
    ----------
    Y. Yuan et al., Ultramicroscopy 220 (2021) 113166 (edge-spread function). N. Otsu, IEEE Trans.
    Syst. Man Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076 (interior level).

    Examples
    --------
    >>> import numpy as np
    >>> z, x, y = np.mgrid[:32, :32, :32] - 15.5
    >>> ball = 10.0 * (np.hypot(np.hypot(z, x), y) < 9)
    >>> ball += np.random.default_rng(0).normal(0, 1, ball.shape)
    >>> curve = edge_spread(ball)
    >>> 4 < curve.value < 6, curve.ambiguous
    (True, '')
    """
    return search_threshold(checked_total(total), smooth).curve


@dataclass(frozen=True, eq=False)
class ThresholdSearch:
    """Result of the search for a threshold.

    Attributes
    ----------
    curve : ThresholdCurve
    volume : array
        The volume of the curve, to which the threshold has to be applied: the volume itself, or its
        median over neighbours.
    table : ValueTable
        Of `volume`.
    plain : ValueTable
        Of the volume before the median.
    """

    curve: ThresholdCurve
    volume: np.ndarray
    table: ValueTable
    plain: ValueTable


def checked_total(total: ArrayLike) -> np.ndarray:
    """Return the volume as an array, checked for positive and finite values.

    A dask array is returned as float32, unchecked.
    """
    if is_lazy(total):
        return as_array(total).astype(np.float32)
    volume = np.asarray(total)
    if not np.isfinite(volume).all():
        raise ValueError(
            "the volume holds NaN or infinite values; mask or repair them before thresholding"
        )
    if volume.size == 0 or volume.max() <= 0:
        raise ValueError(_NOTHING)
    return volume


def table_of(total) -> ValueTable:
    """Return the table of a volume, in one pass over a dask array, which is checked thereby."""
    return _positive(reduced(ValueTable.of, ValueTable.sum, total))


def search_threshold(total, smooth: bool | None = None) -> ThresholdSearch:
    """Find the threshold of a checked volume, in two or three passes over a dask array.

    The first pass makes the histograms of the volume and its median. The second, unless `smooth` is
    given, measures the noise. The third, only if enough voxels for a phase lie below the threshold,
    counts those of them that are inside a region.
    """
    median = (
        with_neighbours(median_of_neighbours, total, np.float32)
        if smooth is None or smooth
        else total
    )
    plain, table = reduced(_two_tables, _two_sums, total, median)
    _positive(plain)
    if smooth is None:
        split, interior = _split(_clipped(table))
        noise = 1.4826 * reduced(
            _median_differences(split), ValueTable.sum, total, median
        ).quantile(0.5)
        smooth = bool(noise > NOISE * interior)
    volume, table = (median, table) if smooth else (total, plain)
    if not table.high > 0:
        raise ValueError(
            "nothing in the volume is positive once each voxel is the median of its neighbours; "
            "pass smooth=False"
        )
    values = _clipped(table)
    curves: list[ThresholdCurve] = []
    # In a volume with few voxels of particle, Otsu's method divides the noise; the particle is then
    # in the upper class.
    for _ in range(3):
        split, interior = _split(values)
        # With hardly any positive voxel, the median above Otsu's threshold may be negative.
        curve = _curve(table, interior if interior > 0 else table.high, smooth)
        curves.append(curve)
        if np.isfinite(curve.value):
            return ThresholdSearch(_with_dim_phase(curve, table, volume), volume, table, plain)
        values = values.above(split)
        if values.low == values.high:
            break
    return ThresholdSearch(curves[0], volume, table, plain)


def _positive(table: ValueTable) -> ValueTable:
    if table.size == 0 or table.high <= 0:
        raise ValueError(_NOTHING)
    return table


def _two_tables(total, median) -> tuple[ValueTable, ValueTable]:
    plain = ValueTable.of(total)
    return plain, plain if median is total else ValueTable.of(median)


def _two_sums(tables) -> tuple[ValueTable, ValueTable]:
    return ValueTable.sum([plain for plain, _ in tables]), ValueTable.sum(
        [table for _, table in tables]
    )


def _median_differences(split: float):
    """Return a function for the table of |voxel - median|, where the median is above `split`."""

    def table(total, median):
        return ValueTable.of(np.abs(total - median)[median > split])

    return table


def _with_dim_phase(curve: ThresholdCurve, table: ValueTable, volume) -> ThresholdCurve:
    """Return the curve, ambiguous if there may be a dim phase below the threshold.

    The steps of V(t), which suit a bright phase, may be too wide to show it.
    """
    below = table.up_to(curve.value)
    split, level = _split(below)
    enough = MINOR * (table.size - below.size)
    if curve.ambiguous or level <= FAINT * curve.interior or below.above(split).size < enough:
        return curve
    if _number_inside(volume, split, curve.value) < enough:
        return curve
    return replace(
        curve,
        ambiguous=f"below the flat run of V(t) at {curve.value:.4g} much of the volume lies "
        f"together at {level:.4g}, {OR_NOT} beside the particle at {curve.interior:.4g}",
    )


def _number_inside(volume, low: float, high: float) -> int:
    """Return the number of voxels in (low, high] whose neighbours are all in that range.

    The rim of a blurred particle also has these levels, but in a thin layer; a phase or a film has
    an inside.
    """

    def inside(volume):
        from scipy.ndimage import binary_erosion

        return binary_erosion((volume > low) & (volume <= high), border_value=1)

    return reduced(np.count_nonzero, sum, with_neighbours(inside, volume, bool))


def _clipped(table: ValueTable) -> ValueTable:
    """Return the table with the brightest 0.1 % clipped: hot voxels would bias Otsu's threshold."""
    top = table.quantile(0.999)
    return table.clipped(top) if top > 0 else table


def _split(table: ValueTable) -> tuple[float, float]:
    """Return Otsu's threshold, and the median of the values above it."""
    split = table.otsu() if table.low < table.high else table.high
    # If the values are equal, within rounding, all are above.
    return (
        (split, table.above(split).quantile(0.5)) if split < table.high else (-np.inf, table.high)
    )


def _curve(table: ValueTable, interior: float, smoothed: bool) -> ThresholdCurve:
    """Return V(t) with steps that suit an interior level, and its threshold."""
    from scipy.ndimage import gaussian_filter1d

    width = SMOOTHING * interior
    step = width / 10
    low = max(table.low, -interior) - 5 * width
    high = min(table.high, 4 * interior) + 5 * width
    levels = low + step * np.arange(int(np.ceil((high - low) / step)) + 1)
    volumes = table.from_levels_on(levels) / table.size
    slopes = np.maximum(-gaussian_filter1d(volumes, 10, order=1, mode="nearest") / step, 0)
    # The slope of FEW voxels within the width of the smoothing, or of 2 % of a very small volume.
    few = min(FEW / table.size, 0.02) / (2 * np.sqrt(np.pi) * width)
    value, flat, reason = _flat_run(levels, slopes, interior, few)
    value = threshold_between_values(value) if np.isfinite(value) else value
    return ThresholdCurve(levels, volumes, slopes, value, flat, interior, smoothed, reason)


def _flat_run(levels, slopes, interior, few) -> tuple[float, tuple[float, float], str]:
    """Return the threshold, the ends of the flat run about it, and why it is ambiguous."""
    from scipy.signal import find_peaks

    negligible = max(few, NEGLIGIBLE * slopes[levels > interior / 2].max())
    valleys = find_peaks(-np.log(slopes + negligible), prominence=np.log(DEPTH))[0]
    if valleys.size == 0:
        return np.nan, (np.nan, np.nan), _no_run(levels, slopes, interior)
    parts = np.split(np.arange(len(levels)), valleys)
    modes = np.array([levels[part[np.argmax(slopes[part])]] for part in parts])
    flat = slopes <= FLATNESS * slopes[valleys[0]] + negligible
    ends = np.flatnonzero(~flat)
    after = np.searchsorted(ends, valleys[0])
    run = float(levels[ends[after - 1] + 1]), float(levels[ends[after] - 1])
    value = (run[0] + run[1]) / 2
    reason = ""
    if value <= 0:
        reason = (
            f"the flat run of V(t) is around {value:.4g}, not above 0, which is the vacuum: "
            "negative voxels or an offset are "
            "taken for the background"
        )
    elif modes[0] > EMPTY * modes[1]:
        reason = (
            f"what lies below the flat run of V(t) at {value:.4g} has a typical level of "
            f"{modes[0]:.4g}, not near 0 beside "
            f"{modes[1]:.4g} above it: there is no empty background in view, or it has an offset"
        )
    elif modes[1] - modes[0] < DIM * (modes[-1] - modes[0]):
        reason = (
            f"V(t) is flat around {value:.4g} and around {levels[valleys[-1]]:.4g}, with "
            f"{modes[1]:.4g} typical in between, "
            f"{OR_NOT} beside the particle at {modes[-1]:.4g}"
        )
    elif value > HIGH * interior:
        reason = (
            f"V(t) is flat only around {value:.4g}, more than {HIGH:g} of the interior level "
            f"{interior:.4g}: the particle may be "
            "too small or too thin for the resolution"
        )
    return value, run, reason


def _no_run(levels, slopes, interior) -> str:
    """Return why V(t) is not flat anywhere between 0.1 and 0.9 of the interior level."""
    between = np.flatnonzero((levels > 0.1 * interior) & (levels < 0.9 * interior))
    least = between[np.argmin(slopes[between])]
    if slopes[between].max() < DEPTH * slopes[least]:
        where = "the slope is much the same at all levels, a gradient without edges"
    elif least == between[0]:
        where = (
            "the slope is least at the lower border of the levels, so there is no background below "
            "the particle"
        )
    elif least == between[-1]:
        where = (
            "the slope is least at the upper border of the levels, so V(t) does not fall again "
            "inside a particle"
        )
    else:
        where = (
            f"the slope around {levels[least]:.4g} is more than half of that of the falls beside it"
        )
    return f"V(t) has no flat run between background and particle: {where}"
