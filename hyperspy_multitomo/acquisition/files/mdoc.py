# SPDX-License-Identifier: GPL-3.0-or-later
"""SerialEM's .mdoc files: tilt, time and settings of each image of a stack, as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

__all__ = ["Mdoc", "mdoc_beside", "read_mdoc"]

# The first line of a section, its kind and number: [ZValue = 3] for images, and other kinds.
_SECTION = re.compile(r"^\s*\[\s*(\w+)\s*=\s*([-+]?\d+)\s*\]", re.MULTILINE)
_AXIS = re.compile(r"tilt\s*axis(?:\s*angle)?\s*[=:]?\s*([-+]?\d+(?:\.\d+)?)", re.IGNORECASE)
_TIME_FORMATS = ("%d-%b-%Y %H:%M:%S", "%d-%b-%y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")


@dataclass(frozen=True, eq=False)
class Mdoc:
    """
    The content of an .mdoc file.

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
    """Return the .mdoc file beside an image file (``a.mrc.mdoc`` or ``a.mdoc``), or None."""
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
        the stack, from 0, in any order, with its TiltAngle (degrees) and perhaps PixelSpacing
        (angstrom), Voltage (kV) and DateTime. The angle of the tilt axis is in a remark
        ``[T = ... Tilt axis angle = ...]``, or is RotationAngle less 90 degrees: SerialEM counts
        that from the x axis.

    Returns
    -------
    Mdoc

    Raises
    ------
    ValueError
        Where an image has no tilt, no image is listed, or the sections are not those of the images
        0 to n - 1, once each.
    FileNotFoundError
        Where there is no such file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.mrc.mdoc"
    >>> lines = ["PixelSpacing = 7.5", "[ZValue = 0]", "TiltAngle = -40.0"]
    >>> lines += ["[ZValue = 1]", "TiltAngle = 40.0"]
    >>> _ = path.write_text(chr(10).join(lines))
    >>> read_mdoc(path).tilts, read_mdoc(path).pixel_size
    (array([-40.,  40.]), 0.75)
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    head, images = _images(text, path.name)
    tilts = [_first_number(image.get("TiltAngle")) for image in images]
    without = [str(i) for i, tilt in enumerate(tilts) if tilt is None]
    if not images or without:
        lacking = (
            f"no TiltAngle for the images {', '.join(without[:8])}"
            if images
            else "no image sections [ZValue = n]"
        )
        raise ValueError(
            f"{path.name} has {lacking}; pass the tilts as an array or in a .rawtlt file"
        )
    common = images[0] | head
    spacing = _first_number(common.get("PixelSpacing"))
    axis, rotation = _AXIS.search(text), _first_number(common.get("RotationAngle"))
    return Mdoc(
        tilts=np.array(tilts),
        times=np.array([_time(image.get("DateTime")) for image in images], dtype="datetime64[s]"),
        pixel_size=spacing / 10 if spacing else None,
        beam_energy=_first_number(common.get("Voltage")),
        tilt_axis_angle=float(axis[1]) if axis else None if rotation is None else rotation - 90.0,
    )


def _images(text: str, name: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the entries of an .mdoc for the stack, and for each of its images in their order."""
    head, *sections = _SECTION.split(text)
    numbered = [
        (int(z), _entries(body))
        for kind, z, body in zip(*[iter(sections)] * 3, strict=True)
        if kind == "ZValue"
    ]
    numbers = sorted(z for z, _ in numbered)
    if numbers != list(range(len(numbers))):
        missing = set(range(len(numbers))) - set(numbers)
        twice = {z for z in numbers if numbers.count(z) > 1}
        problems = [
            f"{', '.join(map(str, sorted(zs)[:8]))} {what}"
            for zs, what in ((missing, "missing"), (twice, "twice"))
            if zs
        ]
        raise ValueError(
            f"{name} has {len(numbers)} sections [ZValue = n] from {numbers[0]} to {numbers[-1]}, "
            f"with {' and '.join(problems)}; expected 0 to {len(numbers) - 1}, one for each image "
            "of the stack: mend it, or pass tilts= and take the .mdoc away"
        )
    return _entries(head), [image for _, image in sorted(numbered, key=lambda section: section[0])]


def _entries(text: str) -> dict[str, str]:
    pairs = (
        line.split("=", 1)
        for line in text.splitlines()
        if "=" in line and not line.lstrip().startswith("[")
    )
    return {key.strip(): value.strip() for key, value in pairs}


def _first_number(text: str | None) -> float | None:
    try:
        return float((text or "").split()[0])
    except (IndexError, ValueError):
        return None


def _time(text: str | None) -> np.datetime64:
    # Spaces may be doubled: "05-Nov-20  15:21:23".
    words = " ".join((text or "").split())
    for form in _TIME_FORMATS if words else ():
        try:
            return np.datetime64(datetime.strptime(words, form).isoformat(), "s")
        except ValueError:
            continue
    return np.datetime64("NaT", "s")
