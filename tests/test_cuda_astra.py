# SPDX-License-Identifier: GPL-3.0-or-later
"""The projector of the "astra_cuda" back-end on an emulated device,
with ASTRA's kernels written out in NumPy, and on a real one.

The emulation follows what ASTRA's kernels for parallel beams do: a ray is sampled at each row of
its main axis, times the length between rows; a voxel collects the projections, interpolated at the
place where its centre falls.
"""

import gc
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from projector_checks import GEOMETRIES, ProjectorChecks

import hyperspy_multitomo as mt
from hyperspy_multitomo.tomography import (
    TiltGeometry,
    cgls,
    dot_test,
    em,
    fbp,
    hebt,
    projector,
    run,
    sirt,
)
from hyperspy_multitomo.tomography.cuda.astra import AstraCudaProjector, parallel_vectors

pytest.importorskip("astra", reason="astra-toolbox is not installed")


def interpolated(values, position):
    """Return `values` (n, ..) at a position along the first axis, nothing outside."""
    below = int(np.floor(position))
    result = np.zeros(values.shape[1:])
    for index, weight in ((below, 1 - position + below), (below + 1, position - below)):
        if 0 <= index < len(values):
            result += weight * values[index]
    return result


class FakeAstra(ModuleType):
    """The part of ASTRA that the projector calls, in NumPy, on the memory behind device arrays;
    rays lie at right angles to X."""

    def __init__(self, real):
        super().__init__("astra")
        self.create_vol_geom, self.create_proj_geom = real.create_vol_geom, real.create_proj_geom
        self.projectors, self.calls, self.broken = {}, [], False
        self.projector3d = SimpleNamespace(delete=self.projectors.pop)
        self.experimental = ModuleType("astra.experimental")
        self.experimental.direct_FP3D, self.experimental.direct_BP3D = self.forward, self.back

    def set_gpu_index(self, index):
        assert index == 0

    def create_projector(self, kind, rays, volume):
        assert kind == "cuda3d"
        self.projectors[number := len(self.calls) + len(self.projectors) + 1] = (rays, volume)
        return number

    def _arrays(self, number, volume, rays):
        """Return the geometry and the arrays, as DLPack hands them over:
        C-ordered, of the geometry's shape."""
        projections, grid = self.projectors[number]
        assert volume.shape == tuple(grid[f"Grid{name}Count"] for name in ("Slice", "Row", "Col"))
        assert rays.shape == (
            projections["DetectorRowCount"],
            len(projections["Vectors"]),
            projections["DetectorColCount"],
        )
        assert volume.flags.c_contiguous
        assert rays.flags.c_contiguous
        assert volume.dtype == rays.dtype == np.float32
        return projections["Vectors"], volume._values, rays._values

    def forward(self, number, volume, rays):
        self.calls.append("FP")
        if self.broken:
            return
        vectors, x, result = self._arrays(number, volume, rays)
        result[...] = 0
        for tilt, (ray, centre, u, v) in enumerate(vectors.reshape(-1, 4, 3)):
            assert ray[0] == 0
            np.testing.assert_array_equal(u, [1, 0, 0])
            main = 2 if abs(ray[2]) > abs(ray[1]) else 1  # Z or Y
            rows = x if main == 2 else np.moveaxis(x, 1, 0)  # (main, other, X)
            other = 3 - main
            for row in range(len(result)):
                point = centre + (row - (len(result) - 1) / 2) * v
                slope = ray[other] / ray[main]
                for k, values in enumerate(rows):
                    at = point[other] + slope * (k - (len(rows) - 1) / 2 - point[main])
                    result[row, tilt] += interpolated(values, at + (len(values) - 1) / 2)
                result[row, tilt] *= np.hypot(slope, 1)

    def back(self, number, volume, rays):
        self.calls.append("BP")
        vectors, result, y = self._arrays(number, volume, rays)
        nz, ny, _ = result.shape
        for z in range(nz):
            for row in range(ny):
                total = 0
                for tilt, (_, centre, u, v) in enumerate(vectors.reshape(-1, 4, 3)):
                    place = np.array([0, row - (ny - 1) / 2, z - (nz - 1) / 2]) - centre
                    # v is of unit length, and the ray at a right angle to it.
                    total = total + interpolated(
                        y[:, tilt], place @ v + (len(y) - 1) / 2
                    ) / np.linalg.norm(np.cross(u, v))
                result[z, row] = total


@pytest.fixture
def astra(cuda, monkeypatch, request):
    """ASTRA, emulated on the emulated device, and the real one on a real one."""
    import astra as real

    if "device" in request.node.callspec.id:
        if not real.use_cuda():
            pytest.skip("astra-toolbox has no CUDA here")
        return real
    return _installed(monkeypatch, real)


@pytest.fixture
def fake(machine, monkeypatch):
    """ASTRA emulated, for what only that can tell."""
    import astra as real

    return _installed(monkeypatch, real)


def _installed(monkeypatch, real):
    fake = FakeAstra(real)
    monkeypatch.setitem(sys.modules, "astra", fake)
    monkeypatch.setitem(sys.modules, "astra.experimental", fake.experimental)
    return fake


SMALL = TiltGeometry([-70, -45, 0, 20, 90], 13, (8, 11), 0.7, 0.8, [0, -0.4, 1, 0, 2.3])


class TestVectors:
    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_astra_projects_a_point_to_where_ours_falls(self, name):
        experimental = pytest.importorskip("astra.experimental")
        import astra

        if not hasattr(experimental, "projectPoint"):
            pytest.skip("this astra-toolbox is built without CUDA")
        geometry, slices = GEOMETRIES[name], 5
        nz, nx = geometry.volume_shape
        rays = astra.create_proj_geom(
            "parallel3d_vec", geometry.detector_width, slices, parallel_vectors(geometry)
        )
        for tilt, ((cos, sin), origin) in enumerate(
            zip(geometry.directions, geometry.origins, strict=True)
        ):
            for z, x, y in ((0, 0, 0), (nz - 1, 0, 3), (0, nx - 1, 4), (nz // 3, nx // 2, 1)):
                point = y - (slices - 1) / 2, x - (nx - 1) / 2, z - (nz - 1) / 2
                u, v = experimental.projectPoint(rays, *point, tilt)
                assert u == pytest.approx(y, abs=1e-9)
                assert v == pytest.approx(origin + point[1] * cos + point[2] * sin, abs=1e-9)


class TestProjections:
    def test_forward_is_josephs(self, astra):
        volume = np.random.default_rng(0).random((2, 8, 11, 4))
        found, expected = projector(SMALL, "astra_cuda")(volume), projector(SMALL, "numba")(volume)
        # A texture's fractions have 8 bits.
        assert np.linalg.norm(found - expected) <= (
            3e-6 if isinstance(astra, FakeAstra) else 4e-3
        ) * np.linalg.norm(expected)

    def test_back_is_linear_interpolation(self, astra):
        rays = np.random.default_rng(1).random((2, 5, 13, 4))
        found = projector(SMALL, "astra_cuda").T(rays)
        z, x = (
            i - (n - 1) / 2
            for i, n in zip(np.indices(SMALL.volume_shape), SMALL.volume_shape, strict=True)
        )
        expected = 0
        for tilt, ((cos, sin), origin) in enumerate(
            zip(SMALL.directions, SMALL.origins, strict=True)
        ):
            weights = np.maximum(
                0, 1 - abs(np.arange(13)[:, None, None] - (origin + x * cos + z * sin))
            )
            expected = expected + SMALL.pixel_size * np.einsum(
                "uzx,cuy->czxy", weights, rays[:, tilt]
            )
        assert np.linalg.norm(found - expected) <= (
            3e-6 if isinstance(astra, FakeAstra) else 4e-3
        ) * np.linalg.norm(expected)

    def test_it_is_not_adjoint(self, fake):
        assert 1e-4 < dot_test(projector(SMALL, "astra_cuda")) < 0.05

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name", ["sign_of_the_tilt", "handedness_of_an_asymmetric_phantom", "row_and_column_sums"]
    )
    def test_checks_of_every_backend(self, fake, name):
        getattr(ProjectorChecks(), f"test_{name}")("astra_cuda")


class TestSolvers:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["sirt", "hebt", "em"])
    def test_they_run_on_the_device_and_come_close_to_the_cores(self, fake, machine, method):
        rng = np.random.default_rng(2)
        volume = np.zeros((2, 8, 11, 2))
        volume[0, 2:6, 3:6], volume[1, 3:7, 5:8] = 3, 5
        data = rng.poisson(20 * projector(SMALL, "numba")(volume)).astype(float)
        found = {}
        for backend in ("astra_cuda", "numba"):
            A = projector(SMALL, backend)
            if method == "hebt":
                iterates = hebt(A, data, data[0] + 2 * data[1], [1, 2])
            else:
                iterates = {"sirt": sirt, "em": em}[method](A, data)
            found[backend] = run(iterates, 6)
        assert machine.launches["update_channel"] >= 12
        assert "back_project" not in machine.launches
        difference = np.linalg.norm(found["astra_cuda"].volume - found["numba"].volume)
        assert difference <= 0.1 * np.linalg.norm(found["numba"].volume)
        np.testing.assert_allclose(
            found["astra_cuda"].residuals["eds"], found["numba"].residuals["eds"], rtol=0.1
        )

    def test_conjugate_gradients_take_the_matched_pair(self, fake):
        data = np.random.default_rng(4).random((5, 13, 2))
        with pytest.warns(UserWarning, match="not adjoint: CGLS would diverge"):
            found = run(cgls(projector(SMALL, "astra_cuda"), data), 5).volume
        np.testing.assert_array_equal(found, run(cgls(projector(SMALL, "cuda"), data), 5).volume)

    @pytest.mark.slow
    def test_the_history_names_the_pair_that_ran(self, fake):
        images = np.random.default_rng(5).random((5, 2, 13))
        haadf = mt.TiltSeriesHAADF.from_images(images, tilts=SMALL.tilts, pixel_size=0.7)
        given = {"iterations": 2, "backend": "astra_cuda", "show_progressbar": False}
        assert haadf.reconstruct_sirt(**given).history[-1]["backend"] == "astra_cuda"
        for method in (haadf.reconstruct_cgls, haadf.reconstruct_tv):
            with pytest.warns(UserWarning, match="not adjoint"):
                assert method(**given).history[-1]["backend"] == "cuda"

    def test_filtered_back_projection(self, fake):
        data = np.random.default_rng(3).random((5, 13, 2))
        found, expected = (
            fbp(projector(SMALL, backend), data, filter="hann")
            for backend in ("astra_cuda", "numba")
        )
        assert np.linalg.norm(found - expected) <= 0.15 * np.linalg.norm(expected)

    def test_memory_reckoned(self, fake, machine):
        A = projector(SMALL, "astra_cuda")
        steps = next(sirt(A, np.ones((2, *A.range_shape, 40))))._steps
        machine.memory.peak = 0
        steps.advance()
        # What ASTRA itself takes for a texture is reckoned too, and not taken here.
        texture = 4 * 40 * 5 * 13
        reckoned = steps.device_bytes(steps.system)
        assert 0.9 * (reckoned - 2**16) <= machine.memory.peak + texture <= reckoned


class TestAstraItself:
    @pytest.mark.slow
    def test_its_projectors_are_given_back(self, fake):
        A = AstraCudaProjector(SMALL)
        A(np.ones((8, 11, 3)))
        A(np.ones((8, 11, 4)))
        assert len(fake.projectors) == 2
        del A
        gc.collect()
        assert not fake.projectors

    def test_a_failure_that_it_does_not_report(self, fake):
        fake.broken = True
        with pytest.raises(RuntimeError, match="direct_FP3D has not written its result"):
            AstraCudaProjector(SMALL)(np.ones((8, 11, 3)))

    def test_wrong_axes_would_be_found(self, fake, monkeypatch):
        turned = lambda rays: parallel_vectors(rays) * np.where(np.arange(12) % 3 == 2, -1, 1)  # noqa: E731
        monkeypatch.setattr("hyperspy_multitomo.tomography.cuda.astra.parallel_vectors", turned)
        with pytest.raises(RuntimeError, match="AstraCudaProjector gives wrong numbers"):
            projector(SMALL, "astra_cuda")
