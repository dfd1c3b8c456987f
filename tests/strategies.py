# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies: tilts in any order, geometries,
and small series of every type of number."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from hyperspy_multitomo.tomography import TiltGeometry

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64")
FACTORS = st.floats(0.125, 8)
SEEDS = st.integers(0, 2**31 - 1)


def tilts(smallest=2, largest=6):
    """Distinct tilts (degrees) between -90 and 90, both ends and 0 among them often, in any order,
    unevenly spaced."""
    special = st.sampled_from([-90.0, -45.0, 0.0, 45.0, 90.0])
    any_tilt = st.integers(-360, 360).map(lambda quarter: quarter / 4)
    return st.lists(special | any_tilt, min_size=smallest, max_size=largest, unique=True).filter(
        lambda t: max(t) - min(t) > 1
    )


@st.composite
def geometries(draw, angles=None):
    """Detectors narrower and wider than the volume, axes off the middle, displaced projections."""
    angles = draw(tilts(1)) if angles is None else angles
    shifts = draw(st.lists(st.floats(-4, 4), min_size=len(angles), max_size=len(angles)))
    shape = (draw(st.integers(2, 14)), draw(st.integers(2, 14)))
    size = draw(st.floats(0.1, 20))
    return TiltGeometry(
        angles, draw(st.integers(2, 16)), shape, size, draw(st.floats(-3, 3)), shifts
    )


@dataclass(frozen=True)
class Views:
    """Counts of some elements and HAADF images at the same tilts, in the order of acquisition,
    (..., tilt, y, x)."""

    tilts: list[float]
    elements: tuple[str, ...]
    maps: np.ndarray
    haadf: np.ndarray
    pixel_size: float


@st.composite
def views(draw, dtypes=DTYPES, smallest=3, sides=(4, 9)):
    """Random views in whole numbers up to 100, which every type holds."""
    angles = draw(tilts(smallest))
    names = ("Au", "Ag", "Cu")[: draw(st.integers(1, 3))]
    rng = np.random.default_rng(draw(SEEDS))
    shape = (len(names), len(angles), draw(st.integers(*sides)), draw(st.integers(*sides)))
    dtype = draw(st.sampled_from(dtypes))
    maps = rng.integers(0, 20, shape).astype(dtype)
    haadf = rng.integers(0, 100, shape[1:]).astype(dtype)
    return Views(angles, names, maps, haadf, draw(st.sampled_from([0.5, 1.0, 13.08])))


@dataclass(frozen=True)
class Change:
    """One slicing of a series: of which axis, and from where to where,
    or how many pixels become one."""

    axis: str
    start: float = 0.0
    stop: float = 1.0
    step: int = 1


def changes():
    """Up to four slicings, ends as shares of the length of the axis."""
    ends = st.tuples(st.floats(0, 0.45), st.floats(0.55, 1))
    fewer_tilts = st.builds(lambda e, step: Change("tilt", *e, step), ends, st.integers(1, 2))
    crops = st.builds(lambda axis, e: Change(axis, *e), st.sampled_from("xy"), ends)
    bins = st.builds(lambda step: Change("bin", step=step), st.integers(2, 3))
    return st.lists(fewer_tilts | crops | bins, min_size=1, max_size=4)
