# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibrate the shapes of X-ray line families on summed spectra.

These are energy scale, resolution, tail and line weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.optimize import least_squares, lsq_linear, nnls

from hyperspy_multitomo.acquisition.eds.background import background_basis
from hyperspy_multitomo.acquisition.eds.detector import Detector
from hyperspy_multitomo.acquisition.eds.xray_lines import LineFamily
from hyperspy_multitomo.acquisition.sparse_counts import SparseSpectra

__all__ = ["LineShapes", "calibrate", "fit_spectrum", "region_spectra", "variance_of"]

#: Relative error of the best model of a summed spectrum, without which the strongest peaks would
#: dominate the calibration. Flat: half or twice of it moves net counts by 0.1 % on the simulated
#: spectra of tests/test_elemental.py and by 1 % on a tilt of its real series (weak S Ka 3 %).
MODEL_ERROR = 0.01
#: Standard deviation of tabulated line weights, relative to the weight and absolute. Half or twice
#: of it moves net counts by 0.4 % on the same simulated and 0.6 % on the real spectra (weak Al Ka
#: and S Ka 3 %).
WEIGHT_ERROR = (0.3, 0.02)
#: Standard deviations of the parameters of `Detector`, in their order and units: about the
#: calibration in the file, and of a tilt about the whole series. Half or twice of them moves no net
#: counts of these spectra by more than 0.2 %.
_FILE_ERRORS = np.array([0.02, 0.003, 0.02, 10.0, 0.1, 0.1])
_SERIES_ERRORS = np.array([0.003, 0.0005, 0.003, 2.0, 0.1, 0.02])
_NOMINAL = Detector(tail=0.05)
#: Bounds of the same parameters.
_LOW = np.array([-0.1, 0.98, -0.1, 121.0, 0.0, 0.05])
_HIGH = np.array([0.1, 1.02, 0.1, 250.0, 0.4, 0.6])
#: Most groups of regions that the weights are fitted to, and most rounds of the calibration. 5 to
#: 20 groups move net counts of these spectra by 0.2 % (weak peaks 1.4 %). 10 rounds give the same
#: as 5, but 2 do not (S Ka 11 %).
_REGIONS = 10
_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class LineShapes:
    """
    The shape of each line family in the spectra.

    Attributes
    ----------
    families : tuple of LineFamily
        With the calibrated weights.
    detector : Detector
    """

    families: tuple[LineFamily, ...]
    detector: Detector

    def on(self, energy: np.ndarray) -> np.ndarray:
        """Return the shapes (family, energy) per count in the main line."""
        line, channel, values = self.detector.profiles(
            np.concatenate([family.energies for family in self.families]), energy
        )
        weights = np.concatenate([family.weights for family in self.families])
        family_of_line = np.repeat(
            np.arange(len(self.families)), [len(family.weights) for family in self.families]
        )
        places = family_of_line[line] * energy.size + channel
        shapes = np.bincount(
            places, weights[line] * values, minlength=len(self.families) * energy.size
        )
        return shapes.reshape(-1, energy.size)


def region_spectra(spectra: np.ndarray | SparseSpectra, regions: int = 16) -> np.ndarray:
    """
    Sum the spectra of an image over a grid of regions.

    Regions of different composition separate overlapping lines in the calibration.

    Parameters
    ----------
    spectra : ndarray (y, x, energy), or SparseSpectra
        Counts.
    regions : int, default 16
        Regions along each side.

    Returns
    -------
    ndarray (region, energy), float64

    Examples
    --------
    >>> region_spectra(np.ones((40, 30, 5), np.uint8), regions=2)[:, 0]
    array([300., 300., 300., 300.])
    """
    rows, columns = (
        np.linspace(0, size, min(regions, size) + 1).astype(int) for size in spectra.shape[:2]
    )
    if isinstance(spectra, SparseSpectra):
        return spectra.region_sums(rows, columns)
    sums = [
        spectra[top:bottom].sum(0, dtype=np.uint32 if spectra.dtype.kind in "ub" else np.float64)
        for top, bottom in pairwise(rows)
    ]
    regional = np.add.reduceat(np.array(sums, dtype=float), columns[:-1], axis=1)
    return regional.reshape(-1, spectra.shape[-1])


def variance_of(model: np.ndarray, model_error: float = 0.0) -> np.ndarray:
    """Return the variance of counts of the mean `model`, with a floor where it is almost 0."""
    return np.maximum(model, max(1e-3 * model.max(), 1e-6)) + (model_error * model) ** 2


def fit_spectrum(
    counts: np.ndarray,
    components: np.ndarray,
    prior: np.ndarray | None = None,
    *,
    model_error: float = MODEL_ERROR,
    variance: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Fit non-negative amounts of components to a spectrum, weighted by the modelled variance.

    Parameters
    ----------
    counts : ndarray (energy,)
    components : ndarray (component, energy)
    prior : ndarray (row, component), optional
        Rows whose product with the amounts is expected to be 0 +- 1.
    model_error : float
        Relative error of the model.
    variance : ndarray (energy,), optional
        Of the counts, if known; by default that of the model, in three rounds.

    Returns
    -------
    amounts : ndarray (component,)
    model : ndarray (energy,)
    variance : ndarray (energy,)
    """
    if variance is not None:
        amounts = _non_negative(counts, components, prior, variance)
        return amounts, amounts @ components, variance
    # Smoothed, so that the first weights do not favour channels that are low by chance.
    variance = variance_of(np.convolve(counts, np.ones(9) / 9, mode="same") + 0.5, model_error)
    for _ in range(3):
        amounts = _non_negative(counts, components, prior, variance)
        model = amounts @ components
        variance = variance_of(model, model_error)
    return amounts, model, variance


def _non_negative(counts, components, prior, variance) -> np.ndarray:
    weighted = components / np.sqrt(variance)
    normal, target = weighted @ weighted.T, weighted @ (counts / np.sqrt(variance))
    if prior is not None:
        normal = normal + prior.T @ prior
    scale = np.sqrt(np.diag(normal))
    scale[scale == 0] = 1.0
    # The Cholesky factor has the same solution with only as many rows as components; the ridge
    # keeps it regular.
    root = np.linalg.cholesky(normal / np.outer(scale, scale) + 1e-10 * np.eye(len(scale)))
    return nnls(root.T, np.linalg.solve(root, target / scale), maxiter=30 * len(scale))[0] / scale


def calibrate(
    spectra: np.ndarray,
    energy: np.ndarray,
    families: Sequence[LineFamily],
    detector: Detector | None = None,
) -> LineShapes:
    """
    Refine the detector and the weights of minor lines on spectra of different composition.

    Parameters
    ----------
    spectra : ndarray (spectrum, energy)
        Summed spectra, e.g. of regions.
    energy : ndarray (energy,)
        In keV.
    families : sequence of LineFamily
        All those in the spectra.
    detector : Detector, optional
        Start of the refinement.

    Returns
    -------
    LineShapes

    Notes
    -----
    The spectra are summed to ten of different composition. Amounts (non-negative, per spectrum),
    weights of the minor lines (common to all spectra, with a prior of 30 % + 0.02 about the
    tabulated values) and the detector (with a prior about the calibration in the file) are refined
    in turn. Lines that no spectrum separates keep their tabulated ratio.
    """
    groups = _gather(spectra, energy)
    total = groups.sum(0)
    shapes = LineShapes(
        tuple(families), refine_detector(total, energy, families, detector or Detector())
    )
    basis = background_basis(energy)
    before = np.inf
    for _ in range(_ROUNDS):
        fits = [fit_spectrum(group, np.vstack([shapes.on(energy), basis])) for group in groups]
        misfit = sum(
            ((group - model) ** 2 / variance).sum()
            for group, (_, model, variance) in zip(groups, fits, strict=True)
        )
        if misfit > 0.99 * before:
            break
        before = misfit
        shapes = _refine_weights(groups, energy, fits, shapes, families)
        shapes = replace(
            shapes, detector=refine_detector(total, energy, shapes.families, shapes.detector)
        )
    return shapes


def refine_detector(
    counts: np.ndarray,
    energy: np.ndarray,
    families: Sequence[LineFamily],
    start: Detector,
    *,
    series: Detector | None = None,
    loose: bool = False,
) -> Detector:
    """
    Refine the detector on one spectrum by non-linear least squares over the linear fit.

    The prior is about the detector of the whole `series`, or else the calibration in the file. With
    `loose` the amounts of a family's lines are independent, as in `loose_components`, and outliers
    (unlisted peaks) have little influence.
    """
    basis = background_basis(energy)
    expected = _parameters(series or _NOMINAL)
    errors = _FILE_ERRORS if series is None else _SERIES_ERRORS

    def fitted(trial, variance=None):
        if loose:
            lines, prior = loose_components(families, trial, energy, counts.sum())
            prior = np.pad(prior, ((0, 0), (0, len(basis))))
        else:
            lines, prior = LineShapes(tuple(families), trial).on(energy), None
        return fit_spectrum(counts, np.vstack([lines, basis]), prior, variance=variance)

    _, _, variance = fitted(start)

    def misfit(parameters):
        _, model, _ = fitted(Detector(*parameters), variance)
        return np.r_[(counts - model) / np.sqrt(variance), (parameters - expected) / errors]

    solution = least_squares(
        misfit,
        np.clip(_parameters(start), _LOW + 1e-6, _HIGH - 1e-6),
        bounds=(_LOW, _HIGH),
        x_scale=errors / 10,
        # Relative to the parameter; near 0 about a tenth of an electronvolt.
        diff_step=np.array([1e-2, 1e-5, 1e-2, 1e-3, 1e-2, 1e-2]),
        loss="soft_l1" if loose else "linear",
        f_scale=5.0,
        max_nfev=8,
    )
    return Detector(*(float(value) for value in solution.x))


def _parameters(detector: Detector) -> np.ndarray:
    return np.array([getattr(detector, name) for name in detector.__dataclass_fields__])


def loose_components(
    families: Sequence[LineFamily], detector: Detector, energy: np.ndarray, counts: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return each line as a component (line, energy), with prior rows for its weight."""
    line, channel, values = detector.profiles(
        np.concatenate([family.energies for family in families]), energy
    )
    components = np.zeros((sum(len(family.energies) for family in families), energy.size))
    components[line, channel] = values
    rows, first = [], 0
    for family in families:
        for i, weight in enumerate(family.weights[1:], 1):
            row = np.zeros(len(components))
            row[first + i], row[first] = 1.0, -weight
            # The amount of the family is unknown: a hundredth of all counts sets the scale.
            rows.append(row / ((WEIGHT_ERROR[0] * weight + WEIGHT_ERROR[1]) * 0.01 * counts))
        first += len(family.weights)
    return components, np.array(rows).reshape(-1, len(components))


def _refine_weights(
    groups, energy, fits, shapes: LineShapes, tabulated: Sequence[LineFamily]
) -> LineShapes:
    """Solve for the weights of the minor lines at fixed amounts."""
    free = [(f, i) for f, family in enumerate(tabulated) for i in range(1, len(family.weights))]
    if not free:
        return shapes
    lines = [shapes.detector.lines(family, energy) for family in shapes.families]
    now = np.array([shapes.families[f].weights[i] for f, i in free])
    table = np.array([tabulated[f].weights[i] for f, i in free])
    errors = WEIGHT_ERROR[0] * table + WEIGHT_ERROR[1]
    normal, target = np.diag(1 / errors**2), table / errors**2
    for group, (amounts, model, variance) in zip(groups, fits, strict=True):
        matrix = np.array([amounts[f] * lines[f][i] for f, i in free]) / np.sqrt(variance)
        normal += matrix @ matrix.T
        target += matrix @ ((group - model) / np.sqrt(variance) + now @ matrix)
    root = np.linalg.cholesky(normal)
    limits = np.array([_limits(tabulated[f].shell, tabulated[f].weights[i]) for f, i in free]).T
    solved = lsq_linear(root.T, np.linalg.solve(root, target), bounds=limits, method="bvls").x
    weights = [family.weights.copy() for family in shapes.families]
    for (f, i), value in zip(free, solved, strict=True):
        weights[f][i] = value
    families = tuple(
        replace(family, weights=w) for family, w in zip(shapes.families, weights, strict=True)
    )
    return replace(shapes, families=families)


def _limits(shell: str, weight: float) -> tuple[float, float]:
    """Return the bounds of a weight: those of K families hardly depend on absorption."""
    return (0.7 * weight, 1.5 * weight + 0.01) if shell == "K" else (0.0, 3 * weight + 0.1)


def _gather(spectra: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Sum spectra of similar composition into at most ten groups."""
    totals = spectra.sum(1)
    filled = spectra[totals > 0.05 * totals.max()]
    if len(filled) <= _REGIONS:
        return filled
    from scipy.cluster.vq import kmeans2

    bounds = np.searchsorted(energy, np.geomspace(energy[0], energy[-1], 60)[:-1])
    bands = np.add.reduceat(filled, np.unique(bounds), axis=1)
    # The square root of counts has uniform noise; relative to the total it depends on composition.
    features = np.sqrt(bands / bands.sum(1, keepdims=True))
    features -= features.mean(0)
    _, _, modes = np.linalg.svd(features, full_matrices=False)
    _, labels = kmeans2(features @ modes[:5].T, _REGIONS, minit="++", rng=np.random.default_rng(0))
    return np.array([filled[labels == k].sum(0) for k in np.unique(labels)])
