# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the package's compact table of cross sections and yields from published tables.

    python tools/physics_tables.py FOLDER

FOLDER holds ``bote_salvat_2009_electron.csv``, ``eadl97_relax_full.csv`` and
``elsepa_dcs_Z1-98.npz``:

- ionisation: D. Bote, F. Salvat, A. Jablonski, C. J. Powell, At. Data Nucl. Data Tables 95 (2009)
  871, doi:10.1016/j.adt.2009.08.001 (NIST, public domain);
- photons per ionisation with the vacancy cascade: S. T. Perkins, D. E. Cullen et al., EADL,
  UCRL-50400 vol. 30 (1991) (NIST, public domain);
- elastic scattering: computed with ELSEPA, F. Salvat, A. Jablonski, C. J. Powell, Comput. Phys.
  Commun. 165 (2005) 157, doi:10.1016/j.cpc.2004.09.006; 261 (2021) 107704,
  doi:10.1016/j.cpc.2020.107704.
"""

import csv
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

TABLE = (
    Path(__file__).parents[1]
    / "hyperspy_multitomo"
    / "composition"
    / "cross_sections"
    / "tables.npz"
)
ELEMENTS = 98
SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
FILLING = (
    *SHELLS,
    *(f"N{i}" for i in range(1, 8)),
    *(f"O{i}" for i in range(1, 10)),
    *(f"P{i}" for i in range(1, 12)),
    "Q1",
)
# Scattering angles (mrad) of the table, in steps of 8 %: it has the cross section beyond each.
ANGLES = np.append(np.geomspace(0.1, 3000, 135), 3140.0)


def ionisation(path: Path) -> np.ndarray:
    """Return the coefficients of the analytical fit, (element, shell, 12), NaN without the shell.

    They are the edge (keV), b, Anlj, g1..g4 and a1..a5.
    """
    table = np.full((ELEMENTS, len(SHELLS), 12), np.nan)
    for row in csv.DictReader(path.open()):
        if int(row["Z"]) <= ELEMENTS and row["subshell"] in SHELLS:
            values = [float(value) for value in list(row.values())[2:]]
            table[int(row["Z"]) - 1, SHELLS.index(row["subshell"])] = [values[0] / 1e3, *values[1:]]
    return table


def relaxation(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the transitions and their photons per ionisation.

    A transition is (Z, ionised shell, shell of the vacancy, shell that fills it).
    """
    keys, photons = [], []
    for row in csv.DictReader(path.open()):
        ionised, vacancy, filled = list(row.values())[1:4]
        # A vacancy that moves within its shell emits no X-ray line.
        if (
            int(row["Z"]) <= ELEMENTS
            and ionised in SHELLS
            and vacancy in SHELLS
            and vacancy[0] != filled[0]
        ):
            keys.append(
                [int(row["Z"]), SHELLS.index(ionised), SHELLS.index(vacancy), FILLING.index(filled)]
            )
            photons.append(float(row["photons_per_ionisation"]))
    return np.array(keys, np.uint8), np.array(photons, np.float32)


def elastic(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return energies (keV) and mean barn/sr beyond each of `ANGLES`, (energy, element, angle)."""
    with np.load(path) as file:
        energies, theta, differential = (
            file["E_keV"],
            np.deg2rad(file["theta_deg"]),
            file["dcs_barn_per_sr"].astype(float),
        )
    u = np.sin(theta / 2) ** 2  # d(solid angle) = 4 pi du
    # A spline of the logarithm interpolates the published angles, and is integrated with 16 points
    # in each of their steps.
    fine = np.concatenate([np.linspace(a, b, 16, endpoint=False) for a, b in pairwise(u)] + [[1.0]])
    angles = 2 * np.arcsin(np.sqrt(fine))
    values = np.exp(CubicSpline(theta, np.log(differential), axis=-1)(angles))
    pieces = 0.5 * (values[..., 1:] + values[..., :-1]) * np.diff(fine)
    beyond = np.concatenate(
        [np.cumsum(pieces[..., ::-1], axis=-1)[..., ::-1], np.zeros((*pieces.shape[:2], 1))],
        axis=-1,
    )
    at = np.sin(ANGLES / 2e3) ** 2
    integral = CubicSpline(angles, beyond, axis=-1)(ANGLES / 1e3)
    return energies.astype(float), (integral / (1 - at)).astype(np.float32)


def main(folder: Path) -> None:
    """Write the table."""
    keys, photons = relaxation(folder / "eadl97_relax_full.csv")
    energies, mean = elastic(folder / "elsepa_dcs_Z1-98.npz")
    np.savez_compressed(
        TABLE,
        ionisation=ionisation(folder / "bote_salvat_2009_electron.csv"),
        transitions=keys,
        photons=photons,
        elastic_energies=energies,
        elastic_angles=ANGLES,
        elastic_beyond=mean,
    )
    print(f"{TABLE.name}: {TABLE.stat().st_size / 1e3:.0f} kB, {len(photons)} transitions")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
