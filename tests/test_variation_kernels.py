# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels of TV, TGV and nuclear TV: the fused iteration against the textbook,
singular values against NumPy, interruption."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from singular_values import SPECTRA, matrices, relative

from hyperspy_multitomo.tomography import TiltGeometry, projector
from hyperspy_multitomo.tomography.cpu.kernels import kernel
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes
from hyperspy_multitomo.tomography.cpu.primal_dual_fused import FusedPrimalDual
from hyperspy_multitomo.tomography.cpu.simd import any_above, following, load, preceding, store
from hyperspy_multitomo.tomography.cpu.spectral_kernels import clip_singular_values, nuclear_norm
from hyperspy_multitomo.tomography.functionals import Nuclear
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY, TextbookPrimalDual
from hyperspy_multitomo.tomography.variational import DataTerm, Regulariser, variational

TILTS = np.linspace(-70, 70, 11)
SHAPE = (20, 24)
SCALES = [2.0, 0.7, 6.0]
GAINS = np.linspace(3, 6, 11)
DEAD = np.where(np.arange(11) == 3, 0, GAINS)
ITERATIONS = 20


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 22, SHAPE, 0.5, 0.3, np.linspace(-1, 1, 11)), "numba")


@pytest.fixture(scope="module")
def B():
    """The HAADF's own geometry on the volume grid of A."""
    return projector(TiltGeometry(np.arange(-75, 76, 10), 26, SHAPE, 0.5), "numba")


@pytest.fixture(scope="module")
def coarse():
    """Pixels of 2 x 2 voxels on the same volume grid."""
    return projector(TiltGeometry(TILTS, 12, SHAPE, 0.5, binning=2), "numba")


def truth(slices, channels=3):
    """Overlapping boxes that grow brighter along y, (channel, z, x, y)."""
    volume = np.zeros((3, *SHAPE, slices), np.float32)
    volume[0, 5:14, 6:13] = 2
    volume[1, 8:16, 11:19] = 0.7
    volume[2] = 2 * volume[0] + 2 * volume[1]
    return (volume * np.linspace(0.5, 1.5, slices, dtype=np.float32))[:channels]


def counts(A, volume, gains=5.0, background=0.0):
    means = np.broadcast_to(gains, len(TILTS))[:, None, None] * A(volume) + background
    return np.random.default_rng(0).poisson(means).astype(np.float32)


def maps_of(A, slices=5, channels=3, gains=GAINS, **more):
    volume = truth(slices * A.geometry.binning, channels)
    data = counts(A, volume, gains, more.get("background", 0.0))
    return DataTerm(A, data, gains=gains, **more)


def sum_of(B, mix, slices=5, **more):
    volume = truth(slices)
    factors = np.asarray(mix, np.float32)
    factors = factors if factors.ndim == 4 else factors[:, None, None, None]
    return DataTerm(B, B((factors * volume).sum(axis=0)), mix=mix, **more)


def system_of(terms, kind="tv", coupling="frobenius", dimensions=3, strength=2.0, **more):
    return next(
        variational(terms, Regulariser(strength, kind, coupling, dimensions), SCALES, **more)
    )._steps.system


def assert_alike(system):
    fused, textbook = FusedPrimalDual(system), TextbookPrimalDual(system)
    np.testing.assert_array_equal(fused.volume, textbook.volume)
    for _ in range(ITERATIONS):
        fused.advance()
        textbook.advance()
    assert relative(fused.volume, textbook.volume) < 3e-6
    u, w, p, q, s = textbook.state()
    found = fused.state()
    for name, mine, theirs in (
        ("u", found[0], u),
        ("w", found[1], w),
        ("p", found[2], p),
        ("q", found[3], q),
    ):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.shape == theirs.shape
            assert relative(mine, theirs) < 1e-5, name
    for mine, theirs in zip(found[4], s, strict=True):
        assert mine.shape == theirs.shape
        assert relative(mine, theirs) < 1e-5
    assert fused.residuals.keys() == textbook.residuals.keys()
    for name, value in textbook.residuals.items():
        np.testing.assert_allclose(fused.residuals[name], value, rtol=1e-5)
    assert fused.objective() == pytest.approx(textbook.objective(), rel=1e-5)
    fused.advance()  # measuring leaves the state as it was
    textbook.advance()
    assert relative(fused.volume, textbook.volume) < 3e-6
    fused.close()
    textbook.close()


inside = np.indices((*SHAPE, 5)).sum(axis=0) < 30
varied = np.random.default_rng(3).random((3, *SHAPE, 5)).astype(np.float32) + 0.5
background = np.random.default_rng(1).random((3, 11, 22, 5)).astype(np.float32)

CASES = {
    "plain": lambda A, B, coarse: system_of([maps_of(A, gains=np.ones(11))]),
    "least squares": lambda A, B, coarse: system_of(
        [maps_of(A, discrepancy="ls", weight=[0.5, 1.0, 2.0])]
    ),
    "weights": lambda A, B, coarse: system_of([maps_of(A, weight=[0.5, 1.0, 2.0])], kind="tgv"),
    "background": lambda A, B, coarse: system_of([maps_of(A, background=background)]),
    "dead tilt": lambda A, B, coarse: system_of(
        [maps_of(A, gains=DEAD, background=0.5)], coupling="nuclear"
    ),
    "mask": lambda A, B, coarse: system_of([maps_of(A, background=0.1)], kind="tgv", mask=inside),
    "flat mask": lambda A, B, coarse: system_of(
        [maps_of(A, background=0.1)], mask=inside[..., 0], initial=varied
    ),
    "signed": lambda A, B, coarse: system_of(
        [maps_of(A, discrepancy="ls")], nonnegative=False, kind="tgv", coupling="nuclear"
    ),
    "start": lambda A, B, coarse: system_of([maps_of(A)], initial=varied),
    "not over-relaxed": lambda A, B, coarse: system_of([maps_of(A)], kind="tgv", relaxation=1.0),
    "two groups": lambda A, B, coarse: system_of(
        [maps_of(A, slices=70, background=0.1)], kind="tgv", coupling="nuclear"
    ),
    "full groups": lambda A, B, coarse: system_of([maps_of(A, slices=128)], kind="tgv"),
    "one slice": lambda A, B, coarse: system_of([maps_of(A, slices=1)], kind="tgv"),
    "binning": lambda A, B, coarse: system_of(
        [maps_of(coarse, slices=9, background=0.3)], kind="tgv"
    ),
    "binning and groups": lambda A, B, coarse: system_of([maps_of(coarse, slices=35)]),
    "own tilts": lambda A, B, coarse: system_of(
        [
            maps_of(A, slices=70, channels=2),
            DataTerm(B, B(truth(70)[2:]), first=2, discrepancy="ls", weight=0.1),
        ],
        kind="tgv",
    ),
    "channel without data": lambda A, B, coarse: system_of(
        [maps_of(A, channels=2), sum_of(B, [1.0, 3.0, 0.5])]
    ),
    "sum": lambda A, B, coarse: system_of(
        [maps_of(A), sum_of(B, [1.0, 3.0, 0.0], weight=2.0, background=0.1)], kind="tgv"
    ),
    "sum first": lambda A, B, coarse: system_of([sum_of(B, [1.0, 3.0, 0.2]), maps_of(A)]),
    "sum of varied": lambda A, B, coarse: system_of(
        [maps_of(A), sum_of(B, varied, discrepancy="ls")], coupling="nuclear"
    ),
    "sum of groups": lambda A, B, coarse: system_of(
        [maps_of(A, slices=70), sum_of(B, [1.0, 3.0, 0.2], slices=70)]
    ),
}


class TestFusedAgainstTextbook:
    @pytest.mark.slow
    @pytest.mark.parametrize("dimensions", [2, 3])
    @pytest.mark.parametrize("coupling", ["uncoupled", "frobenius", "nuclear"])
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_regularisers(self, A, kind, coupling, dimensions):
        assert_alike(system_of([maps_of(A)], kind, coupling, dimensions))

    @pytest.mark.slow
    @pytest.mark.parametrize("case", CASES)
    def test_cases(self, A, B, coarse, case):
        assert_alike(CASES[case](A, B, coarse))

    @pytest.mark.parametrize("count", [8, 16])
    def test_few_lanes(self, A, monkeypatch, count):
        """The fewest lanes there are, with neighbours in three groups."""
        monkeypatch.setattr(
            "hyperspy_multitomo.tomography.cpu.primal_dual_fused.lane_count", lambda slices: count
        )
        assert_alike(system_of([maps_of(A, slices=2 * count + 5)], "tgv"))

    def test_one_thread(self):
        A = projector(TiltGeometry(TILTS, 22, SHAPE), "numba", threads=1)
        assert_alike(system_of([maps_of(A)], "tgv"))


class TestGoingOn:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_with_other_factors(self, A, B, kind):
        """The tangents of a power law: factors per voxel and a background come in,
        the volume starts where it is told to."""
        terms = [maps_of(A, slices=20), sum_of(B, [1.0, 3.0, 0.2], slices=20)]
        system = system_of(terms, kind)
        volume = np.random.default_rng(3).random((3, *SHAPE, 20)).astype(np.float32)
        other = system.with_mix(volume + 1, np.full_like(terms[1].data, 0.2)[None])
        fused, textbook = FusedPrimalDual(system), TextbookPrimalDual(system)
        for steps in (fused, textbook):
            for _ in range(5):
                steps.advance()
            u, w = steps.state()[:2]
            steps.continue_with(other, u * 0.9, None if w is None else w * 0.9)
            steps.advance()
            steps.continue_with(system)
            for _ in range(5):
                steps.advance()
        for mine, theirs in zip(fused.state()[:4], textbook.state()[:4], strict=True):
            assert mine is theirs is None or relative(mine, theirs) < 1e-5
        fused.close()


class TestSlices:
    def test_unused_lanes_stay_empty(self, A):
        fused = FusedPrimalDual(system_of([maps_of(A)], "tgv"))
        for _ in range(5):
            fused.advance()
        for lanes, count in ((fused._best, 8), (fused._ahead, 8)):
            assert lanes.dtype.itemsize == 4 * count
            assert lanes["lanes"].reshape(3, 20, 25, count)[:, :, :24, 5:].any() == np.False_
        fused.close()

    def test_two_dimensions_know_no_neighbours(self, A):
        """In two dimensions each slice is as if it were alone; in three it is not."""
        for dimensions, alike in ((2, True), (3, False)):
            many = system_of([maps_of(A, slices=20)], "tgv", dimensions=dimensions)
            term = replace(many.terms[0], data=np.ascontiguousarray(many.terms[0].data[..., 16:17]))
            # The step sizes follow the mean of all data: give the slice those of the whole.
            one = replace(many, terms=(term,), initial=many.initial[..., 16:17])
            one.__dict__["_data_steps"] = many._data_steps
            a, b = FusedPrimalDual(many), FusedPrimalDual(one)
            for _ in range(10):
                a.advance()
                b.advance()
            assert (relative(a.volume[..., 16:17], b.volume) < 1e-6) == alike


class TestMeasuring:
    def test_every_tenth(self, A):
        fused = FusedPrimalDual(system_of([maps_of(A)]))
        measured = []
        for _ in range(2 * MEASURED_EVERY):
            fused.advance()
            measured.append(fused.measured)
        assert [k + 1 for k, m in enumerate(measured) if m] == [MEASURED_EVERY, 2 * MEASURED_EVERY]
        fused.close()

    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_gap(self, A, kind):
        system = system_of([maps_of(A)], kind)
        fused, textbook = FusedPrimalDual(system), TextbookPrimalDual(system)
        for _ in range(10):
            fused.advance()
            textbook.advance()
        assert fused.gap() == pytest.approx(textbook.gap(), rel=1e-3)


class TestInterruption:
    def test_cancelled_before_it_begins(self, A):
        fused = FusedPrimalDual(system_of([maps_of(A)]))
        for _ in range(3):
            fused.advance()
        before = fused.volume
        fused.cancel()
        fused.advance()
        assert fused.iteration == 3
        np.testing.assert_array_equal(fused.volume, before)
        fused.close()

    @pytest.mark.slow
    def test_read_while_it_runs(self, A):
        """Every volume read is that of a whole iteration."""
        system = system_of([maps_of(A, slices=40)])
        fused, known = FusedPrimalDual(system), [FusedPrimalDual(system)]
        worker = threading.Thread(target=lambda: [fused.advance() for _ in range(12)])
        worker.start()
        seen = [fused.volume for _ in range(12)]
        worker.join()
        iterates = [known[0].volume]
        for _ in range(12):
            known[0].advance()
            iterates.append(known[0].volume)
        for volume in seen:
            assert any(np.array_equal(volume, iterate) for iterate in iterates)


@kernel
def _clipped(lanes, channels, components, radius):
    clip_singular_values(lanes, channels, components, radius)


@kernel
def _nuclear(lanes, channels, components, out):
    store(out, 0, nuclear_norm(lanes, channels, components))


class TestSingularValues:
    @pytest.mark.parametrize("unit", [1.0, 1e-12, 1e6])
    @pytest.mark.parametrize("spectrum", SPECTRA)
    @pytest.mark.parametrize("components", [2, 3])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
    def test_clipped(self, channels, components, spectrum, unit):
        field = matrices(channels, components, np.array(SPECTRA[spectrum])) * np.float32(unit)
        lanes = empty_lanes(channels * components, 16)
        lanes["lanes"][:] = field.reshape(16, -1).T
        _clipped(lanes, channels, components, np.float32(unit))
        expected = Nuclear.project(
            np.moveaxis(field.astype(np.float64), 0, 2)[..., None, None], unit
        )
        found = lanes["lanes"].reshape(channels, components, 16)
        largest = max(np.abs(field).max(), unit)
        np.testing.assert_allclose(found, expected[..., 0, 0], atol=3e-6 * largest, rtol=0)

    def test_random(self):
        """Thousands of matrices of entries without structure,
        to 1e-5 of the largest singular value."""
        rng = np.random.default_rng(1)
        for channels in (2, 3, 4):
            field = rng.standard_normal((500, 16, channels, 3)).astype(np.float32)
            for voxels in field:
                lanes = empty_lanes(channels * 3, 16)
                lanes["lanes"][:] = voxels.reshape(16, -1).T
                _clipped(lanes, channels, 3, np.float32(1))
                expected = Nuclear.project(
                    np.moveaxis(voxels.astype(np.float64), 0, 2)[..., None, None], 1.0
                )[..., 0, 0]
                np.testing.assert_allclose(
                    lanes["lanes"].reshape(channels, 3, 16), expected, atol=2e-5
                )

    @pytest.mark.parametrize("spectrum", SPECTRA)
    @pytest.mark.parametrize("components", [2, 3])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
    def test_norm(self, channels, components, spectrum):
        values = np.array(SPECTRA[spectrum])[: min(channels, components)]
        lanes, out = empty_lanes(channels * components, 16), empty_lanes(1, 16)
        lanes["lanes"][:] = matrices(channels, components, values).reshape(16, -1).T
        _nuclear(lanes, channels, components, out)
        np.testing.assert_allclose(out["lanes"][0], values.sum(), rtol=3e-6, atol=1e-6)


@kernel
def _shifted(lanes, out):
    store(out, 0, following(load(lanes, 0), load(lanes, 1)))
    store(out, 1, preceding(load(lanes, 0), load(lanes, 1)))
    store(out, 2, 2.0 * load(lanes, 0) - load(lanes, 1) / 4.0)
    return any_above(load(lanes, 0), 14.5), any_above(load(lanes, 0), 15.0)


class TestLanes:
    def test_neighbours_and_operators(self):
        lanes, out = empty_lanes(2, 16), empty_lanes(3, 16)
        lanes["lanes"][:] = np.arange(32).reshape(2, 16)
        assert _shifted(lanes, out) == (True, False)
        np.testing.assert_array_equal(out["lanes"][0], np.arange(1, 17))
        np.testing.assert_array_equal(out["lanes"][1], np.arange(15, 31))
        np.testing.assert_array_equal(out["lanes"][2], 2 * np.arange(16) - np.arange(16, 32) / 4)
