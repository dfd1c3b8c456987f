# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded with elemental maps: counts of the windows, dose, spectrum, lines and edges."""

from __future__ import annotations

from numbers import Real

import numpy as np

from hyperspy_multitomo.signals.metadata.acquisition_settings import DOSE, recorded_dose
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, grid, recall, settle_stack
from hyperspy_multitomo.signals.metadata.recorded_counts import forget_counts


def get_gross(series) -> np.ndarray | None:
    """Return the counts as recorded in the window of each line or edge, or None.

    Shape (tilt, element, y, x), binned as the data.

    ``series.gross = None`` takes them off, with `background` and `window_share`.
    """
    return recall(series, "gross")


def set_gross(series, values: None) -> None:
    """Take off the counts as recorded: None is the only value."""
    if values is not None:
        raise ValueError(
            "gross counts are recorded by elemental_maps and edge_maps; set them to None to "
            "take them off"
        )
    forget_counts(series)


def get_background(series) -> np.ndarray | None:
    """Return the part of `gross` that is expected to be background and overlaps, or None."""
    return recall(series, "background")


def get_window_share(series) -> np.ndarray | None:
    """Return the share of net counts that falls into the window, shape (tilt, element), or None.

    ``gross = share * net + background``.
    """
    return recall(series, "window_share")


def get_dose(series) -> float | None:
    """Return the electrons per pixel and tilt at a gain of 1; None where they are not known.

    By default from the beam current and the live time in the metadata, which is that of the
    whole map, over the pixels of the map as it was scanned. Set it where the files have it
    wrong or not at all.
    """
    settle_stack(series)
    per_pixel = series.metadata.get_item(DOSE, default=None)
    if per_pixel is None:
        return recorded_dose(series)
    return float(per_pixel) * grid(series, "x")[1] * grid(series, "y")[1]


def set_dose(series, electrons: float | None) -> None:
    """Set the electrons per pixel and tilt."""
    if electrons is None:
        series.metadata.set_item(DOSE, None)
        return
    if not isinstance(electrons, Real) or not (np.isfinite(electrons) and electrons > 0):
        raise ValueError(
            f"the dose is {electrons!r}; expected one positive number of electrons per pixel "
            "and tilt (what differs from "
            "tilt to tilt belongs into the gains)"
        )
    series.metadata.set_item(DOSE, float(electrons) / (grid(series, "x")[1] * grid(series, "y")[1]))


def get_spectrum_fit(series) -> dict[str, np.ndarray] | None:
    """Return the spectrum of the whole series behind the maps, or None.

    Arrays ``energy`` (keV), ``counts``, ``fit`` and ``background``.
    """
    settle_stack(series)
    if not series.metadata.has_item(f"{NODE}.spectrum_fit"):
        return None
    stored = series.metadata.get_item(f"{NODE}.spectrum_fit").as_dictionary()
    return {name: np.asarray(values) for name, values in stored.items()}


def get_lines(series) -> tuple[str, ...]:
    """Return the X-ray line of each element, e.g. ``"Fe_Ka"``; empty without spectra."""
    return tuple(recall(series, "lines") or ())


def get_edges(series) -> tuple[str, ...]:
    """Return the edge of each element, e.g. ``"Mn_L3"``; empty where none were named."""
    return tuple(recall(series, "edges") or ())


def get_integration_windows(series) -> np.ndarray | None:
    """Return the window of each edge in eV, shape (element, 2), or None."""
    return recall(series, "integration_windows")
