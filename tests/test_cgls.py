# SPDX-License-Identifier: GPL-3.0-or-later
"""CGLS: against SciPy's LSQR, the fused form against the textbook, independence of slices,
masks and gains."""

from itertools import islice

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import lsqr

from hyperspy_multitomo.tomography import TiltGeometry, cgls, projector, run
from hyperspy_multitomo.tomography.cgls import FusedCGLS, TextbookCGLS

TILTS = np.linspace(-70, 70, 11)
GAINS = np.where(np.arange(11) == 3, 0, np.linspace(0.5, 2, 11))
inside = np.indices((20, 24, 5)).sum(axis=0) < 30


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 22, (20, 24), 0.5, 0.3, np.linspace(-1, 1, 11)))


@pytest.fixture(scope="module")
def W(A):
    """The projection matrix in the CSR format, double precision."""
    return scipy.sparse.csr_array(
        A(np.eye(480, dtype=np.float32).reshape(20, 24, 480)).reshape(-1, 480).astype(np.float64)
    )


@pytest.fixture(scope="module")
def data(A):
    truth = np.zeros((2, 20, 24, 5), np.float32)
    truth[0, 5:14, 6:13] = 2.0
    truth[1, 8:16, 11:19] = 0.7
    return np.random.default_rng(0).poisson(20 * A(truth)).astype(np.float32) / 20


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def volume_of(iterates, iterations=8):
    return run(iterates, iterations).volume


def by_lsqr(W, b, iterations):
    """Return (voxel, y) after so many iterations of SciPy's LSQR on b (ray, y)."""
    never = dict(atol=0, btol=0, conlim=0)
    return np.stack(
        [lsqr(W, column, iter_lim=iterations, **never)[0] for column in b.astype(np.float64).T],
        axis=1,
    )


class TestAgainstLSQR:
    @pytest.mark.parametrize("backend", ["numba", "astra_cpu"])
    @pytest.mark.parametrize("iterations", [1, 4, 10])
    def test_same_iterate(self, A, W, data, backend, iterations):
        if backend == "astra_cpu":
            pytest.importorskip("astra", reason="astra-toolbox is not installed")
        volume = volume_of(cgls(projector(A.geometry, backend), data), iterations)
        for channel in range(2):
            expected = by_lsqr(W, data[channel].reshape(-1, 5), iterations)
            assert relative(volume[channel].reshape(480, 5), expected) < 1e-4

    def test_gains_mask_and_start(self, A, W, data):
        start = np.random.default_rng(1).random((2, 20, 24, 5), np.float32) * inside
        volume = volume_of(cgls(A, data, gains=GAINS, mask=inside, initial=start))
        scaled = scipy.sparse.diags_array(np.repeat(GAINS, 22)) @ W
        alive = np.repeat(GAINS > 0, 22)[:, None]
        for y in range(5):
            mask = inside[..., y].ravel()
            x0 = start[0, ..., y].reshape(480, 1).astype(np.float64)
            b = data[0, ..., y].reshape(-1, 1) * alive - scaled @ x0
            expected = x0 + by_lsqr(scaled @ scipy.sparse.diags_array(mask.astype(float)), b, 8)
            assert relative(volume[0, ..., y].ravel(), expected[:, 0]) < 1e-4

    @pytest.mark.slow
    def test_many_iterations_solve_the_equations(self, A, data):
        """There are more voxels than rays: rounding must not keep the residual from 0."""
        assert run(cgls(A, data[0, ..., :1]), 120).residuals["eds"][-1, 0] < 0.01


class TestFusedAgainstTextbook:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"gains": GAINS},
            {"mask": inside},
            {"mask": inside[..., 0]},
            {"initial": np.ones((2, 20, 24, 5))},
        ],
        ids=["plain", "gains", "mask", "flat mask", "start"],
    )
    def test_iterates(self, A, data, options):
        system = next(cgls(A, data, **options))._steps.system
        fused, textbook = FusedCGLS(system), TextbookCGLS(system)
        for _ in range(8):
            fused.advance()
            textbook.advance()
            assert relative(fused.volume, textbook.volume) < 1e-4
            np.testing.assert_allclose(fused.residuals["eds"], textbook.residuals["eds"], rtol=1e-4)
        fused.close()
        textbook.close()

    @pytest.mark.parametrize("slices", [1, 40, 100])
    def test_any_number_of_slices(self, A, slices):
        data = np.random.default_rng(2).random((2, 11, 22, slices), np.float32)
        system = next(cgls(A, data))._steps.system
        fused, textbook = FusedCGLS(system), TextbookCGLS(system)
        for steps in (fused, textbook):
            for _ in range(4):
                steps.advance()
            steps.close()
        assert relative(fused.volume, textbook.volume) < 1e-4

    def test_pixels_of_several_voxels(self):
        A = projector(TiltGeometry(TILTS, 11, (20, 24), 0.5, binning=2))
        truth = np.random.default_rng(3).random((20, 24, 6))
        result = run(cgls(A, A(truth)), 40)
        assert result.residuals["eds"][-1, 0] < 1e-3
        assert relative(A(result.volume), A(truth)) < 1e-3


class TestProperties:
    def test_residuals_are_those_of_the_volume_before(self, A, data):
        before = None
        for iterate in islice(cgls(A, data, gains=GAINS), 1, 8):
            if before is not None:
                live = (GAINS > 0)[:, None, None]
                residual = live * data - GAINS[:, None, None] * A(before)
                expected = [
                    np.linalg.norm(residual[c]) / np.linalg.norm(live * data[c]) for c in range(2)
                ]
                np.testing.assert_allclose(iterate.residuals["eds"], expected, rtol=1e-3)
            before = iterate.volume

    def test_slices_do_not_depend_on_each_other(self, A, data):
        whole = volume_of(cgls(A, data))
        assert relative(volume_of(cgls(A, data[..., 2:4])), whole[..., 2:4]) < 1e-4

    def test_semi_convergence(self, A):
        truth = np.zeros((20, 24, 5), np.float32)
        truth[6:13, 8:17] = 1.0
        noisy = np.random.default_rng(4).poisson(5 * A(truth)) / 5
        errors = [relative(iterate.volume, truth) for iterate in islice(cgls(A, noisy), 1, 25)]
        best = int(np.argmin(errors))
        assert 1 <= best <= 10
        assert errors[-1] > 1.3 * errors[best]

    def test_empty_data_and_perfect_starts_stay(self, A):
        truth = np.random.default_rng(5).random((20, 24, 2), np.float32)
        assert not volume_of(cgls(A, np.zeros((11, 22, 2)))).any()
        assert relative(volume_of(cgls(A, A(truth), initial=truth)), truth) < 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["numba", "astra_cpu"])
    def test_stays_when_the_krylov_space_is_exhausted(self, backend):
        """Four unknowns take four iterations;
        the rounding that is left must not be blown up by more of them."""
        if backend == "astra_cpu":
            pytest.importorskip("astra", reason="astra-toolbox is not installed")
        small = projector(TiltGeometry([-23, 78.75], 3, (2, 2)), backend)
        b = np.array([[[6.0], [3], [1]], [[7], [1], [4]]])
        matrix = small(np.eye(4, dtype=np.float32).reshape(2, 2, 4)).reshape(-1, 4)
        best = np.linalg.norm(
            b.ravel() - matrix @ np.linalg.lstsq(matrix, b.ravel(), rcond=1e-6)[0]
        )
        x = volume_of(cgls(small, b), 200)
        assert np.linalg.norm(b - small(x)) < 1.005 * best
        np.testing.assert_array_equal(x, volume_of(cgls(small, b), 20))

    def test_held_channels_stand_still(self, A, data):
        iterates = cgls(A, data)
        run(iterates, 3)
        iterate = next(iterates)
        iterate.hold([True, False])
        held = iterate.volume
        result = run(iterates, 3)
        np.testing.assert_array_equal(result.volume[0], held[0])
        np.testing.assert_allclose(
            result.volume[1], volume_of(cgls(A, data), 7)[1], rtol=1e-4, atol=1e-5
        )

    def test_threads_change_nothing(self, data):
        geometry = TiltGeometry(TILTS, 22, (20, 24), 0.5)
        one, many = (volume_of(cgls(projector(geometry, threads=n), data)) for n in (1, 4))
        assert relative(one, many) < 1e-4

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (dict(projections=np.zeros((2, 10, 22, 5))), "11 tilts"),
            (dict(gains=np.zeros(11)), "gain above 0"),
            (dict(initial=np.zeros((20, 24, 5))), "that of the volume"),
            (dict(mask=np.ones((24, 20), bool)), "expected"),
        ],
    )
    def test_bad_input(self, A, data, change, message):
        with pytest.raises(ValueError, match=message):
            cgls(A, **{"projections": data, **change})
