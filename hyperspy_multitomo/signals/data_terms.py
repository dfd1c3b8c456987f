# SPDX-License-Identifier: GPL-3.0-or-later
"""Series as the data terms of a variational problem: their arrays, their noise, and what a calibration looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.signals.arrays import as_recorded, check_pair, gains_of, projections
from hyperspy_multitomo.signals.metadata.recorded_counts import why_no_counts
from hyperspy_multitomo.signals.methods.plain_solvers import (
    background_of,
    check_counts,
    check_tilts,
    counts_of,
)
from hyperspy_multitomo.signals.noise import telling_blocks, typical_variances
from hyperspy_multitomo.tomography import DataTerm, TiltGeometry
from hyperspy_multitomo.tomography.calibration import slices_to_look_at
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain, typical_signal

DISCREPANCIES = {"poisson": "kl", "least_squares": "ls"}
# What needs counts, and the way out.
_COUNTS = "data_term='poisson'", "pass data_term='least_squares'"
# Slices that stand for a series in two dimensions, and tilts whose images say how noisy it is,
# spread evenly.
_SLICES, _TILTS = 32, 16


@dataclass(frozen=True)
class Modality:
    """One series as a data term, all but its arrays, `data` naming that of the projections.

    `weight` says how noisy the data are; `gain`, of images, is the signal of one noise-equivalent
    electron. `profile` is that of a `DataTerm`, for series whose slabs are to take the steps of the
    whole. `count` is the signal of one count, as of a `DataTerm`, where a calibration has changed
    the weight.
    """

    data: str
    geometry: TiltGeometry
    gains: np.ndarray | None
    discrepancy: str
    weight: np.ndarray | float
    gain: float | None = None
    first: int = 0
    mix: np.ndarray | None = None
    profile: np.ndarray | None = None
    count: np.ndarray | None = None


@dataclass(frozen=True)
class Measured:
    """A series, alone or with HAADF images, in the numerics' order.

    Attributes
    ----------
    series, haadf : TiltSeries
        The second is None for a series alone.
    arrays : dict
        ``"maps"``, ``"background"`` and ``"haadf"``, as `Problem.solve` takes them.
    modalities : tuple of Modality
        That of the maps, and of the HAADF.
    """

    series: object
    haadf: object
    arrays: dict
    modalities: tuple[Modality, ...]

    @property
    def binning(self) -> int:
        """Voxels along the edge of a pixel of the maps."""
        return self.modalities[0].geometry.binning

    def with_mix(self, mix: np.ndarray) -> Measured:
        """Return the same with HAADF images that see the sum of all channels times `mix`."""
        *others, haadf = self.modalities
        return replace(self, modalities=(*others, replace(haadf, first=0, mix=mix)))

    def weighted(self, terms) -> Measured:
        """Return the same with the weights of some terms."""
        modalities = tuple(
            replace(m, weight=t.weight, count=t.count)
            for m, t in zip(self.modalities, terms, strict=True)
        )
        return replace(self, modalities=modalities)

    def profiled(self) -> Measured:
        """Return the same with the profiles of lazy counts, read in one pass: slabs then iterate as all slices together do."""
        if not self.series._lazy:
            return self
        import dask

        images = {"maps": self.arrays["maps"]} | (
            {} if self.haadf is None else {"haadf": self.arrays["haadf"][None]}
        )
        (means,) = dask.compute(
            {
                m.data: images[m.data].mean(axis=3, dtype=np.float64)
                for m in self.modalities
                if m.discrepancy == "kl"
            }
        )
        return replace(
            self, modalities=tuple(replace(m, profile=means.get(m.data)) for m in self.modalities)
        )

    def terms(self, project: Callable, arrays: dict) -> list[DataTerm]:
        """Return the terms with some arrays; see `terms_of`."""
        return terms_of(self.modalities, project, arrays)

    @cached_property
    def some_slices(self) -> dict:
        """Some slices of the arrays, evenly spread, the same whether the series is lazy or not."""
        return self._at(_spread(self.arrays["maps"].shape[-1], _SLICES))

    @cached_property
    def telling_slices(self) -> dict:
        """The slices that `calibrate` looks at in three dimensions: few, and the brightest of what is not in these.

        One pass over the data, slab by slab where they are lazy.
        """
        signals = []
        for m in self.modalities:
            maps = m.data == "maps"
            sums = _along_x(self.arrays["maps"] if maps else self.arrays["haadf"][None])
            if maps and self.arrays["background"] is not None:
                sums = sums - _along_x(self.arrays["background"])
            if m.gains is not None:
                sums = sums * (np.atleast_2d(m.gains) > 0)[..., None]
            signals.append(
                sums.sum(axis=1).reshape(len(sums), -1, 1 if maps else self.binning).sum(axis=2)
            )
        return self._at(slices_to_look_at(np.concatenate(signals), self.binning))

    @property
    def brightest_slices(self) -> dict:
        """The same, and those that hold the largest value of each channel."""
        maps, haadf = self.arrays["maps"], self.arrays.get("haadf")
        largest = [np.asarray(maps.max(axis=(1, 2))).argmax(axis=1)]
        if haadf is not None:
            largest.append(np.asarray(haadf.max(axis=(0, 1))).argmax(keepdims=True) // self.binning)
        return self._at(np.unique(np.concatenate([_spread(maps.shape[-1], _SLICES), *largest])))

    def _at(self, slices: np.ndarray) -> dict:
        fine = (self.binning * slices[:, None] + np.arange(self.binning)).ravel()
        chosen = {name: fine if name == "haadf" else slices for name in self.arrays}
        return {
            name: None if array is None else np.asarray(array[..., chosen[name]])
            for name, array in self.arrays.items()
        }

    def check(self, poisson: bool, summed: bool) -> None:
        """Raise an error for data that are not finite; warn of channels without counts, and of a noise that is not known.

        With `summed` the HAADF is seen as a sum of the elements. Of a lazy series some slices are
        looked at.
        """
        series, arrays = self.series, self.some_slices if self.series._lazy else self.arrays
        check_finite(arrays["maps"], f"the {series.metadata.General.title} series")
        if self.haadf is not None:
            check_finite(arrays["haadf"], "the HAADF series")
        if not series.channels:
            return
        if poisson:
            check_counts(series, arrays["maps"], *_COUNTS)
        empty = [
            name
            for name, maps in zip(series.channels, arrays["maps"], strict=True)
            if not maps.any()
        ]
        where = "in the slices that were looked at" if series._lazy else "anywhere"
        if summed and len(empty) == len(series.channels):
            raise ValueError(
                f"there are no counts of {', '.join(empty)} {where}, so that nothing tells the "
                "elements in the HAADF apart; pass "
                "maps with counts, or reconstruct the HAADF alone"
            )
        if empty:
            warn(
                f"there are no counts of {', '.join(empty)} {where}, so that the volume of it is "
                "empty"
            )
        why = why_no_counts(series)
        if why is None and getattr(series, "gross", None) is not None:
            return
        recorded = as_recorded(series)
        recorded = np.asarray(recorded[..., _spread(recorded.shape[-1], _SLICES)])
        if why is not None or series.is_smoothed or (poisson and not are_whole(recorded)):
            warn(
                f"these maps are no counts as recorded{'' if why is None else f' ({why})'}, so "
                "that their noise is not known "
                "any more and the default weight may smooth too much or too little: pass the maps "
                "as counted, or choose weight= "
                "by eye"
            )


def terms_of(modalities: tuple[Modality, ...], project: Callable, arrays: dict) -> list[DataTerm]:
    """Return the terms with some arrays; modalities of one geometry share its projector, which `project` makes."""
    projectors: dict = {}
    terms = []
    for m in modalities:
        A = projectors[m.geometry] = projectors.get(m.geometry) or project(m.geometry)
        background = arrays["background"] if m.data == "maps" else None
        terms.append(
            DataTerm(
                A,
                arrays[m.data],
                m.first,
                m.mix,
                m.gains,
                background,
                m.discrepancy,
                m.weight,
                m.profile,
                m.count,
            )
        )
    return terms


def _along_x(images) -> np.ndarray:
    """Return the sums of images (channel, tilt, x, y), NumPy or dask, along x."""
    return np.asarray(images.sum(axis=2, dtype=np.float64))


@dataclass(frozen=True)
class Noise:
    """How noisy a series is: the discrepancy of its data term, its weight, and the signal of one noise-equivalent electron."""

    discrepancy: str
    weight: np.ndarray | float
    gain: float | None = None


def noise_of_maps(
    series, data_term: str | None, haadf_gain: float | None = None, background=None
) -> Noise:
    """Return the noise of the series that is reconstructed; see `RegularisedMaps.reconstruct_tv` for the parameters."""
    if not series.channels:
        expected = background_of(series, background, projections(series).shape)
        return _noise_of_images(series, data_term, haadf_gain, expected, "data_term")
    if data_term != "least_squares":
        return Noise("kl", np.ones(len(series.channels)))
    return Noise("ls", 1 / typical_variances(series, _spread(len(series.tilts), _TILTS)))


def noise_of_haadf(haadf, haadf_term: str | None = None, haadf_gain: float | None = None) -> Noise:
    """Return the noise of the HAADF beside maps."""
    return _noise_of_images(haadf, haadf_term, haadf_gain)


def measured(
    series, haadf, data_term, haadf_term, haadf_gain, background, depth, width
) -> Measured:
    """Return series as arrays and modalities; see `RegularisedMaps.reconstruct_tv` for the parameters.

    The noise is that of the whole series where one was cut out of it to be looked at, which has it
    as `noise_of_whole`.
    """
    binning = 1 if haadf is None else check_pair(series, haadf)
    for each in (series,) if haadf is None else (series, haadf):
        check_tilts(each)
    geometry = series.geometry(depth, width, binning=binning)
    if series.channels and data_term != "least_squares":
        data, expected, gains = counts_of(series, background, *_COUNTS)
    else:
        data, gains = projections(series), gains_of(series)
        expected = background_of(series, background, data.shape)
    noise = series.noise_of_whole or noise_of_maps(series, data_term, haadf_gain, background)
    arrays, modalities = (
        {"maps": data, "background": expected},
        [Modality("maps", geometry, gains, **vars(noise))],
    )
    if haadf is not None:
        arrays["haadf"] = projections(haadf)[0]
        noise = haadf.noise_of_whole or noise_of_haadf(haadf, haadf_term, haadf_gain)
        other = haadf.geometry(depth, width)
        modalities.append(
            Modality("haadf", other, gains_of(haadf), **vars(noise), first=len(series.channels))
        )
    if not series._lazy:
        arrays = {
            name: None if array is None else np.asarray(array) for name, array in arrays.items()
        }
    return Measured(series, haadf, arrays, tuple(modalities))


def _noise_of_images(
    haadf, term: str | None, gain: float | None, background=None, keyword="haadf_term"
) -> Noise:
    """Return the noise of HAADF images."""
    lowest = float(haadf.data.min())
    term = term or ("least_squares" if lowest < 0 else "poisson")
    if term == "poisson" and lowest < 0:
        raise ValueError(
            f"the HAADF series has negative values, down to {lowest:g}, and {keyword}='poisson' "
            "needs signal from 0 up: pass "
            f"{keyword}='least_squares'"
        )
    tilts = _spread(len(haadf.tilts), _TILTS)
    images = as_recorded(haadf)[0, tilts]
    blocks = telling_blocks(images.shape)
    images = np.asarray(images[..., blocks], dtype=np.float32)
    check_finite(images, "the HAADF series")
    besides = np.float32(0) if background is None else np.asarray(background[0, tilts][..., blocks])
    if gain is None and haadf.is_smoothed:
        warn(
            "these HAADF images were smoothed, which hides their noise, so that they may be "
            "trusted too much: pass the images as "
            "recorded, or haadf_gain="
        )
    gain = noise_equivalent_gain(images, besides) if gain is None else float(gain)
    if term == "poisson":
        return Noise(DISCREPANCIES[term], 1 / gain, gain)
    return Noise(
        DISCREPANCIES[term],
        1 / (gain * (typical_signal(images - besides) + float(besides.mean()))),
        gain,
    )


def _spread(count: int, most: int) -> np.ndarray:
    """Return `most` whole numbers below `count` at the most, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
