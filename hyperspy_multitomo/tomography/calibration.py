# SPDX-License-Identifier: GPL-3.0-or-later
r"""The strength of a regulariser, from the range of each channel and the flow of its noise.

A volume u stays a minimiser of D(K u, f) + lambda TV(u) when its data change by noise n, if a field
p (the *flow*) with div p equal to the noise's pull on the voxels, K^T D'' n, is nowhere larger than
lambda. So the rms flow of the noise in the object, that of grad Laplace^-1 K^T D'' n, is the
natural unit of lambda. It accounts for all that changes the noise: counts, tilts, size, pixel,
gains, background. It is taken in the plane across the tilt axis, in which the noise of back
projections extends. Each row of data is divided by the flow of its own noise, so that one lambda
fits channels of 1 and of 10^5 counts alike. The statistics within a row stay as they are, from ray
to ray and from tilt to tilt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from math import lcm

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from hyperspy_multitomo.machine.cache import Recent
from hyperspy_multitomo.machine.denormals import denormals_flushed
from hyperspy_multitomo.tomography.differences import gradient
from hyperspy_multitomo.tomography.input_checks import checked_positive
from hyperspy_multitomo.tomography.iterates import run
from hyperspy_multitomo.tomography.scaling import largest, power_of_two
from hyperspy_multitomo.tomography.solvers import sirt
from hyperspy_multitomo.tomography.variational import (
    DataTerm,
    Regulariser,
    check_terms,
    variational,
)
from hyperspy_multitomo.tomography.variational_system import Term, over_volume

# lambda over the rms flow of the noise at weight 1, in two and three dimensions: the middle of the
# optima on simulated series of four kinds (benchmarks/regularisers.py, docs/theory.md).
STRENGTH = {2: 0.16, 3: 0.11}
# Noisier data want more than in proportion to their noise: the weight that is best on simulated
# series of 0.3 to 1000 counts at the peak (benchmarks/weights.py) is constant where the noise,
# relative to what the data hold against (see `_noisiness`), is below the first number, and grows
# above it with this power, up to the last factor. A weight off by 1.4 costs 3 to 5 % in error.
_QUIET, _GROWTH, _MOST = 0.0075, 0.46, 4.0
# Slices that are measured, and noise samples of a channel times slices. tests/test_calibration.py
# holds ranges and flows to those of known objects.
_SLICES, _SAMPLES = 8, 32
# A row of data whose mean signal in these slices is below this fraction of that in its brightest
# slice adds that slice.
_ABSENT = 0.1
# Iterations of the rough reconstructions, by SIRT and by TV.
_SIRT, _ROUGH = 10, 60
# Ranges and flows of the last data, by the digest of the data.
_CACHE = Recent(8)


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` returns, the arguments of `variational`.

    Attributes
    ----------
    terms : tuple of DataTerm
        With their final weights.
    regulariser : Regulariser
    scales : numpy.ndarray (channel,)
        Range of each channel, signal per unit length.
    flows : numpy.ndarray (row of all terms,)
        rms flow of the noise, which the weight of the row was divided by; 1 where there is neither
        signal nor noise, and where `mu` was given.
    noisiness : float
        How much more than for data of many counts weight 1 smooths these, 1 or more.
    """

    terms: tuple[DataTerm, ...]
    regulariser: Regulariser
    scales: np.ndarray
    flows: np.ndarray
    noisiness: float = 1.0

    def times(self, weight: float) -> Calibration:
        """Return the same with a regulariser of another weight, relative to this one."""
        strength = weight * self.regulariser.weight
        return replace(self, regulariser=replace(self.regulariser, weight=strength))

    def describe(self) -> dict:
        """Return the results as plain numbers, for the history of a volume."""
        return {
            "scales": [float(value) for value in self.scales],
            "noise_flows": [float(value) for value in self.flows],
            "noisiness": float(self.noisiness),
            "term_weights": [
                float(value) for term in self.terms for value in np.atleast_1d(term.weight)
            ],
            "regulariser_weight": float(self.regulariser.weight),
        }


@denormals_flushed()
def calibrate(
    terms: Sequence[DataTerm],
    channels: int,
    *,
    kind: str = "tv",
    coupling: str = "frobenius",
    dimensions: int = 3,
    alpha0: float = 4.0,
    weight: float = 1.0,
    mu=None,
    sampled: bool = False,
) -> Calibration:
    """Find the ranges of the channels and the strength of the regulariser for some data.

    Parameters
    ----------
    terms : sequence of DataTerm
        As for `variational`. Their weights state the statistics: 1 for counts.
    channels : int
        Of the volume; each needs data of its own, besides which there may be those of a sum.
    kind, coupling, dimensions, alpha0
        As in `Regulariser`; a single slice has two dimensions.
    weight : float, default 1.0
        Smoothness relative to the default, above 0: 2 is twice as smooth.
    mu : array_like (channel,), optional
        The published parameters of Huber et al., for data scaled to a maximum of 1 and pixels of
        unit size, instead of all this. They take the place of `weight`; larger ones mean less
        smoothing.
    sampled : bool, default False
        Whether the terms hold only the slices from `slices_to_look_at`; all of them are then used.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        For weights that are not positive, both `weight` and `mu`, a channel without data, or terms
        of different volume grids.

    Notes
    -----
    With `mu`, sum_c mu_c |T| KL(T u_c, f_c/max f_c) + R(u) is minimised, T being the projector of
    unit pixels, or sum_c mu_c/2 |T u_c - f_c/max f_c|^2 + R(u). In counts and per length that is
    d_c = mu_c |T|/max f_c, or mu_c/(max f_c)^2, with lambda/S_c = pixel/max f_c. It is what the
    authors' program does: it divides alpha by |T|^2, which their text does not say. For their
    phantom, not for their specimen, it took the 98th percentile of the data for the maximum.

    The ranges are the means of rough reconstructions (TV in two dimensions, some slices) weighted
    by themselves. A channel without any signal gets the smallest range of the others.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import (
    ...     DataTerm, TiltGeometry, calibrate, projector, run, variational
    ... )
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((1, 24, 24, 2))
    >>> truth[:, 8:16, 8:16] = 2.0
    >>> counts = np.random.default_rng(0).poisson(A(truth))
    >>> calibration = calibrate([DataTerm(A, counts)], channels=1, dimensions=2)
    >>> bool(1.5 < calibration.scales[0] < 2.5)
    True
    >>> problem = variational(calibration.terms, calibration.regulariser, calibration.scales)
    >>> result = run(problem, 200)
    """
    checked_positive("weight", weight)
    checked = [term.checked(channels, "eds") for term in terms]
    check_terms(checked)
    if checked[0].data.shape[-1] * checked[0].A.geometry.binning == 1:
        dimensions = 2  # which a single slice has, and their strength
    regulariser = partial(
        Regulariser, kind=kind, coupling=coupling, dimensions=dimensions, alpha0=alpha0
    )
    own = [t for t in checked if t.mix is None]
    if {c for t in own for c in range(t.first, t.first + t.rows)} != set(range(channels)):
        raise ValueError(
            f"each of the {channels} channels needs data of its own; got those of "
            f"{sum(t.rows for t in own)}"
        )
    if mu is not None:
        if weight != 1:
            raise ValueError(
                "`weight` and `mu` both say how strong the regulariser is; give one of them"
            )
        return _by_mu(terms, checked, channels, mu, regulariser)
    few = checked if sampled else _some_slices(checked)
    scales, flows, noisiness = _ranges_and_flows(few, channels)
    weighted = tuple(
        replace(term, weight=t.weights / f, count=t.counts)
        for term, t, f in zip(terms, checked, flows, strict=True)
    )
    strength = (
        weight
        * noisiness
        * STRENGTH[dimensions]
        * _joint_size(coupling, channels, sum(t.rows for t in checked), dimensions)
    )
    return Calibration(
        weighted,
        regulariser(float(strength)),
        scales.astype(np.float32),
        np.concatenate(flows),
        noisiness,
    )


def _ranges_and_flows(few: list[Term], channels: int) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Return the ranges of channels, the flows of terms and the noisiness, of the last data cached.

    They do not depend on the regulariser: the same data with another weight are not measured again.
    """
    scales, flows, noisiness = _CACHE.get(_digest(few), lambda: _measured(few, channels))
    return scales.copy(), [flow.copy() for flow in flows], noisiness


def _measured(few: list[Term], channels: int) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Return the ranges of the channels, the flows of each term, and the noisiness of the first.

    They are of rough reconstructions.
    """
    few = [t.in_units(largest(t.data)) for t in few]
    rough = _smoothed(few, channels)
    scales = _ranges(rough)
    balanced = [_divided(t, _flows(t, rough, scales)) for t in few if t.mix is None]
    plain = Regulariser(STRENGTH[2], "tv", "uncoupled", 2)
    scales = _ranges(run(variational(balanced, plain, scales, initial=rough), _ROUGH).volume)
    flows = [_flows(t, rough, scales) for t in few]
    return scales, flows, _noisiness(few[0], rough, scales, flows[0])


def _digest(few: list[Term]) -> bytes:
    """Return a digest of the terms."""
    digest = blake2b()
    for t in few:
        digest.update(repr((t.A.geometry, type(t.A).__name__, t.discrepancy, t.first)).encode())
        for array in (t.data, t.gains, t.weights, t.background, t.mix):
            digest.update(
                b"none"
                if array is None
                else repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()
            )
    return digest.digest()


def _by_mu(
    terms: Sequence[DataTerm],
    checked: list[Term],
    channels: int,
    mu,
    regulariser: Callable[[float], Regulariser],
) -> Calibration:
    """Return the calibration by the published parameters."""
    mu = np.asarray(checked_positive("mu", mu), float)
    if mu.shape != (channels,):
        raise ValueError(
            f"`mu` has the shape {mu.shape}; expected {channels} values, one per channel of the "
            "volume"
        )
    if any(t.mix is not None for t in checked):
        raise ValueError(
            "`mu` is defined for data of one channel each, not for a sum of channels; leave it out"
        )
    scales, weighted = np.ones(channels), []
    geometry, path = checked[0].A.geometry, float(checked[0].A.row_sums().mean())
    for term, t in zip(terms, checked, strict=True):
        rows = slice(t.first, t.first + t.rows)
        brightest = t.data.max(axis=(1, 2, 3)).astype(float)
        brightest[brightest <= 0] = 1.0  # nothing there to scale
        # The regulariser is of x pixel/brightest; with the range of x, brightest/path, as scale,
        # steps suit u of about 1.
        scales[rows] = brightest / path
        norm = t.A.norm() / geometry.pixel_size
        weight = mu[rows] * (norm / brightest if t.discrepancy == "kl" else 1 / brightest**2)
        weighted.append(replace(term, weight=weight, count=t.counts))
    strength = geometry.pixel_size / path
    return Calibration(
        tuple(weighted), regulariser(strength), scales.astype(np.float32), np.ones(channels)
    )


def slices_to_look_at(signals: np.ndarray, together: int = 1) -> np.ndarray:
    """Return which slices represent all: some spread evenly, and the brightest of absent signals.

    Parameters
    ----------
    signals : numpy.ndarray (row, unit)
        Signal of each row of data of all terms, background taken off, in units of slices.
    together : int, default 1
        Slices of the volume in a unit.

    Returns
    -------
    numpy.ndarray of int
        Units, ascending.
    """
    units, wanted = signals.shape[1], max(1, _SLICES // together)
    kept = np.linspace(0, units - 1, min(units, wanted) + 2).round().astype(int)[1:-1]
    absent = signals[:, kept].mean(axis=1) < _ABSENT * signals.max(axis=1)
    return np.union1d(kept, signals[absent].argmax(axis=1))


def _some_slices(terms: list[Term]) -> list[Term]:
    """Return the terms with the slices to look at."""
    together = lcm(
        *(t.A.geometry.binning for t in terms)
    )  # so many slices are whole pixels of all terms
    signals = np.concatenate([_signal(t, together // t.A.geometry.binning) for t in terms])
    return [_slices_of(t, slices_to_look_at(signals, together), together) for t in terms]


def _signal(t: Term, length: int) -> np.ndarray:
    """Return data less background of each row, summed over `length` slices, (row, unit)."""
    signal = t.data.sum(axis=2, dtype=np.float64)
    if t.background is not None:
        signal -= t.live[..., 0] * t.background.sum(axis=2, dtype=np.float64)
    return signal.sum(axis=1).reshape(t.rows, -1, length).sum(axis=2)


def _slices_of(t: Term, units: np.ndarray, together: int) -> Term:
    """Return the term with units of so many slices."""

    def part(array, length):
        return (
            None
            if array is None
            else array[..., (units[:, None] * length + np.arange(length)).ravel()]
        )

    length = together // t.A.geometry.binning
    mix = t.mix if t.mix is None or t.mix.ndim == 1 else part(t.mix, together)
    return replace(t, data=part(t.data, length), background=part(t.background, length), mix=mix)


def _divided(t: Term, flows: np.ndarray) -> DataTerm:
    """Return the term as an argument of `variational`, divided by the flow of each row."""
    return DataTerm(
        t.A,
        t.data,
        t.first,
        None,
        t.gains,
        t.background,
        t.discrepancy,
        t.weights / flows,
        count=t.counts,
    )


def _smoothed(terms: list[Term], channels: int) -> np.ndarray:
    """Return a rough volume (channel, z, x, y): few SIRT iterations of the net data, smoothed."""
    slices = terms[0].data.shape[-1] * terms[0].A.geometry.binning
    volume = np.zeros((channels, *terms[0].A.domain_shape, slices), np.float32)
    for t in terms:
        if t.mix is None:
            net = t.data if t.background is None else t.data - t.background
            found = run(sirt(t.A, net, gains=t.gains), _SIRT).volume
            volume[t.first : t.first + t.rows] = gaussian_filter(found, (0, 1.5, 1.5, 0))
    return volume


def _ranges(volume: np.ndarray) -> np.ndarray:
    """Return the mean of each channel weighted by itself, (channel,).

    An empty channel gets the smallest of the others.
    """
    ranges = _self_mean(volume)[:, 0, 0, 0]
    smallest = ranges[ranges > 0].min() if (ranges > 0).any() else 1.0
    return np.where(ranges > 0, ranges, smallest)


def _flows(t: Term, rough: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the rms flow of the noise of each row, (row,), in the object that `rough` shows.

    It is that of the whole volume for rows without signal there, and 1 without any noise.
    """
    seen, variances = _seen(t, rough), _curvatures(t, rough)
    factors = _factors(t, scales)
    units = power_of_two(factors)
    gains = (units[:, None] * t.gains).astype(np.float32)[:, :, None, None]
    rng = np.random.default_rng(0)
    squares, samples = np.zeros(t.rows), -(-_SAMPLES // rough.shape[-1])
    inside = _inside(seen)
    for _ in range(samples):
        noise = rng.standard_normal(variances.shape, np.float32) * np.sqrt(variances)
        flow = _flow(t.A.T(gains * noise))
        squares += [flow[row][inside[row]].mean() for row in range(t.rows)]
    found = factors / units * np.sqrt(squares / samples)
    return np.where(found > 0, found, 1.0)


def _noisiness(t: Term, rough: np.ndarray, scales: np.ndarray, flows: np.ndarray) -> float:
    """Return how much more than in proportion to its flow the noise of a term asks to be smoothed.

    It goes by F/(h r), without unit, in the mean of the logarithms over the rows: F is the flow, h
    how much the data hold a voxel against a change, its diagonal K^T D'' K 1, and r the radius, in
    voxels, of all that is there in a slice. A regulariser of strength F takes about that part of
    the contrast.
    """
    seen, factors = _seen(t, rough), _factors(t, scales)
    units = power_of_two(factors)
    gains = (units[:, None] * t.gains).astype(np.float32)[:, :, None, None]
    held = t.A.T(gains**2 * _curvatures(t, rough) * t.A(np.ones_like(seen)))
    inside = _inside(seen)
    hold = np.array([held[row][inside[row]].mean(dtype=float) for row in range(t.rows)])
    known = (hold > 0) & seen.any(axis=(1, 2, 3))
    if not known.any():
        return 1.0
    radius = np.sqrt(inside[known].any(axis=0).sum() / inside.shape[-1] / np.pi)
    relative = flows[known] / (np.square(factors / units) * hold)[known] / radius
    typical = float(np.exp(np.log(relative).mean()))
    return float(np.clip((typical / _QUIET) ** _GROWTH, 1, _MOST))


def _seen(t: Term, rough: np.ndarray) -> np.ndarray:
    """Return the volumes (row, z, x, y) that the rows of a term see."""
    if t.mix is None:
        return rough[t.first : t.first + t.rows]
    return (over_volume(t.mix) * rough).sum(axis=0, keepdims=True)


def _curvatures(t: Term, rough: np.ndarray) -> np.ndarray:
    """Return D'' at each ray, (row, tilt, x, y), from what `rough` lets expect there."""
    expected = t.expectations(t.A(_seen(t, rough)))
    variances = t.weights[:, None, None, None] * np.ones_like(expected)
    if t.discrepancy == "kl":
        floor = 0.02 * _self_mean(expected)
        variances *= np.divide(
            1, np.maximum(expected, floor), out=np.zeros_like(expected), where=floor > 0
        )
    return variances


def _factors(t: Term, scales: np.ndarray) -> np.ndarray:
    """Return the factors (row,) by which data pull at a volume without unit."""
    if t.mix is None:
        return np.asarray(scales[t.first : t.first + t.rows], np.float64)
    # The sum of all channels pulls at each of them by its own factor.
    each = np.square(scales * over_volume(t.mix).mean(axis=(1, 2, 3)))
    return np.array([np.sqrt(each.sum())], np.float64)


def _inside(seen: np.ndarray) -> np.ndarray:
    """Return where the object is, of each row (row, z, x, y); everywhere without any."""
    inside = seen > 0.25 * _self_mean(seen)
    inside[~inside.any(axis=(1, 2, 3))] = True
    return inside


def _self_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row weighted by itself, (row, 1, 1, 1)."""
    # In double precision, which holds the squares of any unit.
    values = values.astype(np.float64)
    squares, sums = (
        np.sum(power, axis=(1, 2, 3), keepdims=True) for power in (np.square(values), values)
    )
    return squares / np.where(sums > 0, sums, 1)


def _flow(pull: np.ndarray) -> np.ndarray:
    """Return |p|^2 (channel, z, x, y) of the curl-free field p with div p = pull.

    The field lies in the plane (z, x), and no flow leaves the volume.
    """
    eigenvalues = [2 - 2 * np.cos(np.pi * np.arange(length) / length) for length in pull.shape[1:3]]
    laplace = np.add.outer(*eigenvalues)[..., None]
    potential = dctn(pull, axes=(1, 2), norm="ortho") / np.where(laplace > 0, laplace, np.inf)
    return np.square(gradient(idctn(potential, axes=(1, 2), norm="ortho"), 2)).sum(axis=1)


def _joint_size(coupling: str, channels: int, sources: int, dimensions: int) -> float:
    """Return the rms size, in the dual norm of the coupling, of independent flows of size 1.

    There is one flow for each source of noise.
    """
    if coupling == "uncoupled":
        return 1.0
    if coupling == "frobenius":
        return float(np.sqrt(sources))
    matrices = np.random.default_rng(0).standard_normal(
        (2000, max(channels, sources), dimensions)
    ) / np.sqrt(dimensions)
    return float(np.sqrt(np.mean(np.square(np.linalg.norm(matrices, 2, axis=(1, 2))))))
