# SPDX-License-Identifier: GPL-3.0-or-later
"""The response of the X-ray detector: where a line lies in the spectrum, how wide it is, and its tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx

from .xray_lines import LineFamily, fwhm

__all__ = ["Detector"]

# Photons above the K edge of silicon are absorbed close enough to the contact to lose part of their charge.
_SILICON_K_EDGE = 1.839
_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
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
        Counts in the tail below a line per count in the line, for lines above the silicon K edge (incomplete charge
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

        Parameters
        ----------
        family : LineFamily
        energy : ndarray (energy,)
            Energies of the file in keV, equally spaced.

        Returns
        -------
        ndarray (line, energy)
            Gaussians of unit sum, and the tails below them.
        """
        true = self.corrected(energy)
        width = np.gradient(true)
        sigma = (fwhm(family.energies, self.resolution) * _SIGMA_PER_FWHM)[:, None]
        x = (true - family.energies[:, None]) / sigma
        bell = np.exp(-(x**2) / 2)
        shape = bell / (sigma * np.sqrt(2 * np.pi))
        if self.tail > 0:
            # exp(E / length) below the line, convolved with the Gaussian; erfcx keeps it finite.
            argument = (x + sigma / self.tail_length) / np.sqrt(2)
            smeared = bell * erfcx(np.maximum(argument, -20.0)) / (2 * self.tail_length)
            fraction = np.where(family.energies > _SILICON_K_EDGE, self.tail, 0.0)[:, None]
            shape = shape + fraction * np.where(argument > -20.0, smeared, 0.0)
        return shape * width

    def channels(self, energy: np.ndarray, centre: float, half_width: float) -> np.ndarray:
        """Return a mask of the channels whose true energy lies within `half_width` of `centre` (keV)."""
        return np.abs(self.corrected(energy) - centre) <= half_width
