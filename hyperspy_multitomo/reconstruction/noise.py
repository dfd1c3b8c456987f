# SPDX-License-Identifier: GPL-3.0-or-later
"""The noise of a series, from its counts or the finest detail of its images.

A stopping rule ends a run there, and data terms are weighted by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.parameters import is_positive
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.tomography import counting_noise, image_variance, net_variance
from hyperspy_multitomo.tomography.finest_detail import block_detail

# Pixels that are averaged to tell signal from noise.
_PROFILE = 5
# Values that are looked at for the step between counts, and their rounding.
_SAMPLE, _ROUNDING = 2**16, 1e-6
# Of images of more pixels than this, all that are looked at taken together, blocks of so many
# slices stand for the rest.
_PIXELS, _BLOCK = 2**24, 64


def stopping_noise(
    data: TiltData,
    arrays: dict,
    gains,
    stopping: str | None,
    sigma: float | None,
    *,
    em: bool = False,
) -> tuple[dict, Callable | None]:
    """Return the arrays with those that the noise is taken from, and the function that takes it.

    The function gives what `tomography.run` takes as `noise`, relative to the array ``"maps"``; it
    is None without a stopping rule.

    Parameters
    ----------
    data : TiltData
    arrays : dict
        What the solver is given.
    gains : array or None
        As the solver has them.
    stopping : {"discrepancy"}, optional
    sigma : float, optional
        Standard deviation of the noise in a recorded pixel, instead of an estimate.
    em : bool, default False
        Whether counts are fitted as recorded, not net counts.
    """
    if stopping not in (None, "discrepancy"):
        raise ValueError(f"stopping={stopping!r} must be None or 'discrepancy'")
    if sigma is not None and not (is_positive(sigma)):
        raise ValueError(
            f"noise={sigma!r} must be a positive number: the standard deviation of the noise in "
            "each pixel"
        )
    if stopping is None:
        if sigma is not None:
            raise ValueError("noise= serves the stopping rule; pass stopping='discrepancy' with it")
        return arrays, None
    gross = data.gross
    if sigma is None and data.smoothed and not (em and gross is not None):
        raise ValueError(
            "these images were smoothed, which hides their noise; pass noise=, its standard "
            "deviation per pixel"
        )
    if sigma is None and data.no_counts is not None:
        raise ValueError(
            f"these maps are no counts as recorded ({data.no_counts}), so that their noise is not "
            "known; pass noise=, its standard deviation per pixel"
        )
    arrays = {**arrays, "recorded": data.recorded, "gross": gross}
    remaining = _remaining_variance(data.alignment, len(data.tilts))
    return arrays, StoppingNoise(bool(data.channels), sigma, remaining, gains, em)


@dataclass(frozen=True, eq=False)
class StoppingNoise:
    """The noise at which a run stops, from the arrays of a slab; it travels to workers."""

    mapped: bool
    sigma: float | None
    remaining: np.ndarray
    gains: np.ndarray | None
    em: bool

    def __call__(self, arrays: dict):
        """Return what `tomography.run` takes as noise."""
        variances = (
            _variances(self.mapped, arrays, self.em) if self.sigma is None else self.sigma**2
        )
        variances = np.broadcast_to(variances * self.remaining, arrays["maps"].shape[:2])
        return counting_noise(arrays["maps"], variances[..., None, None], gains=self.gains)


def _variances(mapped: bool, arrays: dict, em: bool) -> np.ndarray:
    """Return the variance of the noise in a pixel as recorded, (channel, tilt).

    `mapped` says that these are elemental maps.
    """
    recorded, gross = arrays["recorded"], arrays["gross"]
    if not mapped:
        return image_variance(recorded[0])[None]
    if gross is not None and not em:
        return net_variance(recorded, gross)
    counts = recorded if gross is None else gross
    if gross is None and not are_whole(counts):
        raise ValueError(
            "these maps are no whole counts and have no gross counts beside them, so that their "
            "noise is not known; pass noise=, "
            "its standard deviation per pixel"
        )
    return counts.mean(axis=(2, 3), dtype=np.float64)


def typical_variances(data: TiltData, tilts: np.ndarray) -> np.ndarray:
    """Return the mean variance of the noise in a pixel of each elemental map at some tilts.

    It is that of counts, in any unit, or measured from the finest detail, and above 0 in any case.
    Vacuum, which has neither counts nor noise, does not count: pixels weigh by their own signal,
    smoothed along x and averaged along y.
    """
    recorded, gross = data.recorded[:, tilts], data.gross
    blocks = telling_blocks(recorded.shape[1:])
    recorded = np.asarray(recorded[..., blocks], dtype=np.float32)
    counts = np.maximum(recorded, 0)
    if gross is not None:
        counts = np.asarray(gross[:, tilts][..., blocks])
    if gross is not None and data.smoothed:
        # Smoothing spreads the noise of counts over neighbours, and leaves what they say.
        shares = data.window_share
        share = np.ones(1) if shares is None else shares[:, tilts]
        variances = counts.mean(axis=(2, 3), dtype=np.float64) / share**2
    elif gross is None and data.no_counts is None and (count := _count(recorded)):
        variances = count * counts.mean(axis=(2, 3), dtype=np.float64)
    elif gross is None:
        variances = _noise_equivalent_variance(recorded, counts)
    else:
        variances = net_variance(recorded, counts)
    signal, profile = (
        uniform_filter1d(values.mean(axis=3, dtype=np.float64), _PROFILE, axis=2)
        for values in (np.maximum(recorded, 0), counts)
    )
    # The noise of a pixel goes with its counts.
    even = profile.mean(axis=2)
    local = np.divide(variances, even, out=np.zeros_like(even), where=even > 0)[..., None] * profile
    total = signal.sum(axis=(1, 2))
    typical = np.where(
        total > 0,
        (signal * local).sum(axis=(1, 2)) / np.where(total > 0, total, 1),
        variances.mean(axis=1),
    )
    squares = np.square(recorded, dtype=np.float64).mean(axis=(1, 2, 3))
    typical = np.maximum(typical, 1e-4 * squares)
    # Where nothing was recorded any will do; one of the size of the others is in their unit.
    return np.where(typical > 0, typical, min(typical[typical > 0], default=1.0))


def _count(recorded: np.ndarray) -> float:
    """Return the size of one count in maps that are counts times a unit, else 0.

    It is 1 for whole numbers that show no other unit.
    """
    if recorded.min() < 0:
        return 0.0
    values = np.unique(recorded.ravel()[:: max(1, recorded.size // _SAMPLE)]).astype(np.float64)
    steps = np.diff(values, prepend=0.0)
    steps = steps[steps > _ROUNDING * values[-1]]
    if steps.size:
        number = np.rint(values[-1] / steps.min())
        counted = recorded * (number / values[-1])
        if (np.abs(counted - np.rint(counted)) <= _ROUNDING * np.maximum(counted, 1)).all():
            return float(values[-1] / number)
    return 1.0 if (recorded == np.rint(recorded)).all() else 0.0


def _noise_equivalent_variance(recorded: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the variance (channel, tilt) of maps in any unit, by noise-equivalent counts."""
    noise = np.square(block_detail(recorded), dtype=np.float64).mean(axis=(1, 2, 3))
    means = signal.mean(axis=(1, 2, 3), dtype=np.float64)
    units = np.where((noise > 0) & (means > 0), noise / np.where(means > 0, means, 1), 1.0)
    shape = units[:, None, None, None]
    return net_variance(recorded / shape, signal / shape) * units[:, None] ** 2


def telling_blocks(shape: tuple[int, int, int]):
    """Return the slices to measure the noise of images (tilt, x, y) in.

    All, or of large images blocks of neighbours, evenly spread.
    """
    slices, most = shape[-1], _PIXELS // (shape[0] * shape[1] * _BLOCK)
    if slices <= max(most, 1) * _BLOCK:
        return slice(None)
    firsts = np.linspace(0, slices - _BLOCK, max(most, 1) + 2).round().astype(int)[1:-1] // 2 * 2
    return np.unique(firsts[:, None] + np.arange(_BLOCK))


def _remaining_variance(alignment, tilts: int) -> np.ndarray:
    """Return the fraction of each image's variance, (tilt,), that linear interpolation leaves."""
    if alignment is None:
        return np.ones(tilts)
    if alignment.rotation:
        return np.full(tilts, 4 / 9)  # the mean over all positions within a pixel
    part = alignment.along - np.floor(alignment.along)
    return part**2 + (1 - part) ** 2
