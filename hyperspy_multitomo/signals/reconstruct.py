# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where signals become arrays for a solver and arrays become volumes, at once or slab by slab."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ..tomography import Reconstruction, TiltGeometry, projector, run
from .base import check_finite
from .build import build_volume
from .conditions import DOSE
from .history import add_step
from .keyed import NODE, axis_named, record
from .progress import progress_bar
from .volume import TomographicVolume, mask_array

# Slices in one slab of a lazy reconstruction: a whole number of the kernels' blocks.
_SLAB = 64
# Arguments that are too large for the history.
_GIVEN = ("mask", "initial", "background")
# Arrays at the pixels of the HAADF where they differ from those of the maps come first: they state where dask cuts. Maps and what
# goes with them have channels k at tilts t on the detector x, the HAADF has tilts u on w, volumes have channels c on (z, v).
_AXES = {"haadf": "uwy", "mask": "zvy", "initial": "czvy"} | dict.fromkeys(("maps", "background", "recorded", "gross"), "ktxy")


@dataclasses.dataclass
class Problem:
    """A series with the model that is to reconstruct it.

    Attributes
    ----------
    series : TiltSeries
        What is reconstructed.
    grid : TiltSeries
        The series whose pixels the voxels overlay.
    geometry : TiltGeometry
        Of `series`.
    channels : tuple of str
        Of the volume; empty for one without the axis ``element``.
    solver : callable
        ``solver(project, arrays)`` returns iterates, or the volume; `project` makes a projector of a geometry, `arrays` are named
        as in `_AXES`, in the numerics' order, or None.
    noise : callable, optional
        ``noise(arrays)`` returns what `tomography.run` takes as such.
    """

    series: object
    grid: object
    geometry: TiltGeometry
    channels: tuple[str, ...]
    solver: Callable
    noise: Callable | None = None

    def solve(
        self, arrays: Mapping, iterations: int, *, mask=None, initial=None, tolerance=None, backend=None, show_progressbar=None
    ) -> tuple[TomographicVolume, dict]:
        """Return the volume as a signal, and a dict with what is to be said of the run."""
        slices = arrays["maps"].shape[-1] * self.geometry.binning
        shape = (max(1, len(self.channels)), *self.geometry.volume_shape, slices)
        arrays = {**arrays, **start_arrays(mask, initial, shape, self.channels)}
        control = {"iterations": iterations, "tolerance": tolerance, "backend": backend}
        if self.series._lazy:
            return self._as_signal(self._in_slabs(arrays, shape, control)), {"iterations": iterations}
        arrays = {name: None if array is None else np.asarray(array) for name, array in arrays.items()}
        with progress_bar(show_progressbar, "reconstructing", iterations or 1) as step:
            result = self._run(arrays, progress=step, **control)
        told = ("iterations", "interrupted", "converged", "stopped_by", "channel_iterations", "residuals", "measured_at")
        return self._as_signal(result.volume), {name: getattr(result, name) for name in told}

    def _run(self, arrays, *, iterations, tolerance, backend, progress=None, threads=None) -> Reconstruction:
        """Run the solver on arrays in the numerics' order."""
        check_finite(arrays["maps"], f"the {self.series.metadata.General.title} series")
        if arrays.get("haadf") is not None:
            check_finite(arrays["haadf"], "the HAADF series")
        found = self.solver(lambda geometry: projector(geometry, backend=backend, threads=threads), arrays)
        if isinstance(found, np.ndarray):
            if progress is not None:
                progress(None)
            return Reconstruction(found, {}, iterations=0, interrupted=False, converged=False, stopped_by="direct")
        noise = None if self.noise is None else self.noise(arrays)
        return run(found, iterations, tolerance=tolerance, noise=noise, progress=progress)

    def _in_slabs(self, arrays, shape, control):
        """Return a dask array (channel, z, x, y) that reconstructs slab by slab, each on one thread of dask's."""
        import dask.array as da

        given = [name for name in _AXES if arrays.get(name) is not None]

        def slab(*blocks):
            blocks = dict.fromkeys(arrays) | dict(zip(given, blocks, strict=True))
            return self._run(blocks, threads=1, **control).volume

        binning, arguments = self.geometry.binning, []
        thickness = _SLAB - _SLAB % binning
        for name in given:
            coarse = binning if _AXES[name].startswith("kt") else 1
            chunks = (-1,) * (arrays[name].ndim - 1) + (thickness // coarse,)
            arguments += [da.asarray(arrays[name]).rechunk(chunks), _AXES[name]]
        present = "".join(_AXES[name] for name in given)
        new = {letter: size for letter, size in zip("czv", shape, strict=False) if letter not in present}
        nothing = np.empty((0,) * 4, np.float32)
        return da.blockwise(
            slab, "czvy", *arguments, new_axes=new, concatenate=True, align_arrays=False, dtype=np.float32, meta=nothing
        )

    def _as_signal(self, volume) -> TomographicVolume:
        """Return the volume (channel, z, x, y) as a signal whose axes overlay those of the grid."""
        series, pixel = self.grid, self.grid.pixel_size
        volume = volume.transpose(1, 0, 3, 2)
        if isinstance(volume, np.ndarray):
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

    def describe(self, volume, step: str, outcome: dict, **parameters) -> None:
        """Copy the acquisition's metadata and record residuals and everything that made the volume."""
        series = self.series
        for node in ("Acquisition_instrument", "Sample"):
            if series.metadata.has_item(node):
                volume.metadata.set_item(node, series.metadata.get_item(node).as_dictionary())
        if getattr(series, "lines", ()):
            lines = dict(zip(series.channels, series.lines, strict=True))
            record(volume, "lines", [lines.get(name, "") for name in self.channels], ("element",))
        if getattr(series, "dose", None) is not None:
            volume.metadata.set_item(DOSE, series.dose)
        residuals, measured_at = outcome.pop("residuals", {}), outcome.pop("measured_at", None)
        for found, name in (("eds", "residuals"), ("deviance", "deviance")):
            if found in residuals and self.channels:
                # One row for each channel of the volume; "HAADF" and "rest" have no maps.
                values = np.asarray(residuals[found]).T
                rows = np.full((len(self.channels), values.shape[1]), np.nan)
                rows[: len(series.channels)] = values
                record(volume, f"{name}_eds", rows, ("element",))
            elif found in residuals:
                volume.metadata.set_item(f"{NODE}.{name}_haadf", np.asarray(residuals[found]).reshape(-1))
        if "haadf" in residuals:
            volume.metadata.set_item(f"{NODE}.residuals_haadf", np.asarray(residuals["haadf"]).reshape(-1))
        if "objective" in residuals:
            volume.metadata.set_item(f"{NODE}.objective", np.asarray(residuals["objective"]))
        if residuals:
            volume.metadata.set_item(f"{NODE}.residuals_iteration", np.asarray(measured_at))
        told = {name: "given" if name in _GIVEN and value is not None else value for name, value in parameters.items()}
        geometry = {field.name: getattr(self.geometry, field.name) for field in dataclasses.fields(self.geometry)}
        add_step(volume, step, after=series, **told, **outcome, geometry=geometry)


def start_arrays(mask, initial, shape: tuple[int, ...], channels) -> dict:
    """Return a mask and a start volume in the numerics' order, None where there is none; `shape` is (channel, z, x, y)."""
    return {
        "mask": None if mask is None else mask_array(mask, shape[1:]),
        "initial": None if initial is None else _initial(initial, shape, channels),
    }


def _initial(initial, shape, channels):
    """Return a start volume given as (z, [element,] y, x), array or signal, as (channel, z, x, y); a signal's by their names."""
    if isinstance(initial, TomographicVolume):
        held = ", ".join(initial.channels) or "one without a name"
        if missing := [name for name in channels if name not in initial.channels]:
            raise ValueError(
                f"the start volume has no channel {', '.join(missing)}; it holds {held}: start from a volume with all of "
                f"{', '.join(channels)}, or leave out initial="
            )
        if not channels and len(initial.channels) > 1:
            raise ValueError(f"the start volume has the channels {held}; pick the one to start from, as in volume['HAADF']")
        places = [initial.channels.index(name) for name in channels]
        initial = initial.array(*(("z", "element", "y", "x") if initial.channels else ("z", "y", "x")))
        initial = initial[:, places] if places else initial
    initial = initial if hasattr(initial, "dask") else np.asarray(initial, dtype=np.float32)
    if initial.ndim == 3:
        initial = initial[:, None]
    expected = (shape[1], shape[0], shape[3], shape[2])
    if initial.shape != expected:
        raise ValueError(f"the start volume has the shape {initial.shape} but {expected} (z, element, y, x) is needed")
    return initial.transpose(1, 0, 3, 2)
