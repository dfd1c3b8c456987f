# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume with its series and recipe, ready to be made again of other counts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.evidence.redraw import (
    MOST_NEGATIVE,
    CountNoise,
    ImageNoise,
    draw_counts,
    negative_part,
)
from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.recipe import Problem, Recipe
from hyperspy_multitomo.reconstruction.recorded_model import RecordedModel
from hyperspy_multitomo.reconstruction.run import Prepared, made_of, solve
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.signals.methods.other_counts import with_counts
from hyperspy_multitomo.signals.methods.reconstruct import Call
from hyperspy_multitomo.signals.methods.rerun import last_reconstruction, verified_call
from hyperspy_multitomo.tomography import fingerprint

# Keywords of a run that a run of other counts does without.
_DROPPED = ("chunks", "checkpoint", "resume", "show_progressbar")
_RATIO_KEYWORDS = ("method", "block_size", "rest", "prior", "prior_width", "prior_strength")


@dataclass(frozen=True, eq=False)
class Images:
    """The images of one series: as recorded, with their model and their noise.

    Attributes
    ----------
    series : TiltSeries
    model : RecordedModel
    images : ImageNoise or None
        Of HAADF images.
    counts : CountNoise or None
        Of maps with gross counts beside them.
    """

    series: Any
    model: RecordedModel
    images: ImageNoise | None = None
    counts: CountNoise | None = None

    @classmethod
    def of(cls, series, data: TiltData, geometry, background=None, backend=None) -> Images:
        """Return the images of a series; see `RecordedModel.of`."""
        if data.smoothed:
            raise ValueError(
                f"the {data.title} series was smoothed, which hides its noise: reconstruct the "
                "series as it was recorded, and pass that"
            )
        check_memory(8 * 4 * int(np.prod(data.recorded.shape)), f"the {data.title} series in "
                     "memory", "crop or bin it")  # fmt: skip
        model = RecordedModel.of(data, geometry, background, backend)
        if not data.channels:
            return cls(series, model, images=ImageNoise.of(model.images[0]))
        if data.raw is not data.gross:
            return cls(series, model)
        noise = CountNoise.of(model.images, np.asarray(data.recorded), data.window_share)
        return cls(series, model, counts=noise)

    def __getstate__(self) -> dict[str, Any]:
        # The axes of a signal cannot be pickled, its dictionary can; workers project nothing.
        plain = type(self.series), self.series._to_dictionary()
        return vars(self) | {"series": plain, "model": replace(self.model, project=None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        cls, contents = state["series"]
        vars(self).update(state | {"series": cls(**contents)})

    def expected(self, volume: np.ndarray) -> np.ndarray:
        """Return what a volume (channel, z, x, y) makes one expect at the recorded pixels."""
        return self.model.expected(volume)

    def drawn(self, expected: np.ndarray, rng: np.random.Generator):
        """Return the series with images drawn around an expectation."""
        if self.images is not None:
            return with_counts(self.series, self.images.draw(expected, rng))
        return self.with_images(draw_counts(expected, rng), expected)

    def with_images(self, images: np.ndarray, expected: np.ndarray):
        """Return the series with other images, of maps with this expectation."""
        background = None
        if self.counts is not None:
            below = np.broadcast_to(self.model.background, images.shape)
            background = self.counts.background(images, expected, below)
        return with_counts(self.series, images, background)


@dataclass(frozen=True, eq=False)
class Maker:
    """How a volume is made again of other counts; it travels to workers.

    Attributes
    ----------
    maps : Images
    haadf : Images or None
    recipe : Recipe
    run : dict
        Keywords of the run.
    refit : dict or None
        Keywords of the fit of the response ratios; None where they are as given.
    """

    maps: Images
    haadf: Images | None
    recipe: Recipe
    run: Mapping[str, Any]
    refit: Mapping[str, Any] | None

    def drawn(self, expected: tuple, rng: np.random.Generator) -> tuple:
        """Return maps and HAADF series drawn around expectations of both; the second may be None.

        Maps are drawn first.
        """
        maps = self.maps.drawn(expected[0], rng)
        return maps, None if self.haadf is None else self.haadf.drawn(expected[1], rng)

    def __call__(self, maps, haadf=None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the volume (channel, z, x, y) of other series by the same recipe, and its ratios.

        The ratios are None where they are not fitted again.

        Raises
        ------
        KeyboardInterrupt
            For a run that was interrupted.
        """
        recipe, ratios = self.recipe, None
        with warnings.catch_warnings():
            # The volume itself has warned of what is the matter with its series.
            warnings.simplefilter("ignore", UserWarning)
            if self.refit is not None:
                fit = maps.fit_response_ratios(haadf, **self.refit)
                recipe, ratios = replace(recipe, ratios=fit), np.asarray(fit.values, float)
            outcome = solve(Call.of_recipe(maps, haadf, recipe, self.run).prepare(), self.run)
        if outcome.course.get("interrupted"):
            raise KeyboardInterrupt
        return np.asarray(outcome.volume, np.float32), ratios


@dataclass(frozen=True, eq=False)
class Redrawing:
    """A volume, what it was made of, and how it is made again of other counts.

    Attributes
    ----------
    volume : TomographicVolume
    array : array (channel, z, x, y)
    call : Call
        That made the volume.
    prepared : Prepared
    maps : Images
        Of the series that is reconstructed, maps or HAADF images.
    haadf : Images or None
        Beside maps.
    refit : dict or None
        Keywords of the fit of the response ratios; None where they are as given.
    """

    volume: Any
    array: np.ndarray
    call: Call
    prepared: Prepared
    maps: Images
    haadf: Images | None
    refit: Mapping[str, Any] | None

    @classmethod
    def of(cls, volume, series, haadf=None, given: Mapping[str, Any] | None = None) -> Redrawing:
        """Return a volume with its series.

        Raises
        ------
        ValueError
            For a volume that was changed after its reconstruction or is a part of one, for another
            series, and for maps that are no counts as recorded.
        """
        given = given or {}
        of_maps = bool(series.channels)
        eds, beside = (series, haadf) if of_maps else (None, series)
        if later := _steps_after(volume):
            raise ValueError(
                f"the volume was changed by {', '.join(later)} after its reconstruction: pass the "
                "volume of counts as the method returned it"
            )
        call, prepared = verified_call(volume, beside, eds, **given)
        problem = prepared.problem
        names = ("element", "z", "x", "y") if problem.channels else ("z", "x", "y")
        array = np.asarray(volume.array(*names), np.float32)
        array = array if problem.channels else array[None]
        if array.shape != problem.shape:
            raise ValueError(
                f"the volume {array.shape} (element, z, x, y) is a part of what was "
                f"reconstructed, {problem.shape}: pass the whole volume"
            )
        backend = call.run.get("backend")
        maps = Images.of(
            call.series, problem.data, problem.geometry, given.get("background"), backend
        )
        other = None
        if problem.haadf is not None:
            extent = call.run.get("depth"), call.run.get("width")
            other = Images.of(
                call.haadf, problem.haadf, problem.haadf.geometry(*extent), backend=backend
            )
        return cls(volume, array, call, prepared, maps, other, _refit(call))

    @property
    def problem(self) -> Problem:
        """Of the volume."""
        return self.prepared.problem

    @property
    def elements(self) -> tuple[str, ...]:
        """Of the maps."""
        return tuple(self.problem.data.channels)

    def expected(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what the volume makes one expect, of the maps and of the HAADF or None.

        Warns
        -----
        UserWarning
            Where much of it is below 0.
        """
        maps = self.maps.expected(self.array[: max(1, len(self.elements))])
        if self.elements and (part := negative_part(maps)) > MOST_NEGATIVE:
            warn(
                f"the volume makes one expect negative counts, {100 * part:.2g} % of all, which "
                "counts cannot be: they are drawn as 0, and the bias holds that too"
            )
        if self.haadf is None:
            return maps, None
        return maps, self.haadf.expected(self.seen_by_haadf(self.array)[None])

    def seen_by_haadf(self, array: np.ndarray) -> np.ndarray:
        """Return what the HAADF images are projections of, (z, x, y), of a volume."""
        problem = self.problem
        if "HAADF" in problem.channels:
            return array[problem.channels.index("HAADF")]
        mix = self.haadf_weights
        power = problem.settings.get("power", 1.0)
        own = array if power == 1 else np.maximum(array, 0) ** np.float32(power)
        return np.tensordot(mix.astype(np.float32), own[: len(mix)], 1)

    @property
    def haadf_weights(self) -> np.ndarray:
        """HAADF signal of one count of each channel of a method that sums them."""
        weights = self.problem.settings.get("haadf_weights")
        if weights is not None:
            return np.array([weights[name] for name in self.problem.channels], float)
        if self.problem.ratios is None:
            raise ValueError(
                f"{self.problem.step} does not say what the HAADF sees of its volume, which is "
                "needed to draw HAADF images: use one of the package's methods"
            )
        rest = [1.0] if "rest" in self.problem.channels else []
        return np.append(self.problem.ratios, rest)

    def maker(self) -> Maker:
        """Return what makes the volume again."""
        run = {name: one for name, one in self.call.run.items() if name not in _DROPPED}
        run["show_progressbar"] = False
        return Maker(self.maps, self.haadf, self.call.recipe, run, self.refit)

    def record(self) -> dict[str, Any]:
        """Return what a result says of what made it."""
        return {
            "reconstruction": dict(last_reconstruction(self.volume)),
            "made_of": made_of(self.prepared),
            "volume": fingerprint(np.asarray(self.volume.data)),
            "ratios": "fitted again" if self.refit is not None else "as given",
            "version": __version__,
        }


def _steps_after(volume) -> list[str]:
    """Return the names of the steps after the last reconstruction of a volume."""
    steps, name = [one["step"] for one in volume.history], last_reconstruction(volume)["step"]
    return steps[len(steps) - steps[::-1].index(name) :]


def _refit(call: Call) -> dict[str, Any] | None:
    """Return the keywords of the fit of the response ratios of a call; None where none was."""
    ratios = getattr(call.recipe, "ratios", None)
    fitted = getattr(call.series, "response_ratios", None)
    if ratios is None or fitted is None:
        return None
    used = [float(ratios[name]) for name in fitted.elements]
    if not np.allclose(used, fitted.values, rtol=1e-5):
        return None
    history = call.series.history
    places = [place for place, one in enumerate(history) if one["step"] == "fit_response_ratios"]
    if not places:
        return None
    step = history[places[-1]]
    known = {name: step[name] for name in _RATIO_KEYWORDS if step.get(name) is not None}
    binned = [one["factor"] for one in history[places[-1] :] if one["step"] == "bin"]
    # A side in pixels as they were then.
    known["block_size"] = max(1, known["block_size"] // int(np.prod(binned, dtype=int)))
    return {"prior": None} | known
