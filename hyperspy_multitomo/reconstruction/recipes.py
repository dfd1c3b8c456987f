# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of all methods: one registry that methods, plans, panels and histories ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperspy_multitomo.reconstruction.cgls import CGLS
from hyperspy_multitomo.reconstruction.em import EM
from hyperspy_multitomo.reconstruction.fbp import FBP
from hyperspy_multitomo.reconstruction.fused import Fused
from hyperspy_multitomo.reconstruction.hebt import HEBT
from hyperspy_multitomo.reconstruction.keywords import Run
from hyperspy_multitomo.reconstruction.recipe import Recipe
from hyperspy_multitomo.reconstruction.sirt import SIRT
from hyperspy_multitomo.reconstruction.variational import TGV, TNV, TV

#: The recipe of each method, by the name of the method: ``"sirt"`` for `reconstruct_sirt`.
RECIPES: dict[str, type[Recipe]] = {
    one.name: one for one in (FBP, SIRT, EM, CGLS, HEBT, TV, TGV, TNV, Fused)
}


def methods_of(channels) -> list[str]:
    """Return the methods for a series with these channels (none: images), by the alphabet."""
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
    """Return the recipe that made a volume, from the step of its history, without its arrays."""
    method = step["step"].removeprefix("reconstruct_")
    form = RECIPES[method].form({"regulariser": step.get("regulariser")})
    return form.of_step(step)
