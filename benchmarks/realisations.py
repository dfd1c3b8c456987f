# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise realisations against repeated acquisitions: their scatter, what it covers, and the bias.

    python benchmarks/realisations.py [--records FILE] [--only NAME ...] [--counts 0.3 3 30]

Specimens of `specimens.py`, 48 px, 8 slices. 24 series of each are simulated and reconstructed, and
from each of the first 3 volumes 12 realisations are drawn. The table has, for each method and
number of counts at the peak:

- the standard deviation of voxels, realisations over repeated series, of the elements where they
  are in the specimen (root mean square);
- how often the mean of a block of 4 x 4 x 4 voxels, +-2 standard deviations of the realisations,
  holds the mean of the repeated reconstructions, and how often the truth;
- the bias of these means (root mean square, in standard deviations of the repeated series): that
  which realisations show, and that of the repeated reconstructions against the truth.

Each case is a line of the file of records, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from specimens import channels, held_out, recorded, series, signals, tuned

SIZE, SLICES = 48, 8
REPEATED, DRAWN_FROM, REALISATIONS = 24, 3, 12
BLOCK = 4
QUIET = {"show_progressbar": False}
CUBE = QUIET | {"depth": None}
# Method, with the HAADF or without, and its keywords.
METHODS: dict[str, tuple[str, bool, dict]] = {
    "SIRT": ("sirt", False, {"iterations": 30}),
    "EM": ("em", False, {"iterations": 20}),
    "HEBT": ("hebt", True, {}),
    "TV": ("tv", False, {}),
    "TNV, HAADF": ("tnv", True, {}),
    "TNV, HAADF, refit": ("tnv", True, {"refit": True}),
}


def measured(name: str, counts: float, method: str) -> dict:
    """Return the figures of one method for a specimen at so many counts."""
    called, with_haadf, keywords = METHODS[method]
    repeated, drawn, biases = [], [], []
    for seed in range(REPEATED):
        simulated = series(name, counts, seed, SIZE, SLICES)
        eds, haadf = signals(simulated)
        arguments = (haadf,) if with_haadf else ()
        volume = getattr(eds, f"reconstruct_{called}")(*arguments, **keywords, **CUBE)
        repeated.append(channels(volume, simulated))
        if seed < DRAWN_FROM:
            found = eds.realisations(volume, *arguments, count=REALISATIONS, **QUIET)
            made = [found._each(k)[: len(simulated.elements)] for k in range(REALISATIONS)]
            drawn.append(np.array([blocks(one) for one in made]))
            biases.append(channels(found.sd, simulated))
    truth, every = simulated.truth, np.array(repeated)
    there = truth > 0.1 * truth.max(axis=(1, 2, 3), keepdims=True)
    sd, of_realisations = every.std(axis=0, ddof=1), np.sqrt(np.mean(np.square(biases), axis=0))
    ratios = [_rms(of_realisations[e][there[e]]) / _rms(sd[e][there[e]]) for e in range(len(sd))]
    return {"sd": float(np.mean(ratios)), **_of_blocks(every, drawn, truth, there)}


def _of_blocks(every, drawn, truth, there) -> dict:
    """Return what holds for the means of blocks in which an element is."""
    inside = blocks(there.astype(float)) > 0.5
    means = np.array([blocks(one) for one in every])
    centre, sd, expected = means.mean(axis=0), means.std(axis=0, ddof=1), blocks(truth)
    held, true, shown = [], [], []
    for number, realised in enumerate(drawn):
        spread = 2 * realised.std(axis=0, ddof=1)
        held.append(np.abs(means[number] - centre) <= spread)
        true.append(np.abs(means[number] - expected) <= spread)
        shown.append((realised.mean(axis=0) - means[number]) / sd)
    of_blocks = np.sqrt(np.mean([one.var(axis=0, ddof=1) for one in drawn], axis=0))
    return {
        "sd of blocks": float(_rms(of_blocks[inside]) / _rms(sd[inside])),
        "held": float(np.mean(np.array(held)[:, inside])),
        "true": float(np.mean(np.array(true)[:, inside])),
        "bias shown": float(_rms(np.mean(shown, axis=0)[inside])),
        "bias": float(_rms(((centre - expected) / sd)[inside])),
        "blocks": int(inside.sum()),
    }


def blocks(volumes: np.ndarray) -> np.ndarray:
    """Return the means of blocks of volumes (..., z, x, y), what is left over cut off."""
    n = [size // BLOCK for size in volumes.shape[-3:]]
    cut = volumes[..., : n[0] * BLOCK, : n[1] * BLOCK, : n[2] * BLOCK]
    shape = [part for size in n for part in (size, BLOCK)]
    return cut.reshape(*volumes.shape[:-3], *shape).mean(axis=(-5, -3, -1), dtype=np.float64)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def table(records: list[dict]) -> None:
    """Print the mean over the specimens for each method and number of counts."""
    print("| method | counts | sd, voxels | sd, blocks | holds the mean | holds the truth | bias "
          "shown | bias |\n" + "|---" * 8 + "|")  # fmt: skip
    for method, counts in product(METHODS, sorted({one["counts"] for one in records})):
        some = [one for one in records if one["seed"] == method and one["counts"] == counts]
        if some:
            names = ("sd", "sd of blocks", "held", "true", "bias shown", "bias")
            values = [np.mean([one[name] for one in some]) for name in names]
            cells = [f"{value:.2f}" for value in values]
            print(f"| {method} | {counts:g} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="noise realisations against repeated series")
    parser.add_argument("--records", type=Path, default=Path("realisations.jsonl"))
    parser.add_argument("--counts", type=float, nargs="+", default=(0.3, 3.0, 30.0))
    parser.add_argument("--only", nargs="*", default=["alloy", "yuan"], choices=[*tuned, *held_out])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = list(product(options.only, options.counts, METHODS))
    table(recorded(options.records, measured, cases))


if __name__ == "__main__":
    main()
