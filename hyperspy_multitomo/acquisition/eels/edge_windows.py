# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge maps by windows: counts above an onset less a background extrapolated from before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.counts import ElementalCounts, apply_rows
from hyperspy_multitomo.acquisition.eels.edge_background import Background, background_of, shrink
from hyperspy_multitomo.acquisition.eels.edges import (
    MARGIN,
    Edge,
    background_ranges,
    channels_within,
    integration_ranges,
)
from hyperspy_multitomo.acquisition.eels.loss_spectra import check_losses, check_sums
from hyperspy_multitomo.machine.notices import warn

__all__ = ["EdgeWindows", "prepare_edge_windows"]

# Range (eV) above its onset where an edge is too far from a power law to be background.
_NEAR_ONSET = 20.0


@dataclass(frozen=True, eq=False)
class EdgeWindows:
    """
    The windows of each edge and the exponents of the backgrounds at each tilt.

    Attributes
    ----------
    energy : ndarray (energy,)
        In eV.
    edges : tuple of Edge
    integration, before : ndarray (edge, energy), bool
        Channels of the windows above the onset and before it.
    backgrounds : tuple of Background
        One for each edge.
    spectra : ndarray (tilt, region, energy)
        Spectra summed over a grid of regions.
    exponents : ndarray (tilt, edge, region)
        Exponents of the background in each region, shrunk towards that of the tilt as far as their
        scatter is noise.
    variances : ndarray (tilt, edge)
        Variances of the exponents of the tilts' summed spectra.
    regions : int
        Regions along each side of the image.
    """

    energy: np.ndarray
    edges: tuple[Edge, ...]
    integration: np.ndarray
    before: np.ndarray
    backgrounds: tuple[Background, ...]
    spectra: np.ndarray
    exponents: np.ndarray
    variances: np.ndarray
    regions: int

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, in the order of the maps."""
        return tuple(edge.element for edge in self.edges)

    def maps(self, spectra: ArrayLike, tilt: int = 0) -> ElementalCounts:
        """
        Estimate the counts of each edge in each pixel of one tilt.

        Parameters
        ----------
        spectra : array_like (y, x, energy)
            Counts of all channels, nothing subtracted.
        tilt : int, default 0
            Index of the tilt in the summed spectra.

        Returns
        -------
        ElementalCounts
            Arrays (edge, y, x), float32; the net counts may be negative by noise.

        Raises
        ------
        ValueError
            For the wrong number of channels, and NaN or infinite counts.
        """
        spectra = check_losses(spectra, self.energy.size)
        gross, before = np.split(apply_rows(np.vstack([self.integration, self.before]), spectra), 2)
        expected = before * np.array(
            [self._factors(tilt, i, spectra.shape[:2]) for i in range(len(self.edges))], np.float32
        )
        names = tuple(edge.name for edge in self.edges)
        return ElementalCounts(
            self.elements, names, gross - expected, gross, expected, np.ones(len(names))
        )

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return net counts of the summed spectra and their standard errors, both (tilt, edge).

        The errors include those of the exponents.
        """
        gross = np.einsum("tre,ke->tkr", self.spectra, self.integration)
        before = np.einsum("tre,ke->tkr", self.spectra, self.before)
        factors, slopes = np.empty(self.exponents.shape), np.empty(self.exponents.shape)
        for i in range(len(self.edges)):
            factors[:, i], slopes[:, i] = self._extrapolation(i, self.exponents[:, i])
        net = (gross - before * factors).sum(axis=-1)
        counting = (gross + before * factors**2).sum(axis=-1)
        leverage = (before * slopes).sum(axis=-1)
        # Where there are no counts the variance of the exponent is infinite and its leverage zero.
        return net, np.sqrt(counting + leverage**2 * np.where(leverage == 0, 0.0, self.variances))

    def _extrapolation(self, edge: int, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return background above the onset per count before it, and the derivative by exponent.

        Both have the shape of `exponents`.
        """
        background = self.backgrounds[edge]
        sums = []
        for channels in (self.integration[edge], self.before[edge]):
            u = background.u(self.energy[channels])
            shape = np.exp(-exponents[..., None] * u)
            sums.append((shape.sum(axis=-1), -(shape * u).sum(axis=-1)))
        (above, above_slope), (below, below_slope) = sums
        return above / below, (above_slope * below - above * below_slope) / below**2

    def _factors(self, tilt: int, edge: int, shape: tuple[int, int]) -> np.ndarray:
        """Return background above the onset per count before it, (y, x).

        It is interpolated between the centres of the regions.
        """
        factors = self._extrapolation(edge, self.exponents[tilt, edge])[0]
        grid = factors.reshape([min(self.regions, size) for size in shape])
        for axis, size in enumerate(shape):
            borders = np.linspace(0, size, grid.shape[axis] + 1).astype(int)
            centres = (borders[:-1] + borders[1:] - 1) / 2
            weights = np.array(
                [np.interp(np.arange(size), centres, unit) for unit in np.eye(len(centres))]
            )
            grid = np.moveaxis(np.tensordot(weights, grid, axes=(0, axis)), 0, axis)
        return grid


def prepare_edge_windows(
    region_sums: ArrayLike,
    energy: ArrayLike,
    edges: Sequence[Edge],
    *,
    also: Sequence[Edge] = (),
    width: float = 50.0,
    integration_windows: Mapping[str, tuple[float, float]] | None = None,
    background_windows: Mapping[str, tuple[float, float]] | None = None,
    background: str = "PowerLaw",
    regions: int = 8,
) -> EdgeWindows:
    """
    Choose the windows of edge maps and fit the exponents of the backgrounds.

    Parameters
    ----------
    region_sums : array_like (tilt, region, energy)
        Spectra summed over a grid of regions (`region_spectra`) of each tilt.
    energy : array_like (energy,)
        Energy loss of each channel in eV.
    edges, also : sequence of Edge
        Edges to map, and other edges in the spectra, which the windows have to avoid. See
        `resolve_edges`.
    width : float, default 50
        Width in eV of the windows above the onsets.
    integration_windows, background_windows : dict of str to (float, float), optional
        Windows in eV for some edges, in place of the default.
    background : {"PowerLaw", "Exponential"}, default "PowerLaw"
        Model that is extrapolated.
    regions : int, default 8
        Regions along each side of the image in `region_sums`.

    Returns
    -------
    EdgeWindows

    Raises
    ------
    ValueError
        For negative sums, windows outside the data or of fewer than two channels, background
        windows that reach over their onset, and windows with another listed edge in them.

    Notes
    -----
    Exponents fitted in single pixels are biased at low counts, and the extrapolation magnifies the
    bias. Here they come from sums: one exponent for each tilt and edge, and one for each region,
    shrunk towards the former as far as their scatter is noise. The maps are linear in the counts,
    and so unbiased at any number of counts if the exponents are right.
    """
    energy = np.asarray(energy, dtype=float)
    region_sums = check_sums(region_sums, energy)
    integration = integration_ranges(edges, width, integration_windows)
    every = (*edges, *also)
    _check_integration(edges, every, integration)
    before = background_ranges(edges, (energy[0], energy[-1]), background_windows, also=also)
    above_masks = [
        channels_within(energy, integration[e.name], f"the integration window of {e.name}")
        for e in edges
    ]
    before_masks = [
        channels_within(energy, before[e.name], f"the background window of {e.name}") for e in edges
    ]
    _check_background(edges, every, before)
    backgrounds = tuple(background_of(background, energy[mask]) for mask in before_masks)
    n_tilts, n_regions = region_sums.shape[:2]
    exponents = np.empty((n_tilts, len(edges), n_regions))
    variances = np.empty((n_tilts, len(edges)))
    for i, (model, mask) in enumerate(zip(backgrounds, before_masks, strict=True)):
        counts = region_sums[..., mask]
        whole, variances[:, i] = model.exponents(energy[mask], counts.sum(axis=1))
        local, local_variances = model.exponents(energy[mask], counts)
        for tilt in range(n_tilts):
            exponents[tilt, i] = shrink(local[tilt], local_variances[tilt], whole[tilt])[0]
    return EdgeWindows(
        energy,
        tuple(edges),
        np.array(above_masks),
        np.array(before_masks),
        backgrounds,
        region_sums,
        exponents,
        variances,
        regions,
    )


def _check_integration(edges: Sequence[Edge], every: Sequence[Edge], windows: Mapping) -> None:
    """Refuse integration windows with the onset of another edge in them."""
    for edge in edges:
        low, high = windows[edge.name]
        for other in every:
            if other.element != edge.element and low < other.onset < high:
                raise ValueError(
                    f"the integration window of {edge.name}, {low:g} to {high:g} eV, holds the "
                    f"onset of {other.name} at {other.onset:g} eV, whose counts would be taken for "
                    f"{edge.element}; pass integration_windows={{'{edge.name}': ({low:g}, "
                    f"{other.onset - MARGIN:g})}}, or method='fit', which tells them apart"
                )


def _check_background(edges: Sequence[Edge], every: Sequence[Edge], windows: Mapping) -> None:
    """Refuse background windows with another onset in them; warn of those on fine structure."""
    for edge in edges:
        low, high = windows[edge.name]
        for other in every:
            if other.element == edge.element:
                continue
            if low < other.onset < high:
                raise ValueError(
                    f"the background window of {edge.name}, {low:g} to {high:g} eV, holds the "
                    f"onset of {other.name} at {other.onset:g} eV; move it, or use method='fit'"
                )
            if 0 <= low - other.onset < _NEAR_ONSET:
                warn(
                    f"the background window of {edge.name} begins {low - other.onset:g} eV above "
                    f"the onset of {other.name}, on its fine structure, which no smooth background "
                    "follows; move it up, or use method='fit'"
                )
