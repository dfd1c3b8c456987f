# SPDX-License-Identifier: GPL-3.0-or-later
"""The device layer and the emulator that stands for a device:
what a device would not forgive raises."""

import shutil
import subprocess

import numpy as np
import pytest
from emulated_cuda import COMPILER, Array, EmulatedCupy, compiled

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import BlockSums, Kernels

SOURCE = """
extern "C" __global__ void scale(float *values, float factor, int count) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k < count) values[k] *= factor;
}
extern "C" __global__ void reverse(const float *from, float *to) {  // one block of 256
    __shared__ float held[256];
    held[threadIdx.x] = from[threadIdx.x];
    __syncthreads();
    to[threadIdx.x] = held[255 - threadIdx.x];
}
extern "C" __global__ void diverge(float *values) {
    if (threadIdx.x > 3) return;
    __syncthreads();
    values[threadIdx.x] = 1.0f;
}
extern "C" __global__ void beside(float *values) { values[-1 - (int)threadIdx.x] = 1.0f; }
"""

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="the emulated device needs g++, on Linux"
)


@needs_compiler
class TestEmulator:
    def test_kernel_with_barrier_in_every_order(self):
        for order in (0, 1, 2):
            cupy = EmulatedCupy(order=order)
            values, result = np.arange(256, dtype=np.float32), cupy.empty(256, np.float32)
            cupy.RawModule(code=SOURCE).get_function("reverse")(
                (1,), (256,), (cupy.asarray(values), result)
            )
            np.testing.assert_array_equal(result.get(), values[::-1])

    def test_signature_is_read_from_the_source(self):
        cupy = EmulatedCupy()
        assert cupy.RawModule(code=SOURCE).get_function("scale").signature == ["*f4", "f4", "i4"]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((np.float64(2), np.int32(5)), TypeError, "argument 1"),
            ((2.0, np.int32(5)), TypeError, "argument 1"),
            ((np.float32(2), np.int64(5)), TypeError, "argument 2"),
            ((np.float32(2),), TypeError, "takes 3"),
        ],
    )
    def test_scalars_of_the_wrong_type(self, arguments, error, message):
        cupy = EmulatedCupy()
        with pytest.raises(error, match=message):
            cupy.RawModule(code=SOURCE).get_function("scale")(
                (1,), (32,), (cupy.zeros(5, np.float32), *arguments)
            )

    def test_arrays_of_the_wrong_type_or_order_or_place(self):
        cupy = EmulatedCupy()
        scale = cupy.RawModule(code=SOURCE).get_function("scale")
        for values in (cupy.zeros(5, np.float64), np.zeros(5, np.float32)):
            with pytest.raises(TypeError, match="argument 0"):
                scale((1,), (32,), (values, np.float32(2), np.int32(5)))
        with pytest.raises(ValueError, match="C-ordered"):
            scale((1,), (32,), (cupy.zeros((5, 5), np.float32).T, np.float32(2), np.int32(5)))

    def test_a_barrier_that_not_all_reach(self):
        cupy = EmulatedCupy()
        with pytest.raises(RuntimeError, match="barrier"):
            cupy.RawModule(code=SOURCE).get_function("diverge")(
                (1,), (8,), (cupy.zeros(8, np.float32),)
            )

    def test_writing_beside_an_array(self):
        cupy = EmulatedCupy()
        with pytest.raises(RuntimeError, match="beside"):
            cupy.RawModule(code=SOURCE).get_function("beside")(
                (1,), (8,), (cupy.zeros(8, np.float32),)
            )

    @pytest.mark.parametrize(
        ("grid", "block"), [((0,), (32,)), ((1,), (2048,)), ((1, 70000), (32,)), ((1,), (64, 32))]
    )
    def test_impossible_grids(self, grid, block):
        cupy = EmulatedCupy()
        with pytest.raises(ValueError, match=r"not possible|too large"):
            cupy.RawModule(code=SOURCE).get_function("beside")(
                grid, block, (cupy.zeros(8, np.float32),)
            )

    @pytest.mark.slow
    def test_source_that_does_not_compile(self):
        with pytest.raises(RuntimeError, match="does not compile"):
            compiled("this is no C")


class TestEmulatedArrays:
    def test_hosts_and_devices_do_not_mix(self):
        cupy = EmulatedCupy()
        ours, theirs = cupy.ones(3, np.float32), np.ones(3, np.float32)
        for mix in (
            lambda: np.asarray(ours),
            lambda: ours + theirs,
            lambda: theirs * ours,
            lambda: cupy.maximum(ours, theirs),
        ):
            with pytest.raises(TypeError):
                mix()
        with pytest.raises(TypeError):
            ours[:] = theirs
        assert isinstance(np.float32(2) * ours + 1, Array)

    def test_views_share_and_copies_do_not(self):
        cupy = EmulatedCupy()
        array = cupy.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))
        array[1].fill(0)
        copy = array.copy()
        array.reshape(4, 3)[0] = 7
        np.testing.assert_array_equal(array.get(), [[7, 7, 7, 3], [0, 0, 0, 0], [8, 9, 10, 11]])
        assert copy.get()[0, 0] == 0

    def test_new_memory_is_nan_and_counted(self):
        cupy = EmulatedCupy(memory=4000)
        array = cupy.empty((10, 50), np.float32)
        assert np.isnan(array.get()).all()
        assert cupy.cuda.runtime.memGetInfo() == (2000, 4000)
        with pytest.raises(MemoryError):
            cupy.zeros(501, np.float32)
        del array
        assert cupy.cuda.runtime.memGetInfo() == (4000, 4000)


class TestDevice:
    def test_sums_have_the_same_bits_every_time(self, cuda):
        values = np.random.default_rng(0).standard_normal((3, 1000))
        sums = BlockSums(3, 1000)
        sums.partial[...] = cuda.asarray(values)
        first = sums.total()
        np.testing.assert_allclose(first, values.sum(axis=1), rtol=1e-12)
        np.testing.assert_array_equal(sums.total(), first)

    def test_arguments(self, cuda):
        kernels = Kernels("common.cu")
        with pytest.raises(ValueError, match="C-ordered"):
            kernels.call(
                "sum_partials", (1,), (256,), cuda.zeros((2, 3)).T, np.int64(3), cuda.zeros(2)
            )
        with pytest.raises(TypeError, match="ndarray"):
            kernels.call("sum_partials", (1,), (256,), np.zeros((2, 3)), np.int64(3), cuda.zeros(2))

    def test_to_device_and_back(self, cuda):
        host = np.asfortranarray(np.random.default_rng(1).random((3, 4, 5)))
        ours = device.to_device(host)
        assert isinstance(ours, cuda.ndarray)
        assert ours.flags.c_contiguous
        np.testing.assert_array_equal(device.to_host(ours), host.astype(np.float32))
        assert device.to_device(ours) is ours

    def test_memory_is_reckoned_before_it_is_taken(self, cuda):
        free = device.free_memory()
        with (
            pytest.raises(
                MemoryError,
                match=r"a run needs about .* GB on the device .* are free: .*lazy.*numba",
            ),
            device.reserved(free, "a run"),
        ):
            raise AssertionError("not reached")

    def test_running_out_of_memory_says_the_same(self, machine):
        with (
            pytest.raises(MemoryError, match="a run needs about 1e-09 GB on the device Emulated"),
            device.reserved(1, "a run"),
        ):
            machine.zeros(2**30, np.float32)

    def test_problem_names_what_is_missing(self, monkeypatch):
        def missing():
            raise ImportError("No module named 'cupy'")

        monkeypatch.setattr(device, "cupy", missing)
        assert "cuda12" in device.problem()
        assert not device.available()

    def test_problem_with_the_driver_and_without_devices(self, machine):
        assert device.problem() is None
        machine.cuda.runtime.getDeviceCount = lambda: 0
        assert "no device" in device.problem()

        def broken():
            raise RuntimeError("cudaErrorInsufficientDriver")

        machine.cuda.runtime.getDeviceCount = broken
        assert "cudaErrorInsufficientDriver" in device.problem()


SOURCES = sorted(
    path.name for path in device.files(device.__package__).iterdir() if path.name.endswith(".cu")
)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("source", SOURCES)
def test_nvcc_compiles_every_source_without_a_warning(source, architecture, tmp_path):
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("nvcc is not installed")
    sources = ("common.cu",) if source == "common.cu" else ("common.cu", source)
    (text := tmp_path / source).write_text(Kernels(*sources).code)
    command = [
        nvcc,
        "-ptx",
        "--std=c++14",
        "-arch",
        architecture,
        "-Werror",
        "all-warnings",
        "-o",
        str(tmp_path / "out.ptx"),
        str(text),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr.strip()
