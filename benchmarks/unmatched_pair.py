# SPDX-License-Identifier: GPL-3.0-or-later
"""Effect of an unmatched projector pair, whose back projection is not the adjoint, on each solver.

    python benchmarks/unmatched_pair.py

The pair is that of ASTRA's 3-D parallel-beam code on the GPU (sources of version 2.5,
cuda/3d/par3d_fp.cu and par3d_bp.cu), rebuilt of sparse matrices. The projection steps along the
ray, one voxel along the axis nearest to the ray, and interpolates linearly in each row: Joseph's
weights s/c max(0, 1 - |u - p|/c). The back projection takes for every voxel the linearly
interpolated projection at p, the position of its centre on the detector: s max(0, 1 - |u - p|) for
any c. Both read textures, which interpolate with fractions of a pixel rounded to 1/256.
"voxel-driven" is this pair with exact fractions, "textures" with rounded ones; "matched" is our
pair. Every gap is that of the true objective, with Joseph's exact weights, relative to the lowest
value of the matched pair in twice as many iterations.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from hyperspy_multitomo.simulation import phantoms
from hyperspy_multitomo.tomography import (
    DataTerm,
    Projector,
    TiltGeometry,
    calibrate,
    cgls,
    dot_test,
    em,
    hebt,
    projector,
    sirt,
    variational,
)
from hyperspy_multitomo.tomography.variational import checked_problem

TEXTURE_STEPS = 256  # fractions are kept in 8 bits
HAADF_NOISE, ALPHA = 0.01, 0.7
STOPS = {"CGLS": (3, 10, 30, 100)}  # iterations, up to beyond those at which it is stopped


def interpolation(positions: np.ndarray, length: int, steps: int | None):
    """Return (index, weight) of the two neighbours of each position, the weight 0 outside."""
    lower = np.floor(positions)
    fraction = positions - lower
    if steps:
        fraction = np.round(fraction * steps) / steps
    for index, weight in ((lower, 1 - fraction), (lower + 1, fraction)):
        inside = (index >= 0) & (index < length)
        yield np.where(inside, index, 0).astype(np.int64), np.where(inside, weight, 0)


def matrix(entries, shape) -> csr_array:
    """Return the sparse matrix of (row, column, weight) arrays."""
    rows, columns, weights = (
        np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*entries, strict=True)
    )
    nonzero = weights != 0
    return csr_array(
        (weights[nonzero].astype(np.float32), (rows[nonzero], columns[nonzero])), shape=shape
    )


def ray_driven(geometry: TiltGeometry, steps: int | None) -> csr_array:
    """Return W, (tilt x u, z x x): the ray's interpolated value in each row that it crosses."""
    (nz, nx), nu = geometry.volume_shape, geometry.detector_width
    entries, u = [], np.arange(nu)[:, None]
    for tilt, ((cos, sin), origin) in enumerate(
        zip(geometry.directions, geometry.origins, strict=True)
    ):
        along_z = abs(cos) >= abs(sin)
        across, rows = (nx, nz) if along_z else (nz, nx)
        step, lean = (cos, sin) if along_z else (sin, cos)
        row = np.arange(rows)[None, :]
        places = (u - origin - (row - (rows - 1) / 2) * lean) / step + (across - 1) / 2
        for index, weight in interpolation(places, across, steps):
            voxel = row * nx + index if along_z else index * nx + row
            entries.append(
                (tilt * nu + u + 0 * row, voxel, weight * geometry.pixel_size / abs(step))
            )
    return matrix(entries, (len(geometry.tilts) * nu, nz * nx))


def voxel_driven(geometry: TiltGeometry, steps: int | None) -> csr_array:
    """Return B, (z x x, tilt x u): the projection at the place of the voxel's centre."""
    (nz, nx), nu = geometry.volume_shape, geometry.detector_width
    entries, voxel = [], np.arange(nz * nx).reshape(nz, nx)
    x, z = np.arange(nx) - (nx - 1) / 2, np.arange(nz)[:, None] - (nz - 1) / 2
    for tilt, ((cos, sin), origin) in enumerate(
        zip(geometry.directions, geometry.origins, strict=True)
    ):
        for index, weight in interpolation(origin + x * cos + z * sin, nu, steps):
            entries.append((voxel, tilt * nu + index, weight * geometry.pixel_size))
    return matrix(entries, (nz * nx, len(geometry.tilts) * nu))


class UnmatchedProjector(Projector):
    """ASTRA's pair on the CPU; `steps` is the number of texture fractions, None for exact ones."""

    def __init__(self, geometry: TiltGeometry, steps: int | None):
        super().__init__(geometry, 1)
        self.forward, self.back = ray_driven(self.rays, steps), voxel_driven(self.rays, steps)

    def _apply(self, operator, source, shape):
        channels, slices = source.shape[0], source.shape[-1]
        columns = np.moveaxis(source.reshape(channels, -1, slices), 0, 1).reshape(
            -1, channels * slices
        )
        result = (operator @ columns).reshape(-1, channels, slices)
        return np.ascontiguousarray(np.moveaxis(result, 1, 0)).reshape(channels, *shape, slices)

    def _project(self, volumes):
        return self._apply(self.forward, volumes, (len(self.rays.tilts), self.rays.detector_width))

    def _back_project(self, projections):
        return self._apply(self.back, projections, self.domain_shape)


@dataclass(frozen=True)
class Problem:
    """Counts of a phantom, `truth` (channel, z, x, y) in counts per unit length."""

    truth: np.ndarray
    counts: np.ndarray
    haadf: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """Response ratios."""
        return np.array([2.0, 0.7, 0.9])[: len(self.truth)]


def problem(A: Projector, slices: int, level: float) -> Problem:
    """Return Huber's phantom with `level` mean counts where a channel exceeds 5 % of its peak."""
    rng = np.random.default_rng(0)
    truth = phantoms.huber(A.domain_shape[1], slices).truth.copy()
    expected = A(truth)
    factors = [level / channel[channel > 0.05 * channel.max()].mean() for channel in expected]
    factors = np.float32(factors)[:, None, None, None]
    truth, expected = truth * factors, expected * factors
    signal = A(np.tensordot(Problem(truth, truth, truth).ratios.astype(np.float32), truth, 1))
    haadf = signal + HAADF_NOISE * signal.max() * rng.standard_normal(signal.shape)
    return Problem(truth, rng.poisson(expected).astype(np.float32), haadf.astype(np.float32))


class Weighted:
    """(1/2) |R^(1/2) (b - W x)|^2, which SIRT minimises over x >= 0; with ratios that of HEBT."""

    def __init__(self, A: Projector, p: Problem, ratios=None):
        lengths = A.row_sums()[..., None]
        self.A, self.p, self.ratios = A, p, ratios
        self.R = np.divide(
            1, lengths, out=np.zeros_like(lengths), where=lengths > 1e-6 * lengths.max()
        )

    def __call__(self, iterate) -> float:
        """Return the value for the volume of an iterate."""
        x, total = iterate.volume, 0.0
        if self.ratios is not None:
            rest = self.p.haadf - self.A(np.tensordot(self.ratios.astype(np.float32), x, 1))
            total = ALPHA * np.sum(self.R * rest**2, dtype=np.float64) / np.sum(self.ratios**2)
        rest = self.p.counts - self.A(x)
        return (
            float(
                ((1 - ALPHA) if self.ratios is not None else 1)
                * np.sum(self.R * rest**2, dtype=np.float64)
                + total
            )
            / 2
        )


def divergence(A, p):
    """Return the Kullback-Leibler divergence, which EM minimises."""

    def value(iterate):
        a = np.maximum(A(iterate.volume), 1e-20)
        logs = np.where(p.counts > 0, p.counts * np.log(np.where(p.counts > 0, p.counts, 1) / a), 0)
        return float(np.sum(a - p.counts + logs, dtype=np.float64))

    return value


def squares(A, p):
    """Return |b - W x|^2, which CGLS minimises."""
    return lambda iterate: float(np.sum((p.counts - A(iterate.volume)) ** 2, dtype=np.float64))


def regularised(name: str, A, p, dimensions: int):
    """Return functions for the iterates of TV, TGV or TNV with a projector, and the objective."""
    kind, coupling = {
        "TV": ("tv", "frobenius"),
        "TGV": ("tgv", "frobenius"),
        "TNV": ("tv", "nuclear"),
    }[name]
    calibration = calibrate(
        [DataTerm(A, p.counts)], len(p.counts), kind=kind, coupling=coupling, dimensions=dimensions
    )
    system = checked_problem(
        calibration.terms,
        calibration.regulariser,
        calibration.scales,
        mask=None,
        initial=None,
        relaxation=1.8,
    )

    def start(B):
        return variational(
            [replace(term, A=B) for term in calibration.terms],
            calibration.regulariser,
            calibration.scales,
        )

    def value(iterate):
        u, w, *_ = iterate._steps.state()
        return system.objective(u, w)

    return start, value


def solvers(A: Projector, p: Problem, dimensions: int, only) -> dict:
    """Return by solver functions for its iterates with a projector B, and for the objective."""
    all_ratios = p.ratios
    table = {
        "SIRT": (lambda B: sirt(B, p.counts), Weighted(A, p)),
        "HEBT": (
            lambda B: hebt(B, p.counts, p.haadf, all_ratios, alpha=ALPHA),
            Weighted(A, p, all_ratios),
        ),
        "EM": (lambda B: em(B, p.counts), divergence(A, p)),
        "CGLS": (lambda B: cgls(B, p.counts), squares(A, p)),
    }
    table |= {
        name: regularised(name, A, p, dimensions) for name in ("TV", "TGV", "TNV") if name in only
    }
    return {name: table[name] for name in only}


def follow(iterates, stops, value) -> tuple[list[float], list[np.ndarray]]:
    """Return the objective and the volume at some iterations."""
    values, volumes = [], []
    for iterate in iterates:
        if iterate.iteration in stops:
            values.append(value(iterate))
            volumes.append(iterate.volume)
        if iterate.iteration >= max(stops):
            break
    iterates.close()
    return values, volumes


def verdict(gaps, matched) -> str:
    """Return a word for the gaps of a pair, compared with those of the matched pair."""
    if not np.isfinite(gaps[-1]) or (gaps[-1] > 2 * min(gaps) + 1e-4 and gaps[-1] > gaps[-2]):
        return "diverges"
    if gaps[-1] <= 1.5 * max(matched[-1], 1e-5) + 1e-5:
        return "as matched"
    return "stalls" if gaps[-1] > 0.5 * gaps[-2] else "converges slower"


def relative(a, b) -> float:
    """Return |a - b|/|b|."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def spectrum(geometry: TiltGeometry) -> None:
    """Print the leftmost eigenvalues of B W.

    Plain iterations x + t B (b - W x) diverge if a real part is negative.
    """
    W = ray_driven(geometry, None)
    print("| B | largest eigenvalue | least real part | negative ones |\n|---|---|---|---|")
    for name, B in (("W^T", W.T), ("voxel-driven", voxel_driven(geometry, None))):
        values = np.linalg.eigvals((B @ W).toarray().astype(np.float64))
        largest = np.abs(values).max()
        rounding = 1e-6 * largest
        print(
            f"| {name} | {largest:.4g} | {values.real.min():.2e} | "
            f"{(values.real < -rounding).sum()} of {values.size} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description="solvers with ASTRA's unmatched pair of GPU projectors, on the CPU"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--slices",
        type=int,
        default=1,
        help="1: two-dimensional; more: three-dimensional regularisers",
    )
    parser.add_argument("--tilts", type=int, default=31)
    parser.add_argument(
        "--levels", type=float, nargs="*", default=[5.0, 30.0], help="counts per pixel"
    )
    parser.add_argument("--iterations", type=int, nargs="*", default=[100, 300, 1000, 3000])
    parser.add_argument(
        "--solvers", nargs="*", default=["SIRT", "HEBT", "EM", "CGLS", "TV", "TGV", "TNV"]
    )
    parser.add_argument("--spectrum", action="store_true", help="eigenvalues of a small system too")
    arguments = parser.parse_args()
    geometry = TiltGeometry(np.linspace(-75, 75, arguments.tilts), arguments.width)
    A = projector(geometry, "numba", threads=1)
    pairs = {
        "voxel-driven": UnmatchedProjector(geometry, None),
        "textures": UnmatchedProjector(geometry, TEXTURE_STEPS),
    }
    ones = np.random.default_rng(1).random((*A.domain_shape, 2), np.float32)
    print(
        f"{arguments.width}^2 x {arguments.slices}, {arguments.tilts} tilts; Joseph's weights, |A "
        "x - B x|/|A x|:"
    )
    for name, B in {"matched": A, **pairs}.items():
        print(
            f"{name}: {relative(B(ones), A(ones)):.1e}, back "
            f"{relative(B.T(A(ones)), A.T(A(ones))):.1e}, dot {dot_test(B):.1e}"
        )
    if arguments.spectrum:
        for tilts in (arguments.tilts, 91):
            print(f"\nSpectrum, 40^2, {tilts} tilts:")
            spectrum(TiltGeometry(np.linspace(-75, 75, tilts), 40))
    heads = [
        "counts",
        "method",
        "pair",
        "iterations",
        "gap",
        "from matched",
        "error (matched)",
        "verdict",
    ]
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for level in arguments.levels:
        p = problem(A, arguments.slices, level)
        for name, (start, value) in solvers(
            A, p, 3 if arguments.slices > 1 else 2, arguments.solvers
        ).items():
            stops = STOPS.get(name, arguments.iterations)
            values, volumes = follow(start(A), [*stops, 2 * max(stops)], value)
            # Conjugate gradients are stopped long before the minimum of |b - W x|, which is often
            # 0: their gap is relative to |b|.
            lowest, unit = (
                (0.0, float(np.sum(p.counts**2))) if name == "CGLS" else (min(values), min(values))
            )
            errors = [relative(volume, p.truth) for volume in volumes]
            matched = [(v - lowest) / unit for v in values[:-1]]
            print_row(
                level, name, "matched", stops, matched, [0.0] * len(stops), errors, errors, ""
            )
            for pair, B in pairs.items():
                objectives, theirs = follow(start(B), stops, value)
                gaps = [(v - lowest) / unit for v in objectives]
                distances = [relative(a, b) for a, b in zip(theirs, volumes, strict=False)]
                their_errors = [relative(volume, p.truth) for volume in theirs]
                print_row(
                    level,
                    name,
                    pair,
                    stops,
                    gaps,
                    distances,
                    their_errors,
                    errors,
                    verdict(gaps, matched),
                )


def print_row(level, name, pair, stops, gaps, distances, errors, matched, word) -> None:
    """Print one row of the table."""
    texts = [
        " / ".join(map(str, stops)),
        " / ".join(f"{gap:.1e}" for gap in gaps),
        " / ".join(f"{d:.1e}" for d in distances),
        " / ".join(f"{e:.3f}" for e in errors) + f" ({matched[len(stops) - 1]:.3f})",
    ]
    print("| " + " | ".join([f"{level:g}", name, pair, *texts, word]) + " |", flush=True)


if __name__ == "__main__":
    main()
