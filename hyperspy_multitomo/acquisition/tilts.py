# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilts: the source of each projection's angle, and the order of the projections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.axes import (
    checked_values,
    degrees_of,
    is_tilt_name,
    role_of,
    split_name,
)
from hyperspy_multitomo.acquisition.files.mdoc import mdoc_beside, read_mdoc
from hyperspy_multitomo.acquisition.files.tilt_names import REMEDIES, tilts_from_names
from hyperspy_multitomo.acquisition.same_tilt import SAME_TILT, SAME_VIEW
from hyperspy_multitomo.acquisition.units import unit_of
from hyperspy_multitomo.machine.notices import warn

__all__ = [
    "TiltOrder",
    "check_order",
    "check_tilts",
    "order_tilts",
    "read_tilt_file",
    "resolve_tilts",
    "tilts_from_names",
]

_TILT_FILES = (".rawtlt", ".tlt", ".mdoc", ".txt", ".csv")


@dataclass(frozen=True, eq=False)
class TiltOrder:
    """
    The order of projections by tilt, and which of them are merged.

    Attributes
    ----------
    tilts : ndarray (tilt,)
        Degrees, ascending.
    groups : tuple of tuples of int
        For each tilt the indices of its projections in the order of acquisition.
    combine : "sum" or "mean"
        What `merge` does with several projections of one tilt: counts are summed, images averaged.
    """

    tilts: np.ndarray
    groups: tuple[tuple[int, ...], ...]
    combine: str = "sum"

    @property
    def acquisition_order(self) -> np.ndarray:
        """Index of each tilt (its first projection) in the order of acquisition, shape (tilt,)."""
        return np.array([group[0] for group in self.groups])

    def merge(self, data):
        """
        Return the projections in ascending tilt, those of one tilt merged.

        Parameters
        ----------
        data : ndarray or dask array (projection, ...)
            In the order of acquisition.

        Returns
        -------
        ndarray or dask array (tilt, ...)
            Of the dtype of `data`; of merged integers, sums are 64-bit integers and means float32.
        """
        if all(len(group) == 1 for group in self.groups):
            return data[self.acquisition_order]
        if np.dtype(data.dtype).kind == "f":
            kind = data.dtype
        else:
            kind = np.int64 if self.combine == "sum" else np.float32
        merged = [
            getattr(data[list(group)], self.combine)(axis=0, dtype=kind) for group in self.groups
        ]
        if isinstance(data, np.ndarray):
            return np.stack(merged)
        import dask.array as da

        return da.stack(merged)


def check_tilts(tilts: ArrayLike, n: int | None = None, source: str = "`tilts`") -> np.ndarray:
    """
    Return tilts as an array of degrees after checking that they can form a series.

    Parameters
    ----------
    tilts : array_like (tilt,)
        Degrees.
    n : int, optional
        Number of projections.
    source : str, default "`tilts`"
        Source of the tilts, for error messages.

    Returns
    -------
    ndarray (tilt,), float64

    Raises
    ------
    ValueError
        For tilts that are not numbers, NaN or infinite, of the wrong number, none, all equal, above
        360 degrees, or covering more than 360 degrees. A single tilt is allowed.

    Examples
    --------
    >>> check_tilts([-40, 0, 40], n=3)
    array([-40.,   0.,  40.])
    """
    try:
        angles = np.array(checked_values(tilts, "`tilts`"), dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"tilts={tilts!r} are not numbers; {REMEDIES}") from None
    if angles.ndim != 1:
        raise ValueError(
            f"tilts must be a one-dimensional array of degrees; got the shape {angles.shape}"
        )
    if n is not None and angles.size != n:
        raise ValueError(
            f"{source} has {angles.size} angles but there are {n} projections; pass one angle per "
            "projection"
        )
    if angles.size == 0:
        raise ValueError(f"a tilt series needs at least one tilt; got none: {REMEDIES}")
    if not np.isfinite(angles).all():
        wrong = np.flatnonzero(~np.isfinite(angles)).tolist()
        raise ValueError(f"tilts must be finite; NaN or infinite at the places {wrong}: {REMEDIES}")
    if angles.size > 1 and np.ptp(angles) < SAME_TILT:
        raise ValueError(f"all {angles.size} tilts are equal ({angles[0]:g} degrees); {REMEDIES}")
    if np.abs(angles).max() > 360 or np.ptp(angles) > 360:
        raise ValueError(
            f"tilts go from {angles.min():g} to {angles.max():g}; expected degrees within +-360 "
            "that cover at most 360 degrees"
        )
    return angles


def check_order(order: ArrayLike | None) -> np.ndarray | None:
    """
    Return the index of each tilt in the order of acquisition after checking it.

    Parameters
    ----------
    order : array_like (tilt,) or None
        None where it is unknown. Indices may be missing, as projections of one tilt are merged and
        tilts are left out.

    Returns
    -------
    ndarray (tilt,) or None

    Raises
    ------
    ValueError
        For indices that are not whole numbers from 0, or not distinct.

    Examples
    --------
    >>> check_order([2, 0, 3])
    array([2, 0, 3])
    """
    if order is None:
        return None
    places = np.asarray(order)
    is_whole = (
        places.dtype.kind in "iuf"
        and np.isfinite(places).all()
        and (places == np.floor(places)).all()
    )
    if not is_whole or (places.size and places.min() < 0) or np.unique(places).size < places.size:
        raise ValueError(
            f"the acquisition order {places.tolist()} is none; expected whole numbers from 0, "
            "another for each tilt: go back to the files, or remove "
            "metadata.Tomography.arrays.acquisition_order"
        )
    return places


def order_tilts(
    tilts: ArrayLike,
    *,
    reverse: bool = False,
    duplicates: Literal["error", "sum", "mean"] = "error",
) -> TiltOrder:
    """
    Sort tilts ascending, and group the projections that have the same tilt.

    Parameters
    ----------
    tilts : array_like (projection,)
        Degrees, in the order of acquisition.
    reverse : bool, default False
        Change the sign of the tilts, for data of the other handedness.
    duplicates : {"error", "sum", "mean"}, default "error"
        Treatment of projections of one tilt (closer than 0.001 degrees): refuse them, sum them
        (counts) or average them (images).

    Returns
    -------
    TiltOrder

    Raises
    ------
    ValueError
        For duplicates with ``duplicates="error"``, an unknown choice, and as `check_tilts`.

    Examples
    --------
    >>> import numpy as np
    >>> order = order_tilts([10, -5, -5], duplicates="mean")
    >>> order.tilts, order.groups
    (array([-5., 10.]), ((1, 2), (0,)))
    >>> order.merge(np.array([7.0, 1.0, 2.0]))
    array([1.5, 7. ])
    """
    if duplicates not in ("error", "sum", "mean"):
        raise ValueError(
            f"duplicates={duplicates!r} must be 'error', 'sum' (counts) or 'mean' (images)"
        )
    angles = check_tilts(tilts)
    if reverse:
        # Not -t: a tilt of 0 stays +0.
        angles = 0.0 - angles
    order = np.argsort(angles, kind="stable")
    starts = np.flatnonzero(np.diff(angles[order], prepend=-np.inf) >= SAME_TILT)
    groups = tuple(tuple(sorted(group.tolist())) for group in np.split(order, starts[1:]))
    repeated = [f"{angles[group[0]]:g}" for group in groups if len(group) > 1]
    if repeated and duplicates == "error":
        raise ValueError(
            f"duplicate tilts: {', '.join(repeated)} degrees occur more than once; ask for them to "
            "be merged (counts are summed, images averaged) or leave the repeated projections out"
        )
    return TiltOrder(
        np.array([angles[group[0]] for group in groups]),
        groups,
        "mean" if duplicates == "mean" else "sum",
    )


def read_tilt_file(path: str | Path) -> np.ndarray:
    """
    Read tilts from a text file: .rawtlt, .tlt, .txt or .csv, or SerialEM's .mdoc.

    Parameters
    ----------
    path : path-like
        One angle per line, or all on one line; or columns with a header that names one of them
        "tilt", "angle" or "alpha", and its unit where that is not degrees: ``angle_rad``, ``tilt
        (mrad)``. Lines that start with ``#`` are comments. The angles are in the order of the
        projections.

    Returns
    -------
    ndarray (tilt,)
        Degrees.

    Raises
    ------
    ValueError
        For a file without angles, with several columns of which none is named, or with a unit that
        is not one of angles.
    FileNotFoundError
        Where there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of tilts {path}")
    if path.suffix.lower() == ".mdoc":
        return read_mdoc(path).tilts
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file of tilts in degrees") from None
    header, rows = _table(text)
    if not rows:
        raise ValueError(f"{path} contains no tilts; expected one angle in degrees per line")
    name, cells = _tilt_column(header, rows)
    if any(len(row) != 1 or not _is_number(row[0]) for row in cells):
        raise ValueError(
            f"{path} is not a list of tilts: expected one angle in degrees per line, or a column "
            "named 'tilt'"
        )
    angles = np.array([float(row[0]) for row in cells])
    unit = split_name(name)[1]
    if unit is None or unit_of(unit).kind == "none":
        return degrees_of(angles, path.name)
    if unit_of(unit).kind != "angle":
        raise ValueError(
            f"the column {name!r} of {path} has the unit {unit!r}; expected degrees or radians"
        )
    return angles * unit_of(unit).factor


def _table(text: str) -> tuple[list[str], list[list[str]]]:
    """Split the text of a table into the names of its columns, if any, and its rows of cells."""
    rows = [re.split(r"[,;\s]+", line.strip().strip(",;")) for line in text.splitlines()]
    rows = [row for row in rows if row != [""] and not row[0].startswith("#")]
    if not rows or any(_is_number(cell) for cell in rows[0]):
        return [], rows
    words = rows.pop(0)
    return _column_names(text, words, len(rows[0]) if rows else 0), rows


def _tilt_column(header: list[str], rows: list[list[str]]) -> tuple[str, list[list[str]]]:
    """Return the name and the cells of the column of tilts; a single row is taken as a column."""
    named = sorted(
        (i for i, name in enumerate(header) if is_tilt_name(name)),
        key=lambda i: role_of({"name": header[i]}) != "tilt",
    )
    if len(header) > 1 and named:
        rows = [row[named[0] : named[0] + 1] for row in rows]
    elif len(rows) == 1:
        rows = [[cell] for cell in rows[0]]
    return header[named[0]] if named else " ".join(header), rows


def _column_names(text: str, words: list[str], columns: int) -> list[str]:
    """Return the names of a table's columns, with the spaces in them where others separate them."""
    line = (
        next(
            line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
        )
        .strip()
        .strip(",;")
    )
    parts = [line] if columns == 1 else re.split(r"[,;\t]", line)
    return [cell.strip().strip("\"'") for cell in (parts if len(parts) == columns else words)]


def resolve_tilts(
    tilts: ArrayLike | str | Path | re.Pattern | None,
    paths: Sequence[str | Path] = (),
    metadata_tilts: ArrayLike | None = None,
    n: int | None = None,
) -> np.ndarray:
    r"""
    Determine the tilt of each projection.

    Parameters
    ----------
    tilts : array_like, "metadata", "filename", path, regular expression or None
        An array of degrees; ``"metadata"`` for those stored in the files; ``"filename"`` or a
        regular expression for those in the names (see `tilts_from_names`); a .rawtlt, .tlt, .mdoc,
        .txt or .csv file. None takes the metadata if they cover half a degree or there is a single
        projection, else a .rawtlt, .tlt or .mdoc file beside a stack, else the names.
    paths : sequence of path-like
        The files: one per projection, or one stack.
    metadata_tilts : array_like (projection,), optional
        Tilts stored in the files, NaN where there is none.
    n : int, optional
        Number of projections; by default the number of `paths`.

    Returns
    -------
    ndarray (projection,)
        Degrees, in the order of the projections.

    Raises
    ------
    ValueError
        Where no tilts are found, and as `check_tilts`.

    Examples
    --------
    >>> resolve_tilts("filename", ["a_-5.bcf", "a_5.bcf"])
    array([-5.,  5.])
    >>> resolve_tilts(None, ["a_-5.bcf", "a_5.bcf"], metadata_tilts=[0.0, 0.0])
    array([-5.,  5.])
    """
    n = len(paths) if n is None else n
    if tilts is None:
        return _default_tilts(paths, metadata_tilts, n)
    if isinstance(tilts, re.Pattern):
        return check_tilts(tilts_from_names(paths, tilts), n)
    if not isinstance(tilts, str | Path):
        return degrees_of(check_tilts(tilts, n), "`tilts`")
    if str(tilts) == "metadata":
        if metadata_tilts is None or not np.isfinite(np.asarray(metadata_tilts, dtype=float)).any():
            raise ValueError(f"the files contain no tilts; {REMEDIES}")
        return check_tilts(metadata_tilts, n)
    if str(tilts) == "filename":
        return check_tilts(tilts_from_names(paths), n)
    if is_tilt_file(tilts):
        return check_tilts(read_tilt_file(tilts), n, Path(tilts).name)
    return check_tilts(tilts_from_names(paths, str(tilts)), n)


def is_tilt_file(tilts: str | Path) -> bool:
    """Say whether `tilts` names a file, and not a source of tilts or a regular expression."""
    return isinstance(tilts, Path) or Path(tilts).suffix.lower() in _TILT_FILES


def beside(path: str | Path) -> Path | None:
    """Return the .rawtlt or .tlt file beside a stack, else SerialEM's .mdoc, or None."""
    names = (Path(path).with_suffix(suffix) for suffix in (".rawtlt", ".tlt"))
    return next((name for name in names if name.is_file()), mdoc_beside(path))


def _default_tilts(paths, metadata_tilts, n):
    stored = None if metadata_tilts is None else np.asarray(metadata_tilts, dtype=float)
    if (
        stored is not None
        and stored.size == n
        and np.isfinite(stored).all()
        and (n == 1 or np.ptp(stored) >= SAME_VIEW)
    ):
        return check_tilts(stored, n)
    if len(paths) == 1 and (listed := beside(paths[0])) is not None:
        return check_tilts(read_tilt_file(listed), n, listed.name)
    if len(paths) > 1 and len(paths) == n:
        try:
            named = check_tilts(tilts_from_names(paths), n)
        except ValueError as error:
            cause = str(error)
        else:
            if n > 2 and named[0] in (0, 1) and np.all(np.diff(named) == 1):
                first = ", ".join(f"{tilt:g}" for tilt in named[:3])
                warn(
                    f"the tilts {first} ... are from the file names and may be a count of the "
                    f"files; if so: {REMEDIES}"
                )
            return named
    else:
        names = ", ".join(Path(path).name for path in paths[:3]) or "the images"
        single = "; for a single view pass its tilt, e.g. tilts=[0]" if n == 1 else ""
        cause = f"no tilts are known for the {n} projections of {names}: {REMEDIES}{single}"
    if stored is not None and np.isfinite(stored).all() and stored.size:
        cause = (
            f"the tilts in the metadata are equal ({stored[0]:g} degrees) or nearly so, and {cause}"
        )
    raise ValueError(cause)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
