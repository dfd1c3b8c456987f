# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT and HEBT: the fused form against the textbook, limits and equivalences of the coefficients,
constraints, interruption."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from interrupts import interrupt_after

from hyperspy_multitomo.tomography import TiltGeometry, em, hebt, projector, run, sirt
from hyperspy_multitomo.tomography.cpu.stacked import FusedSteps
from hyperspy_multitomo.tomography.steps import TextbookSteps
from hyperspy_multitomo.tomography.system import System, hebt_coefficients, sirt_coefficients

TILTS = np.linspace(-70, 70, 11)
RATIOS = [3.0, 50.0]


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 22, (20, 24), 0.5, 0.3, np.linspace(-1, 1, 11)))


@pytest.fixture(scope="module")
def B():
    """The HAADF's own geometry on the volume grid of A."""
    return projector(TiltGeometry(np.arange(-75, 76, 10), 26, (20, 24), 0.5))


@pytest.fixture(scope="module")
def truth():
    """Two elements, (element, z, x, y): overlapping boxes, counts per nm."""
    volume = np.zeros((2, 20, 24, 5), np.float32)
    volume[0, 5:14, 6:13] = 2.0
    volume[1, 8:16, 11:19] = 0.7
    volume[0] *= np.linspace(0.5, 1.5, 5)
    return volume


@pytest.fixture(scope="module")
def maps(A, truth):
    return np.random.default_rng(0).poisson(20 * A(truth)).astype(np.float32) / 20


def haadf_of(A, truth, ratios=RATIOS):
    return A(np.tensordot(np.float32(ratios), truth, 1))


def volume_of(iterates, iterations=8):
    return run(iterates, iterations).volume


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def matrix(A):
    """W as an array (tilt and x, z and x)."""
    voxels = int(np.prod(A.domain_shape))
    return (
        A(np.eye(voxels, dtype=np.float32).reshape(*A.domain_shape, voxels))
        .reshape(-1, voxels)
        .astype(np.float64)
    )


def stacked_sirt(matrix, data, iterations, row_weights=None):
    """SIRT as it is written down: x <- max(0, x + C A^T R (b - A x)), for a dense A."""
    rows = matrix.sum(axis=1)
    R = np.divide(1, rows, out=np.zeros_like(rows), where=rows > 1e-9)
    if row_weights is not None:
        R = R * row_weights
    columns = (matrix * (R * rows)[:, None]).sum(axis=0)
    C = np.divide(1, columns, out=np.zeros_like(columns), where=columns > 1e-9)
    x = np.zeros((matrix.shape[1], data.shape[1]))
    for _ in range(iterations):
        x = np.maximum(0, x + C[:, None] * (matrix.T @ (R[:, None] * (data - matrix @ x))))
    return x


class TestAgainstDenseAlgebra:
    def test_sirt(self, A, maps):
        expected = stacked_sirt(matrix(A), maps[0].reshape(-1, 5), 8).reshape(20, 24, 5)
        assert relative(volume_of(sirt(A, maps[0])), expected) < 1e-5

    def test_sirt_with_gains_is_that_of_the_scaled_matrix(self, A, maps):
        gains = np.linspace(0.5, 2, 11)
        scaled = np.repeat(gains, 22)[:, None] * matrix(A)
        expected = stacked_sirt(scaled, maps[0].reshape(-1, 5), 8).reshape(20, 24, 5)
        assert relative(volume_of(sirt(A, maps[0], gains=gains)), expected) < 1e-5

    @pytest.mark.slow
    @pytest.mark.parametrize("rest", [False, True])
    @pytest.mark.parametrize("weighting", ["sirt", "squared"])
    @pytest.mark.parametrize("own_tilts", [False, True])
    def test_hebt_is_sirt_on_the_stacked_system(
        self, A, B, truth, maps, weighting, own_tilts, rest
    ):
        """Zhong 2017, eqs. 9-11, in the quantities r_e x_e."""
        alpha, H = 0.6, B if own_tilts else A
        gains, haadf_gains = np.linspace(0.8, 1.2, 11), np.linspace(1.1, 0.7, H.range_shape[0])
        haadf = haadf_of(H, truth)
        W = np.repeat(gains, 22)[:, None] * matrix(A)
        Wh = np.repeat(haadf_gains, H.range_shape[1])[:, None] * matrix(H)
        none = np.zeros_like(W)
        blocks = [[W, none], [none, W], [Wh, Wh]]
        if rest:
            blocks = [[*row, last] for row, last in zip(blocks, [none, none, Wh], strict=True)]
        data = [RATIOS[0] * maps[0], RATIOS[1] * maps[1], haadf]
        data = [d.reshape(-1, 5) for d in data]
        weights = [1 - alpha, 1 - alpha, alpha]
        if weighting == "sirt":
            stack = np.block([[w * b for b in row] for w, row in zip(weights, blocks, strict=True)])
            expected = stacked_sirt(
                stack, np.concatenate([w * d for w, d in zip(weights, data, strict=True)]), 8
            )
        else:
            row_weights = np.concatenate(
                [np.full(len(d), w**2) for w, d in zip(weights, data, strict=True)]
            )
            expected = stacked_sirt(np.block(blocks), np.concatenate(data), 8, row_weights)
        expected = expected.reshape(-1, 20, 24, 5) / np.reshape(
            [*RATIOS, 1.0][: 2 + rest], (-1, 1, 1, 1)
        )
        options = dict(
            alpha=alpha,
            haadf_projector=H,
            gains=gains,
            haadf_gains=haadf_gains,
            weighting=weighting,
            rest=rest,
        )
        assert relative(volume_of(hebt(A, maps, haadf, RATIOS, **options)), expected) < 1e-5


def system(A, H, truth, maps, **changes):
    """A system of three channels, one without a ratio, and the rest."""
    ratios = [3.0, 0.0, 50.0]
    maps = np.concatenate([maps, maps[:1] * 0.3])
    gains = np.stack([np.linspace(0.5, 1.5, 11), np.ones(11), np.linspace(2, 1, 11)]).astype(
        np.float32
    )
    base = System(
        A=A,
        projections=maps,
        gains=gains,
        coefficients=hebt_coefficients(np.array(ratios), 0.7, "sirt", rest=True),
        initial=np.zeros((4, 20, 24, 5), np.float32),
        haadf_projector=H,
        haadf=haadf_of(H, truth),
        haadf_gains=np.linspace(1, 0.5, H.range_shape[0], dtype=np.float32),
    )
    return replace(base, **changes)


inside = np.indices((20, 24, 5)).sum(axis=0) < 30

CASES = {
    "as it is": {},
    "mask": {"mask": inside[..., 0].astype(np.float32)},
    "mask per slice": {"mask": inside.astype(np.float32)},
    "signed": {"nonnegative": False},
    "start": {"initial": np.random.default_rng(1).normal(size=(4, 20, 24, 5)).astype(np.float32)},
}


class TestFusedAgainstTextbook:
    @pytest.mark.slow
    @pytest.mark.parametrize("own_tilts", [False, True])
    @pytest.mark.parametrize("case", CASES)
    def test_hebt(self, A, B, truth, maps, own_tilts, case):
        built = system(A, B if own_tilts else A, truth, maps, **CASES[case])
        self.compare(built)

    def test_sirt(self, A, truth, maps):
        none = dict(haadf=None, haadf_projector=None, haadf_gains=None)
        channels = dict(
            coefficients=sirt_coefficients(3), initial=np.zeros((3, 20, 24, 5), np.float32)
        )
        self.compare(system(A, A, truth, maps, **none, **channels))

    @pytest.mark.slow
    @pytest.mark.parametrize("slices", [1, 40, 100])
    def test_any_number_of_slices(self, A, slices):
        maps = np.random.default_rng(2).random((2, 11, 22, slices), np.float32)
        self.compare(
            System(
                A,
                maps,
                np.ones((2, 11), np.float32),
                sirt_coefficients(2),
                np.zeros((2, 20, 24, slices), np.float32),
            ),
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("own_tilts", [False, True])
    @pytest.mark.parametrize("case", CASES)
    def test_elements_in_lanes_of_their_own_and_side_by_side(
        self, A, B, truth, maps, own_tilts, case, monkeypatch
    ):
        """Four channels of three slices do not fit into 8 lanes side by side,
        of two slices they do."""
        monkeypatch.setattr(
            "hyperspy_multitomo.tomography.cpu.stacked.blocks",
            lambda *sizes: [(0, 3, 8), (3, 5, 8)],
        )
        self.compare(system(A, B if own_tilts else A, truth, maps, **CASES[case]))

    @staticmethod
    def compare(built):
        fused, textbook = FusedSteps(built), TextbookSteps(built)
        np.testing.assert_array_equal(fused.volume, textbook.volume)
        for _ in range(6):
            fused.advance()
            textbook.advance()
            assert relative(fused.volume, textbook.volume) < 3e-6
            for name, residual in textbook.residuals.items():
                np.testing.assert_allclose(fused.residuals[name], residual, rtol=1e-5)
        assert fused.iteration == textbook.iteration == 6
        fused.close()
        textbook.close()

    def test_astra_runs_the_textbook_form(self, A, truth, maps):
        pytest.importorskip("astra", reason="astra-toolbox is not installed")
        reference = projector(A.geometry, "astra_cpu")
        haadf = haadf_of(A, truth)
        assert relative(volume_of(sirt(reference, maps)), volume_of(sirt(A, maps))) < 5e-5
        assert (
            relative(
                volume_of(hebt(reference, maps, haadf, RATIOS)),
                volume_of(hebt(A, maps, haadf, RATIOS)),
            )
            < 5e-5
        )

    def test_shared_and_separate_paths_agree(self, A, truth, maps):
        haadf = haadf_of(A, truth)
        apart = projector(replace(A.geometry, axis_offset=A.geometry.axis_offset + 1e-9))
        shared = volume_of(hebt(A, maps, haadf, RATIOS))
        assert (
            relative(volume_of(hebt(A, maps, haadf, RATIOS, haadf_projector=apart)), shared) < 1e-5
        )


class TestFewSlices:
    @pytest.mark.parametrize("slices", [1, 2, 15, 16, 17, 63, 64, 65, 80, 129])
    def test_slices_are_what_each_alone_is(self, slices):
        A = projector(TiltGeometry([-60, -20, 25, 70], 12, (10, 12)), "numba")
        maps = np.random.default_rng(slices).random((2, 4, 12, slices), np.float32)
        volume = volume_of(hebt(A, maps, maps.sum(axis=0), [1.0, 2.0]), 4)
        for y in {0, slices // 2, slices - 1}:
            one = maps[..., [y]]
            expected = volume_of(hebt(A, one, one.sum(axis=0), [1.0, 2.0]), 4)
            np.testing.assert_allclose(volume[..., [y]], expected, atol=3e-6 * expected.max())

    @pytest.mark.parametrize("slices", [2, 70])
    def test_threads_change_nothing(self, slices):
        geometry = TiltGeometry(np.linspace(-70, 70, 15), 90)
        maps = np.random.default_rng(5).random((2, 15, 90, slices), np.float32)
        volumes = [
            volume_of(
                hebt(
                    projector(geometry, "numba", threads=threads),
                    maps,
                    maps.sum(axis=0),
                    [1.0, 2.0],
                ),
                2,
            )
            for threads in (1, 2, 5)
        ]
        for other in volumes[1:]:
            np.testing.assert_array_equal(other, volumes[0])

    def test_a_channel_that_is_held_stands_still(self, A, maps):
        iterates = sirt(A, maps)
        run(iterates, 2)
        iterate = next(iterates)
        before = iterate.volume
        iterate.hold([False, True])
        next(iterates)
        assert (iterate.volume[0] != before[0]).any()
        np.testing.assert_array_equal(iterate.volume[1], before[1])


class TestLimitsAndEquivalences:
    def test_small_alpha_is_sirt(self, A, truth, maps):
        hybrid = volume_of(hebt(A, maps, haadf_of(A, truth), RATIOS, alpha=1e-6))
        assert relative(hybrid, volume_of(sirt(A, maps))) < 1e-5

    def test_large_alpha_with_one_element_is_sirt_of_the_haadf(self, A, truth, maps):
        haadf = A(truth[0])
        hybrid = volume_of(hebt(A, maps[:1], haadf, [4.0], alpha=1 - 1e-6))
        assert relative(hybrid[0], volume_of(sirt(A, haadf / 4))) < 1e-5

    def test_element_with_ratio_0_is_sirt_of_its_map(self, A, truth, maps):
        hybrid = volume_of(hebt(A, maps, haadf_of(A, truth), [3.0, 0.0]))
        np.testing.assert_array_equal(hybrid[1], volume_of(sirt(A, maps))[1])
        alone = volume_of(hebt(A, maps[:1], haadf_of(A, truth), [3.0]))
        assert relative(hybrid[0], alone[0]) < 1e-6

    def test_gains_undo_what_they_did(self, A, maps):
        gains = np.linspace(0.4, 1.7, 11)
        scaled = np.full(11, 1.7)
        assert (
            relative(volume_of(sirt(A, maps * 1.7, gains=scaled)), volume_of(sirt(A, maps))) < 1e-6
        )
        a = volume_of(sirt(A, maps * np.float32(gains)[:, None, None], gains=gains), 400)
        assert relative(A(a), A(volume_of(sirt(A, maps), 400))) < 0.02

    def test_a_gain_of_0_leaves_the_tilt_out(self, A, maps):
        gains = np.ones(11)
        gains[3] = 0
        spoilt = maps.copy()
        spoilt[:, 3] = 1e6
        kept = np.arange(11) != 3
        shifts = tuple(np.array(A.geometry.shifts)[kept])
        fewer = projector(replace(A.geometry, tilts=TILTS[kept], shifts=shifts))
        result = run(sirt(A, spoilt, gains=gains), 8)
        expected = run(sirt(fewer, maps[:, kept]), 8)
        assert relative(result.volume, expected.volume) < 1e-6
        np.testing.assert_allclose(result.residuals["eds"], expected.residuals["eds"], rtol=1e-5)

    def test_scaling_the_counts_scales_the_volume(self, A, truth, maps):
        haadf = haadf_of(A, truth)
        once = volume_of(hebt(A, maps, haadf, RATIOS))
        np.testing.assert_allclose(
            volume_of(hebt(A, 8 * maps, 8 * haadf, RATIOS)), 8 * once, rtol=1e-4, atol=1e-5
        )
        in_other_units = volume_of(hebt(A, maps, 1000 * haadf, np.multiply(1000, RATIOS)))
        np.testing.assert_allclose(in_other_units, once, rtol=1e-4, atol=1e-5)

    def test_order_of_the_elements_changes_nothing(self, A, truth, maps):
        haadf = haadf_of(A, truth)
        forward = volume_of(hebt(A, maps, haadf, RATIOS))
        backward = volume_of(hebt(A, maps[::-1], haadf, RATIOS[::-1]))
        np.testing.assert_allclose(backward[::-1], forward, rtol=1e-4, atol=1e-5)

    def test_without_a_channel_axis(self, A, maps):
        alone = volume_of(sirt(A, maps[0]))
        assert alone.shape == (20, 24, 5)
        np.testing.assert_array_equal(alone, volume_of(sirt(A, maps))[0])


class TestPhysics:
    def test_a_uniform_disc_comes_back_in_counts_per_length(self):
        geometry = TiltGeometry(range(-88, 91, 4), 64, pixel_size=0.5)
        A = projector(geometry)
        radius = np.hypot(*(np.indices((64, 64)) - 31.5))
        disc = 2.0 * np.clip(20.5 - radius, 0, 1)[..., None]
        x = volume_of(sirt(A, A(disc)), 100)[..., 0]
        assert x[radius < 17].mean() == pytest.approx(2, rel=5e-3)
        assert x[radius > 24].mean() < 0.01

    def test_hebt_beats_the_noisy_maps_alone(self, A, truth):
        noisy = np.random.default_rng(3).poisson(A(truth)).astype(np.float32)
        ratios = [20.0, 50.0]
        alone, hybrid = (
            volume_of(sirt(A, noisy), 60),
            volume_of(hebt(A, noisy, haadf_of(A, truth, ratios), ratios), 60),
        )
        for element in range(2):
            assert relative(hybrid[element], truth[element]) < 0.8 * relative(
                alone[element], truth[element]
            )

    def test_rest_takes_what_no_map_explains(self, A, truth, maps):
        unseen = np.zeros((20, 24, 5), np.float32)
        unseen[2:6, 16:22] = 30.0
        haadf = haadf_of(A, truth) + A(unseen)
        volume = volume_of(hebt(A, maps, haadf, RATIOS, rest=True), 150)
        assert volume.shape == (3, 20, 24, 5)
        assert np.corrcoef(volume[2].ravel(), unseen.ravel())[0, 1] > 0.8
        assert volume[2][3:5, 17:21].mean() == pytest.approx(30, rel=0.15)
        without = volume_of(hebt(A, maps, haadf, RATIOS), 150)
        assert relative(volume[:2], truth) < 0.7 * relative(without, truth)

    def test_residuals_are_those_of_the_volume_before(self, A, truth, maps):
        haadf = haadf_of(A, truth)
        iterates = hebt(A, maps, haadf, RATIOS)
        start = next(iterates)
        assert start.iteration == 0
        assert start.residuals == {}
        before = None
        for iterate in islice(iterates, 5):
            if before is not None:
                eds = [
                    np.linalg.norm(maps[c] - A(before[c])) / np.linalg.norm(maps[c])
                    for c in range(2)
                ]
                np.testing.assert_allclose(iterate.residuals["eds"], eds, rtol=1e-4)
                explained = haadf_of(A, before)
                residual = np.linalg.norm(haadf - explained) / np.linalg.norm(haadf)
                assert iterate.residuals["haadf"] == pytest.approx(residual, rel=1e-4)
            before = iterate.volume

    @pytest.mark.slow
    def test_long_runs_stay_stable(self, A, truth, maps):
        for weighting in ("sirt", "squared"):
            for alpha in (0.05, 0.5, 0.95):
                result = run(
                    hebt(A, maps, haadf_of(A, truth), RATIOS, alpha=alpha, weighting=weighting), 300
                )
                assert np.isfinite(result.volume).all()
                assert (
                    result.residuals["haadf"][-1] <= result.residuals["haadf"][10]
                ) or alpha < 0.1


class TestConstraints:
    def test_nonnegative(self, A, maps):
        assert volume_of(sirt(A, maps - 0.5)).min() == 0
        assert volume_of(sirt(A, maps - 0.5, nonnegative=False)).min() < 0

    @pytest.mark.parametrize("mask", [inside, inside[..., 0]], ids=["z, x, y", "z, x"])
    def test_mask(self, A, truth, maps, mask):
        whole = np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], (20, 24, 5))
        start = np.ones((2, 20, 24, 5))
        for iterates in (
            sirt(A, maps, mask=mask, initial=start),
            hebt(A, maps, haadf_of(A, truth), RATIOS, mask=mask, initial=start),
        ):
            for iterate in islice(iterates, 3):
                assert not iterate.volume[:, ~whole].any()
                assert iterate.volume[:, whole].any()

    def test_warm_start_goes_on(self, A, truth, maps):
        haadf = haadf_of(A, truth)
        straight = volume_of(hebt(A, maps, haadf, RATIOS), 10)
        half = volume_of(hebt(A, maps, haadf, RATIOS), 4)
        np.testing.assert_array_equal(
            volume_of(hebt(A, maps, haadf, RATIOS, initial=half), 6), straight
        )

    def test_empty_data_give_an_empty_volume(self, A):
        result = run(hebt(A, np.zeros((2, 11, 22, 1)), np.zeros((11, 22, 1)), RATIOS), 3)
        assert not result.volume.any()
        assert not result.residuals["eds"].any()

    def test_input_is_left_alone(self, A, truth, maps):
        haadf, start = haadf_of(A, truth), np.full((2, 20, 24, 5), -1.0, np.float32)
        kept = [array.copy() for array in (maps, haadf, start)]
        volume_of(hebt(A, maps, haadf, RATIOS, initial=start, gains=np.arange(11)))
        for array, copy in zip((maps, haadf, start), kept, strict=True):
            np.testing.assert_array_equal(array, copy)


class TestRun:
    def test_exactly_so_many_iterations(self, A, maps):
        seen = []
        result = run(sirt(A, maps), 7, progress=lambda iterate: seen.append(iterate.iteration))
        assert seen == [1, 2, 3, 4, 5, 6, 7]
        assert result.iterations == 7
        assert result.residuals["eds"].shape == (7, 2)
        assert not result.interrupted
        assert not result.converged

    def test_none_returns_the_start(self, A, maps):
        result = run(sirt(A, maps, initial=np.ones((2, 20, 24, 5))), 0)
        assert result.iterations == 0
        assert (result.volume == 1).all()
        assert result.residuals == {}

    def test_goes_on_where_it_stopped(self, A, maps):
        iterates = sirt(A, maps)
        run(iterates, 3)
        result = run(iterates, 4)
        assert result.iterations == 7
        np.testing.assert_array_equal(result.volume, volume_of(sirt(A, maps), 7))

    def test_tolerance(self, A, truth):
        result = run(sirt(A, A(truth)), 5000, tolerance=1e-4)
        assert result.converged
        assert 5 < result.iterations < 1000
        steps = np.abs(np.diff(result.residuals["eds"], axis=0)).max(axis=1)
        assert steps[-1] < 1e-4 <= steps[:-1].min()

    def test_interrupted_between_iterations(self, A, maps):
        def stop(iterate):
            if iterate.iteration == 3:
                raise KeyboardInterrupt

        with pytest.warns(UserWarning, match="interrupted: this is iteration 3 of 50"):
            result = run(sirt(A, maps), 50, progress=stop)
        assert result.interrupted
        assert result.iterations == len(result.residuals["eds"]) == 3
        np.testing.assert_array_equal(result.volume, volume_of(sirt(A, maps), 3))

    @pytest.mark.slow
    @pytest.mark.parametrize("delay", [0.05, 0.11, 0.173])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_interrupted_within_an_iteration(self, delay, threads):
        """Whenever it comes, what is returned is an iterate, whole."""
        A = projector(TiltGeometry(TILTS, 96), threads=threads)
        maps = np.random.default_rng(4).random((11, 96, 64), np.float32)
        volume_of(sirt(A, maps), 1)
        with interrupt_after(delay) as begin, pytest.warns(UserWarning, match="interrupted"):
            result = run(
                sirt(A, maps), 10**6, progress=lambda iterate: iterate.iteration == 1 and begin()
            )
        assert result.interrupted
        assert result.iterations > 0
        np.testing.assert_array_equal(result.volume, volume_of(sirt(A, maps), result.iterations))

    def test_a_failing_progress_is_not_swallowed(self, A, maps):
        def fail(iterate):
            raise RuntimeError("no display")

        with pytest.raises(RuntimeError, match="no display"):
            run(sirt(A, maps), 5, progress=fail)

    @pytest.mark.parametrize(
        ("iterations", "tolerance"), [(-1, None), (1.5, None), (3, 0), (3, -1.0)]
    )
    def test_bad_input(self, A, maps, iterations, tolerance):
        with pytest.raises(ValueError, match="iterations|tolerance"):
            run(sirt(A, maps), iterations, tolerance=tolerance)


class TestBadInput:
    """Raised at the call, before the first iterate is asked for."""

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                dict(projections=np.zeros((2, 10, 22, 5))),
                ValueError,
                "11 tilts and 22 detector pixels",
            ),
            (dict(projections=np.zeros((11, 22))), ValueError, "expected .channel, tilt, x, y."),
            (dict(projections=np.zeros((11, 22, 5))), ValueError, "one map per element"),
            (dict(projections=np.full((2, 11, 22, 5), np.nan)), ValueError, "NaN or infinite"),
            (dict(projections=np.full((2, 11, 22, 5), -np.inf)), ValueError, "NaN or infinite"),
            (dict(projections=np.zeros((2, 11, 22, 5), complex)), TypeError, "real numbers"),
            (dict(haadf=np.zeros((10, 22, 5))), ValueError, "`haadf` has the shape"),
            (dict(haadf=np.zeros((11, 22, 4))), ValueError, "5 slices y"),
            (dict(haadf=np.zeros((1, 11, 22, 5))), ValueError, "expected .tilt, x, y."),
            (dict(ratios=[1.0]), ValueError, "2 channels"),
            (dict(ratios=[1.0, -1.0]), ValueError, "none below 0"),
            (dict(ratios=[0.0, 0.0]), ValueError, "at least one above"),
            (dict(ratios=[1.0, np.nan]), ValueError, "NaN or infinite"),
            (dict(alpha=0), ValueError, "between 0 and 1"),
            (dict(alpha=1.0), ValueError, "between 0 and 1"),
            (dict(alpha="high"), ValueError, "between 0 and 1"),
            (dict(weighting="both"), ValueError, "'sirt' or 'squared'"),
            (dict(gains=np.ones(10)), ValueError, "one per tilt"),
            (dict(gains=-np.ones(11)), ValueError, "negative"),
            (dict(gains=np.zeros(11)), ValueError, "gain above 0"),
            (dict(haadf_gains=np.ones(12)), ValueError, "haadf_gains"),
            (dict(mask=np.ones((20, 24))), TypeError, "expected bool"),
            (dict(mask=np.ones((24, 20), bool)), ValueError, r"expected \(z, x\)"),
            (dict(initial=np.zeros((20, 24, 5))), ValueError, "that of the volume"),
            (dict(initial=np.full((2, 20, 24, 5), np.inf)), ValueError, "NaN or infinite"),
        ],
    )
    def test_hebt(self, A, truth, maps, change, error, message):
        arguments = {"projections": maps, "haadf": haadf_of(A, truth), "ratios": RATIOS, **change}
        with pytest.raises(error, match=message):
            hebt(A, **arguments)

    def test_another_volume_grid(self, A, truth, maps):
        other = projector(TiltGeometry(TILTS, 22))
        with pytest.raises(ValueError, match="same `volume_shape` and `pixel_size`"):
            hebt(A, maps, haadf_of(A, truth), RATIOS, haadf_projector=other)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 7, 16, 33, 40])
@pytest.mark.parametrize("solver", [sirt, em])
def test_slices_are_the_same_bit_for_bit_however_many_are_solved_together(solver, cut):
    A = projector(TiltGeometry(np.linspace(-70, 70, 9), 32), "numba")
    counts = np.random.default_rng(0).poisson(2.0, (2, 9, 32, 80)).astype(np.float32)
    whole = run(solver(A, counts), 4).volume
    parts = [
        run(solver(A, counts[..., start : start + cut]), 4).volume for start in range(0, 80, cut)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole)
