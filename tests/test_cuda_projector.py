# SPDX-License-Identifier: GPL-3.0-or-later
"""The projector of the "cuda" back-end: every check of the other back-ends,
on an emulated device and on a real one."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from emulated_cuda import emulated
from projector_checks import GEOMETRIES, ProjectorChecks

from hyperspy_multitomo.tomography import TiltGeometry, backends, dot_test, projector
from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.projector import CudaProjector, lanes_of


@pytest.fixture
def backend(cuda):
    return "cuda"


class TestCuda(ProjectorChecks):
    """All of them, with the fixture `backend` of this file."""


class TestAgreement:
    @pytest.mark.parametrize("name", GEOMETRIES)
    @pytest.mark.parametrize("slices", [1, 3, 9, 33])
    def test_the_numbers_are_those_of_the_cores(self, cuda, name, slices):
        rng = np.random.default_rng(0)
        A, reference = projector(GEOMETRIES[name], "cuda"), projector(GEOMETRIES[name], "numba")
        volume, rays = (
            rng.random((2, *A.domain_shape, slices)),
            rng.random((2, *A.range_shape, slices)),
        )
        for ours, theirs in ((A(volume), reference(volume)), (A.T(rays), reference.T(rays))):
            assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-6 * theirs.max())

    @pytest.mark.parametrize("binning", [2, 3])
    def test_pixels_of_several_voxels(self, cuda, binning):
        geometry = TiltGeometry(
            [-50, 0, 35, 80], 9, (7 * binning, 8 * binning), 0.5, 0.6, [0, 0.2, 1, -1], binning
        )
        A, reference = projector(geometry, "cuda"), projector(geometry, "numba")
        volume = np.random.default_rng(1).random((*A.domain_shape, 2 * binning))
        np.testing.assert_allclose(A(volume), reference(volume), rtol=1e-5)
        assert dot_test(A) <= 1e-6
        rays = device.cupy().empty(A.rays_shape(1, 2 * binning), np.float32)
        A.project_device(device.to_device(volume[None]), rays)
        pixels = device.cupy().empty((1, *A.range_shape, 2), np.float32)
        A.mean_device(rays, pixels)
        np.testing.assert_allclose(device.to_host(pixels)[0], reference(volume), rtol=1e-5)

    def test_positions_far_from_the_first_pixel(self, cuda):
        """Offsets are counted from bases: a wide detector and a large shift cost no digits."""
        geometry = TiltGeometry([-61.3, 3.7, 48.9], 3000, (6, 3000), shifts=[0, 700.123, -1500.5])
        A, reference = projector(geometry, "cuda"), projector(geometry, "numba")
        volume = np.random.default_rng(2).standard_normal((6, 3000, 1))
        ours, theirs = A(volume), reference(volume)
        assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()

    def test_threads_of_a_block_may_run_in_any_order(self, machine):
        A = projector(GEOMETRIES["deep volume, off axis"], "cuda")
        volume = np.random.default_rng(3).random((*A.domain_shape, 5))
        found = []
        for machine.order in (0, 1, 2):
            rays = A(volume)
            found.append((rays, A.T(rays)))
        for rays, back in found[1:]:
            np.testing.assert_array_equal(rays, found[0][0])
            np.testing.assert_array_equal(back, found[0][1])


class TestUpdate:
    @pytest.mark.parametrize("multiply", [False, True])
    @pytest.mark.parametrize("extra", [False, True])
    @pytest.mark.parametrize(("masked", "nonnegative"), [(False, True), (True, False)])
    def test_back_projection_ends_with_the_update(self, cuda, multiply, extra, masked, nonnegative):
        rng = np.random.default_rng(4)
        A = projector(GEOMETRIES["flat volume, shifted"], "cuda")
        x, rays = (
            rng.standard_normal((2, *A.domain_shape, 6)),
            rng.standard_normal((2, *A.range_shape, 6)),
        )
        step, more = rng.random((2, *A.domain_shape)), rng.random((*A.domain_shape, 6))
        shares, mask = np.array([0.3, 1.7]), (rng.random((*A.domain_shape, 6)) > 0.3).astype(float)
        b = A.T(rays) + (shares[:, None, None, None] * more if extra else 0)
        expected = x + step[..., None] * b * (x if multiply else 1)
        if nonnegative:
            expected = np.maximum(expected, 0)
        if masked:
            expected = expected * mask
        volume = device.to_device(x)
        options = (
            dict(extra=device.to_device(more), shares=device.to_device(shares)) if extra else {}
        )
        options["mask"] = device.to_device(mask) if masked else None
        A.back_device(
            device.to_device(rays),
            volume,
            device.to_device(step),
            multiply,
            nonnegative=nonnegative,
            **options,
        )
        np.testing.assert_allclose(device.to_host(volume), expected, rtol=1e-4, atol=1e-5)


class TestMemory:
    def test_slices_go_in_batches_that_fit(self, monkeypatch, machine):
        geometry = TiltGeometry([-50, 0, 50], 20, (16, 18))
        volume = np.random.default_rng(5).random((2, 16, 18, 70))
        whole = projector(geometry, "cuda")
        rays = whole(volume)
        with emulated(monkeypatch, memory=150_000) as small:
            A = CudaProjector(geometry)
            np.testing.assert_array_equal(A(volume), rays)
            assert small.launches["project"] == 3
            assert small.memory.peak <= 150_000
            np.testing.assert_array_equal(A.T(rays), whole.T(rays))

    def test_one_slice_has_to_fit(self, monkeypatch, machine):
        with (
            emulated(monkeypatch, memory=4000),
            pytest.raises(MemoryError, match="projecting 1 of 3 slices needs about"),
        ):
            CudaProjector(TiltGeometry([0, 50], 40))(np.ones((40, 40, 3)))

    def test_copies_and_pickles_work(self, cuda):
        A = projector(TiltGeometry([10, 60], 12), "cuda")
        volume = np.ones((12, 12, 1))
        expected = A(volume)
        for twin in (copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
            np.testing.assert_array_equal(twin(volume), expected)

    def test_lanes(self):
        assert [lanes_of(n) for n in (1, 2, 5, 7, 8, 31, 32, 48, 60, 65)] == [
            1,
            2,
            8,
            8,
            8,
            32,
            32,
            16,
            32,
            8,
        ]


class TestChoice:
    @pytest.fixture(autouse=True)
    def forget(self):
        backends._warn_once.cache_clear()

    def test_a_device_that_works_is_taken(self, cuda):
        assert type(projector(TiltGeometry([0, 30], 8))).__name__ == "CudaProjector"

    def test_without_cupy_nothing_is_said(self, monkeypatch):
        monkeypatch.setattr(
            device, "cupy", lambda: (_ for _ in ()).throw(ImportError("No module named 'cupy'"))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert type(projector(TiltGeometry([0, 30], 8))).__name__ == "NumbaProjector"
        with pytest.raises(ImportError, match="'cuda' cannot be imported"):
            projector(TiltGeometry([0, 30], 8), "cuda")

    def test_cupy_without_a_device_is_said_once(self, machine):
        machine.cuda.runtime.getDeviceCount = lambda: 0
        with pytest.warns(UserWarning, match=r"finds no device.*on the cores"):
            assert type(projector(TiltGeometry([0, 30], 8))).__name__ == "NumbaProjector"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            projector(TiltGeometry([0, 30], 8))
        with pytest.raises(RuntimeError, match="finds no device"):
            projector(TiltGeometry([0, 30], 8), "cuda")

    def test_a_device_with_wrong_numbers_is_not_taken(self, machine, monkeypatch):
        correct = CudaProjector.back_device
        monkeypatch.setattr(
            CudaProjector,
            "back_device",
            lambda self, *args: (correct(self, *args), args[1].fill(1))[0],
        )
        with pytest.warns(
            UserWarning, match="CudaProjector gives wrong numbers on the device Emulated"
        ):
            assert type(projector(TiltGeometry([0, 30], 8))).__name__ == "NumbaProjector"

    def test_a_source_that_does_not_compile_is_not_taken(self, machine):
        machine.RawModule = lambda **given: (_ for _ in ()).throw(
            RuntimeError("nvrtc: no such option")
        )
        with pytest.raises(RuntimeError, match="fails on the device Emulated: RuntimeError: nvrtc"):
            projector(TiltGeometry([0, 30], 8), "cuda")
