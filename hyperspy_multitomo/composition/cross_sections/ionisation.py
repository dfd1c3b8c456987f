# SPDX-License-Identifier: GPL-3.0-or-later
"""Ionisation cross sections: the fit of Bote and Salvat to distorted-wave calculations."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from hyperspy_multitomo.composition.cross_sections.tables import SHELLS, atomic_number, table

#: Rest energy of the electron, keV.
REST_ENERGY = 510.99895
#: Highest beam energy, keV.
LARGEST_ENERGY = 1000.0
# 4 pi times the square of the Bohr radius, barn.
_BOHR_AREA = 4 * np.pi * 0.529177210903**2 * 1e8
# Overvoltage up to which the first of the two formulas is valid.
_LOW = 16.0


def edge(element: str, shell: str) -> float:
    """Return the ionisation energy of a subshell.

    Parameters
    ----------
    element : str
        Symbol.
    shell : {"K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5"}
        Subshell.

    Returns
    -------
    float
        keV; NaN where the element has no such shell.

    Raises
    ------
    ValueError
        For an unknown element or shell.

    Examples
    --------
    >>> edge("Au", "M5")
    2.21189
    """
    return float(table()["ionisation"][atomic_number(element) - 1, _place(shell), 0])


def ionisation(element: str, shell: str, keV: float) -> float:
    """Return the cross section for the ionisation of a shell by an electron.

    Parameters
    ----------
    element : str
        Symbol, hydrogen to californium.
    shell : {"K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5", "L", "M"}
        Subshell; ``"L"`` and ``"M"`` are the sums of their subshells.
    keV : float
        Energy of the beam, above the edge, up to 1000 keV.

    Returns
    -------
    float
        barn.

    Raises
    ------
    ValueError
        For an unknown element, a missing shell, and an energy below the edge or outside the range.

    Notes
    -----
    The formula is fitted to cross sections in the distorted-wave and plane-wave Born
    approximations. For the K shell they are within a few percent of measurements, for L within
    10 %; for M there are few measurements.

    References
    ----------
    D. Bote, F. Salvat, A. Jablonski, C.J. Powell, At. Data Nucl. Data Tables 95 (2009) 871,
    doi:10.1016/j.adt.2009.08.001.

    Examples
    --------
    >>> round(ionisation("Ag", "L3", 100))
    2440
    """
    energy = checked_energy(keV)
    if shell in ("L", "M"):
        parts = [each for each in SHELLS if each[0] == shell and np.isfinite(edge(element, each))]
        if not parts:
            raise ValueError(f"{element} has no {shell} shell in the table")
        excited = [each for each in parts if energy > edge(element, each)]
        if not excited:
            _below(element, parts[-1], energy)
        return sum(ionisation(element, each, energy) for each in excited)
    threshold = edge(element, shell)
    if not np.isfinite(threshold):
        raise ValueError(f"{element} has no {shell} shell in the table")
    if energy <= threshold:
        _below(element, shell, energy)
    _, b, anlj, g1, g2, g3, g4, *a = table()["ionisation"][
        atomic_number(element) - 1, _place(shell)
    ]
    u = energy / threshold
    if u <= _LOW:
        fitted = a[0] + a[1] * u + a[2] / (1 + u) + a[3] / (1 + u) ** 3 + a[4] / (1 + u) ** 5
        return float(_BOHR_AREA * (u - 1) / u**2 * fitted**2)
    beta2 = relativistic(energy)[1]
    momentum = np.sqrt(energy * (energy + 2 * REST_ENERGY)) / REST_ENERGY  # in units of m c
    bracket = (2 * np.log(momentum) - beta2) * (1 + g1 / momentum)
    bracket += g2 + g3 * np.sqrt(REST_ENERGY / (energy + REST_ENERGY)) + g4 / momentum
    return float(_BOHR_AREA * anlj / beta2 * u / (u + b) * bracket)


def checked_energy(keV: float) -> float:
    """Return the energy of a beam as a float, above 0 and up to 1000 keV."""
    energy = float(keV)
    if not 0 < energy <= LARGEST_ENERGY:
        raise ValueError(
            f"the beam energy is {keV!r} keV; expected a number above 0, up to {LARGEST_ENERGY:g}, "
            "in keV"
        )
    return energy


def relativistic(keV: float) -> tuple[float, float]:
    """Return (p c in keV, beta^2) of an electron of this kinetic energy."""
    momentum = np.sqrt(keV * (keV + 2 * REST_ENERGY))
    return float(momentum), float((momentum / (keV + REST_ENERGY)) ** 2)


def _place(shell: str) -> int:
    if shell not in SHELLS:
        raise ValueError(
            f"unknown shell {shell!r}; expected one of {', '.join(SHELLS)}, or L or M for the sum "
            "of theirs"
        )
    return SHELLS.index(shell)


def _below(element: str, shell: str, energy: float) -> NoReturn:
    """Raise the error of a beam energy below the edge."""
    raise ValueError(
        f"{element} {shell} is ionised above {edge(element, shell):g} keV, but the beam has "
        f"{energy:g} keV; choose another line "
        f"of {element}, or correct the beam energy"
    )
