# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence for regions of simulated series: z without a feature, power, and what breaks it.

    python benchmarks/evidence.py null|power|features|errors|plan [--records FILE] [--seeds N]
        [--only NAME ...] [--counts 0.1 0.3 1 3]

Series of `specimens.py`, 64 pixels and 8 slices, with so many counts per pixel at the peak; TNV
with the HAADF as a channel, outlines from its volume by their own threshold.

- "null": z of balls of 2.5 px at random places whose surroundings are as they are, in all elements.
- "power": balls with the contrast at which z should be 5, one for each series.
- "features": how often something is found where there is nothing: a uniform lump, and one whose
  composition drifts.
- "errors": "null" with images 0.3 px (rms) off, a HAADF of an element without maps, gains that are
  3 % off, and lines that overlap, by 30 % of another element in the window, of which the background
  has nine tenths, smoothed by 3 px.
- "plan": errors that `plan_acquisition` expects of a contrast and of the mean composition of the
  specimen and of a quarter of it, against the scatter of series, of five settings.

Each case is a line of the file of records, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path

import numpy as np
import specimens
from scipy.ndimage import gaussian_filter
from specimens import alloy, layered, needle, particles, recorded, signals

import hyperspy_multitomo as mt
from hyperspy_multitomo.evidence.planner import Pilot, percent_errors
from hyperspy_multitomo.evidence.regions import Neighbourhood, grown
from hyperspy_multitomo.evidence.scan import ball
from hyperspy_multitomo.signals.methods.evidence import row_of
from hyperspy_multitomo.signals.methods.evidence_data import VolumeAndCounts
from hyperspy_multitomo.simulation import Phantom, SimulatedSeries, simulate
from hyperspy_multitomo.tomography import TiltGeometry, projector

COUNTS = (0.1, 0.3, 1.0, 3.0)
RADIUS = 2.5
# Places of each element, of candidates at random.
PLACES, CANDIDATES = 12, 200
ERRORS = ("none", "alignment", "haadf", "gains", "overlap")
# What "auto" of the extent would measure for each series; nothing but the counts is to differ.
QUIET = {"show_progressbar": False, "depth": None}


def lump(size: int, slices: int) -> Phantom:
    """Return a uniform lump of Au and Pd, three parts to one."""
    drifting = alloy(size, slices)

    def body(x, z, y):
        inside = np.clip((0.62 - np.hypot(x, 1.2 * z + 0.1 * x)) / 0.1, 0, 1)
        return np.stack([0.75 * inside, 0.25 * inside])

    return replace(drifting, name="lump", body=body)


PHANTOMS = {"particles": particles, "needle": needle, "alloy": alloy, "layered": layered,
            "lump": lump}  # fmt: skip
# Phantom, number of tilts and range in degrees, and where the ball is (z, x, y).
SETTINGS = {
    "alloy, 15 tilts, 60 degrees": ("alloy", 15, 60.0),
    "alloy, 41 tilts, 70 degrees": ("alloy", 41, 70.0),
    "layered, 29 tilts, 70 degrees": ("layered", 29, 70.0),
    "layered, 57 tilts, 60 degrees": ("layered", 57, 60.0),
    "particles, 21 tilts, 65 degrees": ("particles", 21, 65.0),
}
PLACE = {"alloy": (32, 34, 4), "layered": (26, 31, 4), "particles": (32, 38, 4)}
STRUCTURED = ("particles", "needle", "alloy", "layered")


def simulated(name: str, counts: float, seed: int, **options) -> SimulatedSeries:
    """Return a series with so many counts per pixel at the peak of the brightest element's maps."""
    phantom = PHANTOMS[name](64, 8)
    peak = simulate(phantom, blur=0, seed=0, oversampling=1).expected_maps.max()
    noise = 0.01 * specimens._brightest(phantom)
    return simulate(
        phantom, dose=counts / peak, blur=0, haadf_noise=noise, seed=seed, oversampling=1, **options
    )


def places(truth: np.ndarray, inside: np.ndarray, rng) -> list[tuple[int, ...]]:
    """Return places at which an element is within 2 % of its maximum as it is around them."""
    found: list[tuple[int, ...]] = []
    for centre in rng.permutation(np.argwhere(grown(inside, -3)))[:CANDIDATES]:
        try:
            around = Neighbourhood.of(_ball_at(centre, truth.shape), inside)
        except ValueError:
            continue
        near = truth[around.box]
        spread = np.ptp(near[around.whole | around.filled])
        difference = abs(near[around.region].mean() - near[around.shell].mean())
        if spread < 0.3 * truth.max() and difference < 0.02 * truth.max():
            found.append(tuple(int(one) for one in centre))
        if len(found) == PLACES:
            break
    return found


def null(name: str, counts: float, seed: int, error: str = "none") -> dict:
    """Return z where there is no feature, one list for the three outlines."""
    rng = np.random.default_rng([seed, 1])
    series, eds, haadf, given = with_error(name, counts, seed, error, rng)
    volume = eds.reconstruct_tnv(haadf, **given, **QUIET)
    truth = series.truth
    inside = truth.sum(axis=0) > 0.5 * truth.sum(axis=0).max()
    data = VolumeAndCounts.of(eds, volume, haadf, given=given)
    z, misfit, refused = [], [], 0
    for element in eds.elements:
        at = places(truth[series.elements.index(element)], inside, rng)
        try:
            hosts = data.hosts(element)
        except ValueError:  # not a single count of a rare element
            refused += len(at)
            continue
        misfit.append(hosts[0].fit.misfit)
        for one in at:
            try:
                region = data.regions(_mask(one, truth.shape[1:]))["1"]
                row = row_of(data, hosts, "1", region, element)
            except ValueError:
                refused += 1
                continue
            z.append([row.z, row.z_as_given, row.z_larger])
    return {"z": np.round(z, 3).tolist(), "refused": refused, "misfit": float(np.mean(misfit))}


def power(name: str, counts: float, seed: int) -> dict:
    """Return z of a ball with the contrast at which it should be 5, and its estimate."""
    rng = np.random.default_rng([seed, 2])
    series = simulated(name, counts, seed)
    eds, haadf = signals(series)
    truth = series.truth
    inside = truth.sum(axis=0) > 0.5 * truth.sum(axis=0).max()
    element = int(rng.integers(len(truth)))
    at = places(truth[element], inside, rng)
    volume = eds.reconstruct_tnv(haadf, **QUIET)
    for one in at:
        region, title = _mask(one, truth.shape[1:]), series.elements[element]
        try:
            before = eds.evidence(volume, region, title, haadf)[0]
        except ValueError:
            continue
        contrast = before.limit[1]
        project = projector(TiltGeometry(series.tilts, 64, None, series.pixel_size))
        extra = contrast * project(region.swapaxes(1, 2).astype(np.float32))
        maps = np.random.default_rng([seed, 3]).poisson(series.expected_maps)
        maps[element] += np.random.default_rng([seed, 4]).poisson(extra)
        eds, haadf = signals(replace(series, maps=maps.astype(np.float32)))
        with_it = eds.reconstruct_tnv(haadf, **QUIET)
        try:
            row = eds.evidence(with_it, region, title, haadf)[0]
        except ValueError:
            continue
        return {"z": row.z, "contrast": row.contrast / contrast, "sd": row.sd / contrast}
    return {}


def features(name: str, counts: float, seed: int) -> dict:
    """Return the corrected probabilities of what is found where there is nothing."""
    series = simulated(name, counts, seed)
    eds, haadf = signals(series)
    volume = eds.reconstruct_tnv(haadf, **QUIET)
    found = eds.evidence(volume, "features", haadf=haadf, size=2 * RADIUS * series.pixel_size)
    return {"p": [row.p_corrected for row in found], "z": [row.z for row in found]}


def plan(setting: str, counts: float, seed: int) -> dict:
    """Return a contrast and a mean composition of one series of a setting."""
    name, number, reach = SETTINGS[setting]
    series = simulated(name, counts, seed, tilts=np.linspace(-reach, reach, number))
    eds, haadf = signals(series)
    volume = eds.reconstruct_tnv(haadf, **QUIET)
    element = series.elements[0]
    data = VolumeAndCounts.of(eds, volume, haadf)
    row = row_of(data, data.hosts(element), "1", _ball_at(PLACE[name], (64, 64, 8)), element)
    found = {"contrast": row.contrast, "sd": row.sd}
    for title, region in _parts(series.truth).items():
        sums = (data.volumes[: len(series.elements)] * region).sum(axis=(1, 2, 3))
        found[title] = float(100 * sums[0] / sums.sum())
    return found


def _parts(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return the specimen and a quarter of it, (z, x, y)."""
    total = truth.sum(axis=0)
    inside = total > 0.5 * total.max()
    quarter = inside.copy()
    quarter[:32], quarter[:, :32] = False, False
    return {"specimen": inside, "quarter": quarter}


def expected(setting: str, counts: float) -> dict[str, float]:
    """Return the errors that the planner expects, before any series."""
    name, number, reach = SETTINGS[setting]
    tilts = np.linspace(-reach, reach, number)
    phantom = simulated(name, counts, 0, tilts=tilts).phantom
    volumes = phantom.counts_per_nm
    haadf = np.tensordot(phantom.haadf_per_unit, phantom.truth, 1)[None]
    parts, factors = _parts(volumes), dict.fromkeys(phantom.elements, 1.0)
    size = phantom.pixel_size
    pilot = Pilot(phantom.elements, volumes, haadf, parts["specimen"], number, size)
    errors = {
        title: percent_errors(pilot, region, tilts, 1.0, factors)[phantom.elements[0]]
        for title, region in parts.items()
    }
    test = pilot.test(0, _ball_at(PLACE[name], (64, 64, 8)), tilts)
    return {"contrast": test.chance.sd, **errors}


def with_error(name: str, counts: float, seed: int, error: str, rng):
    """Return a series with an error in it: (simulated, maps, HAADF, keywords)."""
    if error == "alignment":
        tilts = len(PHANTOMS[name](64, 8).tilts)
        across, along = rng.normal(0, 0.3, (2, tilts))
        series = simulated(name, counts, seed, across=across, along=along)
        return series, *signals(series), {}
    if error == "gains":
        tilts = len(PHANTOMS[name](64, 8).tilts)
        series = simulated(name, counts, seed, gains=1 + rng.normal(0, 0.03, tilts))
        return series, *signals(series), {}
    series = simulated(name, counts, seed)
    if error == "overlap":
        leak = 0.3 * series.expected_maps[[1, *range(1, len(series.elements))]]
        leak[1:] = 0
        maps = series.maps + rng.poisson(leak).astype(np.float32)
        smooth = 0.9 * gaussian_filter(leak, (0, 0, 3, 3))
        eds, haadf = signals(replace(series, maps=maps))
        return series, eds, haadf, {"background": smooth.transpose(1, 0, 3, 2)}
    eds, haadf = signals(series)
    if error == "haadf":
        # The heaviest element has no maps: those of the others do not close to the HAADF.
        eds = eds.inav[:-1] if len(series.elements) > 2 else eds
        heavy = {"particles": "Pt", "needle": "Cu", "alloy": "Au", "layered": "Ge"}[name]
        rest = [one for one in series.elements if one != heavy]
        maps = dict(zip(series.elements, series.maps.transpose(0, 1, 3, 2), strict=True))
        eds = mt.TiltSeriesEDS.from_maps(
            {one: maps[one] for one in rest}, tilts=series.tilts, pixel_size=series.pixel_size
        )
    return series, eds, haadf, {}


def _ball_at(centre, shape) -> np.ndarray:
    """Return a ball (z, x, y) of 2.5 px, cut off by the edges of the volume."""
    reach = ball(RADIUS).shape[0] // 2
    padded = np.zeros([size + 2 * reach for size in shape], bool)
    padded[tuple(slice(at, at + 2 * reach + 1) for at in centre)] = ball(RADIUS)
    return padded[(slice(reach, -reach),) * 3]


def _mask(centre, shape) -> np.ndarray:
    """Return a ball as a mask (z, y, x)."""
    return _ball_at(centre, shape).swapaxes(1, 2)


def table_of_null(records: list[dict]) -> None:
    """Print mean, standard deviation and outliers of z."""
    print("| specimens | counts | z values | mean | sd | above 3 | sd as given | larger | misfit |")
    print("|---|---|---|---|---|---|---|---|---|")
    names = sorted({one["name"] for one in records})
    for group, counts in product(["all", *names], sorted({one["counts"] for one in records})):
        some = [
            one
            for one in records
            if one["counts"] == counts and (group in ("all", one["name"])) and one["z"]
        ]
        if not some:
            continue
        z = np.concatenate([one["z"] for one in some])
        first = z[:, 0]
        print(
            f"| {group} | {counts:g} | {len(z)} | {first.mean():+.2f} | {first.std():.2f} | "
            f"{100 * np.mean(np.abs(first) > 3):.1f} % | {z[:, 1].std():.2f} | {z[:, 2].std():.2f} "
            f"| {np.mean([one['misfit'] for one in some]):.2f} |"
        )


def table_of_power(records: list[dict]) -> None:
    """Print how often z is above 3 where it should be 5, and the scatter of the contrasts."""
    print("| counts | series | mean z | z above 3 | contrast over true | sd over scatter |")
    print("|---|---|---|---|---|---|")
    for counts in sorted({one["counts"] for one in records}):
        some = [one for one in records if one["counts"] == counts and "z" in one]
        z, contrast, sd = (np.array([one[k] for one in some]) for k in ("z", "contrast", "sd"))
        print(
            f"| {counts:g} | {len(z)} | {z.mean():.2f} | {100 * np.mean(z > 3):.0f} % | "
            f"{contrast.mean():.2f} | {np.sqrt(np.mean(sd**2)) / contrast.std():.2f} |"
        )


def table_of_features(records: list[dict]) -> None:
    """Print in how many series something is called significant."""
    print("| counts | series | proposed | with a false alarm (p below 0.00135) | p below 0.01 |")
    print("|---|---|---|---|---|")
    for counts in sorted({one["counts"] for one in records}):
        some = [one for one in records if one["counts"] == counts]
        least = np.array([min(one["p"], default=1.0) for one in some])
        proposed = np.mean([len(one["p"]) for one in some])
        print(
            f"| {counts:g} | {len(some)} | {proposed:.1f} | {np.sum(least < 0.00135)} | "
            f"{np.sum(least < 0.01)} |"
        )


def table_of_plans(records: list[dict]) -> None:
    """Print what was expected over the scatter of series."""
    print("| setting | counts | series | contrast: expected over scatter | specimen | quarter |")
    print("|---|---|---|---|---|---|")
    for setting, counts in sorted({(one["name"], one["counts"]) for one in records}):
        some = [one for one in records if (one["name"], one["counts"]) == (setting, counts)]
        ratios = [
            f"{error / np.std([one[key] for one in some], ddof=1):.2f}"
            for key, error in expected(setting, counts).items()
        ]
        print(f"| {setting} | {counts:g} | {len(some)} | {' | '.join(ratios)} |")


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="evidence for regions")
    parser.add_argument("table", choices=("null", "power", "features", "errors", "plan"))
    parser.add_argument("--records", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--counts", type=float, nargs="+", default=COUNTS)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    usual = ("lump", "alloy") if options.table == "features" else STRUCTURED
    names = options.only or usual
    path = options.records or Path(f"evidence_{options.table}.jsonl")
    cases = [(n, c, s) for s, c, n in product(range(options.seeds), options.counts, names)]
    if options.table == "plan":
        chosen = zip(options.only or SETTINGS, cycle(options.counts), strict=False)
        cases = [(name, counts, seed) for name, counts in chosen for seed in range(options.seeds)]
        table_of_plans(recorded(path, plan, cases))
        return
    if options.table == "errors":
        for error in ERRORS:

            def measure(name, counts, seed, error=error):
                return null(name, counts, seed, error)

            print(f"\n{error}")
            table_of_null(recorded(path.with_stem(f"{path.stem}_{error}"), measure, cases))
        return
    measure = {"null": null, "power": power, "features": features}[options.table]
    table = {"null": table_of_null, "power": table_of_power, "features": table_of_features}
    table[options.table](recorded(path, measure, cases))


if __name__ == "__main__":
    main()
