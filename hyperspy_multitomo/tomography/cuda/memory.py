# SPDX-License-Identifier: GPL-3.0-or-later
"""The device memory that a method takes: the sum over its arrays, known in advance."""

from __future__ import annotations

from math import prod

from hyperspy_multitomo.tomography.cuda.device import BLOCK
from hyperspy_multitomo.tomography.geometry import TiltGeometry, volume_grid

METHODS = ("sirt", "hebt", "em", "fbp")


def _voxels(geometry: TiltGeometry, slices: int) -> int:
    return prod(volume_grid(geometry)) * slices


def _rays(geometry: TiltGeometry, slices: int) -> int:
    """Return the rays of one channel, in pixels of one voxel."""
    return len(geometry.tilts) * geometry.detector_width * geometry.binning * slices


def _compared(geometry: TiltGeometry, channels: int, with_data: int, slices: int) -> int:
    """Return the numbers in the rays, their data and, for large pixels, their means."""
    rays = _rays(geometry, slices)
    pixels = rays // geometry.binning**2
    return channels * rays + with_data * pixels * (1 if geometry.binning == 1 else 2)


def scratch_bytes(backend: str, geometry: TiltGeometry, slices: int) -> int:
    """Return the bytes that a projector takes for itself: of "astra_cuda" for one channel."""
    return 0 if backend == "cuda" else 4 * (_voxels(geometry, slices) + 2 * _rays(geometry, slices))


def filter_bytes(geometry: TiltGeometry, slices: int) -> int:
    """Return the bytes that filtering one channel of `slices` slices takes, with its transforms."""
    # Padded to twice the width, a little more for a handy length: the projections, their spectrum,
    # both once more inside of cuFFT, and what comes back. Pixels of several voxels are then
    # repeated, on one axis after the other.
    padded = 2.2 * len(geometry.tilts) * geometry.detector_width * slices
    return int(4 * 5 * padded) + (
        0 if geometry.binning == 1 else 8 * _rays(geometry, slices * geometry.binning)
    )


def device_bytes(
    method: str,
    geometry: TiltGeometry,
    channels: int,
    slices: int,
    *,
    haadf_geometry: TiltGeometry | None = None,
    rest: bool = False,
    mask: bool = False,
    background: bool = False,
    backend: str = "cuda",
) -> int:
    """Return the device memory of a reconstruction in bytes: at least, and to a few per cent.

    Parameters
    ----------
    method : {"sirt", "hebt", "em", "fbp"}
    geometry : TiltGeometry
        Of the data.
    channels : int
        Of the data.
    slices : int
        Of the volume: the memory is proportional to them, but for a few arrays of one slice.
    haadf_geometry : TiltGeometry, optional
        Of the HAADF of "hebt", where it is not that of the data.
    rest : bool, default False
        Whether "hebt" has a channel more for what no map explains.
    mask : bool, default False
        Whether there is a mask (z, x, y).
    background : bool, default False
        Whether "em" has a background.
    backend : {"cuda", "astra_cuda"}, default "cuda"

    Returns
    -------
    int
        Of "fbp" what all slices at once would take: it goes in batches of those that fit.

    Raises
    ------
    ValueError
        For another method.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry
    >>> geometry = TiltGeometry(range(-75, 76, 5), 300)
    >>> round(device_bytes("hebt", geometry, 4, 300) / 1e9, 2)
    0.53
    """
    if method not in METHODS:
        raise ValueError(f"the method is {method!r}; expected one of {METHODS}")
    scratch = scratch_bytes(backend, geometry, slices)
    if method == "fbp":
        numbers = channels * (
            _voxels(geometry, slices) + _rays(geometry, slices) // geometry.binning**2
        )
        return (
            4 * (numbers + _rays(geometry, slices) * channels)
            + filter_bytes(geometry, slices // geometry.binning)
            + scratch
        )
    whole = channels + bool(rest)
    numbers = whole * (_voxels(geometry, slices) + _voxels(geometry, 1)) + _compared(
        geometry, whole, channels, slices
    )
    sums = (channels + 1) * _rays(geometry, slices)
    if method == "hebt":
        haadf = geometry if haadf_geometry is None else haadf_geometry
        if haadf == geometry.fine:  # the projections of the elements make the HAADF's
            numbers += _rays(geometry, slices)
        else:
            numbers += 2 * _voxels(geometry, slices) + _compared(haadf, 1, 1, slices)
            sums += 2 * _rays(haadf, slices)
            scratch = max(scratch, scratch_bytes(backend, haadf, slices))
    if method == "em":
        sums = 2 * channels * _rays(geometry, slices)
        numbers += background * channels * _rays(geometry, slices) // geometry.binning**2
    numbers += mask * _voxels(geometry, slices)
    # Weights, gains and tables of one slice; a sum takes 8 bytes a block.
    small = 4 * 4 * (_rays(geometry, 1) + 3 * channels * len(geometry.tilts)) + 2**16
    return int(4 * numbers + 8 * -(-sums // BLOCK) + small + scratch)
