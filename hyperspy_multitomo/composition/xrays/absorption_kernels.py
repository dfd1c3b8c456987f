# SPDX-License-Identifier: GPL-3.0-or-later
"""Transmission of X-rays out of a volume: a sweep for all voxels, and exact tracing of rays.

The sweep goes from plane to plane along the axis on which the direction is longest, from the
detector's side inwards. Rays cross each plane on a grid as fine as the voxels, displaced by the
same fraction of a voxel for all rays of the plane. The same four weights therefore sample the
attenuation on the rays and interpolate the rays' optical depth at the voxels. Interpolated depths
are not interpolated again, so that edges are not smeared with depth as by short characteristics.

Planes and rows of voxels are anywhere in a flat array; the voxels of a row are contiguous. A kernel
processes one range of rays or planes, without the GIL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.machine.compiling import compiled
from hyperspy_multitomo.machine.parallel import Workers, ranges

#: Optical depth of a voxel up to which `_mean_over_voxel` is right to single precision.
DEEPEST_VOXEL = 8.0

kernel = compiled(error_model="numpy", fastmath={"contract", "nsz", "arcp"})

ONE = np.float32(1)


@kernel
def _decay(depth):
    """Return exp(-depth) in float32, with 1e-5 relative error up to a depth of 20; vectorised."""
    t = min(depth, np.float32(80)) * np.float32(-1 / 128)
    e = np.float32(1 / 24) + t * np.float32(1 / 120)
    e = np.float32(1 / 6) + t * e
    e = np.float32(1 / 2) + t * e
    e = ONE + t * (ONE + t * e)
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return e * e


@kernel
def _mean_over_voxel(depth):
    """Return the mean transmission along a voxel over that from its centre.

    It is sinh(depth/2)/(depth/2) for the optical depth of the voxel.
    """
    q = depth * depth * np.float32(1 / 4)
    s = ONE + q * np.float32(1 / 210)
    s = ONE + q * s * np.float32(1 / 156)
    s = ONE + q * s * np.float32(1 / 110)
    s = ONE + q * s * np.float32(1 / 72)
    s = ONE + q * s * np.float32(1 / 42)
    s = ONE + q * s * np.float32(1 / 20)
    return ONE + q * s * np.float32(1 / 6)


@kernel
def sweep(
    attenuation, transmission, weight, step, grid, origin, shifts, first_slice, depth, low, high
):
    """Add `weight` times the transmission of the voxels whose lower ray is in [low, high).

    `attenuation` and `transmission` are flat; `grid` is (planes, rows, width, stride of planes,
    stride of rows), and `origin` the index of the first voxel of the plane on the detector's side;
    the stride of the planes leads inwards. `step` is the length of a ray from plane to plane, in
    the inverse of the attenuation's unit. `shifts` are the rows and the slices by which a ray moves
    towards the detector from plane to plane. `depth` is a buffer of zeros for the rays from `low`
    to `high` and, along the slices, from `first_slice`.
    """
    planes, rows, width, plane_stride, row_stride = grid
    step, weight = np.float32(step), np.float32(weight)
    for plane in range(planes):
        row_offset, slice_offset = -plane * shifts[0], -plane * shifts[1]
        row_base, slice_base = math.floor(row_offset), math.floor(slice_offset)
        f, g = np.float32(row_offset - row_base), np.float32(slice_offset - slice_base)
        a, b, c, d = f * g, f * (ONE - g), (ONE - f) * g, (ONE - f) * (ONE - g)
        start = origin + plane * plane_stride
        left = -slice_base - 1 - first_slice  # column of the ray before the first voxel of a row
        for row in range(max(0, low + row_base + 1), min(rows, high + row_base + 1)):
            near, far = depth[row - row_base - 1 - low], depth[row - row_base - low]
            mu = attenuation[start + row * row_stride : start + row * row_stride + width]
            sums = transmission[start + row * row_stride : start + row * row_stride + width]
            for y in range(width):
                k = left + y
                voxel_depth = step * mu[y]
                outer = a * near[k] + b * near[k + 1] + c * far[k] + d * far[k + 1]
                sums[y] += (
                    weight
                    * _decay(outer + np.float32(0.5) * voxel_depth)
                    * _mean_over_voxel(voxel_depth)
                )
        for row in range(max(0, low + row_base), min(rows, high + row_base + 2)):
            mu = attenuation[start + row * row_stride : start + row * row_stride + width]
            for side in range(2):
                ray = row - row_base - side - low
                if 0 <= ray <= high - low:
                    share = step * (f if side else ONE - f)
                    near_share, far_share = share * g, share * (ONE - g)
                    depths = depth[ray]
                    for y in range(width):
                        depths[left + y] += near_share * mu[y]
                    for y in range(width):
                        depths[left + y + 1] += far_share * mu[y]


@kernel
def trace(attenuation, transmission, where, direction, voxel_size, start, stop):
    """Compute the transmission of the voxels in the mask `where`, in the planes z in [start, stop).

    The ray from a voxel's centre is followed from face to face through every voxel on its path (J.
    Amanatides and A. Woo, Eurographics 1987, 3). `attenuation` and `transmission` are (z, x, y,
    line), and `direction` is a unit vector (z, x, y).
    """
    nz, nx, ny, lines = attenuation.shape
    depth = np.empty(lines)
    dz, dx, dy = direction
    step_z, step_x, step_y = int(np.sign(dz)), int(np.sign(dx)), int(np.sign(dy))
    across_z = 1 / abs(dz) if dz != 0 else np.inf
    across_x = 1 / abs(dx) if dx != 0 else np.inf
    across_y = 1 / abs(dy) if dy != 0 else np.inf
    chord = min(across_z, across_x, across_y) * voxel_size
    for z0 in range(start, stop):
        for x0 in range(nx):
            for y0 in range(ny):
                if not where[z0, x0, y0]:
                    continue
                z, x, y = z0, x0, y0
                next_z, next_x, next_y = across_z / 2, across_x / 2, across_y / 2
                depth[:] = 0
                reached = 0.0
                while 0 <= z < nz and 0 <= x < nx and 0 <= y < ny:
                    leaves = min(next_z, next_x, next_y)
                    for line in range(lines):
                        depth[line] += attenuation[z, x, y, line] * (leaves - reached)
                    reached = leaves
                    if leaves == next_z:
                        z, next_z = z + step_z, next_z + across_z
                    elif leaves == next_x:
                        x, next_x = x + step_x, next_x + across_x
                    else:
                        y, next_y = y + step_y, next_y + across_y
                for line in range(lines):
                    mean = _mean_over_voxel(np.float32(attenuation[z0, x0, y0, line] * chord))
                    transmission[z0, x0, y0, line] = math.exp(-depth[line] * voxel_size) * mean


class Sweeps:
    """Sweeps through one attenuation (line, z, x, y).

    A copy with x and y swapped is cached for directions that are longest along y.
    """

    def __init__(self, attenuation: np.ndarray, voxel_size: float, workers: Workers, threads: int):
        self.attenuation, self.voxel_size, self.workers, self.threads = (
            attenuation,
            voxel_size,
            workers,
            threads,
        )
        self._swapped: np.ndarray | None = None

    def mean(self, directions: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
        """Return the mean transmission (line, z, x, y) towards unit vectors (x, y, z).

        The sum of the weights is 1.
        """
        result = np.zeros_like(self.attenuation)
        swapped: np.ndarray | None = None
        for (x, y, z), weight in zip(directions, weights, strict=True):
            if abs(y) <= max(abs(x), abs(z)):
                self._add(self.attenuation, result, (z, x, y), weight)
                continue
            if self._swapped is None:
                self._swapped = np.ascontiguousarray(np.swapaxes(self.attenuation, 2, 3))
            if swapped is None:
                swapped = np.zeros(self._swapped.shape, np.float32)
            self._add(self._swapped, swapped, (z, y, x), weight)
        return result if swapped is None else np.add(result, np.swapaxes(swapped, 2, 3), out=result)

    def _add(
        self,
        attenuation: np.ndarray,
        result: np.ndarray,
        direction: tuple[float, float, float],
        weight: float,
    ) -> None:
        """Add the weighted transmission towards `direction`, in the order of the axes.

        Its longest component is not the last.
        """
        lines, *sizes = attenuation.shape
        plane_axis = int(abs(direction[1]) > abs(direction[0]))
        row_axis = 1 - plane_axis
        planes, rows, width = sizes[plane_axis], sizes[row_axis], sizes[2]
        strides = (sizes[1] * width, width)
        march = direction[plane_axis]
        shifts = (direction[row_axis] / abs(march), direction[2] / abs(march))
        # Towards a growing index the planes begin with the last.
        first, stride = (
            ((planes - 1) * strides[plane_axis], -strides[plane_axis])
            if march > 0
            else (0, strides[plane_axis])
        )
        grid = (planes, rows, width, stride, strides[row_axis])
        low, high = _ray_range(planes, rows, shifts[0])
        left, right = _ray_range(planes, width, shifts[1])
        volume = int(np.prod(sizes))
        flat, sums = attenuation.reshape(-1), result.reshape(-1)

        def rays(line, start, stop):
            depth = np.zeros((stop - start + 1, right - left + 1), np.float32)
            origin = line * volume + first
            sweep(
                flat,
                sums,
                weight,
                self.voxel_size / abs(march),
                grid,
                origin,
                shifts,
                left,
                depth,
                low + start,
                low + stop,
            )

        chunks = (
            ranges(high - low, -(-4 * self.threads // lines), 8, high - low)
            if self.threads > 1
            else [(0, high - low)]
        )
        self.workers.run(rays, [(line, *chunk) for line in range(lines) for chunk in chunks])


def _ray_range(planes: int, count: int, shift: float) -> tuple[int, int]:
    """Return the first ray that is the lower neighbour of a voxel in any plane, and the end."""
    last = math.floor(-(planes - 1) * shift)
    return -1 - max(last, 0), count - 1 - min(last, 0)


def traced(
    attenuation: np.ndarray,
    voxel_size: float,
    unit: np.ndarray,
    where: ArrayLike | None,
    workers: Workers,
    threads: int,
) -> np.ndarray:
    """Return the exact transmission (line, z, x, y) towards a unit vector (x, y, z), in a mask."""
    shape = attenuation.shape[1:]
    wanted = np.ones(shape, bool) if where is None else np.asarray(where)
    if wanted.dtype != bool or wanted.shape != shape:
        raise ValueError(
            f"`where` is {wanted.dtype} of shape {wanted.shape}; expected bool of shape {shape}"
        )
    result = np.ones_like(attenuation)
    # Rays are traced in the bounding box of the absorbing and the masked voxels.
    occupied = wanted | (attenuation.max(axis=0) > 0)
    spans = [np.flatnonzero(occupied.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not spans[0].size:
        return result
    box = tuple(slice(span[0], span[-1] + 1) for span in spans)
    inside = np.ascontiguousarray(np.moveaxis(attenuation[:, *box], 0, -1))
    found, starts = np.ones_like(inside), np.ascontiguousarray(wanted[box])
    x, y, z = (float(component) for component in unit)
    tasks = ranges(inside.shape[0], 8 * threads, 1, inside.shape[0])
    workers.run(
        lambda start, stop: trace(inside, found, starts, (z, x, y), voxel_size, start, stop), tasks
    )
    result[:, *box] = np.moveaxis(found, -1, 0)
    return result
