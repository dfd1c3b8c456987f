# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconstruction run again from the history of its volume, and written as a Python script."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.recipes import Recipe, recipe_of_step
from hyperspy_multitomo.reconstruction.run import Prepared, made_of
from hyperspy_multitomo.signals.metadata.recorded_arrays import recall, record
from hyperspy_multitomo.signals.methods.reconstruct import Call
from hyperspy_multitomo.signals.methods.volume_extent import EXTENT, extent_of
from hyperspy_multitomo.tomography import TiltGeometry

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume

_STEP = "reconstruct_"
# Arrays that a history has only as digests, and what they are called.
_ARRAYS = {"mask": "mask", "initial": "start volume", "background": "background"}
_TITLES = {"maps": "maps (eds=)", "haadf": "HAADF series (haadf=)"}
_NEEDED = {"maps": "maps (eds=)", "haadf": "a HAADF series (haadf=)"} | {
    name: f"a {what} ({name}=)" for name, what in _ARRAYS.items()
}
# What is kept of a series, in words.
_WORDS = {
    "images": "images",
    "sample": "images",
    "tilts": "tilts",
    "channels": "channels",
    "gains": "gains",
    "alignment": "alignment",
    "gross": "gross counts",
    "background": "background of the counts",
    "window_share": "window shares",
    "transmission": "transmission",
}


@checked
def rerun(
    volume, haadf=None, eds=None, *, mask=None, initial=None, background=None
) -> TomographicVolume:
    """Make a reconstruction again, from the history of its volume.

    Parameters
    ----------
    volume : TomographicVolume
        Whose last reconstruction is made again.
    haadf : TiltSeriesHAADF, optional
        The HAADF series that it was made of, as it was then: with its alignment and gains. What
        `reconstruct` binned is binned here too.
    eds : TiltSeriesEDS or TiltSeriesEELS, optional
        The maps that it was made of, with all that is attached to them.
    mask, initial, background : array or signal, optional
        As they were given to the method.

    Returns
    -------
    TomographicVolume
        With the same version of the package, back-end and kind of machine the same bit for bit (of
        nuclear TV within 1e-6 of its maximum where kernels are compiled anew), by a back-end with
        another projector within 3e-4: docs/reproducing.md. Lazy for a lazy series. A run that was
        interrupted is made as far as it came.

    Raises
    ------
    ValueError
        For a volume without the history of a reconstruction, or one that was previewed on a slice
        of a series; for a series or an array that is missing, was not used, or is another one: it
        is known by the digests in the history, and the message says what differs.

    Warns
    -----
    UserWarning
        For steps after the reconstruction, and a volume that was cropped or sliced after it, which
        is not made again; and for another version.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
    >>> volume = haadf.reconstruct_sirt(5, relaxation=0.8, show_progressbar=False)
    >>> bool((mt.rerun(volume, haadf).data == volume.data).all())
    True
    """
    step, later = _last_reconstruction(volume)
    if later:
        warn(
            f"after its reconstruction the volume was changed by {', '.join(later)}, which is not "
            "made again"
        )
    if step["version"] != __version__:
        warn(
            f"the volume was made by version {step['version']} of hyperspy_multitomo, this is "
            f"{__version__}: voxels may differ"
        )
    arrays = {"mask": mask, "initial": initial, "background": background}
    call, prepared = verified_call(volume, haadf, eds, **arrays)
    again = call.volume(prepared)
    if not later and again.data.shape != volume.data.shape:
        warn(
            "the volume was cropped or sliced after its reconstruction; this is all of it, "
            f"{again.data.shape} instead of {volume.data.shape}"
        )
    errors = recall(volume, "ratios_errors") if not later else None
    if errors is not None:
        record(again, "ratios_errors", errors, ("element",))
    return again


@checked
def to_script(volume) -> str:
    """Return the reconstruction of a volume as a Python script.

    Returns
    -------
    str
        The call of the method with every keyword that is not a default; the series, and arrays that
        were given, are names to be set above it.

    Raises
    ------
    ValueError
        For a volume without the history of a reconstruction.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
    >>> print(haadf.reconstruct_sirt(5, relaxation=0.8, show_progressbar=False).to_script())
    import hyperspy_multitomo as mt
    <BLANKLINE>
    haadf = ...  # the HAADF series, 3 tilts
    <BLANKLINE>
    volume = haadf.reconstruct_sirt(
        iterations=5,
        relaxation=0.8,
    )
    """
    step, _ = _last_reconstruction(volume)
    return script_of(step)


def verified_call(
    volume, haadf=None, eds=None, *, mask=None, initial=None, background=None
) -> tuple[Call, Prepared]:
    """Return the call that made a volume, of the series that it was made of, ready to run again.

    See `rerun` for the parameters and the errors.
    """
    step, _ = _last_reconstruction(volume)
    needed = step["made_of"]
    _check_arguments(needed, {"maps": eds, "haadf": haadf})
    _check_arguments(needed, {"mask": mask, "initial": initial, "background": background})
    series, other = (eds, haadf) if "maps" in needed else (haadf, None)
    series, other = _binned_as_then(volume, series, other)
    recipe, run = recipe_of_step(step), _run_of(step)
    if background is not None:
        recipe = replace(recipe, background=background)
    run |= {name: one for name, one in (("mask", mask), ("initial", initial)) if one is not None}
    if series._lazy and "slabs" in step:
        run["chunks"] = step["slabs"]["thickness"]
    call = Call.of_recipe(series, other, recipe, run)
    prepared = call.prepare()
    _check_same(needed, made_of(prepared))
    _check_geometry(step["geometry"], prepared.problem.geometry)
    return call, prepared


def _binned_as_then(volume, series, haadf) -> tuple:
    """Return series binned as `reconstruct` binned them for a volume; both may be so already."""
    then, now = (
        [one["factor"] for one in signal.history if one["step"] == "bin"]
        for signal in (volume, series)
    )
    for factor in then[len(now) :]:
        series, haadf = series.bin(factor), None if haadf is None else haadf.bin(factor)
    return series, haadf


def keywords_of(step: Mapping[str, Any], method: Callable) -> dict[str, Any]:
    """Return the keywords with which a method makes the volume of a step of its history again.

    Defaults that the method names are included, those that it derives from other keywords are not.
    Arrays are left out: a history has their digests.
    """
    recipe, run = recipe_of_step(step), _run_of(step)
    changed, parameters = _changed_settings(recipe), inspect.signature(method).parameters
    settings = {name: getattr(recipe, name) for name in recipe.fields() if name not in _ARRAYS}
    if isinstance(settings.get("mu"), list) and "maps" not in step["made_of"]:
        (settings["mu"],) = settings["mu"]
    keywords = {
        name: value
        for name, value in (settings | changed).items()
        if name in parameters
        and value is not None
        and (name in changed or parameters[name].default is not None)
    }
    # None is not the default of a tolerance everywhere, and of an extent nowhere.
    meant = ("tolerance", *EXTENT)
    return keywords | {
        name: value
        for name, value in run.items()
        if name != "asked" and (value is not None or name in meant)
    }


def last_reconstruction(volume) -> dict[str, Any]:
    """Return the step that reconstructed a volume; see `to_script` for what it raises."""
    return _last_reconstruction(volume)[0]


def script_of(step: Mapping[str, Any]) -> str:
    """Return the script of a step of a history; see `to_script`."""
    needed, recipe = step["made_of"], recipe_of_step(step)
    mapped, tilts = "maps" in needed, len(step["geometry"]["tilts"])
    lines = ["import hyperspy_multitomo as mt", ""]
    if "haadf" in needed:
        # Of a HAADF beside maps the history of the volume has no tilts.
        lines.append(f"haadf = ...  # the HAADF series{'' if mapped else f', {tilts} tilts'}")
    if mapped:
        names = ", ".join(needed["maps"]["channels"])
        lines.append(f"eds = ...  # the maps of {names}, {tilts} tilts")
    lines += [f"{name} = ...  # the {_ARRAYS[name]}" for name in _ARRAYS if name in needed]
    haadf, arrays = mapped and "haadf" in needed, [name for name in _ARRAYS if name in needed]
    return "\n".join([*lines, "", call_of(recipe, _run_of(step), mapped, haadf, arrays)])


def call_of(
    recipe: Recipe, run: Mapping[str, Any], mapped: bool, haadf: bool, arrays: Sequence[str]
) -> str:
    """Return the call of a method as Python, every keyword that is not a default on its line.

    Parameters
    ----------
    recipe : Recipe
    run : mapping
        Keywords of the run, arrays left out.
    mapped, haadf : bool
        Whether it is of maps, and with HAADF images beside them.
    arrays : sequence of str
        Arrays that are given, which are names above the call.
    """
    keywords = _changed_settings(recipe) | {
        name: value
        for name, value in run.items()
        if name not in ("backend", "asked") and value is not None
    }
    asked = run.get("asked", {})
    cubes = [name for name, value in asked.items() if value is None and name not in keywords]
    keywords |= dict.fromkeys(cubes)
    if "tolerance" in keywords and keywords["tolerance"] == recipe.tolerance:
        del keywords["tolerance"]
    elif "tolerance" in run and run["tolerance"] is None and recipe.tolerance is not None:
        keywords["tolerance"] = None
    if isinstance(keywords.get("mu"), list) and not mapped:
        (keywords["mu"],) = keywords["mu"]
    if mapped and keywords.get("data_term") == "poisson":
        del keywords["data_term"]  # the default of maps
    arguments = ["haadf"] if haadf else []
    arguments += [f"{name}={value!r}" for name, value in keywords.items()]
    arguments += [f"{name}={name}" for name in arrays]
    called = f"volume = {'eds' if mapped else 'haadf'}.{recipe.step}("
    if not arguments:
        return f"{called})"
    return "\n".join([called, *(f"    {argument}," for argument in arguments), ")"])


def _changed_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the parameters that are not the defaults of the form of the method, but for arrays."""
    form = {name: getattr(recipe, name) for name in ("regulariser",) if hasattr(recipe, name)}
    usual = type(recipe)(**form)
    changed = {
        name: getattr(recipe, name)
        for name in recipe.fields()
        if name not in _ARRAYS and getattr(recipe, name) != getattr(usual, name)
    }
    return form | changed


def _run_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a run from the step of a history, but for arrays.

    The depth and width are those of the volume, None where it is as wide as the detector.
    """
    run = {name: step[name] for name in ("tolerance", "backend") if name in step}
    run |= extent_of(step)
    # Of volumes from before the extent came from the data, None was the default.
    return run | {"asked": {name: step.get(name) for name in EXTENT}}


def _last_reconstruction(volume) -> tuple[dict, list[str]]:
    """Return the last step that reconstructed, and the names of those after it."""
    history = volume.history
    places = [place for place, step in enumerate(history) if step["step"].startswith(_STEP)]
    if not places:
        raise ValueError(
            "this volume has no reconstruction in its history: pass one that a method of a tilt "
            "series made"
        )
    step = history[places[-1]]
    if any("noise" in one for one in step.get("made_of", {}).values() if isinstance(one, dict)):
        raise ValueError(
            "this volume is the preview of a slice, which took the noise of the whole series: run "
            "the method on the series itself"
        )
    if "made_of" not in step:
        raise ValueError(
            f"{step['step']} of version {step['version']} did not keep what the volume was made "
            "of: call the method by hand, with the parameters in the history"
        )
    return step, [one["step"] for one in history[places[-1] + 1 :]]


def _check_arguments(needed: Mapping, arguments: Mapping) -> None:
    """Raise an error for what is missing or was not used."""
    for name, value in arguments.items():
        if name in needed and value is None:
            raise ValueError(f"the volume was made of {_NEEDED[name]}: pass it")
        if name not in needed and value is not None:
            raise ValueError(f"the volume was not made of {_NEEDED[name]}: leave it out")


def _check_geometry(before: Mapping, now: TiltGeometry) -> None:
    """Raise an error where the series was calibrated anew: volumes are per unit of length."""
    there = {name: np.asarray(getattr(now, name)) for name in before}
    differ = [name for name in before if not np.array_equal(before[name], there[name])]
    if differ:
        named = "; ".join(
            f"{name} is {getattr(now, name)} and was {before[name]}" for name in differ
        )
        raise ValueError(
            f"the series has another geometry than the volume was made with ({named}): "
            "pass it with its pixel size and axis as they were then"
        )


def _check_same(before: Mapping, now: Mapping) -> None:
    """Raise an error that names what is not as it was."""
    differ = []
    for name, recorded in before.items():
        there = now[name]
        if not isinstance(recorded, Mapping):
            # A lazy array has no digest.
            if None not in (recorded, there) and there != recorded:
                differ.append(f"the {_ARRAYS[name]}")
            continue
        unknown = {part for one in (recorded, there) for part in one if one[part] is None}
        if "sample" in unknown:
            warn(
                f"the images of the {_TITLES[name]} are lazy, in chunks too large to be read for a "
                "comparison: whether they are those that the volume was made of is not known"
            )
        compared = (set(recorded) | set(there)) - unknown
        wrong = {_WORDS[part] for part in compared if recorded.get(part) != there.get(part)}
        differ += [f"the {word} of the {_TITLES[name]}" for word in sorted(wrong)]
    if differ:
        raise ValueError(
            f"this is not what the volume was made of: {', '.join(differ)} differ. Pass the series "
            "and arrays as they were then"
        )
