# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition and density from calculated factors:
signals, absolute numbers, errors, and what they must not depend on."""

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import (
    composition_errors,
    cross_sections,
    electrons_per_pixel,
    quantify,
    quantify_density,
)
from hyperspy_multitomo.simulation import count, simulate, yuan

LINES = {"Au": "Au_Ma", "Ag": "Ag_La"}
TEM = "Acquisition_instrument.TEM"


def series_of(maps, haadf=None, tilts=None, pixel_size=1.5, keV=100.0):
    """EDS and HAADF series of arrays in the numerics' order."""
    tilts = np.arange(maps.shape[1]) if tilts is None else tilts
    eds = mt.TiltSeriesEDS.from_maps(
        {name: one.swapaxes(1, 2) for name, one in zip(LINES, maps, strict=True)},
        tilts=tilts,
        pixel_size=pixel_size,
    )
    eds.metadata.set_item(f"{TEM}.beam_energy", keV)
    eds.metadata.set_item("Sample.xray_lines", sorted(LINES.values()))
    if haadf is None:
        return eds
    return eds, mt.TiltSeriesHAADF.from_images(
        haadf.swapaxes(1, 2), tilts=tilts, pixel_size=pixel_size
    )


def volume_of(au, ag, pixel_size=1.5, **metadata):
    volume = mt.TomographicVolume.from_arrays({"Au": au, "Ag": ag}, pixel_size=pixel_size)
    volume.metadata.set_item(f"{TEM}.beam_energy", 100.0)
    volume.metadata.set_item("Sample.xray_lines", sorted(LINES.values()))
    for name, value in metadata.items():
        volume.metadata.set_item(name, value)
    return volume


@pytest.fixture(scope="module")
def alloy():
    """Volumes (z, y, x) of 80 and 20 wt% at 1 counts per f and nm, in vacuum."""
    inside = np.zeros((16, 12, 20), bool)
    inside[3:13, 2:10, 5:15] = True
    f = {name: cross_sections.xray_factor(line, 100) for name, line in LINES.items()}
    return (
        inside,
        (0.8 * f["Au"] * inside).astype(np.float32),
        (0.2 * f["Ag"] * inside).astype(np.float32),
    )


def test_known_alloy_by_weight_and_atoms(alloy):
    inside, au, ag = alloy
    volume = volume_of(au, ag)
    composition = volume.quantify("model")
    np.testing.assert_allclose(composition["Au"].data[inside], 80, rtol=1e-5)
    assert not composition["Au"].data[~inside].any()
    atoms = volume.quantify("model", composition_units="atomic")
    expected = 80 / 196.966569 / (80 / 196.966569 + 20 / 107.8682)
    np.testing.assert_allclose(atoms["Au"].data[inside], 100 * expected, rtol=1e-5)
    made = composition.history[-1]
    assert made["xray_lines"] == ["Au_Ma", "Ag_La"]
    assert made["model"] == "cascade"
    assert made["factors"]["Au"] == pytest.approx(cross_sections.xray_factor("Au_Ma", 100))
    assert composition.quantity == "weight percent"


def test_all_methods_agree_where_their_factors_do(alloy):
    inside, au, ag = alloy
    volume, names = volume_of(au, ag), list(LINES.values())
    f = {line: cross_sections.xray_factor(line, 100) for line in names}
    for method in ("CL", "zeta", "cross_section"):
        factors = cross_sections.convert_factors(names, f, "model", method, solid_angle=0.7)
        for units, expected in (("weight", 80), ("atomic", 68.658)):
            found = volume.quantify(method, factors, units, mask=inside)
            np.testing.assert_allclose(found["Au"].data[inside], expected, rtol=1e-4)


def test_order_of_elements_dose_and_pixel_size_change_nothing(alloy):
    inside, au, ag = alloy
    reference = volume_of(au, ag).quantify("model")["Ag"].data
    turned = mt.TomographicVolume.from_arrays({"Ag": ag, "Au": au}, pixel_size=1.5)
    options = dict(beam_energy=100, xray_lines=["Au_Ma", "Ag_La"])
    np.testing.assert_allclose(turned.quantify("model", **options)["Ag"].data, reference, rtol=1e-5)
    np.testing.assert_allclose(
        volume_of(37 * au, 37 * ag).quantify("model")["Ag"].data, reference, rtol=1e-5
    )
    np.testing.assert_allclose(
        volume_of(au, ag, pixel_size=0.2).quantify("model")["Ag"].data, reference, rtol=1e-5
    )
    dearer = volume_of(au, ag).quantify("model", efficiency={"Au": 0.5, "Ag": 1.0})
    np.testing.assert_allclose(dearer["Au"].data[inside], 100 * 1.6 / 1.8, rtol=1e-4)


def test_density_comes_back():
    """Counts of 19.3 g/cm^3 of gold by the formula of the thin film,
    n f C rho t with n = N_A D Omega/(4 pi)."""
    dose, omega = 2e7, 0.7
    for units, expected in (("g/cm^3", 19.3), ("atoms/nm^3", 19.3 / 196.966569 * 602.214)):
        f = cross_sections.xray_factor("Au_Ma", 100)
        per_nm = f * 1e-24 * 6.02214076e23 * dose * omega / (4 * np.pi) * 19.3 * 1e-7
        volume = volume_of(np.full((4, 4, 4), per_nm), np.zeros((4, 4, 4)))
        found = volume.quantify_density("model", units=units, dose=dose, solid_angle=omega)
        np.testing.assert_allclose(found["Au"].data, expected, rtol=1e-5)
        assert found.quantity == units
        # The same through zeta-factors and cross sections, which have the solid angle in them.
        for method in ("zeta", "cross_section"):
            factors = cross_sections.convert_factors(
                ["Au"], {"Au": f}, "model", method, solid_angle=omega
            )
            other = mt.TomographicVolume.from_arrays(
                {"Au": np.full((4, 4, 4), per_nm)}, pixel_size=1.0
            )
            np.testing.assert_allclose(
                other.quantify_density(method, factors, units, dose=dose)["Au"].data,
                expected,
                rtol=1e-5,
            )


def test_zeta_and_dose_are_those_of_exspy():
    """Mass thickness by eXSpy of a one-pixel map of 1 nm:
    its dose is current x live time, that of one pixel."""
    from exspy._misc.eds.utils import quantification_zeta_factor

    electrons = electrons_per_pixel(0.3, 1.5, 1)
    composition, mass_thickness = quantification_zeta_factor(
        np.array([[50.0], [20.0]]), [400.0, 700.0], dose=float(electrons)
    )
    density = quantify_density(
        np.array([[50.0], [20.0]]), ["Al", "Ni"], "zeta", [400.0, 700.0], float(electrons)
    )
    assert density.sum() * 1e-9 * 1e3 == pytest.approx(float(mass_thickness[0]))
    np.testing.assert_allclose(density / density.sum(), composition, rtol=1e-6)


def test_dose_of_a_series_is_that_of_a_pixel_and_follows_it():
    eds = series_of(np.ones((2, 5, 16, 8)))
    assert eds.dose is None
    eds.metadata.set_item(f"{TEM}.beam_current", 0.1)
    eds.metadata.set_item(f"{TEM}.Detector.EDS.live_time", 128.0)
    whole = 0.1e-9 * 128.0 / 1.602176634e-19
    assert eds.dose == pytest.approx(whole / (16 * 8))
    # Cropping leaves the dose of a pixel; binning adds that of four.
    assert eds.isig[2:10, :].dose == pytest.approx(eds.dose)
    assert eds.bin(2).dose == pytest.approx(4 * eds.dose)
    eds.dose = 1e6
    assert eds.bin(2).dose == pytest.approx(4e6)
    volume = eds.reconstruct_sirt(2, show_progressbar=False)
    assert volume.dose == pytest.approx(1e6)
    with pytest.raises(ValueError, match="expected one positive number"):
        eds.dose = [1e6, 2e6]
    eds.dose = None
    assert eds.dose == pytest.approx(whole / (16 * 8))


@pytest.mark.slow
def test_lines_of_the_maps_come_with_the_volume():
    from hyperspy_multitomo.signals.metadata.recorded_arrays import record

    eds = series_of(np.ones((2, 4, 16, 8)))
    record(eds, "lines", ["Au_La", "Ag_La"], ("element",))
    volume = eds.reconstruct_sirt(2, show_progressbar=False)
    composition = volume.quantify("model", threshold="otsu")
    assert composition.history[-1]["xray_lines"] == ["Au_La", "Ag_La"]
    assert (
        volume.quantify("model", threshold="otsu", xray_lines=["Au_Ma", "Ag_La"]).history[-1][
            "xray_lines"
        ][0]
        == "Au_Ma"
    )


def test_errors_are_those_of_repeated_experiments():
    rng = np.random.default_rng(0)
    counts, factors, n = np.array([60.0, 30.0, 10.0]), np.array([1.0, 2.0, 5.0]), 200000
    names = ["Al", "Cr", "Ni"]
    for units in ("weight", "atomic"):
        noisy = counts[:, None] + rng.normal(size=(3, n)) * np.array([6.0, 3.0, 1.0])[:, None]
        by_counts, _ = quantify(noisy, names, "CL", factors, units, mask=np.ones(n, bool))
        expected = composition_errors(
            counts[:, None], names, "CL", factors, units, count_errors=[[6.0], [3.0], [1.0]]
        )
        np.testing.assert_allclose(by_counts.std(axis=1), expected[:, 0], rtol=0.03)
        # A wrong factor is a wrong count.
        wrong = counts[:, None] * (
            1 + rng.normal(size=(3, n)) * np.array([0.05, 0.0, 0.02])[:, None]
        )
        by_factors, _ = quantify(wrong, names, "CL", factors, units, mask=np.ones(n, bool))
        given = {"Al": 0.05, "Ni": 0.02}
        expected = composition_errors(
            counts[:, None], names, "CL", factors, units, factor_errors=given
        )
        np.testing.assert_allclose(by_factors.std(axis=1), expected[:, 0], rtol=0.03)


def test_errors_of_a_composition(alloy):
    inside, au, ag = alloy
    volume = volume_of(au, ag)
    composition = volume.quantify("model")
    errors = volume.composition_errors(composition, factor_errors=0.1)
    # 100 C (1 - C) sqrt(2) 0.1
    np.testing.assert_allclose(
        errors["Au"].data[inside], 100 * 0.8 * 0.2 * np.sqrt(2) * 0.1, rtol=1e-4
    )
    assert not errors["Au"].data[~inside].any()
    both = volume.composition_errors(
        composition, factor_errors=0.1, count_errors={"Au": 0.1 * au, "Ag": 0.0 * ag}
    )
    np.testing.assert_allclose(
        both["Au"].data[inside], 100 * 0.8 * 0.2 * np.sqrt(3) * 0.1, rtol=1e-4
    )
    with pytest.raises(ValueError, match="nothing to propagate"):
        volume.composition_errors(composition)
    with pytest.raises(ValueError, match="pass what quantify"):
        volume.composition_errors(volume, factor_errors=0.1)
    with pytest.raises(ValueError, match="from 0 up"):
        volume.composition_errors(composition, factor_errors=-0.1)
    with pytest.raises(ValueError, match="factor_errors for Cu"):
        volume.composition_errors(composition, factor_errors={"Cu": 0.1})


@pytest.fixture(scope="module")
def yuan_series():
    """Five seeds side by side as slices of one series."""
    phantom = yuan()
    series = simulate(phantom, seed=0)
    maps = count(np.repeat(series.expected_maps, 5, axis=-1), blur=phantom.blur, seed=1)
    haadf = count(np.repeat(series.expected_haadf, 5, axis=-1), seed=2)
    truth = phantom.truth[..., 0]
    gold = truth[0] / np.maximum(truth.sum(axis=0), 1e-6)
    from scipy.ndimage import binary_erosion

    solid = truth.sum(axis=0) > 0.99 * truth.sum(axis=0)[truth.sum(axis=0) > 0].min()
    core = binary_erosion((gold > 0.79) & solid, iterations=2)
    shell = binary_erosion((gold < 0.21) & solid, iterations=2)
    return (
        *series_of(maps, haadf, phantom.tilts, phantom.pixel_size),
        core,
        shell,
        series.true_ratios,
    )


def means(composition, where):
    """Mean percent of each element in a region (z, x) of all slices."""
    return {
        name: float(composition[name].data.transpose(0, 2, 1)[where].mean())
        for name in composition.elements
    }


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [100, 200, 500])
def test_core_and_shell_of_yuan(yuan_series, iterations):
    eds, haadf, core, shell, ratios = yuan_series
    volume = eds.reconstruct_hebt(
        haadf,
        alpha=0.7,
        iterations=iterations,
        ratios=dict(zip(eds.elements, ratios, strict=True)),
        depth=None,
        show_progressbar=False,
    )
    composition = volume.quantify("model", model="direct")
    assert means(composition, core)["Au"] == pytest.approx(80, abs=5)
    assert means(composition, shell)["Ag"] == pytest.approx(80, abs=5)


def test_eq_18_is_biased_where_the_ratios_do_not_follow_the_model(yuan_series):
    """Through the response ratios the mean bias of z/(r f) between the elements goes into the
    composition."""
    eds, haadf, core, _, ratios = yuan_series
    volume = eds.reconstruct_hebt(
        haadf,
        alpha=0.7,
        iterations=100,
        ratios=dict(zip(eds.elements, ratios, strict=True)),
        depth=None,
        show_progressbar=False,
    )
    f = cross_sections.model_ratios(list(LINES.values()), 100, model="direct")
    options = dict(model="direct", threshold="otsu")
    by_counts = means(volume.quantify("model", **options), core)
    by_ratios = means(volume.quantify("model", through="ratios", **options), core)
    bias = (f["Au"] / ratios[0]) / (f["Ag"] / ratios[1])
    odds = by_counts["Au"] / by_counts["Ag"] / bias
    assert by_ratios["Au"] == pytest.approx(100 * odds / (1 + odds), abs=0.7)
    with pytest.raises(ValueError, match="needs a volume by HEBT"):
        eds.reconstruct_sirt(2, show_progressbar=False).quantify("model", through="ratios")


def test_model_as_prior_tells_collinear_elements_apart():
    """Two elements of one alloy, everywhere in the same proportion:
    only the model says which ratio is whose."""
    ramp = np.zeros((6, 32, 32))
    ramp[:, 6:26, 6:26] = np.linspace(2, 8, 20)[None, :, None]
    expected = np.stack([ramp, 0.5 * ramp])
    true = cross_sections.model_ratios(list(LINES.values()), 100, (60, 200))
    haadf = sum(true[name] * one for name, one in zip(LINES, expected, strict=True))
    counts = np.random.default_rng(0).poisson(expected)
    eds, images = series_of(counts, haadf)
    found = eds.fit_response_ratios(images, prior="model", haadf_angles=(60, 200), method="blocks")
    np.testing.assert_allclose(found.values, [true[name] for name in LINES], rtol=0.05)
    with pytest.raises(ValueError, match="must be 'auto', 'model', a dict"):
        eds.fit_response_ratios(images, prior="theory")
    with pytest.raises(ValueError, match="pass prior='auto' or 'model' with it"):
        eds.fit_response_ratios(images, prior=None, haadf_angles=(60, 200))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda v: v.quantify("model", beam_energy=2.0),
            "Au M5 is ionised above 2.2.* keV, but the beam has 2 keV",
        ),
        (
            lambda v: v.quantify("model", xray_lines=["Au_Ma"]),
            "no X-ray line is known for Ag: pass xray_lines=",
        ),
        (lambda v: v.quantify("model", xray_lines=["Au_Ma", "Au_La", "Ag_La"]), "two lines of Au"),
        (
            lambda v: v.quantify("model", xray_lines=["Au_Ma", "Ag_La", "Cu_Ka"]),
            "Cu_Ka are of no channel",
        ),
        (lambda v: v.quantify("model", model="both"), "unknown model 'both'"),
        (lambda v: v.quantify("model", threshold="li"), "unknown threshold method 'li'"),
        (
            lambda v: v.quantify("model", threshold=1.0, mask=np.ones(v.data.shape[::2])),
            "pass one of them",
        ),
        (lambda v: v.quantify("model", threshold=1e9), "no voxel inside"),
        (lambda v: v.quantify("model", efficiency={"Au": 0.5}), "Ag"),
        (lambda v: v.quantify("model", through="haadf"), "must be 'counts' or 'ratios'"),
        (lambda v: v.quantify("CL"), "needs factors="),
        (lambda v: v.quantify("CL", [1, 2], through="ratios"), "calculates its factors"),
        (lambda v: v.quantify("model", {"Au": 1.0}), "no factor for Ag"),
        (lambda v: v.quantify("model", {"Au": 1.0, "Ag": 0.0}), "Ag: 0.0"),
        (lambda v: v.quantify("model").quantify("model"), "holds weight percent, not counts"),
        (lambda v: v.quantify_density("CL", [1, 2], dose=1e6), "k-factors are relative"),
        (
            lambda v: v.quantify_density("model", dose=1e6),
            "solid angle of the X-ray detectors is not in the metadata",
        ),
        (lambda v: v.quantify_density("model", solid_angle=0.7), "the dose is not known"),
        (lambda v: v.quantify_density("zeta", [1, 2], dose=-1), "the dose is -1.0"),
        (lambda v: v.quantify_density("zeta", [1, 2], "kg", dose=1), "unknown units 'kg'"),
    ],
)
def test_bad_input_is_named_with_the_remedy(alloy, call, message):
    _, au, ag = alloy
    with pytest.raises(ValueError, match=message):
        call(volume_of(au, ag))


def test_unknown_conditions_are_named(alloy):
    _, au, ag = alloy
    bare = mt.TomographicVolume.from_arrays({"Au": au, "Ag": ag})
    with pytest.raises(ValueError, match="beam energy is not in the metadata"):
        bare.quantify("model", xray_lines=["Au_Ma", "Ag_La"])
    with pytest.raises(ValueError, match="no X-ray line is known for Au, Ag"):
        bare.quantify("model", beam_energy=100)
    with pytest.raises(ValueError, match="no calibration"):
        bare.quantify_density("zeta", [1, 2], dose=1e6)
