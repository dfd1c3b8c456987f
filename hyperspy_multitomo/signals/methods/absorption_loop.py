# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruction and self-absorption in turn, until the two agree."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from os import PathLike

from hyperspy_multitomo.arguments import checked, either
from hyperspy_multitomo.parameters import function, text
from hyperspy_multitomo.reconstruction.checkpoint_store import CheckpointStore
from hyperspy_multitomo.reconstruction.recipes import RECIPES, Recipe, methods_of
from hyperspy_multitomo.signals.metadata.history import read_history
from hyperspy_multitomo.signals.methods.volume_extent import extent_of

_NOT_USED = "method={!r} does not use the HAADF series: leave it out, or pass one of {}"


@checked(
    method=either(
        text,
        function,
        expected="the name of a method, or a function that makes a volume of a series",
    )
)
def reconstruct_with_absorption(
    series,
    haadf=None,
    method: str | Callable = "hebt",
    rounds: int = 3,
    *,
    absorption: Mapping | None = None,
    checkpoint: str | PathLike | None = None,
    resume: str | PathLike | None = None,
    **options,
):
    """Reconstruct and estimate the absorption by turns, until composition and absorption agree.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        For the methods that take one: ``"hebt"``, ``"fused"``, ``"tv"``, ``"tgv"`` and
        ``"tnv"``.
    method : str or callable, default "hebt"
        ``"hebt"``, ``"sirt"``, ``"em"``, ``"tgv"`` ..., for ``reconstruct_...``; or what makes
        a volume of a series, ``lambda eds: eds.reconstruct_tv(haadf, weight=2)``.
    rounds : int, default 3
        Estimates of the absorption; two or three are enough, since what they change shrinks
        like the absorption itself.
    absorption : dict, optional
        Keywords of `estimate_absorption`: ``density``, ``detectors``, ``threshold`` ...
    checkpoint : str or path-like, optional
        A folder for the states of the reconstructions, ``round_0`` and so on; what exists is
        not overwritten. The series then begins without a transmission. A lazy volume is read
        several times in each round, which without this reconstructs it again each time. A
        callable `method` is called with the place of its round as ``checkpoint=`` or
        ``resume=``.
    resume : str or path-like, optional
        Go on from such a folder, and keep the states there.
    **options
        Keywords of the reconstruction.

    Returns
    -------
    TomographicVolume
        The last reconstruction, or the one that was interrupted. The transmission of its model
        stays attached to the series.

    Raises
    ------
    ValueError
        As `estimate_absorption` and the reconstruction, for an unknown method, for a HAADF
        series where none is used, and for a checkpoint of FBP, which keeps none. The
        transmission is then as it was before.
    FileExistsError, FileNotFoundError
        For a `checkpoint` where something is, and to `resume` where nothing is.

    Notes
    -----
    ``method="hebt"`` without ``ratios=`` fits them anew in every round, since the HAADF is not
    absorbed: with the method, the prior and the rest of the fit that is attached, if there is
    one.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = np.zeros((5, 4, 24)); maps[:, :, 8:16] = 80.0
    >>> eds = mt.TiltSeriesEDS.from_maps(
    ...     {"Al": maps, "Au": maps}, tilts=np.arange(-40, 41, 20), pixel_size=10.0
    ... )
    >>> eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    >>> how = dict(
    ...     density=15.0,
    ...     detectors="super-x",
    ...     xray_lines=["Al_Ka", "Au_La"],
    ...     threshold="otsu",
    ...     efficiency=1.0,
    ... )
    >>> volume = eds.reconstruct_with_absorption(
    ...     method="sirt", rounds=2, absorption=how, iterations=20, show_progressbar=False
    ... )
    >>> bool(volume["Al"].data.sum() > volume["Au"].data.sum())
    True
    """
    _check_call(series, haadf, method, absorption, checkpoint is not None or resume is not None)
    shown = {name: options[name] for name in ("show_progressbar",) if name in options}
    before, fitted = series.transmission, method == "hebt" and "ratios" not in options
    fit = _fit_as_before(series) | {n: options[n] for n in ("rest",) if n in options}
    store = CheckpointStore.open(checkpoint, resume, {}, folder=True)

    def reconstruct(number: int):
        """Return the volume with the transmission that is attached now."""
        if fitted:
            series.fit_response_ratios(haadf, **fit)
        keywords = options if store is None else options | store.of_round(number)
        if callable(method):
            return method(series, **keywords)
        return getattr(series, f"reconstruct_{method}")(
            *([] if haadf is None else [haadf]), **keywords
        )

    try:
        if store is not None:
            series.transmission = None
        volume = reconstruct(0)
        if not callable(method):
            # All rounds have the volume of the first, whatever their transmission.
            options |= extent_of(volume.history[-1])
        if store is not None and volume._lazy and not callable(method):
            # Those of later rounds are cut alike, also where they are begun by a run that was
            # resumed.
            options["chunks"] = volume.history[-1]["slabs"]["thickness"]
        for number in range(1, int(rounds) + 1):
            if volume.history[-1].get("interrupted"):
                break
            series.estimate_absorption(volume, **({} | shown | dict(absorption or {})))
            volume = reconstruct(number)
    except BaseException:
        series.transmission = before
        raise
    return volume


def _check_call(series, haadf, method, absorption: Mapping | None, checkpointed: bool) -> None:
    """Raise an error for a method, a HAADF series and keywords that do not go together."""
    recipe = None if callable(method) else _recipe(series, haadf, method)
    if haadf is not None and recipe is None:
        raise ValueError(_NOT_USED.format(method, _with_haadf()))
    if recipe is not None and recipe.direct and checkpointed:
        raise ValueError(
            f"method={method!r} is done at once and keeps no state: leave out checkpoint= and "
            "resume="
        )
    if unknown := [
        str(name)
        for name in absorption or ()
        if name not in inspect.signature(series.estimate_absorption).parameters
    ]:
        raise ValueError(
            f"absorption={{...}} has {', '.join(unknown)}; expected keywords of estimate_absorption"
        )


def _recipe(series, haadf, method: str) -> type[Recipe]:
    """Return the recipe of a method, after checking it against the presence of a HAADF series."""
    known = methods_of(series.channels)
    if method not in known:
        raise ValueError(
            f"method={method!r} must be one of {', '.join(known)}, or what makes a volume of a "
            "series"
        )
    recipe = RECIPES[method]
    if haadf is None and recipe.haadf == "required":
        raise ValueError(
            f"{method} needs the HAADF series: pass haadf, or method='sirt' for the maps alone"
        )
    if haadf is not None and recipe.haadf == "none":
        raise ValueError(_NOT_USED.format(method, _with_haadf()))
    return recipe


def _with_haadf() -> str:
    return ", ".join(name for name, recipe in RECIPES.items() if recipe.haadf != "none")


def _fit_as_before(series) -> dict:
    """Return how the attached response ratios were fitted, as keywords of `fit_response_ratios`.

    Empty where there are none.
    """
    if series.response_ratios is None:
        return {}
    step = next(
        (one for one in reversed(read_history(series)) if one["step"] == "fit_response_ratios"), {}
    )
    names = ["method", "rest", "prior", "prior_width"]
    if step.get("prior") is not None:  # older histories have a strength of no prior
        names.append("prior_strength")
    return {name: step[name] for name in names if name in step}
