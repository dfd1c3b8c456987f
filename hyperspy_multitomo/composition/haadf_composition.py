# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition of a sample of two elements from the grey values of its HAADF volume alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.notices import warn

__all__ = ["HAADFComposition", "atoms_by_volume", "haadf_composition"]

UNITS = ("atomic", "weight")
# Grey values of a reconstruction are right to about a tenth (missing wedge, diffraction, damping): less contrast is none.
LEAST_CONTRAST = 0.1
# Contrast in units of the noise below which a voxel says nothing, and below which it says little.
LEAST_TO_NOISE, GOOD_TO_NOISE = 1.0, 3.0
# Power of the atomic number that the HAADF signal of an atom goes with.
POWER = 1.7
# Bins and smoothing (bins) of the histogram, least height of a peak and greatest height of the valley, relative.
_BINS, _SMOOTHING, _LEAST_PEAK, _HIGHEST_VALLEY = 256, 3.0, 0.03, 0.6
# Side (voxels) of the surroundings from which the noise is measured; neighbours within it count as one measurement.
_SIDE, _CORRELATED = 5, 27
# Share of inner voxels outside the references, beyond what noise explains, that casts doubt on these.
_TOO_MANY = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class HAADFComposition:
    """
    Percent of two elements in each voxel, and how far to trust it.

    Attributes
    ----------
    elements : tuple of str
        The two elements, in the order of `percent`.
    percent : numpy.ndarray (2, z, x, y), float32
        Atomic or weight percent, 0 outside the mask.
    uncertainty : numpy.ndarray (z, x, y), float32
        Standard error of either, percent: noise of the grey values about the voxel, with the errors of the references; 0 outside.
        What is wrong with the grey values in large regions is not in it.
    mask : numpy.ndarray of bool (z, x, y)
        Voxels of the particle.
    intensities, intensity_errors : dict of str to float
        Grey value of each pure element, and its standard error.
    noise : float
        Standard deviation of the grey value in the median voxel.
    contrast : float
        |I_A - I_B| over their mean.
    clipped : dict of str to int
        Voxels beyond each reference, set to 100 percent of that element unless ``clip=False``.
    composition_units : {"atomic", "weight"}
    """

    elements: tuple[str, str]
    percent: np.ndarray
    uncertainty: np.ndarray
    mask: np.ndarray
    intensities: dict[str, float]
    intensity_errors: dict[str, float]
    noise: float
    contrast: float
    clipped: dict[str, int]
    composition_units: str

    def __repr__(self) -> str:
        means = ", ".join(
            f"{element} {self.percent[i][self.mask].mean():.1f} % (pure: {self.intensities[element]:.4g} ± "
            f"{self.intensity_errors[element]:.2g}, {self.clipped[element]} voxels clipped)"
            for i, element in enumerate(self.elements)
        )
        return (
            f"<HAADFComposition {means}; {self.composition_units}, of {np.count_nonzero(self.mask)} voxels; contrast "
            f"{100 * self.contrast:.0f} %, noise {self.noise:.2g}, median uncertainty "
            f"{np.median(self.uncertainty[self.mask]):.1f} %>"
        )


def haadf_composition(
    volume: ArrayLike,
    elements: Sequence[str],
    reference: str | Mapping[str, float | ArrayLike] = "histogram",
    *,
    ratio: float | None = None,
    mean: float | None = None,
    mask: float | ArrayLike | None = None,
    atomic_densities: Mapping[str, float] | str | None = None,
    composition_units: str = "atomic",
    clip: bool = True,
) -> HAADFComposition:
    """
    Turn the grey values of a HAADF volume of two elements into percent of each.

    Where two elements fill the space, the grey value lies between those of the pure ones, I = f I_A + (1 - f) I_B, with f the
    share of A in the volume; for equal numbers of atoms per volume, f is the atomic fraction, c_A = (I - I_B) / (I_A - I_B).

    Parameters
    ----------
    volume : array_like (z, x, y)
        HAADF signal per length, zero in vacuum, undamped.
    elements : sequence of two str
        Symbols, A and B.
    reference : "histogram" or mapping of str to float or array_like of bool (z, x, y), default "histogram"
        I_A and I_B: ``"histogram"`` takes the two peaks of the histogram inside the particle, which have to be those of pure
        regions, the brighter one for the heavier element. A mapping gives for each element the grey value, or a mask of voxels
        that are pure, well inside their region; with `ratio` for one of them.
    ratio : float, optional
        I_A / I_B, known from cross sections per atom times atoms per volume. Then one value sets the scale: that in `reference`,
        the brightest peak of the histogram (taken for the heavier element), or `mean`.
    mean : float, optional
        With `ratio`: percent of A in the whole particle, in `composition_units`, which then sets the scale.
    mask : float or array_like of bool (z, x, y), optional
        The particle, or a threshold of the grey value; by default the lower of two thresholds that part vacuum, the lighter and
        the heavier element (Otsu).
    atomic_densities : mapping of str to float or "table", optional
        Atoms per nm^3 of the pure elements; ``"table"`` from the densities in eXSpy. By default the same for both.
    composition_units : "atomic" or "weight", default "atomic"
    clip : bool, default True
        Bring what lies beyond the pure elements to 0 and 100 percent. For means over regions do not: they are biased by it.

    Returns
    -------
    HAADFComposition

    Raises
    ------
    ValueError
        If the elements cannot be told apart (a contrast below 10 percent, as of neighbours in the periodic table, or below the
        noise), if the histogram has not two separate peaks, or what is given does not fit together.

    Warns
    -----
    UserWarning
        If the contrast is below three times the noise, more voxels than noise explains lie beyond the references, or the heavier
        element is the darker one.

    Notes
    -----
    Voxels that the surface cuts are darker and pass for the lighter element; so do pores. The mean over a region is far better
    than a voxel. Clipping to 0..100 percent biases means of pure noisy regions inwards by 0.4 standard deviations of a voxel.

    References
    ----------
    A. Skorikov, W. Albrecht, E. Bladt, X. Xie, J.E.S. van der Hoeven, A. van Blaaderen, S. Van Aert, S. Bals, ACS Nano 13 (2019)
    13421, doi:10.1021/acsnano.9b06848. P.-S. Liao, T.-S. Chen, P.-C. Chung, J. Inf. Sci. Eng. 17 (2001) 713 (two thresholds).

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.zeros((8, 8, 8)); volume[1:7, 1:7, 1:7] = 10.0; volume[3:5, 3:5, 3:5] = 24.0
    >>> volume[4, 4, 4] = 17.0
    >>> found = haadf_composition(volume, ["Au", "Ag"], {"Au": 24.0, "Ag": 10.0}, mask=volume > 5)
    >>> found.percent[:, 4, 4, 4], found.percent[:, 1, 1, 1]
    (array([50., 50.], dtype=float32), array([  0., 100.], dtype=float32))
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or 0 in volume.shape or not np.isfinite(volume).all():
        raise ValueError(f"the volume has shape {volume.shape}; expected finite HAADF signal (z, x, y), a single volume")
    volume = volume.astype(np.float32, copy=False)
    elements = (elements,) if isinstance(elements, str) else tuple(elements)
    if len(elements) != 2 or elements[0] == elements[1]:
        raise ValueError(f"the elements are {', '.join(elements)}; grey values alone tell apart two elements, no more")
    if composition_units not in UNITS:
        raise ValueError(f"unknown composition_units {composition_units!r}; use 'atomic' or 'weight'")
    if mean is not None and (ratio is None or not 0 <= mean <= 100):
        raise ValueError(f"mean={mean!r} is percent of {elements[0]}, 0 to 100, and sets the scale of a given ratio; pass ratio=")
    inside = _particle(volume, mask)
    held = _held_by_volume(elements, atomic_densities, composition_units)
    inner = _inner(inside)
    noise = float(np.median(_local_noise(volume, inside)[inner]))
    intensities, errors = _references(volume, elements, reference, ratio, mean, inside, inner, noise, held)
    # Voxels across an interface are no noise.
    bright = _smooth(volume) > sum(intensities) / 2
    local = np.where(bright, _local_noise(volume, inside & bright), _local_noise(volume, inside & ~bright))
    noise = float(np.median(local[inner]))
    contrast = _checked_contrast(elements, intensities, noise)
    heavy, light = np.argsort(_atomic_numbers(elements))[::-1]
    if intensities[heavy] < intensities[light]:
        warn(f"{elements[heavy]} is the heavier element but darker than {elements[light]} by these references; swapped?")
    (bright_a, bright_b), span = intensities, intensities[0] - intensities[1]
    share = (volume - np.float32(bright_b)) / np.float32(span)
    unit = np.clip(share, 0, 1)
    variance = (local**2 + unit**2 * errors[0] ** 2 + (1 - unit) ** 2 * errors[1] ** 2) / span**2
    weight = held[0] * unit + held[1] * (1 - unit)
    fraction = held[0] * unit / weight
    slope = held[0] * held[1] / weight**2
    if not clip:
        fraction += slope * (share - unit)
    percent = np.stack([np.where(inside, 100 * part, 0) for part in (fraction, 1 - fraction)]).astype(np.float32)
    uncertainty = np.where(inside, 100 * slope * np.sqrt(variance), 0).astype(np.float32)
    margin = 3 * np.hypot(noise, max(errors)) / abs(span)
    outside = np.count_nonzero(inner & ((share < -margin) | (share > 1 + margin))) / max(np.count_nonzero(inner), 1)
    if outside > _TOO_MANY:
        warn(
            f"{100 * outside:.0f} % of the inner voxels are beyond the grey values of pure {elements[0]} ({bright_a:.4g}) and "
            f"{elements[1]} ({bright_b:.4g}) by more than noise; the references do not fit this particle, or it has pores"
        )
    clipped = {elements[0]: int(np.count_nonzero(inside & (share > 1))), elements[1]: int(np.count_nonzero(inside & (share < 0)))}
    return HAADFComposition(
        elements=elements,
        percent=percent,
        uncertainty=uncertainty,
        mask=inside,
        intensities=dict(zip(elements, intensities, strict=True)),
        intensity_errors=dict(zip(elements, errors, strict=True)),
        noise=noise,
        contrast=contrast,
        clipped=clipped,
        composition_units=composition_units,
    )


def _particle(volume: np.ndarray, mask: float | ArrayLike | None) -> np.ndarray:
    if mask is None:
        from scipy.ndimage import binary_fill_holes
        from skimage.filters import threshold_multiotsu

        # Found on the smoothed volume, or else the thresholds would part the noise of the vacuum.
        smooth = _smooth(volume)
        level = threshold_multiotsu(smooth.ravel(), 3)[0] if smooth.min() < smooth.max() else 0.0
        inside = binary_fill_holes((volume > level) & (smooth > level))
    else:
        inside = volume > float(mask) if np.ndim(mask) == 0 else np.asarray(mask)
    if inside.dtype != bool or inside.shape != volume.shape or not inside.any():
        raise ValueError(
            f"the mask is {inside.dtype} of shape {inside.shape} with {np.count_nonzero(inside)} voxels; expected bool of the "
            f"volume's shape {volume.shape} with a voxel inside, or a threshold below the brightest voxel, {volume.max():.4g}"
        )
    return inside


def _smooth(volume: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(volume, 1.0, mode="constant")


def _inner(inside: np.ndarray) -> np.ndarray:
    """Return the voxels that the surface does not cut, or all where none is left."""
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(inside, iterations=2)
    return inner if np.count_nonzero(inner) >= _CORRELATED else inside


def _local_noise(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the standard deviation about the mean of each voxel's surroundings inside the particle, (z, x, y)."""
    from scipy.ndimage import uniform_filter

    def mean_inside(values: np.ndarray) -> np.ndarray:
        return uniform_filter(np.where(inside, values, 0).astype(np.float32), _SIDE, mode="constant") / number

    number = np.maximum(uniform_filter(inside.astype(np.float32), _SIDE, mode="constant"), 0.5 / _SIDE**3)
    rest = volume - mean_inside(volume)
    return np.sqrt(np.maximum(mean_inside(rest**2), 0))


def _references(volume, elements, reference, ratio, mean, inside, inner, noise, held):
    """Return the grey values of the pure elements and their standard errors, each a list of two."""
    if ratio is not None and not (np.isfinite(ratio) and ratio > 0 and ratio != 1):
        raise ValueError(
            f"the ratio is {ratio}; expected the positive ratio of the grey values of {' and '.join(elements)}, not 1"
        )
    heavier = 0 if _atomic_numbers(elements)[0] > _atomic_numbers(elements)[1] else 1
    if mean is not None:
        a, b = mean / 100 / held[0], (1 - mean / 100) / held[1]
        share, grey = a / (a + b), volume[inside].astype(np.float64)
        light = grey.mean() / (share * ratio + 1 - share)
        error = noise * np.sqrt(_CORRELATED / grey.size) * light / grey.mean()
        return [ratio * light, light], [ratio * error, error]
    if isinstance(reference, str):
        if reference != "histogram":
            raise ValueError(f"unknown reference {reference!r}; use 'histogram', or a mapping of element to grey value or mask")
        _checked_atomic_numbers(elements)
        peaks = _histogram_peaks(volume[inner], noise)
        if ratio is None:
            if len(peaks) != 2:
                raise ValueError(
                    f"the histogram inside the particle has {len(peaks)} peak(s) where pure {elements[0]} and {elements[1]} need "
                    "two separate ones (mixed, diffused, or too noisy); give reference={element: grey value or mask of a pure "
                    "region}, or the ratio of the grey values"
                )
            order = (1, 0) if heavier == 0 else (0, 1)
            return [peaks[i][0] for i in order], [peaks[i][1] for i in order]
        known = {elements[heavier]: peaks[-1]}
    else:
        unknown = [name for name in reference if name not in elements]
        if unknown or not reference:
            raise ValueError(f"the reference names {', '.join(unknown) or 'nothing'}; expected {' and '.join(elements)}")
        known = {name: _grey_value(name, value, volume, noise) for name, value in reference.items()}
    missing = [name for name in elements if name not in known]
    if bool(missing) == (ratio is None):
        given = "both grey values" if not missing else f"the grey value of {elements[1 - elements.index(missing[0])]} alone"
        raise ValueError(f"the reference gives {given}: pass ratio= with one of them, and no ratio with two")
    if missing:
        at = elements.index(missing[0])
        factor = ratio if at == 0 else 1 / ratio
        known[missing[0]] = tuple(factor * value for value in known[elements[1 - at]])
    return [known[name][0] for name in elements], [known[name][1] for name in elements]


def _grey_value(name: str, value: float | ArrayLike, volume: np.ndarray, noise: float) -> tuple[float, float]:
    """Return a reference given as a number, or the mean of its region with the standard error."""
    if np.ndim(value) == 0 and not isinstance(value, bool | np.bool_):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"the grey value of {name} is {value}; expected a number, 0 or more")
        return float(value), 0.0
    region = np.asarray(value)
    if region.dtype != bool or region.shape != volume.shape or not region.any():
        raise ValueError(
            f"the region of {name} is {region.dtype} of shape {region.shape} with {np.count_nonzero(region)} voxels; expected "
            f"bool of the volume's shape {volume.shape} with a voxel inside"
        )
    grey = volume[region].astype(np.float64)
    return float(grey.mean()), float(max(grey.std(), noise) * np.sqrt(_CORRELATED / grey.size))


def _histogram_peaks(grey: np.ndarray, noise: float) -> list[tuple[float, float]]:
    """Return centre and standard error of the separate peaks of the smoothed histogram, the darkest first."""
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


def _peak_centre(centres: np.ndarray, heights: np.ndarray, peak: int, left: int, right: int) -> tuple[float, float]:
    """Fit a parabola to the logarithm of a peak's upper half: a Gaussian whose neighbours pull it little."""
    upper = peak
    while upper < right and heights[upper + 1] > heights[peak] / 2:
        upper += 1
    lower = peak
    while lower > left and heights[lower - 1] > heights[peak] / 2:
        lower -= 1
    used = slice(min(lower, peak - 1), max(upper, peak + 1) + 1)
    x = (centres[used] - centres[peak]) / (centres[1] - centres[0])
    curve, slope, _ = np.polyfit(x, np.log(np.maximum(heights[used], 1e-9)), 2, w=np.sqrt(heights[used]))
    shift = float(np.clip(-slope / (2 * curve), x[0], x[-1])) if curve < 0 else 0.0
    width = (1 / np.sqrt(-2 * curve) if curve < 0 else len(x) / 2) * (centres[1] - centres[0])
    number = heights[left : right + 1].sum()
    return float(centres[peak] + shift * (centres[1] - centres[0])), float(width * np.sqrt(_CORRELATED / number))


def _checked_contrast(elements: tuple[str, str], intensities: Sequence[float], noise: float) -> float:
    """Return |I_A - I_B| over their mean, or say that it is too small."""
    span, level = abs(intensities[0] - intensities[1]), sum(intensities) / 2
    if not (np.isfinite(intensities).all() and level > 0):
        raise ValueError(f"the grey values of {' and '.join(elements)} are {intensities}; expected a positive mean")
    contrast = span / level
    said = f"{' and '.join(elements)} differ by {100 * contrast:.1f} % in grey value"
    said += f" ({span / noise:.1f} times the noise)" if noise > 0 else ""
    if contrast < LEAST_CONTRAST:
        raise ValueError(
            f"{said}: grey values of a reconstruction are right to about {100 * LEAST_CONTRAST:.0f} % at best, so HAADF cannot "
            "tell them apart; use EDS or EELS maps"
        )
    if span < LEAST_TO_NOISE * noise:
        raise ValueError(f"{said}: a voxel says nothing; smooth or bin the volume, or reconstruct it with more regularisation")
    if span < GOOD_TO_NOISE * noise:
        warn(f"{said}: single voxels say little, only means over many; look at `uncertainty`")
    return float(contrast)


def _checked_atomic_numbers(elements: tuple[str, str]) -> None:
    """Refuse elements whose peaks a histogram could not part."""
    heavy, light = sorted(_atomic_numbers(elements), reverse=True)
    expected = heavy**POWER - light**POWER
    expected /= (heavy**POWER + light**POWER) / 2
    if expected < LEAST_CONTRAST:
        raise ValueError(
            f"{elements[0]} and {elements[1]} (Z {' and '.join(map(str, _atomic_numbers(elements)))}) are expected to differ by "
            f"{100 * expected:.1f} % in grey value (Z^{POWER}), less than the {100 * LEAST_CONTRAST:.0f} % to which grey values "
            "are right: HAADF cannot tell them apart; use EDS or EELS maps"
        )


def atoms_by_volume(elements: Sequence[str], densities: Mapping[str, float] | str | None = None) -> tuple[float, float]:
    """
    Return the atoms per nm^3 of two pure elements.

    Parameters
    ----------
    elements : sequence of two str
        Symbols.
    densities : mapping of str to float or "table", optional
        Atoms per nm^3; ``"table"`` calculates them from the densities in eXSpy; None takes 1 for both.

    Returns
    -------
    tuple of float

    Raises
    ------
    ValueError
        If a density is missing, not positive or not known.

    Examples
    --------
    >>> [round(number, 1) for number in atoms_by_volume(["Au", "Ag"], "table")]
    [59.0, 58.6]
    """
    if densities is None:
        return 1.0, 1.0
    if isinstance(densities, str):
        if densities != "table":
            raise ValueError(f"atomic_densities={densities!r}; pass 'table' or atoms per nm^3 of each element")
        # N_A x 1e-21 cm^3.
        atoms = [602.214 * density / weight for density, weight in zip(*_table(elements)[1:], strict=True)]
    else:
        atoms = [float(densities.get(name, np.nan)) for name in elements]
    if not (np.isfinite(atoms).all() and min(atoms) > 0):
        raise ValueError(f"atomic_densities give {atoms} for {' and '.join(elements)}; expected positive atoms per nm^3 of each")
    return atoms[0], atoms[1]


def _held_by_volume(elements: tuple[str, str], densities: Mapping[str, float] | str | None, units: str) -> tuple[float, float]:
    """Return what one volume of each pure element holds, atoms or mass, up to a common factor."""
    weights = _table(elements)[2] if units == "weight" else (1.0, 1.0)
    atoms = atoms_by_volume(elements, densities)
    return atoms[0] * weights[0], atoms[1] * weights[1]


def _atomic_numbers(elements: tuple[str, str]) -> list[int]:
    return _table(elements)[0]


def _table(elements: Sequence[str]) -> tuple[list[int], list[float], list[float]]:
    """Return atomic numbers, densities (g/cm^3, NaN where unknown) and atomic weights (g/mol) of eXSpy's table."""
    with warnings.catch_warnings():
        # eXSpy 0.3 imports HyperSpy's classes from where HyperSpy 2.5 deprecates them.
        warnings.simplefilter("ignore")
        from exspy.material import elements as table

    unknown = [element for element in elements if element not in table]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not the symbol of an element")
    general = [table[element]["General_properties"] for element in elements]
    densities = [table[element]["Physical_properties"].get_item("density (g/cm^3)", default=np.nan) for element in elements]
    return [held["Z"] for held in general], densities, [held["atomic_weight"] for held in general]
