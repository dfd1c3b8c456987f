# SPDX-License-Identifier: GPL-3.0-or-later
"""Roofline of the projector: the limits of one core beside its inner loops.

    python benchmarks/roofline.py

All figures are GFLOP/s of one core, a fused multiply-add counting two: the peak in registers; the
same with one operand of each loaded from the first-level cache, the second-level cache, and memory;
both inner loops on data in the first level; and whole projections. A pair of weights serves two
neighbouring elements: two multiply-adds of all lanes with loaded operands, and three more loads, of
the weights and the position.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np

from hyperspy_multitomo.tomography import TiltGeometry, projector
from hyperspy_multitomo.tomography.cpu import kernels
from hyperspy_multitomo.tomography.cpu.kernels import BAND, RUN, TILE, TILTS, kernel
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes, odd
from hyperspy_multitomo.tomography.cpu.simd import fma, load, store

REPEATS = 9
SIZES = {"first level (16 KB)": 16, "second level (256 KB)": 256, "memory (256 MB)": 256 * 1024}


@kernel
def multiply_add(a, repeats, factor):
    """Do 2 multiply-adds of all lanes in registers, over and over."""
    p, q, r = load(a, 0), load(a, 1), load(a, 2)
    for _ in range(repeats):
        p, q = fma(factor, p, r), fma(factor, q, r)
    store(a, 0, p)
    store(a, 1, q)


@kernel
def load_multiply_add(a, elements, repeats, factor):
    """Add all elements times a factor, over and over."""
    p, q = load(a, 0), load(a, 1)
    for _ in range(repeats):
        for k in range(0, elements, 2):
            p, q = fma(factor, load(a, k), p), fma(factor, load(a, k + 1), q)
    store(a, 0, p)
    store(a, 1, q)


@kernel
def sum_rays(volume, projections, first, near, far, repeats):
    """Repeat the inner loop of the projection."""
    for _ in range(repeats):
        kernels._sum_rays(volume, projections, 0, RUN, BAND, 1, first, near, far)


@kernel
def sum_tile(sums, projections, first, near, far, repeats):
    """Repeat the inner loop of the back projection."""
    for _ in range(repeats):
        kernels._sum_tile(sums, projections, TILTS, TILE, TILE, first, near, far, False)


@kernel
def ray_weights(first, near, far, repeats):
    """Repeat the weights of the projection."""
    for k in range(repeats):
        kernels._ray_weights(first, near, far, BAND, 1e-6 * k - 3, 0.02, 1.01, 1.0, 256, 0, 25, 1)


@kernel
def voxel_weights(first, near, far, table, repeats):
    """Repeat the weights of the back projection."""
    for k in range(repeats):
        kernels._voxel_weights(first, near, far, table, 0, TILTS, 1e-6 * k, 5, 1.0, 256, 257)


def least(call) -> float:
    """Return the least core seconds of several calls."""
    call()
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def _ones(elements: int, lanes: int) -> np.ndarray:
    array = empty_lanes(elements, lanes)
    array["lanes"][:] = 1e-3
    return array


def _buffers(length: int) -> tuple[np.ndarray, ...]:
    return (
        np.zeros(length, np.int32),
        np.full(length, 0.5, np.float32),
        np.full(length, 0.5, np.float32),
    )


def bounds(lanes: int) -> dict[str, float]:
    """Return the GFLOP/s that the machine allows with so many lanes."""
    half = np.float32(0.5)
    repeats = 30_000_000 // lanes
    rates = {
        "in registers": 4
        * lanes
        * repeats
        / least(lambda: multiply_add(_ones(3, lanes), repeats, half))
    }
    for name, size in SIZES.items():
        elements = size * 256 // lanes
        array, repeats = _ones(elements, lanes), max(1, 2000 * 16 // size)
        seconds = least(
            lambda array=array, elements=elements, repeats=repeats: load_multiply_add(
                array, elements, repeats, half
            )
        )
        rates[f"operand from {name}"] = 2 * lanes * elements * repeats / seconds
    return {name: value / 1e9 for name, value in rates.items()}


def inner_loops(lanes: int, repeats: int = 2000) -> dict[str, float]:
    """Return the GFLOP/s of the inner loops of both directions on data in the first level."""
    first, near, far = _buffers(BAND * RUN)
    first[:] = (np.arange(BAND)[:, None] * 20 + np.arange(RUN) * 1.1).ravel().astype(int)
    volume, rays = _ones(BAND * 20, lanes), _ones(RUN, lanes)
    forward = least(lambda: sum_rays(volume, rays, first, near, far, repeats)) / (BAND * RUN)
    first, near, far = _buffers(TILTS * TILE**2)
    places = np.add.outer(np.arange(TILE) * 0.43, np.arange(TILE) * 0.9)
    first[:] = (np.arange(TILTS)[:, None] * 12 + places.ravel()).ravel().astype(int)
    sums, projections = _ones(TILE**2, lanes), _ones(TILTS * 12, lanes)
    back = least(lambda: sum_tile(sums, projections, first, near, far, repeats)) / (TILTS * TILE**2)
    return {
        name: 4e-9 * lanes * repeats / seconds
        for name, seconds in (("forward", forward), ("back", back))
    }


def weights(repeats: int = 4000) -> dict[str, float]:
    """Return the nanoseconds that the two weights of a pair take, per direction."""
    forward = least(lambda: ray_weights(*_buffers(BAND * RUN), repeats)) / (BAND * RUN)
    table = np.array([[0.9, 0.43, 100.3]] * TILTS)
    back = least(lambda: voxel_weights(*_buffers(TILTS * TILE**2), table, repeats)) / (
        TILTS * TILE**2
    )
    return {
        name: 1e9 * seconds / repeats for name, seconds in (("forward", forward), ("back", back))
    }


def projections(lanes: int, width: int, tilts: int) -> dict[str, float]:
    """Return the GFLOP/s of both directions, two multiply-adds for each voxel and tilt."""
    A = projector(TiltGeometry(np.linspace(-75, 75, tilts), width), "numba", threads=1)
    volume, rays, sums = (
        _ones(width * odd(width), lanes),
        _ones(tilts * odd(width), lanes),
        _ones(TILE**2, lanes),
    )
    shape = A.shape(1)
    seconds = {
        "forward": least(lambda: kernels.project(volume, rays, A.table, 1.0, shape, 0, 0, tilts)),
        "back": least(
            lambda: kernels.back_project(
                rays,
                volume,
                A.table,
                1.0,
                shape,
                0,
                0,
                width,
                sums,
                None,
                False,
                None,
                None,
                None,
                False,
            )
        ),
    }
    return {name: 4e-9 * lanes * width**2 * tilts / value for name, value in seconds.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="what binds the projector, on one core")
    parser.add_argument(
        "--lanes",
        nargs="*",
        type=int,
        default=[64, 8],
        help="lanes of a group; the bounds are those of the first",
    )
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tilts", type=int, default=61)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}; GFLOP/s of one core, best of {REPEATS}")
    print("| {} |".format(" | ".join(("", *(f"{lanes} lanes" for lanes in options.lanes)))))
    print("|---" * (1 + len(options.lanes)) + "|")
    columns = []
    for lanes in options.lanes:
        loops, whole = inner_loops(lanes), projections(lanes, options.width, options.tilts)
        column = bounds(lanes) if not columns else dict.fromkeys(columns[0])
        for name in loops:
            (
                column[f"inner loop, {name}"],
                column[f"{name}, {options.width}^2, {options.tilts} tilts"],
            ) = loops[name], whole[name]
        columns.append(column)
    for name in columns[0]:
        figures = ("" if column[name] is None else f"{column[name]:.0f}" for column in columns)
        print("| {} | {} |".format(name, " | ".join(figures)))
    print(
        "weights of a pair, ns: {}".format(
            ", ".join(f"{name} {value:.2f}" for name, value in weights().items())
        )
    )


if __name__ == "__main__":
    main()
