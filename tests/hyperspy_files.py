# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers of small files as microscopes' software leaves them:
HyperSpy's of one tilt, and a bare MRC stack."""

import hyperspy.api as hs
import numpy as np


def write_image(path, shape=(6, 8), scale=0.002, units="µm", value=1.0, title="HAADF"):
    signal = hs.signals.Signal2D(np.full(shape, value, np.float32))
    for axis, name in zip(signal.axes_manager.signal_axes, "xy", strict=True):
        axis.name, axis.scale = name, scale
        if units is not None:
            axis.units = units
    signal.metadata.General.title = title
    signal.save(path)
    return path


def write_spectra(path, channels=64, offset=0.0, units="keV", elements=("Fe",)):
    signal = hs.signals.Signal1D(np.ones((4, 5, channels), np.uint8))
    axis = signal.axes_manager[-1]
    axis.name, axis.offset, axis.scale, axis.units = (
        "Energy",
        offset,
        0.01 if units == "keV" else 10.0,
        units,
    )
    for axis in signal.axes_manager.navigation_axes:
        axis.scale, axis.units = 3.0, "nm"
    signal.metadata.set_item("Sample.elements", list(elements))
    signal.metadata.set_item("Acquisition_instrument.TEM.Stage.tilt_alpha", 12.5)
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    signal.save(path)
    return path


def write_mrc(path, data):
    """Write the 1024-byte header of an MRC file (mode 2) without a pixel size, and the data."""
    header = np.zeros(256, np.int32)
    header[:4] = *data.shape[::-1], 2
    header[7:10] = data.shape[::-1]
    header[16:19] = 1, 2, 3
    header[52:54] = np.frombuffer(b"MAP DD\0\0", np.int32)
    path.write_bytes(header.tobytes() + data.astype("<f4").tobytes())
    return path
