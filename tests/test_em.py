# SPDX-License-Identifier: GPL-3.0-or-later
"""EM: the fused form against the textbook, likelihood, counts, background, gains,
and data that have nothing in them."""

from itertools import islice

import numpy as np
import pytest

from hyperspy_multitomo.tomography import TiltGeometry, counting_noise, em, projector, run
from hyperspy_multitomo.tomography.em import FusedEM, TextbookEM

TILTS = np.linspace(-70, 70, 11)
GAINS = np.linspace(0.5, 2, 11)


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 22, (20, 24), 0.5, 0.3, np.linspace(-1, 1, 11)))


@pytest.fixture(scope="module")
def truth():
    volume = np.zeros((2, 20, 24, 5), np.float32)
    volume[0, 5:14, 6:13] = 2.0
    volume[1, 8:16, 11:19] = 0.7
    return volume


@pytest.fixture(scope="module")
def background():
    return np.random.default_rng(1).random((2, 11, 22, 5), np.float32)


@pytest.fixture(scope="module")
def counts(A, truth, background):
    return (
        np.random.default_rng(0)
        .poisson(GAINS[:, None, None] * A(truth) + background)
        .astype(np.float32)
    )


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def deviance(y, m):
    """2 sum [y log(y/m) - y + m] per ray, (channel,), in double precision."""
    y, m = y.astype(np.float64), m.astype(np.float64)
    terms = np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / m), 0) - y + m
    return 2 * terms.mean(axis=(1, 2, 3))


inside = np.indices((20, 24, 5)).sum(axis=0) < 30

CASES = {
    "plain": {},
    "background": {"background": "given"},
    "gains": {"gains": GAINS, "background": "given"},
    "dead tilt": {"gains": np.where(np.arange(11) == 3, 0, GAINS), "background": 0.5},
    "mask": {"mask": inside, "background": "given"},
    "flat mask": {"mask": inside[..., 0]},
    "start": {"initial": np.random.default_rng(2).random((2, 20, 24, 5))},
}


class TestFusedAgainstTextbook:
    @pytest.mark.parametrize("case", CASES)
    def test_iterates(self, A, counts, background, case):
        options = {k: background if isinstance(v, str) else v for k, v in CASES[case].items()}
        system = next(em(A, counts, **options))._steps.system
        fused, textbook = FusedEM(system), TextbookEM(system)
        np.testing.assert_array_equal(fused.volume, textbook.volume)
        for _ in range(6):
            fused.advance()
            textbook.advance()
            assert relative(fused.volume, textbook.volume) < 3e-6
            for name in ("eds", "deviance"):
                np.testing.assert_allclose(
                    fused.residuals[name], textbook.residuals[name], rtol=1e-5
                )
        fused.close()
        textbook.close()

    @pytest.mark.parametrize("slices", [1, 70])
    def test_any_number_of_slices(self, A, slices):
        y = np.random.default_rng(3).poisson(2.0, (1, 11, 22, slices))
        system = next(em(A, y))._steps.system
        fused, textbook = FusedEM(system), TextbookEM(system)
        for steps in (fused, textbook):
            steps.advance()
            steps.advance()
            steps.close()
        assert relative(fused.volume, textbook.volume) < 3e-6

    def test_other_backend_and_pixels_of_several_voxels(self, A, counts):
        pytest.importorskip("astra", reason="astra-toolbox is not installed")
        reference = run(em(projector(A.geometry, "astra_cpu"), counts), 5).volume
        assert relative(run(em(A, counts), 5).volume, reference) < 1e-4
        binned = projector(TiltGeometry(TILTS, 11, (20, 24), 0.5, binning=2))
        volume = run(em(binned, binned(np.ones((20, 24, 4)))), 200).volume
        assert relative(binned(volume), binned(np.ones((20, 24, 4)))) < 0.01


class TestLikelihood:
    def test_textbook_formula(self, A, counts, background):
        """x <- x/(A^T 1) A^T (y/(A x + b)), in double precision with the whole matrix."""
        voxels = 480
        W = (
            A(np.eye(voxels, dtype=np.float32).reshape(20, 24, voxels))
            .reshape(-1, voxels)
            .astype(np.float64)
        )
        W = np.repeat(GAINS, 22)[:, None] * W
        iterates = em(A, counts, background=background, gains=GAINS)
        x = next(iterates).volume[0].reshape(voxels, 5).astype(np.float64)
        y, b = (
            counts[0].reshape(-1, 5).astype(np.float64),
            background[0].reshape(-1, 5).astype(np.float64),
        )
        sums = W.sum(axis=0)[:, None]
        for iterate in islice(iterates, 5):
            x = np.where(sums > 1e-6, x / np.maximum(sums, 1e-6) * (W.T @ (y / (W @ x + b))), 0)
            assert relative(iterate.volume[0].reshape(voxels, 5), x) < 1e-5

    def test_deviance_never_rises_and_is_that_of_the_volume_before(self, A, counts, background):
        before, last = None, np.inf
        for iterate in islice(em(A, counts, background=background, gains=GAINS), 1, 20):
            value = iterate.residuals["deviance"]
            assert np.all(value <= last * (1 + 1e-6))
            if before is not None:
                expected = deviance(counts, GAINS[:, None, None] * A(before) + background)
                np.testing.assert_allclose(value, expected, rtol=1e-4)
            before, last = iterate.volume, value

    def test_counts_are_kept_without_a_background(self, A, counts):
        """With weights A^T 1 every iterate explains as many counts as there are,
        where all rays meet the volume."""
        y = counts * (A.row_sums() > 0.5)[..., None]
        volume = run(em(A, y), 3).volume
        np.testing.assert_allclose(A(volume).sum(axis=(1, 2)), y.sum(axis=(1, 2)), rtol=2e-3)

    def test_volume_is_net_of_background_and_gains(self, A, truth):
        expected = 50 * GAINS[:, None, None] * A(truth) + 20
        volume = run(em(A, expected, background=20, gains=50 * GAINS), 300).volume
        assert relative(A(volume), A(truth)) < 0.02
        assert volume[0, 8:11, 8:11].mean() == pytest.approx(2.0, rel=0.05)

    def test_scaling_counts_and_background_scales_the_volume(self, A, counts):
        once = run(em(A, counts, background=0.3), 8).volume
        np.testing.assert_allclose(
            run(em(A, 16 * counts, background=4.8), 8).volume, 16 * once, rtol=2e-4, atol=1e-5
        )


class TestNothing:
    def test_no_counts_give_an_empty_volume(self, A):
        for background in (None, 1.0):
            result = run(em(A, np.zeros((1, 11, 22, 2)), background=background), 30)
            assert np.isfinite(result.volume).all()
            assert result.volume.max() < 1e-3
            assert np.isfinite(result.residuals["deviance"]).all()

    def test_counts_where_nothing_can_be_move_nothing_else(self, A):
        """Rays through masked voxels alone expect 0 counts."""
        mask = np.zeros((20, 24), bool)
        mask[8:12, 10:14] = True
        y = np.full((1, 11, 22, 1), 3.0)
        volume = run(em(A, y, mask=mask), 20).volume
        assert np.isfinite(volume).all()
        assert not volume[:, ~mask].any()
        assert volume[:, mask].min() > 0

    def test_voxels_without_rays_are_empty(self):
        A = projector(TiltGeometry([-20, 0, 20], 10, (10, 40)))
        volume = run(em(A, np.ones((1, 3, 10, 1))), 2).volume
        assert not volume[:, :, 0].any()
        assert volume[:, 5, 20] > 0

    def test_slices_do_not_depend_on_each_other(self, A, counts):
        whole = run(em(A, counts, background=0.2), 6).volume
        np.testing.assert_allclose(
            run(em(A, counts[..., 2:4], background=0.2), 6).volume,
            whole[..., 2:4],
            rtol=1e-5,
            atol=1e-6,
        )

    def test_held_channels_stand_still(self, A, counts):
        iterates = em(A, counts)
        run(iterates, 3)
        iterate = next(iterates)
        iterate.hold([True, False])
        held = iterate.volume
        result = run(iterates, 3)
        np.testing.assert_array_equal(result.volume[0], held[0])
        assert not np.allclose(result.volume[1], held[1])
        assert result.channel_iterations.tolist() == [4, 7]

    def test_discrepancy(self, A, counts, background):
        result = run(
            em(A, counts, background=background, gains=GAINS), 100, noise=counting_noise(counts)
        )
        assert result.stopped_by == "discrepancy"
        assert 1 < result.iterations < 50

    def test_input_is_left_alone(self, A, counts, background):
        kept = counts.copy(), background.copy()
        run(em(A, counts, background=background, gains=np.arange(11)), 2)
        np.testing.assert_array_equal(counts, kept[0])
        np.testing.assert_array_equal(background, kept[1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(counts=np.full((1, 11, 22, 5), -1.0)), ValueError, "gross counts"),
        (dict(counts=np.zeros((1, 11, 21, 5))), ValueError, "22 detector pixels"),
        (dict(background=-1.0), ValueError, "from 0 up"),
        (dict(background=np.zeros((3, 3))), ValueError, "what broadcasts to"),
        (dict(background=np.nan), ValueError, "NaN or infinite"),
        (dict(initial=np.full((2, 20, 24, 5), -1.0)), ValueError, "start from 0 up"),
        (dict(gains=np.zeros(11)), ValueError, "gain above 0"),
    ],
)
def test_bad_input(A, counts, change, error, message):
    with pytest.raises(error, match=message):
        em(A, **{"counts": counts, **change})


def test_counts_of_rays_along_the_edge_do_not_end_in_the_volume():
    # One ray is outside of the volume for the projector and inside for its adjoint, by a rounding
    # of 1e-8 of a pixel.
    tilts, shifts = (
        (41.25, 71.25, 45.0, 90.0, 26.0, 0.0),
        (0.0025, -0.778, 0.0, 0.0, 3.9999999999999996, 0.68),
    )
    A = projector(TiltGeometry(tilts, 12, (10, 3), 5.4888301590775646, 0.0, shifts))
    counts = np.random.default_rng(0).poisson(3.0, (1, 6, 12, 7)).astype(np.float32)
    result = run(em(A, counts), 20)
    assert result.volume.max() < 10
    # Counts beside the volume say nothing of it.
    beside = (A.row_sums() == 0)[None, ..., None]
    assert beside.any()
    np.testing.assert_array_equal(
        run(em(A, np.where(beside, 100, counts)), 20).volume, result.volume
    )
