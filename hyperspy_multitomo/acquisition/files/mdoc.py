# SPDX-License-Identifier: GPL-3.0-or-later
"""SerialEM's .mdoc files: tilt, time and settings of each image of a stack, as text beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

__all__ = ["Mdoc", "mdoc_beside", "read_mdoc"]

# Each section begins with its kind and number: [ZValue = 3], and others that say nothing of an
# image of the stack.
_SECTION = re.compile(r"^\s*\[\s*(\w+)\s*=\s*([-+]?\d+)\s*\]", re.MULTILINE)
_AXIS = re.compile(r"tilt\s*axis(?:\s*angle)?\s*[=:]?\s*([-+]?\d+(?:\.\d+)?)", re.IGNORECASE)
_TIME_FORMATS = ("%d-%b-%Y %H:%M:%S", "%d-%b-%y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")


@dataclass(frozen=True, eq=False)
class Mdoc:
    """
    What an .mdoc file says of a stack.

    Attributes
    ----------
    tilts : ndarray (tilt,)
        Degrees, in the order of the stack, whatever the order of the sections.
    times : ndarray (tilt,), datetime64[s]
        Not-a-time where the file does not say.
    pixel_size : float or None
        In nm.
    beam_energy : float or None
        In keV.
    tilt_axis_angle : float or None
        Degrees from the image y axis to the tilt axis.
    """

    tilts: np.ndarray
    times: np.ndarray
    pixel_size: float | None
    beam_energy: float | None
    tilt_axis_angle: float | None


def mdoc_beside(path: str | Path) -> Path | None:
    """Return the .mdoc file of an image file (``a.mrc.mdoc`` or ``a.mdoc``), or None."""
    path = Path(path)
    names = (path.with_name(f"{path.name}.mdoc"), path.with_suffix(".mdoc"))
    return next((name for name in names if name.is_file()), None)


def read_mdoc(path: str | Path) -> Mdoc:
    """
    Read the .mdoc file that SerialEM writes beside a stack.

    Parameters
    ----------
    path : path-like
        Lines ``key = value``: some for the stack, then a section ``[ZValue = n]`` for image n of
        the stack, from 0, in any order, with its TiltAngle (degrees) and maybe PixelSpacing
        (angstrom), Voltage (kV) and DateTime. The angle of the tilt axis stands in a remark ``[T =
        ... Tilt axis angle = ...]``, or is RotationAngle, which SerialEM counts from the x axis, less 90 degrees.

    Returns
    -------
    Mdoc

    Raises
    ------
    ValueError
        Where an image has no tilt, the file lists none, or its sections are not those of the images
        0 to n - 1, once each.
    FileNotFoundError
        Where there is no such file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.mrc.mdoc"
    >>> lines = "PixelSpacing = 7.5", "[ZValue = 0]", "TiltAngle = -40.0", "[ZValue = 1]", "TiltAngle = 40.0"
    >>> _ = path.write_text(chr(10).join(lines))
    >>> read_mdoc(path).tilts, read_mdoc(path).pixel_size
    (array([-40.,  40.]), 0.75)
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    head, images = _images(text, path.name)
    without = [str(i) for i, image in enumerate(images) if _number(image.get("TiltAngle")) is None]
    if not images or without:
        told = (
            f"no TiltAngle for the images {', '.join(without[:8])}"
            if images
            else "no image sections [ZValue = n]"
        )
        raise ValueError(f"{path.name} has {told}; pass the tilts as an array or in a .rawtlt file")
    common = images[0] | head
    spacing, axis, rotation = (
        _number(common.get("PixelSpacing")),
        _AXIS.search(text),
        _number(common.get("RotationAngle")),
    )
    return Mdoc(
        tilts=np.array([_number(image["TiltAngle"]) for image in images]),
        times=np.array([_time(image.get("DateTime")) for image in images], dtype="datetime64[s]"),
        pixel_size=spacing / 10 if spacing else None,
        beam_energy=_number(common.get("Voltage")),
        tilt_axis_angle=float(axis[1]) if axis else None if rotation is None else rotation - 90.0,
    )


def _images(text: str, name: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return what an .mdoc says of the stack, and of each of its images in their order."""
    head, *sections = _SECTION.split(text)
    found = [
        (int(z), _values(body))
        for kind, z, body in zip(*[iter(sections)] * 3, strict=True)
        if kind == "ZValue"
    ]
    numbers = sorted(z for z, _ in found)
    if numbers != list(range(len(numbers))):
        missing, twice = (
            set(range(len(numbers))) - set(numbers),
            {z for z in numbers if numbers.count(z) > 1},
        )
        told = [
            f"{', '.join(map(str, sorted(zs)[:8]))} {what}"
            for zs, what in ((missing, "missing"), (twice, "twice"))
            if zs
        ]
        raise ValueError(
            f"{name} has {len(numbers)} sections [ZValue = n] from {numbers[0]} to {numbers[-1]}, "
            f"with {' and '.join(told)}; expected 0 to {len(numbers) - 1}, one for each image of "
            "the stack: mend it, or pass tilts= and take the .mdoc away"
        )
    return _values(head), [image for _, image in sorted(found, key=lambda section: section[0])]


def _values(text: str) -> dict[str, str]:
    pairs = (
        line.split("=", 1)
        for line in text.splitlines()
        if "=" in line and not line.lstrip().startswith("[")
    )
    return {key.strip(): value.strip() for key, value in pairs}


def _number(text: str | None) -> float | None:
    try:
        return float(text.split()[0])
    except (AttributeError, IndexError, ValueError):
        return None


def _time(text: str | None):
    for form in _TIME_FORMATS if text else ():
        try:
            # Spaces are used freely: "05-Nov-20  15:21:23".
            return np.datetime64(datetime.strptime(" ".join(text.split()), form), "s")
        except ValueError:
            continue
    return np.datetime64("NaT", "s")
