# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of energy-loss spectra: they must be finite, and positive in their sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["check_losses", "check_sums"]

# Channels over which a summed spectrum is averaged before the check.
_SMOOTHED = 9


def check_losses(spectra: ArrayLike, channels: int, name: str = "spectra") -> np.ndarray:
    """
    Return spectra as an array after checking their channels and that all values are finite.

    Negative values are allowed, as cameras' noise.

    Parameters
    ----------
    spectra : array_like (..., energy)
    channels : int
        Expected number of channels.
    name : str
        For the error messages.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        For the wrong number of channels, and NaN or infinite values.

    Examples
    --------
    >>> check_losses([[1, 0, 2]], 3).shape
    (1, 3)
    """
    spectra = np.asarray(spectra)
    if spectra.ndim < 1 or spectra.shape[-1] != channels:
        raise ValueError(
            f"{name} have the shape {spectra.shape}, but the energy axis has {channels} channels"
        )
    if spectra.dtype.kind == "f" and not np.isfinite(spectra).all():
        raise ValueError(f"{name} contain NaN or infinite values; expected counts")
    return spectra


def check_sums(region_sums: ArrayLike, energy: np.ndarray) -> np.ndarray:
    """
    Return summed spectra (tilt, region, energy) as float64 after checking that they can be counts.

    Raises
    ------
    ValueError
        Where the sum of a tilt is negative over several channels: a background was subtracted, or
        the beam was off.

    Examples
    --------
    >>> check_sums(np.ones((2, 3, 20)), np.arange(20.0)).shape
    (2, 3, 20)
    """
    region_sums = np.asarray(check_losses(region_sums, len(energy), "summed spectra"), dtype=float)
    for tilt, spectrum in enumerate(region_sums.sum(axis=1)):
        smooth = np.convolve(spectrum, np.full(_SMOOTHED, 1 / _SMOOTHED), mode="same")
        if smooth.min() < 0:
            raise ValueError(
                f"the sum of the spectra of tilt number {tilt} is negative around "
                f"{energy[smooth.argmin()]:g} eV; expected counts from which no background was "
                "subtracted, nor more than the offset of the camera"
            )
    return region_sums
