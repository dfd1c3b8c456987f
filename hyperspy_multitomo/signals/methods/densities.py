# SPDX-License-Identifier: GPL-3.0-or-later
"""From volumes of counts to absolute numbers: dose, and the density of each element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition import density
from hyperspy_multitomo.signals.metadata.acquisition_settings import DOSE, dose_of, solid_angle_of
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.methods.quantifying import (
    channels_like,
    counts_by_element,
    factors_for,
)


def get_dose_of_volume(volume) -> float | None:
    """Return the electrons per pixel and tilt (at a gain of 1), or None if not known."""
    return volume.metadata.get_item(DOSE, default=None)


@checked
def quantify_density(
    volume,
    method: str = "model",
    factors: Mapping[str, float] | Sequence[float] | None = None,
    units: str = "g/cm^3",
    *,
    dose: float | None = None,
    solid_angle: float | None = None,
    beam_energy: float | None = None,
    xray_lines: Sequence[str] | Mapping[str, str] | None = None,
    model: str = "cascade",
    efficiency=None,
):
    """Turn volumes of counts into the density of each element, in absolute numbers.

    Parameters
    ----------
    method : {"model", "zeta", "cross_section"}, default "model"
        As in `quantify`.
    factors : dict or sequence of float, optional
        As in `quantify`: zeta-factors (kg/m^2), partial cross sections for a photon in the
        detector (barn), or f (barn mol/g).
    units : {"g/cm^3", "atoms/nm^3"}, default "g/cm^3"
    dose : float, optional
        Electrons per pixel and tilt; by default those of the series, see `TiltSeriesEDS.dose`.
    solid_angle : float, optional
        For ``"model"``: of all detectors together, sr; by default ``Detector.EDS.solid_angle``
        of the metadata.
    beam_energy, xray_lines, model, efficiency
        As in `quantify`.

    Returns
    -------
    TomographicVolume
        Density of each element; the sum over the elements is that of all matter that has maps.
        Nothing is masked. Lazy where this one is.

    Raises
    ------
    ValueError
        For k-factors, which are relative, a volume without calibration, and a dose or solid
        angle that are not known.

    References
    ----------
    .. [1] M. Watanabe, D. B. Williams, J. Microsc. 221 (2006) 89,
       https://doi.org/10.1111/j.1365-2818.2006.01549.x.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> volume = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 4, 4))}, pixel_size=1.0)
    >>> density = volume.quantify_density("zeta", {"Au": 1000.0}, dose=1e8)
    >>> float(density["Au"].data.mean().round(3))
    10.0
    """
    elements, volumes = counts_by_element(volume)
    if volume.pixel_size is None:
        raise ValueError(
            "the volume has no calibration, so that its counts are per px of path: set the "
            "series' pixel size before the "
            "reconstruction, e.g. from_maps(..., pixel_size=0.76)"
        )
    options = {
        "beam_energy": beam_energy,
        "xray_lines": xray_lines,
        "model": model,
        "efficiency": efficiency,
    }
    factors, settings = factors_for(volume, method, factors, elements, "counts", None, options)
    if method == "model":
        settings["solid_angle"] = solid_angle_of(volume, solid_angle)
    electrons = dose_of(volume, dose)
    result = density.quantify_density(
        volumes,
        elements,
        method,
        factors,
        electrons,
        solid_angle=settings.get("solid_angle"),
        units=units,
    )
    result = channels_like(volume, result, elements, units, "Density")
    add_step(
        result,
        "quantify_density",
        after=volume,
        method=method,
        factors=factors,
        units=units,
        dose=electrons,
        **settings,
    )
    return result
