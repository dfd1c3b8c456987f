# SPDX-License-Identifier: GPL-3.0-or-later
"""The brightness of each element in the HAADF, from a reconstruction of the maps.

The two need not have a tilt in common.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.tomography.input_checks import checked_power
from hyperspy_multitomo.tomography.variational import DataTerm

# Fraction of the HAADF's variance below which a warning says that the elements do not explain it,
# as for response ratios.
LOW_R_SQUARED = 0.9


def regressed_weights(
    volume: ArrayLike, maps: DataTerm, haadf: DataTerm, *, power: float = 1.0
) -> np.ndarray:
    """Fit the brightness r >= 0 of each element in the HAADF at all its tilts, for `fused`.

    The model is h = g_h W_h sum_e r_e x_e^gamma + b_h.

    Parameters
    ----------
    volume : array_like (channel, z, x, y)
        x, reconstructed from the maps alone, with a regulariser: counts per unit length.
    maps : DataTerm
        The maps that it was reconstructed from.
    haadf : DataTerm
        h; its `mix` is not used.
    power : float, default 1.0
        gamma, from 1 to 2.

    Returns
    -------
    numpy.ndarray (channel,)
        r, HAADF signal per unit length and (counts per unit length)^gamma; for gamma = 1 the
        response ratios. 0 for an element without counts.

    Raises
    ------
    ValueError
        If the shapes do not fit, there is nothing in the volume, or no element explains any of the
        HAADF.

    Warns
    -----
    UserWarning
        If less than 0.9 of the variance of the HAADF is explained.

    Notes
    -----
    A regulariser lowers a reconstruction. Before the fit each element is scaled so that its
    projections have the counts of its maps: without that the weights are some 10 % too high.
    Iterating the fit with the reconstruction that it leads to changes nothing without this
    correction, and with it diverges, as the HAADF follows the elements that are too bright.

    Elements that are in one fixed proportion everywhere, as oxygen and metals in their oxides,
    cannot be distinguished by their brightness: only the sum of their weights is determined, and
    the reconstruction depends on the single weights as little. For a power above 1 small particles,
    which the reconstruction blurs, get too high a weight; an alternative are the response ratios
    times S^(1 - gamma), S being the signal of the voxels that are full of an element.

    J. Schwartz et al., Nat. Commun. 15 (2024) 3555, doi:10.1038/s41467-024-47558-0, take the
    weights from atomic numbers.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import DataTerm, TiltGeometry, projector
    >>> from hyperspy_multitomo.tomography import regressed_weights
    >>> few = projector(TiltGeometry(range(-70, 71, 35), detector_width=24))
    >>> many = projector(TiltGeometry(range(-70, 71, 10), detector_width=24))
    >>> truth = np.zeros((2, 24, 24, 2))
    >>> truth[0, 8:16, 8:12], truth[1, 8:16, 12:16] = 2.0, 1.0
    >>> images = 9 * many(truth[0]) + 5 * many(truth[1])
    >>> regressed_weights(0.9 * truth, DataTerm(few, few(truth)), DataTerm(many, images)).round(2)
    array([9., 5.])
    """
    brightness, signal = _brightness(volume, maps, haadf, power)
    weights = _fit(brightness, signal)
    if not weights.any():
        raise ValueError(
            "no element of the volume explains any of the HAADF; do both show the same specimen, "
            "on the same grid?"
        )
    explained = 1 - np.var(signal - weights @ brightness, dtype=np.float64) / np.var(
        signal, dtype=np.float64
    )
    if explained < LOW_R_SQUARED:
        warn(
            f"the elements explain only {explained:.2f} of the variance of the HAADF: one that is "
            "bright in it may be missing, "
            "or the images may have a background, or be misaligned with the maps"
        )
    return weights


def scaled_weights(
    relative: ArrayLike, volume: ArrayLike, maps: DataTerm, haadf: DataTerm, *, power: float = 1.0
) -> np.ndarray:
    """Scale known relative weights of the elements to the sum of the HAADF, for `fused`.

    The sums of h and of g_h W_h sum_e r_e x_e^gamma + b_h become equal.

    Parameters
    ----------
    relative : array_like (channel,)
        r up to one common factor, not negative. For gamma = 1 the HAADF cross section of an atom
        over the counts that it gives, which the ionisation cross section, the yield and the
        detector decide.
    volume, maps, haadf, power
        As for `regressed_weights`.

    Returns
    -------
    numpy.ndarray (channel,)
        r, HAADF signal per unit length and (counts per unit length)^gamma.

    Raises
    ------
    ValueError
        If the shapes do not fit, or elements with a weight are absent from the volume, or there is
        no HAADF signal.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import DataTerm, TiltGeometry, projector, scaled_weights
    >>> few = projector(TiltGeometry(range(-70, 71, 35), detector_width=24))
    >>> many = projector(TiltGeometry(range(-70, 71, 10), detector_width=24))
    >>> truth = np.zeros((2, 24, 24, 2))
    >>> truth[0, 8:16, 8:12], truth[1, 8:16, 12:16] = 2.0, 1.0
    >>> images = 9 * many(truth[0]) + 5 * many(truth[1])
    >>> maps, haadf = DataTerm(few, few(truth)), DataTerm(many, images)
    >>> scaled_weights([1.8, 1.0], truth, maps, haadf).round(2)
    array([9., 5.])
    """
    brightness, signal = _brightness(volume, maps, haadf, power)
    relative = np.asarray(relative, np.float64)
    if relative.shape != (len(brightness),) or not (
        np.isfinite(relative).all() and relative.min() >= 0 and relative.any()
    ):
        raise ValueError(
            f"`relative` is {relative.tolist()}; expected {len(brightness)} numbers, one per "
            "channel, none below 0 and some above"
        )
    expected, found = (
        relative @ brightness.sum(axis=1, dtype=np.float64),
        signal.sum(dtype=np.float64),
    )
    if not (expected > 0 and found > 0):
        raise ValueError(
            f"the elements with a weight project to a sum of {expected:g}, and the HAADF less its "
            "background has a sum of "
            f"{found:g}; expected both to be above 0"
        )
    return relative * (found / expected)


def _brightness(
    volume: ArrayLike, maps: DataTerm, haadf: DataTerm, power: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return g_h W_h x_e^gamma, (channel, ray), and h - b_h, (ray,).

    Each x_e is scaled to the counts of its maps.
    """
    volume, power = np.asarray(volume, np.float32), checked_power(power)
    if volume.ndim != 4 or volume.min() < 0 or not volume.any():
        raise ValueError(
            f"`volume` has the shape {volume.shape} and values from {volume.min():g} to "
            f"{volume.max():g}; expected "
            "(channel, z, x, y), not negative and not 0 everywhere, as reconstructed from the maps"
        )
    eds, images = maps.checked(len(volume), "eds"), haadf.checked(len(volume), "haadf")
    projected = eds.gains[:, :, None, None] * eds.A(volume)
    counts = eds.difference(0 if eds.background is None else eds.background)
    found, expected = (np.sum(a, axis=(1, 2, 3), dtype=np.float64) for a in (counts, projected))
    corrections = np.divide(
        np.maximum(found, 0), expected, out=np.ones_like(expected), where=expected > 0
    )
    corrected = volume * corrections[:, None, None, None].astype(np.float32)
    brightness = images.gains[:, :, None, None] * images.A(np.power(corrected, np.float32(power)))
    signal = images.difference(0 if images.background is None else images.background)
    return brightness.reshape(len(volume), -1), signal.ravel()


def _fit(brightness: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the non-negative least-squares fit r of the signal; 0 for channels of 0.

    The normal equations are solved.
    """
    gram = np.einsum("ai,bi->ab", brightness, brightness, dtype=np.float64)
    right = np.einsum("ai,i->a", brightness, signal, dtype=np.float64)
    norms = np.sqrt(np.diag(gram))
    norms[norms == 0] = np.inf
    values, vectors = np.linalg.eigh(gram / np.outer(norms, norms))
    kept = values > 1e-9  # what single precision can tell apart
    roots, vectors = np.sqrt(values[kept]), vectors.T[kept]
    return nnls(roots[:, None] * vectors, vectors @ (right / norms) / roots)[0] / norms
