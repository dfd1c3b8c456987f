# SPDX-License-Identifier: GPL-3.0-or-later
"""From tilt series to volumes: the one place where signals become arrays for the solvers and arrays become volumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..composition.response import ResponseRatios
from ..tomography import TiltGeometry, hebt, projector, run, sirt
from .base import check_finite
from .build import build_volume
from .frames import check_pair, gains_of, projections
from .history import add_step, read_history
from .keyed import NODE, axis_named, record
from .progress import progress_bar
from .volume import TomographicVolume, mask_array

# Slices in one slab of a lazy reconstruction: a whole number of the kernels' blocks.
_SLAB = 64


def reconstruct_sirt(series, iterations: int, *, depth, width, **options) -> TomographicVolume:
    """See `TiltSeries.reconstruct_sirt`."""
    problem = _Problem(series, geometry=series.geometry(depth, width), gains=gains_of(series), channels=series.channels)
    volume, outcome = problem.solve(iterations, maps=projections(series), **options)
    _describe(volume, series, "reconstruct_sirt", problem, outcome, options)
    return volume


def reconstruct_hebt(
    eds, haadf, alpha: float, iterations: int, *, ratios, rest: bool, weighting: str, depth, width, **options
) -> TomographicVolume:
    """See `TiltSeriesEDS.reconstruct_hebt`."""
    check_pair(eds, haadf)
    values = _ratio_values(ratios, eds.channels)
    geometry, haadf_geometry = eds.geometry(depth, width), haadf.geometry(depth, width)
    problem = _Problem(
        eds,
        geometry=geometry,
        gains=gains_of(eds),
        channels=(*eds.channels, "rest") if rest else eds.channels,
        hebt={"alpha": alpha, "weighting": weighting, "rest": rest, "ratios": values},
        haadf_geometry=None if haadf_geometry == geometry else haadf_geometry,
        haadf_gains=gains_of(haadf),
    )
    volume, outcome = problem.solve(iterations, maps=projections(eds), haadf=projections(haadf)[0], **options)
    record(volume, "ratios", np.append(values, 1.0) if rest else values, ("element",))
    _describe(volume, eds, "reconstruct_hebt", problem, outcome, options, **problem.hebt, haadf_history=read_history(haadf))
    return volume


@dataclasses.dataclass
class _Problem:
    """A series with the model that is to reconstruct it; solved at once, or slab by slab where the series is lazy."""

    series: object
    geometry: TiltGeometry
    gains: np.ndarray | None
    channels: tuple[str, ...]
    hebt: dict | None = None
    haadf_geometry: TiltGeometry | None = None
    haadf_gains: np.ndarray | None = None

    def solve(self, iterations, *, maps, haadf=None, mask, initial, show_progressbar, **options):
        """Return the volume as a signal, and a dict with what is to be said of the run."""
        shape = (max(1, len(self.channels)), *self.geometry.volume_shape, maps.shape[-1])
        arrays = {
            "maps": maps,
            "haadf": haadf,
            "mask": None if mask is None else mask_array(mask, shape[1:]),
            "initial": None if initial is None else _initial(initial, shape),
        }
        if self.series._lazy:
            return self._as_signal(self._in_slabs(arrays, shape, iterations, options)), {"iterations": iterations}
        arrays = {name: None if array is None else np.asarray(array) for name, array in arrays.items()}
        with progress_bar(show_progressbar, "reconstructing", iterations) as step:
            result = self._run(**arrays, iterations=iterations, progress=step, **options)
        outcome = {name: getattr(result, name) for name in ("iterations", "interrupted", "converged", "residuals")}
        return self._as_signal(result.volume), outcome

    def _run(self, maps, haadf, mask, initial, *, iterations, tolerance, nonnegative, backend, progress=None, threads=None):
        """Run the solver on arrays in the numerics' order."""
        check_finite(maps, f"the {self.series.metadata.General.title} series")
        A = projector(self.geometry, backend=backend, threads=threads)
        shared = {"gains": self.gains, "mask": mask, "initial": initial, "nonnegative": nonnegative}
        if self.hebt is None:
            iterates = sirt(A, maps, **shared)
        else:
            check_finite(haadf, "the HAADF series")
            other = self.haadf_geometry
            other = None if other is None else projector(other, backend=backend, threads=threads)
            iterates = hebt(A, maps, haadf, haadf_projector=other, haadf_gains=self.haadf_gains, **self.hebt, **shared)
        return run(iterates, iterations, tolerance=tolerance, progress=progress)

    def _in_slabs(self, arrays, shape, iterations, options):
        """Return a dask array (channel, z, x, y) that reconstructs slab by slab, each on one thread of dask's."""
        import dask.array as da

        # Maps k at the tilts t on the detector x, HAADF at u on w, and the channels c of the volume on (z, v); y is shared.
        letters = {"maps": "ktxy", "haadf": "uwy", "mask": "zvy", "initial": "czvy"}
        given = [name for name, array in arrays.items() if array is not None]

        def slab(*blocks):
            blocks = dict.fromkeys(arrays) | dict(zip(given, blocks, strict=True))
            return self._run(**blocks, iterations=iterations, threads=1, **options).volume

        arguments = []
        for name in given:
            chunks = (-1,) * (arrays[name].ndim - 1) + (_SLAB,)
            arguments += [da.asarray(arrays[name]).rechunk(chunks), letters[name]]
        present = "".join(letters[name] for name in given)
        new = {letter: size for letter, size in zip("czv", shape, strict=False) if letter not in present}
        nothing = np.empty((0,) * 4, np.float32)
        return da.blockwise(slab, "czvy", *arguments, new_axes=new, concatenate=True, dtype=np.float32, meta=nothing)

    def _as_signal(self, volume) -> TomographicVolume:
        """Return the volume (channel, z, x, y) as a signal whose axes overlay those of the series."""
        series, pixel = self.series, self.series.pixel_size
        volume = volume.transpose(1, 0, 3, 2)
        if not series._lazy:
            volume = np.ascontiguousarray(volume)
        x, y_axis = axis_named(series, "x"), axis_named(series, "y").get_axis_dictionary() | {"navigate": False}
        y_axis.pop("_type", None)
        position = x.offset + x.scale * ((x.size - 1) / 2 + series.axis_offset)
        return build_volume(
            volume if self.channels else volume[:, 0],
            self.channels or None,
            pixel,
            quantity=f"{'counts' if self.channels else 'HAADF signal'} / {'nm' if pixel else 'px'}",
            axis_position=position * (pixel / x.scale if pixel else 1.0),
            y_axis=y_axis,
            title="Volume" if self.channels else "HAADF",
        )


def _describe(volume, series, step, problem, outcome, options, **parameters) -> None:
    """Copy the acquisition's metadata and record residuals and everything that made the volume."""
    for node in ("Acquisition_instrument", "Sample"):
        if series.metadata.has_item(node):
            volume.metadata.set_item(node, series.metadata.get_item(node).as_dictionary())
    residuals = outcome.pop("residuals", {})
    if "eds" in residuals and problem.channels:
        # One row for each channel of the volume; "rest" has no maps, hence no residual of its own.
        rows = np.full((len(problem.channels), outcome["iterations"]), np.nan)
        rows[: len(series.channels)] = np.asarray(residuals["eds"]).T
        record(volume, "residuals_eds", rows, ("element",))
    haadf = residuals.get("haadf" if problem.channels else "eds")
    if haadf is not None:
        volume.metadata.set_item(f"{NODE}.residuals_haadf", np.asarray(haadf).reshape(-1))
    kept = {name: options[name] for name in ("tolerance", "nonnegative", "backend")}
    kept.update({name: "given" if options[name] is not None else None for name in ("mask", "initial")})
    geometry = {field.name: getattr(problem.geometry, field.name) for field in dataclasses.fields(problem.geometry)}
    add_step(volume, step, after=series, **parameters, **outcome, **kept, gains=problem.gains, geometry=geometry)


def _ratio_values(ratios, channels) -> np.ndarray:
    """Return the ratios in the order of the channels."""
    if isinstance(ratios, ResponseRatios):
        ratios = dict(zip(ratios.elements, ratios.values, strict=True))
    if not isinstance(ratios, Mapping):
        raise TypeError(
            f"ratios must be the result of fit_response_ratios or a dict of element to ratio; got {type(ratios).__name__}"
        )
    missing = [name for name in channels if name not in ratios]
    if missing:
        raise ValueError(f"no response ratio for {', '.join(missing)}; pass one for each of {', '.join(channels)}")
    return np.array([ratios[name] for name in channels], dtype=float)


def _initial(initial, shape):
    """Return a start volume given as (z, [element,] y, x), array or signal, as (channel, z, x, y)."""
    if isinstance(initial, TomographicVolume):
        initial = initial.array(*(("z", "element", "y", "x") if initial.channels else ("z", "y", "x")))
    initial = initial if hasattr(initial, "dask") else np.asarray(initial, dtype=np.float32)
    if initial.ndim == 3:
        initial = initial[:, None]
    expected = (shape[1], shape[0], shape[3], shape[2])
    if initial.shape != expected:
        raise ValueError(f"the start volume has the shape {initial.shape} but {expected} (z, element, y, x) is needed")
    return initial.transpose(1, 0, 3, 2)
