# SPDX-License-Identifier: GPL-3.0-or-later
"""The phantoms of the published methods, rebuilt from their descriptions."""

from __future__ import annotations

from functools import partial

import numpy as np

from hyperspy_multitomo.simulation.shapes import (
    cap,
    inside_ellipse,
    inside_polygon,
    inside_ripple,
    rotated,
)
from hyperspy_multitomo.simulation.specimen import Phantom, line_integrals

TILTS = np.arange(-75.0, 76.0, 5.0)  # degrees, of Zhong's and Yuan's phantoms


def zhong(size: int = 512, slices: int = 1) -> Phantom:
    """
    Return a gold particle in silver, both of unit density, as in the HEBT paper.

    An octagon of silver with rounded corners (circumradius 0.36 of the width) around a rounded
    square of gold (half diagonal 0.24, turned by 20 degrees, off centre by 0.015 along x and -0.02
    along z). With several slices it is a rod along the tilt axis with blunt ends; the gold inside
    is shorter and twisted by 30 degrees from end to end.

    Parameters
    ----------
    size : int, default 512
        Pixels across 512 nm; the size of the object does not depend on it.
    slices : int, default 1
        Pixels along the tilt axis.

    Returns
    -------
    Phantom
        `truth` is 1 in the element and 0 outside; counts and HAADF are per nm of path. 31 tilts
        from -75 to 75 degrees, HAADF free of noise, EDS smoothed by 3.4 nm (a full width of 8 px at
        512).

    Raises
    ------
    ValueError
        If a size is too small.

    References
    ----------
    Z. Zhong, B. Goris, R. Schoenmakers, S. Bals, K.J. Batenburg, Ultramicroscopy 174 (2017) 35,
    doi:10.1016/j.ultramic.2016.12.008.

    Examples
    --------
    >>> phantom = zhong(size=64)
    >>> phantom.truth.shape
    (2, 64, 64, 1)
    >>> phantom.ratios.round(-2)
    array([42100., 19600.])
    """
    _check_sizes(size, slices)
    pixel_size = 512 / size
    return Phantom(
        name="Zhong",
        elements=("Au", "Ag"),
        unit="1 (fraction of the volume)",
        size=size,
        slices=slices,
        pixel_size=pixel_size,
        tilts=TILTS,
        haadf_tilts=TILTS,
        counts_per_unit=np.array([1.88e-2, 2.4e-2]),
        haadf_per_unit=np.array([791.5, 471.5]),
        blur=3.4 / pixel_size,
        haadf_noise="none",
        body=_zhong_body,
    )


def _zhong_body(x, z, y):
    silver, gold = cap(y, 0.94, power=4), cap(y, 0.66, centre=0.05, power=4)
    whole = inside_polygon(*rotated(x, z, 11), 8, 0.72 * silver, 0.1035 * silver)
    core = inside_polygon(*rotated(x, z, 20 + 15 * y, (0.03, -0.04)), 4, 0.48 * gold, 0.025 * gold)
    return np.stack([core, whole & ~core]).astype(np.float32)


def yuan(size: int = 97, slices: int = 1) -> Phantom:
    """
    Return a core of 80 wt% gold in a shell of 80 wt% silver, with absolute cross sections.

    A disc of 54 nm radius (4 % three-fold ripple) contains a core of 28.5 nm (6 % four-fold), both
    slightly off centre; with several slices they are ellipsoids along the tilt axis. Specific
    volumes add up: the densities follow from 19.3 g/cm^3 (Au) and 10.49 g/cm^3 (Ag).

    Parameters
    ----------
    size : int, default 97
        Pixels across 145.5 nm; the size of the object does not depend on it.
    slices : int, default 1
        Pixels along the tilt axis.

    Returns
    -------
    Phantom
        `truth` is the mass of each element per volume, g/cm^3. EDS: 0.03 of 3.121e8 electrons per
        pixel on 0.7 sr, about 30 counts, smoothed by 1.2 nm. HAADF: 1e5 electrons per pixel; 2 % of
        the elastically scattered ones are detected.

    Raises
    ------
    ValueError
        If a size is too small.

    References
    ----------
    Y. Yuan et al., Ultramicroscopy 220 (2021) 113166, table 2 and the simulation of the silver-gold
    particle.

    Examples
    --------
    >>> phantom = yuan(size=48)
    >>> core = phantom.truth[:, 24, 24, 0]
    >>> (100 * core / core.sum()).round()
    array([80., 20.], dtype=float32)
    """
    _check_sizes(size, slices)
    pixel_size = 1.5 * 97 / size
    weight = np.array([196.967, 107.868])  # g/mol
    elastic = np.array([1.98e7, 9.90e6])  # barn, at 100 keV
    # Barn: ionisation x fluorescence yield x fraction in the line, of Au Ma and Ag La.
    detected = np.array([7.46e3 * 0.030 * 0.999, 2.44e3 * 0.057 * 0.816])
    # Atoms per barn along a path of 1 nm at 1 g/cm^3: N_A x 1e-7 cm x 1e-24 cm^2.
    atoms = 6.02214e-8 / weight
    return Phantom(
        name="Yuan",
        elements=("Au", "Ag"),
        unit="g/cm^3",
        size=size,
        slices=slices,
        pixel_size=pixel_size,
        tilts=TILTS,
        haadf_tilts=TILTS,
        counts_per_unit=0.03 * 3.121e8 * 0.7 / (4 * np.pi) * atoms * detected,
        haadf_per_unit=1e5 * 0.02 * atoms * elastic,
        blur=1.2 / pixel_size,
        haadf_noise="poisson",
        body=_yuan_body,
    )


def _yuan_body(x, z, y):
    half_width = 97 / 2  # px of 1.5 nm
    outer, inner = cap(y, 0.92), cap(y, 0.5, centre=0.04)
    particle = inside_ripple(
        *rotated(x, z, 15, (1.0 / half_width, -1.5 / half_width)), 36 / half_width * outer, 0.04, 3
    )
    core = inside_ripple(
        *rotated(x, z, 30, (3.5 / half_width, -4.0 / half_width)), 19 / half_width * inner, 0.06, 4
    )
    core_mass, shell_mass, none = (
        np.float32(_mixed_density(0.8)),
        np.float32(_mixed_density(0.2)),
        np.float32(0),
    )
    return np.stack(
        [np.where(core, core_mass[e], np.where(particle, shell_mass[e], none)) for e in range(2)]
    )


def _mixed_density(gold: float) -> tuple[float, float]:
    """Return the g/cm^3 of Au and Ag in an alloy with the weight fraction `gold`."""
    density = 1 / (gold / 19.3 + (1 - gold) / 10.49)
    return gold * density, (1 - gold) * density


def huber(size: int = 256, slices: int = 6) -> Phantom:
    """
    Return an aluminium disc with grains of Yb and Si at very few counts, after the TGV paper.

    The disc (radius 0.8 of the half width, rim 0.06 wide) contains an ellipse that grades from Yb
    to Si, an ellipse of Yb around some Si, a spot of Si that decreases from its centre, and five
    small discs of Yb. The section is rotated by 1.5 degrees from slice to slice.

    Parameters
    ----------
    size : int, default 256
        Pixels across 329 nm; the size of the object does not depend on it.
    slices : int, default 6
        Pixels along the tilt axis.

    Returns
    -------
    Phantom
        `truth` is the mass of each element per volume, g/cm^3: its density times its volume
        fraction. 36 tilts from 0 to 175 degrees. The sinograms have peaks of 0.97 (Yb), 31 (Al) and
        2.3 (Si) counts and 1.7e5 electrons of HAADF, which is proportional to Z^1.8/M.

    Raises
    ------
    ValueError
        If a size is too small.

    References
    ----------
    R. Huber, G. Haberfehlner, M. Holler, G. Kothleitner, K. Bredies, Nanoscale 11 (2019) 5617,
    doi:10.1039/C8NR09058K, fig. 2.

    Examples
    --------
    >>> huber(size=32, slices=2).elements
    ('Yb', 'Al', 'Si')
    """
    _check_sizes(size, slices)
    field = 433 * 0.76  # nm
    body = partial(_huber_body, twist=1.5 * slices / 2)
    tilts = np.arange(0.0, 180.0, 5.0)
    contrast = np.array([70**1.8 / 173.05, 13**1.8 / 26.98, 14**1.8 / 28.09])
    counts, haadf = _scaled_to_peaks(body, tilts, tilts, [0.97, 31, 2.3], 1.7e5, contrast, field)
    return Phantom(
        name="Huber",
        elements=("Yb", "Al", "Si"),
        unit="g/cm^3",
        size=size,
        slices=slices,
        pixel_size=field / size,
        tilts=tilts,
        haadf_tilts=tilts,
        counts_per_unit=counts,
        haadf_per_unit=haadf,
        blur=0.0,
        haadf_noise="poisson",
        body=body,
    )


def _huber_body(x, z, y, twist):
    x, z = rotated(x, z, twist * y)
    disc = np.clip((0.83 - np.hypot(x, z)) / 0.06, 0, 1)
    along, across = rotated(x, z, 30, (-0.30, 0.30))
    graded = inside_ellipse(along, across, (0.30, 0.17))
    silicon = np.where(graded, np.clip(0.5 + along / 0.6, 0, 1), 0)
    ytterbium = np.where(graded, 1 - silicon, 0)
    grain = inside_ellipse(*rotated(x, z, -20, (0.32, 0.30)), (0.24, 0.16))
    inclusion = inside_ellipse(x - 0.36, z - 0.28, (0.08, 0.08))
    ytterbium = ytterbium + (grain & ~inclusion)
    silicon = silicon + inclusion + np.clip(1 - np.hypot(x - 0.20, z + 0.35) / 0.26, 0, 1)
    for number, radius in enumerate((0.060, 0.050, 0.042, 0.035, 0.028)):
        angle = np.deg2rad(72 * number)
        disc_x, disc_z = -0.38 + 0.17 * np.cos(angle), -0.32 + 0.17 * np.sin(angle)
        ytterbium = ytterbium + inside_ellipse(x - disc_x, z - disc_z, (radius, radius))
    aluminium = np.clip(disc - ytterbium - silicon, 0, 1)
    return np.stack([6.90 * ytterbium, 2.70 * aluminium, 2.33 * silicon]).astype(np.float32)


def schwartz(size: int = 128, slices: int = 1) -> Phantom:
    """
    Return particles of CoO, CuO and gold with few EDS tilts, after the fused-tomography paper.

    Overlapping ellipsoids, of which one pair is a core of CoO in CuO, with small gold particles.

    Parameters
    ----------
    size : int, default 128
        Pixels across 128 nm; the size of the object does not depend on it.
    slices : int, default 1
        Pixels along the tilt axis.

    Returns
    -------
    Phantom
        `truth` is the number of atoms of each element per volume, relative to that of the metal in
        its oxide. EDS at 9 tilts, 5 counts at the peak of each element's projections; HAADF at 47
        tilts, both over -70..70 degrees, with Z^1.7 and 1e4 electrons at the peak.

    Raises
    ------
    ValueError
        If a size is too small.

    References
    ----------
    J. Schwartz, Z.W. Di, Y. Jiang, J. Manassa, J. Pietryga et al., Nat. Commun. 15 (2024) 3555,
    doi:10.1038/s41467-024-47558-0.

    Examples
    --------
    >>> phantom = schwartz(size=32)
    >>> len(phantom.tilts), len(phantom.haadf_tilts)
    (9, 47)
    """
    _check_sizes(size, slices)
    tilts, haadf_tilts = np.linspace(-70, 70, 9), np.linspace(-70, 70, 47)
    contrast = np.array([27.0, 29.0, 8.0, 79.0]) ** 1.7
    counts, haadf = _scaled_to_peaks(
        _schwartz_body, tilts, haadf_tilts, [5, 5, 5, 5], 1e4, contrast, 128.0
    )
    return Phantom(
        name="Schwartz",
        elements=("Co", "Cu", "O", "Au"),
        unit="1 (atoms per volume, relative)",
        size=size,
        slices=slices,
        pixel_size=128 / size,
        tilts=tilts,
        haadf_tilts=haadf_tilts,
        counts_per_unit=counts,
        haadf_per_unit=haadf,
        blur=0.0,
        haadf_noise="poisson",
        body=_schwartz_body,
    )


def _schwartz_body(x, z, y):
    def ellipsoid(centre, half_axes, degrees, along, half_length):
        scale = cap(y, half_length, along)
        if scale == 0:
            return np.zeros(np.broadcast_shapes(x.shape, z.shape), bool)
        return inside_ellipse(
            *rotated(x, z, degrees, centre), (half_axes[0] * scale, half_axes[1] * scale)
        )

    cobalt = ellipsoid((-0.30, 0.05), (0.34, 0.26), 25, -0.05, 0.75) | ellipsoid(
        (0.34, 0.14), (0.15, 0.13), 0, 0.05, 0.40
    )
    copper = ellipsoid((0.32, 0.12), (0.30, 0.26), -15, 0.05, 0.80) | ellipsoid(
        (-0.05, -0.42), (0.20, 0.16), 40, 0.15, 0.60
    )
    gold = np.zeros_like(cobalt)
    for centre, radius in (
        ((-0.52, 0.32), 0.06),
        ((0.02, 0.25), 0.07),
        ((0.45, -0.20), 0.08),
        ((-0.28, -0.40), 0.055),
    ):
        gold |= ellipsoid(centre, (radius, radius), 0, 0.0, 0.5)
    cobalt &= ~gold
    copper &= ~(gold | cobalt)
    return np.stack([cobalt, copper, cobalt | copper, gold]).astype(np.float32)


def _scaled_to_peaks(body, tilts, haadf_tilts, peak_counts, peak_haadf, contrast, field):
    """Return counts and HAADF signal per unit and nm for the given peaks of the projections.

    `contrast` is the relative HAADF signal of each channel, `field` the width in nm.
    """
    half_width = field / 2
    peaks = line_integrals(body, tilts).max(axis=(1, 2)) * half_width
    brightest = np.tensordot(contrast, line_integrals(body, haadf_tilts), 1).max() * half_width
    return np.asarray(peak_counts) / peaks, contrast * (peak_haadf / brightest)


def _check_sizes(size: int, slices: int) -> None:
    if int(size) != size or size < 8 or int(slices) != slices or slices < 1:
        raise ValueError(
            f"size={size!r}, slices={slices!r}; expected whole numbers, at least 8 pixels across "
            "and 1 slice"
        )
