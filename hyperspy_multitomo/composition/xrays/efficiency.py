# SPDX-License-Identifier: GPL-3.0-or-later
"""Efficiency of an X-ray detector: fraction of photons that pass its window and are absorbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.xrays.self_absorption import attenuation_coefficients
from hyperspy_multitomo.machine.notices import warn

__all__ = ["WINDOWS", "Layer", "checked_efficiency", "efficiency"]

#: g/cm^3.
SILICON_DENSITY = 2.33
#: Energy (keV) below which windows and dead layers absorb so much that an assumed efficiency of 1
#: is warned of.
SOFT = 1.0


@dataclass(frozen=True)
class Layer:
    """A layer that X-rays pass at normal incidence.

    Attributes
    ----------
    material : str or mapping
        Symbol of an element, or weight fractions by element. Fractions may add up to less than 1 if
        hydrogen is left out.
    thickness_nm : float
        nm.
    density : float
        g/cm^3.
    coverage : float, default 1.0
        Fraction of the area that it covers: for a grid, 1 minus its open area.

    Raises
    ------
    ValueError
        If a number is not positive, or the fractions add up to more than 1.

    Examples
    --------
    >>> layer = Layer("Be", 8000, 1.85)
    >>> layer.transmission([1.4865, 6.4]).round(2)
    array([0.78, 1.  ])
    """

    material: str | Mapping[str, float]
    thickness_nm: float
    density: float
    coverage: float = 1.0

    def __post_init__(self):
        if not (
            np.isfinite(self.thickness_nm)
            and self.thickness_nm >= 0
            and np.isfinite(self.density)
            and self.density > 0
        ):
            raise ValueError(
                f"a layer of {self.material!r} has {self.thickness_nm!r} nm and {self.density!r} "
                "g/cm^3; expected positive ones"
            )
        if not 0 <= self.coverage <= 1:
            raise ValueError(
                f"the layer of {self.material!r} covers {self.coverage!r} of the area; expected 0 "
                "to 1"
            )
        fractions = self._fractions
        if not fractions or min(fractions.values()) < 0 or sum(fractions.values()) > 1.001:
            raise ValueError(
                f"the weight fractions {self.material!r} are not positive or add up to more than 1"
            )

    @property
    def _fractions(self) -> dict[str, float]:
        return {self.material: 1.0} if isinstance(self.material, str) else dict(self.material)

    def transmission(self, energy_keV: ArrayLike) -> np.ndarray:
        """Return the fraction of the X-rays that passes.

        Parameters
        ----------
        energy_keV : float or array_like (...,)
            keV, 0.12 to 400.

        Returns
        -------
        numpy.ndarray (...,)
            0 to 1.

        Examples
        --------
        >>> Layer("Si", 380e3, 2.33, coverage=0.23).transmission(2.0).round(2)
        np.float64(0.77)
        """
        energies = np.asarray(energy_keV, dtype=np.float64)
        fractions = self._fractions
        coefficients = attenuation_coefficients(list(fractions), energies.reshape(-1)) @ np.array(
            list(fractions.values())
        )
        # 1 nm is 1e-7 cm.
        passed = np.exp(-coefficients * self.density * self.thickness_nm * 1e-7)
        return (1 - self.coverage + self.coverage * passed).reshape(energies.shape)[()]


#: C10 H8 O4 N, the polymer by which an AP3.3 is modelled; hydrogen left out.
_POLYMER = {"C": 120.11 / 206.18, "O": 63.996 / 206.18, "N": 14.007 / 206.18}

#: Windows by name, as `efficiency` takes them.
WINDOWS: dict[str, tuple[Layer, ...]] = {
    "windowless": (),
    "AP3.3": (
        Layer("Al", 40, 2.70),
        Layer(_POLYMER, 300, 1.39),
        Layer("Si", 380e3, SILICON_DENSITY, coverage=0.23),
    ),
    "Be": (Layer("Be", 8000, 1.85),),
}


def efficiency(
    energy_keV: ArrayLike,
    *,
    window: str | Layer | Sequence[Layer] | None = None,
    dead_layer_nm: float = 0.0,
    crystal_mm: float | None = None,
    contact: Layer | None = None,
) -> np.ndarray:
    """Return the fraction of the photons that a silicon detector counts.

    These photons pass window, contact and dead layer, and are absorbed in the crystal.

    Parameters
    ----------
    energy_keV : float or array_like (...,)
        Energies of the photons, keV, 0.12 to 400.
    window : str, Layer or sequence of Layer, optional
        ``"windowless"`` (the default), ``"AP3.3"``, ``"Be"`` (8 um), or any layers.
    dead_layer_nm : float, default 0.0
        Silicon below the contact whose charge is not collected, nm.
    crystal_mm : float, optional
        Thickness of the active silicon, mm (about 0.45 for a drift detector, 3 for Si(Li)); by
        default it absorbs all photons.
    contact : Layer, optional
        Front contact, such as ``Layer("Al", 30, 2.70)``.

    Returns
    -------
    numpy.ndarray (...,)
        0 to 1.

    Raises
    ------
    ValueError
        If the window is unknown, a thickness is negative, or an energy is outside of 0.12 to 400
        keV.

    Notes
    -----
    Approximations: all layers are passed at normal incidence; a photon absorbed in the dead layer
    is lost and one absorbed below it is counted (no incomplete charge collection, no Si K escape);
    scattered photons are neglected; a grid is an open area, not a collimator. ``"AP3.3"`` is
    modelled as by NIST: 300 nm of polymer (as C10H8O4N) and 40 nm of aluminium on a silicon grid
    380 um thick with 77 % open area. At 3 keV it agrees with the manufacturer's table within 2 %
    (0.760 and 0.772), but at 0.3 keV, near the carbon edge, it is 0.20 where the table has 0.34:
    below 1 keV use a measured curve or a standard. Ice and oil on a cold detector are not modelled.

    References
    ----------
    Construction and tables of the windows: N.W.M. Ritchie, NeXLSpectrum (NIST), window.jl.
    Coefficients: C.T. Chantler, J. Phys. Chem. Ref. Data 29 (2000) 597, doi:10.1063/1.1321055.

    Examples
    --------
    >>> detector = {"window": "AP3.3", "dead_layer_nm": 30, "crystal_mm": 0.45}
    >>> efficiency([0.5249, 1.4865, 8.05], **detector).round(2)
    array([0.49, 0.74, 0.77])
    """
    layers = [*_window_layers(window), *([] if contact is None else [contact])]
    if not (np.isfinite(dead_layer_nm) and dead_layer_nm >= 0):
        raise ValueError(f"the dead layer is {dead_layer_nm!r}; expected nm, 0 or more")
    layers.append(Layer("Si", dead_layer_nm, SILICON_DENSITY))
    counted = np.prod([layer.transmission(energy_keV) for layer in layers], axis=0)
    if crystal_mm is not None:
        if not (np.isfinite(crystal_mm) and crystal_mm > 0):
            raise ValueError(
                f"the crystal is {crystal_mm!r} thick; expected mm, above 0, or None for one that "
                "stops everything"
            )
        counted = counted * (
            1 - Layer("Si", crystal_mm * 1e6, SILICON_DENSITY).transmission(energy_keV)
        )
    return counted


def _window_layers(window: str | Layer | Sequence[Layer] | None) -> Sequence[Layer]:
    if window is None:
        return ()
    if isinstance(window, str):
        known = {name.lower(): layers for name, layers in WINDOWS.items()}
        if window.lower() not in known:
            raise ValueError(
                f"unknown window {window!r}; use one of {', '.join(WINDOWS)}, or give its layers"
            )
        return known[window.lower()]
    layers = (window,) if isinstance(window, Layer) else tuple(window)
    if not all(isinstance(layer, Layer) for layer in layers):
        raise ValueError(f"the window is {window!r}; expected a name, a Layer or a list of them")
    return layers


def checked_efficiency(
    lines: Sequence[str],
    energies: ArrayLike,
    efficiency: float | Mapping[str, float] | Callable[[np.ndarray], ArrayLike] | None = None,
) -> np.ndarray:
    """Return the detector's efficiency for each X-ray line from any description of it.

    Parameters
    ----------
    lines : sequence of str
        Names: ``"O_Ka"``.
    energies : array_like (line,)
        keV.
    efficiency : float, mapping, callable or None, default None
        One number for all lines; a number for each by line or element; a function of the energies
        in keV, such as ``functools.partial(efficiency, window="AP3.3")``; None for 1.

    Returns
    -------
    numpy.ndarray (line,)
        Above 0 and up to 1.

    Raises
    ------
    ValueError
        If a line has no efficiency, or one that is not above 0 and at most 1.

    Warns
    -----
    UserWarning
        If no efficiency is given and lines are below 1 keV, where no detector counts every photon.

    Examples
    --------
    >>> checked_efficiency(["O_Ka", "Fe_Ka"], [0.5249, 6.404], {"O": 0.6, "Fe_Ka": 0.95})
    array([0.6 , 0.95])
    """
    energies = np.asarray(energies, dtype=np.float64)
    if energies.shape != (len(lines),) or not (
        np.isfinite(energies).all() and (energies > 0).all()
    ):
        raise ValueError(
            f"there are {len(lines)} lines and energies of the shape {energies.shape}; expected "
            "one in keV for each"
        )
    if efficiency is None:
        soft = [line for line, energy in zip(lines, energies, strict=True) if energy < SOFT]
        if soft:
            warn(
                f"the detector's efficiency is taken as 1, also for {', '.join(soft)} below "
                f"{SOFT:g} keV, where windows and dead "
                "layers absorb a good part; give `efficiency`, or factors measured on a standard"
            )
        return np.ones(len(lines))
    if isinstance(efficiency, Mapping):
        missing = [
            line
            for line in lines
            if line not in efficiency and line.partition("_")[0] not in efficiency
        ]
        if missing:
            raise ValueError(
                f"there is no efficiency for {', '.join(missing)}; give one for each line, by its "
                "name or element"
            )
        values = np.array(
            [efficiency.get(line, efficiency.get(line.partition("_")[0])) for line in lines],
            dtype=np.float64,
        )
    elif callable(efficiency):
        values = np.asarray(efficiency(energies), dtype=np.float64)
        if values.shape not in ((), energies.shape):
            raise ValueError(
                f"`efficiency` gave the shape {values.shape} for {len(lines)} energies; expected a "
                "number for each"
            )
    elif isinstance(efficiency, Real) and not isinstance(efficiency, bool):
        values = np.float64(efficiency)
    else:
        raise ValueError(
            f"`efficiency` is {efficiency!r}; expected a number, a mapping by line or element, or "
            "a function of keV"
        )
    values = np.broadcast_to(values, energies.shape).copy()
    wrong = [
        f"{line}: {value:g}"
        for line, value in zip(lines, values, strict=True)
        if not 0 < value <= 1
    ]
    if wrong:
        raise ValueError(
            f"efficiencies have to be above 0 and at most 1, but there is {', '.join(wrong)}"
        )
    return values
