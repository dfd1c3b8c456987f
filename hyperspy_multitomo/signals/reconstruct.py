# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where signals become arrays for a solver and arrays become volumes, at once or slab by slab."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.reconstruction.job import Job, Kept
from hyperspy_multitomo.reconstruction.memory_model import Footprint
from hyperspy_multitomo.reconstruction.slabs import cut, in_slabs
from hyperspy_multitomo.signals import plan
from hyperspy_multitomo.signals.build import build_volume
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.acquisition_settings import DOSE
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.missing_chunks import check_complete
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, axis_named, record
from hyperspy_multitomo.signals.methods.lazy_computing import counting_slabs
from hyperspy_multitomo.signals.volume import TomographicVolume
from hyperspy_multitomo.tomography import TiltGeometry, projector
from hyperspy_multitomo.tomography.slopes import came_out_as_tv

# Arguments that are too large for the history.
_GIVEN = ("mask", "initial", "background")
# What the same run may have another of when it is resumed, and what is found anew from its data.
_NOT_IN_KEY = (
    "tolerance",
    "backend",
    "mask",
    "initial",
    "background",
    "calibration",
    "haadf_history",
)
# Arrays at the pixels of the maps, which may be of several voxels: (channel, tilt, x, y). The
# others have those of the volume: "haadf" (tilt, x, y), "mask" (z, x, y) and "initial" (channel, z,
# x, y).
_COARSE = ("maps", "background", "recorded", "gross")
REMEDY = "crop or bin the series, take fewer elements, or pass it lazily (as_lazy()), which goes slab by slab"
# What the history says of a run in memory.
_OUTCOME = (
    "iterations", "interrupted", "converged", "stopped_by", "channel_iterations", "resumed_at", "residuals", "measured_at", "box"
)  # fmt: skip


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
        ``solver(project, arrays)`` returns iterates, or the volume; `project` makes a projector of
        a geometry, `arrays` are named as in `_COARSE`, in the numerics' order, or None.
    held : Footprint
        What a run of it holds.
    noise : callable, optional
        ``noise(arrays)`` returns what `tomography.run` takes as such.
    adjoint : bool, default False
        Whether the solver takes matched projectors in the place of others; see
        `tomography.Projector.matched`.
    """

    series: object
    grid: object
    geometry: TiltGeometry
    channels: tuple[str, ...]
    solver: Callable
    held: Footprint
    noise: Callable | None = None
    adjoint: bool = False

    def reconstruct(
        self,
        arrays: Mapping,
        step: str,
        told: Mapping,
        iterations: int = 0,
        *,
        mask=None,
        initial=None,
        tolerance=None,
        backend=None,
        show_progressbar=None,
        chunks: int | None = None,
        overlap: int | None = None,
        checkpoint=None,
        resume=None,
    ) -> TomographicVolume:
        """Return the volume as a signal with its history: the `step`, what is `told` of it, and how it went.

        `overlap` is that of slabs whose slices know of each other, None where they do not.
        """
        slices = arrays["maps"].shape[-1] * self.geometry.binning
        shape = (max(1, len(self.channels)), *self.geometry.volume_shape, slices)
        arrays = {**arrays, **start_arrays(mask, initial, shape, self.channels)}
        told = {
            "tolerance": tolerance,
            "backend": self._ran(backend),
            "mask": mask,
            "initial": initial,
        } | dict(told)
        job = Job(step, self.solver, self.noise, self._titles, iterations, tolerance, backend)
        key = {name: value for name, value in told.items() if name not in _NOT_IN_KEY}
        held = self.held.with_masks((mask is not None) + (initial is not None))
        lazy = self.series._lazy
        apart = lazy or (overlap is None and not held.fits_device(slices))
        kept = Kept.of(
            checkpoint, resume, {"step": step, "geometry": repr(self.geometry), **key}, folder=apart
        )
        if lazy:
            check_complete(arrays)
        else:
            if chunks is not None:
                raise ValueError(
                    "chunks= says how thick the slabs of a lazy series are; this one is in memory: "
                    "leave it out"
                )
            check_memory(held.bytes_of(slices), f"this reconstruction of {named(shape[0])}", REMEDY)
            arrays = {
                name: None if array is None else np.asarray(array) for name, array in arrays.items()
            }
        coarse = {name: self.geometry.binning if name in _COARSE else 1 for name in arrays}
        if apart:
            before = (
                None if kept is None else kept.thickness(slices)
            )  # which stays, whatever memory and workers there are now
            how = {"binning": self.geometry.binning, "overlap": overlap, "here": not lazy}
            slabs = cut(slices, held, chunks=before if chunks is None else chunks, **how)
            if chunks is not None and before not in (None, slabs.thickness):
                raise ValueError(
                    f"chunks={chunks} makes other slabs than the {before} slices of those in "
                    f"{kept.path}: leave it out to go on, "
                    "or pass checkpoint= with another name to begin anew"
                )
            plan.offer(lambda: plan.lazily(job, arrays, coarse, shape, slabs, held))
            found = in_slabs(job, arrays, coarse, shape, slabs, kept)
            if not lazy:
                with counting_slabs(found, show_progressbar):
                    found = found.compute(scheduler="synchronous")
            outcome = ({"iterations": iterations} if iterations else {}) | {
                "slabs": slabs.describe()
            }
        else:
            plan.offer(lambda: plan.in_memory(job, arrays, coarse, shape, held))
            with progress_bar(show_progressbar, "reconstructing", iterations or 1) as bar:
                result = job.run(arrays, progress=bar, kept=kept)
            found, outcome = result.volume, {name: getattr(result, name) for name in _OUTCOME}
            if result.stopped_by == "direct":
                outcome = {}
            elif kept is None:
                del outcome["resumed_at"]
            if result.box is None:
                outcome.pop("box", None)
            if len(slopes := result.residuals.get("slopes", ())):
                outcome |= {
                    "slopes": float(slopes[-1]),
                    "in_effect": "tv" if came_out_as_tv(slopes) else "tgv",
                }
        volume = self._as_signal(found)
        self._describe(volume, step, outcome, told)
        return volume

    def _ran(self, backend: str | None) -> str | None:
        """Return the name of the back-end that runs; of a lazy series, which may run elsewhere, of the one that was asked for."""
        if self.series._lazy:
            return backend
        A = projector(self.geometry, backend=backend)
        return (A.matched() if self.adjoint else A).backend

    @property
    def _titles(self) -> dict[str, str]:
        """What to call the arrays that have to be finite."""
        return {
            "maps": f"the {self.series.metadata.General.title} series",
            "haadf": "the HAADF series",
        }

    def _as_signal(self, volume) -> TomographicVolume:
        """Return the volume (channel, z, x, y) as a signal whose axes overlay those of the grid."""
        series, pixel = self.grid, self.grid.pixel_size
        volume = volume.transpose(1, 0, 3, 2)
        if isinstance(volume, np.ndarray):
            volume = np.ascontiguousarray(volume)
        (scale, offset, _), y = in_nm(axis_named(series, "x")), axis_named(series, "y")
        y_scale, y_offset, y_units = in_nm(y)
        if pixel and y_units != "nm":
            # Pixels that are calibrated along x alone are square.
            y_scale, y_offset = pixel, pixel / y.scale * y.offset
        return build_volume(
            volume if self.channels else volume[:, 0],
            self.channels or None,
            pixel,
            quantity=f"{'counts' if self.channels else 'HAADF signal'} / {'nm' if pixel else 'px'}",
            axis_position=offset
            + scale * ((axis_named(series, "x").size - 1) / 2 + series.axis_offset),
            axes={"y": (y_scale, y_offset)} if pixel else {"y": (None, y_offset)},
            title="Volume" if self.channels else "HAADF",
        )

    def _describe(self, volume, step: str, outcome: dict, told: dict) -> None:
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
                volume.metadata.set_item(
                    f"{NODE}.{name}_haadf", np.asarray(residuals[found]).reshape(-1)
                )
        if "haadf" in residuals:
            volume.metadata.set_item(
                f"{NODE}.residuals_haadf", np.asarray(residuals["haadf"]).reshape(-1)
            )
        if "objective" in residuals:
            volume.metadata.set_item(f"{NODE}.objective", np.asarray(residuals["objective"]))
        if residuals:
            volume.metadata.set_item(f"{NODE}.residuals_iteration", np.asarray(measured_at))
        told = {
            name: "given" if name in _GIVEN and value is not None else value
            for name, value in told.items()
        }
        geometry = {
            field.name: getattr(self.geometry, field.name)
            for field in dataclasses.fields(self.geometry)
        }
        add_step(volume, step, after=series, **told, **outcome, geometry=geometry)


def named(channels: int) -> str:
    """Return "1 channel", "2 channels" and so on."""
    return f"{channels} channel{'s' * (channels > 1)}"


def start_arrays(mask, initial, shape: tuple[int, ...], channels) -> dict:
    """Return a mask and a start volume in the numerics' order, None where there is none; `shape` is (channel, z, x, y)."""
    return {
        "mask": None if mask is None else mask_array(mask, shape[1:], lazy=True),
        "initial": None if initial is None else _initial(initial, shape, channels),
    }


def _initial(initial, shape, channels):
    """Return a start volume given as (z, [element,] y, x), array or signal, as (channel, z, x, y); a signal's by their names."""
    if isinstance(initial, TomographicVolume):
        held = ", ".join(initial.channels) or "one without a name"
        if missing := [name for name in channels if name not in initial.channels]:
            raise ValueError(
                f"the start volume has no channel {', '.join(missing)}; it holds {held}: start "
                "from a volume with all of "
                f"{', '.join(channels)}, or leave out initial="
            )
        if not channels and len(initial.channels) > 1:
            raise ValueError(
                f"the start volume has the channels {held}; pick the one to start from, as in "
                "volume['HAADF']"
            )
        places = [initial.channels.index(name) for name in channels]
        initial = initial.array(
            *(("z", "element", "y", "x") if initial.channels else ("z", "y", "x"))
        )
        initial = initial[:, places] if places else initial
    roles = (
        ("z", "element", "y", "x")
        if np.ndim(getattr(initial, "data", initial)) == 4
        else ("z", "y", "x")
    )
    initial = plain(initial, roles, "the start volume")
    initial = initial if hasattr(initial, "dask") else np.asarray(initial, dtype=np.float32)
    if initial.ndim == 3:
        initial = initial[:, None]
    expected = (shape[1], shape[0], shape[3], shape[2])
    if initial.shape != expected:
        raise ValueError(
            f"the start volume has the shape {initial.shape} but {expected} (z, element, y, x) is "
            "needed"
        )
    return initial.transpose(1, 0, 3, 2)
