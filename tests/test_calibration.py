# SPDX-License-Identifier: GPL-3.0-or-later
"""Weight 1 is about the best weight, whatever is imaged and however; and what Huber's mu means."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scipy.special import xlogy

from hyperspy_multitomo.simulation import huber, schwartz, simulate, yuan, zhong
from hyperspy_multitomo.tomography import (
    DataTerm,
    TiltGeometry,
    calibrate,
    projector,
    run,
    variational,
)

PHANTOMS = {
    "zhong": (zhong, 80),
    "yuan": (yuan, 64),
    "huber": (huber, 80),
    "schwartz": (schwartz, 64),
}
WEIGHTS = (1 / 4, 1 / 2, 1, 2, 4)
# How counts, number of tilts and size change.
CONDITIONS = {
    "as they are": {},
    "a quarter of the counts": {"dose": 0.25},
    "four times the counts": {"dose": 4.0},
    "half of the tilts": {"every": 2},
    "twice the size": {"larger": 2},
}


def simulated(name, *, dose=1.0, every=1, larger=1, slices=1, seed=7):
    """Return the series of a phantom, and the terms of its maps and of its HAADF as one more
    channel."""
    phantom, size = PHANTOMS[name]
    phantom = phantom(size=size * larger, slices=slices)
    tilts = phantom.tilts[::every], phantom.haadf_tilts[::every]
    series = simulate(phantom, *tilts, dose=dose, seed=seed)
    maps, haadf = (
        projector(TiltGeometry(t, phantom.size, pixel_size=phantom.pixel_size)) for t in tilts
    )
    # Electrons, or no better than 1 % of noise.
    signal = max(
        1.0 if phantom.haadf_noise == "poisson" else 0.0,
        1e-4 * np.square(series.haadf).mean() / series.haadf.mean(),
    )
    terms = [
        DataTerm(maps, series.maps),
        DataTerm(haadf, series.haadf, first=len(phantom.elements), weight=1 / signal),
    ]
    return series, terms


def errors(found, series, weight, iterations=80):
    """Return the relative errors of the elements at a weight."""
    regulariser = replace(found.regulariser, weight=weight * found.regulariser.weight)
    volume = run(variational(found.terms, regulariser, found.scales), iterations).volume
    truth = series.truth
    return np.array(
        [np.linalg.norm(volume[e] - truth[e]) / np.linalg.norm(truth[e]) for e in range(len(truth))]
    )


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", PHANTOMS)
def test_best_weight_is_about_one(name, condition):
    series, terms = simulated(name, **CONDITIONS[condition])
    elements = len(series.elements)
    found = calibrate(terms, elements + 1, dimensions=2)
    weakest = int(np.argmin(series.maps.sum(axis=(1, 2, 3))))
    best = np.argmin([errors(found, series, weight)[weakest] for weight in WEIGHTS])
    assert WEIGHTS[best] in (1 / 2, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [("tv", "nuclear", 2), ("tgv", "frobenius", 2), ("tv", "uncoupled", 2), ("tv", "nuclear", 3)],
)
def test_best_weight_of_every_regulariser_is_about_one(method):
    kind, coupling, dimensions = method
    series, terms = simulated("huber", slices=1 if dimensions == 2 else 6)
    found = calibrate(terms, 4, kind=kind, coupling=coupling, dimensions=dimensions)
    best = np.argmin([errors(found, series, weight)[0] for weight in WEIGHTS])
    assert WEIGHTS[best] in (1 / 2, 1, 2)


@pytest.mark.slow
def test_the_sum_in_the_haadf_has_its_noise_too():
    series, (maps, haadf) = simulated("yuan")
    found = calibrate([maps, replace(haadf, first=0, mix=series.true_ratios)], 2, dimensions=2)
    assert found.flows.shape == (3,)
    best = np.argmin([errors(found, series, weight)[1] for weight in WEIGHTS])
    assert WEIGHTS[best] in (1 / 2, 1, 2)


class TestUnits:
    @pytest.mark.slow
    def test_other_units_of_length_and_signal_change_nothing(self):
        series, (maps, haadf) = simulated("yuan")
        tenth = projector(replace(maps.A.geometry, pixel_size=maps.A.geometry.pixel_size / 10))
        brighter = replace(haadf, A=tenth, data=5 * series.haadf, weight=haadf.weight / 5)
        one, other = (
            calibrate(terms, 3) for terms in ([maps, haadf], [replace(maps, A=tenth), brighter])
        )
        assert other.regulariser == one.regulariser
        np.testing.assert_allclose(other.scales, one.scales * [10, 10, 50], rtol=0.01)
        np.testing.assert_allclose(other.flows, one.flows, rtol=0.01)

    def test_ranges_are_those_of_the_object(self):
        series, terms = simulated("yuan", dose=10.0)
        found = calibrate(terms, 3, dimensions=2)
        largest = series.truth.max(axis=(1, 2, 3))
        assert ((0.5 * largest < found.scales[:2]) & (found.scales[:2] < 1.1 * largest)).all()

    @pytest.mark.slow
    def test_noise_flows_as_the_root_of_the_dose(self):
        few, many = (
            calibrate(simulated("yuan", dose=dose)[1], 3, dimensions=2).flows[:2]
            for dose in (1.0, 16.0)
        )
        np.testing.assert_allclose(many / few, 4, rtol=0.15)

    def test_slices_are_a_sample(self):
        _, (maps, haadf) = simulated("yuan")
        repeated = [
            replace(term, data=np.repeat(np.asarray(term.data), 24, axis=-1))
            for term in (maps, haadf)
        ]
        one, other = (calibrate(terms, 3, dimensions=2) for terms in ([maps, haadf], repeated))
        np.testing.assert_allclose(other.scales, one.scales, rtol=0.01)
        np.testing.assert_allclose(other.flows, one.flows, rtol=0.25)

    def test_twice_the_weight(self):
        terms = simulated("yuan")[1]
        one, two = (calibrate(terms, 3, weight=weight) for weight in (1.0, 2.0))
        assert two.regulariser.weight == pytest.approx(2 * one.regulariser.weight)

    def test_a_channel_without_counts(self):
        _, (maps, haadf) = simulated("yuan")
        data = np.array(maps.data)
        data[1] = 0
        found = calibrate([replace(maps, data=data), haadf], 3)
        assert np.isfinite(found.flows).all()
        assert (found.scales > 0).all()
        volume = run(variational(found.terms, found.regulariser, found.scales), 20).volume
        assert np.isfinite(volume).all()
        assert volume[1].max() < 1e-3 * volume[0].max()


class TestOddData:
    @pytest.mark.slow
    def test_a_channel_in_slices_that_are_not_looked_at(self):
        """One slice of 40 holds it: its noise is found there, as if it were everywhere."""
        A = projector(TiltGeometry(range(-60, 61, 10), 24))
        truth = np.zeros((2, 24, 24, 40), np.float32)
        truth[0, 8:16, 8:16] = truth[1, 8:16, 8:16, 15:16] = 2.0
        everywhere = np.stack([truth[0], np.repeat(truth[1, ..., 15:16], 40, axis=-1)])
        for background in (0.0, 1.0):
            counts = (
                np.random.default_rng(0).poisson(A(volume) + background)
                for volume in (truth, everywhere)
            )
            one, all_ = (
                calibrate([DataTerm(A, data, background=background)], 2) for data in counts
            )
            np.testing.assert_allclose(one.flows, all_.flows, rtol=0.4)
            np.testing.assert_allclose(one.scales, all_.scales, rtol=0.4)

    def test_nothing_but_background(self):
        """Where no counts are left above the background,
        the noise is still that of the background."""
        A = projector(TiltGeometry(range(-60, 61, 20), 12))
        data = np.random.default_rng(0).poisson(5.0, (1, 7, 12, 2))
        low, high = (
            calibrate([DataTerm(A, data, background=b)], 1).flows[0] for b in (50.0, 200.0)
        )
        assert low / high == pytest.approx(2, rel=0.01)

    def test_pixels_of_different_sizes(self):
        two, three = (
            projector(TiltGeometry(range(-60, 61, 20), 12 // b, binning=b)) for b in (2, 3)
        )
        truth = np.zeros((2, 12, 12, 30), np.float32)
        truth[:, 4:8, 4:8] = 6.0
        rng = np.random.default_rng(0)
        terms = [
            DataTerm(two, rng.poisson(two(truth[:1]))),
            DataTerm(three, rng.poisson(three(truth[1:])), first=1),
        ]
        found = calibrate(terms, 2)
        assert ((found.scales > 2.0) & (found.scales < 8.0)).all()

    def test_different_grids(self):
        A = projector(TiltGeometry(range(-60, 61, 20), 12))
        with pytest.raises(ValueError, match="different volume grids"):
            calibrate(
                [DataTerm(A, np.ones((1, 7, 12, 4))), DataTerm(A, np.ones((1, 7, 12, 3)), first=1)],
                2,
            )

    def test_weights_of_other_rows(self):
        A = projector(TiltGeometry(range(-60, 61, 20), 12))
        with pytest.raises(ValueError, match="2, one per row"):
            calibrate([DataTerm(A, np.ones((2, 7, 12, 4)), weight=[1.0, 2.0, 3.0])], 2)


class TestMu:
    @pytest.mark.parametrize("discrepancy", ["kl", "ls"])
    def test_a_channel_without_counts(self, discrepancy):
        A = projector(TiltGeometry(range(-60, 61, 20), 12))
        data = np.random.default_rng(0).poisson(5.0, (2, 7, 12, 2))
        data[1] = 0
        found = calibrate([DataTerm(A, data, discrepancy=discrepancy)], 2, mu=[1.0, 1.0])
        volume = run(variational(found.terms, found.regulariser, found.scales), 20).volume
        assert volume[0].max() > 0
        assert volume[1].max() == 0

    @pytest.mark.slow
    def test_conversion(self):
        """What is minimised is that of data scaled to 1 and unit pixels, as it was published."""
        _, (maps, _) = simulated("huber")
        data, mu = np.asarray(maps.data)[1:], np.array([0.004, 0.0005])
        found = calibrate([replace(maps, data=data)], 2, dimensions=2, mu=mu)
        ours = list(islice(variational(found.terms, found.regulariser, found.scales), 301))[-1]
        unit = projector(replace(maps.A.geometry, pixel_size=1.0))
        largest = data.max(axis=(1, 2, 3), keepdims=True)
        u = ours.volume * maps.A.geometry.pixel_size / largest
        expected, scaled = unit(u), data / largest
        published = np.sum(
            expected - scaled + xlogy(scaled, scaled / np.maximum(expected, 1e-20)), axis=(1, 2, 3)
        )
        slopes = np.stack(
            [np.diff(u, axis=axis, append=np.take(u, [-1], axis=axis)) for axis in (1, 2)]
        )
        published = unit.norm() * mu @ published + np.sqrt(np.square(slopes).sum(axis=(0, 1))).sum()
        assert ours.objective == pytest.approx(published, rel=1e-4)

    @pytest.mark.slow
    def test_larger_means_less_smoothing(self):
        _, (maps, _) = simulated("huber")
        rough = []
        for mu in (0.0005, 0.005):
            found = calibrate([maps], 3, dimensions=2, mu=[mu] * 3)
            volume = run(variational(found.terms, found.regulariser, found.scales), 100).volume
            rough.append(np.abs(np.diff(volume[1], axis=0)).sum())
        assert rough[1] > 1.5 * rough[0]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mu": [1.0]}, "expected 3 values"),
            ({"mu": [1.0, 0.0, 1.0]}, "above 0"),
            ({"mu": [1.0] * 3, "weight": 2.0}, "both say"),
            ({"weight": 0.0}, "above 0"),
            ({"weight": -1.0}, "above 0"),
        ],
    )
    def test_bad_parameters(self, arguments, message):
        terms = simulated("yuan")[1]
        with pytest.raises(ValueError, match=message):
            calibrate(terms, 3, **arguments)

    def test_not_for_a_sum(self):
        series, (maps, haadf) = simulated("yuan")
        with pytest.raises(ValueError, match="sum of channels"):
            calibrate([maps, replace(haadf, first=0, mix=series.true_ratios)], 2, mu=[1.0, 1.0])

    def test_every_channel_needs_data(self):
        _, (maps, _) = simulated("yuan")
        with pytest.raises(ValueError, match="data of its own"):
            calibrate([maps], 3)


def test_the_same_data_are_looked_at_once(monkeypatch):
    """Another weight or regulariser takes no second look;
    other data, gains or weights of the data do."""
    from hyperspy_multitomo.tomography import (
        DataTerm,
        TiltGeometry,
        calibrate,
        calibration,
        projector,
    )

    A = projector(TiltGeometry(range(-80, 81, 20), detector_width=20))
    truth = np.zeros((2, 20, 20, 3))
    truth[:, 6:13, 7:14] = 2.0
    counts = np.random.default_rng(5).poisson(A(truth)).astype(np.float32)
    looks, real = [], calibration._smoothed
    monkeypatch.setattr(calibration, "_smoothed", lambda *given: looks.append(1) or real(*given))
    first = calibrate([DataTerm(A, counts)], 2, dimensions=2)
    second = calibrate([DataTerm(A, counts)], 2, dimensions=2, weight=3.0, kind="tgv")
    assert len(looks) == 1
    np.testing.assert_array_equal(first.scales, second.scales)
    np.testing.assert_array_equal(first.flows, second.flows)
    assert second.regulariser.weight == pytest.approx(3 * first.regulariser.weight)
    second.scales[:] = 0  # what was returned is the caller's
    assert calibrate([DataTerm(A, counts)], 2, dimensions=2).scales.all()
    for other in (
        DataTerm(A, counts + 1),
        DataTerm(A, counts, gains=np.full(9, 2.0)),
        DataTerm(A, counts, weight=2.0),
    ):
        before = len(looks)
        calibrate([other], 2, dimensions=2)
        assert len(looks) == before + 1
