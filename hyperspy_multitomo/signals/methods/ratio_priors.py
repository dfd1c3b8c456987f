# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios from cross sections as a prior of their fit, and how far to trust each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hyperspy_multitomo.composition import cross_sections
from hyperspy_multitomo.composition.response.ratio_prior import WIDTH
from hyperspy_multitomo.composition.xrays.efficiency import SOFT
from hyperspy_multitomo.signals.metadata.acquisition_settings import (
    TEM,
    efficiencies,
    energies_of,
    lines_of,
)

__all__ = ["CalculatedPrior", "calculated_prior", "recorded_angles"]

#: Width of a ratio whose line is below 1 keV, of a detector of unknown efficiency, and of all
#: ratios where the angles of the HAADF detector are unknown: a factor of three.
WIDE = float(np.log(3))
# Angles (mrad) of a detector that is not known. From C to Pt at 200 keV, ratios with inner angles
# of 50 to 100 mrad agree with these to within 12 % of their geometric mean, with 30 mrad to 20 %;
# all elastic scattering together, 1.7 times too much for C and 1.5 times too little for Pt.
TYPICAL_ANGLES = (60.0, 200.0)


@dataclass(frozen=True)
class CalculatedPrior:
    """Calculated ratios and the widths of their logarithms, by element, or why there are none."""

    ratios: dict[str, float] | None = None
    widths: dict[str, float] = field(default_factory=dict)
    why_not: str = ""


def recorded_angles(haadf) -> tuple[float, float] | None:
    """Return the recorded inner and outer angle of the HAADF detector, mrad, or None."""
    detector = f"{TEM}.Detector.STEM"
    angles = [
        haadf.metadata.get_item(f"{detector}.{name}_angle", default=None)
        for name in ("inner", "outer")
    ]
    return None if None in angles else (float(angles[0]), float(angles[1]))


def calculated_prior(
    series, haadf, angles: tuple[float, float] | None = None, efficiency=None
) -> CalculatedPrior:
    """Return the ratios of a series of maps by its beam energy and lines, with their widths.

    Parameters
    ----------
    series : TiltSeriesEDS or TiltSeriesEELS
        A series without X-ray lines or beam energy, as of EELS, has no calculated ratios.
    haadf : TiltSeriesHAADF
        Its recorded angles are used where `angles` is None, and typical ones without.
    angles : (float, float), optional
        Inner and outer angle of the HAADF detector, mrad.
    efficiency : number, dict or callable, optional
        Of the X-ray detector; see `model_ratios`.

    Returns
    -------
    CalculatedPrior

    Raises
    ------
    ValueError
        For angles or efficiencies that were given and are impossible.
    """
    energy = series.metadata.get_item(f"{TEM}.beam_energy", default=None)
    if series._COUNTED == "edges":
        return CalculatedPrior(why_not="there are no cross sections for edges of EELS")
    try:
        lines = lines_of(series, series.channels)
    except ValueError as error:
        return CalculatedPrior(why_not=str(error).partition(":")[0])
    if energy is None:
        return CalculatedPrior(why_not="the beam energy is not in the metadata")
    given, known = angles is not None, angles or recorded_angles(haadf)
    shares = efficiencies(lines, 1.0 if efficiency is None else efficiency)
    try:
        ratios = cross_sections.model_ratios(
            lines, float(energy), known or TYPICAL_ANGLES, efficiency=shares
        )
    except ValueError as error:
        if given:
            raise
        return CalculatedPrior(why_not=str(error))
    widths = {
        element: WIDE if known is None or (efficiency is None and line < SOFT) else WIDTH
        for element, line in zip(ratios, energies_of(lines), strict=True)
    }
    return CalculatedPrior(ratios, widths)
