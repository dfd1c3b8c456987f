# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the speed of two commits, case by case.

    python benchmarks/compare.py OLD NEW [--cases sirt tv ...]

Each case runs in its own process, with the packages of this environment and the code of a checkout
of either commit, alternating: old, new, old, new. Compared are core seconds, the least of several
rounds, without imports and compilation. The exit status is 1 if a case of the new commit is slower
by more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Runs of a case within a process.
REPEATS = 3


def _geometry(width: int = 128, tilts: int = 31):
    from hyperspy_multitomo.tomography import TiltGeometry, projector

    return projector(TiltGeometry(np.linspace(-75, 75, tilts), width))


def _counts(A, channels: int, slices: int, mean: float = 1.0) -> np.ndarray:
    """Return counts of balls in vacuum, (channel, tilt, x, y)."""
    z, x = np.ogrid[-1 : 1 : 1j * A.domain_shape[0], -1 : 1 : 1j * A.domain_shape[1]]
    z, x, y = z[..., None], x[..., None], np.linspace(-1, 1, slices + 2)[1:-1]
    volume = np.stack(
        [(z**2 + x**2 + y**2 < (0.7 - 0.2 * c) ** 2).astype(np.float32) for c in range(channels)]
    )
    expected = A(volume)
    return (
        np.random.default_rng(0)
        .poisson(mean * expected / expected[expected > 0].mean())
        .astype(np.float32)
    )


def _iterations(make, count: int):
    """Return a call that does `count` iterations, after the first ones, which set up."""
    from hyperspy_multitomo.tomography import run

    iterates = make()
    run(iterates, 2)
    return lambda: run(iterates, count)


def _pair():
    A, volume = _geometry(), np.ones((128, 128, 64), np.float32)
    return lambda: A.T(A(volume))


def _solver(name: str, slices: int, iterations: int):
    from hyperspy_multitomo import tomography

    A = _geometry()
    return _iterations(lambda: getattr(tomography, name)(A, _counts(A, 2, slices)), iterations)


def _hebt(slices: int, iterations: int):
    from hyperspy_multitomo.tomography import hebt

    A = _geometry()
    maps = _counts(A, 2, slices)
    return _iterations(lambda: hebt(A, maps, 3 * maps[0] + 5 * maps[1], [3.0, 5.0]), iterations)


def _variational(kind: str, coupling: str = "frobenius"):
    from hyperspy_multitomo.tomography import DataTerm, Regulariser, variational

    A = _geometry(96)
    term = DataTerm(A, _counts(A, 3, 32))
    return _iterations(
        lambda: variational([term], Regulariser(0.5, kind, coupling), np.full(3, 0.05)), 20
    )


def _regularised():
    """Return a call of TV from counts to the volume, calibration included."""
    from hyperspy_multitomo import TiltSeriesEDS

    A = _geometry(64)
    maps = _counts(A, 2, 32).transpose(0, 1, 3, 2)
    eds = TiltSeriesEDS.from_maps(
        {"Au": maps[0], "Ag": maps[1]}, tilts=A.geometry.tilts, pixel_size=1.0
    )
    return lambda: eds.reconstruct_tv(show_progressbar=False)


def _alignment(joint: bool):
    from hyperspy_multitomo.alignment import Alignment, Modality, refine
    from hyperspy_multitomo.simulation import misaligned

    s = misaligned("particle", size=64, tilts=np.linspace(-70, 70, 21), shift=1.0, axis_offset=1)
    maps = (
        [Modality(m, s.tilts, 1.0, name) for name, m in zip(s.elements, s.maps, strict=True)]
        if joint
        else []
    )
    return lambda: refine(s.haadf, s.tilts, Alignment.identity(len(s.tilts)), others=maps)


def _chain():
    from hyperspy_multitomo.alignment import align
    from hyperspy_multitomo.simulation import misaligned

    s = misaligned("needle", size=96, tilts=np.linspace(-70, 70, 21))
    return lambda: align(s.haadf, s.tilts)


def _quantify():
    from hyperspy_multitomo.composition import quantify

    volume = np.random.default_rng(0).random((3, 96, 96, 64), np.float32)
    return lambda: quantify(volume, ["Al", "Fe", "Au"], "CL", [1.0, 1.5, 2.0])


def _maps():
    """Net counts of three elements by the fit, from spectra (tilt, y, x, energy)."""
    import exspy
    import hyperspy.api as hs

    from hyperspy_multitomo import elemental_maps

    data = np.random.default_rng(0).poisson(0.02, (3, 48, 48, 1024)).astype(np.uint8)
    axes = [
        dict(name=name, size=n)
        for name, n in zip(("tilt", "y", "x", "Energy"), data.shape, strict=True)
    ]
    axes[0] |= dict(units="°", scale=10.0, offset=-10.0)
    axes[3] |= dict(units="keV", scale=0.01)
    for axis in axes[1:3]:
        axis |= dict(units="nm")
    spectra = exspy.signals.EDSTEMSpectrum(data, axes=axes)
    spectra.set_microscope_parameters(beam_energy=200)
    hs.preferences.General.show_progressbar = False
    return lambda: elemental_maps(spectra, elements=["O", "Al", "Fe"])


CASES = {
    "projector": _pair,
    "sirt": lambda: _solver("sirt", 64, 20),
    "sirt, 16 slices": lambda: _solver("sirt", 16, 40),
    "em": lambda: _solver("em", 64, 100),
    "cgls": lambda: _solver("cgls", 64, 20),
    "hebt": lambda: _hebt(64, 20),
    "hebt, 1 slice": lambda: _hebt(1, 60),
    "tv": lambda: _variational("tv"),
    "tgv": lambda: _variational("tgv"),
    "tnv": lambda: _variational("tv", "nuclear"),
    "tv, from counts": _regularised,
    "refine": lambda: _alignment(False),
    "refine, joint": lambda: _alignment(True),
    "align": _chain,
    "maps": _maps,
    "quantify": _quantify,
}


def measure(case: str) -> float:
    """Return the core milliseconds of a case, least of several."""
    call = CASES[case]()
    call()
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        call()
        times.append(time.process_time() - begun)
    return 1e3 * min(times)


def timed(tree: Path, case: str) -> float:
    """Return the core ms of a case with a checkout's code; NaN if it lacks what the case needs."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(tree / "compiled")}
    command = [sys.executable, __file__, "--measure", case]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        print(f"{case}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return float("nan")
    answer = json.loads(done.stdout.splitlines()[-1])
    if not Path(answer["package"]).is_relative_to(tree):
        raise RuntimeError(
            f"{answer['package']} was measured in place of the code in {tree}; run it with an "
            "environment of its own"
        )
    return answer["ms"]


def compare(old: Path, new: Path, cases: list[str], rounds: int, tolerance: float) -> bool:
    """Print the table; return whether no case is slower or fails with the new code."""
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; core ms, least of "
        f"{rounds} rounds"
    )
    print("| case | old | new | new/old | |")
    print("|---|---|---|---|---|")
    slower = []
    for case in cases:
        for tree in (old, new):
            timed(tree, case)  # compiles
        times = np.array([[timed(tree, case) for tree in (old, new)] for _ in range(rounds)])
        before, after = times.min(axis=0)
        word = (
            "slower"
            if after > (1 + tolerance) * before
            else "faster"
            if after < before / (1 + tolerance)
            else ""
        )
        word = "failed" if np.isnan(after) else word
        slower += [case] * (word in ("slower", "failed"))
        print(
            f"| {case} | {before:.1f} | {after:.1f} | {after / before:.2f} | {word} |", flush=True
        )
    return not slower


def main() -> int:
    """Compare two commits; return the exit status."""
    parser = argparse.ArgumentParser(description="tell a slower commit")
    parser.add_argument("old", nargs="?", help="commit, branch or tag")
    parser.add_argument(
        "new",
        nargs="?",
        default="HEAD",
        help="the same; by default what is checked out and committed",
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        help="by how much a case may be slower (default 0.1)",
    )
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        import hyperspy_multitomo

        ms = measure(options.measure)
        print(json.dumps({"ms": ms, "package": hyperspy_multitomo.__file__}))
        return 0
    if options.old is None:
        parser.error("name the commit to compare with")
    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(folder).resolve() / name for name in ("old", "new")]
        try:
            for tree, commit in zip(trees, (options.old, options.new), strict=True):
                subprocess.run(
                    ["git", "worktree", "add", "--quiet", "--detach", tree, commit],
                    cwd=here,
                    check=True,
                )
            return 0 if compare(*trees, options.cases, options.rounds, options.tolerance) else 1
        finally:
            for tree in trees:
                subprocess.run(
                    ["git", "worktree", "remove", "--force", tree],
                    cwd=here,
                    check=False,
                    capture_output=True,
                )


if __name__ == "__main__":
    raise SystemExit(main())
