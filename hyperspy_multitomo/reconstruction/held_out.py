# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts that are held out of a series, and how well a volume of the others predicts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.ndimage import uniform_filter1d

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.reconstruction.data_terms import DataTerms, TermModel
from hyperspy_multitomo.reconstruction.tilt_data import Noise, TiltData
from hyperspy_multitomo.tomography.functionals import DISCREPANCIES

# Slices that are looked at, those with the most signal side by side: enough that neighbours say
# what they say in the whole, and soon done.
SLICES = 32
# Expectations are not taken below this part of their mean: one count where a volume has none does
# not decide.
_LEAST = 1e-3
# A ray crosses the specimen where its signal is above this part of that of the bright ones, and the
# percentile of these.
_CROSSING, _BRIGHT = 0.3, 99
# Pixels whose mean says how noisy an image is.
_NEAR = 5
_SEED = 20261201


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Some slices of data terms, with a part of the counts held out.

    Attributes
    ----------
    terms : DataTerms
        Of the whole.
    share : float
        Part of the counts that is reconstructed.
    slices : tuple of int
        Pixels of the maps along the tilt axis, first and last + 1.
    arrays : dict
        What a solver is given: these slices with the counts that were kept.
    rest : array (channel, tilt, x, y)
        The counts that were held out.
    background : array (channel, tilt, x, y) or None
        Expected among `rest`.
    factor : int
        Pixels of `rest` along the edge of one of `arrays`.
    """

    terms: DataTerms
    share: float
    slices: tuple[int, int]
    arrays: Mapping
    rest: np.ndarray
    background: np.ndarray | None
    factor: int = 1

    @classmethod
    def of(
        cls,
        terms: DataTerms,
        share: float,
        mask=None,
        together: int = 1,
        slices: tuple[int, int] | None = None,
    ) -> HeldOut:
        """Return a part of the counts of terms held out.

        Parameters
        ----------
        terms : DataTerms
        share : float
            Part of the counts that is kept.
        mask : array (z, x[, y]), optional
        together : int, default 1
            Pixels that are to be binned: there are whole numbers of these.
        slices : (int, int), optional
            First and last + 1, in pixels of the maps; by default those with the most signal.

        Raises
        ------
        ValueError
            Where the data are no counts as recorded.
        """
        first, last = _most_signal(terms, together) if slices is None else slices
        kept, rest = _split(terms.data, terms.models[0], share)
        arrays = {"maps": _slices(kept, first, last), "initial": None}
        expected = _slices(terms.arrays["background"], first, last)
        background = arrays["background"] = None
        if expected is not None:
            arrays["background"] = expected * np.float32(share)
            background = expected * np.float32(1 - share)
        fine = first * terms.binning, last * terms.binning
        arrays["haadf"] = _slices(terms.arrays.get("haadf"), *fine)
        flat = mask is None or np.ndim(mask) == 2
        arrays["mask"] = mask if flat else _slices(mask, *fine)
        if not arrays["maps"].any():
            raise ValueError(
                f"there is no count in the {last - first} slices that would tell the weight; pass "
                "a number"
            )
        return cls(terms, share, (first, last), arrays, _slices(rest, first, last), background)

    def binned(self, terms: DataTerms, factor: int) -> HeldOut:
        """Return the same counts held out of a series that was binned.

        Parameters
        ----------
        terms : DataTerms
            Of the binned series.
        factor : int
            Pixels along each side of a new one.
        """
        if factor == 1:
            return self
        arrays = dict(self.arrays)
        for name in ("maps", "background"):
            if arrays[name] is not None:
                arrays[name] = block_sums(arrays[name], factor)
        if arrays["haadf"] is not None:
            arrays["haadf"] = block_sums(arrays["haadf"], factor) / np.float32(factor**2)
        first, last = (place // factor for place in self.slices)
        return replace(self, terms=terms, slices=(first, last), arrays=arrays, factor=factor)

    def models(self, models: tuple[TermModel, ...]) -> tuple[TermModel, ...]:
        """Return models of the whole as those of what was kept.

        Fewer counts are relatively noisier, and pull with less: their weights are as if they had
        been calibrated.
        """
        maps, *others = models
        kept = replace(
            maps,
            gains=self.share * _gains(maps),
            weight=np.asarray(maps.weight) / np.sqrt(self.share),
            profile=None,
        )
        return (kept, *(replace(one, profile=None) for one in others))

    def deviances(self, project: Callable, volume: np.ndarray) -> np.ndarray:
        """Return twice the discrepancy of the counts that were held out, at each ray.

        `volume` (channel, z, x, y) is in signal per unit length of all counts.
        """
        model = self.terms.models[0]
        gains = (1 - self.share) * _gains(model)
        expected = self._signal(project, volume)
        rest, background = self.rest, self.background
        if self.factor > 1:
            rest = rest[:, :, : expected.shape[2]]
            background = None if background is None else background[:, :, : expected.shape[2]]
        if background is not None:
            expected = expected + background
        means = expected.mean(axis=(1, 2, 3), keepdims=True)
        expected = np.maximum(expected, np.maximum(_LEAST * means, 1e-20))
        noise = np.asarray(self.noise, np.float32).reshape(-1, 1, 1, 1)
        live = np.atleast_2d(gains)[..., None, None] > 0
        return 2 * live * DISCREPANCIES[model.discrepancy].value(expected, rest, noise)

    def crossing(self, project: Callable, volume: np.ndarray) -> np.ndarray:
        """Return which rays (tilt, x, y) cross what there is in a volume, all channels together."""
        signal = self._signal(project, volume).sum(axis=0)
        return signal > _CROSSING * np.percentile(signal, _BRIGHT)

    def _signal(self, project: Callable, volume: np.ndarray) -> np.ndarray:
        """Return what a volume makes one expect of what was held out, without background."""
        model = self.terms.models[0]
        gains = np.atleast_2d((1 - self.share) * _gains(model))[..., None, None]
        expected = gains.astype(np.float32) * project(model.geometry)(volume[: len(self.rest)])
        if self.factor == 1:
            return expected
        return expected.repeat(self.factor, 2).repeat(self.factor, 3) / self.factor**2

    @property
    def noise(self):
        """Factor of the discrepancy of what was held out, as a statistic of one degree a ray."""
        model = self.terms.models[0]
        share = 1 if model.discrepancy == "kl" else 1 - self.share
        return np.asarray(model.weight) / share

    def describe(self) -> dict:
        """Return what was held out, for the history of a volume."""
        first, last = (place * self.terms.binning for place in self.slices)
        return {"slices": [first, last], "reconstructed_share": self.share}


def _gains(model: TermModel) -> np.ndarray:
    tilts = len(model.geometry.tilts)
    return np.ones(tilts) if model.gains is None else np.asarray(model.gains, float)


def _slices(array, first: int, last: int):
    return None if array is None else np.asarray(array[..., first:last])


def block_sums(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images (.., x, y) summed over squares of pixels; what fills none is left out."""
    nx, ny = (size // factor for size in images.shape[-2:])
    part = images[..., : nx * factor, : ny * factor]
    return part.reshape(*images.shape[:-2], nx, factor, ny, factor).sum(axis=(-3, -1))


def _most_signal(terms: DataTerms, together: int) -> tuple[int, int]:
    """Return the first and last + 1 of slices side by side that hold the most of all channels.

    They are whole numbers of `together`.
    """
    signals = np.maximum(terms.signals, 0)
    sums = signals.sum(axis=1, keepdims=True)
    signals = (signals / np.where(sums > 0, sums, 1)).sum(axis=0)
    units = signals.size // together
    signals = signals[: units * together].reshape(units, together).sum(axis=1)
    length = min(units, max(1, SLICES // terms.binning // together))
    sums = np.convolve(signals, np.ones(length), "valid")
    # As near to the middle as there is as much, to a thousandth.
    best = np.flatnonzero(sums >= sums.max() * (1 - 1e-3))
    first = int(best[np.abs(best + length / 2 - signals.size / 2).argmin()])
    return first * together, (first + length) * together


def part_of_counts(counts, share: float):
    """Return counts (channel, tilt, x, y), each kept with the probability `share`.

    They are independent of those that are left (binomial thinning of Poisson counts).
    """
    return _by_slice(counts, partial(_thinned, share=share))


def part_of_images(images, share: float, noise: Noise | TermModel):
    """Return a part of images (1, tilt, x, y) that is independent of what is left.

    Noise of the size of their own is added, which the rest then has less of.
    """
    return _by_slice(images, partial(_with_noise, share=share, model=noise))


def _split(data: TiltData, model: TermModel, share: float) -> tuple:
    """Return images as reconstructed, (channel, tilt, x, y): the part that is kept, and the rest.

    Parts of counts are independent of each other (binomial thinning of Poisson counts). Those of
    images are made so by adding noise of their own size to one and taking it off the other.
    """
    if data.channels:
        check_counts(data)
        kept = part_of_counts(data.raw, share)
    else:
        _check_images(data)
        kept = part_of_images(data.raw, share, model)
    rest = data.raw - kept
    if not data.channels and model.discrepancy == "kl":
        kept, rest = kept.clip(0), rest.clip(0)
    return data.placed(kept), data.placed(rest)


def _by_slice(images, part: Callable):
    """Return parts of images (channel, tilt, x, y), each slice with random numbers of its own.

    A lazy series then has the same parts as one in memory.
    """
    if is_lazy(images):
        whole = images.rechunk({0: -1, 1: -1, 2: -1})
        return whole.map_blocks(partial(_block_by_slice, part=part), dtype=np.float32)
    return _slices_from(np.asarray(images), 0, part)


def _block_by_slice(block: np.ndarray, part: Callable, block_info=None) -> np.ndarray:
    first = block_info[0]["array-location"][3][0] if block_info else 0
    return _slices_from(block, first, part)


def _slices_from(images: np.ndarray, first: int, part: Callable) -> np.ndarray:
    made = np.empty(images.shape, np.float32)
    for y in range(images.shape[3]):
        made[..., y] = part(images[..., y], np.random.default_rng([_SEED, first + y]))
    return made


def _thinned(counts: np.ndarray, rng: np.random.Generator, *, share: float) -> np.ndarray:
    """Return what remains of counts (channel, tilt, x), each kept with the probability `share`."""
    whole = np.rint(counts).astype(np.int64)
    kept = np.zeros(whole.shape, np.float32)
    some = whole > 0
    kept[some] = rng.binomial(whole[some], share)
    return kept


def _with_noise(
    images: np.ndarray, rng: np.random.Generator, *, share: float, model: Noise | TermModel
) -> np.ndarray:
    """Return a part of images (1, tilt, x) with noise that makes it independent of the rest."""
    variance = 1 / np.asarray(model.weight, float).reshape(-1, 1, 1)
    if model.discrepancy == "kl":
        variance = variance * np.maximum(uniform_filter1d(images.astype(float), _NEAR, axis=2), 0)
    added = np.sqrt(share * (1 - share) * variance) * rng.standard_normal(images.shape)
    return share * images + added


def check_counts(data: TiltData) -> None:
    """Raise an error where maps are no counts as recorded, of which some could be held out."""
    if why := why_no_counts(data):
        raise ValueError(
            f"'auto' holds out some of the counts, which needs counts as recorded, and these maps "
            f"are none: {why}. Pass the maps as counted, or a number"
        )


def why_no_counts(data: TiltData) -> str | None:
    """Return why maps are no counts as recorded, or None where they are."""
    if data.no_counts is not None:
        return data.no_counts
    if data.smoothed and data.gross is None:
        return "they were smoothed"
    sample = data.raw
    sample = np.asarray(sample[..., :: max(1, sample.shape[-1] // 8)])
    return None if are_whole(sample) else "they are not whole numbers"


def _check_images(data: TiltData) -> None:
    if data.smoothed:
        raise ValueError(
            "'auto' holds out some of the signal by its noise, which these images do not show any "
            "more: they were smoothed. Pass the images as recorded, or a number"
        )
