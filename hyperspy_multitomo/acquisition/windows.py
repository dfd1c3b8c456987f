# SPDX-License-Identifier: GPL-3.0-or-later
"""Elemental maps by windows: counts around a line less those of two windows beside it, moved off every other line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .counts import ElementalCounts, apply_rows, check_spectra
from .elemental import LineModel, prepare_fit
from .xray_lines import fwhm

__all__ = ["WindowModel", "background_windows", "prepare_windows"]

# A background window keeps this distance (in FWHM) from every line, and lies within that distance of its own.
_CLEARANCE = 0.85
_REACH = 12.0
# Lines weaker than this, relative to the main line of their family, do not move a window.
_NEGLIGIBLE = 0.02


@dataclass(frozen=True, eq=False)
class WindowModel:
    """
    Windows for the maps of some elements.

    Attributes
    ----------
    fit : LineModel
        The model that chose lines, calibration and what else is present.
    lines : dict
        The line of each element.
    windows : dict
        For each line (left, centre, right): each (low, high) in keV, None where there is no room for a background window.
    """

    fit: LineModel
    lines: dict[str, str]
    windows: dict[str, tuple]

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, in the order of the maps."""
        return tuple(self.lines)

    def maps(self, spectra: ArrayLike, tilt: int = 0) -> ElementalCounts:
        """
        Count in the windows of each pixel; `spectra` (..., energy) and the result are those of `LineModel.maps`.

        Lines of other elements inside the window count as the element's own: use the fit where lines overlap. The windows are
        the same at every tilt.
        """
        spectra = check_spectra(spectra, self.fit.energy.size)
        net, background, gross = np.split(apply_rows(self.rows(tilt), spectra[..., self.fit.fitted]), 3)
        return ElementalCounts(self.elements, tuple(self.lines.values()), net, gross, background, self.fit.window_share(tilt))

    def rows(self, tilt: int = 0) -> np.ndarray:
        """Return the rows (3 x element, energy) whose product with a spectrum gives net, background and gross counts."""
        energy = self.fit.shapes.detector.corrected(self.fit.energy[self.fit.fitted])
        gross = self.fit.windows.astype(float)
        background = []
        for own, (left, centre, right) in zip(gross, self.windows.values(), strict=True):
            sides = [((energy >= low) & (energy <= high)).astype(float) for low, high in filter(None, (left, right))]
            middles = [np.mean(side) for side in filter(None, (left, right))]
            # A straight line through the mean counts per channel of the two windows.
            shares = [1.0]
            if len(sides) == 2:
                right_share = (np.mean(centre) - middles[0]) / (middles[1] - middles[0])
                shares = [1 - right_share, right_share]
            row = sum((share * side / side.sum() for share, side in zip(shares, sides, strict=True)), np.zeros(energy.size))
            background.append(row * own.sum())
        net = (gross - background) / self.fit.window_share(tilt)[:, None]
        return np.vstack([net, background, gross])


def background_windows(
    centre: float, width: float, obstacles: Sequence[float], obstacle_widths: Sequence[float], energy_range: tuple[float, float]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """
    Place a window on each side of a line, as near as the other lines allow.

    Parameters
    ----------
    centre, width : float
        Energy and FWHM of the line in keV; a background window is one FWHM wide.
    obstacles, obstacle_widths : sequence of float
        Energies and FWHM of all lines that are present, the line's own family included.
    energy_range : (float, float)
        In keV.

    Returns
    -------
    left, right : (float, float) or None
        In keV; None where there is no room within 12 FWHM.

    Examples
    --------
    >>> left, right = background_windows(6.404, 0.13, [6.404, 7.058], [0.13, 0.135], (0.2, 20))
    >>> [round(side, 2) for side in (*left, *right)]
    [6.14, 6.27, 6.55, 6.68]
    """
    keep_off = np.asarray(obstacle_widths) * _CLEARANCE
    obstacles = np.asarray(obstacles)
    sides = []
    for direction in (-1, 1):
        place = None
        for step in np.arange(1.5 if direction < 0 else 1.6, _REACH, 0.05):
            low = centre + direction * step * width - width / 2
            free = np.all((obstacles + keep_off <= low) | (obstacles - keep_off >= low + width))
            if free and low >= energy_range[0] and low + width <= energy_range[1]:
                place = (float(low), float(low + width))
                break
        sides.append(place)
    return sides[0], sides[1]


def prepare_windows(summed_spectra: ArrayLike, energy: ArrayLike, **settings) -> WindowModel:
    """
    Choose the windows for elemental maps.

    Parameters
    ----------
    summed_spectra, energy, **settings
        As for `prepare_fit`; the same warning names strong unlisted elements, whose lines are avoided as well.

    Returns
    -------
    WindowModel

    Raises
    ------
    ValueError
        As for `prepare_fit`, and for a line with no room for a background window on either side.
    """
    fit = prepare_fit(summed_spectra, energy, **settings)
    detector = fit.shapes.detector
    axis = detector.corrected(fit.energy[fit.fitted])
    present = [family.energies[family.weights >= _NEGLIGIBLE] for family in fit.shapes.families]
    obstacles = np.concatenate(present)
    windows = {}
    for line in fit.lines.values():
        centre = fit.shapes.families[fit.families.index(line)].energy
        width = float(fwhm(centre, detector.resolution))
        limits = (float(axis[0]), float(axis[-1]))
        left, right = background_windows(centre, width, obstacles, fwhm(obstacles, detector.resolution), limits)
        if left is None and right is None:
            raise ValueError(f"there is no room for a background window beside {line}; use method='fit'")
        windows[line] = (left, (centre - width, centre + width), right)
    return WindowModel(fit, fit.lines, windows)
