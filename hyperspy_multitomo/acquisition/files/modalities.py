# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilts of a series, the same for its images and its spectra, and the order in which they were acquired."""

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
    found: Mapping[str, Sequence[Record]],
    tilts=None,
    paths: Sequence[Path] = (),
    *,
    skip: bool = False,
) -> tuple[dict[str, list[Record]], np.ndarray]:
    """
    Bring images and spectra into one order, that of their acquisition, and find the tilt of each projection.

    Parameters
    ----------
    found : mapping
        What `read_tilt_files` returns.
    tilts : array_like, str, path or None
        See `resolve_tilts`; an array has one angle for each projection of a modality, or one for
        each of the `paths`.
    paths : sequence of Path
        All files that were asked for.
    skip : bool, default False
        Leave out, with a warning, images without spectra and spectra without image.

    Returns
    -------
    series : dict
        "images" and "spectra", as far as there are any: lists of one record per tilt, or of one
        that is a stack.
    angles : ndarray (tilt,)
        Degrees; those of the images, where both have their own.

    Raises
    ------
    ValueError
        Where no tilts are found, and where images and spectra in files of their own have no
        partners; these are named.
    """
    series = {name: list(records) for name, records in found.items() if records}
    angles = {name: _tilts(records, tilts, paths) for name, records in series.items()}
    if len(series) == 2 and _paths(series["images"]) != _paths(series["spectra"]):
        names = {name: _projections(records) for name, records in series.items()}
        kept = pair_by_tilt(
            angles["images"], angles["spectra"], names["images"], names["spectra"], skip=skip
        )
        for (name, records), places in zip(series.items(), kept, strict=True):
            if len(places) < len(names[name]):
                left = sorted(set(range(len(names[name]))) - set(places.tolist()))
                warn(
                    "left out, without partner at their tilt: "
                    f"{', '.join(names[name][i] for i in left)}"
                )
            series[name] = _taken(records, places)
        angles["images"] = angles["images"][kept[0]]
    first = next(iter(series))
    times = [np.concatenate([record.times for record in records]) for records in series.values()]
    known = next((stamps for stamps in times if not np.isnat(stamps).any()), None)
    if known is None or len(np.unique(known)) == 1:
        return series, angles[first]
    order = np.argsort(known, kind="stable")
    return {name: _taken(records, order) for name, records in series.items()}, angles[first][order]


def _tilts(records: Sequence[Record], tilts, paths: Sequence[Path]) -> np.ndarray:
    stored = np.concatenate([record.tilts for record in records])
    kept = _paths(records)
    given = (
        tilts is not None and not isinstance(tilts, str | Path) and not hasattr(tilts, "pattern")
    )
    if (
        given
        and np.size(tilts) == len(paths)
        and len(kept) < len(paths)
        and np.size(tilts) != len(stored)
    ):
        # Tilts given for all files: each modality takes those of its files.
        tilts = [tilt for tilt, path in zip(tilts, paths, strict=True) if path in kept]
    return resolve_tilts(tilts, kept, stored, n=len(stored))


def _paths(records: Sequence[Record]) -> list[Path]:
    return [record.path for record in records]


def _projections(records: Sequence[Record]) -> list[str]:
    """Name each projection, for messages."""
    if records[0].kind.endswith("stack"):
        return [f"image {i} of {records[0].path.name}" for i in range(records[0].data.shape[0])]
    return [record.path.name for record in records]


def _taken(records: Sequence[Record], places: np.ndarray) -> list[Record]:
    """Return the projections at these places, of one file each or of a stack."""
    if not records[0].kind.endswith("stack"):
        return [records[i] for i in places]
    (stack,) = records
    general = dict(stack.metadata.get("General", {}))
    if not np.isnat(stack.times).any():
        general["times"] = [str(time) for time in stack.times[places]]
    return [replace(stack, data=stack.data[places], metadata=stack.metadata | {"General": general})]
