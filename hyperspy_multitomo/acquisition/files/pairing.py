# SPDX-License-Identifier: GPL-3.0-or-later
"""Pair images and spectra that are in separate files by their tilts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.same_tilt import SAME_VIEW

__all__ = ["pair_by_tilt"]


def pair_by_tilt(
    image_tilts: ArrayLike,
    spectra_tilts: ArrayLike,
    images: Sequence[str],
    spectra: Sequence[str],
    *,
    skip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find the spectra of each image, those of the nearest tilt.

    Parameters
    ----------
    image_tilts, spectra_tilts : array_like (image,), (spectrum image,)
        Degrees.
    images, spectra : sequence of str
        Names of the projections, for error messages.
    skip : bool, default False
        Leave out images and spectra without a partner.

    Returns
    -------
    ndarray (tilt,), ndarray (tilt,)
        Indices of the images and of their spectra, in the order of the images.

    Raises
    ------
    ValueError
        Where an image or a spectrum image has no partner within half a degree; names them.

    Examples
    --------
    >>> pair_by_tilt([-10, 0.1, 10], [10.02, -10, 0], "abc", "def")
    (array([0, 1, 2]), array([1, 2, 0]))
    """
    first, second = np.asarray(image_tilts, dtype=float), np.asarray(spectra_tilts, dtype=float)
    distance = np.abs(first[:, None] - second[None, :])
    nearest, back = distance.argmin(axis=1), distance.argmin(axis=0)
    # The order distinguishes repeated tilts.
    if len(first) == len(second):
        by_order = np.empty(len(first), dtype=int)
        by_order[np.argsort(first, kind="stable")] = np.argsort(second, kind="stable")
        if np.all(distance[np.arange(len(first)), by_order] < SAME_VIEW):
            return np.arange(len(first)), by_order
    mutual = (back[nearest] == np.arange(len(first))) & (distance.min(axis=1) < SAME_VIEW)
    paired = np.flatnonzero(mutual)
    single = np.flatnonzero(~mutual).tolist()
    without = [f"{images[i]} ({first[i]:g} degrees) has no spectra" for i in single]
    lonely = np.setdiff1d(np.arange(len(second)), nearest[paired]).tolist()
    without += [f"{spectra[i]} ({second[i]:g} degrees) has no image" for i in lonely]
    if without and not (skip and paired.size):
        named = "; ".join(without[:8]) + (
            f"; and {len(without) - 8} more" if len(without) > 8 else ""
        )
        raise ValueError(
            f"images and spectra do not go together by their tilts: {named}. Leave these files "
            "out, or pass their tilts"
        )
    return paired, nearest[paired]
