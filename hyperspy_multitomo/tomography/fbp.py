# SPDX-License-Identifier: GPL-3.0-or-later
"""Filtered back projection: the direct inversion, for a quick look and for many tilts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Real

import numpy as np
import scipy.fft

from hyperspy_multitomo.tomography.backends import projector
from hyperspy_multitomo.tomography.forms import on_device
from hyperspy_multitomo.tomography.input_checks import checked_gains, checked_projections
from hyperspy_multitomo.tomography.projectors import Projector

# Windows on the ramp, of the frequency in units of the cutoff, 0 to 1.
_WINDOWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ramp": np.ones_like,
    "shepp-logan": lambda f: np.sinc(f / 2),
    "cosine": lambda f: np.cos(np.pi / 2 * f),
    "hamming": lambda f: 0.54 + 0.46 * np.cos(np.pi * f),
    "hann": lambda f: 0.5 + 0.5 * np.cos(np.pi * f),
}
FILTERS = tuple(_WINDOWS)


def fbp(
    A: Projector, projections, *, filter: str = "ramp", cutoff: float = 1.0, gains=None
) -> np.ndarray:
    """Reconstruct by filtered back projection, every slice of every channel on its own.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the projections.
    projections : array_like
        (channel, tilt, x, y) or (tilt, x, y).
    filter : {"ramp", "shepp-logan", "cosine", "hamming", "hann"}, default "ramp"
        The ramp alone, or the ramp times a window that takes the highest frequencies, hence noise
        and detail, down.
    cutoff : float, default 1.0
        Where the window ends, in units of the highest frequency of the detector (half a cycle per
        pixel), above 0 up to 1.
    gains : array_like, optional
        (tilt,) or (channel, tilt), not negative. There is no forward model for them to enter:
        projections are divided by them. A tilt of gain 0 is left out.

    Returns
    -------
    numpy.ndarray (channel, z, x, y) or (z, x, y), float32
        Signal per unit length, negative in places.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or values are not finite, for fewer than two tilts, and another filter
        or cutoff.

    Notes
    -----
    The projections are filtered by the ramp in its band-limited, sampled form (A. C. Kak, M.
    Slaney, Principles of Computerized Tomographic Imaging, 1988, eq. 3.61,
    doi:10.1137/1.9780898719277), padded by zeros, and projected back by A.T, weighted by the angles
    that the tilts stand for, half the gaps to their neighbours. Over a limited range these are
    scaled up so that their sum is pi all the same: the scale is then right for an object that looks
    alike from all sides, and the missing wedge is not otherwise made up for. Of a film, which lies
    in it for the most part, little but the outline is left.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, fbp, projector
    >>> A = projector(TiltGeometry(range(-90, 90, 5), detector_width=32))
    >>> truth = np.zeros((32, 32, 1))
    >>> truth[10:22, 10:22] = 2.0
    >>> volume = fbp(A, A(truth))
    >>> volume.shape, bool(abs(volume[13:19, 13:19].mean() - 2) < 0.05)
    ((32, 32, 1), True)
    """
    if filter not in _WINDOWS:
        raise ValueError(f"`filter` is {filter!r}; expected one of {', '.join(map(repr, FILTERS))}")
    if not (isinstance(cutoff, Real) and 0 < cutoff <= 1):
        raise ValueError(f"`cutoff` is {cutoff!r}; expected a number above 0, up to 1")
    projections, has_channels = checked_projections("projections", projections, A)
    gains = checked_gains("gains", gains, projections.shape[:2])
    if (gains > 0).sum(axis=1).min() < 2:
        raise ValueError("filtered back projection needs at least two tilts with a gain above 0")
    binning, voxel = A.geometry.binning, A.geometry.pixel_size
    response = ramp(A.geometry.detector_width, voxel * binning, filter, cutoff)
    tilts, responses = (
        np.asarray(A.geometry.tilts),
        np.zeros((*gains.shape, response.size), np.float32),
    )
    for channel, gain in enumerate(gains):
        live = np.flatnonzero(gain)
        # A.T gives a pixel of several voxels its share of each, and lengths, instead of
        # interpolating between pixels.
        factors = tilt_weights(tilts[live]) / gain[live] * (binning**2 / voxel)
        responses[channel, live] = response * np.float32(factors)[:, None]
    volume = (
        _on_device(A, projections, responses)
        if on_device(A)
        else _on_cores(A, projections, responses)
    )
    for channel, gain in enumerate(gains):
        volume[channel] /= _coverage(A, gain > 0)[..., None]
    return volume if has_channels else volume[0]


def _coverage(A: Projector, live: np.ndarray) -> np.ndarray:
    """Return how much of the rays of the live tilts a voxel (z, x) gets by A.T, 1 on average.

    Voxels on the tilt axis lie in the middle of a ray at every tilt, or between two at every tilt,
    and get up to 15 % more or 5 % less than others. The detector is wide enough for all voxels.
    """
    more = -(-max(A.domain_shape) // A.geometry.binning)
    geometry = replace(A.geometry, detector_width=A.geometry.detector_width + 2 * more)
    weights = np.zeros(len(live), np.float32)
    weights[live] = tilt_weights(np.asarray(A.geometry.tilts)[live])
    rays = np.broadcast_to(weights[:, None, None], (1, len(live), geometry.detector_width, 1))
    covered = projector(geometry, backend=A.backend).T(np.ascontiguousarray(rays))[0, ..., 0]
    return covered / covered.mean()


def _on_device(A, projections, responses):
    from hyperspy_multitomo.tomography.cuda.filtered import filtered_back_projection

    return filtered_back_projection(A, projections, responses)


def _on_cores(A, projections, responses):
    filtered = np.zeros_like(projections)
    for channel, tilt in zip(*np.nonzero(responses.any(axis=-1)), strict=True):
        filtered[channel, tilt] = _filtered(
            projections[channel, tilt], responses[channel, tilt], A.threads
        )
    return A.T(filtered)


def _filtered(image: np.ndarray, response: np.ndarray, threads: int) -> np.ndarray:
    """Return an image (x, y) filtered along x."""
    length = 2 * (response.size - 1)
    spectrum = scipy.fft.rfft(image, length, axis=0, workers=threads)
    return scipy.fft.irfft(spectrum * response[:, None], length, axis=0, workers=threads)[
        : len(image)
    ]


def ramp(width: int, pixel_size: float, filter: str = "ramp", cutoff: float = 1.0) -> np.ndarray:
    """Return the frequency response of the ramp with a window, in 1/length, for a padded rfft.

    It is the transform of the sampled band-limited ramp, h(0) = 1/(4 d^2) and h(n) = -1/(pi n d)^2
    for odd n, times the pixel size d; sampled in frequency instead, the ramp would be 0 at
    frequency 0 and the volume have the wrong mean.
    """
    length = 2 * scipy.fft.next_fast_len(width, real=True)
    n = np.minimum(np.arange(length), length - np.arange(length))
    h = np.zeros(length)
    h[0] = 0.25
    h[n % 2 == 1] = -1 / (np.pi * n[n % 2 == 1]) ** 2
    frequency = np.linspace(0, 1, length // 2 + 1) / cutoff
    window = np.where(frequency <= 1 + 1e-9, _WINDOWS[filter](np.minimum(frequency, 1.0)), 0.0)
    return (scipy.fft.rfft(h).real / pixel_size * window).astype(np.float32)


def tilt_weights(tilts: np.ndarray) -> np.ndarray:
    """Return the angle (rad) that each tilt stands for, (tilt,), their sum pi.

    Tilts 180 degrees apart see the same and share what their direction stands for. The widest gap,
    where it is more than twice the median, is the missing wedge: the tilts on its sides stand for
    as much there as on their other side.
    """
    # Rounded, so that -90 and 90 are one direction; the second remainder brings 180 to 0.
    directions = np.mod(np.round(np.mod(np.asarray(tilts, float), 180), 6), 180)
    directions, place, shared_by = np.unique(directions, return_inverse=True, return_counts=True)
    gaps = np.diff(directions, append=directions[0] + 180)  # gap i lies after the direction i
    after, before = gaps.copy(), np.roll(gaps, 1)
    if len(gaps) > 2 and gaps.max() > 2 * np.median(gaps):
        for wedge in np.flatnonzero(gaps > gaps.max() * (1 - 1e-9)):
            beyond = (wedge + 1) % len(gaps)
            after[wedge], before[beyond] = before[wedge], after[beyond]
    weights = ((before + after) / shared_by)[place]
    return np.pi * weights / weights.sum()
