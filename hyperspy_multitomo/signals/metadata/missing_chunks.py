# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing chunks of the files behind lazy signals: an error, not zeros in the result."""

from __future__ import annotations

from pathlib import Path

from hyperspy_multitomo.acquisition.files.stored_arrays import STORED, check_arrays

# Set once the file of a signal has been checked.
_CHECKED = "chunks_of_file_checked"


def check_file_of(signal) -> None:
    """Raise an error where the .hspy or .zspy file that HyperSpy loaded a signal from lacks chunks.

    HyperSpy reads them as zeros, and runs none of our code when it loads a signal. So the file is
    checked when the package uses the signal for the first time, if it is still there.

    Raises
    ------
    OSError
        With the file, the array, and the chunks that it lacks.
    """
    parameters = signal.tmp_parameters
    if parameters.has_item(_CHECKED) or not parameters.has_item("original_filename"):
        return
    folder, name, suffix = (
        parameters.get_item(f"original_{part}", default="")
        for part in ("folder", "filename", "extension")
    )
    path = (
        Path(folder) / f"{name}{suffix if suffix.startswith('.') or not suffix else '.' + suffix}"
    )
    if path.suffix.lower() in STORED and path.exists():
        check_arrays(path)
    parameters.set_item(_CHECKED, True)
