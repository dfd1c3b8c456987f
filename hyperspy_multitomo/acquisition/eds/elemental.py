# SPDX-License-Identifier: GPL-3.0-or-later
"""Elemental maps by linear least squares: one estimator per tilt, a matrix product per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.counts import ElementalCounts, apply_rows, check_spectra
from hyperspy_multitomo.acquisition.eds.background import background_basis, background_parts
from hyperspy_multitomo.acquisition.eds.detector import Detector
from hyperspy_multitomo.acquisition.eds.line_calibration import (
    LineShapes,
    calibrate,
    fit_spectrum,
    refine_detector,
    variance_of,
)
from hyperspy_multitomo.acquisition.eds.unlisted_elements import Unlisted, find_unlisted
from hyperspy_multitomo.acquisition.eds.xray_lines import (
    LineFamily,
    families_of,
    fwhm,
    line_of,
    resolve_lines,
)
from hyperspy_multitomo.acquisition.sparse_counts import SparseSpectra
from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.machine.notices import warn

__all__ = ["LineModel", "prepare_fit"]

# Lower end of the fit (keV), above the strobe at zero and the detector's threshold. On the spectra
# of tests/test_elemental.py 0.15 moves net counts by 0.3 % and C Ka (0.277) of the real series by
# 2 %; 0.25 cuts C Ka and changes it by 17 %.
LOWEST = 0.2
# Noise of an element's counts relative to that without overlaps, above which a warning is issued
# (S Ka beside Mo La: 2.1).
_INFLATION = 2.0


@dataclass(frozen=True, eq=False)
class LineModel:
    """
    The model of the spectra of a tilt series, ready to be applied to the pixels of each tilt.

    Attributes
    ----------
    energy : ndarray (energy,)
        Energies of all channels in keV, as in the file.
    fitted : slice
        The channels that are fitted.
    lines : dict
        The line of each element: ``{"Fe": "Fe_Ka", ...}``.
    shapes : LineShapes
        All fitted line families, also of unmapped elements, and the detector, calibrated on the
        whole series.
    detectors : tuple of Detector
        The detector at each tilt, as shadowing changes the contributions of its segments.
    spectra : ndarray (tilt, energy)
        The summed spectra, fitted channels only.
    background : ndarray (tilt, energy)
        Their backgrounds.
    unlisted : tuple of Unlisted
        Elements with strong peaks that are not listed.
    """

    energy: np.ndarray
    fitted: slice
    lines: dict[str, str]
    shapes: LineShapes
    detectors: tuple[Detector, ...]
    spectra: np.ndarray
    background: np.ndarray
    unlisted: tuple[Unlisted, ...] = ()

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, in the order of the maps."""
        return tuple(self.lines)

    @property
    def families(self) -> tuple[str, ...]:
        """Main lines of all fitted families."""
        return tuple(family.main for family in self.shapes.families)

    def maps(self, spectra: ArrayLike | SparseSpectra, tilt: int = 0) -> ElementalCounts:
        """
        Estimate the counts of each element in each pixel of one tilt.

        Parameters
        ----------
        spectra : array_like (..., energy), or SparseSpectra
            Counts of all channels, e.g. (y, x, energy); not normalised, not corrected for the
            background.
        tilt : int, default 0
            Index of the tilt in the summed spectra of the model.

        Returns
        -------
        ElementalCounts
            Arrays (element, ...), float32. The net counts are unbiased at any number of counts, and
            may be negative by noise.

        Raises
        ------
        ValueError
            For the wrong number of channels, and negative, NaN or infinite counts.
        """
        counts = check_spectra(spectra, self.energy.size)
        net, background, gross = np.split(apply_rows(self.rows(tilt), counts, self.fitted), 3)
        return ElementalCounts(
            self.elements,
            tuple(self.lines.values()),
            net,
            gross,
            background,
            self.window_share(tilt),
        )

    def rows(self, tilt: int = 0) -> np.ndarray:
        """Return the matrix (3 x element, energy) that multiplies a spectrum.

        The product holds net, background and gross counts.
        """
        components, estimator = self._estimator(tilt)
        mapped = self._mapped()
        net = estimator[mapped]
        windows = self.windows.astype(float)
        # Background in the window of each element: all components but its family.
        others = windows @ components.T
        others[np.arange(len(mapped)), mapped] = 0.0
        return np.vstack([net, others @ estimator, windows])

    @property
    def windows(self) -> np.ndarray:
        """Channels within one FWHM of each element's line, shape (element, energy)."""
        energy, detector = self.energy[self.fitted], self.shapes.detector
        centres = [self.shapes.families[i].energy for i in self._mapped()]
        return np.array(
            [detector.channels(energy, e, fwhm(e, detector.resolution)) for e in centres]
        )

    def window_share(self, tilt: int = 0) -> np.ndarray:
        """Return the counts of each element in its window per net count, shape (element,).

        On average gross = window_share * net + background.
        """
        return np.sum(self._shapes(tilt)[self._mapped()] * self.windows, axis=1)

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return net counts of the summed spectra and their standard errors, both (tilt, element).

        The errors are those of counting statistics alone.
        """
        totals, errors = [], []
        for tilt, spectrum in enumerate(self.spectra):
            _, estimator = self._estimator(tilt)
            rows = estimator[self._mapped()]
            totals.append(rows @ spectrum)
            errors.append(np.sqrt(rows**2 @ spectrum))
        return np.array(totals), np.array(errors)

    def modelled(self, tilt: int = 0) -> np.ndarray:
        """Return the fit to the summed spectrum of a tilt, shape (energy,)."""
        components, estimator = self._estimator(tilt)
        return (estimator @ self.spectra[tilt]) @ components

    def inflation(self, tilt: int = 0) -> np.ndarray:
        """Return the noise of each element relative to that without overlaps, (element,)."""
        components, _ = self._estimator(tilt)
        weighted = components / np.sqrt(self._variance(tilt))
        norms = np.linalg.norm(weighted, axis=1)
        correlation = (weighted / norms[:, None]) @ (weighted / norms[:, None]).T
        return np.sqrt(np.diag(np.linalg.pinv(correlation))[self._mapped()])

    def _mapped(self) -> list[int]:
        """Return the index of each element's family."""
        return [self.families.index(line) for line in self.lines.values()]

    def _shapes(self, tilt: int) -> np.ndarray:
        return LineShapes(self.shapes.families, self.detectors[tilt]).on(self.energy[self.fitted])

    def _variance(self, tilt: int) -> np.ndarray:
        components = np.vstack([self._shapes(tilt), self.background[tilt]])
        _, model, _ = fit_spectrum(self.spectra[tilt], components, model_error=0.0)
        return variance_of(model)

    @one_blas_thread()
    def _estimator(self, tilt: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the components and the weighted least-squares estimator of their amounts.

        Both have the shape (component, energy).
        """
        energy = self.energy[self.fitted]
        parts = background_parts(self.background[tilt], energy)
        parts = parts[parts.sum(1) > 1e-6 * max(self.background[tilt].sum(), 1e-30)]
        components = np.vstack([self._shapes(tilt), parts])
        weight = 1 / np.sqrt(self._variance(tilt))
        weighted = components * weight
        scale = np.linalg.norm(weighted, axis=1)[:, None]
        return components, np.linalg.pinv((weighted / scale).T, rcond=1e-6) / scale * weight


@one_blas_thread()
def prepare_fit(
    summed_spectra: ArrayLike,
    energy: ArrayLike,
    *,
    elements: Sequence[str] | None = None,
    lines: Sequence[str] | None = None,
    also: Sequence[str] | Literal["auto"] = "auto",
    beam_energy: float | None = None,
    resolution: float | None = None,
    energy_range: tuple[float, float] | None = None,
    refine: bool = True,
) -> LineModel:
    """
    Prepare the estimation of elemental maps from summed spectra.

    This chooses the lines, finds unlisted elements, calibrates the detector and models the
    background of each tilt.

    Parameters
    ----------
    summed_spectra : array_like (energy,), (tilt, energy) or (tilt, region, energy)
        Counts summed over the pixels, or over regions (see `region_spectra`): regions of different
        composition separate overlapping lines.
    energy : array_like (energy,)
        Energy of each channel in keV, equally spaced.
    elements : sequence of str, optional
        Elements to map, by the line that `line_of` chooses.
    lines : sequence of str, optional
        Lines to use instead, by name: ``["Pt_Ma"]``.
    also : sequence of str or "auto", default "auto"
        Other elements that are present (grid, holder, column), which are fitted but not mapped.
        With "auto" those with strong peaks.
    beam_energy : float, optional
        In keV; lines above it are not excited.
    resolution : float, optional
        Full width at half maximum of Mn Ka in eV to start from; 130 by default.
    energy_range : (float, float), optional
        In keV; by default from 0.2 keV, above the strobe, to the end of the spectra or the beam
        energy.
    refine : bool, default True
        Refine energy scale, resolution, tail and weights of minor lines on the data.

    Returns
    -------
    LineModel

    Warns
    -----
    UserWarning
        Names the elements of strong unlisted peaks, and elements whose lines overlap with others.

    Raises
    ------
    ValueError
        For spectra that are empty, negative or not finite, energies that do not fit them, and
        elements without a line in range.

    Notes
    -----
    The components are the K, L and M families of all elements, each a sum of Gaussians with tails,
    and the background of the tilt's summed spectrum. The background is estimated as a smooth
    non-negative curve and split into four ranges of energy, which every pixel scales independently.
    The weights are the inverse of the modelled variance of the summed spectrum, the same for all
    pixels. So the estimate is linear in the counts and unbiased, even for less than one count per
    pixel, and the sum of the maps is the fit of the summed spectrum. The weights of minor lines in
    the data base hold for one absorption and are refined on the data.

    Net counts are those in the main line alone (Fe Ka without Fe Kb), as a Gaussian of the same
    counts within one FWHM. So k-factors, zeta-factors and cross sections for eXSpy's models and
    windows apply.

    Examples
    --------
    >>> import numpy as np
    >>> energy = 0.01 * np.arange(1, 1024)
    >>> iron = 1e4 * np.exp(-(((energy - 6.4039) / 0.057) ** 2) / 2) + 20.0
    >>> model = prepare_fit(iron, energy, elements=["Fe"], also=[], beam_energy=200, refine=False)
    >>> model.lines, model.maps(iron[None]).net.shape
    ({'Fe': 'Fe_Ka'}, (1, 1))
    """
    energy = _checked_energy(energy)
    sums = np.asarray(check_spectra(summed_spectra, energy.size, "summed_spectra"), dtype=float)
    if sums.ndim > 3:
        raise ValueError(
            "summed_spectra must be (energy,), (tilt, energy) or (tilt, region, energy); got the "
            f"shape {sums.shape}"
        )
    fitted = _fitted_channels(energy, energy_range, beam_energy)
    axis = energy[fitted]
    limits = (float(axis[0]), float(axis[-1]))
    chosen = resolve_lines(elements, lines, beam_energy, limits)
    regions = sums.reshape(len(sums) if sums.ndim > 1 else 1, -1, energy.size)[..., fitted]
    tilts = regions.sum(1)
    if (tilts.sum(1) <= 0).any():
        raise ValueError(
            "there are no counts in the spectra of the tilts "
            f"{np.flatnonzero(tilts.sum(1) <= 0).tolist()}"
        )
    families = _families(chosen, () if also == "auto" else also, beam_energy, limits)
    start = Detector(resolution=130.0 if resolution is None else float(resolution))
    unlisted, detector = find_unlisted(tilts.sum(0), axis, families, beam_energy, start)
    if unlisted:
        _warn_of_unlisted(unlisted, also == "auto")
    if also == "auto":
        others = [peak.element for peak in unlisted]
        families = _families(chosen, others, beam_energy, limits)
    spectra = regions.reshape(-1, axis.size)
    shapes = calibrate(spectra, axis, families, detector) if refine else LineShapes(families, start)
    detectors = tuple(
        refine_detector(tilt, axis, shapes.families, shapes.detector, series=shapes.detector)
        if refine
        else shapes.detector
        for tilt in tilts
    )
    background = np.array(
        [
            _background(spectrum, axis, shapes.families, at_tilt)
            for spectrum, at_tilt in zip(tilts, detectors, strict=True)
        ]
    )
    model = LineModel(energy, fitted, chosen, shapes, detectors, tilts, background, unlisted)
    _warn_of_overlaps(model)
    return model


def _checked_energy(energy: ArrayLike) -> np.ndarray:
    energy = np.asarray(energy, dtype=float)
    steps = np.diff(energy)
    if (
        energy.ndim != 1
        or energy.size < 50
        or not np.allclose(steps, steps[0], rtol=1e-3)
        or steps[0] <= 0
    ):
        raise ValueError(
            f"energy must be an ascending, equally spaced axis in keV; got the shape {energy.shape}"
        )
    if energy[-1] > 500:
        raise ValueError(f"energy ends at {energy[-1]:g}: pass it in keV, not in eV")
    return energy


def _fitted_channels(energy, energy_range, beam_energy) -> slice:
    low, high = energy_range or (LOWEST, np.inf)
    high = min(high, np.inf if beam_energy is None else beam_energy)
    inside = np.flatnonzero((energy >= low) & (energy <= high))
    if inside.size < 50:
        raise ValueError(
            f"the energies {energy[0]:g} to {energy[-1]:g} keV have less than 50 channels between "
            f"{low:g} and {high:g}"
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _families(chosen, also, beam_energy, limits) -> tuple[LineFamily, ...]:
    if isinstance(also, str):
        raise TypeError(f"also={also!r} must be a list of elements, or 'auto'")
    families: list[LineFamily] = []
    for element in dict.fromkeys([*chosen, *also]):
        line_of(element, beam_energy, limits)
        families += families_of(element, beam_energy, limits)
    return tuple(families)


def _background(spectrum, energy, families, detector) -> np.ndarray:
    lines = LineShapes(families, detector).on(energy)
    basis = background_basis(energy)
    amounts, _, _ = fit_spectrum(spectrum, np.vstack([lines, basis]))
    return amounts[len(lines) :] @ basis


def _warn_of_unlisted(unlisted: tuple[Unlisted, ...], fitted: bool) -> None:
    peaks = [f"{peak.element} ({peak.line}, {peak.counts:.3g} counts)" for peak in unlisted]
    listed = ", ".join(f'"{peak.element}"' for peak in unlisted)
    if fitted:
        what = f"they are fitted but not mapped; name them in elements or also=[{listed}]"
    else:
        what = f"they disturb their neighbours; add them: also=[{listed}]"
    warn(f"strong peaks of elements that are not listed: {', '.join(peaks)}; {what}")


def _warn_of_overlaps(model: LineModel) -> None:
    middle = len(model.spectra) // 2
    overlapping = [
        f"{line} ({factor:.1f} times)"
        for line, factor in zip(model.lines.values(), model.inflation(middle), strict=True)
        if factor > _INFLATION
    ]
    if overlapping:
        warn(
            f"overlaps with other lines raise the noise of {', '.join(overlapping)}; choose "
            "another line with lines=[...] or leave out what is not in the specimen"
        )
