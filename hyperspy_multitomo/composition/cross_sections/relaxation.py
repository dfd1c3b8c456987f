# SPDX-License-Identifier: GPL-3.0-or-later
"""Emission of X-rays by ionised atoms: fluorescence yields, line fractions and the cascade."""

from __future__ import annotations

from hyperspy_multitomo.composition.cross_sections.ionisation import (
    checked_energy,
    edge,
    ionisation,
)
from hyperspy_multitomo.composition.cross_sections.tables import (
    SHELLS,
    atomic_number,
    photons,
    symbol_of,
    table,
    transitions_of,
)

MODELS = ("direct", "cascade")


def fluorescence_yield(element: str, shell: str) -> float:
    """Return the probability that a vacancy of a subshell is filled by emission of a photon.

    Parameters
    ----------
    element : str
        Symbol, beryllium to californium.
    shell : {"K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5"}
        Subshell of the vacancy.

    Returns
    -------
    float
        0 to 1; 0 for the lightest elements, which have no line.

    Raises
    ------
    ValueError
        For an unknown element or subshell.

    References
    ----------
    S.T. Perkins, D.E. Cullen et al., EADL, UCRL-50400 vol. 30 (Lawrence Livermore National
    Laboratory, 1991).

    Examples
    --------
    >>> round(fluorescence_yield("Ag", "L3"), 4)
    0.057
    """
    if shell not in SHELLS:
        raise ValueError(f"unknown subshell {shell!r}; expected one of {', '.join(SHELLS)}")
    keys = table()["transitions"]
    place = SHELLS.index(shell)
    of_vacancy = (keys[:, 1] == place) & (keys[:, 2] == place)
    chosen = (keys[:, 0] == atomic_number(element)) & of_vacancy
    return float(table()["photons"][chosen].sum(dtype=float))


def line_fraction(line: str) -> float:
    """Return the fraction of a line among all photons emitted from its subshell.

    Parameters
    ----------
    line : str
        Element and line in eXSpy's Siegbahn notation, ``"Ag_La"``; of one subshell.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    ValueError
        For an unknown line, or an element that does not have it.

    References
    ----------
    S.T. Perkins, D.E. Cullen et al., EADL, UCRL-50400 vol. 30 (Lawrence Livermore National
    Laboratory, 1991).

    Examples
    --------
    >>> round(line_fraction("Ag_La"), 3)
    0.816
    """
    element, transitions = symbol_of(line), transitions_of(line)
    vacancies = sorted({vacancy for vacancy, _ in transitions})
    if len(vacancies) > 1:
        raise ValueError(
            f"{line} fills vacancies of {' and '.join(vacancies)}; a line fraction is of one "
            "subshell"
        )
    share = photons(element, vacancies[0], transitions)
    if share == 0:
        raise ValueError(
            f"{element} does not emit {line}: there is no such transition in the table"
        )
    return share / fluorescence_yield(element, vacancies[0])


def emission(line: str, keV: float, model: str = "cascade") -> float:
    """Return the cross section for the emission of a photon of a line.

    Parameters
    ----------
    line : str
        One line in eXSpy's notation (``"Ag_La"``), or a family (``"Ag_L"``), whose lines are
        summed.
    keV : float
        Energy of the beam.
    model : {"cascade", "direct"}, default "cascade"
        ``"direct"``: only photons after ionisation of the line's own subshell, as in Yuan's model.
        ``"cascade"``: also those after ionisation of deeper subshells, whose vacancies move
        outwards by Coster-Kronig, Auger and radiative transitions.

    Returns
    -------
    float
        barn, over all directions.

    Raises
    ------
    ValueError
        For an unknown line or model, an element that does not have the line, or a beam that does
        not excite it.

    References
    ----------
    Y. Yuan et al., Ultramicroscopy 220 (2021) 113166 (direct). S.T. Perkins, D.E. Cullen et al.,
    EADL, UCRL-50400 vol. 30 (1991). D. Bote et al., At. Data Nucl. Data Tables 95 (2009) 871,
    doi:10.1016/j.adt.2009.08.001.

    Examples
    --------
    >>> round(emission("Ag_La", 100, "cascade") / emission("Ag_La", 100, "direct"), 2)
    1.31
    """
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}; use 'cascade' or 'direct'")
    element, transitions, energy = symbol_of(line), transitions_of(line), checked_energy(keV)
    vacancies = {vacancy for vacancy, _ in transitions}
    subshells = [shell for shell in SHELLS if shell in vacancies and edge(element, shell) > 0]
    excited = [shell for shell in SHELLS if energy > edge(element, shell)]
    if subshells and not set(subshells) & set(excited):
        ionisation(element, subshells[-1], energy)  # raises the error that names the edge
    total = 0.0
    for shell in excited:
        if model == "direct":
            emitted = [each for each in transitions if each[0] == shell]
        else:
            emitted = list(transitions) if subshells else []
        total += ionisation(element, shell, energy) * photons(element, shell, emitted)
    if total == 0:
        raise ValueError(
            f"{element} does not emit {line}: there is no such transition in the table"
        )
    return total
