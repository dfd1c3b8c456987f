# SPDX-License-Identifier: GPL-3.0-or-later
"""Acquisitions planned from a pilot series or a phantom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.arguments import checked, listed
from hyperspy_multitomo.evidence.planner import AcquisitionPlan, Pilot, in_signal, planned
from hyperspy_multitomo.evidence.regions import Ellipsoid, distances, grown, voxels_of
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.methods.evidence import check_factors
from hyperspy_multitomo.signals.methods.evidence_data import coordinates_of, outline_of
from hyperspy_multitomo.signals.methods.rerun import last_reconstruction

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume

_FEWEST_TILTS = 3


def _counts(name: str, value):
    """Return numbers of tilts, whole ones from 3 up."""
    for one in listed(name, value):
        parameters.whole_number(name, one, _FEWEST_TILTS, "of tilts")
    return value


def _ranges(name: str, value):
    """Return tilt ranges, between 0 and 90 degrees."""
    if not all(0 < one <= 90 for one in listed(name, value)):
        raise ValueError(f"{name}={value!r} must be angles above 0 and up to 90 degrees")
    return value


def _least_zero(name: str, value):
    """Return a number from 0 up."""
    if parameters.number(name, value) < 0:
        raise ValueError(f"{name}={value!r} must be a number of counts, 0 or more")
    return value


@checked(
    pilot=None,
    size=parameters.positive_number,
    contrast=parameters.number,
    dose=parameters.positive_number,
    ranges=_ranges,
    tilts=_counts,
    current=parameters.positive_number,
    dwell=parameters.positive_number,
    background=_least_zero,
)
def plan_acquisition(
    pilot: TomographicVolume,
    element: str,
    *,
    size: float,
    contrast: float,
    at: Sequence[float] | None = None,
    dose: float = 1.0,
    ranges: Sequence[float] = (60, 70),
    tilts: Sequence[int] = (15, 29, 57),
    factors: Mapping[str, float] | None = None,
    region=None,
    outline=None,
    background: float = 0.0,
    current: float | None = None,
    dwell: float | None = None,
) -> AcquisitionPlan:
    """Plan an acquisition: the dose, range and number of tilts that would show a feature.

    Parameters
    ----------
    pilot : TomographicVolume or Phantom
        A volume of counts of a short series, or a phantom: what is expected of the specimen.
    element : str
        Whose feature is to be seen.
    size : float
        Diameter of the feature, a ball, in the unit of the volume's axes.
    contrast : float
        Of the feature against its surroundings: in weight percent with `factors`, else as a part of
        the mean of the element in the specimen.
    at : (float, float, float), optional
        x, y and z of its centre; by default the place deepest in the specimen.
    dose : float, default 1
        That z and errors of means are given for: total, all tilts together, in doses of the pilot.
    ranges : sequence of float, default (60, 70)
        Tilts go from -range to +range, degrees.
    tilts : sequence of int, default (15, 29, 57)
        Numbers of tilts, which share the dose.
    factors : dict of str to float, optional
        k-factors of all elements.
    region : Ellipsoid, Box or mask (z, y, x), optional
        Whose mean composition is wanted, with factors; by default the whole specimen.
    outline : array or signal, shape (z, y, x), optional
        Of the specimen; by default the volume's own threshold.
    background : float, default 0
        Expected background of the element's window, counts per pixel and image of the pilot.
    current : float, optional
        Beam current in nA: doses are given in minutes too, where that of the pilot is known.
    dwell : float, optional
        Microseconds per pixel and scan, for the number of scans of each tilt.

    Returns
    -------
    AcquisitionPlan
        Prints as a table, with `AcquisitionPlan.plot`: for each range and number of tilts the
        expected z, the dose for z = 5, electrons, minutes, and errors of the mean composition.

    Raises
    ------
    ValueError
        For a pilot of two tilts, or of no elements; for an element or factors that are missing; for
        a feature that is not within the specimen, and a contrast that it cannot have.

    Notes
    -----
    The errors are those of the fit of `evidence`, from expected instead of recorded counts. The
    pilot's volume is taken for the truth, so that a smoothed one has somewhat too smooth an
    expectation. What counts is noise alone: alignment, damage and drift are not in it, and
    the minutes are of beam on the field of view alone. Errors of means are those of three terms,
    the region, a rim of a voxel and the rest, and do not hold the bias of a reconstruction.

    Examples
    --------
    >>> import hyperspy_multitomo as mt
    >>> phantom = mt.simulation.zhong(size=32, slices=8)
    >>> plan = mt.plan_acquisition(phantom, phantom.elements[0], size=12, contrast=-0.5)
    >>> plan.rows[0].tilts, bool(plan.rows[0].dose > 0)
    (15, True)
    """
    made, coordinates, electrons = _pilot(pilot, outline, background)
    if not isinstance(element, str) or element not in made.elements:
        raise ValueError(
            f"element={parameters.shown(element)}: the pilot holds {', '.join(made.elements)}"
        )
    check_factors(factors, made.elements)
    feature = _feature(made, coordinates, size, at)
    if factors is None:
        place = made.elements.index(element)
        signal = contrast * float(made.volumes[place][made.outline].mean())
    else:
        signal = in_signal(made, element, contrast, feature, factors)
    if signal == 0:
        raise ValueError(
            f"contrast={contrast:g} of {element} is nothing: pass one other than 0, in weight "
            "percent with factors= where the pilot has none of the element"
        )
    unit = "px" if coordinates is None or made.pixel_size == 1 else "nm"
    of = f"{contrast:+g} wt%" if factors else f"{contrast:+g} of the mean"
    return AcquisitionPlan(
        planned(
            made,
            element,
            feature,
            signal,
            ranges=ranges,
            tilts=tilts,
            dose=dose,
            electrons=electrons,
            current=current,
            dwell=dwell,
            factors=factors,
            mean_of=_mean_of(made, coordinates, region),
        ),
        element,
        signal,
        dose,
        f"{size:g} {unit} across, {of}",
    )


def _pilot(pilot, outline, background: float):
    """Return a pilot in plain arrays, the coordinates of its voxels, and its electrons."""
    if hasattr(pilot, "counts_per_nm"):  # a phantom
        volumes, images = np.asarray(pilot.counts_per_nm), len(pilot.tilts)
        total = volumes.sum(axis=0)
        mask = total > 0.5 * total.max() if outline is None else mask_array(outline, total.shape)
        none = np.zeros((0, *total.shape), np.float32)
        step = pilot.pixel_size
        made = Pilot(tuple(pilot.elements), volumes, none, mask, images, step, background)
        sizes = dict(zip("zxy", total.shape, strict=True))
        middle = {axis: (sizes[axis] - 1) / 2 if axis != "y" else 0.0 for axis in "zxy"}
        middle["x"] = 0.0
        grid = {axis: step * (np.arange(sizes[axis]) - middle[axis]) for axis in "xyz"}
        return made, grid, None
    parameters.signal_of_type("pilot", pilot, "TomographicVolume")
    step = last_reconstruction(pilot)
    images = len(step["geometry"]["tilts"])
    if images < _FEWEST_TILTS:
        raise ValueError(
            f"the pilot has {images} tilts, whose volume says nothing of depth: pass one of "
            f"{_FEWEST_TILTS} or more, better of ten, or a phantom"
        )
    if not pilot.elements or not pilot.quantity.startswith("counts"):
        raise ValueError(
            f"the pilot holds {pilot.quantity or 'no counts'}: pass a volume of counts of elements"
        )
    arrays = np.asarray(pilot.array("element", "z", "x", "y"), np.float32)
    mapped = [pilot.channels.index(name) for name in pilot.elements]
    rest = np.delete(arrays, mapped, axis=0)
    mask = outline_of(pilot, arrays, outline)
    electrons = None if pilot.dose is None else pilot.dose * images
    made = Pilot(
        tuple(pilot.elements),
        np.maximum(arrays[mapped], 0),
        rest,
        mask,
        images,
        pilot.pixel_size or 1.0,
        background,
    )
    return made, coordinates_of(pilot), electrons


def _feature(pilot: Pilot, coordinates, size: float, at) -> np.ndarray:
    """Return the feature as a mask (z, x, y), within the outline shrunk by a voxel."""
    if at is None:
        padded = np.pad(pilot.outline, ((1, 1), (1, 1), (0, 0)))
        depth = distances(~padded)[1:-1, 1:-1]
        # Where it fits between the first and the last slice, in the middle if depths are alike.
        y = np.abs(coordinates["y"] - coordinates["y"].mean())
        fits = y + size / 2 <= y.max() + pilot.pixel_size / 2
        depth = np.where(fits, depth, 0) - 1e-3 * y / max(y.max(), 1e-9)
        z, x, y = np.unravel_index(depth.argmax(), depth.shape)
        at = [float(coordinates[axis][place]) for axis, place in zip("xyz", (x, y, z), strict=True)]
    mask = voxels_of(Ellipsoid(at, size / 2), coordinates, "the feature")
    outside = int((mask & ~grown(pilot.outline, -1)).sum())
    if outside:
        raise ValueError(
            f"{outside} of the {mask.sum()} voxels of the feature are not within the specimen's "
            "outline shrunk by a voxel: pass a smaller size=, or another place as at="
        )
    return mask


def _mean_of(pilot: Pilot, coordinates, region):
    """Return the region of means as a mask (z, x, y), or None for the whole specimen."""
    if region is None:
        return None
    if hasattr(region, "contains"):
        return voxels_of(region, coordinates, "the region")
    mask = mask_array(region, pilot.outline.shape)
    if not mask.any():
        raise ValueError("the region is empty: it holds no voxel")
    return mask
