# SPDX-License-Identifier: GPL-3.0-or-later
"""Phantoms with strong self-absorption: aluminium in a gold shell, oxygen in a heavy oxide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from hyperspy_multitomo.composition.cross_sections import emission, haadf
from hyperspy_multitomo.composition.cross_sections.tables import atomic_weights
from hyperspy_multitomo.simulation.specimen import Phantom

TILTS = np.arange(-70.0, 71.0, 5.0)  # degrees
BEAM_KEV = 200.0
SOLID_ANGLE = 0.7  # sr
HAADF_MRAD = (80.0, 200.0)
# Atoms per barn along a path of 1 nm at 1 g/cm^3 and 1 g/mol: N_A x 1e-7 cm x 1e-24 cm^2.
ATOMS = 6.02214e-8
#: Weight fractions of gold. Specific volumes add up: the densities follow from 19.3 g/cm^3 (Au) and
#: 2.70 g/cm^3 (Al).
GOLD_CORE, GOLD_SHELL = 0.10, 0.95
#: CeO2 and Ce2O3: weight fraction of oxygen, density (g/cm^3).
CERIA, REDUCED = (0.1859, 7.22), (0.1462, 6.2)


def gold_shell(size: int = 64, slices: int | None = None) -> Phantom:
    """
    Return an aluminium core in a gold shell, which absorbs Al Ka.

    Two spheres: the particle has a diameter of 300 nm and a shell of 95 wt% gold; the core has
    200 nm and 90 wt% aluminium. Its centre is 15 nm off, so that the shell is 35 to 65 nm thick.

    Parameters
    ----------
    size : int, default 64
        Pixels across 400 nm; the size of the object does not depend on it.
    slices : int, optional
        Pixels along the tilt axis, of the same size; by default `size`. With less than three
        quarters of `size` the ends of the particle are out of view.

    Returns
    -------
    Phantom
        `elements` are the lines Al Ka and Au La, `truth` is mass per volume in g/cm^3. Counts
        without absorption are those of 1.5e7 electrons of 200 keV per pixel on 0.7 sr with an
        efficiency of 1. 29 tilts from -70 to 70 degrees.

    Raises
    ------
    ValueError
        If a size is too small.

    Notes
    -----
    The counts follow from the package's cross sections. The HAADF (80 to 200 mrad) is linear in the
    thickness, which the HAADF of a real particle as thick as this one is not.

    Examples
    --------
    >>> phantom = gold_shell(size=32)
    >>> core = phantom.truth[:, 16, 16, 16]
    >>> (100 * core / core.sum()).round()
    array([90., 10.], dtype=float32)
    """
    return _phantom("Gold shell", ("Al_Ka", "Au_La"), size, slices, 400.0, 1.5e7, _gold_shell_body)


def _gold_shell_body(x, z, y, aspect):
    y = y * aspect
    particle = x * x + z * z + y * y < 0.75**2
    core = (x - 0.05) ** 2 + (z - 0.05) ** 2 + (y - 0.025) ** 2 < 0.5**2
    gold = np.where(core, GOLD_CORE, GOLD_SHELL)
    density = np.where(particle, 1 / (gold / 19.3 + (1 - gold) / 2.70), 0)
    return np.stack([(1 - gold) * density, gold * density]).astype(np.float32)


def heavy_oxide(size: int = 64, slices: int | None = None) -> Phantom:
    """
    Return a particle of CeO2 touching a smaller one of Ce2O3; both absorb O Ka.

    Ellipsoids of 200 x 180 x 190 nm (18.6 wt% O) and 110 x 120 x 110 nm (14.6 wt% O). Absorption
    lowers the apparent oxygen of the large one towards that of the small one.

    Parameters
    ----------
    size : int, default 64
        Pixels across 360 nm; the size of the object does not depend on it.
    slices : int, optional
        Pixels along the tilt axis, of the same size; by default `size`.

    Returns
    -------
    Phantom
        `elements` are the lines O Ka and Ce La, `truth` is mass per volume in g/cm^3. Counts
        without absorption are those of 1.5e7 electrons of 200 keV per pixel on 0.7 sr with an
        efficiency of 1. 29 tilts from -70 to 70 degrees.

    Raises
    ------
    ValueError
        If a size is too small.

    Examples
    --------
    >>> phantom = heavy_oxide(size=32)
    >>> mass = phantom.truth[:, 16, 14, 16]
    >>> (100 * mass / mass.sum()).round(1)
    array([18.6, 81.4], dtype=float32)
    """
    return _phantom("Heavy oxide", ("O_Ka", "Ce_La"), size, slices, 360.0, 1.5e7, _heavy_oxide_body)


def _heavy_oxide_body(x, z, y, aspect):
    y, half_width = y * aspect, 180.0  # nm
    large = _inside_ellipsoid(x, z, y, (-40, 0, 0), (100, 90, 95), half_width)
    small = _inside_ellipsoid(x, z, y, (105, 35, 15), (55, 60, 55), half_width) & ~large
    oxygen = np.where(large, CERIA[0], REDUCED[0])
    density = np.where(large, CERIA[1], np.where(small, REDUCED[1], 0))
    return np.stack([oxygen * density, (1 - oxygen) * density]).astype(np.float32)


def _inside_ellipsoid(x, z, y, centre, half_axes, half_width):
    """Return the mask of an ellipsoid; centre and half axes (x, z, y) in nm."""
    distances = (
        (value * half_width - c) / a
        for value, c, a in zip((x, z, y), centre, half_axes, strict=True)
    )
    return sum(distance * distance for distance in distances) < 1


def _phantom(
    name: str,
    lines: tuple[str, ...],
    size: int,
    slices: int | None,
    field: float,
    electrons: float,
    body: Callable,
) -> Phantom:
    slices = size if slices is None else slices
    if size < 8 or slices < 1:
        raise ValueError(
            f"the phantom has {size} pixels across and {slices} slices; expected at least 8 and 1"
        )
    atoms = ATOMS / atomic_weights(lines)
    photons = np.array([emission(line, BEAM_KEV) for line in lines])
    scattered = np.array([haadf(line.partition("_")[0], BEAM_KEV, *HAADF_MRAD) for line in lines])
    return Phantom(
        name=name,
        elements=lines,
        unit="g/cm^3",
        size=size,
        slices=slices,
        pixel_size=field / size,
        tilts=TILTS,
        haadf_tilts=TILTS,
        counts_per_unit=electrons * SOLID_ANGLE / (4 * np.pi) * atoms * photons,
        haadf_per_unit=1e5 * atoms * scattered,
        blur=0.0,
        haadf_noise="poisson",
        body=partial(body, aspect=slices / size),
    )
