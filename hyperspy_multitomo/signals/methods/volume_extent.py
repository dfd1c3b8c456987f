# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth and width of the volume of a reconstruction, where they are to come from the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.checkpoint_store import volume_grid_of
from hyperspy_multitomo.reconstruction.outer_planes import FULL, outer_contrast
from hyperspy_multitomo.reconstruction.run import Outcome
from hyperspy_multitomo.signals.arrays import pixel_ratio, tilt_data
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.tomography import (
    Specimen,
    TiltGeometry,
    measure_specimen,
    needed_volume,
)
from hyperspy_multitomo.tomography.geometry import volume_grid
from hyperspy_multitomo.tomography.specimen import FEWEST_PIXELS, FEWEST_SLICES, FEWEST_TILTS

EXTENT = ("depth", "width")
# Slices in the middle of a lazy series that are read to measure the specimen.
_SLICES = 48
# Iterations before which all planes look alike.
_FEWEST_ITERATIONS = 10


def with_extent(series, haadf, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a run with the depth and width that ``"auto"`` stands for.

    What was asked for is kept as ``asked``, for the history.

    Parameters
    ----------
    series, haadf : TiltSeries
        What is reconstructed, and the HAADF beside it, or None.
    run : mapping
        Keywords of a run. A mask, a start volume or a checkpoint to go on from decides the grid.

    Warns
    -----
    UserWarning
        Where the extent of the specimen is not known, so that the volume is a cube.
    """
    asked = {name: run.get(name, "auto") for name in EXTENT}
    resolved = {**run, **asked, "asked": run.get("asked", asked)}
    missing = [name for name in EXTENT if asked[name] == "auto"]
    if asked["depth"] is None and missing:
        return resolved | {"width": None}  # a cube
    if not missing:
        return resolved
    found = _given(series, haadf, run)
    if found is None:
        found = _needed(series, haadf)
    return resolved | {name: found[name] for name in missing}


def extent_of(step: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the depth and width of a volume from the step of its history.

    None is as wide as the detector.
    """
    geometry = step["geometry"]
    whole = geometry["detector_width"] * geometry["binning"]
    return {
        name: None if voxels == whole else voxels * geometry["pixel_size"]
        for name, voxels in zip(EXTENT, geometry["volume_shape"], strict=True)
    }


def specimen_of(series) -> Specimen | None:
    """Return the specimen that the alignment found, or that is measured now; None if not known."""
    alignment = series.alignment
    if alignment is not None and alignment.specimen is not None:
        return alignment.specimen
    data = tilt_data(series)
    tilts, pixels, slices = data.recorded.shape[1:]
    if tilts < FEWEST_TILTS or slices < FEWEST_SLICES or pixels < FEWEST_PIXELS:
        return None
    images, gains = data.projections, data.gains
    if is_lazy(images):
        first = max(0, (slices - _SLICES) // 2)
        images = images[..., first : first + _SLICES].compute(scheduler="synchronous")
    if gains is not None:
        images = images / np.atleast_2d(gains)[..., None, None].astype(np.float32)
    images = images.sum(axis=0, dtype=np.float32)
    if not np.isfinite(images).all():
        return None  # the reconstruction says so
    return measure_specimen(images, series.geometry())


def _given(series, haadf, run: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the extent of a mask, a start volume or a checkpoint, None without any."""
    shapes = [
        (np.shape(run[name])[0], np.shape(run[name])[-1])
        for name in ("mask", "initial")
        if run.get(name) is not None and np.ndim(run[name]) >= 3
    ]
    if not shapes and run.get("resume") is not None:
        shapes = [grid for grid in [volume_grid_of(run["resume"])] if grid is not None]
    if not shapes:
        return None
    binning = 1 if haadf is None else pixel_ratio(series, haadf)
    voxel = (series.pixel_size or 1.0) / binning
    return dict(zip(EXTENT, (voxels * voxel for voxels in shapes[0]), strict=True))


def _needed(series, haadf) -> dict[str, float | None]:
    """Return the extent that the specimen needs, in whole voxels; None for a cube, with a word."""
    # Images have far less noise than maps, and the same specimen.
    sources = [one for one in (haadf, series) if one is not None]
    if any(axis_named(one, name) is None for one in sources for name in ("tilt", "x", "y")):
        return dict.fromkeys(EXTENT)  # the reconstruction says what is missing
    known = [one for one in sources if one.alignment is not None and one.alignment.specimen]
    source = (known or sources)[0]
    specimen, geometry = specimen_of(source), source.geometry()
    if specimen is None:
        return _cube(_why(source))
    try:
        depth, width = needed_volume(specimen, geometry)
    except ValueError as error:
        return _cube(str(error))
    pixel = geometry.pixel_size
    whole = geometry.detector_width * pixel
    if specimen.shape != "slab":
        return {"depth": min(_whole_voxels(depth, geometry), whole), "width": None}
    if depth >= whole:
        return _cube(f"a {specimen} would need more than the cube")
    return {"depth": _whole_voxels(depth, geometry), "width": _whole_voxels(width, geometry)}


def _whole_voxels(extent: float, geometry: TiltGeometry) -> float:
    """Return an extent in whole voxels, which lie where those of a cube would."""
    voxels = math.ceil(extent / geometry.pixel_size)
    return (voxels + (voxels - geometry.detector_width) % 2) * geometry.pixel_size


def _cube(why: str) -> dict[str, None]:
    warn(
        f"the depth of the specimen is not known, and the volume is a cube: {why}. Align the "
        "series, or pass depth= (and width=) in nm; depth=None, width=None is the cube without "
        "this warning"
    )
    return dict.fromkeys(EXTENT)


def _why(series) -> str:
    sizes = {name: axis_named(series, name).size for name in ("tilt", "x", "y")}
    fewest = {"tilt": FEWEST_TILTS, "x": FEWEST_PIXELS, "y": FEWEST_SLICES}
    few = [
        f"{size} along {name}, of {fewest[name]} that are needed"
        for name, size in sizes.items()
        if size < fewest[name]
    ]
    return f"there are {' and '.join(few)}" if few else "the images do not tell it"


def check_outer_planes(outcome: Outcome, geometry: TiltGeometry) -> None:
    """Warn of matter in the outermost planes of a volume that is less deep than a cube."""
    depth = volume_grid(geometry)[0]
    if depth >= geometry.detector_width * geometry.binning or len(geometry.tilts) < FEWEST_TILTS:
        return
    if outcome.course.get("iterations", 0) < _FEWEST_ITERATIONS:
        return
    contrast = outer_contrast(outcome.volume)
    if contrast is not None and contrast > FULL:
        warn(
            f"the outermost planes of the volume hold as much as {100 * contrast:.0f} % of the "
            f"contrast of the plane with most: it may be too thin, which distorts all of it. Pass "
            f"depth= of more than {depth * geometry.pixel_size:g}, and compare"
        )
