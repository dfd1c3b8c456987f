# SPDX-License-Identifier: GPL-3.0-or-later
"""Self-absorption of the X-rays of a series, estimated from a reconstruction and attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.axes import checked_values
from hyperspy_multitomo.arguments import THRESHOLD, checked
from hyperspy_multitomo.composition.xrays.coarse_grid import coarse_geometry
from hyperspy_multitomo.composition.xrays.detectors import XRayDetector, detectors_from, super_x
from hyperspy_multitomo.composition.xrays.self_absorption import (
    attenuation_coefficients,
    linear_attenuation,
    ray_transmission,
)
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.parameters import array
from hyperspy_multitomo.signals.metadata.acquisition_settings import TEM, energies_of, lines_of
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    forget,
    grid,
    on_recorded_grid,
    recall,
    record,
)
from hyperspy_multitomo.signals.methods.quantifying import (
    counts_by_element,
    factors_for,
    warn_if_unsaved,
)
from hyperspy_multitomo.signals.methods.xray_paths import (
    checked_binning,
    coarse_emission,
    in_coarse_pixels,
    mass_per_count,
    mean_density_of,
    particle,
    transmission_of,
)

_DETECTORS = f"{NODE}.detectors"


@dataclass(frozen=True, eq=False)
class AbsorptionEstimate:
    """What of the X-rays of each element reaches the detectors at each tilt.

    Attributes
    ----------
    transmission : numpy.ndarray (tilt, element)
        Mean over the X-rays that the specimen emits, 0 to 1.
    tilts : numpy.ndarray (tilt,)
        Degrees.
    elements, lines : tuple of str
        Elements and their lines.
    density : float
        Mean density inside the particle that it was calculated with, g/cm^3.
    """

    transmission: np.ndarray
    tilts: np.ndarray
    elements: tuple[str, ...]
    lines: tuple[str, ...]
    density: float

    def __str__(self) -> str:
        rows = [f"mean transmission of the X-rays, density {self.density:.3g} g/cm^3"]
        rows.append("  tilt  " + "".join(f"{line:>8}" for line in self.lines))
        for tilt, values in zip(self.tilts, self.transmission, strict=True):
            rows.append(f"{tilt:6.1f}° " + "".join(f"{value:8.3f}" for value in values))
        return "\n".join(rows)


def get_detectors(series) -> tuple[XRayDetector, ...] | None:
    """Return the X-ray detectors that were set or are in the metadata, or None.

    They are set by ``eds.detectors = "super-x"``.
    The metadata hold one azimuth; a ``detector_type`` of SuperX stands for four, at 45, 135,
    225 and 315 degrees. Accepts what `composition.xrays.detectors.detectors_from` does: detectors,
    (azimuth, elevation[, solid angle]) in degrees and sr, or ``"super-x"``.
    """
    held = series.metadata.get_item(_DETECTORS, default=None)
    if held is not None:
        return detectors_from(
            [dict(one) if isinstance(one, Mapping) else one.as_dictionary() for one in held]
        )
    names = ("azimuth_angle", "elevation_angle", "detector_type")
    azimuth, elevation, kind = (
        series.metadata.get_item(f"{TEM}.Detector.EDS.{name}", default=None) for name in names
    )
    if "superx" in str(kind).lower().replace("-", "").replace(" ", ""):
        return super_x() if elevation is None else super_x(elevation=float(elevation))
    return (
        None
        if None in (azimuth, elevation)
        else detectors_from([(float(azimuth), float(elevation))])
    )


def set_detectors(series, detectors) -> None:
    """Set the X-ray detectors; None takes them off."""
    series.metadata.set_item(
        _DETECTORS,
        None if detectors is None else [asdict(one) for one in detectors_from(detectors)],
    )


def get_transmission(series):
    """Return the fraction of the emitted X-rays that reaches the detectors, or None.

    Shape (tilt, element, y, x), 0 to 1.

    A dask array where the series is lazy.
    Every reconstruction and fit has it as a factor in its model: counts = gain * transmission *
    projection. Attached by `estimate_absorption`; ``eds.transmission = None`` takes it off.
    """
    held = recall(series, "transmission")
    # Recorded arrays are summed where pixels are binned; this one is a mean.
    return None if held is None else held / np.float32(grid(series, "x")[1] * grid(series, "y")[1])


@checked(transmission=array)
def set_transmission(series, transmission: ArrayLike | None) -> None:
    """Attach a transmission; None takes it off."""
    values = transmission
    if values is None:
        forget(series, "transmission")
        return
    expected = series.array("tilt", "element", "y", "x").shape
    lazy = is_lazy(values)
    if not lazy:
        values = np.asarray(checked_values(values, "the transmission"), dtype=np.float32)
    if values.shape != expected:
        raise ValueError(
            f"the transmission has the shape {values.shape}; expected {expected} (tilt, "
            "element, y, x)"
        )
    # Those of a lazy transmission would be computed for this.
    if not lazy and not (values.min() > 0 and values.max() <= 1):
        raise ValueError(
            f"the transmission is {values.min():g} to {values.max():g}; expected values above "
            "0 and up to 1"
        )
    record(
        series,
        "transmission",
        on_recorded_grid(series, values, fill=1.0),
        ("tilt", "element", "y", "x"),
    )


@checked(threshold=THRESHOLD)
def estimate_absorption(
    series,
    volume,
    *,
    density: float | str | None = None,
    detectors=None,
    mask=None,
    threshold: str | float | None = None,
    dose: float | None = None,
    solid_angle: float | None = None,
    beam_energy: float | None = None,
    xray_lines: Sequence[str] | Mapping[str, str] | None = None,
    model: str = "cascade",
    efficiency=None,
    binning: int | None = None,
    show_progressbar: bool | None = None,
) -> AbsorptionEstimate:
    """Trace the X-rays of each voxel to each detector and attach their transmission.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series, in counts.
    density : float or "nominal", optional
        Mean density of the particle in g/cm^3, if it is known; ``"nominal"`` is that of a
        mixture of the pure elements, which is too high for oxides and porous matter. By default
        it follows from dose and solid angle.
    detectors : optional
        As `TiltSeriesEDS.detectors`, which it is by default.
    mask, threshold
        The particle, as in `TomographicVolume.quantify`. Nothing outside absorbs.
    dose, solid_angle, beam_energy, xray_lines, model, efficiency
        As in `TomographicVolume.quantify_density`.
    binning : int, optional
        Trace through means over cubes of so many voxels, and interpolate between the rays:
        faster as the cube of it, and less accurate. By default 1, or of a lazy volume the least
        with which tracing takes a quarter of the memory that is free.
    show_progressbar : bool, optional
        By default as HyperSpy's preferences say.

    Returns
    -------
    AbsorptionEstimate
        The mean transmission of each line at each tilt; printing shows a table. The
        transmission of each pixel is attached.

    Raises
    ------
    ValueError
        For detectors, a density, or a dose that are not known, a volume of other elements or
        pixels, an ambiguous threshold, and a binning that is no whole number from 1 up.

    Warns
    -----
    UserWarning
        Where gains were estimated from the counts before, which then hold a part of the
        absorption.

    Notes
    -----
    Beer's law with the mass absorption coefficients of eXSpy, straight paths, and nothing but
    the elements of the volume: what has no map (and the holder or the grid) does not absorb.
    The counts stay as they are.

    Rays leave a slab towards the detectors, so that no slab is enough. A lazy volume is read
    once, block by block, besides what `quantify` reads for its threshold. What is attached to a
    lazy series is interpolated when it is read.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = np.zeros((5, 4, 24)); maps[:, :, 8:16] = 80.0
    >>> eds = mt.TiltSeriesEDS.from_maps(
    ...     {"Al": maps, "Au": maps}, tilts=np.arange(-40, 41, 20), pixel_size=10.0
    ... )
    >>> eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    >>> eds.detectors = "super-x"
    >>> volume = eds.reconstruct_sirt(20, show_progressbar=False)
    >>> estimate = eds.estimate_absorption(
    ...     volume,
    ...     density=15.0,
    ...     xray_lines=["Al_Ka", "Au_La"],
    ...     threshold="otsu",
    ...     efficiency=1.0,
    ...     show_progressbar=False,
    ... )
    >>> bool((estimate.transmission[:, 0] < estimate.transmission[:, 1]).all())
    True
    """
    elements, geometry, counts = _of_volume(series, volume)
    lines = lines_of(series, elements, xray_lines)
    found = detectors_from(detectors) if detectors is not None else series.detectors
    if found is None:
        raise ValueError(
            'the X-ray detectors are not known: pass detectors="super-x" for four at 45, 135, '
            "225 and 315 degrees, or "
            "(azimuth, elevation) of each in degrees"
        )
    options = {
        "beam_energy": beam_energy,
        "xray_lines": lines,
        "model": model,
        "efficiency": efficiency,
    }
    factors, _ = factors_for(volume, "model", None, elements, "counts", None, options)
    scale = mass_per_count(volume, elements, factors, density, dose, solid_angle)
    size = checked_binning(binning, counts, geometry)
    warn_if_unsaved(counts)
    emitting, share = coarse_emission(
        counts, particle(counts, elements, factors, mask, threshold), size, geometry.binning
    )
    masses = emitting * scale.astype(np.float32)[:, None, None, None]
    voxels = share.sum(dtype=np.float64)
    if density is not None:
        mean = mean_density_of(density, masses, elements)
        masses *= np.float32(mean / (masses.sum(dtype=np.float64) / voxels))
    mean_density = float(masses.sum(dtype=np.float64) / voxels)
    attenuation = linear_attenuation(masses, attenuation_coefficients(elements, energies_of(lines)))
    with progress_bar(show_progressbar, "absorption", len(series.tilts)) as step:
        rays = ray_transmission(
            emitting, attenuation, coarse_geometry(geometry, size), found, progress=step
        )
    alignment = series.alignment
    if alignment is not None:
        alignment = in_coarse_pixels(alignment, size)
        rays = np.clip(
            alignment.apply(rays, for_geometry=True, fill="edge", backward=True), rays.min(), 1
        )
    if series.transmission is None and recall(series, "estimated_gains") is not None:
        warn(
            "the gains were estimated from the counts before their absorption was known, and "
            "hold how it changes with the "
            "tilt: call estimate_gains again, which leaves it out now, and reconstruct"
        )
    places = [series.channels.index(name) for name in elements]
    series.transmission = transmission_of(series, rays, places, size)
    reaching = series.transmission.transpose(1, 0, 3, 2)[places]
    emitted = np.maximum(series.array("element", "tilt", "x", "y")[places].astype(np.float32), 0)
    reached, all_of_it = np.asarray(
        np.stack([(reaching * emitted).sum(axis=(2, 3)), emitted.sum(axis=(2, 3))])
    )
    means = reached / np.maximum(all_of_it, 1e-30)
    estimate = AbsorptionEstimate(
        means.T, series.tilts, tuple(elements), tuple(lines), mean_density
    )
    add_step(
        series,
        "estimate_absorption",
        density=mean_density,
        detectors=[asdict(one) for one in found],
        xray_lines=lines,
        binning=size,
        transmission=estimate.transmission,
    )
    return estimate


def _of_volume(series, volume):
    """Return the elements of a volume, its geometry, and its counts (element, z, x, y)."""
    elements = [name for name in volume.elements if name in series.channels]
    if not elements or len(elements) < len(volume.elements):
        raise ValueError(
            f"the volume holds {', '.join(volume.elements) or 'no elements'} and the series "
            f"{', '.join(series.channels)}: pass "
            "a reconstruction of this series"
        )
    _, counts = counts_by_element(volume)
    pixel = series.pixel_size
    if pixel is None or volume.pixel_size is None:
        raise ValueError(
            "absorption needs lengths in nm: set the pixel size of the series before the "
            "reconstruction"
        )
    axes = {axis.name: axis for axis in volume.axes_manager._axes}
    binning = round(pixel / volume.pixel_size)
    geometry = series.geometry(
        axes["z"].size * volume.pixel_size, axes["x"].size * volume.pixel_size, binning=binning
    )
    slices = series.array("element", "tilt", "x", "y").shape[-1]
    if binning < 1 or axes["y"].size != slices * binning:
        raise ValueError(
            f"the volume has {axes['y'].size} slices of {volume.pixel_size:g} nm and the maps "
            f"{slices} of {pixel:g} nm: pass "
            "a reconstruction of this series"
        )
    return elements, geometry, counts
