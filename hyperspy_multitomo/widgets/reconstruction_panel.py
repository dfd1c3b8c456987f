# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the reconstruction panel: a preview of one slice, and the run of the whole volume.

The run can be stopped and resumed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.composition import ResponseRatios
from hyperspy_multitomo.inspection.picture import LINES, colour_mix, distinct_colours, robust_limits
from hyperspy_multitomo.reconstruction.data_terms import noise_of_haadf, noise_of_maps
from hyperspy_multitomo.reconstruction.recipes import RECIPES, Recipe, recipe_of
from hyperspy_multitomo.signals.arrays import check_pair, tilt_data
from hyperspy_multitomo.signals.methods.rerun import call_of
from hyperspy_multitomo.signals.methods.volume_extent import EXTENT, with_extent
from hyperspy_multitomo.widgets.panel import COMPUTING, Panel, TaskControl
from hyperspy_multitomo.widgets.pictures import SIDE, figure_png, png
from hyperspy_multitomo.widgets.reconstruction_parts import Parts, reporting, said_of_stopped


@dataclass(frozen=True)
class Choice:
    """A method as the panel offers it.

    Attributes
    ----------
    method : str
        Whose public method is called.
    title : str
    haadf : {"none", "required", "either"}
        Whether it is for maps beside a HAADF series; ``"either"`` stands for `HEBT` with a
        regulariser there, and for the regulariser alone without.
    form : dict
        Keywords that make it this choice.
    """

    method: str
    title: str
    haadf: str
    form: Mapping[str, str] = field(default_factory=dict)

    def call(self, haadf: bool) -> tuple[str, dict]:
        """Return the method and its form, beside a HAADF series or not."""
        if haadf and self.haadf == "either":
            return "hebt", {"regulariser": self.method}
        return self.method, dict(self.form)

    def fits(self, series, haadf: bool) -> bool:
        """Return whether the series, beside a HAADF series or not, can be reconstructed so."""
        allowed = self.haadf != "required" or haadf
        return allowed and hasattr(series, f"reconstruct_{self.method}")


def _choices() -> dict[str, Choice]:
    """Return all choices by their keys: those of the recipes, and the forms of HEBT and TV."""
    choices = {}
    for name, recipe in RECIPES.items():
        smooth = "weight" in recipe.fields()
        haadf = "required" if recipe.haadf == "required" else "either" if smooth else "none"
        choices[name] = Choice(name, recipe.title, haadf)
        if smooth and haadf == "either":
            edges = f"{recipe.title}, edges of the HAADF"
            choices[f"{name}_edges"] = Choice(name, edges, "required")
    squared = Choice("hebt", "HEBT squared weighting", "required", {"weighting": "squared"})
    return choices | {"hebt_squared": squared}


#: What can be chosen, by its key.
METHODS = _choices()
# Keywords of methods that a panel cannot take: it does all iterations from zero, and weighs by
# `weight`.
_REFUSED = {"stopping", "noise", "mu", "overlap"}
# Keywords of a run that it passes on as they were given.
_OF_RUN = {"mask", "depth", "width", "backend"}
# Those that are traits here.
_TRAITS = {"method", "alpha", "weight", "coupled", "iterations", "refit"}
# Seconds until a first picture, and of one part of what follows: between parts a slice gives way to
# new parameters, and the whole volume can be stopped.
_FIRST_LOOK, _PART = 0.25, 0.6
# Iterations of a slice that is looked at with a regulariser; it starts from the picture before.
_LOOK_REGULARISED = 20


@dataclass(frozen=True)
class Settings:
    """What makes a reconstruction."""

    y: int
    method: str
    alpha: float
    weight: float
    iterations: int
    coupled: bool = True
    refit: bool = False

    @property
    def recipe(self) -> type[Recipe]:
        """The recipe of the method."""
        return RECIPES[METHODS[self.method].method]

    @property
    def regularised(self) -> bool:
        """Whether it has a regulariser, whose weight the panel sets."""
        return "weight" in self.recipe.fields()

    @property
    def path(self) -> tuple:
        """What decides where the iterations go; more of them go further on the same path."""
        return self.y, self.method, self.alpha if "alpha" in self.recipe.fields() else None

    @property
    def words(self) -> str:
        """The method and its parameter, in words."""
        name = METHODS[self.method].title
        if "alpha" in self.recipe.fields():
            return f"{name}, alpha {self.alpha:.2f}"
        if self.regularised:
            alone = "" if self.coupled else ", each element alone"
            refitted = ", refitted" if self.refit else ""
            return f"{name}, weight {self.weight:.2g}{alone}{refitted}"
        return name

    @property
    def most(self) -> int:
        """Iterations at most, of both solves of a refit."""
        return self.iterations * (2 if self.regularised and self.refit else 1)


def _is_default(value, default) -> bool:
    """Return whether a keyword has its default; arrays and signals compare element by element."""
    return isinstance(value, bool | int | float | str) and value == default


def _passed_on(key: str) -> set[str]:
    """Return the keywords that the method of a choice takes as they were given."""
    recipe = RECIPES[METHODS[key].method]
    forms = [recipe, recipe.form({"regulariser": "tgv"})] if "hebt" in key else [recipe]
    if METHODS[key].haadf == "either":
        forms.append(RECIPES["hebt"].form({"regulariser": METHODS[key].method}))
    names = set().union(*(form.fields() for form in forms))
    return (names - _REFUSED - _TRAITS - {"regulariser"}) | _OF_RUN


@add_gui_method(toolkey="hyperspy_multitomo.reconstruction")
class ReconstructionPanel(Panel):
    """Choose a method and its parameters by the look of one slice, and reconstruct with them.

    Parameters
    ----------
    eds : TiltSeriesEDS, TiltSeriesEELS or TiltSeriesHAADF
        The series to be reconstructed, in memory.
    haadf : TiltSeriesHAADF, optional
        Of the same field of view, for HEBT.
    threaded : bool, default True
        Whether to work in threads.
    **keywords
        Starting values of ``method``, ``alpha``, ``weight``, ``refit``, ``coupled`` and
        ``iterations``; and keywords of the public methods, which are passed on as they are:
        ``ratios``, ``rest``, ``mask``, ``depth``, ``width``, ``relaxation``, ``nonnegative``,
        ``backend``, ``background``, ``dimensions``, ``data_term``, ``haadf_term``,
        ``haadf_gain`` and ``alpha0``.

    Attributes
    ----------
    result : TomographicVolume or None
        The whole volume, as the public method with the same parameters makes it.
    partial : TomographicVolume or None
        The last whole iterate of a run that was stopped. TV, TGV and TNV cannot be resumed from it.
    """

    last_slice = t.Int
    names = t.List(t.Str)
    methods = t.List(t.Str)

    y = t.Range(
        low=0,
        high="last_slice",
        value=0,
        desc="The slice that is shown and reconstructed as parameters change.",
    )
    element = t.Enum(
        values="names",
        desc="The element in the upper pictures; the lower ones show all of them in colours.",
    )
    method = t.Enum(
        values="methods",
        desc="How to reconstruct: see the documentation on which method suits which data.",
    )
    alpha = t.Range(
        0.05, 0.99, 0.7, desc="Weight of the HAADF in HEBT; larger values need more iterations."
    )
    iterations = t.Range(
        1,
        300,
        100,
        desc="Iterations, with TV, TGV and TNV at most; noise grows with those of SIRT and HEBT.",
    )
    weight = t.Range(
        0.1,
        10.0,
        1.0,
        desc="How much TV, TGV and TNV smooth; 1 is the default for the noise of these data.",
    )

    coupled = t.Bool(
        True, desc="Whether TV and TGV want the edges of all elements at the same places."
    )

    refit = t.Bool(
        False, desc="Whether TV, TGV and TNV solve twice, for contrast that the first solve lost."
    )

    alone_element, alone_mix, shown_element, shown_mix, residual_curves = (
        t.Bytes,
        t.Bytes,
        t.Bytes,
        t.Bytes,
        t.Bytes,
    )
    kept_element, kept_mix = t.Bytes, t.Bytes
    kept = t.Str("Nothing kept yet", desc="What the pictures kept for comparison show.")
    shown = t.Str(desc="What the pictures show.")
    python = t.Str(desc="The call of the method with these parameters, to be copied.")
    # Signals are compared voxel by voxel by ==, which says nothing of whether there is a new one.
    result = t.Any(
        comparison_mode=t.ComparisonMode.identity, desc="The whole volume, or nothing yet."
    )
    partial = t.Any(
        comparison_mode=t.ComparisonMode.identity,
        desc="The last whole iterate of a run that was stopped.",
    )
    can_resume = t.Bool(False)

    def __init__(self, eds, haadf=None, *, threaded: bool = True, **keywords):
        if eds._lazy or (haadf is not None and haadf._lazy):
            raise ValueError(
                "the panel needs the series in memory: call its compute(), or crop it to some "
                "slices before"
            )
        start = {name: keywords.pop(name) for name in _TRAITS if keywords.get(name) is not None}
        # What the switch stands for when it is on.
        self._coupling = start["coupled"] if start.get("coupled") == "nuclear" else True
        if "coupled" in start:
            start["coupled"] = bool(start["coupled"])
        extent = {name: keywords.get(name, "auto") for name in EXTENT}
        keywords = {name: value for name, value in keywords.items() if value is not None}
        if unknown := set(keywords) - set().union(*map(_passed_on, METHODS)):
            raise ValueError(
                f"{', '.join(f'{name}=' for name in sorted(unknown))} cannot be passed with "
                "interactive=True: the panel does all "
                "iterations from zero; leave it out, or call the method without the panel"
            )
        super().__init__(threaded=threaded)
        self._binning = 1 if haadf is None else check_pair(eds, haadf)
        self._ratios_asked = "ratios" in keywords
        if haadf is not None and not self._ratios_asked:
            if eds.response_ratios is None:
                # A view with metadata of its own: the fit is not attached to what the user has.
                eds = eds.isig[:, :]
                eds.fit_response_ratios(haadf, rest=keywords.get("rest", False))
            keywords["ratios"] = eds.response_ratios
        self._series, self._haadf, self._keywords, self._extent = eds, haadf, keywords, extent
        self._extents: dict[bool, dict] = {}
        self._comparison = self._alone = self._last = self._path = self._parts = self._drawn = (
            self._run_of
        ) = None
        # Seconds of one iteration, not known yet: begin with one.
        self._pace = self._whole_pace = float("inf")
        self._requests = 0
        # A mask fits the voxels of HEBT, which are those of the HAADF; from the maps alone they are
        # larger where it is finer.
        coarse = self._binning > 1 and "mask" in keywords
        fits = [
            name
            for name, choice in METHODS.items()
            if choice.fits(eds, haadf is not None) and not (coarse and choice.haadf == "none")
        ]
        default = "sirt" if haadf is None else "hebt"
        iterations = 100 if haadf is not None else self._usual_iterations
        self.trait_setq(
            last_slice=eds.axes_manager["y"].size - 1,
            names=list(eds.channels) or [eds.metadata.General.title or "HAADF"],
            methods=fits,
        )
        self.trait_setq(y=self.last_slice // 2, element=self.names[0])
        self.trait_setq(**{"method": default, "iterations": iterations} | start)
        blank = png(np.zeros((1, 1)))
        pictures = (
            "alone_element",
            "alone_mix",
            "shown_element",
            "shown_mix",
            "kept_element",
            "kept_mix",
            "residual_curves",
        )
        self.trait_setq(**dict.fromkeys(pictures, blank))
        self.observe(
            lambda event: self.show(), "y, method, alpha, iterations, weight, coupled, refit"
        )
        self.observe(lambda event: self.refresh(self._draw), "element")
        self.observe(lambda event: self._tell_stopped(), "running")
        self.show()

    @classmethod
    def of_method(cls, series, method: str, haadf=None, **keywords) -> ReconstructionPanel:
        """Return the panel of a call of a method, with its keywords, that asked for it."""
        recipe = RECIPES[method]
        usual = recipe.defaults()
        keywords = {
            name: value
            for name, value in keywords.items()
            if name in EXTENT
            or (name != "show_progressbar" and not _is_default(value, usual.get(name)))
        }
        key = method
        if regulariser := keywords.pop("regulariser", None):
            key = regulariser if method == "hebt" else method
        elif keywords.pop("weighting", None) == "squared":
            key = "hebt_squared"
        elif haadf is not None and METHODS[method].haadf == "either":
            key = f"{method}_edges"
        return cls(series, haadf, method=key, **keywords)

    @property
    def alone_words(self) -> str:
        """What the pictures on the left show."""
        series = "Maps alone" if self._series.channels else "Reference"
        return f"{series}: SIRT, {self._usual_iterations} iterations"

    @property
    def _usual_iterations(self) -> int:
        """Those of SIRT by default."""
        return RECIPES["sirt"].usual_iterations[bool(self._series.channels)]

    def show(self) -> None:
        """Reconstruct the slice with the present parameters, and draw it.

        A quick first look comes before the result.
        """
        self._requests += 1
        settings, request = self._settings(), self._requests
        self.python = self._in_python()
        self.refresh(lambda: self._look(settings, request))

    def keep(self) -> None:
        """Keep what the chosen method shows beside what it will show next."""
        if self._drawn is None:
            self.message = "There is no picture to keep yet: wait for the first one."
            return
        s, _, words = self._drawn
        self._comparison = self._sections(self._last[1]), f"{words}, slice {s.y}"
        self.refresh(self._draw)

    def apply(self) -> None:
        """Reconstruct the whole volume with the public method; `result` holds it at the end."""
        if words := self.hindrance():
            self.message = words
            return
        self.partial, self.can_resume, self._run_of = None, False, (self._settings(), Parts())
        self.start(self._reconstruct, self._take)

    def resume(self) -> None:
        """Resume a stopped run, with its parameters, to the same result as without the stop."""
        if not self.can_resume:
            self.message = (
                "There is nothing to resume: no run of SIRT or HEBT was stopped halfway, and only "
                "these can go on."
            )
            return
        if self.outdated:
            self.message = self.outdated
            return
        self.start(self._reconstruct, self._take)

    def _settings(self) -> Settings:
        return Settings(
            self.y,
            self.method,
            self.alpha,
            self.weight,
            self.iterations,
            self.coupled or "tnv" in self.method,
            self.refit,
        )

    def _call(
        self, s: Settings, iterations: int, initial=None, one_slice: bool = True, progress=False
    ):
        """Call the public method, for the slice or for all of them."""
        method, haadf, keywords = self._asked(s)
        series = self._series
        if one_slice:
            series, haadf, keywords = self._one_slice(s, keywords, haadf)
        else:
            keywords |= self._extent  # as it was asked for: the history says so
        keywords |= {"show_progressbar": progress}
        if not s.recipe.direct:
            keywords |= {"iterations": iterations, "initial": initial}
        if s.regularised and one_slice:
            keywords["dimensions"] = 2
        call = getattr(series, f"reconstruct_{method}")
        with COMPUTING:
            return call(**keywords) if haadf is None else call(haadf, **keywords)

    def _asked(self, s: Settings) -> tuple[str, object, dict]:
        """Return the method, the HAADF series or None, and the keywords but for the iterations."""
        choice = METHODS[s.method]
        haadf = None if choice.haadf == "none" else self._haadf
        method, form = choice.call(haadf is not None)
        passed = _passed_on(s.method if haadf is not None else choice.method)
        if haadf is None:
            passed = passed - {"ratios", "rest"}
        keywords = {name: value for name, value in self._keywords.items() if name in passed} | form
        keywords |= self._extent_with(haadf)
        if s.regularised:
            keywords |= {"weight": s.weight, "refit": s.refit}
            if self._series.channels and "tnv" not in s.method:
                keywords["coupled"] = self._coupling if s.coupled else False
        if "alpha" in s.recipe.fields():
            keywords["alpha"] = s.alpha
        return method, haadf, keywords

    def _extent_with(self, haadf) -> dict[str, float | None]:
        """Return the depth and width of all volumes; a slice alone would not tell them."""
        if (key := haadf is not None) not in self._extents:
            found = with_extent(self._series, haadf, self._keywords | self._extent)
            self._extents[key] = {name: found[name] for name in EXTENT}
        return self._extents[key]

    def _in_python(self) -> str:
        """Return the call of the public method with the parameters as they are."""
        s = self._settings()
        method, haadf, keywords = self._asked(s)
        if not s.recipe.direct:
            keywords["iterations"] = s.iterations
        arrays = [name for name in ("mask", "background") if name in keywords]
        keywords = {name: value for name, value in keywords.items() if name not in arrays}
        if not self._ratios_asked:
            keywords.pop("ratios", None)  # those that are attached, or a fit
        elif isinstance(keywords.get("ratios"), ResponseRatios):
            ratios = keywords["ratios"]
            keywords["ratios"] = dict(zip(ratios.elements, ratios.values.tolist(), strict=True))
        keywords = {name: value for name, value in keywords.items() if name not in EXTENT}
        extent = {
            name: value for name, value in self._extent.items() if value not in ("auto", None)
        }
        recipe, run = recipe_of(method, keywords | extent)
        run["asked"] = self._extent
        return call_of(recipe, run, bool(self._series.channels), haadf is not None, arrays)

    def _one_slice(self, s: Settings, keywords: dict, haadf):
        """Return both series and keywords cut down to a slice."""
        y, b = s.y, self._binning
        if "mask" in keywords and haadf is None and b > 1:
            keywords = {name: value for name, value in keywords.items() if name != "mask"}
        elif "mask" in keywords:
            mask = np.asarray(getattr(keywords["mask"], "data", keywords["mask"]))
            keywords = keywords | {"mask": mask[:, b * y : b * (y + 1)]}
        if np.ndim(keywords.get("background")) > 2:
            keywords = keywords | {
                "background": np.asarray(keywords["background"])[..., y : y + 1, :]
            }
        series = self._series.isig[:, y : y + 1]
        if haadf is not None:
            haadf = haadf.isig[:, b * y : b * (y + 1)]
        if s.regularised:
            # A slice alone does not tell how noisy it is.
            series.noise_of_whole = self._noise["maps"]
            if haadf is not None:
                haadf.noise_of_whole = self._noise["haadf"]
        return series, haadf, keywords

    @cached_property
    def _noise(self) -> dict:
        """How noisy the whole series are, the maps and the HAADF."""
        keywords = self._keywords
        images = (
            {}
            if self._series.channels
            else {name: keywords.get(name) for name in ("haadf_gain", "background")}
        )
        default = "poisson" if self._series.channels else None
        noise = {
            "maps": noise_of_maps(
                tilt_data(self._series), keywords.get("data_term", default), **images
            )
        }
        if self._haadf is not None:
            noise["haadf"] = noise_of_haadf(
                tilt_data(self._haadf), keywords.get("haadf_term"), keywords.get("haadf_gain")
            )
        return noise

    def _look(self, s: Settings, request: int) -> None:
        """Reconstruct the slice, from the last look if it lies on the way, else from a new one."""
        if self._alone is None or self._alone[0] != s.y:
            few = replace(s, method="sirt", iterations=self._usual_iterations)
            self._alone = s.y, self._call(few, few.iterations)
        if not s.recipe.restarts and not s.regularised:
            volume = self._call(s, s.iterations)
            words = s.words if s.recipe.direct else f"{s.words}, {s.iterations} iterations"
            self._show(s, volume, volume.residuals, words)
            return
        if s.regularised:
            count = min(s.iterations, _LOOK_REGULARISED)
            self.shown = f"{s.words}: wait for the picture of the slice"
            volume = self._call(s, count, self._near(s))
            self._show(
                s,
                volume,
                volume.residuals,
                f"{s.words}, the slice alone, from the picture before (iterations: {count})",
            )
            return

        def follow(iterations: int, initial):
            return self._timed(s, iterations, initial)

        if self._path != s.path or self._parts.done > s.iterations:
            near, long = self._near(s), s.iterations * self._pace > 2 * _FIRST_LOOK
            self._path, self._parts = s.path, Parts()
            if long and near is not None:
                count = self._size(_FIRST_LOOK)
                volume = self._timed(s, count, near)
                self._show(
                    s,
                    volume,
                    volume.residuals,
                    f"First look: {s.words}, from the picture before (iterations: {count})",
                )
            elif long:
                next(self._parts.go_on(follow, s.iterations, lambda: self._size(_FIRST_LOOK)))
                parts = self._parts
                self._show(
                    s,
                    parts.volume,
                    parts.curves,
                    f"First look: {s.words}, {parts.done} of {s.iterations} iterations",
                )
        for _ in self._parts.go_on(follow, s.iterations, lambda: self._size(_PART)):
            if request != self._requests:
                return
        self._show(
            s, self._parts.volume, self._parts.curves, f"{s.words}, {s.iterations} iterations"
        )

    def _near(self, s: Settings):
        """Return the last volume of this slice to start from, or None."""
        if not s.recipe.any_start or self._last is None or self._last[0] != self._grid(s):
            return None
        wanted = set(self._series.channels)
        if self._keywords.get("rest") and METHODS[s.method].haadf != "none":
            wanted.add("rest")
        if s.method.endswith("_edges"):
            wanted.add("HAADF")
        return self._last[1] if wanted <= set(self._last[1].channels) else None

    def _grid(self, s: Settings) -> tuple:
        """Return what two volumes need to have alike for one to start from the other."""
        return s.y, self._binning > 1 and METHODS[s.method].haadf == "none"

    def _timed(self, s: Settings, iterations: int, initial):
        start = time.perf_counter()
        volume = self._call(s, iterations, initial)
        self._pace = (time.perf_counter() - start) / iterations
        return volume

    def _size(self, seconds: float) -> int:
        return max(1, int(seconds / self._pace))

    def _show(self, s: Settings, volume, curves: dict, words: str) -> None:
        self._last, self._drawn = (self._grid(s), volume), (s, curves, words)
        self._draw()

    def _draw(self) -> None:
        """Draw the pictures of what was reconstructed last, all to the same scale."""
        if self._drawn is None:
            return
        s, curves, words = self._drawn
        alone, chosen = self._sections(self._alone[1]), self._sections(self._last[1])
        kept, caption = (chosen, "") if self._comparison is None else self._comparison
        together = zip(alone, chosen, kept, strict=True)
        limits = [
            robust_limits(np.concatenate([image.ravel() for image in images]))
            for images in together
        ]
        place, colours = self.names.index(self.element), distinct_colours(len(self.names))
        self.trait_set(
            alone_element=_square(alone[place], limits[place]),
            shown_element=_square(chosen[place], limits[place]),
            alone_mix=_square(colour_mix(alone, limits=limits, colours=colours)),
            shown_mix=_square(colour_mix(chosen, limits=limits, colours=colours)),
            residual_curves=self._curves(curves, s),
            shown=words,
        )
        if caption:
            self.trait_set(
                kept_element=_square(kept[place], limits[place]),
                kept_mix=_square(colour_mix(kept, limits=limits, colours=colours)),
                kept=caption,
            )

    def _sections(self, volume) -> list[np.ndarray]:
        """Return the section (z, x) of each element."""
        names = self._series.channels
        data = [volume[name].data for name in names] if names else [volume.data]
        return [np.asarray(array)[:, array.shape[1] // 2] for array in data]

    def _curves(self, curves: dict, s: Settings) -> bytes:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        if "iteration" in curves:
            at = curves["iteration"]
            drawn = dict(zip(self.names, curves["eds"].T, strict=False)) if "eds" in curves else {}
            drawn |= {"HAADF": curves["haadf"]} if "haadf" in curves else {}
            for place, (name, values) in enumerate(drawn.items()):
                axes.plot(
                    at,
                    values,
                    "." if len(at) < 3 else "-",
                    color=LINES[place % len(LINES)],
                    label=name,
                )
            axes.legend(frameon=False, fontsize=9)
        axes.set(xlabel="iteration", ylabel="relative residual", ylim=(0, None))
        axes.set_title(s.words, fontsize=10)
        return figure_png(figure)

    def _reconstruct(self, job: TaskControl):
        """Do the run, or the rest of it, and return the volume."""
        s, parts = self._run_of
        self.message = f"Reconstructing the whole volume: {s.words}"
        if not s.recipe.restarts:
            job.step(0.0)
            volume = self._call(
                s, s.iterations, one_slice=False, progress=reporting(job, s.words, s.most)
            )
            self.partial = volume  # ended or not: Stop can still come
            return volume

        def part(iterations: int, initial):
            start = time.perf_counter()
            volume = self._call(s, iterations, initial, one_slice=False)
            self._whole_pace = (time.perf_counter() - start) / iterations
            return volume

        job.step(parts.done / s.iterations)
        for _ in parts.go_on(part, s.iterations, lambda: int(_PART / self._whole_pace)):
            left = parts.done < s.iterations
            self.trait_set(partial=parts.account(self._series, interrupted=left), can_resume=True)
            self.progress = parts.done / s.iterations
            job.step(self.progress, f"{s.words}: iteration {parts.done} of {s.iterations}")
        return parts.account(self._series)

    def _take(self, volume) -> None:
        s, _ = self._run_of
        self.trait_set(result=volume, partial=None, can_resume=False)
        done = volume.history[-1].get("iterations")
        course = "" if done is None else f", {done} iterations"
        self.message = f"The whole volume is done: {s.words}{course}."

    def _tell_stopped(self) -> None:
        if not (self.running or self.closed or self.partial is None):
            s, _ = self._run_of
            self.message = said_of_stopped(
                self.partial.history[-1], s.words, s.most, self.can_resume
            )


def _square(image: np.ndarray, limits=None) -> bytes:
    """Return a PNG of a section with z upwards; the longer side is about as long in every one."""
    shape = image.shape[:2]
    return png(image, limits, side=max(1, SIDE * min(shape) // max(shape)), upward=True)
