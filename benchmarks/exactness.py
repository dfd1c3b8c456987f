# SPDX-License-Identifier: GPL-3.0-or-later
"""How exactly each method makes its volume again: `python benchmarks/exactness.py`.

One simulated particle, 40 iterations of each method, in a process of its own for each row: the
largest difference from the first, relative to the largest voxel. "compiled anew" is a process
without numba's cache, "AVX2" one whose kernels and BLAS are compiled for a machine without AVX-512.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

QUIET = {"show_progressbar": False}
METHODS = ("fbp", "sirt", "em", "cgls", "hebt", "tv", "tgv", "tnv", "fused")
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2,+popcnt,+bmi,+bmi2",
    "OPENBLAS_CORETYPE": "Haswell",
}


def simulated() -> dict[str, np.ndarray]:
    """Return tilts, maps and HAADF, made once: they would differ by rounding as well."""
    import hyperspy_multitomo as mt

    phantom = mt.simulation.gold_shell(size=64, slices=24)
    tilts = np.arange(-70, 71, 10)
    seen = mt.simulation.simulate(phantom, tilts=tilts, haadf_tilts=tilts, seed=0)
    return {
        "tilts": tilts,
        "maps": seen.maps.swapaxes(2, 3),
        "haadf": seen.haadf.swapaxes(1, 2),
        "elements": np.array(phantom.elements),
    }


def volumes(data: dict[str, np.ndarray], backend: str) -> dict[str, np.ndarray]:
    """Return the volume of each method."""
    import hyperspy_multitomo as mt

    known = {"tilts": data["tilts"], "pixel_size": 1.0}
    haadf = mt.TiltSeriesHAADF.from_images(data["haadf"], **known)
    maps = dict(zip(data["elements"].tolist(), data["maps"], strict=True))
    eds = mt.TiltSeriesEDS.from_maps(maps, **known)
    ratios = dict.fromkeys(maps, 5.0)
    # CGLS is at the noise after a few iterations; hundreds would amplify its rounding.
    iterations = {"fbp": {}, "cgls": {"iterations": 7}}
    options = {"hebt": {"ratios": ratios}} | {
        name: {"tolerance": None} for name in ("tv", "tgv", "tnv", "fused")
    }
    result = {}
    for name in METHODS:
        series = [] if name in ("fbp", "sirt", "em", "cgls") else [haadf]
        call = iterations.get(name, {"iterations": 40}) | options.get(name, {})
        volume = getattr(eds, f"reconstruct_{name}")(*series, backend=backend, **call, **QUIET)
        result[name] = volume.data
    return result


def in_process(folder: str, name: str, backend: str, **environment: str) -> dict:
    """Return the volumes that another process makes."""
    path = Path(folder) / f"{name}.npz"
    command = [sys.executable, __file__, str(path), backend, f"{folder}/data.npz"]
    subprocess.run(command, env=os.environ | environment, check=True)
    with np.load(path) as stored:
        return dict(stored)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/data.npz", **simulated())
        in_process(folder, "warm", "numba")  # so that all kernels are in numba's cache
        first = in_process(folder, "first", "numba")
        rows = {
            "once more": ("numba", {}),
            "1 thread": ("numba", {"OMP_NUM_THREADS": "1"}),
            "compiled anew": ("numba", {"NUMBA_CACHE_DIR": f"{folder}/anew"}),
            "AVX2, compiled anew": ("numba", {"NUMBA_CACHE_DIR": f"{folder}/avx2"} | AVX2),
            "astra_cpu": ("astra_cpu", {}),
        }
        print("| |", " | ".join(METHODS), "|")
        print("| --- |" + " --- |" * len(METHODS))
        for name, (backend, environment) in rows.items():
            other = in_process(folder, "other", backend, **environment)
            errors = [np.abs(other[m] - first[m]).max() / np.abs(first[m]).max() for m in METHODS]
            print(
                f"| {name} |", " | ".join(f"{error:.0e}" if error else "0" for error in errors), "|"
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) > 1:
        with np.load(sys.argv[3]) as stored:
            np.savez(sys.argv[1], **volumes(dict(stored), sys.argv[2]))
    else:
        main()
