# SPDX-License-Identifier: GPL-3.0-or-later
"""What was loaded, as plain values that can be compared, and what of it differs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def snapshot(found, folder: str) -> dict[str, object]:
    """Return the parts of what was loaded from a folder, whose name is left out,
    computed where they are lazy."""
    if isinstance(found, tuple | list):
        return {
            f"{number} {name}": part
            for number, one in enumerate(found)
            for name, part in snapshot(one, folder).items()
        }
    if hasattr(found, "axes_manager"):
        return _of_signal(found, folder)
    if isinstance(found, Mapping):
        return {
            "structure": sorted(found),
            **{f"data {name}": np.array(value) for name, value in found.items()},
        }
    if isinstance(found, np.ndarray):
        return {"structure": found.shape, "values": found.copy()}
    return {"structure": type(found).__name__, "values": found.as_dict()}


def _of_signal(signal, folder: str) -> dict[str, object]:
    # Its own class, lazy or not; the times of its saving say nothing of the data.
    data = np.array(signal.data.compute() if hasattr(signal.data, "dask") else signal.data)
    axes = signal.axes_manager._axes
    metadata = signal.metadata.as_dictionary()
    metadata.pop("General", None)
    return {
        "structure": (
            type(signal).__name__.removeprefix("Lazy"),
            [(axis.name, axis.size) for axis in axes],
        ),
        "data": data,
        "axes": [(np.asarray(axis.axis, float), str(axis.units)) for axis in axes],
        "metadata": {
            name: _plain(part, folder) for name, part in metadata.items() if name != "_HyperSpy"
        },
    }


def _plain(part, folder: str):
    """Return metadata computed, and without the name of the folder."""
    if isinstance(part, Mapping):
        return {name: _plain(one, folder) for name, one in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(one, folder) for one in part]
    if isinstance(part, str):
        return part.replace(folder, "")
    return np.asarray(part) if hasattr(part, "dask") else part


def differing(one: dict, other: dict) -> list[str]:
    """Return the names of the parts that are not equal."""
    return sorted(
        name
        for name in {*one, *other}
        if name not in one or name not in other or not _equal(one[name], other[name])
    )


def _equal(one, other) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return one.shape == other.shape and one.dtype == other.dtype and _same_values(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    return type(one) is type(other) and bool(one == other)


def _same_values(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
