# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantification against published figures, on a phantom and on a real particle.

    python benchmarks/composition.py table
    python benchmarks/composition.py phantom
    python benchmarks/composition.py real [--data FOLDER]

`table` compares with table 2 and the HAADF detector of Y. Yuan et al., Ultramicroscopy 220 (2021)
113166; `phantom` quantifies core and shell of the phantom after that paper, five seeds; `real`
gives Mg/Si and Fe/S of the dust particle idp_l2083.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import cross_sections as cs
from hyperspy_multitomo.composition.cross_sections.tables import atomic_weights
from hyperspy_multitomo.simulation import count, simulate, yuan

ROWS = (
    ("Ag", "L3", "Ag_La", 100),
    ("Au", "M5", "Au_Ma", 100),
    ("Co", "K", "Co_Ka", 80),
    ("Zn", "K", "Zn_Ka", 80),
)
ELEMENTS = ["C", "O", "Na", "Mg", "Al", "Si", "S", "Ca", "Ti", "Cr", "Fe", "Ni", "Cu", "Ga", "Pt"]


def table() -> None:
    print(
        "line     keV  elastic  ionised   yield  fraction  emission: direct  cascade (barn)  f "
        "direct (barn mol/g)"
    )
    for element, shell, line, keV in ROWS:
        print(
            f"{line:7} {keV:4}  {cs.elastic_browning(element, keV):.2e} "
            f"{cs.ionisation(element, shell, keV):8.1f} "
            f"{cs.fluorescence_yield(element, shell):8.4f} {cs.line_fraction(line):7.4f} "
            f"{cs.emission(line, keV, 'direct'):12.2f} {cs.emission(line, keV):12.2f} "
            f"{cs.xray_factor(line, keV, 'direct'):12.3f}"
        )
    print(
        "z (barn mol/g), 80 keV: Co",
        round(cs.haadf_factor("Co", 80)),
        "Zn",
        round(cs.haadf_factor("Zn", 80)),
    )
    print(
        "HAADF 94.9-188 mrad, 300 keV:",
        {e: round(cs.haadf(e, 300, 94.9, 188)) for e in ("O", "Al", "Fe", "Cu", "Ag", "Au")},
    )


def phantom(seeds: int = 5) -> None:
    """Print the mean composition of core and shell; each seed is one independent slice."""
    model = yuan()
    series = simulate(model, seed=0)
    maps = count(np.repeat(series.expected_maps, seeds, axis=-1), blur=model.blur, seed=1).swapaxes(
        2, 3
    )
    images = count(np.repeat(series.expected_haadf, seeds, axis=-1), seed=2).swapaxes(1, 2)
    eds = mt.TiltSeriesEDS.from_maps(
        dict(zip(model.elements, maps, strict=True)), model.tilts, model.pixel_size
    )
    eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 100.0)
    eds.metadata.set_item("Sample.xray_lines", ["Ag_La", "Au_Ma"])
    haadf = mt.TiltSeriesHAADF.from_images(images, model.tilts, model.pixel_size)
    truth = model.truth[..., 0]
    gold, solid = truth[0] / np.maximum(truth.sum(axis=0), 1e-6), truth.sum(axis=0) > 8
    core, shell = (
        binary_erosion(part & solid, iterations=2) for part in (gold > 0.79, gold < 0.21)
    )
    ratios = dict(zip(model.elements, series.true_ratios.tolist(), strict=True))
    quiet = dict(show_progressbar=False)
    volumes = {f"SIRT {n}": eds.reconstruct_sirt(n, **quiet) for n in (20, 50, 100, 200, 500)}
    for alpha in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95):
        volumes[f"HEBT {alpha} 100"] = eds.reconstruct_hebt(
            haadf, alpha, 100, ratios=ratios, **quiet
        )
    for n in (200, 500):
        volumes[f"HEBT 0.7 {n}"] = eds.reconstruct_hebt(haadf, 0.7, n, ratios=ratios, **quiet)
    print(
        "reconstruction     Au in the core  Ag in the shell  (true 80, 80; wt%)   Dice of the mask"
    )
    inside = np.repeat(
        (truth.sum(axis=0) > 0.5 * truth.sum(axis=0)[shell].mean())[..., None], seeds, axis=-1
    )
    for name, volume in volumes.items():
        composition = volume.quantify("model", model="direct")
        au, ag = (composition[e].data.transpose(0, 2, 1) for e in model.elements)
        mask = au + ag > 0
        dice = 2 * (mask & inside).sum() / (mask.sum() + inside.sum())
        print(f"{name:16} {au[core].mean():14.1f} {ag[shell].mean():16.1f} {dice:30.3f}")


def real(folder: Path) -> None:
    """Print atomic ratios in recognisable regions: calculated factors, detector efficiency 1."""
    haadf, spectra = mt.load_tilt_series(f"{folder}/*.bcf", tilts="filename")
    eds = mt.elemental_maps(spectra, elements=ELEMENTS)
    haadf.align()
    eds.align(haadf.alignment)
    eds = eds.bin(2)
    f = {line.split("_")[0]: cs.xray_factor(line, 200) for line in eds.lines}
    print(
        "factors f (barn mol/g), cascade, 200 keV:",
        {e: round(f[e], 3) for e in ("O", "Mg", "Si", "S", "Fe")},
    )
    for name, volume in {
        "EM, 30": eds.reconstruct_em(30, depth=1200, show_progressbar=False),
        "TV": eds.reconstruct_tv(depth=1200, show_progressbar=False),
    }.items():
        parts = {e: f[e] * atomic_weights([e])[0] for e in ("O", "Mg", "Si", "S", "Fe")}
        atoms = {
            e: gaussian_filter(np.maximum(volume[e].data, 0), 1) / part for e, part in parts.items()
        }
        silicate = atoms["Mg"] + atoms["Si"]
        silicate = silicate > np.percentile(silicate, 98)
        for share in (99.5, 99.9):
            sulphide = atoms["S"] > np.percentile(atoms["S"], share)
            sums = {e: (one[silicate].sum(), one[sulphide].sum()) for e, one in atoms.items()}
            print(
                f"{name:8} silicate (2 % richest in Mg + Si): Mg/Si "
                f"{sums['Mg'][0] / sums['Si'][0]:.2f}, "
                f"O/(Mg + Si) {sums['O'][0] / (sums['Mg'][0] + sums['Si'][0]):.2f};   "
                f"sulphide ({100 - share:.1f} % richest in S): Fe/S "
                f"{sums['Fe'][1] / sums['S'][1]:.2f}, "
                f"Mg/S {sums['Mg'][1] / sums['S'][1]:.2f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["table", "phantom", "real"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/idp_l2083"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    {"table": table, "phantom": phantom, "real": lambda: real(chosen.data)}[chosen.what]()
