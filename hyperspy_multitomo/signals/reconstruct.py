# SPDX-License-Identifier: GPL-3.0-or-later
"""From tilt series to volumes: the one place where signals become arrays for the solvers and arrays become volumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..alignment.transform import Alignment
from ..composition.response import ResponseRatios, fit_response_ratios
from ..notices import warn
from ..tomography import TiltGeometry, hebt, projector, run, sirt
from .base import check_finite
from .build import build_volume
from .history import add_step, read_history
from .keyed import NODE, axis_named, record
from .progress import progress_bar
from .volume import TomographicVolume, mask_array

# Slices in one slab of a lazy reconstruction: a whole number of the kernels' blocks.
_SLAB = 64


def reconstruct_sirt(series, iterations: int, *, depth, width, **options) -> TomographicVolume:
    """See `TiltSeriesHAADF.reconstruct_sirt` and `TiltSeriesEDS.reconstruct_sirt`."""
    problem = _Problem(series, geometry=series.geometry(depth, width), gains=_gains(series), channels=series.channels)
    volume = problem.solve(iterations, projections=projections(series), **options)
    _describe(volume, series, "reconstruct_sirt", problem, options)
    return volume


def reconstruct_hebt(
    eds, haadf, alpha: float, iterations: int, *, ratios, rest: bool, weighting: str, depth, width, **options
) -> TomographicVolume:
    """See `TiltSeriesEDS.reconstruct_hebt`."""
    _check_pair(eds, haadf)
    values = _ratio_values(ratios, eds.channels)
    geometry, haadf_geometry = eds.geometry(depth, width), haadf.geometry(depth, width)
    problem = _Problem(
        eds,
        geometry=geometry,
        gains=_gains(eds),
        channels=(*eds.channels, "rest") if rest else eds.channels,
        hebt={"alpha": alpha, "weighting": weighting, "rest": rest, "ratios": values},
        haadf_geometry=None if haadf_geometry == geometry else haadf_geometry,
        haadf_gains=_gains(haadf),
    )
    volume = problem.solve(iterations, projections=projections(eds), haadf=projections(haadf)[0], **options)
    record(volume, "ratios", np.append(values, 1.0) if rest else values, ("element",))
    _describe(volume, eds, "reconstruct_hebt", problem, options, alpha=alpha, weighting=weighting, rest=rest, ratios=values,
              haadf_history=read_history(haadf))  # fmt: skip
    return volume


def fit_ratios(eds, haadf, *, mask, **options) -> ResponseRatios:
    """See `TiltSeriesEDS.fit_response_ratios`."""
    _check_pair(eds, haadf)
    common = [i for i, t in enumerate(eds.tilts) if np.any(np.abs(haadf.tilts - t) < 1e-4)]
    if len(common) < 2:
        raise ValueError(
            f"the EDS tilts {eds.tilts} and the HAADF tilts {haadf.tilts} have fewer than two in common; pass ratios="
        )
    partners = [int(np.abs(haadf.tilts - eds.tilts[i]).argmin()) for i in common]
    images = [np.asarray(projections(series), dtype=np.float32) for series in _in_one_frame(eds, haadf)]
    if mask is not None:
        mask = np.asarray(getattr(mask, "data", mask)).astype(bool).transpose(0, 2, 1)[common]
    gains, haadf_gains = _gains(eds), _gains(haadf)
    fit = fit_response_ratios(
        images[0][:, common],
        images[1][0][partners],
        eds.channels,
        gains=None if gains is None else gains[..., common],
        haadf_gains=None if haadf_gains is None else haadf_gains[partners],
        mask=mask,
        **options,
    )
    # One entry for each tilt of the EDS series; NaN where the HAADF has no such tilt.
    per_tilt = {}
    for name in ("residual_per_tilt", "residual_map"):
        values = getattr(fit, name)
        per_tilt[name] = np.full((len(eds.tilts), *values.shape[1:]), np.nan, values.dtype)
        per_tilt[name][common] = values
    return dataclasses.replace(fit, **per_tilt)


def aligned_copy(series):
    """Return a copy of a series resampled once to its alignment; see `TiltSeriesHAADF.aligned`."""
    names = ("element", "tilt", "x", "y") if axis_named(series, "element") else ("tilt", "x", "y")
    places = [axis_named(series, name).index_in_array for name in names]
    images = np.asarray(series.array(*names), dtype=np.float32)
    alignment = series.alignment
    if alignment is not None:
        # The axis goes to the middle after the rotation: before it, that is a shift along the rotated x.
        angle = np.deg2rad(alignment.rotation)
        across = alignment.across - alignment.axis_offset * np.cos(angle)
        along = alignment.along + alignment.axis_offset * np.sin(angle)
        images = Alignment(across, along, 0.0, alignment.rotation).apply(images)
    copy = series._deepcopy_with_new_data(np.ascontiguousarray(images.transpose(np.argsort(places))))
    copy.alignment = Alignment.identity(len(series.tilts))
    copy.alignment = None
    add_step(copy, "aligned")
    return copy


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

    def solve(self, iterations, *, projections, haadf=None, mask, initial, show_progressbar, **options) -> TomographicVolume:
        series, geometry = self.series, self.geometry
        shape = (max(1, len(self.channels)), *geometry.volume_shape, projections.shape[-1])
        if mask is not None:
            mask = mask_array(mask, shape[1:])
        if initial is not None:
            initial = _initial(initial, shape)
        if series._lazy:
            self.outcome = {"iterations": iterations}
            volume = self._lazily(iterations, projections, haadf, mask, initial, shape, options)
        else:
            for data, what in ((projections, series.metadata.General.title or "the series"), (haadf, "the HAADF series")):
                if data is not None:
                    check_finite(data, what)
            with progress_bar(show_progressbar, "reconstructing", iterations) as step:
                result = self._arrays(projections, haadf, mask, initial, iterations=iterations, progress=step, **options)
            volume = result.volume
            self.outcome = {name: getattr(result, name) for name in ("iterations", "interrupted", "converged")}
            self.outcome["residuals"] = result.residuals
        return self._as_signal(volume)

    def _arrays(
        self, projections, haadf, mask, initial, *, iterations, tolerance, nonnegative, backend, progress=None, threads=None
    ):
        A = projector(self.geometry, backend=backend, threads=threads)
        shared = {"gains": self.gains, "mask": mask, "initial": initial, "nonnegative": nonnegative}
        if self.hebt is None:
            iterates = sirt(A, projections, **shared)
        else:
            other = self.haadf_geometry
            other = None if other is None else projector(other, backend=backend, threads=threads)
            iterates = hebt(A, projections, haadf, haadf_projector=other, haadf_gains=self.haadf_gains, **self.hebt, **shared)
        return run(iterates, iterations, tolerance=tolerance, progress=progress)

    def _lazily(self, iterations, projections, haadf, mask, initial, shape, options):
        import dask.array as da

        def slab(*arrays):
            arrays = dict(zip(given, arrays, strict=True))
            full = [arrays.get(name) for name in ("projections", "haadf", "mask", "initial")]
            for data in full[:2]:
                if data is not None:
                    check_finite(data, "a slab of the series")
            return self._arrays(*full, iterations=iterations, threads=1, **options).volume

        letters = {"projections": "ktxy", "haadf": "sxy", "mask": "zvy", "initial": "czvy"}
        letters["haadf"] = "suy"
        given = {"projections": projections, "haadf": haadf, "mask": mask, "initial": initial}
        given = {name: array for name, array in given.items() if array is not None}
        arguments = []
        for name, array in given.items():
            chunks = (-1,) * (array.ndim - 1) + (_SLAB,)
            arguments += [da.asarray(array).rechunk(chunks), letters[name]]
        present = set("".join(letters[name] for name in given))
        new_axes = {letter: size for letter, size in zip("czv", shape, strict=False) if letter not in present}
        return da.blockwise(
            slab, "czvy", *arguments, new_axes=new_axes, concatenate=True, dtype=np.float32, meta=np.empty((0,) * 4, np.float32)
        )

    def _as_signal(self, volume) -> TomographicVolume:
        series = self.series
        volume = volume.transpose(1, 0, 3, 2)
        if not series._lazy:
            volume = np.ascontiguousarray(volume)
        arrays = {name: volume[:, i] for i, name in enumerate(self.channels)} or volume[:, 0]
        x, y = axis_named(series, "x"), axis_named(series, "y")
        y_axis = y.get_axis_dictionary() | {"navigate": False}
        y_axis.pop("_type", None)
        position = x.offset + x.scale * ((x.size - 1) / 2 + series.axis_offset)
        pixel = series.pixel_size
        unit = "nm" if pixel else "px"
        signal = build_volume(
            arrays,
            pixel,
            quantity=f"{'counts' if self.channels else 'HAADF signal'} / {unit}",
            axis_position=position * (pixel / x.scale if pixel else 1.0),
            y_axis=y_axis,
        )
        signal.metadata.General.title = "Volume" if self.channels else "HAADF"
        return signal


def _describe(volume, series, step, problem, options, **parameters) -> None:
    """Copy the acquisition's metadata and record residuals and everything that made the volume."""
    for node in ("Acquisition_instrument", "Sample"):
        if series.metadata.has_item(node):
            volume.metadata.set_item(node, series.metadata.get_item(node).as_dictionary())
    outcome = dict(problem.outcome)
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


def projections(series):
    """Return a series as (channel, tilt, x, y), resampled where the alignment moves it along the axis or turns it."""
    if axis_named(series, "element") or series.channels:
        data = series.array("element", "tilt", "x", "y")
    else:
        data = series.array("tilt", "x", "y")[None]
    alignment = series.alignment

    def in_place(images):
        return images if alignment is None else alignment.apply(images, for_geometry=True)

    if series._lazy:
        return data if alignment is None else data.rechunk((1, -1, -1, -1)).map_blocks(in_place, dtype=np.float32)
    return in_place(np.asarray(data, dtype=np.float32))


def _in_one_frame(eds, haadf):
    """Return both series; aligned copies where their alignments differ, so that their pixels correspond."""
    first, second = eds.alignment, haadf.alignment
    return (eds, haadf) if first == second else (eds.aligned(), haadf.aligned())


def _gains(series):
    gains = series.gains
    return None if gains is None else (gains.T if gains.ndim == 2 else gains)


def _check_pair(eds, haadf) -> None:
    """Raise an error where two series cannot share a volume; warn where only one of them is aligned."""
    if getattr(haadf, "_signal_type", None) != "TiltSeriesHAADF":
        raise TypeError(f"haadf must be a TiltSeriesHAADF; got {haadf!r}")
    for name in ("x", "y"):
        mine, other = axis_named(eds, name), axis_named(haadf, name)
        if mine is None or other is None:
            raise ValueError(f"both series need the axis {name!r}; it has been summed or sliced away in one of them")
        if mine.size != other.size:
            raise ValueError(
                f"the EDS maps have {mine.size} px along {name} but the HAADF images {other.size}; crop or bin both alike"
            )
        if mine.units != other.units or not np.isclose(mine.scale, other.scale, rtol=1e-3):
            raise ValueError(
                f"the pixel size along {name} is {mine.scale:g} {mine.units} for EDS but {other.scale:g} {other.units} "
                "for HAADF; calibrate both alike"
            )
    if (eds.alignment is None) != (haadf.alignment is None):
        aligned, other = ("HAADF", "EDS") if eds.alignment is None else ("EDS", "HAADF")
        warn(f"the {aligned} series is aligned but the {other} series is not; attach one to both: eds.align(haadf.alignment)")


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
