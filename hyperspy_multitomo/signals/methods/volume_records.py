# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded with a volume: unit, residuals, response ratios."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, recall

_QUANTITY = f"{NODE}.quantity"


def get_quantity(volume) -> str:
    """Return what the voxels hold, e.g. ``"counts / nm"`` or ``"weight percent"``.

    It is that of the elements, if there are any.
    """
    quantity = volume.metadata.get_item(_QUANTITY, default="")
    return (
        quantity
        if volume.elements or not volume.channels
        else quantity.replace("counts", "HAADF signal")
    )


def get_residuals(volume) -> dict[str, np.ndarray]:
    """Return the relative residuals ``|b - A x| / |b|``, by modality.

    They are those at the start of each iteration or, with a regulariser, of every tenth volume.

    ``"eds"`` has the shape (iteration, element), NaN for channels without maps, ``"haadf"``
    (iteration,). EM adds ``"deviance"``, the Poisson deviance per pixel of the projections,
    (iteration, element) or, of images, (iteration,); a regularised method the ``"objective"``
    that it makes small, (iteration,). ``"iteration"`` numbers the iterations.
    """
    maps = {"eds": recall(volume, "residuals_eds"), "deviance": recall(volume, "deviance_eds")}
    found = {name: values.T for name, values in maps.items() if values is not None}
    images = {
        "haadf": "residuals_haadf",
        "deviance": "deviance_haadf",
        "objective": "objective",
        "iteration": "residuals_iteration",
    }
    items = {
        name: volume.metadata.get_item(f"{NODE}.{path}", default=None)
        for name, path in images.items()
    }
    return found | {
        name: np.asarray(values) for name, values in items.items() if values is not None
    }


def get_ratios_used(volume) -> dict[str, float] | None:
    """Return the response ratios r_e (HAADF signal per count) that made a HEBT volume, or None."""
    values = recall(volume, "ratios")
    return (
        None
        if values is None
        else {name: float(r) for name, r in zip(volume.channels, values, strict=True)}
    )
