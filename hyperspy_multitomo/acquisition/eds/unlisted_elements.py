# SPDX-License-Identifier: GPL-3.0-or-later
"""Identify unlisted elements by strong peaks in the residual of a summed spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.acquisition.eds.background import background_basis
from hyperspy_multitomo.acquisition.eds.detector import Detector
from hyperspy_multitomo.acquisition.eds.line_calibration import (
    MODEL_ERROR,
    fit_spectrum,
    loose_components,
    refine_detector,
    variance_of,
)
from hyperspy_multitomo.acquisition.eds.xray_lines import LineFamily, families_of, fwhm, line_of

__all__ = ["Unlisted", "find_unlisted"]

# Elements of specimens, grids, holders, masks and columns, and rarer ones, whose significance and
# counts have to be _RARER_NEEDS times as high.
_COMMON = "C N O F Na Mg Al Si P S Cl K Ca Ti Cr Mn Fe Co Ni Cu Zn Ga Zr Mo Ag Sn W Pt Au Pb"
_RARER = "V Ge As Se Br Rb Sr Y Nb Ru Rh Pd Cd In Sb Te I Cs Ba La Ce Nd Gd Hf Ta Re Os Ir Hg Bi U"
_RARER_NEEDS = 2.0
# Least height in standard deviations, and least fraction of all counts. These and the constants
# below are tested on simulated and real spectra in tests/test_elemental.py.
_SIGNIFICANCE = 10.0
_FRACTION_OF_COUNTS = 1e-3
# Least fraction of the misfit around a peak that it explains; flanks of a badly fitted neighbour
# explain less.
_EXPLAINED = 0.4
# Least fraction of a peak's shape that listed lines cannot imitate; P Ka beside Pt Ma has less.
_DISTINCT = 0.3
_AT_MOST = 12


@dataclass(frozen=True)
class Unlisted:
    """
    An element with strong peaks that is not listed.

    Attributes
    ----------
    element, line : str
        Symbol, and the line that identifies the element.
    counts : float
        Counts in this line.
    significance : float
        Height above the rest of the model in standard deviations, with the error of the model.
    """

    element: str
    line: str
    counts: float
    significance: float


def find_unlisted(
    counts: np.ndarray,
    energy: np.ndarray,
    families: Sequence[LineFamily],
    beam_energy: float | None = None,
    detector: Detector | None = None,
) -> tuple[tuple[Unlisted, ...], Detector]:
    """
    Find elements whose peaks are in the residual of a summed spectrum.

    Parameters
    ----------
    counts : ndarray (energy,)
        A summed spectrum.
    energy : ndarray (energy,)
        In keV.
    families : sequence of LineFamily
        Families of the listed elements.
    beam_energy : float, optional
        In keV.
    detector : Detector, optional
        Start of the calibration.

    Returns
    -------
    tuple of Unlisted
        The strongest first: at least 10 standard deviations and a thousandth of all counts.
    Detector
        The calibrated detector.

    Notes
    -----
    Elements are added one by one, the one that improves the fit most first. An element is judged by
    the line that `line_of` chooses for it, so that lines in the crowded range below 2 keV need the
    support of those above. The lines of a family have independent amounts here, so that a wrong
    weight in the table is not taken for an element.
    """
    energy_range = (energy[0], energy[-1])
    families = list(families)
    detector = refine_detector(counts, energy, families, detector or Detector(), loose=True)
    candidates = _candidates({family.element for family in families}, beam_energy, energy_range)
    found: list[Unlisted] = []
    while len(found) < _AT_MOST:
        best = _strongest(counts, energy, families, candidates, detector)
        if best is None:
            break
        found.append(best)
        families += families_of(best.element, beam_energy, energy_range)
        del candidates[best.element]
        if len(found) <= 3:
            detector = refine_detector(counts, energy, families, detector, loose=True)
    return tuple(found), detector


def _candidates(listed: set[str], beam_energy, energy_range) -> dict[str, LineFamily]:
    candidates = {}
    for element in f"{_COMMON} {_RARER}".split():
        families = {
            family.main: family for family in families_of(element, beam_energy, energy_range)
        }
        if element not in listed and families:
            candidates[element] = families[line_of(element, beam_energy, energy_range)]
    return candidates


def _strongest(counts, energy, families, candidates, detector) -> Unlisted | None:
    lines, prior = loose_components(families, detector, energy, counts.sum())
    components = np.vstack([lines, background_basis(energy)])
    prior = np.pad(prior, ((0, 0), (0, len(components) - len(lines))))
    amounts, model, _ = fit_spectrum(counts, components, prior)
    weight = 1 / np.sqrt(variance_of(model, 2 * MODEL_ERROR))
    # A candidate competes with the components that are not at their bound of 0.
    active = components[amounts > 0] * weight
    inverse = np.linalg.pinv(active @ active.T, rcond=1e-9, hermitian=True)
    residual = (counts - model) * weight
    best, best_score = None, 0.0
    for element, family in candidates.items():
        shape = (family.weights @ detector.lines(family, energy)) * weight
        distinct = shape - (inverse @ (active @ shape)) @ active
        norm = np.linalg.norm(distinct)
        if norm < _DISTINCT * np.linalg.norm(shape):
            continue
        score = distinct @ residual / norm
        near = detector.channels(
            energy, family.energy, 1.5 * fwhm(family.energy, detector.resolution)
        )
        explained = 1 - np.sum((residual - distinct * score / norm)[near] ** 2) / max(
            np.sum(residual[near] ** 2), 1e-12
        )
        candidate = Unlisted(element, family.main, float(score / norm), float(score))
        rare = _RARER_NEEDS if element in _RARER.split() else 1.0
        enough = candidate.counts > _FRACTION_OF_COUNTS * counts.sum() * rare
        if score > max(_SIGNIFICANCE, best_score) * rare and enough and explained > _EXPLAINED:
            best, best_score = candidate, score / rare
    return best
