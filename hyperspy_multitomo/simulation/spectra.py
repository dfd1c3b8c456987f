# SPDX-License-Identifier: GPL-3.0-or-later
"""EDS spectrum images, drawn photon by photon from maps of expected counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.eds.xray_lines import families_of, fwhm, line_of

_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


def spectra(
    expected_maps: ArrayLike,
    elements: Sequence[str],
    energies: ArrayLike | None = None,
    *,
    lines: Mapping[str, str] | None = None,
    beam_energy: float = 200.0,
    resolution: float = 130.0,
    continuum: float = 1.0,
    seed: int | np.random.Generator | None = None,
) -> np.ndarray:
    """
    Draw Poisson spectra for every pixel: Gaussian lines of each element on bremsstrahlung.

    Parameters
    ----------
    expected_maps : array_like (channel, tilt, x, y)
        Mean counts in the main line of each element; `SimulatedSeries.expected_maps`.
    elements : sequence of str (channel,)
        Symbols.
    energies : array_like (energy,), optional
        Centres of the channels, keV, evenly spaced and ascending; by default 1024 of 20 eV from 0.
    lines : mapping of str to str, optional
        Main line of elements that should not have the default one, ``{"Au": "Au_Ma"}``. The default
        is that of `acquisition.eds.xray_lines.line_of`.
    beam_energy : float, default 200.0
        keV.
    resolution : float, default 130.0
        Full width at half maximum of Mn Ka, eV.
    continuum : float, default 1.0
        Bremsstrahlung counts, over all energies, per count in the main lines.
    seed : int, Generator or None, default None
        Seed of the noise.

    Returns
    -------
    numpy.ndarray (tilt, x, y, energy), uint16

    Raises
    ------
    ValueError
        If the maps are not expected counts of these elements, an element has no line in range, or
        the energies are not even.

    Notes
    -----
    All families of an element have main lines of equal strength, unlike those of real elements. The
    continuum follows Kramers' law, (E0 - E) / E, behind a window that absorbs the softest X-rays.

    Examples
    --------
    >>> import numpy as np
    >>> spectra(np.full((1, 2, 4, 4), 5.0), ["Fe"], seed=0).shape
    (2, 4, 4, 1024)
    """
    expected = np.asarray(expected_maps, dtype=np.float64)
    if expected.ndim != 4 or len(elements) != len(expected):
        raise ValueError(
            f"the maps have the shape {expected.shape} for {elements!r}; expected (channel, tilt, "
            "x, y), one name each"
        )
    if not (np.isfinite(expected).all() and (expected >= 0).all()):
        raise ValueError(
            "the expected counts hold negative or infinite values; Poisson counts need means from "
            "0 up"
        )
    energies = (
        np.arange(1024) * 0.02 if energies is None else np.asarray(energies, dtype=np.float64)
    )
    steps = np.diff(energies)
    if (
        energies.ndim != 1
        or energies.size < 2
        or not (steps > 0).all()
        or not np.allclose(steps, steps[0])
    ):
        raise ValueError(
            "the energies are not evenly spaced and ascending; expected the centres of the "
            "channels in keV"
        )
    within = (max(0.1, energies[0]), min(energies[-1], beam_energy))
    shapes = [
        _element_shape(name, (lines or {}).get(name), energies, within, beam_energy, resolution)
        for name in elements
    ]
    shapes.append(continuum * _bremsstrahlung(energies, beam_energy))
    means = np.concatenate([expected, expected.sum(axis=0, keepdims=True)])
    rng = np.random.default_rng(seed)
    images = np.empty((*expected.shape[1:], energies.size), np.uint16)
    for t in range(expected.shape[1]):
        images[t] = _draw_photons(means[:, t], shapes, rng)
    return images


def _draw_photons(
    means: np.ndarray, shapes: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Draw the photons of one tilt, (x, y, energy), at a cost proportional to their number."""
    size = shapes[0].size
    image = np.zeros(means[0].size * size, np.uint16)
    for mean, shape in zip(means, shapes, strict=True):
        total = shape.sum()
        photons = rng.poisson(mean.ravel() * total)
        pixel = np.repeat(np.arange(photons.size), photons)
        channel = (
            np.searchsorted(np.cumsum(shape) / total, rng.random(pixel.size), side="right")
            if total > 0
            else pixel
        )
        np.add.at(image, pixel * size + np.minimum(channel, size - 1), 1)
    return image.reshape(*means.shape[1:], size)


def _element_shape(
    element: str,
    main: str | None,
    energies: np.ndarray,
    within: tuple[float, float],
    beam_energy: float,
    resolution: float,
) -> np.ndarray:
    """Return the spectrum of an element for one count in its main line, (energy,)."""
    main = line_of(element, beam_energy, within) if main is None else main
    families = families_of(element, beam_energy, within)
    if main not in [family.main for family in families]:
        raise ValueError(
            f"{main!r} is not in range; the main lines of {element} there are "
            f"{[f.main for f in families]}"
        )
    shape = np.zeros(energies.size)
    for family in families:
        for energy, weight in zip(family.energies, family.weights, strict=True):
            sigma = float(fwhm(energy, resolution)) * _SIGMA_PER_FWHM
            bell = np.exp(-(((energies - energy) / sigma) ** 2) / 2)
            shape += weight * (energies[1] - energies[0]) / (sigma * np.sqrt(2 * np.pi)) * bell
    return shape


def _bremsstrahlung(energies: np.ndarray, beam_energy: float) -> np.ndarray:
    """Return Kramers' continuum behind a thin window, of unit sum."""
    positive = np.maximum(energies, 1e-3)
    # The window transmits half of the X-rays at 0.35 keV and 2 % at 0.2 keV; its absorption
    # decreases with the cube of E, to less than 3 % above 1 keV.
    shape = (
        np.clip(beam_energy - energies, 0, None)
        / positive
        * np.exp(-np.log(2) * (0.35 / positive) ** 3)
        * (energies > 0.05)
    )
    return shape / shape.sum()
