# SPDX-License-Identifier: GPL-3.0-or-later
"""Two elements from grey values alone: a known core-shell particle comes back,
and what cannot be told is refused."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition.haadf.two_elements import atoms_by_volume, haadf_composition

GOLD, SILVER = 24.0, 10.0
ELEMENTS = ("Au", "Ag")


@pytest.fixture(scope="module")
def particle():
    """A silver core in a gold shell: their voxels (z, x, y), and the inner voxels of each."""
    z, x, y = np.meshgrid(
        np.arange(44) - 21.5, np.arange(48) - 23.5, np.arange(40) - 19.5, indexing="ij"
    )
    whole = (x / 21) ** 2 + (z / 19) ** 2 + (y / 17) ** 2 < 1
    core = ((x - 1) / 11) ** 2 + ((z + 1) / 10) ** 2 + (y / 9) ** 2 < 1
    shell = whole & ~core
    return core, shell, binary_erosion(core, iterations=2), binary_erosion(shell, iterations=2)


def grey(particle, in_core=0.0, in_shell=1.0, noise=0.0, seed=0):
    """Grey values of a share of gold (by volume) in core and shell."""
    core, shell, *_ = particle
    gold = np.where(core, in_core, in_shell)
    signal = np.where(core | shell, gold * GOLD + (1 - gold) * SILVER, 0.0)
    return signal + noise * np.random.default_rng(seed).normal(size=signal.shape)


class TestReferences:
    @pytest.mark.slow
    @pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
    def test_histogram(self, particle, noise):
        found = haadf_composition(grey(particle, noise=noise), ELEMENTS, clip=False)
        _, _, core, shell = particle
        assert found.percent[0][core].mean() == pytest.approx(0, abs=1)
        assert found.percent[0][shell].mean() == pytest.approx(100, abs=1)
        assert found.noise == pytest.approx(noise, rel=0.1)
        for element, value in (("Au", GOLD), ("Ag", SILVER)):
            assert (
                abs(found.intensities[element] - value) < 4 * found.intensity_errors[element] < 1.0
            )
        assert np.count_nonzero(found.mask ^ (particle[0] | particle[1])) < 0.02 * np.count_nonzero(
            found.mask
        )

    def test_clipped_means_are_within_three_percent(self, particle):
        found = haadf_composition(grey(particle, noise=1.0), ELEMENTS)
        assert found.percent[0][particle[2]].mean() == pytest.approx(0, abs=3)
        assert found.percent[0][particle[3]].mean() == pytest.approx(100, abs=3)
        inside = particle[0] | particle[1]
        assert found.clipped["Au"] + found.clipped["Ag"] == pytest.approx(
            inside.sum() / 2, rel=0.05
        )
        assert 0 <= found.percent.min() <= found.percent.max() <= 100
        np.testing.assert_allclose(found.percent.sum(axis=0)[found.mask], 100, rtol=1e-5)

    def test_regions_numbers_and_ratio_agree_on_alloys(self, particle):
        """Core 20 % and shell 85 % gold, which no histogram could tell from pure elements."""
        volume = grey(particle, 0.2, 0.85, noise=1.0)
        _, _, core, shell = particle
        pure = np.where(np.arange(48)[None, :, None] < 2, True, False) & np.ones(volume.shape, bool)
        volume[pure] += GOLD
        mask = particle[0] | particle[1]
        mean = 100 * (0.2 * particle[0].sum() + 0.85 * particle[1].sum()) / mask.sum()
        for kwds in (
            {"reference": {"Au": GOLD, "Ag": SILVER}},
            {"reference": {"Au": pure}, "ratio": GOLD / SILVER},
            {"reference": {"Ag": SILVER}, "ratio": GOLD / SILVER},
            {"ratio": GOLD / SILVER, "mean": mean},
        ):
            found = haadf_composition(volume, ELEMENTS, mask=mask, **kwds)
            assert found.percent[0][core].mean() == pytest.approx(20, abs=1)
            assert found.percent[0][shell].mean() == pytest.approx(85, abs=1)

    def test_brightest_peak_with_a_ratio(self, particle):
        """A shell of pure gold around an alloy."""
        found = haadf_composition(
            grey(particle, 0.4, 1.0, noise=0.7), ELEMENTS, ratio=GOLD / SILVER, clip=False
        )
        assert found.percent[0][particle[2]].mean() == pytest.approx(40, abs=1)

    def test_order_of_the_elements_changes_nothing(self, particle):
        volume = grey(particle, noise=1.0)
        found, other = (haadf_composition(volume, names) for names in (ELEMENTS, ELEMENTS[::-1]))
        np.testing.assert_allclose(found.percent, other.percent[::-1], atol=1e-3)
        np.testing.assert_allclose(found.uncertainty, other.uncertainty, rtol=1e-4)


class TestUnits:
    def test_weight_percent_of_equal_atoms(self, particle):
        found = haadf_composition(
            grey(particle, 0.5, 0.5),
            ELEMENTS,
            {"Au": GOLD, "Ag": SILVER},
            composition_units="weight",
        )
        assert found.percent[0][found.mask].mean() == pytest.approx(
            100 * 196.967 / (196.967 + 107.868), abs=0.01
        )

    def test_atoms_of_different_size(self, particle):
        """Half of the volume each of Au (59 atoms/nm^3) and Al (60.3) or Pb (33)."""
        references = {"Au": GOLD, "Pb": SILVER}
        volume = grey(particle, 0.5, 0.5)
        with pytest.warns(UserWarning, match="Pb is the heavier element but darker"):
            found = haadf_composition(
                volume, ("Au", "Pb"), references, atomic_densities={"Au": 59.0, "Pb": 33.0}
            )
        assert found.percent[0][found.mask].mean() == pytest.approx(100 * 59 / 92, abs=0.01)
        assert atoms_by_volume(("Au", "Pb"), "table") == pytest.approx((59.0, 33.0), rel=0.01)

    def test_uncertainty_is_the_scatter(self, particle):
        for units in ("atomic", "weight"):
            volumes = [grey(particle, 0.3, 0.7, noise=1.0, seed=seed) for seed in range(12)]
            found = [
                haadf_composition(
                    v,
                    ELEMENTS,
                    {"Au": GOLD, "Ag": SILVER},
                    mask=particle[0] | particle[1],
                    composition_units=units,
                )
                for v in volumes
            ]
            scatter = np.std([f.percent[0] for f in found], axis=0, ddof=1)
            for region in particle[2:]:
                expected = np.sqrt((scatter[region] ** 2).mean())
                assert found[0].uncertainty[region].mean() == pytest.approx(expected, rel=0.08)


class TestRefusals:
    @pytest.mark.parametrize("elements", [("Co", "Ni"), ("Ag", "Pd"), ("Pt", "Au")])
    def test_similar_atomic_numbers(self, particle, elements):
        with pytest.raises(
            ValueError, match=rf"{elements[0]} and {elements[1]} .*differ by \d\.\d % in grey value"
        ):
            haadf_composition(grey(particle, noise=0.1), elements)
        close = {elements[0]: 24.0, elements[1]: 25.0}
        with pytest.raises(
            ValueError, match=rf"{elements[0]} and {elements[1]} differ by 4\.1 % in grey value"
        ):
            haadf_composition(grey(particle, noise=0.1), elements, close)

    def test_noise(self, particle):
        references, mask = {"Au": GOLD, "Ag": SILVER}, particle[0] | particle[1]
        with pytest.warns(UserWarning, match=r"2\.\d times the noise.*single voxels say little"):
            haadf_composition(grey(particle, noise=6.0), ELEMENTS, references, mask=mask)
        with pytest.raises(ValueError, match="a voxel says nothing"):
            haadf_composition(grey(particle, noise=20.0), ELEMENTS, references, mask=mask)

    @pytest.mark.parametrize("volume", ["uniform", "diffused"])
    def test_histogram_without_two_peaks(self, particle, volume):
        mixed = (
            grey(particle, 0.5, 0.5, noise=0.5)
            if volume == "uniform"
            else gaussian_filter(grey(particle), 4)
        )
        with pytest.raises(ValueError, match="need two separate ones"):
            haadf_composition(mixed, ELEMENTS)

    def test_references_that_do_not_fit(self, particle):
        with pytest.warns(UserWarning, match="beyond the grey values of pure Au"):
            haadf_composition(grey(particle, noise=0.5), ELEMENTS, {"Au": 18.0, "Ag": SILVER})

    def test_bad_input(self, particle):
        volume = grey(particle)
        for args, kwds, message in (
            ((volume[0], ELEMENTS), {}, r"\(z, x, y\)"),
            ((volume, ("Au", "Ag", "Cu")), {}, "two elements, no more"),
            ((volume, ("Au", "Xx"), {"Au": 1.0}), {"ratio": 2.0}, "Xx"),
            ((volume, ELEMENTS, {"Au": 1.0}), {}, "pass ratio="),
            ((volume, ELEMENTS, {"Au": 24.0, "Ag": 10.0}), {"ratio": 2.0}, "no ratio with two"),
            ((volume, ELEMENTS, {"Cu": 1.0}), {}, "names Cu"),
            ((volume, ELEMENTS, "peaks"), {}, "unknown reference"),
            ((volume, ELEMENTS, {"Au": volume > 1e9, "Ag": 10.0}), {}, "region of Au"),
            ((volume, ELEMENTS), {"mean": 30.0}, "pass ratio="),
            ((volume, ELEMENTS), {"mask": 1e9}, "below the brightest voxel"),
            ((volume, ELEMENTS), {"composition_units": "volume"}, "composition_units"),
            ((volume, ELEMENTS), {"atomic_densities": {"Au": 59.0}}, "atoms per nm"),
        ):
            with pytest.raises(ValueError, match=message):
                haadf_composition(*args, **kwds)


class TestSignals:
    def test_reconstructed_particle(self, particle):
        """Counted HAADF over +-75 degrees, by SIRT: 3 at% in the core and in the shell."""
        from hyperspy_multitomo.tomography import TiltGeometry, projector

        tilts = np.arange(-75, 76, 5.0)
        paths = projector(TiltGeometry(tilts, 48, (44, 48)))(grey(particle).astype(np.float32))
        images = np.random.default_rng(0).poisson(20 * paths) / 20
        haadf = mt.TiltSeriesHAADF.from_images(
            images.transpose(0, 2, 1), tilts=tilts, pixel_size=0.8
        )
        volume = haadf.reconstruct_sirt(iterations=60, depth=44 * 0.8, show_progressbar=False)
        composition, errors = volume.quantify_haadf(ELEMENTS, return_uncertainty=True)
        assert composition.elements == ELEMENTS
        assert composition.quantity == "atomic percent"
        _, _, core, shell = particle
        gold = composition["Au"].array("z", "x", "y")
        assert gold[core].mean() == pytest.approx(0, abs=3)
        assert gold[shell].mean() == pytest.approx(100, abs=3)
        assert errors.array("z", "x", "y")[shell].mean() == pytest.approx(6, abs=4)
        step = composition.history[-1]
        assert (step["step"], step["elements"], step["reference"]) == (
            "quantify_haadf",
            ["Au", "Ag"],
            "histogram",
        )
        assert step["intensities"]["Au"] == pytest.approx(GOLD / 0.8, rel=0.03)
        assert [s["step"] for s in composition.history][:-1] == [s["step"] for s in volume.history]

    def test_masks_as_signals_and_the_channel_of_that_name(self, particle):
        volume = grey(particle, 0.2, 0.8, noise=0.5).transpose(0, 2, 1)
        mask = (particle[0] | particle[1]).transpose(0, 2, 1)
        one = mt.TomographicVolume.from_arrays(volume, pixel_size=0.8)
        two = mt.TomographicVolume.from_arrays({"Au": 0 * volume, "HAADF": volume}, pixel_size=0.8)
        references = {"Au": GOLD, "Ag": SILVER}
        found = [
            v.quantify_haadf(ELEMENTS, references, mask=one._deepcopy_with_new_data(mask))
            for v in (one, two, one.as_lazy())
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(np.asarray(other.data), found[0].data)
        assert found[2]._lazy
        assert found[0].pixel_size == 0.8
        with pytest.raises(ValueError, match="holds Au and no HAADF"):
            mt.TomographicVolume.from_arrays({"Au": volume}).quantify_haadf(ELEMENTS)
        for other in (mask[1:], 5.0, True):  # a number is a threshold
            with pytest.raises(ValueError, match="mask has the shape"):
                one.quantify_haadf(ELEMENTS, references, mask=other)
        with pytest.raises(ValueError, match="leave out one of the two"):
            one.quantify_haadf(ELEMENTS, references, mask=mask, threshold=5.0)

    def test_calculated_ratio(self, particle):
        from hyperspy_multitomo.composition.cross_sections import haadf

        ratio = haadf("Au", 200, 50, 200) / haadf("Ag", 200, 50, 200)
        assert 2 < ratio < 2.8
        volume = mt.TomographicVolume.from_arrays(grey(particle, noise=0.5).transpose(0, 2, 1))
        volume.data[volume.data > 17] *= ratio * SILVER / GOLD
        with pytest.raises(ValueError, match="beam energy"):
            volume.quantify_haadf(ELEMENTS, haadf_angles=(50, 200))
        composition = volume.quantify_haadf(
            ELEMENTS, haadf_angles=(50, 200), beam_energy=200, clip=False
        )
        assert composition.history[-1]["ratio"] == pytest.approx(ratio)
        assert composition["Ag"].array("z", "x", "y")[particle[2]].mean() == pytest.approx(
            100, abs=2
        )


class TestRatioOfThePeaks:
    """The two peaks of the histogram are taken for pure elements:
    a warning says so where their ratio is another one."""

    @pytest.mark.parametrize("shares", [(0.12, 0.687), (0.0, 0.6), (0.3, 1.0)])
    def test_of_alloys(self, particle, shares):
        ratio = np.divide(*(share * GOLD + (1 - share) * SILVER for share in shares[::-1]))
        with pytest.warns(UserWarning, match=r"expected to have 2\.4.*give reference=") as found:
            haadf_composition(grey(particle, *shares, noise=0.3), ELEMENTS)
        told = next(str(w.message) for w in found if "of the ratio" in str(w.message))
        assert float(told.partition("of the ratio ")[2].partition(",")[0]) == pytest.approx(
            ratio, abs=0.03
        )

    @pytest.mark.parametrize("elements", [ELEMENTS, ELEMENTS[::-1]])
    def test_of_pure_elements(self, particle, recwarn, elements):
        haadf_composition(grey(particle, noise=0.3), elements)
        haadf_composition(
            grey(particle, 0.12, 0.687, noise=0.3), elements, {"Au": GOLD, "Ag": SILVER}, mask=5.0
        )
        assert not [w for w in recwarn if "expected to have" in str(w.message)]
