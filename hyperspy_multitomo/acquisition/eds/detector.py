# SPDX-License-Identifier: GPL-3.0-or-later
"""The response of the X-ray detector: position, width and tail of a line in the spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf, erfcx, ndtr

from hyperspy_multitomo.acquisition.eds.xray_lines import LineFamily, fwhm

__all__ = ["Detector"]

# K edge of silicon (keV): photons above it are absorbed near the contact and lose charge there.
_SILICON_K_EDGE = 1.839
_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
# Fraction of a Gaussian within one FWHM on each side.
_WITHIN_FWHM = float(erf(2 * np.sqrt(np.log(2))))
# Decay length (keV) of the bend of the energy scale at the lines of light elements. 1 to 4 move net
# counts by 0.1 % on the simulated spectra of tests/test_elemental.py and by 1 % on the real ones
# (weak peaks 2 %).
_BEND = 2.0


@dataclass(frozen=True)
class Detector:
    """
    Energy scale, resolution and tail of a silicon drift detector.

    Attributes
    ----------
    offset : float, default 0
        Offset of the energy scale in keV, added to the energies of the file.
    gain : float, default 1
        Factor of the energies of the file.
    bend : float, default 0
        Correction in keV at zero energy, which decays as exp(-E / 2 keV), for light elements.
    resolution : float, default 130
        Full width at half maximum of Mn Ka in eV.
    tail : float, default 0
        Counts in the tail below a line per count in its Gaussian, for lines above the silicon K
        edge: incomplete charge collection.
    tail_length : float, default 0.2
        Decay length of the tail in keV.
    """

    offset: float = 0.0
    gain: float = 1.0
    bend: float = 0.0
    resolution: float = 130.0
    tail: float = 0.0
    tail_length: float = 0.2

    def corrected(self, energy: np.ndarray) -> np.ndarray:
        """Return the calibrated energies (keV) for those in the file."""
        return self.offset + self.gain * energy + self.bend * np.exp(-energy / _BEND)

    def lines(self, family: LineFamily, energy: np.ndarray) -> np.ndarray:
        """
        Return the shape of each line of a family, per count in the line.

        The count of a line is defined by the counts within one FWHM of it, 98.1 % of a Gaussian. So
        it is that of a window or of a fitted Gaussian, and independent of what is called the tail.

        Parameters
        ----------
        family : LineFamily
        energy : ndarray (energy,)
            Energies of the file in keV, equally spaced.

        Returns
        -------
        ndarray (line, energy)
            Gaussians and the tails below them.
        """
        line, channel, values = self.profiles(family.energies, energy)
        shapes = np.zeros((len(family.names), energy.size))
        shapes[line, channel] = values
        return shapes

    def profiles(
        self, centres: np.ndarray, energy: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the shapes of lines in the channels where they are not negligible.

        Parameters
        ----------
        centres : ndarray (line,)
            Energies of the lines in keV.
        energy : ndarray (energy,)
            Energies of the file in keV, equally spaced.

        Returns
        -------
        line, channel : ndarray of int (value,)
        values : ndarray (value,)
            Shape of each line in each channel, see `lines`.
        """
        true = self.corrected(energy)
        sigma = fwhm(centres, self.resolution) * _SIGMA_PER_FWHM
        tail = np.where(centres > _SILICON_K_EDGE, self.tail, 0.0)
        first = np.searchsorted(
            true, centres - 7 * sigma - np.where(tail > 0, 12 * self.tail_length, 0.0)
        )
        number = np.searchsorted(true, centres + 7 * sigma) - first
        line = np.repeat(np.arange(len(centres)), number)
        channel = np.arange(line.size) + np.repeat(first - (np.cumsum(number) - number), number)
        distance = true[channel] - centres[line]
        x = distance / sigma[line]
        values = np.exp(-(x**2) / 2) / (sigma * np.sqrt(2 * np.pi))[line]
        tailed = np.flatnonzero((tail > 0)[line])
        if tailed.size:
            of = line[tailed]
            share = tail / (1 + tail * self._tail_within_fwhm(sigma) / _WITHIN_FWHM)
            values[tailed] *= (share / np.where(tail > 0, tail, 1.0))[of]
            values[tailed] += share[of] * self._tail(distance[tailed], x[tailed], sigma[of])
        return line, channel, values * np.gradient(true)[channel]

    def _tail(self, distance: np.ndarray, x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Return exp(E / length) below a line, convolved with the Gaussian; x in sigma, area 1."""
        argument = (x + sigma / self.tail_length) / np.sqrt(2)
        # erfcx overflows far below the line, where erfc is 2 and the product the plain exponential.
        decay = distance / self.tail_length + (sigma / self.tail_length) ** 2 / 2
        far = 2 * np.exp(np.minimum(decay, 0.0))
        smeared = np.where(
            argument > -5, np.exp(-(x**2) / 2) * erfcx(np.maximum(argument, -5)), far
        )
        return smeared / (2 * self.tail_length)

    def _tail_within_fwhm(self, sigma: np.ndarray) -> np.ndarray:
        width, ratio = np.array([[-1], [1]]) / _SIGMA_PER_FWHM, sigma / self.tail_length
        below, above = ndtr(width) + np.exp(width * ratio + ratio**2 / 2) * ndtr(-width - ratio)
        return above - below

    def channels(
        self, energy: np.ndarray, centre: float, half_width: float | np.ndarray
    ) -> np.ndarray:
        """Return a mask of the channels within `half_width` of `centre` (keV, calibrated)."""
        return np.abs(self.corrected(energy) - centre) <= half_width
