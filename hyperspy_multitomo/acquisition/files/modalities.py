# SPDX-License-Identifier: GPL-3.0-or-later
"""The common tilts of a series' images and spectra, in the order of their acquisition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hyperspy_multitomo.acquisition.files.pairing import pair_by_tilt
from hyperspy_multitomo.acquisition.files.records import Record
from hyperspy_multitomo.acquisition.tilts import resolve_tilts
from hyperspy_multitomo.machine.notices import warn

__all__ = ["align_modalities"]


def align_modalities(
    records: Mapping[str, Sequence[Record]],
    tilts=None,
    paths: Sequence[Path] = (),
    *,
    skip: bool = False,
) -> tuple[dict[str, list[Record]], np.ndarray]:
    """
    Bring images and spectra into the order of acquisition, and find the tilt of each projection.

    Parameters
    ----------
    records : mapping
        As `read_tilt_files` returns it.
    tilts : array_like, str, path or None
        See `resolve_tilts`; an array has one angle for each projection of a modality, or for each
        of the `paths`.
    paths : sequence of Path
        All files of the series.
    skip : bool, default False
        Leave out, with a warning, images without spectra and spectra without an image.

    Returns
    -------
    series : dict
        "images" and "spectra", those that exist: lists of one record per tilt, or of one stack.
    angles : ndarray (tilt,)
        Degrees; those of the images, where images and spectra have different ones.

    Raises
    ------
    ValueError
        Where no tilts are found, and where images and spectra in separate files have no partners;
        names these.
    """
    series = {name: list(modality) for name, modality in records.items() if modality}
    angles = {name: _tilts(modality, tilts, paths) for name, modality in series.items()}
    if len(series) == 2 and _paths(series["images"]) != _paths(series["spectra"]):
        names = {name: _projections(modality) for name, modality in series.items()}
        pairs = pair_by_tilt(
            angles["images"], angles["spectra"], names["images"], names["spectra"], skip=skip
        )
        for (name, modality), places in zip(series.items(), pairs, strict=True):
            if len(places) < len(names[name]):
                left_out = sorted(set(range(len(names[name]))) - set(places.tolist()))
                warn(
                    "left out, without partner at their tilt: "
                    f"{', '.join(names[name][i] for i in left_out)}"
                )
            series[name] = _selected(modality, places)
        angles["images"] = angles["images"][pairs[0]]
    first = next(iter(series))
    times = [np.concatenate([record.times for record in modality]) for modality in series.values()]
    known = next((stamps for stamps in times if not np.isnat(stamps).any()), None)
    if known is None or len(np.unique(known)) == 1:
        return series, angles[first]
    order = np.argsort(known, kind="stable")
    ordered = {name: _selected(modality, order) for name, modality in series.items()}
    return ordered, angles[first][order]


def _tilts(records: Sequence[Record], tilts, paths: Sequence[Path]) -> np.ndarray:
    stored = np.concatenate([record.tilts for record in records])
    own_paths = _paths(records)
    is_array = (
        tilts is not None and not isinstance(tilts, str | Path) and not hasattr(tilts, "pattern")
    )
    if (
        is_array
        and np.size(tilts) == len(paths)
        and len(own_paths) < len(paths)
        and np.size(tilts) != len(stored)
    ):
        # Tilts for all files: each modality takes those of its files.
        tilts = [tilt for tilt, path in zip(tilts, paths, strict=True) if path in own_paths]
    return resolve_tilts(tilts, own_paths, stored, n=len(stored))


def _paths(records: Sequence[Record]) -> list[Path]:
    return [record.path for record in records]


def _projections(records: Sequence[Record]) -> list[str]:
    """Return a name of each projection for messages."""
    if records[0].kind.endswith("stack"):
        return [f"image {i} of {records[0].path.name}" for i in range(records[0].data.shape[0])]
    return [record.path.name for record in records]


def _selected(records: Sequence[Record], places: np.ndarray) -> list[Record]:
    """Return the projections at these indices, of one file each or of a stack."""
    if not records[0].kind.endswith("stack"):
        return [records[i] for i in places]
    (stack,) = records
    general = dict(stack.metadata.get("General", {}))
    if not np.isnat(stack.times).any():
        general["times"] = [str(time) for time in stack.times[places]]
    return [replace(stack, data=stack.data[places], metadata=stack.metadata | {"General": general})]
