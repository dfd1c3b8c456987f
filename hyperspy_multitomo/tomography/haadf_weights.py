# SPDX-License-Identifier: GPL-3.0-or-later
"""How bright each element is in the HAADF, found from a reconstruction of the maps: no tilt need be common to both."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from hyperspy_multitomo.tomography.checks import checked_power
from hyperspy_multitomo.tomography.variational import DataTerm

# Fraction of the HAADF's variance below which the elements are said not to explain it, as for response ratios.
LOW_R_SQUARED = 0.9


def regressed_weights(volume: ArrayLike, maps: DataTerm, haadf: DataTerm, *, power: float = 1.0) -> np.ndarray:
    """x."""
    brightness, signal, volume = _brightness(volume, maps, haadf, power)
    weights = _nonnegative_fit(brightness, signal)
    if not weights.any():
        raise ValueError("no element of the volume explains any of the HAADF; do both show the same specimen, on the same grid?")
    _check_explained(brightness, signal, weights)
    return weights


def scaled_weights(
    relative: ArrayLike, volume: ArrayLike, maps: DataTerm, haadf: DataTerm, *, power: float = 1.0
) -> np.ndarray:
    """x."""
    brightness, signal, volume = _brightness(volume, maps, haadf, power)
    relative = np.asarray(relative, np.float64)
    if relative.shape != (len(brightness),) or not (np.isfinite(relative).all() and relative.min() >= 0 and relative.any()):
        raise ValueError(
            f"`relative` is {relative.tolist()}; expected {len(brightness)} numbers, one for each channel, none below 0 and some "
            "above it"
        )
    expected = relative @ brightness.sum(axis=1)
    return relative * (signal.sum() / expected)


def _brightness(volume, maps: DataTerm, haadf: DataTerm, power: float):
    volume, power = np.asarray(volume, np.float32), checked_power(power)
    maps, haadf = maps.checked(len(volume), "eds"), haadf.checked(len(volume), "haadf")
    projected = maps.gains[:, :, None, None] * maps.A(volume)
    net = maps.data if maps.background is None else np.where(maps.live, maps.data - maps.background, 0)
    found, expected = (a.sum(axis=(1, 2, 3), dtype=np.float64) for a in (net, projected))
    corrections = np.divide(np.maximum(found, 0), expected, out=np.ones_like(expected), where=expected > 0)
    bright = haadf.A(np.power(volume * corrections[:, None, None, None].astype(np.float32), np.float32(power)))
    bright = np.where(haadf.live, haadf.gains[:, :, None, None] * bright, 0)
    signal = haadf.difference(0 if haadf.background is None else haadf.background)
    return bright.reshape(len(bright), -1), signal.ravel(), volume


def _nonnegative_fit(brightness: np.ndarray, signal: np.ndarray) -> np.ndarray:
    gram = np.einsum("ai,bi->ab", brightness, brightness, dtype=np.float64)
    right = np.einsum("ai,i->a", brightness, signal, dtype=np.float64)
    norms = np.sqrt(np.diag(gram))
    norms[norms == 0] = np.inf
    values, vectors = np.linalg.eigh(gram / np.outer(norms, norms))
    kept = values > 1e-9
    roots = np.sqrt(values[kept])
    rows = roots[:, None] * vectors.T[kept]
    return nnls(rows, (vectors.T[kept] @ (right / norms)) / roots)[0] / norms


def _check_explained(brightness, signal, weights):
    left = signal - weights @ brightness
    share = 1 - np.var(left, dtype=np.float64) / max(np.var(signal, dtype=np.float64), 1e-30)
    if share < LOW_R_SQUARED:
        warnings.warn(
            f"the elements explain only {share:.2f} of the variance of the HAADF: is one missing, or is diffraction strong?",
            stacklevel=3,
        )
