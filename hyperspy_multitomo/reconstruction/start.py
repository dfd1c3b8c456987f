# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run starts from: its mask and its first volume, checked and in the numerics' order."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.reconstruction.keywords import Run

REMEDY = (
    "crop or bin the series, take fewer elements, or pass it lazily (as_lazy()), which goes slab "
    "by slab"
)


def start_arrays(run: Run, shape: tuple[int, int, int, int]) -> dict:
    """Return ``"mask"`` (z, x, y) and ``"initial"`` (channel, z, x, y), None where there is none.

    Parameters
    ----------
    run : Run
        Of its keywords mask, an array (z, y, x), and initial, an array (z, [element,] y, x).
    shape : (channel, z, x, y)
        Of the volume.

    Raises
    ------
    ValueError
        For shapes that do not fit, and an empty mask.
    """
    mask, initial = run.get("mask"), run.get("initial")
    return {
        "mask": None if mask is None else checked_mask(mask, shape[1:]),
        "initial": None if initial is None else _checked_initial(initial, shape),
    }


def checked_mask(mask, shape: tuple[int, int, int]):
    """Return a mask (z, y, x), NumPy or dask, as booleans (z, x, y) of that shape."""
    mask = mask if is_lazy(mask) else np.asarray(mask)
    expected = (shape[0], shape[2], shape[1])
    if mask.shape != expected:
        raise ValueError(
            f"the mask has the shape {mask.shape} but the volume is {expected} (z, y, x)"
        )
    if not is_lazy(mask) and not mask.any():
        raise ValueError("the mask is empty: at least one voxel must be inside it")
    mask = mask.astype(bool).transpose(0, 2, 1)
    return mask if is_lazy(mask) else np.ascontiguousarray(mask)


def channels_in_words(channels: int) -> str:
    """Return "1 channel", "2 channels" and so on."""
    return f"{channels} channel{'s' * (channels > 1)}"


def _checked_initial(initial, shape):
    """Return a start volume (z, [element,] y, x) as (channel, z, x, y)."""
    initial = initial if is_lazy(initial) else np.asarray(initial, dtype=np.float32)
    if initial.ndim == 3:
        initial = initial[:, None]
    expected = (shape[1], shape[0], shape[3], shape[2])
    if initial.shape != expected:
        raise ValueError(
            f"the start volume has the shape {initial.shape} but {expected} (z, element, y, x) is "
            "needed"
        )
    return initial.transpose(1, 0, 3, 2)
