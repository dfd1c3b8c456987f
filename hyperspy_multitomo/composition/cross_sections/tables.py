# SPDX-License-Identifier: GPL-3.0-or-later
"""Tabulated physical data of the elements (Z 1 to 98), made by ``tools/physics_tables.py``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

#: Subshells of the table.
SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
#: Elements of the table, Z from 1.
SYMBOLS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si",
    "P", "S", "Cl", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni",
    "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo",
    "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba",
    "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb",
    "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po",
    "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf",
)  # fmt: skip
#: Transitions of each Siegbahn line: (vacancy, (shells that fill it, ...)), ...; they are summed.
LINES = {
    "Ka": (("K", ("L1", "L2", "L3")),),
    "Kb": (("K", ("M2", "M3", "N2", "N3")),),
    "La": (("L3", ("M4", "M5")),),
    "Lb1": (("L2", ("M4",)),),
    "Lb2": (("L3", ("N4", "N5")),),
    "Lb3": (("L1", ("M3",)),),
    "Lb4": (("L1", ("M2",)),),
    "Lg1": (("L2", ("N4",)),),
    "Lg3": (("L1", ("N3",)),),
    "Ll": (("L3", ("M1",)),),
    "Ln": (("L2", ("M1",)),),
    "Ma": (("M5", ("N6", "N7")),),
    "Mb": (("M4", ("N6",)),),
    "Mg": (("M3", ("N5",)),),
    "Mz": (("M5", ("N3",)), ("M4", ("N2",))),
    "M2N4": (("M2", ("N4",)),),
    "M3O4": (("M3", ("O4",)),),
    "M3O5": (("M3", ("O5",)),),
}
#: Shells that fill a vacancy, in the order of their numbers in the table.
FILLING = (*SHELLS, *(f"N{i}" for i in range(1, 8)), *(f"O{i}" for i in range(1, 10)))


@cache
def table() -> dict[str, np.ndarray]:
    """Return the arrays of the table."""
    with np.load(Path(__file__).with_name("tables.npz")) as file:
        return {name: file[name] for name in file.files}


@cache
def _properties() -> dict[str, tuple[float, float]]:
    """Return (atomic weight in g/mol, density in g/cm^3) of each element in eXSpy's table.

    An unknown density is NaN.
    """
    with warnings.catch_warnings():
        # eXSpy 0.3 imports HyperSpy's classes from where HyperSpy 2.5 deprecates them.
        warnings.simplefilter("ignore")
        from exspy.material import elements
    found = {}
    for symbol, properties in elements.as_dictionary().items():
        if symbol in SYMBOLS and "atomic_weight" in properties.get("General_properties", {}):
            density = properties.get("Physical_properties", {}).get("density (g/cm^3)", np.nan)
            found[symbol] = (
                float(properties["General_properties"]["atomic_weight"]),
                float(density),
            )
    return found


def symbol_of(name: str) -> str:
    """Return the element of a channel or line: ``"Au"`` of ``"Au_La"``."""
    return name.partition("_")[0]


def atomic_number(element: str) -> int:
    """Return Z of an element, or of the element of a line, 1 to 98; a ValueError for others."""
    symbol = symbol_of(element)
    if symbol not in SYMBOLS:
        raise ValueError(f"{element}: not the symbol of an element from hydrogen to californium")
    return SYMBOLS.index(symbol) + 1


def atomic_weights(elements: Iterable[str]) -> np.ndarray:
    """Return the atomic weights of elements, or of the elements of lines, g/mol (eXSpy's table)."""
    return np.array([_known(element)[0] for element in elements])


def densities(elements: Iterable[str]) -> np.ndarray:
    """Return the densities of the pure elements, g/cm^3 (eXSpy's table); NaN where it has none."""
    return np.array([_known(element)[1] for element in elements])


def _known(element: str) -> tuple[float, float]:
    symbol = symbol_of(element)
    if symbol not in _properties():
        raise ValueError(f"{symbol}: not the symbol of an element whose atomic weight is known")
    return _properties()[symbol]


def transitions_of(line: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (subshell of the vacancy, shells that fill it) for a line or a family (``"Ag_L"``)."""
    _, _, name = line.partition("_")
    if name in LINES:
        return LINES[name]
    if name in ("K", "L", "M"):
        return tuple(
            transition
            for each, transitions in LINES.items()
            if each[0] == name
            for transition in transitions
        )
    raise ValueError(
        f"{line!r} is not the name of an X-ray line; expected an element and one of "
        f"{', '.join(LINES)}, as 'Ag_La'"
    )


def photons(
    element: str, ionised: str, transitions: Iterable[tuple[str, tuple[str, ...]]]
) -> float:
    """Return the photons of some transitions per ionisation of a subshell, with the cascade."""
    arrays = table()
    keys = arrays["transitions"]
    of_shell = (keys[:, 0] == atomic_number(element)) & (keys[:, 1] == SHELLS.index(ionised))
    chosen = np.zeros(len(keys), bool)
    for vacancy, filling in transitions:
        places = [FILLING.index(shell) for shell in filling]
        chosen |= of_shell & (keys[:, 2] == SHELLS.index(vacancy)) & np.isin(keys[:, 3], places)
    return float(arrays["photons"][chosen].sum(dtype=np.float64))
