# SPDX-License-Identifier: GPL-3.0-or-later
"""Elemental maps by windows: counts around a line less a background from windows beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.counts import ElementalCounts, apply_rows, check_spectra
from hyperspy_multitomo.acquisition.eds.elemental import LineModel, prepare_fit
from hyperspy_multitomo.acquisition.eds.line_calibration import fit_spectrum
from hyperspy_multitomo.acquisition.eds.xray_lines import fwhm
from hyperspy_multitomo.acquisition.sparse_counts import SparseSpectra

__all__ = ["WindowModel", "background_windows", "prepare_windows"]

# Distance (in FWHM) of a background window from every line: the first of these that leaves room.
_CLEARANCES = (1.2, 1.0, 0.8)
# Largest distance (in FWHM) of a background window from its line.
_REACH = 12.0
# Peaks lower than this fraction of the background below them are ignored. All three are tested in
# tests/test_elemental.py.
_NEGLIGIBLE = 0.1


@dataclass(frozen=True, eq=False)
class WindowModel:
    """
    Windows for the maps of some elements.

    Attributes
    ----------
    fit : LineModel
        The model with the choice of lines, the calibration and the other elements.
    lines : dict
        The line of each element.
    windows : dict
        For each line (left, centre, right): each (low, high) in keV, or None without room for a
        background window.
    """

    fit: LineModel
    lines: dict[str, str]
    windows: dict[str, tuple]

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, in the order of the maps."""
        return tuple(self.lines)

    def maps(self, spectra: ArrayLike | SparseSpectra, tilt: int = 0) -> ElementalCounts:
        """
        Count in the windows of each pixel; arguments and result as for `LineModel.maps`.

        Lines of other elements inside a window are counted as the element's: use the fit where
        lines overlap. The windows are the same at every tilt.
        """
        counts = check_spectra(spectra, self.fit.energy.size)
        net, background, gross = np.split(apply_rows(self.rows(tilt), counts, self.fit.fitted), 3)
        return ElementalCounts(
            self.elements,
            tuple(self.lines.values()),
            net,
            gross,
            background,
            self.fit.window_share(tilt),
        )

    def rows(self, tilt: int = 0) -> np.ndarray:
        """Return the matrix (3 x element, energy) that multiplies a spectrum.

        The product holds net, background and gross counts.
        """
        energy = self.fit.shapes.detector.corrected(self.fit.energy[self.fit.fitted])
        gross = self.fit.windows.astype(float)
        background = []
        for window, (left, centre, right) in zip(gross, self.windows.values(), strict=True):
            sides = [
                ((energy >= low) & (energy <= high)).astype(float)
                for low, high in filter(None, (left, right))
            ]
            middles = [np.mean(side) for side in filter(None, (left, right))]
            # A straight line through the mean counts per channel of the two windows.
            shares = [1.0]
            if len(sides) == 2:
                right_share = (np.mean(centre) - middles[0]) / (middles[1] - middles[0])
                shares = [1 - right_share, right_share]
            row = sum(
                (share * side / side.sum() for share, side in zip(shares, sides, strict=True)),
                np.zeros(energy.size),
            )
            background.append(row * window.sum())
        net = (gross - background) / self.fit.window_share(tilt)[:, None]
        return np.vstack([net, background, gross])


def background_windows(
    centre: float,
    width: float,
    obstacles: ArrayLike,
    obstacle_widths: ArrayLike,
    energy_range: tuple[float, float],
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """
    Place a window on each side of a line, as near as the other lines allow.

    Parameters
    ----------
    centre, width : float
        Energy and FWHM of the line in keV; a background window is one FWHM wide.
    obstacles, obstacle_widths : array_like (line,)
        Energies and FWHM in keV of all lines that are present, with those of the line's family.
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
    [6.12, 6.25, 6.56, 6.69]
    """
    lines, widths = np.asarray(obstacles), np.asarray(obstacle_widths)
    sides: list[tuple[float, float] | None] = [None, None]
    for side, direction in enumerate((-1, 1)):
        for clearance in _CLEARANCES:
            low = (
                centre
                + direction * np.arange(clearance + 0.5, _REACH, 0.05)[:, None] * width
                - width / 2
            )
            keep_off = clearance * widths
            free = np.all((lines + keep_off <= low) | (lines - keep_off >= low + width), axis=1)
            free &= ((low >= energy_range[0]) & (low + width <= energy_range[1]))[:, 0]
            if free.any():
                nearest = float(low[np.argmax(free), 0])
                sides[side] = (nearest, nearest + width)
                break
    return sides[0], sides[1]


def prepare_windows(summed_spectra: ArrayLike, energy: ArrayLike, **settings) -> WindowModel:
    """
    Choose the windows for elemental maps.

    Parameters
    ----------
    summed_spectra, energy, **settings
        As for `prepare_fit`, also its warning of strong unlisted elements, whose lines are avoided
        as well.

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
    obstacles = _present_lines(fit)
    windows = {}
    for line in fit.lines.values():
        centre = fit.shapes.families[fit.families.index(line)].energy
        width = float(fwhm(centre, detector.resolution))
        limits = (float(axis[0]), float(axis[-1]))
        left, right = background_windows(
            centre, width, obstacles, fwhm(obstacles, detector.resolution), limits
        )
        if left is None and right is None:
            raise ValueError(
                f"there is no room for a background window beside {line}; use method='fit'"
            )
        windows[line] = (left, (centre - width, centre + width), right)
    return WindowModel(fit, fit.lines, windows)


def _present_lines(fit: LineModel) -> np.ndarray:
    """Return the energies (keV) of the lines that rise above the background of the series."""
    energy = fit.energy[fit.fitted]
    spectrum, background = fit.spectra.sum(0), fit.background.sum(0)
    amounts, _, _ = fit_spectrum(spectrum, np.vstack([fit.shapes.on(energy), background]))
    floor = _NEGLIGIBLE * np.maximum(background, 1.0)
    present = [family.energy for family in fit.shapes.families if family.main in fit.lines.values()]
    for family, amount in zip(fit.shapes.families, amounts, strict=False):
        peaks = amount * family.weights[:, None] * fit.shapes.detector.lines(family, energy)
        present += family.energies[np.any(peaks > floor, axis=1)].tolist()
    return np.unique(present)
