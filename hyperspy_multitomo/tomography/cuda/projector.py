# SPDX-License-Identifier: GPL-3.0-or-later
"""Projectors on device arrays: their base class, and the matched pair of the "cuda" back-end."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from math import prod

import numpy as np

from hyperspy_multitomo.machine.memory import OF_DEVICE
from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import (
    BLOCK,
    Kernels,
    grid_of,
    to_device,
    to_host,
)
from hyperspy_multitomo.tomography.cuda.memory import scratch_bytes
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.projectors import Projector, dot_test

#: Slices per thread of projector.cu.
SLICES = 4

_kernels = Kernels("common.cu", "projector.cu")


def lanes_of(slices: int) -> int:
    """Return the lanes of a block that take slices: a power of two up to 32, few of them idle.

    Examples
    --------
    >>> [lanes_of(slices) for slices in (1, 3, 8, 33, 40, 300)]
    [1, 4, 8, 8, 8, 16]
    """
    if slices < 8:
        return 1 << (slices - 1).bit_length()
    return min((32, 16, 8), key=lambda lanes: -(-slices // lanes) * lanes)


class DeviceProjector(Projector):
    """A projector of C-ordered float32 device arrays.

    Volumes are (channel, z, x, y), rays (channel, tilt, u, y).

    Rays have detector pixels of one voxel. Called with arrays of the host, it copies as many slices
    at a time as the memory of the device holds. A back-end gives `project_device` and
    `back_device`.

    Attributes
    ----------
    backend : str
        Its name in `BACKENDS`.
    device_id : int
        The device that was CuPy's current one when the projector was made; all its work is done
        there.
    """

    backend: str

    def __init__(self, geometry: TiltGeometry, threads: int | None = None):
        super().__init__(geometry, threads)
        self.device_id = int(device.cupy().cuda.Device().id)

    @property
    def device(self):
        """The device as a context.

        CuPy's current device belongs to a thread, and iterations run in a thread of their own.
        """
        return device.cupy().cuda.Device(self.device_id)

    def rays_shape(self, channels: int, slices: int) -> tuple[int, int, int, int]:
        """Return the shape of the rays of a volume with these channels and slices."""
        return channels, self.range_shape[0], self.rays.detector_width, slices

    @abstractmethod
    def project_device(self, volume, rays) -> None:
        """Write W x into `rays`.

        Parameters
        ----------
        volume, rays : device array
            (channel, z, x, y) and (channel, tilt, u, y).
        """

    @abstractmethod
    def back_device(
        self,
        rays,
        volume,
        step=None,
        multiply=False,
        extra=None,
        shares=None,
        mask=None,
        nonnegative=False,
    ) -> None:
        """Project the rays back into the volume.

        Parameters
        ----------
        rays, volume : device array
            (channel, tilt, u, y) and (channel, z, x, y).
        step : device array, optional
            C (channel, z, x). Without it the volume becomes b = W^T y; with it x + C (b +
            shares_channel extra), or x + x C b with `multiply`, then made non-negative if asked
            for, then multiplied by the mask.
        multiply, nonnegative : bool
        extra, mask : device array, optional
            (z, x, y).
        shares : device array, optional
            (channel,).
        """

    def scratch_bytes(self, slices: int) -> int:
        """Return the bytes of the device that a projection of so many slices takes for itself."""
        return scratch_bytes(self.backend, self.geometry, slices)

    def mean_device(self, rays, pixels) -> None:
        """Write the means of rays (.., u, y) over detector pixels into `pixels` (.., u/b, y/b)."""
        shape = (pixels.size, pixels.shape[-1])
        _kernels.call(
            "mean_pixels",
            grid_of(shape[0]),
            (BLOCK,),
            rays,
            pixels,
            self.geometry.binning,
            np.int64(shape[0]),
            shape[1],
        )

    def in_batches(
        self, call, source: np.ndarray, shape: tuple[int, int, int], *, growth: int = 1, more=None
    ) -> np.ndarray:
        """Return the result of `call(source, result)` on the device, in batches of slices that fit.

        Parameters
        ----------
        call : callable
            Given device arrays (.., y) of some slices of the source, and of the result, which it
            fills.
        source : numpy.ndarray
            (channel, a, b, y) float32.
        shape : (int, int, int)
            (channel, c, d) of the result.
        growth : int, default 1
            Slices of the result that are made of one of the source.
        more : callable, optional
            Bytes that `call` takes for itself for so many slices of the source.

        Returns
        -------
        numpy.ndarray
            (*shape, y growth) float32.
        """
        slices = source.shape[-1]
        result = np.empty((*shape, slices * growth), np.float32)

        def needed(count):
            numbers = count * (prod(source.shape[:-1]) + growth * prod(shape))
            return (
                4 * numbers
                + self.scratch_bytes(count * growth)
                + (0 if more is None else more(count))
            )

        with self.device:
            room = int(OF_DEVICE * device.free_memory() / (needed(16) / 16))
            count = min(slices, room // 32 * 32 if room > 32 else max(room, 1))
            with device.reserved(needed(count), f"projecting {count} of {slices} slices"):
                for start in range(0, slices, count):
                    part = to_device(source[..., start : start + count])
                    target = device.cupy().empty((*shape, part.shape[-1] * growth), np.float32)
                    call(part, target)
                    result[..., start * growth : (start + count) * growth] = to_host(target)
                    del part, target
        return result

    def _project(self, volumes):
        return self.in_batches(
            self.project_device, volumes, self.rays_shape(volumes.shape[0], 1)[:3]
        )

    def _back_project(self, projections):
        return self.in_batches(
            self.back_device, projections, (projections.shape[0], *self.domain_shape)
        )


class CudaProjector(DeviceProjector):
    """Joseph's projector on an NVIDIA GPU, exactly adjoint, with the weights of "numba"."""

    backend = "cuda"

    def __init__(self, geometry, threads=None):
        super().__init__(geometry, threads)
        directions, (nz, nx) = geometry.directions, self.domain_shape
        self.table = np.column_stack(
            [directions, self.rays.origins - directions @ [(nx - 1) / 2, (nz - 1) / 2]]
        )
        self._device_table = None

    def __getstate__(self):
        """Return the state without what lies on the device."""
        return self.__dict__ | {"_device_table": None}

    def _call(self, function, first, second, rows, across, *more):
        """Run a kernel for `rows` rows of `across` rays or voxels in all slices of all channels."""
        if self._device_table is None:
            self._device_table = to_device(self.table, np.float64)
        channels, slices = first.shape[0], first.shape[-1]
        lanes = lanes_of(slices)
        height = BLOCK // lanes
        grid = (rows * -(-across // height), -(-slices // (lanes * SLICES)), channels)
        sizes = (*self.domain_shape, self.range_shape[0], self.rays.detector_width, slices)
        length = float(self.geometry.pixel_size)
        _kernels.call(
            function,
            grid,
            (lanes, height),
            first,
            second,
            self._device_table,
            length,
            *sizes,
            *more,
        )

    def project_device(self, volume, rays):
        """Write W x into `rays`; see `DeviceProjector`."""
        self._call("project", volume, rays, self.range_shape[0], self.rays.detector_width)

    def back_device(
        self,
        rays,
        volume,
        step=None,
        multiply=False,
        extra=None,
        shares=None,
        mask=None,
        nonnegative=False,
    ):
        """Project the rays back into the volume; see `DeviceProjector`."""
        more = (step, multiply, extra, shares, mask, nonnegative)
        self._call("back_project", rays, volume, *self.domain_shape, *more)


def device_projector(A: Projector) -> DeviceProjector:
    """Return the projector, which has to work on device arrays."""
    if not isinstance(A, DeviceProjector):
        raise TypeError(f"the projector is a {type(A).__name__}; expected a DeviceProjector")
    return A


def verified(
    kind: type[DeviceProjector], tolerance: float, mismatch: float
) -> type[DeviceProjector]:
    """Return a class of projectors after a check of its numbers on a tiny geometry.

    The check runs once in a process.

    Parameters
    ----------
    kind : type
    tolerance, mismatch : float
        Relative distance from the numbers of the "numba" back-end, and result of `dot_test`, at
        most.

    Raises
    ------
    ImportError
        Without CuPy.
    RuntimeError
        Without a device that works, or if the numbers are wrong.
    """
    module = device.cupy()
    if (problem := device.problem()) is None:
        problem = _wrong(module, module.cuda.Device().id, kind, tolerance, mismatch)
    if problem is not None:
        raise RuntimeError(problem)
    return kind


@cache
def _wrong(
    module, device_id: int, kind: type[DeviceProjector], tolerance: float, mismatch: float
) -> str | None:
    """Return what is wrong with a projector's numbers on a device, None where nothing is."""
    from hyperspy_multitomo.tomography.cpu.numba_projector import NumbaProjector

    geometry = TiltGeometry(
        [-70.0, -45.0, 0.0, 25.0, 90.0], 17, (14, 19), 0.8, 0.7, [0.0, 0.3, -1.2, 0.0, 2.0]
    )
    try:
        A, reference = kind(geometry), NumbaProjector(geometry, 1)
        rng = np.random.default_rng(0)
        volume, rays = rng.random((2, *A.domain_shape, 5)), rng.random((2, *A.range_shape, 5))
        pairs = ((A(volume), reference(volume)), (A.T(rays), reference.T(rays)))
        distance = max(
            np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) for ours, theirs in pairs
        )
        unmatched = dot_test(A)
    except Exception as error:  # of the compiler, the driver, another library: of many types
        return (
            f"the projector {kind.__name__} fails on the device {device.name()}: "
            f"{type(error).__name__}: {error}"
        )
    if distance <= tolerance and unmatched <= mismatch:
        return None
    return (
        f"the projector {kind.__name__} gives wrong numbers on the device {device.name()}: "
        f"{distance:.1e} from those of the CPU "
        f"(at most {tolerance:.0e}), {unmatched:.1e} from adjoint (at most {mismatch:.0e})"
    )
