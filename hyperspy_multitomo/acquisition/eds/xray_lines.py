# SPDX-License-Identifier: GPL-3.0-or-later
"""X-ray lines: the families of each element, and the line by which it is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["LineFamily", "families_of", "fwhm", "line_of", "resolve_lines"]

#: Energy of Mn Ka in keV, at which detector resolutions are given.
MN_KA = 5.8987
#: Variance of the number of electron-hole pairs in silicon, as FWHM^2 in eV^2 per eV (Fiori &
#: Newbury 1978).
FANO = 2.5


@dataclass(frozen=True, eq=False)
class LineFamily:
    """
    The lines of one shell of an element.

    Attributes
    ----------
    element : str
    shell : "K", "L" or "M"
    names : tuple of str
        Names of the lines, the main line first: ``("Fe_Ka", "Fe_Kb")``.
    energies : ndarray (line,)
        In keV.
    weights : ndarray (line,)
        Intensities relative to the main line.
    """

    element: str
    shell: str
    names: tuple[str, ...]
    energies: np.ndarray
    weights: np.ndarray

    @property
    def main(self) -> str:
        """Name of the main line, which names the family: ``"Fe_Ka"``."""
        return self.names[0]

    @property
    def energy(self) -> float:
        """Energy of the main line in keV."""
        return float(self.energies[0])


def fwhm(energy: ArrayLike, resolution: float = 130.0) -> np.ndarray:
    """
    Return the full width at half maximum of a line in keV.

    Parameters
    ----------
    energy : array_like
        In keV.
    resolution : float, default 130
        Full width at half maximum of Mn Ka in eV.

    Returns
    -------
    ndarray
        FWHM(E)^2 = FWHM(Mn Ka)^2 + 2.5 eV (E - E(Mn Ka)), as in eXSpy; never below 20 eV.

    References
    ----------
    C. E. Fiori and D. E. Newbury, SEM/1978/I, SEM Inc., AMF O'Hare, p. 401.

    Examples
    --------
    >>> fwhm([0.5249, 5.8987], resolution=130).round(3)
    array([0.059, 0.13 ])
    """
    square = resolution**2 + FANO * 1e3 * (np.asarray(energy, dtype=float) - MN_KA)
    return np.sqrt(np.maximum(square, 400.0)) / 1e3


def families_of(
    element: str,
    beam_energy: float | None = None,
    energy_range: tuple[float, float] = (0.0, np.inf),
) -> tuple[LineFamily, ...]:
    """
    List the line families of an element that are excited and in range, from eXSpy's data base.

    Parameters
    ----------
    element : str
        Symbol.
    beam_energy : float, optional
        In keV; lines above it are not excited.
    energy_range : (float, float), default everything
        In keV; has to include the main line of the family.

    Returns
    -------
    tuple of LineFamily
        In the order K, L, M. Lines that are out of range are left out.

    Raises
    ------
    ValueError
        For an unknown element.

    Examples
    --------
    >>> [family.main for family in families_of("Fe", 200, (0.2, 20))]
    ['Fe_Ka', 'Fe_La']
    """
    low, high = energy_range
    high = min(high, np.inf if beam_energy is None else beam_energy)
    found = []
    for family in _all_families(element):
        inside = (family.energies > low) & (family.energies < high)
        if inside[0]:
            names = tuple(name for name, keep in zip(family.names, inside, strict=True) if keep)
            found.append(
                LineFamily(
                    element, family.shell, names, family.energies[inside], family.weights[inside]
                )
            )
    return tuple(found)


def line_of(
    element: str,
    beam_energy: float | None = None,
    energy_range: tuple[float, float] = (0.0, np.inf),
) -> str:
    """
    Choose the line by which an element is mapped.

    The rule is eXSpy's: of K, L and M the first whose main line is in range and below half the beam
    energy (an overvoltage of 2), else the last in range. Lines of high energy overlap least and are
    absorbed least. The M line of a heavy element may have more counts; name it in `lines`
    ("Pt_Ma") to use it.

    Parameters
    ----------
    element : str
    beam_energy : float, optional
        In keV.
    energy_range : (float, float)
        In keV.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For an unknown element, or one without a line in range.

    Examples
    --------
    >>> line_of("Pt", 200, (0.2, 20))
    'Pt_La'
    """
    families = families_of(element, beam_energy, energy_range)
    if not families:
        lines = (
            ", ".join(f"{family.main} {family.energy:g} keV" for family in _all_families(element))
            or "none known"
        )
        raise ValueError(
            f"{element} has no X-ray line between {energy_range[0]:g} and {energy_range[1]:g} keV"
            + ("" if beam_energy is None else f" at a beam energy of {beam_energy:g} keV")
            + f" ({lines}); leave it out"
        )
    excited = [
        family for family in families if beam_energy is None or family.energy < beam_energy / 2
    ]
    return excited[0].main if excited else families[-1].main


def resolve_lines(
    elements: Sequence[str] | None = None,
    lines: Sequence[str] | None = None,
    beam_energy: float | None = None,
    energy_range: tuple[float, float] = (0.0, np.inf),
) -> dict[str, str]:
    """
    Choose one line for each element.

    Parameters
    ----------
    elements : sequence of str, optional
        Symbols; the line is chosen by `line_of` unless `lines` names it.
    lines : sequence of str, optional
        Names of main lines, e.g. ``["Fe_Ka", "Pt_Ma"]``; one per element.
    beam_energy, energy_range
        As in `families_of`.

    Returns
    -------
    dict
        ``{"Fe": "Fe_Ka", ...}`` in the order of `elements`, then `lines`.

    Raises
    ------
    ValueError
        For no elements or lines, unknown or repeated ones, and lines out of range.

    Examples
    --------
    >>> resolve_lines(["Fe", "Pt"], ["Pt_Ma"], 200, (0.2, 20))
    {'Fe': 'Fe_Ka', 'Pt': 'Pt_Ma'}
    """
    if isinstance(elements, str) or isinstance(lines, str):
        raise TypeError(f"elements and lines are lists of names; got {elements!r} and {lines!r}")
    elements, lines = list(elements or ()), list(lines or ())
    named = {line.split("_")[0]: line for line in lines}
    if not elements and not lines:
        raise ValueError(
            'name the elements, e.g. elements=["Mg", "Si", "Fe"], or the lines, e.g. '
            'lines=["Pt_Ma"]'
        )
    if len(named) < len(lines) or len(set(elements)) < len(elements):
        raise ValueError(
            f"each element can be given once, with one line; got elements={elements}, lines={lines}"
        )
    chosen = {}
    for element in dict.fromkeys([*elements, *named]):
        if element not in named:
            chosen[element] = line_of(element, beam_energy, energy_range)
            continue
        mains = [family.main for family in families_of(element, beam_energy, energy_range)]
        if named[element] not in mains:
            raise ValueError(
                f"{named[element]!r} is not a main line of {element} between {energy_range[0]:g} "
                f"and {energy_range[1]:g} keV; expected one of {mains}"
            )
        chosen[element] = named[element]
    return chosen


def line_energy(line: str) -> float:
    """
    Return the energy of an X-ray line in keV.

    Parameters
    ----------
    line : str
        Its name as in eXSpy, ``"Fe_Ka"``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For an unknown line.

    Examples
    --------
    >>> round(line_energy("Fe_Ka"), 2)
    6.4
    """
    element, _, name = line.partition("_")
    try:
        return float(_data_base()[element][name][0])
    except KeyError:
        raise ValueError(f"unknown line {line!r}; expected a name such as 'Fe_Ka'") from None


@cache
def _all_families(element: str) -> tuple[LineFamily, ...]:
    known = _data_base()
    if element not in known:
        raise ValueError(f"unknown element {element!r}; expected a symbol such as 'Fe'")
    table = known[element]
    families = []
    for shell in "KLM":
        if f"{shell}a" not in table:
            continue
        others = sorted(
            (name for name in table if name[0] == shell and name != f"{shell}a"),
            key=lambda name: -table[name][1],
        )
        names = (f"{shell}a", *others)
        energies, weights = np.array([table[name] for name in names]).T
        families.append(
            LineFamily(
                element, shell, tuple(f"{element}_{name}" for name in names), energies, weights
            )
        )
    return tuple(families)


@cache
def _data_base() -> dict[str, dict[str, tuple[float, float]]]:
    """Return (energy in keV, weight) of each line of each element."""
    import warnings

    with warnings.catch_warnings():
        # eXSpy issues deprecation warnings at import.
        warnings.simplefilter("ignore")
        from exspy.material import elements
    lines = {}
    for symbol, properties in elements.as_dictionary().items():
        table = (
            properties.get("Atomic_properties", {}).get("Xray_lines")
            if isinstance(properties, dict)
            else None
        )
        if table:
            lines[symbol] = {
                name: (line["energy (keV)"], line["weight"]) for name, line in table.items()
            }
    return lines
