# SPDX-License-Identifier: GPL-3.0-or-later
"""Filtered back projection on the device, by cuFFT, in batches of slices that fit."""

from __future__ import annotations

from math import prod

import numpy as np

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import to_device
from hyperspy_multitomo.tomography.cuda.memory import filter_bytes
from hyperspy_multitomo.tomography.cuda.projector import DeviceProjector
from hyperspy_multitomo.tomography.projectors import spread


def filtered_back_projection(
    A: DeviceProjector, projections: np.ndarray, responses: np.ndarray
) -> np.ndarray:
    """Filter projections along x and project them back: `A.T` of `fbp._filtered` of each.

    Parameters
    ----------
    A : DeviceProjector
    projections : numpy.ndarray
        (channel, tilt, x, y) float32.
    responses : numpy.ndarray
        (channel, tilt, frequency) float32, of transforms padded to 2 (frequencies - 1).

    Returns
    -------
    numpy.ndarray
        (channel, z, x, y) float32.

    Raises
    ------
    MemoryError
        If not even one slice fits into the memory of the device.
    """
    length, width, binning = 2 * (responses.shape[-1] - 1), projections.shape[2], A.geometry.binning

    def back(part, volume):
        fft, slices = device.cupy().fft, part.shape[-1]
        rays = (
            part
            if binning == 1
            else device.cupy().empty(A.rays_shape(len(part), slices * binning), np.float32)
        )
        for channel in range(len(part)):
            spectrum = fft.rfft(part[channel], length, axis=1)
            spectrum *= to_device(responses[channel])[:, :, None]
            smooth = fft.irfft(spectrum, length, axis=1)[:, :width]
            rays[channel] = (
                smooth if binning == 1 else spread(smooth, binning) * np.float32(1 / binning**2)
            )
        A.back_device(rays, volume)

    return A.in_batches(
        back,
        projections,
        (len(projections), *A.domain_shape),
        growth=binning,
        more=lambda slices: (
            filter_bytes(A.geometry, slices)
            + (binning > 1) * 4 * prod(A.rays_shape(len(projections), slices * binning))
        ),
    )
