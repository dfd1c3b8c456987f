# SPDX-License-Identifier: GPL-3.0-or-later
"""Fourier shell correlation of two volumes, of all directions and of cones about the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import fftfreq, rfftfreq, rfftn

#: What is averaged over: all of a shell, or a cone of it about an axis; places in (z, x, y).
DIRECTIONS: dict[str, int | None] = {"all": None, "x": 1, "y": 2, "z": 0}
# Half of the angle of the cones, and part of each side over which the volumes fade to 0 at the rim.
_COSINE, _RIM = np.cos(np.deg2rad(30)), 0.1
# Fourier coefficients without which a shell says nothing.
_FEWEST = 8


@dataclass(frozen=True, eq=False)
class ShellCorrelation:
    """Correlation of the Fourier coefficients of two volumes, shell by shell.

    Attributes
    ----------
    frequency : array (shell,)
        In the middle of each shell, in cycles per unit of the spacing, up to Nyquist's.
    correlation : dict of str to array (shell,)
        For ``"all"`` directions and those within 30 degrees of ``"x"``, ``"y"`` and ``"z"``; NaN
        in shells with fewer than eight coefficients.
    coefficients : dict of str to array (shell,)
        How many Fourier coefficients each of them is of; one of a pair that belongs together.
    """

    frequency: np.ndarray
    correlation: dict[str, np.ndarray]
    coefficients: dict[str, np.ndarray]

    def limit(self, threshold: float, direction: str = "all") -> np.ndarray:
        """Return a threshold as it is in each shell: higher where there are few coefficients.

        It is the correlation expected at the ratio of signal to noise that belongs to the threshold
        in shells without number, and one standard deviation of the products of noise.
        """
        ratio = threshold / (1 - threshold)
        chance = 1 / np.sqrt(np.maximum(self.coefficients[direction], 1))
        mixed = 2 * np.sqrt(ratio) * chance
        return (ratio + mixed + chance) / (ratio + 1 + mixed)

    def resolution(self, threshold: float, direction: str = "all") -> float:
        """Return the period at which the correlation falls below a threshold.

        The curve is taken as the best one that falls all the way (isotonic regression), since a
        shell may be below or above by chance, and interpolated between shells. The threshold is the
        `limit` of each shell. The period is that of Nyquist's frequency where the correlation does
        not fall so far, and NaN where it begins below.
        """
        known = np.isfinite(self.correlation[direction])
        if not known.any():
            return float("nan")
        frequency, coefficients = self.frequency[known], self.coefficients[direction][known]
        curve = _falling(self.correlation[direction][known], coefficients)
        above = curve - self.limit(threshold, direction)[known]
        below = np.flatnonzero(above < 0)
        if not len(below):
            return float(1 / frequency[-1])
        if below[0] == 0:
            return float("nan")
        ends = slice(below[0] - 1, below[0] + 1)
        return float(1 / np.interp(0, above[ends][::-1], frequency[ends][::-1]))


def shell_correlation(
    first: ArrayLike, second: ArrayLike, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> ShellCorrelation:
    """
    Return the Fourier shell correlation of two volumes.

    Parameters
    ----------
    first, second : array_like (z, x, y)
        Of one shape; any unit, since it depends neither on their scales nor on constants added.
    spacing : sequence of float (3,), default (1.0, 1.0, 1.0)
        Side of a voxel along z, x and y.

    Returns
    -------
    ShellCorrelation

    Raises
    ------
    ValueError
        For shapes that differ, another number of axes, values that are not finite, or fewer than
        eight voxels along each axis of more than one.

    Notes
    -----
    Re sum F1 conj(F2) / sqrt(sum abs(F1)^2 sum abs(F2)^2) over each shell, whose thickness is one
    period in the longest side. The mean is taken off, and the volumes fade to 0 by a cosine over
    the outer tenth of each side, so that what touches the rim has no edge there, which both would
    share. There is no mask. An axis of one voxel is left out, and shells are rings.

    References
    ----------
    G. Harauz, M. van Heel, Optik 73 (1986) 146. M. van Heel, M. Schatz, J. Struct. Biol. 151 (2005)
    250, doi:10.1016/j.jsb.2005.05.009 (thresholds for few coefficients).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(32, 32, 32))
    >>> noisy = [signal + rng.normal(size=signal.shape) for _ in range(2)]
    >>> round(float(shell_correlation(*noisy).correlation["all"][1:].mean()), 1)
    0.5
    """
    first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
    if first.ndim != 3 or first.shape != second.shape:
        raise ValueError(
            f"the volumes have the shapes {first.shape} and {second.shape}; expected two of one "
            "shape, (z, x, y)"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("the volumes have values that are not finite")
    used = [axis for axis in range(3) if first.shape[axis] > 1]
    if len(used) < 2 or min(first.shape[axis] for axis in used) < 8:
        raise ValueError(
            f"the volumes have the shape {first.shape}; expected 8 voxels or more along at least "
            "two axes, and 1 or 8 or more along the third"
        )
    transforms = [rfftn(_faded(volume, used)) for volume in (first, second)]
    axes = [fftfreq(size, step) for size, step in zip(first.shape, spacing, strict=True)]
    axes[2] = rfftfreq(first.shape[2], spacing[2])
    nyquist = min(0.5 / spacing[axis] for axis in used)
    thickness = 1 / max(first.shape[axis] * spacing[axis] for axis in used)
    sums = _sums(transforms, axes, thickness, int(nyquist / thickness + 1e-6) + 1)
    frequency = np.arange(sums["all"].shape[1]) * thickness
    curves = {name: _correlation(*one)[1:] for name, one in sums.items()}
    pairs = {name: one[3, 1:] / 2 for name, one in sums.items()}
    return ShellCorrelation(frequency[1:], curves, pairs)


def _faded(volume: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Return a volume without its mean, that fades to 0 at the rim."""
    from scipy.signal.windows import tukey

    volume = volume - volume.mean(dtype=np.float64).astype(np.float32)
    for axis in axes:
        shape = [1, 1, 1]
        shape[axis] = -1
        volume = volume * tukey(volume.shape[axis], 2 * _RIM).astype(np.float32).reshape(shape)
    return volume


def _sums(transforms, axes, thickness: float, shells: int) -> dict[str, np.ndarray]:
    """Return the sums over each shell: of products, of both squares and of coefficients."""
    kz, kx, ky = axes
    # Half of the coefficients are there; those of k_y = 0, and of Nyquist's, count once.
    count = np.full(len(ky), 2.0)
    count[0] = 1.0
    sums = {name: np.zeros((4, shells)) for name in DIRECTIONS}
    for plane, one in enumerate(kz):
        first, second = (transform[plane].ravel() for transform in transforms)
        components = np.broadcast_arrays(one, kx[:, None], ky[None])
        radius = np.sqrt(sum(np.square(part) for part in components))
        shell = np.rint(radius / thickness).astype(int).ravel()
        weight = np.broadcast_to(count, radius.shape).ravel()
        terms = [
            (first * second.conj()).real,
            np.square(np.abs(first)),
            np.square(np.abs(second)),
            np.ones(len(weight), np.float32),
        ]
        for name, axis in DIRECTIONS.items():
            inside = shell < shells
            if axis is not None:
                inside = inside & (np.abs(components[axis]) >= _COSINE * radius).ravel()
            for row, term in zip(sums[name], terms, strict=True):
                row += np.bincount(shell[inside], (weight * term)[inside], shells)
    return sums


def _correlation(product, first, second, count) -> np.ndarray:
    """Return the correlation in each shell; NaN where there is too little for one."""
    norm = np.sqrt(first * second)
    known = (count >= _FEWEST) & (norm > 0)
    return np.where(known, product / np.where(norm > 0, norm, 1), np.nan)


def _falling(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the values that never rise and are nearest by weighted least squares.

    Neighbours that rise are pooled until none do (Ayer et al., Ann. Math. Stat. 26 (1955) 641).
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((float(value), float(weight), 1))
        while len(pools) > 1 and pools[-1][0] > pools[-2][0]:
            (a, wa, na), (b, wb, nb) = pools[-2:]
            pools[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.repeat([value for value, *_ in pools], [number for *_, number in pools])
