# SPDX-License-Identifier: GPL-3.0-or-later
"""X-ray maps with self-absorption, traced ray by ray on a finer grid than the reconstruction's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
from hyperspy_multitomo.composition.xrays.detectors import detectors_from, relative_weights
from hyperspy_multitomo.composition.xrays.self_absorption import (
    attenuation_coefficients,
    linear_attenuation,
    voxel_transmission,
)
from hyperspy_multitomo.simulation.specimen import Phantom
from hyperspy_multitomo.tomography import TiltGeometry, projector

__all__ = ["absorbed_maps"]


def absorbed_maps(
    phantom: Phantom,
    detectors,
    tilts: ArrayLike | None = None,
    *,
    lines: Sequence[str | float] | None = None,
    oversampling: int = 2,
    progress: Callable[[int, int], object] | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """
    Return the expected counts of a phantom that absorbs X-rays on their way to the detectors.

    At every tilt the ray from the centre of each emitting fine voxel to each detector is traced
    exactly through the fine voxels. The transmitted emission is projected along the beam and
    averaged over the pixels of the maps. Neither grid nor method are those of `ray_transmission`,
    which corrects for absorption, so that one can test the other.

    Parameters
    ----------
    phantom : Phantom
        With the truth in g/cm^3 of each element, as `gold_shell`, `heavy_oxide` and `yuan` have it.
        Only these elements absorb, and only inside the slices: nothing absorbs beyond the ends of
        the tilt axis.
    detectors : XRayDetector, sequence, or "super-x"
        See `detectors_from`. The phantom's counts are those of all detectors together.
    tilts : array_like (tilt,), optional
        Degrees; by default the phantom's.
    lines : sequence of str or float, optional
        Line of each channel (``"Al_Ka"``), or its energy in keV; by default the phantom's
        `elements`.
    oversampling : int, default 2
        Fine voxels along each edge of a voxel, in all three directions.
    progress : callable, optional
        Called as ``progress(tilts done, tilts)`` after each tilt.
    threads : int, optional
        By default all cores that are available.

    Returns
    -------
    numpy.ndarray (channel, tilt, x, y), float32
        Mean counts, from which `count` draws Poisson counts.

    Raises
    ------
    ValueError
        If the phantom is not in g/cm^3, or lines are missing or unknown.

    Examples
    --------
    >>> from hyperspy_multitomo.simulation import simulate
    >>> from hyperspy_multitomo.simulation.absorbing_phantoms import gold_shell
    >>> phantom = gold_shell(size=16)
    >>> seen = absorbed_maps(phantom, "super-x", tilts=[0])
    >>> emitted = simulate(phantom, tilts=[0], oversampling=2).expected_maps
    >>> (seen.sum(axis=(1, 2, 3)) / emitted.sum(axis=(1, 2, 3))).round(2)
    array([0.83, 0.99], dtype=float32)
    """
    if phantom.unit != "g/cm^3":
        raise ValueError(
            f"the phantom {phantom.name!r} is in {phantom.unit}; absorption needs the mass of each "
            "element in g/cm^3"
        )
    if int(oversampling) != oversampling or oversampling < 1:
        raise ValueError(
            f"`oversampling` is {oversampling!r}; expected a whole number of fine voxels per "
            "voxel, 1 or more"
        )
    lines = phantom.elements if lines is None else lines
    if isinstance(lines, str) or len(lines) != len(phantom.elements):
        raise ValueError(
            f"`lines` is {lines!r}; expected one for each of {', '.join(phantom.elements)}"
        )
    energies = [line_energy(line) if isinstance(line, str) else float(line) for line in lines]
    tilts = np.asarray(phantom.tilts if tilts is None else tilts, dtype=np.float64)
    detectors = detectors_from(detectors)
    weights = relative_weights(detectors)
    k, n = int(oversampling), phantom.size
    densities = _cubic_voxels(phantom, k)
    attenuation = linear_attenuation(
        densities, attenuation_coefficients(phantom.elements, energies)
    )
    emits = densities.max(axis=0) > 0
    voxel = phantom.pixel_size / k
    emission = densities * phantom.counts_per_unit.astype(np.float32)[:, None, None, None]
    maps = np.empty((len(lines), tilts.size, n, phantom.slices), np.float32)
    for t, tilt in enumerate(tilts):
        transmission = np.zeros_like(attenuation)
        for detector, weight in zip(detectors, weights, strict=True):
            towards = detector.direction(tilt)
            traced = voxel_transmission(
                attenuation, voxel, towards, method="trace", where=emits, threads=threads
            )
            transmission += np.float32(weight) * traced
        A = projector(TiltGeometry([tilt], n, (n * k, n * k), voxel, binning=k), threads=threads)
        maps[:, t] = A(emission * transmission)[:, 0]
        if progress is not None:
            progress(t + 1, tilts.size)
    return maps


def _cubic_voxels(phantom: Phantom, factor: int) -> np.ndarray:
    """Return the body (channel, z, x, y) on cubes, `factor` along each edge of a voxel."""
    if phantom.slices == 1:
        return phantom.fine(factor).repeat(factor, axis=3)
    return replace(phantom, size=phantom.size * factor, slices=phantom.slices * factor).fine(1)
