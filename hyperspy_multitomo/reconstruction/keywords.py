# SPDX-License-Identifier: GPL-3.0-or-later
"""The keywords that the reconstruct methods share, written and documented once.

They are put into the signature and the docstring of each method.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict, TypeVar

F = TypeVar("F", bound=Callable)


class PanelKeywords(TypedDict, total=False):
    """Keywords that open the panel of a method.

    Parameters
    ----------
    interactive : bool, default False
        Open a panel that reconstructs one slice as parameters change, and then the whole volume.
    display : bool, default True
        With `interactive`: show the panel; with False its widgets are returned.
    toolkit : str, optional
        With `interactive`: HyperSpy's toolkit for the panel; its preference by default.
    """

    interactive: bool
    display: bool
    toolkit: str | None


class DirectRun(PanelKeywords, total=False):
    """Keywords of a run, of every method.

    Parameters
    ----------
    depth, width : float or None, default "auto"
        Extent of the volume along z and x in nm (px without calibration). ``"auto"`` is what the
        specimen needs: as the alignment found it, else as it is measured now (of the HAADF, where
        there is one); of a mask, a start volume or a checkpoint their own. It is never narrower
        than the detector, and a cube, with a warning, where the data do not tell. None is as wide
        as the detector.
    backend : {"cuda", "astra_cuda", "numba", "astra_cpu"}, optional
        The projector; the best that works here by default. The history names the one that ran, or
        of a lazy series, which runs later, the one that was asked for.
    chunks : int, optional
        For a lazy series: slices of a slab, instead of as many as fit the memory and are done
        soonest; a resumed run keeps those that it had.
    show_progressbar : bool, optional
        HyperSpy's preference by default.
    """

    depth: float | str | None
    width: float | str | None
    backend: str | None
    chunks: int | None
    show_progressbar: bool | None


class Run(DirectRun, total=False):
    """Keywords of a run of an iterative method.

    Parameters
    ----------
    mask : array-like of bool or signal, shape (z, y, x), optional
        Voxels outside it stay zero.
    initial : TomographicVolume or array, shape (z, [element,] y, x), optional
        Start from here instead of from zero.
    tolerance : float, optional
        Stop when the relative residual changes by less than this from one iteration to the next.
    checkpoint : str or path-like, optional
        Keep the state of the run here, every ten minutes and when it is interrupted: a file, or for
        a lazy series a folder with the slabs that are finished. What exists is not overwritten.
    resume : str or path-like, optional
        Go on from such a checkpoint, to the result of a run that was not interrupted, and keep the
        state there. The data and all parameters have to be the same, but for `iterations` and
        `tolerance`.
    """

    mask: Any
    initial: Any
    tolerance: float | None
    checkpoint: str | PathLike | None
    resume: str | PathLike | None


class StoppedRun(Run, total=False):
    """Keywords of a run that can stop at the noise.

    Parameters
    ----------
    stopping : {"discrepancy"}, optional
        Stop when the residual is down to the noise of the data, where the error is within some
        percent of its lowest. The noise is that of counts, or for net counts and images measured
        from the finest detail of what was recorded. Each element stands still from there on. All
        `iterations` run where the volume cannot explain the data so well: a specimen that leaves
        the field of view, or a poor alignment.
    noise : float, optional
        For `stopping`: standard deviation of the noise in each pixel as recorded, instead of those
        estimates; series that were smoothed need it.
    """

    stopping: str | None
    noise: float | None


class SmoothRun(Run, total=False):
    """Keywords of the methods with a regulariser.

    Parameters
    ----------
    weight : float or "auto", default 1.0
        How much to smooth, without unit: 1 is the default for the noise of these data, 2 twice as
        much. Noise that shows as speckle asks for more, details that melt away for less; try
        factors of 2. ``"auto"`` lets counts decide that are held out, at the cost of up to four
        runs of some slices: the smoothest of the weights from 4 to 0.5 that predicts them as well
        as the best one does, to one standard error. It aims at the error of the volumes;
        compositions are best at up to twice that weight. Counts have to be as recorded.
        `TomographicVolume.plot_weight_choice` draws the curve.
    refit : bool, default False
        Whether to solve twice, the second time without paying again for the contrast and the edges
        that the first has found: the second step of Bregman's iteration. Volumes come out truer,
        small and weak details above all, in twice the time. `weight` means as much as without,
        and ``"auto"`` chooses it by single solves. Each solve does `iterations` at most; the first
        ends at twice the `tolerance`. A checkpoint of the second solve is resumed with those
        `iterations` and that `tolerance` that the first ended by. Fused tomography has it for
        ``power=1``.
    dimensions : {3, 2}, default 3
        2 for slices apart from each other; 3 is better.
    data_term : {"poisson", "least_squares"}, optional
        Statistics of the data. ``"poisson"``, the default for maps and for images without negative
        pixels, takes counts as recorded: the `gross` counts with their background in the model
        where the maps have them, and of images noise-equivalent electrons. ``"least_squares"``
        takes the net maps or the images, negative values and all, with an even noise.
    haadf_gain : float, optional
        HAADF signal of one noise-equivalent electron: the larger, the less the HAADF is trusted. By
        default estimated from the images, and no smaller than for a noise of 1 %.
    background : float or array-like, optional
        Counts per pixel of the data expected from anything but the specimen (or element), such as
        the offset of a detector: a number, one for each tilt, for each tilt and element, or (tilt,
        [element,] y, x). Of maps by default that which was recorded with them.
    overlap : int, default 16
        For a lazy series in three dimensions: slices on either side that each slab is reconstructed
        with, so that no seam shows between them.
    support : bool, default True
        Whether to work only on the box of voxels that holds all that there is, and leave 0 around
        it: where a coarse reconstruction of the same data shows more than 0.3 % of a channel's
        largest value, and two of its voxels more. It saves the time of the vacuum, in volumes from
        64^3 voxels of which it is a fifth or more; what `initial` has there is not used. Slabs of a
        lazy series find a box each.
    tolerance : float, optional
        End when the objective changes by less than this part of it in twenty iterations; None to do
        all `iterations`.
    """

    weight: float | Literal["auto"]
    refit: bool
    dimensions: int
    data_term: str | None
    haadf_gain: float | None
    background: Any
    overlap: int
    support: bool


class SmoothMapsRun(SmoothRun, total=False):
    """Keywords of the methods with a regulariser for maps, with or without HAADF images.

    Parameters
    ----------
    haadf_term : {"poisson", "least_squares"}, optional
        Statistics of the HAADF images; by default ``"poisson"`` where none of them is negative. Its
        counts are noise-equivalent electrons.
    """

    haadf_term: str | None


_ALL = (PanelKeywords, DirectRun, Run, StoppedRun, SmoothRun, SmoothMapsRun)
#: Defaults of the keywords of a run, where the recipe has none of its own; None for the others.
DEFAULTS = {"depth": "auto", "width": "auto", "interactive": False, "display": True}
# Order of keywords in signatures and docstrings: of the method, of its start, of its course.
_ORDER = {
    name: place
    for place, name in enumerate(
        (
            *("power", "haadf_weights", "ratios", "rest", "regulariser", "weight", "refit"),
            *("mu", "coupled"),
            *("dimensions", "alpha0", "weighting", "iterations", "data_term", "haadf_term"),
            *("haadf_gain", "background", "cutoff", "mask", "initial", "depth", "width"),
            *("relaxation", "stopping", "noise", "tolerance", "nonnegative", "support", "backend"),
            *("chunks", "overlap", "checkpoint", "resume", "show_progressbar"),
            *PanelKeywords.__annotations__,
        )
    )
}


def with_shared(recipe, **defaults) -> Callable[[F], F]:
    """Put shared keywords into the signature and the docstring of a method.

    The function takes them as ``**keywords: Unpack[...]`` of a `TypedDict` of this file, as type
    checkers read it; it stays the same function. A keyword that its own docstring explains keeps
    that explanation.

    Parameters
    ----------
    recipe : type of Recipe
        Whose defaults they have.
    **defaults
        Of keywords that have others here.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        *declared, rest = signature.parameters.values()
        shared = _typed_dict(function, rest)
        values = recipe.defaults() | {"tolerance": recipe.tolerance} | DEFAULTS | defaults
        keywords = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=values.get(name),
                annotation=annotation,
            )
            for name, annotation in _annotations(shared).items()
        ]
        parameters = _in_order(declared, keywords)
        vars(function)["__signature__"] = signature.replace(parameters=parameters)
        names = [parameter.name for parameter in parameters]
        function.__doc__ = _documented(function.__doc__ or "", shared, names, values)
        function.__name__ = f"reconstruct_{recipe.name}"  # that of images too, in errors and help
        return function

    return decorate


def _in_order(
    declared: Sequence[inspect.Parameter], keywords: Sequence[inspect.Parameter]
) -> list[inspect.Parameter]:
    """Return the parameters of a method as help shows them: its own, then those of a run."""
    first, *declared = declared
    places = [one for one in declared if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    others = [one for one in declared if one.kind is inspect.Parameter.KEYWORD_ONLY]
    # The sort is stable: parameters that are not listed come first, as they are declared.
    named = sorted((*others, *keywords), key=lambda one: _ORDER.get(one.name, -1))
    return [first.replace(name="self"), *places, *named]


def _typed_dict(function: Callable, parameter: inspect.Parameter) -> type:
    """Return the class of ``**keywords: Unpack[Class]``."""
    if typing.is_typeddict(parameter.annotation):
        return parameter.annotation
    name = re.fullmatch(r"Unpack\[(\w+)\]", str(parameter.annotation))
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD or name is None:
        raise TypeError(f"{function.__name__} has no **keywords: Unpack[...]")
    return function.__globals__[name[1]]


def _annotations(shared: type) -> dict[str, Any]:
    """Return the keywords of a TypedDict: those of a run first, those of a panel last."""
    names = typing.get_type_hints(shared)
    last = [name for name in PanelKeywords.__annotations__]
    return {name: names[name] for name in (*(n for n in names if n not in last), *last)}


def _documented(text: str, shared: type, names: Sequence[str], defaults: Mapping[str, Any]) -> str:
    """Return a docstring that explains the shared keywords too, all in the order of `names`."""
    text = inspect.cleandoc(text)
    before, heading, after = text.partition("\nParameters\n----------\n")
    if not heading:
        raise ValueError("the docstring has no section of parameters to put the shared ones into")
    end = re.search(r"\n\n(?=[A-Z]\w+\n-{3,}\n)", after)
    mine, others = (after[: end.start()], after[end.start() :]) if end else (after, "")
    entries = dict(_entries(mine))
    explained = {name for each in entries for name in each}
    for each, entry in _shared_entries(shared):
        if each[0] not in explained:
            entries[each] = _with_default(entry, each, defaults)
    ordered = sorted(entries, key=lambda each: names.index(each[0]))
    return before + heading + "\n".join(entries[each] for each in ordered) + others


def _shared_entries(shared: type) -> list[tuple[tuple[str, ...], str]]:
    """Return the explanations of the keywords of a TypedDict; the class itself before its bases."""
    found: dict[tuple[str, ...], str] = {}
    # A TypedDict does not know its bases before Python 3.12, but has their keywords.
    bases = [cls for cls in _ALL if cls.__annotations__.keys() <= shared.__annotations__.keys()]
    for cls in sorted(bases, key=lambda cls: -len(cls.__annotations__)):
        doc = inspect.cleandoc(cls.__doc__ or "").partition("\nParameters\n----------\n")[2]
        known = {name for names in found for name in names}
        found |= {names: entry for names, entry in _entries(doc) if names[0] not in known}
    return list(found.items())


def _entries(section: str) -> list[tuple[tuple[str, ...], str]]:
    """Return the entries of a numpydoc section with the names that each explains."""
    blocks = re.split(r"\n(?=\S)", section.strip("\n"))
    return [
        (tuple(re.split(r",\s*", block.partition("\n")[0].partition(" : ")[0].strip())), block)
        for block in blocks
        if block.strip()
    ]


def _with_default(entry: str, names: Sequence[str], defaults: Mapping[str, Any]) -> str:
    """Return an explanation whose first line gives the default that there is."""
    head, newline, body = entry.partition("\n")
    default = defaults.get(names[0])
    head = re.sub(r", (?:optional|default .*)$", "", head)
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    return f"{head}, {'optional' if default is None else f'default {shown}'}{newline}{body}"
