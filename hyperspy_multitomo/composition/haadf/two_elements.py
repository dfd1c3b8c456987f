# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition of a sample of two elements from the grey values of its HAADF volume alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.cross_sections.tables import (
    SYMBOLS,
    atomic_number,
    atomic_weights,
)
from hyperspy_multitomo.composition.cross_sections.tables import densities as mass_densities
from hyperspy_multitomo.composition.haadf.grey_values import (
    CORRELATED_VOXELS,
    check_ratio,
    checked_contrast,
    pure_grey_values,
)
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import number
from hyperspy_multitomo.tomography.scaling import power_of_two

__all__ = ["HAADFComposition", "atoms_by_volume", "haadf_composition"]

UNITS = ("atomic", "weight")
# Side (voxels) of the cube in which the noise about a voxel is measured.
_SIDE = 5
# Fraction of inner voxels beyond the references by more than noise, above which there is a warning.
_TOO_MANY = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class HAADFComposition:
    """Percent of two elements in each voxel, with its uncertainty.

    Attributes
    ----------
    elements : tuple of str
        The two elements, in the order of `percent`.
    percent : numpy.ndarray (2, z, x, y), float32
        Atomic or weight percent, 0 outside the mask.
    uncertainty : numpy.ndarray (z, x, y), float32
        Standard error of either, percent, from the noise of the grey values about the voxel and the
        errors of the references; 0 outside. Errors of the grey values over large regions are not
        included.
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
            f"{element} {self.percent[i][self.mask].mean():.1f} % (pure: "
            f"{self.intensities[element]:.4g} ± "
            f"{self.intensity_errors[element]:.2g}, {self.clipped[element]} voxels clipped)"
            for i, element in enumerate(self.elements)
        )
        return (
            f"<HAADFComposition {means}; {self.composition_units}, of "
            f"{np.count_nonzero(self.mask)} voxels; contrast "
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
    """Convert the grey values of a HAADF volume of two elements to percent of each.

    Where two elements fill the space, the grey value is I = f I_A + (1 - f) I_B, with f the volume
    fraction of A and I_A, I_B the grey values of the pure elements. For equal numbers of atoms per
    volume, f is the atomic fraction, c_A = (I - I_B) / (I_A - I_B).

    Parameters
    ----------
    volume : array_like (z, x, y)
        HAADF signal per length, zero in vacuum, undamped.
    elements : sequence of two str
        Symbols, A and B.
    reference : "histogram", or mapping of str to float or array_like of bool (z, x, y)
        I_A and I_B: ``"histogram"`` (the default) takes the two peaks of the histogram inside the
        particle, which have to be those of pure regions, the brighter one for the heavier element.
        A mapping gives for each element, or with `ratio` for one of them, the grey value, or a mask
        of pure voxels well inside their region.
    ratio : float, optional
        I_A / I_B, known from cross sections per atom times atoms per volume. The scale is then set
        by one value: that in `reference`, the brightest peak of the histogram (for the heavier
        element), or `mean`.
    mean : float, optional
        With `ratio`: percent of A in the whole particle, in `composition_units`, which sets the
        scale.
    mask : float or array_like of bool (z, x, y), optional
        The particle, or a threshold of the grey value; by default the lower of Otsu's two
        thresholds between vacuum, the lighter and the heavier element.
    atomic_densities : mapping of str to float or "table", optional
        Atoms per nm^3 of the pure elements; ``"table"`` for those from the densities in eXSpy. By
        default the same for both.
    composition_units : "atomic" or "weight", default "atomic"
    clip : bool, default True
        Limit the percentages to 0 to 100. Pass False for means over regions, which clipping biases.

    Returns
    -------
    HAADFComposition

    Raises
    ------
    ValueError
        If the elements cannot be distinguished (a contrast below 10 percent, as of neighbours in
        the periodic table, or below the noise), if the histogram has not two separate peaks, or the
        arguments do not fit together.

    Warns
    -----
    UserWarning
        If the peaks of the histogram have not the ratio of the pure elements, Z^1.7 times the atoms
        per volume (e.g. for two alloys), if the contrast is below three times the noise, if more
        voxels than noise explains lie beyond the references, or if the heavier element is darker.

    Notes
    -----
    Voxels at the surface are darker and are taken for the lighter element; so are pores. The mean
    over a region is much more accurate than a voxel. Clipping to 0 to 100 percent biases means of
    pure noisy regions inwards by 0.4 standard deviations of a voxel.

    References
    ----------
    A. Skorikov, W. Albrecht, E. Bladt, X. Xie, J.E.S. van der Hoeven, A. van Blaaderen, S. Van
    Aert, S. Bals, ACS Nano 13 (2019) 13421, doi:10.1021/acsnano.9b06848. P.-S. Liao, T.-S. Chen,
    P.-C. Chung, J. Inf. Sci. Eng. 17 (2001) 713 (two thresholds).

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
        raise ValueError(
            f"the volume has shape {volume.shape}; expected finite HAADF signal (z, x, y), a "
            "single volume"
        )
    volume = volume.astype(np.float32, copy=False)
    elements = (elements,) if isinstance(elements, str) else tuple(elements)
    if len(elements) != 2 or elements[0] == elements[1]:
        raise ValueError(
            f"the elements are {', '.join(elements)}; grey values alone tell apart two elements, "
            "no more"
        )
    unknown = [element for element in elements if element not in SYMBOLS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not the symbol of an element")
    if composition_units not in UNITS:
        raise ValueError(
            f"unknown composition_units {composition_units!r}; use 'atomic' or 'weight'"
        )
    if mean is not None and (ratio is None or not 0 <= mean <= 100):
        raise ValueError(
            f"mean={mean!r} is percent of {elements[0]}, 0 to 100, and sets the scale of a given "
            "ratio; pass ratio="
        )
    inside = _particle_mask(volume, mask)
    per_volume = _per_volume(elements, atomic_densities, composition_units)
    inner = _inner(inside)
    noise = float(np.median(_local_noise(volume, inside)[inner]))
    intensities, errors = pure_grey_values(
        volume, elements, reference, ratio, mean, inside, inner, noise, per_volume
    )
    if isinstance(reference, str) and ratio is None:
        check_ratio(elements, intensities, _known_atoms(elements, atomic_densities))
    # The step at an interface is not noise.
    bright = _smooth(volume) > sum(intensities) / 2
    local = np.where(
        bright, _local_noise(volume, inside & bright), _local_noise(volume, inside & ~bright)
    )
    noise = float(np.median(local[inner]))
    contrast = checked_contrast(elements, intensities, noise)
    light, heavy = np.argsort([atomic_number(element) for element in elements])
    if intensities[heavy] < intensities[light]:
        warn(
            f"{elements[heavy]} is the heavier element but darker than {elements[light]} by these "
            "references; swapped?"
        )
    (bright_a, bright_b), span = intensities, intensities[0] - intensities[1]
    share = (volume - np.float32(bright_b)) / np.float32(span)
    unit = np.clip(share, 0, 1)
    variance = (
        (local / span) ** 2
        + unit**2 * (errors[0] / span) ** 2
        + (1 - unit) ** 2 * (errors[1] / span) ** 2
    )
    weight = per_volume[0] * unit + per_volume[1] * (1 - unit)
    fraction = per_volume[0] * unit / weight
    slope = per_volume[0] * per_volume[1] / weight**2
    if not clip:
        fraction += slope * (share - unit)
    percent = np.stack(
        [np.where(inside, 100 * part, 0) for part in (fraction, 1 - fraction)]
    ).astype(np.float32)
    uncertainty = np.where(inside, 100 * slope * np.sqrt(variance), 0).astype(np.float32)
    margin = 3 * np.hypot(noise, max(errors)) / abs(span)
    beyond = int(np.count_nonzero(inner & ((share < -margin) | (share > 1 + margin))))
    outside = beyond / max(int(np.count_nonzero(inner)), 1)
    if outside > _TOO_MANY:
        warn(
            f"{100 * outside:.0f} % of the inner voxels are beyond the grey values of pure "
            f"{elements[0]} ({bright_a:.4g}) and "
            f"{elements[1]} ({bright_b:.4g}) by more than noise; the references do not fit this "
            "particle, or it has pores"
        )
    clipped = {
        elements[0]: int(np.count_nonzero(inside & (share > 1))),
        elements[1]: int(np.count_nonzero(inside & (share < 0))),
    }
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


def _particle_mask(volume: np.ndarray, mask: float | ArrayLike | None) -> np.ndarray:
    if mask is None:
        from scipy.ndimage import binary_fill_holes
        from skimage.filters import threshold_multiotsu

        # On the smoothed volume, because the thresholds would otherwise divide the vacuum's noise.
        smooth = _smooth(volume)
        level = threshold_multiotsu(smooth.ravel(), 3)[0] if smooth.min() < smooth.max() else 0.0
        inside = binary_fill_holes((volume > level) & (smooth > level))
    else:
        inside = (
            volume > number("mask", mask, "a finite threshold, or a boolean mask")
            if np.ndim(mask) == 0
            else np.asarray(mask)
        )
    if inside.dtype != bool or inside.shape != volume.shape or not inside.any():
        raise ValueError(
            f"the mask is {inside.dtype} of shape {inside.shape} with {np.count_nonzero(inside)} "
            "voxels; expected bool of the "
            f"volume's shape {volume.shape} with a voxel inside, or a threshold below the "
            f"brightest voxel, {volume.max():.4g}"
        )
    return inside


def _smooth(volume: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(volume, 1.0, mode="constant")


def _inner(inside: np.ndarray) -> np.ndarray:
    """Return the voxels at least two voxels below the surface, or all if too few are left."""
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(inside, iterations=2)
    return inner if np.count_nonzero(inner) >= CORRELATED_VOXELS else inside


def _local_noise(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the standard deviation in a cube about each voxel, inside the particle, (z, x, y)."""
    from scipy.ndimage import uniform_filter

    def mean_inside(values: np.ndarray) -> np.ndarray:
        return (
            uniform_filter(np.where(inside, values, 0).astype(np.float32), _SIDE, mode="constant")
            / number
        )

    number = np.maximum(
        uniform_filter(inside.astype(np.float32), _SIDE, mode="constant"), 0.5 / _SIDE**3
    )
    rest = volume - mean_inside(volume)
    grey = np.float32(
        power_of_two(np.abs(rest).max())
    )  # whose square single precision may not hold
    return grey * np.sqrt(np.maximum(mean_inside(np.square(rest / grey)), 0))


def atoms_by_volume(
    elements: Sequence[str], densities: Mapping[str, float] | str | None = None
) -> tuple[float, float]:
    """Return the atoms per nm^3 of two pure elements.

    Parameters
    ----------
    elements : sequence of two str
        Symbols.
    densities : mapping of str to float or "table", optional
        Atoms per nm^3; ``"table"`` calculates them from the densities in eXSpy; None takes 1 for
        both.

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
            raise ValueError(
                f"atomic_densities={densities!r}; pass 'table' or atoms per nm^3 of each element"
            )
        # N_A x 1e-21 cm^3.
        atoms = (602.214 * mass_densities(elements) / atomic_weights(elements)).tolist()
    else:
        atoms = [float(densities.get(name, np.nan)) for name in elements]
    if not (np.isfinite(atoms).all() and min(atoms) > 0):
        raise ValueError(
            f"atomic_densities give {atoms} for {' and '.join(elements)}; expected positive atoms "
            "per nm^3 of each"
        )
    return atoms[0], atoms[1]


def _known_atoms(
    elements: tuple[str, str], densities: Mapping[str, float] | str | None
) -> tuple[float, float]:
    """Return the atoms per volume of two pure elements, by default from the table, else (1, 1)."""
    try:
        return atoms_by_volume(elements, "table" if densities is None else densities)
    except ValueError:
        return 1.0, 1.0


def _per_volume(
    elements: tuple[str, str], densities: Mapping[str, float] | str | None, units: str
) -> tuple[float, float]:
    """Return the atoms or mass of each pure element per volume, up to a common factor."""
    weights = atomic_weights(elements).tolist() if units == "weight" else (1.0, 1.0)
    atoms = atoms_by_volume(elements, densities)
    return atoms[0] * weights[0], atoms[1] * weights[1]
