# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of each regularised reconstruction: how the HAADF enters it, its calibration, and the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.parameters import is_positive
from hyperspy_multitomo.reconstruction.memory_model import Footprint, regularised_footprint
from hyperspy_multitomo.signals.arrays import gains_of
from hyperspy_multitomo.signals.data_terms import DISCREPANCIES, Measured, measured, terms_of
from hyperspy_multitomo.signals.metadata.history import read_history
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.methods.plain_solvers import ratio_values, record_ratios
from hyperspy_multitomo.signals.reconstruct import REMEDY, Problem, named, start_arrays
from hyperspy_multitomo.signals.volume import TomographicVolume
from hyperspy_multitomo.tomography import (
    Calibration,
    DataTerm,
    calibrate,
    projector,
    run,
    variational,
)
from hyperspy_multitomo.tomography.forms import fits_lanes
from hyperspy_multitomo.tomography.fused import fused
from hyperspy_multitomo.tomography.haadf_weights import regressed_weights, scaled_weights
from hyperspy_multitomo.tomography.input_checks import checked_power

#: Iterations, at most, and the relative change of the objective in twenty of them at which a run
#: ends. The second is for TGV, whose slopes settle last, and where the HAADF is the sum of the
#: elements: its many counts make up most of the objective.
ITERATIONS, TOLERANCE, SLOW_TOLERANCE = 500, 1e-3, 1e-4
#: Slices on either side that a slab of a lazy series is reconstructed with.
OVERLAP = 16
_COUPLINGS = {True: "frobenius", False: "uncoupled", "nuclear": "nuclear"}
# Iterations of the reconstruction of some slices of the maps that tells how bright the elements are
# in the HAADF.
_CHEMISTRY = 150
_THIRD = ", or use reconstruct_tv or reconstruct_tnv, which hold a third"


@dataclass(frozen=True)
class Model:
    """What is asked for, whatever the data; see `RegularisedMaps.reconstruct_tv` for the keywords."""

    kind: str
    coupled: bool | str = True
    weight: float = 1.0
    mu: Mapping[str, float] | Sequence[float] | None = None
    dimensions: int = 3
    alpha0: float = 4.0
    data_term: str | None = "poisson"
    haadf_term: str | None = None
    haadf_gain: float | None = None
    background: object = None

    def __post_init__(self):
        for name in ("data_term", "haadf_term"):
            if getattr(self, name) not in (None, *DISCREPANCIES):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be 'poisson' or 'least_squares'"
                )
        for name in ("weight", "alpha0", "haadf_gain"):
            if not (
                is_positive(value := getattr(self, name)) or (name, value) == ("haadf_gain", None)
            ):
                raise ValueError(f"{name}={value!r} must be a positive number")
        if self.dimensions not in (2, 3):
            raise ValueError(
                f"dimensions={self.dimensions!r} must be 3, or 2 for slices apart from each other"
            )
        if self.coupled not in tuple(_COUPLINGS):
            raise ValueError(f"coupled={self.coupled!r} must be True, False or 'nuclear'")
        if self.mu is not None and self.weight != 1:
            raise ValueError("mu= and weight= both say how much to smooth; pass one of them")

    @property
    def regulariser(self) -> str:
        """Its name: ``"tv"``, ``"tgv"`` or ``"tnv"``."""
        return "tnv" if (self.kind, self.coupled) == ("tv", "nuclear") else self.kind

    def measured(self, series, haadf, depth, width, *, summed: bool = False) -> Measured:
        """Return the series as terms, after checking them; with `summed` the HAADF is to be seen as a sum of the elements."""
        found = measured(
            series,
            haadf,
            self.data_term,
            self.haadf_term,
            self.haadf_gain,
            self.background,
            depth,
            width,
        )
        found.check(self.data_term != "least_squares", summed)
        return found

    def looked_at(self, found: Measured) -> dict:
        """Return the arrays for a calibration, of some slices, the same ones whether the series is lazy or not."""
        if self.mu is not None:
            return found.brightest_slices
        return found.some_slices if self.dimensions == 2 else found.telling_slices

    def calibrated(self, terms: Sequence[DataTerm], names: Sequence[str]) -> Calibration:
        """Return scales of the channels, weights of the terms and the regulariser's, in physical terms."""
        mu = None if self.mu is None else _mu_values(self.mu, names)
        options = {name: getattr(self, name) for name in ("kind", "dimensions", "alpha0", "weight")}
        return calibrate(
            terms,
            len(names),
            coupling=_COUPLINGS[self.coupled],
            mu=mu,
            sampled=self.dimensions == 3,
            **options,
        )


def model_of(regulariser: str, coupled: bool | str = True, **options) -> Model:
    """Return the model of a regulariser given by its name, ``"tv"``, ``"tgv"`` or ``"tnv"``."""
    if regulariser not in ("tv", "tgv", "tnv"):
        raise ValueError(f"regulariser={regulariser!r} must be 'tv', 'tgv' or 'tnv'")
    if regulariser == "tnv" and not coupled:
        raise ValueError(
            "coupled=False contradicts regulariser='tnv', which couples the channels; pass "
            "regulariser='tv' with it"
        )
    return (
        Model("tv", "nuclear", **options)
        if regulariser == "tnv"
        else Model(regulariser, coupled, **options)
    )


def reconstruct_regularised(
    series,
    haadf,
    step: str,
    model: Model,
    *,
    ratios=None,
    rest: bool = False,
    depth,
    width,
    nonnegative,
    **options,
) -> TomographicVolume:
    """Reconstruct a series, alone or with the HAADF: as one more channel, or through the response ratios where those are given.

    `step` is the method's name in the history.
    """
    separate = haadf is not None and ratios is None
    channels = (*series.channels, *["HAADF"] * separate, *["rest"] * rest)
    names, fitted = channels or ("HAADF",), ratios
    if ratios is not None and not (ratios := ratio_values(ratios, series.channels)).any():
        raise ValueError(
            "all response ratios are 0, so that the HAADF says nothing of the elements; pass "
            "others, or use "
            "reconstruct_tv(haadf), which shares only its edges with them"
        )
    found = model.measured(series, haadf, depth, width, summed=ratios is not None)
    _check_run(found, model, channels, options)
    sample = model.looked_at(found)
    if ratios is not None:
        found = found.with_mix(ratios)
    calibration = model.calibrated(
        found.terms(_projector_of(options), sample), series.channels if rest else names
    )
    if rest:  # which has no data of its own to tell its range
        calibration = replace(
            calibration, scales=np.append(calibration.scales, (calibration.scales * ratios).max())
        )
        found = found.with_mix(np.append(ratios, 1.0))

    regulariser, scales = calibration.regulariser, calibration.scales

    def solver(terms, **given):
        return variational(terms, regulariser, scales, nonnegative=nonnegative, **given)

    told = (
        {} if ratios is None else {"regulariser": model.regulariser, "ratios": ratios, "rest": rest}
    )
    volume = _run(
        found, step, model, channels, calibration, solver, options, nonnegative=nonnegative, **told
    )
    if ratios is not None:
        record_ratios(volume, fitted, ratios, rest)
    return volume


def reconstruct_fused(
    series, haadf, model: Model, *, power: float, haadf_weights, depth, width, **options
) -> TomographicVolume:
    """See `BimodalReconstructions.reconstruct_fused`."""
    channels, power = series.channels, checked_power(power)
    if (
        haadf_weights is not None
        and not (haadf_weights := ratio_values(haadf_weights, channels, "haadf_weights")).any()
    ):
        raise ValueError(
            "all haadf_weights are 0; expected some above 0, how bright the elements are relative "
            "to each other"
        )
    found = model.measured(series, haadf, depth, width, summed=True)
    _check_run(found, model, channels, options, power)
    project, some, sample = _projector_of(options), found.some_slices, model.looked_at(found)
    maps, images = found.with_mix(np.ones(len(channels))).terms(project, some)
    flat = replace(model, kind="tv", dimensions=2).calibrated([maps], channels)
    chemistry = run(variational(flat.terms, flat.regulariser, flat.scales), _CHEMISTRY).volume
    if haadf_weights is None:
        weights = regressed_weights(chemistry, maps, images, power=power)
    else:
        weights = scaled_weights(haadf_weights, chemistry, maps, images, power=power)
    # For its calibration the power law is the straight line that meets it at the range of each
    # channel.
    line = found.with_mix(weights * flat.scales.astype(float) ** (power - 1))
    calibration = model.calibrated(line.terms(project, sample), channels)

    regulariser, scales = calibration.regulariser, calibration.scales

    def solver(terms, **given):
        return fused(terms, regulariser, scales, power=power, **given)

    told = {
        "regulariser": model.regulariser,
        "power": power,
        "haadf_weights": dict(zip(channels, weights.tolist(), strict=True)),
    }
    volume = _run(
        found.with_mix(weights),
        "reconstruct_fused",
        model,
        channels,
        calibration,
        solver,
        options,
        **told,
    )
    if power == 1:
        record(volume, "ratios", weights, ("element",))
    return volume


def _run(
    found: Measured,
    step: str,
    model: Model,
    channels,
    calibration: Calibration,
    solver: Callable,
    options: dict,
    **told,
) -> TomographicVolume:
    """Run a solver of terms, mask and start on the whole series, and describe the volume."""
    modalities, support = (
        found.weighted(calibration.terms).profiled().modalities,
        options["support"],
    )

    def solve(project, arrays):  # travels to workers, without the series
        given = {name: arrays[name] for name in ("mask", "initial")}
        return solver(terms_of(modalities, project, arrays), support=support, **given)

    series, haadf = found.series, found.haadf
    told |= {name: value for name, value in vars(model).items() if name != "kind"}
    told |= {
        "tolerance": options["tolerance"],
        "support": support,
        "gains": gains_of(series),
        "calibration": calibration.describe(),
    }
    told["data_terms"] = {
        m.data: {"discrepancy": m.discrepancy, "weight": m.weight} for m in found.modalities
    }
    told["haadf_gain"] = next((m.gain for m in found.modalities if m.gain is not None), None)
    if haadf is not None:
        told |= {"haadf_gains": gains_of(haadf), "haadf_history": read_history(haadf)}
        told["haadf_geometry"] = vars(found.modalities[1].geometry)
    held = _held(found, model, channels, options, told.get("power", 1.0))
    grid = series if found.binning == 1 else haadf
    problem = Problem(
        series, grid, found.modalities[0].geometry, channels, solve, held, adjoint=True
    )
    # 0 stands for no tolerance where None stands for the default; slices know of each other in
    # three dimensions alone.
    given = options | {"tolerance": options["tolerance"] or None}
    overlap, _ = given.pop("overlap"), given.pop("support")
    return problem.reconstruct(
        found.arrays, step, told, overlap=overlap if model.dimensions == 3 else None, **given
    )


def _projector_of(options: dict) -> Callable:
    return lambda geometry: projector(geometry, backend=options["backend"])


def _mu_values(mu, names: Sequence[str]) -> np.ndarray:
    """Return Huber's mu in the order of the channels; a sequence has the HAADF's first."""
    order = ("HAADF", *[name for name in names if name != "HAADF"]) if "HAADF" in names else names
    if not isinstance(mu, Mapping):
        if np.shape(mu) != (len(order),):
            raise ValueError(
                f"mu={mu!r} must hold one number for each of {', '.join(order)}, in this order, or "
                "be a dict"
            )
        mu = dict(zip(order, mu, strict=True))
    if set(mu) != set(names):
        raise ValueError(
            f"mu holds {', '.join(map(str, mu))}; expected one number for each of "
            f"{', '.join(order)}"
        )
    if not all(is_positive(value) for value in mu.values()):
        raise ValueError(f"mu={mu} must hold positive numbers")
    return np.array([mu[name] for name in names], dtype=float)


def _check_run(
    found: Measured, model: Model, channels: Sequence[str], options: dict, power: float = 1.0
) -> None:
    """Raise an error, before anything is computed, for a mask or start that does not fit and a run that needs too much memory."""
    geometry = found.modalities[0].geometry
    shape = (
        max(1, len(channels)),
        *geometry.volume_shape,
        found.arrays["maps"].shape[-1] * geometry.binning,
    )
    start_arrays(options["mask"], options["initial"], shape, channels)
    if not found.series._lazy:
        needed = _held(found, model, channels, options, power).bytes_of(shape[-1])
        check_memory(
            needed,
            f"this reconstruction of {named(shape[0])}",
            REMEDY + _THIRD * (model.kind == "tgv"),
        )


def _held(
    found: Measured, model: Model, channels: Sequence[str], options: dict, power: float
) -> Footprint:
    """Return what the run holds."""
    projectors = [_projector_of(options)(m.geometry) for m in found.modalities]
    series = []
    for m in found.modalities:
        maps = m.data == "maps"
        rows = found.arrays["maps"].shape[0] if maps else 1
        series.append((m.geometry, rows, maps and found.arrays["background"] is not None))
    channels, of_device = max(1, len(channels)), None
    if hasattr(projectors[0], "device"):

        def of_device(slices: int) -> int:
            from hyperspy_multitomo.tomography.cuda.primal_dual import regularised_bytes

            given = {
                "mixed": found.modalities[-1].mix is not None,
                "mask": options["mask"] is not None,
            }
            return regularised_bytes(
                model.kind, model.dimensions, channels, slices, series, **given
            )

    textbook = of_device is None and not all(map(fits_lanes, projectors))
    given = {"bent": power != 1, "textbook": textbook, "of_device": of_device}
    return regularised_footprint(model.kind, model.dimensions, channels, series, **given)
