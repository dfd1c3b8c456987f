# SPDX-License-Identifier: GPL-3.0-or-later
"""``reconstruct()``: the method and its settings from the data, with a word on what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import whole_number
from hyperspy_multitomo.reconstruction.automatic_grid import Grid, coarsest, factors_of
from hyperspy_multitomo.reconstruction.automatic_weight import SHARE
from hyperspy_multitomo.reconstruction.held_out import HeldOut, block_sums, check_counts
from hyperspy_multitomo.reconstruction.keywords import (
    PanelKeywords,
    SmoothMapsRun,
    SmoothRun,
    with_shared,
)
from hyperspy_multitomo.reconstruction.recipe import Problem
from hyperspy_multitomo.reconstruction.recipes import RECIPES
from hyperspy_multitomo.reconstruction.run import prepare
from hyperspy_multitomo.signals.arrays import check_pair, pixel_ratio, tilt_data
from hyperspy_multitomo.signals.methods.panels import open_panel
from hyperspy_multitomo.signals.methods.reconstruct import Call
from hyperspy_multitomo.signals.methods.volume_extent import EXTENT

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume

# R2 of the fit of the response ratios from which the HAADF is taken for the sum of the maps: from
# there on the sum makes errors of 0.66 to 1.01 times those of a channel on all of seven simulated
# specimens, an element missing or not; at 0.93 to 0.945 up to 3.2 times, where one is missing
# (benchmarks/plain.py closure).
_CLOSED = 0.95
# Correlation of the HAADF with the maps, over blocks, below which they contradict each other. It is
# 0.25 and more on these specimens, 0.44 and more where no element is missing; moved by a quarter of
# the field of view -0.27 to 0.09, and 0.2 to 0.25 on one that fills the view, which is not told.
_AGREES = 0.15
# Blocks across an image for that.
_BLOCKS = 16
# Rows of pixels in the middle of a lazy series that are read for it.
_ROWS = 64
# Keywords whose numbers are of the recorded pixels.
_PER_PIXEL = ("background", "haadf_gain")
_OF_PANELS = tuple(PanelKeywords.__annotations__)


def _named_reconstruct(function: Callable) -> Callable:
    function.__name__ = "reconstruct"
    return function


@checked
@_named_reconstruct
@with_shared(RECIPES["tnv"], weight="auto", refit=True)
def reconstruct_maps(
    series,
    haadf=None,
    *,
    haadf_as: Literal["auto", "channel", "sum"] = "auto",
    bin: int | Literal["auto"] | None = "auto",
    iterations: int = 500,
    **run: Unpack[SmoothMapsRun],
) -> TomographicVolume:
    """Reconstruct all elements with the settings that their data ask for.

    Nuclear total variation of the maps, coupled to the HAADF where there is one, with counting
    statistics. What was chosen, and why, is printed in one line and kept in the history.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        The HAADF series of the same field of view. Response ratios are fitted, and attached to this
        series, where there are none.
    haadf_as : {"auto", "channel", "sum"}, default "auto"
        How the HAADF enters: ``"channel"``, as one more channel, whose edges the elements share
        (`reconstruct_tnv`); ``"sum"``, as the sum of the elements times their response ratios
        (`reconstruct_hebt` with ``regulariser="tnv"``), which holds their amounts too. ``"auto"``
        takes the sum where the maps explain the HAADF (R2 of the ratios from 0.95, none of them 0),
        else the channel, and leaves the HAADF out where the maps contradict it.
    bin : int, None or "auto", default "auto"
        Pixels along each side of a new one, for maps and HAADF; None or 1 for the recorded ones.
        ``"auto"`` takes the coarsest of 1, 2, 4 and 8, with at least 64 px left across, that
        predicts counts that are held out, at the recorded pixels, as well as the best one does, to
        one standard error. It is 1 with `mask`, `initial`, `checkpoint`, `resume`, `background` or
        `haadf_gain`.
    iterations : int, default 500
        At most, of each solve; `tolerance` ends them before that.

    Returns
    -------
    TomographicVolume
        As of the method that was chosen: array order (z, element, y, x), counts per nm of path and
        pixel. ``volume.history[-1]["chosen"]`` holds the choices.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `reconstruct_tnv`; for `haadf_as` without a HAADF series, and for `background` or
        `haadf_gain` with a number for `bin`.

    Warns
    -----
    UserWarning
        Where the data do not allow a choice, such as counts that were smoothed: `weight` is then 1,
        and nothing is binned.

    See Also
    --------
    reconstruct_tnv, reconstruct_hebt : What it calls.

    Notes
    -----
    The method is fixed: held-out counts compare settings of one method well, and methods badly.
    docs/regularisers.md has the tables behind the rules.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = np.random.default_rng(0).poisson(4.0, (7, 6, 16))
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=range(-60, 61, 20))
    >>> volume = eds.reconstruct(depth=None, show_progressbar=False)  # doctest: +ELLIPSIS
    reconstruct: TNV of the maps; weight ...
    """
    if haadf is None and haadf_as != "auto":
        raise ValueError(f"haadf_as={haadf_as!r} needs a HAADF series; pass haadf=")
    if haadf_as not in ("auto", "channel", "sum"):
        raise ValueError(f"haadf_as={haadf_as!r} must be 'auto', 'channel' or 'sum'")
    if (panel := _panel(series, "tnv", haadf, run)) is not None:
        return panel
    use = _Use("none", "") if haadf is None else _use_of(series, haadf, haadf_as)
    return _reconstruct(series, haadf, use, bin, {"iterations": iterations, **run})


@checked
@_named_reconstruct
@with_shared(RECIPES["tv"], weight="auto", refit=True)
def reconstruct_images(
    series,
    *,
    bin: int | Literal["auto"] | None = "auto",
    iterations: int = 500,
    **run: Unpack[SmoothRun],
) -> TomographicVolume:
    """Reconstruct the images with the settings that they ask for.

    Total variation with their own noise. What was chosen, and why, is printed in one line and kept
    in the history.

    Parameters
    ----------
    bin : int, None or "auto", default "auto"
        Pixels along each side of a new one; None or 1 for the recorded ones. ``"auto"`` takes the
        coarsest of 1, 2, 4 and 8, with at least 64 px left across, that predicts signal that is
        held out as well as the best one does, to one standard error. It is 1 with `mask`,
        `initial`, `checkpoint`, `resume`, `background` or `haadf_gain`.
    iterations : int, default 500
        At most, of each solve; `tolerance` ends them before that.

    Returns
    -------
    TomographicVolume
        As of `reconstruct_tv`. ``volume.history[-1]["chosen"]`` holds the choices.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `reconstruct_tv`.

    Warns
    -----
    UserWarning
        Where the data do not allow a choice, such as images that were smoothed: `weight` is then 1,
        and nothing is binned.

    See Also
    --------
    reconstruct_tv : What it calls.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).poisson(90.0, (7, 6, 16))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=range(-60, 61, 20))
    >>> volume = haadf.reconstruct(depth=None, show_progressbar=False)  # doctest: +ELLIPSIS
    reconstruct: TV of the images; weight ...
    """
    if (panel := _panel(series, "tv", None, run)) is not None:
        return panel
    return _reconstruct(series, None, _Use("none", ""), bin, {"iterations": iterations, **run})


@dataclass(frozen=True)
class _Use:
    """How the HAADF enters: "none", "channel" or "sum", and why."""

    how: str
    why: str


def _panel(series, method: str, haadf, run: dict[str, Any]):
    """Return the panel of a method where it is asked for; what concerns panels is taken out."""
    panel = {name: run.pop(name) for name in _OF_PANELS if name in run}
    if not panel.pop("interactive", False):
        return None
    chosen = {name: value for name, value in run.items() if value not in (None, "auto")}
    how = {"constructor": "of_method", **panel}
    return open_panel("reconstruction", series, method, haadf, **how, **chosen)


def _use_of(series, haadf, asked: str) -> _Use:
    """Return how the HAADF is to enter."""
    check_pair(series, haadf)
    if asked != "auto":
        return _Use(asked, "as asked")
    agreement = _agreement(series, haadf)
    if agreement < _AGREES:
        warn(
            f"the HAADF does not show what the maps show (correlation {agreement:.2f} of their "
            f"blocks; expected at least {_AGREES}), and is left out: check that both are of the "
            "same field of view and aligned alike, or pass haadf_as='channel'"
        )
        return _Use("none", f"the HAADF contradicts the maps, correlation {agreement:.2f}")
    try:
        ratios = series.response_ratios or series.fit_response_ratios(haadf)
    except ValueError as error:
        return _Use("channel", f"no response ratios: {error}")
    if ratios.unexplained:
        return _Use("channel", f"the ratio of {', '.join(ratios.unexplained)} is 0")
    if ratios.r2 < _CLOSED:
        return _Use("channel", f"R2 {ratios.r2:.3f}: the maps do not explain all of it")
    return _Use("sum", f"R2 {ratios.r2:.3f}: the maps explain it")


def _agreement(series, haadf) -> float:
    """Return the correlation of the HAADF with the sum of the maps, over blocks of the images.

    Maps are compared with the HAADF at the nearest tilt, each with the same weight.
    """
    near = [int(np.abs(haadf.tilts - tilt).argmin()) for tilt in series.tilts]
    ratio = pixel_ratio(series, haadf)
    maps, images = tilt_data(series).projections, tilt_data(haadf).projections[:, near]
    if is_lazy(maps) or is_lazy(images):
        first = max(0, (maps.shape[3] - _ROWS) // 2)
        maps = maps[..., first : first + _ROWS]
        images = images[..., first * ratio : (first + _ROWS) * ratio]
    maps, images = np.asarray(maps), block_sums(np.asarray(images), ratio)
    side = max(1, maps.shape[2] // _BLOCKS)
    side = side if maps.shape[3] >= side else 1
    maps, images = (block_sums(each, side) for each in (maps, images))
    spread = maps.std(axis=(1, 2, 3), keepdims=True)
    summed = np.divide(maps, spread, out=np.zeros_like(maps), where=spread > 0).sum(
        axis=0, keepdims=True
    )
    if not (summed.std() > 0 and images.std() > 0):
        return 0.0
    return float(np.corrcoef(summed.ravel(), images.ravel())[0, 1])


@dataclass
class _Automatic:
    """The choices of one call, and what they are told as."""

    told: list[str] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)


def _reconstruct(series, haadf, use: _Use, bin, run: dict[str, Any]) -> TomographicVolume:
    """Reconstruct with what the data ask for."""
    beside = None if use.how == "none" else haadf
    automatic = _Automatic(
        [_method_in_words(series, use)], {"haadf": use.how, "haadf_why": use.why}
    )
    method = _method_of(series, use)
    _check_per_pixel(run, bin)
    if use.how == "sum":
        run["regulariser"] = "tnv"
    run = _allowed(series, run, bin, automatic)
    call = Call.of(series, method, beside, run).in_its_volume()
    factors = _factors(series, run, bin, automatic)
    call, problem = _best_grid(call, factors, automatic)
    settings = problem.settings
    automatic.told.append(f"weight {settings['weight']:.2g}")
    automatic.told += ["refit"] * bool(settings.get("refit"))
    geometry = problem.geometry
    depth = geometry.volume_shape[0] * geometry.pixel_size
    # Without calibration lengths are in the pixels of the series, here in those that were recorded.
    unit, factor = ("nm", 1) if series.pixel_size else ("px", automatic.chosen["bin"])
    automatic.told.append(f"depth {depth * factor:.0f} {unit}")
    automatic.chosen["said"] = "; ".join(automatic.told)
    print(f"reconstruct: {automatic.chosen['said']}")
    problem = replace(problem, settings={**settings, "chosen": automatic.chosen})
    return call.volume(prepare(problem, call.run))


def _method_of(series, use: _Use) -> str:
    if not series.channels:
        return "tv"
    return "hebt" if use.how == "sum" else "tnv"


def _method_in_words(series, use: _Use) -> str:
    if not series.channels:
        return "TV of the images"
    if use.how == "none":
        return "TNV of the maps" + (f" ({use.why})" if use.why else "")
    as_what = "one more channel" if use.how == "channel" else "their sum"
    return f"TNV of the maps with the HAADF as {as_what} ({use.why})"


def _allowed(series, run: dict[str, Any], bin, automatic: _Automatic) -> dict[str, Any]:
    """Return the keywords with the safe setting where the data do not allow a choice."""
    run["weight"] = run.get("weight", "auto")
    run["refit"] = run.get("refit", True)
    if run["weight"] != "auto" and bin != "auto":
        return run
    why = _no_choice(series, run)
    if why is None:
        return run
    warn(f"nothing could be held out to choose weight and binning: {why}. The weight is 1")
    automatic.chosen["no_choice"] = why
    return run | {"weight": 1.0 if run["weight"] == "auto" else run["weight"]}


def _check_per_pixel(run: Mapping[str, Any], bin) -> None:
    """Raise an error for numbers of the recorded pixels where others are asked for."""
    named = [f"{name}=" for name in _PER_PIXEL if run.get(name) is not None]
    if named and bin not in ("auto", None, 1):
        raise ValueError(
            f"{', '.join(named)} and bin={bin}: the first is of one pixel, the recorded or the new "
            f"one; bin the series first, as in eds.bin({bin}), and pass what holds for its pixels"
        )


def _no_choice(series, run: Mapping[str, Any]) -> str | None:
    """Return why no counts can be held out; None where they can."""
    if run.get("data_term") == "least_squares":
        return "data_term='least_squares' takes no counts"
    data = tilt_data(series)
    try:
        if data.channels:
            check_counts(data)
        elif data.smoothed:
            return "the images were smoothed"
    except ValueError as error:
        return str(error)
    return None


def _factors(series, run: Mapping[str, Any], bin, automatic: _Automatic) -> list[int]:
    """Return the factors of binning to try, coarse ones first."""
    if bin != "auto":
        return [1 if bin is None else whole_number("bin", bin, 1, "of pixels, or 'auto'")]
    names = ("mask", "initial", "checkpoint", "resume", *_PER_PIXEL)
    fixed = [name for name in names if run.get(name) is not None]
    if fixed or "no_choice" in automatic.chosen:
        return [1]
    return factors_of(series.data.shape[-1], series.data.shape[-2])


def _best_grid(call: Call, factors: list[int], automatic: _Automatic) -> tuple[Call, Problem]:
    """Return the call on the best grid, and its problem, with its weight chosen."""
    if len(factors) == 1:
        automatic.chosen["bin"] = factors[0]
        binned = _binned(call, factors[0])
        if factors[0] > 1:
            automatic.told.append(f"binned by {factors[0]}, as asked")
        return binned, binned.problem()
    held = _held_out(call, max(factors))
    grids, tried = [], []
    for factor in factors:
        grid = Grid(factor, held)
        binned = _binned(call, factor)
        problem = replace(binned, run={**binned.run, "grid": grid}).problem()
        grids.append(grid)
        tried.append((binned, problem))
        best, above, errors = coarsest(grids)
        if best is not grid:
            break  # finer ones predict no better
    automatic.chosen["bin"] = best.factor
    automatic.chosen["grids"] = {
        "bins": [grid.factor for grid in grids],
        "deviances": above.tolist(),
        "errors": errors.tolist(),
    }
    if best.factor > 1:
        automatic.told.append(f"binned by {best.factor}: finer pixels predict no better")
    return tried[grids.index(best)]


def _held_out(call: Call, together: int) -> HeldOut:
    """Return the counts that all grids are judged by."""
    haadf, binning = call.haadf, 1
    if haadf is not None:
        binning, haadf = check_pair(call.series, haadf), tilt_data(haadf)
    data = tilt_data(call.series)
    summed = call.recipe.name == "hebt"
    terms = call.recipe.terms(data, haadf, binning, call.run, summed=summed)
    return HeldOut.of(terms, SHARE, together=together)


def _binned(call: Call, factor: int) -> Call:
    """Return the call for its series binned; what the recipe holds of it is per old pixel."""
    if factor == 1:
        return call
    haadf = None if call.haadf is None else call.haadf.bin(factor)
    # What the recorded series asked for, the binned one is asked for in numbers, which without
    # calibration are in its own pixels.
    unit = 1 if call.series.pixel_size else factor
    extent = {name: None if call.run[name] is None else call.run[name] / unit for name in EXTENT}
    run = {**call.run, **extent, "asked": extent}
    recipe = _per_pixel(call, factor)
    return replace(call, series=call.series.bin(factor), haadf=haadf, recipe=recipe, run=run)


def _per_pixel(call: Call, factor: int):
    """Return the recipe for binned pixels: the HAADF is averaged, counts are summed."""
    ratios = getattr(call.recipe, "ratios", None)
    if ratios is None:
        return call.recipe
    scaled = {name: float(ratios[name]) / factor**2 for name in call.series.channels}
    return replace(call.recipe, ratios=scaled)
