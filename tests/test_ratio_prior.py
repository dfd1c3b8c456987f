# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios with a prior: it moves what the data leave open, and nothing else."""

import warnings
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from ellipsoids import ellipsoid
from numpy.exceptions import VisibleDeprecationWarning

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import ResponseRatios, cross_sections, fit_response_ratios
from hyperspy_multitomo.signals.methods.ratio_priors import WIDE, calculated_prior

DATA = Path(__file__).parents[2] / "shared" / "data" / "idp_l2083"
TRUE = np.array([8.0, 3.0])


def phases(level, mixed=0.0, tilts=9):
    """Return expected maps (element, tilt, x, y) of a core and its shell."""
    x, y = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 24), indexing="ij")
    maps = []
    for t in range(tilts):
        whole = np.sqrt(np.maximum(0, 0.8 - x**2 - (0.6 + 0.03 * t) * y**2))
        core = np.sqrt(np.maximum(0, 0.25 - (x - 0.04 * (t - 4)) ** 2 - y**2))
        shell = np.maximum(whole - core, 0)
        maps.append([core + mixed * shell, shell + mixed * core])
    return level * np.array(maps).transpose(1, 0, 2, 3)


def fitted(expected, true, seed=0, **keywords):
    rng = np.random.default_rng(seed)
    haadf = np.tensordot(true, expected, 1)
    haadf = haadf + rng.normal(size=haadf.shape) * 0.03 * np.sqrt(haadf * haadf.max())
    names = ["Au", "Ag", "Cu"][: len(expected)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fit_response_ratios(rng.poisson(expected), haadf, names, **keywords)


class TestDecided:
    """The errors of the plain fit are under 10 %."""

    @pytest.mark.parametrize("method", ["blocks", "poisson"])
    @pytest.mark.parametrize("level", [2.0, 5.0, 20.0])
    @pytest.mark.parametrize("wrong", [4.0, 0.25])
    def test_a_prior_wrong_by_four_does_nothing(self, method, level, wrong):
        expected = phases(level, mixed=0.2)
        plain = fitted(expected, TRUE, method=method, n_bootstrap=50)
        assert (plain.standard_errors < 0.1 * plain.values).all()
        side = plain.block_size
        prior = {"Au": 8.0 * wrong, "Ag": 3.0}
        with_prior = fitted(expected, TRUE, method=method, block_size=side, prior=prior)
        moved = np.abs(with_prior.values - plain.values)
        assert (moved < 0.3 * plain.standard_errors).all()
        np.testing.assert_allclose(with_prior.standard_errors / plain.standard_errors, 1, atol=0.5)
        assert set(with_prior.sources.values()) == {"measured"}

    def test_errors_cover_the_truth(self):
        fits = [fitted(phases(1.0), TRUE, seed, prior={"Au": 8, "Ag": 9}) for seed in range(12)]
        off = np.array([(fit.values - TRUE) / fit.standard_errors for fit in fits])
        assert 0.5 < np.sqrt((off**2).mean()) < 1.6


class TestUndecided:
    def test_only_what_is_left_open_follows_the_prior(self):
        """Cu lies with Ag in one proportion: their sum is measured, their relation is not."""
        maps = phases(5.0)
        maps = np.concatenate([maps, 0.5 * maps[1:]])
        true = np.array([8.0, 3.0, 4.0])
        for relation in (0.5, 2.0):
            silver = 5 / (1 + 0.5 * relation)
            prior = {"Au": 8.0, "Ag": silver, "Cu": silver * relation}
            fit = fitted(maps, true, prior=prior)
            assert fit["Au"] == pytest.approx(8, rel=0.03)
            assert fit["Ag"] + 0.5 * fit["Cu"] == pytest.approx(5, rel=0.03)
            assert fit["Cu"] / fit["Ag"] == pytest.approx(relation, rel=0.1)
            assert fit.sources == {"Au": "measured", "Ag": "calculated", "Cu": "calculated"}
            assert fit.standard_errors[0] < 0.05 * 8
            # The sum is known, so that the errors of its parts are somewhat less than 30 %.
            relative = fit.standard_errors[1:] / fit.values[1:]
            assert ((relative > 0.05) & (relative < 0.6)).all()

    def test_a_narrower_prior_has_smaller_errors(self):
        maps = phases(5.0)
        maps = np.stack([maps[0], 0.5 * maps[0], maps[1]])
        prior = dict(zip(("Au", "Ag", "Cu"), (8.0, 3.0, 3.0), strict=True))
        wide, narrow = (
            fitted(maps, np.array([8.0, 3.0, 3.0]), prior=prior, prior_width=width)
            for width in (np.log(3), {"Au": 0.1, "Ag": 0.1})
        )
        assert (narrow.standard_errors[:2] < 0.5 * wide.standard_errors[:2]).all()

    def test_elements_without_a_prior_are_fitted(self):
        maps = phases(5.0)
        maps = np.stack([maps[0], 2 * maps[0], maps[1]])
        fit = fitted(maps, np.array([4.0, 2.0, 3.0]), prior={"Au": 2.0, "Ag": 1.0})
        np.testing.assert_allclose(fit.values, [4, 2, 3], rtol=0.1)
        assert np.isnan(fit.prior_values[2])
        assert fit.sources["Cu"] == "measured"

    def test_no_ratio_is_0_where_least_squares_want_it_below(self):
        whole = ellipsoid(np.linspace(-60, 60, 9), 48, 24, (0, 0, 0), (18, 16, 9))
        series = 3 * np.stack([whole, np.sqrt(whole)]), np.array([5.0, -0.5])
        plain = fitted(*series)
        assert plain.unexplained == ("Ag",)
        fit = fitted(*series, prior={"Au": 5.0, "Ag": 2.0})
        assert fit.sources["Ag"] == "calculated"
        assert 0.005 < fit["Ag"] < 2.0
        assert fit["Au"] == pytest.approx(plain["Au"], rel=0.1)

    def test_an_inverted_haadf_is_said(self):
        maps = np.random.default_rng(0).poisson(phases(3.0))
        prior = {"Au": 1.0, "Ag": 1.0}
        with pytest.warns(UserWarning, match="prior is left out: .* contrast inverted"):
            fit = fit_response_ratios(
                maps, -maps.sum(axis=0), ["Au", "Ag"], prior=prior, mask=maps[0] > 0, block_size=4
            )
        assert (fit.values == 0).all()


def series(counts, haadf, *, energy=200, angles=None, lines=("Al_Ka", "Si_Ka")):
    tilts = np.arange(counts.shape[1]) * 5.0
    names = [line.partition("_")[0] for line in lines]
    maps = dict(zip(names, counts.transpose(0, 1, 3, 2), strict=True))
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=tilts)
    if energy:
        eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", energy)
    if lines:
        eds.metadata.set_item("Sample.xray_lines", list(lines))
    images = mt.TiltSeriesHAADF.from_images(haadf.transpose(0, 2, 1), tilts=tilts)
    if angles:
        for name, angle in zip(("inner", "outer"), angles, strict=True):
            images.metadata.set_item(
                f"Acquisition_instrument.TEM.Detector.STEM.{name}_angle", angle
            )
    return eds, images


@pytest.fixture
def alloy():
    """Two elements in one proportion: only the model says which ratio is whose."""
    core = phases(4.0)[0]
    expected = np.stack([core, 0.5 * core])
    true = cross_sections.model_ratios(["Al_Ka", "Si_Ka"], 200, (60, 200))
    haadf = np.tensordot(list(true.values()), expected, 1)
    return np.random.default_rng(0).poisson(expected), haadf, list(true.values())


class TestSeries:
    def test_ratios_are_calculated_by_default(self, alloy, tmp_path):
        counts, haadf, true = alloy
        eds, images = series(counts, haadf, angles=(60, 200))
        with pytest.warns(UserWarning, match="Al, Si are calculated, not measured"):
            fit = eds.fit_response_ratios(images)
        np.testing.assert_allclose(fit.values, true, rtol=0.05)
        assert "calculated" in str(fit)
        step = eds.history[-1]
        assert step["calculated"] == ["Al", "Si"]
        assert step["prior_width"] == {"Al": 0.3, "Si": 0.3}
        eds.save(tmp_path / "eds.hspy")
        again = hs.load(tmp_path / "eds.hspy").response_ratios
        assert again.sources == fit.sources
        np.testing.assert_allclose(again.prior_values, fit.prior_values)

    def test_lazy_and_binned_series(self, alloy):
        counts, haadf, true = alloy
        eds, images = series(counts, haadf)
        with pytest.warns(UserWarning, match="calculated"):
            fit = eds.fit_response_ratios(images)
        with pytest.warns(UserWarning, match="calculated"):
            lazy = eds.as_lazy().fit_response_ratios(images.as_lazy())
        np.testing.assert_allclose(lazy.values, fit.values, rtol=1e-5)
        np.testing.assert_allclose(fit.values, true, rtol=0.05)
        binned = eds.bin(2).response_ratios
        np.testing.assert_allclose(binned.prior_values, eds.response_ratios.prior_values / 4)

    @pytest.mark.parametrize(
        ("change", "why"),
        [({"energy": None}, "the beam energy is not"), ({"lines": ()}, "no X-ray line is known")],
    )
    def test_without_energy_or_lines_there_is_no_prior(self, alloy, change, why):
        counts, haadf, _ = alloy
        eds, images = series(counts, haadf)
        if change.get("energy", 1) is None:
            del eds.metadata.Acquisition_instrument
        else:
            eds.metadata.Sample.xray_lines = []
        with pytest.warns(UserWarning, match="could be calculated, because") as said:
            fit = eds.fit_response_ratios(images)
        assert sum("could be calculated, because" in str(one.message) for one in said) == 1
        assert any(why in str(one.message) for one in said)
        assert "calculated" not in fit.sources.values()
        with pytest.raises(ValueError, match=why):
            eds.fit_response_ratios(images, prior="model")

    def test_widths_say_what_is_not_known(self):
        counts = np.ones((2, 3, 8, 8))
        lines = ("O_Ka", "Si_Ka")
        eds, images = series(counts, counts[0], angles=(60, 200), lines=lines)
        assert calculated_prior(eds, images).widths == {"O": WIDE, "Si": 0.3}
        known = calculated_prior(eds, images, efficiency={"O": 0.5, "Si": 1.0})
        assert known.widths == {"O": 0.3, "Si": 0.3}
        assert known.ratios["O"] == pytest.approx(2 * calculated_prior(eds, images).ratios["O"])
        eds, images = series(counts, counts[0], lines=lines)
        assert calculated_prior(eds, images).widths == {"O": WIDE, "Si": WIDE}

    def test_the_panel_marks_them(self, alloy):
        from hyperspy_multitomo.widgets.response_ratios_panel import ResponseRatiosPanel

        counts, haadf, _ = alloy
        eds, images = series(counts, haadf)
        panel = ResponseRatiosPanel(eds, images, threaded=False)
        panel.apply()
        assert "calculated" in panel.figures
        assert "(calculated)" in panel.message
        assert eds.response_ratios.sources == {"Al": "calculated", "Si": "calculated"}
        assert eds.history[-1]["prior"].keys() == {"Al", "Si"}
        axes = eds.plot_response(images).axes
        assert "calculated" in [one.get_text() for one in axes[2].get_legend().get_texts()]

    def test_old_keywords_work_and_are_deprecated(self, alloy):
        counts, haadf, true = alloy
        eds, images = series(counts, haadf)
        with pytest.warns(VisibleDeprecationWarning, match="prior_strength"):
            fit = eds.fit_response_ratios(
                images, prior="model", haadf_angles=(60, 200), prior_strength=1.0
            )
        np.testing.assert_allclose(fit.values, true, rtol=0.05)
        with pytest.raises(ValueError, match="prior_width=-1 must be"):
            eds.fit_response_ratios(images, prior_width=-1)
        with pytest.raises(ValueError, match="the prior names Cu"):
            eds.fit_response_ratios(images, prior_width={"Cu": 0.1})


def test_records_without_a_prior_are_measured():
    fit = fitted(phases(5.0), TRUE)
    held = fit.as_dict()
    assert "calculated" not in held
    assert ResponseRatios.from_dict(held).sources == {"Au": "measured", "Ag": "measured"}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/idp_l2083")
def test_no_element_of_the_dust_particle_has_a_ratio_of_0():
    haadf, spectra = mt.load_tilt_series(sorted(DATA.glob("*.bcf"))[::2], tilts="filename")
    elements = ["C", "O", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        eds = mt.elemental_maps(spectra, elements=elements, show_progressbar=False)
        haadf.estimate_gains()
        eds.estimate_gains(haadf)
        fit = eds.fit_response_ratios(haadf)
    assert not fit.unexplained
    assert {name for name, source in fit.sources.items() if source == "calculated"} >= {
        "O",
        "Al",
        "S",
        "Ga",
    }
    assert {"C", "Fe", "Pt"} <= {name for name, one in fit.sources.items() if one == "measured"}
    # Within the spread of the methods without a prior.
    for element, ratio in {"C": 22300, "Mg": 2600, "Si": 8900, "Fe": 8000, "Pt": 20700}.items():
        error = fit.standard_errors[elements.index(element)]
        assert abs(fit[element] - ratio) < 1.5 * error
