# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition in percent from reconstructed counts, in closed form, and its standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.cross_sections.factors import KINDS
from hyperspy_multitomo.composition.cross_sections.tables import atomic_weights, symbol_of
from hyperspy_multitomo.composition.dask_blocks import as_array, voxelwise
from hyperspy_multitomo.composition.particle.threshold import mask_and_voxels
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import is_positive

__all__ = ["composition_errors", "mean_composition", "quantify"]

UNITS = ("weight", "atomic")


def quantify(
    volumes: ArrayLike,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    composition_units: str = "weight",
    mask: str | float | ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Convert volumes of counts to percent of the listed elements.

    With X_e the counts (per unit length, in any unit): weight fractions C_e ~ k_e X_e (``"CL"``,
    Cliff and Lorimer), C_e ~ zeta_e X_e (``"zeta"``) or C_e ~ X_e / f_e (``"model"``), and atoms ~
    X_e / sigma_e (``"cross_section"``), normalised to 100 percent in every voxel; negative counts
    are taken as 0. The percentages are those of the listed elements alone. Absorption is not
    corrected.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y), or channel first and any other axes
        Reconstructed counts of each element, by any method. NumPy or dask.
    elements : sequence of str
        Names of the channels, elements ("Au") or lines ("Au_La").
    method : {"CL", "zeta", "cross_section", "model"}
        Kind of `factors`: k-factors (relative to any common element), zeta-factors (kg/m^2),
        partial ionisation cross sections (barn) or X-ray factors f (barn mol/g,
        `cross_sections.xray_factor`).
    factors : mapping of str to float, or sequence of float
        Positive factor of every channel: a dict by element or line, or a list in eXSpy's order,
        the alphabetical order of the lines, whatever the order of the channels.
    composition_units : "weight" or "atomic", default "weight"
        Weight or atomic percent (eXSpy's default is atomic).
    mask : {"auto", "esf", "otsu"}, float, array_like of bool (z, x, y) or None, default None
        Voxels of the particle, or the method to find them in the sum over the elements weighted by
        their factors (mass or atoms): see `particle_mask`. None is ``"auto"``.

    Returns
    -------
    composition : array (channel, z, x, y)
        Percent, 0 outside the mask and where no listed element is present; float32 for float32
        volumes. A dask array for dask arrays; its blocks are independent, except that a median mask
        depends on the neighbours of each voxel.
    mask : array of bool (z, x, y)
        Voxels that were quantified.

    Raises
    ------
    ValueError
        For an unknown method or unit, factors that are missing, not positive or of other elements,
        a volume without signal, and a threshold that cannot be found.

    Warns
    -----
    UserWarning
        If voxels of the particle are negative, as from FBP, CGLS or without the constraint; not for
        dask arrays, where negative counts are taken as 0 without a warning. For means over a region
        see `mean_composition`.

    Notes
    -----
    The result equals eXSpy's ``quantification`` of the same intensities, except that eXSpy's
    Cliff-Lorimer method takes intensities below 0.1 as absent, whatever the unit of the counts.

    References
    ----------
    G. Cliff, G.W. Lorimer, J. Microsc. 103 (1975) 203, doi:10.1111/j.1365-2818.1975.tb03895.x (CL).
    M. Watanabe, D.B. Williams, J. Microsc. 221 (2006) 89, doi:10.1111/j.1365-2818.2006.01549.x
    (zeta). K.E. MacArthur et al., Microsc. Microanal. 22 (2016) 71, doi:10.1017/S1431927615015494
    (cross sections). Y. Yuan et al., Ultramicroscopy 220 (2021) 113166, eq. 12 (model).

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
    composition, inside, _ = quantify_and_count(
        volumes, elements, method, factors, composition_units, mask
    )
    return composition, inside


def quantify_and_count(
    volumes: ArrayLike,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    composition_units: str = "weight",
    mask: str | float | ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Return the results of `quantify`, and the number of voxels inside.

    That is None where it would need another pass over dask arrays.
    """
    volumes = as_array(volumes)
    lines = _checked_lines(volumes, elements)
    weights = _weights(lines, method, factors, composition_units)
    inside, voxels = _particle(volumes, _mass_or_atoms(lines, method, factors), mask)
    if not is_lazy(volumes) and not is_lazy(inside):
        _warn_of_negatives(volumes, inside)
    percent = voxelwise(_percentages, volumes, inside, weights, dtype=_float_of(volumes))
    return percent, inside, voxels


def mean_composition(
    volumes: ArrayLike,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    composition_units: str = "weight",
    mask: ArrayLike | None = None,
) -> np.ndarray:
    """Return the composition of a whole region from the sums of its counts.

    Negative voxels are included: an absent element comes out as 0 within its noise, whereas the
    mean of fractions that cannot be negative is above 0.

    Parameters
    ----------
    volumes, elements, method, factors, composition_units
        As in `quantify`.
    mask : array_like of bool (z, x, y), optional
        The region; by default all voxels.

    Returns
    -------
    numpy.ndarray (channel,)
        Percent, of sum 100; for an absent element possibly a little below 0.

    Raises
    ------
    ValueError
        As `quantify`, and for a region without voxels or without counts.

    Examples
    --------
    >>> import numpy as np
    >>> mean_composition(np.array([[30.0, 10.0], [1.0, -1.0]]), ["Au", "Ag"], "CL", [1.0, 1.0])
    array([100.,   0.])
    """
    volumes = as_array(volumes)
    lines = _checked_lines(volumes, elements)
    weights = _weights(lines, method, factors, composition_units)
    inside = (
        np.ones(volumes.shape[1:], bool) if mask is None else _particle(volumes, weights, mask)[0]
    )
    chosen = volumes * inside
    sums = weights * np.asarray(chosen.sum(axis=tuple(range(1, chosen.ndim)), dtype=np.float64))
    if not sums.sum() > 0:
        raise ValueError(
            f"the counts of {', '.join(lines)} in the region, weighted by their factors, sum up to "
            f"{sums.sum():.4g}; expected "
            "more than 0: give a region with signal"
        )
    return 100 * sums / sums.sum()


def composition_errors(
    volumes: ArrayLike,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    composition_units: str = "weight",
    mask: ArrayLike | None = None,
    *,
    factor_errors: Mapping[str, float] | float | None = None,
    count_errors: ArrayLike | None = None,
) -> np.ndarray:
    """Return the standard errors of a composition, to first order in errors of factors and counts.

    With the relative errors d_e of w_e X_e::

        var C_e = C_e^2 [(1 - 2 C_e) d_e^2 + sum_a C_a^2 d_a^2]

    Errors of factors are the same in all voxels, so that they do not average out over a region as
    the noise of the counts does.

    Parameters
    ----------
    volumes, elements, method, factors, composition_units
        As in `quantify`.
    mask : array_like of bool (z, x, y), optional
        The particle, as returned by `quantify`; by default all voxels.
    factor_errors : mapping of str to float, or float, optional
        Relative standard errors of the factors, 0.1 for 10 %, by element or line, or one for all;
        they are independent of each other, and 0 by default.
    count_errors : array_like, optional
        Standard errors of the volumes, in their unit, of their shape or broadcast to it.

    Returns
    -------
    array (channel, z, x, y)
        Percent, 0 outside the mask; a dask array if `volumes` is one.

    Raises
    ------
    ValueError
        As `quantify`, for negative errors (for dask arrays when they are computed), and if neither
        kind of error is given.

    Examples
    --------
    >>> import numpy as np
    >>> counts, relative = np.ones((2, 1)), {"Au": 0.1}
    >>> errors = composition_errors(counts, ["Au", "Ag"], "CL", [1, 1], factor_errors=relative)
    >>> errors.ravel()
    array([2.5, 2.5])
    """
    volumes = as_array(volumes)
    if factor_errors is None and count_errors is None:
        raise ValueError(
            "neither factor_errors nor count_errors is given; without them there is nothing to "
            "propagate"
        )
    lines = _checked_lines(volumes, elements)
    weights = _weights(lines, method, factors, composition_units)
    relative = None if factor_errors is None else _relative_errors(lines, factor_errors)
    absolute = None if count_errors is None else _broadcast(count_errors, volumes.shape)
    inside = (
        np.ones(volumes.shape[1:], bool) if mask is None else _particle(volumes, weights, mask)[0]
    )
    return voxelwise(_propagated, volumes, inside, weights, relative, absolute, dtype=np.float64)


def _propagated(volumes, inside, weights, relative, count_errors) -> np.ndarray:
    """Return the standard errors of the composition, percent."""
    volumes = _not_negative(volumes)
    shares = _percentages(volumes.astype(np.float64), inside, weights) / 100
    # Squared errors of the fractions before the normalisation, C_e d_e: defined also where an
    # element is absent.
    squares = np.zeros(volumes.shape)
    if relative is not None:
        squares += (relative.reshape((-1,) + (1,) * (volumes.ndim - 1)) * shares) ** 2
    if count_errors is not None:
        errors = np.asarray(count_errors, dtype=np.float64)
        if errors.size and not errors.min() >= 0:
            raise ValueError(
                "count_errors holds negative or NaN values; expected standard errors from 0 up"
            )
        total = _summed(volumes, weights)
        counted = inside & (total > 0)
        of_total = np.where(counted, 1 / np.where(counted, total, 1), 0)
        squares += (weights.reshape((-1,) + (1,) * (volumes.ndim - 1)) * errors * of_total) ** 2
    variances = (1 - 2 * shares) * squares + shares**2 * squares.sum(axis=0)
    return 100 * np.sqrt(np.maximum(variances, 0))


def _broadcast(errors: ArrayLike, shape: tuple[int, ...]) -> float | np.ndarray:
    """Return errors as a number, or as an array broadcast to the shape of the volumes."""
    if np.ndim(errors) == 0:
        return float(np.asarray(errors))
    values = as_array(errors)
    try:
        if is_lazy(values):
            import dask.array as da

            return da.broadcast_to(values, shape)
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(
            f"count_errors has the shape {values.shape}; expected {shape}, or what fits it"
        ) from None


def _checked_lines(volumes, elements: Sequence[str]) -> list[str]:
    """Return the names of the channels, after checking that each element has one."""
    if volumes.ndim < 1 or isinstance(elements, str) or len(elements) != len(volumes):
        raise ValueError(
            f"the volumes have shape {volumes.shape} for the elements {elements!r}; give each "
            "channel one name"
        )
    lines = [str(element) for element in elements]
    if len({symbol_of(line) for line in lines}) != len(lines):
        raise ValueError(
            f"{', '.join(lines)} name one element twice; keep one line of each element"
        )
    return lines


def _weights(
    lines: list[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    composition_units: str,
) -> np.ndarray:
    """Return the weights of the counts of each channel, up to a common factor (channel,)."""
    if method not in KINDS:
        raise ValueError(f"unknown method {method!r}; use one of {', '.join(KINDS)}")
    if composition_units not in UNITS:
        raise ValueError(
            f"unknown composition_units {composition_units!r}; use 'weight' or 'atomic'"
        )
    values = ordered_factors(lines, factors)
    weights = 1 / values if method in ("cross_section", "model") else values
    if composition_units == "atomic" and method != "cross_section":
        weights = weights / atomic_weights(lines)
    elif composition_units == "weight" and method == "cross_section":
        weights = weights * atomic_weights(lines)
    return weights


def _mass_or_atoms(
    lines: list[str], method: str, factors: Mapping[str, float] | Sequence[float]
) -> np.ndarray:
    """Return the weights of the sum in which the particle is found: mass, or atoms."""
    return _weights(lines, method, factors, "atomic" if method == "cross_section" else "weight")


def weighted_sum(
    volumes: np.ndarray,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
) -> np.ndarray:
    """Return the sum over the elements (mass or atoms) in which `quantify` finds the particle."""
    lines = _checked_lines(volumes, elements)
    return _total(volumes, _mass_or_atoms(lines, method, factors))


def _summed(volumes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum over the channels, one at a time."""
    return sum(weight * channel for weight, channel in zip(weights, volumes, strict=True))


def _total(volumes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum in the precision of the volumes."""
    return _summed(volumes, weights.astype(_float_of(volumes)))


def _float_of(volumes) -> np.dtype:
    return np.result_type(volumes.dtype, np.float32)


def _relative_errors(lines: list[str], errors: Mapping[str, float] | float) -> np.ndarray:
    """Return the relative error of each channel, 0 or more."""
    if isinstance(errors, Mapping):
        unknown = [key for key in errors if not _channels_of(key, lines)]
        if unknown:
            raise ValueError(
                f"factor_errors for {', '.join(unknown)}; the channels are {', '.join(lines)}"
            )
        found = dict.fromkeys(lines, 0.0) | {
            line: float(e) for key, e in errors.items() for line in _channels_of(key, lines)
        }
        values = np.array(list(found.values()))
    else:
        values = np.full(len(lines), float(errors))
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise ValueError(
            f"factor_errors holds {errors!r}; expected relative errors from 0 up, 0.1 for 10 %"
        )
    return values


def _percentages(volumes: np.ndarray, inside: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return 100 w_e X_e / sum_a w_a X_a inside, 0 outside and where the sum is not positive.

    Negative X are taken as 0.
    """
    dtype = _float_of(volumes)
    # Only ratios of the weights matter; scaled to at most 1 they cannot overflow float32.
    weights = (weights / weights.max()).astype(dtype)
    volumes = _not_negative(volumes)
    total = _summed(volumes, weights)
    counted = inside & (total > 0)
    scale = np.where(
        counted, dtype.type(100) / np.where(counted, total, dtype.type(1)), dtype.type(0)
    )
    return np.stack(
        [weight * channel * scale for weight, channel in zip(weights, volumes, strict=True)]
    )


def _not_negative(volumes: np.ndarray) -> np.ndarray:
    return np.maximum(volumes, 0) if volumes.size and volumes.min() < 0 else volumes


def _warn_of_negatives(volumes: np.ndarray, inside: np.ndarray) -> None:
    """Warn of negative voxels of the particle, with their number and fraction."""
    if not (volumes.size and volumes.min() < 0):
        return
    negative = np.count_nonzero((volumes < 0).any(axis=0) & inside)
    if negative:
        share = 100 * negative / np.count_nonzero(inside)
        warn(
            f"{negative} voxels of the particle, {share:.2g} %, have negative counts of an "
            "element, which count as 0 in the "
            "fractions of each voxel, so that means of these lie too high where an element is "
            "weak; take the composition of a "
            "region by mean_composition, and reconstruct with nonnegative=True for voxels"
        )


def _particle(
    volumes: np.ndarray, weights: np.ndarray, mask: str | float | ArrayLike | None
) -> tuple[np.ndarray, int | None]:
    """Return the mask, found in the weighted sum over the elements or checked, and its voxels.

    Their number is None where it would need another pass over a dask array.
    """
    if np.ndim(mask) > 0:  # type: ignore[arg-type]
        inside = as_array(mask)
        if inside.dtype != bool or inside.shape != volumes.shape[1:]:
            raise ValueError(
                f"the mask is {inside.dtype} of shape {inside.shape}; expected bool of shape "
                f"{volumes.shape[1:]}"
            )
        return inside, None if is_lazy(inside) else int(np.count_nonzero(inside))
    return mask_and_voxels(_total(volumes, weights), "auto" if mask is None else mask)


def ordered_factors(lines: list[str], factors: Mapping[str, float] | Sequence[float]) -> np.ndarray:
    """Return one positive factor per channel, in the order of the channels."""
    if isinstance(factors, Mapping):
        by_line = _matched(lines, factors)
    else:
        listed = list(factors)
        if len(listed) != len(lines):
            raise ValueError(
                f"{len(listed)} factors for {len(lines)} elements; list one for each of "
                f"{', '.join(sorted(lines))}, "
                "in this order, or pass a dict"
            )
        by_line = dict(zip(sorted(lines), listed, strict=True))
    bad = [f"{line}: {by_line[line]}" for line in lines if not is_positive(by_line[line])]
    if bad:
        raise ValueError(f"factors have to be positive and finite, but there is {', '.join(bad)}")
    return np.array([float(by_line[line]) for line in lines])


def _matched(lines: list[str], factors: Mapping[str, float]) -> dict[str, float]:
    """Match keys, each an element or a line, with the channels."""
    by_line: dict[str, float] = {}
    unknown = []
    for key, factor in factors.items():
        channels = _channels_of(key, lines)
        if not channels:
            unknown.append(key)
        for line in channels:
            if line in by_line:
                raise ValueError(f"two factors for {line} in {dict(factors)}; give one")
            by_line[line] = factor
    missing = [line for line in lines if line not in by_line]
    if unknown or missing:
        problems = [f"no factor for {', '.join(missing)}"] * bool(missing) + [
            f"factors for {', '.join(unknown)}"
        ] * bool(unknown)
        raise ValueError(f"{' and '.join(problems)}; the channels are {', '.join(lines)}")
    return by_line


def _channels_of(key: str, lines: list[str]) -> list[str]:
    """Return the channels to which a factor called `key` applies."""
    # "Au" applies to a channel "Au_La" and "Au_La" to a channel "Au", but "Au_Ma" not to "Au_La".
    return [
        line
        for line in lines
        if key == line or (symbol_of(key) == symbol_of(line) and ("_" in key) != ("_" in line))
    ]
