# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate for foreign data: real values without masks, axes identified, calibrated and ascending.

Axes are identified by name before place, and their units read by one table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.acquisition.units import Unit, unit_of
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.notices import warn

__all__ = [
    "calibrated",
    "check_sides",
    "checked_values",
    "degrees_of",
    "in_order",
    "is_tilt_name",
    "pixel_sides",
    "positions_of",
    "role_of",
    "split_name",
]

# Names of the axes of a tilt series or volume, in lower case, without brackets, "axis" and
# underscores.
_NAMES = {
    "tilt": (
        "tilt",
        "tilts",
        "angle",
        "angles",
        "alpha",
        "stage alpha",
        "tilt alpha",
        "tilt angle",
        "tilt angles",
        "stage tilt",
    ),
    "x": ("x", "width", "col", "cols", "column", "columns"),
    "y": ("y", "height", "row", "rows"),
    "z": ("z", "depth"),
    "energy": ("energy", "energies", "energy loss", "x ray energy", "eels"),
    "element": ("element", "elements"),
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names}
# Largest deviation from even steps, as a fraction of a step: stored positions are rounded.
_EVEN = 0.1
# Plausible pixels of a microscope (nm), a hundredth of an atom to 0.1 mm, and the largest ratio of
# their sides, which differ by binning only.
_SIDES, _RATIO = (1e-3, 1e5), 10.0


def split_name(name) -> tuple[str, str | None]:
    """
    Split the name of an axis or column into plain words and the unit in it, or None.

    Examples
    --------
    >>> split_name("Tilt_Angle (rad)"), split_name("angle_mrad"), split_name("x-axis")
    (('tilt angle', 'rad'), ('angle', 'mrad'), ('x', None))
    >>> split_name("Stage Alpha [deg]")
    ('stage alpha', 'deg')
    """
    text = unicodedata.normalize("NFKC", str(name if name is not None else "")).strip().strip("<>")
    bracket = re.search(r"[(\[/]\s*([^)\]]+?)\s*[)\]]?\s*$", text)
    unit = None if bracket is None else bracket[1]
    text = text if bracket is None else text[: bracket.start()]
    words = re.sub(r"[_\-\s]+", " ", text).strip().casefold().removesuffix(" axis").split(" ")
    # A single letter at the end is no unit but numbers the axis.
    if (
        unit is None
        and len(words) > 1
        and len(words[-1]) > 1
        and unit_of(words[-1]).kind in ("angle", "length")
    ):
        unit = words.pop()
    plain = " ".join(words)
    return ("" if plain == "undefined" else plain), unit


def is_tilt_name(name) -> bool:
    """Say whether an axis or column of this name holds tilts."""
    words = split_name(name)[0]
    return _ROLES.get(words) == "tilt" or "tilt" in words.split(" ") or "angle" in words.split(" ")


def role_of(axis: Mapping) -> str | None:
    """Return the role of an axis by its name, else by its unit, or None.

    Roles are "tilt", "x", "y", "z", "energy" and "element".
    """
    by_unit = {"angle": "tilt", "energy": "energy"}
    return _ROLES.get(split_name(axis.get("name"))[0]) or by_unit.get(_unit(axis).kind)


def checked_values(data, what: str):
    """
    Return an array, NumPy or dask, after checking that it holds plain real numbers.

    Raises
    ------
    ValueError
        For complex numbers, records, text and objects, and for masked arrays, whose hidden values
        would be taken as data.
    """
    if not is_lazy(data) and not isinstance(data, np.ndarray):
        data = np.asanyarray(data)
    masked = data if isinstance(data, np.ma.MaskedArray) else getattr(data, "_meta", None)
    if isinstance(masked, np.ma.MaskedArray):
        hidden = (
            "which pixels are masked is known when it is computed"
            if masked is not data
            else _counted(masked)
        )
        if hidden:
            raise ValueError(
                f"{what} is a masked array ({hidden}), and what is under a mask is no data; pass "
                "array.filled(value) with what should stand there, or leave out the tilts or the "
                "border that are masked"
            )
        data = masked.data
    if np.dtype(data.dtype).kind not in "biuf":
        raise ValueError(f"{what} has values of the type {data.dtype}; expected real numbers")
    return data


def _counted(masked: np.ma.MaskedArray) -> str:
    number = int(np.ma.count_masked(masked))
    return f"{number} of {masked.size} values masked" if number else ""


def in_order(
    data,
    axes: Sequence[Mapping],
    roles: Sequence[str],
    *,
    what: str,
    named: bool = True,
    n_tilts: int | None = None,
    stated: Sequence[str] | None = None,
):
    """
    Bring an array into the order of `roles`, each axis calibrated and ascending.

    Parameters
    ----------
    data : ndarray or dask array
    axes : sequence of dict
        One for each dimension of the array: ``name``, ``units``, and ``scale`` and ``offset``, or
        the positions as ``axis``. All may be missing.
    roles : sequence of {"tilt", "y", "x", "z", "energy", "element"}
        The axes of the result, in their order. An axis is identified by its name, else by its unit,
        else by its size (`n_tilts`), else by its place among the remaining ones.
    what : str
        Description of the data for messages.
    named : bool, default True
        Whether the names of the axes are to be trusted: some readers make them up.
    n_tilts : int, optional
        Number of tilts, where it is known.
    stated : sequence of str, optional
        The roles of the axes in their order, whatever their names say.

    Returns
    -------
    data : ndarray or dask array
    axes : dict of str to dict
        For each role ``name``, ``size``, ``scale``, ``offset`` and ``units``: lengths in nm, or
        scale 1 and units None without calibration; energies in keV; tilts as ``axis`` in degrees,
        None where they are unknown.

    Raises
    ------
    ValueError
        For the wrong number of axes, two axes of one role, a unit that the role cannot have, and
        uneven pixels.

    Warns
    -----
    UserWarning
        For a text that is no unit, which leaves the axis without calibration.

    Examples
    --------
    >>> import numpy as np
    >>> axes = [{"name": "x", "units": "Å", "scale": 5.0}, {"name": "height"}]
    >>> axes += [{"name": "angles", "units": "rad", "axis": [0, 0.5]}]
    >>> data, axes = in_order(np.zeros((4, 3, 2)), axes, ("tilt", "y", "x"), what="the stack")
    >>> data.shape, axes["x"]["scale"], axes["tilt"]["axis"].round(1)
    ((2, 3, 4), 0.5, array([ 0. , 28.6]))
    """
    data = checked_values(data, what)
    axes = [dict(axis) for axis in axes] or [{} for _ in roles]
    if len(axes) != len(roles) or data.ndim != len(roles):
        raise ValueError(
            f"{what} must have the shape ({', '.join(roles)}); got {data.ndim} dimensions "
            f"{tuple(data.shape)}"
        )
    places = (
        _places(data.shape, axes, roles, what, named, n_tilts)
        if stated is None
        else [list(stated).index(r) for r in roles]
    )
    data, ordered = data.transpose(places), {}
    for position, (role, place) in enumerate(zip(roles, places, strict=True)):
        size = data.shape[position]
        positions = positions_of(axes[place], size)
        is_named = stated is not None or (
            named and _ROLES.get(split_name(axes[place].get("name"))[0]) == role
        )
        unit = _unit(axes[place])
        if role == "tilt":
            angles = _angles(axes[place], positions, unit, is_named, what)
            ordered[role] = {"name": role, "size": size, "units": "°", "axis": angles}
            continue
        if positions is not None and size > 1 and positions[-1] < positions[0]:
            # Descending positions: reverse both.
            data, positions = (
                data[(slice(None),) * position + (slice(None, None, -1),)],
                positions[::-1],
            )
        ordered[role] = calibrated(role, {**axes[place], "size": size}, what, positions)
    return data, ordered


def _places(shape, axes, roles, what, named, n_tilts) -> list[int]:
    """Return the place of the axis of each role."""
    assigned = [role_of(axis if named else {**axis, "name": None}) for axis in axes]
    # Readers call the third axis of any stack z.
    assigned = [None if role == "z" and "z" not in roles else role for role in assigned]
    names = ", ".join(str(axis.get("name") or "without a name") for axis in axes)
    if foreign := [role for role in assigned if role is not None and role not in roles]:
        wrong = ", ".join(foreign)
        raise ValueError(
            f"{what} has the axes ({names}); expected ({', '.join(roles)}), and {wrong} cannot be "
            "one of these"
        )
    if twice := {role for role in assigned if role is not None and assigned.count(role) > 1}:
        raise ValueError(
            f"{what} has the axes ({names}), several of which could be {', '.join(sorted(twice))}; "
            "rename one"
        )
    if (
        "tilt" in roles
        and "tilt" not in assigned
        and n_tilts is not None
        and shape[assigned.index(None)] != n_tilts
    ):
        # A reader that names axes x, y and z by their place is wrong for every axis of a sinogram.
        assigned = [None if role in ("x", "y") and _is_z(axes) else role for role in assigned]
    free = [i for i, role in enumerate(assigned) if role is None]
    fitting = [i for i in free if shape[i] == n_tilts]
    if "tilt" in roles and "tilt" not in assigned and fitting:
        # Where several axes fit, the first is taken: stacks of images are the rule.
        assigned[fitting[0]] = "tilt"
        free.remove(fitting[0])
    for role in roles:
        if role not in assigned:
            assigned[free.pop(0)] = role
    return [assigned.index(role) for role in roles]


def _is_z(axes) -> bool:
    """Say whether one of the axes is called z."""
    return any(_ROLES.get(split_name(axis.get("name"))[0]) == "z" for axis in axes)


def _unit(axis: Mapping) -> Unit:
    """Return the unit of an axis, or else the one in its name."""
    unit = unit_of(axis.get("units"))
    return unit if unit.kind != "none" else unit_of(split_name(axis.get("name"))[1])


def positions_of(axis: Mapping, size: int) -> np.ndarray | None:
    """Return the positions (size,) along an axis in its unit, or None where it has no scale."""
    if axis.get("axis") is not None:
        positions = np.asarray(axis["axis"], dtype=float)
        return positions if positions.shape == (size,) else None
    scale = axis.get("scale")
    # MRC headers without a pixel size say 0.
    if scale is None or not scale:
        return None
    return float(axis.get("offset") or 0.0) + float(scale) * np.arange(size)


def _angles(axis: Mapping, positions, unit: Unit, is_named: bool, what: str) -> np.ndarray | None:
    """Return the tilts along an axis in degrees, or None where it does not state them."""
    if unit.kind == "angle":
        return None if positions is None else positions * unit.factor
    if not is_named:
        # Some readers give the third axis of a stack as a distance or a time, which is no tilt.
        return None
    if unit.kind != "none":
        raise ValueError(
            f"the axis {axis.get('name')!r} of {what} has the unit {axis.get('units')!r}; expected "
            "degrees or radians: set its unit, or pass tilts="
        )
    numbered = axis.get("axis") is None and axis.get("scale") == 1 and not axis.get("offset")
    return (
        None
        if positions is None or numbered
        else degrees_of(positions, f"the axis {axis.get('name')!r} of {what}")
    )


def calibrated(role: str, axis: Mapping, what: str, positions: np.ndarray | None = None) -> dict:
    """
    Return an axis of lengths in nm, of energies in keV, or of pixels; see `in_order`.

    Parameters
    ----------
    role : str
        What the axis is.
    axis : dict
        ``name``, ``size``, ``units``, and ``scale`` and ``offset``, or ``axis``.
    what : str
        Description of the data for messages.
    positions : ndarray (size,), optional
        Positions to use in place of those of `axis`.
    """
    size, unit = axis["size"], _unit(axis)
    positions = positions_of(axis, size) if positions is None else positions
    label = f"the axis {axis.get('name') or role!r} of {what}"
    wanted = "energy" if role == "energy" else "length"
    plain = {"name": role, "size": size, "scale": 1.0, "offset": 0.0, "units": None}
    if role == "element":
        return plain
    if unit.kind not in (wanted, "none", "unknown"):
        raise ValueError(
            f"{label} has the unit {axis.get('units')!r}; expected "
            f"{'eV' if role == 'energy' else 'nm'} or another {wanted}"
        )
    if unit.kind == "unknown":
        warn(
            f"{label} has the unit {axis.get('units')!r}, which is none that is known: it is taken "
            "as not calibrated"
        )
    if positions is None or unit.kind != wanted:
        return plain
    if not np.isfinite(positions).all():
        raise ValueError(f"{label} has positions that are not finite; calibrate it again")
    step = (
        float(positions[-1] - positions[0]) / (size - 1)
        if size > 1
        else abs(float(axis.get("scale") or 1.0))
    )
    if (
        not step > 0
        or np.abs(positions - positions[0] - step * np.arange(size)).max() > _EVEN * step
    ):
        raise ValueError(f"{label} has uneven steps; interpolate the data to even ones first")
    units = "keV" if role == "energy" else "nm"
    return plain | {
        "scale": step * unit.factor,
        "offset": float(positions[0]) * unit.factor,
        "units": units,
    }


def pixel_sides(
    axes: Mapping[str, Mapping], what: str, names: Sequence[str] = ("y", "x")
) -> tuple[float, ...] | None:
    """
    Return the sides of a pixel (voxel) along `names` in nm, or None without any calibration.

    Warns
    -----
    UserWarning
        Where only some axes are calibrated; the first of them stands for the others. Also as
        `check_sides`.
    """
    known = {name: axes[name]["scale"] for name in names if axes[name]["units"] == "nm"}
    if not known:
        return None
    if missing := [name for name in names if name not in known]:
        first = next(iter(known))
        warn(
            f"the pixels of {what} have {known[first]:g} nm along {first} but no calibration along "
            f"{', '.join(missing)}, and are taken to be as large there; calibrate all axes, or "
            "pass pixel_size="
        )
    check_sides(known, what)
    return tuple(known.get(name, next(iter(known.values()))) for name in names)


def check_sides(sides: Mapping[str, float], what: str) -> None:
    """
    Check that the sides of pixels are plausible for a microscope.

    Parameters
    ----------
    sides : mapping of str to float
        Length in nm along each axis.
    what : str
        Description of the data for messages.

    Raises
    ------
    ValueError
        For sides that are no positive lengths.

    Warns
    -----
    UserWarning
        For sides below 0.001 nm or above 100 um, or one more than ten times another.
    """
    lengths = np.array(list(sides.values()), dtype=float)
    stated = ", ".join(f"{length:g} nm along {name}" for name, length in sides.items())
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(
            f"the pixels of {what} have {stated}; expected positive lengths: calibrate the axes, "
            "or pass pixel_size="
        )
    # Tolerance of 0.1 %: lengths in files are rounded and converted from other units.
    if lengths.min() < 0.999 * _SIDES[0] or lengths.max() > 1.001 * _SIDES[1]:
        problem = "expected 0.001 nm to 100 um: the unit may be another"
    elif lengths.max() > 1.001 * _RATIO * lengths.min():
        problem = f"expected lengths within a factor of {_RATIO:g} of each other"
    else:
        return
    warn(
        f"the pixels of {what} have {stated}; {problem}. Correct the axes or pass pixel_size= "
        "where that is wrong"
    )


def degrees_of(angles, source: str) -> np.ndarray:
    """
    Return tilts without a unit unchanged, as degrees, and warn where they look like radians.

    They do if there are five or more, the largest exceeds 0.5, and each times 180/pi lies nearer to
    a multiple of half a degree than the value itself.
    """
    angles = np.asarray(angles, dtype=float)
    turned = angles[np.isfinite(angles) & (angles != 0)]
    if angles.ndim == 1 and angles.size >= 5 and turned.size and np.abs(turned).max() > 0.5:
        in_degrees, in_radians = (
            np.abs(values - np.round(2 * values) / 2) for values in (turned, np.rad2deg(turned))
        )
        if (in_radians < in_degrees).all():
            low, high = np.rad2deg((angles.min(), angles.max()))
            warn(
                f"{source} has tilts from {angles.min():g} to {angles.max():g} that look like "
                f"radians ({low:.4g} to {high:.4g} degrees) but are taken as degrees; pass "
                "tilts=np.rad2deg(tilts) if they are radians, or state the unit"
            )
    return angles
