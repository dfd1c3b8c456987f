# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated acquisition of a phantom: expected EDS maps and HAADF images, and noisy ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.simulation.specimen import Phantom
from hyperspy_multitomo.tomography import TiltGeometry, projector

# Fine voxels projected at once: 256 MB of float32. Limits the memory, changes no result.
_BLOCK_VOXELS = 64_000_000


@dataclass(frozen=True, eq=False)
class SimulatedSeries:
    """
    A tilt series of EDS maps and HAADF images whose truth is known.

    Attributes
    ----------
    maps : numpy.ndarray (channel, tilt, x, y), float32
        Counts: whole numbers unless they were smoothed after the counting.
    haadf : numpy.ndarray (tilt, x, y), float32
        HAADF images at `haadf_tilts`.
    tilts, haadf_tilts : numpy.ndarray (tilt,)
        Degrees.
    expected_maps, expected_haadf : numpy.ndarray
        Expectation values, before noise and blur; `expected_maps` includes the background.
    across, along : numpy.ndarray (tilt,)
        Displacements (px) of the object in the EDS maps, towards +x and +y.
    phantom : Phantom
        The imaged phantom; its counts per unit include the dose.
    """

    maps: np.ndarray
    haadf: np.ndarray
    tilts: np.ndarray
    haadf_tilts: np.ndarray
    expected_maps: np.ndarray
    expected_haadf: np.ndarray
    across: np.ndarray
    along: np.ndarray
    phantom: Phantom

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self.phantom.elements

    @property
    def pixel_size(self) -> float:
        """Edge of a pixel and of a voxel, nm."""
        return self.phantom.pixel_size

    @property
    def true_ratios(self) -> np.ndarray:
        """Response ratios (channel,): HAADF signal per count at the dose of this series."""
        return self.phantom.ratios

    @property
    def truth(self) -> np.ndarray:
        """The ideal reconstruction, EDS counts per nm of path, (channel, z, x, y)."""
        return self.phantom.counts_per_nm


def simulate(
    phantom: Phantom,
    tilts: ArrayLike | None = None,
    haadf_tilts: ArrayLike | None = None,
    *,
    dose: float = 1.0,
    oversampling: int = 3,
    background: ArrayLike = 0.0,
    gains: ArrayLike | None = None,
    blur: float | None = None,
    haadf_noise: str | float | None = None,
    across: ArrayLike | None = None,
    along: ArrayLike | None = None,
    axis_offset: float = 0.0,
    seed: int | np.random.Generator | None = None,
) -> SimulatedSeries:
    """
    Simulate a tilt series of a phantom, on a finer grid than the reconstruction's.

    Line integrals through the fine grid are averaged over each pixel. EDS counts are Poisson. Where
    a phantom has a blur, it follows the counting, as in the papers.

    Parameters
    ----------
    phantom : Phantom
        From `zhong`, `yuan`, `huber`, `schwartz`, or your own.
    tilts : array_like (tilt,), optional
        Tilts of the EDS maps, degrees; by default the phantom's.
    haadf_tilts : array_like (tilt,), optional
        Tilts of the HAADF images; by default `tilts` where these are given, else the phantom's.
    dose : float, default 1.0
        Factor on the EDS counts of the phantom. The HAADF keeps its dose.
    oversampling : int, default 3
        Fine voxels and fine detector pixels along each edge of a voxel.
    background : float or array_like (channel,), default 0.0
        Expected background counts of every pixel, in addition to the specimen's.
    gains : array_like (tilt,) or (channel, tilt), optional
        Factors on the specimen's EDS counts, such as live time or shadowing; by default 1.
    blur : float, optional
        Standard deviation, px, of the Gaussian along x that smooths the EDS maps; by default the
        phantom's.
    haadf_noise : "none", "poisson" or float, optional
        "poisson" counts HAADF electrons; a number is the standard deviation of Gaussian noise, in
        HAADF signal. By default the phantom's.
    across, along : array_like (tilt,), optional
        Displacement, px, of the object in each recorded image towards +x (across the tilt axis) and
        +y (along it, by linear interpolation), the same in both modalities, which have to share
        their tilts. By default 0.
    axis_offset : float, default 0.0
        Position of the tilt axis from the middle of the images, px, positive towards +x.
    seed : int, Generator or None, default None
        Seed of the noise; None gives a different one in each call.

    Returns
    -------
    SimulatedSeries
        `true_ratios` and `truth` hold for the series as recorded, dose included.

    Raises
    ------
    ValueError
        If a number per tilt or channel is missing, negative or not finite, or a name is unknown.

    Examples
    --------
    >>> from hyperspy_multitomo.simulation import simulate, zhong
    >>> series = simulate(zhong(size=32), tilts=[-60, 0, 60], blur=0, seed=0)
    >>> series.maps.shape, series.haadf.shape
    ((2, 3, 32, 1), (3, 32, 1))
    >>> float(series.maps.sum()) == round(float(series.maps.sum()))
    True
    """
    if haadf_tilts is None:
        haadf_tilts = phantom.haadf_tilts if tilts is None else tilts
    haadf_tilts = _row("haadf_tilts", haadf_tilts)
    tilts = _row("tilts", phantom.tilts if tilts is None else tilts)
    shared = np.array_equal(tilts, haadf_tilts)
    if not shared and (across is not None or along is not None):
        raise ValueError(
            "displacements go with tilts that the EDS maps and the HAADF images share; pass equal "
            "tilts for both"
        )
    across, along = _per_tilt("across", across, tilts), _per_tilt("along", along, tilts)
    if not (np.isfinite(dose) and dose > 0):
        raise ValueError(f"the dose is {dose!r}; expected a positive factor")
    phantom = _with_dose(phantom, dose)
    paths = _line_integrals(phantom, tilts, oversampling, across, along, axis_offset)
    haadf_paths = (
        paths
        if shared
        else _line_integrals(
            phantom, haadf_tilts, oversampling, *np.zeros((2, haadf_tilts.size)), axis_offset
        )
    )
    expected_haadf = np.tensordot(phantom.haadf_per_unit.astype(np.float32), haadf_paths, 1)
    factors = phantom.counts_per_unit[:, None] * _checked_gains(gains, len(phantom.elements), tilts)
    expected_maps = paths * factors.astype(np.float32)[..., None, None] + _checked_background(
        background, len(phantom.elements)
    )
    rng = np.random.default_rng(seed)
    return SimulatedSeries(
        maps=count(expected_maps, blur=phantom.blur if blur is None else blur, seed=rng),
        haadf=_noisy_haadf(
            expected_haadf, phantom.haadf_noise if haadf_noise is None else haadf_noise, rng
        ),
        tilts=tilts,
        haadf_tilts=haadf_tilts,
        expected_maps=expected_maps,
        expected_haadf=expected_haadf,
        across=across,
        along=along,
        phantom=phantom,
    )


def count(
    expected: ArrayLike, *, blur: float = 0.0, seed: int | np.random.Generator | None = None
) -> np.ndarray:
    """
    Draw Poisson counts, then smooth them along x.

    Parameters
    ----------
    expected : array_like (..., x, y)
        Mean counts.
    blur : float, default 0.0
        Standard deviation, px, of the Gaussian along x; 0 leaves whole counts.
    seed : int, Generator or None, default None
        Seed of the noise.

    Returns
    -------
    numpy.ndarray, float32
        Same shape as `expected`.

    Raises
    ------
    ValueError
        If a mean is negative or not finite, or the blur is negative.

    Examples
    --------
    >>> import numpy as np
    >>> count(np.full((1, 4, 2), 3.0), seed=1).shape
    (1, 4, 2)
    """
    expected = np.asarray(expected)
    if not (np.isfinite(expected).all() and (expected >= 0).all()):
        raise ValueError(
            "the expected counts hold negative or infinite values; Poisson counts need means from "
            "0 up"
        )
    if not (np.isfinite(blur) and blur >= 0):
        raise ValueError(
            f"the blur is {blur!r}; expected a standard deviation in pixels, 0 or more"
        )
    counts = np.random.default_rng(seed).poisson(expected).astype(np.float32)
    if blur == 0:
        return counts
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(counts, blur, axis=-2, mode="constant")


def _line_integrals(
    phantom: Phantom,
    tilts: np.ndarray,
    factor: int,
    across: np.ndarray,
    along: np.ndarray,
    axis_offset: float,
) -> np.ndarray:
    """Return the pixels' mean line integrals (channel, tilt, x, y), the phantom's unit times nm."""
    n, channels = phantom.size, len(phantom.elements)
    fine_axis = factor * axis_offset
    geometry = TiltGeometry(
        tilts, n * factor, None, phantom.pixel_size / factor, fine_axis, shifts=factor * across
    )
    project = projector(geometry)
    block = max(1, _BLOCK_VOXELS // (channels * (n * factor) ** 2))
    paths = np.empty((channels, len(tilts), n, phantom.slices), np.float32)
    for start in range(0, phantom.slices, block):
        stop = min(start + block, phantom.slices)
        fine = project(phantom.fine(factor, start, stop))
        paths[..., start:stop] = fine.reshape(channels, len(tilts), n, factor, stop - start).mean(
            axis=3
        )
    if along.any():
        from scipy.ndimage import shift

        for t, displacement in enumerate(along):
            paths[:, t] = shift(paths[:, t], (0, 0, displacement), order=1, mode="constant")
    return paths


def _noisy_haadf(expected: np.ndarray, noise: str | float, rng: np.random.Generator) -> np.ndarray:
    if noise == "none":
        return expected.copy()
    if noise == "poisson":
        return rng.poisson(expected).astype(np.float32)
    if isinstance(noise, str) or not (np.isfinite(noise) and noise >= 0):
        raise ValueError(
            f"haadf_noise is {noise!r}; expected 'none', 'poisson' or a standard deviation, 0 or "
            "more"
        )
    return expected + rng.normal(0, noise, expected.shape).astype(np.float32)


def _with_dose(phantom: Phantom, dose: float) -> Phantom:
    from dataclasses import replace

    return (
        phantom if dose == 1 else replace(phantom, counts_per_unit=phantom.counts_per_unit * dose)
    )


def _row(name: str, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` has the shape {values.shape}; expected a list of finite numbers, one per "
            "projection"
        )
    return values


def _per_tilt(name: str, values: ArrayLike | None, tilts: np.ndarray) -> np.ndarray:
    if values is None:
        return np.zeros(tilts.size)
    values = _row(name, values)
    if values.size != tilts.size:
        raise ValueError(
            f"`{name}` has {values.size} values but there are {tilts.size} tilts; pass one per "
            "tilt, in pixels"
        )
    return values


def _checked_gains(gains: ArrayLike | None, channels: int, tilts: np.ndarray) -> np.ndarray:
    gains = np.ones(tilts.size) if gains is None else np.asarray(gains, dtype=np.float64)
    if gains.shape not in ((tilts.size,), (channels, tilts.size)):
        raise ValueError(
            f"`gains` has the shape {gains.shape}; expected ({tilts.size},) or ({channels}, "
            f"{tilts.size})"
        )
    if not (np.isfinite(gains).all() and (gains > 0).all()):
        raise ValueError("`gains` have to be positive and finite")
    return gains


def _checked_background(background: ArrayLike, channels: int) -> np.ndarray:
    background = np.asarray(background, dtype=np.float32)
    if background.shape not in ((), (channels,)) or not (
        np.isfinite(background).all() and (background >= 0).all()
    ):
        raise ValueError(
            f"the background is {background!r}; expected counts per pixel, 0 or more, one number "
            "or one per channel"
        )
    return np.broadcast_to(background, (channels,))[:, None, None, None]
