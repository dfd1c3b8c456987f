# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the image and the spectra of a file that belong to the series."""

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
        Those of the kind "image" are candidates; a "map" is never chosen.
    wanted : str, optional
        Title or detector, e.g. ``"DF4"``, or else a part of either. By default HAADF, else the only
        image.
    shape : (int, int), optional
        Pixels (y, x) of the spectrum image: of several images, among them perhaps a survey, the one
        of this size is taken.
    path : path-like
        The file, for error messages.

    Returns
    -------
    Record or None
        None where the file has no image.

    Raises
    ------
    ValueError
        Where no image has that name, and where several fit; lists them.
    """
    images = [record for record in records if record.kind == "image"]
    candidates = images
    if wanted is not None or len(images) > 1:
        name = (wanted or "haadf").lower()
        exact = [
            record for record in images if name in (record.title.lower(), record.detector.lower())
        ]
        candidates = exact or [record for record in images if is_called(record, name)]
        if wanted is None:
            candidates = candidates or images
    if len(candidates) > 1 and shape is not None:
        fitting = [record for record in candidates if tuple(record.data.shape) == tuple(shape)]
        candidates = fitting or candidates
    if len(candidates) > 1:
        titles = [record.title for record in candidates]
        raise ValueError(
            f"{Path(path).name} has several images, {titles}; name one with image='...'"
        )
    if not candidates and images:
        raise ValueError(
            f"{Path(path).name} has no image called {wanted!r}, only "
            f"{[record.title for record in images]}"
        )
    return candidates[0] if candidates else None


def is_called(record: Record, name: str) -> bool:
    """Return whether the title of a record or its detector contains a name."""
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
        Those of the kind "spectrum_image" are candidates.
    spectroscopy : {"EDS", "EELS"}, optional
        By default EDS, else EELS.
    energy_loss : float, optional
        Energy loss in eV that the EELS spectra have to include, where there are several ranges.
    path : path-like
        The file, for error messages.

    Returns
    -------
    Record or None
        None where the file has no such spectra.

    Raises
    ------
    ValueError
        Where several spectrum images fit, or none includes the energy loss; lists them.
    """
    spectra = [record for record in records if record.kind == "spectrum_image"]
    if spectroscopy is None:
        spectroscopy = "EDS" if any(record.spectroscopy == "EDS" for record in spectra) else "EELS"
    spectra = [record for record in spectra if record.spectroscopy == spectroscopy]
    listed = ", ".join(
        "{!r} ({:g} to {:g} {})".format(record.title, *_energy_limits(record)) for record in spectra
    )
    if spectroscopy == "EELS" and energy_loss is not None and spectra:
        limits = [_energy_limits(record) for record in spectra]
        spectra = [
            record
            for record, (low, high, _) in zip(spectra, limits, strict=True)
            if low <= energy_loss <= high
        ]
        if not spectra:
            raise ValueError(
                f"{Path(path).name} has no spectra at an energy loss of {energy_loss:g} eV, only "
                f"{listed}"
            )
    if len(spectra) > 1:
        remedy = "choose a range with energy_loss=... (eV) that only one of them includes"
        raise ValueError(
            f"{Path(path).name} has several {spectroscopy} spectrum images: {listed}; "
            + (remedy if spectroscopy == "EELS" else "keep one of them in the file")
        )
    return spectra[0] if spectra else None


def _energy_limits(record: Record) -> tuple[float, float, str]:
    """Return the first and the last energy of a spectrum image, and their unit."""
    axis = record.axes[-1]
    first = axis["offset"]
    return first, first + axis["scale"] * (axis["size"] - 1), axis["units"]
