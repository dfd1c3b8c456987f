# SPDX-License-Identifier: GPL-3.0-or-later
"""From the outcome of a reconstruction to a volume with axes, metadata and a history."""

from __future__ import annotations

import dataclasses

import numpy as np

from hyperspy_multitomo.composition.response.ratios import ResponseRatios
from hyperspy_multitomo.reconstruction.recipe import Problem
from hyperspy_multitomo.reconstruction.run import Outcome, Prepared, made_of
from hyperspy_multitomo.signals.build import build_volume
from hyperspy_multitomo.signals.metadata.acquisition_settings import DOSE
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, axis_named, record


def as_volume(series, grid, prepared: Prepared, outcome: Outcome):
    """Return the volume of a run as a signal.

    Parameters
    ----------
    series : TiltSeries
        What was reconstructed.
    grid : TiltSeries
        Whose pixels the voxels overlay: the series, or the HAADF where that is finer.
    prepared : Prepared
    outcome : Outcome

    Returns
    -------
    TomographicVolume
        Lazy where the outcome is.
    """
    problem = prepared.problem
    volume = as_signal(grid, problem, outcome.volume)
    _copy_acquisition(volume, series, problem.channels)
    _record_residuals(volume, outcome, problem)
    if problem.ratios is not None:
        _record_ratios(volume, problem)
    geometry = problem.geometry
    fields = {field.name: getattr(geometry, field.name) for field in dataclasses.fields(geometry)}
    add_step(
        volume,
        problem.step,
        after=series,
        **outcome.settings,
        **{name: value for name, value in outcome.course.items() if name != "measured_at"},
        geometry=fields,
        made_of=made_of(prepared),
    )
    return volume


def as_signal(grid, problem: Problem, volume):
    """Return a volume (channel, z, x, y) as a signal whose axes overlay those of the grid."""
    pixel, channels = grid.pixel_size, problem.channels
    volume = volume.transpose(1, 0, 3, 2)
    if isinstance(volume, np.ndarray):
        volume = np.ascontiguousarray(volume)
    x, y = axis_named(grid, "x"), axis_named(grid, "y")
    (scale, offset, _), (y_scale, y_offset, y_units) = in_nm(x), in_nm(y)
    if pixel and y_units != "nm":
        # Pixels that are calibrated along x alone are square.
        y_scale, y_offset = pixel, pixel / y.scale * y.offset
    return build_volume(
        volume if channels else volume[:, 0],
        channels or None,
        pixel,
        quantity=f"{'counts' if channels else 'HAADF signal'} / {'nm' if pixel else 'px'}",
        axis_position=offset + scale * ((x.size - 1) / 2 + grid.axis_offset),
        axes={"y": (y_scale, y_offset)} if pixel else {"y": (None, y_offset)},
        title="Volume" if channels else "HAADF",
    )


def _copy_acquisition(volume, series, channels) -> None:
    """Copy the metadata of the acquisition, the lines of the channels and the dose."""
    for node in ("Acquisition_instrument", "Sample"):
        if series.metadata.has_item(node):
            volume.metadata.set_item(node, series.metadata.get_item(node).as_dictionary())
    if getattr(series, "lines", ()):
        lines = dict(zip(series.channels, series.lines, strict=True))
        record(volume, "lines", [lines.get(name, "") for name in channels], ("element",))
    if getattr(series, "dose", None) is not None:
        volume.metadata.set_item(DOSE, series.dose)


def _record_residuals(volume, outcome: Outcome, problem: Problem) -> None:
    """Record the residuals of a run, one row for each channel of the volume that has maps."""
    residuals, channels = outcome.residuals, problem.channels
    for source, name in (("eds", "residuals"), ("deviance", "deviance")):
        if source not in residuals:
            continue
        if not channels:
            values = np.asarray(residuals[source]).reshape(-1)
            volume.metadata.set_item(f"{NODE}.{name}_haadf", values)
            continue
        # "HAADF" and "rest" have no maps.
        values = np.asarray(residuals[source]).T
        rows = np.full((len(channels), values.shape[1]), np.nan)
        rows[: len(problem.data.channels)] = values
        record(volume, f"{name}_eds", rows, ("element",))
    if "haadf" in residuals:
        values = np.asarray(residuals["haadf"]).reshape(-1)
        volume.metadata.set_item(f"{NODE}.residuals_haadf", values)
    if "objective" in residuals:
        volume.metadata.set_item(f"{NODE}.objective", np.asarray(residuals["objective"]))
    if residuals:
        iterations = np.asarray(outcome.course["measured_at"])
        volume.metadata.set_item(f"{NODE}.residuals_iteration", iterations)


def _record_ratios(volume, problem: Problem) -> None:
    """Record the response ratios, and their standard errors where they are known."""
    fitted, rest = getattr(problem.recipe, "ratios", None), "rest" in problem.channels
    record(volume, "ratios", np.append(problem.ratios, [1.0] if rest else []), ("element",))
    if isinstance(fitted, ResponseRatios):
        errors = dict(zip(fitted.elements, fitted.standard_errors, strict=True))
        known = [errors[name] for name in problem.data.channels]
        record(volume, "ratios_errors", np.append(known, [0.0] if rest else []), ("element",))
