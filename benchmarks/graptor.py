# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of an iteration of Graptor, the program of the TGV paper, on OpenCL platforms with a CPU.

`python benchmarks/graptor.py DIR`, DIR being a clone of https://github.com/kbredies/graptor
(GPL-3), by a Python with NumPy, SciPy, matplotlib, pyopencl and an OpenCL platform for the CPU:
pocl or Intel's. It may be another Python than this project's, and needs nothing of it. Measured is
Graptor's coupled 3-D TGV with Kullback-Leibler terms on maps of random counts, scaled to [0, 1] as
in its own script. Prints one line of JSON for every platform.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
import time

import numpy as np

REPEATS = 2
METHOD = "Frobenius 3D Reconstruction", "TGV"


def loaded(directory: str):
    """Return Graptor's 3-D module, with `math`, which its star imports no longer provide."""
    import matplotlib

    matplotlib.use("Agg")
    sys.path.insert(0, directory)
    import radon_tgv_primal_dual_3d as module

    module.math = math
    return module


def reconstruct(
    module, context, maps: np.ndarray, tilts: np.ndarray, iterations: int
) -> np.ndarray:
    """Return the volumes (channel, x, z, y) from maps (channel, tilt, y, x) in [0, 1]."""
    settings = (4.0, 1.0), np.array([0.2] + [5e-4] * (len(maps) - 1))
    slices = list(range(maps.shape[2]))
    with contextlib.redirect_stdout(io.StringIO()):
        return module.Reconstructionapproach3d(
            list(maps),
            np.deg2rad(tilts) + np.pi / 2,
            *settings,
            iterations,
            context,
            [0, 1],
            1,
            "KL",
            *METHOD,
            [0, 1, slices],
        )[0]


def measure(
    module, context, maps: np.ndarray, tilts: np.ndarray, iterations: int
) -> tuple[float, float]:
    """Return wall and core ms per slice, channel and iteration, by the difference of two calls."""
    best = np.full((2, 2), np.inf)
    reconstruct(module, context, maps, tilts, 1)  # compiles
    for _ in range(REPEATS):
        for row, count in enumerate((2, 2 + iterations)):
            wall, core = time.perf_counter(), time.process_time()
            reconstruct(module, context, maps, tilts, count)
            best[row] = np.minimum(
                best[row], (time.perf_counter() - wall, time.process_time() - core)
            )
    wall, core = 1e3 * (best[1] - best[0]) / iterations / maps.shape[0] / maps.shape[2]
    return float(wall), float(core)


def main() -> None:
    """Print a line of JSON for each platform: its name, and the times or the error."""
    parser = argparse.ArgumentParser(
        description="time of an iteration of Graptor's coupled 3-D TGV on the CPU"
    )
    parser.add_argument("directory", help="a clone of Graptor")
    for name, value in {
        "width": 256,
        "tilts": 36,
        "slices": 4,
        "channels": 4,
        "iterations": 10,
        "threads": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    size = parser.parse_args()
    if size.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: size.threads])
        os.environ["POCL_MAX_PTHREAD_COUNT"] = str(
            size.threads
        )  # pocl does not ask for the affinity
    import pyopencl

    module = loaded(size.directory)
    maps = (
        np.random.default_rng(0)
        .poisson(5.0, (size.channels, size.tilts, size.slices, size.width))
        .astype(np.float64)
    )
    maps /= maps.max()
    tilts = np.arange(size.tilts) * 180 / size.tilts
    for platform in pyopencl.get_platforms():
        name = " ".join([platform.name, *platform.version.split()[2:4]])
        try:
            context = pyopencl.Context(platform.get_devices(pyopencl.device_type.CPU))
            wall, core = measure(module, context, maps, tilts, size.iterations)
            print(json.dumps({"platform": name, "wall": wall, "core": core}), flush=True)
        except pyopencl.Error as error:
            print(json.dumps({"platform": name, "error": str(error).split(":")[0]}), flush=True)


if __name__ == "__main__":
    main()
