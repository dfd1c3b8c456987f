# SPDX-License-Identifier: GPL-3.0-or-later
"""The response of the X-ray detector: where a line lies in the spectrum, how wide it is, and its tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf, erfcx, ndtr

from .xray_lines import LineFamily, fwhm

__all__ = ["Detector"]

# Photons above the K edge of silicon are absorbed close enough to the contact to lose part of their charge.
_SILICON_K_EDGE = 1.839
_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
# Part of a Gaussian within one FWHM on each side.
_WITHIN_FWHM = float(erf(2 * np.sqrt(np.log(2))))
# The detectors' response to light elements bends the energy scale over this range (keV).
_BEND = 2.0


@dataclass(frozen=True)
class Detector:
    """
    Energy scale, resolution and tail of a silicon drift detector.

    Attributes
    ----------
    offset : float, default 0
        Correction of the energy scale in keV, added to the energies of the file.
    gain : float, default 1
        Factor of the energies of the file.
    bend : float, default 0
        Correction of the scale in keV at zero energy, falling as exp(-E / 2 keV): light elements.
    resolution : float, default 130
        Full width at half maximum of Mn Ka in eV.
    tail : float, default 0
        Counts in the tail below a line per count in its Gaussian, for lines above the silicon K edge (incomplete charge
        collection).
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
        """Return the true energy (keV) of the channels whose energies the file says."""
        return self.offset + self.gain * energy + self.bend * np.exp(-energy / _BEND)

    def lines(self, family: LineFamily, energy: np.ndarray) -> np.ndarray:
        """
        Return the shape of each line of a family, per count in the line.

        The count of a line is defined by what lies within one FWHM of it: 98.1 % of a Gaussian. So it is what a window or the fit
        of a Gaussian gives, and does not depend on how much of the line is called its tail.

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
        true = self.corrected(energy)
        width = np.gradient(true)
        shapes = np.zeros((len(family.names), energy.size))
        for shape, centre in zip(shapes, family.energies, strict=True):
            sigma = float(fwhm(centre, self.resolution)) * _SIGMA_PER_FWHM
            tail = self.tail if centre > _SILICON_K_EDGE else 0.0
            reach = centre - 7 * sigma - (12 * self.tail_length if tail else 0.0), centre + 7 * sigma
            near = slice(*np.searchsorted(true, reach))
            shape[near] = self._shape(true[near] - centre, sigma, tail) * width[near]
        return shapes

    def _shape(self, distance: np.ndarray, sigma: float, tail: float) -> np.ndarray:
        x = distance / sigma
        bell = np.exp(-(x**2) / 2)
        shape = bell / (sigma * np.sqrt(2 * np.pi))
        if tail > 0:
            # exp(E / length) below the line, convolved with the Gaussian.
            argument = (x + sigma / self.tail_length) / np.sqrt(2)
            # erfcx overflows far below the line, where erfc is 2 and the product the plain exponential.
            far = np.exp(np.minimum(distance / self.tail_length + (sigma / self.tail_length) ** 2 / 2, 0.0)) * 2
            smeared = np.where(argument > -5, bell * erfcx(np.maximum(argument, -5)), far)
            shape = shape + tail * smeared / (2 * self.tail_length)
            shape /= 1 + tail * self._tail_within_fwhm(sigma) / _WITHIN_FWHM
        return shape

    def _tail_within_fwhm(self, sigma: float) -> float:
        width, ratio = np.array([-1, 1]) / _SIGMA_PER_FWHM, sigma / self.tail_length
        below, above = ndtr(width) + np.exp(width * ratio + ratio**2 / 2) * ndtr(-width - ratio)
        return above - below

    def channels(self, energy: np.ndarray, centre: float, half_width: float) -> np.ndarray:
        """Return a mask of the channels whose true energy lies within `half_width` of `centre` (keV)."""
        return np.abs(self.corrected(energy) - centre) <= half_width
