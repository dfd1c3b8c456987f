# SPDX-License-Identifier: GPL-3.0-or-later
"""Mass density and atoms per volume from reconstructed counts, with known dose and solid angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.cross_sections.factors import convert_factors
from hyperspy_multitomo.composition.cross_sections.tables import atomic_weights
from hyperspy_multitomo.composition.dask_blocks import as_array
from hyperspy_multitomo.composition.quantification import ordered_factors

__all__ = ["UNITS", "electrons_per_pixel", "quantify_density"]

#: Units of the densities; g/cm^3 times `_ATOMS` over M in g/mol is atoms per nm^3.
UNITS = ("g/cm^3", "atoms/nm^3")
_ATOMS = 602.214076
_BARN = 1e-10  # nm^2
_ELEMENTARY_CHARGE = 1.602176634e-19  # C


def quantify_density(
    volumes: ArrayLike,
    elements: Sequence[str],
    method: str,
    factors: Mapping[str, float] | Sequence[float],
    dose: float,
    *,
    solid_angle: float | None = None,
    units: str = "g/cm^3",
) -> np.ndarray:
    """Convert volumes of counts per nm of path to the density of each element.

    With X_e the counts per nm, D the electrons per pixel and sigma_e the partial cross section for
    a detected photon, there are X_e/(sigma_e D) atoms per volume, of the mass zeta_e X_e/D.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y)
        Reconstructed counts per nm of path, NumPy or dask.
    elements : sequence of str
        Names of the channels, elements or lines.
    method : {"zeta", "cross_section", "model"}
        Kind of `factors`: zeta-factors (kg/m^2), partial cross sections (barn), X-ray factors f
        (barn mol/g).
    factors : mapping of str to float, or sequence of float
        As in `quantify`.
    dose : float
        D, electrons per pixel and tilt at a gain of 1, see `electrons_per_pixel`.
    solid_angle : float, optional
        Of all detectors together, sr; required for ``"model"``.
    units : {"g/cm^3", "atoms/nm^3"}, default "g/cm^3"

    Returns
    -------
    array (channel, z, x, y)
        float32 for float32 volumes, and a dask array for dask arrays. It is neither masked nor
        normalised: the densities of the elements add up to that of all matter that has maps.

    Raises
    ------
    ValueError
        For k-factors, which are relative, a missing solid angle, a dose that is not positive, and
        what `quantify` refuses.

    References
    ----------
    M. Watanabe, D.B. Williams, J. Microsc. 221 (2006) 89, doi:10.1111/j.1365-2818.2006.01549.x.
    K.E. MacArthur et al., Microsc. Microanal. 22 (2016) 71, doi:10.1017/S1431927615015494.

    Examples
    --------
    >>> import numpy as np
    >>> density = quantify_density(np.ones((1, 2)), ["Au"], "zeta", [1000.0], dose=1e8)
    >>> density.round(2)
    array([[10., 10.]])
    """
    volumes = as_array(volumes)
    lines = [str(element) for element in elements]
    if len(lines) != len(volumes):
        raise ValueError(
            f"the volumes have shape {volumes.shape} for the elements {elements!r}; give each "
            "channel one name"
        )
    if units not in UNITS:
        raise ValueError(f"unknown units {units!r}; use {' or '.join(map(repr, UNITS))}")
    if method == "CL":
        raise ValueError(
            "k-factors are relative and know of no density; use zeta-factors, cross sections or "
            "the model, to which "
            "cross_sections.convert_factors turns them with one absolute factor as the reference"
        )
    if not (np.isfinite(dose) and dose > 0):
        raise ValueError(f"the dose is {dose!r} electrons per pixel; expected a positive number")
    by_line = dict(zip(lines, ordered_factors(lines, factors), strict=True))
    sigma = convert_factors(lines, by_line, method, "cross_section", solid_angle=solid_angle)
    scale = 1 / (np.array([sigma[line] for line in lines]) * _BARN * dose)
    if units == "g/cm^3":
        scale = scale * atomic_weights(lines) / _ATOMS
    dtype = np.result_type(volumes.dtype, np.float32)
    return volumes * scale.astype(dtype).reshape((-1,) + (1,) * (volumes.ndim - 1))


def electrons_per_pixel(
    beam_current_nA: ArrayLike, live_time_s: ArrayLike, pixels: float
) -> np.ndarray:
    """Return the electrons per pixel of a map.

    Parameters
    ----------
    beam_current_nA : float or array_like (tilt,)
        Beam current, nA.
    live_time_s : float or array_like (tilt,)
        Live time of the whole *map*, s, as in microscope files and eXSpy's metadata.
    pixels : float
        Pixels of the map as it was scanned; after binning, the smaller number of binned pixels.

    Returns
    -------
    numpy.ndarray
        Electrons per pixel. eXSpy's dose, current times live time, is that of the whole map.

    Raises
    ------
    ValueError
        For values that are not positive.

    Examples
    --------
    >>> float(electrons_per_pixel(0.1, 65.536, 256 * 256).round(-3))
    624000.0
    """
    current, time = np.asarray(beam_current_nA, dtype=float), np.asarray(live_time_s, dtype=float)
    if not ((current > 0).all() and (time > 0).all() and pixels > 0):
        raise ValueError(
            f"beam current {current} nA, live time {time} s, {pixels} pixels: all have to be "
            "positive"
        )
    return current * 1e-9 * time / (_ELEMENTARY_CHARGE * pixels)
