# SPDX-License-Identifier: GPL-3.0-or-later
"""Acquisition settings of a quantification: beam energy, lines, solid angle, dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
from hyperspy_multitomo.composition.cross_sections import xray_factor
from hyperspy_multitomo.composition.cross_sections.tables import symbol_of
from hyperspy_multitomo.composition.density import electrons_per_pixel
from hyperspy_multitomo.composition.xrays.efficiency import checked_efficiency
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, grid, recall, recorded_axis

TEM = "Acquisition_instrument.TEM"
SOLID_ANGLE = f"{TEM}.Detector.EDS.solid_angle"
DOSE = f"{NODE}.dose"
# Of maps from cropped spectra, how many of their pixels the whole scan had.
SCANNED = f"{NODE}.scanned_pixels"


def beam_energy_of(signal, beam_energy: float | None = None) -> float:
    """Return the energy of the beam in keV; an error where it is not known."""
    if beam_energy is None:
        beam_energy = signal.metadata.get_item(f"{TEM}.beam_energy", default=None)
    if beam_energy is None:
        raise ValueError(
            "the beam energy is not in the metadata: pass beam_energy= in keV, or set "
            "metadata.Acquisition_instrument.TEM.beam_energy"
        )
    return float(beam_energy)


def lines_of(
    signal, elements: Sequence[str], xray_lines: Sequence[str] | Mapping[str, str] | None = None
) -> list[str]:
    """Return the X-ray line of each element: the argument's, the maps', or the metadata's."""
    if xray_lines is not None:
        listed = list(xray_lines.values() if isinstance(xray_lines, Mapping) else xray_lines)
        if isinstance(xray_lines, str):
            raise TypeError(f"xray_lines is a list of names such as ['Fe_Ka']; got {xray_lines!r}")
    else:
        listed = [line for line in recall(signal, "lines") or () if line]
        listed = listed or list(signal.metadata.get_item("Sample.xray_lines", default=()))
    by_element: dict[str, str] = {}
    for line in listed:
        element = symbol_of(str(line))
        if element in by_element and element in elements:
            raise ValueError(
                f"there are two lines of {element}, {by_element[element]} and {line}; pass "
                "xray_lines= with one of them"
            )
        by_element[element] = str(line)
    missing = [element for element in elements if element not in by_element]
    surplus = (
        []
        if xray_lines is None
        else [line for element, line in by_element.items() if element not in elements]
    )
    if missing or surplus:
        problem = (
            f"no X-ray line is known for {', '.join(missing)}"
            if missing
            else f"{', '.join(surplus)} are of no channel"
        )
        raise ValueError(
            f"{problem}: pass xray_lines= with one line for each of {', '.join(elements)}, e.g. "
            "['Fe_Ka']"
        )
    return [by_element[element] for element in elements]


def factors_of(
    signal, elements: Sequence[str], beam_energy: float | None, xray_lines, model: str, efficiency
) -> tuple[dict[str, float], dict]:
    """Return the X-ray factor f of each element (barn mol/g), and its settings for the history."""
    energy, lines = beam_energy_of(signal, beam_energy), lines_of(signal, elements, xray_lines)
    shares = efficiencies(lines, efficiency)
    factors = {
        element: xray_factor(line, energy, model, float(share))
        for element, line, share in zip(elements, lines, shares, strict=True)
    }
    settings = {
        "model": model,
        "beam_energy": energy,
        "xray_lines": lines,
        "efficiency": shares.tolist(),
    }
    return factors, settings


def efficiencies(lines: Sequence[str], efficiency) -> np.ndarray:
    """Return the detector's efficiency for each line.

    By default 1, with a warning for soft lines.
    """
    return checked_efficiency(lines, energies_of(lines), efficiency)


def energies_of(lines: Sequence[str]) -> list[float]:
    """Return the energies of lines in keV; a family such as ``"Ag_L"`` stands at its main line."""
    return [line_energy(f"{line}a" if line[-2] == "_" else line) for line in lines]


def solid_angle_of(signal, solid_angle: float | None = None) -> float:
    """Return the solid angle of the X-ray detectors in sr; an error where it is not known."""
    if solid_angle is None:
        solid_angle = signal.metadata.get_item(SOLID_ANGLE, default=None)
    if solid_angle is None:
        raise ValueError(
            "the solid angle of the X-ray detectors is not in the metadata: pass solid_angle= in "
            "sr (all detectors together), or "
            f"set metadata.{SOLID_ANGLE}"
        )
    return float(solid_angle)


def dose_of(signal, dose: float | None = None) -> float:
    """Return the electrons per pixel and tilt; an error where they are not known."""
    dose = signal.dose if dose is None else dose
    if dose is None:
        raise ValueError(
            "the dose is not known: pass dose= in electrons per pixel and tilt, which is beam "
            "current times live time of the map "
            "over its pixels and the elementary charge; or set series.dose before the "
            "reconstruction"
        )
    return float(dose)


def recorded_dose(series) -> float | None:
    """Return the dose from recorded currents and live times, the mean over tilts, or None."""
    per_tilt = [recall(series, name) for name in ("beam_current", "live_time")]
    of_series = [
        series.metadata.get_item(f"{TEM}.{path}", default=None)
        for path in ("beam_current", "Detector.EDS.live_time")
    ]
    current, time = (
        whole if values is None else values
        for values, whole in zip(per_tilt, of_series, strict=True)
    )
    if not (np.size(current) and np.size(time)) or current is None or time is None:
        return None
    if not (np.min(current) > 0 and np.min(time) > 0):
        return None
    # The live time is that of the whole scan; each pixel has its share of it.
    return float(np.mean(electrons_per_pixel(current, time, scanned_pixels(series))))


def scanned_pixels(signal) -> float:
    """Return how many present pixels the whole scan had, before it was cropped."""
    sizes = [recorded_axis(signal, name)[2] for name in ("x", "y")]
    whole = signal.metadata.get_item(SCANNED, default=float(sizes[0] * sizes[1]))
    return float(whole) / (grid(signal, "x")[1] * grid(signal, "y")[1])
