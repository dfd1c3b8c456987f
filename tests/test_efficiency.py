# SPDX-License-Identifier: GPL-3.0-or-later
"""A detector's efficiency: figures that others publish for the same layers, its limits,
and what users may give for it."""

import warnings
from functools import partial

import numpy as np
import pytest

from hyperspy_multitomo.composition.xrays.efficiency import (
    WINDOWS,
    Layer,
    checked_efficiency,
    efficiency,
)

SI3N4 = {"Si": 3 * 28.085 / 140.28, "N": 4 * 14.007 / 140.28}
C2 = (Layer(SI3N4, 40, 3.44), Layer("Al", 30, 2.70), Layer("Si", 15e3, 2.33, coverage=0.2))


@pytest.mark.parametrize(
    ("window", "keV", "published"),
    [
        # NeXLSpectrum (NIST), its own tests of its models of these windows.
        ("AP3.3", 0.3, 0.197),
        ("AP3.3", 3.0, 0.760),
        ("AP3.3", 30.0, 0.978),
        (C2, 0.3, 0.520),
        (Layer("Be", 5000, 1.848), 3.0, 0.982),
    ],
)
def test_windows_are_those_of_nist(window, keV, published):
    assert efficiency(keV, window=window) == pytest.approx(published, abs=1.1e-3)


def test_layers_follow_beer_and_lambert():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exspy.material import mass_absorption_coefficient, mass_absorption_mixture
    energies = np.array([0.5, 1.0, 2.0, 8.0])
    expected = np.exp(-mass_absorption_coefficient("Si", energies) * 2.33 * 500e-7)
    np.testing.assert_allclose(efficiency(energies, dead_layer_nm=500), expected)
    np.testing.assert_allclose(Layer("Si", 250, 2.33).transmission(energies) ** 2, expected)
    mixed = mass_absorption_mixture([60.0, 40.0], elements=["Si", "N"], energies=energies)
    np.testing.assert_allclose(
        Layer({"Si": 0.6, "N": 0.4}, 100, 3.0).transmission(energies), np.exp(-mixed * 3.0 * 100e-7)
    )


def test_grid_lets_its_open_area_through():
    grid = Layer("Si", 380e3, 2.33, coverage=0.23)
    assert grid.transmission(1.0) == pytest.approx(0.77, abs=1e-6)
    assert grid.transmission(100.0) > 0.97


def test_crystal():
    energies = np.array([1.0, 5.9, 17.5, 40.0])
    thin, thick = efficiency(energies, crystal_mm=0.45), efficiency(energies, crystal_mm=3)
    assert (thin <= thick).all()
    assert (np.diff(thin) <= 0).all()
    np.testing.assert_allclose(
        1 - efficiency(energies, crystal_mm=0.9), (1 - thin) ** 2, atol=1e-12
    )
    np.testing.assert_array_equal(efficiency(energies), 1)


def test_parts_multiply():
    energies, contact = [0.5249, 1.4865, 15.0], Layer("Al", 30, 2.70)
    whole = efficiency(energies, window="ap3.3", dead_layer_nm=40, crystal_mm=0.5, contact=contact)
    parts = [
        efficiency(energies, window="AP3.3"),
        efficiency(energies, dead_layer_nm=40),
        efficiency(energies, crystal_mm=0.5),
        contact.transmission(energies),
    ]
    np.testing.assert_allclose(whole, np.prod(parts, axis=0))
    assert efficiency(np.full((2, 3), 1.0)).shape == (2, 3)
    np.testing.assert_array_equal(efficiency(energies, window="windowless"), efficiency(energies))


def test_every_window_passes_more_of_hard_than_of_soft_lines():
    for name in WINDOWS:
        soft, hard = efficiency([0.5249, 6.4], window=name)
        assert 0 < soft <= hard <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_keV": 1486.5}, "0.12 to 400 keV"),
        ({"energy_keV": 0.05}, "0.12 to 400 keV"),
        ({"energy_keV": 1.0, "window": "glass"}, "unknown window"),
        ({"energy_keV": 1.0, "window": ["Be"]}, "expected a name, a Layer"),
        ({"energy_keV": 1.0, "dead_layer_nm": -1}, "dead layer"),
        ({"energy_keV": 1.0, "crystal_mm": 0}, "crystal"),
    ],
)
def test_efficiency_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        efficiency(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("Be", -1, 1.85),
        ("Be", 1, 0),
        ("Be", 1, 1.85, 1.5),
        ({"Si": 0.9, "N": 0.4}, 1, 3),
        ({}, 1, 3),
    ],
)
def test_no_such_layer(arguments):
    with pytest.raises(ValueError, match="expected|fractions"):
        Layer(*arguments)


LINES, ENERGIES = ["O_Ka", "Fe_La", "Fe_Ka"], [0.5249, 0.7049, 6.404]


def test_default_is_one_and_warns_of_soft_lines():
    with pytest.warns(UserWarning, match="O_Ka, Fe_La below 1 keV"):
        values = checked_efficiency(LINES, ENERGIES)
    np.testing.assert_array_equal(values, [1, 1, 1])
    np.testing.assert_array_equal(
        checked_efficiency(["Fe_Ka"], [6.404]), [1]
    )  # a warning would be an error here


def test_what_an_efficiency_is_given_as():
    np.testing.assert_array_equal(checked_efficiency(LINES, ENERGIES, 0.5), [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(
        checked_efficiency(LINES, ENERGIES, {"O": 0.4, "Fe": 0.9, "Fe_La": 0.6}), [0.4, 0.6, 0.9]
    )
    window = partial(efficiency, window="AP3.3")
    np.testing.assert_array_equal(checked_efficiency(LINES, ENERGIES, window), window(ENERGIES))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (1.2, "above 0 and at most 1"),
        (0, "above 0 and at most 1"),
        ({"O": 0.4}, "no efficiency for Fe_La, Fe_Ka"),
        ({"O": 0.4, "Fe": np.nan}, "Fe_La: nan"),
        (lambda energies: [1.0], "gave the shape"),
        (lambda energies: 2 * energies, "above 0 and at most 1"),
        ("AP3.3", "expected a number, a mapping"),
    ],
)
def test_what_is_no_efficiency(given, message):
    with pytest.raises(ValueError, match=message):
        checked_efficiency(LINES, ENERGIES, given)


def test_lines_need_energies():
    with pytest.raises(ValueError, match="3 lines and energies"):
        checked_efficiency(LINES, [1.0], 1.0)
