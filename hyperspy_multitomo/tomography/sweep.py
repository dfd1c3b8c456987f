# SPDX-License-Identifier: GPL-3.0-or-later
"""The same data with many settings, solved side by side where they share the geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from numbers import Integral

import numpy as np

from hyperspy_multitomo.tomography.cpu.lanes import cost_of
from hyperspy_multitomo.tomography.forms import fits_lanes, steps_of
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.solvers import hebt, hebt_system, sirt, sirt_system
from hyperspy_multitomo.tomography.system import System, side_by_side

# Solvers whose slices are independent, with the function that makes their system, and what may
# differ within one of them.
_SYSTEMS: dict[Callable, Callable[..., tuple[System, bool]]] = {
    sirt: sirt_system,
    hebt: hebt_system,
}
_PER_SLICE = ("alpha", "initial", "ratios", "relaxation", "weighting")
# Slices times settings that are solved together: those that fill one group of lanes.
_MOST = 64


def sweep(
    solver: Callable[..., Iterator[Iterate]],
    *data,
    settings: Sequence[Mapping],
    iterations: int | None = None,
    **common,
) -> np.ndarray:
    """Reconstruct the same data with many settings, each as in a run of its own.

    Parameters
    ----------
    solver : callable
        `sirt`, `hebt`, `em`, `cgls`, `variational` or another function that yields iterates.
    *data
        Its positional arguments, the projector first; all settings share them.
    settings : sequence of dict
        For each volume the keyword arguments of the solver that are its own, such as ``{"alpha":
        0.5}``; "iterations" is how many it takes. Settings that differ in nothing else are
        snapshots of one run.
    iterations : int, optional
        For the settings that name no "iterations".
    **common
        Keyword arguments of the solver that all settings share.

    Returns
    -------
    numpy.ndarray
        (setting, channel, z, x, y), or (setting, z, x, y) for projections without channels;
        float32, signal per unit length.

    Raises
    ------
    ValueError, TypeError
        If there are no settings, one has no number of iterations, their volumes have different
        shapes, or the solver refuses one.

    Notes
    -----
    Settings of `sirt` and `hebt` that differ in ``alpha``, ``ratios``, ``relaxation``,
    ``weighting`` or ``initial`` are solved side by side on the cores: 40 settings of one slice take
    the time of 40 slices, not of 40 runs. Results equal those of single runs to rounding. Other
    settings, solvers and back-ends are run one after the other.

    Examples
    --------
    Three weights of the HAADF after 10 and after 50 iterations:

    >>> from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, sweep
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((2, 24, 24, 1))
    >>> truth[0, 8:16, 8:12], truth[1, 8:16, 12:16] = 2.0, 3.0
    >>> maps = A(truth)
    >>> haadf = 5 * maps[0] + 7 * maps[1]
    >>> settings = [{"alpha": a, "iterations": n} for a in (0.3, 0.7, 0.9) for n in (10, 50)]
    >>> volumes = sweep(hebt, A, maps, haadf, [5, 7], settings=settings)
    >>> volumes.shape
    (6, 2, 24, 24, 1)
    >>> errors = [float(abs(volume - truth).mean()) for volume in volumes]
    >>> settings[int(np.argmin(errors))]
    {'alpha': 0.3, 'iterations': 50}
    """
    if not settings:
        raise ValueError(
            "`settings` is empty; expected one dict of keyword arguments for each volume"
        )
    problems: list[tuple[dict, dict[int, list[int]]]] = []
    for number, setting in enumerate(settings):
        options = dict(setting)
        count = options.pop("iterations", iterations)
        if not isinstance(count, Integral) or count < 0:
            raise ValueError(
                f"setting {number} has {count!r} iterations; expected a whole number, 0 or more, "
                "in the setting or as "
                "`iterations` for all"
            )
        snapshots = next((wanted for known, wanted in problems if _alike(known, options)), None)
        if snapshots is None:
            problems.append((options, snapshots := {}))
        snapshots.setdefault(int(count), []).append(number)
    volumes: list = [None] * len(settings)
    for together in _groups(solver, data, common, [options for options, _ in problems]):
        wanted = [problems[number][1] for number in together]
        for place, count, volume in _solved(
            solver, data, common, [problems[number][0] for number in together], wanted
        ):
            for number in wanted[place][count]:
                volumes[number] = volume
    if len({volume.shape for volume in volumes}) > 1:
        raise ValueError(
            f"the volumes have different shapes, {sorted({v.shape for v in volumes})}; sweep these "
            "settings apart"
        )
    return np.stack(volumes)


def _alike(a: Mapping, b: Mapping) -> bool:
    """Tell whether two settings are the same."""
    return a.keys() == b.keys() and all(
        a[name] is b[name] or np.array_equal(a[name], b[name]) for name in a
    )


def _groups(solver, data, common: Mapping, options: Sequence[dict]) -> list[list[int]]:
    """Return which problems are solved together, as lists of their numbers."""
    if solver not in _SYSTEMS:
        return [[number] for number in range(len(options))]
    alike: list[tuple[dict, list[int]]] = []
    for number, setting in enumerate(options):
        rest = {name: value for name, value in setting.items() if name not in _PER_SLICE}
        numbers = next((numbers for known, numbers in alike if _alike(known, rest)), None)
        if numbers is None:
            alike.append((rest, numbers := []))
        numbers.append(number)
    groups = []
    for _, numbers in alike:
        one = {**common, **options[numbers[0]]}
        abreast = all(map(fits_lanes, [data[0], one.get("haadf_projector") or data[0]]))
        size = _best_size(_system_of(solver, data, one)[0]) if abreast else 1
        groups += [numbers[first : first + size] for first in range(0, len(numbers), size)]
    return groups


def _system_of(solver, data, options: Mapping) -> tuple[System, bool]:
    """Return the system that a solver makes of its arguments, and whether it has channels."""
    arguments = signature(solver).bind(*data, **options)
    arguments.apply_defaults()
    return _SYSTEMS[solver](*arguments.args, **arguments.kwargs)


def _best_size(system: System) -> int:
    """Return how many settings of a system are solved together in the least time each."""
    slices = system.initial.shape[-1]
    sizes = range(1, max(_MOST // slices, 1) + 1)
    return min(reversed(sizes), key=lambda size: cost_of(size * slices, system.channels) / size)


def _solved(solver, data, common: Mapping, options: Sequence[dict], wanted: Sequence[dict]):
    """Yield (number of the problem, iterations, volume) of problems that are solved together."""
    if len(options) == 1:
        iterates, slices = solver(*data, **{**common, **options[0]}), None
    else:
        made = [_system_of(solver, data, {**common, **setting}) for setting in options]
        systems = [system.in_units() for system, _ in made]
        iterates, slices = (
            iterates_of(steps_of(side_by_side(systems)), made[0][1]),
            systems[0].initial.shape[-1],
        )
    last = max(max(counts) for counts in wanted)
    for iterate in iterates:
        due = [place for place, counts in enumerate(wanted) if iterate.iteration in counts]
        if due:
            volume = iterate.volume
            for place in due:
                part = (
                    volume
                    if slices is None
                    else volume[..., place * slices : (place + 1) * slices].copy()
                )
                yield place, iterate.iteration, part
        if iterate.iteration >= last:
            break
    iterates.close()
