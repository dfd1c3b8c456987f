# SPDX-License-Identifier: GPL-3.0-or-later
"""The same iterations by other programs: each function returns one that does n iterations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse


@dataclass(frozen=True)
class Problem:
    """A tilt series of `tilts` projections, `width` pixels wide, of `slices` slices."""

    width: int
    tilts: int
    slices: int

    @property
    def angles(self) -> np.ndarray:
        """Tilts in degrees."""
        return np.linspace(-75, 75, self.tilts)

    def data(self, slices: int, channels: int = 1) -> np.ndarray:
        """Random maps (channel, tilt, x, y)."""
        return np.random.default_rng(0).random(
            (channels, self.tilts, self.width, slices), np.float32
        )


Iterate = Callable[[int], object]


def ours_sirt(problem: Problem, slices: int) -> Iterate:
    from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt

    A = projector(TiltGeometry(problem.angles, problem.width))
    iterates = sirt(A, problem.data(slices)[0])
    return lambda iterations: run(iterates, iterations)


def ours_hebt(problem: Problem, slices: int) -> Iterate:
    from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, run

    A = projector(TiltGeometry(problem.angles, problem.width))
    maps = problem.data(slices, 2)
    iterates = hebt(A, maps, maps.sum(axis=0), [1.0, 1.0])
    return lambda iterations: run(iterates, iterations)


def matrix(problem: Problem) -> scipy.sparse.csr_array:
    """Joseph's projection matrix in the CSR format, rays (tilt, u) by voxels (z, x)."""
    n = problem.width
    voxels = np.indices((n, n)).reshape(2, -1) - (n - 1) / 2
    rows, columns, weights = [], [], []
    for tilt, t in enumerate(np.deg2rad(problem.angles)):
        p = (n - 1) / 2 + voxels[1] * np.cos(t) + voxels[0] * np.sin(t)
        c = max(abs(np.cos(t)), abs(np.sin(t)))
        for ray in (np.floor(p), np.floor(p) + 1):
            weight = (1 - np.abs(ray - p) / c) / c
            hit = np.flatnonzero((weight > 0) & (ray >= 0) & (ray < n))
            rows.append((tilt * n + ray[hit]).astype(np.int32))
            columns.append(hit.astype(np.int32))
            weights.append(weight[hit].astype(np.float32))
    entries = np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.coo_array(entries, shape=(problem.tilts * n, n * n)).tocsr()


def _scipy(A: scipy.sparse.csr_array, data: np.ndarray) -> Iterate:
    """SIRT with a sparse matrix and all slices as columns: x <- max(0, x + C A^T R (b - A x))."""
    transposed = A.T.tocsr()
    rows, columns = A.sum(axis=1), A.sum(axis=0)
    R = np.divide(1, rows, out=np.zeros_like(rows), where=rows > 0)[:, None]
    C = np.divide(1, columns, out=np.zeros_like(columns), where=columns > 0)[:, None]
    x = np.zeros((A.shape[1], data.shape[1]), np.float32)

    def iterate(iterations):
        for _ in range(iterations):
            residual = A @ x
            np.subtract(data, residual, out=residual)
            residual *= R
            update = transposed @ residual
            update *= C
            np.add(x, update, out=x)
            np.maximum(x, 0, out=x)

    return iterate


def scipy_sirt(problem: Problem, slices: int) -> Iterate:
    return _scipy(matrix(problem), problem.data(slices).reshape(-1, slices))


def scipy_hebt(problem: Problem, slices: int, alpha: float = 0.7) -> Iterate:
    W = matrix(problem)
    maps = problem.data(slices, 2)
    chemistry, haadf = np.float32(1 - alpha) * W, np.float32(alpha) * W
    stacked = scipy.sparse.block_array(
        [[chemistry, None], [None, chemistry], [haadf, haadf]], format="csr"
    )
    data = np.concatenate(
        [
            np.float32(1 - alpha) * maps[0],
            np.float32(1 - alpha) * maps[1],
            np.float32(alpha) * maps.sum(axis=0),
        ]
    )
    return _scipy(stacked, data.reshape(-1, slices))


def astra_sirt(problem: Problem, slices: int) -> Iterate:
    import astra

    n, data = problem.width, problem.data(slices)[0]
    volume = astra.create_vol_geom(n, n)
    geometry = astra.create_proj_geom("parallel", 1.0, n, np.deg2rad(problem.angles))
    algorithms = []
    for y in range(slices):
        config = astra.astra_dict("SIRT")
        config["ProjectorId"] = astra.create_projector("linear", geometry, volume)
        config["ProjectionDataId"] = astra.data2d.create("-sino", geometry, data[..., y])
        config["ReconstructionDataId"] = astra.data2d.create("-vol", volume)
        config["option"] = {"MinConstraint": 0}
        algorithms.append(astra.algorithm.create(config))
    return lambda iterations: [
        astra.algorithm.run(algorithm, iterations) for algorithm in algorithms
    ]


def etspy_sirt(problem: Problem, slices: int) -> Iterate:
    import logging

    from etspy import recon

    logging.getLogger("etspy").setLevel(logging.ERROR)
    stack = problem.data(slices)[0]
    return lambda iterations: recon.run(
        stack,
        problem.angles,
        "SIRT",
        iterations,
        constrain=True,
        cuda=False,
        show_progressbar=False,
    )
