# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of axes: lengths in nm, angles in degrees, energies in keV, or none of these."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Unit", "unit_of"]

# What programs write where an axis has no calibration.
_UNCALIBRATED = ("", "px", "pixel", "pixels", "undefined", "none")
# pint's units of the kinds that axes have here, and the size of ours in them.
_KINDS = {"length": ("meter", 1e-9), "angle": ("degree", 1.0), "energy": ("kiloelectron_volt", 1.0)}
_PER_PIXEL = re.compile(r"\s*(?:/|per)\s*(?:px|pixels?)$")
# Spellings that pint misreads (an angstrom without its ring is an ampere) or does not know.
_SPELLINGS = {
    "A": "Å",
    "º": "degree",
    "˚": "degree",
    "°": "degree",
    "degs": "degree",
    "kev": "keV",
    "ev": "eV",
    "KEV": "keV",
    "EV": "eV",
}
_SPELLINGS |= dict.fromkeys(("a.u", "au", "arb", "arb. units", "unit", "units"), "arbitrary")


class Unit(NamedTuple):
    """
    The unit of an axis.

    Attributes
    ----------
    kind : {"length", "angle", "energy", "none", "unknown", "other"}
        ``"none"``: not calibrated, in pixels; ``"unknown"``: a word that is no unit; ``"other"``: a
        unit of another quantity.
    factor : float
        Its size in nm, degrees or keV; 1 for the other kinds.
    """

    kind: str
    factor: float = 1.0


@lru_cache(maxsize=256)
def _parsed(text: str) -> Unit:
    import pint

    registry = pint.get_application_registry()
    # Words may be written in capitals ("Micron"), symbols not ("Mm").
    for spelling in dict.fromkeys((text, text.lower() if len(text) > 2 else text)):
        try:
            unit = registry.Unit(spelling)
        except Exception:  # pint raises errors of many types for texts that are no unit
            continue
        for kind, (standard, size) in _KINDS.items():
            # Angles and plain numbers are both dimensionless: pint converts one into the other.
            same = unit.dimensionality == registry.Unit(standard).dimensionality
            if same and (
                kind != "angle" or registry.get_root_units(unit)[1] == registry.Unit("radian")
            ):
                return Unit(kind, float(registry.Quantity(1.0, unit).to(standard).magnitude) / size)
        return Unit("other")
    return Unit("unknown")


def unit_of(text) -> Unit:
    """
    Return the kind and size of a unit in any usual spelling.

    Parameters
    ----------
    text : str or None
        As at an axis: ``"nm"``, ``"Å"``, ``"micrometer"``, ``"[deg]"``, ``"mrad"``, ``"eV"``,
        ``"px"`` ...

    Returns
    -------
    Unit

    Examples
    --------
    >>> unit_of("Å"), unit_of("microns")
    (Unit(kind='length', factor=0.1), Unit(kind='length', factor=1000.0))
    >>> [unit_of(text).kind for text in ("[deg]", "1/nm", None, "furlongz")]
    ['angle', 'other', 'none', 'unknown']
    """
    text = str(text if text is not None else "").strip("<>[](). ")
    text = _SPELLINGS.get(text, text)
    text = _PER_PIXEL.sub("", unicodedata.normalize("NFKC", text).replace("_", ""))
    if text.lower() in _UNCALIBRATED:
        return Unit("none")
    unit = _parsed(text)
    return unit._replace(factor=float(f"{unit.factor:.15g}"))
