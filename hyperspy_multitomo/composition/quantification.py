# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition in percent from reconstructed counts, in closed form."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.threshold import particle_mask

__all__ = ["quantify"]

METHODS = ("CL", "zeta", "cross_section")
UNITS = ("weight", "atomic")


def quantify(
    volumes: ArrayLike,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    composition_units: str = "weight",
    mask: str | float | ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Turn volumes of counts into percent of the listed elements.

    With X_e the counts (per unit length, whatever the unit): weight fractions C_e ~ k_e X_e (``"CL"``, Cliff and Lorimer) or
    C_e ~ zeta_e X_e (``"zeta"``), and atoms ~ X_e / sigma_e (``"cross_section"``), closed to 100 percent in every voxel.
    Elements that are not listed do not count: the percentages are of the listed ones. Absorption is not corrected.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y), or channel first and any other axes
        Reconstructed counts of each element; from EDS alone and from HEBT alike. NumPy or, with a `mask` array, dask.
    elements : sequence of str
        Names of the channels, elements ("Au") or lines ("Au_La").
    method : "CL", "zeta" or "cross_section"
        What `factors` are: k-factors (relative to any common element), zeta-factors (kg/m^2) or ionisation cross sections (barn).
    factors : mapping of str to float, or sequence of float
        Positive factor of every channel: a dict by element or line, or a list in eXSpy's order, which is the alphabetical order
        of the lines whatever the order of the channels.
    composition_units : "weight" or "atomic", default "weight"
        Weight or atomic percent (eXSpy's default is atomic).
    mask : "otsu", float, array_like of bool (z, x, y) or None, default None
        Voxels of the particle; None and "otsu": Otsu's threshold of the sum over the elements weighted by their factors (mass or
        atoms); a number is a threshold of this sum.

    Returns
    -------
    composition : array (channel, z, x, y)
        Percent, 0 outside the mask and where no listed element is; float32 for float32 volumes.
    mask : array of bool (z, x, y)
        Voxels that were quantified.

    Raises
    ------
    ValueError
        For an unknown method or unit, factors that are missing, not positive or of other elements, a volume without signal.

    Notes
    -----
    Equal to eXSpy's ``quantification`` of the same intensities, but for eXSpy's Cliff-Lorimer method taking intensities below 0.1
    as absent, which depends on the unit of the counts.

    References
    ----------
    G. Cliff, G.W. Lorimer, J. Microsc. 103 (1975) 203, doi:10.1111/j.1365-2818.1975.tb03895.x (CL).
    M. Watanabe, D.B. Williams, J. Microsc. 221 (2006) 89, doi:10.1111/j.1365-2818.2006.01549.x (zeta).
    K.E. MacArthur et al., Microsc. Microanal. 22 (2016) 71, doi:10.1017/S1431927615015494 (cross sections).

    Examples
    --------
    >>> import numpy as np
    >>> volumes = np.array([[30.0, 0.0], [10.0, 0.0]])
    >>> composition, mask = quantify(volumes, ["Au", "Ag"], "CL", {"Au": 1.0, "Ag": 3.0}, "weight")
    >>> composition
    array([[50.,  0.],
           [50.,  0.]])
    >>> mask
    array([ True, False])
    """
    volumes = volumes if hasattr(volumes, "__array_function__") else np.asarray(volumes)
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; use one of {', '.join(METHODS)}")
    if composition_units not in UNITS:
        raise ValueError(f"unknown composition_units {composition_units!r}; use 'weight' or 'atomic'")
    if volumes.ndim < 1 or isinstance(elements, str) or len(elements) != len(volumes):
        raise ValueError(f"the volumes have shape {volumes.shape} for the elements {elements!r}; give each channel one name")
    lines = [str(element) for element in elements]
    if len({_element(line) for line in lines}) != len(lines):
        raise ValueError(f"{', '.join(lines)} name one element twice; keep one line of each element")
    weights = _ordered_factors(lines, factors)
    if method == "cross_section":
        weights = 1.0 / weights
    inside = _particle(volumes, weights, mask)
    if composition_units == "atomic" and method != "cross_section":
        weights = weights / _atomic_weights(lines)
    elif composition_units == "weight" and method == "cross_section":
        weights = weights * _atomic_weights(lines)
    return _closed(volumes, weights, inside), inside


def _closed(volumes: np.ndarray, weights: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return 100 w_e X_e / sum_a w_a X_a inside, 0 outside and where the sum is not positive."""
    dtype = np.result_type(volumes.dtype, np.float32)
    # Only ratios of the weights matter; of the order of one they cannot overflow float32.
    weights = (weights / weights.max()).astype(dtype)
    total = sum(weight * channel for weight, channel in zip(weights, volumes, strict=True))
    counted = inside & (total > 0)
    scale = np.where(counted, dtype.type(100) / np.where(counted, total, dtype.type(1)), dtype.type(0))
    return np.stack([weight * channel * scale for weight, channel in zip(weights, volumes, strict=True)])


def _particle(volumes: np.ndarray, weights: np.ndarray, mask: str | float | ArrayLike | None) -> np.ndarray:
    """Find the mask from the weighted sum over the elements, or check a given one."""
    if np.ndim(mask) > 0:
        mask = mask if hasattr(mask, "__array_function__") else np.asarray(mask)
        if mask.dtype != bool or mask.shape != volumes.shape[1:]:
            raise ValueError(f"the mask is {mask.dtype} of shape {mask.shape}; expected bool of shape {volumes.shape[1:]}")
        return mask
    total = sum(weight * channel for weight, channel in zip(weights, volumes, strict=True))
    return particle_mask(np.asarray(total), "otsu" if mask is None else mask)


def _element(line: str) -> str:
    return line.partition("_")[0]


def _ordered_factors(lines: list[str], factors: Mapping[str, float] | Sequence[float]) -> np.ndarray:
    """Return one positive factor per channel, in the order of the channels."""
    if isinstance(factors, Mapping):
        given = _matched(lines, factors)
    else:
        listed = [float(factor) for factor in factors]
        if len(listed) != len(lines):
            raise ValueError(
                f"{len(listed)} factors for {len(lines)} elements; list one for each of {', '.join(sorted(lines))}, "
                "in this order, or pass a dict"
            )
        given = dict(zip(sorted(lines), listed, strict=True))
    bad = [f"{line}: {given[line]}" for line in lines if not (np.isfinite(given[line]) and given[line] > 0)]
    if bad:
        raise ValueError(f"factors have to be positive and finite, but there is {', '.join(bad)}")
    return np.array([given[line] for line in lines])


def _matched(lines: list[str], factors: Mapping[str, float]) -> dict[str, float]:
    """Match keys, each an element or a line, with the channels."""
    given: dict[str, float] = {}
    unknown = []
    for key, factor in factors.items():
        # "Au" serves a channel "Au_La" and "Au_La" a channel "Au", but "Au_Ma" does not serve "Au_La".
        served = [line for line in lines if key == line or (_element(key) == _element(line) and ("_" in key) != ("_" in line))]
        if not served:
            unknown.append(key)
        for line in served:
            if line in given:
                raise ValueError(f"two factors for {line} in {dict(factors)}; give one")
            given[line] = float(factor)
    missing = [line for line in lines if line not in given]
    if unknown or missing:
        said = [f"no factor for {', '.join(missing)}"] * bool(missing) + [f"factors for {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{' and '.join(said)}; the channels are {', '.join(lines)}")
    return given


def _atomic_weights(lines: list[str]) -> np.ndarray:
    """Return the atomic weights of eXSpy's table, g/mol."""
    with warnings.catch_warnings():
        # eXSpy 0.3 imports HyperSpy's classes from where HyperSpy 2.5 deprecates them.
        warnings.simplefilter("ignore")
        from exspy.material import elements as table

    elements = [_element(line) for line in lines]
    unknown = [element for element in elements if element not in table]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not the symbol of an element")
    return np.array([table[element]["General_properties"]["atomic_weight"] for element in elements])
