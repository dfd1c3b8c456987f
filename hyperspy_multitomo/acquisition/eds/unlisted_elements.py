# SPDX-License-Identifier: GPL-3.0-or-later
"""Strong peaks of elements that nobody listed: found in the residual of a summed spectrum and named."""

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

# What specimens, grids, holders, masks and columns are made of, and what needs a better reason to
# be believed.
_COMMON = "C N O F Na Mg Al Si P S Cl K Ca Ti Cr Mn Fe Co Ni Cu Zn Ga Zr Mo Ag Sn W Pt Au Pb"
_RARER = "V Ge As Se Br Rb Sr Y Nb Ru Rh Pd Cd In Sb Te I Cs Ba La Ce Nd Gd Hf Ta Re Os Ir Hg Bi U"
_RARER_NEEDS = 2.0
_SIGNIFICANCE = 10.0
_PART_OF_ALL_COUNTS = 1e-3
# A peak explains most of the misfit around it; the flanks of a misfitted neighbour do not look like
# one.
_EXPLAINED = 0.4
# Part of a peak's shape that no listed line can imitate; P Ka beside Pt Ma has less.
_DISTINCT = 0.3
_AT_MOST = 12


@dataclass(frozen=True)
class Unlisted:
    """
    An element that was found though nobody listed it.

    Attributes
    ----------
    element, line : str
        And the line by which it was found.
    counts : float
        Counts in this line.
    significance : float
        Height above the rest of the model in standard deviations, the errors of the model included.
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
    Find elements whose peaks stand in the residual of a summed spectrum.

    Parameters
    ----------
    counts : ndarray (energy,)
        A summed spectrum.
    energy : ndarray (energy,)
        In keV.
    families : sequence of LineFamily
        Of the listed elements.
    beam_energy : float, optional
        In keV.
    detector : Detector, optional
        Where to start its calibration.

    Returns
    -------
    tuple of Unlisted
        The strongest first: at least 10 standard deviations and a thousandth of all counts.
    Detector
        Calibrated on the way.

    Notes
    -----
    Elements are added one by one, the one that improves the fit most first, judged by the line that
    would stand for it (`line_of`), so that lines in the crowded range below 2 keV need the support
    of those above. The lines of all families have amounts of their own here, so that a wrong weight
    in the table does not pass for an element.
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
    # Only what the fit may still change competes with a candidate.
    active = components[amounts > 0] * weight
    inverse = np.linalg.pinv(active @ active.T, rcond=1e-9, hermitian=True)
    residual = (counts - model) * weight
    best, best_score = None, 0.0
    for element, family in candidates.items():
        shape = (family.weights @ detector.lines(family, energy)) * weight
        own = shape - (inverse @ (active @ shape)) @ active
        norm = np.linalg.norm(own)
        if norm < _DISTINCT * np.linalg.norm(shape):
            continue
        score = own @ residual / norm
        near = detector.channels(
            energy, family.energy, 1.5 * fwhm(family.energy, detector.resolution)
        )
        explained = 1 - np.sum((residual - own * score / norm)[near] ** 2) / max(
            np.sum(residual[near] ** 2), 1e-12
        )
        found = Unlisted(element, family.main, float(score / norm), float(score))
        rare = _RARER_NEEDS if element in _RARER.split() else 1.0
        enough = found.counts > _PART_OF_ALL_COUNTS * counts.sum() * rare
        if score > max(_SIGNIFICANCE, best_score) * rare and enough and explained > _EXPLAINED:
            best, best_score = found, score / rare
    return best
