# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the regularised methods.

    python benchmarks/regularisers.py [huber] [tgv] [composition] [--figure PATH]

TV, TGV and nuclear TV, coupled or not, in two and three dimensions, against SIRT on the Huber
phantom; TGV against TV on a composition gradient; composition and outline of a particle for every
way to use the HAADF. The methods run as the signals' methods do, with the default steps and
tolerance; "best" is the best weight of a factor-2 grid.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter1d, map_coordinates

from hyperspy_multitomo.composition import fit_response_ratios
from hyperspy_multitomo.composition.particle.threshold import particle_mask
from hyperspy_multitomo.inspection.metrics import dice, nrmse, psnr
from hyperspy_multitomo.simulation import Phantom, SimulatedSeries, simulate
from hyperspy_multitomo.simulation.phantoms import TILTS, huber, yuan, zhong
from hyperspy_multitomo.simulation.shapes import cap, inside_ellipse, rotated
from hyperspy_multitomo.tomography import (
    DataTerm,
    Projector,
    TiltGeometry,
    calibrate,
    em,
    hebt,
    projector,
    run,
    sirt,
    variational,
)
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Defaults of the signals' methods: largest number of iterations, and relative change of the
# objective in twenty of them; the slow one for TGV and for the HAADF as the sum of the elements.
ITERATIONS, TOLERANCE, SLOW_TOLERANCE = 500, 1e-3, 1e-4
# Largest number of iterations of the methods without a regulariser.
MOST = 200


@dataclass(frozen=True)
class Method:
    """A regulariser, and the use of the HAADF: None, "channel", or "mix" (the weighted sum)."""

    kind: str = "tv"
    coupling: str = "frobenius"
    dimensions: int = 3
    haadf: str | None = "channel"

    def volumes(self, data: Data, weights=WEIGHTS, **options) -> Iterator[np.ndarray]:
        """Yield the volume (channel, z, x, y) at each weight, counts per nm, the HAADF last."""
        terms = [DataTerm(data.A, data.maps)]
        channels = len(data.maps) + (self.haadf == "channel")
        if self.haadf is not None:
            mix = data.ratios if self.haadf == "mix" else None
            weight = 1 / noise_equivalent_gain(data.haadf)
            terms.append(
                DataTerm(
                    data.A,
                    data.haadf[None],
                    len(data.maps) if mix is None else 0,
                    mix,
                    weight=weight,
                )
            )
        calibration = calibrate(
            terms,
            channels,
            kind=self.kind,
            coupling=self.coupling,
            dimensions=self.dimensions,
            **options,
        )
        tolerance = SLOW_TOLERANCE if self.haadf == "mix" or self.kind == "tgv" else TOLERANCE
        for weight in weights:
            regulariser = replace(
                calibration.regulariser, weight=weight * calibration.regulariser.weight
            )
            yield run(
                variational(calibration.terms, regulariser, calibration.scales),
                ITERATIONS,
                tolerance=tolerance,
            ).volume


@dataclass(frozen=True)
class Data:
    """Maps and HAADF of one simulated series, without smoothing, and the fitted ratios."""

    series: SimulatedSeries
    A: Projector
    ratios: np.ndarray | None = None

    @classmethod
    def simulated(
        cls, phantom: Phantom, seed: int, *, dose: float = 1.0, fitted: bool = False
    ) -> Data:
        """Return a series with noise of its own; with `fitted`, the ratios too."""
        series = simulate(phantom, dose=dose, blur=0, seed=seed)
        A = projector(TiltGeometry(series.tilts, phantom.size, pixel_size=series.pixel_size))
        ratios = (
            fit_response_ratios(series.maps, series.haadf, series.elements).values
            if fitted
            else None
        )
        return cls(series, A, ratios)

    @property
    def maps(self) -> np.ndarray:
        """Counts (channel, tilt, x, y)."""
        return self.series.maps

    @property
    def haadf(self) -> np.ndarray:
        """Images (tilt, x, y)."""
        return self.series.haadf

    @property
    def truth(self) -> np.ndarray:
        """The ideal volumes, (channel, z, x, y), the HAADF last."""
        truth = self.series.truth
        return np.concatenate([truth, np.tensordot(self.series.true_ratios, truth, 1)[None]])

    @cached_property
    def regions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first element's true fraction (z, x, y), and masks of the particle and its inside.

        The inside is more than three voxels from any surface and from where the fraction is 1/2.
        """
        truth = self.series.phantom.truth
        total = truth.sum(axis=0)
        inside = particle_mask(total, "otsu")
        fraction = truth[0] / np.where(inside, total, 1)
        return (
            fraction,
            inside,
            _eroded(inside & (fraction > 0.5)) | _eroded(inside & (fraction <= 0.5)),
        )


def best_of(scores: np.ndarray, *, largest: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the best weight on average over the seeds, by channel, and its scores.

    `scores` are (seed, weight, channel), those returned (seed, channel).
    """
    mean = scores.mean(axis=0)
    best = mean.argmax(axis=0) if largest else mean.argmin(axis=0)
    return best, np.take_along_axis(scores, best[None, None], axis=1)[:, 0]


def spread(values) -> str:
    """Return the mean over the seeds, and the least and the most."""
    return f"{np.mean(values):.1f} ({np.min(values):.1f} to {np.max(values):.1f})"


def huber_table(size: int, slices: int, seeds: int) -> None:
    """Print the PSNR of each method on the Huber phantom, and the gains between methods."""
    phantom = huber(size, slices)
    names = (*phantom.elements, "HAADF")
    data = [Data.simulated(phantom, seed) for seed in range(seeds)]
    print(
        f"Huber phantom, {size}^2 x {slices} slices, PSNR (dB), mean of {seeds} seeds; in brackets "
        "the best weight or iteration\n"
    )
    print(
        "| method | "
        + " | ".join(
            [*(f"{name}, best" for name in names), *(f"{name}, weight 1" for name in names)]
        )
        + " |"
    )
    print("|" + (1 + 2 * len(names)) * "---|")
    scores = np.array(
        [[_psnrs(i.volume, d) for i in islice(sirt(d.A, _all(d)), 1, MOST + 1)] for d in data]
    )
    best, reached = best_of(scores)
    at_best = [
        f"{value:.1f} ({at + 1})" for value, at in zip(reached.mean(axis=0), best, strict=True)
    ]
    print("| SIRT | " + " | ".join(at_best) + " |" + len(names) * " |", flush=True)
    by_method = {"SIRT": (reached, reached)}
    for kind in ("tv", "tgv"):
        for dimensions in (2, 3):
            for coupling in ("uncoupled", "frobenius", "nuclear"):
                method = Method(kind, coupling, dimensions)
                scores = np.array(
                    [[_psnrs(volume, d) for volume in method.volumes(d)] for d in data]
                )
                best, reached = best_of(scores)
                default = scores[:, WEIGHTS.index(1.0)]
                name = f"{kind.upper()} {dimensions}-D {coupling}"
                by_method[name] = reached, default
                at_best = [
                    f"{v:.1f} ({WEIGHTS[b]:g})"
                    for v, b in zip(reached.mean(axis=0), best, strict=True)
                ]
                print(
                    f"| {name} | "
                    + " | ".join([*at_best, *(f"{v:.1f}" for v in default.mean(axis=0))])
                    + " |",
                    flush=True,
                )
    print(
        "\nGains of Yb, dB: mean, least and most of the seeds\n\n| | best weights | weight 1 "
        "|\n|---|---|---|"
    )
    for kind in ("TV", "TGV"):
        for claim, better, worse in (
            ("coupled (Frobenius) over uncoupled, 2-D", "2-D frobenius", "2-D uncoupled"),
            ("coupled (Frobenius) over uncoupled, 3-D", "3-D frobenius", "3-D uncoupled"),
            ("3-D over 2-D, Frobenius", "3-D frobenius", "2-D frobenius"),
            ("nuclear over Frobenius, 2-D", "2-D nuclear", "2-D frobenius"),
            ("nuclear over Frobenius, 3-D", "3-D nuclear", "3-D frobenius"),
            ("2-D uncoupled over SIRT", "2-D uncoupled", None),
        ):
            pair = (
                by_method[f"{kind} {better}"],
                by_method["SIRT" if worse is None else f"{kind} {worse}"],
            )
            gains = [spread(a[:, 0] - b[:, 0]) for a, b in zip(*pair, strict=True)]
            print(f"| {kind}, {claim} | {gains[0]} | {gains[1]} |")


def _all(data: Data) -> np.ndarray:
    """Return the projections of all channels, (channel, tilt, x, y), the HAADF last."""
    return np.concatenate([data.maps, data.haadf[None]])


def _psnrs(volume: np.ndarray, data: Data) -> list[float]:
    return [psnr(*pair) for pair in zip(volume, data.truth, strict=True)]


def graded(size: int = 96, slices: int = 24) -> Phantom:
    """Return two particles of an alloy whose composition changes gradually, sharply bounded.

    An ellipsoid of 78 nm, all silver at one end and all gold at the other, and one of 36 nm with
    gold that thins out from its middle. 31 tilts, 20 counts of each element at the most, HAADF of
    2e4 electrons with the contrast of Z^1.8.
    """

    def body(x, z, y):
        along, across = rotated(x, z, 30, (-0.15, 0.12))
        scale = cap(y, 1.4)
        large = inside_ellipse(along, across, (0.62 * scale, 0.55 * scale))
        offset = np.hypot(x - np.float32(0.55), z + np.float32(0.5))
        small = (offset < 0.28 * scale) & ~large
        gold = np.where(large, np.clip(0.5 + along / 1.2, 0, 1), 0) + np.where(
            small, 0.9 * np.cos(np.pi / 2 * offset / 0.3), 0
        )
        return np.stack([gold, (large | small) - gold]).astype(np.float32)

    haadf = np.array([79.0, 47.0]) ** 1.8
    return Phantom(
        name="graded",
        elements=("Au", "Ag"),
        unit="1 (fraction of the volume)",
        size=size,
        slices=slices,
        pixel_size=128 / size,
        tilts=TILTS,
        haadf_tilts=TILTS,
        counts_per_unit=np.array([0.4, 0.4]),
        haadf_per_unit=2e4 / 70 * haadf / haadf.max(),
        blur=0.0,
        haadf_noise="poisson",
        body=body,
    )


def tgv_table(size: int, slices: int, seeds: int) -> None:
    """Print the errors of TV and TGV on the graded particles, each at its best weight and at 1."""
    phantom = graded(size, slices)
    data = [Data.simulated(phantom, seed) for seed in range(seeds)]
    print(
        f"Graded particles, {size}^2 x {slices} slices, maps and HAADF, mean of {seeds} seeds; in "
        "brackets the best weight\n"
    )
    titles = ("error Au", "error Ag", "composition", "slope")
    print(
        "| method | "
        + " | ".join([*(f"{t}, best" for t in titles), *(f"{t}, weight 1" for t in titles)])
        + " |"
    )
    print("|" + (1 + 2 * len(titles)) * "---|")
    for dimensions in (2, 3):
        for coupling in ("frobenius", "nuclear"):
            for kind, alpha0 in (("tv", 4.0), ("tgv", 4.0), ("tgv", 2.0)):
                method = Method(kind, coupling, dimensions)
                scores = np.array(
                    [
                        [gradient_errors(v, d) for v in method.volumes(d, alpha0=alpha0)]
                        for d in data
                    ]
                )
                best, reached = best_of(scores, largest=False)
                at_best = [
                    f"{v:.3f} ({WEIGHTS[b]:g})"
                    for v, b in zip(reached.mean(axis=0), best, strict=True)
                ]
                at_one = [f"{v:.3f}" for v in scores[:, WEIGHTS.index(1.0)].mean(axis=0)]
                name = f"{kind.upper()} {dimensions}-D {coupling}" + (
                    f", alpha0 {alpha0:g}" if kind == "tgv" else ""
                )
                print(f"| {name} | " + " | ".join([*at_best, *at_one]) + " |", flush=True)


def gradient_errors(volume: np.ndarray, data: Data) -> list[float]:
    """Return RMSE/std of both elements, and inside the RMSE of the gold fraction and its slope.

    Inside is three voxels or more from any surface. The slope is that of the amount of gold across
    the tilt axis; its error is relative to the rms slope.
    """
    scale = data.series.phantom.counts_per_unit[:, None, None, None]
    result, truth = volume[:2] / scale, data.series.phantom.truth
    inside = _eroded(truth.sum(axis=0) > 0.999)
    fractions = [x[0] / np.maximum(x.sum(axis=0), 1e-6) for x in (result, truth)]
    slopes = [np.stack(np.gradient(x[0], axis=(0, 1)))[:, inside] for x in (result, truth)]
    errors = [nrmse(*pair) for pair in zip(result, truth, strict=True)]
    errors.append(np.sqrt(np.mean(np.square(fractions[0] - fractions[1])[inside])))
    errors.append(
        np.sqrt(np.mean(np.square(slopes[0] - slopes[1])) / np.mean(np.square(slopes[1])))
    )
    return [float(error) for error in errors]


def draw(path: str, size: int, slices: int) -> None:
    """Draw the gold of the graded particles, true, by 3-D TV and TGV, and its profiles."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    data = Data.simulated(graded(size, slices), 0)
    per_unit, middle = data.series.phantom.counts_per_unit[0], slices // 2
    pictures = {"truth": data.series.phantom.truth[0, ..., middle]}
    for name, kind, alpha0 in (
        ("TV", "tv", 4.0),
        ("TGV", "tgv", 4.0),
        ("TGV, alpha0=2", "tgv", 2.0),
    ):
        (volume,) = Method(kind).volumes(data, [1.0], alpha0=alpha0)
        pictures[name] = volume[0, ..., middle] / per_unit
    names, field = list(pictures), size * data.series.pixel_size
    figure = plt.figure(figsize=(12, 6.4), layout="constrained")
    below = ["departure"] * 2 + ["profile"] * 2
    panels = figure.subplot_mosaic([names, below], height_ratios=[1.15, 1])
    # Along the gradient of the large particle, without its surface, and through the small one;
    # fractions of the half width.
    large, small = np.linspace(-0.5, 0.5, 201), np.linspace(-0.34, 0.34, 201)
    lines = {
        "departure": (large, 0.12 + 0.5 * large, -0.15 + np.sqrt(0.75) * large),
        "profile": (small, np.full_like(small, -0.5), 0.55 + small),
    }
    for name, colour in zip(names, ("black", "#D55E00", "#0072B2", "#009E73"), strict=True):
        shown = panels[name].imshow(pictures[name], origin="lower", cmap="inferno", vmin=0, vmax=1)
        panels[name].set(title=name, xticks=[], yticks=[])
        for below, (along, *points) in lines.items():
            voxels = (np.array(points) + 1) / 2 * size - 0.5
            values = map_coordinates(pictures[name], voxels, order=1)
            if below == "departure":
                values -= map_coordinates(pictures["truth"], voxels, order=1)
            panels[below].plot(along * field / 2, values, color=colour, lw=1.5, label=name)
            panels[name].plot(*voxels[::-1][:, [0, -1]], color="white", lw=0.8, ls=":")
    figure.colorbar(
        shown, ax=[panels[name] for name in names], label="Au (fraction of the volume)", shrink=0.85
    )
    panels["departure"].set(
        xlabel="along the gradient of the large particle (nm)", ylabel="Au, less the truth"
    )
    panels["profile"].set(
        xlabel="across the small particle (nm)", ylabel="Au (fraction of the volume)"
    )
    panels["profile"].legend(frameon=False)
    figure.savefig(path, dpi=90)


LEVELS = (5, 30, 300)
# Name: how the HAADF enters, and the coupling of TV.
WAYS = {
    "EDS alone, TV": (None, "frobenius"),
    "EDS alone, TNV": (None, "nuclear"),
    "HAADF as channel, TV": ("channel", "frobenius"),
    "HAADF as channel, TNV": ("channel", "nuclear"),
    "HEBT + Poisson + TV": ("mix", "frobenius"),
    "HEBT + Poisson + TNV": ("mix", "nuclear"),
}


def composition_table(phantom: Phantom, seeds: int) -> None:
    """Print errors of composition and outline for each use of the HAADF at each dose."""
    print(
        f"{phantom.name} phantom, {phantom.size}^2 x {phantom.slices} slices, mean of {seeds} "
        "seeds; in brackets the best weight "
        "or iteration\n"
    )
    titles = ("RMSE inside", "deep inside", "Dice")
    print(
        "| counts | method | "
        + " | ".join([*titles, *(f"{title}, best" for title in titles)])
        + " |\n"
        + "|"
        + 8 * "---|"
    )
    peak = simulate(phantom, blur=0, seed=0).expected_maps.max(axis=(1, 2, 3)).min()
    for level in LEVELS:
        data = [
            Data.simulated(phantom, seed, dose=level / peak, fitted=True) for seed in range(seeds)
        ]
        rows = {
            "EDS alone, SIRT": (20, lambda d: sirt(d.A, d.maps)),
            "EDS alone, SIRT, smoothed": (50, lambda d: sirt(d.A, _smoothed(d))),
            "EDS alone, EM": (10, lambda d: em(d.A, d.maps)),
            "HEBT, alpha 0.7": (100, lambda d: hebt(d.A, d.maps, d.haadf, d.ratios, alpha=0.7)),
            "HEBT, alpha 0.7, smoothed": (
                100,
                lambda d: hebt(d.A, _smoothed(d), d.haadf, d.ratios, alpha=0.7),
            ),
        }
        for name, (fixed, solver) in rows.items():
            scores = np.array(
                [
                    [composition_errors(i.volume, d) for i in islice(solver(d), 1, MOST + 1)]
                    for d in data
                ]
            )
            _print_row(level, name, scores, fixed - 1, range(1, MOST + 1))
        for name, (haadf, coupling) in WAYS.items():
            method = Method("tv", coupling, 3 if phantom.slices > 1 else 2, haadf)
            scores = np.array(
                [[composition_errors(volume, d) for volume in method.volumes(d)] for d in data]
            )
            _print_row(level, name, scores, WEIGHTS.index(1.0), WEIGHTS)


def _print_row(level: int, name: str, scores: np.ndarray, default: int, settings) -> None:
    best, reached = best_of(scores, largest=False)
    as_is, least = scores[:, default].mean(axis=0), reached.mean(axis=0)
    cells = [f"{as_is[0]:.4f}", f"{as_is[1]:.4f}", f"{1 - as_is[2]:.4f}"]
    shown = least[0], least[1], 1 - least[2]
    cells += [f"{value:.4f} ({settings[at]:g})" for value, at in zip(shown, best, strict=True)]
    print(f"| {level} | {name} | " + " | ".join(cells) + " |", flush=True)


def _smoothed(data: Data) -> np.ndarray:
    """Return the maps smoothed as in the phantom's paper."""
    return gaussian_filter1d(data.maps, data.series.phantom.blur, axis=2, mode="constant")


def composition_errors(volume: np.ndarray, data: Data) -> list[float]:
    """Return the RMSE of the first element's fraction in the particle and inside, and 1 - Dice.

    Fractions are in the unit of the truth, from counts and the true counts per unit; empty voxels
    count as equal parts of all elements. Both outlines are by Otsu's threshold.
    """
    true_fraction, inside, deep = data.regions
    per_unit = data.series.phantom.counts_per_unit
    result = volume[: len(per_unit)] / per_unit[:, None, None, None]
    total = result.sum(axis=0)
    fraction = np.divide(
        result[0], total, out=np.full_like(total, 1 / len(result)), where=total > 0
    )
    squares = np.square(fraction - true_fraction)
    outline = 1 - dice(particle_mask(total, "otsu"), inside)
    return [*(float(np.sqrt(squares[region].mean())) for region in (inside, deep)), outline]


def _eroded(region: np.ndarray) -> np.ndarray:
    """Return a region (z, x, y) eroded by three voxels; beyond the volume it continues."""
    return binary_erosion(region, np.ones((3, 3, 3)), iterations=3, border_value=1)


def main() -> None:
    """Print the tables that are asked for, or draw the figure."""
    parser = argparse.ArgumentParser(description="what TV, TGV and nuclear TV gain")
    parser.add_argument(
        "tables", nargs="*", default=["huber", "tgv", "composition"], help="huber, tgv, composition"
    )
    parser.add_argument(
        "--size", type=int, default=128, help="px of the Huber phantom and the graded particles"
    )
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", metavar="PATH", help="only draw TGV against TV, to this file")
    options = parser.parse_args()
    if options.figure:
        draw(options.figure, options.size, options.slices)
        return
    if "huber" in options.tables:
        huber_table(options.size, options.slices, options.seeds)
    if "tgv" in options.tables:
        tgv_table(options.size, options.slices, options.seeds)
    if "composition" in options.tables:
        composition_table(yuan(97, options.slices), options.seeds)
        composition_table(zhong(options.size, options.slices), options.seeds)


if __name__ == "__main__":
    main()
