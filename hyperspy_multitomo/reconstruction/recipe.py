# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconstruction as a value: the parameters of a method, its input, and the problem they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

import numpy as np

from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.memory_model import Footprint, footprint, uses_device
from hyperspy_multitomo.reconstruction.noise import stopping_noise
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.tomography import Projector, TiltGeometry, projector

# Iterations at most, relative to the usual ones, where the noise is to end a run.
_AUTOMATIC = 10


@dataclass(frozen=True, eq=False)
class Problem:
    """A recipe with the data that it is to reconstruct, ready to run.

    Attributes
    ----------
    recipe : Recipe
    data, haadf : TiltData
        What is reconstructed, and the HAADF beside it, or None.
    geometry : TiltGeometry
        Of `data`.
    channels : tuple of str
        Of the volume; empty for one without the axis ``element``.
    arrays : dict
        What the solver is given, in the numerics' order or None: ``"maps"``, ``"background"``,
        ``"recorded"`` and ``"gross"`` (channel, tilt, x, y) at the pixels of the maps, ``"haadf"``
        (tilt, x, y), ``"mask"`` (z, x, y) and ``"initial"`` (channel, z, x, y) at those of the
        voxels.
    solver : callable
        ``solver(project, arrays)`` returns iterates, or the volume; `project` makes a projector of
        a geometry. It travels to workers.
    footprint : Footprint
        Of a run.
    settings : dict
        What the history says of the method and its data.
    iterations : int
        At most; 0 for a method without iterations.
    tolerance : float, optional
        As in `tomography.run`.
    noise : callable, optional
        ``noise(arrays)`` returns what `tomography.run` takes as such.
    overlap : int, optional
        Slices on either side that a slab is reconstructed with; None where slices are independent.
    matched : bool
        Whether the solver takes matched projectors in the place of others; see
        `tomography.Projector.matched`.
    refit : bool
        As in `tomography.run`.
    ratios : array (channel,), optional
        HAADF signal per count of each channel, for the volume to keep.
    """

    recipe: Recipe
    data: TiltData
    haadf: TiltData | None
    geometry: TiltGeometry
    channels: tuple[str, ...]
    arrays: Mapping[str, Any]
    solver: Callable
    footprint: Footprint
    settings: Mapping[str, Any]
    iterations: int = 0
    tolerance: float | None = None
    noise: Callable | None = None
    overlap: int | None = None
    matched: bool = False
    refit: bool = False
    ratios: np.ndarray | None = None

    @property
    def step(self) -> str:
        """Name of the method, as in the history."""
        return self.recipe.step

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Return digests of the series, by their kind."""
        series = {"maps" if self.data.channels else "haadf": self.data}
        if self.haadf is not None:
            series["haadf"] = self.haadf
        return {name: data.fingerprints() for name, data in series.items()}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the volume, (channel, z, x, y)."""
        return volume_shape(self.channels, self.geometry, self.arrays["maps"].shape[-1])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The parameters of a method; a subclass is the whole story of it.

    Attributes
    ----------
    name : str
        Of the method: ``"sirt"`` for `reconstruct_sirt`.
    title : str
        As panels call it.
    haadf : {"none", "optional", "required"}
        Whether it takes a HAADF series beside maps.
    of_images : bool
        Whether it reconstructs HAADF images too, not maps alone.
    direct : bool
        Whether it has no iterations, so that there is nothing to stop or to resume.
    restarts : bool
        Whether nothing but the volume is carried from one iteration to the next, so that a run can
        go on from its volume.
    any_start : bool
        Whether a run can start from any volume, such as that of another method.
    chooses : tuple of str
        Parameters that ``"auto"`` chooses by counts that are held out.
    run : type
        The `TypedDict` of the keywords of a run that it takes.
    tolerance : float, optional
        Default of the keyword.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    haadf: ClassVar[str] = "none"
    of_images: ClassVar[bool] = True
    direct: ClassVar[bool] = False
    restarts: ClassVar[bool] = False
    any_start: ClassVar[bool] = True
    chooses: ClassVar[tuple[str, ...]] = ()
    run: ClassVar[type] = Run
    tolerance: ClassVar[float | None] = None

    @classmethod
    def form(cls, keywords: Mapping[str, Any]) -> type[Recipe]:
        """Return the recipe for these keywords of the method, which may have several forms."""
        return cls

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the parameters."""
        return tuple(one.name for one in dataclasses.fields(cls))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the defaults of the parameters."""
        return {one.name: one.default for one in dataclasses.fields(cls)}

    @classmethod
    def of_step(cls, step: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a volume from the step of its history, without its arrays."""
        return cls(**cls.settings_of(step))

    @classmethod
    def settings_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that a step of a history tells."""
        names = (name for name in cls.fields() if name in step and name != "background")
        settings = {name: step[name] for name in names}
        if not step.get("interrupted") and "max_iterations" in step:
            settings["iterations"] = step["max_iterations"]
        if isinstance(settings.get("ratios"), list):
            channels = step["made_of"]["maps"]["channels"]
            settings["ratios"] = dict(zip(channels, settings["ratios"], strict=False))
        return settings

    @property
    def step(self) -> str:
        """Name of the method, as in the history."""
        return f"reconstruct_{self.name}"

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters as in the history, without the iterations, which a run may add to."""
        left_out = ("iterations", "overlap")
        return {name: getattr(self, name) for name in self.fields() if name not in left_out}

    def channels(self, data: TiltData, haadf: TiltData | None = None) -> tuple[str, ...]:
        """Return the channels of the volume."""
        return data.channels

    def problem(self, data: TiltData, haadf: TiltData | None, binning: int, run: Run) -> Problem:
        """Return the problem of some data.

        Parameters
        ----------
        data : TiltData
        haadf : TiltData or None
        binning : int
            Pixels of the HAADF along the edge of one of the maps.
        run : Run
            Of its keywords depth, width, tolerance, backend, mask and initial.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it solves")


@dataclass(frozen=True, kw_only=True)
class SingleSeries(Recipe):
    """What the methods share that reconstruct a series from its own data alone.

    A subclass says what it solves.
    """

    #: Iterations by default, of images and of maps.
    usual_iterations: ClassVar[tuple[int, int]] = (0, 0)
    #: Numbers held at the peak for each voxel and for each ray, as measured with
    #: `tomography.run`; the result in the order of the signal is included.
    numbers: ClassVar[tuple[float, float]] = (2.1, 2.1)
    #: Whether the solver takes matched projectors in the place of others.
    matched: ClassVar[bool] = False
    #: Whether all that it holds is on a device, where one is used.
    on_device: ClassVar[bool] = True

    def until_noise(self, data: TiltData) -> SingleSeries:
        """Return the recipe for ``iterations="auto"``, of those that have it."""
        return self

    def solve(self, A, arrays: Mapping, gains):
        """Return the iterates, or the volume, with a projector."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it solves")

    def measured(self, data: TiltData) -> tuple[dict, Any]:
        """Return the arrays that are reconstructed, and their gains."""
        return {"maps": data.projections}, data.model_gains

    def more_numbers(self, arrays: Mapping, iterations: int) -> float:
        """Return how many numbers are held for each ray besides."""
        return 0.0

    def described(self, data: TiltData) -> dict:
        """Return what the history says of the data."""
        return {}

    def problem(self, data: TiltData, haadf: TiltData | None, binning: int, run: Run) -> Problem:
        """See `Recipe.problem`."""
        if getattr(self, "iterations", None) == "auto":
            recipe = self.until_noise(data)
            problem = recipe.problem(data, haadf, binning, run)
            choice = {"rule": "noise", "at_most": problem.iterations}
            return replace(problem, settings={**problem.settings, "iteration_choice": choice})
        data.check_tilts()
        geometry = data.geometry(run.get("depth"), run.get("width"))
        arrays, gains = self.measured(data)
        # Of the iterative ones; see `Iterated`.
        iterations, *rule = (
            getattr(self, name, None) for name in ("iterations", "stopping", "noise")
        )
        arrays, noise = stopping_noise(data, arrays, gains, *rule, em="background" in arrays)
        if iterations is None:
            iterations = self.usual_iterations[bool(data.channels)]
        A = projector(geometry, backend=run.get("backend"))
        rows, more = len(arrays["maps"]), self.more_numbers(arrays, iterations)
        on_device = None
        if uses_device(A) and self.on_device:
            sizes: dict[str, Any] = {"mask": run.get("mask") is not None, "background": more > 0}
            sizes |= {"rows": rows, "backend": A.backend}
            on_device = partial(device_bytes_of, self.name, geometry, **sizes)
        return Problem(
            recipe=self,
            data=data,
            haadf=None,
            geometry=geometry,
            channels=data.channels,
            arrays=arrays,
            solver=SingleSolver(self, geometry, gains),
            footprint=footprint(
                self.numbers,
                max(1, len(data.channels)),
                [(geometry, rows)],
                more=more,
                projectors=[A],
                of_device=on_device,
            ),
            settings=self.settings | self.described(data) | {"gains": gains},
            iterations=iterations,
            tolerance=run.get("tolerance", self.tolerance),
            noise=noise,
            matched=self.matched,
        )


@dataclass(frozen=True, kw_only=True)
class Iterated(SingleSeries):
    """What the iterative ones among them share: a number of iterations, or a stopping rule."""

    iterations: int | Literal["auto"] | None = None
    stopping: str | None = None
    noise: float | None = None

    def until_noise(self, data: TiltData) -> SingleSeries:
        """Return the recipe for ``iterations="auto"``: until the residual is down to the noise."""
        most = _AUTOMATIC * self.usual_iterations[bool(data.channels)]
        return replace(self, iterations=most, stopping="discrepancy")


@dataclass(frozen=True, eq=False)
class SingleSolver:
    """The solver of a `SingleSeries`; it travels to workers, without the series."""

    recipe: SingleSeries
    geometry: TiltGeometry
    gains: np.ndarray | None

    def __call__(self, project: Callable, arrays: Mapping):
        """Return the iterates, or the volume."""
        return self.recipe.solve(project(self.geometry), arrays, self.gains)


def volume_shape(channels, geometry: TiltGeometry, pixels: int) -> tuple[int, int, int, int]:
    """Return the shape (channel, z, x, y) of a volume whose maps have so many pixels along y."""
    nz, nx = cast("tuple[int, int]", geometry.volume_shape)
    return max(1, len(channels)), nz, nx, pixels * geometry.binning


def device_bytes_of(method: str, geometry: TiltGeometry, slices: int, *, rows: int, **sizes) -> int:
    """Return the bytes of the device for so many slices; see `cuda.memory.device_bytes`."""
    from hyperspy_multitomo.tomography.cuda.memory import device_bytes

    return device_bytes(method, geometry, rows, slices, **sizes)


def required(haadf: TiltData | None, recipe: Recipe) -> TiltData:
    """Return the HAADF series of a recipe that cannot do without."""
    if haadf is None:
        raise TypeError(f"{recipe.step} needs a HAADF series")
    return haadf


def project_with(run: Run) -> Callable[[TiltGeometry], Projector]:
    """Return what makes the projectors of a run."""
    return partial(projector, backend=run.get("backend"))
