# SPDX-License-Identifier: GPL-3.0-or-later
"""Factors of a quantification from cross sections, and conversion between their kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.composition.cross_sections.elastic import elastic_browning, haadf
from hyperspy_multitomo.composition.cross_sections.relaxation import emission
from hyperspy_multitomo.composition.cross_sections.tables import atomic_weights, symbol_of

#: Zeta-factor in kg/m^2 times cross section in barn over atomic weight in g/mol: 1/(N_A 1e-28 m^2
#: 1e3).
_ZETA = 1 / (6.02214076e23 * 1e-25)
KINDS = ("CL", "zeta", "cross_section", "model")


def xray_factor(line: str, keV: float, model: str = "cascade", efficiency: float = 1.0) -> float:
    """Return the X-ray factor f of a line: photons emitted and detected, per mass.

    f = sigma_ionisation x yield x line fraction x efficiency / M. Counts X are n f C rho t with n =
    N_A D Omega/(4 pi), so that weight fractions C are proportional to X/f.

    Parameters
    ----------
    line : str
        One line (``"Ag_La"``), as in elemental maps, or a family (``"Ag_L"``).
    keV : float
        Energy of the beam.
    model : {"cascade", "direct"}, default "cascade"
        See `emission`.
    efficiency : float, default 1.0
        Of the detector for this line, above 0 up to 1.

    Returns
    -------
    float
        barn mol/g.

    Raises
    ------
    ValueError
        For what `emission` refuses, and an invalid efficiency.

    References
    ----------
    Y. Yuan et al., Ultramicroscopy 220 (2021) 113166, eqs 4 to 8.

    Examples
    --------
    >>> round(xray_factor("Co_Ka", 80, "direct", efficiency=0.96), 2)
    2.25
    """
    if not 0 < efficiency <= 1:
        raise ValueError(
            f"the efficiency for {line} is {efficiency!r}; expected a number above 0, up to 1"
        )
    return emission(line, keV, model) * float(efficiency) / float(atomic_weights([line])[0])


def haadf_factor(element: str, keV: float, angles: tuple[float, float] | None = None) -> float:
    """Return z, the HAADF signal per mass thickness: elastic cross section over atomic weight.

    Parameters
    ----------
    element : str
        Symbol, or a line of the element.
    keV : float
        Energy of the beam; 60 to 300 keV with angles.
    angles : (float, float), optional
        Inner and outer angle of the detector, mrad. Without them, all elastic scattering by
        Browning's formula, as in Yuan's model, which ignores the detector's angles.

    Returns
    -------
    float
        barn mol/g.

    Raises
    ------
    ValueError
        For what `haadf` or `elastic_browning` refuse.

    Examples
    --------
    >>> round(haadf_factor("Co", 80) / 1e4, 1), round(haadf_factor("Co", 80, (60, 200)) / 1e4, 2)
    (9.5, 1.96)
    """
    if angles is None:
        scattered = elastic_browning(element, keV)
    else:
        try:
            inner, outer = angles
        except (TypeError, ValueError):
            raise ValueError(
                f"the HAADF's angles are {angles!r}; expected (inner, outer) in mrad, e.g. (60, "
                "200)"
            ) from None
        scattered = haadf(element, keV, inner, outer)
    return scattered / float(atomic_weights([element])[0])


def convert_factors(
    lines: Sequence[str],
    factors: Mapping[str, float] | Sequence[float],
    source: str,
    target: str,
    *,
    solid_angle: float | None = None,
    reference: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Convert factors of one kind to another.

    Parameters
    ----------
    lines : sequence of str
        Elements or lines.
    factors : mapping of str to float, or sequence of float
        One positive factor for each of `lines`, by its name or in the same order.
    source, target : {"CL", "zeta", "cross_section", "model"}
        Kinds: k-factors by weight (relative to each other), zeta-factors (kg/m^2), partial cross
        sections for a detected photon (barn), X-ray factors f (barn mol/g) over all directions.
    solid_angle : float, optional
        Of the detectors, sr: between ``"model"`` and ``"zeta"`` or ``"cross_section"``, sigma = f M
        Omega/(4 pi).
    reference : mapping of str to float, optional
        For the source ``"CL"``: the target's factor of one line, which sets the scale.

    Returns
    -------
    dict of str to float
        By the names in `lines`. ``"CL"`` factors are relative to the first line, whose k is 1.

    Raises
    ------
    ValueError
        For unknown kinds, factors that are missing or not positive, a missing solid angle or
        reference.

    Notes
    -----
    k ~ zeta ~ M/sigma ~ 1/f and zeta = M/(N_A sigma), as in eXSpy's ``zeta_to_cross_section``.

    References
    ----------
    K.E. MacArthur et al., Microsc. Microanal. 22 (2016) 71, doi:10.1017/S1431927615015494. M.
    Watanabe, D.B. Williams, J. Microsc. 221 (2006) 89, doi:10.1111/j.1365-2818.2006.01549.x.

    Examples
    --------
    >>> zeta = convert_factors(["Ni_Ka"], [10.3], "cross_section", "zeta")
    >>> {line: round(value, 1) for line, value in zeta.items()}
    {'Ni_Ka': 94.6}
    >>> round(convert_factors(["Ni_Ka"], zeta, "zeta", "cross_section")["Ni_Ka"], 3)
    10.3
    """
    lines = list(lines)
    for kind in (source, target):
        if kind not in KINDS:
            raise ValueError(f"unknown kind of factor {kind!r}; use one of {', '.join(KINDS)}")
    values = _values(lines, factors)
    weights = atomic_weights(lines)
    # All kinds describe the detected counts per mass, up to a scale where the source is relative.
    response = {
        "CL": 1 / values,
        "zeta": _ZETA / values,
        "cross_section": values / weights,
        "model": values,
    }[source]
    if target == "CL":
        return dict(zip(lines, (response[0] / response).tolist(), strict=True))
    scale = 1.0
    if source == "CL":
        if not reference or len(reference) != 1 or next(iter(reference)) not in lines:
            one = f"the {target} factor of one of {', '.join(lines)}"
            raise ValueError(
                f"k-factors are relative: pass reference= with {one}; got {reference!r}"
            )
        name, value = next(iter(reference.items()))
        place = lines.index(name)
        absolute = {"zeta": _ZETA / value, "cross_section": value / weights[place], "model": value}[
            target
        ]
        scale = absolute / response[place]
    elif (source == "model") != (target == "model"):
        if solid_angle is None or not 0 < solid_angle <= 4 * np.pi:
            other = source if target == "model" else target
            raise ValueError(
                f"between 'model' and {other!r} the detectors' solid angle is needed, above 0 up "
                "to 4 pi sr; got "
                f"solid_angle={solid_angle!r}"
            )
        scale = (4 * np.pi / solid_angle) ** (1 if target == "model" else -1)
    response = scale * response
    found = {"zeta": _ZETA / response, "cross_section": response * weights, "model": response}[
        target
    ]
    return dict(zip(lines, found.tolist(), strict=True))


def _values(lines: list[str], factors: Mapping[str, float] | Sequence[float]) -> np.ndarray:
    if isinstance(factors, Mapping):
        if set(factors) != set(lines):
            raise ValueError(
                f"the factors are those of {', '.join(factors)}; expected one for each of "
                f"{', '.join(lines)}"
            )
        factors = [factors[line] for line in lines]
    values = np.array(list(factors), dtype=float)
    if values.shape != (len(lines),) or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(
            f"the factors are {values.tolist()}; expected one positive number for each of "
            f"{', '.join(lines)}"
        )
    return values


def model_ratios(
    lines: Sequence[str],
    keV: float,
    angles: tuple[float, float] | None = None,
    model: str = "cascade",
    efficiency: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return response ratios z/f, HAADF signal per count, up to a common factor.

    Parameters
    ----------
    lines : sequence of str
        One line of each element.
    keV : float
        Energy of the beam.
    angles : (float, float), optional
        Inner and outer angle of the HAADF detector, mrad; see `haadf_factor`.
    model : {"cascade", "direct"}, default "cascade"
        See `emission`.
    efficiency : sequence of float, optional
        Of the X-ray detector for each line; 1 by default.

    Returns
    -------
    dict of str to float
        By the elements.

    Raises
    ------
    ValueError
        For what `haadf_factor` and `xray_factor` refuse.

    References
    ----------
    Y. Yuan et al., Ultramicroscopy 220 (2021) 113166, eqs 15 and 16.

    Examples
    --------
    >>> ratios = model_ratios(["Ag_La", "Au_Ma"], 100, (60, 200))
    >>> round(ratios["Au"] / ratios["Ag"], 2)
    0.97
    """
    shares = np.ones(len(lines)) if efficiency is None else np.asarray(efficiency, dtype=float)
    return {
        symbol_of(line): haadf_factor(line, keV, angles)
        / xray_factor(line, keV, model, float(share))
        for line, share in zip(lines, shares, strict=True)
    }
