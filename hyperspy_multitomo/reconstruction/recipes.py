# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of all methods: one registry that methods, plans, panels and histories ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Each module registers its recipe; a new one is imported here.
from hyperspy_multitomo.reconstruction import cgls, em, fbp, fused, hebt, sirt, variational  # noqa: F401
from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.recipe import RECIPES, Recipe, recipe

__all__ = ["RECIPES", "Recipe", "methods_of", "recipe", "recipe_of", "recipe_of_step"]


def methods_of(channels) -> list[str]:
    """Return the methods for a series with these channels, none for images, in the order of letters."""
    return sorted(name for name, one in RECIPES.items() if channels or one.of_images)


def recipe_of(method: str, keywords: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a call, and the keywords of its run.

    Parameters
    ----------
    method : str
        A name in `RECIPES`.
    keywords : mapping
        Of the method. None stands for a default, but for the keywords of the run.

    Raises
    ------
    TypeError
        For a keyword that the method does not have.
    ValueError
        As the recipe itself.
    """
    form = RECIPES[method].form(keywords)
    defaults, of_run = form.defaults(), Run.__annotations__.keys() & form.run.__annotations__.keys()
    settings, run = {}, {}
    for name, value in keywords.items():
        if name in defaults:
            if value is not None or defaults[name] is None:
                settings[name] = value
        elif name in of_run:
            run[name] = value
        elif value is not None:
            raise TypeError(f"reconstruct_{method}() got an unexpected keyword argument {name!r}")
    return form(**settings), run


def recipe_of_step(step: Mapping[str, Any]) -> Recipe:
    """Return the recipe that made a volume, from the step of its history; arrays are left out.

    Parameters
    ----------
    step : mapping
        With what the volume was made of, under ``"made_of"``.
    """
    method = step["step"].removeprefix("reconstruct_")
    form = RECIPES[method].form({"regulariser": step.get("regulariser")})
    settings = {name: step[name] for name in form.fields() if name in step and name != "background"}
    if isinstance(settings.get("ratios"), list):
        channels = step["made_of"]["maps"]["channels"]
        settings["ratios"] = dict(zip(channels, settings["ratios"], strict=False))
    if "slabs" in step and "overlap" in form.fields() and settings["dimensions"] == 3:
        settings["overlap"] = step["slabs"]["overlap"]
    return form(**settings)
