# SPDX-License-Identifier: GPL-3.0-or-later
"""One test class for every projector back-end:
adjointness, closed forms, handedness, equivariance, and bad input."""

import copy

import numpy as np
import pytest
from numba import typeof
from projector_checks import ProjectorChecks, weights_of

from hyperspy_multitomo.tomography import BACKENDS, TiltGeometry, dot_test, projector
from hyperspy_multitomo.tomography.cpu.lanes import blocks, cost_of, empty_lanes, lane_count


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    if request.param == "astra_cpu":
        pytest.importorskip("astra", reason="astra-toolbox is not installed")
    if request.param.endswith("cuda"):
        from hyperspy_multitomo.tomography.cuda import device

        if device.problem() is not None:
            pytest.skip(device.problem())
        if request.param == "astra_cuda":
            pytest.skip("ASTRA's pair has weights of its own; see test_cuda_astra.py")
    return request.param


class TestEveryBackend(ProjectorChecks):
    """Each registered back-end; those of a device in their own files."""


class TestNumbaProjector:
    def test_threads_change_nothing(self):
        volume = np.random.default_rng(8).random((2, 70, 50, 20))
        geometry = TiltGeometry(np.linspace(-70, 70, 23), 50, (70, 50))
        one, many = projector(geometry, "numba", threads=1), projector(geometry, "numba", threads=5)
        np.testing.assert_array_equal(one(volume), many(volume))
        rays = one(volume)
        np.testing.assert_array_equal(one.T(rays), many.T(rays))

    def test_input_of_any_layout_and_type_is_read_and_left_alone(self):
        A = projector(TiltGeometry([10, 60], 12, (14, 12)), "numba")
        volume = np.random.default_rng(9).integers(0, 9, (3, 14, 12, 5))
        expected, kept = A(volume.astype(np.float32)), volume.copy()
        for variant in (
            volume,
            np.asfortranarray(volume),
            volume.astype(">f8"),
            volume.astype(np.uint16),
        ):
            np.testing.assert_array_equal(A(variant), expected)
        np.testing.assert_array_equal(volume, kept)

    @pytest.mark.parametrize("count", [8, 16, 32, 64])
    def test_lanes_of_any_number(self, monkeypatch, count):
        """Tiles, bands and runs that are full and that are not, in one group and in two."""
        geometry = TiltGeometry([-61, -20.5, 0, 3, 17, 44, 45, 58, 77, 90], 23, (21, 19), 0.7, 1.3)
        A, weights = projector(geometry, "numba", threads=1), weights_of(geometry)
        slices = count + 2
        monkeypatch.setattr(
            "hyperspy_multitomo.tomography.cpu.numba_projector.blocks",
            lambda slices: [(0, slices, count)],
        )
        rng = np.random.default_rng(10)
        volume, rays = rng.normal(size=(21, 19, slices)), rng.normal(size=(10, 23, slices))
        np.testing.assert_allclose(
            A(volume), np.einsum("tuzx,zxy->tuy", weights, volume), atol=2e-5
        )
        np.testing.assert_allclose(A.T(rays), np.einsum("tuzx,tuy->zxy", weights, rays), atol=2e-5)
        assert dot_test(A, slices=slices) < 1e-6

    @pytest.mark.parametrize("slices", [1, 2, 15, 16, 17, 63, 64, 65, 80, 129])
    def test_slices_are_what_each_alone_is(self, slices):
        A = projector(TiltGeometry([-40, 10, 75], 11, (10, 11)), "numba")
        volume = np.random.default_rng(slices).random((2, 10, 11, slices), np.float32)
        projections = A(volume)
        back = A.T(projections)
        for y in {0, slices // 2, slices - 1}:
            np.testing.assert_allclose(projections[..., y], A(volume[..., [y]])[..., 0], rtol=2e-6)
            np.testing.assert_allclose(back[..., y], A.T(projections[..., [y]])[..., 0], rtol=2e-6)

    def test_a_copy_works(self):
        A = projector(TiltGeometry([10, 60], 12))
        volume = np.ones((12, 12, 1))
        np.testing.assert_array_equal(copy.deepcopy(A)(volume), A(volume))


class TestOperatorFace:
    def test_shapes_and_transposes(self):
        A = projector(TiltGeometry([0, 10, 20], 12, (6, 8)))
        assert A.domain_shape == A.T.range_shape == (6, 8)
        assert A.range_shape == A.T.domain_shape == (3, 12)
        assert A.T.T is A
        assert A.T.geometry is A.geometry

    def test_dot_test_finds_a_wrong_adjoint(self):
        class Wrong:
            def __init__(self, A):
                self.A, self.domain_shape, self.range_shape = A, A.domain_shape, A.range_shape

            def __call__(self, volume):
                return self.A(volume)

            @property
            def T(self):
                return lambda rays: 1.01 * self.A.T(rays)

        A = projector(TiltGeometry(range(-60, 61, 10), 16))
        assert dot_test(Wrong(A)) > 100 * dot_test(A)

    def test_unknown_backend(self):
        with pytest.raises(ValueError, match=r"'opencl'.*numba.*astra_cpu"):
            projector(TiltGeometry([0, 1], 8), "opencl")

    def test_backend_that_cannot_be_imported(self, monkeypatch):
        def missing():
            raise ImportError("no such thing")

        for name in BACKENDS:
            monkeypatch.setitem(BACKENDS, name, missing)
        with pytest.raises(ImportError, match="'numba' cannot be imported"):
            projector(TiltGeometry([0, 1], 8), "numba")
        with pytest.raises(ImportError, match="none of the projector back-ends"):
            projector(TiltGeometry([0, 1], 8))

    def test_the_next_backend_stands_in(self, monkeypatch):
        pytest.importorskip("astra", reason="astra-toolbox is not installed")

        def missing():
            raise ImportError("no such thing")

        for name in ("cuda", "numba", "astra_cuda"):
            monkeypatch.setitem(BACKENDS, name, missing)
        assert type(projector(TiltGeometry([0, 1], 8))).__name__ == "AstraCpuProjector"

    @pytest.mark.parametrize("shape", [(8, 8), (7, 8, 1), (8, 8, 0), (2, 8, 9, 1)])
    def test_wrong_shape(self, shape):
        A = projector(TiltGeometry([0, 1], 8))
        with pytest.raises(ValueError, match="expected .*z, x, y"):
            A(np.zeros(shape))
        with pytest.raises(ValueError, match="expected .*tilt, x, y"):
            A.T(np.zeros(shape))

    def test_wrong_type(self):
        A = projector(TiltGeometry([0, 1], 8))
        with pytest.raises(TypeError, match="real numbers"):
            A(np.zeros((8, 8, 1), complex))
        with pytest.raises(TypeError, match="TiltGeometry"):
            projector([0, 1])

    @pytest.mark.parametrize("threads", [0, -1, 1.5])
    def test_wrong_threads(self, threads):
        with pytest.raises(ValueError, match="threads"):
            projector(TiltGeometry([0, 1], 8), threads=threads)

    def test_wrong_weights(self):
        with pytest.raises(ValueError, match="one per tilt"):
            projector(TiltGeometry([0, 1], 8)).column_sums([1, 2, 3])


class TestTiltGeometry:
    def test_equal_and_hashable_by_value(self):
        a = TiltGeometry(np.array([0, 10.0]), np.int64(8), shifts=np.zeros(2))
        b = TiltGeometry([0, 10], 8, (8, 8))
        assert a == b
        assert len({a, b, TiltGeometry([0, 10], 8, axis_offset=1)}) == 2

    def test_directions_at_quarter_turns_are_exact(self):
        directions = TiltGeometry([0, 90, 180, 270, -90, 720], 4).directions
        np.testing.assert_array_equal(
            directions, [[1, 0], [0, 1], [-1, 0], [0, -1], [0, -1], [1, 0]]
        )

    def test_directions_are_unit_vectors_at_the_angle(self):
        tilts = np.random.default_rng(0).uniform(-720, 720, 100)
        t = np.deg2rad(tilts)
        np.testing.assert_allclose(
            TiltGeometry(tilts, 4).directions, np.stack([np.cos(t), np.sin(t)], 1), atol=1e-13
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (dict(tilts=[]), "one number per tilt"),
            (dict(tilts=[[0, 1]]), "one number per tilt"),
            (dict(tilts=[0, np.nan]), r"not finite at the positions \[1\]"),
            (dict(detector_width=1), "2 or more"),
            (dict(detector_width=8.5), "whole number"),
            (dict(volume_shape=(8, 8, 8)), "two numbers"),
            (dict(volume_shape=(0, 8)), r"volume_shape\[0\]"),
            (dict(pixel_size=0), "positive length"),
            (dict(pixel_size=np.inf), "positive length"),
            (dict(axis_offset=np.nan), "axis_offset"),
            (dict(shifts=[1.0]), "1 values but there are 2 tilts"),
            (dict(shifts=[1.0, np.inf]), "not finite"),
            (dict(shifts=[1.0, 1e9]), "of pixels below"),
        ],
    )
    def test_bad_input(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            TiltGeometry(**{"tilts": [0, 1], "detector_width": 8, **arguments})


@pytest.mark.parametrize("count", [8, 16, 32, 64])
def test_names_of_compiled_kernels_tell_lanes_apart_in_every_process(count):
    """Else the kernels that two processes compiled, loaded from the disk by a third,
    run on the lanes of each other."""
    record = typeof(empty_lanes(1, count)).dtype
    assert f"float32, ({count},)" in str(record.mangling_args)
    assert str(record._code) not in str(record.mangling_args)


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_blocks_cover_all_slices_at_no_higher_cost_than_lanes_of_one_number(channels):
    for slices in range(1, 300):
        found = blocks(slices, channels)
        assert [start for start, _, _ in found] == [0] + [stop for _, stop, _ in found[:-1]]
        assert found[-1][1] == slices
        assert all((stop - start) % count == 0 for start, stop, count in found[:-1])
        assert len({count for _, _, count in found}) <= 2
        alone = -(-slices // lane_count(slices)) * cost_of(lane_count(slices))
        assert cost_of(slices) <= alone + 1e-9
        assert cost_of(slices, channels) <= channels * alone + 1e-9


def test_65_slices_cost_far_less_than_128():
    assert cost_of(65) < 0.9 * cost_of(128)
    assert cost_of(80) < 0.9 * cost_of(128)
    assert cost_of(1, 2) < 0.2 * cost_of(64, 2)
