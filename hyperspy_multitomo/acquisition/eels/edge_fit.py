# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge maps by linear least squares: one estimator per tilt, a matrix product per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from hyperspy_multitomo.acquisition.counts import ElementalCounts, apply_rows
from hyperspy_multitomo.acquisition.eds.line_calibration import fit_spectrum, variance_of
from hyperspy_multitomo.acquisition.eels.edge_background import Background, background_of
from hyperspy_multitomo.acquisition.eels.edge_shapes import cross_sections, fine_structure
from hyperspy_multitomo.acquisition.eels.edges import (
    MARGIN,
    Edge,
    channels_within,
    integration_ranges,
)
from hyperspy_multitomo.acquisition.eels.loss_spectra import check_losses, check_sums

__all__ = ["EdgeModel", "prepare_edge_fit"]

# Default range of the fit, relative to the first and the last onset. 0.7 to 0.9 and 1.1 to 1.5 move
# the net counts of benchmarks/edge_maps.py by 2 % at 300 counts of background per pixel, by 6 % at
# 3 counts, and those of O K above V L3 by 17 %.
_BELOW, _ABOVE = 0.8, 1.25
# Least range (eV) before the first edge that determines the background.
_LEAST_BEFORE = 15.0
# Relative standard deviation of an edge from its cross section near the onset. In
# benchmarks/edge_maps.py 0.3 to 3 are the same to 1 % at 300 counts of background per pixel. At 3
# counts the bias of O K is +14 % for 0.5, +7 % for 1 and +5 % for 2; above V L3, whose white lines
# it overlaps, +26 %, +9 % and -8 %.
_FINE_STRUCTURE_ERROR = 1.0
_EXPONENTS = np.arange(-1.0, 9.0)
# Groups of regions, and the standard deviations of their sum of squares above which their exponents
# differ significantly. 4 to 16 and 1.5 to 6 change no decision in benchmarks/edge_maps.py.
_GROUPS, _DIFFERENT = 8, 3.0


@dataclass(frozen=True, eq=False)
class EdgeModel:
    """
    The model of the spectra of a tilt series, ready to be applied to the pixels of each tilt.

    Attributes
    ----------
    channels : int
        Number of channels of the data.
    fitted : slice
        The channels that are fitted.
    energy : ndarray (energy,)
        Energy losses of the fitted channels, eV.
    edges : tuple of Edge
        The edges that are mapped.
    windows : ndarray (edge, energy), bool
        The channels in which each edge is counted.
    shapes : ndarray (edge and also, energy)
        Shape of each edge per count in its window; edges that are fitted but not mapped are last.
    background : Background
    spectra : ndarray (tilt, energy)
        The summed spectra.
    exponents : ndarray (tilt,)
        Exponents of their backgrounds.
    terms : int
        1, or 2 where the exponents differ within the images: the amount of the background in a
        pixel, and its exponent to first order.
    """

    channels: int
    fitted: slice
    energy: np.ndarray
    edges: tuple[Edge, ...]
    windows: np.ndarray
    shapes: np.ndarray
    background: Background
    spectra: np.ndarray
    exponents: np.ndarray
    terms: int

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, in the order of the maps."""
        return tuple(edge.element for edge in self.edges)

    def maps(self, spectra: ArrayLike, tilt: int = 0) -> ElementalCounts:
        """
        Estimate the counts of each edge in each pixel of one tilt.

        Parameters
        ----------
        spectra : array_like (..., energy)
            Counts of all channels, nothing subtracted.
        tilt : int, default 0
            Index of the tilt in the summed spectra of the model.

        Returns
        -------
        ElementalCounts
            Arrays (edge, ...), float32. Net counts in the window of each edge, unbiased at any
            number of counts; they may be negative by noise.

        Raises
        ------
        ValueError
            For the wrong number of channels, and NaN or infinite counts.
        """
        spectra = check_losses(spectra, self.channels)
        components, estimator = self.estimator(tilt)
        n = len(self.edges)
        windows = self.windows.astype(float)
        # Background in the window of each edge: all components but the edge.
        others = windows @ components.T
        others[np.arange(n), np.arange(n)] = 0.0
        rows = np.vstack([estimator[:n], others @ estimator, windows])
        net, expected, gross = np.split(apply_rows(rows, spectra, self.fitted), 3)
        return ElementalCounts(
            self.elements, tuple(edge.name for edge in self.edges), net, gross, expected, np.ones(n)
        )

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return net counts of the summed spectra and their standard errors, both (tilt, edge).

        The errors include those of the exponents.
        """
        net, errors = [], []
        for tilt, spectrum in enumerate(self.spectra):
            rows = self.estimator(tilt, terms=2)[1][: len(self.edges)]
            net.append(rows @ spectrum)
            errors.append(np.sqrt(rows**2 @ spectrum))
        return np.array(net), np.array(errors)

    def modelled(self, tilt: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the fit to a tilt's summed spectrum and the background in it, both (energy,)."""
        components, estimator = self.estimator(tilt)
        amounts = estimator @ self.spectra[tilt]
        below = len(self.shapes)
        return amounts @ components, amounts[below:] @ components[below:]

    def estimator(self, tilt: int = 0, terms: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the components and the weighted least-squares estimator of their amounts.

        Both have the shape (component, energy).
        """
        falling = self.background.shape(self.energy, self.exponents[tilt])
        parts = [falling, falling * self.background.u(self.energy)][: terms or self.terms]
        components = np.vstack([self.shapes, *parts])
        _, model, _ = fit_spectrum(
            self.spectra[tilt], np.vstack([self.shapes, falling]), model_error=0.0
        )
        weight = 1 / np.sqrt(variance_of(model))
        weighted = components * weight
        scale = np.linalg.norm(weighted, axis=1)[:, None]
        return components, np.linalg.pinv((weighted / scale).T, rcond=1e-6) / scale * weight


def prepare_edge_fit(
    region_sums: ArrayLike,
    energy: ArrayLike,
    edges: Sequence[Edge],
    *,
    also: Sequence[Edge] = (),
    width: float = 50.0,
    integration_windows: Mapping[str, tuple[float, float]] | None = None,
    background: str = "PowerLaw",
    energy_range: tuple[float, float] | None = None,
    **microscope,
) -> EdgeModel:
    """
    Fit backgrounds and shapes of the edges to the summed spectra of a tilt series.

    Parameters
    ----------
    region_sums : array_like (tilt, region, energy)
        Spectra summed over a grid of regions (`region_spectra`) of each tilt.
    energy : array_like (energy,)
        Energy loss of each channel in eV.
    edges, also : sequence of Edge
        Edges to map, and other edges in the spectra, which are fitted but not mapped.
    width : float, default 50
        Width in eV of the windows above the onsets in which the edges are counted.
    integration_windows : dict of str to (float, float), optional
        Windows in eV for some edges, in place of the default.
    background : {"PowerLaw", "Exponential"}, default "PowerLaw"
        Model of the background below all edges.
    energy_range : (float, float), optional
        Energy losses in eV to fit; by default from 0.8 of the first onset to 1.25 of the last.
    **microscope
        ``beam_energy``, ``convergence_angle`` and ``collection_angle`` for `cross_sections`.

    Returns
    -------
    EdgeModel

    Raises
    ------
    ValueError
        For negative sums, ranges and windows outside the data or without channels, no room before
        the first edge, and edges other than K and L3.

    Notes
    -----
    The non-linear parameters are fitted to sums, where they are well determined: the shape of each
    edge (hydrogenic, and near the onset measured on the series) and the exponent of each tilt. The
    amounts in a pixel are linear in its counts, hence unbiased if these shapes are right. A second
    background term is added where the regions' exponents differ significantly.
    """
    energy = np.asarray(energy, dtype=float)
    region_sums = check_sums(region_sums, energy)
    every = (*edges, *also)
    windows = integration_ranges(edges, width, integration_windows)
    ends = integration_ranges(every, width) | windows
    fitted = _fitted_range(energy, every, ends, energy_range)
    energy, channels = energy[fitted], energy.size
    masks = [
        channels_within(energy, ends[edge.name], f"the integration window of {edge.name}")
        for edge in every
    ]
    spectra = region_sums[..., fitted].sum(axis=1)
    model = background_of(background, energy)
    shapes = _edge_shapes(
        spectra.sum(axis=0), energy, every, model, cross_sections(every, energy, **microscope)
    )
    shapes /= np.sum(shapes * masks, axis=1, keepdims=True)
    exponents = np.array([_exponent(spectrum, energy, shapes, model) for spectrum in spectra])
    fit = EdgeModel(
        channels,
        fitted,
        energy,
        tuple(edges),
        np.array(masks[: len(edges)]),
        shapes,
        model,
        spectra,
        exponents,
        1,
    )
    terms = 2 if _exponents_differ(fit, region_sums[..., fitted]) else 1
    return EdgeModel(
        channels, fitted, energy, fit.edges, fit.windows, shapes, model, spectra, exponents, terms
    )


def _fitted_range(energy, edges, windows, energy_range) -> slice:
    """Return the channels to fit, after a check that there is enough background."""
    first, last = min(edge.onset for edge in edges), max(edge.onset for edge in edges)
    if energy_range is None:
        high = max(_ABOVE * last, *(window[1] for window in windows.values()))
        energy_range = max(energy[0], _BELOW * first), min(energy[-1], high)
    chosen = np.flatnonzero(channels_within(energy, energy_range, "energy_range"))
    fitted = slice(int(chosen[0]), int(chosen[-1]) + 1)
    if energy[fitted][0] > first - MARGIN - _LEAST_BEFORE:
        raise ValueError(
            f"the fit begins at {energy[fitted][0]:g} eV, too close to the first edge at {first:g} "
            f"eV: {MARGIN + _LEAST_BEFORE:g} eV of background are needed before it; record or pass "
            "a wider range, or drop this edge"
        )
    return fitted


def _edge_shapes(total, energy, edges, background, sections) -> np.ndarray:
    """Return the shapes (edge, energy) of the edges.

    They are cross sections, fitted near the onset to the sum of all spectra.
    """
    exponent = _exponent(total, energy, sections, background)
    plain, _, _ = fit_spectrum(
        total, np.vstack([sections, background.shape(energy, exponent)]), model_error=0.0
    )
    onsets = np.array([edge.onset for edge in edges])
    parts = [
        fine_structure(edge, energy, section, np.min(onsets[onsets > edge.onset], initial=np.inf))
        for edge, section in zip(edges, sections, strict=True)
    ]
    ends = np.cumsum([len(part) for part in parts])
    stacked = np.vstack(parts)
    # Prior: the amount of each part equals that of the last, the tail of the edge, within an error.
    prior = np.zeros((len(stacked), len(stacked) + 1))
    for part, end, amount in zip(parts, ends, plain, strict=False):
        rows = np.arange(end - len(part), end)
        weight = 1 / (_FINE_STRUCTURE_ERROR * max(amount, 1e-6 * plain[:-1].max(), 1e-30))
        prior[rows, rows], prior[rows, end - 1] = weight, prior[rows, end - 1] - weight
        prior[end - 1, end - 1] = 0.0
    exponent = _exponent(total, energy, stacked, background, prior)
    amounts, _, _ = fit_spectrum(
        total, np.vstack([stacked, background.shape(energy, exponent)]), prior, model_error=0.0
    )
    shapes = []
    for part, end, section in zip(parts, ends, sections, strict=True):
        shape = amounts[end - len(part) : end] @ part
        # An absent edge keeps the shape of its cross section.
        shapes.append(shape if shape.sum() > 1e-3 * np.sqrt(total.sum()) else section)
    return np.array(shapes)


def _exponent(counts, energy, shapes, background, prior=None) -> float:
    """Return the exponent of the best fit of edges and background, by the Poisson deviance."""

    def deviance(exponent) -> float:
        components = np.vstack([shapes, background.shape(energy, exponent)])
        _, model, _ = fit_spectrum(counts, components, prior, model_error=0.0)
        model = np.maximum(model, 1e-9 * max(model.max(), 1e-30))
        return float(np.sum(model - counts * np.log(model)))

    if not counts.any():
        return 0.0
    best = _EXPONENTS[np.argmin([deviance(exponent) for exponent in _EXPONENTS])]
    return float(
        minimize_scalar(
            deviance, bounds=(best - 1, best + 1), method="bounded", options={"xatol": 1e-4}
        ).x
    )


def _exponents_differ(fit: EdgeModel, region_sums: np.ndarray) -> bool:
    """Return whether exponents differ significantly between thick and thin regions."""
    sums, variances = np.zeros(_GROUPS), np.zeros(_GROUPS)
    for tilt, regions in enumerate(region_sums):
        row = fit.estimator(tilt, terms=2)[1][-1]
        # Few large groups show differences that are below the noise of many small ones.
        thin_to_thick = regions[np.argsort(regions.sum(axis=1))]
        for group, members in enumerate(np.array_split(thin_to_thick, _GROUPS)):
            sums[group] += members.sum(axis=0) @ row
            variances[group] += members.sum(axis=0) @ row**2
    known = variances > 0
    squares = np.sum(sums[known] ** 2 / variances[known])
    return bool(squares > known.sum() + _DIFFERENT * np.sqrt(2 * known.sum()))
