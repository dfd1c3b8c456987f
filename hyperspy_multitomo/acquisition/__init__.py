# SPDX-License-Identifier: GPL-3.0-or-later
"""From microscope files to calibrated records, tilts, and elemental maps in counts."""

from hyperspy_multitomo.acquisition.io import Record, expand_files, read_records, read_stack, read_tilt_files
from hyperspy_multitomo.acquisition.tilts import TiltOrder, order_tilts, read_tilt_file, resolve_tilts

__all__ = [
    "Record",
    "TiltOrder",
    "expand_files",
    "order_tilts",
    "read_records",
    "read_stack",
    "read_tilt_file",
    "read_tilt_files",
    "resolve_tilts",
]
