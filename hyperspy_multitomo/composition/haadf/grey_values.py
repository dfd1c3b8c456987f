# SPDX-License-Identifier: GPL-3.0-or-later
"""Grey values of two pure elements in a HAADF volume: from regions or peaks of the histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.cross_sections.tables import atomic_number
from hyperspy_multitomo.machine.notices import warn

__all__ = ["check_ratio", "checked_contrast", "pure_grey_values"]

# Least contrast: grey values of a reconstruction are right to about a tenth (missing wedge,
# diffraction, damping).
LEAST_CONTRAST = 0.1
# Contrast, in units of the noise of a voxel, below which it is refused, and warned of.
LEAST_TO_NOISE, GOOD_TO_NOISE = 1.0, 3.0
# The HAADF signal of an atom is proportional to this power of the atomic number ...
POWER = 1.7
# ... with this uncertainty: detectors differ in the angles that they collect.
POWER_ERROR = 0.15
# Number of neighbouring voxels with correlated noise: a cube of 3 voxels.
CORRELATED_VOXELS = 27
# Bins and smoothing (bins) of the histogram, least height of a peak and greatest height of the
# valley, relative.
_BINS, _SMOOTHING, _LEAST_PEAK, _HIGHEST_VALLEY = 256, 3.0, 0.03, 0.6


def pure_grey_values(
    volume: np.ndarray,
    elements: tuple[str, str],
    reference: str | Mapping[str, float | ArrayLike],
    ratio: float | None,
    mean: float | None,
    inside: np.ndarray,
    inner: np.ndarray,
    noise: float,
    per_volume: tuple[float, float],
) -> tuple[list[float], list[float]]:
    """Find the grey values of two pure elements, as `haadf_composition` describes them.

    Parameters
    ----------
    volume : numpy.ndarray (z, x, y)
    elements : tuple of str
    reference : "histogram" or mapping of str to float or array_like of bool (z, x, y)
    ratio, mean : float or None
    inside, inner : numpy.ndarray of bool (z, x, y)
        Voxels of the particle, and those of them that are not at its surface.
    noise : float
        Standard deviation of the grey value of a voxel.
    per_volume : tuple of float
        Atoms or mass, as in `mean`, of each pure element per volume, up to a common factor.

    Returns
    -------
    intensities, errors : list of float
        Of each element, and their standard errors.

    Raises
    ------
    ValueError
        If the histogram has not two separate peaks, or the arguments do not fit together.
    """
    if ratio is not None and not (np.isfinite(ratio) and ratio > 0 and ratio != 1):
        raise ValueError(
            f"the ratio is {ratio}; expected the positive ratio of the grey values of "
            f"{' and '.join(elements)}, not 1"
        )
    if mean is not None and ratio is not None:
        a, b = mean / 100 / per_volume[0], (1 - mean / 100) / per_volume[1]
        share, grey = a / (a + b), volume[inside].astype(np.float64)
        light = grey.mean() / (share * ratio + 1 - share)
        error = noise * np.sqrt(CORRELATED_VOXELS / grey.size) * light / grey.mean()
        return [ratio * light, light], [ratio * error, error]
    if isinstance(reference, str):
        if reference != "histogram":
            raise ValueError(
                f"unknown reference {reference!r}; use 'histogram', or a mapping of element to "
                "grey value or mask"
            )
        known = _of_histogram(volume[inner], elements, noise, two=ratio is None)
    else:
        unknown = [name for name in reference if name not in elements]
        if unknown or not reference:
            raise ValueError(
                f"the reference names {', '.join(map(str, unknown)) or 'nothing'}; expected "
                f"{' and '.join(elements)}"
            )
        known = {name: _grey_value(name, value, volume, noise) for name, value in reference.items()}
    missing = [name for name in elements if name not in known]
    if bool(missing) == (ratio is None):
        given = f"the grey value of {', '.join(known)} alone" if missing else "both grey values"
        raise ValueError(
            f"the reference gives {given}: pass ratio= with one of them, and no ratio with two"
        )
    if missing and ratio is not None:
        at = elements.index(missing[0])
        factor = ratio if at == 0 else 1 / ratio
        grey_value, error = known[elements[1 - at]]
        known[missing[0]] = factor * grey_value, factor * error
    return [known[name][0] for name in elements], [known[name][1] for name in elements]


def _of_histogram(
    grey: np.ndarray, elements: tuple[str, str], noise: float, two: bool
) -> dict[str, tuple[float, float]]:
    """Return the peak of each element with its standard error.

    Of one peak (`two` False) it is the brightest, for the heavier element.
    """
    _refuse_neighbours(elements)
    light, heavy = sorted(elements, key=atomic_number)
    peaks = _histogram_peaks(grey, noise)
    if not two:
        return {heavy: peaks[-1]}
    if len(peaks) != 2:
        raise ValueError(
            f"the histogram inside the particle has {len(peaks)} peak(s) where pure {elements[0]} "
            f"and {elements[1]} need "
            "two separate ones (mixed, diffused, or too noisy); give reference={element: grey "
            "value or mask of a pure "
            "region}, or the ratio of the grey values"
        )
    return {light: peaks[0], heavy: peaks[1]}


def _grey_value(
    name: str, value: float | ArrayLike, volume: np.ndarray, noise: float
) -> tuple[float, float]:
    """Return a grey value and its standard error: the given number, or the mean of a region."""
    if np.ndim(value) == 0 and not isinstance(value, bool | np.bool_):
        number = np.asarray(value)
        if not (np.isfinite(number) and number >= 0):
            raise ValueError(f"the grey value of {name} is {value}; expected a number, 0 or more")
        return float(number), 0.0
    region = np.asarray(value)
    if region.dtype != bool or region.shape != volume.shape or not region.any():
        raise ValueError(
            f"the region of {name} is {region.dtype} of shape {region.shape} with "
            f"{np.count_nonzero(region)} voxels; expected "
            f"bool of the volume's shape {volume.shape} with a voxel inside"
        )
    grey = volume[region].astype(np.float64)
    return float(grey.mean()), float(
        max(grey.std(), noise) * np.sqrt(CORRELATED_VOXELS / grey.size)
    )


def _histogram_peaks(grey: np.ndarray, noise: float) -> list[tuple[float, float]]:
    """Return centre and standard error of the separate histogram peaks, the darkest first."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    low, high = np.percentile(grey, (0.1, 99.9))
    if high <= low:
        return [(float(low), 0.0)]
    margin = 0.2 * (high - low)
    heights, edges = np.histogram(grey, _BINS, (low - margin, high + margin))
    step = edges[1] - edges[0]
    heights = gaussian_filter1d(heights.astype(np.float64), max(_SMOOTHING, 0.4 * noise / step))
    found, _ = find_peaks(heights, height=_LEAST_PEAK * heights.max())
    separate = list(found[:1])
    for peak in found[1:]:
        valley = heights[separate[-1] : peak + 1].min()
        if valley < _HIGHEST_VALLEY * min(heights[separate[-1]], heights[peak]):
            separate.append(peak)
        elif heights[peak] > heights[separate[-1]]:
            separate[-1] = peak
    centres = edges[:-1] + step / 2
    borders = [a + int(np.argmin(heights[a : b + 1])) for a, b in pairwise(separate)]
    return [
        _peak_centre(centres, heights, peak, left, right)
        for peak, left, right in zip(separate, [0, *borders], [*borders, _BINS - 1], strict=True)
    ]


def _peak_centre(
    centres: np.ndarray, heights: np.ndarray, peak: int, left: int, right: int
) -> tuple[float, float]:
    """Return centre and standard error of a peak, by a Gaussian fitted to its upper half.

    The upper half is little affected by neighbouring peaks.
    """
    upper = peak
    while upper < right and heights[upper + 1] > heights[peak] / 2:
        upper += 1
    lower = peak
    while lower > left and heights[lower - 1] > heights[peak] / 2:
        lower -= 1
    used, step = slice(min(lower, peak - 1), max(upper, peak + 1) + 1), centres[1] - centres[0]
    x = (centres[used] - centres[peak]) / step
    curve, slope, _ = np.polyfit(
        x, np.log(np.maximum(heights[used], 1e-9)), 2, w=np.sqrt(heights[used])
    )
    shift, width = 0.0, len(x) / 2
    if curve < 0:
        shift, width = float(np.clip(-slope / (2 * curve), x[0], x[-1])), 1 / np.sqrt(-2 * curve)
    number = heights[left : right + 1].sum()
    return float(centres[peak] + shift * step), float(
        width * step * np.sqrt(CORRELATED_VOXELS / number)
    )


def checked_contrast(
    elements: tuple[str, str], intensities: Sequence[float], noise: float
) -> float:
    """Return |I_A - I_B| over their mean; an error or warning says that it is too small."""
    span, level = abs(intensities[0] - intensities[1]), sum(intensities) / 2
    if not (np.isfinite(intensities).all() and level > 0):
        raise ValueError(
            f"the grey values of {' and '.join(elements)} are {intensities}; expected a positive "
            "mean"
        )
    contrast = span / level
    difference = f"{' and '.join(elements)} differ by {100 * contrast:.1f} % in grey value"
    difference += f" ({span / noise:.1f} times the noise)" if noise > 0 else ""
    if contrast < LEAST_CONTRAST:
        raise ValueError(
            f"{difference}: grey values of a reconstruction are right to about "
            f"{100 * LEAST_CONTRAST:.0f} % at best, so HAADF cannot "
            "tell them apart; use EDS or EELS maps"
        )
    if span < LEAST_TO_NOISE * noise:
        raise ValueError(
            f"{difference}: a voxel says nothing; smooth or bin the volume, or reconstruct it with "
            "more regularisation"
        )
    if span < GOOD_TO_NOISE * noise:
        warn(f"{difference}: single voxels say little, only means over many; look at `uncertainty`")
    return float(contrast)


def check_ratio(
    elements: tuple[str, str], intensities: Sequence[float], atoms: Sequence[float]
) -> None:
    """Warn if two peaks have not the expected ratio of the pure elements' grey values."""
    light, heavy = np.argsort([atomic_number(element) for element in elements])
    numbers = atomic_number(elements[heavy]) / atomic_number(elements[light])
    expected = numbers**POWER * atoms[heavy] / atoms[light]
    found = intensities[heavy] / intensities[light] if intensities[light] > 0 else np.inf
    if abs(np.log(found / expected)) > LEAST_CONTRAST + POWER_ERROR * np.log(numbers):
        warn(
            f"the two peaks of the histogram have grey values of the ratio {found:.2f}, and pure "
            f"{elements[heavy]} and "
            f"{elements[light]} are expected to have {expected:.2f} (Z^{POWER} times atoms per "
            "volume): they may be those of "
            "alloys, of damped or of porous regions, and then the percentages are wrong; give "
            "reference={element: grey value or "
            "mask of a pure region}, or ratio= with one of them"
        )


def _refuse_neighbours(elements: tuple[str, str]) -> None:
    """Raise an error for elements whose peaks a histogram could not separate."""
    numbers = [atomic_number(element) for element in elements]
    light, heavy = sorted(number**POWER for number in numbers)
    expected = (heavy - light) / ((heavy + light) / 2)
    if expected < LEAST_CONTRAST:
        raise ValueError(
            f"{elements[0]} and {elements[1]} (Z {numbers[0]} and {numbers[1]}) are expected to "
            "differ by "
            f"{100 * expected:.1f} % in grey value (Z^{POWER}), less than the "
            f"{100 * LEAST_CONTRAST:.0f} % to which grey values "
            "are right: HAADF cannot tell them apart; use EDS or EELS maps"
        )
