# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image and which spectra of a file are those of the series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyperspy_multitomo.acquisition.files.records import Record

__all__ = ["choose_image", "choose_spectra", "is_called"]


def choose_image(
    records: Sequence[Record],
    wanted: str | None = None,
    shape: tuple[int, int] | None = None,
    path: str | Path = "",
) -> Record | None:
    """
    Choose the image of a file.

    Parameters
    ----------
    records : sequence of Record
        Of the kinds "image" and "map" (which is never chosen); others are passed over.
    wanted : str, optional
        Title or detector, e.g. ``"DF4"``; a part of it where none is called just so. By default
        HAADF, else the only one.
    shape : (int, int), optional
        Pixels (y, x) of the spectrum image: of several images, a survey for example, the one of the
        same size is taken.
    path : path-like
        The file, for the message of an error.

    Returns
    -------
    Record or None
        None where the file has no image.

    Raises
    ------
    ValueError
        Where no image has that name, and where several could be meant; they are listed.
    """
    images = [record for record in records if record.kind == "image"]
    found = images
    if wanted is not None or len(images) > 1:
        name = (wanted or "haadf").lower()
        exact = [
            record for record in images if name in (record.title.lower(), record.detector.lower())
        ]
        found = exact or [record for record in images if is_called(record, name)]
        if wanted is None:
            found = found or images
    if len(found) > 1 and shape is not None:
        found = [record for record in found if tuple(record.data.shape) == tuple(shape)] or found
    if len(found) > 1:
        titles = [record.title for record in found]
        raise ValueError(
            f"{Path(path).name} has several images, {titles}; name one with image='...'"
        )
    if not found and images:
        raise ValueError(
            f"{Path(path).name} has no image called {wanted!r}, only "
            f"{[record.title for record in images]}"
        )
    return found[0] if found else None


def is_called(record: Record, name: str) -> bool:
    """Say whether a name is that of a record or of its detector, or a part of it."""
    return name.lower() in record.title.lower() or name.lower() in record.detector.lower()


def choose_spectra(
    records: Sequence[Record],
    spectroscopy: str | None = None,
    energy_loss: float | None = None,
    path: str | Path = "",
) -> Record | None:
    """
    Choose the spectrum image of a file.

    Parameters
    ----------
    records : sequence of Record
        Those of the kind "spectrum_image" are looked at.
    spectroscopy : {"EDS", "EELS"}, optional
        By default EDS, failing this EELS.
    energy_loss : float, optional
        Energy loss in eV that the range of the EELS spectra has to include, where there are several
        ranges.
    path : path-like
        The file, for the message of an error.

    Returns
    -------
    Record or None
        None where the file has no such spectra.

    Raises
    ------
    ValueError
        Where several spectrum images could be meant, or none includes the energy loss; they are
        listed.
    """
    found = [record for record in records if record.kind == "spectrum_image"]
    if spectroscopy is None:
        spectroscopy = "EDS" if any(record.spectroscopy == "EDS" for record in found) else "EELS"
    found = [record for record in found if record.spectroscopy == spectroscopy]
    listed = ", ".join(
        f"{record.title!r} ({record.energy[0]:g} to {record.energy[-1]:g} "
        f"{record.energy_axis['units']})"
        for record in found
    )
    if spectroscopy == "EELS" and energy_loss is not None and found:
        found = [record for record in found if record.energy[0] <= energy_loss <= record.energy[-1]]
        if not found:
            raise ValueError(
                f"{Path(path).name} has no spectra at an energy loss of {energy_loss:g} eV, only "
                f"{listed}"
            )
    if len(found) > 1:
        remedy = "choose a range with energy_loss=... (eV) that only one of them includes"
        raise ValueError(
            f"{Path(path).name} has several {spectroscopy} spectrum images: {listed}; "
            + (remedy if spectroscopy == "EELS" else "keep one of them in the file")
        )
    return found[0] if found else None
