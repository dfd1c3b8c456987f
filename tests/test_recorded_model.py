# SPDX-License-Identifier: GPL-3.0-or-later
"""Projections at the pixels that were recorded, and series of other counts."""

from dataclasses import replace

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.reconstruction.recorded_model import RecordedModel
from hyperspy_multitomo.signals.arrays import tilt_data
from hyperspy_multitomo.signals.methods.other_counts import with_counts
from hyperspy_multitomo.signals.methods.rerun import verified_call
from hyperspy_multitomo.tomography import projector

TILTS = np.linspace(-60, 60, 7)


def _ball(size=24, slices=12):
    z, x, y = np.ogrid[:size, :size, :slices]
    centre = (size - 1) / 2
    return (
        (z - centre) ** 2 + (x - centre) ** 2 + (2 * (y - (slices - 1) / 2)) ** 2 < 0.12 * size**2
    ).astype(np.float32)


def _series(volumes, alignment=None, rng=None):
    """Return maps whose recorded images are those of volumes (element, z, x, y), moved away."""
    names = ["Au", "Ag"][: len(volumes)]
    size, slices = volumes.shape[2:]
    maps = {name: np.zeros((7, slices, size), np.float32) for name in names}
    series = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS)
    series.alignment = alignment
    images = projector(series.geometry())(volumes)
    if alignment is not None:
        images = alignment.apply(images, for_geometry=True, fill="edge", backward=True)
    images = images if rng is None else rng.poisson(images).astype(float)
    series.data[...] = images.transpose(1, 0, 3, 2)
    return series


@pytest.mark.parametrize(
    "alignment",
    [
        None,
        Alignment([1.5, 0, -2, 0.3, 0, 1, 0], [0, 1.25, -2, 0, 3, 0.5, 0]),
        Alignment([1.5, 0, -2, 0.3, 0, 1, 0], np.zeros(7), axis_offset=1.5, rotation=4.0),
    ],
)
def test_expectation_is_where_it_was_recorded(alignment):
    volumes = np.stack([_ball(), 0.5 * _ball()])
    series = _series(volumes, alignment)
    data = tilt_data(series)
    model = RecordedModel.of(
        _whole(data), series.geometry(), background=np.full((7, 2), 0.25, np.float32)
    )
    expected = model.expected(volumes) - 0.25
    assert np.allclose(expected, data.raw, atol=1e-4)
    assert expected.max() > 5


def _whole(data):
    """Return data with whole numbers of counts, which the model asks for."""
    return replace(data, recorded=np.rint(data.recorded))


def test_sensitivity_is_gains_times_share_times_transmission():
    volumes = np.stack([_ball(), 0.5 * _ball()])
    series = _series(volumes, rng=np.random.default_rng(0))
    series.gains = np.linspace(0.5, 1.5, 7)
    transmission = np.full((7, 2, 12, 24), 0.5)
    transmission[..., :12] = 0.25
    series.transmission = transmission
    model = RecordedModel.of(tilt_data(series), series.geometry())
    expected = model.expected(volumes)
    plain = projector(series.geometry())(volumes)
    factor = (
        np.linspace(0.5, 1.5, 7)[:, None, None] * np.where(np.arange(24) < 12, 0.25, 0.5)[:, None]
    )
    assert np.allclose(expected, factor * plain, rtol=1e-5)


def test_smoothed_maps_are_refused():
    series = _series(np.stack([_ball()]), rng=np.random.default_rng(0))
    series.data += 0.5
    with pytest.raises(ValueError, match="not whole numbers"):
        RecordedModel.of(tilt_data(series), series.geometry())


class TestOtherCounts:
    def test_series_of_its_own_counts_is_the_same(self):
        series = _series(np.stack([_ball(), _ball()]), rng=np.random.default_rng(0))
        series.gains = np.linspace(1, 2, 7)
        same = with_counts(series, tilt_data(series).raw)
        assert np.array_equal(same.data, series.data)
        assert np.array_equal(same.gains, series.gains)
        volume = series.reconstruct_sirt(3, depth=None, show_progressbar=False)
        verified_call(volume, eds=same)
        other = with_counts(series, tilt_data(series).raw + 1)
        with pytest.raises(ValueError, match="images of the maps"):
            verified_call(volume, eds=other)

    @pytest.mark.parametrize("part", ["whole", "cropped", "binned", "some tilts", "lazy"])
    def test_gross_counts_come_back(self, part):
        energy = 0.01 * np.arange(1, 1024)
        line = np.exp(-(((energy - 6.4039) / 0.057) ** 2) / 2) + 0.05
        rng = np.random.default_rng(0)
        axes = [{"name": "tilt", "axis": [-20.0, 0.0, 20.0]}]
        axes += [{"name": "y", "size": 8}, {"name": "x", "size": 12}]
        axes += [
            {"name": "Energy", "size": energy.size, "offset": 0.01, "scale": 0.01, "units": "keV"}
        ]
        spectra = hs.signals.Signal1D(rng.poisson(line, (3, 8, 12, energy.size)), axes=axes)
        spectra.set_signal_type("EDS_TEM")
        spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
        maps = mt.elemental_maps(spectra, elements=["Fe"], also=[], show_progressbar=False)
        made = {
            "whole": lambda: maps,
            "cropped": lambda: maps.isig[2:10, 2:],
            "binned": lambda: maps.bin(2),
            "some tilts": lambda: maps.inav[:, 1:],
            "lazy": maps.as_lazy,
        }[part]()
        before = tilt_data(made)
        counts = np.asarray(before.raw) + 3
        background = np.full(counts.shape, 0.5, np.float32)
        other = with_counts(made, counts, background)
        after = tilt_data(other)
        assert not other._lazy
        assert np.allclose(after.raw, counts, rtol=1e-6)
        assert np.allclose(after.background, background, rtol=1e-6)
        share = np.asarray(before.window_share)[..., None, None]
        assert np.allclose(after.recorded, (counts - 0.5) / share, rtol=1e-5)
        assert np.array_equal(other.tilts, made.tilts)
