# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross sections, yields and factors: published figures, the tables that they come from,
and the limits of both."""

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from hyperspy_multitomo.composition import cross_sections as cs
from hyperspy_multitomo.composition.cross_sections.elastic import (
    _cross_sections_beyond,
    _rutherford,
)
from hyperspy_multitomo.composition.cross_sections.tables import (
    FILLING,
    LINES,
    SHELLS,
    SYMBOLS,
    table,
)

PHYSICS = Path(__file__).parents[2] / "shared" / "data" / "physics"
needs_data = pytest.mark.skipif(
    not PHYSICS.is_dir(), reason="the published tables are not beside the checkout"
)

# Yuan et al. 2021, table 2: element, subshell, line, keV; elastic, ionisation (barn), yield, line
# fraction.
YUAN = [
    ("Ag", "L3", "La", 100, 9.90e6, 2.44e3, 0.057, 0.816),
    ("Au", "M5", "Ma", 100, 1.98e7, 7.46e3, 0.030, 0.932),  # printed: 0.999, see below
    ("Co", "K", "Ka", 80, 5.59e6, 420, 0.369, 0.891),
    ("Zn", "K", "Ka", 80, 6.51e6, 302, 0.466, 0.890),
]


@pytest.mark.parametrize(
    ("element", "shell", "line", "keV", "elastic", "ionised", "fluorescence", "fraction"), YUAN
)
def test_table_of_yuan(element, shell, line, keV, elastic, ionised, fluorescence, fraction):
    assert cs.ionisation(element, shell, keV) == pytest.approx(ionised, rel=0.005)
    assert cs.elastic_browning(element, keV) == pytest.approx(elastic, rel=0.02)
    assert cs.fluorescence_yield(element, shell) == pytest.approx(fluorescence, rel=0.01)
    assert cs.line_fraction(f"{element}_{line}") == pytest.approx(fraction, rel=0.01)


def test_au_ma_is_not_all_of_m5():
    # The table prints 0.999 for Au Ma, which takes all photons of M5 for it; EADL has 5.4 % of Mz
    # (M5-N3) and 1.4 % of M5-O3.
    keys, photons = table()["transitions"], table()["photons"]
    m5 = (
        (keys[:, 0] == 79) & (keys[:, 1] == SHELLS.index("M5")) & (keys[:, 2] == SHELLS.index("M5"))
    )
    filled = {
        FILLING[place]: share
        for place, share in zip(keys[m5, 3], photons[m5] / photons[m5].sum(), strict=True)
    }
    assert filled["N6"] + filled["N7"] == pytest.approx(cs.line_fraction("Au_Ma"))
    assert filled["N3"] == pytest.approx(0.054, abs=0.001)
    assert filled["O3"] == pytest.approx(0.014, abs=0.001)


def test_factors_of_yuan():
    assert cs.haadf_factor("Co", 80) == pytest.approx(9.49e4, rel=0.02)
    assert cs.haadf_factor("Zn", 80) == pytest.approx(9.96e4, rel=0.02)
    assert cs.xray_factor("Co_Ka", 80, "direct", efficiency=0.96) == pytest.approx(2.25, rel=0.01)
    assert cs.xray_factor("Zn_Ka", 80, "direct", efficiency=0.96) == pytest.approx(1.84, rel=0.01)
    assert cs.emission("Co_Ka", 80) / cs.emission("Zn_Ka", 80) == pytest.approx(1.10, abs=0.01)


@pytest.mark.parametrize(
    ("element", "barn"),
    [
        ("O", 5.40e3),
        ("Al", 1.37e4),
        ("Fe", 5.36e4),
        ("Cu", 6.57e4),
        ("Ag", 1.575e5),
        ("Au", 3.613e5),
    ],
)
def test_haadf_detector(element, barn):
    assert cs.haadf(element, 300, 94.9, 188) == pytest.approx(barn, rel=0.005)


def test_haadf_parts_add_up_and_nothing_is_beyond_the_whole():
    rings = [0, 10, 50, 94.9, 188, 400, 3141.5]
    parts = [cs.haadf("Ag", 200, a, b) for a, b in pairwise(rings)]
    assert sum(parts) == pytest.approx(cs.haadf("Ag", 200, 0, 3141.5), rel=1e-6)
    # Far beyond the screening the atom scatters as its bare nucleus: Rutherford does.
    pc, beta2 = np.sqrt(200 * (200 + 2 * 510.999)), 1 - (510.999 / 710.999) ** 2
    rutherford = (
        np.pi * (6 * 1.43996e-3 / (pc * np.sqrt(beta2))) ** 2
    )  # nm^2 (e^2/(4 pi eps0) = 1.43996e-3 keV nm)
    ring = 1 / np.sin(0.2 / 2) ** 2 - 1 / np.sin(0.4 / 2) ** 2
    assert cs.haadf("C", 200, 200, 400) == pytest.approx(rutherford * ring * 1e10, rel=0.01)


def test_energies_between_those_of_the_table():
    """Leaving out a tabulated energy, whose neighbours are then twice as far away,
    costs 0.3 % at most."""
    energies = table()["elastic_energies"]
    worst = 0.0
    for inner, outer in ((10, 40), (50, 200), (94.9, 188)):
        for z in (1, 3, 6, 8, 13, 26, 29, 47, 79, 98):
            scaled = np.log(
                (_cross_sections_beyond(z, inner) - _cross_sections_beyond(z, outer))
                * _rutherford(energies)
            )
            for left_out in range(1, 5):
                kept = np.arange(len(energies)) != left_out
                spline = CubicSpline(np.log(energies[kept]), scaled[kept])
                worst = max(
                    worst, abs(np.expm1(spline(np.log(energies[left_out])) - scaled[left_out]))
                )
    assert worst < 0.003


@pytest.mark.slow
@needs_data
def test_angles_against_the_differential_cross_sections():
    with np.load(PHYSICS / "elsepa_dcs_Z1-98.npz") as file:
        theta, energies, differential = (
            np.deg2rad(file["theta_deg"]),
            file["E_keV"],
            file["dcs_barn_per_sr"].astype(float),
        )
    for z in (1, 6, 13, 29, 47, 79, 98):
        for inner, outer in ((10, 3141), (50, 200), (94.9, 188)):
            t = np.linspace(inner / 1e3, outer / 1e3, 200001)
            for k, energy in enumerate(energies):
                integrand = (
                    np.exp(CubicSpline(theta, np.log(differential[k, z - 1]))(t))
                    * 2
                    * np.pi
                    * np.sin(t)
                )
                assert cs.haadf(SYMBOLS[z - 1], energy, inner, outer) == pytest.approx(
                    np.trapezoid(integrand, t), rel=1e-4
                )


@needs_data
def test_totals_and_yields_are_the_published_ones():
    with (PHYSICS / "elsepa_total_elastic_Z1-98.csv").open() as file:
        for row in csv.DictReader(file):
            total = cs.haadf(row["symbol"], float(row["E_keV"]), 0, 3141.59)
            assert total == pytest.approx(float(row["total_elastic_barn"]), rel=1.1e-3)
    with (PHYSICS / "eadl97_fluorescence_yield.csv").open() as file:
        compared = 0
        for row in csv.DictReader(file):
            if int(row["Z"]) <= 98 and row["subshell"] in SHELLS:
                found = cs.fluorescence_yield(SYMBOLS[int(row["Z"]) - 1], row["subshell"])
                assert found == pytest.approx(
                    float(row["fluorescence_yield_direct"]), rel=1e-3, abs=1e-7
                )
                compared += 1
    assert compared > 600


def test_cascade_adds_to_outer_lines_and_not_to_k():
    assert cs.emission("Co_Ka", 80, "cascade") == pytest.approx(
        cs.emission("Co_Ka", 80, "direct"), rel=1e-6
    )
    assert cs.emission("Ag_La", 100) / cs.emission("Ag_La", 100, "direct") == pytest.approx(
        1.32, abs=0.01
    )
    assert cs.emission("Au_Ma", 100) / cs.emission("Au_Ma", 100, "direct") == pytest.approx(
        1.43, abs=0.01
    )


def test_a_family_is_the_sum_of_its_lines():
    lines = ["Ka", "Kb"]
    for model in ("direct", "cascade"):
        assert cs.xray_factor("Fe_K", 200, model) == pytest.approx(
            sum(cs.xray_factor(f"Fe_{n}", 200, model) for n in lines)
        )
        present = [name for name in LINES if name[0] == "L"]
        total = sum(cs.xray_factor(f"Au_{name}", 200, model) for name in present)
        assert cs.xray_factor("Au_L", 200, model) == pytest.approx(total)
    assert cs.ionisation("Au", "L", 200) == pytest.approx(
        sum(cs.ionisation("Au", f"L{i}", 200) for i in (1, 2, 3))
    )


def test_both_forms_of_the_ionisation_meet():
    # The two fits are separate; at an overvoltage of 16 they differ by little.
    for element, shell in (("Al", "K"), ("Ag", "L3"), ("Au", "M5")):
        edge = cs.edge(element, shell)
        below, above = (
            cs.ionisation(element, shell, 15.99 * edge),
            cs.ionisation(element, shell, 16.01 * edge),
        )
        assert below == pytest.approx(above, rel=0.01)


def test_every_line_of_exspy_has_a_factor():
    pytest.importorskip("exspy")
    from exspy.material import elements

    missing = []
    for symbol in SYMBOLS[3:92]:
        for line, found in elements[symbol].Atomic_properties.Xray_lines.as_dictionary().items():
            if line[1] == "a" and found["energy (keV)"] > 0.1:
                try:
                    factor = cs.xray_factor(f"{symbol}_{line}", 300)
                except ValueError:
                    missing.append(f"{symbol}_{line}")
                else:
                    assert factor > 0
    # The free atoms have no 3d and 4f electrons.
    assert set(missing) == {"Ca_La", "La_Ma"}


def test_conversions_go_round():
    lines, sigma = ["Al_Ka", "Cr_Ka", "Ni_Ka"], [14.2, 11.9, 10.3]
    zeta = cs.convert_factors(lines, sigma, "cross_section", "zeta")
    f = cs.convert_factors(lines, zeta, "zeta", "model", solid_angle=0.7)
    k = cs.convert_factors(lines, f, "model", "CL")
    again = cs.convert_factors(lines, k, "CL", "cross_section", reference={"Cr_Ka": 11.9})
    assert list(again.values()) == pytest.approx(sigma)
    assert cs.convert_factors(lines, f, "model", "cross_section", solid_angle=0.7) == pytest.approx(
        again
    )
    assert k["Al_Ka"] == 1.0
    # Turned round, the lines have the factors that they had.
    turned = cs.convert_factors(
        lines[::-1], {name: again[name] for name in lines}, "cross_section", "zeta"
    )
    assert turned == pytest.approx(zeta)


def test_conversions_are_those_of_exspy():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exspy.utils.eds import cross_section_to_zeta, zeta_to_cross_section
    elements, sigma = ["Al", "Cr", "Ni"], [14.2, 11.9, 10.3]
    ours = cs.convert_factors(elements, sigma, "cross_section", "zeta")
    assert list(ours.values()) == pytest.approx(cross_section_to_zeta(sigma, elements), rel=1e-6)
    back = cs.convert_factors(elements, ours, "zeta", "cross_section")
    assert list(back.values()) == pytest.approx(
        zeta_to_cross_section(list(ours.values()), elements), rel=1e-6
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cs.ionisation("Xx", "K", 100), "Xx: not the symbol"),
        (
            lambda: cs.ionisation("Au", "K", 80),
            r"ionised above 80.9\d* keV, but the beam has 80 keV; choose another line",
        ),
        (lambda: cs.ionisation("Au", "M6", 80), "unknown shell 'M6'"),
        (lambda: cs.ionisation("C", "M5", 80), "C has no M5 shell"),
        (lambda: cs.ionisation("C", "M", 80), "C has no M shell"),
        (lambda: cs.ionisation("C", "K", 0), "expected a number above 0"),
        (lambda: cs.ionisation("C", "K", 200e3), "up to 1000"),
        (lambda: cs.xray_factor("Au_Ka", 80), "but the beam has 80 keV"),
        (lambda: cs.xray_factor("Au_Xa", 80), "'Au_Xa' is not the name of an X-ray line"),
        (lambda: cs.xray_factor("Au", 80), "'Au' is not the name of an X-ray line"),
        (lambda: cs.xray_factor("O_Ma", 80), "O does not emit O_Ma"),
        (lambda: cs.xray_factor("Au_Ma", 80, "both"), "unknown model 'both'"),
        (lambda: cs.xray_factor("Au_Ma", 80, efficiency=0), "the efficiency for Au_Ma is 0"),
        (lambda: cs.line_fraction("Au_L"), "fills vacancies of L1 and L2 and L3"),
        (lambda: cs.fluorescence_yield("Au", "L"), "unknown subshell 'L'"),
        (lambda: cs.haadf("Au", 40, 50, 200), "tabulated from 60 to 300 keV"),
        (lambda: cs.haadf("Au", 200, 200, 50), "inner < outer"),
        (lambda: cs.haadf("Au", 200, 50, 4000), "3141 mrad"),
        (lambda: cs.haadf_factor("Au", 200, 50), r"expected \(inner, outer\)"),
        (lambda: cs.convert_factors(["Au"], [1.0], "k", "zeta"), "unknown kind of factor 'k'"),
        (lambda: cs.convert_factors(["Au"], [0.0], "zeta", "CL"), "one positive number for each"),
        (
            lambda: cs.convert_factors(["Au"], {"Ag": 1.0}, "zeta", "CL"),
            "factors are those of Ag; expected one for each of Au",
        ),
        (lambda: cs.convert_factors(["Au"], [1.0], "model", "zeta"), "solid angle is needed"),
        (lambda: cs.convert_factors(["Au"], [1.0], "CL", "zeta"), "pass reference="),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
