# SPDX-License-Identifier: GPL-3.0-or-later
"""Some slices of a series with many settings of a method, judged side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.arguments import checked, flag, of_type
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.reconstruction.automatic_weight import SHARE as SHARE_OF_WEIGHT
from hyperspy_multitomo.reconstruction.automatic_weight import paired
from hyperspy_multitomo.reconstruction.data_terms import data_terms
from hyperspy_multitomo.reconstruction.held_out import HeldOut
from hyperspy_multitomo.reconstruction.recipe import project_with
from hyperspy_multitomo.reconstruction.recipes import methods_of
from hyperspy_multitomo.reconstruction.run import prepare
from hyperspy_multitomo.reconstruction.settings_sweep import (
    PlacedOnce,
    Setting,
    brightest_slices,
    volumes_of,
)
from hyperspy_multitomo.signals.arrays import check_pair, tilt_data
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.methods.halves import parts_by_counts
from hyperspy_multitomo.signals.methods.reconstruct import Call, check_keywords, check_values
from hyperspy_multitomo.signals.volumes import as_signal

if TYPE_CHECKING:
    from hyperspy_multitomo.evidence.sweep import Sweep
    from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF

# Part of the counts that is reconstructed to be judged by the others: that at which iterations are
# chosen best, and weights of regularisers (docs/theory.md).
_SHARE = 0.2
# Keywords of a run that a sweep has no use for.
_NOT_SWEPT = ("interactive", "display", "toolkit", "checkpoint", "resume", "chunks", "stopping")
_NOT_SWEPT += ("noise",)


@checked(truth=of_type("TomographicVolume"), held_out=flag)
def sweep_maps(
    series,
    haadf: TiltSeriesHAADF | None,
    method: str,
    *,
    slices: int = 1,
    truth=None,
    held_out: bool = True,
    show_progressbar: bool | None = None,
    **settings,
) -> Sweep:
    """Reconstruct some slices with many settings of a method, and compare them.

    Each keyword of the method that is given as a list is swept: all combinations are reconstructed.

    Parameters
    ----------
    haadf : TiltSeriesHAADF or None
        For methods that take one.
    method : str
        ``"hebt"`` for `reconstruct_hebt`, and so on for every other method.
    slices : int, default 1
        How many: those side by side with the most signal, of a lazy series those in the middle.
    truth : TomographicVolume, optional
        As large as the volume, with the same channels and unit, to compare with.
    held_out : bool, default True
        Whether to judge each setting by counts that are held out as well: a second reconstruction,
        of the other counts, is to predict them.
    show_progressbar : bool, optional
        HyperSpy's preference by default.
    **settings
        Keywords of the method: lists are swept, everything else holds for all settings. What is a
        sequence itself is given as a tuple or a dict.

    Returns
    -------
    Sweep
        With ``settings``, ``volumes``, ``deviance``, ``residuals`` and ``errors`` against the
        truth; prints as a table, and has ``best()``, ``plot()`` and ``plot_sections()``.

    Raises
    ------
    TypeError
        For keywords that the method does not have.
    ValueError
        For an unknown method, an empty list, "auto", a keyword that cannot be swept, a truth of
        another size, and what the method itself refuses.

    Notes
    -----
    Settings of SIRT and HEBT are solved side by side, and those that differ in their iterations
    alone are snapshots of one run: forty settings of one slice take less than a run of 64 slices.
    Held-out counts cost as much again. Other methods run setting by setting. Those with a
    regulariser in three dimensions have no other slices than these: a few of them, such as
    ``slices=16``, are closer to the whole volume.

    Counts are held out as for ``"auto"``: four fifths of them by default, one fifth for methods
    with a regulariser, thinned at random. The deviance compares settings of one method. Between
    methods it misleads. It needs counts as recorded; for others `Sweep.not_held_out` says why it is
    missing. The HAADF is not held out.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = np.random.default_rng(0).poisson(5 * np.ones((7, 4, 16)))
    >>> tilts = range(-60, 61, 20)
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=tilts)
    >>> haadf = mt.TiltSeriesHAADF.from_images(50.0 * np.ones((7, 4, 16)), tilts=tilts)
    >>> alphas, iterations = [0.5, 0.9], [5, 10, 20]
    >>> ratios, size = {"Au": 10.0}, {"depth": None, "show_progressbar": False}
    >>> found = eds.sweep(haadf, "hebt", alpha=alphas, iterations=iterations, ratios=ratios, **size)
    >>> len(found), found.arrays.shape
    (6, (6, 1, 16, 16, 1))
    >>> found.settings[0]
    {'alpha': 0.5, 'iterations': 5}
    """
    how = (slices, truth, held_out, show_progressbar)
    return _sweep(series, haadf, method, settings, *how)


@checked(truth=of_type("TomographicVolume"), held_out=flag)
def sweep_images(
    series,
    method: str,
    *,
    slices: int = 1,
    truth=None,
    held_out: bool = True,
    show_progressbar: bool | None = None,
    **settings,
) -> Sweep:
    """Reconstruct some slices of the images with many settings of a method, and compare them.

    Parameters
    ----------
    method : str
        ``"sirt"`` for `reconstruct_sirt`, and so on for every other method.
    slices, truth, held_out, show_progressbar, **settings
        As in `TiltSeriesEDS.sweep`. Of images a part of the signal is held out, by noise of the
        size of their own.

    Returns
    -------
    Sweep

    Raises
    ------
    TypeError, ValueError
        As in `TiltSeriesEDS.sweep`.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).poisson(50.0, (7, 4, 16))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=range(-60, 61, 20))
    >>> found = haadf.sweep("sirt", iterations=[5, 20], depth=None, show_progressbar=False)
    >>> [setting["iterations"] for setting in found.settings]
    [5, 20]
    """
    how = (slices, truth, held_out, show_progressbar)
    return _sweep(series, None, method, settings, *how)


def _sweep(series, haadf, method, keywords, count, truth, held_out, show) -> Sweep:
    from hyperspy_multitomo.evidence.sweep import Sweep

    swept = {name: tuple(values) for name, values in keywords.items() if isinstance(values, list)}
    common = {name: value for name, value in keywords.items() if name not in swept}
    settings = tuple(dict(zip(swept, values, strict=True)) for values in product(*swept.values()))
    calls = _calls(series, haadf, method, swept, common, settings)
    prepared = _prepared(calls, settings)
    which = brightest_slices(prepared[0].prepared, count)
    truth = None if truth is None else _truth(truth, prepared[0].problem, which)
    judge = _Judge.of(calls, which) if held_out else _Judge("held_out=False")
    kept = [] if judge.why else _prepared(judge.calls, settings)
    with progress_bar(show, "sweeping", None) as bar:
        volumes = volumes_of(prepared, which, bar)
        predicting = volumes_of(kept, which, bar) if kept else []
    deviance, error = (None, None) if judge.why else judge.deviances(predicting)
    problem = prepared[0].problem
    grid = calls[0].haadf if problem.geometry.binning > 1 else series
    first, last = which
    arrays = np.stack(volumes)
    return Sweep(
        method=method,
        parameters=swept,
        settings=settings,
        volumes=_Volumes(grid.isig[:, first:last], prepared, arrays, which, settings),
        channels=problem.channels or ("HAADF",),
        arrays=arrays,
        slices=(first, last),
        residuals=_residuals(prepared, volumes, which),
        deviance=deviance,
        deviance_error=error,
        not_held_out=judge.why,
        errors={} if truth is None else _errors(arrays, truth),
        pixel_size=series.pixel_size,
        unit=f"{'counts' if problem.channels else 'HAADF signal'} / "
        f"{'nm' if series.pixel_size else 'px'}",
    )


def _calls(series, haadf, method, swept, common, settings) -> list[Call]:
    """Return the call of each setting, all in one volume; errors for what cannot be swept."""
    known = methods_of(series.channels)
    if method not in known:
        raise ValueError(f"method={method!r} must be one of {', '.join(known)}")
    if not swept:
        raise ValueError(
            "nothing is swept: give a list of values for a keyword of the method, as in "
            "iterations=[10, 20, 50]"
        )
    if empty := [name for name, values in swept.items() if not values]:
        raise ValueError(f"{', '.join(empty)}=[] is empty; expected one value or more")
    _check_meaning(common | swept)
    given = {"haadf": haadf} if haadf is not None else {}
    check_keywords(getattr(series, f"reconstruct_{method}"), given | common | swept)
    calls: list[Call] = []
    for setting in settings:
        keywords = common | setting
        check_values(getattr(type(series), f"reconstruct_{method}"), series, given | keywords)
        call = Call.of(series, method, haadf, keywords)
        _check_swept(call, swept, keywords)
        if calls:
            extent = {name: calls[0].run[name] for name in ("depth", "width", "asked")}
            call = replace(call, run={**call.run, **extent})
        else:
            call = call.in_its_volume()
            if getattr(call.recipe, "ratios", None) is not None:
                common = {"ratios": call.recipe.ratios} | common  # fitted or looked up once
        calls.append(call)
    return calls


def _check_meaning(keywords: Mapping[str, Any]) -> None:
    """Raise an error for keywords that a sweep has no use for."""
    if useless := [name for name in _NOT_SWEPT if keywords.get(name) is not None]:
        raise ValueError(
            f"{', '.join(f'{name}=' for name in useless)} has no meaning in a sweep, whose runs "
            "are short and end by their iterations: leave it out"
        )


def _check_swept(call: Call, swept, keywords: Mapping[str, Any]) -> None:
    """Raise an error for lists of what is one for all settings, and for what the data choose."""
    recipe = call.recipe
    if others := [name for name in swept if name not in recipe.fields()]:
        fields = [name for name in recipe.fields() if name not in _NOT_SWEPT]
        raise ValueError(
            f"{', '.join(f'{name}=' for name in others)} is one for all settings and cannot be a "
            f"list; lists are for {', '.join(fields)}"
        )
    chosen = [name for name in ("weight", "alpha", "iterations") if _is_auto(keywords.get(name))]
    if chosen:
        raise ValueError(
            f"{', '.join(chosen)}='auto' chooses from the data what a sweep is to show: pass "
            f"numbers, or call {recipe.step}"
        )


def _is_auto(value) -> bool:
    return isinstance(value, str) and value == "auto"


def _prepared(calls: list[Call], settings) -> list[Setting]:
    """Return the problems of calls, which share their images."""
    first, binning = calls[0], 1
    data, haadf = PlacedOnce.of(tilt_data(first.series)), None
    if first.haadf is not None:
        binning = check_pair(first.series, first.haadf)
        haadf = PlacedOnce.of(tilt_data(first.haadf))
    made = []
    for call, setting in zip(calls, settings, strict=True):
        problem = call.recipe.problem(data, haadf, binning, call.run)
        options = {name: value for name, value in setting.items() if name != "iterations"}
        made.append(Setting(options, prepare(problem, call.run)))
    return made


class _Judge:
    """Counts that are held out, and the calls of the others.

    Attributes
    ----------
    why : str
        Why there are none; empty where there are.
    calls : list of Call
    held : HeldOut
    """

    def __init__(self, why: str, calls=(), held: HeldOut | None = None, project=None):
        self.why, self.calls, self.held, self.project = why, list(calls), held, project

    @classmethod
    def of(cls, calls: list[Call], slices: tuple[int, int]) -> _Judge:
        """Return that of the counts of some slices."""
        first = calls[0]
        if first.series._lazy:
            return cls("the series is lazy")
        smooth = "weight" in first.recipe.fields()
        share = SHARE_OF_WEIGHT if smooth else _SHARE
        try:
            kept, _ = parts_by_counts(first.series, share, as_counts=smooth)
        except ValueError as error:
            return cls(str(error).partition(". Pass")[0].partition(": pass")[0])
        binning, haadf = 1, None
        if first.haadf is not None:
            binning, haadf = check_pair(first.series, first.haadf), tilt_data(first.haadf)
        extent = {name: first.run[name] for name in ("depth", "width")}
        terms = data_terms(
            tilt_data(first.series),
            haadf,
            binning,
            data_term="poisson" if first.series.channels else None,
            haadf_term=None,
            haadf_gain=None,
            background=getattr(first.recipe, "background", None),
            **extent,
        )
        # In pixels of the maps.
        where = tuple(place // binning for place in slices)
        try:
            held = HeldOut.of(terms, share, slices=where)
        except ValueError:
            return cls("there are no counts in these slices")
        if smooth:
            calls = [replace(call, recipe=_less(call, share)) for call in calls]
        calls = [replace(call, series=kept) for call in calls]
        return cls("", calls, held, project_with(first.run))

    def deviances(self, volumes) -> tuple[np.ndarray, np.ndarray]:
        """Return the deviance of each volume above the least, and the standard error of that.

        As where ``"auto"`` chooses: weights by rays that cross the specimen in the smoothest
        volume, iterations by all rays.
        """
        deviances = [self.held.deviances(self.project, volume) for volume in volumes]
        weights = [getattr(call.recipe, "weight", None) for call in self.calls]
        if weights[0] is None:
            return paired(deviances, np.ones(deviances[0].shape[1:], bool))
        smoothest = volumes[int(np.argmax(weights))]
        return paired(deviances, self.held.crossing(self.project, smoothest))


def _less(call: Call, share: float):
    """Return the recipe of a call for a share of the counts."""
    background = getattr(call.recipe, "background", None)
    if background is None or not call.series.channels:
        return call.recipe
    return replace(call.recipe, background=share * np.asarray(background, np.float32))


def _residuals(prepared: list[Setting], volumes, slices) -> dict[str, np.ndarray]:
    """Return the relative residuals of each setting: of maps, and of a HAADF beside them."""
    first = prepared[0].problem
    data, haadf = first.data, first.haadf
    coarse = prepared[0].prepared.coarse["maps"]
    maps = np.asarray(data.projections[..., slices[0] // coarse : slices[1] // coarse])
    project = project_with({"backend": prepared[0].prepared.job.backend})
    A, gains = project(first.geometry), data.model_gains
    names = data.channels or ("HAADF",)
    # All settings side by side, as slices.
    rays = _with_gains(A(np.concatenate([one[: len(maps)] for one in volumes], axis=-1)), gains)
    rays = np.split(rays, len(volumes), axis=-1)
    found = {
        name: np.array([_relative(measured, one[channel]) for one in rays])
        for channel, (name, measured) in enumerate(zip(names, maps, strict=True))
    }
    if haadf is None or first.ratios is None:
        return found
    images = np.asarray(haadf.projections[..., slices[0] : slices[1]])
    sums = [
        np.tensordot(_all_ratios(one.problem, len(volume)), volume, 1).astype(np.float32)
        for one, volume in zip(prepared, volumes, strict=True)
    ]
    B = project(haadf.geometry(*_extent(first)))
    rays = _with_gains(B(np.concatenate(sums, axis=-1)[None]), haadf.model_gains)
    rays = np.split(rays, len(volumes), axis=-1)
    return found | {"HAADF": np.array([_relative(images, one) for one in rays])}


def _extent(problem) -> tuple[float, float]:
    """Return depth and width of a problem's volume, in the unit of the pixel size."""
    geometry = problem.geometry
    return tuple(voxels * geometry.pixel_size for voxels in geometry.volume_shape)


def _all_ratios(problem, channels: int) -> np.ndarray:
    ratios = np.asarray(problem.ratios, float)
    return np.append(ratios, np.ones(channels - len(ratios)))  # that of "rest" is 1


def _with_gains(rays: np.ndarray, gains) -> np.ndarray:
    if gains is None:
        return rays
    return rays * np.atleast_2d(gains)[..., None, None].astype(np.float32)


def _relative(measured: np.ndarray, expected: np.ndarray) -> float:
    norm = float(np.linalg.norm(measured))
    return float(np.linalg.norm(measured - expected)) / norm if norm > 0 else float("nan")


def _truth(truth, problem, slices) -> np.ndarray:
    """Return the slices of a truth, (channel, z, x, y); an error for one of another size."""
    names = problem.channels
    if missing := [name for name in names if name not in truth.channels]:
        raise ValueError(
            f"truth= has no channel {', '.join(missing)}; it holds "
            f"{', '.join(truth.channels) or 'one without a name'}"
        )
    array = truth.array("element", "z", "x", "y") if names else truth.array("z", "x", "y")[None]
    if names:
        array = array[[truth.channels.index(name) for name in names]]
    if array.shape != problem.shape:
        raise ValueError(
            f"truth= has the shape {array.shape} (channel, z, x, y) and the volume {problem.shape}:"
            " pass a truth on its grid, or depth= and width= of the truth"
        )
    return np.asarray(array[..., slices[0] : slices[1]], np.float32)


def _errors(arrays: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return errors (setting, channel) against the truth; NaN where that is even."""
    from hyperspy_multitomo.inspection.metrics import nrmse, ssim_structure

    even = [one.min() == one.max() for one in truth]
    found = {"nrmse": nrmse, "ssim": ssim_structure}
    return {
        name: np.array(
            [
                [
                    np.nan if flat else metric(x, t)
                    for x, t, flat in zip(one, truth, even, strict=True)
                ]
                for one in arrays
            ]
        )
        for name, metric in found.items()
    }


class _Volumes(Sequence):
    """Volumes of some slices as signals, made when they are asked for."""

    def __init__(self, part, prepared: list[Setting], arrays, slices, settings):
        self._part, self._prepared, self._arrays = part, prepared, arrays
        self._slices, self._settings = slices, settings

    def __len__(self) -> int:
        return len(self._settings)

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        number = range(len(self))[number]  # as a list counts
        problem = self._prepared[number].problem
        made = as_signal(self._part, problem, self._arrays[number])
        settings = dict(self._settings[number])
        about = {"method": problem.step, "slices": list(self._slices), "settings": settings}
        add_step(made, "sweep", after=self._part, **about)
        return made
