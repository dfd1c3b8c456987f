# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate for foreign data: axes by name before place, units by one table, steps made positive, real numbers without masks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.acquisition.units import Unit, unit_of
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

# What the axes of a tilt series or volume are called, without capitals, brackets, "axis" and
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
# Pixels may be displaced by this part of a step: stored positions are rounded.
_EVEN = 0.1
# Pixels of a microscope (nm): a hundredth of an atom to a tenth of a millimetre, and as long as
# wide but for binning.
_SIDES, _RATIO = (1e-3, 1e5), 10.0


def split_name(name) -> tuple[str, str | None]:
    """
    Return the name of an axis or column in plain words, and the unit that it carries, or None.

    Examples
    --------
    >>> split_name("Tilt_Angle (rad)"), split_name("angle_mrad"), split_name("Stage Alpha [deg]"), split_name("x-axis")
    (('tilt angle', 'rad'), ('angle', 'mrad'), ('stage alpha', 'deg'), ('x', None))
    """
    text = unicodedata.normalize("NFKC", str(name if name is not None else "")).strip().strip("<>")
    bracket = re.search(r"[(\[/]\s*([^)\]]+?)\s*[)\]]?\s*$", text)
    unit = None if bracket is None else bracket[1]
    text = text if bracket is None else text[: bracket.start()]
    words = re.sub(r"[_\-\s]+", " ", text).strip().casefold().removesuffix(" axis").split(" ")
    # A letter or an s at the end is a number of the axis, or a plural.
    if (
        unit is None
        and len(words) > 1
        and len(words[-1]) > 1
        and unit_of(words[-1]).kind in ("angle", "length")
    ):
        unit = words.pop()
    words = " ".join(words)
    return ("" if words == "undefined" else words), unit


def is_tilt_name(name) -> bool:
    """Say whether an axis or column of this name holds tilts."""
    words = split_name(name)[0]
    return _ROLES.get(words) == "tilt" or "tilt" in words.split(" ") or "angle" in words.split(" ")


def role_of(axis: Mapping) -> str | None:
    """Return what an axis is by its name or, failing this, by its unit: "tilt", "x", "y", "z", "energy", "element", or None."""
    by_unit = {"angle": "tilt", "energy": "energy"}
    return _ROLES.get(split_name(axis.get("name"))[0]) or by_unit.get(_unit(axis).kind)


def checked_values(data, what: str):
    """
    Return an array, NumPy or dask, after checking that it holds plain real numbers.

    Raises
    ------
    ValueError
        For complex numbers, records, text and objects, and for masked arrays: what is under the
        mask would come in as data.
    """
    if not hasattr(data, "dask") and not isinstance(data, np.ndarray):
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
    Bring an array into the order of `roles`, each axis calibrated and running upwards.

    Parameters
    ----------
    data : ndarray or dask array
    axes : sequence of dict
        One for each dimension of the array: ``name``, ``units``, and ``scale`` and ``offset``, or
        the positions as ``axis``. All may be missing.
    roles : sequence of {"tilt", "y", "x", "z", "energy", "element"}
        What the axes are wanted as. An axis goes by its name, failing this by an angle as its unit,
        failing this by its size (`n_tilts`), failing this by its place among those that are left.
    what : str
        What the data are, for messages.
    named : bool, default True
        Whether the names of the axes mean anything: some readers number them through.
    n_tilts : int, optional
        Number of tilts, where it is known.
    stated : sequence of str, optional
        The roles of the axes in their order, whatever their names say.

    Returns
    -------
    data : ndarray or dask array
    axes : dict of str to dict
        For each role ``name``, ``size``, ``scale``, ``offset`` and ``units``: lengths in nm, or
        scale 1 and the units None where there is no calibration; energies in keV; tilts as ``axis``
        in degrees, None where they are not known.

    Raises
    ------
    ValueError
        For the wrong number of axes, two of one role, a unit that the role cannot have, and uneven
        pixels.

    Warns
    -----
    UserWarning
        Of a unit that is none, which leaves the axis without calibration, and of pixels calibrated
        along one side only.

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
    data, found = data.transpose(places), {}
    for position, (role, place) in enumerate(zip(roles, places, strict=True)):
        size = data.shape[position]
        positions = positions_of(axes[place], size)
        is_named = stated is not None or (
            named and _ROLES.get(split_name(axes[place].get("name"))[0]) == role
        )
        unit = _unit(axes[place])
        if role == "tilt":
            angles = _angles(axes[place], positions, unit, is_named, what)
            found[role] = {"name": role, "size": size, "units": "°", "axis": angles}
            continue
        if positions is not None and size > 1 and positions[-1] < positions[0]:
            # Steps against the order of the data: turn both.
            data, positions = (
                data[(slice(None),) * position + (slice(None, None, -1),)],
                positions[::-1],
            )
        found[role] = calibrated(role, axes[place] | {"size": size}, what, positions)
    return data, found


def _places(shape, axes, roles, what, named, n_tilts) -> list[int]:
    """Return the place of the axis of each role."""
    own = [role_of(axis if named else axis | {"name": None}) for axis in axes]
    # Readers call the third axis of any stack z.
    own = [None if role == "z" and "z" not in roles else role for role in own]
    told = ", ".join(str(axis.get("name") or "without a name") for axis in axes)
    if foreign := [role for role in own if role is not None and role not in roles]:
        wrong = ", ".join(foreign)
        raise ValueError(
            f"{what} has the axes ({told}); expected ({', '.join(roles)}), and {wrong} cannot be "
            "one of these"
        )
    if twice := {role for role in own if role is not None and own.count(role) > 1}:
        raise ValueError(
            f"{what} has the axes ({told}), several of which could be {', '.join(sorted(twice))}; "
            "rename one"
        )
    if (
        "tilt" in roles
        and "tilt" not in own
        and n_tilts is not None
        and shape[own.index(None)] != n_tilts
    ):
        # The names x, y and z of a reader that counts the axes: of sinograms none of them is true.
        own = [None if role in ("x", "y") and _is_z(axes) else role for role in own]
    free = [i for i, role in enumerate(own) if role is None]
    fitting = [i for i in free if shape[i] == n_tilts]
    if "tilt" in roles and "tilt" not in own and fitting:
        # Images, tilt first, are the rule where several axes would fit.
        own[fitting[0]] = "tilt"
        free.remove(fitting[0])
    for role in roles:
        if role not in own:
            own[free.pop(0)] = role
    return [own.index(role) for role in roles]


def _is_z(axes) -> bool:
    """Say whether one of the axes is called z."""
    return any(_ROLES.get(split_name(axis.get("name"))[0]) == "z" for axis in axes)


def _unit(axis: Mapping) -> Unit:
    """Return the unit of an axis, failing this the one in its name."""
    unit = unit_of(axis.get("units"))
    return unit if unit.kind != "none" else unit_of(split_name(axis.get("name"))[1])


def positions_of(axis: Mapping, size: int) -> np.ndarray | None:
    """Return the positions (size,) along an axis in its own unit, or None where it has no scale."""
    if axis.get("axis") is not None:
        positions = np.asarray(axis["axis"], dtype=float)
        return positions if positions.shape == (size,) else None
    scale = axis.get("scale")
    # MRC headers without a pixel size say 0.
    if scale is None or not scale:
        return None
    return float(axis.get("offset") or 0.0) + float(scale) * np.arange(size)


def _angles(axis: Mapping, positions, unit: Unit, is_named: bool, what: str) -> np.ndarray | None:
    """Return the tilts along an axis in degrees, None where it does not tell them."""
    if unit.kind == "angle":
        return None if positions is None else positions * unit.factor
    if not is_named:
        # Whatever readers say of the third axis of a stack, a distance or a time, is no tilt.
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
        What the axis belongs to, for messages.
    positions : ndarray (size,), optional
        Where they are not those of `axis`.
    """
    size, unit = axis["size"], _unit(axis)
    positions = positions_of(axis, size) if positions is None else positions
    told = f"the axis {axis.get('name') or role!r} of {what}"
    wanted = "energy" if role == "energy" else "length"
    plain = {"name": role, "size": size, "scale": 1.0, "offset": 0.0, "units": None}
    if role == "element":
        return plain
    if unit.kind not in (wanted, "none", "unknown"):
        raise ValueError(
            f"{told} has the unit {axis.get('units')!r}; expected "
            f"{'eV' if role == 'energy' else 'nm'} or another {wanted}"
        )
    if unit.kind == "unknown":
        warn(
            f"{told} has the unit {axis.get('units')!r}, which is none that is known: it is taken "
            "as not calibrated"
        )
    if positions is None or unit.kind != wanted:
        return plain
    if not np.isfinite(positions).all():
        raise ValueError(f"{told} has positions that are not finite; calibrate it again")
    step = (
        float(positions[-1] - positions[0]) / (size - 1)
        if size > 1
        else abs(float(axis.get("scale") or 1.0))
    )
    if (
        not step > 0
        or np.abs(positions - positions[0] - step * np.arange(size)).max() > _EVEN * step
    ):
        raise ValueError(f"{told} has uneven steps; interpolate the data to even ones first")
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
    Return the sides of a pixel (voxel) along `names` in nm, or None where no axis has a calibration.

    Warns
    -----
    UserWarning
        Where some axes have none: they are taken to be like the one that has; and as `check_sides`.
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
    Check that the sides of pixels can be those of a microscope.

    Parameters
    ----------
    sides : mapping of str to float
        Length in nm along each axis.
    what : str
        What has these pixels, for messages.

    Raises
    ------
    ValueError
        For sides that are no positive lengths.

    Warns
    -----
    UserWarning
        Below 0.001 nm or above 100 um, and where one is more than ten times as long as another.
    """
    lengths = np.array(list(sides.values()), dtype=float)
    stated = ", ".join(f"{length:g} nm along {name}" for name, length in sides.items())
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(
            f"the pixels of {what} have {stated}; expected positive lengths: calibrate the axes, "
            "or pass pixel_size="
        )
    # Lengths in files are rounded, and converted from other units.
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
    Return tilts without a unit as they are, degrees, and warn where they look like radians.

    They do where there are five or more, the largest is beyond 0.5, and all of them times 180/pi
    lie nearer to multiples of half a degree than they do themselves.
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
