# SPDX-License-Identifier: GPL-3.0-or-later
"""Elemental maps against spectra of known composition, against eXSpy, and on real data."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from hyperspy_multitomo.acquisition import (
    Detector,
    families_of,
    line_of,
    prepare_fit,
    prepare_windows,
    read_tilt_files,
    region_spectra,
)
from hyperspy_multitomo.acquisition.eds.background import background_basis
from hyperspy_multitomo.acquisition.eds.line_calibration import LineShapes
from hyperspy_multitomo.acquisition.eds.xray_lines import fwhm, resolve_lines
from hyperspy_multitomo.acquisition.sparse_counts import sparse_spectra

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the Bruker example files are absent")
ENERGY = -0.2 + 0.01 * np.arange(1520)
KEV = 200


@cache
def exspy_lines(element):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exspy.material import elements
    lines = elements[element].Atomic_properties.Xray_lines.as_dictionary()
    return {name: (line["energy (keV)"], line["weight"]) for name, line in lines.items()}


def spectrum(amounts, background=0.0, energy=ENERGY, resolution=130.0):
    """Expected counts: Gaussians of eXSpy's lines,
    and Kramers' background with absorption below 1 keV.

    `amounts` are counts in main lines, e.g. {"Fe_Ka": 10.0, "Fe_La": 3.0}; `background` is counts
    in all channels.
    """
    expected = np.zeros(energy.size)
    for main, amount in amounts.items():
        element, line = main.split("_")
        for name, (centre, weight) in exspy_lines(element).items():
            if name[0] == line[0]:
                sigma = np.sqrt(resolution**2 + 2.5e3 * (centre - 5.8987)) / 2354.82
                expected += (
                    amount
                    * weight
                    * np.exp(-(((energy - centre) / sigma) ** 2) / 2)
                    / (sigma * np.sqrt(2 * np.pi))
                    * 0.01
                )
    continuum = np.where(
        energy > 0.1,
        (KEV / np.maximum(energy, 0.1) - 1) * np.exp(-((0.6 / np.maximum(energy, 0.1)) ** 1.5)),
        0,
    )
    return expected + background * continuum / continuum.sum()


#: Four phases: sulphide, silicate with sodium and aluminium, platinum with gallium, carbon. Counts
#: per pixel.
PHASES = {
    "sulphide": ({"S_Ka": 40, "Fe_Ka": 60, "Fe_La": 20, "O_Ka": 5}, 60),
    "silicate": ({"O_Ka": 60, "Na_Ka": 15, "Mg_Ka": 30, "Al_Ka": 8, "Si_Ka": 40}, 50),
    "strap": ({"Pt_Ma": 120, "Pt_La": 90, "Ga_Ka": 20, "Ga_La": 30, "C_Ka": 10}, 150),
    "film": ({"C_Ka": 30, "O_Ka": 5}, 20),
}
ELEMENTS = ["C", "O", "Na", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt"]


def phantom(size=24, dose=1.0, seed=0, **settings):
    """Return spectra (y, x, energy) of four bands of the phases,
    and the true counts {line: (y, x)}."""
    rng = np.random.default_rng(seed)
    expected = np.array(
        [
            dose * spectrum(amounts, background, **settings)
            for amounts, background in PHASES.values()
        ]
    )
    phase = np.repeat(np.arange(4), size // 4)[:, None] * np.ones(size, int)
    mains = {line for amounts, _ in PHASES.values() for line in amounts}
    true = {
        line: dose * np.array([amounts.get(line, 0.0) for amounts, _ in PHASES.values()])[phase]
        for line in mains
    }
    return rng.poisson(expected[phase]).astype(np.uint16), true


def total_errors(model):
    return model.totals()[1][0]


class TestLines:
    def test_width_is_exspys(self):
        from exspy._misc.eds.utils import get_FWHM_at_Energy

        for energy in (0.28, 1.74, 9.44):
            assert fwhm(energy, 135.0) == pytest.approx(get_FWHM_at_Energy(135.0, energy), rel=1e-4)

    @pytest.mark.parametrize("beam_energy", [15, 200])
    def test_line_is_exspys(self, beam_energy):
        import exspy

        signal = exspy.signals.EDSTEMSpectrum(np.ones(2000))
        signal.axes_manager[-1].scale, signal.axes_manager[-1].units = 0.01, "keV"
        signal.set_microscope_parameters(beam_energy=beam_energy)
        for element in ("C", "Fe", "Cu", "Zr", "Ag", "Pt", "Au"):
            signal.set_elements([element])
            signal.set_lines([])
            assert signal.metadata.Sample.xray_lines == [
                line_of(element, beam_energy, (0.0, 19.99))
            ]

    def test_families_carry_exspys_weights(self):
        (family,) = families_of("Fe", KEV, (5, 20))
        assert dict(zip(family.names, family.weights, strict=True)) == {
            "Fe_Ka": 1.0,
            "Fe_Kb": exspy_lines("Fe")["Kb"][1],
        }

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"elements": ["Xx"]}, "unknown element 'Xx'"),
            ({"elements": ["Fe", "Be"]}, "Be has no X-ray line between 0.2 and 20 keV"),
            ({"lines": ["Pt_Ka"]}, r"expected one of \['Pt_La', 'Pt_Ma'\]"),
            ({"lines": ["Fe_Kb"]}, "not a main line"),
            ({"elements": ["Fe", "Fe"]}, "given once"),
            ({}, "name the elements"),
        ],
    )
    def test_bad_names(self, given, message):
        with pytest.raises(ValueError, match=message):
            resolve_lines(**given, beam_energy=KEV, energy_range=(0.2, 20))


class TestDetector:
    def test_a_count_is_what_lies_within_one_fwhm(self):
        """98.12 % of the counts of a Gaussian, with any tail."""
        (family,) = families_of("Cu", KEV, (5, 20))
        energy = np.arange(0, 12, 0.001)
        for tail in (0.0, 0.3):
            shape = Detector(tail=tail).lines(family, energy)[0]
            assert shape[
                np.abs(energy - family.energy) <= fwhm(family.energy)
            ].sum() == pytest.approx(0.9812, abs=5e-4)
        assert shape.sum() > 1.1

    def test_tail_is_an_exponential_convolved_with_the_line(self):
        (family,) = families_of("Cu", KEV, (5, 20))
        energy = np.arange(0, 12, 0.002)
        bare = Detector().lines(family, energy)[0]
        kernel = np.exp(-np.arange(0, 2, 0.002) / 0.2)
        expected = bare + 0.3 * np.convolve(bare[::-1], kernel / kernel.sum())[: energy.size][::-1]
        shape = Detector(tail=0.3, tail_length=0.2).lines(family, energy)[0]
        np.testing.assert_allclose(shape / shape.max(), expected / expected.max(), atol=0.01)

    def test_background_basis_is_a_partition_of_one(self):
        basis = background_basis(np.linspace(0.2, 20, 500))
        np.testing.assert_allclose(basis.sum(0), 1)
        assert basis.min() >= 0


@pytest.fixture(scope="module")
def overlapping():
    spectra, true = phantom()
    model = prepare_fit(
        region_spectra(spectra, 8)[None], ENERGY, elements=ELEMENTS, also=[], beam_energy=KEV
    )
    return spectra, true, model, model.maps(spectra)

    def test_all_families_at_once_are_each_by_itself(self):
        """The sum of the lines of a family, weighted;
        lines above and below the silicon edge, and beyond the spectrum."""
        families = tuple(
            family
            for name in ("O", "Si", "Fe", "Pt")
            for family in families_of(name, 200.0, (0.2, 20.0))
        )
        detector = Detector(0.01, 1.002, -0.01, 140.0, 0.2, 0.3)
        energy = 0.2 + 0.01 * np.arange(1900)
        shapes = LineShapes(families, detector).on(energy)
        for family, shape in zip(families, shapes, strict=True):
            np.testing.assert_allclose(
                shape, family.weights @ detector.lines(family, energy), rtol=1e-12, atol=1e-15
            )


class TestFit:
    def test_overlapping_lines_are_told_apart(self, overlapping):
        """S K on Pt M, Na K on Ga L, Al K beside Mg and Si:
        totals within the counting statistics (and 2 % of the total)."""
        _, true, model, counts = overlapping
        for line, net, error in zip(counts.lines, counts.net, total_errors(model), strict=True):
            expected = true[line].sum()
            assert abs(net.sum() - expected) < 4 * error + 0.02 * expected, line

    def test_no_ghosts(self, overlapping):
        """The strap has no sulphur or sodium, the silicate no gallium."""
        _, true, _, counts = overlapping
        for line in ("S_Ka", "Na_Ka", "Ga_Ka", "Al_Ka"):
            net = counts.net[counts.lines.index(line)].reshape(4, -1)
            present = true[line].reshape(4, -1).mean(1) > 0
            scatter = net.std(1) / np.sqrt(net.shape[1])
            assert np.all(
                np.abs(net.mean(1))[~present] < 4 * scatter[~present] + 0.02 * true[line].max()
            ), line

    def test_miscalibrated_spectra(self):
        """A scale that is off by 15 eV and 0.2 %, and another resolution,
        are found and change no result."""
        spectra, true = phantom(dose=4, seed=3, energy=0.015 + 1.002 * ENERGY, resolution=138.0)
        model = prepare_fit(
            region_spectra(spectra, 8)[None], ENERGY, elements=ELEMENTS, also=[], beam_energy=KEV
        )
        found = model.shapes.detector
        assert found.resolution == pytest.approx(138, abs=1.5)
        np.testing.assert_allclose(
            found.corrected(np.array([0.5, 2, 9])), 0.015 + 1.002 * np.array([0.5, 2, 9]), atol=2e-3
        )
        totals, errors = model.totals()
        for line, total, error in zip(model.lines.values(), totals[0], errors[0], strict=True):
            assert abs(total - true[line].sum()) < 4 * error + 0.03 * true[line].sum(), line

    @pytest.mark.slow
    def test_unbiased_below_one_count_per_pixel(self):
        """0.3 counts per pixel: mean within the statistics, most pixels without a count,
        none clipped."""
        amounts = {"Mg_Ka": 0.3, "Si_Ka": 0.3, "Fe_Ka": 0.3}
        spectra = (
            np.random.default_rng(5)
            .poisson(spectrum(amounts, 0.5), (96, 96, ENERGY.size))
            .astype(np.uint8)
        )
        model = prepare_fit(
            region_spectra(spectra)[None],
            ENERGY,
            elements=["Mg", "Si", "Fe"],
            also=[],
            beam_energy=KEV,
        )
        counts = model.maps(spectra)
        means, errors = counts.net.mean(axis=(1, 2)), total_errors(model) / 96**2
        assert np.all(np.abs(means - 0.3) < 4 * errors)
        assert np.all(errors < 0.01)
        assert (counts.net < 0).mean() > 0.1
        # The scatter of the pixels is that of Poisson statistics propagated through the estimator.
        np.testing.assert_allclose(counts.net.std(axis=(1, 2)), errors * 96, rtol=0.05)

    def test_sum_of_the_maps_is_the_fit_of_the_sum(self, overlapping):
        _, _, model, counts = overlapping
        np.testing.assert_allclose(counts.net.sum(axis=(1, 2)), model.totals()[0][0], rtol=1e-4)

    def test_gross_counts(self, overlapping):
        """They are whole counts in a window, and share * net + background on average."""
        spectra, _, model, counts = overlapping
        windows = model.windows
        np.testing.assert_array_equal(
            counts.gross[3], spectra[..., model.fitted][..., windows[3]].sum(-1)
        )
        expected = counts.window_share[:, None, None] * counts.net + counts.background
        gross = counts.gross.sum(axis=(1, 2))
        assert np.all(np.abs(expected.sum(axis=(1, 2)) - gross) < 5 * np.sqrt(gross))

    def test_the_strobe_is_left_out(self, overlapping):
        spectra, _, model, counts = overlapping
        strobe = (1e5 * np.exp(-((ENERGY / 0.02) ** 2))).astype(int)
        again = prepare_fit(
            region_spectra(spectra + strobe, 8)[None],
            ENERGY,
            elements=ELEMENTS,
            also=[],
            beam_energy=KEV,
        )
        np.testing.assert_allclose(
            again.maps(spectra + strobe).net, counts.net, rtol=1e-4, atol=1e-4
        )
        assert model.energy[model.fitted][0] >= 0.2

    def test_each_tilt_has_its_own_background(self):
        """A background that grows with the tilt, as of a holder, changes no net counts."""
        amounts = {"Fe_Ka": 20.0, "Si_Ka": 20.0}
        expected = np.array([2e3 * spectrum(amounts, background) for background in (20, 200)])
        sums = np.random.default_rng(0).poisson(expected)
        model = prepare_fit(sums, ENERGY, elements=["Si", "Fe"], also=[], beam_energy=KEV)
        totals, errors = model.totals()
        assert np.all(np.abs(totals - 4e4) < 4 * errors + 400)
        np.testing.assert_allclose(
            model.maps(sums[1][None], tilt=1).net[:, 0], totals[1], rtol=1e-4
        )

    def test_named_line(self, overlapping):
        spectra, true, *_ = overlapping
        sums = region_spectra(spectra, 8)[None]
        model = prepare_fit(
            sums,
            ENERGY,
            elements=["S", "Pt"],
            lines=["Pt_Ma"],
            also=["C", "O", "Na", "Mg", "Al", "Si", "Fe", "Ga"],
        )
        assert model.lines == {"S": "S_Ka", "Pt": "Pt_Ma"}
        assert model.totals()[0][0, 1] == pytest.approx(true["Pt_Ma"].sum(), rel=0.05)

    def test_lines_that_cannot_be_told_apart_are_named(self):
        sums = np.random.default_rng(0).poisson(
            1e4 * spectrum({"S_Ka": 1, "Pb_Ma": 1, "Mo_La": 1}, 1)
        )
        with pytest.warns(
            UserWarning, match=r"overlaps with other lines raise the noise of .*S_Ka"
        ):
            prepare_fit(
                sums, ENERGY, lines=["S_Ka", "Pb_Ma"], also=["Mo"], beam_energy=KEV, refine=False
            )


class TestUnlisted:
    SUMS = np.random.default_rng(2).poisson(
        1e4
        * spectrum(
            {
                "Fe_Ka": 5,
                "Fe_La": 2,
                "Si_Ka": 5,
                "Cu_Ka": 3,
                "Cu_La": 1,
                "Ti_Ka": 1,
                "Pt_La": 4,
                "Pt_Ma": 5,
            },
            20,
        )
    )

    def test_named_and_fitted(self):
        with pytest.warns(
            UserWarning, match=r"strong peaks.*Cu_Ka.*Ti_Ka.*not mapped.*also=\["
        ) as caught:
            model = prepare_fit(self.SUMS, ENERGY, elements=["Si", "Fe", "Pt"], beam_energy=KEV)
        assert len(caught) == 1
        assert {found.element for found in model.unlisted} == {"Cu", "Ti"}
        assert {"Cu_Ka", "Cu_La", "Ti_Ka"} <= set(model.families)
        np.testing.assert_allclose(model.totals()[0][0], [5e4, 5e4, 4e4], rtol=0.03)

    def test_silent_when_listed(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = prepare_fit(
                self.SUMS, ENERGY, elements=["Si", "Fe", "Pt"], also=["Cu", "Ti"], beam_energy=KEV
            )
        assert model.unlisted == ()
        assert model.elements == ("Si", "Fe", "Pt")

    def test_only_named_when_nothing_else_is_to_be_fitted(self):
        with pytest.warns(UserWarning, match="they disturb their neighbours"):
            model = prepare_fit(
                self.SUMS, ENERGY, elements=["Si", "Fe", "Pt"], also=[], beam_energy=KEV
            )
        assert "Cu_Ka" not in model.families


class TestWindows:
    def test_isolated_line_on_a_linear_background(self):
        """Without noise: the window's share of a Gaussian less a straight background,
        but for 0.5 % of the line beside it."""
        sums = 1e5 * spectrum({"Fe_Ka": 1.0}) + 50.0 - ENERGY
        model = prepare_windows(
            sums, ENERGY, elements=["Fe"], also=[], beam_energy=KEV, refine=False
        )
        counts = model.maps(sums[None])
        assert counts.net[0, 0] == pytest.approx(1e5, rel=6e-3)
        assert counts.gross[0, 0] == pytest.approx(
            counts.window_share[0] * counts.net[0, 0] + counts.background[0, 0], rel=1e-6
        )

    def test_background_windows_are_off_every_line(self):
        elements = ["Mg", "Al", "Si", "S", "Ti", "Fe", "Cu", "Pt"]
        sums = np.random.default_rng(0).poisson(
            1e4 * spectrum({f"{e}_Ka": 1 for e in elements[:-1]} | {"Pt_La": 1, "Pt_Ma": 1}, 20)
        )
        model = prepare_windows(sums, ENERGY, elements=elements, also=[], beam_energy=KEV)
        lines = [
            exspy_lines(element)[name] for element in elements for name in exspy_lines(element)
        ]
        strong = np.array([energy for energy, weight in lines if weight > 0.05])
        for left, centre, right in model.windows.values():
            assert np.mean(centre) == pytest.approx(centre[0] + (centre[1] - centre[0]) / 2)
            for low, high in filter(None, (left, right)):
                assert not np.any((strong > low) & (strong < high))

    def test_overlaps_stay_in(self, overlapping):
        """Why the fit is the default: windows count Pt M as sulphur."""
        spectra, true, *_ = overlapping
        model = prepare_windows(
            region_spectra(spectra, 8)[None], ENERGY, elements=ELEMENTS, also=[], beam_energy=KEV
        )
        counts = model.maps(spectra)
        sulphur = counts.net[counts.lines.index("S_Ka")].reshape(4, -1).mean(1)
        iron = counts.net[counts.lines.index("Fe_Ka")].reshape(4, -1).mean(1)
        assert abs(sulphur[2]) > 5
        assert iron == pytest.approx(true["Fe_Ka"].reshape(4, -1).mean(1), abs=3)


class TestBadInput:
    SUMS = 1e4 * spectrum({"Fe_Ka": 1.0}, 1)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda sums: np.where(sums == sums.max(), np.nan, sums), "NaN or infinite"),
            (lambda sums: np.where(sums == sums.max(), np.inf, sums), "NaN or infinite"),
            (lambda sums: sums - 10, "negative values.*raw counts"),
            (lambda sums: sums[:-1], "1520 channels"),
            (
                lambda sums: np.stack([sums, 0 * sums]),
                r"no counts in the spectra of the tilts \[1\]",
            ),
        ],
    )
    def test_spectra(self, change, message):
        with pytest.raises(ValueError, match=message):
            prepare_fit(change(self.SUMS), ENERGY, elements=["Fe"], also=[], beam_energy=KEV)

    def test_pixels_are_checked_as_well(self):
        model = prepare_fit(
            self.SUMS, ENERGY, elements=["Fe"], also=[], beam_energy=KEV, refine=False
        )
        with pytest.raises(ValueError, match="negative values"):
            model.maps(np.full((2, 2, ENERGY.size), -1.0))
        with pytest.raises(ValueError, match="1520 channels"):
            model.maps(np.ones((2, 2, 100)))

    def test_energies_and_elements(self):
        with pytest.raises(ValueError, match="keV, not in eV"):
            prepare_fit(self.SUMS, 1000 * ENERGY, elements=["Fe"], beam_energy=KEV)
        with pytest.raises(ValueError, match="equally spaced"):
            prepare_fit(self.SUMS, np.sort(ENERGY**2), elements=["Fe"], beam_energy=KEV)
        with pytest.raises(ValueError, match="H has no X-ray line|unknown element 'H'"):
            prepare_fit(self.SUMS, ENERGY, elements=["Fe", "H"], beam_energy=KEV)
        with pytest.raises(ValueError, match="less than 50 channels"):
            prepare_fit(self.SUMS, ENERGY, elements=["Fe"], energy_range=(5, 5.1), beam_energy=KEV)
        with pytest.raises(TypeError, match="list of elements"):
            prepare_fit(self.SUMS, ENERGY, elements=["Fe"], also="Cu", beam_energy=KEV)


def exspy_intensities(counts, energy, elements, lines, order, resolution):
    """Return the counts of lines by eXSpy's own model: Gaussians and a polynomial background."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy

        signal = exspy.signals.EDSTEMSpectrum(counts.astype(float))
        axis = signal.axes_manager[-1]
        axis.name, axis.units, axis.offset, axis.scale = (
            "E",
            "keV",
            energy[0],
            energy[1] - energy[0],
        )
        signal.set_microscope_parameters(beam_energy=KEV, energy_resolution_MnKa=resolution)
        signal.set_elements(elements)
        signal.estimate_poissonian_noise_variance()
        model = signal.create_model(auto_background=False)
        model.add_polynomial_background(order=order)
        model.fit()
        return [float(result.data[0]) for result in model.get_lines_intensity(lines)]


class TestAgainstExspy:
    @pytest.mark.slow
    def test_simulated_spectrum(self):
        amounts = {"Si_Ka": 3, "S_Ka": 2, "Ca_Ka": 1, "Fe_Ka": 2, "Cu_Ka": 2}
        elements, lines = ["Si", "S", "Ca", "Fe", "Cu"], sorted(amounts)
        counts = np.random.default_rng(4).poisson(2e4 * spectrum(amounts, 15))
        model = prepare_fit(counts, ENERGY, elements=elements, also=[], beam_energy=KEV)
        part = slice(np.searchsorted(ENERGY, 1.5), np.searchsorted(ENERGY, 10))
        theirs = exspy_intensities(counts[part], ENERGY[part], elements, lines, 6, 130.0)
        ours = dict(zip(model.lines.values(), model.totals()[0][0], strict=True))
        np.testing.assert_allclose([ours[line] for line in lines], theirs, rtol=0.03)
        np.testing.assert_allclose(
            [ours[line] for line in lines], [2e4 * amounts[line] for line in lines], rtol=0.02
        )


@pytest.fixture(scope="module")
def particle():
    """The 16 tilts: region sums, spectra and HAADF on blocks of 8 px."""
    series = read_tilt_files(DATA / "*.bcf")
    regions, blocks, haadf = [], [], []
    for image, record in zip(series["images"], series["spectra"], strict=True):
        cube = sparse_spectra(record.data)
        regions.append(region_spectra(cube))
        blocks.append(region_spectra(cube, 32).reshape(32, 32, -1).astype(np.float32))
        haadf.append(image.data.reshape(32, 8, 32, 8).sum(axis=(1, 3), dtype=float))
    energy = series["spectra"][0].energy
    with pytest.warns(UserWarning, match="strong peaks.*Cu_Ka.*Ti_Ka"):
        model = prepare_fit(
            np.array(regions),
            energy,
            elements=["C", "O", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt"],
            beam_energy=KEV,
        )
    return model, blocks, np.array(haadf)


@pytest.mark.slow
@needs_data
class TestRealSeries:
    @pytest.mark.slow
    def test_every_element_is_there_at_every_tilt(self, particle):
        model, *_ = particle
        totals, errors = model.totals()
        assert np.all(totals > 5 * errors)

    def test_unlisted_elements_are_those_of_holder_and_grid(self, particle):
        model, *_ = particle
        found = {unlisted.element for unlisted in model.unlisted}
        assert {"Cu", "Ti"} <= found <= {"Cu", "Ti", "Ca", "Co", "Cr", "K", "Na", "Ni", "N", "Zr"}

    def test_the_maps_explain_the_haadf(self, particle):
        """h = sum of r p over blocks of 8 px at all tilts, r >= 0: centred R2 at least 0.88."""
        model, blocks, haadf = particle
        net = (
            np.array([model.maps(block, tilt).net for tilt, block in enumerate(blocks)])
            .swapaxes(0, 1)
            .reshape(9, -1)
        )
        ratios, residual = nnls(net.T.astype(float), haadf.ravel())
        assert 1 - residual**2 / np.sum((haadf - haadf.mean()) ** 2) >= 0.88
        assert ratios[-1] > ratios[1] > 0, "platinum is brighter than oxygen"

    def test_iron_is_exspys(self, particle):
        """Fe Ka on its own stretch of the spectrum, with the cobalt beside it:
        the summed spectrum at 0 degrees."""
        model, *_ = particle
        energy = model.shapes.detector.corrected(model.energy[model.fitted])
        part = slice(*np.searchsorted(energy, (5.3, 7.7)))
        resolution = model.detectors[8].resolution
        (theirs,) = exspy_intensities(
            model.spectra[8][part], energy[part], ["Fe", "Co"], ["Fe_Ka"], 2, resolution
        )
        assert model.totals()[0][8, model.elements.index("Fe")] == pytest.approx(theirs, rel=0.05)
