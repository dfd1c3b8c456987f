# SPDX-License-Identifier: GPL-3.0-or-later
"""The "astra_cuda" back-end: ASTRA's 3-D parallel-beam projectors on device arrays."""

from __future__ import annotations

import weakref

import numpy as np

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import BLOCK, Kernels, grid_of
from hyperspy_multitomo.tomography.cuda.projector import CudaProjector, DeviceProjector
from hyperspy_multitomo.tomography.geometry import TiltGeometry

_kernels = Kernels("common.cu", "projector.cu")


def parallel_vectors(rays: TiltGeometry) -> np.ndarray:
    """Return the vectors (tilt, 12) of ASTRA's geometry 'parallel3d_vec'.

    They are the ray, the centre of the detector, and the steps of columns u and rows v.

    Our y, x, z are ASTRA's X, Y, Z, all growing with the index, so that a volume (z, x, y) is
    ASTRA's as it lies in memory. The columns of its detector are our slices y, its rows v our
    detector pixels: projections are (x, tilt, y).

    Parameters
    ----------
    rays : TiltGeometry
        With detector pixels of one voxel.

    Returns
    -------
    numpy.ndarray
        (tilt, 12), in voxels.

    Examples
    --------
    >>> parallel_vectors(TiltGeometry([0, 90], 8, axis_offset=0.5))[1].round(2) + 0
    array([ 0. , -1. , 0. , 0. , 0. , -0.5, 1. , 0. , 0. , 0. , 0. , 1. ])
    """
    cos, sin = rays.directions.T
    # The centre of the volume on the detector, from the detector's middle.
    offset = rays.origins - (rays.detector_width - 1) / 2
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    return np.column_stack(
        [zero, -sin, cos, zero, -offset * cos, -offset * sin, one, zero, zero, zero, cos, sin]
    )


class AstraCudaProjector(DeviceProjector):
    """ASTRA's parallel-beam projectors for the GPU.

    W. J. Palenstijn et al., J. Struct. Biol. 176 (2011) 250, doi:10.1016/j.jsb.2011.07.017.

    They are no matched pair. The forward projection has Joseph's weights through textures, whose
    fractions have 8 bits. The back projection interpolates linearly between two pixels at the place
    where the voxel's centre falls, 1 - |u - p| instead of (1 - |u - p|/c)/c. SIRT, HEBT, EM and
    filtered back projection can work with that. It is written from the sources of ASTRA 2.5 and
    tested against an emulation of its kernels; it has not run on a device yet. Before its first use
    in a process its numbers are compared with those of the CPU, but ASTRA does not report every
    later failure, such as a lack of memory.
    """

    backend = "astra_cuda"

    def __init__(self, geometry, threads=None):
        super().__init__(geometry, threads)
        self._vectors = parallel_vectors(self.rays)
        self._projectors: dict[int, int] = {}  # ASTRA's numbers of them, by slices

    def matched(self) -> CudaProjector:
        """Return the matched pair of the same geometry."""
        return CudaProjector(self.geometry, self.threads)

    def __getstate__(self):
        """Return the state without ASTRA's numbers, which belong to a process."""
        return self.__dict__ | {"_projectors": {}}

    def _projector(self, slices: int) -> int:
        """Return ASTRA's number of the projector of so many slices."""
        import astra

        if slices not in self._projectors:
            nz, nx = self.domain_shape
            volume = astra.create_vol_geom(nx, slices, nz)  # rows Y, columns X, slices Z
            rays = astra.create_proj_geom(
                "parallel3d_vec", self.rays.detector_width, slices, self._vectors
            )
            self._projectors[slices] = number = astra.create_projector("cuda3d", rays, volume)
            weakref.finalize(self, astra.projector3d.delete, number)
        return self._projectors[slices]

    def _run(self, name: str, volume, rays, result) -> None:
        """Call ASTRA's projection `name` on a volume (z, x, y) and rays (x, tilt, y).

        `result` is which of the two it writes.
        """
        import astra
        import astra.experimental

        module = device.cupy()
        astra.set_gpu_index(self.device_id)
        result.fill(np.nan)
        if module.cuda.runtime.memGetInfo()[0] < 2 * max(volume.nbytes, rays.nbytes):
            # ASTRA makes its textures outside of CuPy's pool.
            module.get_default_memory_pool().free_all_blocks()
        module.cuda.Stream.null.synchronize()  # ASTRA works on another stream
        getattr(astra.experimental, name)(self._projector(volume.shape[-1]), volume, rays)
        if np.isnan(float(result[0, 0, 0])):
            raise RuntimeError(
                f"ASTRA's {name} has not written its result; see the messages that it has printed"
            )

    def project_device(self, volume, rays):
        """Write W x into `rays`; see `DeviceProjector`."""
        _, tilts, width, slices = rays.shape
        seen = device.cupy().empty((width, tilts, slices), np.float32)
        for channel in range(len(volume)):
            self._run("direct_FP3D", volume[channel], seen, seen)
            rays[channel] = seen.swapaxes(0, 1) * np.float32(
                self.geometry.pixel_size
            )  # ASTRA's lengths are in voxels

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
        module = device.cupy()
        sums = module.empty(volume.shape[1:], np.float32)
        voxels, slices, length = (
            sums.shape[0] * sums.shape[1],
            sums.shape[2],
            float(self.geometry.pixel_size),
        )
        for channel in range(len(volume)):
            seen = module.ascontiguousarray(rays[channel].swapaxes(0, 1))
            self._run("direct_BP3D", sums, seen, sums)
            _kernels.call(
                "update_channel", grid_of(sums.size), (BLOCK,), sums, length, volume, channel,
                voxels, slices, step, multiply, extra, shares, mask, nonnegative,
            )  # fmt: skip
