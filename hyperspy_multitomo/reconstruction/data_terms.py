# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series as data terms of a variational problem: arrays, noise, and slices to calibrate on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.reconstruction.noise import telling_blocks, typical_variances
from hyperspy_multitomo.reconstruction.tilt_data import Noise, TiltData
from hyperspy_multitomo.tomography import DataTerm, TiltGeometry
from hyperspy_multitomo.tomography.calibration import slices_to_look_at
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain, typical_signal

DISCREPANCIES = {"poisson": "kl", "least_squares": "ls"}
# What needs counts, and the way out.
_COUNTS = "data_term='poisson'", "pass data_term='least_squares'"
# Slices that stand for a series in two dimensions, and tilts whose images say how noisy it is,
# spread evenly.
_SLICES, _TILTS = 32, 16


@dataclass(frozen=True, eq=False)
class TermModel:
    """A data term without its arrays; it travels to workers.

    Attributes
    ----------
    data : {"maps", "haadf"}
        Which array holds the projections.
    geometry : TiltGeometry
    gains : array or None
    discrepancy : {"kl", "ls"}
    weight : array or float
        How noisy the data are.
    gain : float, optional
        Signal of one noise-equivalent electron, of images.
    first, mix, profile, count
        As in `tomography.DataTerm`.
    """

    data: str
    geometry: TiltGeometry
    gains: np.ndarray | None
    discrepancy: str
    weight: Any
    gain: float | None = None
    first: int = 0
    mix: np.ndarray | None = None
    profile: np.ndarray | None = None
    count: Any = None


@dataclass(frozen=True, eq=False)
class DataTerms:
    """A series, alone or with HAADF images, as data terms.

    Attributes
    ----------
    data, haadf : TiltData
        The second is None for a series alone.
    arrays : dict
        ``"maps"``, ``"background"`` and ``"haadf"``, as solvers take them.
    models : tuple of TermModel
        That of the maps, and of the HAADF.
    """

    data: TiltData
    haadf: TiltData | None
    arrays: dict
    models: tuple[TermModel, ...]

    @property
    def binning(self) -> int:
        """Voxels along the edge of a pixel of the maps."""
        return self.models[0].geometry.binning

    def with_mix(self, mix: np.ndarray) -> DataTerms:
        """Return the same with HAADF images that see the sum of all channels times `mix`."""
        *others, haadf = self.models
        return replace(self, models=(*others, replace(haadf, first=0, mix=mix)))

    def weighted(self, terms: Sequence[DataTerm]) -> DataTerms:
        """Return the same with the weights of calibrated terms."""
        models = tuple(
            replace(model, weight=term.weight, count=term.count)
            for model, term in zip(self.models, terms, strict=True)
        )
        return replace(self, models=models)

    def profiled(self) -> DataTerms:
        """Return the same with the profiles of lazy counts, read in one pass.

        Slabs then iterate as all slices together do.
        """
        if not self.data.lazy:
            return self
        import dask

        images = {"maps": self.arrays["maps"]}
        if self.haadf is not None:
            images["haadf"] = self.arrays["haadf"][None]
        counted = [model.data for model in self.models if model.discrepancy == "kl"]
        (means,) = dask.compute(
            {name: images[name].mean(axis=3, dtype=np.float64) for name in counted}
        )
        models = tuple(replace(model, profile=means.get(model.data)) for model in self.models)
        return replace(self, models=models)

    def terms(self, project: Callable, arrays: Mapping) -> list[DataTerm]:
        """Return the terms with some arrays; see `terms_of`."""
        return terms_of(self.models, project, arrays)

    @cached_property
    def some_slices(self) -> dict:
        """Some slices of the arrays, evenly spread, the same whether the series is lazy or not."""
        return self._at(_spread(self.arrays["maps"].shape[-1], _SLICES))

    @cached_property
    def signals(self) -> np.ndarray:
        """Signal of each row of data of all terms, (row, y), background taken off.

        One pass over the data, slab by slab where they are lazy.
        """
        signals = []
        for model in self.models:
            maps = model.data == "maps"
            sums = _along_x(self.arrays["maps"] if maps else self.arrays["haadf"][None])
            if maps and self.arrays["background"] is not None:
                sums = sums - _along_x(self.arrays["background"])
            if model.gains is not None:
                sums = sums * (np.atleast_2d(model.gains) > 0)[..., None]
            pixels = sums.sum(axis=1).reshape(len(sums), -1, 1 if maps else self.binning)
            signals.append(pixels.sum(axis=2))
        return np.concatenate(signals)

    @cached_property
    def telling_slices(self) -> dict:
        """Slices for a calibration in three dimensions: few, and the brightest of the others."""
        return self._at(slices_to_look_at(self.signals, self.binning))

    @property
    def brightest_slices(self) -> dict:
        """Some slices, and those that hold the largest value of each channel."""
        maps, haadf = self.arrays["maps"], self.arrays.get("haadf")
        largest = [np.asarray(maps.max(axis=(1, 2))).argmax(axis=1)]
        if haadf is not None:
            brightest = np.asarray(haadf.max(axis=(0, 1))).reshape(1, -1).argmax(axis=1)
            largest.append(brightest // self.binning)
        return self._at(np.unique(np.concatenate([_spread(maps.shape[-1], _SLICES), *largest])))

    def _at(self, slices: np.ndarray) -> dict:
        fine = (self.binning * slices[:, None] + np.arange(self.binning)).ravel()
        chosen = {name: fine if name == "haadf" else slices for name in self.arrays}
        return {
            name: None if array is None else np.asarray(array[..., chosen[name]])
            for name, array in self.arrays.items()
        }

    def check(self, poisson: bool, summed: bool) -> None:
        """Raise an error for bad data; warn of empty channels and of a noise that is not known.

        Parameters
        ----------
        poisson : bool
            Whether counts are needed.
        summed : bool
            Whether the HAADF is seen as a sum of the elements.

        Notes
        -----
        Of a lazy series some slices are looked at.
        """
        data, lazy = self.data, self.data.lazy
        arrays = self.some_slices if lazy else self.arrays
        check_finite(arrays["maps"], f"the {data.title} series")
        if self.haadf is not None:
            check_finite(arrays["haadf"], "the HAADF series")
        if not data.channels:
            return
        if poisson:
            data.check_counts(arrays["maps"], *_COUNTS)
        named = zip(data.channels, arrays["maps"], strict=True)
        empty = [name for name, maps in named if not maps.any()]
        where = "in the slices that were looked at" if lazy else "anywhere"
        if summed and len(empty) == len(data.channels):
            raise ValueError(
                f"there are no counts of {', '.join(empty)} {where}, so that nothing tells the "
                "elements in the HAADF apart; pass maps with counts, or reconstruct the HAADF alone"
            )
        if empty:
            warn(
                f"there are no counts of {', '.join(empty)} {where}, so that the volume of it is "
                "empty"
            )
        self._warn_of_unknown_noise(poisson)

    def _warn_of_unknown_noise(self, poisson: bool) -> None:
        """Warn where the maps are no counts as recorded."""
        data = self.data
        if data.no_counts is None and data.gross is not None:
            return
        recorded = data.recorded
        recorded = np.asarray(recorded[..., _spread(recorded.shape[-1], _SLICES)])
        unknown = data.no_counts is not None or data.smoothed
        if unknown or (poisson and not are_whole(recorded)):
            why = "" if data.no_counts is None else f" ({data.no_counts})"
            warn(
                f"these maps are no counts as recorded{why}, so that their noise is not known any "
                "more and the default weight may smooth too much or too little: pass the maps as "
                "counted, or choose weight= by eye"
            )


def terms_of(models: Sequence[TermModel], project: Callable, arrays: Mapping) -> list[DataTerm]:
    """Return the data terms of some arrays.

    Parameters
    ----------
    models : sequence of TermModel
        Those of one geometry share its projector.
    project : callable
        Makes a projector of a geometry.
    arrays : mapping
        As in `DataTerms`.
    """
    projectors: dict = {}
    terms = []
    for model in models:
        geometry = model.geometry
        A = projectors[geometry] = projectors.get(geometry) or project(geometry)
        terms.append(
            DataTerm(
                A,
                arrays[model.data],
                model.first,
                model.mix,
                model.gains,
                arrays["background"] if model.data == "maps" else None,
                model.discrepancy,
                model.weight,
                model.profile,
                model.count,
            )
        )
    return terms


def noise_of_maps(
    data: TiltData, data_term: str | None, haadf_gain: float | None = None, background=None
) -> Noise:
    """Return the noise of the series that is reconstructed; keywords as of `reconstruct_tv`."""
    if not data.channels:
        expected = data.whole_background(background, data.projections.shape)
        return _noise_of_images(data, data_term, haadf_gain, expected, "data_term")
    if data_term != "least_squares":
        return Noise("kl", np.ones(len(data.channels)))
    return Noise("ls", 1 / typical_variances(data, _spread(len(data.tilts), _TILTS)))


def noise_of_haadf(
    haadf: TiltData, haadf_term: str | None = None, haadf_gain: float | None = None
) -> Noise:
    """Return the noise of the HAADF beside maps."""
    return _noise_of_images(haadf, haadf_term, haadf_gain)


def data_terms(
    data: TiltData,
    haadf: TiltData | None,
    binning: int,
    *,
    data_term: str | None,
    haadf_term: str | None,
    haadf_gain: float | None,
    background,
    depth: Any,
    width: Any,
) -> DataTerms:
    """Return series as data terms; keywords as of `reconstruct_tv`.

    The noise is that of the whole series where one was cut out of it to be looked at.
    """
    for series in (data,) if haadf is None else (data, haadf):
        series.check_tilts()
    geometry = data.geometry(depth, width, binning=binning)
    if data.channels and data_term != "least_squares":
        images, expected, gains = data.counts(background, *_COUNTS)
    else:
        images, gains = data.projections, data.model_gains
        expected = data.whole_background(background, images.shape)
    noise = data.noise_of_whole or noise_of_maps(data, data_term, haadf_gain, background)
    arrays = {"maps": images, "background": expected}
    models = [TermModel("maps", geometry, gains, **vars(noise))]
    if haadf is not None:
        arrays["haadf"] = haadf.projections[0]
        noise = haadf.noise_of_whole or noise_of_haadf(haadf, haadf_term, haadf_gain)
        first = len(data.channels)
        other = haadf.geometry(depth, width)
        models.append(TermModel("haadf", other, haadf.model_gains, **vars(noise), first=first))
    if not data.lazy:
        arrays = {
            name: None if array is None else np.asarray(array) for name, array in arrays.items()
        }
    return DataTerms(data, haadf, arrays, tuple(models))


def _along_x(images) -> np.ndarray:
    """Return the sums of images (channel, tilt, x, y), NumPy or dask, along x."""
    return np.asarray(images.sum(axis=2, dtype=np.float64))


def _noise_of_images(
    images: TiltData, term: str | None, gain: float | None, background=None, keyword="haadf_term"
) -> Noise:
    """Return the noise of HAADF images."""
    lowest = float(images.recorded.min())
    term = term or ("least_squares" if lowest < 0 else "poisson")
    if term == "poisson" and lowest < 0:
        raise ValueError(
            f"the HAADF series has negative values, down to {lowest:g}, and {keyword}='poisson' "
            f"needs signal from 0 up: pass {keyword}='least_squares'"
        )
    tilts = _spread(len(images.tilts), _TILTS)
    recorded = images.recorded[0, tilts]
    blocks = telling_blocks(recorded.shape)
    recorded = np.asarray(recorded[..., blocks], dtype=np.float32)
    check_finite(recorded, "the HAADF series")
    besides: Any = np.float32(0)
    if background is not None:
        besides = np.asarray(background[0, tilts][..., blocks])
    if gain is None and images.smoothed:
        warn(
            "these HAADF images were smoothed, which hides their noise, so that they may be "
            "trusted too much: pass the images as recorded, or haadf_gain="
        )
    gain = noise_equivalent_gain(recorded, besides) if gain is None else float(gain)
    if term == "poisson":
        return Noise(DISCREPANCIES[term], 1 / gain, gain)
    signal = typical_signal(recorded - besides) + float(besides.mean())
    return Noise(DISCREPANCIES[term], 1 / (gain * signal), gain)


def _spread(count: int, most: int) -> np.ndarray:
    """Return `most` whole numbers below `count` at the most, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
