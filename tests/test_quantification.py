# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition from counts: closed forms, and eXSpy's results on the same intensities."""

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import composition_errors, mean_composition, quantify

LINES = ["Al_Ka", "Cr_Ka", "Ni_Ka"]
ELEMENTS = ["Al", "Cr", "Ni"]
FACTORS = {
    "CL": [1.0, 1.47, 1.72],
    "zeta": [405.6, 596.2, 697.7],
    "cross_section": [14.2, 11.9, 10.3],
}


def exspy_composition(intensities, method, factors, units):
    """Composition (channel, x, y) in percent by eXSpy's own method."""
    import exspy

    spectra = exspy.signals.EDSTEMSpectrum(np.ones((*intensities.shape[1:], 1024)))
    spectra.axes_manager[-1].scale, spectra.axes_manager[-1].units = 0.01, "keV"
    for axis in spectra.axes_manager.navigation_axes:
        axis.scale, axis.units = 1.0, "nm"
    spectra.set_microscope_parameters(
        beam_energy=200, live_time=1.5, beam_current=0.3, probe_area=1.0
    )
    spectra.set_elements(ELEMENTS)
    spectra.set_lines(LINES)
    maps = spectra.get_lines_intensity()
    assert [image.metadata.Sample.xray_lines[0] for image in maps] == LINES
    for image, values in zip(maps, intensities, strict=True):
        image.data = values.reshape(image.data.shape)
    result = spectra.quantification(
        maps, method, factors, composition_units=units, navigation_mask=None
    )
    composition = result if method == "CL" else result[0]
    return np.array([image.data for image in composition]).reshape(intensities.shape)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["CL", "zeta", "cross_section"])
@pytest.mark.parametrize("units", ["weight", "atomic"])
def test_equal_to_exspy(method, units):
    intensities = np.random.default_rng(0).uniform(0.5, 50, (3, 4, 5))
    expected = exspy_composition(intensities, method, FACTORS[method], units)
    inside = np.ones((4, 5), bool)
    composition, _ = quantify(intensities, ELEMENTS, method, FACTORS[method], units, mask=inside)
    np.testing.assert_allclose(composition, expected, rtol=1e-6)
    # eXSpy's list is in alphabetical order whatever ours is.
    turned, _ = quantify(
        intensities[::-1], ELEMENTS[::-1], method, FACTORS[method], units, mask=inside
    )
    np.testing.assert_allclose(turned[::-1], expected, rtol=1e-6)


def test_exspy_takes_faint_voxels_as_absent_and_we_do_not():
    intensities = np.array([[[0.05, 20.0]], [[0.05, 20.0]], [[0.05, 20.0]]])
    ours, _ = quantify(intensities, ELEMENTS, "CL", FACTORS["CL"], mask=np.ones((1, 2), bool))
    np.testing.assert_allclose(ours[:, 0, 0], ours[:, 0, 1])
    assert exspy_composition(intensities, "CL", FACTORS["CL"], "weight")[:, 0, 0].sum() == 0


def test_known_alloy_in_three_ways():
    # 30 wt% Ag, 70 wt% Au; 107.8682 and 196.966569 g/mol.
    weight = np.array([30.0, 70.0])
    atoms = weight / [107.8682, 196.966569]
    percent = 100 * atoms / atoms.sum()
    factors = {"Ag": 2.0, "Au": 5.0}
    for method, counts in (
        ("CL", weight / [2, 5]),
        ("zeta", weight / [2, 5]),
        ("cross_section", atoms * [2, 5]),
    ):
        volumes = counts[:, None, None, None] * np.array([0.0, 0.3, 7.0])[:, None, None]
        by_weight, mask = quantify(volumes, ["Ag", "Au"], method, factors, "weight", mask=0.01)
        by_atoms, _ = quantify(volumes, ["Ag", "Au"], method, factors, "atomic", mask=mask)
        assert mask.ravel().tolist() == [False, True, True]
        np.testing.assert_allclose(by_weight[:, 1:, 0, 0].T, [weight, weight], rtol=1e-6)
        np.testing.assert_allclose(by_atoms[:, 1:, 0, 0].T, [percent, percent], rtol=1e-6)
        assert (by_weight[:, 0] == 0).all()


def test_scale_of_the_counts_and_of_the_factors_changes_nothing():
    volumes = np.random.default_rng(1).uniform(1, 9, (2, 3, 3, 3)).astype(np.float32)
    reference, mask = quantify(volumes, ["Ag", "Au"], "CL", [1.0, 2.0])
    scaled, scaled_mask = quantify(volumes * 1e-6, ["Ag", "Au"], "CL", [1e9, 2e9])
    np.testing.assert_array_equal(mask, scaled_mask)
    np.testing.assert_allclose(reference, scaled, rtol=1e-5)
    assert reference.dtype == np.float32
    np.testing.assert_allclose(reference.sum(axis=0)[mask], 100, rtol=1e-5)
    assert 0 < mask.sum() < mask.size


def test_factors_by_element_line_and_list_agree():
    volumes = np.random.default_rng(2).uniform(1, 9, (2, 4))
    inside = np.ones(4, bool)
    by_list, _ = quantify(volumes, ["Pt", "Fe"], "CL", [1.45, 5.08], mask=inside)
    for names, factors in (
        (["Pt", "Fe"], {"Fe": 1.45, "Pt": 5.08}),
        (["Pt", "Fe"], {"Pt_La": 5.08, "Fe_Ka": 1.45}),
        (["Pt_La", "Fe_Ka"], {"Pt": 5.08, "Fe_Ka": 1.45}),
    ):
        np.testing.assert_array_equal(
            quantify(volumes, names, "CL", factors, mask=inside)[0], by_list
        )


def test_dask_in_dask_out():
    da = pytest.importorskip("dask.array")
    volumes = np.random.default_rng(3).uniform(1, 9, (2, 4, 4, 4)).astype(np.float32)
    inside = np.ones((4, 4, 4), bool)
    lazy, _ = quantify(
        da.from_array(volumes, chunks=(1, 2, 4, 4)), ["Ag", "Au"], "zeta", [1.0, 2.0], mask=inside
    )
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(
        lazy.compute(), quantify(volumes, ["Ag", "Au"], "zeta", [1.0, 2.0], mask=inside)[0]
    )


@pytest.mark.parametrize(
    ("elements", "factors", "message"),
    [
        (["Ag", "Au"], {"Ag": 1.0}, "no factor for Au"),
        (["Ag", "Au"], {"Ag": 1.0, "Au": 2.0, "Cu": 1.0}, "factors for Cu"),
        (["Ag", "Au_La"], {"Ag": 1.0, "Au_Ma": 2.0}, "no factor for Au_La and factors for Au_Ma"),
        (["Ag", "Au"], {"Ag": 1.0, "Au": 0.0}, "Au: 0.0"),
        (["Ag", "Au"], {"Ag": -1.0, "Au": 1.0}, "Ag: -1.0"),
        (["Ag", "Au"], {"Au": 1.0, "Au_La": 1.0, "Ag": 1.0}, "two factors for Au"),
        (["Ag", "Au"], [1.0], "1 factors for 2 elements"),
        (["Au_La", "Au_Ma"], [1.0, 1.0], "one element twice"),
        (["Ag"], [1.0], "give each channel one name"),
    ],
)
def test_bad_factors_are_named(elements, factors, message):
    with pytest.raises(ValueError, match=message):
        quantify(np.ones((2, 3)), elements, "CL", factors, mask=np.ones(3, bool))


def test_bad_choices_and_empty_volumes_are_errors():
    volumes = np.ones((2, 3))
    with pytest.raises(ValueError, match="unknown method 'kfactor'"):
        quantify(volumes, ["Ag", "Au"], "kfactor", [1, 1])
    with pytest.raises(ValueError, match="unknown composition_units"):
        quantify(volumes, ["Ag", "Au"], "CL", [1, 1], "mass")
    with pytest.raises(ValueError, match="expected bool of shape"):
        quantify(volumes, ["Ag", "Au"], "CL", [1, 1], mask=np.ones(4, bool))
    with pytest.raises(ValueError, match="nothing in the volume is positive"):
        quantify(0 * volumes, ["Ag", "Au"], "CL", [1, 1])
    with pytest.raises(ValueError, match="Xx: not the symbol"):
        quantify(volumes, ["Ag", "Xx"], "CL", [1, 1], "atomic", mask=np.ones(3, bool))


class TestNegativeCounts:
    def test_count_as_zero_and_are_counted(self):
        volumes = np.array([[30.0, 30.0, 30.0, -5.0], [10.0, -10.0, -40.0, 7.0]])
        with pytest.warns(
            UserWarning, match=r"3 voxels of the particle, 75 %, have negative.*mean_composition"
        ):
            composition, _ = quantify(
                volumes, ["Au", "Ag"], "CL", [1.0, 1.0], mask=np.ones(4, bool)
            )
        np.testing.assert_allclose(composition, [[75, 100, 100, 0], [25, 0, 0, 100]])
        errors = composition_errors(volumes, ["Au", "Ag"], "CL", [1.0, 1.0], count_errors=1.0)
        assert np.isfinite(errors).all()
        assert errors.max() < 20

    def test_of_dask_arrays_too(self):
        da = pytest.importorskip("dask.array")
        volumes = np.random.default_rng(0).normal(2, 3, (2, 4, 4, 4)).astype(np.float32)
        inside = np.ones((4, 4, 4), bool)
        lazy, _ = quantify(
            da.from_array(volumes, chunks=2), ["Ag", "Au"], "CL", [1.0, 2.0], mask=inside
        )
        with pytest.warns(UserWarning, match="negative counts"):
            eager, _ = quantify(volumes, ["Ag", "Au"], "CL", [1.0, 2.0], mask=inside)
        np.testing.assert_allclose(lazy.compute(), eager)
        assert 0 <= eager.min() <= eager.max() <= 100.001
        means = [
            mean_composition(v, ["Ag", "Au"], "CL", [1.0, 2.0], mask=inside)
            for v in (volumes, da.from_array(volumes))
        ]
        np.testing.assert_allclose(*means, rtol=1e-5)

    def test_an_absent_element_has_no_mean(self):
        """The mean of fractions that cannot be negative does not say 0;
        that of the sums does, within two standard errors."""
        means, biased = [], []
        for seed in range(50):
            volumes = np.random.default_rng(seed).normal([[20.0], [0.0]], 6.0, (2, 900))
            means.append(mean_composition(volumes, ["Au", "Ag"], "CL", [1.0, 1.0])[1])
            with pytest.warns(UserWarning, match="negative counts"):
                biased.append(
                    quantify(volumes, ["Au", "Ag"], "CL", [1.0, 1.0], mask=np.ones(900, bool))[0][
                        1
                    ].mean()
                )
        assert abs(np.mean(means)) < 2 * np.std(means) / np.sqrt(50)
        assert np.mean(biased) > 5

    def test_a_region_without_counts(self):
        with pytest.raises(ValueError, match="more than 0: give a region with signal"):
            mean_composition(np.array([[1.0, -2.0], [0.0, 0.0]]), ["Au", "Ag"], "CL", [1.0, 1.0])


@pytest.mark.slow
def test_volumes_of_fbp():
    """An element that is absent, reconstructed without the constraint:
    fractions from 0 to 100, and a mean of 0."""
    rng, angles = np.random.default_rng(0), np.arange(-70.0, 71.0, 10.0)
    x = np.arange(24) - 11.5
    path = 2 * np.sqrt(np.maximum(8.0**2 - x**2, 0))
    gold = rng.poisson(20 * np.broadcast_to(path[None, None, :], (len(angles), 6, 24)))
    silver = rng.normal(0, 6, gold.shape)
    eds = mt.TiltSeriesEDS.from_maps({"Au": gold, "Ag": silver}, tilts=angles, pixel_size=1.0)
    volume = eds.reconstruct_fbp(show_progressbar=False)
    inside = np.broadcast_to((np.hypot(x[:, None], x) < 6)[:, None, :], (24, 6, 24))
    with pytest.warns(UserWarning, match="negative counts of an element"):
        composition = volume.quantify("CL", {"Au": 1.0, "Ag": 1.0}, mask=inside)
    assert 0 <= composition.data.min() <= composition.data.max() <= 100.001
    silver = np.asarray(volume["Ag"].data)[inside]
    error = (
        100 * silver.std() * np.sqrt(8 / silver.size) / np.asarray(volume["Au"].data)[inside].mean()
    )  # noise of neighbours
    mean = volume.mean_composition(composition, inside)
    assert abs(mean["Ag"]) < 2 * error < 5
    assert mean["Au"] + mean["Ag"] == pytest.approx(100)
    assert composition["Ag"].data[inside].mean() > 2 * error
