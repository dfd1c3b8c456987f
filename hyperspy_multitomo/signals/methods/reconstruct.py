# SPDX-License-Identifier: GPL-3.0-or-later
"""The border of the reconstructions: signals and keywords to recipe and plain data, and back."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.reconstruction.keywords import PanelKeywords, with_shared
from hyperspy_multitomo.reconstruction.plan import ReconstructionPlan, plan
from hyperspy_multitomo.reconstruction.recipe import Problem, Recipe
from hyperspy_multitomo.reconstruction.recipes import methods_of, recipe_of
from hyperspy_multitomo.reconstruction.run import Prepared, prepare, solve
from hyperspy_multitomo.signals.arrays import check_pair, tilt_data
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.methods.panels import open_panel
from hyperspy_multitomo.signals.methods.volume_extent import EXTENT, check_outer_planes, with_extent
from hyperspy_multitomo.signals.volumes import as_volume

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume


_OF_PANELS = frozenset(PanelKeywords.__annotations__)
# What "auto" chooses from the data, in some method or other.
_CHOSEN = ("weight", "alpha", "iterations")


@dataclass(frozen=True, eq=False)
class Call:
    """A reconstruction that was asked for: signals, the recipe, and the keywords of the run.

    Attributes
    ----------
    series, haadf : TiltSeries
        The second is None where there is none.
    recipe : Recipe
    run : dict
        See `reconstruction.keywords.Run`; arrays are plain.
    """

    series: Any
    haadf: Any
    recipe: Recipe
    run: Mapping[str, Any]

    @classmethod
    def of(
        cls, series, method: str, haadf, keywords: Mapping[str, Any], *, planned: bool = False
    ) -> Call:
        """Return the call of a method by its keywords; a planned one does not change the series."""
        recipe, run = recipe_of(method, keywords)
        if planned:
            recipe = _unchosen(recipe)
        if haadf is not None and "ratios" in recipe.fields() and recipe.ratios is None:
            recipe = replace(recipe, ratios=_ratios(series, haadf, recipe, planned))
        return cls.of_recipe(series, haadf, recipe, run)

    @classmethod
    def of_recipe(cls, series, haadf, recipe: Recipe, run: Mapping[str, Any]) -> Call:
        """Return the call of a recipe, its arrays and those of the run made plain."""
        recipe = _for_series(recipe, series)
        return cls(series, haadf, recipe, _plain_run(run, recipe.channels(series, haadf)))

    def problem(self) -> Problem:
        """Return the problem of the data."""
        haadf, binning = self.haadf, 1
        if haadf is not None:
            binning = check_pair(self.series, haadf)
            haadf = tilt_data(haadf)
        return self.recipe.problem(tilt_data(self.series), haadf, binning, self.run)

    def prepare(self) -> Prepared:
        """Return the problem, ready to run."""
        return prepare(self.problem(), self.run)

    def in_its_volume(self) -> Call:
        """Return the call with the extent of the volume that its data ask for."""
        return replace(self, run=with_extent(self.series, self.haadf, self.run))

    def volume(self, prepared: Prepared) -> TomographicVolume:
        """Run the problem and return its volume."""
        finer = prepared.problem.geometry.binning > 1
        outcome = solve(prepared, self.run)
        if not (self.recipe.direct or prepared.problem.data.lazy):
            check_outer_planes(outcome, prepared.problem.geometry)
        return as_volume(self.series, self.haadf if finer else self.series, prepared, outcome)


def reconstruct(series, method: str, haadf=None, **keywords) -> TomographicVolume:
    """Reconstruct a series by a method and its keywords, or open the panel of the method."""
    panel = {name: keywords.pop(name) for name in _OF_PANELS if name in keywords}
    if panel.pop("interactive", False):
        chosen = {
            name: value for name, value in keywords.items() if value is not None or name in EXTENT
        }
        if automatic := [name for name in _CHOSEN if chosen.get(name) == "auto"]:
            raise ValueError(
                f"{', '.join(automatic)}='auto' chooses from the data, and interactive=True lets "
                "you choose; pass one of them"
            )
        how = {"constructor": "of_method", **panel}
        return open_panel("reconstruction", series, method, haadf, **how, **chosen)
    call = Call.of(series, method, haadf, keywords).in_its_volume()
    return call.volume(call.prepare())


def method_of(recipe: type[Recipe]) -> Callable:
    """Return the method of a recipe, for a class of series to bind as ``reconstruct_<name>``.

    Its signature and docstring are made of those of the recipe and of the keywords that it shares
    with others. The methods of this package are written out instead, with all that users ask.

    Examples
    --------
    >>> from hyperspy_multitomo.reconstruction.sirt import SIRT
    >>> class Plain(SIRT):
    ...     '''Reconstruct by SIRT.
    ...
    ...     Parameters
    ...     ----------
    ...     iterations : int, optional
    ...         At most.
    ...     relaxation, nonnegative : optional
    ...         As of SIRT.
    ...     '''
    ...
    ...     name = "plain"
    >>> method = method_of(Plain)
    >>> list(inspect.signature(method).parameters)[:4]
    ['self', 'iterations', 'mask', 'initial']
    >>> "checkpoint : " in method.__doc__
    True
    """

    def method(series, haadf=None, **keywords):
        return reconstruct(series, recipe.name, haadf, **keywords)

    kinds = inspect.Parameter
    signature = [kinds("series", kinds.POSITIONAL_OR_KEYWORD)]
    if recipe.haadf != "none":
        default = kinds.empty if recipe.haadf == "required" else None
        signature.append(kinds("haadf", kinds.POSITIONAL_OR_KEYWORD, default=default))
    own = [one for one in fields(recipe) if one.name not in recipe.run.__annotations__]
    signature += [
        kinds(one.name, kinds.KEYWORD_ONLY, default=one.default, annotation=one.type) for one in own
    ]
    signature.append(kinds("keywords", kinds.VAR_KEYWORD, annotation=recipe.run))
    vars(method)["__signature__"] = inspect.Signature(signature)
    method.__name__ = method.__qualname__ = f"reconstruct_{recipe.name}"
    # Where pickle finds it: in the module that binds it, as with `collections.namedtuple`.
    method.__module__ = sys._getframe(1).f_globals["__name__"]
    text, heading = inspect.cleandoc(recipe.__doc__ or recipe.title), "\n\nParameters\n----------\n"
    if heading not in text:
        text += heading + "\n".join(f"{one.name} : {one.type}" for one in own)
    method.__doc__ = text
    return checked(with_shared(recipe)(method))


@checked
def plan_reconstruction(series, method: str, haadf=None, **options) -> ReconstructionPlan:
    """Return what a reconstruction will take: memory, slabs, device and time.

    The time is from a trial of some iterations.

    Parameters
    ----------
    method : str
        ``"tgv"`` for `reconstruct_tgv`, and so on for every other method.
    haadf : TiltSeriesHAADF, optional
        For methods that take one.
    **options
        Keywords of the method, as they will be given to it.

    Returns
    -------
    ReconstructionPlan
        Prints as a table. `ReconstructionPlan.fits` says whether there is the memory.

    Raises
    ------
    TypeError
        For keywords that the method does not have, such as a HAADF series that it does not take, or
        that are missing.
    ValueError
        For an unknown method, and whatever the method itself refuses.
    MemoryError
        Where it would not fit, as the method itself would say.

    Notes
    -----
    The trial runs up to 8 iterations, or 10 s, on up to 64 slices in the middle. Regularised
    methods look at their data first, as they will again. What ``"auto"`` takes to choose comes on
    top, up to four runs of 32 slices. Times hold for a machine that does nothing
    else. On a cluster its workers run the trial, side by side.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
    >>> plan = haadf.plan_reconstruction("sirt", iterations=200)
    >>> plan.iterations, plan.slabs, plan.fits
    (200, 1, True)
    """
    known = methods_of(series.channels)
    if method not in known:
        raise ValueError(f"method={method!r} must be one of {', '.join(known)}")
    planned = getattr(series, f"reconstruct_{method}")
    keywords = options if haadf is None else {"haadf": haadf, **options}
    check_keywords(planned, keywords)
    check_values(getattr(type(series), f"reconstruct_{method}"), series, keywords)
    options = {name: value for name, value in options.items() if name not in _OF_PANELS}
    call = Call.of(series, method, haadf, options, planned=True)
    return plan(call.in_its_volume().prepare())


def _unchosen(recipe: Recipe) -> Recipe:
    """Return a recipe with defaults where the data are to choose, which is not planned."""
    chosen = [name for name in recipe.chooses if getattr(recipe, name) == "auto"]
    return replace(recipe, **{name: recipe.defaults()[name] for name in chosen})


def _for_series(recipe: Recipe, series) -> Recipe:
    """Return a recipe for maps or for images, its background plain."""
    changes: dict[str, Any] = {}
    if series.channels and getattr(recipe, "data_term", "") is None:
        changes["data_term"] = "poisson"
    mu = getattr(recipe, "mu", None)
    if not series.channels and isinstance(mu, Real | str):  # of the only channel; no text is a mu
        changes["mu"] = [mu]
    background = getattr(recipe, "background", None)
    if background is not None:
        roles = ("tilt", "element", "y", "x") if series.channels else ("tilt", "y", "x")
        changes["background"] = plain(background, roles, "the background")
    return replace(recipe, **changes) if changes else recipe


def _ratios(series, haadf, recipe: Recipe, planned: bool):
    """Return the response ratios of a series, fitted now and attached where there are none."""
    if series.response_ratios is None and planned:
        return dict.fromkeys(series.channels, 1.0)  # any will do, and the series stays as it is
    if series.response_ratios is None:
        series.fit_response_ratios(haadf, rest=recipe.rest)
    return series.response_ratios


def _plain_run(run: Mapping[str, Any], channels: Sequence[str]) -> dict[str, Any]:
    """Return the keywords of a run with its mask and start volume as plain arrays."""
    plain_run = dict(run)
    if run.get("mask") is not None:
        plain_run["mask"] = plain(run["mask"], ("z", "y", "x"), "the mask")
    if run.get("initial") is not None:
        plain_run["initial"] = _initial(run["initial"], channels)
    return plain_run


def _initial(initial, channels: Sequence[str]):
    """Return a start volume as (z, [element,] y, x), the channels of a signal by their names."""
    if getattr(initial, "_signal_type", "") == "TomographicVolume":
        present = initial.channels
        names = ", ".join(present) or "one without a name"
        if missing := [name for name in channels if name not in present]:
            raise ValueError(
                f"the start volume has no channel {', '.join(missing)}; it holds {names}: start "
                f"from a volume with all of {', '.join(channels)}, or leave out initial="
            )
        if not channels and len(present) > 1:
            raise ValueError(
                f"the start volume has the channels {names}; pick the one to start from, as in "
                "volume['HAADF']"
            )
        places = [present.index(name) for name in channels]
        roles = ("z", "element", "y", "x") if present else ("z", "y", "x")
        initial = initial.array(*roles)
        initial = initial[:, places] if places else initial
    four = np.ndim(getattr(initial, "data", initial)) == 4
    return plain(
        initial, ("z", "element", "y", "x") if four else ("z", "y", "x"), "the start volume"
    )


def check_values(method: Callable, series, keywords: Mapping[str, Any]) -> None:
    """Raise the error of the method itself for a keyword of a wrong kind, without calling it."""

    @functools.wraps(method)
    def refused(*_, interactive=False, **__):
        if interactive:
            raise TypeError(f"{method.__name__} makes no plan")

    checked(refused)(series, **keywords)


def check_keywords(method: Callable, keywords: Mapping[str, Any]) -> None:
    """Raise a TypeError that names the keywords which a method does not know, or needs."""
    parameters = inspect.signature(method).parameters
    unknown = [name for name in keywords if name not in parameters]
    if unknown == ["haadf"]:
        raise TypeError(
            f"{method.__name__} reconstructs this series alone and takes no haadf=; leave it out "
            "of the plan"
        )
    if unknown:
        raise TypeError(
            f"{method.__name__} has no keyword {', '.join(unknown)}; expected some of "
            f"{', '.join(parameters)}"
        )
    missing = [
        name
        for name, one in parameters.items()
        if one.default is one.empty and name not in keywords
    ]
    if missing:
        raise TypeError(
            f"{method.__name__} needs {', '.join(missing)}: pass "
            f"{', '.join(f'{name}=' for name in missing)} to the plan as well"
        )
