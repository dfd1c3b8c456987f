# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of each reconstruction: which solver gets which of a series' arrays, gains and backgrounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyperspy_multitomo.composition.response.fit import ResponseRatios
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.reconstruction.memory_model import Footprint, footprint
from hyperspy_multitomo.signals.arrays import (
    check_pair,
    even,
    gains_of,
    in_place,
    projections,
    recorded_counts,
)
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.metadata.history import read_history
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.noise import with_noise
from hyperspy_multitomo.signals.reconstruct import Problem
from hyperspy_multitomo.signals.volume import TomographicVolume
from hyperspy_multitomo.tomography import cgls, em, fbp, hebt, projector, sirt
from hyperspy_multitomo.tomography.forms import fits_lanes


def reconstruct_sirt(series, iterations: int, *, depth, width, **options) -> TomographicVolume:
    """See `Reconstructions.reconstruct_sirt`."""
    return _reconstruct(
        sirt,
        "reconstruct_sirt",
        series,
        iterations,
        depth,
        width,
        ("nonnegative", "relaxation"),
        options,
    )


def reconstruct_cgls(series, iterations: int, *, depth, width, **options) -> TomographicVolume:
    """See `Reconstructions.reconstruct_cgls`."""
    return _reconstruct(cgls, "reconstruct_cgls", series, iterations, depth, width, (), options)


def _reconstruct(solver, step, series, iterations, depth, width, own, options) -> TomographicVolume:
    """Reconstruct a series from its own data; `own` names the options that the solver takes."""
    check_tilts(series)
    stopping, sigma = options.pop("stopping"), options.pop("noise")
    parameters, gains = {name: options.pop(name) for name in own}, gains_of(series)

    def solve(project, arrays):
        given = {name: arrays[name] for name in ("mask", "initial")}
        return solver(project(geometry), arrays["maps"], gains=gains, **given, **parameters)

    geometry = series.geometry(depth, width)
    arrays, noise = with_noise(series, {"maps": projections(series)}, gains, stopping, sigma)
    more = iterations if solver is cgls else 0  # CGLS keeps a basis
    held = _held(step, len(series.channels), options, (geometry, arrays["maps"]), more=more)
    problem = Problem(
        series, series, geometry, series.channels, solve, held, noise, adjoint=solver is cgls
    )
    return problem.reconstruct(
        arrays,
        step,
        dict(**parameters, stopping=stopping, noise=sigma, gains=gains),
        iterations,
        **options,
    )


def reconstruct_fbp(series, *, filter, cutoff, depth, width, **options) -> TomographicVolume:
    """See `Reconstructions.reconstruct_fbp`."""
    check_tilts(series)
    gains, geometry = gains_of(series), series.geometry(depth, width)

    def solve(project, arrays):
        return fbp(project(geometry), arrays["maps"], filter=filter, cutoff=cutoff, gains=gains)

    arrays = {"maps": projections(series)}
    held = _held("reconstruct_fbp", len(series.channels), options, (geometry, arrays["maps"]))
    problem = Problem(series, series, geometry, series.channels, solve, held)
    return problem.reconstruct(
        arrays, "reconstruct_fbp", {"filter": filter, "cutoff": cutoff, "gains": gains}, **options
    )


def reconstruct_em(
    series, iterations: int, *, background, depth, width, **options
) -> TomographicVolume:
    """See `Reconstructions.reconstruct_em`."""
    check_tilts(series)
    stopping, sigma = options.pop("stopping"), options.pop("noise")
    counts, expected, gains = counts_of(series, background)
    geometry = series.geometry(depth, width)

    def solve(project, arrays):
        given = {name: arrays[name] for name in ("background", "mask", "initial")}
        return em(project(geometry), arrays["maps"], gains=gains, **given)

    arrays, noise = with_noise(
        series, {"maps": counts, "background": expected}, gains, stopping, sigma, em=True
    )
    more = 0 if expected is None else 2
    held = _held("reconstruct_em", len(series.channels), options, (geometry, counts), more=more)
    problem = Problem(series, series, geometry, series.channels, solve, held, noise)
    taken = "data" if getattr(series, "gross", None) is None else "gross"
    told = dict(counts=taken, background=background, stopping=stopping, noise=sigma, gains=gains)
    return problem.reconstruct(arrays, "reconstruct_em", told, iterations, **options)


def reconstruct_hebt(
    eds,
    haadf,
    alpha: float,
    iterations: int,
    *,
    ratios,
    rest: bool,
    weighting: str,
    depth,
    width,
    **options,
) -> TomographicVolume:
    """See `BimodalReconstructions.reconstruct_hebt`."""
    binning = check_pair(eds, haadf)
    for series in (eds, haadf):
        check_tilts(series)
    stopping, sigma = options.pop("stopping"), options.pop("noise")
    values = ratio_values(ratios, eds.channels)
    own = {name: options.pop(name) for name in ("nonnegative", "relaxation")}
    model = {"alpha": alpha, "weighting": weighting, "rest": rest, "ratios": values}
    geometry, haadf_geometry = (
        eds.geometry(depth, width, binning=binning),
        haadf.geometry(depth, width),
    )
    gains, haadf_gains = gains_of(eds), gains_of(haadf)

    def solve(project, arrays):
        other = None if haadf_geometry == geometry else project(haadf_geometry)
        given = {name: arrays[name] for name in ("mask", "initial")}
        shared = dict(
            gains=gains, haadf_gains=haadf_gains, haadf_projector=other, **given, **own, **model
        )
        return hebt(project(geometry), arrays["maps"], arrays["haadf"], **shared)

    arrays = {"maps": projections(eds), "haadf": projections(haadf)[0]}
    arrays, noise = with_noise(eds, arrays, gains, stopping, sigma)
    channels = (*eds.channels, "rest") if rest else eds.channels
    modalities = (geometry, arrays["maps"]), (haadf_geometry, arrays["haadf"][None])
    held = _held("reconstruct_hebt", len(channels), options, *modalities)
    problem = Problem(eds, eds if binning == 1 else haadf, geometry, channels, solve, held, noise)
    told = dict(
        **own,
        stopping=stopping,
        noise=sigma,
        gains=gains,
        haadf_gains=haadf_gains,
        haadf_history=read_history(haadf),
    )
    volume = problem.reconstruct(arrays, "reconstruct_hebt", model | told, iterations, **options)
    record_ratios(volume, ratios, values, rest)
    return volume


def _held(step: str, channels: int, options: Mapping, *modalities, more: float = 0.0) -> Footprint:
    """Return what a method holds; `modalities` are geometries and projections, `more` numbers are held for each ray besides."""
    method, channels = step.removeprefix("reconstruct_"), max(1, channels)
    projectors = [projector(geometry, backend=options["backend"]) for geometry, _ in modalities]
    series = [(geometry, len(array)) for geometry, array in modalities]
    if method == "cgls" or not hasattr(
        projectors[0], "device"
    ):  # CGLS takes the device for its projections alone
        return footprint(
            method, channels, series, more=more, textbook=not all(map(fits_lanes, projectors))
        )
    (geometry, rows), *other = series
    given = {
        "mask": options.get("mask") is not None,
        "background": more > 0,
        "backend": projectors[0].backend,
    }
    given |= {"haadf_geometry": other[0][0] if other else None, "rest": channels > rows}

    def of_device(slices: int) -> int:
        from hyperspy_multitomo.tomography.cuda.memory import device_bytes

        return device_bytes(method, geometry, rows, slices, **given)

    return footprint(method, channels, series, more=more, of_device=of_device)


def check_tilts(series) -> None:
    """Raise an error where a series has a single tilt."""
    if len(series.tilts) < 2:
        raise ValueError(
            f"the {series.metadata.General.title} series has a single tilt, which says nothing of "
            "depth; "
            "a reconstruction needs at least two tilts"
        )


def counts_of(series, background, method: str = "EM", instead: str = "use reconstruct_sirt"):
    """Return (gross counts, background or None, gains) in the numerics' order: what the windows hold, and their share.

    `method` is what needs them and `instead` the way out, for the error where there are none.
    """
    gains, found = gains_of(series), recorded_counts(series)
    if found is None:
        counts = projections(series)
        if not series._lazy:
            check_counts(series, counts, method, instead)
        return counts, background_of(series, background, counts.shape), gains
    counts, expected, share = found
    gains = share if gains is None else share * gains
    if background is not None:
        expected = background_of(series, background, counts.shape)
    return counts, expected, gains


def check_counts(series, counts, method: str, instead: str) -> None:
    """Raise an error for negative counts; see `counts_of`."""
    if counts.min() < 0:
        remedy = (
            "make the maps by elemental_maps or edge_maps, which keep them (a copy that is "
            "aligned() has lost them)"
            if series.channels
            else "leave the detector's offset in the images and pass it as background="
        )
        raise ValueError(
            f"the {series.metadata.General.title} series has negative values and no gross counts "
            f"beside them, but {method} "
            f"needs counts as recorded: {remedy}, or {instead}"
        )


def background_of(series, background, shape):
    """Return a background given as (tilt, [element,] y, x), or as leading dimensions of that, as (channel, tilt, x, y)."""
    if background is None:
        return None
    roles = ("tilt", "element", "y", "x") if series.channels else ("tilt", "y", "x")
    given = plain(background, roles, "the background").astype(np.float32)
    check_finite(given, "the background")
    whole = (
        (shape[1], shape[0], shape[3], shape[2])
        if series.channels
        else (shape[1], shape[3], shape[2])
    )
    if given.shape not in [whole[:n] for n in range(3)] + [whole]:
        expected = "(tilt, element, y, x)" if series.channels else "(tilt, y, x)"
        raise ValueError(
            f"the background has the shape {given.shape}; expected a number, {shape[1]} numbers "
            "(one for each tilt), or "
            f"{whole} {expected}"
        )
    imaged = given.ndim == len(whole)
    given = np.broadcast_to(given.reshape(given.shape + (1,) * (len(whole) - given.ndim)), whole)
    given = given.transpose(1, 0, 3, 2) if series.channels else given.transpose(0, 2, 1)[None]
    given = even(series, given)
    return in_place(series, given) if imaged else given


def record_ratios(volume, given, values: np.ndarray, rest: bool) -> None:
    """Record the response ratios of a volume, and their standard errors where they are known."""
    last = [1.0] if rest else []
    record(volume, "ratios", np.append(values, last), ("element",))
    if isinstance(given, ResponseRatios):
        errors = dict(zip(given.elements, given.standard_errors, strict=True))
        found = [errors[name] for name in volume.channels[: len(values)]]
        record(volume, "ratios_errors", np.append(found, [0.0] if rest else []), ("element",))


def ratio_values(given, channels, keyword: str = "ratios") -> np.ndarray:
    """Return response ratios, or what else a keyword holds for each element, in the order of the channels."""
    of_fit = keyword == "ratios"
    if isinstance(given, ResponseRatios):
        given = dict(zip(given.elements, given.values, strict=True))
    if not isinstance(given, Mapping):
        source = "the result of fit_response_ratios or " if of_fit else ""
        raise TypeError(
            f"{keyword} must be {source}a dict of element to number; got {type(given).__name__}"
        )
    missing = [name for name in channels if name not in given]
    if missing:
        what = "response ratio" if of_fit else f"number in {keyword}"
        raise ValueError(
            f"no {what} for {', '.join(missing)}; pass one for each of {', '.join(channels)}"
        )
    values = np.array([given[name] for name in channels], dtype=float)
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise ValueError(
            f"{keyword} holds {dict(zip(channels, values.tolist(), strict=True))}; expected "
            "numbers from 0 up"
        )
    return values
