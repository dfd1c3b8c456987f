# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions on a GPU: agreement with the CPU, and time.

    python benchmarks/device.py

Needs CuPy and a GPU. Prints three tables. Times are of whole iterations with the arrays on the
device; the copies to and from it and the sums of the weights have a column of their own. ASTRA's
SIRT gets one channel, in its own layout. TV, TGV and nuclear TV run with the matched pair only.
"Moved" is the least number of bytes that their iteration reads and writes, per voxel and channel.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import islice

import numpy as np

from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    dot_test,
    em,
    fbp,
    hebt,
    projector,
    run,
    sirt,
    variational,
)
from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.primal_dual import regularised_bytes
from hyperspy_multitomo.tomography.cuda.reckoning import device_bytes

RATIOS = [5.0, 7.0, 3.0, 1.0]
# Name: kind, coupling.
REGULARISED = {"TV": ("tv", "frobenius"), "TGV": ("tgv", "frobenius"), "TNV": ("tv", "nuclear")}
REGULARISED_ITERATIONS = 2000  # assumed for the share of setting up and copying in a run


def phantom(size: int, slices: int, channels: int) -> np.ndarray:
    """Return balls of several sizes, one in each channel, (channel, z, x, y), about 1 inside."""
    z, x, y = np.ogrid[:size, :size, :slices]
    volume = np.empty((channels, size, size, slices), np.float32)
    for channel in range(channels):
        radius, place = size * (0.12 + 0.03 * channel), size * (0.35 + 0.1 * channel)
        volume[channel] = (z - place) ** 2 + (x - size / 2) ** 2 + (y - slices / 2) ** 2 < radius**2
    return volume


class Problem:
    """Counts of a phantom and its HAADF signal, projected by the given back-end.

    Parameters
    ----------
    size, tilts, channels : int
        The volume is a cube.
    slices : int, optional
        Slices y, if fewer.
    backend : str
    """

    def __init__(
        self, size: int, tilts: int, channels: int, slices: int | None = None, backend: str = "cuda"
    ):
        self.geometry = TiltGeometry(np.linspace(-75, 75, tilts), size, axis_offset=0.3)
        self.channels, self.slices = channels, size if slices is None else slices
        clean = projector(self.geometry, backend)(phantom(size, self.slices, channels))
        rng = np.random.default_rng(0)
        self.level = 10 / float(clean.max())
        self.counts = rng.poisson(clean * self.level).astype(np.float32)
        self.haadf = np.tensordot(np.float32(RATIOS[:channels]), clean, 1)

    def iterates(self, method: str, backend: str):
        """Return the iterates of "SIRT", "HEBT", "EM" or one of `REGULARISED`."""
        A = projector(self.geometry, backend)
        if method in REGULARISED:
            scales = np.full(self.channels, self.level)
            return variational(
                [DataTerm(A, self.counts)], Regulariser(10.0, *REGULARISED[method]), scales
            )
        if method == "HEBT":
            return hebt(A, self.counts, self.haadf, RATIOS[: self.channels])
        return {"SIRT": sirt, "EM": em}[method](A, self.counts)

    def result(self, method: str, backend: str, iterations: int) -> np.ndarray:
        """Return the volume of a method, or the result of a projection, for comparisons."""
        A = projector(self.geometry, backend)
        if method == "W x":
            return A(self.counts.sum(axis=1)[:, None, :, :].repeat(A.domain_shape[0], axis=1))
        if method == "W^T y":
            return A.T(self.counts)
        if method == "FBP":
            return fbp(A, self.counts, filter="hann")
        return run(self.iterates(method, backend), iterations).volume


METHODS = ("SIRT", "HEBT", "EM")


def agreement(backends: list[str], size: int, iterations: int) -> None:
    """Print the difference of each back-end from the CPU, relative to the norm of the result."""
    problem = Problem(size, 13, 2, slices=min(size, 40), backend="numba")
    print(
        f"Difference from the cores, {size} px, 13 tilts, {problem.slices} slices, {iterations} "
        "iterations\n"
    )
    print(f"| | {' | '.join(backends)} |\n|{'---|' * (1 + len(backends))}")
    for method in ("W x", "W^T y", "FBP", *METHODS, *REGULARISED):
        expected = problem.result(method, "numba", iterations)
        cells = []
        for backend in backends:
            if method in REGULARISED and backend != "cuda":
                cells.append("")
                continue
            difference = np.linalg.norm(
                problem.result(method, backend, iterations) - expected
            ) / np.linalg.norm(expected)
            cells.append(f"{difference:.1e}")
        print(f"| {method} | {' | '.join(cells)} |", flush=True)
    mismatch = [f"{dot_test(projector(problem.geometry, backend)):.1e}" for backend in backends]
    print(f"| mismatch of the adjoint | {' | '.join(mismatch)} |\n", flush=True)


def seconds(call) -> float:
    """Return the time of a call, the device's work included."""
    start = time.perf_counter()
    call()
    device.cupy().cuda.Stream.null.synchronize()
    return time.perf_counter() - start


def iterations_of(
    problem: Problem, method: str, backend: str, iterations: int
) -> tuple[float, float]:
    """Return the seconds per iteration, and those of setting up and copying back."""
    made = []
    around = seconds(lambda: made.append(problem.iterates(method, backend)))
    iterates = made[0]
    around += seconds(lambda: next(iterates))
    next(iterates)
    per_iteration = (
        seconds(lambda: made.append(list(islice(iterates, iterations))[-1])) / iterations
    )
    around += seconds(lambda: made[-1].volume)
    return per_iteration, around


def projections_of(problem: Problem, backend: str, repeats: int) -> tuple[float, float]:
    """Return the seconds of one projection and one back projection, arrays on the device."""
    A = projector(problem.geometry, backend)
    volume = device.cupy().ones((problem.channels, *A.domain_shape, problem.slices), np.float32)
    rays = device.cupy().zeros(A.rays_shape(problem.channels, problem.slices), np.float32)
    times = []
    for call in (lambda: A.project_device(volume, rays), lambda: A.back_device(rays, volume)):
        call()
        times.append(seconds(lambda call=call: [call() for _ in range(repeats)]) / repeats)
    return times[0], times[1]


def astra_sirt3d(problem: Problem, iterations: int) -> float:
    """Return the seconds per iteration of ASTRA's SIRT3D_CUDA of one channel."""
    import astra

    nz, nx = problem.geometry.volume_shape
    vectors = projector(problem.geometry, "astra_cuda")._vectors
    rays = astra.create_proj_geom("parallel3d_vec", nx, problem.slices, vectors)
    volume = astra.create_vol_geom(nx, problem.slices, nz)
    data = astra.data3d.create(
        "-proj3d", rays, np.ascontiguousarray(problem.counts[0].swapaxes(0, 1))
    )
    result = astra.data3d.create("-vol", volume)
    settings = astra.astra_dict("SIRT3D_CUDA") | {
        "ProjectionDataId": data,
        "ReconstructionDataId": result,
    }
    settings["option"] = {"MinConstraint": 0}
    algorithm = astra.algorithm.create(settings)
    try:
        astra.algorithm.run(algorithm, 1)
        # The difference of two runs leaves out copies and sums of the weights.
        short, long = (
            seconds(lambda n=n: astra.algorithm.run(algorithm, n)) for n in (1, 1 + iterations)
        )
        return (long - short) / iterations
    finally:
        astra.algorithm.delete(algorithm)
        astra.data3d.delete([data, result])


def times(backends: list[str], size: int, tilts: int, channels: int, iterations: int) -> None:
    """Print the times per iteration."""
    problem = Problem(size, tilts, channels)
    print(
        f"Times, {size}^3 voxels, {channels} channels, {tilts} tilts, all channels together, on "
        f"{device.name()}\n"
    )
    print(
        "| | back-end | ms per iteration | iterations | copies and sums, s | reckoned, GB "
        "|\n|---|---|---|---|---|---|"
    )
    for backend in backends:
        forward, back = projections_of(problem, backend, max(iterations // 10, 1))
        print(
            f"| W x; W^T y | {backend} | {1e3 * forward:.2f}; {1e3 * back:.2f} | | | |", flush=True
        )
        for method in METHODS:
            count = iterations if method == "HEBT" else max(iterations // 4, 1)
            per_iteration, around = iterations_of(problem, method, backend, count)
            taken = device_bytes(
                method.lower(), problem.geometry, channels, problem.slices, backend=backend
            )
            print(
                f"| {method} | {backend} | {1e3 * per_iteration:.2f} | {count} | {around:.2f} | "
                f"{taken / 1e9:.2f} |"
            )
        A = projector(problem.geometry, backend)
        fbp(A, problem.counts[..., :1])
        print(
            f"| FBP, all of it | {backend} | "
            f"{1e3 * seconds(lambda A=A: fbp(A, problem.counts)):.0f} | | | |",
            flush=True,
        )
    if "astra_cuda" in backends:
        per_iteration = astra_sirt3d(problem, max(iterations // 4, 1))
        print(
            f"| SIRT of one channel | ASTRA's SIRT3D_CUDA | {1e3 * per_iteration:.2f} | "
            f"{max(iterations // 4, 1)} | | |",
            flush=True,
        )
    print()


def bytes_moved(kind: str, tilts: int, width: int) -> float:
    """Return the bytes per voxel and channel that an iteration of 3-D TV or TGV moves.

    The back projection writes a volume. The primal step reads it, the extrapolated volume and p,
    and writes both volumes; the dual step of p reads the extrapolated volume and p and writes p;
    the projection reads the extrapolated volume. TGV also has a field with its extrapolation (read,
    written, the extrapolation read again) and q (read twice, written once). A ray is written and
    read both ways, its data are read, its dual variable is read and written.
    """
    numbers = 8 + 3 * 3 + (5 * 3 + 3 * 6 if kind == "tgv" else 0)
    return 4 * (numbers + 7 * tilts / width)


def regularised_times(shapes: list[tuple[int, int, int]], channels: int, iterations: int) -> None:
    """Print the times per iteration of TV, TGV and TNV; shapes are (width, slices, tilts)."""
    print(
        f"Times of regularised methods in three dimensions, {channels} channels, on "
        f"{device.name()}\n"
    )
    heads = (
        "volume",
        "tilts",
        "",
        "ms per iteration",
        "iterations timed",
        f"{REGULARISED_ITERATIONS} of them, scaled, s",
    )
    print(
        f"| {' | '.join((*heads, 'moved, bytes', 'GB/s', 'before and after, s', 'reckoned, GB'))} "
        f"|\n|{'---|' * 10}"
    )
    for width, slices, tilts in shapes:
        problem = Problem(width, tilts, channels, slices)
        for method, (kind, _) in REGULARISED.items():
            each, around = iterations_of(problem, method, "cuda", iterations)
            nbytes, series = bytes_moved(kind, tilts, width), [(problem.geometry, channels, False)]
            rate = nbytes * channels * width**2 * slices / each / 1e9
            memory = regularised_bytes(kind, 3, channels, slices, series) / 1e9
            cells = f"{width} x {width} x {slices}", tilts, method, f"{1e3 * each:.2f}", iterations
            cells = (
                *cells,
                f"{REGULARISED_ITERATIONS * each:.1f}",
                f"{nbytes:.0f}",
                f"{rate:.0f}",
                f"{around:.2f}",
                f"{memory:.2f}",
            )
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print()


def working(names: list[str]) -> list[str]:
    """Return the back-ends that work here, and print why the others do not."""
    usable = []
    for name in names:
        try:
            projector(TiltGeometry([0, 30], 8), name)
            usable.append(name)
        except (ImportError, RuntimeError) as error:
            print(f"without {name}: {error}")
    return usable


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="edge of the volume, voxels")
    parser.add_argument("--tilts", type=int, default=31)
    parser.add_argument("--channels", type=int, default=4, choices=range(1, 5))
    parser.add_argument(
        "--iterations", type=int, default=200, help="of HEBT; the others do a quarter"
    )
    parser.add_argument("--agreement-size", type=int, default=64)
    parser.add_argument(
        "--regularised-iterations",
        type=int,
        default=50,
        help="of TV, TGV and nuclear TV, 0 for none",
    )
    parser.add_argument(
        "--few-slices",
        type=int,
        nargs=3,
        default=(433, 60, 36),
        metavar=("WIDTH", "SLICES", "TILTS"),
    )
    options = parser.parse_args(arguments)
    if (problem := device.problem()) is not None:
        sys.exit(problem)
    backends = working(["cuda", "astra_cuda"])
    agreement(backends, options.agreement_size, min(options.iterations, 50))
    times(backends, options.size, options.tilts, options.channels, options.iterations)
    if options.regularised_iterations and "cuda" in backends:
        shapes = [(options.size, options.size, options.tilts), tuple(options.few_slices)]
        regularised_times(shapes, options.channels, options.regularised_iterations)


if __name__ == "__main__":
    main()
